//! Users, as administrators see them.

use crate::{Access, password, rules, service::lock_administrators};
use omt_audit::Event;
use omt_kernel::{
    Actor, Error, Kind, Permission, Reach, Result, TenantId, UserId,
    access::{Mapped, RoleRecord, UserFilter, UserRecord, UserSource},
    check_revision,
    manifest::Classification,
    port::{Page, UnitOfWork},
};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeSet;

/// A user to make.
#[derive(Debug, Clone, Default)]
pub struct NewUser {
    /// Login name.
    pub username: String,
    /// Name for people.
    pub display_name: Option<String>,
    /// Address.
    pub email: Option<String>,
    /// Password; without one, somebody else has to vouch for the user.
    pub password: Option<String>,
    /// The name that a SCIM client or an issuer has for the user.
    pub external_id: Option<String>,
    /// A SCIM client makes the user.
    pub scim: bool,
    /// Roles.
    pub roles: BTreeSet<String>,
    /// Which content the user sees; everything up to `internal` when absent, but never more than the actor does.
    pub reach: Option<Reach>,
    /// Whether the user may log in.
    pub active: bool,
}

/// Changes to a user. `Some(None)` clears an optional field.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// Login name.
    pub username: Option<String>,
    /// Name for people.
    pub display_name: Option<Option<String>>,
    /// Address.
    pub email: Option<Option<String>>,
    /// The source's name for the user.
    pub external_id: Option<Option<String>>,
    /// New password.
    pub password: Option<String>,
    /// Roles.
    pub roles: Option<BTreeSet<String>>,
    /// The one department of which the user sees content; every one when null.
    pub department: Option<Option<String>>,
    /// The projects of which the user sees content; every one when empty.
    pub projects: Option<BTreeSet<String>>,
    /// The most sensitive classification.
    pub clearance: Option<Classification>,
    /// Whether the user may log in.
    pub active: Option<bool>,
    /// Removes a lost second factor.
    pub reset_second_factor: bool,
}

/// What an entry's hashes are made of: no secret, no name that could be guessed from its hash, and nothing that changes with every
/// login.
#[derive(Serialize)]
pub(crate) struct Audited<'a> {
    roles: &'a BTreeSet<String>,
    reach: &'a Reach,
    mapped: Mapped,
    active: bool,
}

pub(crate) fn audited(user: &UserRecord) -> Audited<'_> {
    Audited { roles: &user.roles, reach: &user.reach, mapped: rules::timeless(&user.mapped), active: user.active }
}

/// What of a user was changed: that a hash is the same does not say that nothing was.
fn changed(before: &UserRecord, after: &UserRecord) -> Vec<&'static str> {
    let fields = [
        ("active", before.active != after.active),
        ("display_name", before.display_name != after.display_name),
        ("email", before.email != after.email),
        ("external_id", before.external_id != after.external_id),
        ("password", before.password_hash != after.password_hash),
        ("reach", before.reach != after.reach),
        ("roles", before.roles != after.roles),
        ("second_factor", before.has_second_factor() != after.has_second_factor()),
        ("username", before.username != after.username),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

fn check_texts(display_name: Option<&str>, email: Option<&str>) -> Result<()> {
    display_name.map_or(Ok(()), |name| rules::check_words("display_name", name))?;
    match email {
        Some(email) if !email.contains('@') || email.len() > 254 || email.chars().any(|c| c.is_control() || c == ' ') => {
            Err(Error::unprocessable_field("INVALID_FIELD", "email", "is not an e-mail address"))
        }
        _ => Ok(()),
    }
}

fn name_taken() -> Error {
    Error::new(Kind::Conflict, "USERNAME_TAKEN", "the tenant has a user of this login name")
}

impl Access {
    /// Makes a user. Nobody gives roles whose permissions they do not hold, nor a wider reach than their own.
    pub async fn create_user(&self, actor: &Actor, new: NewUser) -> Result<UserRecord> {
        actor.require(Permission::AdminUsers)?;
        // As for a change: a user with a role or a password is a way back in.
        if !new.roles.is_empty() || new.password.is_some() {
            self.require_step_up(actor).await?;
        }
        rules::check_username(&new.username)?;
        check_texts(new.display_name.as_deref(), new.email.as_deref())?;
        let usual = Reach { clearance: actor.reach.clearance.min(Classification::Internal), ..actor.reach.clone() };
        let reach = new.reach.unwrap_or(usual);
        rules::check_reach(&actor.reach, &reach)?;
        if let Some(password) = &new.password {
            rules::check_password(password, &new.username, self.settings.password_min)?;
        }
        let password_hash = match new.password {
            Some(password) => Some(self.deps.pool.run(move || password::hash(&password)).await?),
            None => None,
        };
        let now = self.deps.clock.now();
        let source = if new.scim && password_hash.is_none() { UserSource::Scim } else { UserSource::Local };
        let id = UserId(self.deps.entropy.uuid_v7(now));
        let user = UserRecord {
            display_name: new.display_name,
            email: new.email,
            external_id: new.external_id,
            password_hash,
            roles: new.roles,
            reach,
            active: new.active,
            ..UserRecord::new(id, actor.tenant.clone(), new.username, source, now)
        };
        self.transaction(async |unit| {
            self.check_roles(unit, actor, &user.roles).await?;
            if !unit.users().insert(&user).await? {
                return Err(name_taken());
            }
            let event = Event::new("user.create", "user", user.id).after(&audited(&user));
            self.deps.audit.append(unit, actor, event).await
        })
        .await?;
        Ok(user)
    }

    /// Refuses roles that do not exist, or that have permissions which the actor does not hold.
    pub(crate) async fn check_roles(&self, unit: &dyn UnitOfWork, actor: &Actor, roles: &BTreeSet<String>) -> Result<()> {
        let table = self.role_table(unit, &actor.tenant).await?;
        rules::check_known(roles, &self.all_roles(&table))?;
        rules::check_grant(&actor.permissions, &self.deps.authorizer.permissions(&table, roles).await?)
    }

    /// The tenant's users, newest first.
    pub async fn users(&self, actor: &Actor, filter: &UserFilter, page: Page) -> Result<Vec<UserRecord>> {
        actor.require(Permission::AdminUserRead)?;
        self.deps.database.replica().await?.users().list(&actor.tenant, filter, page).await
    }

    /// One user of the tenant.
    pub async fn user(&self, actor: &Actor, id: UserId) -> Result<UserRecord> {
        actor.require(Permission::AdminUserRead)?;
        self.own_record(actor, id).await
    }

    /// Changes a user. Whoever holds more than the actor cannot be changed by the actor.
    pub async fn update_user(&self, actor: &Actor, id: UserId, change: UserChange, if_match: Option<i64>) -> Result<UserRecord> {
        actor.require(Permission::AdminUsers)?;
        let credentials = change.password.is_some() || change.reset_second_factor;
        if credentials || change.roles.is_some() {
            self.require_step_up(actor).await?;
        }
        if credentials && self.user_of(actor) == Some(id) {
            let words = "your own password and second factor are changed under /api/v1/auth, where the old ones are asked for";
            return Err(Error::new(Kind::Conflict, "OWN_CREDENTIALS", words));
        }
        let name = change.username.clone();
        name.as_deref().map_or(Ok(()), rules::check_username)?;
        check_texts(change.display_name.as_ref().and_then(Option::as_deref), change.email.as_ref().and_then(Option::as_deref))?;
        let hash = match change.password.clone() {
            Some(password) => {
                let name = match &change.username {
                    Some(name) => name.clone(),
                    None => self.own_record(actor, id).await?.username,
                };
                rules::check_password(&password, &name, self.settings.password_min)?;
                Some(self.deps.pool.run(move || password::hash(&password)).await?)
            }
            None => None,
        };
        let now = self.deps.clock.now();
        let next = self
            .transaction(async |unit| {
                lock_administrators(unit, &actor.tenant).await?;
                let user = unit.users().get(&actor.tenant, id).await?.ok_or_else(|| Error::not_found("user"))?;
                check_revision("user", user.revision, if_match)?;
                self.check_outranked(unit, actor, &user).await?;
                let mut next = user.clone();
                if let Some(username) = change.username.clone() {
                    let other = unit.users().by_name(&actor.tenant, &username).await?;
                    if other.is_some_and(|other| other.id != id) {
                        return Err(name_taken());
                    }
                    next.former_names.insert(std::mem::replace(&mut next.username, username));
                }
                if let Some(value) = change.display_name.clone() {
                    next.display_name = value;
                }
                if let Some(value) = change.email.clone() {
                    next.email = value;
                }
                if let Some(value) = change.external_id.clone() {
                    next.external_id = value;
                }
                if let Some(hash) = hash.clone() {
                    if matches!(user.source, UserSource::Ldap | UserSource::Oidc) || user.identity.is_some() {
                        return Err(Error::new(Kind::Conflict, "NOT_LOCAL", "somebody else keeps the user's password"));
                    }
                    (next.password_hash, next.source) = (Some(hash), UserSource::Local);
                }
                if let Some(roles) = change.roles.clone() {
                    self.check_roles(unit, actor, &roles.difference(&user.roles).cloned().collect()).await?;
                    next.roles = roles;
                }
                next.reach = Reach {
                    department: change.department.clone().unwrap_or(next.reach.department),
                    projects: change.projects.clone().unwrap_or(next.reach.projects),
                    clearance: change.clearance.unwrap_or(next.reach.clearance),
                };
                if next.reach != user.reach {
                    rules::check_reach(&actor.reach, &next.reach)?;
                }
                next.active = change.active.unwrap_or(next.active);
                if change.reset_second_factor {
                    (next.totp, next.totp_pending) = (None, None);
                }
                (next.revision, next.updated_at) = (user.revision + 1, now);
                self.check_administrators(unit, &user, Some(&next)).await?;
                if !unit.users().update(&next, user.revision).await? {
                    return Err(Error::new(Kind::Conflict, "CONCURRENT_CHANGE", "the user was changed at the same time"));
                }
                // What somebody learned of the password or took of the second factor ends here.
                if hash.is_some() || change.reset_second_factor || !next.active {
                    unit.sessions().revoke_user(&actor.tenant, id, now).await?;
                }
                if !next.active {
                    self.revoke_keys_of(unit, actor, &next.subject(), now).await?;
                }
                let event = Event::new("user.update", "user", id)
                    .before(&audited(&user))
                    .after(&audited(&next))
                    .detail(json!({ "changed": changed(&user, &next) }));
                self.deps.audit.append(unit, actor, event).await?;
                Ok(next)
            })
            .await?;
        self.rights_changed().await;
        Ok(next)
    }

    /// Removes a user with sessions and tokens, and revokes the API keys that they made. Entries of the audit log stay.
    pub async fn delete_user(&self, actor: &Actor, id: UserId) -> Result<()> {
        actor.require(Permission::AdminUsers)?;
        let now = self.deps.clock.now();
        self.transaction(async |unit| {
            lock_administrators(unit, &actor.tenant).await?;
            let user = unit.users().get(&actor.tenant, id).await?.ok_or_else(|| Error::not_found("user"))?;
            self.check_outranked(unit, actor, &user).await?;
            self.check_administrators(unit, &user, None).await?;
            self.revoke_keys_of(unit, actor, &user.subject(), now).await?;
            unit.users().delete(&actor.tenant, id).await?;
            let event = Event::new("user.delete", "user", id).before(&audited(&user));
            self.deps.audit.append(unit, actor, event).await
        })
        .await?;
        self.rights_changed().await;
        Ok(())
    }

    /// Refuses to touch somebody who holds what the actor does not: whoever sets their password would hold it too.
    pub(crate) async fn check_outranked(&self, unit: &dyn UnitOfWork, actor: &Actor, user: &UserRecord) -> Result<()> {
        let held = self.permissions(unit, user).await?;
        if held.is_subset(&actor.permissions) && actor.reach.includes(&user.effective_reach()) {
            return Ok(());
        }
        Err(Error::new(Kind::Forbidden, "OUTRANKED", "the user holds more than you do"))
    }

    /// Refuses to leave a tenant without an administrator.
    pub(crate) async fn check_administrators(
        &self,
        unit: &dyn UnitOfWork,
        user: &UserRecord,
        next: Option<&UserRecord>,
    ) -> Result<()> {
        let roles = self.all_roles(&self.role_table(unit, &user.tenant).await?);
        if !rules::administers(user, &roles) || next.is_some_and(|next| rules::administers(next, &roles)) {
            return Ok(());
        }
        if self.other_administrator(unit, &user.tenant, &roles, Some(user.id)).await? {
            return Ok(());
        }
        Err(Error::new(Kind::Conflict, "LAST_ADMINISTRATOR", "the tenant would be left without an administrator"))
    }

    /// Whether somebody else than this user administers the tenant.
    pub(crate) async fn other_administrator(
        &self,
        unit: &dyn UnitOfWork,
        tenant: &TenantId,
        roles: &[RoleRecord],
        but: Option<UserId>,
    ) -> Result<bool> {
        let (filter, mut after) = (UserFilter { active: Some(true), ..UserFilter::default() }, None);
        loop {
            let page = unit.users().list(tenant, &filter, Page { after, limit: 500 }).await?;
            if page.iter().any(|other| Some(other.id) != but && rules::administers(other, roles)) {
                return Ok(true);
            }
            let Some(last) = page.last() else { return Ok(false) };
            after = Some(last.id.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_it_changed() {
        let at = omt_kernel::OffsetDateTime::UNIX_EPOCH;
        let user = UserRecord::new(UserId(Default::default()), TenantId::default_tenant(), "alice".into(), UserSource::Local, at);
        let next = UserRecord { password_hash: Some("hash".into()), username: "bob".into(), revision: 2, ..user.clone() };
        assert_eq!(changed(&user, &next), ["password", "username"]);
        assert!(changed(&user, &user).is_empty());
    }
}
