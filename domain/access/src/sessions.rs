//! Sessions: one's own, and a tenant's.

use crate::{Access, password, rules, second_factor::not_a_user};
use omt_audit::Event;
use omt_kernel::{
    Actor, Error, Kind, Permission, Result, SessionId, UserId,
    access::{SessionRecord, UserRecord, UserSource},
    port::Page,
};

impl Access {
    /// The actor's own live sessions, newest first.
    pub async fn own_sessions(&self, actor: &Actor, page: Page) -> Result<Vec<SessionRecord>> {
        let user = self.user_of(actor).ok_or_else(not_a_user)?;
        self.deps.database.read().await?.sessions().list(&actor.tenant, Some(user), self.deps.clock.now(), page).await
    }

    /// Ends one of the actor's own sessions.
    pub async fn end_own_session(&self, actor: &Actor, id: SessionId) -> Result<()> {
        let user = self.user_of(actor).ok_or_else(not_a_user)?;
        if self.end_session(actor, Some(user), id).await? { Ok(()) } else { Err(Error::not_found("session")) }
    }

    /// The tenant's live sessions, or one user's, newest first.
    pub async fn sessions(&self, actor: &Actor, user: Option<UserId>, page: Page) -> Result<Vec<SessionRecord>> {
        actor.require(Permission::AdminUserRead)?;
        self.deps.database.read().await?.sessions().list(&actor.tenant, user, self.deps.clock.now(), page).await
    }

    /// Ends any session of the tenant.
    pub async fn revoke_session(&self, actor: &Actor, id: SessionId) -> Result<()> {
        actor.require(Permission::AdminUsers)?;
        if self.end_session(actor, None, id).await? { Ok(()) } else { Err(Error::not_found("session")) }
    }

    /// The actor's own record, where the actor is a user.
    pub async fn me(&self, actor: &Actor) -> Result<Option<UserRecord>> {
        match self.user_of(actor) {
            Some(id) => self.own_record(actor, id).await.map(Some),
            None => Ok(None),
        }
    }

    /// Whether the actor wants messages by mail.
    pub async fn wants_mail(&self, actor: &Actor) -> Result<bool> {
        let id = self.user_of(actor).ok_or_else(not_a_user)?;
        Ok(self.own_record(actor, id).await?.wants_mail)
    }

    /// Says whether the actor wants messages by mail.
    pub async fn want_mail(&self, actor: &Actor, wants: bool) -> Result<()> {
        let id = self.user_of(actor).ok_or_else(not_a_user)?;
        let user = self.own_record(actor, id).await?;
        self.change_own(actor, user, "user.mail", |user| user.wants_mail = wants).await
    }

    /// Changes one's own password. Every session ends, this one too.
    pub async fn change_password(&self, actor: &Actor, current: String, new: String) -> Result<()> {
        let id = self.user_of(actor).ok_or_else(not_a_user)?;
        let user = self.own_record(actor, id).await?;
        let (UserSource::Local, Some(hash)) = (user.source, user.password_hash.clone()) else {
            return Err(Error::new(Kind::Conflict, "NOT_LOCAL", "your password is kept elsewhere; change it there"));
        };
        let name = crate::service::digest(&rules::counted_name(&user.username));
        self.reserve_attempt(&user.tenant, &name).await?;
        if !self.deps.pool.run(move || Ok(password::verify(&current, &hash))).await? {
            return Err(crate::service::unauthenticated("INVALID_CREDENTIALS", "the current password is wrong"));
        }
        rules::check_password(&new, &user.username, self.settings.password_min)?;
        let hash = self.deps.pool.run(move || password::hash(&new)).await?;
        let now = self.deps.clock.now();
        self.transaction(async |unit| {
            let mut next = user.clone();
            next.password_hash = Some(hash.clone());
            (next.revision, next.updated_at) = (user.revision + 1, now);
            if !unit.users().update(&next, user.revision).await? {
                return Err(Error::new(Kind::Conflict, "CONCURRENT_CHANGE", "the user was changed at the same time"));
            }
            unit.users().set_attempts(&user.tenant, &name, None).await?;
            unit.sessions().revoke_user(&user.tenant, id, now).await?;
            self.deps.audit.append(unit, actor, Event::new("auth.password", "user", id)).await
        })
        .await?;
        self.rights_changed().await;
        Ok(())
    }
}
