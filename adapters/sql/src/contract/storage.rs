//! Stored blobs: which there are, who uses them, and what goes when nobody does.

use super::now;
use crate::SqlDatabase;
use omt_kernel::{
    ManifestId, OffsetDateTime, TenantId,
    manifest::{BlobRef, ManifestFilter},
    port::{Database, Page},
    storage::{BlobRole, Tier},
};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::json;
use std::{sync::Arc, time::Duration};

use uuid::Uuid;

pub(super) async fn the_storage_migration_lists_what_is_there(database: Arc<SqlDatabase>) {
    let blob = |c: char, size: u64| json!({ "sha256": c.to_string().repeat(64), "size": size });
    let ingredient = json!([{ "blob": blob('d', 4), "title": "t", "media_type": "m", "relationship": "component_of" }]);
    let signed = json!({
        "asset": blob('b', 2),
        "manifest_store": blob('c', 3),
        "embedded": true,
        "algorithm": "es256",
        "manifest_label": "urn:c2pa:x",
        "signed_at": "2026-01-01T00:00:00Z",
    });
    let (draft, done) = (Uuid::now_v7(), Uuid::now_v7());
    for (id, kept, ingredients, signed) in [(draft, true, ingredient, None), (done, false, json!([]), Some(signed))] {
        let columns = "id, tenant, revision, state, title, title_folded, creator, classification, media_type, source_sha256, \
                       source_size, source_kept, definition, metadata, ingredients, signed, created_by, created_at, updated_at";
        let postgres = database.write.get_database_backend() == DbBackend::Postgres;
        let places: Vec<String> = (1..=19).map(|n| if postgres { format!("${n}") } else { "?".to_owned() }).collect();
        let statement = format!("INSERT INTO manifests ({columns}) VALUES ({})", places.join(", "));
        let values: Vec<sea_orm::Value> = vec![
            id.into(),
            "default".into(),
            1i64.into(),
            if kept { "draft" } else { "signed" }.into(),
            "Old".into(),
            "old".into(),
            "c".into(),
            "internal".into(),
            "image/jpeg".into(),
            "a".repeat(64).into(),
            1i64.into(),
            kept.into(),
            json!({}).into(),
            json!({ "xmp": { "dc:subject": if kept { "Ferry" } else { "Dusk" } } }).into(),
            ingredients.into(),
            signed.map_or(sea_orm::Value::Json(None), Into::into),
            "u".into(),
            7i64.into(),
            8i64.into(),
        ];
        let backend = database.write.get_database_backend();
        database.write.execute_raw(Statement::from_sql_and_values(backend, statement, values)).await.unwrap();
    }
    database.migrate().await.unwrap();
    let (tenant, read) = (TenantId::default_tenant(), database.read().await.unwrap());
    for (c, manifest, size) in [('a', draft, 1), ('d', draft, 4), ('b', done, 2), ('c', done, 3)] {
        let digest = c.to_string().repeat(64);
        let found = read.blobs().find(&tenant, &digest).await.unwrap().unwrap();
        assert_eq!((found.blob.size, found.tier), (size, Tier::Hot), "{c}");
        let uses = read.blobs().uses(&tenant, &digest).await.unwrap();
        assert_eq!(uses.iter().map(|u| u.manifest.0).collect::<Vec<_>>(), [manifest], "{c}");
    }
    // And titles can be searched.
    let filter = ManifestFilter { search: Some("old".into()), ..Default::default() };
    let page = Page { after: None, limit: 10 };
    assert_eq!(read.manifests().list(&tenant, &filter, page).await.unwrap().len(), 2);
    let filter = ManifestFilter { search: Some("ferr* old".into()), ..Default::default() };
    let found = read.manifests().list(&tenant, &filter, page).await.unwrap();
    assert_eq!(found.iter().map(|record| record.id.0).collect::<Vec<_>>(), [draft]);
}

pub(super) fn blob(c: char) -> BlobRef {
    BlobRef { sha256: c.to_string().repeat(64), size: 1 }
}

pub(super) async fn add_uses(
    database: &SqlDatabase,
    tenant: &str,
    manifest: ManifestId,
    uses: &[(&BlobRef, BlobRole)],
    at: OffsetDateTime,
) {
    let unit = database.begin().await.unwrap();
    unit.blobs().add_uses(&TenantId::parse(tenant).unwrap(), manifest, uses, at).await.unwrap();
    unit.commit().await.unwrap();
}

pub(super) async fn drop_content(database: &SqlDatabase, manifest: ManifestId) -> Vec<BlobRef> {
    let unit = database.begin().await.unwrap();
    let gone = unit.blobs().drop_uses(&TenantId::default_tenant(), manifest, BlobRole::CONTENT).await.unwrap();
    unit.commit().await.unwrap();
    gone
}

pub(super) async fn content_goes_when_its_last_use_does(database: Arc<SqlDatabase>) {
    let (one, two) = (ManifestId(Uuid::now_v7()), ManifestId(Uuid::now_v7()));
    let (shared, own, evidence) = (blob('a'), blob('b'), blob('c'));
    let uses = [
        (&shared, BlobRole::Ingredient),
        (&shared, BlobRole::Asset),
        (&own, BlobRole::Source),
        (&evidence, BlobRole::ManifestStore),
    ];
    add_uses(&database, "default", one, &uses, now()).await;
    add_uses(&database, "default", one, &uses, now()).await;
    add_uses(&database, "default", two, &[(&shared, BlobRole::Asset)], now()).await;
    add_uses(&database, "other", two, &[(&own, BlobRole::Asset)], now()).await;
    // Of what is needed in two roles, one may go.
    let unit = database.begin().await.unwrap();
    assert!(unit.blobs().drop_uses(&TenantId::default_tenant(), one, &[BlobRole::Ingredient]).await.unwrap().is_empty());
    unit.commit().await.unwrap();
    assert_eq!(drop_content(&database, one).await, [own]);
    assert!(drop_content(&database, one).await.is_empty());
    let (read, tenant) = (database.read().await.unwrap(), TenantId::default_tenant());
    assert!(read.blobs().find(&tenant, &evidence.sha256).await.unwrap().is_some());
    assert!(read.blobs().find(&TenantId::parse("other").unwrap(), &blob('b').sha256).await.unwrap().is_some());
    assert_eq!(drop_content(&database, two).await, [shared]);
    let usage = read.blobs().usage(Some(&tenant)).await.unwrap();
    assert_eq!(usage.iter().map(|u| (u.tier, u.blobs, u.bytes)).collect::<Vec<_>>(), [(Tier::Hot, 1, 1)]);
}

pub(super) async fn a_use_that_is_being_noted_keeps_its_blob(database: Arc<SqlDatabase>) {
    let (old, new, content) = (ManifestId(Uuid::now_v7()), ManifestId(Uuid::now_v7()), blob('a'));
    add_uses(&database, "default", old, &[(&content, BlobRole::Asset)], now()).await;
    // Noted, and not committed before the other begins to forget.
    let unit = database.begin().await.unwrap();
    unit.blobs().add_uses(&TenantId::default_tenant(), new, &[(&content, BlobRole::Asset)], now()).await.unwrap();
    let forgetting = {
        let database = database.clone();
        tokio::spawn(async move { drop_content(&database, old).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    unit.commit().await.unwrap();
    assert!(forgetting.await.unwrap().is_empty());
    let read = database.read().await.unwrap();
    assert!(read.blobs().find(&TenantId::default_tenant(), &content.sha256).await.unwrap().is_some());
}

pub(super) async fn blobs_page_without_loss(database: Arc<SqlDatabase>) {
    let at = now();
    for tenant in ["a", "b", "c"] {
        for c in ['d', 'e'] {
            add_uses(&database, tenant, ManifestId(Uuid::now_v7()), &[(&blob(c), BlobRole::Asset)], at).await;
        }
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = database.read().await.unwrap().blobs().in_tier(Tier::Hot, after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.into_iter().map(|b| (b.blob.sha256, b.tenant.to_string())));
    }
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!((seen.len(), sorted), (6, seen));
}
