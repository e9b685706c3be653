//! Legal holds, and what storage is used.

use super::{Manifests, drafts::Change};
use omt_jobs::{LockOrder, NewJob, OBJECT_LOCK};
use omt_kernel::{
    Actor, Error, Kind, ManifestId, Permission, Result, TenantId, check_revision,
    error::Context as _,
    manifest::{BlobRef, LegalHold, ManifestRecord},
    port::{BlobStore, Content, Put, UnitOfWork},
    retry,
    storage::{self, BlobRole, Usage},
};
use std::collections::{BTreeMap, BTreeSet};

/// The most characters of a hold's reason.
const MAX_REASON: usize = 500;
/// How often locking is tried, which is for some hours; from then on the daily look does it.
const LOCK_ATTEMPTS: u32 = 20;

/// The blobs that a record names, and what for.
fn blobs(record: &ManifestRecord) -> Vec<(&BlobRef, BlobRole)> {
    let mut out: Vec<_> = record.ingredients.iter().map(|i| (&i.blob, BlobRole::Ingredient)).collect();
    if record.source_kept {
        out.push((&record.source, BlobRole::Source));
    }
    if let Some(signed) = &record.signed {
        out.push((&signed.asset, BlobRole::Asset));
        out.push((&signed.manifest_store, BlobRole::ManifestStore));
    }
    out
}

/// Blobs that a request has stored and its record will name.
#[derive(Default)]
pub(super) struct Stored {
    /// Those that were there before, and that somebody may be removing because no record names them yet.
    present: BTreeSet<String>,
}

impl Stored {
    /// Stores a blob.
    pub(super) async fn put(&mut self, blobs: &dyn BlobStore, tenant: &TenantId, blob: &BlobRef, content: Content) -> Result<()> {
        if blobs.put(tenant, blob, content).await? == Put::Present {
            self.present.insert(blob.sha256.clone());
        }
        Ok(())
    }
}

impl Manifests {
    /// Notes in the record's own transaction which blobs it needs, and makes sure that those which were there before still are:
    /// from then on nobody removes them.
    pub(super) async fn note_uses(&self, unit: &dyn UnitOfWork, record: &ManifestRecord, stored: &Stored) -> Result<()> {
        let uses = blobs(record);
        // In the order of digests, as everyone locks them.
        for sha256 in &stored.present {
            let Some((blob, _)) = uses.iter().find(|(blob, _)| blob.sha256 == *sha256) else { continue };
            unit.lock(&storage::lock_name(&record.tenant, sha256)).await?;
            if !storage::while_locked(self.deps.blobs.exists(&record.tenant, blob)).await? {
                return Err(storage::just_deleted());
            }
        }
        unit.blobs().add_uses(&record.tenant, record.id, &uses, record.updated_at).await
    }

    /// Has the blob store lock what a manifest needs, or release it, where it locks and the change bears on that: in the change's own
    /// transaction, so that no hold is placed that the store never hears of.
    pub(super) async fn note_locks(&self, unit: &dyn UnitOfWork, old: &ManifestRecord, next: &ManifestRecord) -> Result<()> {
        let held = old.legal_hold.is_some() || next.legal_hold.is_some();
        if !self.deps.blobs.locks() || !(held || old.archived != next.archived) {
            return Ok(());
        }
        let named: BTreeMap<&str, &BlobRef> =
            blobs(old).into_iter().chain(blobs(next)).map(|(blob, _)| (blob.sha256.as_str(), blob)).collect();
        let order = LockOrder { blobs: named.into_values().cloned().collect() };
        let new = NewJob {
            tenant: Some(next.tenant.clone()),
            kind: OBJECT_LOCK,
            payload: serde_json::to_value(order).context("an order cannot be written")?,
            // None: one that runs just now may have looked before this change.
            unique_key: None,
            priority: 5,
            run_at: self.deps.clock.now(),
            max_attempts: LOCK_ATTEMPTS,
        };
        omt_jobs::enqueue(unit, self.deps.clock.as_ref(), self.deps.entropy.as_ref(), new).await.map(drop)
    }
}

impl Manifests {
    /// Keeps a manifest's content from being deleted, whatever its retention says, until the hold is released.
    pub async fn hold(&self, actor: &Actor, id: ManifestId, reason: &str, if_match: Option<i64>) -> Result<ManifestRecord> {
        actor.require(Permission::ManifestHold)?;
        let record = self.load(actor, id).await?;
        check_revision("manifest", record.revision, if_match)?;
        let reason = reason.trim();
        if reason.is_empty() || reason.chars().count() > MAX_REASON || reason.chars().any(char::is_control) {
            return Err(Error::unprocessable_field("INVALID_FIELD", "reason", "1 to 500 characters without control characters"));
        }
        if record.content_deleted_at.is_some() {
            return Err(deleted());
        }
        let hold = LegalHold { reason: reason.to_owned(), placed_by: actor.subject.clone(), placed_at: self.deps.clock.now() };
        self.set_hold(actor, record, Some(hold)).await
    }

    /// Releases a hold. Releasing what is not held changes nothing.
    pub async fn release(&self, actor: &Actor, id: ManifestId, if_match: Option<i64>) -> Result<ManifestRecord> {
        actor.require(Permission::ManifestHold)?;
        let record = self.load(actor, id).await?;
        check_revision("manifest", record.revision, if_match)?;
        if record.legal_hold.is_none() {
            return Ok(record);
        }
        self.set_hold(actor, record, None).await
    }

    async fn set_hold(&self, actor: &Actor, record: ManifestRecord, hold: Option<LegalHold>) -> Result<ManifestRecord> {
        let mut next = record.clone();
        next.revision += 1;
        next.updated_at = self.deps.clock.now();
        next.legal_hold = hold;
        let (action, event) = match next.legal_hold {
            Some(_) => ("manifest.hold", "manifest.held"),
            None => ("manifest.release", "manifest.released"),
        };
        match self.replace(actor, Change { action, event, old: &record, next, stored: None, signing: None }, None).await? {
            super::Outcome::Done(record) => Ok(*record),
            super::Outcome::Replayed { .. } => Err(Error::internal("a hold has no stored answer")),
        }
    }

    /// Blobs and bytes by tenant and tier: the actor's tenant's, or everybody's for those who run the platform.
    pub async fn usage(&self, actor: &Actor) -> Result<Vec<Usage>> {
        actor.require(Permission::AdminStorage)?;
        let everybody = actor.runs_platform();
        let tenant: Option<&TenantId> = (!everybody).then_some(&actor.tenant);
        self.deps.database.replica().await?.blobs().usage(tenant).await
    }

    /// Notes that a blob was used, at most twice a day: tiers count in days.
    pub(super) async fn touch(&self, tenant: &TenantId, blob: &BlobRef) -> Result<()> {
        let key = (tenant.clone(), blob.sha256.clone());
        if self.touched.contains_key(&key) {
            return Ok(());
        }
        retry::transaction(self.deps.entropy.as_ref(), async || {
            let unit = self.deps.database.begin().await?;
            unit.blobs().touch(tenant, &blob.sha256, self.deps.clock.now()).await?;
            unit.commit().await
        })
        .await?;
        self.touched.insert(key, ()).await;
        Ok(())
    }
}

/// Fails when the record's content was deleted.
pub(super) fn check_content(record: &ManifestRecord) -> Result<()> {
    if record.content_deleted_at.is_some() { Err(deleted()) } else { Ok(()) }
}

fn deleted() -> Error {
    Error::new(
        Kind::Gone,
        "CONTENT_DELETED",
        "the content's retention ended and it was deleted; the record and the manifest store stay",
    )
}
