//! What happens to an attempt. Pure.

use crate::JobError;
use omt_kernel::{Error, OffsetDateTime, job::AttemptEnd};
use time::Duration;

/// The first pause between attempts.
const FIRST: Duration = Duration::seconds(2);
/// The longest.
const LONGEST: Duration = Duration::minutes(15);
/// How many jobs have tickets at least, of those that a process does; the rest wait in the database, in their order.
const AHEAD: u32 = 200;
/// And at most.
const MOST_AHEAD: u32 = 2_000;

/// The pause after the `attempt`-th attempt (from 1): doubling, up to a quarter of an hour, and a quarter more or less by
/// `chance`, so that jobs that failed together do not come back together.
pub fn pause(attempt: u32, chance: u8) -> Duration {
    let doubled = FIRST * 2i32.saturating_pow(attempt.saturating_sub(1).min(20));
    let whole = doubled.min(LONGEST);
    whole * (0.75 + f64::from(chance) / 512.0)
}

/// How an attempt ends.
pub fn end(result: Result<(), JobError>, attempt: u32, max_attempts: u32, now: OffsetDateTime, chance: u8) -> AttemptEnd {
    match result {
        Ok(()) => AttemptEnd::Done,
        Err(JobError::Fatal(error)) => AttemptEnd::Dead(words(&error)),
        // Spread, so that they do not come back together.
        Err(JobError::Later(seconds)) => {
            AttemptEnd::Postponed(now + Duration::seconds(i64::from(seconds)) * (1.0 + f64::from(chance) / 256.0))
        }
        Err(JobError::Retry(error)) if attempt >= max_attempts => AttemptEnd::Dead(words(&error)),
        Err(JobError::Retry(error)) => {
            let asked = error.retry_after.map_or(Duration::ZERO, |seconds| Duration::seconds(i64::from(seconds)));
            AttemptEnd::RetryAt(now + pause(attempt, chance).max(asked), words(&error))
        }
    }
}

fn words(error: &Error) -> String {
    format!("{}: {}", error.code, error.message)
}

/// How many jobs are to have tickets until the next look, when so many began since the last: twice as many, so that nobody waits for the
/// look, and no more, so that an urgent newcomer is soon among the next.
pub fn ahead(begun: u32) -> u32 {
    begun.saturating_mul(2).clamp(AHEAD, MOST_AHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_kernel::Kind;

    #[test]
    fn as_many_are_told_of_as_will_begin() {
        let told = [0, 100, 101, 700, 1_000, u32::MAX].map(ahead);
        assert_eq!(told, [200, 200, 202, 1_400, 2_000, 2_000]);
    }

    #[test]
    fn attempts_end_as_they_should() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let error = || Error::new(Kind::Unavailable, "GONE", "it is gone");
        assert_eq!(end(Ok(()), 1, 3, now, 0), AttemptEnd::Done);
        assert_eq!(end(Err(JobError::Fatal(error())), 1, 3, now, 0), AttemptEnd::Dead("GONE: it is gone".into()));
        assert!(matches!(end(Err(error().into()), 2, 3, now, 0), AttemptEnd::RetryAt(at, _) if at == now + Duration::seconds(3)));
        assert!(matches!(end(Err(error().into()), 3, 3, now, 0), AttemptEnd::Dead(_)));
        assert!(
            matches!(end(Err(JobError::Later(3)), 3, 3, now, 0), AttemptEnd::Postponed(at) if at == now + Duration::seconds(3))
        );
        let patient = error().retry_after(60);
        assert!(matches!(end(Err(patient.into()), 1, 3, now, 0), AttemptEnd::RetryAt(at, _) if at == now + Duration::minutes(1)));
    }

    proptest::proptest! {
        #[test]
        fn pauses_are_bounded_and_grow(attempt in 0u32..100_000, chance: u8) {
            let one = pause(attempt, chance);
            proptest::prop_assert!(one >= FIRST * 0.75 && one <= LONGEST * 1.25);
            proptest::prop_assert!(pause(attempt + 1, chance) >= one);
        }
    }
}
