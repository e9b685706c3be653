//! What is being removed from a place cannot be named there.

use super::{now, storage::blob};
use crate::SqlDatabase;
use omt_kernel::{
    ManifestId, Result, TenantId,
    manifest::BlobRef,
    port::Database,
    storage::{BlobRole, JUST_DELETED, Place, Tier},
};
use std::sync::Arc;
use time::Duration;
use uuid::Uuid;

async fn name(database: &SqlDatabase, tenant: &TenantId, blob: &BlobRef) -> Result<()> {
    let unit = database.begin().await?;
    let uses = [(blob, BlobRole::Asset)];
    unit.blobs().add_uses(tenant, ManifestId(Uuid::now_v7()), &uses, now()).await?;
    unit.commit().await
}

async fn switch(database: &SqlDatabase, tenant: &TenantId, blob: &BlobRef, from: Tier, to: Tier) -> Result<bool> {
    let unit = database.begin().await?;
    let done = unit.blobs().set_tier(tenant, &blob.sha256, from, to).await?;
    unit.commit().await.map(|()| done)
}

async fn doom(database: &SqlDatabase, tenant: &TenantId, blob: &BlobRef, place: Place, minutes: i64) -> Uuid {
    let unit = database.begin().await.unwrap();
    let doom = unit.blobs().doom(tenant, &blob.sha256, place, now() + Duration::minutes(minutes)).await.unwrap();
    unit.commit().await.unwrap();
    doom
}

async fn spare(database: &SqlDatabase, doom: Uuid) {
    let unit = database.begin().await.unwrap();
    unit.blobs().spare(doom).await.unwrap();
    unit.commit().await.unwrap();
}

pub(super) async fn what_is_being_removed_cannot_be_named(database: Arc<SqlDatabase>) {
    let (tenant, other) = (TenantId::default_tenant(), TenantId::parse("other").unwrap());
    let (one, two) = (blob('1'), blob('2'));
    let database = database.as_ref();
    // As a new record, by whoever stored the bytes again; but elsewhere, by others, and other bytes.
    let hot = doom(database, &tenant, &one, Place::Tier(Tier::Hot), 15).await;
    let refused = name(database, &tenant, &one).await.unwrap_err();
    assert!(refused.code == JUST_DELETED && refused.retry_after.is_some(), "{refused}");
    assert!(database.read().await.unwrap().blobs().find(&tenant, &one.sha256).await.unwrap().is_none());
    name(database, &other, &one).await.unwrap();
    name(database, &tenant, &two).await.unwrap();
    // Of two removals each is over by itself.
    let again = doom(database, &tenant, &one, Place::Tier(Tier::Hot), 15).await;
    spare(database, hot).await;
    assert_eq!(name(database, &tenant, &one).await.unwrap_err().code, JUST_DELETED);
    spare(database, again).await;
    name(database, &tenant, &one).await.unwrap();
    // As where a blob is moved to, and not where it is.
    let warm = doom(database, &tenant, &one, Place::Tier(Tier::Warm), 15).await;
    name(database, &tenant, &one).await.unwrap();
    assert_eq!(switch(database, &tenant, &one, Tier::Hot, Tier::Warm).await.unwrap_err().code, JUST_DELETED);
    assert!(switch(database, &tenant, &one, Tier::Hot, Tier::Cold).await.unwrap());
    spare(database, warm).await;
    assert!(switch(database, &tenant, &one, Tier::Cold, Tier::Warm).await.unwrap());
    // As a copy.
    let unit = database.begin().await.unwrap();
    unit.blobs().aim_replicas("target", now()).await.unwrap();
    unit.commit().await.unwrap();
    let copied = async |at: bool| {
        let unit = database.begin().await?;
        unit.blobs().set_replicated(&tenant, &one.sha256, at.then(|| ("target", now()))).await?;
        unit.commit().await
    };
    let replica = doom(database, &tenant, &one, Place::Replica, 15).await;
    assert_eq!(copied(true).await.unwrap_err().code, JUST_DELETED);
    copied(false).await.unwrap();
    spare(database, replica).await;
    copied(true).await.unwrap();
    // A process that died does not keep it away for ever.
    let three = blob('3');
    doom(database, &tenant, &three, Place::Tier(Tier::Hot), -1).await;
    name(database, &tenant, &three).await.unwrap();
}
