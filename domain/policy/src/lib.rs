//! Organisational policy. There is no engine yet: whatever is asked for by name stands against going on.
use async_trait::async_trait;
use omt_kernel::{Result, TenantSettings, manifest::ManifestRecord, port::UnitOfWork};
use omt_workflow::Standing;
use std::collections::{BTreeMap, BTreeSet};

/// Every policy fails.
pub struct Policies;

#[async_trait]
impl Standing for Policies {
    async fn against(
        &self,
        _: &dyn UnitOfWork,
        _: &ManifestRecord,
        _: &TenantSettings,
        names: &BTreeSet<String>,
    ) -> Result<Vec<String>> {
        Ok(names.iter().map(|name| format!("{name}: there is no policy engine yet")).collect())
    }
    async fn passed(
        &self,
        _: &dyn UnitOfWork,
        _: &ManifestRecord,
        _: &TenantSettings,
        _: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, bool>> {
        Ok(BTreeMap::new())
    }
}
