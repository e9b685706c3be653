//! Blobs that are being removed from a place: from before the store is asked until it has answered, and for a while where nobody heard
//! the answer. Meanwhile the database itself refuses to have a record name them there.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend},
};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `place` is a tier, or `replica`; until when the removal may still be done.
fn table(id: &str) -> [String; 2] {
    [
        format!(
            "CREATE TABLE IF NOT EXISTS doomed_blobs (id {id} PRIMARY KEY NOT NULL, tenant text NOT NULL, sha256 text NOT NULL, \
             place text NOT NULL, until bigint NOT NULL)"
        ),
        "CREATE INDEX IF NOT EXISTS doomed_blobs_named ON doomed_blobs (sha256, tenant, place)".to_owned(),
    ]
}

const POSTGRES: [&str; 3] = [
    "CREATE OR REPLACE FUNCTION blobs_doomed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     IF EXISTS (SELECT 1 FROM doomed_blobs WHERE sha256 = NEW.sha256 AND tenant = NEW.tenant \
                AND place = coalesce(TG_ARGV[0], NEW.tier) \
                AND until > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) \
     THEN RAISE EXCEPTION 'the blob is doomed' USING ERRCODE = 'OM001'; END IF; \
     RETURN NEW; END $$",
    "CREATE OR REPLACE TRIGGER blobs_doomed BEFORE INSERT OR UPDATE OF tier ON blobs \
     FOR EACH ROW EXECUTE FUNCTION blobs_doomed()",
    "CREATE OR REPLACE TRIGGER blobs_doomed_copy BEFORE UPDATE OF replicated_at ON blobs \
     FOR EACH ROW WHEN (NEW.replicated_at IS NOT NULL) EXECUTE FUNCTION blobs_doomed('replica')",
];

fn sqlite(name: &str, event: &str, condition: &str, place: &str) -> String {
    format!(
        "CREATE TRIGGER IF NOT EXISTS {name} BEFORE {event} ON blobs WHEN {condition} EXISTS (SELECT 1 FROM doomed_blobs \
         WHERE sha256 = NEW.sha256 AND tenant = NEW.tenant AND place = {place} \
         AND until > CAST(strftime('%s', 'now') AS integer) * 1000000) \
         BEGIN SELECT RAISE(ABORT, 'the blob is doomed'); END"
    )
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All of it or nothing, on every database.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let statements: Vec<String> = if manager.get_database_backend() == DbBackend::Postgres {
            table("uuid").into_iter().chain(POSTGRES.map(str::to_owned)).collect()
        } else {
            let triggers = [
                sqlite("blobs_doomed_new", "INSERT", "", "NEW.tier"),
                sqlite("blobs_doomed_moved", "UPDATE OF tier", "", "NEW.tier"),
                sqlite("blobs_doomed_copy", "UPDATE OF replicated_at", "NEW.replicated_at IS NOT NULL AND", "'replica'"),
            ];
            table("blob").into_iter().chain(triggers).collect()
        };
        for statement in statements {
            manager.get_connection().execute_unprepared(&statement).await?;
        }
        Ok(())
    }
}
