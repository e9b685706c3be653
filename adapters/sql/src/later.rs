//! Writes whose outcome nobody looks at, sent together.
//!
//! Each statement to SQLite is a message to another thread and one back, and while a transaction writes, everybody else who would
//! waits. So inserts that can only succeed or fail wait for the next statement whose answer counts, or for the commit, and go with
//! their like in one message.

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
        if C::MAY_WAIT && backend == DbBackend::Sqlite {
            self.waiting().push(statement);
            return Ok(());
        }
        self.connection.execute_raw(statement).await.map(drop)
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
        let mut message: Option<(String, Vec<Value>)> = None;
        for statement in waiting {
            let values = statement.values.map(|values| values.0).unwrap_or_default();
            match &mut message {
                Some((sql, all)) if all.len() + values.len() <= MAX_VALUES => {
                    sql.push_str("; ");
                    sql.push_str(&statement.sql);
                    all.extend(values);
                }
                _ => {
                    self.execute(message.replace((statement.sql, values))).await?;
                }
            }
        }
        self.execute(message).await
    }

    async fn execute(&self, message: Option<(String, Vec<Value>)>) -> Result<(), DbErr> {
        let Some((sql, values)) = message else { return Ok(()) };
        let backend = self.connection.get_database_backend();
        self.connection.execute_raw(Statement { sql, values: Some(Values(values)), db_backend: backend }).await.map(drop)
    }
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

    #[tokio::test]
    async fn what_waits_is_seen_fails_by_the_commit_and_goes_with_its_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let database = SqlDatabase::connect(&format!("sqlite:{}", dir.path().join("db").display())).await.unwrap();
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
