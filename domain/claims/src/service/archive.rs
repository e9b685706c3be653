//! Content in archives, which must be restored before it can be read: whoever asks for it has a job restore it, and comes again.

use super::Manifests;
use omt_audit::Event;
use omt_jobs::{NewJob, RESTORE, RestoreOrder};
use omt_kernel::{
    Actor, Error, JobId, OffsetDateTime, Result,
    error::Context as _,
    job::{JobRecord, JobState},
    manifest::BlobRef,
    port::Content,
    retry,
    storage::{ARCHIVED, archived},
};
use serde_json::json;

/// How often a restore that fails is tried.
const ATTEMPTS: u32 = 10;
/// Callers are not asked back sooner, in seconds, unless restores are quicker here.
const SOONEST: u32 = 60;

/// What was asked for.
pub enum Fetched<T> {
    /// It is here.
    Now(T),
    /// It is being restored.
    Later(Restoring),
}

impl<T> Fetched<T> {
    /// For those who cannot wait: they are asked to come again.
    pub(super) fn now(self) -> Result<T> {
        match self {
            Self::Now(found) => Ok(found),
            Self::Later(restoring) => Err(archived(restoring.retry_after)),
        }
    }
}

/// A restore that is under way.
#[derive(Debug, Clone)]
pub struct Restoring {
    /// The job that looks after it.
    pub job: JobId,
    /// Where the job stands.
    pub state: JobState,
    /// When it was first asked for.
    pub requested_at: OffsetDateTime,
    /// Seconds until it should be done, from now.
    pub retry_after: u32,
}

impl Restoring {
    /// Where a restore stands that usually takes so many seconds.
    fn of(job: &JobRecord, usual: u32, now: OffsetDateTime) -> Self {
        let gone = (now - job.created_at).whole_seconds().clamp(0, usual.into());
        let left = usual.saturating_sub(u32::try_from(gone).unwrap_or(usual));
        let retry_after = left.max(SOONEST.min(usual)).max(1);
        Self { job: job.id, state: job.state, requested_at: job.created_at, retry_after }
    }
}

impl Manifests {
    /// What was read; where it is archived, the restore that it needs, begun when nobody has done so yet.
    pub(super) async fn fetched<T>(&self, actor: &Actor, blob: &BlobRef, read: Result<T>) -> Result<Fetched<T>> {
        match read {
            Ok(found) => Ok(Fetched::Now(found)),
            Err(error) if error.code == ARCHIVED => self.restore(actor, blob, &error).await.map(Fetched::Later),
            Err(error) => Err(error),
        }
    }

    /// Opens content that is needed now. What is archived is restored, and whoever needs it is asked to come again.
    pub(super) async fn open(&self, actor: &Actor, blob: &BlobRef) -> Result<Content> {
        let opened = self.deps.blobs.open(&actor.tenant, blob).await;
        self.fetched(actor, blob, opened).await?.now()
    }

    async fn restore(&self, actor: &Actor, blob: &BlobRef, why: &Error) -> Result<Restoring> {
        let order = RestoreOrder { blob: blob.clone() };
        let (key, usual) = (order.key(&actor.tenant), why.retry_after.unwrap_or(SOONEST));
        let payload = serde_json::to_value(&order).context("an order cannot be written")?;
        // The job may end between the two looks.
        for _ in 0..3 {
            if let Some(job) = self.deps.database.read().await?.jobs().living(&key).await? {
                return Ok(Restoring::of(&job, usual, self.deps.clock.now()));
            }
            let made = retry::transaction(self.deps.entropy.as_ref(), async || {
                let now = self.deps.clock.now();
                let unit = self.deps.database.begin().await?;
                let new = NewJob {
                    tenant: Some(actor.tenant.clone()),
                    kind: RESTORE,
                    payload: payload.clone(),
                    unique_key: Some(key.clone()),
                    // Somebody waits.
                    priority: 10,
                    run_at: now,
                    max_attempts: ATTEMPTS,
                };
                let made = omt_jobs::enqueue(unit.as_ref(), self.deps.clock.as_ref(), self.deps.entropy.as_ref(), new).await?;
                let Some(id) = made else { return Ok(None) };
                // Restores cost money; the log says who caused it.
                let event = Event::new("content.restore", "job", id).detail(json!({ "sha256": blob.sha256 }));
                self.deps.audit.append(unit.as_ref(), actor, event).await?;
                unit.commit().await?;
                Ok(Some(id))
            });
            if let Some(id) = made.await?
                && let Some(job) = self.deps.database.read().await?.jobs().get(id).await?
            {
                return Ok(Restoring::of(&job, usual, self.deps.clock.now()));
            }
        }
        Err(archived(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    #[test]
    fn callers_are_asked_back_when_it_should_be_there() {
        let asked = OffsetDateTime::UNIX_EPOCH;
        let job = JobRecord {
            id: JobId(uuid::Uuid::nil()),
            tenant: None,
            kind: RESTORE.into(),
            payload: json!({}),
            unique_key: None,
            priority: 0,
            state: JobState::Running,
            attempts: 1,
            max_attempts: ATTEMPTS,
            run_at: asked,
            lease_until: None,
            worker: None,
            progress: None,
            error: None,
            created_at: asked,
            updated_at: asked,
            finished_at: None,
        };
        // Usual seconds, seconds gone, seconds left; a clock that went back adds nothing.
        for (usual, gone, left) in [
            (43_200, 0, 43_200),
            (43_200, 600, 42_600),
            (43_200, 43_190, 60),
            (300, 9_999, 60),
            (5, 9, 5),
            (0, 9, 1),
            (300, -9, 300),
        ] {
            let restoring = Restoring::of(&job, usual, asked + Duration::seconds(gone));
            assert_eq!(restoring.retry_after, left, "{usual} {gone}");
        }
    }
}
