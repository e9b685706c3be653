//! The audit log. Triggers refuse to change or remove entries, their places and signed tree heads, whoever asks.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend},
};

#[derive(DeriveMigrationName)]
pub struct Migration;

const FIXED: &[&str] = &["audit_entries", "audit_places", "audit_checkpoints"];

fn tables(bytes: &str, id: &str, number: &str) -> Vec<String> {
    let create = |name: &str, columns: String| format!("CREATE TABLE IF NOT EXISTS {name} ({columns})");
    let index = |name: &str, columns: &str| format!("CREATE INDEX IF NOT EXISTS audit_{name} ON audit_entries ({columns})");
    vec![
        create(
            "audit_entries",
            format!(
                "id {id} PRIMARY KEY NOT NULL, tenant text NOT NULL, at {number} NOT NULL, actor text NOT NULL, \
                 action text NOT NULL, resource_kind text NOT NULL, resource_id text NOT NULL, outcome text NOT NULL, \
                 request_id text NOT NULL, leaf {bytes} NOT NULL"
            ),
        ),
        index("entries_list", "tenant, id"),
        index("entries_actor", "tenant, actor, id"),
        index("entries_action", "tenant, action, id"),
        index("entries_resource", "tenant, resource_id, id"),
        create("audit_waiting", format!("id {id} PRIMARY KEY NOT NULL")),
        create("audit_places", format!("place {number} PRIMARY KEY NOT NULL, id {id} NOT NULL UNIQUE")),
        create(
            "audit_people",
            format!(
                "pseudonym text PRIMARY KEY NOT NULL, tenant text NOT NULL, subject text NOT NULL, name text NOT NULL, \
                 salt {bytes} NOT NULL, UNIQUE (tenant, subject)"
            ),
        ),
        create(
            "audit_checkpoints",
            format!("size {number} PRIMARY KEY NOT NULL, root {bytes} NOT NULL, note text NOT NULL, at {number} NOT NULL"),
        ),
    ]
}

fn postgres_triggers() -> Vec<String> {
    let mut out = vec![
        "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
            .to_owned(),
        "CREATE OR REPLACE FUNCTION audit_wait() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN INSERT INTO audit_waiting (id) VALUES (NEW.id); RETURN NULL; END $$"
            .to_owned(),
        "CREATE OR REPLACE TRIGGER audit_wait AFTER INSERT ON audit_entries FOR EACH ROW EXECUTE FUNCTION audit_wait()"
            .to_owned(),
    ];
    for table in FIXED {
        out.push(format!(
            "CREATE OR REPLACE TRIGGER audit_refuse BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION audit_refuse()"
        ));
        out.push(format!(
            "CREATE OR REPLACE TRIGGER audit_refuse_all BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
        ));
    }
    out
}

fn sqlite_triggers() -> Vec<String> {
    let mut out = vec![
        "CREATE TRIGGER IF NOT EXISTS audit_wait AFTER INSERT ON audit_entries \
         BEGIN INSERT INTO audit_waiting (id) VALUES (new.id); END"
            .to_owned(),
    ];
    for table in FIXED {
        for event in ["UPDATE", "DELETE"] {
            out.push(format!(
                "CREATE TRIGGER IF NOT EXISTS {table}_no_{} BEFORE {event} ON {table} \
                 BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END",
                event.to_lowercase()
            ));
        }
    }
    out
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let postgres = manager.get_database_backend() == DbBackend::Postgres;
        let (bytes, id) = if postgres { ("bytea", "uuid") } else { ("blob", "uuid_text") };
        let triggers = if postgres { postgres_triggers() } else { sqlite_triggers() };
        for statement in tables(bytes, id, "bigint").into_iter().chain(triggers) {
            manager.get_connection().execute_unprepared(&statement).await?;
        }
        Ok(())
    }
}
