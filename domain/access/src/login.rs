//! Logging in, staying logged in, logging out.

use crate::{
    Access, password, rules,
    service::{TOKEN_KEY, digest, key_fault, unauthenticated},
    token::{self, ACCESS_TOKEN, Claims},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use omt_audit::{Event, Outcome};
use omt_kernel::{
    Actor, Error, Kind, Result, SessionId, TenantId, UserId, Via,
    access::{Attempts, RefreshTokenRecord, SessionRecord, UserRecord, UserSource},
    port::UnitOfWork,
};
use time::OffsetDateTime;

/// A pair of tokens.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// JWT.
    pub access: String,
    /// Opaque; good for one exchange.
    pub refresh: String,
    /// Seconds that the access token is good.
    pub expires_in: i64,
    /// A second factor must be enrolled or given before anything else.
    pub limited: bool,
}

/// What a login brings.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The tenant; the directory's or the default one when absent.
    pub tenant: Option<TenantId>,
    /// Login name.
    pub username: String,
    /// Password.
    pub password: String,
    /// A one-time password or a recovery code.
    pub second_factor: Option<String>,
    /// The program, as it calls itself.
    pub user_agent: Option<String>,
    /// The request.
    pub request_id: String,
}

pub(crate) fn bad_credentials() -> Error {
    unauthenticated("INVALID_CREDENTIALS", "the user name or the password is wrong")
}

fn reused() -> Error {
    unauthenticated("REFRESH_TOKEN_REUSED", "the refresh token was used before; log in again")
}

impl Access {
    /// Logs a user in with password and, where there is one, second factor. What fails is written down under the user whom the
    /// name means, where it means one.
    pub async fn login(&self, credentials: Credentials) -> Result<Tokens> {
        let default =
            if self.deps.directory.is_some() { self.settings.directory_tenant.clone() } else { TenantId::default_tenant() };
        let tenant = credentials.tenant.clone().unwrap_or(default);
        let request_id = credentials.request_id.clone();
        // Strangers may name any tenant; nothing is counted or written under one that does not exist.
        let read = self.deps.database.read().await?;
        let exists = read.tenants().settings(&tenant).await?.is_some();
        let tenant = if exists { tenant } else { TenantId::default_tenant() };
        // Nobody has such a name, and not every database can look for one.
        let possible = !credentials.username.chars().any(char::is_control);
        let known = match exists && possible {
            true => read.users().by_name(&tenant, &credentials.username).await?,
            false => None,
        };
        drop(read);
        let meant = known.as_ref().map(|user| user.id);
        let done = match possible {
            true => self.attempt(Some(&tenant).filter(|_| exists), known, credentials).await,
            false => Err(bad_credentials()),
        };
        if let Err(error) = &done
            && error.kind != Kind::Unavailable
        {
            let event = match meant {
                Some(id) => Event::new("auth.login", "user", id),
                None => Event::new("auth.login", "login", "password"),
            };
            let event = event.outcome(Outcome::Denied, error.code);
            self.deps.audit.record_anonymous(tenant, request_id, event).await?;
        }
        done
    }

    async fn attempt(&self, tenant: Option<&TenantId>, known: Option<UserRecord>, credentials: Credentials) -> Result<Tokens> {
        let counted = tenant.cloned().unwrap_or_else(TenantId::default_tenant);
        let name = digest(&rules::counted_name(&credentials.username));
        self.reserve_attempt(&counted, &name).await?;
        let outcome = match self.check_password(tenant, known, &credentials).await {
            Ok(Some(user)) => self.check_counted_second_factor(user, credentials.second_factor.as_deref()).await,
            Ok(None) => Err(bad_credentials()),
            Err(error) => Err(error),
        };
        match outcome {
            Ok((user, with_second_factor)) => {
                let via = if user.source == UserSource::Local { Via::Password } else { Via::Directory };
                let tokens =
                    self.begin_session(&user, via, with_second_factor, credentials.user_agent, credentials.request_id).await?;
                self.transaction(async |unit| unit.users().set_attempts(&counted, &name, None).await).await?;
                Ok(tokens)
            }
            Err(error) => {
                // A service that is down is nobody's failed attempt, and the question for a second factor none either.
                if error.kind == Kind::Unavailable || error.code == "SECOND_FACTOR_REQUIRED" {
                    self.release_attempt(&counted, &name).await?;
                }
                Err(error)
            }
        }
    }

    /// Counts an attempt before it is made, so that any number at once cannot try more passwords than one after another.
    pub(crate) async fn reserve_attempt(&self, tenant: &TenantId, name: &str) -> Result<()> {
        let (now, lockout) = (self.deps.clock.now(), self.settings.lockout);
        let closed = self
            .transaction(async |unit| {
                unit.lock(&format!("login:{tenant}:{name}")).await?;
                let attempts = unit.users().attempts(tenant, name).await?;
                if let Some(until) = lockout.closed_until(attempts, now) {
                    return Ok(Some(until));
                }
                let next = Attempts { failures: attempts.failures.saturating_add(1), last_at: Some(now) };
                unit.users().set_attempts(tenant, name, Some(next)).await?;
                Ok(None)
            })
            .await?;
        let Some(until) = closed else { return Ok(()) };
        let seconds = u32::try_from((until - now).whole_seconds().max(1)).unwrap_or(u32::MAX);
        let words = "too many failed logins under this name; wait before the next";
        Err(Error::new(Kind::TooMany, "TOO_MANY_ATTEMPTS", words).retry_after(seconds))
    }

    async fn release_attempt(&self, tenant: &TenantId, name: &str) -> Result<()> {
        self.transaction(async |unit| {
            unit.lock(&format!("login:{tenant}:{name}")).await?;
            let attempts = unit.users().attempts(tenant, name).await?;
            let left = Attempts { failures: attempts.failures.saturating_sub(1), ..attempts };
            unit.users().set_attempts(tenant, name, Some(left).filter(|left| left.failures > 0)).await
        })
        .await
    }

    /// The user whose password this is. Where there is no such tenant it takes as long to find nobody.
    async fn check_password(
        &self,
        tenant: Option<&TenantId>,
        known: Option<UserRecord>,
        credentials: &Credentials,
    ) -> Result<Option<UserRecord>> {
        let (name, given) = (&credentials.username, &credentials.password);
        let local = known.as_ref().is_some_and(|user| user.source == UserSource::Local);
        if let Some(tenant) = tenant
            && self.deps.directory.is_some()
            && !local
            && *tenant == self.settings.directory_tenant
        {
            // An empty password would be an anonymous bind, which succeeds (RFC 4513 §5.1.2).
            let padded = rules::counted_name(name) != name.to_lowercase();
            if given.is_empty() || given.len() > password::MAX_LEN || name.len() > 256 || padded {
                return Ok(None);
            }
            return self.log_in_by_directory(tenant, name, given).await;
        }
        let user = known.filter(|user| user.active);
        let hash = user.as_ref().and_then(|user| user.password_hash.clone()).unwrap_or_else(|| self.decoy.clone());
        let given = given.clone();
        let fits = self.deps.pool.run(move || Ok(password::verify(&given, &hash))).await?;
        Ok(user.filter(|user| fits && user.password_hash.is_some()))
    }

    /// Makes a session and its first tokens.
    pub(crate) async fn begin_session(
        &self,
        user: &UserRecord,
        via: Via,
        second_factor: bool,
        user_agent: Option<String>,
        request_id: String,
    ) -> Result<Tokens> {
        let now = self.deps.clock.now();
        let session = SessionRecord {
            id: SessionId(self.deps.entropy.uuid_v7(now)),
            tenant: user.tenant.clone(),
            user: user.id,
            via,
            user_agent: user_agent.map(|agent| agent.chars().take(200).collect()),
            created_at: now,
            last_used_at: now,
            expires_at: now + self.settings.session_lifetime,
            second_factor_at: second_factor.then_some(now),
            revoked_at: None,
        };
        let limited = !second_factor && self.needs_second_factor(self.deps.database.read().await?.as_ref(), user).await?;
        let (access, refresh, record) = self.make_tokens(user, &session, now)?;
        let actor = self.actor_of(user, &session, request_id);
        self.transaction(async |unit| {
            unit.sessions().insert(&session).await?;
            unit.sessions().insert_refresh_token(&record).await?;
            self.deps.audit.append(unit, &actor, Event::new("auth.login", "session", session.id)).await
        })
        .await?;
        Ok(Tokens { access, refresh, expires_in: ACCESS_TOKEN.whole_seconds(), limited })
    }

    /// An actor without permissions, to write entries with.
    pub(crate) fn actor_of(&self, user: &UserRecord, session: &SessionRecord, request_id: String) -> Actor {
        Actor {
            tenant: user.tenant.clone(),
            subject: user.subject(),
            name: user.username.clone(),
            roles: user.all_roles(),
            permissions: Default::default(),
            reach: user.effective_reach(),
            via: session.via,
            session: Some(session.id),
            second_factor_at: session.second_factor_at,
            request_id,
            claim: None,
        }
    }

    fn make_tokens(
        &self,
        user: &UserRecord,
        session: &SessionRecord,
        now: OffsetDateTime,
    ) -> Result<(String, String, RefreshTokenRecord)> {
        let claims = Claims {
            iss: self.settings.issuer.clone(),
            aud: token::AUDIENCE.to_owned(),
            sub: user.subject(),
            tenant: user.tenant.clone(),
            iat: now.unix_timestamp(),
            exp: (now + ACCESS_TOKEN).min(session.expires_at).unix_timestamp(),
            sid: session.id,
        };
        let access = token::encode(&claims, |message| self.deps.keys.sign(TOKEN_KEY, message).map_err(key_fault))?;
        let refresh = URL_SAFE_NO_PAD.encode(self.deps.entropy.secret());
        let record = RefreshTokenRecord {
            token_sha256: digest(&refresh),
            family: session.id.0,
            user: user.id,
            expires_at: session.expires_at.min(now + self.settings.session_idle.max(ACCESS_TOKEN)),
            used_at: None,
        };
        Ok((access, refresh, record))
    }

    /// Exchanges a refresh token. A token that was exchanged before is stolen: its whole session ends.
    pub async fn refresh(&self, refresh: &str, request_id: String) -> Result<Tokens> {
        let refused = || unauthenticated("INVALID_REFRESH_TOKEN", "the refresh token is not valid");
        let (token_sha256, now) = (digest(refresh), self.deps.clock.now());
        let read = self.deps.database.read().await?;
        let stored = read.sessions().refresh_token(&token_sha256).await?.ok_or_else(refused)?;
        let session = read.sessions().get(SessionId(stored.family)).await?.ok_or_else(refused)?;
        let user = read.users().get(&session.tenant, session.user).await?.ok_or_else(refused)?;
        drop(read);
        let actor = self.actor_of(&user, &session, request_id);
        if stored.used_at.is_some() {
            return self.end_stolen(&session, &actor).await;
        }
        if now >= stored.expires_at {
            return Err(refused());
        }
        let read = self.deps.database.read().await?;
        let (mut session, mut user) = self.session_and_user(read.as_ref(), session.id, now).await?.ok_or_else(refused)?;
        if self.refreshed(&user, now).await? {
            let again = self.session_and_user(read.as_ref(), session.id, self.deps.clock.now()).await?;
            (session, user) = again.ok_or_else(refused)?;
        }
        let needed = self.needs_second_factor(read.as_ref(), &user).await?;
        drop(read);
        let (access, next, record) = self.make_tokens(&user, &session, now)?;
        let exchanged = self
            .transaction(async |unit| {
                if !unit.sessions().use_refresh_token(&token_sha256, now).await? {
                    return Ok(false);
                }
                unit.sessions().insert_refresh_token(&record).await?;
                unit.sessions().touch(session.id, now, false).await?;
                self.deps.audit.append(unit, &actor, Event::new("auth.refresh", "session", session.id)).await?;
                Ok(true)
            })
            .await?;
        if !exchanged {
            return self.end_stolen(&session, &actor).await;
        }
        let limited = needed && session.second_factor_at.is_none();
        Ok(Tokens { access, refresh: next, expires_in: ACCESS_TOKEN.whole_seconds(), limited })
    }

    async fn end_stolen(&self, session: &SessionRecord, actor: &Actor) -> Result<Tokens> {
        let now = self.deps.clock.now();
        self.transaction(async |unit| {
            unit.sessions().revoke(&session.tenant, None, session.id, now).await?;
            let event = Event::new("auth.refresh", "session", session.id).outcome(Outcome::Denied, "REFRESH_TOKEN_REUSED");
            self.deps.audit.append(unit, actor, event).await
        })
        .await?;
        self.session_changed(session.id).await;
        Err(reused())
    }

    /// Ends the session that a refresh token belongs to.
    pub async fn logout(&self, refresh: &str, request_id: String) -> Result<()> {
        let read = self.deps.database.read().await?;
        let Some(stored) = read.sessions().refresh_token(&digest(refresh)).await? else { return Ok(()) };
        let Some(session) = read.sessions().get(SessionId(stored.family)).await? else { return Ok(()) };
        let Some(user) = read.users().get(&session.tenant, session.user).await? else { return Ok(()) };
        drop(read);
        let actor = self.actor_of(&user, &session, request_id);
        self.end_session(&actor, None, session.id).await.map(drop)
    }

    /// Ends a session of the actor's tenant, and of the user where one is named; false when there is no such live one.
    pub(crate) async fn end_session(&self, actor: &Actor, user: Option<UserId>, id: SessionId) -> Result<bool> {
        let now = self.deps.clock.now();
        let done = self
            .transaction(async |unit: &dyn UnitOfWork| {
                let done = unit.sessions().revoke(&actor.tenant, user, id, now).await?;
                if done {
                    self.deps.audit.append(unit, actor, Event::new("session.revoke", "session", id)).await?;
                }
                Ok(done)
            })
            .await?;
        self.session_changed(id).await;
        Ok(done)
    }
}
