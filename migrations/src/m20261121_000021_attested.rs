//! Which workflow's approval a claim attests stands beside the signature. Of what is signed already it is the workflow that was open
//! when it was signed: nothing is signed then but what it approved. Workflows begin on drafts only, so that each is older than the
//! signature, and one that was over by then says nothing afterwards.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend},
};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The workflow that was open when a manifest was signed.
fn open_then(what: &str, signed_at: &str) -> String {
    format!(
        "(SELECT {what} FROM workflows WHERE workflows.tenant = manifests.tenant AND workflows.manifest_id = manifests.id \
         AND (workflows.open OR workflows.updated_at >= {signed_at}) ORDER BY workflows.id DESC LIMIT 1)"
    )
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All of it or nothing, on every database.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let statement = if manager.get_database_backend() == DbBackend::Postgres {
            let at = "extract(epoch FROM (signed->>'signed_at')::timestamptz) * 1000000";
            format!(
                "UPDATE manifests SET signed = jsonb_set(signed, '{{workflow}}', to_jsonb({})) \
                 WHERE jsonb_typeof(signed) = 'object' AND EXISTS {}",
                open_then("workflows.id::text", at),
                open_then("1", at)
            )
        } else {
            // Identifiers are bytes here, and text in JSON.
            let part = |from: u8, count: u8| format!("substr(lower(hex(workflows.id)), {from}, {count})");
            let id = [part(1, 8), part(9, 4), part(13, 4), part(17, 4), part(21, 12)].join(" || '-' || ");
            let of = |format: &str| format!("strftime('{format}', json_extract(signed, '$.signed_at'))");
            let at = format!("CAST({} AS INTEGER) * 1000000 + CAST(substr({}, 4) AS INTEGER) * 1000", of("%s"), of("%f"));
            format!(
                "UPDATE manifests SET signed = json_set(signed, '$.workflow', {}) \
                 WHERE json_type(signed) = 'object' AND EXISTS {}",
                open_then(&id, &at),
                open_then("1", &at)
            )
        };
        manager.get_connection().execute_unprepared(&statement).await.map(drop)
    }
}
