//! The room: what it needs, and how a credential becomes an actor.

use crate::{
    directory::Pause,
    issuers::{Issuers, OidcSettings},
    password,
    rules::{self, Lockout},
    tables::Tables,
    token,
};
use async_trait::async_trait;
use jsonwebtoken::DecodingKey;
use omt_audit::{AuditTrail, Event, Level, Outcome};
use omt_crypto::{Algorithm, KeyStore, KeyStoreError, key_store::ensure, seal::Sealer};
use omt_kernel::{
    Actor, ApiKeyId, Error, Kind, Permission, Result, SessionId, TenantId, TenantSettings, UserId, Via,
    access::{RoleRecord, SessionRecord, UserRecord},
    pool::WorkPool,
    port::{Authorizer, Broadcast, Clock, Database, Directory, Entropy, IssuerClient, Remembers, RoleTable, Stale, UnitOfWork},
    retry,
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, sync::Arc};
use time::{Duration, OffsetDateTime};

/// The key store's name of the key that signs access tokens.
pub(crate) const TOKEN_KEY: &str = "access/token";
/// The key store's name of the key from which the one that seals secrets is derived.
const SEAL_KEY: &str = "access/seal";
/// How old what is known of a session may be where no message says that it has changed: half of what revocation may take.
const FRESH: std::time::Duration = std::time::Duration::from_millis(500);
/// How often a session's use is noted.
const NOTE_USE: Duration = Duration::minutes(1);

/// What the room needs of the world.
pub struct Dependencies {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The key store.
    pub keys: Arc<dyn KeyStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Identifiers and secrets.
    pub entropy: Arc<dyn Entropy>,
    /// Where passwords are hashed.
    pub pool: Arc<WorkPool>,
    /// The audit log.
    pub audit: Arc<AuditTrail>,
    /// What roles may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// The directory, where there is one.
    pub directory: Option<Arc<dyn Directory>>,
    /// How issuers are reached.
    pub issuers: Arc<dyn IssuerClient>,
    /// How other processes hear of what they must forget.
    pub broadcast: Arc<dyn Broadcast>,
}

/// What the operator decided.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Issuer of our own tokens: the public URL.
    pub issuer: String,
    /// Settings of the default tenant.
    pub tenant_defaults: TenantSettings,
    /// Failed logins.
    pub lockout: Lockout,
    /// The fewest characters of a password.
    pub password_min: usize,
    /// A session that is not used for so long ends.
    pub session_idle: Duration,
    /// A session ends after so long, used or not.
    pub session_lifetime: Duration,
    /// Roles whose holders must have a second factor.
    pub second_factor_roles: BTreeSet<String>,
    /// How long a second factor counts for dangerous actions.
    pub step_up: Duration,
    /// Whether dangerous actions need one even of those who have none.
    pub step_up_always: bool,
    /// The tenant of the directory's users.
    pub directory_tenant: TenantId,
    /// How often a directory's user is looked up again.
    pub directory_refresh: Duration,
    /// How long what it said counts while it does not answer.
    pub directory_grace: Duration,
    /// Trusted issuers.
    pub oidc: Vec<OidcSettings>,
}

/// What is known of a session.
pub(crate) struct Principal {
    pub(crate) session: SessionRecord,
    pub(crate) user: UserRecord,
    pub(crate) permissions: BTreeSet<Permission>,
    /// A second factor is needed that is not there yet.
    pub(crate) limited: bool,
}

/// What somebody may do, and whether they need a second factor for it.
pub(crate) struct Rights {
    pub(crate) permissions: BTreeSet<Permission>,
    pub(crate) second_factor: bool,
}

/// An issuer's user, and what they may do.
pub(crate) type Known = Arc<(UserRecord, Rights)>;

/// What is known of callers for a moment. Its copies know the same.
#[derive(Clone)]
pub(crate) struct Callers {
    pub(crate) principals: moka::future::Cache<SessionId, Arc<Principal>>,
    /// Users of issuers' tokens, by tenant and name there.
    pub(crate) strangers: moka::future::Cache<(TenantId, String), Known>,
}

#[async_trait]
impl Remembers for Callers {
    async fn forget(&self, stale: &Stale) {
        match stale {
            Stale::Session(id) => self.principals.invalidate(id).await,
            Stale::Rights | Stale::Everything => {
                self.principals.invalidate_all();
                self.strangers.invalidate_all();
            }
            Stale::Settings(_) | Stale::Person(..) => {}
        }
    }
}

/// The use cases.
pub struct Access {
    pub(crate) deps: Dependencies,
    pub(crate) settings: Settings,
    pub(crate) issuers: Issuers,
    pub(crate) sealer: Sealer,
    verify_key: DecodingKey,
    /// Tokens seen of late, since each comes with many requests and an ECDSA verification costs more than most answers.
    verified: moka::sync::Cache<[u8; 32], token::Verified>,
    pub(crate) callers: Callers,
    tables: Tables,
    pub(crate) pause: Pause,
    /// Uses of API keys that are being noted.
    pub(crate) key_uses: moka::future::Cache<ApiKeyId, ()>,
    /// Verified against when there is no such user, so that an answer takes as long.
    pub(crate) decoy: String,
}

pub(crate) fn digest(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}

pub(crate) fn key_fault(error: KeyStoreError) -> Error {
    Error::internal("the key store failed").caused_by(error)
}

pub(crate) fn unauthenticated(code: &'static str, words: &str) -> Error {
    Error::new(Kind::Unauthenticated, code, words)
}

/// Waits until nobody else decides who administers a tenant, who holds what there and what keys they made, until the transaction
/// ends.
pub(crate) async fn lock_administrators(unit: &dyn UnitOfWork, tenant: &TenantId) -> Result<()> {
    unit.lock(&format!("administrators:{tenant}")).await
}

impl Access {
    /// Opens the room: makes its keys, the default tenant and the first user where they are missing. Returns the first user's
    /// password when it had to be made up.
    pub async fn open(deps: Dependencies, settings: Settings, admin_password: Option<String>) -> Result<(Self, Option<String>)> {
        let public = ensure(deps.keys.as_ref(), TOKEN_KEY, Algorithm::Es256).map_err(key_fault)?;
        let sealer = Sealer::derived(deps.keys.as_ref(), SEAL_KEY, "openmediatrust/access/seal/1").map_err(key_fault)?;
        let decoy = password::hash(&hex::encode(deps.entropy.secret()))?;
        let verify_key = token::decoding_key(&public)?;
        let tokens = std::time::Duration::from_secs(token::ACCESS_TOKEN.whole_seconds().unsigned_abs());
        let callers = Callers {
            principals: moka::future::Cache::builder().max_capacity(100_000).time_to_live(FRESH).build(),
            strangers: moka::future::Cache::builder().max_capacity(100_000).time_to_live(FRESH).build(),
        };
        deps.broadcast.join(Arc::new(callers.clone()));
        let access = Self {
            issuers: Issuers::new(settings.oidc.clone(), deps.issuers.clone())?,
            tables: Tables::new(deps.authorizer.clone()),
            deps,
            settings,
            sealer,
            verify_key,
            verified: moka::sync::Cache::builder().max_capacity(10_000).time_to_live(tokens).build(),
            callers,
            pause: Pause::default(),
            key_uses: moka::future::Cache::builder().max_capacity(100_000).time_to_live(FRESH).build(),
            decoy,
        };
        access.ensure_default_tenant().await?;
        let made = access.ensure_first_user(admin_password).await?;
        Ok((access, made))
    }

    /// Runs a transaction again while the database is busy.
    pub(crate) async fn transaction<T>(&self, attempt: impl AsyncFn(&dyn UnitOfWork) -> Result<T>) -> Result<T> {
        retry::transaction(self.deps.entropy.as_ref(), async || {
            let unit = self.deps.database.begin().await?;
            let done = attempt(unit.as_ref()).await?;
            unit.commit().await?;
            Ok(done)
        })
        .await
    }

    /// The tenant's own roles.
    pub(crate) async fn role_table(&self, read: &dyn UnitOfWork, tenant: &TenantId) -> Result<RoleTable> {
        self.tables.own(read, tenant).await
    }

    /// Every role that somebody of the tenant can have.
    pub(crate) fn all_roles(&self, table: &RoleTable) -> Vec<RoleRecord> {
        self.tables.all(table)
    }

    /// What a user may do now.
    pub(crate) async fn permissions(&self, read: &dyn UnitOfWork, user: &UserRecord) -> Result<BTreeSet<Permission>> {
        let table = self.role_table(read, &user.tenant).await?;
        self.deps.authorizer.permissions(&table, &user.all_roles()).await
    }

    /// The same, and whether a second factor is needed for it.
    pub(crate) async fn rights(&self, read: &dyn UnitOfWork, user: &UserRecord) -> Result<Rights> {
        let table = self.role_table(read, &user.tenant).await?;
        let permissions = self.deps.authorizer.permissions(&table, &user.all_roles()).await?;
        Ok(Rights { permissions, second_factor: self.asks_second_factor(&table, user) })
    }

    /// The actor behind a bearer credential: an access token, an issuer's token or an API key. Those who still need a second
    /// factor are refused unless `limited` is allowed.
    pub async fn authenticate(&self, bearer: &str, request_id: String, limited: bool) -> Result<Actor> {
        if bearer.starts_with(crate::keys::PREFIX) {
            return self.authenticate_key(bearer, request_id).await;
        }
        // By digest, so that no token is kept in memory.
        let key: [u8; 32] = Sha256::digest(bearer).into();
        let verified = match self.verified.get(&key) {
            Some(found) => found,
            None => {
                if token::claimed_issuer(bearer).is_some_and(|issuer| self.issuers.knows(&issuer)) {
                    return self.authenticate_issued(bearer, request_id).await;
                }
                let verified = token::decode(bearer, &self.verify_key, &self.settings.issuer)?;
                self.verified.insert(key, verified.clone());
                verified
            }
        };
        let now = self.deps.clock.now();
        let claims = verified.at(now.unix_timestamp())?;
        let principal = self.principal(claims.sid, now).await?;
        if principal.limited && !limited {
            if principal.user.has_second_factor() {
                let words = "your role needs a second factor: POST /api/v1/auth/step-up";
                return Err(Error::new(Kind::Forbidden, "STEP_UP_REQUIRED", words));
            }
            let words = "your role needs a second factor; enrol one first";
            return Err(Error::new(Kind::Forbidden, "SECOND_FACTOR_ENROLMENT_REQUIRED", words));
        }
        let user = &principal.user;
        Ok(Actor {
            tenant: user.tenant.clone(),
            subject: user.subject(),
            name: user.username.clone(),
            roles: user.all_roles(),
            permissions: if principal.limited { BTreeSet::new() } else { principal.permissions.clone() },
            reach: user.effective_reach(),
            via: principal.session.via,
            session: Some(principal.session.id),
            second_factor_at: principal.session.second_factor_at,
            request_id,
            claim: None,
        })
    }

    async fn principal(&self, id: SessionId, now: OffsetDateTime) -> Result<Arc<Principal>> {
        let loaded = self.callers.principals.try_get_with(id, async { self.load_principal(id, now).await.map(Arc::new) }).await;
        loaded.map_err(|error: Arc<Error>| error.as_ref().clone())
    }

    async fn load_principal(&self, id: SessionId, now: OffsetDateTime) -> Result<Principal> {
        let ended = || unauthenticated("SESSION_ENDED", "the session has ended; log in again");
        let read = self.deps.database.read().await?;
        let (mut session, mut user) = self.session_and_user(read.as_ref(), id, now).await?.ok_or_else(ended)?;
        if self.refreshed(&user, now).await? {
            // That may have taken seconds; what was taken away meanwhile is gone.
            let again = self.session_and_user(read.as_ref(), id, self.deps.clock.now()).await?;
            (session, user) = again.ok_or_else(ended)?;
        }
        if now - session.last_used_at > NOTE_USE.min(self.settings.session_idle / 4) {
            self.transaction(async |unit| unit.sessions().touch(id, now, false).await).await?;
        }
        let Rights { permissions, second_factor } = self.rights(read.as_ref(), &user).await?;
        let limited = second_factor && session.second_factor_at.is_none();
        Ok(Principal { session, user, permissions, limited })
    }

    /// A live session and its active user.
    pub(crate) async fn session_and_user(
        &self,
        read: &dyn UnitOfWork,
        id: SessionId,
        now: OffsetDateTime,
    ) -> Result<Option<(SessionRecord, UserRecord)>> {
        let Some(session) = read.sessions().get(id).await?.filter(|session| self.lives(session, now)) else { return Ok(None) };
        let user = read.users().get(&session.tenant, session.user).await?.filter(|user| user.active);
        Ok(user.map(|user| (session, user)))
    }

    fn lives(&self, session: &SessionRecord, now: OffsetDateTime) -> bool {
        let idle = session.last_used_at + self.settings.session_idle;
        session.revoked_at.is_none() && now < session.expires_at && now < idle
    }

    /// Whether a user's roles, or those that they inherit from, ask for a second factor.
    pub(crate) fn asks_second_factor(&self, table: &RoleTable, user: &UserRecord) -> bool {
        let asking = &self.settings.second_factor_roles;
        !asking.is_empty() && rules::asks_second_factor(asking, &user.all_roles(), &self.all_roles(table))
    }

    /// The same, where the roles are not at hand.
    pub(crate) async fn needs_second_factor(&self, read: &dyn UnitOfWork, user: &UserRecord) -> Result<bool> {
        Ok(self.asks_second_factor(&self.role_table(read, &user.tenant).await?, user))
    }

    /// Refuses a dangerous action without a fresh second factor, of those who have one (or of everybody, as configured).
    pub async fn require_step_up(&self, actor: &Actor) -> Result<()> {
        let fresh = actor.second_factor_at.is_some_and(|at| self.deps.clock.now() - at < self.settings.step_up);
        if fresh || actor.via == Via::System {
            return Ok(());
        }
        let enrolled = match self.user_of(actor) {
            Some(id) => {
                let user = self.deps.database.read().await?.users().get(&actor.tenant, id).await?;
                user.is_some_and(|user| user.has_second_factor())
            }
            None => false,
        };
        if !enrolled && !self.settings.step_up_always {
            return Ok(());
        }
        let words = "this needs a second factor given in the last minutes: POST /api/v1/auth/step-up";
        Err(Error::new(Kind::Forbidden, "STEP_UP_REQUIRED", words))
    }

    /// Rights have changed: here they hold at once, elsewhere when the message is there, or when what is known there is read anew.
    pub(crate) async fn rights_changed(&self) {
        self.deps.broadcast.tell(Stale::Rights).await;
    }

    /// A session has ended, or what it may do has changed.
    pub(crate) async fn session_changed(&self, id: SessionId) {
        self.deps.broadcast.tell(Stale::Session(id)).await;
    }

    /// The user that an actor is, if it is one.
    pub(crate) fn user_of(&self, actor: &Actor) -> Option<UserId> {
        actor.subject.strip_prefix("user:").and_then(|id| id.parse().ok())
    }

    /// Writes down that an operation was allowed, where the audit log is to hold every decision.
    pub async fn note_allowed(&self, actor: &Actor, action: &str) -> Result<()> {
        if self.deps.audit.level() < Level::Full {
            return Ok(());
        }
        self.deps.audit.record(actor, Event::new("access.allowed", "operation", action)).await
    }

    /// Writes a refusal into the audit log, whoever was refused; `detail` may say which thing it was about.
    pub async fn note_refusal(
        &self,
        actor: Option<&Actor>,
        request_id: &str,
        action: &str,
        code: &'static str,
        detail: Option<serde_json::Value>,
    ) {
        let event = Event::new("access.denied", "operation", action).outcome(Outcome::Denied, code);
        let event = match detail {
            Some(detail) => event.detail(detail),
            None => event,
        };
        let written = match actor {
            Some(actor) => self.deps.audit.record(actor, event).await,
            None => self.deps.audit.record_anonymous(TenantId::default_tenant(), request_id.to_owned(), event).await,
        };
        if let Err(error) = written {
            tracing::error!(%error, action, "a refusal could not be written into the audit log");
        }
    }

    /// Asks the directory, where there is one. For readiness.
    pub async fn check_directory(&self) -> Result<()> {
        match &self.deps.directory {
            Some(directory) => directory.check().await,
            None => Ok(()),
        }
    }
}
