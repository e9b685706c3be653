//! Badges: issuing and taking back for publishers, looking for everybody.

use crate::{
    ApiState,
    extract::{Caller, CallerWith, may},
    problem::{Problem, ProblemBody},
};
use actix_web::{HttpResponse, HttpResponseBuilder, http::header, web};
use omt_badge::{Shown, picture};
use omt_kernel::{BadgeId, ManifestId, badge::BadgeRecord};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// For which manifest.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BadgeRequest {
    /// A signed manifest.
    manifest_id: Uuid,
}

/// Which badges.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct BadgeQuery {
    /// Of this manifest.
    manifest_id: Uuid,
}

/// Why a badge is taken back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// For those who see the content; not shown to the public.
    #[schema(example = "the licence ended")]
    reason: String,
}

/// A badge, for those who see its content.
#[derive(Serialize, ToSchema)]
pub struct Badge {
    /// Identifier.
    id: Uuid,
    /// The manifest.
    manifest_id: Uuid,
    /// `valid`, `revoked`, `withdrawn`, `content_deleted` or `superseded`.
    #[schema(example = "valid")]
    status: &'static str,
    /// SHA-256 of the signed bytes that it is about.
    content_sha256: String,
    /// Where everybody may look.
    verification_url: String,
    /// The picture.
    badge_url: String,
    /// The subject that issued it.
    issued_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    issued_at: OffsetDateTime,
    /// When it was taken back.
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
    /// Why.
    revoked_reason: Option<String>,
}

/// Badges of a manifest.
#[derive(Serialize, ToSchema)]
pub struct BadgeList {
    /// They, newest first, at most a hundred.
    items: Vec<Badge>,
}

/// What anybody may know of a badge.
#[derive(Serialize, ToSchema)]
pub struct PublicBadge {
    /// Identifier.
    id: Uuid,
    /// Whether it stands: `valid`, `revoked`, `withdrawn` (the manifest was archived), `content_deleted` or `superseded` (the manifest
    /// speaks of other bytes now).
    #[schema(example = "valid")]
    status: &'static str,
    /// SHA-256 of the bytes that it is about: compare it with those that you have.
    content_sha256: String,
    /// Their media type, while it stands.
    media_type: Option<String>,
    /// What they are signed with, while it stands.
    #[schema(example = "hybrid-es256-ml-dsa-65")]
    algorithm: Option<String>,
    /// The label of the C2PA manifest in them, while it stands.
    manifest_label: Option<String>,
    /// The content's title, where it is public.
    title: Option<String>,
    /// Who publishes it, where it is public.
    organization: Option<String>,
    /// When the content was signed.
    #[serde(with = "time::serde::rfc3339::option")]
    signed_at: Option<OffsetDateTime>,
    /// When the badge was issued.
    #[serde(with = "time::serde::rfc3339")]
    issued_at: OffsetDateTime,
    /// When it was taken back.
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
    /// The picture.
    badge_url: String,
    /// Certificates that the content's signature chains to.
    roots_url: String,
}

fn address(state: &ApiState, id: BadgeId) -> String {
    format!("{}/api/v1/badges/{id}", state.public_url)
}

fn view(state: &ApiState, badge: BadgeRecord, status: &'static str) -> Badge {
    let url = address(state, badge.id);
    let revoked = badge.revoked;
    Badge {
        id: badge.id.0,
        manifest_id: badge.manifest.0,
        status,
        content_sha256: badge.content_sha256,
        badge_url: format!("{url}/badge.svg"),
        verification_url: url,
        issued_by: badge.issued_by,
        issued_at: badge.issued_at,
        revoked_at: revoked.as_ref().map(|revoked| revoked.at),
        revoked_reason: revoked.map(|revoked| revoked.reason),
    }
}

/// Issues a badge for a signed manifest: an address where everybody may ask whether it stands. Content has one that stands; asking
/// again gives it back with 200.
#[utoipa::path(post, path = "/api/v1/badges", tag = "badges", request_body = BadgeRequest, security(("bearer" = [])), responses((status = 201, body = Badge), (status = 200, body = Badge, description = "It had been issued before"), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "NOT_SIGNED")))]
pub async fn issue(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ManifestSign, BadgeRequest>,
) -> Result<HttpResponse, Problem> {
    let (badge, new) = state.badges.issue(&actor, ManifestId(body.manifest_id)).await?;
    let mut response = if new { HttpResponse::Created() } else { HttpResponse::Ok() };
    response.insert_header((header::LOCATION, format!("/api/v1/badges/{}", badge.id)));
    Ok(response.json(view(&state, badge, "valid")))
}

/// Lists the badges of a manifest.
#[utoipa::path(get, path = "/api/v1/badges", tag = "badges", params(BadgeQuery), security(("bearer" = [])), responses((status = 200, body = BadgeList), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn list(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    query: web::Query<BadgeQuery>,
) -> Result<HttpResponse, Problem> {
    let found = state.badges.of_manifest(&caller.0, ManifestId(query.manifest_id)).await?;
    let items = found.into_iter().map(|(badge, standing)| view(&state, badge, standing.as_str())).collect();
    Ok(HttpResponse::Ok().json(BadgeList { items }))
}

/// Takes a badge back, for good.
#[utoipa::path(post, path = "/api/v1/badges/{id}/revoke", tag = "badges", params(("id" = Uuid, Path,)), request_body = RevokeRequest, security(("bearer" = [])), responses((status = 200, body = Badge), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody, description = "INVALID_FIELD")))]
pub async fn revoke(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ManifestSign, RevokeRequest>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let badge = state.badges.revoke(&actor, BadgeId(*id), &body.reason).await?;
    Ok(HttpResponse::Ok().json(view(&state, badge, "revoked")))
}

/// For pages of any origin, and not for long: a badge may be taken back.
fn open(mut response: HttpResponseBuilder) -> HttpResponseBuilder {
    response
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .insert_header((header::CACHE_CONTROL, "public, max-age=60"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    response
}

/// What anybody who has a badge's address may know of it.
#[utoipa::path(get, path = "/api/v1/badges/{id}", tag = "badges", params(("id" = Uuid, Path,)), responses((status = 200, body = PublicBadge), (status = 404, body = ProblemBody)))]
pub async fn get(state: web::Data<ApiState>, id: web::Path<Uuid>) -> Result<HttpResponse, Problem> {
    let id = BadgeId(*id);
    let shown: Shown = state.badges.show(id).await?;
    Ok(open(HttpResponse::Ok()).json(PublicBadge {
        id: id.0,
        status: shown.status.as_str(),
        content_sha256: shown.content_sha256,
        media_type: shown.media_type,
        algorithm: shown.algorithm,
        manifest_label: shown.manifest_label,
        title: shown.title,
        organization: shown.organization,
        signed_at: shown.signed_at,
        issued_at: shown.issued_at,
        revoked_at: shown.revoked_at,
        badge_url: format!("{}/badge.svg", address(&state, id)),
        roots_url: format!("{}/api/v1/trust/roots.pem", state.public_url),
    }))
}

/// The picture of a badge, which says whether it stands.
#[utoipa::path(get, path = "/api/v1/badges/{id}/badge.svg", tag = "badges", params(("id" = Uuid, Path,)), responses((status = 200, content_type = "image/svg+xml", body = String), (status = 404, body = ProblemBody)))]
pub async fn svg(state: web::Data<ApiState>, id: web::Path<Uuid>) -> Result<HttpResponse, Problem> {
    let shown = state.badges.show(BadgeId(*id)).await?;
    let mut response = open(HttpResponse::Ok());
    response.insert_header((header::CONTENT_SECURITY_POLICY, "default-src 'none'"));
    Ok(response.content_type("image/svg+xml").body(picture(shown.status)))
}
