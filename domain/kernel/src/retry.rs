//! Doing a transaction again when the database chose it to make way for another.

use crate::{Result, port::Entropy};
use std::time::{Duration, Instant};

/// The code of errors after which nothing happened and the same may be tried at once: serialization failures, deadlocks, and a
/// SQLite file that another process writes.
pub const BUSY: &str = "DATABASE_BUSY";
const ATTEMPTS: u32 = 5;
/// Later no attempt begins: each may itself have waited long for a lock, and a caller waits for all of them.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs `work`, which opens and commits its own transaction, again while the database is busy: at most five times and not after
/// 15 seconds, with growing pauses of random length.
pub async fn transaction<T>(entropy: &dyn Entropy, work: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    within(PATIENCE, entropy, work).await
}

async fn within<T>(patience: Duration, entropy: &dyn Entropy, mut work: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let (mut attempt, began) = (1, Instant::now());
    loop {
        match work().await {
            Err(error) if error.code == BUSY && attempt < ATTEMPTS && began.elapsed() < patience => {
                let chance = u64::from(entropy.secret()[0]);
                // 5 to 15 ms, then twice that, and so on.
                tokio::time::sleep(Duration::from_micros((5_000 + chance * 40) << (attempt - 1))).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, Kind};

    struct Fixed;

    impl Entropy for Fixed {
        fn uuid_v7(&self, _: time::OffsetDateTime) -> uuid::Uuid {
            uuid::Uuid::nil()
        }
        fn uuid_v4(&self) -> uuid::Uuid {
            uuid::Uuid::nil()
        }
        fn secret(&self) -> [u8; 32] {
            [0; 32]
        }
    }

    #[tokio::test]
    async fn what_waits_long_is_tried_seldom() {
        let mut runs = 0;
        let failed = within(Duration::from_millis(30), &Fixed, async || {
            runs += 1;
            tokio::time::sleep(Duration::from_millis(40)).await;
            Err::<(), _>(Error::new(Kind::Unavailable, BUSY, "busy"))
        });
        assert_eq!(failed.await.unwrap_err().code, BUSY);
        assert_eq!(runs, 1);
    }

    #[tokio::test]
    async fn busy_is_tried_again_and_nothing_else() {
        let mut runs = 0;
        let done = transaction(&Fixed, async || {
            runs += 1;
            if runs < 3 { Err(Error::new(Kind::Unavailable, BUSY, "busy")) } else { Ok(runs) }
        });
        assert_eq!(done.await.unwrap(), 3);
        let mut runs = 0;
        let failed = transaction(&Fixed, async || {
            runs += 1;
            Err::<(), _>(Error::new(Kind::Unavailable, BUSY, "busy"))
        });
        assert_eq!(failed.await.unwrap_err().code, BUSY);
        assert_eq!(runs, 5);
        let mut runs = 0;
        let failed = transaction(&Fixed, async || {
            runs += 1;
            Err::<(), _>(Error::internal("broken"))
        });
        assert!(failed.await.is_err());
        assert_eq!(runs, 1);
    }
}
