//! Passwords, hashed with Argon2id (RFC 9106) and kept as PHC strings.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use omt_kernel::{Error, Result};

/// The longest password; longer input only burns time.
pub const MAX_LEN: usize = 1024;

/// Hashes a password with a fresh salt.
pub fn hash(password: &str) -> Result<String> {
    let hashed = Argon2::default().hash_password(password.as_bytes());
    hashed.map(|hash| hash.to_string()).map_err(|e| Error::internal("a password cannot be hashed").caused_by(e))
}

/// Whether the password fits the hash. Takes the same time whether it does or not.
pub fn verify(password: &str, hash: &str) -> bool {
    password.len() <= MAX_LEN
        && PasswordHash::new(hash).is_ok_and(|parsed| Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_fits() {
        let hash = hash("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(verify("correct horse", &hash));
        for wrong in ["", "correct horse ", "Correct horse", &"x".repeat(2000)] {
            assert!(!verify(wrong, &hash));
        }
        assert!(!verify("x", "not a hash"));
    }
}
