//! Requests that may come twice but must act once (`Idempotency-Key`).

use crate::{Actor, Error, Kind, OffsetDateTime, Result, TenantId, port::UnitOfWork, record::IdempotencyRecord};
use serde_json::{Value, json};
use uuid::Uuid;

/// A request that may come twice but must act once.
pub struct Once<T> {
    /// The caller's key.
    pub key: String,
    /// SHA-256 over what the request says, hexadecimal.
    pub fingerprint: String,
    /// The status of the answer.
    pub status: u16,
    /// Makes the answer's body of what came of it.
    pub render: fn(&T) -> Value,
}

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), fingerprint: self.fingerprint.clone(), status: self.status, render: self.render }
    }
}

/// What came of a request that acts.
#[derive(Debug)]
pub enum Outcome<T> {
    /// It was done now.
    Done(Box<T>),
    /// It had been done before; this was the answer.
    Replayed {
        /// Status.
        status: u16,
        /// Body.
        body: Value,
    },
}

impl<T> Once<T> {
    /// The stored answer to this request, if it was made before.
    pub async fn replay(&self, unit: &dyn UnitOfWork, actor: &Actor) -> Result<Option<Outcome<T>>> {
        let found = unit.idempotency().get(&actor.tenant, &actor.subject, &self.key).await?;
        found.map(|stored| self.replayed(stored)).transpose()
    }

    /// Stores the answer in the change's own transaction; false when another request with the key won, and its answer counts.
    pub async fn keep(&self, unit: &dyn UnitOfWork, actor: &Actor, done: &T, now: OffsetDateTime) -> Result<bool> {
        let stored = IdempotencyRecord {
            tenant: actor.tenant.clone(),
            subject: actor.subject.clone(),
            key: self.key.clone(),
            fingerprint: self.fingerprint.clone(),
            status: self.status,
            body: (self.render)(done),
            created_at: now,
        };
        unit.idempotency().put(&stored).await
    }

    fn replayed(&self, stored: IdempotencyRecord) -> Result<Outcome<T>> {
        if stored.fingerprint != self.fingerprint {
            return Err(reused());
        }
        Ok(Outcome::Replayed { status: stored.status, body: stored.body })
    }
}

fn reused() -> Error {
    let words = "this Idempotency-Key was used with a different request";
    Error::new(Kind::Unprocessable, "IDEMPOTENCY_KEY_REUSED", words)
}

/// The status of what was begun and not answered.
const BEGUN: u16 = 0;

/// A request that bears a key, on its way through a use case that knows nothing of keys. The audit log takes the key in the
/// transaction of the first change that the request makes; the answer is stored once it is known.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The caller's tenant.
    pub tenant: TenantId,
    /// The caller.
    pub subject: String,
    /// The caller's key.
    pub key: String,
    /// A keyed hash over method, path and body, hexadecimal.
    pub fingerprint: String,
    /// This attempt at the request and no other.
    pub attempt: Uuid,
}

impl Claim {
    fn record(&self, status: u16, body: Value, now: OffsetDateTime) -> IdempotencyRecord {
        IdempotencyRecord {
            tenant: self.tenant.clone(),
            subject: self.subject.clone(),
            key: self.key.clone(),
            fingerprint: self.fingerprint.clone(),
            status,
            body,
            created_at: now,
        }
    }

    /// What the request was answered, if it was made before: status and body.
    pub async fn answered(&self, unit: &dyn UnitOfWork) -> Result<Option<(u16, Value)>> {
        let Some(stored) = unit.idempotency().get(&self.tenant, &self.subject, &self.key).await? else { return Ok(None) };
        if stored.fingerprint != self.fingerprint {
            return Err(reused());
        }
        if stored.status == BEGUN {
            return Err(Self::unknown());
        }
        Ok(Some((stored.status, stored.body)))
    }

    fn unknown() -> Error {
        let words = "a request with this Idempotency-Key is under way, or ended before it was answered; if this answer stays, look \
                     what came of it and use another key";
        Error::new(Kind::Conflict, "OUTCOME_UNKNOWN", words).retry_after(1)
    }

    fn is_mine(&self, stored: &IdempotencyRecord) -> bool {
        stored.status == BEGUN && stored.body == self.begun()
    }

    fn begun(&self) -> Value {
        json!({ "attempt": self.attempt })
    }

    /// Takes the key in the change's own transaction, unless this attempt has it already. An error when another attempt has it: then
    /// nothing of this one's may last.
    pub async fn take(&self, unit: &dyn UnitOfWork, now: OffsetDateTime) -> Result<()> {
        if unit.idempotency().put(&self.record(BEGUN, self.begun(), now)).await? {
            return Ok(());
        }
        let stored = unit.idempotency().get(&self.tenant, &self.subject, &self.key).await?;
        if stored.is_some_and(|stored| self.is_mine(&stored)) { Ok(()) } else { Err(Self::unknown()) }
    }

    /// Stores the answer. A refusal is stored only when something was changed before it; else the key is as if it had never been
    /// used. What another attempt has taken is left to it.
    pub async fn settle(&self, unit: &dyn UnitOfWork, (status, body): (u16, Value), now: OffsetDateTime) -> Result<()> {
        let stored = unit.idempotency().get(&self.tenant, &self.subject, &self.key).await?;
        match stored {
            Some(stored) if !self.is_mine(&stored) => return Ok(()),
            Some(_) => unit.idempotency().remove(&self.tenant, &self.subject, &self.key).await?,
            None if status >= 400 => return Ok(()),
            None => {}
        }
        unit.idempotency().put(&self.record(status, body, now)).await.map(drop)
    }
}
