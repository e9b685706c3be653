//! Group commit for files: many writers wait for one `syncfs` instead of two `fsync`s each.

use omt_kernel::{Error, Result, error::not_written};
use std::{fs::File, path::Path, sync::mpsc};
use tokio::sync::oneshot;

/// A thread that syncs the file system for everyone who waits.
pub(crate) struct SyncGate {
    queue: mpsc::Sender<oneshot::Sender<std::io::Result<()>>>,
}

impl SyncGate {
    /// A gate for the file system that holds `root`.
    pub(crate) fn start(root: &Path) -> std::io::Result<Self> {
        let root = File::open(root)?;
        let (queue, waiting) = mpsc::channel::<oneshot::Sender<std::io::Result<()>>>();
        std::thread::Builder::new().name("blob-sync".into()).spawn(move || {
            while let Ok(first) = waiting.recv() {
                // Whoever stands in the queue now has finished writing, so one sync serves them all.
                let group: Vec<_> = std::iter::once(first).chain(waiting.try_iter()).collect();
                let outcome = sync(&root);
                for waiter in group {
                    let copy = outcome.as_ref().copied().map_err(|e| std::io::Error::new(e.kind(), e.to_string()));
                    // A caller that went away needs no answer.
                    let _ = waiter.send(copy);
                }
            }
        })?;
        Ok(Self { queue })
    }

    /// Returns when everything written before the call is on disk.
    pub(crate) async fn pass(&self) -> Result<()> {
        let (answer, wait) = oneshot::channel();
        let gone = || Error::internal("the thread that syncs blobs has ended");
        self.queue.send(answer).map_err(|_| gone())?;
        wait.await.map_err(|_| gone())?.map_err(not_written("blobs cannot be synced"))
    }
}

fn sync(root: &File) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(root)?)
}
