//! Policies of the tenant's own, in versions, beside those that everybody has.

use super::{Compliance, RecheckOrder, recheck};
use crate::model::Policy;
use omt_audit::Event;
use omt_kernel::{
    Actor, Error, Kind, Permission, Result, TenantId,
    document::{self, DocumentKind, NewVersion, VersionRecord},
    error::Context as _,
    port::UnitOfWork,
    retry,
};
use std::collections::{BTreeMap, BTreeSet};

/// A version of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyVersion {
    /// What it says.
    pub policy: Policy,
    /// Its number, from 1.
    pub version: u32,
}

/// What every tenant has under a name is its only version.
fn shipped(policy: &Policy) -> PolicyVersion {
    PolicyVersion { policy: policy.clone(), version: 1 }
}

fn version_of(record: VersionRecord) -> Result<PolicyVersion> {
    let policy = serde_json::from_value(record.data).context("a compliance policy cannot be read")?;
    Ok(PolicyVersion { policy, version: record.version })
}

/// That there is no policy of a name, in words.
pub(super) fn missing(name: &str) -> String {
    format!("there is no compliance policy {name:?}")
}

impl Compliance {
    /// The newest version of every policy of the tenant, by name.
    pub async fn policies(&self, actor: &Actor) -> Result<Vec<PolicyVersion>> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.read().await?;
        let mut out: BTreeMap<String, PolicyVersion> =
            self.shipped.iter().map(|policy| (policy.name.clone(), shipped(policy))).collect();
        for record in read.documents().list(DocumentKind::CompliancePolicy, &actor.tenant).await? {
            out.insert(record.name.clone(), version_of(record)?);
        }
        Ok(out.into_values().collect())
    }

    /// A version of a policy, the newest when none is named.
    pub async fn policy_version(&self, actor: &Actor, name: &str, version: Option<u32>) -> Result<PolicyVersion> {
        actor.require(Permission::ManifestRead)?;
        if let Some(found) = self.shipped.iter().find(|policy| policy.name == name).filter(|_| version.is_none_or(|v| v == 1)) {
            return Ok(shipped(found));
        }
        let read = self.deps.database.read().await?;
        let found = read.documents().get(DocumentKind::CompliancePolicy, &actor.tenant, name, version).await?;
        version_of(found.ok_or_else(|| Error::new(Kind::NotFound, "UNKNOWN_POLICY", missing(name)))?)
    }

    /// Adds or changes a tenant's own policy, as a new version; 412 when `expected` is not the newest. What is shipped stays as it is.
    pub async fn put_policy(&self, actor: &Actor, policy: Policy, expected: Option<i64>) -> Result<PolicyVersion> {
        actor.require(Permission::AdminPolicies)?;
        let name = policy.name.as_bytes();
        let good = !name.is_empty()
            && name.len() <= 64
            && name.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
        if !good {
            return Err(Error::unprocessable_field("INVALID_FIELD", "name", "1 to 64 of a-z, 0-9, underscores and hyphens"));
        }
        if self.shipped.iter().any(|shipped| shipped.name == policy.name) {
            let words = "every tenant has this policy as it is; make one of another name";
            return Err(Error::new(Kind::Conflict, "BUILT_IN_POLICY", words));
        }
        if policy.rules.is_empty() {
            return Err(Error::unprocessable_field("INVALID_FIELD", "rules", "at least one rule is needed"));
        }
        if policy.description.len() > 2_000 {
            return Err(Error::unprocessable_field("INVALID_FIELD", "description", "at most 2000 bytes are allowed"));
        }
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            document::lock(unit.as_ref(), DocumentKind::CompliancePolicy, &actor.tenant).await?;
            let newest = unit.documents().get(DocumentKind::CompliancePolicy, &actor.tenant, &policy.name, None).await?;
            let data = serde_json::to_value(&policy).context("a policy cannot be written")?;
            let present = newest.as_ref().map_or(0, |newest| newest.version);
            let before = newest.and_then(|newest| serde_json::from_value::<Policy>(newest.data).ok());
            let new = NewVersion { name: policy.name.clone(), present, expected, data };
            let now = self.deps.clock.now();
            document::append(unit.as_ref(), actor, DocumentKind::CompliancePolicy, new, now).await?;
            let entry = Event::new("compliance_policy.put", "compliance_policy", &policy.name).after(&policy);
            self.deps.audit.append(unit.as_ref(), actor, entry).await?;
            // Other words for the same rules turn nothing.
            if before.is_none_or(|before| before.rules != policy.rules) {
                let order = RecheckOrder { key: recheck::by_policy(&policy.name), rules: Some(policy.rules.clone()) };
                self.recheck_later(unit.as_ref(), &actor.tenant, order, &format!("version:{}", present + 1)).await?;
            }
            unit.commit().await?;
            Ok(PolicyVersion { policy: policy.clone(), version: present + 1 })
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// A policy of this name, where there is one.
    pub(super) async fn find(&self, unit: &dyn UnitOfWork, tenant: &TenantId, name: &str) -> Result<Option<Policy>> {
        if let Some(shipped) = self.shipped.iter().find(|policy| policy.name == name) {
            return Ok(Some(shipped.clone()));
        }
        let record = unit.documents().get(DocumentKind::CompliancePolicy, tenant, name, None).await?;
        record.map(|record| serde_json::from_value(record.data).context("a compliance policy cannot be read")).transpose()
    }

    /// The policy that a request names.
    pub(super) async fn policy(&self, unit: &dyn UnitOfWork, tenant: &TenantId, name: &str) -> Result<Policy> {
        let found = self.find(unit, tenant, name).await?;
        found.ok_or_else(|| Error::unprocessable_field("UNKNOWN_POLICY", "policy_name", missing(name)))
    }

    /// Refuses names that are no policies.
    pub async fn check_names(&self, actor: &Actor, names: &BTreeSet<String>) -> Result<()> {
        let read = self.deps.database.read().await?;
        for name in names {
            self.policy(read.as_ref(), &actor.tenant, name).await?;
        }
        Ok(())
    }
}
