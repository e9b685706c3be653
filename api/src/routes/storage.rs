//! Legal holds and storage use.

use crate::{
    ApiState,
    blob_response::{Restore, later},
    extract::{Caller, CallerWith, IfMatch, may},
    problem::{Problem, ProblemBody},
    wire::Manifest,
};
use actix_web::{HttpResponse, http::header, web};
use omt_claims::{
    cdn::NotCdn,
    service::{Fetched, Via},
};
use omt_kernel::{
    ManifestId, OffsetDateTime,
    manifest::{BlobRef, ManifestRecord},
    storage::Usage,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Why a manifest is held.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// For people; 1 to 500 characters.
    #[schema(example = "Case 2026-117")]
    reason: String,
}

fn answer(record: &ManifestRecord) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::ETAG, format!("\"{}\"", record.revision))).json(Manifest::from(record))
}

/// Places a legal hold, or gives it another reason: the content is kept until the hold is released, whatever its retention says.
#[utoipa::path(put, path = "/api/v1/manifests/{id}/legal-hold", tag = "manifests", request_body = HoldRequest, security(("bearer" = [])), params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header,)),
    responses((status = 200, body = Manifest), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 410, body = ProblemBody, description = "CONTENT_DELETED"), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub async fn hold(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ManifestHold, HoldRequest>,
    if_match: IfMatch,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    Ok(answer(&state.manifests.hold(&actor, ManifestId(*id), &body.reason, if_match.0).await?))
}

/// Releases a legal hold.
#[utoipa::path(delete, path = "/api/v1/manifests/{id}/legal-hold", tag = "manifests", security(("bearer" = [])), params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header,)),
    responses((status = 200, body = Manifest), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 412, body = ProblemBody)))]
pub async fn release(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestHold>,
    if_match: IfMatch,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    Ok(answer(&state.manifests.release(&caller.0, ManifestId(*id), if_match.0).await?))
}

/// A URL for content.
#[derive(Serialize, ToSchema)]
pub struct ContentUrl {
    /// Fetch it with `GET`, without a credential.
    url: String,
    /// When it ends; null for one of a content delivery network that does not.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// `store`, or `cdn` for the content delivery network.
    #[schema(example = "store")]
    via: &'static str,
    /// Why the network does not serve it, where there is one: `draft`, `archived`, `legal_hold`, `classification`,
    /// `not_published` or `other_tier`.
    #[schema(example = "classification")]
    not_cdn: Option<&'static str>,
    /// The content's media type, which a content delivery network does not know.
    #[schema(example = "image/jpeg")]
    media_type: String,
}

/// A URL for the content, so that large files do not pass through this server: of the blob store, good for five minutes; or, where a
/// content delivery network is configured and the content may be there, of the network.
#[utoipa::path(get, path = "/api/v1/manifests/{id}/content-url", tag = "manifests", security(("bearer" = [])), params(("id" = Uuid, Path,)),
    responses((status = 200, body = ContentUrl), (status = 202, body = Restore, description = "The content is archived and is being restored; `Retry-After` says when to ask again"), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "NO_DIRECT_ACCESS"), (status = 410, body = ProblemBody, description = "CONTENT_DELETED")))]
pub async fn content_url(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let found = match state.manifests.content_url(&caller.0, ManifestId(*id)).await? {
        Fetched::Now(found) => found,
        Fetched::Later(restoring) => return Ok(later(&restoring)),
    };
    let (via, not_cdn) = match found.via {
        Via::Cdn => ("cdn", None),
        Via::Store(why) => ("store", why.map(NotCdn::as_str)),
    };
    let body = ContentUrl { url: found.url, expires_at: found.expires_at, via, not_cdn, media_type: found.media_type };
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(body))
}

/// What will be uploaded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadRequest {
    /// SHA-256 of the bytes, lower-case hexadecimal.
    sha256: String,
    /// How many bytes.
    #[schema(example = 734003200)]
    size: u64,
}

/// A request to make to the blob store.
#[derive(Serialize, ToSchema)]
pub struct UploadTarget {
    /// Always `PUT`.
    method: &'static str,
    /// Where to.
    url: String,
    /// Headers that it must have.
    headers: std::collections::BTreeMap<String, String>,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// A URL of the blob store to upload to, good for five minutes and for these bytes only. Then make the manifest with
/// `upload` in place of `file`.
#[utoipa::path(post, path = "/api/v1/uploads", tag = "manifests", request_body = UploadRequest, security(("bearer" = [])),
    responses((status = 201, body = UploadTarget), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 409, body = ProblemBody, description = "NO_DIRECT_ACCESS"), (status = 413, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub async fn begin_upload(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ManifestCreate, UploadRequest>,
) -> Result<HttpResponse, Problem> {
    let blob = BlobRef { sha256: body.sha256, size: body.size };
    let (upload, expires_at) = state.manifests.begin_upload(&actor, blob, state.max_upload).await?;
    let target = UploadTarget { method: "PUT", url: upload.url, headers: upload.headers.into_iter().collect(), expires_at };
    Ok(HttpResponse::Created().insert_header((header::CACHE_CONTROL, "no-store")).json(target))
}

/// What a tenant has in a tier.
#[derive(Serialize, ToSchema)]
pub struct TierUsage {
    /// The tenant.
    tenant: String,
    /// `hot`, `warm` or `cold`.
    #[schema(example = "hot")]
    tier: &'static str,
    /// How many blobs; the same bytes count once for each tenant.
    blobs: u64,
    /// Their bytes.
    bytes: u64,
}

/// Storage use.
#[derive(Serialize, ToSchema)]
pub struct StorageUsage {
    /// By tenant and tier.
    items: Vec<TierUsage>,
    /// All of it, in bytes.
    total_bytes: u64,
    /// The replication target; null where there is none, and for those who do not run the platform.
    replication: Option<Replication>,
}

/// Where copies of blobs go, and how far they are behind.
#[derive(Serialize, ToSchema)]
pub struct Replication {
    /// What and where the target is.
    #[schema(example = "s3://media-copy/omt/")]
    target: String,
    /// Blobs that it lacks.
    pending_blobs: u64,
    /// Their bytes.
    pending_bytes: u64,
    /// The age of the oldest of them; 0 when it lacks none.
    lag_seconds: f64,
    /// When a blob was copied last.
    #[serde(with = "time::serde::rfc3339::option")]
    last_copied_at: Option<OffsetDateTime>,
}

/// Storage by tenant and tier: your tenant's; with `admin:system:config` everybody's.
#[utoipa::path(get, path = "/api/v1/admin/storage", tag = "admin", security(("bearer" = [])), responses((status = 200, body = StorageUsage), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn usage(state: web::Data<ApiState>, caller: Caller<may::AdminStorage>) -> Result<HttpResponse, Problem> {
    let usage = state.manifests.usage(&caller.0).await?;
    let total_bytes = usage.iter().map(|u| u.bytes).sum();
    let item = |u: Usage| TierUsage { tenant: u.tenant.to_string(), tier: u.tier.as_str(), blobs: u.blobs, bytes: u.bytes };
    let replication = match state.replication.clone().filter(|_| caller.0.runs_platform()) {
        None => None,
        Some(target) => {
            let behind = state.database.replica().await?.blobs().replication().await?;
            Some(Replication {
                target,
                pending_blobs: behind.blobs,
                pending_bytes: behind.bytes,
                lag_seconds: behind.lag(state.clock.now()).as_seconds_f64(),
                last_copied_at: behind.last,
            })
        }
    };
    Ok(HttpResponse::Ok().json(StorageUsage { items: usage.into_iter().map(item).collect(), total_bytes, replication }))
}
