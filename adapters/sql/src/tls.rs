//! Connections to PostgreSQL are encrypted, and the server is verified, unless somebody says that they need not be.

use omt_kernel::url::{has_parameter, is_loopback};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::str::FromStr;

/// The options of a URL. What asks for no `sslmode` gets `verify-full`, but for a server on this machine: the driver's own default
/// goes on without encryption where the server has none, and verifies nothing.
pub(crate) fn options(url: &str) -> sqlx::Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url)?;
    let silent = matches!(options.get_ssl_mode(), PgSslMode::Prefer)
        && !["sslmode", "ssl-mode"].iter().any(|name| has_parameter(url, name));
    Ok(if silent && !is_local(&options) { options.ssl_mode(PgSslMode::VerifyFull) } else { options })
}

fn is_local(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || is_loopback(options.get_host())
}

/// What is wrong with how a PostgreSQL URL says that its server is verified; nothing where it is, or where it is this machine.
pub fn unverified(url: &str) -> Option<&'static str> {
    let options = options(url).ok().filter(|options| !is_local(options))?;
    match options.get_ssl_mode() {
        PgSslMode::VerifyCa | PgSslMode::VerifyFull => None,
        PgSslMode::Require => Some("sslmode=require encrypts and verifies nobody"),
        _ => Some("its sslmode may leave the connection unencrypted, and verifies nobody"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_with_another_ca_is_not_talked_to() {
        let Some(dir) = omt_tests::service("OMT_TEST_TLS_DIR") else { return };
        let server = omt_tests::service("OMT_TEST_POSTGRES").unwrap();
        let with = async |more: &str| crate::SqlDatabase::connect(&format!("{server}?sslmode=verify-full{more}")).await.map(drop);
        with(&format!("&sslrootcert={dir}/ca.pem")).await.unwrap();
        for ca in [format!("&sslrootcert={dir}/other.pem"), String::new()] {
            let error = with(&ca).await.unwrap_err();
            assert_eq!((error.kind, error.code), (omt_kernel::Kind::Unavailable, "DATABASE_UNTRUSTED"), "{error}");
        }
    }

    #[test]
    fn who_says_nothing_is_verified() {
        for (url, mode, weak) in [
            ("postgres://omt@db.example.org/omt", "VerifyFull", false),
            ("postgres://omt@db.example.org/omt?sslrootcert=/ca.pem", "VerifyFull", false),
            ("postgres://omt@10.0.0.1/omt", "VerifyFull", false),
            ("postgres://omt@127.0.0.1/omt?host=db.example.org", "VerifyFull", false),
            ("postgres://omt@db.example.org/omt?sslmode=verify-ca", "VerifyCa", false),
            ("postgres://omt@db.example.org/omt?sslmode=require", "Require", true),
            ("postgres://omt@db.example.org/omt?sslmode=prefer", "Prefer", true),
            ("postgres://omt@db.example.org/omt?sslmode=disable", "Disable", true),
            ("postgres://omt@127.0.0.1:5432/omt", "Prefer", false),
            ("postgres://omt@localhost/omt?sslmode=disable", "Disable", false),
            ("postgres:///omt?host=/run/postgresql&user=omt", "Prefer", false),
        ] {
            assert_eq!(format!("{:?}", options(url).unwrap().get_ssl_mode()), mode, "{url}");
            assert_eq!(unverified(url).is_some(), weak, "{url}");
        }
        assert!(unverified("sqlite:x.db").is_none());
    }
}
