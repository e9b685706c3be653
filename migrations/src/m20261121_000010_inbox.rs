//! What the inbox is narrowed by stands beside whom a task waits for, so that an index answers it however many tasks there are. Tasks
//! that an older version writes while both run are missing from lists by project and of what is overdue until they next change.

use sea_orm_migration::{prelude::*, sea_orm::ConnectionTrait};

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: [&str; 5] = [
    "ALTER TABLE workflow_candidates ADD COLUMN project text",
    "ALTER TABLE workflow_candidates ADD COLUMN due_at bigint",
    "UPDATE workflow_candidates SET \
     due_at = (SELECT t.due_at FROM workflow_tasks t WHERE t.id = workflow_candidates.task_id), \
     project = (SELECT m.project FROM workflow_tasks t JOIN manifests m ON m.id = t.manifest_id WHERE t.id = workflow_candidates.task_id)",
    "CREATE INDEX IF NOT EXISTS workflow_candidates_project ON workflow_candidates (tenant, candidate, project, task_id)",
    "CREATE INDEX IF NOT EXISTS workflow_candidates_due ON workflow_candidates (tenant, candidate, due_at, task_id)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in STATEMENTS {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
