//! Webhooks and their deliveries.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend},
};

#[derive(DeriveMigrationName)]
pub struct Migration;

fn statements(id: &str, json: &str) -> Vec<String> {
    vec![
        format!(
            "CREATE TABLE IF NOT EXISTS webhook_endpoints (id {id} PRIMARY KEY NOT NULL, tenant text NOT NULL, \
             revision bigint NOT NULL, enabled boolean NOT NULL, data {json} NOT NULL, created_by text NOT NULL, \
             created_at bigint NOT NULL, updated_at bigint NOT NULL)"
        ),
        "CREATE INDEX IF NOT EXISTS webhook_endpoints_list ON webhook_endpoints (tenant, id)".to_owned(),
        format!(
            "CREATE TABLE IF NOT EXISTS webhook_deliveries (id {id} PRIMARY KEY NOT NULL, tenant text NOT NULL, \
             endpoint_id {id} NOT NULL, message_id {id} NOT NULL, event text NOT NULL, state text NOT NULL, manifest_id {id}, \
             department text, project text, classification text, data {json} NOT NULL, created_at bigint NOT NULL, updated_at bigint NOT NULL)"
        ),
        "CREATE INDEX IF NOT EXISTS webhook_deliveries_list ON webhook_deliveries (endpoint_id, id)".to_owned(),
        "CREATE INDEX IF NOT EXISTS webhook_deliveries_state ON webhook_deliveries (endpoint_id, state, id)".to_owned(),
        "CREATE INDEX IF NOT EXISTS webhook_deliveries_age ON webhook_deliveries (created_at)".to_owned(),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let postgres = manager.get_database_backend() == DbBackend::Postgres;
        let (id, json) = if postgres { ("uuid", "jsonb") } else { ("uuid_text", "jsonb_text") };
        for statement in statements(id, json) {
            manager.get_connection().execute_unprepared(&statement).await?;
        }
        Ok(())
    }
}
