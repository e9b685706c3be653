//! Verification results that replicas share through a cache.
//!
//! The cache is not trusted: an entry counts only with a message authentication code under a secret of the database, over the key
//! and the value, so that whoever can write to the cache cannot forge a verdict.

use crate::Verification;
use hmac::{Hmac, KeyInit, Mac};
use omt_kernel::{Result, error::Context as _, port::Cache};
use sha2::Sha256;
use std::{sync::Arc, time::Duration};

/// The length of the code before the value.
const CODE: usize = 32;

/// Results beyond this process.
pub struct SharedResults {
    cache: Arc<dyn Cache>,
    /// Keyed, and nothing else yet.
    code: Hmac<Sha256>,
}

impl SharedResults {
    /// Results in `cache`, under `secret`.
    pub fn new(cache: Arc<dyn Cache>, secret: [u8; 32]) -> Result<Self> {
        let code = Hmac::new_from_slice(&secret).context("HMAC refused a key")?;
        Ok(Self { cache, code })
    }

    fn code(&self, key: &str, value: &[u8]) -> Hmac<Sha256> {
        let mut code = self.code.clone();
        code.update(key.as_bytes());
        code.update(value);
        code
    }

    pub(super) async fn get(&self, key: &[u8; 32]) -> Option<Verification> {
        let key = name(key);
        let entry = self.cache.get(&key).await?;
        let (code, value) = entry.split_at_checked(CODE)?;
        if self.code(&key, value).verify_slice(code).is_err() {
            tracing::error!(key, "a cached verification result is not ours; it was put there by somebody else");
            return None;
        }
        serde_json::from_slice(value).ok()
    }

    pub(super) async fn put(&self, key: &[u8; 32], result: &Verification, ttl: Duration) {
        let key = name(key);
        // A result that cannot be written is not shared.
        let Ok(value) = serde_json::to_vec(result) else { return };
        let code = self.code(&key, &value).finalize().into_bytes();
        let entry = [code.as_slice(), &value].concat();
        self.cache.put(&key, entry.into(), ttl).await;
    }
}

fn name(key: &[u8; 32]) -> String {
    // The version of the report's form: builds of different versions share one cache.
    format!("verification:{}:{}", env!("CARGO_PKG_VERSION"), hex::encode(key))
}
