//! `X-Request-ID` in and out, and in every log line and problem of the request.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HeaderName, HeaderValue},
    middleware::Next,
};
use std::time::Instant;
use tracing::Instrument;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT: String;
}

/// The identifier of the request that this task serves.
pub fn current() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// Takes the caller's identifier when it is 1 to 128 visible ASCII characters, else makes one.
pub async fn middleware<B: MessageBody>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, Error> {
    let given = request.headers().get(&X_REQUEST_ID).and_then(|v| v.to_str().ok());
    let id = match given {
        Some(id) if !id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic()) => id.to_owned(),
        _ => uuid::Uuid::now_v7().to_string(),
    };
    let span = tracing::info_span!("request", request_id = %id, method = %request.method(), path = %request.path());
    let started = Instant::now();
    let header = HeaderValue::from_str(&id);
    let work = async {
        let result = next.call(request).await;
        let result = result.map(|mut response| {
            if let Ok(header) = header {
                response.headers_mut().insert(X_REQUEST_ID, header);
            }
            response
        });
        let status = result.as_ref().map_or(500, |r| r.status().as_u16());
        tracing::info!(status, elapsed_ms = started.elapsed().as_secs_f64() * 1e3, "answered");
        result
    };
    CURRENT.scope(id, work.instrument(span)).await
}
