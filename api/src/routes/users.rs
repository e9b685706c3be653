//! Users and their sessions, for administrators; and why somebody may do something.

use crate::{
    ApiState,
    extract::{Caller, CallerWith, IfMatch, may},
    found::Found,
    problem::{Problem, ProblemBody},
    wire::{self, PageQuery, Paged, Session, User},
};
use actix_web::{HttpResponse, http::header, web};
use omt_access::{Explanation, NewUser, UserChange};
use omt_kernel::{
    Error, ManifestId, Permission, SessionId, UserId,
    access::{UserFilter, UserRecord},
    manifest::Classification,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// A user to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// Login name.
    #[schema(example = "alice")]
    username: String,
    /// Name for people.
    display_name: Option<String>,
    /// Address.
    email: Option<String>,
    /// Password; at least as long as the configuration says.
    password: Option<String>,
    /// Roles.
    #[serde(default)]
    #[schema(example = json!(["creator"]))]
    roles: Vec<String>,
    /// Only this department's content, and content of none.
    department: Option<String>,
    /// Only these projects' content, and content of none.
    #[serde(default)]
    projects: Vec<String>,
    /// The most sensitive classification; `internal` when absent.
    clearance: Option<String>,
    /// Whether the user may log in.
    #[serde(default = "yes")]
    active: bool,
}

/// What a user becomes: everything that can be changed. What is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChangeRequest {
    /// Login name.
    username: Option<String>,
    /// Name for people; null clears it.
    #[serde(default, deserialize_with = "wire::given")]
    #[schema(value_type = Option<String>)]
    display_name: Option<Option<String>>,
    /// Address; null clears it.
    #[serde(default, deserialize_with = "wire::given")]
    #[schema(value_type = Option<String>)]
    email: Option<Option<String>>,
    /// New password; every session ends.
    password: Option<String>,
    /// Roles.
    roles: Option<Vec<String>>,
    /// Department; null means every department.
    #[serde(default, deserialize_with = "wire::given")]
    #[schema(value_type = Option<String>)]
    department: Option<Option<String>>,
    /// Projects; empty means every project.
    projects: Option<Vec<String>>,
    /// Clearance.
    clearance: Option<String>,
    /// Whether the user may log in.
    active: Option<bool>,
    /// Removes a lost second factor; every session ends.
    #[serde(default)]
    reset_second_factor: bool,
}

fn yes() -> bool {
    true
}

/// Which users to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UserQuery {
    /// Part of the login name.
    username: Option<String>,
    /// Only active, or only inactive ones.
    active: Option<bool>,
    /// Items on the page, 1 to 200; 50 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Which sessions to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SessionQuery {
    /// Only this user's.
    user: Option<Uuid>,
    /// Items on the page, 1 to 200; 50 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

fn one(user: omt_kernel::access::UserRecord, mut response: actix_web::HttpResponseBuilder) -> HttpResponse {
    response.insert_header((header::ETAG, format!("\"{}\"", user.revision))).json(User::from(user))
}

/// Makes a user.
#[utoipa::path(post, path = "/api/v1/admin/users", tag = "admin", request_body = UserRequest, security(("bearer" = [])), responses((status = 201, body = User), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, PERMISSION_NOT_HELD, REACH_NOT_HELD, STEP_UP_REQUIRED"), (status = 409, body = ProblemBody, description = "USERNAME_TAKEN"), (status = 422, body = ProblemBody, description = "INVALID_FIELD, WEAK_PASSWORD, UNKNOWN_ROLE")))]
pub async fn create(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminUsers, UserRequest>,
) -> Result<HttpResponse, Problem> {
    let given = body.department.is_some() || !body.projects.is_empty() || body.clearance.is_some();
    let new = NewUser {
        username: body.username,
        display_name: body.display_name,
        email: body.email,
        password: body.password,
        external_id: None,
        scim: false,
        roles: body.roles.into_iter().collect(),
        reach: given
            .then(|| wire::reach(&actor, body.department, body.projects, body.clearance.as_deref(), Classification::Internal))
            .transpose()?,
        active: body.active,
    };
    Ok(one(state.access.create_user(&actor, new).await?, HttpResponse::Created()))
}

/// Lists users, newest first.
#[utoipa::path(get, path = "/api/v1/admin/users", tag = "admin", params(UserQuery), security(("bearer" = [])), responses((status = 200, body = Paged<User>), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn list(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminUserRead>,
    query: web::Query<UserQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    let filter = UserFilter {
        username_contains: query.username.map(|name| name.to_lowercase()),
        active: query.active,
        ..UserFilter::default()
    };
    let users = state.access.users(&caller.0, &filter, page).await?;
    Ok(HttpResponse::Ok().json(Paged::of(users, page, |u| u.id.0, User::from)))
}

/// One user.
#[utoipa::path(get, path = "/api/v1/admin/users/{id}", tag = "admin", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = User), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn get(user: Found<may::AdminUserRead, UserRecord>) -> HttpResponse {
    one(user.thing, HttpResponse::Ok())
}

/// Changes a user. Roles that are taken away are gone everywhere within a second.
#[utoipa::path(put, path = "/api/v1/admin/users/{id}", tag = "admin", params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header, description = "The revision you saw")), request_body = UserChangeRequest, security(("bearer" = [])), responses((status = 200, body = User), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, PERMISSION_NOT_HELD, REACH_NOT_HELD, OUTRANKED"), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "LAST_ADMINISTRATOR, USERNAME_TAKEN, NOT_LOCAL, CONCURRENT_CHANGE"), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub async fn update(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminUsers, UserChangeRequest>,
    id: web::Path<Uuid>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let id = UserId(*id);
    let change = UserChange {
        username: body.username,
        display_name: body.display_name,
        email: body.email,
        external_id: None,
        password: body.password,
        roles: body.roles.map(|roles| roles.into_iter().collect()),
        department: body.department,
        projects: body.projects.map(|projects| projects.into_iter().collect()),
        clearance: body.clearance.as_deref().map(wire::clearance).transpose()?,
        active: body.active,
        reset_second_factor: body.reset_second_factor,
    };
    Ok(one(state.access.update_user(&actor, id, change, if_match.0).await?, HttpResponse::Ok()))
}

/// Removes a user, with sessions and tokens.
#[utoipa::path(delete, path = "/api/v1/admin/users/{id}", tag = "admin", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 204), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, OUTRANKED"), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "LAST_ADMINISTRATOR")))]
pub async fn delete(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminUsers>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    state.access.delete_user(&caller.0, UserId(*id)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Live sessions of the tenant, newest first.
#[utoipa::path(get, path = "/api/v1/admin/sessions", tag = "admin", params(SessionQuery), security(("bearer" = [])), responses((status = 200, body = Paged<Session>), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn sessions(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminUserRead>,
    query: web::Query<SessionQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    let sessions = state.access.sessions(&caller.0, query.user.map(UserId), page).await?;
    let current = caller.0.session;
    Ok(HttpResponse::Ok().json(Paged::of(sessions, page, |s| s.id.0, |s| Session::of(s, current))))
}

/// Ends any session of the tenant, everywhere within a second.
#[utoipa::path(delete, path = "/api/v1/admin/sessions/{id}", tag = "admin", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 204), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn revoke_session(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminUsers>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    state.access.revoke_session(&caller.0, SessionId(*id)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What to explain.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExplainQuery {
    /// The user.
    user: Uuid,
    /// The permission.
    permission: String,
    /// A manifest; without one only the permission is explained.
    resource: Option<Uuid>,
}

/// A role, and what comes of it.
#[derive(Serialize, ToSchema)]
pub struct RoleReason {
    /// The role.
    role: String,
    /// Given to the user here.
    assigned: bool,
    /// Groups that give it: by a mapping, or by being values of an issuer's claim that are roles.
    groups: Vec<String>,
    /// Where it gives the permission: from this role down to the one that has it.
    chain: Option<Vec<String>>,
}

/// Something that is looked at.
#[derive(Serialize, ToSchema)]
pub struct Check {
    /// What.
    check: String,
    /// Whether it holds.
    holds: bool,
}

/// Why.
#[derive(Serialize, ToSchema)]
pub struct ExplanationResponse {
    /// The user.
    user: Uuid,
    /// The permission.
    permission: String,
    /// Whether it is allowed.
    allowed: bool,
    /// Groups that the user was last seen in.
    groups: Vec<String>,
    /// Roles, and what each gives.
    roles: Vec<RoleReason>,
    /// What decides.
    checks: Vec<Check>,
}

/// Why a user may do something, or may not: groups, roles, and what is looked at.
#[utoipa::path(get, path = "/api/v1/admin/explain", tag = "admin", params(ExplainQuery), security(("bearer" = [])), responses((status = 200, body = ExplanationResponse), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn explain(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminUserRead>,
    query: web::Query<ExplainQuery>,
) -> Result<HttpResponse, Problem> {
    let unknown = || Error::invalid_field("INVALID_QUERY", "permission", "there is no such permission");
    let permission: Permission = query.permission.parse().map_err(|()| unknown())?;
    let found = state.access.explain(&caller.0, UserId(query.user), permission, query.resource.map(ManifestId)).await?;
    let Explanation { user, allowed, roles, checks } = found;
    let reason = |r: omt_access::RoleReason| RoleReason { role: r.role, assigned: r.assigned, groups: r.groups, chain: r.chain };
    Ok(HttpResponse::Ok().json(ExplanationResponse {
        user: user.id.0,
        permission: permission.to_string(),
        allowed,
        groups: user.mapped.groups.into_iter().collect(),
        roles: roles.into_iter().map(reason).collect(),
        checks: checks.into_iter().map(|(check, holds)| Check { check, holds }).collect(),
    }))
}
