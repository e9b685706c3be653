//! Background jobs.

use crate::{
    ApiState,
    extract::{Caller, may},
    found::Found,
    problem::{Problem, ProblemBody},
    wire::{PageQuery, Paged},
};
use actix_web::{HttpResponse, web};
use omt_jobs::{Recurring, Timing};
use omt_kernel::{
    Error, JobId, TenantId,
    job::{JobFilter, JobRecord, JobState},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// A background job.
#[derive(Serialize, ToSchema)]
pub struct Job {
    /// Identifier.
    id: Uuid,
    /// Whose it is; null for the platform's own.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// What kind of work.
    #[schema(example = "housekeeping")]
    kind: String,
    /// `queued`, `running`, `done`, `dead` or `cancelled`.
    #[schema(example = "done")]
    state: String,
    /// How often a worker began it.
    attempts: u32,
    /// How often a worker may begin it.
    max_attempts: u32,
    /// Higher goes first.
    priority: i16,
    /// What it works on.
    #[schema(value_type = Object)]
    payload: Value,
    /// How far it is, in its own words.
    #[schema(value_type = Option<Object>)]
    progress: Option<Value>,
    /// Why the last attempt failed.
    error: Option<String>,
    /// The worker that runs or last ran it.
    worker: Option<String>,
    /// Not before this.
    #[serde(with = "time::serde::rfc3339")]
    run_at: OffsetDateTime,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// Last change.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    /// When it ended for good.
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
}

impl From<JobRecord> for Job {
    fn from(job: JobRecord) -> Self {
        Self {
            id: job.id.0,
            tenant: job.tenant,
            kind: job.kind,
            state: job.state.to_string(),
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            priority: job.priority,
            payload: job.payload,
            progress: job.progress,
            error: job.error,
            worker: job.worker,
            run_at: job.run_at,
            created_at: job.created_at,
            updated_at: job.updated_at,
            finished_at: job.finished_at,
        }
    }
}

/// Which jobs to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct JobQuery {
    /// `queued`, `running`, `done`, `dead` (the dead letters) or `cancelled`.
    state: Option<String>,
    /// Only this kind.
    kind: Option<String>,
    /// Items on the page, 1 to 200; 50 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists jobs, newest first: your tenant's; with `admin:system:config` everybody's and the platform's own.
#[utoipa::path(get, path = "/api/v1/admin/jobs", tag = "admin", params(JobQuery), security(("bearer" = [])), responses((status = 200, body = Paged<Job>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn list(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminJobRead>,
    query: web::Query<JobQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    let unknown = || {
        let known: Vec<&str> = JobState::ALL.iter().map(|s| s.as_str()).collect();
        Error::invalid_field("INVALID_QUERY", "state", format!("is not one of {}", known.join(", ")))
    };
    let wanted = query.state.map(|s| s.parse().map_err(|()| unknown())).transpose()?;
    let filter = JobFilter { state: wanted, kind: query.kind, tenant: None };
    let jobs = state.jobs.list(&caller.0, filter, page).await?;
    Ok(HttpResponse::Ok().json(Paged::of(jobs, page, |j| j.id.0, Job::from)))
}

/// A kind of job that recurs by itself.
#[derive(Serialize, ToSchema)]
pub struct JobSchedule {
    /// What kind of work.
    #[schema(example = "sweep")]
    kind: &'static str,
    /// `interval` or `cron`.
    #[schema(example = "cron")]
    mode: &'static str,
    /// The period in words, or the cron expression and its time zone.
    #[schema(example = "30 3 * * SUN Europe/Berlin")]
    schedule: String,
    /// When it is due next.
    #[serde(with = "time::serde::rfc3339::option")]
    next_run_at: Option<OffsetDateTime>,
    /// The last job of the kind; null when none is remembered.
    last_run: Option<Job>,
}

/// Recurring jobs.
#[derive(Serialize, ToSchema)]
pub struct JobSchedules {
    /// By kind.
    items: Vec<JobSchedule>,
}

impl From<Recurring> for JobSchedule {
    fn from(recurring: Recurring) -> Self {
        let Recurring { kind, timing, next, last } = recurring;
        let mode = if matches!(timing, Timing::Cron(_)) { "cron" } else { "interval" };
        Self { kind, mode, schedule: timing.to_string(), next_run_at: next, last_run: last.map(Job::from) }
    }
}

/// When each kind of recurring job is due, and the last of them. They are the platform's own: without `admin:system:config` the
/// list is empty.
#[utoipa::path(get, path = "/api/v1/admin/jobs/schedules", tag = "admin", security(("bearer" = [])), responses((status = 200, body = JobSchedules), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn schedules(state: web::Data<ApiState>, caller: Caller<may::AdminJobRead>) -> Result<HttpResponse, Problem> {
    let found = state.jobs.recurring(&caller.0, &state.timings).await?;
    Ok(HttpResponse::Ok().json(JobSchedules { items: found.into_iter().map(JobSchedule::from).collect() }))
}

/// One job, with its progress.
#[utoipa::path(get, path = "/api/v1/admin/jobs/{id}", tag = "admin", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = Job), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn get(job: Found<may::AdminJobRead, JobRecord>) -> HttpResponse {
    HttpResponse::Ok().json(Job::from(job.thing))
}

/// Queues a dead or cancelled job again, with all its attempts.
#[utoipa::path(post, path = "/api/v1/admin/jobs/{id}/retry", tag = "admin", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = Job), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "WRONG_JOB_STATE, JOB_EXISTS")))]
pub async fn retry(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminJobs>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(Job::from(state.jobs.replay(&caller.0, JobId(*id)).await?)))
}

/// Calls a queued or running job off; one that runs stops within seconds.
#[utoipa::path(post, path = "/api/v1/admin/jobs/{id}/cancel", tag = "admin", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = Job), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "WRONG_JOB_STATE")))]
pub async fn cancel(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminJobs>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(Job::from(state.jobs.cancel(&caller.0, JobId(*id)).await?)))
}
