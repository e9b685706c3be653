//! The audit log: tree heads, proofs, search and export.

use crate::{
    ApiState,
    extract::{Caller, may},
    problem::{Problem, ProblemBody},
    wire::{self, PageQuery, Paged},
};
use actix_web::{HttpResponse, http::header, web};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::stream;
use omt_audit::Found;
use omt_kernel::{AuditId, Error, audit::AuditFilter, port::Page};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Entries in one part of an export.
const EXPORT_PAGE: u32 = 500;

/// Which entries to find.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Who acted: `user:<id>`, `key:<id>`, `system` or `anonymous`.
    actor: Option<String>,
    /// What was done, such as `manifest.sign`; with a final dot everything that begins so, such as `auth.`.
    action: Option<String>,
    /// The kind of thing it was done to, such as `manifest`.
    resource_type: Option<String>,
    /// Which one.
    resource: Option<String>,
    /// `done`, `denied` or `failed`.
    outcome: Option<String>,
    /// At or after, RFC 3339.
    from: Option<String>,
    /// Before, RFC 3339.
    before: Option<String>,
    /// Items on the page, 1 to 200; 50 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// An entry.
#[derive(Serialize, ToSchema)]
pub struct AuditLog {
    /// Identifier.
    id: Uuid,
    /// Its place in the log, once it has one.
    index: Option<u64>,
    /// Who acted; null when they were forgotten.
    actor: Option<String>,
    /// The actor's name; null when they were forgotten.
    actor_name: Option<String>,
    /// What the log holds.
    #[schema(value_type = Object)]
    entry: Value,
}

/// The log's name and public keys.
#[derive(Serialize, ToSchema)]
pub struct LogKeysResponse {
    /// The log's name.
    origin: String,
    /// Verifier keys (C2SP signed-note): Ed25519 and ML-DSA-44.
    keys: Vec<String>,
}

/// A proof that an entry is in the log (RFC 6962 §2.1.1).
#[derive(Serialize, ToSchema)]
pub struct InclusionResponse {
    /// Its place.
    index: u64,
    /// How many leaves the tree has.
    size: u64,
    /// The leaf's data in base 64.
    leaf: String,
    /// Hashes from the leaf up, in base 64.
    hashes: Vec<String>,
    /// The signed tree head that they lead to.
    checkpoint: String,
}

/// A proof that one tree is the beginning of another (RFC 6962 §2.1.2).
#[derive(Serialize, ToSchema)]
pub struct ConsistencyResponse {
    /// Size of the older tree.
    from: u64,
    /// Size of the newer tree.
    to: u64,
    /// Hashes, in base 64.
    hashes: Vec<String>,
    /// The newest signed tree head.
    checkpoint: String,
}

/// What to prove.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct InclusionQuery {
    /// The entry.
    entry: Uuid,
}

/// What to prove.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ConsistencyQuery {
    /// Size of the older tree.
    from: u64,
    /// Size of the newer tree; the newest when absent.
    to: Option<u64>,
}

impl AuditQuery {
    fn filter(&self) -> Result<AuditFilter, Error> {
        Ok(AuditFilter {
            actors: None,
            action: self.action.clone(),
            resource_kind: self.resource_type.clone(),
            resource_id: self.resource.clone(),
            outcome: self.outcome.clone(),
            from: self.from.as_deref().map(|t| wire::time("from", t)).transpose()?,
            before: self.before.as_deref().map(|t| wire::time("before", t)).transpose()?,
        })
    }
}

impl From<Found> for AuditLog {
    fn from(found: Found) -> Self {
        let (actor, actor_name) = found.person.unzip();
        Self { id: found.entry.id.0, index: found.entry.index, actor, actor_name, entry: found.leaf }
    }
}

fn encoded(hashes: &[[u8; 32]]) -> Vec<String> {
    hashes.iter().map(|hash| STANDARD.encode(hash)).collect()
}

/// Entries of the tenant's audit log, newest first.
#[utoipa::path(get, path = "/api/v1/admin/audit-logs", tag = "audit", params(AuditQuery), security(("bearer" = [])), responses((status = 200, body = Paged<AuditLog>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn list(
    state: web::Data<ApiState>,
    caller: Caller<may::AuditRead>,
    query: web::Query<AuditQuery>,
) -> Result<HttpResponse, Problem> {
    let filter = query.filter()?;
    let page = PageQuery { limit: query.limit, cursor: query.cursor.clone() }.page()?;
    let found = state.audit.search(&caller.0, query.actor.as_deref(), filter, page).await?;
    Ok(HttpResponse::Ok().json(Paged::of(found, page, |f| f.entry.id.0, AuditLog::from)))
}

/// A copy of the tenant's audit log as NDJSON, newest first. Itself written into the log; needs a fresh second factor.
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "audit", params(AuditQuery), security(("bearer" = [])), responses((status = 200, content_type = "application/x-ndjson", body = String), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, STEP_UP_REQUIRED")))]
pub async fn export(
    state: web::Data<ApiState>,
    caller: Caller<may::CopyAudit>,
    query: web::Query<AuditQuery>,
) -> Result<HttpResponse, Problem> {
    let (actor, filter, subject) = (caller.0, query.filter()?, query.actor.clone());
    // The first page now, so that a refusal is an answer and not a broken stream.
    let first = state.audit.export(&actor, subject.as_deref(), &filter, Page { after: None, limit: EXPORT_PAGE }).await?;
    let body = stream::try_unfold((Some(first), state), move |(page, state)| {
        let (actor, filter, subject) = (actor.clone(), filter.clone(), subject.clone());
        async move {
            let Some(page) = page else { return Ok::<_, actix_web::Error>(None) };
            let mut lines = Vec::new();
            for entry in &page {
                lines.extend_from_slice(&entry.leaf);
                lines.push(b'\n');
            }
            let next = match page.last().filter(|_| page.len() == EXPORT_PAGE as usize) {
                Some(last) => {
                    let page = Page { after: Some(last.id.0), limit: EXPORT_PAGE };
                    Some(state.audit.export(&actor, subject.as_deref(), &filter, page).await.map_err(Problem)?)
                }
                None => None,
            };
            Ok(Some((Bytes::from(lines), (next, state))))
        }
    });
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").streaming(body))
}

/// The newest signed tree head (C2SP tlog-checkpoint), at most two seconds behind.
#[utoipa::path(get, path = "/api/v1/audit/checkpoint", tag = "audit", responses((status = 200, content_type = "text/plain", body = String), (status = 503, body = ProblemBody, description = "NO_CHECKPOINT")))]
pub async fn checkpoint(state: web::Data<ApiState>) -> Result<HttpResponse, Problem> {
    let found = state.audit.checkpoint().await?;
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "max-age=2"));
    Ok(response.content_type("text/plain; charset=utf-8").body(found.note))
}

/// The log's name and the keys that verify its tree heads.
#[utoipa::path(get, path = "/api/v1/audit/keys", tag = "audit", responses((status = 200, body = LogKeysResponse)))]
pub async fn keys(state: web::Data<ApiState>) -> HttpResponse {
    let keys = &state.audit.keys;
    HttpResponse::Ok()
        .json(LogKeysResponse { origin: keys.origin.clone(), keys: keys.verifiers.iter().map(ToString::to_string).collect() })
}

/// Proves that an entry is in the log.
#[utoipa::path(get, path = "/api/v1/audit/proof/inclusion", tag = "audit", params(InclusionQuery), security(("bearer" = [])), responses((status = 200, body = InclusionResponse), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 503, body = ProblemBody, description = "NOT_INTEGRATED")))]
pub async fn inclusion(
    state: web::Data<ApiState>,
    caller: Caller<may::AuditRead>,
    query: web::Query<InclusionQuery>,
) -> Result<HttpResponse, Problem> {
    let proof = state.audit.inclusion(&caller.0, AuditId(query.entry)).await?;
    Ok(HttpResponse::Ok().json(InclusionResponse {
        index: proof.index,
        size: proof.checkpoint.size,
        leaf: STANDARD.encode(proof.entry.leaf),
        hashes: encoded(&proof.hashes),
        checkpoint: proof.checkpoint.note,
    }))
}

/// Proves that an older tree is the beginning of a newer one.
#[utoipa::path(get, path = "/api/v1/audit/proof/consistency", tag = "audit", params(ConsistencyQuery), security(("bearer" = [])), responses((status = 200, body = ConsistencyResponse), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub async fn consistency(
    state: web::Data<ApiState>,
    caller: Caller<may::AuditRead>,
    query: web::Query<ConsistencyQuery>,
) -> Result<HttpResponse, Problem> {
    let (hashes, newest) = state.audit.consistency(&caller.0, query.from, query.to).await?;
    Ok(HttpResponse::Ok().json(ConsistencyResponse {
        from: query.from,
        to: query.to.unwrap_or(newest.size),
        hashes: encoded(&hashes),
        checkpoint: newest.note,
    }))
}

/// A tile or a bundle of entries (C2SP tlog-tiles), for those who run the platform: bundles hold the entries of every tenant. Getting
/// one is an export: it is written into the log and needs a fresh second factor.
#[utoipa::path(get, path = "/api/v1/audit/tile/{path}", tag = "audit", params(("path" = String, Path, description = "As C2SP tlog-tiles has it")), security(("bearer" = [])), responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, STEP_UP_REQUIRED"), (status = 404, body = ProblemBody)))]
pub async fn tile(
    state: web::Data<ApiState>,
    caller: Caller<may::AuditExport>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    if path.starts_with("entries/") {
        state.access.require_step_up(&caller.0).await?;
    }
    let bytes = state.audit.object(&caller.0, &format!("tile/{path}")).await?;
    Ok(HttpResponse::Ok().content_type("application/octet-stream").body(bytes))
}
