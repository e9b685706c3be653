//! Users of trusted issuers, and logging in by them (RFC 6749 §4.1 with PKCE, RFC 7636).

use crate::{
    Access, Tokens,
    issuers::{LEEWAY, Stranger, read, refused, unavailable},
    rules,
    service::{Known, digest, unauthenticated},
    users::audited,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use omt_audit::Event;
use omt_kernel::{
    Actor, Error, Kind, Result, UserId, Via,
    access::{UserRecord, UserSource},
    error::Context as _,
    retry::BUSY,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;

/// How long somebody may take to log in at an issuer.
const LOGIN: Duration = Duration::minutes(10);

/// Where to send somebody to log in, and what to keep for when they come back.
#[derive(Debug, Clone)]
pub struct Authorization {
    /// The issuer's page.
    pub url: String,
    /// Sealed; for a cookie.
    pub state: String,
}

/// What is kept while somebody logs in elsewhere.
#[derive(Serialize, Deserialize)]
struct Pending {
    issuer: String,
    state: String,
    nonce: String,
    verifier: String,
    until: i64,
}

impl Access {
    /// The actor behind an issuer's token.
    pub(crate) async fn authenticate_issued(&self, token: &str, request_id: String) -> Result<Actor> {
        let (stranger, new) = self.issuers.stranger(token).await?;
        let now = self.deps.clock.now();
        if now.unix_timestamp() >= stranger.expires_at + LEEWAY as i64 {
            return Err(unauthenticated("TOKEN_EXPIRED", "the token has expired"));
        }
        let known = self.known(&stranger, now).await?;
        let (user, rights) = known.as_ref();
        if rights.second_factor && stranger.second_factor_at.is_none() {
            let words = "your role needs a second factor; log in with one at your issuer";
            return Err(Error::new(Kind::Forbidden, "SECOND_FACTOR_ENROLMENT_REQUIRED", words));
        }
        let actor = Actor {
            tenant: user.tenant.clone(),
            subject: user.subject(),
            name: user.username.clone(),
            roles: user.all_roles(),
            permissions: rights.permissions.clone(),
            reach: user.effective_reach(),
            via: Via::Oidc,
            session: None,
            second_factor_at: stranger.second_factor_at,
            request_id,
            claim: None,
        };
        if new {
            self.deps.audit.record(&actor, Event::new("auth.token", "user", user.id)).await?;
        }
        Ok(actor)
    }

    async fn known(&self, stranger: &Stranger, now: OffsetDateTime) -> Result<Known> {
        let key = (stranger.tenant.clone(), stranger.identity.clone());
        let load = async {
            let user = match self.take_in_stranger(stranger, now).await {
                // Another replica made the record first; now it is found.
                Err(error) if error.code == BUSY => self.take_in_stranger(stranger, now).await?,
                done => done?,
            };
            if !user.active {
                return Err(unauthenticated("USER_INACTIVE", "the user is not active here"));
            }
            let read = self.deps.database.read().await?;
            let rights = self.rights(read.as_ref(), &user).await?;
            Ok(Arc::new((user, rights)))
        };
        self.callers.strangers.try_get_with(key, load).await.map_err(|error: Arc<Error>| error.as_ref().clone())
    }

    /// The record of an issuer's user, made or brought up to date.
    async fn take_in_stranger(&self, stranger: &Stranger, now: OffsetDateTime) -> Result<UserRecord> {
        let tenant = &stranger.tenant;
        let read = self.deps.database.read().await?;
        if read.tenants().settings(tenant).await?.is_none() {
            return Err(unauthenticated("UNKNOWN_TENANT", "the issuer's users are of a tenant that does not exist"));
        }
        let filter = omt_kernel::access::UserFilter { identity: Some(stranger.identity.clone()), ..Default::default() };
        let page = omt_kernel::port::Page { after: None, limit: 1 };
        let known = read.users().list(tenant, &filter, page).await?.pop();
        let mappings = read.roles().mappings(tenant).await?;
        let table = self.role_table(read.as_ref(), tenant).await?;
        // The operator named the claim whose values are roles.
        let mapped = rules::apply_mappings(&mappings, &stranger.groups, &self.all_roles(&table), now);
        if let Some(user) = known {
            // A SCIM client says which groups its users are in.
            if user.source == UserSource::Scim {
                return Ok(user);
            }
            if rules::timeless(&user.mapped) == rules::timeless(&mapped) && user.email == stranger.email {
                return Ok(user);
            }
            let mut next = user.clone();
            (next.mapped, next.email, next.revision, next.updated_at) = (mapped, stranger.email.clone(), user.revision + 1, now);
            let written = self
                .transaction(async |unit| {
                    let written = unit.users().update(&next, user.revision).await?;
                    if written {
                        self.note_mapped(unit, &user, &next).await?;
                    }
                    Ok(written)
                })
                .await?;
            // Another process may have changed the user just now: what it left is to be looked at.
            return match written {
                true => {
                    self.rights_changed().await;
                    Ok(next)
                }
                false => Err(Error::new(Kind::Unavailable, BUSY, "the user was changed meanwhile")),
            };
        }
        let provisioned = read.users().by_name(tenant, &stranger.username).await?;
        let taken = provisioned.is_some();
        // A SCIM client announced this user, by the subject that the issuer knows them by. A name alone proves nothing: people may
        // choose it.
        let announced = |user: &UserRecord| {
            user.source == UserSource::Scim && user.identity.is_none() && user.external_id.as_ref() == Some(&stranger.subject)
        };
        if let Some(user) = provisioned.filter(announced) {
            let mut next = user.clone();
            (next.identity, next.revision, next.updated_at) = (Some(stranger.identity.clone()), user.revision + 1, now);
            self.transaction(async |unit| {
                if !unit.users().update(&next, user.revision).await? {
                    return Err(Error::new(Kind::Unavailable, BUSY, "the user was changed meanwhile"));
                }
                let event = Event::new("user.link", "user", user.id);
                self.deps.audit.append(unit, &Actor::system(tenant.clone()), event).await
            })
            .await?;
            return Ok(next);
        }
        let suffix = &digest(&stranger.identity)[..8];
        let username = if taken { format!("{}#{suffix}", stranger.username) } else { stranger.username.clone() };
        let id = UserId(self.deps.entropy.uuid_v7(now));
        let user = UserRecord {
            email: stranger.email.clone(),
            identity: Some(stranger.identity.clone()),
            mapped,
            ..UserRecord::new(id, tenant.clone(), username, UserSource::Oidc, now)
        };
        self.transaction(async |unit| {
            if !unit.users().insert(&user).await? {
                return Err(Error::new(Kind::Unavailable, BUSY, "the user was made meanwhile"));
            }
            let event = Event::new("user.create", "user", user.id).after(&audited(&user));
            self.deps.audit.append(unit, &Actor::system(tenant.clone()), event).await
        })
        .await?;
        Ok(user)
    }

    /// Begins a login at an issuer that the configuration names so.
    pub async fn authorize(&self, name: &str, redirect: &str) -> Result<Authorization> {
        let issuer = self.issuers.by_name(name).ok_or_else(|| Error::not_found("issuer"))?;
        let client = issuer.settings.client_id.clone().unwrap_or_default();
        let found = self.issuers.discovery(issuer, Instant::now()).await.map_err(|_| unavailable(&issuer.settings.issuer))?;
        let page = found["authorization_endpoint"].as_str().ok_or_else(|| unavailable(&issuer.settings.issuer))?;
        let secret = || URL_SAFE_NO_PAD.encode(self.deps.entropy.secret());
        let pending = Pending {
            issuer: name.to_owned(),
            state: secret(),
            nonce: secret(),
            verifier: secret(),
            until: (self.deps.clock.now() + LOGIN).unix_timestamp(),
        };
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&pending.verifier));
        let query = [
            ("response_type", "code"),
            ("client_id", &client),
            ("redirect_uri", redirect),
            ("scope", "openid email profile"),
            ("state", &pending.state),
            ("nonce", &pending.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let separator = if page.contains('?') { '&' } else { '?' };
        let plain = serde_json::to_vec(&pending).context("a login cannot be kept")?;
        let sealed = self.sealer.seal(&plain, "oidc").context("a login cannot be sealed")?;
        Ok(Authorization { url: format!("{page}{separator}{}", query.join("&")), state: URL_SAFE_NO_PAD.encode(sealed) })
    }

    /// Ends a login at an issuer: exchanges the code, and begins a session.
    pub async fn authorized(
        &self,
        kept: &str,
        state: &str,
        code: &str,
        redirect: &str,
        user_agent: Option<String>,
        request_id: String,
    ) -> Result<Tokens> {
        let bad = || unauthenticated("INVALID_LOGIN_STATE", "this is not the answer to a login that was begun here");
        let sealed = URL_SAFE_NO_PAD.decode(kept).map_err(|_| bad())?;
        let plain = self.sealer.open(&sealed, "oidc").map_err(|_| bad())?;
        let pending: Pending = serde_json::from_slice(&plain).map_err(|_| bad())?;
        let now = self.deps.clock.now();
        if digest(&pending.state) != digest(state) || now.unix_timestamp() >= pending.until {
            return Err(bad());
        }
        let issuer = self.issuers.by_name(&pending.issuer).ok_or_else(bad)?;
        let found = self.issuers.discovery(issuer, Instant::now()).await.map_err(|_| unavailable(&issuer.settings.issuer))?;
        let endpoint = found["token_endpoint"].as_str().ok_or_else(|| unavailable(&issuer.settings.issuer))?;
        let client = issuer.settings.client_id.clone().unwrap_or_default();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("client_id", &client),
            ("code_verifier", &pending.verifier),
        ];
        if let Some(secret) = &issuer.settings.client_secret {
            form.push(("client_secret", secret));
        }
        let answer = self.issuers.client.post_form(endpoint, &form).await?;
        let token = answer["id_token"].as_str().ok_or_else(|| refused("the issuer gave no ID token"))?;
        let claims = self.issuers.claims(issuer, token).await?;
        if claims.get("nonce").and_then(Value::as_str) != Some(&pending.nonce) {
            return Err(refused("the ID token is not for this login"));
        }
        let stranger = read(issuer, &claims)?;
        let known = self.known(&stranger, now).await?;
        let (user, _) = known.as_ref();
        if user.all_roles().is_empty() {
            return Err(Error::new(Kind::Forbidden, "NO_ROLE", "your issuer vouches for you, but you have no role here"));
        }
        self.begin_session(user, Via::Oidc, stranger.second_factor_at.is_some(), user_agent, request_id).await
    }

    /// The names of issuers by which one can log in.
    pub fn login_issuers(&self) -> Vec<String> {
        let usable = self.issuers.all.iter().filter(|issuer| issuer.settings.client_id.is_some());
        usable.filter_map(|issuer| issuer.settings.name.clone()).collect()
    }
}

/// Percent-encoding of a query's value (RFC 3986 §2.3).
fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
