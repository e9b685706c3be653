//! Webhooks and their deliveries.

use crate::{
    ApiState,
    extract::{Caller, CallerOnceWith, CallerWith, IfMatch, may, replayed},
    found::Found,
    problem::{Problem, ProblemBody},
    wire::{self, PageQuery, Paged},
};
use actix_web::{HttpResponse, HttpResponseBuilder, http::header, web};
use omt_kernel::{DeliveryId, EndpointId, Error, manifest::Classification, once::Outcome, webhook::DeliveryFilter};
use omt_notify::webhook::{Attempt, Changes, Created, Delivery, EVENTS, Endpoint, Format, NewEndpoint};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use time::{Duration, OffsetDateTime};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// How long an old secret goes on signing when nothing is said, in seconds.
const OVERLAP: u32 = 86_400;

/// A webhook to be made.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookRequest {
    /// Where to post: an https: URL with a public address.
    #[schema(example = "https://dam.example.com/hooks/openmediatrust")]
    url: String,
    /// Words for people.
    #[serde(default)]
    description: String,
    /// Types of events: `manifest.signed`, `workflow.*`, `*`.
    #[schema(example = json!(["manifest.signed", "workflow.*"]))]
    events: BTreeSet<String>,
    /// `standard` (default) or `cloudevents`.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "standard")]
    format: Format,
    /// Events on content classified so or lower; `internal` when absent.
    clearance: Option<String>,
    /// Events on content of this department only.
    department: Option<String>,
    /// Events on content of these projects only.
    #[serde(default)]
    projects: Vec<String>,
}

/// What is to become different; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookChange {
    /// Where to post.
    url: Option<String>,
    /// Words for people.
    description: Option<String>,
    /// Types of events.
    events: Option<BTreeSet<String>>,
    /// `standard` or `cloudevents`.
    #[schema(value_type = Option<String>)]
    format: Option<Format>,
    /// Events on content classified so or lower.
    clearance: Option<String>,
    /// Events on content of this department only; null for all that the caller sees.
    #[serde(default, deserialize_with = "wire::given")]
    #[schema(value_type = Option<String>)]
    department: Option<Option<String>>,
    /// Events on content of these projects only; none for all that the caller sees.
    projects: Option<Vec<String>>,
    /// Whether it is told. Enabling forgives what it did not take.
    enabled: Option<bool>,
}

/// A webhook.
#[derive(Serialize, ToSchema)]
pub struct Webhook {
    /// Identifier.
    id: Uuid,
    /// Where to post.
    url: String,
    /// Words for people.
    description: String,
    /// Types of events.
    events: BTreeSet<String>,
    /// `standard` or `cloudevents`.
    #[schema(value_type = String)]
    format: Format,
    /// Events on content classified so or lower.
    #[schema(value_type = String, example = "internal")]
    clearance: Classification,
    /// Events on content of this department only.
    department: Option<String>,
    /// Events on content of these projects only.
    projects: BTreeSet<String>,
    /// Whether it is told.
    enabled: bool,
    /// Why the platform itself disabled it.
    disabled_because: Option<String>,
    /// Since when every delivery has failed for good.
    #[serde(with = "time::serde::rfc3339::option")]
    failing_since: Option<OffsetDateTime>,
    /// Secrets that sign, newest first, with the times that older ones end.
    secrets: Vec<SecretAge>,
    /// Rises with each change.
    revision: i64,
    /// The subject that made it.
    created_by: String,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// Last change.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    /// What messages are signed with (HMAC-SHA-256), shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// How long a secret signs.
#[derive(Serialize, ToSchema)]
pub struct SecretAge {
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// Signs no more from then on.
    #[serde(with = "time::serde::rfc3339::option")]
    ends_at: Option<OffsetDateTime>,
}

/// Webhooks.
#[derive(Serialize, ToSchema)]
pub struct WebhookList {
    /// They, oldest first.
    items: Vec<Webhook>,
}

impl From<Endpoint> for Webhook {
    fn from(endpoint: Endpoint) -> Self {
        let (record, place) = (endpoint.record, endpoint.place);
        let age = |secret: omt_notify::webhook::Secret| SecretAge { created_at: secret.made_at, ends_at: secret.ends_at };
        Self {
            id: record.id.0,
            url: place.url,
            description: place.description,
            events: place.events,
            format: place.format,
            clearance: place.reach.clearance,
            department: place.reach.department,
            projects: place.reach.projects,
            enabled: record.enabled,
            disabled_because: place.closed_because,
            failing_since: place.failing_since,
            secrets: place.secrets.into_iter().map(age).collect(),
            revision: record.revision,
            created_by: record.created_by,
            created_at: record.created_at,
            updated_at: record.updated_at,
            secret: None,
        }
    }
}

fn one(endpoint: Endpoint, secret: Option<String>, mut response: HttpResponseBuilder) -> HttpResponse {
    let tag = (header::ETAG, format!("\"{}\"", endpoint.record.revision));
    // An answer with a secret is nobody's to keep.
    let keep = (header::CACHE_CONTROL, "no-store");
    response.insert_header(tag).insert_header(keep).json(Webhook { secret, ..endpoint.into() })
}

/// The answer as it is stored: without the secret, which is shown once.
fn render(done: &Created) -> Value {
    // A view of plain members can always be written.
    serde_json::to_value(Webhook::from(done.endpoint.clone())).unwrap_or_default()
}

/// Makes a webhook. The answer shows its secret, once: a retry with the same `Idempotency-Key` shows the rest.
#[utoipa::path(post, path = "/api/v1/webhooks", tag = "webhooks", request_body = WebhookRequest, security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "A retry with the same key and body gets the same answer, without the secret")),
    responses((status = 201, body = Webhook), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, STEP_UP_REQUIRED, BEYOND_REACH"), (status = 409, body = ProblemBody, description = "TOO_MANY_WEBHOOKS"), (status = 422, body = ProblemBody, description = "INVALID_WEBHOOK_URL, INVALID_FIELD")))]
pub async fn create(
    state: web::Data<ApiState>,
    CallerOnceWith(actor, body, key, _): CallerOnceWith<may::ChangeWebhooks, WebhookRequest>,
) -> Result<HttpResponse, Problem> {
    let once = key.once(201, &["POST /api/v1/webhooks", &json!(body).to_string()], render);
    let new = NewEndpoint {
        reach: wire::reach(&actor, body.department, body.projects, body.clearance.as_deref(), Classification::Internal)?,
        url: body.url,
        description: body.description,
        events: body.events,
        format: body.format,
    };
    Ok(match state.webhooks.create(&actor, new, once.as_ref()).await? {
        Outcome::Done(done) => {
            let mut response = HttpResponse::Created();
            response.insert_header((header::LOCATION, format!("/api/v1/webhooks/{}", done.endpoint.id())));
            one(done.endpoint, Some(done.secret), response)
        }
        Outcome::Replayed { status, body } => replayed(status, &body),
    })
}

/// Lists webhooks.
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "webhooks", security(("bearer" = [])), responses((status = 200, body = WebhookList), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn list(state: web::Data<ApiState>, caller: Caller<may::SeeConfiguration>) -> Result<HttpResponse, Problem> {
    let items = state.webhooks.list(&caller.0).await?.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(WebhookList { items }))
}

/// A type of event.
#[derive(Serialize, ToSchema)]
pub struct EventType {
    /// Its name.
    name: &'static str,
    /// What it tells.
    description: &'static str,
}

/// Types of events.
#[derive(Serialize, ToSchema)]
pub struct EventTypes {
    /// They.
    items: Vec<EventType>,
}

/// Lists every type of event that webhooks can be told of.
#[utoipa::path(get, path = "/api/v1/webhooks/event-types", tag = "webhooks", security(("bearer" = [])), responses((status = 200, body = EventTypes), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn event_types(_: Caller<may::SeeConfiguration>) -> Result<HttpResponse, Problem> {
    let items = EVENTS.iter().map(|(name, description)| EventType { name, description }).collect();
    Ok(HttpResponse::Ok().json(EventTypes { items }))
}

/// One webhook.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}", tag = "webhooks", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = Webhook), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn get(endpoint: Found<may::SeeConfiguration, Endpoint>) -> HttpResponse {
    one(endpoint.thing, None, HttpResponse::Ok())
}

/// Changes a webhook.
#[utoipa::path(patch, path = "/api/v1/webhooks/{id}", tag = "webhooks", params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header, description = "The revision you saw")), request_body = WebhookChange, security(("bearer" = [])), responses((status = 200, body = Webhook), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, STEP_UP_REQUIRED, BEYOND_REACH"), (status = 404, body = ProblemBody), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody, description = "INVALID_WEBHOOK_URL, INVALID_FIELD")))]
pub async fn update(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ChangeWebhooks, WebhookChange>,
    id: web::Path<Uuid>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let changes = Changes {
        clearance: body.clearance.as_deref().map(wire::clearance).transpose()?,
        department: body.department,
        projects: body.projects.map(|projects| projects.into_iter().collect()),
        url: body.url,
        description: body.description,
        events: body.events,
        format: body.format,
        enabled: body.enabled,
    };
    Ok(one(state.webhooks.update(&actor, EndpointId(*id), changes, if_match.0).await?, None, HttpResponse::Ok()))
}

/// Removes a webhook, and the log of its deliveries.
#[utoipa::path(delete, path = "/api/v1/webhooks/{id}", tag = "webhooks", params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header, description = "The revision you saw")), security(("bearer" = [])), responses((status = 204), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 412, body = ProblemBody)))]
pub async fn delete(
    state: web::Data<ApiState>,
    caller: Caller<may::ChangeWebhooks>,
    id: web::Path<Uuid>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    state.webhooks.delete(&caller.0, EndpointId(*id), if_match.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// How to change over to a new secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// Seconds that the secrets before it go on signing, 0 to 604800; 86400 when absent.
    overlap_seconds: Option<u32>,
}

/// Makes a new secret, shown once. Messages carry a signature of each secret that has not ended.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/rotate-secret", tag = "webhooks", params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header, description = "The revision you saw")), request_body = RotateRequest, security(("bearer" = [])), responses((status = 200, body = Webhook), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub async fn rotate(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ChangeWebhooks, RotateRequest>,
    id: web::Path<Uuid>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let overlap = Duration::seconds(body.overlap_seconds.unwrap_or(OVERLAP).into());
    let done = state.webhooks.rotate(&actor, EndpointId(*id), overlap, if_match.0).await?;
    Ok(one(done.endpoint, Some(done.secret), HttpResponse::Ok()))
}

/// A try to deliver.
#[derive(Serialize, ToSchema)]
pub struct DeliveryAttempt {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// The answer's status.
    status: Option<u16>,
    /// What went wrong, when there was no answer.
    error: Option<String>,
    /// The beginning of what the endpoint said.
    excerpt: Option<String>,
    /// How long it took.
    milliseconds: u64,
}

impl From<Attempt> for DeliveryAttempt {
    fn from(attempt: Attempt) -> Self {
        let Attempt { at, status, error, excerpt, milliseconds } = attempt;
        Self { at, status, error, excerpt, milliseconds }
    }
}

/// An event on its way to a webhook.
#[derive(Serialize, ToSchema)]
pub struct WebhookDelivery {
    /// Identifier.
    id: Uuid,
    /// The message: `webhook-id` in its header, the same at every attempt.
    message_id: Uuid,
    /// The type of event.
    event: String,
    /// `pending`, `delivered` or `failed`.
    state: String,
    /// What it says.
    #[schema(value_type = Object)]
    data: Value,
    /// How often it was tried.
    tries: u32,
    /// The last of them, oldest first.
    attempts: Vec<DeliveryAttempt>,
    /// When it is tried again.
    #[serde(with = "time::serde::rfc3339::option")]
    next_at: Option<OffsetDateTime>,
    /// When the event was.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// Last change.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<Delivery> for WebhookDelivery {
    fn from(delivery: Delivery) -> Self {
        let (record, parcel) = (delivery.record, delivery.parcel);
        Self {
            id: record.id.0,
            message_id: record.message,
            event: record.event,
            state: record.state,
            data: parcel.data,
            tries: parcel.tries,
            attempts: parcel.attempts.into_iter().map(Into::into).collect(),
            next_at: parcel.next_at,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

/// Sends a webhook an event of its own, `webhook.test`.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/test", tag = "webhooks", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 202, body = WebhookDelivery), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "WEBHOOK_DISABLED")))]
pub async fn test(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminSystem>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let made = state.webhooks.test(&caller.0, EndpointId(*id)).await?;
    let place = (header::LOCATION, format!("/api/v1/webhooks/{id}/deliveries/{}", made.record.id));
    Ok(HttpResponse::Accepted().insert_header(place).json(WebhookDelivery::from(made)))
}

/// Which deliveries to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeliveryQuery {
    /// `pending`, `delivered` or `failed`.
    state: Option<String>,
    /// Exact type of event.
    event: Option<String>,
    /// Items on the page, 1 to 200; 50 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists a webhook's deliveries, newest first.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}/deliveries", tag = "webhooks", params(("id" = Uuid, Path,), DeliveryQuery), security(("bearer" = [])), responses((status = 200, body = Paged<WebhookDelivery>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn deliveries(
    state: web::Data<ApiState>,
    caller: Caller<may::SeeConfiguration>,
    id: web::Path<Uuid>,
    query: web::Query<DeliveryQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let known = [Delivery::PENDING, Delivery::DELIVERED, Delivery::FAILED];
    if query.state.as_deref().is_some_and(|state| !known.contains(&state)) {
        return Err(Error::invalid_field("INVALID_FIELD", "state", "must be one of pending, delivered, failed").into());
    }
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    let filter = DeliveryFilter { state: query.state, event: query.event, ..DeliveryFilter::default() };
    let found = state.webhooks.deliveries(&caller.0, EndpointId(*id), filter, page).await?;
    Ok(HttpResponse::Ok().json(Paged::of(found, page, |delivery| delivery.record.id.0, WebhookDelivery::from)))
}

/// One delivery.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}/deliveries/{delivery}", tag = "webhooks", params(("id" = Uuid, Path,), ("delivery" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = WebhookDelivery), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn delivery(
    state: web::Data<ApiState>,
    caller: Caller<may::SeeConfiguration>,
    path: web::Path<(Uuid, Uuid)>,
) -> Result<HttpResponse, Problem> {
    let (endpoint, id) = (EndpointId(path.0), DeliveryId(path.1));
    Ok(HttpResponse::Ok().json(WebhookDelivery::from(state.webhooks.delivery(&caller.0, endpoint, id).await?)))
}

/// Makes a delivery again, with the same message.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/deliveries/{delivery}/replay", tag = "webhooks", params(("id" = Uuid, Path,), ("delivery" = Uuid, Path,)), security(("bearer" = [])), responses((status = 202, body = WebhookDelivery), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "DELIVERY_PENDING, WEBHOOK_DISABLED, BEYOND_REACH")))]
pub async fn replay(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminSystem>,
    path: web::Path<(Uuid, Uuid)>,
) -> Result<HttpResponse, Problem> {
    let (endpoint, id) = (EndpointId(path.0), DeliveryId(path.1));
    Ok(HttpResponse::Accepted().json(WebhookDelivery::from(state.webhooks.replay(&caller.0, endpoint, id).await?)))
}

/// From when on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverRequest {
    /// Failed deliveries of events at or after.
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
}

/// What is made again.
#[derive(Serialize, ToSchema)]
pub struct Recovered {
    /// How many deliveries.
    deliveries: u64,
    /// Whether there are more: ask again when these are made.
    more: bool,
}

/// Makes deliveries since a time again that were never made, the newest 500 at once.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/recover", tag = "webhooks", params(("id" = Uuid, Path,)), request_body = RecoverRequest, security(("bearer" = [])), responses((status = 202, body = Recovered), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "WEBHOOK_DISABLED")))]
pub async fn recover(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminSystem, RecoverRequest>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let (deliveries, more) = state.webhooks.recover(&actor, EndpointId(*id), body.since).await?;
    Ok(HttpResponse::Accepted().json(Recovered { deliveries, more }))
}
