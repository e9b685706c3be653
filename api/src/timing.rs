//! Times every request, by route, and writes refusals into the audit log.

use crate::{ApiState, once::Stop, pace::Left, problem::Problem, request_id, routes::scim::ScimError};
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
    let mut answer = next.call(request).await?;
    let left = answer.request().extensions().get::<Left>().copied();
    if let Some(left) = left {
        left.tell(answer.headers_mut());
    }
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

/// Where who may do what, and who is who, is decided and changed: refusals there are written down whatever the reason.
const GOVERNED: [&str; 4] = ["/api/v1/auth", "/api/v1/admin", "/api/v1/privacy", "/scim"];

/// Who was refused what. Requests without any credential are counted like all others and not written down; logins write entries
/// of their own. What a caller is not to know exists is 404, so that a refused look at a thing by its identifier is one.
async fn note_refusal(state: &ApiState, answer: &ServiceResponse<impl MessageBody>, route: &str, method: &str) {
    let status = answer.status();
    if !status.is_client_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        return;
    }
    let error = answer.response().error();
    let refused = |stop: &Stop| match stop {
        Stop::Refused(problem) => Some(problem.0.code),
        Stop::Answered(..) => None,
    };
    let problem = error.and_then(|error| error.as_error::<Problem>()).map(|problem| problem.0.code);
    let problem = problem.or(error.and_then(|error| error.as_error::<Stop>()).and_then(refused));
    let scim = error.and_then(|error| error.as_error::<ScimError>()).map(|problem| problem.0.code);
    let code = problem.or(scim).unwrap_or("REFUSED");
    state.telemetry.refused(code);
    if code == "MISSING_CREDENTIAL" || route.starts_with("/api/v1/auth/login") {
        return;
    }
    let request = answer.request();
    let actor = request.extensions().get::<Actor>().cloned();
    let thing = request.match_info().iter().find(|(_, value)| uuid::Uuid::try_parse(value).is_ok());
    let governed = || GOVERNED.iter().any(|beginning| route.starts_with(beginning));
    let written = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => true,
        StatusCode::NOT_FOUND => actor.is_some() && thing.is_some(),
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => governed(),
        // Being too fast costs nothing but a count, and a database that is down takes no entries.
        StatusCode::TOO_MANY_REQUESTS => code != "RATE_LIMITED" && governed(),
        StatusCode::SERVICE_UNAVAILABLE => matches!(code, "DIRECTORY_UNAVAILABLE" | "ISSUER_UNAVAILABLE") && governed(),
        _ => false,
    };
    if written {
        let detail = thing.map(|(name, value)| serde_json::json!({ name: value }));
        state.access.note_refusal(actor.as_ref(), &request_id::current(), &format!("{method} {route}"), code, detail).await;
    }
}
