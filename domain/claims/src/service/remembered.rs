//! What is remembered of tenants and manifests. Its copies remember the same.

use async_trait::async_trait;
use omt_kernel::{
    ManifestId, Result, TenantId, TenantSettings,
    manifest::ManifestRecord,
    port::{Database, Remembers, Stale, Telemetry},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// How old settings may be where no message says that they have changed.
const SETTINGS: Duration = Duration::from_secs(1);
/// Memory for records, in bytes.
const RECORDS: u64 = 16 << 20;
/// How long an unused record is kept: also what is left of an older revision, which may name somebody who was erased since.
const UNUSED: Duration = Duration::from_secs(300);

#[derive(Clone)]
pub(super) struct Remembered {
    settings: moka::future::Cache<TenantId, TenantSettings>,
    records: moka::future::Cache<(TenantId, ManifestId), Arc<ManifestRecord>>,
}

impl Remembered {
    pub(super) fn new() -> Self {
        let weight = |_: &_, record: &Arc<ManifestRecord>| u32::try_from(weight(record)).unwrap_or(u32::MAX);
        Self {
            settings: moka::future::Cache::builder().max_capacity(1_000).time_to_live(SETTINGS).build(),
            records: moka::future::Cache::builder().weigher(weight).max_capacity(RECORDS).time_to_idle(UNUSED).build(),
        }
    }

    /// A tenant's settings. They are needed always and change rarely.
    pub(super) async fn settings(&self, database: &dyn Database, tenant: &TenantId) -> Result<TenantSettings> {
        if let Some(found) = self.settings.get(tenant).await {
            return Ok(found);
        }
        let found = omt_kernel::tenant::settings(database.read().await?.as_ref(), tenant).await?;
        self.settings.insert(tenant.clone(), found.clone()).await;
        Ok(found)
    }

    /// A record as it is now. What is remembered counts only when the database says that the record still has its revision, so
    /// that whatever changed it, wherever, is seen; what is saved is reading and parsing all of it again.
    pub(super) async fn record(
        &self,
        database: &dyn Database,
        telemetry: &dyn Telemetry,
        tenant: &TenantId,
        id: ManifestId,
    ) -> Result<Option<ManifestRecord>> {
        let (read, key) = (database.read().await?, (tenant.clone(), id));
        let known = match self.records.get(&key).await {
            Some(known) if read.manifests().revision(tenant, id).await? == Some(known.revision) => Some(known),
            _ => None,
        };
        telemetry.cache("manifest", known.is_some());
        if let Some(known) = known {
            return Ok(Some(ManifestRecord::clone(&known)));
        }
        let found = read.manifests().get(tenant, id).await?;
        match &found {
            Some(found) => self.records.insert(key, Arc::new(found.clone())).await,
            None => self.records.invalidate(&key).await,
        }
        Ok(found)
    }
}

#[async_trait]
impl Remembers for Remembered {
    async fn forget(&self, stale: &Stale) {
        match stale {
            Stale::Settings(tenant) => self.settings.invalidate(tenant).await,
            Stale::Everything => self.settings.invalidate_all(),
            Stale::Session(_) | Stale::Rights | Stale::Person(..) => {}
        }
    }
}

/// About how many bytes of memory a record takes.
fn weight(record: &ManifestRecord) -> usize {
    let texts = [&record.title, &record.creator, &record.media_type, &record.created_by];
    let ingredients: usize = record.ingredients.iter().map(|i| i.title.len() + 256).sum();
    size_of::<ManifestRecord>()
        + texts.into_iter().map(String::len).sum::<usize>()
        + ingredients
        + size_of_json(&record.definition)
        + size_of_json(&record.metadata)
        + 1_024
}

fn size_of_json(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(size_of_json).sum(),
            Value::Object(members) => members.iter().map(|(name, value)| 48 + name.len() + size_of_json(value)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn large_records_weigh_more() {
        let small = size_of_json(&json!({ "a": 1 }));
        let large = size_of_json(&json!({ "a": "x".repeat(10_000), "b": [1, 2, { "c": null }] }));
        assert!(small < 200 && large > 10_000, "{small} {large}");
    }

    #[tokio::test]
    async fn settings_are_forgotten_when_somebody_says_so() {
        let (remembered, tenant) = (Remembered::new(), TenantId::default_tenant());
        let other = TenantId::parse("other").unwrap();
        for tenant in [&tenant, &other] {
            remembered.settings.insert(tenant.clone(), TenantSettings::default()).await;
        }
        remembered.forget(&Stale::Rights).await;
        remembered.forget(&Stale::Settings(tenant.clone())).await;
        assert!(!remembered.settings.contains_key(&tenant) && remembered.settings.contains_key(&other));
        remembered.forget(&Stale::Everything).await;
        assert!(!remembered.settings.contains_key(&other));
    }
}
