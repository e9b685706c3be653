//! A bounded pool of threads for work that computes: signing and verifying must neither block the executor nor pile up.

use crate::{Error, Kind, Result};
use std::sync::{Arc, Mutex, mpsc};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Some work recurses by the input's nesting, so threads get more stack than usual.
const STACK: usize = 16 << 20;

/// Threads and a bounded queue before them.
pub struct WorkPool {
    queue: mpsc::SyncSender<Job>,
}

impl WorkPool {
    /// Starts `threads` threads with room for `waiting` jobs in the queue.
    pub fn start(threads: usize, waiting: usize) -> Result<Self> {
        let (queue, jobs) = mpsc::sync_channel::<Job>(waiting);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..threads.max(1) {
            let jobs = jobs.clone();
            std::thread::Builder::new()
                .name(format!("work-{number}"))
                .stack_size(STACK)
                .spawn(move || {
                    loop {
                        let next = jobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
                        match next {
                            // A panic is a defect, but must not take the thread with it; the caller gets an error.
                            Ok(job) => drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(job))),
                            Err(_) => return,
                        }
                    }
                })
                .map_err(|e| Error::internal("cannot start a worker thread").caused_by(e))?;
        }
        Ok(Self { queue })
    }

    /// Runs `work` on the pool. When the queue is full the answer is 503 `BUSY` at once.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (answer, wait) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The caller may have gone away; then nobody wants the answer.
            let _ = answer.send(work());
        });
        self.queue.try_send(job).map_err(|_| {
            Error::new(Kind::Unavailable, "BUSY", "too much signing and verifying is waiting already").retry_after(2)
        })?;
        wait.await.map_err(|_| Error::internal("the work ended without an answer"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn refuses_when_full_and_survives_panics() {
        let pool = Arc::new(WorkPool::start(1, 1).unwrap());
        assert_eq!(pool.run(|| Ok(7)).await.unwrap(), 7);
        assert_eq!(pool.run::<()>(|| panic!("defect")).await.unwrap_err().kind, Kind::Internal);
        let slow = || {
            std::thread::sleep(Duration::from_millis(200));
            Ok(())
        };
        let running: Vec<_> = (0..3)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { pool.run(slow).await })
            })
            .collect();
        let mut refused = 0;
        for task in running {
            refused += usize::from(task.await.unwrap().is_err_and(|e| e.code == "BUSY"));
        }
        // The first may still stand in the queue when the others come.
        assert!((1..=2).contains(&refused), "{refused}");
        assert_eq!(pool.run(|| Ok(8)).await.unwrap(), 8);
    }
}
