//! Verification.

use super::manifests::readable;
use crate::{
    ApiState,
    extract::{Caller, CallerLooks, json, may},
    multipart::{self, BodyKind, Form, Shape},
    problem::{Problem, ProblemBody},
    wire::{self, HistoryEntry, PageQuery, Paged},
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Payload},
};
use omt_claims::{
    VerificationReport,
    service::{Uploaded, VerifyTarget},
};
use omt_kernel::{Error, Kind, ManifestId, error::Context as _, port::Content};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

const UPLOAD: Shape = Shape { texts: &["strict"], repeated_texts: &[], files: &["file", "manifest"], repeated_files: &[] };

/// A request to verify a stored manifest.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyBody {
    /// The manifest.
    manifest_id: Uuid,
    /// Turn warnings into issues.
    #[serde(default)]
    strict: bool,
}

/// Content to verify.
#[derive(ToSchema)]
#[allow(dead_code)]
pub struct VerifyForm {
    /// The content.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
    /// A manifest store beside it.
    #[schema(format = Binary, content_media_type = "application/c2pa")]
    manifest: Option<String>,
    /// Turn warnings into issues.
    strict: Option<bool>,
}

/// Verifies a stored manifest (JSON) or content that comes with the request (multipart). A malformed manifest is an answer
/// with `validation_state: invalid` and the reason, not an error.
#[utoipa::path(post, path = "/api/v1/verify", tag = "verification", security(("bearer" = [])),
    request_body(content((VerifyBody = "application/json"), (VerifyForm = "multipart/form-data"))),
    responses((status = 200, body = VerificationReport), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, body = ProblemBody, description = "NOT_SIGNED"), (status = 413, body = ProblemBody), (status = 415, body = ProblemBody), (status = 503, body = ProblemBody, description = "BUSY")))]
pub async fn verify(
    state: web::Data<ApiState>,
    caller: CallerLooks<may::ManifestRead>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (target, strict) = match BodyKind::of(&request)? {
        BodyKind::Form => {
            let body = multipart::body(&request, payload).await?;
            let mut form = multipart::read(body, &UPLOAD, state.manifests.spool_dir(), state.max_upload).await?;
            let strict = form.text("strict").map(|s| wire::flag("strict", &s)).transpose()?.unwrap_or(false);
            let (file, sidecar) = content_of(&mut form).await?;
            (VerifyTarget::Uploaded { file, sidecar }, strict)
        }
        BodyKind::Json => {
            let body: VerifyBody = json(&request, &mut payload.into_inner()).await?;
            (VerifyTarget::Stored(ManifestId(body.manifest_id)), body.strict)
        }
    };
    Ok(HttpResponse::Ok().json(state.manifests.verify(&caller.0, target, strict).await?))
}

/// Content to look at, and a manifest store beside it.
pub(super) async fn content_of(form: &mut Form) -> Result<(Uploaded, Option<bytes::Bytes>), Error> {
    let file = form.file("file").ok_or_else(|| Error::invalid_field("MISSING_FIELD", "file", "is needed"))?;
    let sidecar = match form.file("manifest") {
        Some(sidecar) => Some(small(sidecar).await?),
        None => None,
    };
    Ok((file, sidecar))
}

/// A manifest store is kept in memory, so it must be small.
async fn small(sidecar: Uploaded) -> Result<bytes::Bytes, Error> {
    const MAX: u64 = 64 << 20;
    if sidecar.blob.size > MAX {
        return Err(Error::new(Kind::TooLarge, "CONTENT_TOO_LARGE", "a manifest store is over 64 MiB"));
    }
    match &sidecar.content {
        Content::Memory(bytes) => Ok(bytes.clone()),
        Content::File(file) => tokio::fs::read(file.path()).await.map(Into::into).context("cannot read an upload"),
        Content::Stored(file) => tokio::fs::read(file.path()).await.map(Into::into).context("cannot read an upload"),
    }
}

/// A stored manifest's kept results, newest first.
#[utoipa::path(get, path = "/api/v1/verify/{id}/history", tag = "verification", security(("bearer" = [])), params(("id" = Uuid, Path,), PageQuery),
    responses((status = 200, body = Paged<HistoryEntry>), (status = 401, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn history(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    id: web::Path<Uuid>,
    page: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.page()?;
    let records = state.manifests.history(&caller.0, ManifestId(*id), page).await?;
    Ok(HttpResponse::Ok().json(Paged::of(records, page, |r| r.id.0, HistoryEntry::from)))
}

/// What was done to a stored asset and what it was made of: actions and ingredients as a tree.
#[utoipa::path(get, path = "/api/v1/verify/{id}/chain-of-custody", tag = "verification", security(("bearer" = [])), params(("id" = Uuid, Path,)),
    responses((status = 200, body = Object), (status = 401, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "NOT_SIGNED, MANIFEST_UNREADABLE")))]
pub async fn chain_of_custody(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let verification = state.manifests.examine(&caller.0, ManifestId(*id), true).await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({
        "manifest_id": *id,
        "validation_state": verification.report.validation_state,
        "chain": readable(verification.custody.as_ref())?,
    })))
}
