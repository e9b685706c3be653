//! API keys.

use crate::{
    Access, rules,
    service::{digest, unauthenticated},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use omt_audit::Event;
use omt_kernel::{
    Actor, ApiKeyId, Error, Kind, Permission, Reach, Result, TenantId, TenantSettings, Via, port::Page, record::ApiKeyRecord,
};
use std::collections::BTreeSet;
use time::Duration;

/// Every API key begins so, which lets secret scanners find leaked ones.
pub(crate) const PREFIX: &str = "omt_";
/// How often a key's use is noted.
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

impl Access {
    pub(crate) async fn authenticate_key(&self, key: &str, request_id: String) -> Result<Actor> {
        let now = self.deps.clock.now();
        // Found by its digest: comparing digests leaks nothing about the key.
        let found = self.deps.database.read().await?.api_keys().by_digest(&digest(key)).await?;
        let key = found.ok_or_else(|| unauthenticated("INVALID_API_KEY", "the API key is not valid"))?;
        if key.revoked_at.is_some() {
            return Err(unauthenticated("API_KEY_REVOKED", "the API key was revoked"));
        }
        if key.expires_at.is_some_and(|end| now >= end) {
            return Err(unauthenticated("API_KEY_EXPIRED", "the API key has expired"));
        }
        if key.last_used_at.is_none_or(|at| now - at > NOTE_USE) {
            self.transaction(async |unit| unit.api_keys().touch(key.id, now).await).await?;
        }
        Ok(Actor {
            tenant: key.tenant,
            subject: format!("key:{}", key.id),
            name: key.name,
            roles: BTreeSet::new(),
            permissions: key.scopes,
            reach: key.reach,
            via: Via::ApiKey,
            session: None,
            second_factor_at: None,
            request_id,
        })
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
            if foreign && unit.tenants().settings(&tenant).await?.is_none() {
                unit.tenants().put(&tenant, &TenantSettings::default(), now).await?;
                self.deps.audit.append(unit, actor, Event::new("tenant.create", "tenant", &tenant)).await?;
            }
            unit.api_keys().insert(&record).await?;
            let event = Event::new("api_key.create", "api_key", record.id)
                .after(&serde_json::json!({ "scopes": record.scopes, "reach": record.reach }));
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
            if !unit.api_keys().revoke(&actor.tenant, id, now).await? {
                return Err(Error::not_found("API key"));
            }
            self.deps.audit.append(unit, actor, Event::new("api_key.revoke", "api_key", id)).await
        })
        .await
    }
}
