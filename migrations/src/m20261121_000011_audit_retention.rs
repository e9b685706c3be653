//! How long the audit log is kept. The database itself lets entries go once they are older than that, and no younger one, whoever
//! asks; what was kept for ever so far stays so.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend},
};

#[derive(DeriveMigrationName)]
pub struct Migration;

const TABLE: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS audit_retention \
     (id integer PRIMARY KEY NOT NULL CHECK (id = 1), days bigint NOT NULL CHECK (days = 0 OR days >= 30))",
    "INSERT INTO audit_retention (id, days) SELECT 1, 0 WHERE NOT EXISTS (SELECT 1 FROM audit_retention)",
];

const POSTGRES: [&str; 4] = [
    "CREATE OR REPLACE FUNCTION audit_expire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     IF EXISTS (SELECT 1 FROM audit_retention WHERE days > 0 \
                AND OLD.at < (floor(extract(epoch FROM now()))::bigint - days * 86400) * 1000000) \
        AND EXISTS (SELECT 1 FROM audit_places WHERE id = OLD.id) THEN RETURN OLD; END IF; \
     RAISE EXCEPTION 'the audit log is append-only'; END $$",
    "CREATE OR REPLACE FUNCTION audit_leave() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     IF NOT EXISTS (SELECT 1 FROM audit_entries WHERE id = OLD.id) THEN RETURN OLD; END IF; \
     RAISE EXCEPTION 'the audit log is append-only'; END $$",
    "DROP TRIGGER IF EXISTS audit_refuse ON audit_entries; \
     CREATE TRIGGER audit_refuse BEFORE UPDATE ON audit_entries FOR EACH ROW EXECUTE FUNCTION audit_refuse(); \
     CREATE OR REPLACE TRIGGER audit_expire BEFORE DELETE ON audit_entries FOR EACH ROW EXECUTE FUNCTION audit_expire()",
    "DROP TRIGGER IF EXISTS audit_refuse ON audit_places; \
     CREATE TRIGGER audit_refuse BEFORE UPDATE ON audit_places FOR EACH ROW EXECUTE FUNCTION audit_refuse(); \
     CREATE OR REPLACE TRIGGER audit_leave BEFORE DELETE ON audit_places FOR EACH ROW EXECUTE FUNCTION audit_leave()",
];

/// REPLACE fires no trigger for the row that it removes.
const SQLITE: [&str; 7] = [
    "CREATE TRIGGER IF NOT EXISTS audit_entries_no_replace BEFORE INSERT ON audit_entries \
     WHEN EXISTS (SELECT 1 FROM audit_entries WHERE id = NEW.id) \
     BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END",
    "CREATE TRIGGER IF NOT EXISTS audit_places_no_replace BEFORE INSERT ON audit_places \
     WHEN EXISTS (SELECT 1 FROM audit_places WHERE place = NEW.place OR id = NEW.id) \
     BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END",
    "CREATE TRIGGER IF NOT EXISTS audit_checkpoints_no_replace BEFORE INSERT ON audit_checkpoints \
     WHEN EXISTS (SELECT 1 FROM audit_checkpoints WHERE size = NEW.size) \
     BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END",
    "DROP TRIGGER IF EXISTS audit_entries_no_delete",
    "CREATE TRIGGER audit_entries_no_delete BEFORE DELETE ON audit_entries \
     WHEN NOT EXISTS (SELECT 1 FROM audit_retention WHERE days > 0 \
                      AND OLD.at < (CAST(strftime('%s', 'now') AS integer) - days * 86400) * 1000000) \
       OR NOT EXISTS (SELECT 1 FROM audit_places WHERE id = OLD.id) \
     BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END",
    "DROP TRIGGER IF EXISTS audit_places_no_delete",
    "CREATE TRIGGER audit_places_no_delete BEFORE DELETE ON audit_places \
     WHEN EXISTS (SELECT 1 FROM audit_entries WHERE id = OLD.id) \
     BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All of it or nothing, on every database.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let triggers: &[&str] = if manager.get_database_backend() == DbBackend::Postgres { &POSTGRES } else { &SQLITE };
        for statement in TABLE.iter().chain(triggers) {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
