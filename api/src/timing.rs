//! Times every request, by route.

use crate::ApiState;
use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web,
};
use std::time::Instant;

/// Counts the answer under the route's pattern; paths that are no route share one label, lest callers make labels.
pub async fn middleware(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let began = Instant::now();
    let state = request.app_data::<web::Data<ApiState>>().cloned();
    let answer = next.call(request).await?;
    if let Some(state) = state {
        let route = answer.request().match_pattern().unwrap_or_else(|| "unknown".to_owned());
        let method = match answer.request().method().as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
            _ => "other",
        };
        state.telemetry.request(&route, method, answer.status().as_u16(), began.elapsed());
    }
    Ok(answer)
}
