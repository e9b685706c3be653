//! Who else has a say about a manifest: approval decides whether a draft may be signed, and a draft's change may void it.

use crate::definition::CustomAssertion;
use async_trait::async_trait;
use omt_kernel::{Actor, Result, TenantSettings, WorkflowId, manifest::ManifestRecord, port::UnitOfWork};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An approval that a claim attests.
#[derive(Debug, Clone, PartialEq)]
pub struct Attested {
    /// The workflow that approved.
    pub workflow: WorkflowId,
    /// What the claim says about it.
    pub assertion: CustomAssertion,
}

/// What governs manifests.
#[async_trait]
pub trait Governance: Send + Sync {
    /// Whether a draft may be signed: fails with 409 `APPROVAL_REQUIRED` where it needs an approval that it has not. Gives what the
    /// claim must say about it.
    async fn may_sign(&self, record: &ManifestRecord, settings: &TenantSettings) -> Result<Option<Attested>>;
    /// In the transaction that signs: whether what was said before, and the claim attests, still holds. Fails with 409
    /// `CONCURRENT_CHANGE` where the claim would attest something else by now.
    async fn signing(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        settings: &TenantSettings,
        attested: Option<&Attested>,
    ) -> Result<()>;
    /// Whether nothing keeps a signed manifest from the public: where a workflow has begun or is asked for, it has published.
    async fn is_published(&self, record: &ManifestRecord, settings: &TenantSettings) -> Result<bool>;
    /// In the transaction that changes a draft.
    async fn changed(&self, unit: &dyn UnitOfWork, actor: &Actor, after: &ManifestRecord) -> Result<()>;
}

/// Something that is written in the transaction that signs.
#[async_trait]
pub trait Alongside: Send + Sync {
    /// Writes it.
    async fn write(&self, unit: &dyn UnitOfWork, signed: &ManifestRecord) -> Result<()>;
}

/// SHA-256 over what people decide on: the content, its metadata and what the claim will say. Not the creator's name, which nothing
/// changes but the forgetting of that person.
pub fn fingerprint(record: &ManifestRecord) -> String {
    let what: Value = json!({
        "source": record.source.sha256,
        "title": record.title,
        "department": record.department,
        "project": record.project,
        "organization": record.organization,
        "classification": record.classification,
        "definition": record.definition,
        "metadata": record.metadata,
        "ingredients": record.ingredients,
    });
    hex::encode(Sha256::digest(canonical(&what).to_string()))
}

/// The same value with the members of objects in the order of their names, which databases do not keep.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: std::collections::BTreeMap<&String, Value> = map.iter().map(|(k, v)| (k, canonical(v))).collect();
            sorted.into_iter().map(|(k, v)| (k.clone(), v)).collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(canonical).collect(),
        other => other.clone(),
    }
}
