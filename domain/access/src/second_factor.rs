//! Time-based one-time passwords (RFC 6238), recovery codes, and giving a second factor again.

use crate::{
    Access,
    service::{digest, unauthenticated},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use omt_audit::{Event, Outcome};
use omt_kernel::{
    Actor, Error, Kind, Result, UserId,
    access::{SessionRecord, Totp, UserRecord},
    error::Context as _,
    port::{UnitOfWork, whole},
};
use totp_rs::Builder;

/// How many recovery codes there are.
const RECOVERY_CODES: usize = 10;

/// What a user needs to set up an authenticator.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The secret in base 32.
    pub secret: String,
    /// `otpauth:` URL.
    pub url: String,
    /// The same as a QR code: PNG in base 64.
    pub qr: String,
    /// Each is good once, in place of a code. Shown now and never again.
    pub recovery_codes: Vec<String>,
}

/// Under what guesses at a user's codes are counted.
fn guesses(id: UserId) -> String {
    digest(&format!("second-factor:{id}"))
}

fn refused() -> Error {
    unauthenticated("INVALID_SECOND_FACTOR", "the code is wrong, too old, or was used before")
}

impl Access {
    fn totp(&self, user: &UserRecord, secret: Vec<u8>) -> Result<totp_rs::Totp> {
        // A colon would end the name in the URL.
        let name = user.username.replace(':', "_");
        let builder = Builder::new().with_secret(secret).with_account_name(name).with_issuer(Some("OpenMediaTrust"));
        builder.build().context("an authenticator cannot be set up")
    }

    fn purpose(user: &UserRecord) -> String {
        format!("totp/{}", user.id)
    }

    /// Begins enrolment. Until a first code confirms it, one that was there before stays; beginning again begins anew.
    pub async fn enrol(&self, actor: &Actor) -> Result<Enrolment> {
        let id = self.user_of(actor).ok_or_else(not_a_user)?;
        let user = self.own_record(actor, id).await?;
        if user.has_second_factor() {
            self.require_step_up(actor).await?;
        }
        // 160 bits, as RFC 4226 §4 recommends.
        let secret = self.deps.entropy.secret()[..20].to_vec();
        let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| hex::encode(&self.deps.entropy.secret()[..8])).collect();
        let sealed = self.sealer.seal(&secret, &Self::purpose(&user)).context("a secret cannot be sealed")?;
        let totp = self.totp(&user, secret)?;
        let enrolment = Enrolment {
            secret: totp.secret().to_base32(),
            url: totp.to_url().context("an authenticator's URL cannot be made")?,
            qr: STANDARD.encode(totp.to_qr_png().context("a QR code cannot be made")?),
            recovery_codes: codes.clone(),
        };
        let state = Totp { sealed, last_step: 0, recovery: codes.iter().map(|code| digest(code)).collect() };
        self.change_own(actor, user, "auth.second_factor.begin", |user| user.totp_pending = Some(state)).await?;
        Ok(enrolment)
    }

    /// Confirms enrolment with a first code. Other sessions end.
    pub async fn confirm(&self, actor: &Actor, code: &str) -> Result<()> {
        let id = self.user_of(actor).ok_or_else(not_a_user)?;
        let user = self.own_record(actor, id).await?;
        let missing = || Error::new(Kind::Conflict, "NO_ENROLMENT", "begin enrolment first: POST /api/v1/auth/second-factor");
        let pending = user.totp_pending.clone().ok_or_else(missing)?;
        self.reserve_attempt(&user.tenant, &guesses(id)).await?;
        let step = self.step_of(&user, &pending, code)?.ok_or_else(refused)?;
        self.change_own(actor, user, "auth.second_factor.enrol", |user| {
            user.totp = Some(Totp { last_step: step, ..pending });
            user.totp_pending = None;
        })
        .await?;
        self.transaction(async |unit| unit.users().set_attempts(&actor.tenant, &guesses(id), None).await).await?;
        self.end_others(actor, id).await?;
        self.give(actor).await
    }

    /// Removes the second factor; needs a fresh code, and a role that can do without.
    pub async fn unenrol(&self, actor: &Actor) -> Result<()> {
        let id = self.user_of(actor).ok_or_else(not_a_user)?;
        let user = self.own_record(actor, id).await?;
        self.require_step_up(actor).await?;
        if self.needs_second_factor(self.deps.database.read().await?.as_ref(), &user).await? {
            return Err(Error::new(Kind::Conflict, "SECOND_FACTOR_REQUIRED", "your role needs a second factor"));
        }
        self.change_own(actor, user, "auth.second_factor.remove", |user| user.totp = None).await
    }

    /// Gives a second factor again, for what is dangerous.
    pub async fn step_up(&self, actor: &Actor, code: &str) -> Result<()> {
        let id = self.user_of(actor).ok_or_else(not_a_user)?;
        let user = self.own_record(actor, id).await?;
        if !user.has_second_factor() {
            return Err(Error::new(Kind::Conflict, "NO_ENROLMENT", "you have no second factor"));
        }
        match self.check_counted_second_factor(user, Some(code)).await {
            Ok(_) => self.give(actor).await,
            Err(error) => {
                let event = Event::new("auth.step_up", "user", id).outcome(Outcome::Denied, error.code);
                self.deps.audit.record(actor, event).await?;
                Err(error)
            }
        }
    }

    /// Ends every session of the user but the actor's own.
    async fn end_others(&self, actor: &Actor, user: UserId) -> Result<()> {
        let now = self.deps.clock.now();
        let read = self.deps.database.read().await?;
        let live = async |page| read.sessions().list(&actor.tenant, Some(user), now, page).await;
        let sessions = whole(|session: &SessionRecord| session.id.0, live).await?;
        drop(read);
        for session in sessions.into_iter().filter(|session| Some(session.id) != actor.session) {
            self.end_session(actor, Some(user), session.id).await?;
        }
        Ok(())
    }

    async fn give(&self, actor: &Actor) -> Result<()> {
        let Some(session) = actor.session else { return Ok(()) };
        let now = self.deps.clock.now();
        self.transaction(async |unit| {
            unit.sessions().touch(session, now, true).await?;
            self.deps.audit.append(unit, actor, Event::new("auth.step_up", "session", session)).await
        })
        .await?;
        self.session_changed(session).await;
        Ok(())
    }

    /// The step of a code that fits now.
    fn step_of(&self, user: &UserRecord, totp: &Totp, code: &str) -> Result<Option<u64>> {
        let secret = self.sealer.open(&totp.sealed, &Self::purpose(user)).context("a sealed secret cannot be opened")?;
        let now = u64::try_from(self.deps.clock.now().unix_timestamp()).unwrap_or(0);
        Ok(self.totp(user, secret.to_vec())?.check(code, now))
    }

    /// The same, with a bound on guesses that counts for the user, by whatever name or way they come.
    pub(crate) async fn check_counted_second_factor(&self, user: UserRecord, given: Option<&str>) -> Result<(UserRecord, bool)> {
        if !user.has_second_factor() || given.is_none() {
            return self.check_second_factor(user, given).await;
        }
        let (tenant, name) = (user.tenant.clone(), guesses(user.id));
        self.reserve_attempt(&tenant, &name).await?;
        let done = self.check_second_factor(user, given).await?;
        self.transaction(async |unit| unit.users().set_attempts(&tenant, &name, None).await).await?;
        Ok(done)
    }

    /// Checks a login's second factor, where the user has one; whether one was given. A code counts once, over all replicas.
    pub(crate) async fn check_second_factor(&self, user: UserRecord, given: Option<&str>) -> Result<(UserRecord, bool)> {
        if !user.has_second_factor() {
            return Ok((user, false));
        }
        let Some(code) = given else {
            return Err(unauthenticated("SECOND_FACTOR_REQUIRED", "a one-time password is needed too"));
        };
        let Some(totp) = &user.totp else { return Ok((user, false)) };
        let step = self.step_of(&user, totp, code)?;
        let recovery = digest(&code.trim().to_lowercase());
        let (tenant, id) = (user.tenant.clone(), user.id);
        self.transaction(async |unit: &dyn UnitOfWork| {
            unit.lock(&format!("second-factor:{id}")).await?;
            let mut user = unit.users().get(&tenant, id).await?.ok_or_else(refused)?;
            let expected = user.revision;
            let totp = user.totp.as_mut().ok_or_else(refused)?;
            match step {
                Some(step) if step > totp.last_step => totp.last_step = step,
                Some(_) => return Err(refused()),
                None if totp.recovery.remove(&recovery) => {
                    let event = Event::new("auth.recovery_code", "user", id);
                    self.deps.audit.append(unit, &Actor::system(tenant.clone()), event).await?;
                }
                None => return Err(refused()),
            }
            user.revision += 1;
            if !unit.users().update(&user, expected).await? {
                return Err(Error::new(Kind::Unavailable, omt_kernel::retry::BUSY, "the user was changed meanwhile"));
            }
            Ok((user, true))
        })
        .await
    }

    pub(crate) async fn own_record(&self, actor: &Actor, id: UserId) -> Result<UserRecord> {
        let found = self.deps.database.read().await?.users().get(&actor.tenant, id).await?;
        found.ok_or_else(|| Error::not_found("user"))
    }

    /// Changes the actor's own record.
    pub(crate) async fn change_own(
        &self,
        actor: &Actor,
        user: UserRecord,
        action: &'static str,
        change: impl FnOnce(&mut UserRecord),
    ) -> Result<()> {
        let mut next = user.clone();
        change(&mut next);
        (next.revision, next.updated_at) = (user.revision + 1, self.deps.clock.now());
        self.transaction(async |unit| {
            if !unit.users().update(&next, user.revision).await? {
                return Err(Error::new(Kind::Conflict, "CONCURRENT_CHANGE", "the user was changed at the same time"));
            }
            self.deps.audit.append(unit, actor, Event::new(action, "user", user.id)).await
        })
        .await?;
        if let Some(session) = actor.session {
            self.session_changed(session).await;
        }
        Ok(())
    }
}

pub(crate) fn not_a_user() -> Error {
    Error::new(Kind::Forbidden, "NOT_A_USER", "only a user who logged in can do this")
}
