//! The database on SQLite and PostgreSQL through sea-orm.
//!
//! SQLite has one connection for writers, so that writers queue in this process instead of failing, and several for readers.
//! Every commit is durable; on SQLite those that come together share a sync (`wal`).

#[cfg(test)]
mod contract;
mod entity;
mod fault;
mod later;
mod pace;
mod replica;
mod repository;
mod tls;
mod wal;

pub(crate) use crate::fault::failed;
pub use crate::tls::unverified;
use crate::{
    fault::{is_missing_table, not_begun, not_reached, unavailable},
    later::{Line, Waits},
    replica::Replica,
    repository::turn,
};
pub use pace::SqlPace;

use async_trait::async_trait;
use omt_kernel::{
    Error, Kind, OffsetDateTime, Result, TenantId, TenantSettings,
    gate::SyncGate,
    job::{JobTurn, JobsTurned},
    port::{
        ApiKeyRepository, AuditRepository, BadgeRepository, BlobRepository, CertificateRepository, ComplianceRepository,
        Database, DocumentRepository, GroupRepository, IdempotencyRepository, JobRepository, ManifestRepository,
        NotificationRepository, RoleRepository, SessionRepository, TaskRepository, TenantRepository, Tended, UnitOfWork,
        UserRepository, VerificationRepository, WebhookRepository, WorkflowRepository,
    },
};
use omt_migrations::Migrator;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode, SqlxPostgresConnector,
    SqlxSqliteConnector, Statement, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;
use sqlx::{
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{str::FromStr, sync::Arc, time::Duration};

/// How long a writer waits for another process that writes the same SQLite file.
const SQLITE_PATIENCE: Duration = Duration::from_secs(5);

/// A pool, as far as its size is asked for.
enum Pool {
    Sqlite(sqlx::SqlitePool),
    Postgres(sqlx::PgPool),
}

impl Pool {
    fn size(&self) -> u64 {
        u64::from(match self {
            Self::Sqlite(pool) => pool.size(),
            Self::Postgres(pool) => pool.size(),
        })
    }
    fn idle(&self) -> u64 {
        match self {
            Self::Sqlite(pool) => pool.num_idle() as u64,
            Self::Postgres(pool) => pool.num_idle() as u64,
        }
    }
}

/// Connections that write, those that read, the pools beneath, and what makes commits durable where the database does not.
type Connected = (DatabaseConnection, DatabaseConnection, Vec<Pool>, Option<Arc<SyncGate>>);

/// The database.
pub struct SqlDatabase {
    write: DatabaseConnection,
    read: DatabaseConnection,
    replica: Option<Replica>,
    pools: Vec<Pool>,
    gate: Option<Arc<SyncGate>>,
    description: String,
}

/// How many migrations are applied and how many this build knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaStatus {
    /// Applied and known.
    pub applied: usize,
    /// Known, not yet applied.
    pub pending: usize,
    /// Applied by a newer build.
    pub unknown: usize,
}

impl SqlDatabase {
    /// Connects to `sqlite:PATH` or `postgres://…`. A missing SQLite file is made. A PostgreSQL server on another host must have a
    /// certificate for its name that is trusted, unless the URL's `sslmode` says otherwise.
    pub async fn connect(url: &str) -> Result<Self> {
        let scheme = url.split(':').next().unwrap_or_default();
        let (write, read, pools, gate) = match scheme {
            "sqlite" => Self::sqlite(url).await,
            "postgres" | "postgresql" => Self::postgres(url).await,
            _ => {
                return Err(Error::new(Kind::Invalid, "BAD_CONFIGURATION", "database.url must begin with sqlite: or postgres:"));
            }
        }
        .map_err(not_reached)?;
        let description = if scheme == "sqlite" { url.to_owned() } else { omt_kernel::url::without_secret(url) };
        Ok(Self { write, read, replica: None, pools, gate, description })
    }

    /// The same, with a read replica of PostgreSQL for lists. It may be away: then the primary answers for it.
    pub fn with_replica(mut self, url: &str) -> Result<Self> {
        let (replica, pool) = Replica::new(url)?;
        self.replica = Some(replica);
        self.pools.push(Pool::Postgres(pool));
        Ok(self)
    }

    async fn sqlite(url: &str) -> sqlx::Result<Connected> {
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            // Whoever finds the file busy for so long is told so, and may try again (`omt_kernel::retry`).
            .busy_timeout(SQLITE_PATIENCE)
            .foreign_keys(true)
            .pragma("cache_size", "-16000")
            // Checkpoints sync two files while a writer waits: rarely, then.
            .pragma("wal_autocheckpoint", "4000")
            .statement_cache_capacity(256);
        let gate = wal::gate(options.get_filename())?;
        let pool = |size: u32| SqlitePoolOptions::new().max_connections(size).acquire_timeout(Duration::from_secs(10));
        let write = pool(1).connect_with(options.clone()).await?;
        let read = pool(4).connect_with(options).await?;
        let pools = vec![Pool::Sqlite(write.clone()), Pool::Sqlite(read.clone())];
        let (write, read) = (SqlxSqliteConnector::from_sqlx_sqlite_pool(write), SqlxSqliteConnector::from_sqlx_sqlite_pool(read));
        Ok((write, read, pools, Some(Arc::new(gate))))
    }

    async fn postgres(url: &str) -> sqlx::Result<Connected> {
        let options = tls::options(url)?;
        let pool =
            PgPoolOptions::new().max_connections(16).acquire_timeout(Duration::from_secs(10)).connect_with(options).await?;
        let connection = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
        Ok((connection.clone(), connection, vec![Pool::Postgres(pool)], None))
    }

    /// What it is, without its password.
    pub fn describe(&self) -> &str {
        &self.description
    }

    /// Applies pending migrations, one process at a time.
    pub async fn migrate(&self) -> Result<()> {
        if self.write.get_database_backend() != DbBackend::Postgres {
            Migrator::up(&self.write, None).await.map_err(failed)?;
            return self.durable().await;
        }
        let turn = self.write.begin().await.map_err(not_begun)?;
        advisory_lock(&turn, "migrations").await.map_err(failed)?;
        Migrator::up(&self.write, None).await.map_err(failed)?;
        turn.commit().await.map_err(failed)
    }

    /// Says how many days entries of the audit log are kept, 0 for ever; false when it is so already. Entries that are older may
    /// go from now on, and the database refuses to let younger ones go.
    pub async fn keep_audit_for(&self, days: u32) -> Result<bool> {
        let statement = format!("UPDATE audit_retention SET days = {days} WHERE days <> {days}");
        // Asked first: who may not change it need not, where it is right.
        let same = format!("SELECT 1 FROM audit_retention WHERE days = {days}");
        let same = Statement::from_string(self.read.get_database_backend(), same);
        if self.read.query_one_raw(same).await.map_err(failed)?.is_some() {
            return Ok(false);
        }
        let changed = self.write.execute_unprepared(&statement).await.map_err(failed)?.rows_affected() > 0;
        self.durable().await?;
        Ok(changed)
    }

    /// Waits until what was written outside of a unit of work is on disk.
    async fn durable(&self) -> Result<()> {
        match &self.gate {
            Some(gate) => gate.pass().await,
            None => Ok(()),
        }
    }

    /// Compares the schema with this build.
    pub async fn schema_status(&self) -> Result<SchemaStatus> {
        let known: Vec<String> = Migrator::migrations().iter().map(|m| m.name().to_owned()).collect();
        let applied = match entity::applied_migrations(&self.read).await {
            // No table of migrations: nothing was applied.
            Err(error) if is_missing_table(&error) => Vec::new(),
            found => found.map_err(failed)?,
        };
        let unknown = applied.iter().filter(|name| !known.contains(name)).count();
        let applied = applied.len() - unknown;
        Ok(SchemaStatus { applied, pending: known.len() - applied, unknown })
    }

    /// Whether the schema is the one that this build knows: [`Kind::Unavailable`] `SCHEMA_TOO_NEW` or `SCHEMA_TOO_OLD` if not.
    pub async fn check_schema(&self) -> Result<()> {
        let status = self.schema_status().await?;
        if status.unknown > 0 {
            return Err(Error::new(Kind::Unavailable, "SCHEMA_TOO_NEW", "the database was migrated by a newer version"));
        }
        if status.pending > 0 {
            return Err(Error::new(Kind::Unavailable, "SCHEMA_TOO_OLD", "the database has an older schema than this version"));
        }
        Ok(())
    }

    /// Whether it takes writes: a row is written as requests write theirs, and rolled back.
    pub async fn try_writing(&self) -> Result<()> {
        let unit = self.begin().await?;
        let nobody = TenantId::parse("writing-is-tried").map_err(Error::internal)?;
        unit.tenants().put(&nobody, &TenantSettings::default(), OffsetDateTime::UNIX_EPOCH).await
    }

    /// Closes the connections after what is under way.
    pub async fn close(&self) {
        // Closing a pool twice, or one that never opened, changes nothing.
        let _ = self.write.clone().close().await;
        let _ = self.read.clone().close().await;
    }
}

/// Waits for a lock of PostgreSQL that ends with the transaction.
async fn advisory_lock(connection: &impl ConnectionTrait, name: &str) -> std::result::Result<(), DbErr> {
    let statement = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    let name = format!("openmediatrust:{name}");
    connection.query_one_raw(Statement::from_sql_and_values(DbBackend::Postgres, statement, [name.into()])).await.map(drop)
}

/// One transaction, or a plain connection for reads.
pub(crate) struct Unit<C> {
    pub(crate) connection: Line<C>,
    /// What its commit waits for.
    gate: Option<Arc<SyncGate>>,
}

#[async_trait]
impl Database for SqlDatabase {
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>> {
        // On SQLite the lock is taken now, not at the first write, where waiting for it is no longer possible.
        let options =
            TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() };
        let connection = self.write.begin_with_options(options).await.map_err(not_begun)?;
        Ok(Box::new(Unit { connection: Line::new(connection), gate: self.gate.clone() }))
    }
    async fn read(&self) -> Result<Box<dyn UnitOfWork>> {
        Ok(Box::new(Unit { connection: Line::new(self.read.clone()), gate: None }))
    }
    async fn replica(&self) -> Result<Box<dyn UnitOfWork>> {
        let found = match &self.replica {
            Some(replica) => replica.connection().await,
            None => None,
        };
        Ok(Box::new(Unit { connection: Line::new(found.unwrap_or_else(|| self.read.clone())), gate: None }))
    }
    async fn check(&self) -> Result<()> {
        self.write.ping().await.map_err(unavailable("answer"))
    }
    async fn tend(&self) -> Result<Tended> {
        if self.write.get_database_backend() != DbBackend::Postgres {
            return Ok(Tended::default());
        }
        let ask = async |function: &str| {
            let statement = Statement::from_string(DbBackend::Postgres, format!("SELECT {function}() AS n"));
            let row = self.write.query_one_raw(statement).await.map_err(failed)?;
            let number = row.map(|row| row.try_get::<i64>("", "n")).transpose().map_err(failed)?;
            Ok::<u64, Error>(number.unwrap_or(0).unsigned_abs())
        };
        Ok(Tended { made: ask("partitions_ahead").await?, gone: ask("partitions_past").await? })
    }
    fn writes_in_parallel(&self) -> bool {
        self.write.get_database_backend() == DbBackend::Postgres
    }
    async fn turn_jobs(&self, turn: &JobTurn<'_>) -> Result<JobsTurned> {
        turn::turn(self, turn).await
    }
    fn connections(&self) -> Vec<(&'static str, u64)> {
        let (open, idle) = (self.pools.iter().map(Pool::size).sum::<u64>(), self.pools.iter().map(Pool::idle).sum::<u64>());
        vec![("in_use", open.saturating_sub(idle)), ("idle", idle)]
    }
}

/// How a unit ends.
#[async_trait]
pub(crate) trait Finish: ConnectionTrait + Waits + Send + Sync + 'static {
    async fn finish(self) -> Result<()>;
}

#[async_trait]
impl Finish for DatabaseTransaction {
    async fn finish(self) -> Result<()> {
        self.commit().await.map_err(failed)
    }
}

#[async_trait]
impl Finish for DatabaseConnection {
    async fn finish(self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl<C: Finish> UnitOfWork for Unit<C> {
    fn manifests(&self) -> &dyn ManifestRepository {
        self
    }
    fn verifications(&self) -> &dyn VerificationRepository {
        self
    }
    fn users(&self) -> &dyn UserRepository {
        self
    }
    fn sessions(&self) -> &dyn SessionRepository {
        self
    }
    fn roles(&self) -> &dyn RoleRepository {
        self
    }
    fn groups(&self) -> &dyn GroupRepository {
        self
    }
    fn api_keys(&self) -> &dyn ApiKeyRepository {
        self
    }
    fn audit(&self) -> &dyn AuditRepository {
        self
    }
    fn tenants(&self) -> &dyn TenantRepository {
        self
    }
    fn idempotency(&self) -> &dyn IdempotencyRepository {
        self
    }
    fn certificates(&self) -> &dyn CertificateRepository {
        self
    }
    fn jobs(&self) -> &dyn JobRepository {
        self
    }
    fn blobs(&self) -> &dyn BlobRepository {
        self
    }
    fn workflows(&self) -> &dyn WorkflowRepository {
        self
    }
    fn tasks(&self) -> &dyn TaskRepository {
        self
    }
    fn compliance(&self) -> &dyn ComplianceRepository {
        self
    }
    fn documents(&self) -> &dyn DocumentRepository {
        self
    }
    fn notifications(&self) -> &dyn NotificationRepository {
        self
    }
    fn webhooks(&self) -> &dyn WebhookRepository {
        self
    }
    fn badges(&self) -> &dyn BadgeRepository {
        self
    }
    async fn lock(&self, name: &str) -> Result<()> {
        // On SQLite a transaction that may write is alone from its beginning.
        if self.connection.get_database_backend() == DbBackend::Postgres {
            advisory_lock(&self.connection, name).await.map_err(failed)?;
        }
        Ok(())
    }
    async fn commit(self: Box<Self>) -> Result<()> {
        self.connection.end().await.map_err(failed)?.finish().await?;
        match self.gate {
            Some(gate) => gate.pass().await,
            None => Ok(()),
        }
    }
}

/// A tenant's name as the domain knows it.
pub(crate) fn tenant_id(text: &str) -> Result<omt_kernel::TenantId> {
    omt_kernel::TenantId::parse(text).map_err(Error::internal)
}

/// Whether a row was inserted, where `on_conflict` may have kept it out.
pub(crate) fn inserted(done: std::result::Result<u64, DbErr>) -> Result<bool> {
    match done {
        Ok(rows) => Ok(rows == 1),
        Err(DbErr::RecordNotInserted) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Time as the database keeps it.
pub(crate) fn micros(at: omt_kernel::OffsetDateTime) -> i64 {
    (at.unix_timestamp_nanos() / 1000) as i64
}

/// Time as the domain knows it.
pub(crate) fn instant(micros: i64) -> Result<omt_kernel::OffsetDateTime> {
    // A time that an offset takes out of the years that can be written is as late as can be, or as early: nothing that stands in
    // a row may keep the row from being read.
    let (least, most) = (time::PrimitiveDateTime::MIN.assume_utc(), time::PrimitiveDateTime::MAX.assume_utc());
    let nanos = (i128::from(micros) * 1000).clamp(least.unix_timestamp_nanos(), most.unix_timestamp_nanos());
    omt_kernel::OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .map_err(|e| Error::internal("a time in the database is out of range").caused_by(e))
}

/// A word of the domain that the database holds as text.
pub(crate) fn word<T: FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::internal(format!("the database holds the unknown word {text:?}")))
}

/// A JSON column as a type of the domain.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| Error::internal("a JSON column does not fit its type").caused_by(e))
}

/// A type of the domain as a JSON column.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|e| Error::internal("a record cannot be written as JSON").caused_by(e))
}
