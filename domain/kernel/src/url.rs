//! URLs as they may be shown.

/// The URL without its password and without its parameters, among which one may stand too.
pub fn without_secret(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            let user = url[scheme + 3..at].split(':').next().unwrap_or_default();
            format!("{}{user}:***{}", &url[..scheme + 3], &url[at..])
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_secret;

    #[test]
    fn passwords_never_show() {
        assert_eq!(without_secret("postgres://u:p@ss@h/d?password=x"), "postgres://u:***@h/d");
        assert_eq!(without_secret("redis://h:1/0"), "redis://h:1/0");
        assert_eq!(without_secret("redis://:secret@h"), "redis://:***@h");
    }
}
