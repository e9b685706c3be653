//! Writes whose outcome nobody looks at, sent together.
//!
//! Each statement to SQLite is a message to another thread and one back, and while a transaction writes, everybody else who would
//! waits; to PostgreSQL it is a round trip. So writes that can only succeed or fail wait for the next statement whose answer counts,
//! or for the commit, and go with their like in one message: several statements of SQLite, and one of PostgreSQL that has the inserts
//! into different tables as parts (`WITH … AS (INSERT …) INSERT …`), whose order means nothing.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, QueryTrait, Statement,
    Value, Values,
};
use std::{
    mem,
    sync::{Mutex, PoisonError},
};

/// Values in one message; SQLite binds at most 32,766 to a statement, and there may be several in one.
const MAX_VALUES: usize = 16_000;

/// Whether writes may wait: only in a transaction, whose commit sends them.
pub(crate) trait Waits {
    const MAY_WAIT: bool;
}

impl Waits for DatabaseTransaction {
    const MAY_WAIT: bool = true;
}

impl Waits for DatabaseConnection {
    const MAY_WAIT: bool = false;
}

/// A connection with the writes that wait. Whatever else is asked of it is asked after them.
pub(crate) struct Line<C> {
    connection: C,
    waiting: Mutex<Vec<Statement>>,
}

impl<C: ConnectionTrait + Waits> Line<C> {
    pub(crate) fn new(connection: C) -> Self {
        Self { connection, waiting: Mutex::default() }
    }

    /// Executes a write some time before the next statement or the commit, which then fails where this does.
    pub(crate) async fn later(&self, write: impl QueryTrait) -> Result<(), DbErr> {
        let backend = self.connection.get_database_backend();
        let statement = write.build(backend);
        if C::MAY_WAIT {
            self.waiting().push(statement);
            return Ok(());
        }
        self.connection.execute_raw(statement).await.map(drop)
    }

    /// Sends what waits, where a transaction keeps others out by what it has written and not by having begun.
    pub(crate) async fn keep_out(&self) -> Result<(), DbErr> {
        if self.connection.get_database_backend() == DbBackend::Sqlite { Ok(()) } else { self.send().await }
    }

    /// The connection for questions that no write that waits could change the answer to.
    pub(crate) fn ahead(&self) -> &C {
        &self.connection
    }

    /// The connection itself, when nothing waits any more.
    pub(crate) async fn end(self) -> Result<C, DbErr> {
        self.send().await?;
        Ok(self.connection)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Statement>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self) -> Result<(), DbErr> {
        let waiting = mem::take(&mut *self.waiting());
        let backend = self.connection.get_database_backend();
        let mut message = Message::default();
        for statement in waiting {
            if !message.takes(&statement, backend) {
                self.execute(mem::take(&mut message)).await?;
            }
            message.push(statement);
        }
        self.execute(message).await
    }

    async fn execute(&self, message: Message) -> Result<(), DbErr> {
        match message.into_statement(self.connection.get_database_backend()) {
            Some(statement) => self.connection.execute_raw(statement).await.map(drop),
            None => Ok(()),
        }
    }
}

/// Statements that go together.
#[derive(Default)]
struct Message {
    parts: Vec<String>,
    values: Vec<Value>,
}

impl Message {
    /// Whether one more may come along. PostgreSQL executes the last first, and says nothing of the order of the others.
    fn takes(&self, statement: &Statement, backend: DbBackend) -> bool {
        let more = statement.values.as_ref().map_or(0, |values| values.0.len());
        let fits = self.parts.is_empty() || self.values.len() + more <= MAX_VALUES;
        // What PostgreSQL does in one statement sees the tables as they were before it, so nothing may rest on what comes with it.
        let table = insert_into(&statement.sql);
        let other = |part: &String| insert_into(part).is_some_and(|its| Some(its) != table);
        fits && (backend != DbBackend::Postgres || self.parts.is_empty() || table.is_some() && self.parts.iter().all(other))
    }

    fn push(&mut self, statement: Statement) {
        self.parts.push(if statement.db_backend == DbBackend::Postgres {
            shifted(&statement.sql, self.values.len())
        } else {
            statement.sql
        });
        self.values.extend(statement.values.map(|values| values.0).unwrap_or_default());
    }

    fn into_statement(mut self, backend: DbBackend) -> Option<Statement> {
        let last = self.parts.pop()?;
        let sql = match (backend, self.parts.is_empty()) {
            (_, true) => last,
            (DbBackend::Postgres, false) => {
                let name = |(n, part): (usize, &String)| format!("w{n} AS ({part})");
                let parts: Vec<String> = self.parts.iter().enumerate().map(name).collect();
                format!("WITH {} {last}", parts.join(", "))
            }
            (_, false) => format!("{}; {last}", self.parts.join("; ")),
        };
        Some(Statement { sql, values: Some(Values(self.values)), db_backend: backend })
    }
}

/// The table that an insert goes to, as it is quoted there; none of other statements.
fn insert_into(sql: &str) -> Option<&str> {
    sql.strip_prefix("INSERT INTO ")?.split([' ', '(']).next()
}

/// The same statement with the numbers of its placeholders so much higher. What stands in quotes is left as it is.
pub(crate) fn shifted(sql: &str, by: usize) -> String {
    if by == 0 {
        return sql.to_owned();
    }
    let (mut out, mut rest, mut quote) = (String::with_capacity(sql.len() + 16), sql, None);
    while let Some(at) = rest.find(['$', '\'', '"']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let (mark, after) = from.split_at(1);
        out.push_str(mark);
        rest = after;
        match (mark, quote) {
            ("$", None) => {
                let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                if let Ok(number) = after[..digits].parse::<usize>() {
                    out.push_str(&(number + by).to_string());
                    rest = &after[digits..];
                }
            }
            ("$", Some(_)) => {}
            (mark, None) => quote = Some(mark),
            (mark, Some(open)) if mark == open => quote = None,
            _ => {}
        }
    }
    out.push_str(rest);
    out
}

#[async_trait::async_trait]
impl<C: ConnectionTrait + Waits + Send> ConnectionTrait for Line<C> {
    fn get_database_backend(&self) -> DbBackend {
        self.connection.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.send().await?;
        self.connection.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.send().await?;
        self.connection.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.send().await?;
        self.connection.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.send().await?;
        self.connection.query_all_raw(statement).await
    }

    fn support_returning(&self) -> bool {
        self.connection.support_returning()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SqlDatabase;
    use omt_kernel::{AuditId, OffsetDateTime, TenantId, audit::AuditEntry, port::Database};
    use uuid::Uuid;

    fn entry() -> AuditEntry {
        AuditEntry {
            id: AuditId(Uuid::new_v4()),
            tenant: TenantId::default_tenant(),
            at: OffsetDateTime::UNIX_EPOCH,
            actor: "a".into(),
            action: "test.write".into(),
            resource_kind: "thing".into(),
            resource_id: "1".into(),
            outcome: "done".into(),
            request_id: "r".into(),
            leaf: b"{}".to_vec(),
            index: None,
        }
    }

    fn insert(table: &str, values: usize) -> Statement {
        let places: Vec<String> = (1..=values).map(|n| format!("${n}")).collect();
        let sql = format!("INSERT INTO \"{table}\" (\"a$1\", b) VALUES ('it''s $1', {})", places.join(", "));
        Statement::from_sql_and_values(DbBackend::Postgres, sql, (0..values).map(|n| Value::from(n as i64)).collect::<Vec<_>>())
    }

    #[test]
    fn inserts_into_different_tables_are_one_statement() {
        let mut message = Message::default();
        for statement in [insert("one", 2), insert("two", 11)] {
            assert!(message.takes(&statement, DbBackend::Postgres));
            message.push(statement);
        }
        assert!(!message.takes(&insert("one", 1), DbBackend::Postgres), "the second might rest on the first");
        assert!(!message.takes(&Statement::from_string(DbBackend::Postgres, "DELETE FROM \"three\""), DbBackend::Postgres));
        assert!(!message.takes(&insert("three", MAX_VALUES), DbBackend::Postgres));
        let joined = message.into_statement(DbBackend::Postgres).unwrap();
        assert_eq!(
            joined.sql,
            "WITH w0 AS (INSERT INTO \"one\" (\"a$1\", b) VALUES ('it''s $1', $1, $2)) \
             INSERT INTO \"two\" (\"a$1\", b) VALUES ('it''s $1', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
        );
        assert_eq!(joined.values.unwrap().0.len(), 13);
        assert!(Message::default().into_statement(DbBackend::Postgres).is_none());
    }

    #[tokio::test]
    async fn what_waits_is_seen_fails_by_the_commit_and_goes_with_its_transaction() {
        let dir = tempfile::tempdir().unwrap();
        suite(SqlDatabase::connect(&format!("sqlite:{}", dir.path().join("db").display())).await.unwrap()).await;
        let Some(server) = omt_tests::service("OMT_TEST_POSTGRES") else { return };
        let name = format!("later_{}", Uuid::new_v4().simple());
        let pool = sqlx::PgPool::connect(&server).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&pool).await.unwrap();
        suite(SqlDatabase::connect(&format!("{}/{name}", server.rsplit_once('/').unwrap().0)).await.unwrap()).await;
    }

    async fn suite(database: SqlDatabase) {
        database.migrate().await.unwrap();
        let (tenant, first, second) = (TenantId::default_tenant(), entry(), entry());
        let unit = database.begin().await.unwrap();
        unit.audit().append(&first).await.unwrap();
        unit.audit().append(&second).await.unwrap();
        assert!(unit.audit().find(&tenant, first.id).await.unwrap().is_some(), "a transaction sees its own writes");
        unit.commit().await.unwrap();
        assert!(database.read().await.unwrap().audit().find(&tenant, second.id).await.unwrap().is_some());

        let third = entry();
        let unit = database.begin().await.unwrap();
        unit.audit().append(&third).await.unwrap();
        let refused = match unit.audit().append(&first).await {
            Ok(()) => unit.commit().await,
            refused => refused,
        };
        assert!(refused.is_err(), "a write that waited fails by the commit at the latest");
        assert!(database.read().await.unwrap().audit().find(&tenant, third.id).await.unwrap().is_none(), "nothing of it stays");

        let fourth = entry();
        let unit = database.begin().await.unwrap();
        unit.audit().append(&fourth).await.unwrap();
        drop(unit);
        assert!(database.read().await.unwrap().audit().find(&tenant, fourth.id).await.unwrap().is_none());
        let unit = database.begin().await.unwrap();
        unit.audit().append(&fourth).await.unwrap();
        unit.commit().await.unwrap();
    }
}
