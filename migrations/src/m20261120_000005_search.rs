//! Search for a part of a title by trigrams: an index of PostgreSQL (`pg_trgm`), a full-text table of SQLite (FTS5).

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

const POSTGRES: &[&str] = &[
    // A trusted extension: the database's owner may create it.
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    "CREATE INDEX IF NOT EXISTS manifests_title ON manifests USING gin (title_folded gin_trgm_ops)",
];

// The full-text table has row numbers of its own, kept in a table with a key, because VACUUM may change those of `manifests`.
const SQLITE: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS manifest_titles (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE)",
    "CREATE VIRTUAL TABLE IF NOT EXISTS manifest_search USING fts5(title, content='', contentless_delete=1, detail='none', \
     tokenize='trigram case_sensitive 1')",
    "INSERT INTO manifest_titles (id) SELECT id FROM manifests",
    "INSERT INTO manifest_search (rowid, title) \
     SELECT t.number, m.title_folded FROM manifests m JOIN manifest_titles t ON t.id = m.id",
    "CREATE TRIGGER IF NOT EXISTS manifest_search_insert AFTER INSERT ON manifests BEGIN \
       INSERT INTO manifest_titles (id) VALUES (new.id); \
       INSERT INTO manifest_search (rowid, title) SELECT number, new.title_folded FROM manifest_titles WHERE id = new.id; \
     END",
    "CREATE TRIGGER IF NOT EXISTS manifest_search_update AFTER UPDATE OF title_folded ON manifests \
     WHEN old.title_folded <> new.title_folded BEGIN \
       DELETE FROM manifest_search WHERE rowid = (SELECT number FROM manifest_titles WHERE id = new.id); \
       INSERT INTO manifest_search (rowid, title) SELECT number, new.title_folded FROM manifest_titles WHERE id = new.id; \
     END",
    "CREATE TRIGGER IF NOT EXISTS manifest_search_delete AFTER DELETE ON manifests BEGIN \
       DELETE FROM manifest_search WHERE rowid = (SELECT number FROM manifest_titles WHERE id = old.id); \
       DELETE FROM manifest_titles WHERE id = old.id; \
     END",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let statements = if manager.get_database_backend() == DbBackend::Postgres { POSTGRES } else { SQLITE };
        for statement in statements {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
