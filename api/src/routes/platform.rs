//! Tenants, and the platform at a glance.

use crate::{
    ApiState,
    extract::{Caller, CallerWith, may},
    problem::{Problem, ProblemBody},
};
use actix_web::{HttpResponse, web};
use omt_jobs::ArchiveOrder;
use omt_kernel::{Actor, Error, FieldError, Kind, TenantId, TenantSettings, manifest::Classification};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// A tenant to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantRequest {
    /// Its name: lower-case letters, digits and inner hyphens.
    #[schema(example = "acme")]
    id: String,
    /// Its settings; the keys of `[tenant_defaults]` in the configuration. What is absent has its default.
    #[serde(default)]
    settings: Option<Value>,
    /// Its first administrator; without one, only keys made by those who run the platform reach it.
    administrator: Option<Administrator>,
}

/// A tenant's first administrator.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Administrator {
    /// Login name.
    #[schema(example = "admin")]
    username: String,
    /// Password, to be changed.
    password: String,
}

/// A tenant's settings.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsRequest {
    /// The keys of `[tenant_defaults]` in the configuration. What is absent has its default.
    settings: Value,
}

/// A tenant.
#[derive(Serialize, ToSchema)]
pub struct Tenant {
    /// Its name.
    id: String,
    /// Its settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Value>,
    /// Creation.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    created_at: Option<time::OffsetDateTime>,
}

/// What to archive.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveRequest {
    /// Signed manifests made so many days ago or earlier.
    #[schema(example = 365)]
    older_than_days: u32,
    /// Only this department's.
    department: Option<String>,
    /// Only this project's.
    project: Option<String>,
    /// Only of this classification.
    classification: Option<String>,
}

/// The job that does it.
#[derive(Serialize, ToSchema)]
pub struct ArchiveResponse {
    /// The job: GET /api/v1/admin/jobs/{id} says how far it is.
    job: uuid::Uuid,
}

/// A page of tenants.
#[derive(Serialize, ToSchema)]
pub struct Tenants {
    /// By name.
    items: Vec<Tenant>,
    /// Pass it as `cursor` for the next page; null on the last.
    next_cursor: Option<String>,
}

/// Which tenants to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TenantQuery {
    /// Items on the page, 1 to 200; 50 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The tenant at a glance.
#[derive(Serialize, ToSchema)]
pub struct Overview {
    /// Manifests, archived ones too.
    total_manifests: u64,
    /// Users.
    total_users: u64,
    /// Manifests made since midnight UTC.
    manifests_today: u64,
    /// Verifications kept since midnight UTC.
    verifications_today: u64,
    /// Stored bytes of every tier, in units of 10⁹.
    storage_used_gb: f64,
}

fn settings(value: Option<Value>) -> Result<TenantSettings, Error> {
    let Some(value) = value else { return Ok(TenantSettings::default()) };
    serde_json::from_value(value).map_err(|e| Error::unprocessable_field("INVALID_SETTINGS", "settings", e.to_string()))
}

fn tenant(name: &str) -> Result<TenantId, Error> {
    TenantId::parse(name).map_err(|reason| Error::unprocessable_field("INVALID_TENANT", "id", reason))
}

fn shown(id: String, settings: &TenantSettings) -> Tenant {
    Tenant { id, settings: serde_json::to_value(settings).ok(), created_at: None }
}

/// Lists tenants by name, for those who run the platform.
#[utoipa::path(get, path = "/api/v1/admin/tenants", tag = "admin", params(TenantQuery), security(("bearer" = [])), responses((status = 200, body = Tenants), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn list(
    state: web::Data<ApiState>,
    caller: Caller<may::SeeConfiguration>,
    query: web::Query<TenantQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = query.limit.unwrap_or(50);
    if !(1..=200).contains(&limit) {
        return Err(Error::invalid_field("INVALID_QUERY", "limit", "must be 1 to 200").into());
    }
    let bad = |_| Error::invalid_field("INVALID_CURSOR", "cursor", "is not a cursor of this list");
    let after = query.cursor.as_deref().map(TenantId::parse).transpose().map_err(bad)?;
    let mut found = state.access.tenants(&caller.0, after.as_ref(), limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next_cursor = found.last().filter(|_| more).map(|(id, _)| id.to_string());
    let items = found.into_iter().map(|(id, at)| Tenant { id: id.to_string(), settings: None, created_at: Some(at) }).collect();
    Ok(HttpResponse::Ok().json(Tenants { items, next_cursor }))
}

/// Makes a tenant.
#[utoipa::path(post, path = "/api/v1/admin/tenants", tag = "admin", request_body = TenantRequest, security(("bearer" = [])), responses((status = 201, body = Tenant), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 409, body = ProblemBody, description = "TENANT_EXISTS"), (status = 422, body = ProblemBody, description = "INVALID_TENANT, INVALID_SETTINGS, INVALID_FIELD, WEAK_PASSWORD")))]
pub async fn create(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminSystem, TenantRequest>,
) -> Result<HttpResponse, Problem> {
    let (id, settings) = (tenant(&body.id)?, settings(body.settings)?);
    check_names(&state, &actor, &id, &settings).await?;
    let administrator = body.administrator.map(|first| (first.username, first.password));
    state.access.create_tenant(&actor, id, settings.clone(), administrator).await?;
    Ok(HttpResponse::Created().json(shown(body.id, &settings)))
}

/// A tenant's settings.
#[utoipa::path(get, path = "/api/v1/admin/tenants/{id}", tag = "admin", params(("id" = String, Path,)), security(("bearer" = [])), responses((status = 200, body = Tenant), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn get(
    state: web::Data<ApiState>,
    caller: Caller<may::SeeConfiguration>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let name = TenantId::parse(&id).map_err(|_| Error::not_found("tenant"))?;
    let settings = state.access.tenant(&caller.0, &name).await?;
    Ok(HttpResponse::Ok().json(shown(id.into_inner(), &settings)))
}

/// Refuses names of definitions and policies that the tenant does not have: nothing could ever be approved by them.
async fn check_names(state: &ApiState, actor: &Actor, tenant: &TenantId, settings: &TenantSettings) -> Result<(), Problem> {
    let there = Actor { tenant: tenant.clone(), ..actor.clone() };
    let mut wrong = Vec::new();
    let mut note = |field: &str, classification: &Classification, name: &str, found: omt_kernel::Result<()>| match found {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind, Kind::NotFound | Kind::Unprocessable) => {
            let reason = format!("there is no {name:?} of its kind");
            wrong.push(FieldError { field: format!("settings.{field}.{classification}"), reason });
            Ok(())
        }
        Err(error) => Err(error),
    };
    for (classification, name) in &settings.approval {
        let found = state.workflows.definition_version(&there, name, None).await.map(drop);
        note("approval", classification, name, found)?;
    }
    for (classification, names) in &settings.compliance {
        for name in names {
            let found = state.compliance.check_names(&there, &[name.clone()].into()).await;
            note("compliance", classification, name, found)?;
        }
    }
    for (classification, names) in &settings.policies {
        for name in names {
            let found = state.policies.get(&there, name, None).await.map(drop);
            note("policies", classification, name, found)?;
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let mut error = Error::new(Kind::Unprocessable, "INVALID_SETTINGS", "the settings name what the tenant does not have");
    error.fields = wrong;
    Err(error.into())
}

/// Replaces a tenant's settings.
#[utoipa::path(put, path = "/api/v1/admin/tenants/{id}", tag = "admin", params(("id" = String, Path,)), request_body = SettingsRequest, security(("bearer" = [])), responses((status = 200, body = Tenant), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "CONFIGURED_TENANT"), (status = 422, body = ProblemBody, description = "INVALID_SETTINGS")))]
pub async fn update(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminSystem, SettingsRequest>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let name = TenantId::parse(&id).map_err(|_| Error::not_found("tenant"))?;
    let settings = settings(Some(body.settings))?;
    // First whether the caller may know what that tenant has.
    state.access.tenant(&actor, &name).await?;
    check_names(&state, &actor, &name, &settings).await?;
    state.access.update_tenant(&actor, &name, settings.clone()).await?;
    Ok(HttpResponse::Ok().json(shown(id.into_inner(), &settings)))
}

/// The tenant at a glance.
#[utoipa::path(get, path = "/api/v1/admin/metrics", tag = "admin", security(("bearer" = [])), responses((status = 200, body = Overview), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn overview(state: web::Data<ApiState>, caller: Caller<may::MetricsRead>) -> Result<HttpResponse, Problem> {
    let tenant = &caller.0.tenant;
    let midnight = state.clock.now().replace_time(time::Time::MIDNIGHT);
    let read = state.database.replica().await?;
    let bytes: u64 = read.blobs().usage(Some(tenant)).await?.iter().map(|usage| usage.bytes).sum();
    Ok(HttpResponse::Ok().json(Overview {
        total_manifests: read.manifests().count(tenant, None).await?,
        total_users: read.users().count(Some(tenant)).await?,
        manifests_today: read.manifests().count(tenant, Some(midnight)).await?,
        verifications_today: read.verifications().count(tenant, midnight).await?,
        storage_used_gb: bytes as f64 / 1e9,
    }))
}

/// Archives the tenant's signed manifests that are older than so many days, but for those under a legal hold, in a background
/// job. Content is deleted when its retention ends.
#[utoipa::path(post, path = "/api/v1/admin/system/archive", tag = "admin", request_body = ArchiveRequest, security(("bearer" = [])), responses((status = 202, body = ArchiveResponse), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 409, body = ProblemBody, description = "JOB_EXISTS"), (status = 422, body = ProblemBody, description = "INVALID_FIELD")))]
pub async fn archive(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminSystem, ArchiveRequest>,
) -> Result<HttpResponse, Problem> {
    if body.older_than_days > 36_600 {
        return Err(Error::unprocessable_field("INVALID_FIELD", "older_than_days", "at most 36600").into());
    }
    let classification = body.classification.as_deref().map(|c| crate::wire::word("classification", c)).transpose()?;
    let order = ArchiveOrder {
        created_before: (state.clock.now() - time::Duration::days(i64::from(body.older_than_days))).unix_timestamp(),
        department: body.department,
        project: body.project,
        classification,
    };
    let job = state.jobs.archive(&actor, order).await?;
    Ok(HttpResponse::Accepted()
        .insert_header(("location", format!("/api/v1/admin/jobs/{job}")))
        .json(ArchiveResponse { job: job.0 }))
}
