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

/// The host that a URL names, without its port; none where it names none.
pub fn host(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let host = match place.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => place.split(':').next().unwrap_or_default(),
    };
    Some(host).filter(|host| !host.is_empty())
}

/// Whether a URL has a parameter of this name.
pub fn has_parameter(url: &str, name: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split(['&', '#']).any(|pair| pair.split('=').next() == Some(name))
}

/// Whether a host is this machine, so that what goes there passes no network.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::{has_parameter, host, is_loopback, without_secret};

    #[test]
    fn hosts_are_found_and_told_from_this_machine() {
        for (url, name, here) in [
            ("redis://:p@ss@cache.example.org:6379/0", "cache.example.org", false),
            ("https://127.0.0.1:8333/x@y", "127.0.0.1", true),
            ("http://[::1]:80", "::1", true),
            ("http://[2001:db8::1]", "2001:db8::1", false),
            ("postgres://u@LOCALHOST?host=x", "LOCALHOST", true),
            ("http://127.0.0.1.example.org", "127.0.0.1.example.org", false),
        ] {
            assert_eq!((host(url), is_loopback(name)), (Some(name), here), "{url}");
        }
        assert!(has_parameter("postgres://h/d?a=b&sslmode=require", "sslmode"));
        assert!(!has_parameter("postgres://u:sslmode=x@h/d?xsslmode=require", "sslmode"));
        assert_eq!((host("sqlite:x"), host("postgres:///db")), (None, None));
    }

    #[test]
    fn passwords_never_show() {
        assert_eq!(without_secret("postgres://u:p@ss@h/d?password=x"), "postgres://u:***@h/d");
        assert_eq!(without_secret("redis://h:1/0"), "redis://h:1/0");
        assert_eq!(without_secret("redis://:secret@h"), "redis://:***@h");
    }
}
