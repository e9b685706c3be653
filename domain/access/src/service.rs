//! Logging in, staying logged in, and API keys.

use crate::{
    password,
    token::{self, Claims},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use omt_crypto::{Algorithm, KeyStore};
use omt_kernel::{
    Actor, ApiKeyId, Error, Kind, Permission, Result, TenantId, TenantSettings, UserId, Via,
    error::Context as _,
    pool::WorkPool,
    port::{Clock, Database, Entropy, Page},
    record::{ApiKeyRecord, RefreshTokenRecord, UserRecord},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, sync::Arc};
use time::Duration;
use uuid::Uuid;

/// How long an access token is good.
pub const ACCESS_TOKEN: Duration = Duration::minutes(15);
/// How long a refresh token is good.
pub const REFRESH_TOKEN: Duration = Duration::days(14);
/// The key store's name of the key that signs access tokens.
const TOKEN_KEY: &str = "access/token";
/// Every API key begins so, which lets secret scanners find leaked ones.
const KEY_PREFIX: &str = "omt_";
const FIRST_USER: &str = "admin";

/// A pair of tokens.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// JWT.
    pub access: String,
    /// Opaque; good for one exchange.
    pub refresh: String,
    /// Seconds that the access token is good.
    pub expires_in: i64,
}

/// A request for an API key.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Name for people.
    pub name: String,
    /// The tenant it acts for; the actor's own when absent.
    pub tenant: Option<TenantId>,
    /// What it may do.
    pub scopes: BTreeSet<Permission>,
    /// Days until it ends; never when absent.
    pub expires_in_days: Option<u32>,
}

/// The use cases.
pub struct Access {
    database: Arc<dyn Database>,
    keys: Arc<dyn KeyStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pool: Arc<WorkPool>,
    issuer: String,
    verify_key: DecodingKey,
    /// Tokens seen of late, since each comes with many requests and an ECDSA verification costs more than most answers.
    verified: moka::sync::Cache<[u8; 32], token::Verified>,
    tenant_defaults: TenantSettings,
    /// Verified against when there is no such user, so that an answer takes as long.
    decoy: String,
}

fn digest(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}

fn bad_credentials() -> Error {
    Error::new(Kind::Unauthenticated, "INVALID_CREDENTIALS", "the user name or the password is wrong")
}

fn key_fault(error: omt_crypto::KeyStoreError) -> Error {
    Error::internal("the key store failed").caused_by(error)
}

impl Access {
    /// Opens the room: makes the token key, the default tenant and the first user where they are missing. Returns the first
    /// user's password when it had to be made up.
    #[allow(clippy::too_many_arguments)]
    pub async fn open(
        database: Arc<dyn Database>,
        keys: Arc<dyn KeyStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        pool: Arc<WorkPool>,
        issuer: String,
        tenant_defaults: TenantSettings,
        admin_password: Option<String>,
    ) -> Result<(Self, Option<String>)> {
        let public = match keys.public_key(TOKEN_KEY).map_err(key_fault)? {
            Some((_, public)) => public,
            None => match keys.generate(TOKEN_KEY, Algorithm::Es256) {
                // Another process made it at the same time.
                Err(omt_crypto::KeyStoreError::Exists(_)) => {
                    let found = keys.public_key(TOKEN_KEY).map_err(key_fault)?;
                    found.ok_or_else(|| Error::internal("the token key vanished"))?.1
                }
                made => made.map_err(key_fault)?,
            },
        };
        let decoy = password::hash(&hex::encode(entropy.secret()))?;
        let verify_key = token::decoding_key(&public)?;
        let verified = moka::sync::Cache::builder()
            .max_capacity(10_000)
            .time_to_live(std::time::Duration::from_secs(ACCESS_TOKEN.whole_seconds().unsigned_abs()))
            .build();
        let access = Self { database, keys, clock, entropy, pool, issuer, verify_key, verified, tenant_defaults, decoy };
        access.ensure_default_tenant().await?;
        let made = access.ensure_first_user(admin_password).await?;
        Ok((access, made))
    }

    /// The default tenant takes its settings from the configuration at every start.
    async fn ensure_default_tenant(&self) -> Result<()> {
        let tenant = TenantId::default_tenant();
        let current = self.database.read().await?.tenants().settings(&tenant).await?;
        if current.as_ref() != Some(&self.tenant_defaults) {
            let unit = self.database.begin().await?;
            unit.tenants().put(&tenant, &self.tenant_defaults, self.clock.now()).await?;
            unit.commit().await?;
        }
        Ok(())
    }

    async fn ensure_first_user(&self, configured: Option<String>) -> Result<Option<String>> {
        let existing = self.database.read().await?.identities().user_by_name(FIRST_USER).await?;
        let everything: BTreeSet<Permission> = Permission::ALL.iter().copied().collect();
        // The first user runs the platform, and a newer version may know more that there is to do.
        if let Some(user) = &existing
            && user.permissions.contains(&Permission::AdminSystem)
            && user.permissions != everything
        {
            let unit = self.database.begin().await?;
            unit.identities().set_permissions(user.id, &everything).await?;
            unit.commit().await?;
        }
        match (existing, configured) {
            (Some(user), Some(password)) if !password::verify(&password, &user.password_hash) => {
                let unit = self.database.begin().await?;
                unit.identities().set_password(user.id, &password::hash(&password)?).await?;
                unit.commit().await?;
                Ok(None)
            }
            (Some(_), _) => Ok(None),
            (None, configured) => {
                let made = configured.is_none().then(|| URL_SAFE_NO_PAD.encode(&self.entropy.secret()[..18]));
                let password = configured.or_else(|| made.clone()).unwrap_or_default();
                let now = self.clock.now();
                let user = UserRecord {
                    id: UserId(self.entropy.uuid_v7(now)),
                    tenant: TenantId::default_tenant(),
                    username: FIRST_USER.to_owned(),
                    password_hash: password::hash(&password)?,
                    permissions: everything,
                    disabled: false,
                    created_at: now,
                };
                let unit = self.database.begin().await?;
                unit.lock("first-user").await?;
                // Another process may have made the user since we looked; then its password counts.
                if unit.identities().user_by_name(FIRST_USER).await?.is_some() {
                    return Ok(None);
                }
                unit.identities().insert_user(&user).await?;
                unit.commit().await?;
                Ok(made)
            }
        }
    }

    /// The settings that a new tenant starts with.
    pub fn tenant_defaults(&self) -> &TenantSettings {
        &self.tenant_defaults
    }

    /// Logs a user in.
    pub async fn login(&self, username: &str, password: &str) -> Result<Tokens> {
        let user = self.database.read().await?.identities().user_by_name(username).await?.filter(|user| !user.disabled);
        let hash = user.as_ref().map_or_else(|| self.decoy.clone(), |user| user.password_hash.clone());
        let password = password.to_owned();
        let fits = self.pool.run(move || Ok(password::verify(&password, &hash))).await?;
        let user = user.filter(|_| fits).ok_or_else(bad_credentials)?;
        self.tokens(&user, self.entropy.uuid_v4(), None).await
    }

    /// Exchanges a refresh token. A token that was exchanged before is stolen: its whole family ends.
    pub async fn refresh(&self, refresh: &str) -> Result<Tokens> {
        let refused = || Error::new(Kind::Unauthenticated, "INVALID_REFRESH_TOKEN", "the refresh token is not valid");
        let token_sha256 = digest(refresh);
        let unit = self.database.read().await?;
        let stored = unit.identities().refresh_token(&token_sha256).await?.ok_or_else(refused)?;
        if stored.used_at.is_some() {
            let unit = self.database.begin().await?;
            unit.identities().revoke_family(stored.family).await?;
            unit.commit().await?;
            return Err(Error::new(
                Kind::Unauthenticated,
                "REFRESH_TOKEN_REUSED",
                "the refresh token was used before; log in again",
            ));
        }
        if self.clock.now() >= stored.expires_at {
            return Err(refused());
        }
        let user = unit.identities().user(stored.user).await?.filter(|user| !user.disabled).ok_or_else(refused)?;
        self.tokens(&user, stored.family, Some(&token_sha256)).await
    }

    /// Ends the login that a refresh token belongs to.
    pub async fn logout(&self, refresh: &str) -> Result<()> {
        let stored = self.database.read().await?.identities().refresh_token(&digest(refresh)).await?;
        if let Some(stored) = stored {
            let unit = self.database.begin().await?;
            unit.identities().revoke_family(stored.family).await?;
            unit.commit().await?;
        }
        Ok(())
    }

    async fn tokens(&self, user: &UserRecord, family: Uuid, exchanged: Option<&str>) -> Result<Tokens> {
        let now = self.clock.now();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: token::AUDIENCE.to_owned(),
            sub: format!("user:{}", user.id),
            name: user.username.clone(),
            tenant: user.tenant.clone(),
            permissions: user.permissions.clone(),
            iat: now.unix_timestamp(),
            exp: (now + ACCESS_TOKEN).unix_timestamp(),
            sid: family.to_string(),
        };
        let access = token::encode(&claims, |message| self.keys.sign(TOKEN_KEY, message).map_err(key_fault))?;
        let refresh = URL_SAFE_NO_PAD.encode(self.entropy.secret());
        let record = RefreshTokenRecord {
            token_sha256: digest(&refresh),
            family,
            user: user.id,
            expires_at: now + REFRESH_TOKEN,
            used_at: None,
        };
        let unit = self.database.begin().await?;
        if let Some(exchanged) = exchanged
            && !unit.identities().use_refresh_token(exchanged, now).await?
        {
            unit.identities().revoke_family(family).await?;
            unit.commit().await?;
            return Err(Error::new(
                Kind::Unauthenticated,
                "REFRESH_TOKEN_REUSED",
                "the refresh token was used before; log in again",
            ));
        }
        unit.identities().insert_refresh_token(&record).await?;
        unit.commit().await?;
        Ok(Tokens { access, refresh, expires_in: ACCESS_TOKEN.whole_seconds() })
    }

    /// The actor behind a bearer credential: an access token or an API key.
    pub async fn authenticate(&self, bearer: &str) -> Result<Actor> {
        if bearer.starts_with(KEY_PREFIX) {
            return self.authenticate_key(bearer).await;
        }
        let now = self.clock.now().unix_timestamp();
        // By digest, so that no token is kept in memory.
        let key: [u8; 32] = Sha256::digest(bearer).into();
        let verified = match self.verified.get(&key) {
            Some(found) => found,
            None => {
                let verified = token::decode(bearer, &self.verify_key, &self.issuer)?;
                self.verified.insert(key, verified.clone());
                verified
            }
        };
        verified.actor(now)
    }

    async fn authenticate_key(&self, key: &str) -> Result<Actor> {
        let refused = |code, words: &str| Error::new(Kind::Unauthenticated, code, words);
        // Found by its digest: comparing digests leaks nothing about the key.
        let found = self.database.read().await?.identities().api_key_by_digest(&digest(key)).await?;
        let key = found.ok_or_else(|| refused("INVALID_API_KEY", "the API key is not valid"))?;
        if key.revoked_at.is_some() {
            return Err(refused("API_KEY_REVOKED", "the API key was revoked"));
        }
        if key.expires_at.is_some_and(|end| self.clock.now() >= end) {
            return Err(refused("API_KEY_EXPIRED", "the API key has expired"));
        }
        Ok(Actor {
            tenant: key.tenant,
            subject: format!("key:{}", key.id),
            name: key.name,
            permissions: key.scopes,
            via: Via::ApiKey,
        })
    }

    /// Makes an API key. Nobody grants what they do not hold; a key for another tenant needs `admin:system:config`, and makes
    /// the tenant with default settings if it does not exist.
    pub async fn create_api_key(&self, actor: &Actor, new: NewApiKey) -> Result<(ApiKeyRecord, String)> {
        actor.require(Permission::AdminApiKeys)?;
        let name_ok = !new.name.trim().is_empty() && new.name.len() <= 200 && !new.name.chars().any(char::is_control);
        if !name_ok {
            return Err(Error::unprocessable_field("INVALID_FIELD", "name", "1 to 200 bytes without control characters"));
        }
        if new.scopes.is_empty() {
            return Err(Error::unprocessable_field("INVALID_FIELD", "scopes", "at least one scope is needed"));
        }
        if let Some(excess) = new.scopes.iter().find(|scope| !actor.permissions.contains(scope)) {
            return Err(Error::new(Kind::Forbidden, "SCOPE_NOT_HELD", format!("you do not hold {excess} yourself")));
        }
        if new.expires_in_days.is_some_and(|days| days == 0 || days > 3660) {
            return Err(Error::unprocessable_field("INVALID_FIELD", "expires_in_days", "must be 1 to 3660"));
        }
        let tenant = new.tenant.unwrap_or_else(|| actor.tenant.clone());
        let foreign = tenant != actor.tenant;
        if foreign {
            actor.require(Permission::AdminSystem)?;
            // The platform's own administration stays in the tenant that has it.
            if new.scopes.contains(&Permission::AdminSystem) {
                return Err(Error::new(
                    Kind::Forbidden,
                    "SCOPE_NOT_ALLOWED",
                    "a key for another tenant cannot administer the platform",
                ));
            }
        }
        let now = self.clock.now();
        let secret = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(self.entropy.secret()));
        let record = ApiKeyRecord {
            id: ApiKeyId(self.entropy.uuid_v7(now)),
            tenant: tenant.clone(),
            name: new.name,
            key_sha256: digest(&secret),
            scopes: new.scopes,
            created_by: actor.subject.clone(),
            managed_by: actor.tenant.clone(),
            created_at: now,
            expires_at: new.expires_in_days.map(|days| now + Duration::days(i64::from(days))),
            revoked_at: None,
        };
        let unit = self.database.begin().await?;
        if foreign && unit.tenants().settings(&tenant).await?.is_none() {
            unit.tenants().put(&tenant, &TenantSettings::default(), now).await?;
        }
        unit.identities().insert_api_key(&record).await?;
        unit.commit().await?;
        Ok((record, secret))
    }

    /// API keys that the actor's tenant manages.
    pub async fn list_api_keys(&self, actor: &Actor, page: Page) -> Result<Vec<ApiKeyRecord>> {
        actor.require(Permission::AdminApiKeys)?;
        self.database.read().await?.identities().list_api_keys(&actor.tenant, page).await
    }

    /// Revokes an API key at once.
    pub async fn revoke_api_key(&self, actor: &Actor, id: ApiKeyId) -> Result<()> {
        actor.require(Permission::AdminApiKeys)?;
        let unit = self.database.begin().await?;
        if !unit.identities().revoke_api_key(&actor.tenant, id, self.clock.now()).await? {
            return Err(Error::not_found("API key"));
        }
        unit.commit().await.context("the revocation was not stored")
    }
}
