//! What callers took of what they may, added up in the database: for replicas that share no cache, or whose cache is away. It is
//! asked about once a second by each process, and by nobody who waits.

use crate::{SqlDatabase, failed, micros};
use async_trait::async_trait;
use omt_kernel::{
    Error, Result,
    port::{Clock, SharedPace},
};
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// Callers in one statement.
const AT_ONCE: usize = 200;
/// Accounts after which callers that have been quiet are forgotten.
const TIDY: u32 = 256;

/// Paces in the database.
pub struct SqlPace {
    database: Arc<SqlDatabase>,
    clock: Arc<dyn Clock>,
    accounts: AtomicU32,
}

fn length(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

/// Adds what each of these took, at a time: the columns are the caller and when everything is back.
fn statement(backend: DbBackend, taken: &[&(String, Duration)], now: i64) -> Statement {
    let (later, place): (_, fn(usize) -> String) = match backend {
        DbBackend::Postgres => ("GREATEST", |n| format!("${n}")),
        _ => ("MAX", |_| "?".to_owned()),
    };
    let row =
        |(n, (_, time)): (usize, &&(String, Duration))| format!("({}, {})", place(n + 1), now.saturating_add(length(*time)));
    let rows: Vec<String> = taken.iter().enumerate().map(row).collect();
    let text = format!(
        "INSERT INTO paces (caller, back_at) VALUES {} ON CONFLICT (caller) DO UPDATE \
         SET back_at = {later}(paces.back_at, {now}) + excluded.back_at - {now} RETURNING caller, back_at",
        rows.join(", ")
    );
    Statement::from_sql_and_values(backend, text, taken.iter().map(|(caller, _)| caller.as_str().into()))
}

#[async_trait]
impl SharedPace for SqlPace {
    async fn settle(&self, taken: &[(String, Duration)]) -> Result<Vec<Duration>> {
        let write = &self.database.write;
        let backend = write.get_database_backend();
        let now = micros(self.clock.now());
        let mut back: HashMap<String, i64> = HashMap::with_capacity(taken.len());
        // In the order of names, so that processes wait for each other and not in a circle.
        let mut ordered: Vec<&(String, Duration)> = taken.iter().collect();
        ordered.sort_by(|a, b| a.0.cmp(&b.0));
        let turn = write.begin().await.map_err(failed)?;
        for some in ordered.chunks(AT_ONCE) {
            for row in turn.query_all_raw(statement(backend, some, now)).await.map_err(failed)? {
                back.insert(row.try_get("", "caller").map_err(failed)?, row.try_get("", "back_at").map_err(failed)?);
            }
        }
        if self.accounts.fetch_add(1, Ordering::Relaxed) % TIDY == TIDY - 1 {
            turn.execute_unprepared(&format!("DELETE FROM paces WHERE back_at < {now}")).await.map_err(failed)?;
        }
        turn.commit().await.map_err(failed)?;
        let left = |(caller, _): &(String, Duration)| {
            let at = back.get(caller).ok_or_else(|| Error::internal("a pace was not kept"))?;
            Ok(Duration::from_micros(u64::try_from(at - now).unwrap_or(0)))
        };
        taken.iter().map(left).collect()
    }
}

impl SqlPace {
    /// Paces in this database, by this clock.
    pub fn new(database: Arc<SqlDatabase>, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock, accounts: AtomicU32::new(0) }
    }
}
