//! Turns for large files: one is worked on at a time, because the manifest engine hashes through large buffers, and few may wait.

use omt_kernel::{Error, Kind, Result};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

/// How many may wait for their turn or have it: their bytes wait in the spool directory.
const MOST: usize = 16;

/// The turns of one process.
pub(super) struct Turns {
    one: Semaphore,
    places: Semaphore,
}

/// A large file's turn; it ends when this is dropped.
pub(super) struct Turn<'a> {
    _one: SemaphorePermit<'a>,
    _place: SemaphorePermit<'a>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { one: Semaphore::new(1), places: Semaphore::new(MOST) }
    }

    /// Waits until no other large file is being worked on, when this one is large. Where too many wait already the answer is 503 `BUSY`
    /// at once.
    pub(super) async fn take(&self, size: u64) -> Result<Option<Turn<'_>>> {
        if size < crate::engine::LARGE {
            return Ok(None);
        }
        let busy = "too many large files wait to be signed or verified already";
        let place = self.places.try_acquire().map_err(|_| Error::new(Kind::Unavailable, "BUSY", busy).retry_after(30))?;
        let closed = |e: AcquireError| Error::internal("the turn for large files is closed").caused_by(e);
        Ok(Some(Turn { _one: self.one.acquire().await.map_err(closed)?, _place: place }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LARGE;
    use futures_util::{FutureExt, future::join_all};

    #[tokio::test]
    async fn few_wait_and_the_rest_are_told() {
        let turns = Turns::new();
        assert!(turns.take(LARGE - 1).await.unwrap().is_none());
        let first = turns.take(LARGE).await.unwrap();
        assert!(first.is_some());
        let mut waiting: Vec<_> = (1..MOST).map(|_| Box::pin(turns.take(LARGE))).collect();
        assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()));
        let refused = turns.take(LARGE).await.err().unwrap();
        assert_eq!((refused.code, refused.retry_after.is_some()), ("BUSY", true));
        assert!(turns.take(1).await.is_ok(), "small files do not wait for large ones");
        drop(first);
        let ends = join_all(waiting.into_iter().map(|turn| async { turn.await.map(drop) })).await;
        assert!(ends.into_iter().all(|end| end.is_ok()));
    }
}
