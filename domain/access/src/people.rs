//! Who people are at this moment, for rooms that decide by more than a permission.

use async_trait::async_trait;
use omt_kernel::{
    Actor, Result, TenantId, UserId,
    access::{RoleRecord, UserRecord},
    port::{Authorizer, People, Person, RoleTable, UnitOfWork},
};
use std::{collections::BTreeSet, sync::Arc};

/// Roles, and those that they inherit from.
fn closure(table: &[RoleRecord], roles: &BTreeSet<String>) -> BTreeSet<String> {
    let (mut all, mut queue) = (roles.clone(), roles.iter().cloned().collect::<Vec<_>>());
    while let Some(role) = queue.pop() {
        let inherited = table.iter().find(|record| record.name == role).into_iter().flat_map(|record| &record.inherits);
        for parent in inherited {
            if all.insert(parent.clone()) {
                queue.push(parent.clone());
            }
        }
    }
    all
}

fn groups(user: &UserRecord) -> BTreeSet<String> {
    user.mapped.groups.iter().map(|group| group.to_lowercase()).collect()
}

/// People as the database and the role table know them.
pub struct Registry {
    /// What roles may do.
    pub authorizer: Arc<dyn Authorizer>,
}

impl Registry {
    async fn table(&self, read: &dyn UnitOfWork, tenant: &TenantId) -> Result<RoleTable> {
        let version = read.roles().version(tenant).await?;
        Ok(RoleTable { tenant: tenant.clone(), version, roles: Arc::new(read.roles().list(tenant).await?) })
    }

    fn all_roles(&self, table: &RoleTable) -> Vec<RoleRecord> {
        self.authorizer.built_in().into_iter().chain(table.roles.iter().cloned()).collect()
    }

    async fn person(&self, read: &dyn UnitOfWork, user: UserRecord) -> Result<Option<Person>> {
        if !user.active {
            return Ok(None);
        }
        let table = self.table(read, &user.tenant).await?;
        Ok(Some(Person {
            subject: user.subject(),
            roles: closure(&self.all_roles(&table), &user.all_roles()),
            permissions: self.authorizer.permissions(&table, &user.all_roles()).await?,
            groups: groups(&user),
            email: user.email,
        }))
    }
}

fn user_id(subject: &str) -> Option<UserId> {
    subject.strip_prefix("user:")?.parse().ok()
}

#[async_trait]
impl People for Registry {
    async fn actor(&self, unit: &dyn UnitOfWork, actor: &Actor) -> Result<Person> {
        let table = self.table(unit, &actor.tenant).await?;
        let user = match user_id(&actor.subject) {
            Some(id) => unit.users().get(&actor.tenant, id).await?,
            None => None,
        };
        Ok(Person {
            subject: actor.subject.clone(),
            roles: closure(&self.all_roles(&table), &actor.roles),
            permissions: actor.permissions.clone(),
            groups: user.as_ref().map(groups).unwrap_or_default(),
            email: user.and_then(|user| user.email),
        })
    }

    async fn find(&self, unit: &dyn UnitOfWork, tenant: &TenantId, subject: &str) -> Result<Option<Person>> {
        let Some(id) = user_id(subject) else { return Ok(None) };
        match unit.users().get(tenant, id).await? {
            Some(user) => self.person(unit, user).await,
            None => Ok(None),
        }
    }

    async fn by_name(&self, unit: &dyn UnitOfWork, tenant: &TenantId, username: &str) -> Result<Option<Person>> {
        match unit.users().by_name(tenant, username).await? {
            Some(user) => self.person(unit, user).await,
            None => Ok(None),
        }
    }

    async fn roles(&self, unit: &dyn UnitOfWork, tenant: &TenantId) -> Result<BTreeSet<String>> {
        let table = self.table(unit, tenant).await?;
        Ok(self.all_roles(&table).into_iter().map(|role| role.name).collect())
    }
}
