//! What is remembered of policies and manifests between one question and the next (decision 17). The database is asked for one number of
//! each at every use; what is saved is reading and parsing the rest.

use crate::{
    facts::{self, Facts, Verified},
    service::Version,
};
use omt_kernel::{ManifestId, Result, TenantId, document::DocumentKind, manifest::ManifestRecord, port::UnitOfWork};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// Memory for versions, and for manifests.
const VERSIONS: u64 = 8 << 20;
const SUBJECTS: u64 = 16 << 20;
/// How long what nobody uses is kept: what is left of an older revision may name somebody who was erased since.
const UNUSED: Duration = Duration::from_secs(300);
/// Bytes of memory for each byte that JSON takes when it is written, about.
const IN_MEMORY: usize = 4;

/// A manifest, and what policies see of it as long as nobody verifies it.
pub(crate) struct Subject {
    pub(crate) record: ManifestRecord,
    facts: OnceLock<Arc<Facts>>,
}

impl Subject {
    /// What policies see of it as long as nobody verifies it.
    pub(crate) fn facts(&self) -> Result<Arc<Facts>> {
        if let Some(known) = self.facts.get() {
            return Ok(known.clone());
        }
        let facts = Arc::new(facts::of(&self.record, Verified::No)?);
        Ok(self.facts.get_or_init(|| facts).clone())
    }
}

/// Newest versions by name, and manifests.
pub(crate) struct Remembered {
    versions: moka::sync::Cache<(TenantId, String), Version>,
    subjects: moka::sync::Cache<(TenantId, ManifestId), Arc<Subject>>,
}

impl Remembered {
    pub(crate) fn new() -> Self {
        let version = |(_, name): &(TenantId, String), version: &Version| {
            u32::try_from(256 + name.len() + version.policy.weight()).unwrap_or(u32::MAX)
        };
        let subject = |_: &_, subject: &Arc<Subject>| {
            let ManifestRecord { definition, metadata, .. } = &subject.record;
            let written: usize = [definition, metadata].map(|json| json.to_string().len()).iter().sum();
            // Facts say most of it again.
            u32::try_from(4_096 + 2 * IN_MEMORY * written).unwrap_or(u32::MAX)
        };
        Self {
            versions: moka::sync::Cache::builder().weigher(version).max_capacity(VERSIONS).time_to_idle(UNUSED).build(),
            subjects: moka::sync::Cache::builder().weigher(subject).max_capacity(SUBJECTS).time_to_idle(UNUSED).build(),
        }
    }

    /// The newest version of a name, where it is remembered and the database still says that it is. Versions never change.
    pub(crate) async fn version(&self, unit: &dyn UnitOfWork, tenant: &TenantId, name: &str) -> Result<Option<Version>> {
        let Some(known) = self.versions.get(&(tenant.clone(), name.to_owned())) else { return Ok(None) };
        let newest = unit.documents().newest(DocumentKind::Policy, tenant, name).await?;
        // What is shipped is in no table.
        let is_newest = if known.built_in { newest.is_none() } else { newest == Some(known.version) };
        Ok(Some(known).filter(|_| is_newest))
    }

    /// Remembers a newest version.
    pub(crate) fn keep(&self, tenant: &TenantId, version: &Version) {
        self.versions.insert((tenant.clone(), version.policy.name.clone()), version.clone());
    }

    /// A manifest as it is now.
    pub(crate) async fn subject(&self, unit: &dyn UnitOfWork, tenant: &TenantId, id: ManifestId) -> Result<Option<Arc<Subject>>> {
        let key = (tenant.clone(), id);
        if let Some(known) = self.subjects.get(&key)
            && unit.manifests().revision(tenant, id).await? == Some(known.record.revision)
        {
            return Ok(Some(known));
        }
        let Some(record) = unit.manifests().get(tenant, id).await? else {
            self.subjects.invalidate(&key);
            return Ok(None);
        };
        let found = Arc::new(Subject { record, facts: OnceLock::new() });
        self.subjects.insert(key, found.clone());
        Ok(Some(found))
    }
}
