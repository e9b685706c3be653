//! Users of a directory: taken in when they log in, and looked up again while their sessions live.

use crate::{
    Access, rules,
    service::{lock_administrators, unauthenticated},
    users::audited,
};
use omt_audit::{Event, Outcome};
use omt_kernel::{
    Actor, Error, Kind, Result, TenantId, UserId,
    access::{UserFilter, UserRecord, UserSource},
    port::{DirectoryUser, Page, UnitOfWork},
};
use std::{
    collections::BTreeSet,
    sync::Mutex,
    time::{Duration, Instant},
};
use time::OffsetDateTime;

/// A directory that failed is left alone for at least so long,
const PAUSE_LEAST: Duration = Duration::from_millis(500);
/// and for at most so long: twice as long as it took to fail.
const PAUSE_MOST: Duration = Duration::from_secs(15);

fn ldap_identity(dn: &str) -> String {
    format!("ldap:{}", dn.to_lowercase())
}

fn down() -> Error {
    Error::new(Kind::Unavailable, "DIRECTORY_UNAVAILABLE", "the directory does not answer").retry_after(5)
}

/// Keeps every session from waiting for a directory that has just failed: until the pause is over nobody asks, then one does.
#[derive(Default)]
pub(crate) struct Pause(Mutex<Option<Instant>>);

impl Pause {
    fn until(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn may_ask(&self, now: Instant) -> bool {
        let mut until = self.until();
        match *until {
            Some(end) if now < end => false,
            Some(_) => {
                // The others go on waiting for what this one hears.
                *until = Some(now + PAUSE_MOST);
                true
            }
            None => true,
        }
    }

    fn answered(&self) {
        *self.until() = None;
    }

    fn failed(&self, began: Instant, now: Instant) {
        *self.until() = Some(now + (now.saturating_duration_since(began) * 2).clamp(PAUSE_LEAST, PAUSE_MOST));
    }
}

impl Access {
    /// Asks the directory something, and remembers whether it answered.
    async fn heard<T>(&self, question: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        let answer = question.await;
        match &answer {
            Ok(_) => self.pause.answered(),
            Err(_) => self.pause.failed(began, Instant::now()),
        }
        answer
    }

    /// Whom the directory knows by this name and password; their record, made or brought up to date.
    pub(crate) async fn log_in_by_directory(&self, tenant: &TenantId, name: &str, given: &str) -> Result<Option<UserRecord>> {
        let Some(directory) = &self.deps.directory else { return Ok(None) };
        match self.heard(directory.authenticate(name, given)).await? {
            Some(found) => self.take_in(tenant, found).await.map(Some),
            None => Ok(None),
        }
    }

    /// The record of a directory's user, made or brought up to date. Whoever has no role here cannot log in.
    async fn take_in(&self, tenant: &TenantId, found: DirectoryUser) -> Result<UserRecord> {
        let now = self.deps.clock.now();
        let identity = ldap_identity(&found.external_id);
        let filter = UserFilter { identity: Some(identity.clone()), ..UserFilter::default() };
        let busy = |words: &str| Error::new(Kind::Unavailable, omt_kernel::retry::BUSY, words);
        let (user, changed) = self
            .transaction(async |unit| {
                let linked = unit.users().list(tenant, &filter, Page { after: None, limit: 1 }).await?.pop();
                let known = match linked {
                    Some(user) => Some(user),
                    None => unit.users().by_name(tenant, &found.username).await?,
                };
                let mappings = unit.roles().mappings(tenant).await?;
                let mapped = rules::apply_mappings(&mappings, &found.groups, &[], now);
                match known {
                    // Rights that were given to somebody else's user of the same name are not this one's.
                    Some(user)
                        if user.identity.as_ref() != Some(&identity)
                            && !(user.source == UserSource::Scim && user.identity.is_none()) =>
                    {
                        Err(Error::new(Kind::Forbidden, "NAME_TAKEN", "another user here has this login name"))
                    }
                    Some(user) => {
                        let next = UserRecord {
                            revision: user.revision + 1,
                            updated_at: now,
                            source: UserSource::Ldap,
                            identity: Some(identity.clone()),
                            display_name: found.display_name.clone(),
                            email: found.email.clone(),
                            mapped,
                            ..user.clone()
                        };
                        if !unit.users().update(&next, user.revision).await? {
                            return Err(busy("the user was changed meanwhile"));
                        }
                        self.note_mapped(unit, &user, &next).await?;
                        let changed = rules::timeless(&user.mapped) != rules::timeless(&next.mapped);
                        Ok((next, changed))
                    }
                    None => {
                        let id = UserId(self.deps.entropy.uuid_v7(now));
                        let user = UserRecord {
                            display_name: found.display_name.clone(),
                            email: found.email.clone(),
                            identity: Some(identity.clone()),
                            mapped,
                            ..UserRecord::new(id, tenant.clone(), found.username.clone(), UserSource::Ldap, now)
                        };
                        if !unit.users().insert(&user).await? {
                            return Err(busy("the user was made meanwhile"));
                        }
                        let event = Event::new("user.create", "user", user.id).after(&audited(&user));
                        self.deps.audit.append(unit, &Actor::system(tenant.clone()), event).await?;
                        Ok((user, false))
                    }
                }
            })
            .await?;
        if changed {
            self.rights_changed().await;
        }
        if !user.active {
            return Err(crate::login::bad_credentials());
        }
        if user.all_roles().is_empty() {
            let words = "the directory knows you, but none of your groups has a role here";
            return Err(Error::new(Kind::Forbidden, "NO_ROLE", words));
        }
        Ok(user)
    }

    /// Looks a directory's user up again when it is time; false when it was not. While the directory does not answer, what it
    /// said last counts for a time. It may take seconds: what is known of the user and the session is to be read again after.
    pub(crate) async fn refreshed(&self, user: &UserRecord, now: OffsetDateTime) -> Result<bool> {
        let external = user.identity.as_deref().and_then(|identity| identity.strip_prefix("ldap:"));
        let (Some(directory), Some(external)) = (&self.deps.directory, external) else { return Ok(false) };
        let age = user.mapped.seen_at.map_or(self.settings.directory_grace, |seen| now - seen);
        if age < self.settings.directory_refresh {
            return Ok(false);
        }
        let answer = if self.pause.may_ask(Instant::now()) {
            let answer = self.heard(directory.lookup(external)).await;
            if let Err(error) = &answer {
                tracing::warn!(%error, "the directory does not answer; what it said before counts for a time");
            }
            answer
        } else {
            Err(down())
        };
        match answer {
            Ok(Some(found)) => self.regrouped(user, &found.groups, now).await,
            Ok(None) => {
                self.gone(user, now).await?;
                Err(unauthenticated("SESSION_ENDED", "the directory does not know you any more"))
            }
            Err(_) if age < self.settings.directory_grace => Ok(()),
            Err(error) => Err(error),
        }
        .map(|()| true)
    }

    async fn regrouped(&self, user: &UserRecord, groups: &BTreeSet<String>, now: OffsetDateTime) -> Result<()> {
        let changed = self
            .transaction(async |unit| {
                let mappings = unit.roles().mappings(&user.tenant).await?;
                let mapped = rules::apply_mappings(&mappings, groups, &[], now);
                let next = UserRecord { mapped, revision: user.revision + 1, ..user.clone() };
                // Somebody else may have done so just now; then theirs counts.
                let written = unit.users().update(&next, user.revision).await?;
                if written {
                    self.note_mapped(unit, user, &next).await?;
                }
                Ok(written && rules::timeless(&user.mapped) != rules::timeless(&next.mapped))
            })
            .await?;
        if changed {
            self.rights_changed().await;
        }
        Ok(())
    }

    /// The directory does not know somebody any more: their sessions end, and so do the API keys that they made. What its groups
    /// gave is gone, and they count as nobody who could log in, until they do.
    async fn gone(&self, user: &UserRecord, now: OffsetDateTime) -> Result<()> {
        let system = Actor::system(user.tenant.clone());
        self.transaction(async |unit| {
            // A key that they make at this moment is either revoked here or not made.
            lock_administrators(unit, &user.tenant).await?;
            unit.sessions().revoke_user(&user.tenant, user.id, now).await?;
            self.revoke_keys_of(unit, &system, &user.subject(), now).await?;
            let event = Event::new("user.gone", "user", user.id);
            // Asking may have taken seconds; they may have been removed meanwhile.
            let Some(before) = unit.users().get(&user.tenant, user.id).await? else {
                return self.deps.audit.append(unit, &system, event).await;
            };
            let next = UserRecord { updated_at: now, ..rules::gone(&before) };
            if !unit.users().update(&next, before.revision).await? {
                return Err(crate::roles::changed_meanwhile());
            }
            let event = event.before(&audited(&before)).after(&audited(&next));
            self.deps.audit.append(unit, &system, event).await?;
            self.note_unadministered(unit, &before, Some(&next)).await
        })
        .await?;
        self.rights_changed().await;
        Ok(())
    }

    /// Writes down that where somebody logs in gives them something else now, if it does.
    pub(crate) async fn note_mapped(&self, unit: &dyn UnitOfWork, before: &UserRecord, after: &UserRecord) -> Result<()> {
        let (old, new) = (rules::timeless(&before.mapped), rules::timeless(&after.mapped));
        if old == new {
            return Ok(());
        }
        let event = Event::new("user.groups", "user", after.id).before(&old).after(&new);
        self.deps.audit.append(unit, &Actor::system(after.tenant.clone()), event).await?;
        self.note_unadministered(unit, before, Some(after)).await
    }

    /// A directory or an issuer decides, even about a tenant's last administrator; but that is said aloud.
    async fn note_unadministered(&self, unit: &dyn UnitOfWork, before: &UserRecord, after: Option<&UserRecord>) -> Result<()> {
        let tenant = &before.tenant;
        match self.check_administrators(unit, before, after).await {
            Err(error) if error.code == "LAST_ADMINISTRATOR" => {
                tracing::error!(%tenant, user = %before.id, "the directory or issuer took a tenant's last administrator away");
                let event = Event::new("tenant.unadministered", "tenant", tenant).outcome(Outcome::Failed, error.code);
                self.deps.audit.append(unit, &Actor::system(tenant.clone()), event).await
            }
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_failed_is_left_alone_and_then_asked_by_one() {
        let (pause, start) = (Pause::default(), Instant::now());
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        assert!(pause.may_ask(at(0.0)) && pause.may_ask(at(0.0)));
        // Five seconds in vain: nobody asks for ten.
        pause.failed(at(0.0), at(5.0));
        assert!(!pause.may_ask(at(5.0)) && !pause.may_ask(at(14.9)));
        assert!(pause.may_ask(at(15.1)));
        assert!(!pause.may_ask(at(15.2)), "the others wait for what the first one hears");
        // One who went away without an answer does not close it for ever.
        assert!(pause.may_ask(at(31.0)));
        pause.answered();
        assert!(pause.may_ask(at(31.1)) && pause.may_ask(at(31.1)));
        // A refusal that cost nothing is soon tried again, and no failure counts for longer than the longest pause.
        pause.failed(at(40.0), at(40.0));
        assert!(!pause.may_ask(at(40.4)) && pause.may_ask(at(40.6)));
        pause.failed(at(50.0), at(90.0));
        assert!(!pause.may_ask(at(104.0)) && pause.may_ask(at(105.1)));
    }
}
