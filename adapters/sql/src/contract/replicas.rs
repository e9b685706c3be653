//! Which blobs have a copy at the replication target.

use super::{
    now,
    storage::{add_uses, blob},
};
use crate::SqlDatabase;
use omt_kernel::{
    ManifestId, OffsetDateTime, TenantId,
    port::Database,
    storage::{BlobRole, ReplicationState, Unreplicated},
};
use std::sync::Arc;
use time::Duration;
use uuid::Uuid;

async fn pending(database: &SqlDatabase) -> Vec<Unreplicated> {
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = database.read().await.unwrap().blobs().unreplicated(after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { return seen };
        after = Some(last.clone());
        seen.extend(page);
    }
}

async fn state(database: &SqlDatabase) -> ReplicationState {
    database.read().await.unwrap().blobs().replication().await.unwrap()
}

async fn aim(database: &SqlDatabase, target: &str, at: OffsetDateTime) -> OffsetDateTime {
    let unit = database.begin().await.unwrap();
    let since = unit.blobs().aim_replicas(target, at).await.unwrap();
    unit.commit().await.unwrap();
    since
}

async fn mark(database: &SqlDatabase, it: &Unreplicated, copied: Option<(&str, OffsetDateTime)>) -> bool {
    let unit = database.begin().await.unwrap();
    let marked = unit.blobs().set_replicated(&it.tenant, &it.blob.sha256, copied).await.unwrap();
    unit.commit().await.unwrap();
    marked
}

async fn forget(database: &SqlDatabase, before: OffsetDateTime, limit: u32) -> u64 {
    let unit = database.begin().await.unwrap();
    let forgotten = unit.blobs().forget_replicas(before, limit).await.unwrap();
    unit.commit().await.unwrap();
    forgotten
}

pub(super) async fn copies_are_kept_account_of(database: Arc<SqlDatabase>) {
    assert_eq!(state(&database).await, ReplicationState::default());
    let at = now();
    for (seconds, tenant, c) in [(3, "b", 'a'), (1, "b", 'b'), (2, "a", 'c'), (2, "b", 'c'), (2, "a", 'd')] {
        let when = at + Duration::seconds(seconds);
        add_uses(&database, tenant, ManifestId(Uuid::now_v7()), &[(&blob(c), BlobRole::Asset)], when).await;
    }
    let all = pending(&database).await;
    let names: Vec<(String, String)> = all.iter().map(|it| (it.blob.sha256[..1].to_owned(), it.tenant.to_string())).collect();
    let name = |c: &str, tenant: &str| (c.to_owned(), tenant.to_owned());
    assert_eq!(names, [name("b", "b"), name("c", "a"), name("c", "b"), name("d", "a"), name("a", "b")], "the oldest first");
    let bytes: u64 = all.iter().map(|it| it.blob.size).sum();
    let behind = state(&database).await;
    assert_eq!((behind.blobs, behind.bytes, behind.last), (5, bytes, None));
    assert_eq!(behind.lag(at + Duration::seconds(11)), Duration::seconds(10));

    // Nobody may say that it was copied to what nobody copies to.
    assert!(!mark(&database, &all[0], Some(("one", at))).await);
    assert_eq!(aim(&database, "one", at).await, at);
    assert_eq!(aim(&database, "one", at + Duration::seconds(5)).await, at, "it is the same target");
    assert!(!mark(&database, &all[0], Some(("other", at))).await);
    for (n, it) in all.iter().enumerate() {
        assert!(mark(&database, it, Some(("one", at + Duration::seconds(n as i64)))).await);
        assert_eq!(pending(&database).await, all[n + 1..]);
    }
    let behind = state(&database).await;
    assert_eq!((behind.blobs, behind.bytes, behind.oldest), (0, 0, None));
    assert_eq!((behind.last, behind.lag(at)), (Some(at + Duration::seconds(4)), Duration::ZERO));
    assert_eq!(forget(&database, at, 10).await, 0);

    // One that is no longer there is taken back, and a use that is noted again changes nothing.
    assert!(mark(&database, &all[2], None).await);
    assert_eq!(pending(&database).await, [all[2].clone()]);
    add_uses(&database, "b", ManifestId(Uuid::now_v7()), &[(&blob('b'), BlobRole::Source)], at + Duration::seconds(9)).await;
    assert_eq!(pending(&database).await.len(), 1);
    let unknown = Unreplicated { tenant: TenantId::parse("z").unwrap(), ..all[0].clone() };
    assert!(!mark(&database, &unknown, Some(("one", at))).await, "of another tenant");

    // Another target has nothing; what is copied there meanwhile stays.
    let later = at + Duration::seconds(100);
    assert_eq!(aim(&database, "two", later).await, later);
    assert!(!mark(&database, &all[2], Some(("one", later))).await, "by a process that knows only the old one");
    assert!(mark(&database, &all[2], Some(("two", later))).await);
    assert_eq!(
        [forget(&database, later, 3).await, forget(&database, later, 3).await, forget(&database, later, 3).await],
        [3, 1, 0]
    );
    assert_eq!(pending(&database).await, [&all[..2], &all[3..]].concat());
    assert_eq!(state(&database).await.last, Some(later));
}
