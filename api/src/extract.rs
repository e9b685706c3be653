//! Extractors. A handler that takes a [`Caller`] cannot run without one.

use crate::{ApiState, problem::Problem};
use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderName},
    web,
};
use bytes::BytesMut;
use futures_util::{StreamExt, future::LocalBoxFuture};
use omt_kernel::{Actor, Error, Kind, TenantId};
use serde::de::DeserializeOwned;
use std::future::{Ready, ready};

/// The most bytes of a JSON body.
const MAX_JSON: usize = 1 << 20;

/// Whoever makes the request, authenticated.
pub struct Caller(pub Actor);

impl FromRequest for Caller {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let state = request.app_data::<web::Data<ApiState>>().ok_or_else(|| Error::internal("no application state"))?;
            let missing =
                || Error::new(Kind::Unauthenticated, "MISSING_CREDENTIAL", "an Authorization: Bearer credential is needed");
            let value = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).ok_or_else(missing)?;
            let (scheme, credential) = value.split_once(' ').ok_or_else(missing)?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(missing().into());
            }
            let actor = state.access.authenticate(credential.trim()).await?;
            // The header may only narrow: the tenant comes from the credential.
            if let Some(named) = request.headers().get("x-tenant-id") {
                let same = named.to_str().is_ok_and(|name| TenantId::parse(name).is_ok_and(|t| t == actor.tenant));
                if !same {
                    return Err(
                        Error::new(Kind::Forbidden, "TENANT_MISMATCH", "X-Tenant-ID is not the credential's tenant").into()
                    );
                }
            }
            Ok(Self(actor))
        })
    }
}

/// Whoever makes the request, and the JSON it brings. The body is read only after the caller is known.
pub struct CallerWith<T>(pub Actor, pub T);

impl<T: DeserializeOwned + 'static> FromRequest for CallerWith<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Caller::from_request(request, payload);
        let (request, mut payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let Caller(actor) = caller.await?;
            Ok(Self(actor, json(&request, &mut payload).await?))
        })
    }
}

/// Reads a JSON body; none at all deserializes as null, for bodies that may be left out.
pub async fn json<T: DeserializeOwned>(request: &HttpRequest, payload: &mut Payload) -> Result<T, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|e| Error::new(Kind::Invalid, "INVALID_BODY", format!("the body cannot be read: {e}")))?;
        if body.len() + chunk.len() > MAX_JSON {
            return Err(Error::new(Kind::TooLarge, "BODY_TOO_LARGE", "the JSON body is over 1 MiB").into());
        }
        body.extend_from_slice(&chunk);
    }
    let unfit = |e: serde_json::Error| Error::new(Kind::Invalid, "INVALID_JSON", format!("the JSON body does not fit: {e}"));
    if body.is_empty() {
        return Ok(serde_json::from_str("null").map_err(unfit)?);
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("application/json") {
        let words = "this operation takes application/json";
        return Err(Error::new(Kind::UnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", words).into());
    }
    Ok(serde_json::from_slice(&body).map_err(unfit)?)
}

/// The revision in `If-Match`, if there is one. Our entity tags are `"<revision>"`.
pub struct IfMatch(pub Option<i64>);

impl FromRequest for IfMatch {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(match text_header(request, &header::IF_MATCH) {
            Ok(None) | Ok(Some("*")) => Ok(Self(None)),
            Ok(Some(tag)) => {
                let revision = tag.trim().strip_prefix('"').and_then(|t| t.strip_suffix('"')).and_then(|t| t.parse().ok());
                // A tag that was never ours matches nothing.
                Ok(Self(Some(revision.unwrap_or(-1))))
            }
            Err(problem) => Err(problem),
        })
    }
}

/// The `Idempotency-Key`, if there is one.
pub struct IdempotencyKey(pub Option<String>);

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let name = HeaderName::from_static("idempotency-key");
        ready(text_header(request, &name).and_then(|value| match value {
            None => Ok(Self(None)),
            Some(key) if !key.is_empty() && key.len() <= 255 => Ok(Self(Some(key.to_owned()))),
            Some(_) => {
                Err(Error::new(Kind::Invalid, "INVALID_IDEMPOTENCY_KEY", "Idempotency-Key must have 1 to 255 characters").into())
            }
        }))
    }
}

fn text_header<'a>(request: &'a HttpRequest, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let value = request.headers().get(name).map(|v| v.to_str());
    value.transpose().map_err(|_| Problem(Error::new(Kind::Invalid, "INVALID_HEADER", format!("{name} is not visible ASCII"))))
}
