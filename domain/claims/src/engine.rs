//! The manifest engine: one narrow interface to whatever builds, embeds and validates manifests. Today that is the `c2pa`
//! crate, with the signatures, the trust decision and the post-quantum check our own.

mod compose;
mod insert;
mod open;
mod sign;
#[cfg(test)]
mod sign_tests;
mod stamp;
#[cfg(test)]
mod stamp_tests;
mod verdict;
mod verify;

pub(crate) use open::{len, open, sniff};
pub use sign::{PlannedAction, PlannedAssertion, PlannedIngredient, SignPlan, SignedAsset};
pub use verify::{TrustLists, Verification, VerifyRequest};

use c2pa::{Context, Settings};
use omt_crypto::{KeyStore, Provider};
use omt_kernel::{Error, Kind, Result, port::TimestampAuthority};
use serde_json::json;
use std::{path::PathBuf, sync::Arc};

/// Content from this size on is handled with bounded buffers, one file at a time.
pub const LARGE: u64 = 64 << 20;

/// Signs and verifies. Cheap to share; all work is synchronous and belongs on the bounded pool.
pub struct Engine {
    provider: Arc<dyn Provider>,
    keys: Arc<dyn KeyStore>,
    spool: PathBuf,
    /// Who stamps every claim signature, where anybody does.
    authority: Option<Arc<dyn TimestampAuthority>>,
    /// Holds no trust anchors: an ingredient's recorded validation must not depend on what this server happens to trust.
    signing: Arc<Context>,
    /// The same, with `mdat` hashed in pieces, for large ISO base media files.
    signing_large: Arc<Context>,
    /// For verification where trust is decided by us.
    verifying_plain: Arc<Context>,
    /// Contexts for verification by the anchors they hold.
    verifying: moka::sync::Cache<[u8; 32], Arc<Context>>,
    validated_paths: moka::sync::Cache<[u8; 32], verify::PathVerdict>,
    /// The engine hashes through buffers of up to 512 MB, so large files take turns.
    one_large: std::sync::Mutex<()>,
}

impl Engine {
    /// An engine that keeps temporary files in `spool`.
    pub fn new(provider: Arc<dyn Provider>, keys: Arc<dyn KeyStore>, spool: PathBuf) -> Result<Self> {
        let base = json!({
            "core": { "backing_store_memory_threshold_in_mb": 16, "allowed_network_hosts": [], "decode_identity_assertions": true },
            "verify": { "verify_after_sign": false, "ocsp_fetch": false, "remote_manifest_fetch": false },
            "builder": {
                "thumbnail": { "enabled": false },
                "created_assertion_labels": ["c2pa.actions", "c2pa.ingredient", "c2pa.thumbnail.claim", "c2pa.thumbnail.ingredient"],
            },
        });
        let mut large = base.clone();
        large["core"]["merkle_tree_chunk_size_in_kb"] = json!(1024);
        large["core"]["merkle_tree_max_proofs"] = json!(0);
        Ok(Self {
            provider,
            keys,
            spool,
            authority: None,
            signing: context(&base)?,
            signing_large: context(&large)?,
            verifying_plain: context(&verify::settings(false, ""))?,
            verifying: moka::sync::Cache::new(64),
            validated_paths: moka::sync::Cache::new(1024),
            one_large: std::sync::Mutex::new(()),
        })
    }

    /// Has an authority stamp every claim signature. Without a time-stamp there is no signature then.
    pub fn stamped_by(self, authority: Arc<dyn TimestampAuthority>) -> Self {
        Self { authority: Some(authority), ..self }
    }

    /// The provider that verifies.
    pub fn provider(&self) -> &dyn Provider {
        self.provider.as_ref()
    }
}

fn context(settings: &serde_json::Value) -> Result<Arc<Context>> {
    let settings = settings.to_string();
    Settings::new()
        .with_json(&settings)
        .and_then(|settings| Context::new().with_settings(settings))
        .map(Context::into_shared)
        .map_err(|e| Error::internal("the manifest engine refused its settings").caused_by(e))
}

/// What is wrong with content that the engine cannot read.
fn unreadable(error: &c2pa::Error) -> Error {
    Error::new(Kind::Unprocessable, "CONTENT_UNREADABLE", format!("the file is not valid for its type: {error}"))
}
