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
    let trace = request.headers().get("traceparent").and_then(|v| v.to_str().ok()).and_then(trace_id).unwrap_or_default();
    let span =
        tracing::info_span!("request", request_id = %id, trace_id = %trace, method = %request.method(), path = %request.path());
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

/// The trace that a request belongs to, by its `traceparent` (W3C Trace Context §3.2); none when the header is not as it must be.
fn trace_id(header: &str) -> Option<&str> {
    let parts: Vec<&str> = header.split('-').collect();
    let [version, trace, parent, flags, ..] = parts.as_slice() else { return None };
    let hex = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let known = hex(version, 2) && *version != "ff" && (*version != "00" || parts.len() == 4);
    let good = known && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    Some(*trace).filter(|_| good && !zero(trace) && !zero(parent))
}

#[cfg(test)]
mod tests {
    use super::trace_id;

    #[test]
    fn traces_are_those_of_the_specification() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(trace_id(&format!("00-{trace}-b7ad6b7169203331-01")), Some(trace));
        assert_eq!(trace_id(&format!("cc-{trace}-b7ad6b7169203331-01-what-comes-later")), Some(trace));
        for bad in [
            String::new(),
            "00".to_owned(),
            format!("ff-{trace}-b7ad6b7169203331-01"),
            format!("00-{trace}-b7ad6b7169203331-01-more"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()),
        ] {
            assert_eq!(trace_id(&bad), None, "{bad}");
        }
    }
}
