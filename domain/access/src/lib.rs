//! Who calls: logins, access and refresh tokens, API keys. Everything ends in one [`omt_kernel::Actor`].
//!
//! - [`password`] — Argon2id.
//! - [`token`] — access tokens (JWT, ES256), signed through the key store.
//! - [`service`] — the use cases.

pub mod password;
pub mod service;
pub mod token;

pub use service::{Access, NewApiKey, Tokens};
