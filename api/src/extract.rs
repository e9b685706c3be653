//! Extractors. A handler that takes a [`Caller`] cannot run without one, nor without what it needs.

use crate::{
    ApiState,
    once::{self, Stop},
    problem::Problem,
    request_id,
    wire::unfit,
};
use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderName},
    web,
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, future::LocalBoxFuture};
use omt_kernel::{Actor, Error, Kind, Permission, TenantId, once::Once};
use serde::de::DeserializeOwned;
use std::{
    future::{Ready, ready},
    marker::PhantomData,
};

/// The most bytes of a JSON body.
const MAX_JSON: usize = 1 << 20;

pub use crate::once::replayed;

/// What an operation needs of its caller.
pub trait Needs: 'static {
    /// The permission; any caller will do when there is none.
    const PERMISSION: Option<Permission>;
    /// One of these, where there are any.
    const ONE_OF: &'static [Permission] = &[];
    /// Whether it is for those, too, who have yet to enrol a second factor.
    const LIMITED: bool = false;
    /// Whether it is dangerous: whoever has a second factor must have given it of late.
    const STEP_UP: bool = false;
}

macro_rules! needs {
    (plain: $($name:ident),+; dangerous: $($dangerous:ident),+ $(,)?) => {
        /// What operations need, as types: the signature of a handler says who may run it.
        pub mod may {
            use super::{Needs, Permission};
            $(
                /// The permission of the same name.
                pub struct $name;
                impl Needs for $name { const PERMISSION: Option<Permission> = Some(Permission::$name); }
            )+
            $(
                /// The permission of the same name, and a second factor given of late.
                pub struct $dangerous;
                impl Needs for $dangerous {
                    const PERMISSION: Option<Permission> = Some(Permission::$dangerous);
                    const STEP_UP: bool = true;
                }
            )+
            /// Saying where webhooks go, or what they are signed with.
            pub struct ChangeWebhooks;
            impl Needs for ChangeWebhooks {
                const PERMISSION: Option<Permission> = Some(Permission::AdminSystem);
                const STEP_UP: bool = true;
            }
            /// Taking a copy of the audit log away.
            pub struct CopyAudit;
            impl Needs for CopyAudit {
                const PERMISSION: Option<Permission> = Some(Permission::AuditExport);
                const STEP_UP: bool = true;
            }
            /// One of the permissions of workflows.
            pub struct WorkflowPart;
            impl Needs for WorkflowPart {
                const PERMISSION: Option<Permission> = Some(Permission::ManifestRead);
                const ONE_OF: &'static [Permission] = Permission::WORKFLOW;
            }
            /// One of the permissions to say what content is.
            pub struct Declare;
            impl Needs for Declare {
                const PERMISSION: Option<Permission> = Some(Permission::ManifestRead);
                const ONE_OF: &'static [Permission] = Permission::DECLARE;
            }
            /// Looking at how a tenant is configured.
            pub struct SeeConfiguration;
            impl Needs for SeeConfiguration {
                const PERMISSION: Option<Permission> = None;
                const ONE_OF: &'static [Permission] = Permission::SEE_CONFIGURATION;
            }
            /// Looking at records of evidence.
            pub struct SeeEvidence;
            impl Needs for SeeEvidence {
                const PERMISSION: Option<Permission> = Some(Permission::ManifestRead);
                const ONE_OF: &'static [Permission] = Permission::SEE_EVIDENCE;
            }
            /// Any caller, for what concerns the caller alone.
            pub struct Anything;
            impl Needs for Anything {
                const PERMISSION: Option<Permission> = None;
                const LIMITED: bool = true;
            }
        }
    };
}

needs!(
    plain:
    ManifestCreate,
    ManifestRead,
    ManifestUpdate,
    ManifestDelete,
    ManifestSign,
    ManifestHold,
    WorkflowInitiate,
    ComplianceCheck,
    AuditRead,
    AuditExport,
    AdminUserRead,
    AdminUsers,
    AdminRoleRead,
    AdminRoles,
    AdminApiKeys,
    AdminPrivacy,
    AdminStorage,
    AdminJobRead,
    AdminJobs,
    MetricsRead,
    AdminSystem;
    dangerous:
    AdminPolicies,
    ComplianceOverride,
);

/// Whoever makes the request: authenticated, and allowed what `N` needs. A handler that takes one cannot run without.
pub struct Caller<N>(pub Actor, pub PhantomData<N>);

impl<N: Needs> FromRequest for Caller<N> {
    type Error = Stop;
    type Future = LocalBoxFuture<'static, Result<Self, Stop>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let mut actor = allowed::<N>(&request).await?;
            // Whatever body there may be says nothing, or the handler reads it by itself.
            once::claim(&request, &mut actor, idempotency_key(&request)?, &[]).await?;
            Ok(Self(actor, PhantomData))
        })
    }
}

/// Whoever makes the request, if they may.
async fn allowed<N: Needs>(request: &HttpRequest) -> Result<Actor, Problem> {
    let actor = authenticate(request, N::LIMITED).await?;
    // For the middleware that writes refusals down.
    request.extensions_mut().insert(actor.clone());
    // The header may only narrow: the tenant comes from the credential.
    if let Some(named) = request.headers().get("x-tenant-id") {
        let same = named.to_str().is_ok_and(|name| TenantId::parse(name).is_ok_and(|t| t == actor.tenant));
        if !same {
            let words = "X-Tenant-ID is not the credential's tenant";
            return Err(Error::new(Kind::Forbidden, "TENANT_MISMATCH", words).into());
        }
    }
    let state = request.app_data::<web::Data<ApiState>>().ok_or_else(|| Error::internal("no application state"))?;
    if let Some(pace) = &state.pace {
        let (left, taken) = pace.take(&actor);
        request.extensions_mut().insert(left);
        taken?;
    }
    if let Some(permission) = N::PERMISSION {
        actor.require(permission)?;
    }
    if !N::ONE_OF.is_empty() {
        actor.require_one(N::ONE_OF)?;
    }
    if N::STEP_UP {
        state.access.require_step_up(&actor).await?;
    }
    // Before the handler runs: what cannot be written down does not happen.
    let route = request.match_pattern().unwrap_or_default();
    state.access.note_allowed(&actor, &format!("{} {route}", request.method())).await?;
    Ok(actor)
}

async fn authenticate(request: &HttpRequest, limited: bool) -> Result<Actor, Problem> {
    let state = request.app_data::<web::Data<ApiState>>().ok_or_else(|| Error::internal("no application state"))?;
    let missing = || Error::new(Kind::Unauthenticated, "MISSING_CREDENTIAL", "an Authorization: Bearer credential is needed");
    let value = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).ok_or_else(missing)?;
    let (scheme, credential) = value.split_once(' ').ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing().into());
    }
    Ok(state.access.authenticate(credential.trim(), request_id::current(), limited).await?)
}

/// Whoever makes the request, and the JSON it brings. The body is read only after the caller is known and allowed.
pub struct CallerWith<N, T>(pub Actor, pub T, pub PhantomData<N>);

impl<N: Needs, T: DeserializeOwned + 'static> FromRequest for CallerWith<N, T> {
    type Error = Stop;
    type Future = LocalBoxFuture<'static, Result<Self, Stop>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, mut payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let mut actor = allowed::<N>(&request).await?;
            let body = body(&mut payload).await?;
            let value = parse(&request, &body)?;
            once::claim(&request, &mut actor, idempotency_key(&request)?, &body).await?;
            Ok(Self(actor, value, PhantomData))
        })
    }
}

/// Whoever makes the request, and the `Idempotency-Key` that it bears: for operations that store their answer in the change's own
/// transaction, by themselves. No other extractor hands the key out, so none is claimed twice.
pub struct CallerOnce<N>(pub Actor, pub IdempotencyKey, pub PhantomData<N>);

impl<N: Needs> FromRequest for CallerOnce<N> {
    type Error = Stop;
    type Future = LocalBoxFuture<'static, Result<Self, Stop>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let actor = allowed::<N>(&request).await?;
            Ok(Self(actor, IdempotencyKey(idempotency_key(&request)?), PhantomData))
        })
    }
}

/// The same, and the JSON that the request brings.
pub struct CallerOnceWith<N, T>(pub Actor, pub T, pub IdempotencyKey, pub PhantomData<N>);

impl<N: Needs, T: DeserializeOwned + 'static> FromRequest for CallerOnceWith<N, T> {
    type Error = Stop;
    type Future = LocalBoxFuture<'static, Result<Self, Stop>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, mut payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let actor = allowed::<N>(&request).await?;
            let value = json(&request, &mut payload).await?;
            Ok(Self(actor, value, IdempotencyKey(idempotency_key(&request)?), PhantomData))
        })
    }
}

/// Whoever makes a request that changes nothing, and whose body the handler reads by itself: a key says nothing there.
pub struct CallerLooks<N>(pub Actor, pub PhantomData<N>);

impl<N: Needs> FromRequest for CallerLooks<N> {
    type Error = Stop;
    type Future = LocalBoxFuture<'static, Result<Self, Stop>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(Self(allowed::<N>(&request).await?, PhantomData)) })
    }
}

/// Reads a JSON body; none at all deserializes as null, for bodies that may be left out.
pub async fn json<T: DeserializeOwned>(request: &HttpRequest, payload: &mut Payload) -> Result<T, Problem> {
    parse(request, &body(payload).await?)
}

async fn body(payload: &mut Payload) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|e| Error::new(Kind::Invalid, "INVALID_BODY", format!("the body cannot be read: {e}")))?;
        if body.len() + chunk.len() > MAX_JSON {
            return Err(Error::new(Kind::TooLarge, "BODY_TOO_LARGE", "the JSON body is over 1 MiB").into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn parse<T: DeserializeOwned>(request: &HttpRequest, body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(serde_json::from_str("null").map_err(unfit)?);
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("application/json")
        && !kind.to_ascii_lowercase().starts_with("application/scim+json")
    {
        let words = "this operation takes application/json";
        return Err(Error::new(Kind::UnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", words).into());
    }
    Ok(serde_json::from_slice(body).map_err(unfit)?)
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

/// The `Idempotency-Key`, if there is one, of an operation that stores its answer by itself: see [`CallerOnce`].
pub struct IdempotencyKey(Option<String>);

impl IdempotencyKey {
    /// The request as one that acts once: what it says in parts, the status of its answer, and how the answer's body is made.
    pub fn once<T>(self, status: u16, parts: &[&str], render: fn(&T) -> serde_json::Value) -> Option<Once<T>> {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        let fingerprint = once::fingerprint(&parts);
        self.0.map(|key| Once { key, fingerprint, status, render })
    }
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    match text_header(request, &HeaderName::from_static("idempotency-key"))? {
        None => Ok(None),
        Some(key) if !key.is_empty() && key.len() <= 255 => Ok(Some(key.to_owned())),
        Some(_) => {
            Err(Error::new(Kind::Invalid, "INVALID_IDEMPOTENCY_KEY", "Idempotency-Key must have 1 to 255 characters").into())
        }
    }
}

fn text_header<'a>(request: &'a HttpRequest, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let value = request.headers().get(name).map(|v| v.to_str());
    value.transpose().map_err(|_| Problem(Error::new(Kind::Invalid, "INVALID_HEADER", format!("{name} is not visible ASCII"))))
}
