//! Definitions of workflows.

use crate::{
    ApiState,
    extract::{Caller, CallerWith, IfMatch, may},
    problem::{Problem, ProblemBody},
    wire,
};
use actix_web::{HttpResponse, http::header, web};
use omt_workflow::{Version, definition::Definition};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// A version of a definition.
#[derive(Serialize, ToSchema)]
pub struct DefinitionBody {
    /// Its version.
    version: u32,
    /// Every tenant has it.
    built_in: bool,
    /// What it says: see docs/workflows.md.
    #[schema(value_type = Object)]
    definition: Definition,
}

/// Definitions.
#[derive(Serialize, ToSchema)]
pub struct Definitions {
    /// The newest version of each, by name.
    items: Vec<DefinitionBody>,
}

/// Which version.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct VersionQuery {
    /// The newest when absent.
    version: Option<u32>,
}

impl From<Version> for DefinitionBody {
    fn from(found: Version) -> Self {
        Self { version: found.version, built_in: found.record.is_none(), definition: found.definition.as_ref().clone() }
    }
}

fn definition_answer(found: Version) -> HttpResponse {
    let tag = format!("\"{}\"", found.version);
    HttpResponse::Ok().insert_header((header::ETAG, tag)).json(DefinitionBody::from(found))
}

/// Lists workflow definitions.
#[utoipa::path(get, path = "/api/v1/workflow-definitions", tag = "workflows", security(("bearer" = [])), responses((status = 200, body = Definitions), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn definitions(state: web::Data<ApiState>, caller: Caller<may::ManifestRead>) -> Result<HttpResponse, Problem> {
    let items = state.workflows.definitions(&caller.0).await?.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(Definitions { items }))
}

/// One workflow definition.
#[utoipa::path(get, path = "/api/v1/workflow-definitions/{name}", tag = "workflows", params(("name" = String, Path,), VersionQuery), security(("bearer" = [])), responses((status = 200, body = DefinitionBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn definition(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    name: web::Path<String>,
    query: web::Query<VersionQuery>,
) -> Result<HttpResponse, Problem> {
    Ok(definition_answer(state.workflows.definition_version(&caller.0, &name, query.version).await?))
}

/// Adds a version of a workflow definition. Workflows that run keep theirs.
#[utoipa::path(put, path = "/api/v1/workflow-definitions/{name}", tag = "workflows", params(("name" = String, Path,), ("If-Match" = Option<String>, Header, description = "The version you saw")), request_body(content = Object, content_type = "application/json"), security(("bearer" = [])), responses((status = 200, body = DefinitionBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 409, body = ProblemBody), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody, description = "INVALID_DEFINITION with every fault and its place")))]
pub async fn put_definition(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminPolicies, Value>,
    name: web::Path<String>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let definition: Definition = wire::named(body, &name)?;
    Ok(definition_answer(state.workflows.put_definition(&actor, definition, if_match.0).await?))
}

/// A workflow definition as a picture.
#[utoipa::path(get, path = "/api/v1/workflow-definitions/{name}/diagram.svg", tag = "workflows", params(("name" = String, Path,), VersionQuery), security(("bearer" = [])), responses((status = 200, body = String, content_type = "image/svg+xml"), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn diagram(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    name: web::Path<String>,
    query: web::Query<VersionQuery>,
) -> Result<HttpResponse, Problem> {
    let picture = state.workflows.diagram(&caller.0, &name, query.version).await?;
    let policy = (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'");
    Ok(HttpResponse::Ok().content_type("image/svg+xml").insert_header(policy).body(picture))
}

/// Where running workflows go.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateRequest {
    /// For states that the newest version has no more: the state instead.
    #[serde(default)]
    states: BTreeMap<String, String>,
}

/// A workflow that stays with its version.
#[derive(Serialize, ToSchema)]
pub struct Stayed {
    /// It.
    workflow_id: Uuid,
    /// Why.
    reason: String,
}

/// What came of a migration.
#[derive(Serialize, ToSchema)]
pub struct Migrated {
    /// The version that was moved to.
    version: u32,
    /// How many workflows were moved.
    moved: u64,
    /// Those that stay, and why.
    stayed: Vec<Stayed>,
}

/// Moves running workflows to the newest version of their definition. It is no approval: nothing becomes more than it was.
#[utoipa::path(post, path = "/api/v1/workflow-definitions/{name}/migrate", tag = "workflows", params(("name" = String, Path,)), request_body = MigrateRequest, security(("bearer" = [])), responses((status = 200, body = Migrated), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody, description = "UNKNOWN_STATE, INVALID_FIELD")))]
pub async fn migrate(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminPolicies, MigrateRequest>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let done = state.workflows.migrate(&actor, &name, &body.states).await?;
    let stayed = done.stayed.into_iter().map(|(id, reason)| Stayed { workflow_id: id.0, reason }).collect();
    Ok(HttpResponse::Ok().json(Migrated { version: done.version, moved: done.moved, stayed }))
}
