//! API keys.

use crate::{
    ApiState,
    extract::{Caller, CallerWith, may},
    problem::{Problem, ProblemBody},
    wire::{self, ApiKey, PageQuery, Paged},
};
use actix_web::{HttpResponse, web};
use omt_access::NewApiKey;
use omt_kernel::{ApiKeyId, Error, Permission, TenantId, manifest::Classification};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A request for an API key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyRequest {
    /// Name for people.
    #[schema(example = "dam-integration")]
    name: String,
    /// The tenant it acts for; your own when absent.
    tenant: Option<String>,
    /// What it may do.
    #[schema(example = json!(["manifest:create", "manifest:read", "manifest:sign"]))]
    scopes: Vec<String>,
    /// Only this department's content, and content of none; your own when absent.
    department: Option<String>,
    /// Only these projects' content, and content of none; your own when empty.
    #[serde(default)]
    projects: Vec<String>,
    /// The most sensitive classification; your own when absent.
    clearance: Option<String>,
    /// Days until it ends; never when absent.
    #[schema(example = 90)]
    expires_in_days: Option<u32>,
}

/// A new API key. The key itself is shown only here.
#[derive(Serialize, ToSchema)]
pub struct NewKeyResponse {
    /// The key.
    #[schema(example = "omt_…")]
    key: String,
    #[serde(flatten)]
    details: ApiKey,
}

/// Makes an API key.
#[utoipa::path(post, path = "/api/v1/admin/api-keys", tag = "admin", request_body = ApiKeyRequest, security(("bearer" = [])),
    responses((status = 201, body = NewKeyResponse), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, SCOPE_NOT_HELD, REACH_NOT_HELD, SCOPE_NOT_ALLOWED"), (status = 409, body = ProblemBody, description = "KEY_CHAIN_TOO_LONG"), (status = 422, body = ProblemBody, description = "INVALID_FIELD, UNKNOWN_SCOPE, INVALID_TENANT")))]
pub async fn create_api_key(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminApiKeys, ApiKeyRequest>,
) -> Result<HttpResponse, Problem> {
    let unknown = |scope: &String| {
        let known: Vec<&str> = Permission::ALL.iter().map(|p| p.as_str()).collect();
        Error::unprocessable_field("UNKNOWN_SCOPE", "scopes", format!("{scope:?} is not one of {}", known.join(", ")))
    };
    let scopes = body.scopes.iter().map(|s| s.parse().map_err(|()| unknown(s))).collect::<Result<_, _>>()?;
    let tenant = body.tenant.as_deref().map(TenantId::parse).transpose();
    let tenant = tenant.map_err(|reason| Error::unprocessable_field("INVALID_TENANT", "tenant", reason))?;
    let reach = wire::reach(&actor, body.department, body.projects, body.clearance.as_deref(), Classification::TopSecret)?;
    let new = NewApiKey { name: body.name, tenant, scopes, reach: Some(reach), expires_in_days: body.expires_in_days };
    let (record, key) = state.access.create_api_key(&actor, new).await?;
    Ok(HttpResponse::Created().insert_header(("cache-control", "no-store")).json(NewKeyResponse { key, details: record.into() }))
}

/// Lists API keys, newest first.
#[utoipa::path(get, path = "/api/v1/admin/api-keys", tag = "admin", params(PageQuery), security(("bearer" = [])), responses((status = 200, body = Paged<ApiKey>), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn list_api_keys(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminUserRead>,
    page: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.page()?;
    let keys = state.access.list_api_keys(&caller.0, page).await?;
    Ok(HttpResponse::Ok().json(Paged::of(keys, page, |k| k.id.0, ApiKey::from)))
}

/// Revokes an API key at once.
#[utoipa::path(delete, path = "/api/v1/admin/api-keys/{id}", tag = "admin", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 204), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn revoke_api_key(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminApiKeys>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    state.access.revoke_api_key(&caller.0, ApiKeyId(*id)).await?;
    Ok(HttpResponse::NoContent().finish())
}
