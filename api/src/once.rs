//! `Idempotency-Key` for every operation that acts: the extractor names the request, the audit log takes its key in the transaction of
//! the first change, and here the answer is stored, or given again.

use crate::{ApiState, problem::Problem};
use actix_web::{
    Error, HttpMessage, HttpRequest, HttpResponse, ResponseError,
    body::{BodySize, BoxBody, MessageBody, to_bytes},
    dev::{ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::Next,
    web,
};
use omt_kernel::{Actor, Kind, once::Claim, retry};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};

/// The largest answer that is stored.
const MAX_ANSWER: u64 = 256 << 10;
/// What stands in place of an answer that is nobody's to keep.
const WITHHELD: &str = "withheld";

/// Why a handler does not run: the request is refused, or was answered before.
#[derive(Debug)]
pub enum Stop {
    /// It is refused.
    Refused(Problem),
    /// It was answered so.
    Answered(u16, Value),
}

impl<E: Into<Problem>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(problem) => problem.fmt(f),
            Self::Answered(status, _) => write!(f, "answered before: {status}"),
        }
    }
}

impl ResponseError for Stop {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Refused(problem) => problem.status_code(),
            Self::Answered(status, _) => StatusCode::from_u16(*status).unwrap_or_default(),
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            Self::Refused(problem) => problem.error_response(),
            Self::Answered(status, body) => replayed(*status, body),
        }
    }
}

/// The answer to a request that was made before.
pub fn replayed(status: u16, body: &Value) -> HttpResponse {
    let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap_or_default());
    if let Some(revision) = body.get("revision") {
        response.insert_header((header::ETAG, format!("\"{revision}\"")));
    }
    response.insert_header(("idempotency-replayed", "true"));
    if body.get("schemas").is_some() {
        response.content_type("application/scim+json");
    } else if status >= 400 {
        response.content_type("application/problem+json");
    }
    if body.is_null() { response.finish() } else { response.json(body) }
}

/// SHA-256 over parts, none of which can run into another.
pub fn fingerprint(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

/// Names the request for the use case, where it bears a key and acts; stops it when it was answered before.
pub async fn claim(request: &HttpRequest, actor: &mut Actor, key: Option<String>, body: &[u8]) -> Result<(), Stop> {
    let Some(key) = key.filter(|_| request.method() == "POST") else { return Ok(()) };
    let state = request.app_data::<web::Data<ApiState>>().ok_or_else(|| omt_kernel::Error::internal("no application state"))?;
    let whole = fingerprint(&[request.method().as_str().as_bytes(), request.uri().to_string().as_bytes(), body]);
    let claim = Arc::new(Claim {
        tenant: actor.tenant.clone(),
        subject: actor.subject.clone(),
        key,
        // A body may hold a password.
        fingerprint: state.audit.keyed(&whole)?,
        attempt: uuid::Uuid::new_v4(),
    });
    if let Some((status, body)) = claim.answered(state.database.read().await?.as_ref()).await? {
        if body == json!(WITHHELD) {
            let words = "this was done; its answer held what is shown once, or was too long, and was not kept";
            return Err(omt_kernel::Error::new(Kind::Conflict, "ANSWER_NOT_KEPT", words).into());
        }
        return Err(Stop::Answered(status, body));
    }
    request.extensions_mut().insert(claim.clone());
    actor.claim = Some(claim);
    Ok(())
}

/// Stores answers to requests that bear a key. What was refused gives its key back, unless something had been changed before; what
/// failed by our fault keeps it, since nobody knows what came of it.
pub async fn middleware(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let answer = next.call(request).await?.map_into_boxed_body();
    let claim = answer.request().extensions().get::<Arc<Claim>>().cloned();
    let state = answer.request().app_data::<web::Data<ApiState>>().cloned();
    let (Some(claim), Some(state)) = (claim, state) else { return Ok(answer) };
    let status = answer.status();
    if !status.is_success() && !status.is_client_error() {
        return Ok(answer);
    }
    let has = |name: header::HeaderName, part: &str| {
        answer.headers().get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(part))
    };
    // Problems are nobody's to keep either, and say nothing that their caller did not hear.
    let secret = status.is_success() && has(header::CACHE_CONTROL, "no-store");
    let is_json = has(header::CONTENT_TYPE, "json");
    let small = matches!(answer.response().body().size(), BodySize::None | BodySize::Sized(0..=MAX_ANSWER));
    let (answer, body) = if secret || !small {
        (answer, json!(WITHHELD))
    } else {
        let (request, response) = answer.into_parts();
        let (head, body) = response.into_parts();
        let bytes = to_bytes(body).await.map_err(|_| omt_kernel::Error::internal("an answer was cut off")).map_err(Problem)?;
        let read = if bytes.is_empty() { Some(Value::Null) } else { serde_json::from_slice(&bytes).ok().filter(|_| is_json) };
        (ServiceResponse::new(request, head.set_body(bytes).map_into_boxed_body()), read.unwrap_or_else(|| json!(WITHHELD)))
    };
    let settled = async || {
        let unit = state.database.begin().await?;
        claim.settle(unit.as_ref(), (status.as_u16(), body.clone()), state.clock.now()).await?;
        unit.commit().await
    };
    if let Err(error) = retry::transaction(state.entropy.as_ref(), settled).await {
        tracing::error!(%error, "the answer to a request with an Idempotency-Key could not be stored");
    }
    Ok(answer)
}
