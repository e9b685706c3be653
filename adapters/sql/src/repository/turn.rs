//! What a worker did and what it does next, on PostgreSQL as one statement: of the six messages there and back that the same takes as a
//! transaction, one is left.

use super::jobs::{claiming, ending, readable};
use crate::{SqlDatabase, entity::jobs as rows, failed, later::shifted};
use omt_kernel::{
    JobId, Result,
    job::{AttemptEnd, JobTurn, JobsTurned},
    port::{Database, turn_jobs_in},
};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, FromQueryResult, QueryTrait, Statement, UpdateMany, Values};
use uuid::Uuid;

/// Does it.
pub(crate) async fn turn(database: &SqlDatabase, turn: &JobTurn<'_>) -> Result<JobsTurned> {
    if database.write.get_database_backend() != DbBackend::Postgres || !is_one_statement(turn) {
        return turn_jobs_in(database.begin().await?, turn).await;
    }
    let mut turned = at_once(&database.write, turn).await?;
    let got = |id: &JobId| turned.claimed.iter().any(|job| job.id == *id);
    let missing: Vec<JobId> = turn.wanted.iter().filter(|id| !got(id)).copied().collect();
    if missing.is_empty() {
        return Ok(turned);
    }
    // One of them may be a job that kills its workers, to which only the longer way puts an end. If that fails, it will be wanted again;
    // what was written stays so.
    let rest = JobTurn { ends: &[], wanted: &missing, ..*turn };
    let more = async { turn_jobs_in(database.begin().await?, &rest).await };
    match more.await {
        Ok(more) => turned.claimed.extend(more.claimed),
        Err(error) => tracing::warn!(%error, jobs = missing.len(), "jobs that were not to be had could not be looked into"),
    }
    Ok(turned)
}

/// Whether one statement can say it: it has the same words for every end, and must not change a row twice.
fn is_one_statement(turn: &JobTurn<'_>) -> bool {
    let plain = turn.ends.iter().all(|end| end.is_plain() && !turn.wanted.contains(&end.job));
    plain && !turn.ends.is_empty() && !turn.wanted.is_empty()
}

/// Jobs that were not to be had are left as they are.
async fn at_once(connection: &DatabaseConnection, turn: &JobTurn<'_>) -> Result<JobsTurned> {
    let mut turned = JobsTurned::default();
    for row in connection.query_all_raw(statement(turn)).await.map_err(failed)? {
        match row.try_get::<Option<Uuid>>("", "ended").map_err(failed)? {
            Some(id) => turned.ended.push(JobId(id)),
            None => turned.claimed.extend(readable(rows::Model::from_query_result(&row, "").map_err(failed)?)),
        }
    }
    Ok(turned)
}

fn statement(turn: &JobTurn<'_>) -> Statement {
    let returning = |mut update: UpdateMany<rows::Entity>| {
        update.query().returning_all();
        let built = update.build(DbBackend::Postgres);
        (built.sql, built.values.map(|values| values.0).unwrap_or_default())
    };
    let done: Vec<JobId> = turn.ends.iter().map(|end| end.job).collect();
    let (ended, mut values) = returning(ending(&done, turn.worker, &AttemptEnd::Done, None, turn.now));
    let (claimed, more) = returning(claiming(turn.wanted, turn.worker, turn.now, turn.lease));
    let claimed = shifted(&claimed, values.len());
    values.extend(more);
    // Rows of the one beside none of the other.
    let sql = format!(
        "WITH ended AS ({ended}), claimed AS ({claimed}) \
         SELECT ended.id AS ended, claimed.* FROM ended FULL JOIN claimed ON FALSE"
    );
    Statement { sql, values: Some(Values(values)), db_backend: DbBackend::Postgres }
}
