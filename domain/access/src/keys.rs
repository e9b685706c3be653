//! API keys.

use crate::{
    Access, rules,
    service::{digest, lock_administrators, unauthenticated},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use omt_audit::Event;
use omt_kernel::{
    Actor, ApiKeyId, Error, Kind, Permission, Reach, Result, TenantId, TenantSettings, UserId, Via,
    person::{MAKERS, behind},
    port::{Page, UnitOfWork, whole},
    record::ApiKeyRecord,
};
use std::{collections::BTreeSet, sync::Arc};
use time::{Duration, OffsetDateTime};

/// Every API key begins so, which lets secret scanners find leaked ones.
pub(crate) const PREFIX: &str = "omt_";
/// How often a key's use is noted, and whoever made it looked at.
const NOTE_USE: Duration = Duration::minutes(1);

/// A request for an API key.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Name for people.
    pub name: String,
    /// The tenant it acts for; the actor's own when absent.
    pub tenant: Option<TenantId>,
    /// What it may do.
    pub scopes: BTreeSet<Permission>,
    /// Which content it sees; the actor's own reach when absent.
    pub reach: Option<Reach>,
    /// Days until it ends; never when absent.
    pub expires_in_days: Option<u32>,
}

/// What an entry's hashes are made of.
fn audited(key: &ApiKeyRecord) -> serde_json::Value {
    serde_json::json!({ "scopes": key.scopes, "reach": key.reach })
}

/// Every key that a subject of the tenant made, revoked ones too.
pub(crate) async fn keys_of(unit: &dyn UnitOfWork, tenant: &TenantId, maker: &str) -> Result<Vec<ApiKeyRecord>> {
    whole(|key: &ApiKeyRecord| key.id.0, async |page| unit.api_keys().made_by(tenant, maker, page).await).await
}

fn revoked(words: &str) -> Error {
    unauthenticated("API_KEY_REVOKED", words)
}

impl Access {
    pub(crate) async fn authenticate_key(&self, key: &str, request_id: String) -> Result<Actor> {
        let now = self.deps.clock.now();
        // Found by its digest: comparing digests leaks nothing about the key.
        let found = self.deps.database.read().await?.api_keys().by_digest(&digest(key)).await?;
        let key = found.ok_or_else(|| unauthenticated("INVALID_API_KEY", "the API key is not valid"))?;
        if key.revoked_at.is_some() {
            return Err(revoked("the API key was revoked"));
        }
        if key.expires_at.is_some_and(|end| now >= end) {
            return Err(unauthenticated("API_KEY_EXPIRED", "the API key has expired"));
        }
        let last = key.last_used_at;
        let actor = Actor {
            tenant: key.tenant.clone(),
            subject: format!("key:{}", key.id),
            name: key.name.clone(),
            roles: BTreeSet::new(),
            permissions: key.scopes.clone(),
            reach: key.reach.clone(),
            via: Via::ApiKey,
            session: None,
            second_factor_at: None,
            request_id,
            claim: None,
        };
        if last.is_none_or(|at| now - at > NOTE_USE) {
            // By one request for all that come at once, so that a directory is not asked by each.
            let noted = self.key_uses.try_get_with(key.id, self.note_use(&key, &actor, now)).await;
            noted.map_err(|error: Arc<Error>| error.as_ref().clone())?;
        }
        Ok(actor)
    }

    /// Looks whether whoever made the key is still there, and notes the use.
    async fn note_use(&self, key: &ApiKeyRecord, actor: &Actor, now: OffsetDateTime) -> Result<()> {
        self.check_maker(key, now).await?;
        self.transaction(async |unit| {
            unit.api_keys().touch(key.id, now).await?;
            // Each request proves itself anew; the log says on which days.
            if key.last_used_at.is_none_or(|at| at.date() != now.date()) {
                self.deps.audit.append(unit, actor, Event::new("auth.key", "api_key", key.id)).await?;
            }
            Ok(())
        })
        .await
    }

    /// Refuses a key whose maker is gone. A directory's user is looked up again as for a session: whoever does not log in any more
    /// has none by which that would be noticed.
    async fn check_maker(&self, key: &ApiKeyRecord, now: OffsetDateTime) -> Result<()> {
        let ended = || revoked("whoever made the API key is gone");
        let read = self.deps.database.read().await?;
        let (tenant, maker) = behind(read.as_ref(), &key.managed_by, &key.created_by).await?.ok_or_else(ended)?;
        let Some(id) = maker.strip_prefix("user:") else { return Ok(()) };
        let id: UserId = id.parse().map_err(|_| ended())?;
        let user = read.users().get(&tenant, id).await?.filter(|user| user.active).ok_or_else(ended)?;
        drop(read);
        match self.refreshed(&user, now).await {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            // The words are for a session.
            Err(error) if error.kind == Kind::Unauthenticated => return Err(ended()),
            Err(error) => return Err(error),
        }
        // That may have taken seconds; what was taken away meanwhile is gone.
        let read = self.deps.database.read().await?;
        let again = read.api_keys().acting(&key.tenant, key.id).await?;
        again.filter(|key| key.revoked_at.is_none()).ok_or_else(|| revoked("the API key was revoked"))?;
        read.users().get(&tenant, id).await?.filter(|user| user.active).map(drop).ok_or_else(ended)
    }

    /// Refuses to make a key for whoever is removed, deactivated or revoked at this moment: it would outlive them. Holds the locks
    /// under which that happens.
    async fn check_may_make(&self, unit: &dyn UnitOfWork, actor: &Actor) -> Result<()> {
        lock_administrators(unit, &actor.tenant).await?;
        let found = behind(unit, &actor.tenant, &actor.subject).await?;
        // Only the platform's tenant makes keys for others: it is the one behind, and every key between is managed by one of the two.
        if let Some((tenant, _)) = found.as_ref().filter(|(tenant, _)| *tenant != actor.tenant) {
            lock_administrators(unit, tenant).await?;
        }
        if let Some(id) = actor.subject.strip_prefix("key:") {
            let own = match id.parse() {
                Ok(id) => unit.api_keys().acting(&actor.tenant, id).await?,
                Err(_) => None,
            };
            own.filter(|key| key.revoked_at.is_none()).ok_or_else(|| revoked("the API key was revoked"))?;
        }
        let (tenant, maker) = found.ok_or_else(|| {
            let words = format!("a key, made with a key, and so on: at most {MAKERS}; make it as a user");
            Error::new(Kind::Conflict, "KEY_CHAIN_TOO_LONG", words)
        })?;
        let Some(id) = maker.strip_prefix("user:") else { return Ok(()) };
        let user = match id.parse() {
            Ok(id) => unit.users().get(&tenant, id).await?,
            Err(_) => None,
        };
        match user {
            Some(user) if user.active && !rules::is_gone(&user) => Ok(()),
            _ if actor.via == Via::ApiKey => Err(revoked("whoever made the API key is gone")),
            _ => Err(unauthenticated("SESSION_ENDED", "the session has ended; log in again")),
        }
    }

    /// Makes an API key. Nobody grants what they do not hold. A key for another tenant needs somebody who runs the platform, and
    /// makes the tenant with default settings if it does not exist.
    pub async fn create_api_key(&self, actor: &Actor, new: NewApiKey) -> Result<(ApiKeyRecord, String)> {
        actor.require(Permission::AdminApiKeys)?;
        self.require_step_up(actor).await?;
        rules::check_words("name", &new.name)?;
        if new.scopes.is_empty() {
            return Err(Error::unprocessable_field("INVALID_FIELD", "scopes", "at least one scope is needed"));
        }
        if let Some(excess) = new.scopes.iter().find(|scope| !actor.permissions.contains(scope)) {
            return Err(Error::new(Kind::Forbidden, "SCOPE_NOT_HELD", format!("you do not hold {excess} yourself")));
        }
        let reach = new.reach.unwrap_or_else(|| actor.reach.clone());
        rules::check_reach(&actor.reach, &reach)?;
        if new.expires_in_days.is_some_and(|days| days == 0 || days > 3660) {
            return Err(Error::unprocessable_field("INVALID_FIELD", "expires_in_days", "must be 1 to 3660"));
        }
        let tenant = new.tenant.unwrap_or_else(|| actor.tenant.clone());
        let foreign = tenant != actor.tenant;
        if foreign {
            if !actor.runs_platform() {
                return Err(Error::new(Kind::Forbidden, "FORBIDDEN", "keys of other tenants are for those who run the platform"));
            }
            // The platform's own administration stays in the tenant that has it.
            if new.scopes.contains(&Permission::AdminSystem) {
                let words = "a key for another tenant cannot administer the platform";
                return Err(Error::new(Kind::Forbidden, "SCOPE_NOT_ALLOWED", words));
            }
        }
        let now = self.deps.clock.now();
        let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.deps.entropy.secret()));
        let record = ApiKeyRecord {
            id: ApiKeyId(self.deps.entropy.uuid_v7(now)),
            tenant: tenant.clone(),
            name: new.name,
            key_sha256: digest(&secret),
            scopes: new.scopes,
            reach,
            created_by: actor.subject.clone(),
            managed_by: actor.tenant.clone(),
            created_at: now,
            expires_at: new.expires_in_days.map(|days| now + Duration::days(i64::from(days))),
            last_used_at: None,
            revoked_at: None,
        };
        self.transaction(async |unit| {
            self.check_may_make(unit, actor).await?;
            if foreign && unit.tenants().settings(&tenant).await?.is_none() {
                unit.tenants().put(&tenant, &TenantSettings::default(), now).await?;
                self.deps.audit.append(unit, actor, Event::new("tenant.create", "tenant", &tenant)).await?;
            }
            unit.api_keys().insert(&record).await?;
            let event = Event::new("api_key.create", "api_key", record.id).after(&audited(&record));
            self.deps.audit.append(unit, actor, event).await
        })
        .await?;
        Ok((record, secret))
    }

    /// API keys that the actor's tenant manages.
    pub async fn list_api_keys(&self, actor: &Actor, page: Page) -> Result<Vec<ApiKeyRecord>> {
        actor.require(Permission::AdminUserRead)?;
        self.deps.database.read().await?.api_keys().list(&actor.tenant, page).await
    }

    /// Revokes an API key at once.
    pub async fn revoke_api_key(&self, actor: &Actor, id: ApiKeyId) -> Result<()> {
        actor.require(Permission::AdminApiKeys)?;
        let now = self.deps.clock.now();
        self.transaction(async |unit| {
            // A key that it makes at this moment is not made.
            lock_administrators(unit, &actor.tenant).await?;
            let none = || Error::not_found("API key");
            let key = unit.api_keys().get(&actor.tenant, id).await?.ok_or_else(none)?;
            if !self.revoke_key(unit, actor, &key, now).await? {
                return Err(none());
            }
            Ok(())
        })
        .await
    }

    async fn revoke_key(&self, unit: &dyn UnitOfWork, actor: &Actor, key: &ApiKeyRecord, now: OffsetDateTime) -> Result<bool> {
        if !unit.api_keys().revoke(&key.managed_by, key.id, now).await? {
            return Ok(false);
        }
        let event = Event::new("api_key.revoke", "api_key", key.id).before(&audited(key));
        self.deps.audit.append(unit, actor, event).await?;
        Ok(true)
    }

    /// Revokes the keys that somebody of the actor's tenant made, and those that were made with these: who is gone leaves nothing
    /// behind that acts for them.
    pub(crate) async fn revoke_keys_of(
        &self,
        unit: &dyn UnitOfWork,
        actor: &Actor,
        subject: &str,
        now: OffsetDateTime,
    ) -> Result<()> {
        let mut makers = vec![(actor.tenant.clone(), subject.to_owned())];
        while let Some((tenant, maker)) = makers.pop() {
            for key in keys_of(unit, &tenant, &maker).await? {
                self.revoke_key(unit, actor, &key, now).await?;
                makers.push((key.tenant, format!("key:{}", key.id)));
            }
        }
        Ok(())
    }
}
