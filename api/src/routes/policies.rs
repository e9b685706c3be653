//! Organisational policies.

use crate::{
    ApiState,
    extract::{Caller, CallerLooks, CallerWith, IfMatch, json as json_body, may},
    multipart::{self, BodyKind, Shape},
    problem::{Problem, ProblemBody},
    routes::verify::content_of,
    wire,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Payload},
};
use omt_kernel::{Error, ManifestId, error::Context as _};
use omt_policy::{Answer, Findings, Policy, Shown, Verified, Version};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

const UPLOAD: Shape = Shape { texts: &["policy_name"], repeated_texts: &[], files: &["file", "manifest"], repeated_files: &[] };

/// A version of a policy.
#[derive(Serialize, ToSchema)]
pub struct PolicyBody {
    /// Its version.
    version: u32,
    /// Every tenant has it.
    built_in: bool,
    /// It is in force no more.
    removed: bool,
    /// The subject that made it.
    created_by: Option<String>,
    /// Of one policy: the version of it that stands against content now. A shadow leaves the one before it in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_force: Option<u32>,
    /// Of a shadow: what it would have stood against.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow_findings: Option<ShadowFindings>,
    /// What it says: see docs/policies.md.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    policy: Policy,
}

/// What a shadow would have stood against, as far as the process that answers was asked.
#[derive(Serialize, ToSchema)]
pub struct ShadowFindings {
    /// Since when it is counted: the process has run at least since then.
    #[serde(with = "time::serde::rfc3339")]
    since: time::OffsetDateTime,
    /// How often guards asked, and it was said.
    asked: u64,
    /// How often they asked and it was left out, because too many shadows waited to be asked.
    dropped: u64,
    /// How often it would have stood against.
    failed: u64,
    /// How often each rule of the severity `error` was broken.
    rules: BTreeMap<String, u64>,
}

impl From<Findings> for ShadowFindings {
    fn from(found: Findings) -> Self {
        Self { since: found.since, asked: found.asked, dropped: found.dropped, failed: found.failed, rules: found.rules }
    }
}

/// Policies.
#[derive(Serialize, ToSchema)]
pub struct PolicyList {
    /// They.
    items: Vec<PolicyBody>,
}

impl From<Version> for PolicyBody {
    fn from(found: Version) -> Self {
        Self {
            version: found.version,
            built_in: found.built_in,
            removed: found.removed,
            created_by: found.created_by,
            in_force: None,
            shadow_findings: None,
            policy: Arc::unwrap_or_clone(found.policy),
        }
    }
}

impl From<Shown> for PolicyBody {
    fn from(shown: Shown) -> Self {
        let Shown { version, in_force, findings } = shown;
        Self { in_force, shadow_findings: findings.map(Into::into), ..version.into() }
    }
}

fn one(found: impl Into<PolicyBody>, mut response: actix_web::HttpResponseBuilder) -> HttpResponse {
    let body: PolicyBody = found.into();
    response.insert_header((header::ETAG, format!("\"{}\"", body.version))).json(body)
}

/// Reads a policy, with the name of the path where there is one.
fn policy(mut body: Value, name: Option<&str>) -> Result<Policy, Error> {
    if let Some(body) = body.as_object_mut() {
        // What an answer shows besides may come back with it.
        for member in ["version", "built_in", "removed", "created_by", "in_force", "shadow_findings"] {
            body.remove(member);
        }
    }
    match name {
        Some(name) => wire::named(body, name),
        None => serde_json::from_value(body).map_err(wire::unfit),
    }
}

/// Lists the policies in force.
#[utoipa::path(get, path = "/api/v1/policies", tag = "policies", security(("bearer" = [])), responses((status = 200, body = PolicyList), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn list(state: web::Data<ApiState>, caller: Caller<may::ManifestRead>) -> Result<HttpResponse, Problem> {
    let items = state.policies.list(&caller.0).await?.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(PolicyList { items }))
}

/// Makes a policy.
#[utoipa::path(post, path = "/api/v1/policies", tag = "policies", request_body(content = Object, content_type = "application/json"), security(("bearer" = [])), responses((status = 201, body = PolicyBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 409, body = ProblemBody, description = "POLICY_EXISTS"), (status = 422, body = ProblemBody, description = "INVALID_POLICY with every fault and its place")))]
pub async fn create(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminPolicies, Value>,
) -> Result<HttpResponse, Problem> {
    let policy = policy(body, None)?;
    let made = state.policies.create(&actor, policy).await?;
    let mut response = HttpResponse::Created();
    response.insert_header((header::LOCATION, format!("/api/v1/policies/{}", made.policy.name)));
    Ok(one(made, response))
}

/// Which version.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PolicyQuery {
    /// The newest when absent.
    version: Option<u32>,
}

/// One policy.
#[utoipa::path(get, path = "/api/v1/policies/{name}", tag = "policies", params(("name" = String, Path,), PolicyQuery), security(("bearer" = [])), responses((status = 200, body = PolicyBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn get(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    name: web::Path<String>,
    query: web::Query<PolicyQuery>,
) -> Result<HttpResponse, Problem> {
    Ok(one(state.policies.show(&caller.0, &name, query.version).await?, HttpResponse::Ok()))
}

/// Adds a version of a policy, and puts it in force. With `shadow`, it only says so, and the version before it stays in force.
#[utoipa::path(put, path = "/api/v1/policies/{name}", tag = "policies", params(("name" = String, Path,), ("If-Match" = Option<String>, Header, description = "The version you saw")), request_body(content = Object, content_type = "application/json"), security(("bearer" = [])), responses((status = 200, body = PolicyBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody, description = "INVALID_POLICY")))]
pub async fn update(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminPolicies, Value>,
    name: web::Path<String>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let policy = policy(body, Some(&name))?;
    Ok(one(state.policies.update(&actor, policy, if_match.0).await?, HttpResponse::Ok()))
}

/// Takes a policy out of force. Its versions stay.
#[utoipa::path(delete, path = "/api/v1/policies/{name}", tag = "policies", params(("name" = String, Path,), ("If-Match" = Option<String>, Header, description = "The version you saw")), security(("bearer" = [])), responses((status = 204), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 412, body = ProblemBody)))]
pub async fn delete(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminPolicies>,
    name: web::Path<String>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    state.policies.remove(&caller.0, &name, if_match.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Every version of a policy, newest first.
#[utoipa::path(get, path = "/api/v1/policies/{name}/versions", tag = "policies", params(("name" = String, Path,)), security(("bearer" = [])), responses((status = 200, body = PolicyList), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn versions(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let items = state.policies.versions(&caller.0, &name).await?.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(PolicyList { items }))
}

/// Which version to put in force again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The version.
    version: u32,
}

/// Puts an earlier version in force again, as a new version.
#[utoipa::path(post, path = "/api/v1/policies/{name}/rollback", tag = "policies", params(("name" = String, Path,), ("If-Match" = Option<String>, Header, description = "The version you saw")), request_body = RollbackRequest, security(("bearer" = [])), responses((status = 200, body = PolicyBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 412, body = ProblemBody)))]
pub async fn roll_back(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminPolicies, RollbackRequest>,
    name: web::Path<String>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    Ok(one(state.policies.roll_back(&actor, &name, body.version, if_match.0).await?, HttpResponse::Ok()))
}

/// A job that was made.
#[derive(Serialize, ToSchema)]
pub struct DryRunStarted {
    /// The job: its progress says how far it is and, at the end, what came of it.
    job_id: Uuid,
}

/// Tries a policy, as it would be, on everything that is stored and that the caller sees. Nothing changes.
#[utoipa::path(post, path = "/api/v1/policies/{name}/dry-run", tag = "policies", params(("name" = String, Path,)), request_body(content = Object, content_type = "application/json"), security(("bearer" = [])), responses((status = 202, body = DryRunStarted), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 409, body = ProblemBody, description = "JOB_EXISTS"), (status = 422, body = ProblemBody, description = "INVALID_POLICY")))]
pub async fn dry_run(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminPolicies, Value>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let policy = policy(body, Some(&name))?;
    let id = state.policies.dry_run(&actor, policy).await?;
    let place = (header::LOCATION, format!("/api/v1/admin/jobs/{id}"));
    Ok(HttpResponse::Accepted().insert_header(place).json(DryRunStarted { job_id: id.0 }))
}

/// What to look at.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyCheckRequest {
    /// The manifest.
    manifest_id: Uuid,
    /// The policy.
    #[schema(example = "marketing_content")]
    policy_name: String,
}

/// Content to look at.
#[derive(ToSchema)]
#[allow(dead_code)]
pub struct PolicyCheckForm {
    /// The policy.
    policy_name: String,
    /// The content.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
    /// A manifest store beside it.
    #[schema(format = Binary, content_media_type = "application/c2pa")]
    manifest: Option<String>,
}

/// Says what a policy says, rule by rule: of a stored manifest (JSON), with the facts of its signature where it is signed, or of content
/// that comes with the request (multipart), whose manifest speaks for it as far as its integrity holds.
#[utoipa::path(post, path = "/api/v1/verify/policy", tag = "policies",
    request_body(content((PolicyCheckRequest = "application/json"), (PolicyCheckForm = "multipart/form-data"))), security(("bearer" = [])),
    responses((status = 200, body = Answer, description = "The verdict: `passed`, and `rules` with location, expected, actual and evidence"), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody, description = "NOT_FOUND, UNKNOWN_POLICY"), (status = 413, body = ProblemBody), (status = 415, body = ProblemBody), (status = 503, body = ProblemBody, description = "BUSY")))]
pub async fn verify(
    state: web::Data<ApiState>,
    caller: CallerLooks<may::ManifestRead>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let actor = caller.0;
    let verdict: Answer = match BodyKind::of(&request)? {
        BodyKind::Form => {
            let body = multipart::body(&request, payload).await?;
            let mut form = multipart::read(body, &UPLOAD, state.manifests.spool_dir(), state.max_upload).await?;
            let name =
                form.text("policy_name").ok_or_else(|| Error::invalid_field("MISSING_FIELD", "policy_name", "is needed"))?;
            let (file, sidecar) = content_of(&mut form).await?;
            // First whether there is such a policy: looking at content is the dear part.
            state.policies.get(&actor, &name, None).await?;
            let examined = state.manifests.examine_upload(&actor, file, sidecar).await?;
            state.policies.evaluate_upload(&actor, &name, &examined).await?
        }
        BodyKind::Json => {
            let body: PolicyCheckRequest = json_body(&request, &mut payload.into_inner()).await?;
            let id = ManifestId(body.manifest_id);
            let signed = state.manifests.get(&actor, id).await?.signed.is_some();
            let verified = match signed {
                true => {
                    let (report, crjson) = state.manifests.verify_in_full(&actor, id).await?;
                    Some((serde_json::to_value(report).context("a report cannot be written")?, crjson))
                }
                false => None,
            };
            let verified = verified.as_ref().map_or(Verified::No, |(report, crjson)| Verified::Now(report, crjson.as_ref()));
            state.policies.evaluate(&actor, id, &body.policy_name, verified).await?
        }
    };
    Ok(HttpResponse::Ok().json(verdict))
}
