//! Workflows, tasks, evidence, reports, policies and notifications.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend},
};

#[derive(DeriveMigrationName)]
pub struct Migration;

fn statements(id: &str, json: &str) -> Vec<String> {
    let table = |name: &str, columns: &str| format!("CREATE TABLE IF NOT EXISTS {name} ({columns})");
    let index = |name: &str, on: &str| format!("CREATE INDEX IF NOT EXISTS {name} ON {on}");
    vec![
        table(
            "workflow_definitions",
            &format!(
                "tenant text NOT NULL, name text NOT NULL, version integer NOT NULL, data {json} NOT NULL, created_by text NOT NULL, \
                 created_at bigint NOT NULL, PRIMARY KEY (tenant, name, version)"
            ),
        ),
        table(
            "workflows",
            &format!(
                "id {id} PRIMARY KEY NOT NULL, tenant text NOT NULL, manifest_id {id} NOT NULL, definition text NOT NULL, \
                 state text NOT NULL, open boolean NOT NULL, revision bigint NOT NULL, created_by text NOT NULL, \
                 created_at bigint NOT NULL, updated_at bigint NOT NULL, pending_since bigint, data {json} NOT NULL"
            ),
        ),
        "CREATE INDEX IF NOT EXISTS workflows_pending ON workflows (pending_since) WHERE pending_since IS NOT NULL".to_owned(),
        index("workflows_list", "workflows (tenant, id)"),
        index("workflows_state", "workflows (tenant, state, id)"),
        index("workflows_definition", "workflows (tenant, definition, open, id)"),
        index("workflows_created_by", "workflows (tenant, created_by, id)"),
        index("workflows_manifest", "workflows (manifest_id, id)"),
        // A manifest is decided on once at a time.
        "CREATE UNIQUE INDEX IF NOT EXISTS workflows_open ON workflows (manifest_id) WHERE open".to_owned(),
        table(
            "workflow_events",
            &format!(
                "workflow_id {id} NOT NULL, sequence bigint NOT NULL, tenant text NOT NULL, at bigint NOT NULL, data {json} NOT NULL, \
                 PRIMARY KEY (workflow_id, sequence)"
            ),
        ),
        table(
            "workflow_tasks",
            &format!(
                "id {id} PRIMARY KEY NOT NULL, tenant text NOT NULL, workflow_id {id} NOT NULL, manifest_id {id} NOT NULL, \
                 due_at bigint, next_at bigint, created_at bigint NOT NULL, data {json} NOT NULL"
            ),
        ),
        index("workflow_tasks_list", "workflow_tasks (tenant, id)"),
        index("workflow_tasks_workflow", "workflow_tasks (workflow_id)"),
        index("workflow_tasks_due", "workflow_tasks (tenant, due_at)"),
        "CREATE INDEX IF NOT EXISTS workflow_tasks_next ON workflow_tasks (next_at) WHERE next_at IS NOT NULL".to_owned(),
        table(
            "workflow_candidates",
            &format!(
                "tenant text NOT NULL, candidate text NOT NULL, task_id {id} NOT NULL, PRIMARY KEY (tenant, candidate, task_id)"
            ),
        ),
        index("workflow_candidates_task", "workflow_candidates (task_id)"),
        table(
            "evidence",
            &format!(
                "id {id} PRIMARY KEY NOT NULL, tenant text NOT NULL, kind text NOT NULL, about text NOT NULL, revision bigint NOT NULL, \
                 data {json} NOT NULL, created_by text NOT NULL, created_at bigint NOT NULL, updated_at bigint NOT NULL"
            ),
        ),
        index("evidence_list", "evidence (tenant, id)"),
        index("evidence_about", "evidence (tenant, about, kind, id)"),
        table(
            "compliance_reports",
            &format!(
                "manifest_id {id} NOT NULL, policy text NOT NULL, tenant text NOT NULL, status text NOT NULL, data {json} NOT NULL, \
                 at bigint NOT NULL, PRIMARY KEY (manifest_id, policy)"
            ),
        ),
        table(
            "compliance_keys",
            &format!(
                "tenant text NOT NULL, about text NOT NULL, manifest_id {id} NOT NULL, policy text NOT NULL, \
                 PRIMARY KEY (tenant, about, manifest_id, policy)"
            ),
        ),
        index("compliance_keys_report", "compliance_keys (manifest_id, policy)"),
        table(
            "compliance_overrides",
            &format!(
                "id {id} PRIMARY KEY NOT NULL, tenant text NOT NULL, manifest_id {id} NOT NULL, data {json} NOT NULL, \
                 created_at bigint NOT NULL"
            ),
        ),
        index("compliance_overrides_manifest", "compliance_overrides (manifest_id, id)"),
        table(
            "policies",
            &format!(
                "tenant text NOT NULL, name text NOT NULL, version integer NOT NULL, data {json} NOT NULL, created_by text NOT NULL, \
                 created_at bigint NOT NULL, PRIMARY KEY (tenant, name, version)"
            ),
        ),
        table(
            "notifications",
            &format!(
                "id {id} PRIMARY KEY NOT NULL, tenant text NOT NULL, audience text NOT NULL, kind text NOT NULL, data {json} NOT NULL, \
                 manifest_id {id} NOT NULL, created_at bigint NOT NULL"
            ),
        ),
        index("notifications_audience", "notifications (tenant, audience, id)"),
        index("notifications_age", "notifications (created_at)"),
        table(
            "notification_reads",
            &format!(
                "notification_id {id} NOT NULL, subject text NOT NULL, at bigint NOT NULL, PRIMARY KEY (notification_id, subject)"
            ),
        ),
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
