//! Roles and group mappings.

use crate::{
    ApiState,
    extract::{Caller, CallerWith, IfMatch, may},
    problem::{Problem, ProblemBody},
    wire,
};
use actix_web::{HttpResponse, http::header, web};
use omt_access::{MappingEffect, NewMapping, RoleChange};
use omt_kernel::{
    Error, MappingId, Permission,
    access::{GroupMapping, RoleRecord},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// A role to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRequest {
    /// Its name: lower-case letters, digits and inner hyphens.
    #[schema(example = "picture-desk")]
    name: String,
    /// Words for people.
    #[serde(default)]
    description: String,
    /// Roles whose permissions it has too.
    #[serde(default)]
    #[schema(example = json!(["editor"]))]
    inherits: Vec<String>,
    /// Permissions of its own.
    #[serde(default)]
    #[schema(example = json!(["manifest:hold"]))]
    permissions: Vec<String>,
}

/// What a role becomes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleChangeRequest {
    /// Words for people.
    #[serde(default)]
    description: String,
    /// Roles whose permissions it has too.
    #[serde(default)]
    inherits: Vec<String>,
    /// Permissions of its own.
    #[serde(default)]
    permissions: Vec<String>,
}

/// A role.
#[derive(Serialize, ToSchema)]
pub struct Role {
    /// Its name.
    name: String,
    /// Words for people.
    description: String,
    /// Every tenant has it, and nobody can change it.
    built_in: bool,
    /// Roles whose permissions it has too.
    inherits: Vec<String>,
    /// Permissions of its own.
    #[schema(value_type = Vec<String>)]
    permissions: Vec<&'static str>,
    /// Rises with each change.
    revision: i64,
}

/// Every role.
#[derive(Serialize, ToSchema)]
pub struct Roles {
    /// They.
    items: Vec<Role>,
}

/// A group mapping to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingRequest {
    /// The group: a distinguished name, or the name that an issuer or SCIM client gives it.
    #[schema(example = "cn=legal,ou=groups,dc=example,dc=test")]
    group: String,
    /// Roles of its members.
    #[serde(default)]
    #[schema(example = json!(["approver"]))]
    roles: Vec<String>,
    /// Their department.
    department: Option<String>,
    /// Their projects.
    #[serde(default)]
    projects: Vec<String>,
    /// Their clearance.
    clearance: Option<String>,
}

/// A group mapping.
#[derive(Serialize, ToSchema)]
pub struct Mapping {
    /// Identifier.
    id: Uuid,
    /// The group.
    group: String,
    /// Roles.
    roles: BTreeSet<String>,
    /// Department.
    department: Option<String>,
    /// Projects.
    projects: BTreeSet<String>,
    /// Clearance.
    clearance: Option<String>,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    created_at: time::OffsetDateTime,
}

/// Every group mapping.
#[derive(Serialize, ToSchema)]
pub struct Mappings {
    /// They.
    items: Vec<Mapping>,
}

/// Somebody whom a mapping would give something.
#[derive(Serialize, ToSchema)]
pub struct Effect {
    /// The user.
    user: Uuid,
    /// Login name.
    username: String,
    /// Roles that the user would gain.
    gains: BTreeSet<String>,
    /// What the user would see; null when that is what they see now.
    sees: Option<Seen>,
}

/// Which content somebody would see.
#[derive(Serialize, ToSchema)]
pub struct Seen {
    /// Only this department's content, and content of none; every department's when null.
    department: Option<String>,
    /// Only these projects' content, and content of none; every project's when empty.
    projects: BTreeSet<String>,
    /// The most sensitive classification.
    #[schema(example = "confidential")]
    clearance: String,
}

/// What a mapping would do.
#[derive(Serialize, ToSchema)]
pub struct Effects {
    /// In words.
    #[schema(example = "these 14 users would gain approver")]
    summary: String,
    /// Members of the group, as they were last seen.
    users: Vec<Effect>,
}

/// Whether only to try.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DryRun {
    /// Says what would change, and changes nothing.
    #[serde(default)]
    dry_run: bool,
}

impl Role {
    fn of(role: RoleRecord, built_in: bool) -> Self {
        Self {
            name: role.name,
            description: role.description,
            built_in,
            inherits: role.inherits.into_iter().collect(),
            permissions: role.permissions.iter().map(|p| p.as_str()).collect(),
            revision: role.revision,
        }
    }
}

impl From<MappingEffect> for Effect {
    fn from(effect: MappingEffect) -> Self {
        let sees = effect.reach.map(|reach| Seen {
            department: reach.department,
            projects: reach.projects,
            clearance: reach.clearance.to_string(),
        });
        Self { user: effect.user.id.0, username: effect.user.username, gains: effect.gains, sees }
    }
}

/// In words, what a mapping gives.
fn gives(new: &NewMapping) -> String {
    let roles = new.roles.iter().cloned();
    let department = new.department.iter().map(|name| format!("department {name}"));
    let projects = new.projects.iter().map(|name| format!("project {name}"));
    let clearance = new.clearance.iter().map(|clearance| format!("clearance {clearance}"));
    roles.chain(department).chain(projects).chain(clearance).collect::<Vec<_>>().join(", ")
}

impl From<GroupMapping> for Mapping {
    fn from(mapping: GroupMapping) -> Self {
        Self {
            id: mapping.id.0,
            group: mapping.group,
            roles: mapping.roles,
            department: mapping.department,
            projects: mapping.projects,
            clearance: mapping.clearance.map(|c| c.to_string()),
            created_at: mapping.created_at,
        }
    }
}

fn permissions(names: &[String]) -> Result<BTreeSet<Permission>, Error> {
    let unknown = |name: &String| {
        let known: Vec<&str> = Permission::ALL.iter().map(|p| p.as_str()).collect();
        let words = format!("{name:?} is not one of {}", known.join(", "));
        Error::unprocessable_field("UNKNOWN_PERMISSION", "permissions", words)
    };
    names.iter().map(|name| name.parse().map_err(|()| unknown(name))).collect()
}

fn change(description: String, inherits: Vec<String>, names: &[String]) -> Result<RoleChange, Error> {
    Ok(RoleChange { description, inherits: inherits.into_iter().collect(), permissions: permissions(names)? })
}

fn one(role: RoleRecord, built_in: bool, mut response: actix_web::HttpResponseBuilder) -> HttpResponse {
    response.insert_header((header::ETAG, format!("\"{}\"", role.revision))).json(Role::of(role, built_in))
}

/// Lists roles: those that every tenant has, and the tenant's own.
#[utoipa::path(get, path = "/api/v1/admin/roles", tag = "admin", security(("bearer" = [])), responses((status = 200, body = Roles), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn list(state: web::Data<ApiState>, caller: Caller<may::AdminRoleRead>) -> Result<HttpResponse, Problem> {
    let (built_in, own) = state.access.roles(&caller.0).await?;
    let built_in = built_in.into_iter().map(|role| Role::of(role, true));
    Ok(HttpResponse::Ok().json(Roles { items: built_in.chain(own.into_iter().map(|role| Role::of(role, false))).collect() }))
}

/// Makes a role of the tenant's own. Nobody gives what they do not hold.
#[utoipa::path(post, path = "/api/v1/admin/roles", tag = "admin", request_body = RoleRequest, security(("bearer" = [])), responses((status = 201, body = Role), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, PERMISSION_NOT_HELD, STEP_UP_REQUIRED"), (status = 409, body = ProblemBody, description = "ROLE_EXISTS"), (status = 422, body = ProblemBody, description = "INVALID_FIELD, UNKNOWN_ROLE, UNKNOWN_PERMISSION, ROLE_CYCLE")))]
pub async fn create(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminRoles, RoleRequest>,
) -> Result<HttpResponse, Problem> {
    let change = change(body.description, body.inherits, &body.permissions)?;
    Ok(one(state.access.create_role(&actor, body.name, change).await?, false, HttpResponse::Created()))
}

/// One role.
#[utoipa::path(get, path = "/api/v1/admin/roles/{name}", tag = "admin", params(("name" = String, Path,)), security(("bearer" = [])), responses((status = 200, body = Role), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn get(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminRoleRead>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let role = state.access.role(&caller.0, &name).await?;
    let built_in = role.revision == 0;
    Ok(one(role, built_in, HttpResponse::Ok()))
}

/// Replaces a role of the tenant's own. Whoever has it has what it gives within a second.
#[utoipa::path(put, path = "/api/v1/admin/roles/{name}", tag = "admin", params(("name" = String, Path,), ("If-Match" = Option<String>, Header, description = "The revision you saw")), request_body = RoleChangeRequest, security(("bearer" = [])), responses((status = 200, body = Role), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, PERMISSION_NOT_HELD, STEP_UP_REQUIRED"), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "BUILT_IN_ROLE"), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub async fn update(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminRoles, RoleChangeRequest>,
    name: web::Path<String>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let change = change(body.description, body.inherits, &body.permissions)?;
    Ok(one(state.access.update_role(&actor, &name, change, if_match.0).await?, false, HttpResponse::Ok()))
}

/// Removes a role of the tenant's own that nobody has.
#[utoipa::path(delete, path = "/api/v1/admin/roles/{name}", tag = "admin", params(("name" = String, Path,)), security(("bearer" = [])), responses((status = 204), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "BUILT_IN_ROLE, ROLE_IN_USE")))]
pub async fn delete(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminRoles>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    state.access.delete_role(&caller.0, &name).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Lists group mappings.
#[utoipa::path(get, path = "/api/v1/admin/group-mappings", tag = "admin", security(("bearer" = [])), responses((status = 200, body = Mappings), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn mappings(state: web::Data<ApiState>, caller: Caller<may::AdminRoleRead>) -> Result<HttpResponse, Problem> {
    let items = state.access.mappings(&caller.0).await?.into_iter().map(Mapping::from).collect();
    Ok(HttpResponse::Ok().json(Mappings { items }))
}

/// Gives the members of a group roles, a department, projects and a clearance; with `dry_run` says whom it would give what.
#[utoipa::path(post, path = "/api/v1/admin/group-mappings", tag = "admin", params(DryRun), request_body = MappingRequest, security(("bearer" = [])), responses((status = 200, body = Effects, description = "What it would do"), (status = 201, body = Mapping), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, PERMISSION_NOT_HELD, REACH_NOT_HELD, STEP_UP_REQUIRED"), (status = 409, body = ProblemBody, description = "MAPPING_EXISTS"), (status = 422, body = ProblemBody, description = "INVALID_FIELD, UNKNOWN_ROLE")))]
pub async fn create_mapping(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminRoles, MappingRequest>,
    dry: web::Query<DryRun>,
) -> Result<HttpResponse, Problem> {
    let new = NewMapping {
        group: body.group,
        roles: body.roles.into_iter().collect(),
        department: body.department,
        projects: body.projects.into_iter().collect(),
        clearance: body.clearance.as_deref().map(wire::clearance).transpose()?,
    };
    if !dry.dry_run {
        return Ok(HttpResponse::Created().json(Mapping::from(state.access.create_mapping(&actor, new).await?)));
    }
    let gives = gives(&new);
    let effects = state.access.mapping_effects(&actor, new).await?;
    let summary = match effects.iter().filter(|effect| !effect.is_nothing()).count() {
        0 => "nobody would gain anything".to_owned(),
        1 => format!("this 1 user would gain {gives}"),
        n => format!("these {n} users would gain {gives}"),
    };
    let users = effects.into_iter().map(Effect::from).collect();
    Ok(HttpResponse::Ok().json(Effects { summary, users }))
}

/// Removes a group mapping. What it gave is gone within a second.
#[utoipa::path(delete, path = "/api/v1/admin/group-mappings/{id}", tag = "admin", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 204), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn delete_mapping(
    state: web::Data<ApiState>,
    caller: Caller<may::AdminRoles>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    state.access.delete_mapping(&caller.0, MappingId(*id)).await?;
    Ok(HttpResponse::NoContent().finish())
}
