//! What a worker did and what it does next, on PostgreSQL as one statement: of the six messages there and back that the same takes as a
//! transaction, one is left.

use super::jobs::{claiming, ending, readable};
use crate::{entity::jobs as rows, failed, later::shifted};
use omt_kernel::{
    JobId, Result,
    job::{AttemptEnd, JobTurn, JobsTurned},
};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, FromQueryResult, QueryTrait, Statement, UpdateMany, Values};
use uuid::Uuid;

/// Whether one statement can say it. It must not change a row twice.
pub(crate) fn is_one_statement(turn: &JobTurn<'_>) -> bool {
    !turn.done.is_empty() && !turn.wanted.is_empty() && !turn.done.iter().any(|id| turn.wanted.contains(id))
}

/// Does it. Jobs that were not to be had are left as they are.
pub(crate) async fn turn(connection: &DatabaseConnection, turn: &JobTurn<'_>) -> Result<JobsTurned> {
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
    let (ended, mut values) = returning(ending(turn.done, turn.worker, &AttemptEnd::Done, None, turn.now));
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
