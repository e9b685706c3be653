//! Who needs a blob, and what for: what moves, locks and lets go of blobs decides by it.

use super::now;
use crate::SqlDatabase;
use omt_kernel::{
    OffsetDateTime, TenantId,
    manifest::{Archived, BlobRef, LegalHold, ManifestState},
    port::Database,
    storage::{BlobRole, Lock},
};
use std::sync::Arc;
use time::Duration;

pub(super) async fn uses_say_what_is_held_and_until_when(database: Arc<SqlDatabase>) {
    let (tenant, blob) = (TenantId::default_tenant(), BlobRef { sha256: "ee".repeat(32), size: 1 });
    let (free, mut held, mut old) =
        (super::governance::manifest(None, "a"), super::governance::manifest(None, "b"), super::governance::manifest(None, "c"));
    held.legal_hold = Some(LegalHold { reason: "Case 1".into(), placed_by: "user:1".into(), placed_at: now() });
    let until = now() + Duration::days(30);
    old.state = ManifestState::Archived;
    old.archived = Some(Archived { at: now(), retain_until: until });
    let unit = database.begin().await.unwrap();
    for (record, role) in [(&free, BlobRole::ManifestStore), (&held, BlobRole::Asset), (&old, BlobRole::Source)] {
        unit.manifests().insert(record).await.unwrap();
        unit.blobs().add_uses(&tenant, record.id, &[(&blob, role)], now()).await.unwrap();
    }
    unit.blobs().add_uses(&tenant, old.id, &[(&blob, BlobRole::Ingredient)], now()).await.unwrap();
    unit.commit().await.unwrap();
    let uses = async || {
        let mut found = database.read().await.unwrap().blobs().uses(&tenant, &blob.sha256).await.unwrap();
        found.sort_by_key(|one| one.manifest);
        found.into_iter().map(|one| (one.manifest, one.evidence, one.held, one.retain_until)).collect::<Vec<_>>()
    };
    let none: Option<OffsetDateTime> = None;
    let mut wanted = vec![(free.id, true, false, none), (held.id, false, true, none), (old.id, false, false, Some(until))];
    wanted.sort_by_key(|one| one.0);
    assert_eq!(uses().await, wanted);
    let read = database.read().await.unwrap();
    let found = read.blobs().uses(&tenant, &blob.sha256).await.unwrap();
    assert_eq!(Lock::of(&found), Lock { held: true, retain_until: Some(until) });
    assert!(read.blobs().uses(&TenantId::parse("other").unwrap(), &blob.sha256).await.unwrap().is_empty());
    // Released is not held.
    held.revision = 2;
    held.legal_hold = None;
    let unit = database.begin().await.unwrap();
    assert!(unit.manifests().update(&held, 1).await.unwrap());
    unit.commit().await.unwrap();
    assert!(uses().await.iter().all(|one| !one.2));
}

pub(super) async fn what_is_held_or_kept_does_not_expire(database: Arc<SqlDatabase>) {
    let (now, day) = (now(), Duration::days(1));
    let archived = |until: OffsetDateTime| {
        let mut record = super::governance::manifest(None, "a");
        record.state = ManifestState::Archived;
        record.archived = Some(Archived { at: now - day * 9, retain_until: until });
        record
    };
    let (over, longer, kept) = (archived(now - day), archived(now - day * 2), archived(now + day));
    let (mut held, mut forgotten, draft) =
        (archived(now - day * 3), archived(now - day * 4), super::governance::manifest(None, "a"));
    held.legal_hold = Some(LegalHold { reason: "Case 1".into(), placed_by: "user:1".into(), placed_at: now });
    forgotten.content_deleted_at = Some(now);
    let unit = database.begin().await.unwrap();
    for record in [&over, &longer, &kept, &held, &forgotten, &draft] {
        unit.manifests().insert(record).await.unwrap();
    }
    unit.commit().await.unwrap();
    let expired = async |limit: u32| {
        let found = database.read().await.unwrap().manifests().expired(now, limit).await.unwrap();
        found.into_iter().map(|record| record.id).collect::<Vec<_>>()
    };
    // Those that are over for the longest time come first.
    assert_eq!(expired(10).await, [longer.id, over.id]);
    assert_eq!(expired(1).await, [longer.id]);
    // A hold that comes after archiving counts, and one that is released counts no more.
    let unit = database.begin().await.unwrap();
    let mut late = longer.clone();
    (late.revision, late.legal_hold) = (2, held.legal_hold.clone());
    (held.revision, held.legal_hold) = (2, None);
    for record in [&late, &held] {
        assert!(unit.manifests().update(record, 1).await.unwrap());
    }
    unit.commit().await.unwrap();
    assert_eq!(expired(10).await, [held.id, over.id]);
}
