//! A read replica of PostgreSQL, which lists are asked of while it answers.

use omt_kernel::{Error, Kind, Result};
use sea_orm::{DatabaseConnection, SqlxPostgresConnector};
use sqlx::postgres::{PgPool, PgPoolOptions};
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// For so long an answer counts, and a silence too.
const LOOK: Duration = Duration::from_secs(1);
/// A replica that is slower is no help.
const PATIENCE: Duration = Duration::from_millis(500);
const CONNECTIONS: u32 = 16;

/// The replica.
pub(crate) struct Replica {
    connection: DatabaseConnection,
    /// When it was last looked whether it answers, and whether it did.
    seen: Mutex<Option<(Instant, bool)>>,
}

impl Replica {
    /// The replica at a URL; it may be away.
    pub(crate) fn new(url: &str) -> Result<(Self, PgPool)> {
        let wrong = |words: &str| Error::new(Kind::Invalid, "BAD_CONFIGURATION", format!("database.replica_url {words}"));
        if !url.starts_with("postgres") {
            return Err(wrong("must begin with postgres:"));
        }
        let options = crate::tls::options(url).map_err(|error| wrong("cannot be read").caused_by(error))?;
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE).connect_lazy_with(options);
        let connection = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
        Ok((Self { connection, seen: Mutex::default() }, pool))
    }

    /// A connection to it, where it answers.
    pub(crate) async fn connection(&self) -> Option<DatabaseConnection> {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = match seen {
            Some((at, answers)) if at.elapsed() < LOOK => answers,
            before => {
                let answers = tokio::time::timeout(PATIENCE, self.connection.ping()).await.is_ok_and(|pinged| pinged.is_ok());
                if before.is_none_or(|(_, answered)| answered) && !answers {
                    tracing::warn!("the read replica does not answer; the primary answers for it");
                } else if before.is_some_and(|(_, answered)| !answered) && answers {
                    tracing::info!("the read replica answers again");
                }
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), answers));
                answers
            }
        };
        answers.then(|| self.connection.clone())
    }
}

#[cfg(test)]
mod tests {
    use crate::SqlDatabase;
    use omt_kernel::port::Database;
    use uuid::Uuid;

    async fn made(server: &str) -> String {
        let name = format!("replica_{}", Uuid::new_v4().simple());
        let pool = sqlx::PgPool::connect(server).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&pool).await.unwrap();
        format!("{}/{name}", server.rsplit_once('/').unwrap().0)
    }

    #[tokio::test]
    async fn lists_are_asked_of_the_replica_and_of_the_primary_while_it_is_away() {
        let Some(server) = omt_tests::service("OMT_TEST_POSTGRES") else { return };
        let (primary, other) = (made(&server).await, made(&server).await);
        SqlDatabase::connect(&primary).await.unwrap().migrate().await.unwrap();
        // Another database stands for a replica that is behind: it has no schema yet.
        let database = SqlDatabase::connect(&primary).await.unwrap().with_replica(&other).unwrap();
        let tenants = async |database: &SqlDatabase| database.replica().await.unwrap().blobs().usage(None).await;
        assert!(tenants(&database).await.is_err(), "it is the replica that is asked");
        assert!(database.read().await.unwrap().blobs().usage(None).await.is_ok());
        let away = SqlDatabase::connect(&primary).await.unwrap().with_replica("postgres://omt@127.0.0.1:1/omt").unwrap();
        assert!(tenants(&away).await.is_ok(), "the primary answers");
        assert!(SqlDatabase::connect(&primary).await.unwrap().with_replica("sqlite:x").is_err());
    }
}
