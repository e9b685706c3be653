//! How fast one caller may ask (`RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers).

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use governor::{Quota, RateLimiter, clock::Clock as _, middleware::StateInformationMiddleware, state::keyed::DashMapStateStore};
use omt_kernel::{Actor, Error, Kind, Result};
use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
};

/// Requests after which callers that have been quiet are forgotten.
const TIDY: u32 = 4096;

type Limiter = RateLimiter<String, DashMapStateStore<String>, governor::clock::DefaultClock, StateInformationMiddleware>;

/// A caller's allowance in this process: so many requests in a minute, all of them at once if they like.
pub struct Pace {
    limiter: Limiter,
    per_minute: NonZeroU32,
    asked: AtomicU32,
}

/// What is left of an allowance.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    per_minute: u32,
    remaining: u32,
}

impl Pace {
    /// So many requests a minute for each caller; none where there is no limit.
    pub fn new(per_minute: u32) -> Option<Self> {
        let per_minute = NonZeroU32::new(per_minute)?;
        let limiter = RateLimiter::dashmap(Quota::per_minute(per_minute)).with_middleware::<StateInformationMiddleware>();
        Some(Self { limiter, per_minute, asked: AtomicU32::new(0) })
    }

    /// Counts a request of a caller who is known, so that nobody can fill memory with names. What is left is said to those who are
    /// refused, too.
    pub fn take(&self, actor: &Actor) -> (Left, Result<()>) {
        if self.asked.fetch_add(1, Ordering::Relaxed) % TIDY == TIDY - 1 {
            self.limiter.retain_recent();
        }
        let key = format!("{}/{}", actor.tenant, actor.subject);
        match self.limiter.check_key(&key) {
            Ok(state) => (self.left(state.remaining_burst_capacity()), Ok(())),
            Err(until) => {
                let wait = until.wait_time_from(self.limiter.clock().now());
                let seconds = u32::try_from(wait.as_secs()).unwrap_or(60).saturating_add(1);
                let words = format!("over {} requests a minute; try again in {seconds} s", self.per_minute);
                (self.left(0), Err(Error::new(Kind::TooMany, "RATE_LIMITED", words).retry_after(seconds)))
            }
        }
    }

    fn left(&self, remaining: u32) -> Left {
        Left { per_minute: self.per_minute.get(), remaining }
    }
}

impl Left {
    /// Seconds until the whole allowance is there again: what was taken comes back evenly.
    fn seconds(self) -> u64 {
        let taken = u64::from(self.per_minute.saturating_sub(self.remaining));
        (taken * 60).div_ceil(u64::from(self.per_minute.max(1)))
    }

    /// Says it in the answer's headers.
    pub fn tell(self, headers: &mut HeaderMap) {
        let Self { per_minute, remaining } = self;
        let seconds = self.seconds();
        let words = [
            ("ratelimit-policy", format!("\"caller\";q={per_minute};w=60")),
            ("ratelimit", format!("\"caller\";r={remaining};t={seconds}")),
        ];
        for (name, value) in words {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_comes_back_evenly() {
        let seconds = |per_minute, remaining| Left { per_minute, remaining }.seconds();
        assert_eq!((seconds(20, 20), seconds(20, 19), seconds(20, 10), seconds(20, 0)), (0, 3, 30, 60));
        assert_eq!((seconds(7, 6), seconds(600, 599), seconds(u32::MAX, 0)), (9, 1, 60));
    }
}
