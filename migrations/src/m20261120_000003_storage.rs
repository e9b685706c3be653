//! Stored blobs with their tier, which manifests need them, legal holds, and when content was deleted.

use crate::column;
use sea_orm_migration::{prelude::*, schema::*, sea_orm::DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table(column("blobs"))
                    .if_not_exists()
                    .col(text(column("tenant")))
                    .col(text(column("sha256")))
                    .col(big_integer(column("size")))
                    .col(text(column("tier")))
                    .col(big_integer(column("created_at")))
                    .col(big_integer(column("last_used_at")))
                    .primary_key(Index::create().col(column("tenant")).col(column("sha256")))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table(column("blob_uses"))
                    .if_not_exists()
                    .col(text(column("tenant")))
                    .col(text(column("sha256")))
                    .col(uuid(column("manifest_id")))
                    .col(text(column("role")))
                    .primary_key(
                        Index::create()
                            .col(column("tenant"))
                            .col(column("sha256"))
                            .col(column("manifest_id"))
                            .col(column("role")),
                    )
                    .take(),
            )
            .await?;
        for (name, kind) in [("legal_hold", true), ("content_deleted_at", false)] {
            if manager.has_column("manifests", name).await? {
                continue;
            }
            let mut new = ColumnDef::new(column(name));
            if kind {
                new.json_binary()
            } else {
                new.big_integer()
            };
            manager.alter_table(Table::alter().table(column("manifests")).add_column(new.null().take()).take()).await?;
        }
        let postgres = manager.get_database_backend() == DbBackend::Postgres;
        let part = |object: &str, key: &str| match (postgres, key) {
            (true, "size") => format!("(signed->'{object}'->>'size')::bigint"),
            (true, key) => format!("signed->'{object}'->>'{key}'"),
            (false, key) => format!("json_extract(signed, '$.{object}.{key}')"),
        };
        let mut statements = vec![
            "CREATE INDEX IF NOT EXISTS blobs_idle ON blobs (tier, last_used_at)".to_owned(),
            "CREATE INDEX IF NOT EXISTS blob_uses_manifest ON blob_uses (tenant, manifest_id)".to_owned(),
            "CREATE INDEX IF NOT EXISTS manifests_retention ON manifests (retain_until) \
             WHERE state = 'archived' AND content_deleted_at IS NULL"
                .to_owned(),
        ];
        // What manifests named before this table was there.
        let sources = [
            ("source", "source_sha256".to_owned(), "source_size".to_owned(), "source_kept"),
            ("asset", part("asset", "sha256"), part("asset", "size"), "signed IS NOT NULL"),
            ("manifest_store", part("manifest_store", "sha256"), part("manifest_store", "size"), "signed IS NOT NULL"),
        ];
        for (role, digest, size, condition) in sources {
            statements.push(format!(
                "INSERT INTO blobs (tenant, sha256, size, tier, created_at, last_used_at) \
                 SELECT tenant, {digest}, max({size}), 'hot', min(created_at), max(updated_at) FROM manifests WHERE {condition} \
                 GROUP BY tenant, {digest} ON CONFLICT DO NOTHING"
            ));
            statements.push(format!(
                "INSERT INTO blob_uses (tenant, sha256, manifest_id, role) \
                 SELECT tenant, {digest}, id, '{role}' FROM manifests WHERE {condition} ON CONFLICT DO NOTHING"
            ));
        }
        let (items, digest, size) = if postgres {
            (
                "jsonb_array_elements(m.ingredients) AS i(value)",
                "i.value->'blob'->>'sha256'",
                "(i.value->'blob'->>'size')::bigint",
            )
        } else {
            ("json_each(m.ingredients) AS i", "json_extract(i.value, '$.blob.sha256')", "json_extract(i.value, '$.blob.size')")
        };
        statements.push(format!(
            "INSERT INTO blobs (tenant, sha256, size, tier, created_at, last_used_at) \
             SELECT m.tenant, {digest}, max({size}), 'hot', min(m.created_at), max(m.updated_at) FROM manifests m, {items} \
             WHERE m.id IS NOT NULL GROUP BY m.tenant, {digest} ON CONFLICT DO NOTHING"
        ));
        statements.push(format!(
            "INSERT INTO blob_uses (tenant, sha256, manifest_id, role) \
             SELECT DISTINCT m.tenant, {digest}, m.id, 'ingredient' FROM manifests m, {items} WHERE m.id IS NOT NULL \
             ON CONFLICT DO NOTHING"
        ));
        for statement in statements {
            manager.get_connection().execute_unprepared(&statement).await?;
        }
        Ok(())
    }
}
