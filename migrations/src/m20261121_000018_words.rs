//! Search for words: what a manifest can be found by as a text (`omt_kernel::search`), and an index over its words. PostgreSQL keeps
//! them as a `tsvector`, SQLite in a full-text table (FTS5). Rows that are there get theirs now, from all that they say.
//!
//! Neither database cuts the text into words by rules of its own: it is words between spaces already.

use omt_kernel::search::{Said, document};
use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement, Value},
};
use uuid::Uuid;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Rows that are read and written at once.
const ROWS: usize = 500;
const COLUMN: &str = "ALTER TABLE manifests ADD COLUMN search_text text NOT NULL DEFAULT ''";

/// An older version that takes a creator's name out of a record leaves it in the text, which then goes as a whole.
const POSTGRES: [&str; 7] = [
    "CREATE FUNCTION manifest_words(document text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ \
     SELECT coalesce(string_agg('''' || word || ''':' || place, ' '), '')::tsvector \
     FROM unnest(string_to_array(btrim(document), ' ')) WITH ORDINALITY AS words (word, place) WHERE word NOT IN ('', '¶') $$",
    "ALTER TABLE manifests ADD COLUMN search tsvector GENERATED ALWAYS AS (manifest_words(search_text)) STORED",
    "CREATE INDEX manifests_search ON manifests USING gin (search)",
    // Always by the index: how many rows have several frequent words at once is not in any statistics.
    "CREATE FUNCTION manifests_said(asked tsquery, most bigint) RETURNS SETOF uuid LANGUAGE sql STABLE STRICT \
     SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off AS \
     $$ SELECT id FROM manifests WHERE search @@ asked LIMIT most $$",
    "CREATE FUNCTION manifest_search_stale() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.search_text := ''; RETURN NEW; END $$",
    "CREATE TRIGGER manifest_search_stale BEFORE UPDATE ON manifests FOR EACH ROW \
     WHEN (NEW.creator IS DISTINCT FROM OLD.creator AND NEW.search_text = OLD.search_text) \
     EXECUTE FUNCTION manifest_search_stale()",
    // A new column has no statistics before.
    "ANALYZE manifests",
];

const SQLITE: [&str; 8] = [
    "CREATE VIRTUAL TABLE manifest_words USING fts5(words, content='', contentless_delete=1, tokenize='ascii')",
    "INSERT INTO manifest_words (rowid, words) \
     SELECT t.number, m.search_text FROM manifests m JOIN manifest_titles t ON t.id = m.id",
    "DROP TRIGGER manifest_search_insert",
    "CREATE TRIGGER manifest_search_insert AFTER INSERT ON manifests BEGIN \
       INSERT INTO manifest_titles (id) VALUES (new.id); \
       INSERT INTO manifest_search (rowid, title) SELECT number, new.title_folded FROM manifest_titles WHERE id = new.id; \
       INSERT INTO manifest_words (rowid, words) SELECT number, new.search_text FROM manifest_titles WHERE id = new.id; \
     END",
    "CREATE TRIGGER manifest_words_update AFTER UPDATE OF search_text ON manifests \
     WHEN old.search_text <> new.search_text BEGIN \
       DELETE FROM manifest_words WHERE rowid = (SELECT number FROM manifest_titles WHERE id = new.id); \
       INSERT INTO manifest_words (rowid, words) SELECT number, new.search_text FROM manifest_titles WHERE id = new.id; \
     END",
    "CREATE TRIGGER manifest_search_stale AFTER UPDATE OF creator ON manifests \
     WHEN old.creator <> new.creator AND old.search_text = new.search_text AND new.search_text <> '' BEGIN \
       UPDATE manifests SET search_text = '' WHERE id = new.id; \
     END",
    "DROP TRIGGER manifest_search_delete",
    "CREATE TRIGGER manifest_search_delete AFTER DELETE ON manifests BEGIN \
       DELETE FROM manifest_search WHERE rowid = (SELECT number FROM manifest_titles WHERE id = old.id); \
       DELETE FROM manifest_words WHERE rowid = (SELECT number FROM manifest_titles WHERE id = old.id); \
       DELETE FROM manifest_titles WHERE id = old.id; \
     END",
];

/// What a row says, as the text that it is found by.
fn text_of(row: &QueryResult) -> Result<String, DbErr> {
    let word = |name: &str| row.try_get::<Option<String>>("", name);
    let (title, creator): (String, String) = (row.try_get("", "title")?, row.try_get("", "creator")?);
    let (department, project, organization) = (word("department")?, word("project")?, word("organization")?);
    let file_name = word("file_name")?;
    let (definition, metadata): (serde_json::Value, serde_json::Value) =
        (row.try_get("", "definition")?, row.try_get("", "metadata")?);
    Ok(document(&Said {
        title: &title,
        creator: &creator,
        department: department.as_deref(),
        project: project.as_deref(),
        organization: organization.as_deref(),
        file_name: file_name.as_deref(),
        definition: &definition,
        metadata: &metadata,
    }))
}

/// Gives every row its text, in the order of identifiers.
async fn fill(connection: &impl ConnectionTrait, backend: DbBackend) -> Result<(), DbErr> {
    let is_postgres = backend == DbBackend::Postgres;
    let place = if is_postgres { "$1" } else { "?" };
    let pair = |n: usize| match is_postgres {
        true => format!("(CAST(${} AS uuid), ${})", n * 2 + 1, n * 2 + 2),
        false => "(?, ?)".to_owned(),
    };
    let mut after = Uuid::nil();
    loop {
        let select = format!(
            "SELECT id, title, creator, department, project, organization, file_name, definition, metadata FROM manifests \
             WHERE id > {place} ORDER BY id LIMIT {ROWS}"
        );
        let rows = connection.query_all_raw(Statement::from_sql_and_values(backend, select, [after.into()])).await?;
        let mut values: Vec<Value> = Vec::with_capacity(rows.len() * 2);
        for row in &rows {
            after = row.try_get("", "id")?;
            values.extend([after.into(), text_of(row)?.into()]);
        }
        if rows.is_empty() {
            return Ok(());
        }
        let pairs = (0..rows.len()).map(pair).collect::<Vec<_>>().join(", ");
        let update =
            format!("UPDATE manifests SET search_text = said.column2 FROM (VALUES {pairs}) AS said WHERE id = said.column1");
        connection.execute_raw(Statement::from_sql_and_values(backend, update, values)).await?;
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All of it or nothing, on every database.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let (connection, backend) = (manager.get_connection(), manager.get_database_backend());
        connection.execute_unprepared(COLUMN).await?;
        fill(connection, backend).await?;
        let statements: &[&str] = if backend == DbBackend::Postgres { &POSTGRES } else { &SQLITE };
        for statement in statements {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
