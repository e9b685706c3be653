//! The rights of persons.

use crate::{
    ApiState,
    extract::{Caller, may},
    problem::{Problem, ProblemBody},
    wire::{Manifest, Session, User},
};
use actix_web::{HttpResponse, web};
use omt_kernel::UserId;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// What is known of a person.
#[derive(Serialize, ToSchema)]
pub struct SubjectResponse {
    /// The user.
    user: User,
    /// Live sessions.
    sessions: Vec<Session>,
    /// Manifests that the person made.
    manifests: Vec<Manifest>,
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
}

/// Everything that is known of a user. Written into the audit log.
#[utoipa::path(get, path = "/api/v1/privacy/subjects/{id}/export", tag = "privacy", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = SubjectResponse), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn export(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminPrivacy>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let found = state.access.export_subject(&caller.0, UserId(*id)).await?;
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(SubjectResponse {
        user: User::from(found.user),
        sessions: found.sessions.into_iter().map(|session| Session::of(session, None)).collect(),
        manifests: found.manifests.iter().map(Manifest::from).collect(),
    }))
}

/// Forgets a user, except where a legal hold lies on what they made. The audit log stays provable: it never held a name.
#[utoipa::path(delete, path = "/api/v1/privacy/subjects/{id}", tag = "privacy", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = ErasureResponse), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, STEP_UP_REQUIRED"), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "LEGAL_HOLD, LAST_ADMINISTRATOR, OWN_ERASURE, CONCURRENT_CHANGE")))]
pub async fn erase(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminPrivacy>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let signed = state.access.erase_subject(&caller.0, UserId(*id)).await?;
    let signed_with_name = signed.into_iter().map(|id| id.0).collect();
    Ok(HttpResponse::Ok().json(ErasureResponse { id: *id, erased: true, signed_with_name }))
}
