//! What is there from the start: the default tenant, and somebody who administers it.

use crate::{
    Access, password,
    rules::{self, ADMINISTRATOR},
    users::audited,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use omt_audit::Event;
use omt_kernel::{
    Actor, Reach, Result, TenantId, UserId,
    access::{UserRecord, UserSource},
    port::Stale,
};
use serde_json::json;

const FIRST_USER: &str = "admin";

/// What a password in the configuration means for the first user.
#[derive(Debug, PartialEq, Eq)]
enum Configured {
    /// It is the one that was there when it was last looked at: whatever the user did since stays.
    Same,
    /// It is to be remembered, and nothing else: it is the user's password already, or nothing is known of what it was before.
    Remember,
    /// It is another one than before, so the operator wants it to be the password.
    Set,
}

fn configured(user: &UserRecord, given: &str) -> Configured {
    let fits = |hash: &Option<String>| hash.as_ref().is_some_and(|hash| password::verify(given, hash));
    match &user.configured_password {
        before @ Some(_) if fits(before) => Configured::Same,
        Some(_) if !fits(&user.password_hash) => Configured::Set,
        _ => Configured::Remember,
    }
}

impl Access {
    /// The default tenant takes its settings from the configuration at every start.
    pub(crate) async fn ensure_default_tenant(&self) -> Result<()> {
        let (tenant, wanted) = (TenantId::default_tenant(), &self.settings.tenant_defaults);
        if self.deps.database.read().await?.tenants().settings(&tenant).await?.as_ref() == Some(wanted) {
            return Ok(());
        }
        self.transaction(async |unit| {
            unit.lock("tenants").await?;
            let event = match unit.tenants().settings(&tenant).await? {
                // Another process did so just now.
                Some(old) if old == *wanted => return Ok(()),
                Some(old) => {
                    self.remeasure(unit, &tenant, &old, wanted).await?;
                    Event::new("tenant.update", "tenant", &tenant).before(&old)
                }
                None => Event::new("tenant.create", "tenant", &tenant),
            };
            unit.tenants().put(&tenant, wanted, self.deps.clock.now()).await?;
            self.deps.audit.append(unit, &Actor::system(tenant.clone()), event.after(wanted)).await
        })
        .await?;
        self.deps.broadcast.tell(Stale::Settings(tenant)).await;
        Ok(())
    }

    /// Makes the first user where nobody administers the default tenant. Returns the password when it had to be made up.
    pub(crate) async fn ensure_first_user(&self, given: Option<String>) -> Result<Option<String>> {
        if let Some(Err(weak)) = given.as_ref().map(|given| rules::check_password(given, FIRST_USER, self.settings.password_min))
        {
            // Refusing to start would take away a platform that runs; whoever wrote the configuration may do as they like with it.
            tracing::warn!(reason = weak.message, "admin.password is weaker than any user's may be");
        }
        let tenant = TenantId::default_tenant();
        let read = self.deps.database.read().await?;
        let existing = read.users().by_name(&tenant, FIRST_USER).await?;
        let roles = self.all_roles(&self.role_table(read.as_ref(), &tenant).await?);
        let administers = existing.as_ref().is_some_and(|user| rules::administers(user, &roles));
        let others = administers || self.other_administrator(read.as_ref(), &tenant, &roles, None).await?;
        drop(read);
        match (existing, given) {
            (Some(user), _) if !others => {
                tracing::error!(user = %user.id, "nobody who can log in administers the tenant that runs the platform");
                Ok(None)
            }
            // Somebody of that name who is not the first user has a password of their own.
            (Some(user), Some(given)) if administers && user.source == UserSource::Local => {
                self.take_configured(user, &given).await.map(|()| None)
            }
            (None, given) if !others => self.make_first_user(tenant, given).await,
            _ => Ok(None),
        }
    }

    async fn take_configured(&self, user: UserRecord, given: &str) -> Result<()> {
        let (now, found) = (self.deps.clock.now(), configured(&user, given));
        if found == Configured::Same {
            return Ok(());
        }
        let hash = password::hash(given)?;
        let mut next = user.clone();
        (next.configured_password, next.revision, next.updated_at) = (Some(hash.clone()), user.revision + 1, now);
        if found == Configured::Set {
            next.password_hash = Some(hash);
        }
        self.transaction(async |unit| {
            // Another process may have done the same just now.
            if !unit.users().update(&next, user.revision).await? || found != Configured::Set {
                return Ok(());
            }
            unit.sessions().revoke_user(&user.tenant, user.id, now).await?;
            let event = Event::new("auth.password", "user", user.id).detail(json!({ "by": "configuration" }));
            self.deps.audit.append(unit, &Actor::system(user.tenant.clone()), event).await
        })
        .await
    }

    async fn make_first_user(&self, tenant: TenantId, given: Option<String>) -> Result<Option<String>> {
        let now = self.deps.clock.now();
        let made = given.is_none().then(|| URL_SAFE_NO_PAD.encode(&self.deps.entropy.secret()[..18]));
        let hash = password::hash(given.as_ref().or(made.as_ref()).map_or("", String::as_str))?;
        let id = UserId(self.deps.entropy.uuid_v7(now));
        let user = UserRecord {
            password_hash: Some(hash.clone()),
            configured_password: Some(hash),
            roles: [ADMINISTRATOR.to_owned()].into(),
            reach: Reach::ALL,
            ..UserRecord::new(id, tenant.clone(), FIRST_USER.to_owned(), UserSource::Local, now)
        };
        let inserted = self
            .transaction(async |unit| {
                // Another process may have made the user since we looked; then its password counts.
                if !unit.users().insert(&user).await? {
                    return Ok(false);
                }
                let event = Event::new("user.create", "user", user.id).after(&audited(&user));
                self.deps.audit.append(unit, &Actor::system(tenant.clone()), event).await?;
                Ok(true)
            })
            .await?;
        Ok(made.filter(|_| inserted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_configured_password_is_set() {
        let hash = |text: &str| Some(password::hash(text).unwrap());
        let at = omt_kernel::OffsetDateTime::UNIX_EPOCH;
        let mut user =
            UserRecord::new(UserId(Default::default()), TenantId::default_tenant(), "admin".into(), UserSource::Local, at);
        // Made by an older version: nobody knows whether the operator or the user chose another one.
        user.password_hash = hash("chosen by the user");
        assert_eq!(configured(&user, "of the configuration"), Configured::Remember);
        user.configured_password = hash("of the configuration");
        assert_eq!(configured(&user, "of the configuration"), Configured::Same);
        assert_eq!(configured(&user, "a new one of the configuration"), Configured::Set);
        assert_eq!(configured(&user, "chosen by the user"), Configured::Remember);
    }
}
