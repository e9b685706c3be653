//! Requests that may come twice but must act once (`Idempotency-Key`).

use crate::{Actor, Error, Kind, OffsetDateTime, Result, port::UnitOfWork, record::IdempotencyRecord};
use serde_json::Value;

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
            let words = "this Idempotency-Key was used with a different request";
            return Err(Error::new(Kind::Unprocessable, "IDEMPOTENCY_KEY_REUSED", words));
        }
        Ok(Outcome::Replayed { status: stored.status, body: stored.body })
    }
}
