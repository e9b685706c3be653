//! SCIM 2.0 (RFC 7643, RFC 7644): an identity provider keeps users and groups here. Group mappings give groups their roles, so a
//! client never names a role.

use crate::{
    ApiState,
    extract::{Caller, CallerWith, may},
    problem::Problem,
    scim_patch::{self, Operation},
};
use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
    web,
};
use omt_access::{GroupChange, NewUser, UserChange};
use omt_kernel::{
    Actor, Error, Kind, UserId,
    access::{GroupRecord, UserFilter, UserRecord},
    port::Page,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt;
use time::format_description::well_known::Rfc3339;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const LIST: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
const ERROR: &str = "urn:ietf:params:scim:api:messages:2.0:Error";
/// The most resources of one answer.
const MAX: usize = 200;
/// How far into a list `startIndex` reaches.
const REACH: usize = 100_000;

/// An error as SCIM has it (RFC 7644 §3.12).
#[derive(Debug)]
pub struct ScimError(pub Error);

impl From<Error> for ScimError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for ScimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for ScimError {
    fn status_code(&self) -> StatusCode {
        // SCIM knows no 422.
        if self.0.kind == Kind::Unprocessable { StatusCode::BAD_REQUEST } else { Problem(self.0.clone()).status_code() }
    }

    fn error_response(&self) -> HttpResponse {
        if self.0.kind == Kind::Internal {
            return Problem(self.0.clone()).error_response();
        }
        let kind = match self.0.code {
            "USERNAME_TAKEN" => Some("uniqueness"),
            "INVALID_FILTER" => Some("invalidFilter"),
            "INVALID_PATH" => Some("invalidPath"),
            _ if self.status_code() == StatusCode::BAD_REQUEST => Some("invalidValue"),
            _ => None,
        };
        let status = self.status_code();
        let body = json!({
            "schemas": [ERROR], "status": status.as_u16().to_string(), "detail": self.0.message, "scimType": kind, "code": self.0.code,
        });
        HttpResponse::build(status).content_type("application/scim+json").body(body.to_string())
    }
}

/// A user to make or to replace.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScimUser {
    /// Login name.
    #[schema(example = "petra@example.test")]
    user_name: String,
    /// The client's own name for the user.
    external_id: Option<String>,
    /// Name for people.
    display_name: Option<String>,
    /// Name in parts.
    #[schema(value_type = Option<Object>)]
    name: Option<Value>,
    /// Addresses.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    emails: Vec<Value>,
    /// Whether the user may log in.
    #[serde(default = "yes")]
    active: bool,
}

/// A group to make or to replace.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScimGroup {
    /// Its name, which group mappings name.
    #[schema(example = "approvers")]
    display_name: String,
    /// The client's own name for it.
    external_id: Option<String>,
    /// Its members.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    members: Vec<Value>,
}

/// Changes (RFC 7644 §3.5.2).
#[derive(Deserialize, ToSchema)]
pub struct PatchRequest {
    /// They.
    #[serde(rename = "Operations")]
    #[schema(value_type = Vec<Object>)]
    operations: Vec<Operation>,
}

/// Which resources to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct ScimQuery {
    /// `userName eq "…"`, `externalId eq "…"` or `active eq true` for users, `displayName eq "…"` for groups.
    filter: Option<String>,
    /// From 1.
    start_index: Option<usize>,
    /// At most this many, up to 200.
    count: Option<usize>,
}

fn yes() -> bool {
    true
}

fn answer(mut response: actix_web::HttpResponseBuilder, body: &Value) -> HttpResponse {
    response.content_type("application/scim+json").body(body.to_string())
}

fn email(emails: &[Value]) -> Option<String> {
    let primary = emails.iter().find(|email| email["primary"] == true).or(emails.first())?;
    primary["value"].as_str().or(primary.as_str()).map(str::to_owned)
}

fn location(state: &ApiState, kind: &str, id: Uuid) -> String {
    format!("{}/scim/v2/{kind}/{id}", state.public_url)
}

fn user_body(state: &ApiState, user: &UserRecord) -> Value {
    let emails: Vec<Value> = user.email.iter().map(|email| json!({ "value": email, "primary": true })).collect();
    json!({
        "schemas": [USER], "id": user.id.0, "userName": user.username, "externalId": user.external_id,
        "displayName": user.display_name, "name": { "formatted": user.display_name }, "emails": emails, "active": user.active,
        "meta": {
            "resourceType": "User", "created": user.created_at.format(&Rfc3339).ok(),
            "lastModified": user.updated_at.format(&Rfc3339).ok(), "location": location(state, "Users", user.id.0),
            "version": format!("W/\"{}\"", user.revision),
        },
    })
}

fn group_body(state: &ApiState, group: &GroupRecord, members: &[UserId]) -> Value {
    let members: Vec<Value> =
        members.iter().map(|id| json!({ "value": id.0, "$ref": location(state, "Users", id.0), "type": "User" })).collect();
    json!({
        "schemas": [GROUP], "id": group.id, "displayName": group.name, "externalId": group.external_id, "members": members,
        "meta": {
            "resourceType": "Group", "created": group.created_at.format(&Rfc3339).ok(), "location": location(state, "Groups", group.id),
        },
    })
}

/// A filter of one comparison: its attribute in lower case, and its value.
fn comparison(filter: &str) -> Result<(String, Value), ScimError> {
    let bad = || Error::new(Kind::Invalid, "INVALID_FILTER", "only filters of one comparison with eq are understood");
    let mut parts = filter.trim().splitn(3, ' ');
    let (Some(attribute), Some(operator), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(bad().into());
    };
    if !operator.eq_ignore_ascii_case("eq") {
        return Err(bad().into());
    }
    let value = serde_json::from_str(value.trim()).map_err(|_| bad())?;
    Ok((attribute.to_lowercase(), value))
}

fn window(query: &ScimQuery) -> (usize, usize) {
    // What is below 1 counts as 1 (RFC 7644 §3.4.2.4).
    (query.start_index.unwrap_or(1).clamp(1, REACH), query.count.unwrap_or(100).min(MAX))
}

fn list(total: usize, start: usize, resources: Vec<Value>) -> HttpResponse {
    let body = json!({
        "schemas": [LIST], "totalResults": total, "startIndex": start, "itemsPerPage": resources.len(), "Resources": resources,
    });
    answer(HttpResponse::Ok(), &body)
}

/// Makes a user, who logs in by the identity provider.
#[utoipa::path(post, path = "/scim/v2/Users", tag = "scim", request_body = ScimUser, security(("bearer" = [])), responses((status = 201, body = Object), (status = 400, body = Object), (status = 401), (status = 403), (status = 409, body = Object, description = "uniqueness")))]
pub async fn create_user(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminUsers, ScimUser>,
) -> Result<HttpResponse, ScimError> {
    let formatted = body.name.as_ref().and_then(|name| name["formatted"].as_str().map(str::to_owned));
    let new = NewUser {
        username: body.user_name,
        display_name: body.display_name.or(formatted),
        email: email(&body.emails),
        external_id: body.external_id,
        scim: true,
        active: body.active,
        ..NewUser::default()
    };
    let user = state.access.create_user(&actor, new).await?;
    let mut response = HttpResponse::Created();
    response.insert_header((header::LOCATION, location(&state, "Users", user.id.0)));
    Ok(answer(response, &user_body(&state, &user)))
}

/// Lists users.
#[utoipa::path(get, path = "/scim/v2/Users", tag = "scim", params(ScimQuery), security(("bearer" = [])), responses((status = 200, body = Object), (status = 400, body = Object, description = "invalidFilter"), (status = 401), (status = 403)))]
pub async fn list_users(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminUserRead>,
    query: web::Query<ScimQuery>,
) -> Result<HttpResponse, ScimError> {
    let mut filter = UserFilter::default();
    if let Some(text) = &query.filter {
        match comparison(text)? {
            (attribute, Value::String(name)) if attribute == "username" => filter.username = Some(name.to_lowercase()),
            (attribute, Value::String(id)) if attribute == "externalid" => filter.external_id = Some(id),
            (attribute, Value::Bool(active)) if attribute == "active" => filter.active = Some(active),
            _ => return Err(Error::new(Kind::Invalid, "INVALID_FILTER", "the attribute cannot be filtered by").into()),
        }
    }
    let (start, count) = window(&query);
    let (mut total, mut shown, mut after) = (0, Vec::new(), None);
    loop {
        let page = state.access.users(&caller.0, &filter, Page { after, limit: 500 }).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.0);
        for user in &page {
            total += 1;
            if total >= start && shown.len() < count {
                shown.push(user_body(&state, user));
            }
        }
        if total >= REACH {
            break;
        }
    }
    Ok(list(total, start, shown))
}

/// One user.
#[utoipa::path(get, path = "/scim/v2/Users/{id}", tag = "scim", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = Object), (status = 401), (status = 403), (status = 404, body = Object)))]
pub async fn get_user(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminUserRead>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ScimError> {
    let user = state.access.user(&caller.0, UserId(*id)).await?;
    Ok(answer(HttpResponse::Ok(), &user_body(&state, &user)))
}

async fn change_user(state: &ApiState, actor: &Actor, id: Uuid, change: UserChange) -> Result<HttpResponse, ScimError> {
    let user = state.access.update_user(actor, UserId(id), change, None).await?;
    Ok(answer(HttpResponse::Ok(), &user_body(state, &user)))
}

/// Replaces a user.
#[utoipa::path(put, path = "/scim/v2/Users/{id}", tag = "scim", params(("id" = Uuid, Path,)), request_body = ScimUser, security(("bearer" = [])), responses((status = 200, body = Object), (status = 400, body = Object), (status = 401), (status = 403), (status = 404, body = Object), (status = 409, body = Object)))]
pub async fn replace_user(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminUsers, ScimUser>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ScimError> {
    let formatted = body.name.as_ref().and_then(|name| name["formatted"].as_str().map(str::to_owned));
    let change = UserChange {
        username: Some(body.user_name),
        display_name: Some(body.display_name.or(formatted)),
        email: Some(email(&body.emails)),
        external_id: Some(body.external_id),
        active: Some(body.active),
        ..UserChange::default()
    };
    change_user(&state, &actor, *id, change).await
}

/// Changes a user; `active` set to false ends every session.
#[utoipa::path(patch, path = "/scim/v2/Users/{id}", tag = "scim", params(("id" = Uuid, Path,)), request_body = PatchRequest, security(("bearer" = [])), responses((status = 200, body = Object), (status = 400, body = Object, description = "invalidPath, invalidValue"), (status = 401), (status = 403), (status = 404, body = Object), (status = 409, body = Object)))]
pub async fn patch_user(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminUsers, PatchRequest>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ScimError> {
    change_user(&state, &actor, *id, scim_patch::user(&body.operations)?).await
}

/// Removes a user.
#[utoipa::path(delete, path = "/scim/v2/Users/{id}", tag = "scim", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 204), (status = 401), (status = 403), (status = 404, body = Object), (status = 409, body = Object)))]
pub async fn delete_user(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminUsers>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ScimError> {
    state.access.delete_user(&caller.0, UserId(*id)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Makes a group.
#[utoipa::path(post, path = "/scim/v2/Groups", tag = "scim", request_body = ScimGroup, security(("bearer" = [])), responses((status = 201, body = Object), (status = 400, body = Object), (status = 401), (status = 403, body = Object, description = "FORBIDDEN, PERMISSION_NOT_HELD, REACH_NOT_HELD, STEP_UP_REQUIRED")))]
pub async fn create_group(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminUsers, ScimGroup>,
) -> Result<HttpResponse, ScimError> {
    let change = replacement(body)?;
    let (group, members) = state.access.put_group(&actor, None, |_| Ok(change.clone())).await?;
    let mut response = HttpResponse::Created();
    response.insert_header((header::LOCATION, location(&state, "Groups", group.id)));
    Ok(answer(response, &group_body(&state, &group, &members)))
}

fn replacement(body: ScimGroup) -> Result<GroupChange, ScimError> {
    let members = scim_patch::members(&Value::Array(body.members))?;
    Ok(GroupChange { name: body.display_name, external_id: body.external_id, members: Some(members) })
}

/// Lists groups.
#[utoipa::path(get, path = "/scim/v2/Groups", tag = "scim", params(ScimQuery), security(("bearer" = [])), responses((status = 200, body = Object), (status = 400, body = Object, description = "invalidFilter"), (status = 401), (status = 403)))]
pub async fn list_groups(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminUserRead>,
    query: web::Query<ScimQuery>,
) -> Result<HttpResponse, ScimError> {
    let name = match query.filter.as_deref().map(comparison).transpose()? {
        None => None,
        Some((attribute, Value::String(name))) if attribute == "displayname" => Some(name),
        Some(_) => return Err(Error::new(Kind::Invalid, "INVALID_FILTER", "the attribute cannot be filtered by").into()),
    };
    let (start, count) = window(&query);
    let (mut total, mut shown, mut after) = (0, Vec::new(), None);
    loop {
        let page = state.access.groups(&caller.0, name.as_deref(), Page { after, limit: 500 }).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for group in &page {
            total += 1;
            if total >= start && shown.len() < count {
                let (group, members) = state.access.group(&caller.0, group.id).await?;
                shown.push(group_body(&state, &group, &members));
            }
        }
        if total >= REACH {
            break;
        }
    }
    Ok(list(total, start, shown))
}

/// One group.
#[utoipa::path(get, path = "/scim/v2/Groups/{id}", tag = "scim", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = Object), (status = 401), (status = 403), (status = 404, body = Object)))]
pub async fn get_group(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminUserRead>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ScimError> {
    let (group, members) = state.access.group(&caller.0, *id).await?;
    Ok(answer(HttpResponse::Ok(), &group_body(&state, &group, &members)))
}

/// Replaces a group.
#[utoipa::path(put, path = "/scim/v2/Groups/{id}", tag = "scim", params(("id" = Uuid, Path,)), request_body = ScimGroup, security(("bearer" = [])), responses((status = 200, body = Object), (status = 400, body = Object), (status = 401), (status = 403, body = Object, description = "FORBIDDEN, PERMISSION_NOT_HELD, REACH_NOT_HELD, STEP_UP_REQUIRED"), (status = 404, body = Object)))]
pub async fn replace_group(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminUsers, ScimGroup>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ScimError> {
    let change = replacement(body)?;
    let (group, members) = state.access.put_group(&actor, Some(*id), |_| Ok(change.clone())).await?;
    Ok(answer(HttpResponse::Ok(), &group_body(&state, &group, &members)))
}

/// Changes a group: its name, or who is in it.
#[utoipa::path(patch, path = "/scim/v2/Groups/{id}", tag = "scim", params(("id" = Uuid, Path,)), request_body = PatchRequest, security(("bearer" = [])), responses((status = 200, body = Object), (status = 400, body = Object, description = "invalidPath, invalidValue"), (status = 401), (status = 403, body = Object, description = "FORBIDDEN, PERMISSION_NOT_HELD, REACH_NOT_HELD, STEP_UP_REQUIRED"), (status = 404, body = Object)))]
pub async fn patch_group(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminUsers, PatchRequest>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ScimError> {
    let change = |current: Option<(GroupRecord, Vec<UserId>)>| {
        let (group, members) = current.ok_or_else(|| Error::not_found("group"))?;
        scim_patch::group(&body.operations, group, members)
    };
    let (group, members) = state.access.put_group(&actor, Some(*id), change).await?;
    Ok(answer(HttpResponse::Ok(), &group_body(&state, &group, &members)))
}

/// Removes a group.
#[utoipa::path(delete, path = "/scim/v2/Groups/{id}", tag = "scim", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 204), (status = 401), (status = 403, body = Object, description = "FORBIDDEN, PERMISSION_NOT_HELD, REACH_NOT_HELD, STEP_UP_REQUIRED"), (status = 404, body = Object)))]
pub async fn delete_group(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminUsers>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ScimError> {
    state.access.delete_group(&caller.0, *id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What this service provider understands (RFC 7643 §5).
#[utoipa::path(get, path = "/scim/v2/ServiceProviderConfig", tag = "scim", security(("bearer" = [])), responses((status = 200, body = Object), (status = 401)))]
pub async fn provider(_: Caller<may::Anything>) -> HttpResponse {
    let body = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": { "supported": true }, "bulk": { "supported": false, "maxOperations": 0, "maxPayloadSize": 0 },
        "filter": { "supported": true, "maxResults": MAX }, "changePassword": { "supported": false },
        "sort": { "supported": false }, "etag": { "supported": false },
        "authenticationSchemes": [{
            "type": "oauthbearertoken", "name": "API key", "description": "An API key with admin:user:read and admin:user:manage",
        }],
    });
    answer(HttpResponse::Ok(), &body)
}
