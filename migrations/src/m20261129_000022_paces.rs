//! What callers took of what they may, added up over processes while there is no cache that does it: by caller, when all of it will
//! have come back. Nothing is lost with it, so PostgreSQL need not write it twice.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend},
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All of it or nothing, on every database.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let unlogged = if manager.get_database_backend() == DbBackend::Postgres { "UNLOGGED " } else { "" };
        let table =
            format!("CREATE {unlogged}TABLE IF NOT EXISTS paces (caller text PRIMARY KEY NOT NULL, back_at bigint NOT NULL)");
        manager.get_connection().execute_unprepared(&table).await.map(drop)
    }
}
