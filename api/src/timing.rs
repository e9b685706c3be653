//! Times every request, by route, and writes refusals into the audit log.

use crate::{ApiState, problem::Problem, request_id, routes::scim::ScimError};
use actix_web::{
    Error, HttpMessage,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::StatusCode,
    middleware::Next,
    web,
};
use omt_kernel::Actor;
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
        note_refusal(&state, &answer, &route, method).await;
        state.telemetry.request(&route, method, answer.status().as_u16(), began.elapsed());
    }
    Ok(answer)
}

/// Who was refused what. Requests without any credential are counted like all others and not written down; logins write entries
/// of their own.
async fn note_refusal(state: &ApiState, answer: &ServiceResponse<impl MessageBody>, route: &str, method: &str) {
    if !matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) || route.starts_with("/api/v1/auth/login") {
        return;
    }
    let error = answer.response().error();
    let problem = error.and_then(|error| error.as_error::<Problem>()).map(|problem| problem.0.code);
    let scim = error.and_then(|error| error.as_error::<ScimError>()).map(|problem| problem.0.code);
    let code = problem.or(scim).unwrap_or("REFUSED");
    if code == "MISSING_CREDENTIAL" {
        return;
    }
    let actor = answer.request().extensions().get::<Actor>().cloned();
    state.access.note_refusal(actor.as_ref(), &request_id::current(), &format!("{method} {route}"), code).await;
}
