//! Group commit: many writers wait for one sync instead of one each.

use crate::{Error, Result, error::not_written};
use std::{io, sync::mpsc};
use tokio::sync::oneshot;

/// A thread that syncs for everyone who waits.
pub struct SyncGate {
    queue: mpsc::Sender<oneshot::Sender<io::Result<()>>>,
    what: &'static str,
}

impl SyncGate {
    /// Starts the thread. `sync` brings to the disk what was written before it is called; `what` names it in errors and as the thread.
    pub fn start(what: &'static str, mut sync: impl FnMut() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel::<oneshot::Sender<io::Result<()>>>();
        std::thread::Builder::new().name(format!("sync-{what}")).spawn(move || {
            while let Ok(first) = waiting.recv() {
                // Whoever stands in the queue now has finished writing, so one sync serves them all.
                let group: Vec<_> = std::iter::once(first).chain(waiting.try_iter()).collect();
                let outcome = sync();
                for waiter in group {
                    let copy = outcome.as_ref().copied().map_err(|e| io::Error::new(e.kind(), e.to_string()));
                    // A caller that went away needs no answer.
                    let _ = waiter.send(copy);
                }
            }
        })?;
        Ok(Self { queue, what })
    }

    /// Returns when everything written before the call is on disk.
    pub async fn pass(&self) -> Result<()> {
        let (answer, wait) = oneshot::channel();
        let gone = || Error::internal(format!("the thread that syncs the {} has ended", self.what));
        self.queue.send(answer).map_err(|_| gone())?;
        let synced = wait.await.map_err(|_| gone())?;
        synced.map_err(not_written(&format!("the {} cannot be synced", self.what)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    #[tokio::test]
    async fn those_who_wait_together_share_a_sync() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let gate = SyncGate::start("test", move || {
            counted.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(50));
            Ok(())
        });
        let gate = gate.unwrap();
        let all = (0..20).map(|_| gate.pass());
        futures_util::future::try_join_all(all).await.unwrap();
        assert!(count.load(Ordering::SeqCst) < 5);
    }

    #[tokio::test]
    async fn a_failed_sync_fails_for_everyone_who_waits() {
        let gate = SyncGate::start("test", || Err(io::ErrorKind::StorageFull.into())).unwrap();
        let (a, b) = futures_util::join!(gate.pass(), gate.pass());
        assert!(a.is_err() && b.is_err());
    }
}
