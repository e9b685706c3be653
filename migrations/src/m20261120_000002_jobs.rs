//! Jobs, and the slots of recurring ones.

use crate::column;
use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table(column("jobs"))
                    .if_not_exists()
                    .col(uuid(column("id")).primary_key())
                    .col(text_null(column("tenant")))
                    .col(text(column("kind")))
                    .col(json_binary(column("payload")))
                    .col(text_null(column("unique_key")))
                    .col(small_integer(column("priority")))
                    .col(text(column("state")))
                    .col(integer(column("attempts")))
                    .col(integer(column("max_attempts")))
                    .col(big_integer(column("run_at")))
                    .col(big_integer_null(column("announced_at")))
                    .col(big_integer_null(column("lease_until")))
                    .col(text_null(column("worker")))
                    .col(json_binary_null(column("progress")))
                    .col(text_null(column("error")))
                    .col(big_integer(column("created_at")))
                    .col(big_integer(column("updated_at")))
                    .col(big_integer_null(column("finished_at")))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table(column("job_slots"))
                    .if_not_exists()
                    .col(text(column("kind")))
                    .col(big_integer(column("slot")))
                    .col(big_integer(column("taken_at")))
                    .primary_key(Index::create().col(column("kind")).col(column("slot")))
                    .take(),
            )
            .await?;
        // Partial indexes, which the builder cannot write for both databases: the live jobs are few among many.
        for statement in [
            "CREATE UNIQUE INDEX IF NOT EXISTS jobs_unique_key ON jobs (unique_key) WHERE state IN ('queued', 'running')",
            "CREATE INDEX IF NOT EXISTS jobs_queued ON jobs (priority DESC, run_at) WHERE state = 'queued'",
            "CREATE INDEX IF NOT EXISTS jobs_running ON jobs (lease_until) WHERE state = 'running'",
            "CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, id)",
            "CREATE INDEX IF NOT EXISTS jobs_kind ON jobs (kind, state, id)",
            "CREATE INDEX IF NOT EXISTS jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL",
        ] {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
