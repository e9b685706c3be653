//! The rights of persons.

use crate::{
    ApiState,
    extract::{Caller, may},
    problem::{Problem, ProblemBody},
    wire::{ApiKey, Manifest, Session, User},
};
use actix_web::{HttpResponse, web};
use omt_kernel::{
    UserId,
    governance::{EvidenceRecord, WorkflowRecord},
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Evidence that a person brought. What it says may be about others.
#[derive(Serialize, ToSchema)]
pub struct BroughtEvidence {
    /// Identifier.
    id: Uuid,
    /// What kind, such as `consent`.
    kind: String,
    /// When it was brought.
    #[serde(with = "time::serde::rfc3339")]
    created_at: time::OffsetDateTime,
}

/// A workflow that a person began.
#[derive(Serialize, ToSchema)]
pub struct BegunWorkflow {
    /// Identifier.
    id: Uuid,
    /// The manifest that it decides on.
    manifest: Uuid,
    /// Its definition.
    definition: String,
    /// Where it stands.
    state: String,
    /// When it was begun.
    #[serde(with = "time::serde::rfc3339")]
    created_at: time::OffsetDateTime,
}

/// What is known of a person.
#[derive(Serialize, ToSchema)]
pub struct SubjectResponse {
    /// The user; null when they were removed.
    user: Option<User>,
    /// The name behind the pseudonym in the audit log.
    name_in_audit_log: Option<String>,
    /// Live sessions.
    sessions: Vec<Session>,
    /// Manifests that the person made.
    manifests: Vec<Manifest>,
    /// API keys that the person made.
    api_keys: Vec<ApiKey>,
    /// Evidence that the person brought.
    evidence: Vec<BroughtEvidence>,
    /// Workflows that the person began, on content within your reach.
    workflows: Vec<BegunWorkflow>,
    /// What may be known besides, and where to find it.
    #[schema(value_type = Vec<String>)]
    not_included: &'static [&'static str],
}

/// What was forgotten.
#[derive(Serialize, ToSchema)]
pub struct ErasureResponse {
    /// The user.
    id: Uuid,
    /// Always true.
    erased: bool,
    /// Manifests whose signed content may name the person: a signature cannot be changed. Archive them to have their content
    /// deleted when its retention ends.
    signed_with_name: Vec<Uuid>,
    /// Where else the person may be named: nobody looked there.
    #[schema(value_type = Vec<String>)]
    not_searched: &'static [&'static str],
}

fn brought(record: EvidenceRecord) -> BroughtEvidence {
    BroughtEvidence { id: record.id.0, kind: record.kind, created_at: record.created_at }
}

fn begun(record: WorkflowRecord) -> BegunWorkflow {
    BegunWorkflow {
        id: record.id.0,
        manifest: record.manifest.0,
        definition: record.definition,
        state: record.state,
        created_at: record.created_at,
    }
}

/// What is known of somebody who is or was a user. Written into the audit log.
#[utoipa::path(get, path = "/api/v1/privacy/subjects/{id}/export", tag = "privacy", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = SubjectResponse), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn export(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminPrivacy>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let found = state.access.export_subject(&caller.0, UserId(*id)).await?;
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(SubjectResponse {
        user: found.user.map(User::from),
        name_in_audit_log: found.name_in_log,
        sessions: found.sessions.into_iter().map(|session| Session::of(session, None)).collect(),
        manifests: found.manifests.iter().map(Manifest::from).collect(),
        api_keys: found.api_keys.into_iter().map(ApiKey::from).collect(),
        evidence: found.evidence.into_iter().map(brought).collect(),
        workflows: found.workflows.into_iter().map(begun).collect(),
        not_included: omt_access::NOT_EXPORTED,
    }))
}

/// Forgets somebody who is or was a user, except where a legal hold lies on what they made. The audit log stays provable: it
/// never held a name.
#[utoipa::path(delete, path = "/api/v1/privacy/subjects/{id}", tag = "privacy", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = ErasureResponse), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, STEP_UP_REQUIRED, OUTRANKED, REACH_NOT_HELD"), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "LEGAL_HOLD, LAST_ADMINISTRATOR, OWN_ERASURE, CONCURRENT_CHANGE")))]
pub async fn erase(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminPrivacy>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let signed = state.access.erase_subject(&caller.0, UserId(*id)).await?;
    let signed_with_name = signed.into_iter().map(|id| id.0).collect();
    Ok(HttpResponse::Ok().json(ErasureResponse { id: *id, erased: true, signed_with_name, not_searched: omt_access::NOT_ERASED }))
}
