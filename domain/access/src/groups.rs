//! Groups that SCIM clients keep. Mappings name them like any other group.

use crate::{Access, rules, service::lock_administrators};
use omt_audit::Event;
use omt_kernel::{
    Actor, Error, Permission, Result, UserId,
    access::{GroupRecord, UserSource},
    port::{Page, UnitOfWork},
};
use serde_json::json;
use std::collections::BTreeSet;
use uuid::Uuid;

/// A group to make or to change to.
#[derive(Debug, Clone, Default)]
pub struct GroupChange {
    /// Its name.
    pub name: String,
    /// The client's own name for it.
    pub external_id: Option<String>,
    /// Its members; as they are when absent.
    pub members: Option<Vec<UserId>>,
}

/// What an entry's hashes are made of: the name, which mappings name, and who is in it.
fn audited(group: &GroupRecord, members: &[UserId]) -> serde_json::Value {
    let members: BTreeSet<UserId> = members.iter().copied().collect();
    json!({ "name": group.name, "members": members })
}

impl Access {
    /// The tenant's groups, newest first.
    pub async fn groups(&self, actor: &Actor, name: Option<&str>, page: Page) -> Result<Vec<GroupRecord>> {
        actor.require(Permission::AdminUserRead)?;
        self.deps.database.read().await?.groups().list(&actor.tenant, name, page).await
    }

    /// One group with its members.
    pub async fn group(&self, actor: &Actor, id: Uuid) -> Result<(GroupRecord, Vec<UserId>)> {
        actor.require(Permission::AdminUserRead)?;
        let read = self.deps.database.read().await?;
        let group = read.groups().get(&actor.tenant, id).await?.ok_or_else(|| Error::not_found("group"))?;
        let members = read.groups().members(&actor.tenant, id).await?;
        Ok((group, members))
    }

    /// Makes a group, or replaces one. What its mappings give changes at once, and nobody changes what they do not hold. Where it
    /// has mappings, or gets some by its new name, a fresh second factor is needed as for roles.
    ///
    /// `change` says what it becomes, of what it is: it is asked inside the transaction, so that changes at once add up.
    pub async fn put_group(
        &self,
        actor: &Actor,
        id: Option<Uuid>,
        change: impl Fn(Option<(GroupRecord, Vec<UserId>)>) -> Result<GroupChange>,
    ) -> Result<(GroupRecord, Vec<UserId>)> {
        actor.require(Permission::AdminUsers)?;
        let now = self.deps.clock.now();
        // Asked before the transaction, which must not wait for another connection; it decides where a mapping is found.
        let stepped_up = self.require_step_up(actor).await;
        let put = self
            .transaction(async |unit| {
                lock_administrators(unit, &actor.tenant).await?;
                let old = match id {
                    Some(id) => Some(unit.groups().get(&actor.tenant, id).await?.ok_or_else(|| Error::not_found("group"))?),
                    None => None,
                };
                let current = match &old {
                    Some(old) => Some((old.clone(), unit.groups().members(&actor.tenant, old.id).await?)),
                    None => None,
                };
                let change = change(current)?;
                rules::check_words("displayName", &change.name)?;
                let group = GroupRecord {
                    id: old.as_ref().map_or_else(|| self.deps.entropy.uuid_v7(now), |old| old.id),
                    tenant: actor.tenant.clone(),
                    name: change.name.trim().to_owned(),
                    external_id: change.external_id.clone(),
                    created_at: old.as_ref().map_or(now, |old| old.created_at),
                };
                self.check_group_grant(unit, actor, &stepped_up, &group.name).await?;
                if let Some(old) = &old {
                    self.check_group_grant(unit, actor, &stepped_up, &old.name).await?;
                }
                unit.groups().put(&group).await?;
                let before = unit.groups().members(&actor.tenant, group.id).await?;
                let wanted: BTreeSet<UserId> = change.members.clone().unwrap_or_else(|| before.clone()).into_iter().collect();
                for user in &wanted {
                    if unit.users().get(&actor.tenant, *user).await?.is_none() {
                        return Err(Error::unprocessable_field("UNKNOWN_USER", "members", format!("there is no user {user}")));
                    }
                }
                let wanted: Vec<UserId> = wanted.into_iter().collect();
                unit.groups().set_members(&actor.tenant, group.id, &wanted).await?;
                let touched: BTreeSet<UserId> = before.iter().chain(&wanted).copied().collect();
                self.regroup(unit, actor, touched).await?;
                let event = match &old {
                    Some(old) => Event::new("group.update", "group", group.id).before(&audited(old, &before)),
                    None => Event::new("group.create", "group", group.id),
                };
                self.deps.audit.append(unit, actor, event.after(&audited(&group, &wanted))).await?;
                Ok((group, wanted))
            })
            .await?;
        self.rights_changed().await;
        Ok(put)
    }

    /// Removes a group. One that has mappings needs a fresh second factor.
    pub async fn delete_group(&self, actor: &Actor, id: Uuid) -> Result<()> {
        actor.require(Permission::AdminUsers)?;
        let stepped_up = self.require_step_up(actor).await;
        self.transaction(async |unit| {
            lock_administrators(unit, &actor.tenant).await?;
            let group = unit.groups().get(&actor.tenant, id).await?.ok_or_else(|| Error::not_found("group"))?;
            self.check_group_grant(unit, actor, &stepped_up, &group.name).await?;
            let members = unit.groups().members(&actor.tenant, id).await?;
            unit.groups().delete(&actor.tenant, id).await?;
            let event = Event::new("group.delete", "group", id).before(&audited(&group, &members));
            self.regroup(unit, actor, members.into_iter().collect()).await?;
            self.deps.audit.append(unit, actor, event).await
        })
        .await?;
        self.rights_changed().await;
        Ok(())
    }

    /// Membership in a mapped group is a grant like any other, and as dangerous.
    async fn check_group_grant(&self, unit: &dyn UnitOfWork, actor: &Actor, stepped_up: &Result<()>, name: &str) -> Result<()> {
        let folded = name.to_lowercase();
        let mappings = unit.roles().mappings(&actor.tenant).await?;
        for mapping in mappings.iter().filter(|mapping| mapping.group.to_lowercase() == folded) {
            stepped_up.clone()?;
            self.check_mapping(unit, actor, mapping).await?;
        }
        Ok(())
    }

    /// Sees anew which groups users are in, and applies the mappings.
    async fn regroup(&self, unit: &dyn UnitOfWork, actor: &Actor, users: BTreeSet<UserId>) -> Result<()> {
        let mappings = unit.roles().mappings(&actor.tenant).await?;
        for id in users {
            let Some(user) = unit.users().get(&actor.tenant, id).await? else { continue };
            // Others' groups come from where they log in.
            if !matches!(user.source, UserSource::Scim | UserSource::Local) {
                continue;
            }
            let groups: BTreeSet<String> =
                unit.groups().of_user(&actor.tenant, id).await?.into_iter().map(|group| group.name).collect();
            let mut next = user.clone();
            next.mapped = rules::apply_mappings(&mappings, &groups, &[], self.deps.clock.now());
            next.revision += 1;
            if next.mapped.roles != user.mapped.roles || next.effective_reach() != user.effective_reach() {
                self.check_outranked(unit, actor, &user).await?;
            }
            self.check_administrators(unit, &user, Some(&next)).await?;
            if !unit.users().update(&next, user.revision).await? {
                return Err(crate::roles::changed_meanwhile());
            }
        }
        Ok(())
    }
}
