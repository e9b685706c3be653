//! Errors as `application/problem+json` (RFC 9457) with the members the specifications show.

use crate::request_id;
use actix_web::{HttpResponse, ResponseError, http::StatusCode, http::header};
use omt_kernel::{Error, FieldError, Kind};
use serde::Serialize;
use std::fmt;
use utoipa::ToSchema;

/// A domain error on its way out.
#[derive(Debug)]
pub struct Problem(pub Error);

/// The answer's body.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// A URN for the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:openmediatrust:problem:NOT_FOUND")]
    pub kind: String,
    /// The status in words.
    #[schema(example = "Not Found")]
    pub title: String,
    /// HTTP status.
    #[schema(example = 404)]
    pub status: u16,
    /// What happened.
    #[schema(example = "there is no such manifest")]
    pub detail: String,
    /// A stable code to match on.
    #[schema(example = "NOT_FOUND")]
    pub code: &'static str,
    /// The same as `detail`.
    pub message: String,
    /// The same as `title`.
    pub error: String,
    /// Names this request in logs.
    #[serde(rename = "requestId")]
    pub request_id: String,
    /// Seconds after which a retry may succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// Fields that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// The code and the words that callers may see.
    pub fn public(&self) -> (String, String) {
        let error = &self.0;
        if error.kind != Kind::Internal {
            return (error.code.to_owned(), error.message.clone());
        }
        tracing::error!(%error, "a request failed by our fault");
        let words = "something went wrong on our side; the request id names it in our logs";
        (error.code.to_owned(), words.to_owned())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Problem {}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        match self.0.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Gone => StatusCode::GONE,
            Kind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
            Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let error = &self.0;
        tracing::debug!(%error, "a request was refused");
        let (_, detail) = self.public();
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CONTENT_TYPE, "application/problem+json"));
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(seconds) = error.retry_after {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        let body = ProblemBody {
            kind: format!("urn:openmediatrust:problem:{}", error.code),
            error: title.clone(),
            title,
            status: status.as_u16(),
            message: detail.clone(),
            detail,
            code: error.code,
            request_id: request_id::current(),
            retry_after: error.retry_after,
            errors: error.fields.clone(),
        };
        response.body(serde_json::to_string(&body).unwrap_or_default())
    }
}
