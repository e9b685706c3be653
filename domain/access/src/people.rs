//! Who people are at this moment, for rooms that decide by more than a permission.

use crate::{rules::inherited, tables::Tables};
use async_trait::async_trait;
use omt_kernel::{
    Actor, Result, TenantId, UserId,
    access::{RoleRecord, UserFilter, UserRecord},
    port::{Authorizer, Page, People, Person, RoleTable, UnitOfWork, Wanted},
};
use std::{collections::BTreeSet, sync::Arc};

/// Users looked at in one query.
const PAGE: u32 = 200;

fn groups(user: &UserRecord) -> BTreeSet<String> {
    user.mapped.groups.iter().map(|group| group.to_lowercase()).collect()
}

/// What roles somebody of a tenant can have.
struct Roles {
    table: RoleTable,
    all: Vec<RoleRecord>,
}

/// People as the database and the role table know them.
pub struct Registry {
    authorizer: Arc<dyn Authorizer>,
    tables: Tables,
}

impl Registry {
    /// People whose roles may do what the authorizer says.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { tables: Tables::new(authorizer.clone()), authorizer }
    }

    async fn roles_of(&self, read: &dyn UnitOfWork, tenant: &TenantId) -> Result<Roles> {
        let table = self.tables.own(read, tenant).await?;
        Ok(Roles { all: self.tables.all(&table), table })
    }

    async fn person(&self, roles: &Roles, user: UserRecord) -> Result<Option<Person>> {
        if !user.active {
            return Ok(None);
        }
        Ok(Some(Person {
            subject: user.subject(),
            roles: inherited(&user.all_roles(), &roles.all),
            permissions: self.authorizer.permissions(&roles.table, &user.all_roles()).await?,
            groups: groups(&user),
            reach: user.effective_reach(),
            mail: user.wants_mail,
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
        let roles = self.roles_of(unit, &actor.tenant).await?;
        let user = match user_id(&actor.subject) {
            Some(id) => unit.users().get(&actor.tenant, id).await?,
            None => None,
        };
        Ok(Person {
            subject: actor.subject.clone(),
            roles: inherited(&actor.roles, &roles.all),
            permissions: actor.permissions.clone(),
            groups: user.as_ref().map(groups).unwrap_or_default(),
            mail: user.as_ref().is_some_and(|user| user.wants_mail),
            reach: actor.reach.clone(),
            email: user.and_then(|user| user.email),
        })
    }

    async fn find(&self, unit: &dyn UnitOfWork, tenant: &TenantId, subject: &str) -> Result<Option<Person>> {
        let Some(id) = user_id(subject) else { return Ok(None) };
        match unit.users().get(tenant, id).await? {
            Some(user) => self.person(&self.roles_of(unit, tenant).await?, user).await,
            None => Ok(None),
        }
    }

    async fn by_name(&self, unit: &dyn UnitOfWork, tenant: &TenantId, username: &str) -> Result<Option<Person>> {
        match unit.users().by_name(tenant, username).await? {
            Some(user) => self.person(&self.roles_of(unit, tenant).await?, user).await,
            None => Ok(None),
        }
    }

    async fn among(
        &self,
        unit: &dyn UnitOfWork,
        tenant: &TenantId,
        audience: &BTreeSet<String>,
        most: usize,
        wanted: &Wanted,
    ) -> Result<Vec<Person>> {
        let anybody = |name: &String| name.starts_with("role:") || name.starts_with("group:");
        if !audience.iter().any(anybody) {
            let mut out = Vec::new();
            for subject in audience.iter().take(most) {
                out.extend(self.find(unit, tenant, subject).await?.filter(|person| wanted(person)));
            }
            return Ok(out);
        }
        let (roles, mut out) = (self.roles_of(unit, tenant).await?, Vec::new());
        let (filter, mut after) = (UserFilter { active: Some(true), ..UserFilter::default() }, None);
        loop {
            let page = Page { after, limit: PAGE };
            let users = unit.users().list(tenant, &filter, page).await?;
            let (more, last) = (users.len() >= PAGE as usize, users.last().map(|user| user.id.0));
            for user in users {
                let Some(person) = self.person(&roles, user).await? else { continue };
                if person.is_among(audience) && wanted(&person) {
                    out.push(person);
                }
                if out.len() >= most {
                    return Ok(out);
                }
            }
            if !more {
                return Ok(out);
            }
            after = last;
        }
    }

    async fn roles(&self, unit: &dyn UnitOfWork, tenant: &TenantId) -> Result<Vec<RoleRecord>> {
        Ok(self.roles_of(unit, tenant).await?.all)
    }
}
