//! A tenant's own roles, and what membership in groups gives.

use crate::{Access, rules, service::lock_administrators};
use omt_audit::Event;
use omt_kernel::{
    Actor, Error, Kind, MappingId, Permission, Reach, Result,
    access::{GroupMapping, RoleRecord, UserFilter, UserRecord, UserSource},
    check_revision,
    manifest::Classification,
    port::{Page, UnitOfWork},
};
use serde_json::json;
use std::collections::BTreeSet;

/// A role to make or to change to.
#[derive(Debug, Clone, Default)]
pub struct RoleChange {
    /// Words for people.
    pub description: String,
    /// Roles whose permissions it has too.
    pub inherits: BTreeSet<String>,
    /// Permissions of its own.
    pub permissions: BTreeSet<Permission>,
}

/// A group mapping to make.
#[derive(Debug, Clone)]
pub struct NewMapping {
    /// The group.
    pub group: String,
    /// Roles.
    pub roles: BTreeSet<String>,
    /// Department.
    pub department: Option<String>,
    /// Projects.
    pub projects: BTreeSet<String>,
    /// Clearance.
    pub clearance: Option<Classification>,
}

/// What a mapping would change for a user.
#[derive(Debug, Clone)]
pub struct MappingEffect {
    /// The user.
    pub user: UserRecord,
    /// Roles that the user would gain.
    pub gains: BTreeSet<String>,
    /// What the user would see, where that is something else than before.
    pub reach: Option<Reach>,
}

impl MappingEffect {
    /// Whether the mapping would leave the user as they are.
    pub fn is_nothing(&self) -> bool {
        self.gains.is_empty() && self.reach.is_none()
    }
}

/// What an entry's hashes are made of.
fn audited(mapping: &GroupMapping) -> serde_json::Value {
    json!({
        "group": mapping.group, "roles": mapping.roles, "department": mapping.department, "projects": mapping.projects,
        "clearance": mapping.clearance,
    })
}

fn unknown() -> Error {
    Error::not_found("role")
}

impl Access {
    /// Every role of the tenant: those that every tenant has, and its own.
    pub async fn roles(&self, actor: &Actor) -> Result<(Vec<RoleRecord>, Vec<RoleRecord>)> {
        actor.require(Permission::AdminRoleRead)?;
        let read = self.deps.database.read().await?;
        let table = self.role_table(read.as_ref(), &actor.tenant).await?;
        Ok((self.deps.authorizer.built_in(), table.roles.to_vec()))
    }

    /// One role.
    pub async fn role(&self, actor: &Actor, name: &str) -> Result<RoleRecord> {
        let (built_in, own) = self.roles(actor).await?;
        built_in.into_iter().chain(own).find(|role| role.name == name).ok_or_else(unknown)
    }

    fn built_in_names(&self) -> BTreeSet<String> {
        self.deps.authorizer.built_in().into_iter().map(|role| role.name).collect()
    }

    /// Refuses a role that leads back to itself, or gives what the actor does not hold.
    async fn check_role(&self, unit: &dyn UnitOfWork, actor: &Actor, role: &RoleRecord) -> Result<()> {
        let table = self.role_table(unit, &actor.tenant).await?;
        let all = self.all_roles(&table);
        rules::check_known(&role.inherits.iter().filter(|name| **name != role.name).cloned().collect(), &all)?;
        rules::check_cycle(role, &all)?;
        let inherited = self.deps.authorizer.permissions(&table, &role.inherits).await?;
        rules::check_grant(&actor.permissions, &role.permissions.union(&inherited).copied().collect())
    }

    /// Makes a role of the tenant's own.
    pub async fn create_role(&self, actor: &Actor, name: String, new: RoleChange) -> Result<RoleRecord> {
        actor.require(Permission::AdminRoles)?;
        self.require_step_up(actor).await?;
        rules::check_role_name(&name)?;
        check_description(&new.description)?;
        if self.built_in_names().contains(&name) {
            return Err(Error::new(Kind::Conflict, "ROLE_EXISTS", "every tenant has a role of this name"));
        }
        let now = self.deps.clock.now();
        let role = RoleRecord {
            tenant: actor.tenant.clone(),
            name,
            description: new.description,
            inherits: new.inherits,
            permissions: new.permissions,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        self.transaction(async |unit| {
            unit.lock(&format!("roles:{}", actor.tenant)).await?;
            self.check_role(unit, actor, &role).await?;
            if !unit.roles().insert(&role).await? {
                return Err(Error::new(Kind::Conflict, "ROLE_EXISTS", "the tenant has a role of this name"));
            }
            unit.roles().bump(&actor.tenant).await?;
            self.deps.audit.append(unit, actor, Event::new("role.create", "role", &role.name).after(&role)).await
        })
        .await?;
        Ok(role)
    }

    /// Changes a role of the tenant's own.
    pub async fn update_role(&self, actor: &Actor, name: &str, new: RoleChange, if_match: Option<i64>) -> Result<RoleRecord> {
        actor.require(Permission::AdminRoles)?;
        self.require_step_up(actor).await?;
        check_description(&new.description)?;
        self.refuse_built_in(name)?;
        let now = self.deps.clock.now();
        let role = self
            .transaction(async |unit| {
                lock_administrators(unit, &actor.tenant).await?;
                unit.lock(&format!("roles:{}", actor.tenant)).await?;
                let old =
                    unit.roles().list(&actor.tenant).await?.into_iter().find(|role| role.name == name).ok_or_else(unknown)?;
                check_revision("role", old.revision, if_match)?;
                let role = RoleRecord {
                    description: new.description.clone(),
                    inherits: new.inherits.clone(),
                    permissions: new.permissions.clone(),
                    revision: old.revision + 1,
                    updated_at: now,
                    ..old.clone()
                };
                self.check_role(unit, actor, &old).await?;
                self.check_role(unit, actor, &role).await?;
                self.check_still_administered(unit, &old, &role).await?;
                unit.roles().update(&role, old.revision).await?;
                unit.roles().bump(&actor.tenant).await?;
                let event = Event::new("role.update", "role", name).before(&old).after(&role);
                self.deps.audit.append(unit, actor, event).await?;
                Ok(role)
            })
            .await?;
        self.rights_changed().await;
        Ok(role)
    }

    /// Refuses a change after which nobody would administer the tenant.
    async fn check_still_administered(&self, unit: &dyn UnitOfWork, old: &RoleRecord, new: &RoleRecord) -> Result<()> {
        let before = self.all_roles(&self.role_table(unit, &old.tenant).await?);
        let after: Vec<RoleRecord> = before.iter().map(|role| if role.name == new.name { new } else { role }).cloned().collect();
        let (mut administered, mut page_after) = (false, None);
        loop {
            let filter = UserFilter { active: Some(true), ..UserFilter::default() };
            let page = unit.users().list(&old.tenant, &filter, Page { after: page_after, limit: 500 }).await?;
            if page.iter().any(|user| rules::administers(user, &after)) {
                return Ok(());
            }
            administered |= page.iter().any(|user| rules::administers(user, &before));
            let Some(last) = page.last() else { break };
            page_after = Some(last.id.0);
        }
        if !administered {
            // Nobody did before either.
            return Ok(());
        }
        Err(Error::new(Kind::Conflict, "LAST_ADMINISTRATOR", "the tenant would be left without an administrator"))
    }

    fn refuse_built_in(&self, name: &str) -> Result<()> {
        if self.built_in_names().contains(name) {
            let words = "every tenant has this role as it is; make one of your own that inherits from it";
            return Err(Error::new(Kind::Conflict, "BUILT_IN_ROLE", words));
        }
        Ok(())
    }

    /// Removes a role of the tenant's own that nobody has and no other role or mapping names.
    pub async fn delete_role(&self, actor: &Actor, name: &str) -> Result<()> {
        actor.require(Permission::AdminRoles)?;
        self.require_step_up(actor).await?;
        self.refuse_built_in(name)?;
        self.transaction(async |unit| {
            unit.lock(&format!("roles:{}", actor.tenant)).await?;
            let old = unit.roles().list(&actor.tenant).await?.into_iter().find(|role| role.name == name).ok_or_else(unknown)?;
            self.check_role(unit, actor, &old).await?;
            let in_use = |what: &str| Error::new(Kind::Conflict, "ROLE_IN_USE", format!("{what} still has the role"));
            if unit.roles().list(&actor.tenant).await?.iter().any(|role| role.inherits.contains(name)) {
                return Err(in_use("another role"));
            }
            if unit.roles().mappings(&actor.tenant).await?.iter().any(|mapping| mapping.roles.contains(name)) {
                return Err(in_use("a group mapping"));
            }
            let mut after = None;
            loop {
                let page = unit.users().list(&actor.tenant, &UserFilter::default(), Page { after, limit: 500 }).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.id.0);
                if page.iter().any(|user| user.all_roles().contains(name)) {
                    return Err(in_use("a user"));
                }
            }
            if !unit.roles().delete(&actor.tenant, name).await? {
                return Err(unknown());
            }
            unit.roles().bump(&actor.tenant).await?;
            self.deps.audit.append(unit, actor, Event::new("role.delete", "role", name).before(&old)).await
        })
        .await?;
        self.rights_changed().await;
        Ok(())
    }

    /// The tenant's group mappings.
    pub async fn mappings(&self, actor: &Actor) -> Result<Vec<GroupMapping>> {
        actor.require(Permission::AdminRoleRead)?;
        self.deps.database.read().await?.roles().mappings(&actor.tenant).await
    }

    fn mapping(&self, actor: &Actor, new: NewMapping) -> Result<GroupMapping> {
        let (group, now) = (new.group.trim().to_owned(), self.deps.clock.now());
        if group.is_empty() || group.len() > 1024 || group.chars().any(char::is_control) {
            return Err(Error::unprocessable_field("INVALID_FIELD", "group", "1 to 1024 bytes without control characters"));
        }
        if new.roles.is_empty() && new.department.is_none() && new.projects.is_empty() && new.clearance.is_none() {
            return Err(Error::unprocessable_field("INVALID_FIELD", "roles", "the mapping would give nothing"));
        }
        new.department.as_deref().map_or(Ok(()), |words| rules::check_words("department", words))?;
        new.projects.iter().try_for_each(|words| rules::check_words("projects", words))?;
        let mapping = GroupMapping {
            id: MappingId(self.deps.entropy.uuid_v7(now)),
            tenant: actor.tenant.clone(),
            group,
            roles: new.roles,
            department: new.department,
            projects: new.projects,
            clearance: new.clearance,
            created_at: now,
        };
        check_mapping_reach(actor, &mapping)?;
        Ok(mapping)
    }

    /// Refuses to give or to take what the actor does not hold, by way of a mapping.
    pub(crate) async fn check_mapping(&self, unit: &dyn UnitOfWork, actor: &Actor, mapping: &GroupMapping) -> Result<()> {
        check_mapping_reach(actor, mapping)?;
        self.check_roles(unit, actor, &mapping.roles).await
    }

    /// Whom a mapping would give what, by the groups they were last seen in.
    pub async fn mapping_effects(&self, actor: &Actor, new: NewMapping) -> Result<Vec<MappingEffect>> {
        actor.require(Permission::AdminRoles)?;
        let mapping = self.mapping(actor, new)?;
        let read = self.deps.database.replica().await?;
        self.check_roles(read.as_ref(), actor, &mapping.roles).await?;
        let mappings = read.roles().mappings(&actor.tenant).await?;
        let (group, mut out, mut after) = (mapping.group.to_lowercase(), Vec::new(), None);
        loop {
            let page = read.users().list(&actor.tenant, &UserFilter::default(), Page { after, limit: 500 }).await?;
            let Some(last) = page.last() else { return Ok(out) };
            after = Some(last.id.0);
            for user in page {
                if user.mapped.groups.iter().any(|g| g.to_lowercase() == group) {
                    let gains = mapping.roles.difference(&user.all_roles()).cloned().collect();
                    let reach = rules::reach_with(&user, &mappings, &mapping);
                    let reach = Some(reach).filter(|reach| *reach != user.effective_reach());
                    out.push(MappingEffect { user, gains, reach });
                }
            }
        }
    }

    /// Makes a mapping. Nobody gives what they do not hold. Its groups' members have it when they are looked up next.
    pub async fn create_mapping(&self, actor: &Actor, new: NewMapping) -> Result<GroupMapping> {
        actor.require(Permission::AdminRoles)?;
        self.require_step_up(actor).await?;
        let mapping = self.mapping(actor, new)?;
        self.transaction(async |unit| {
            lock_administrators(unit, &actor.tenant).await?;
            self.check_roles(unit, actor, &mapping.roles).await?;
            let group = mapping.group.to_lowercase();
            if unit.roles().mappings(&actor.tenant).await?.iter().any(|other| other.group.to_lowercase() == group) {
                return Err(Error::new(Kind::Conflict, "MAPPING_EXISTS", "there is a mapping of this group"));
            }
            unit.roles().put_mapping(&mapping).await?;
            self.remap(unit, &mapping.tenant).await?;
            let event = Event::new("mapping.create", "mapping", mapping.id).after(&audited(&mapping));
            self.deps.audit.append(unit, actor, event).await
        })
        .await?;
        self.rights_changed().await;
        Ok(mapping)
    }

    /// Removes a mapping. What it gave is gone at once.
    pub async fn delete_mapping(&self, actor: &Actor, id: MappingId) -> Result<()> {
        actor.require(Permission::AdminRoles)?;
        self.require_step_up(actor).await?;
        self.transaction(async |unit| {
            lock_administrators(unit, &actor.tenant).await?;
            let old = unit.roles().mappings(&actor.tenant).await?.into_iter().find(|mapping| mapping.id == id);
            let old = old.ok_or_else(|| Error::not_found("group mapping"))?;
            self.check_mapping(unit, actor, &old).await?;
            unit.roles().delete_mapping(&actor.tenant, id).await?;
            self.remap(unit, &actor.tenant).await?;
            self.deps.audit.append(unit, actor, Event::new("mapping.delete", "mapping", id).before(&audited(&old))).await
        })
        .await?;
        self.rights_changed().await;
        Ok(())
    }

    /// Applies the mappings anew to the groups that users were last seen in.
    pub(crate) async fn remap(&self, unit: &dyn UnitOfWork, tenant: &omt_kernel::TenantId) -> Result<()> {
        let (mappings, mut after) = (unit.roles().mappings(tenant).await?, None);
        let table = self.role_table(unit, tenant).await?;
        let roles = self.all_roles(&table);
        loop {
            let page = unit.users().list(tenant, &UserFilter::default(), Page { after, limit: 500 }).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id.0);
            for user in page.into_iter().filter(|user| !user.mapped.groups.is_empty()) {
                let mut next = user.clone();
                let seen = user.mapped.seen_at;
                // Values of an issuer's claim that are roles count by themselves.
                let by_name = if user.source == UserSource::Oidc { roles.as_slice() } else { &[] };
                next.mapped = rules::apply_mappings(&mappings, &user.mapped.groups, by_name, self.deps.clock.now());
                next.mapped.seen_at = seen;
                if next.mapped != user.mapped {
                    self.check_administrators(unit, &user, Some(&next)).await?;
                    next.revision += 1;
                    if !unit.users().update(&next, user.revision).await? {
                        return Err(changed_meanwhile());
                    }
                }
            }
        }
    }
}

/// What a mapping leaves open comes from the user's own record, which nobody widens beyond their own reach either.
fn check_mapping_reach(actor: &Actor, mapping: &GroupMapping) -> Result<()> {
    let given = Reach {
        department: mapping.department.clone(),
        projects: mapping.projects.clone(),
        clearance: mapping.clearance.unwrap_or(Classification::Public),
    };
    let own = Reach {
        department: mapping.department.as_ref().and(actor.reach.department.clone()),
        projects: if mapping.projects.is_empty() { BTreeSet::new() } else { actor.reach.projects.clone() },
        clearance: actor.reach.clearance,
    };
    rules::check_reach(&own, &given)
}

/// A user who logged in just now has another revision; the transaction is tried again.
pub(crate) fn changed_meanwhile() -> Error {
    Error::new(Kind::Unavailable, omt_kernel::retry::BUSY, "a user was changed meanwhile").retry_after(1)
}

fn check_description(words: &str) -> Result<()> {
    if words.len() <= 500 && !words.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::unprocessable_field("INVALID_FIELD", "description", "at most 500 bytes without control characters"))
}
