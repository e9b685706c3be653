//! How fast one caller may ask (`RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers).

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use omt_kernel::{Actor, Error, Kind, Result, port::SharedPace};
use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The time that an allowance is for.
const MINUTE: Duration = Duration::from_secs(60);
/// How often processes settle with each other: together they let through what they are asked in this time above the allowance.
const SETTLE: Duration = Duration::from_secs(1);
/// Requests after which callers that have been quiet are forgotten.
const TIDY: u32 = 4096;

/// Callers' allowances: so many requests in a minute, all of them at once if they like; what was taken comes back evenly (a GCRA).
/// Each process counts by itself and at once, so that nobody waits for another; now and then it says what it gave away, and hears
/// what all of them did.
pub struct Pace {
    per_minute: NonZeroU32,
    accounts: Mutex<Accounts>,
    /// Where it is added up: the first that answers.
    shared: Vec<Arc<dyn SharedPace>>,
}

#[derive(Default)]
struct Accounts {
    of: HashMap<String, Account>,
    asked: u32,
}

/// What a caller took.
struct Account {
    /// When all of it will have come back.
    back_at: Instant,
    /// Requests that the others have not been told of.
    untold: u32,
}

/// What is left of an allowance.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    per_minute: u32,
    remaining: u32,
}

impl Pace {
    /// So many requests a minute for each caller; none where there is no limit. Processes add up what callers take at the first of
    /// `shared` that answers; where there is none, each goes by itself.
    pub fn new(per_minute: u32, shared: Vec<Arc<dyn SharedPace>>) -> Option<Self> {
        Some(Self { per_minute: NonZeroU32::new(per_minute)?, accounts: Mutex::default(), shared })
    }

    /// Counts a request of a caller who is known, so that nobody can fill memory with names. What is left is said to those who are
    /// refused, too.
    pub fn take(&self, actor: &Actor) -> (Left, Result<()>) {
        self.take_at(&format!("{}/{}", actor.tenant, actor.subject), Instant::now())
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In what time one request comes back.
    fn step(&self) -> Duration {
        MINUTE / self.per_minute.get()
    }

    fn take_at(&self, caller: &str, now: Instant) -> (Left, Result<()>) {
        let step = self.step();
        let mut accounts = self.accounts();
        accounts.asked = accounts.asked.wrapping_add(1);
        if accounts.asked.is_multiple_of(TIDY) {
            accounts.of.retain(|_, account| account.back_at > now || account.untold > 0);
        }
        let account = match accounts.of.get_mut(caller) {
            Some(account) => account,
            None => accounts.of.entry(caller.to_owned()).or_insert(Account { back_at: now, untold: 0 }),
        };
        let after = account.back_at.saturating_duration_since(now) + step;
        if after > MINUTE {
            let seconds = u32::try_from((after - MINUTE).as_secs()).unwrap_or(60).saturating_add(1);
            let words = format!("over {} requests a minute; try again in {seconds} s", self.per_minute);
            return (self.left(0), Err(Error::new(Kind::TooMany, "RATE_LIMITED", words).retry_after(seconds)));
        }
        account.back_at = now + after;
        account.untold = account.untold.saturating_add(1);
        let remaining = (MINUTE - after).as_nanos() / step.as_nanos().max(1);
        (self.left(u32::try_from(remaining).unwrap_or(u32::MAX)), Ok(()))
    }

    /// Settles with the other processes, for ever. Where nobody can be asked, each goes on by itself.
    pub async fn settle(&self) {
        while !self.shared.is_empty() {
            tokio::time::sleep(SETTLE).await;
            self.settle_now().await;
        }
    }

    async fn settle_now(&self) {
        let untold = |(caller, account): (&String, &Account)| (account.untold > 0).then(|| (caller.clone(), account.untold));
        let told: Vec<(String, u32)> = self.accounts().of.iter().filter_map(untold).collect();
        if told.is_empty() {
            return;
        }
        let taken: Vec<(String, Duration)> = told.iter().map(|(caller, taken)| (caller.clone(), self.step() * *taken)).collect();
        for shared in &self.shared {
            match shared.settle(&taken).await {
                Ok(back) => return self.hear(&told, &back, Instant::now()),
                Err(error) => tracing::debug!(%error, "what callers took cannot be added up there"),
            }
        }
    }

    /// Goes by what was taken everywhere. What is known here is never taken back: a server that forgot gives nothing away.
    fn hear(&self, told: &[(String, u32)], back: &[Duration], now: Instant) {
        let step = self.step();
        let mut accounts = self.accounts();
        for ((caller, told), back) in told.iter().zip(back) {
            let Some(account) = accounts.of.get_mut(caller) else { continue };
            account.untold = account.untold.saturating_sub(*told);
            account.back_at = account.back_at.max(now + *back + step * account.untold);
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

    fn granted(pace: &Pace, now: Instant) -> usize {
        (0..1_000).take_while(|_| pace.take_at("a", now).1.is_ok()).count()
    }

    #[test]
    fn so_many_in_a_minute_and_all_at_once() {
        let (pace, now) = (Pace::new(20, Vec::new()).unwrap(), Instant::now());
        assert!(Pace::new(0, Vec::new()).is_none());
        let (left, taken) = pace.take_at("a", now);
        assert!(taken.is_ok() && left.remaining == 19);
        assert_eq!(granted(&pace, now), 19);
        let (left, refused) = pace.take_at("a", now);
        let refused = refused.unwrap_err();
        assert_eq!((left.remaining, refused.code, refused.retry_after), (0, "RATE_LIMITED", Some(4)));
        assert!(pace.take_at("b", now).1.is_ok(), "others have their own");
        // One comes back every three seconds, and never more than all of them.
        assert_eq!(granted(&pace, now + Duration::from_secs(7)), 2);
        assert_eq!(granted(&pace, now + Duration::from_secs(3_600)), 20);
    }

    /// Adds up as Redis and the database do, or is away.
    #[derive(Default)]
    struct Sum(Mutex<HashMap<String, Duration>>, std::sync::atomic::AtomicBool);

    #[async_trait::async_trait]
    impl SharedPace for Sum {
        async fn settle(&self, taken: &[(String, Duration)]) -> Result<Vec<Duration>> {
            if self.1.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(Error::new(Kind::Unavailable, "AWAY", "away"));
            }
            let mut sums = self.0.lock().unwrap();
            let add = |(caller, time): &(String, Duration)| {
                let sum = sums.entry(caller.clone()).or_default();
                *sum += *time;
                *sum
            };
            Ok(taken.iter().map(add).collect())
        }
    }

    #[tokio::test]
    async fn processes_share_an_allowance() {
        let (sum, other) = (Arc::new(Sum::default()), Arc::new(Sum::default()));
        let shared = || vec![sum.clone() as Arc<dyn SharedPace>, other.clone()];
        let (one, two, now) = (Pace::new(20, shared()).unwrap(), Pace::new(20, shared()).unwrap(), Instant::now);
        assert_eq!((0..12).filter(|_| one.take_at("a", now()).1.is_ok()).count(), 12);
        one.settle_now().await;
        assert!(two.take_at("a", now()).1.is_ok());
        two.settle_now().await;
        assert_eq!(granted(&two, now()), 7, "20 less 12 less 1");
        // What came meanwhile is not forgotten, and told once.
        one.settle_now().await;
        two.settle_now().await;
        assert_eq!(sum.0.lock().unwrap()["a"], Duration::from_secs(60));
        // One that is away is left for the next; and with none, each goes by what it knows.
        sum.1.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(granted(&one, now()), 8);
        one.settle_now().await;
        assert_eq!(other.0.lock().unwrap()["a"], Duration::from_secs(24));
        assert_eq!((granted(&one, now()), granted(&two, now())), (0, 0), "nothing is given back");
        other.1.store(true, std::sync::atomic::Ordering::Relaxed);
        one.settle_now().await;
        assert_eq!(granted(&one, now() + Duration::from_secs(6)), 2);
    }

    #[test]
    fn what_was_taken_comes_back_evenly() {
        let seconds = |per_minute, remaining| Left { per_minute, remaining }.seconds();
        assert_eq!((seconds(20, 20), seconds(20, 19), seconds(20, 10), seconds(20, 0)), (0, 3, 30, 60));
        assert_eq!((seconds(7, 6), seconds(600, 599), seconds(u32::MAX, 0)), (9, 1, 60));
    }
}
