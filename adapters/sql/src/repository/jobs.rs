//! Jobs.

use crate::{
    Finish, Unit,
    entity::{job_slots, jobs as rows},
    failed, instant, micros, word,
};
use async_trait::async_trait;
use omt_kernel::{
    JobId, Result, TenantId,
    job::{AttemptEnd, DueJob, JobFilter, JobRecord, JobState},
    port::{JobRepository, Page},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DbBackend, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Statement, UpdateMany,
    sea_query::{Alias, Expr, ExprTrait, LockBehavior, LockType, OnConflict, Query, SimpleExpr},
};
use serde_json::Value;
use std::cmp::Reverse;
use time::OffsetDateTime;
use uuid::Uuid;

/// Characters of a handler's error that are kept.
const MAX_ERROR: usize = 4_000;

/// Jobs added by one statement, which is prepared once for so many: SQLite binds at most 32,766 values to one, and a job has eighteen.
const AT_ONCE: usize = 100;

fn from_row(row: rows::Model) -> Result<JobRecord> {
    let count = |n: i32| u32::try_from(n).unwrap_or(0);
    Ok(JobRecord {
        id: JobId(row.id),
        tenant: row.tenant.map(|t| TenantId::parse(&t).map_err(omt_kernel::Error::internal)).transpose()?,
        kind: row.kind,
        payload: row.payload,
        unique_key: row.unique_key,
        priority: row.priority,
        state: word(&row.state)?,
        attempts: count(row.attempts),
        max_attempts: count(row.max_attempts),
        run_at: instant(row.run_at)?,
        lease_until: row.lease_until.map(instant).transpose()?,
        worker: row.worker,
        progress: row.progress,
        error: row.error,
        created_at: instant(row.created_at)?,
        updated_at: instant(row.updated_at)?,
        finished_at: row.finished_at.map(instant).transpose()?,
    })
}

/// A job that was claimed. One that cannot be read keeps none of the others from being done; its attempts run out without it.
pub(super) fn readable(row: rows::Model) -> Option<JobRecord> {
    let id = row.id;
    from_row(row).inspect_err(|error| tracing::error!(job = %id, %error, "a job cannot be read")).ok()
}

fn to_row(job: &JobRecord) -> rows::ActiveModel {
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    rows::ActiveModel {
        id: Set(job.id.0),
        tenant: Set(job.tenant.as_ref().map(ToString::to_string)),
        kind: Set(job.kind.clone()),
        payload: Set(job.payload.clone()),
        unique_key: Set(job.unique_key.clone()),
        priority: Set(job.priority),
        state: Set(job.state.to_string()),
        attempts: Set(count(job.attempts)),
        max_attempts: Set(count(job.max_attempts)),
        run_at: Set(micros(job.run_at)),
        announced_at: Set(None),
        lease_until: Set(job.lease_until.map(micros)),
        worker: Set(job.worker.clone()),
        progress: Set(job.progress.clone()),
        error: Set(job.error.clone()),
        created_at: Set(micros(job.created_at)),
        updated_at: Set(micros(job.updated_at)),
        finished_at: Set(job.finished_at.map(micros)),
    }
}

fn is(state: JobState) -> SimpleExpr {
    rows::Column::State.eq(state.as_str())
}

/// Waits for its time no longer, or its worker gave no sign of life.
fn is_due(now: OffsetDateTime) -> Condition {
    Condition::any()
        .add(is(JobState::Queued).and(rows::Column::RunAt.lte(micros(now))))
        .add(is(JobState::Running).and(rows::Column::LeaseUntil.lt(micros(now))))
}

/// One of these. The last is named several times, so that there are few lengths of lists, and as few statements to prepare.
fn among(ids: &[JobId]) -> SimpleExpr {
    let filler = ids.last().into_iter().cycle().take(ids.len().next_power_of_two() - ids.len());
    rows::Column::Id.is_in(ids.iter().chain(filler).map(|id| id.0))
}

/// Those of these jobs of which it is true. The database is to look at these alone: as a condition like others it would have PostgreSQL
/// go through an index of all that are queued or running, until its statistics say how many there are.
fn those(ids: &[JobId], holds: Condition) -> Condition {
    Condition::all()
        .add(among(ids))
        .add(SimpleExpr::Case(Box::new(Expr::case(holds, Expr::cust("TRUE")).finally(Expr::cust("FALSE")))))
}

/// This worker's attempts at these jobs.
fn held(ids: &[JobId], worker: &str) -> Condition {
    those(ids, Condition::all().add(is(JobState::Running)).add(rows::Column::Worker.eq(worker)))
}

/// A worker began it as often as may be.
fn is_spent() -> SimpleExpr {
    rows::Column::Attempts.into_expr().gte(Expr::col(rows::Column::MaxAttempts))
}

/// Gives those of these jobs to a worker that are due and have attempts left.
pub(super) fn claiming(ids: &[JobId], worker: &str, now: OffsetDateTime, lease: OffsetDateTime) -> UpdateMany<rows::Entity> {
    rows::Entity::update_many()
        .col_expr(rows::Column::State, Expr::value(JobState::Running.as_str()))
        .col_expr(rows::Column::Attempts, Expr::col(rows::Column::Attempts).add(1))
        .col_expr(rows::Column::Worker, Expr::value(worker))
        .col_expr(rows::Column::LeaseUntil, Expr::value(micros(lease)))
        .col_expr(rows::Column::UpdatedAt, Expr::value(micros(now)))
        .filter(those(ids, Condition::all().add(is_due(now)).add(is_spent().not())))
}

/// Ends this worker's attempts.
pub(super) fn ending(
    ids: &[JobId],
    worker: &str,
    end: &AttemptEnd,
    progress: Option<&Value>,
    now: OffsetDateTime,
) -> UpdateMany<rows::Entity> {
    let mut update = rows::Entity::update_many()
        .col_expr(rows::Column::UpdatedAt, Expr::value(micros(now)))
        .col_expr(rows::Column::LeaseUntil, Expr::value(Option::<i64>::None));
    if let Some(progress) = progress {
        update = update.col_expr(rows::Column::Progress, Expr::value(progress.clone()));
    }
    let finished = |update: UpdateMany<rows::Entity>, state: JobState| {
        update
            .col_expr(rows::Column::State, Expr::value(state.as_str()))
            .col_expr(rows::Column::FinishedAt, Expr::value(micros(now)))
    };
    let update = match end {
        AttemptEnd::Done => finished(update, JobState::Done).col_expr(rows::Column::Error, Expr::value(Option::<String>::None)),
        AttemptEnd::Dead(why) => finished(update, JobState::Dead).col_expr(rows::Column::Error, Expr::value(cut(why))),
        AttemptEnd::Postponed(at) => update
            .col_expr(rows::Column::State, Expr::value(JobState::Queued.as_str()))
            .col_expr(rows::Column::Attempts, Expr::col(rows::Column::Attempts).sub(1))
            .col_expr(rows::Column::RunAt, Expr::value(micros(*at)))
            .col_expr(rows::Column::AnnouncedAt, Expr::value(Option::<i64>::None)),
        AttemptEnd::RetryAt(at, why) => update
            .col_expr(rows::Column::State, Expr::value(JobState::Queued.as_str()))
            .col_expr(rows::Column::RunAt, Expr::value(micros(*at)))
            .col_expr(rows::Column::AnnouncedAt, Expr::value(Option::<i64>::None))
            .col_expr(rows::Column::Error, Expr::value(cut(why))),
    };
    update.filter(held(ids, worker))
}

/// Whatever constraint refuses the row.
fn ignore() -> OnConflict {
    OnConflict::new().do_nothing().to_owned()
}

fn inserted(done: std::result::Result<u64, DbErr>) -> Result<bool> {
    match done {
        Ok(rows) => Ok(rows == 1),
        Err(DbErr::RecordNotInserted) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_ERROR).collect()
}

#[derive(FromQueryResult)]
struct Due {
    id: Uuid,
    kind: String,
    announced_at: Option<i64>,
    priority: i16,
    run_at: i64,
}

#[derive(FromQueryResult)]
struct Count {
    kind: String,
    state: String,
    number: i64,
}

#[async_trait]
impl<C: Finish> JobRepository for Unit<C> {
    async fn enqueue_all(&self, jobs: &[JobRecord]) -> Result<Vec<JobId>> {
        let mut added = Vec::new();
        for part in jobs.chunks(AT_ONCE) {
            let mut insert = rows::Entity::insert_many(part.iter().map(to_row)).on_conflict(ignore());
            for row in self.connection.query_all(insert.query().returning_col(rows::Column::Id)).await.map_err(failed)? {
                added.push(JobId(row.try_get("", "id").map_err(failed)?));
            }
        }
        Ok(added)
    }

    async fn living(&self, unique_key: &str) -> Result<Option<JobRecord>> {
        let found = rows::Entity::find()
            .filter(rows::Column::UniqueKey.eq(unique_key))
            .filter(rows::Column::State.is_in([JobState::Queued.as_str(), JobState::Running.as_str()]))
            .one(&self.connection);
        found.await.map_err(failed)?.map(from_row).transpose()
    }

    async fn take_slot(&self, kind: &str, slot: i64, now: OffsetDateTime) -> Result<bool> {
        let row = job_slots::ActiveModel { kind: Set(kind.to_owned()), slot: Set(slot), taken_at: Set(micros(now)) };
        inserted(job_slots::Entity::insert(row).on_conflict(ignore()).exec_without_returning(&self.connection).await)
    }

    async fn last_slot_taken_at(&self, kind: &str) -> Result<Option<OffsetDateTime>> {
        let last = job_slots::Entity::find()
            .filter(job_slots::Column::Kind.eq(kind))
            .order_by_desc(job_slots::Column::TakenAt)
            .one(&self.connection)
            .await
            .map_err(failed)?;
        last.map(|row| instant(row.taken_at)).transpose()
    }

    async fn due(&self, kinds: &[&str], now: OffsetDateTime, limit: u32) -> Result<Vec<DueJob>> {
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        let backend = self.connection.get_database_backend();
        let sqlite = backend == DbBackend::Sqlite;
        let mut values: Vec<sea_orm::Value> = Vec::new();
        let mut place = |value: sea_orm::Value| {
            values.push(value);
            if sqlite { "?".to_owned() } else { format!("${}", values.len()) }
        };
        // Two questions, each with an index that is in its order or has few rows: with one condition both would have neither. SQLite,
        // which keeps no account of what there is how often, takes another where it is not told.
        let mut question = |state: &str, time: &str, index: &str| {
            let by = if sqlite { format!("INDEXED BY {index}") } else { String::new() };
            let now = place(micros(now).into());
            let kinds: Vec<String> = kinds.iter().map(|kind| place((*kind).into())).collect();
            format!(
                "SELECT * FROM (SELECT id, kind, announced_at, priority, run_at FROM jobs {by} WHERE state = '{state}' \
                 AND {time} {now} AND kind IN ({}) ORDER BY priority DESC, run_at LIMIT {}) AS {state}",
                kinds.join(", "),
                place(i64::from(limit).into())
            )
        };
        let (queued, running) =
            (question("queued", "run_at <=", "jobs_queued"), question("running", "lease_until <", "jobs_running"));
        let statement = Statement::from_sql_and_values(backend, format!("{queued} UNION ALL {running}"), values);
        let mut found = Due::find_by_statement(statement).all(&self.connection).await.map_err(failed)?;
        found.sort_by_key(|row| (Reverse(row.priority), row.run_at));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let due =
            |row: Due| Ok(DueJob { id: JobId(row.id), kind: row.kind, announced_at: row.announced_at.map(instant).transpose()? });
        found.into_iter().map(due).collect()
    }

    async fn announced(&self, ids: &[JobId], now: OffsetDateTime) -> Result<()> {
        let mut told = Condition::all().add(among(ids));
        if self.connection.get_database_backend() == DbBackend::Postgres {
            // Those that a worker is claiming or ending need no note, and waiting for them could be waiting in a circle.
            let free = Query::select()
                .column(rows::Column::Id)
                .from(rows::Entity)
                .cond_where(told)
                .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
                .to_owned();
            told = Condition::all().add(rows::Column::Id.in_subquery(free));
        }
        rows::Entity::update_many()
            .col_expr(rows::Column::AnnouncedAt, Expr::value(micros(now)))
            .filter(told)
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn claim(&self, ids: &[JobId], worker: &str, now: OffsetDateTime, lease: OffsetDateTime) -> Result<Vec<JobRecord>> {
        let claimed = claiming(ids, worker, now, lease).exec_with_returning(&self.connection).await.map_err(failed)?;
        if claimed.len() < ids.len() {
            // A job whose workers died at every attempt is poison, whatever kills them.
            rows::Entity::update_many()
                .col_expr(rows::Column::State, Expr::value(JobState::Dead.as_str()))
                .col_expr(rows::Column::Error, Expr::value("its workers ended without an answer, at the last attempt too"))
                .col_expr(rows::Column::FinishedAt, Expr::value(micros(now)))
                .col_expr(rows::Column::UpdatedAt, Expr::value(micros(now)))
                .filter(those(ids, Condition::all().add(is_due(now)).add(is_spent())))
                .exec(&self.connection)
                .await
                .map_err(failed)?;
        }
        Ok(claimed.into_iter().filter_map(readable).collect())
    }

    async fn renew(&self, id: JobId, worker: &str, lease: OffsetDateTime, progress: Option<&Value>) -> Result<bool> {
        let mut update = rows::Entity::update_many().col_expr(rows::Column::LeaseUntil, Expr::value(micros(lease)));
        if let Some(progress) = progress {
            update = update.col_expr(rows::Column::Progress, Expr::value(progress.clone()));
        }
        let done = update.filter(held(&[id], worker)).exec(&self.connection).await.map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn end(
        &self,
        ids: &[JobId],
        worker: &str,
        end: &AttemptEnd,
        progress: Option<&Value>,
        now: OffsetDateTime,
    ) -> Result<Vec<JobId>> {
        let ended = ending(ids, worker, end, progress, now).exec_with_returning(&self.connection).await.map_err(failed)?;
        Ok(ended.into_iter().map(|row| JobId(row.id)).collect())
    }

    async fn get(&self, id: JobId) -> Result<Option<JobRecord>> {
        self.get_job(id).await
    }

    async fn list(&self, filter: &JobFilter, page: Page) -> Result<Vec<JobRecord>> {
        let mut query = rows::Entity::find();
        if let Some(state) = filter.state {
            query = query.filter(is(state));
        }
        if let Some(kind) = &filter.kind {
            query = query.filter(rows::Column::Kind.eq(kind));
        }
        if let Some(tenant) = &filter.tenant {
            query = query.filter(rows::Column::Tenant.eq(tenant.as_str()));
        }
        if let Some(after) = page.after {
            query = query.filter(rows::Column::Id.lt(after));
        }
        let found =
            query.order_by_desc(rows::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await.map_err(failed)?;
        found.into_iter().map(from_row).collect()
    }

    async fn cancel(&self, id: JobId, now: OffsetDateTime) -> Result<bool> {
        let done = rows::Entity::update_many()
            .col_expr(rows::Column::State, Expr::value(JobState::Cancelled.as_str()))
            .col_expr(rows::Column::FinishedAt, Expr::value(micros(now)))
            .col_expr(rows::Column::UpdatedAt, Expr::value(micros(now)))
            .filter(rows::Column::Id.eq(id.0))
            .filter(rows::Column::State.is_in([JobState::Queued.as_str(), JobState::Running.as_str()]))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn replay(&self, id: JobId, now: OffsetDateTime) -> Result<bool> {
        let Some(job) = self.get_job(id).await? else { return Ok(false) };
        if let Some(key) = &job.unique_key
            && self.living(key).await?.is_some()
        {
            return Ok(false);
        }
        let done = rows::Entity::update_many()
            .col_expr(rows::Column::State, Expr::value(JobState::Queued.as_str()))
            .col_expr(rows::Column::Attempts, Expr::value(0))
            .col_expr(rows::Column::RunAt, Expr::value(micros(now)))
            .col_expr(rows::Column::AnnouncedAt, Expr::value(Option::<i64>::None))
            .col_expr(rows::Column::FinishedAt, Expr::value(Option::<i64>::None))
            .col_expr(rows::Column::UpdatedAt, Expr::value(micros(now)))
            .filter(rows::Column::Id.eq(id.0))
            .filter(rows::Column::State.is_in([JobState::Dead.as_str(), JobState::Cancelled.as_str()]))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn counts(&self) -> Result<Vec<(String, String, u64)>> {
        let found = rows::Entity::find()
            .select_only()
            .columns([rows::Column::Kind, rows::Column::State])
            .column_as(rows::Column::Id.count(), "number")
            .group_by(rows::Column::Kind)
            .group_by(rows::Column::State)
            .into_model::<Count>()
            .all(&self.connection)
            .await
            .map_err(failed)?;
        Ok(found.into_iter().map(|c| (c.kind, c.state, c.number.unsigned_abs())).collect())
    }

    async fn forget(&self, before: OffsetDateTime) -> Result<u64> {
        // The last one of each kind tells after a year, too, that its time was not missed.
        let (newer, kind, taken) = (Alias::new("newer"), job_slots::Column::Kind, job_slots::Column::TakenAt);
        let later = Query::select()
            .expr(Expr::value(1))
            .from_as(job_slots::Entity, newer.clone())
            .and_where(Expr::col((newer.clone(), kind)).equals((job_slots::Entity, kind)))
            .and_where(Expr::col((newer, taken)).gt(Expr::col((job_slots::Entity, taken))))
            .to_owned();
        job_slots::Entity::delete_many()
            .filter(taken.lt(micros(before)))
            .filter(Expr::exists(later))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        let gone = rows::Entity::delete_many()
            .filter(rows::Column::FinishedAt.lt(micros(before)))
            .filter(rows::Column::State.is_in([JobState::Done.as_str(), JobState::Cancelled.as_str()]))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(gone.rows_affected)
    }
}

impl<C: Finish> Unit<C> {
    async fn get_job(&self, id: JobId) -> Result<Option<JobRecord>> {
        rows::Entity::find_by_id(id.0).one(&self.connection).await.map_err(failed)?.map(from_row).transpose()
    }
}
