//! Asking versions what they say: on threads apart, and for so long at most, whoever asks.

use crate::{
    expression::Deadline,
    facts::Facts,
    model::{Policy, Verdict},
    rules::Compiled,
    service::Version,
};
use omt_kernel::{Error, Kind, Result, TenantId, pool::WorkPool};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a policy's expressions may take, from when they run.
pub(crate) const LIMIT: Duration = Duration::from_secs(2);
/// Memory for compiled policies, by the size of their rules.
const COMPILED: u64 = 8 << 20;

type Key = (TenantId, String, u32);

/// That there was no time to decide. It says nothing about the content, so that asking again may help.
pub(crate) fn undecided() -> Error {
    Error::new(Kind::Unavailable, "POLICY_UNDECIDED", "a policy could not be asked in time; ask again").retry_after(2)
}

/// Memory for verdicts.
const VERDICTS: u64 = 16 << 20;

/// Versions whose expressions are compiled, and what they said, as far as there is room. Its copies keep the same. A verdict is found
/// by everything that it depends on, so that none has to be taken back.
#[derive(Clone)]
pub(crate) struct Kept {
    compiled: moka::sync::Cache<Key, Arc<Compiled>>,
    verdicts: moka::sync::Cache<[u8; 32], Arc<Verdict>>,
}

impl Kept {
    pub(crate) fn new() -> Self {
        let weight = |(_, name, _): &Key, compiled: &Arc<Compiled>| {
            u32::try_from(name.len() + compiled.policy.weight()).unwrap_or(u32::MAX)
        };
        let size = |_: &[u8; 32], verdict: &Arc<Verdict>| u32::try_from(verdict.weight()).unwrap_or(u32::MAX);
        Self {
            compiled: moka::sync::Cache::builder().weigher(weight).max_capacity(COMPILED).build(),
            verdicts: moka::sync::Cache::builder().weigher(size).max_capacity(VERDICTS).build(),
        }
    }

    fn find(&self, key: &Key, policy: &Arc<Policy>) -> Option<Arc<Compiled>> {
        self.compiled.get(key).filter(|found| Arc::ptr_eq(&found.policy, policy) || found.policy == *policy)
    }

    /// A version to be asked.
    pub(crate) fn ask(&self, tenant: &TenantId, version: Version) -> Ask {
        let key = (tenant.clone(), version.policy.name.clone(), version.version);
        let found = self.find(&key, &version.policy);
        Ask { key, policy: version.policy, found, kept: self.clone() }
    }
}

/// A version that is to be asked, and what was compiled of it before.
pub(crate) struct Ask {
    key: Key,
    policy: Arc<Policy>,
    found: Option<Arc<Compiled>>,
    kept: Kept,
}

impl Ask {
    /// Whether it was compiled before.
    pub(crate) fn is_known(&self) -> bool {
        self.found.is_some()
    }

    /// What it said of these facts before, and under which key. What takes no time is not remembered: it costs less than looking.
    pub(crate) fn said(&self, facts: &Facts) -> (Option<[u8; 32]>, Option<Verdict>) {
        let question = self.found.as_ref().filter(|_| self.takes_time()).and_then(|compiled| compiled.question(facts));
        let said = question.and_then(|question| self.kept.verdicts.get(&question));
        (question, said.map(|verdict| Verdict::clone(&verdict)))
    }

    /// Whose policy, its name and its version.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Whether there is anything in it that takes time.
    fn takes_time(&self) -> bool {
        self.policy.rules.iter().any(|rule| rule.custom_function.is_some())
    }

    /// It, compiled: once, as far as there is room. Computes, where it takes time.
    pub(crate) fn compiled(self) -> Result<Arc<Compiled>> {
        let Self { key, policy, found, kept } = self;
        // Somebody who stood before this one in the queue may have done it.
        if let Some(found) = found.or_else(|| kept.find(&key, &policy)) {
            return Ok(found);
        }
        let made = Arc::new(Compiled::new(policy, key.2)?);
        kept.compiled.insert(key, made.clone());
        Ok(made)
    }
}

/// Threads that compile expressions and run them, for one sort of those who ask.
pub(crate) struct Desk {
    pool: WorkPool,
    wait: Duration,
}

impl Desk {
    /// Threads, how many may wait for one, and how long an answer is waited for: in the queue, for compiling and for running.
    pub(crate) fn start(threads: usize, waiting: usize, wait: Duration) -> Result<Self> {
        Ok(Self { pool: WorkPool::start(threads, waiting)?, wait })
    }

    /// Until when somebody waits who asks from now on.
    pub(crate) fn until(&self) -> Instant {
        Instant::now() + self.wait
    }

    /// Runs what is no question.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        self.pool.run(work).await
    }

    /// What a version says. Its expressions have their time from when they run: that it had to wait for a thread is no fault of theirs.
    /// Without an answer by then, `undecided`.
    pub(crate) async fn judge(&self, ask: Ask, facts: &Arc<Facts>, until: Instant) -> Result<Verdict> {
        if !ask.takes_time() {
            return Ok(ask.compiled()?.evaluate(facts, &Deadline::after(LIMIT)));
        }
        let (seen, verdicts) = (facts.clone(), ask.kept.verdicts.clone());
        let work = move || {
            let left = || Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
            // Nobody waits for it any more.
            left().ok_or_else(undecided)?;
            // Kept even when the time is over by then, so that asking again helps.
            let compiled = ask.compiled()?;
            let time = left().ok_or_else(undecided)?.min(LIMIT);
            let verdict = compiled.evaluate(&seen, &Deadline::after(time));
            // What was cut off then had less than its time.
            let verdict = left().map(|_| verdict).ok_or_else(undecided)?;
            // What there was no time for may be said the next time.
            if let Some(question) = compiled.question(&seen).filter(|_| !verdict.wants_time()) {
                verdicts.insert(question, Arc::new(verdict.clone()));
            }
            Ok(verdict)
        };
        match tokio::time::timeout_at(until.into(), self.pool.run(work)).await {
            Ok(Err(error)) if error.kind == Kind::Unavailable => Err(undecided()),
            Ok(answer) => answer,
            Err(_) => Err(undecided()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LONG: Duration = Duration::from_secs(30);

    fn ask(kept: &Kept, expression: &str) -> Ask {
        let rules = json!([{ "name": "r", "rule_type": "custom_function", "severity": "error", "custom_function": expression }]);
        let policy: Policy = serde_json::from_value(json!({ "name": "p", "rules": rules })).unwrap();
        let version = Version { policy: policy.into(), version: 1, built_in: false, removed: false, created_by: None };
        kept.ask(&TenantId::default_tenant(), version)
    }

    fn facts() -> Arc<Facts> {
        Arc::new(Facts::new(json!({ "manifest": { "title": "A" } })))
    }

    /// Keeps the only thread of a desk at work for so long.
    async fn occupied(desk: &Arc<Desk>, time: Duration) -> tokio::task::JoinHandle<Result<()>> {
        let (began, begins) = tokio::sync::oneshot::channel();
        let there = desk.clone();
        let work = move || {
            let _ = began.send(());
            std::thread::sleep(time);
            Ok(())
        };
        let task = tokio::spawn(async move { there.run(work).await });
        begins.await.unwrap();
        task
    }

    #[tokio::test]
    async fn time_in_the_queue_is_not_the_expressions() {
        let (desk, kept) = (Arc::new(Desk::start(1, 4, LONG).unwrap()), Kept::new());
        let busy = occupied(&desk, LIMIT + Duration::from_millis(700)).await;
        let verdict = desk.judge(ask(&kept, "manifest.title == 'A'"), &facts(), desk.until()).await.unwrap();
        assert!(verdict.passed && verdict.rules[0].reason.is_none(), "{verdict:?}");
        busy.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_waits_too_long_may_ask_again() {
        let wait = Duration::from_millis(100);
        let (desk, kept) = (Arc::new(Desk::start(1, 1, wait).unwrap()), Kept::new());
        let busy = occupied(&desk, 5 * wait).await;
        let began = Instant::now();
        // It waits in vain, and then there is no room for another.
        for _ in 0..2 {
            let error = desk.judge(ask(&kept, "true"), &facts(), desk.until()).await.unwrap_err();
            assert_eq!((error.kind, error.code), (Kind::Unavailable, "POLICY_UNDECIDED"), "{error}");
            assert!(error.retry_after.is_some());
        }
        assert!(began.elapsed() < 4 * wait);
        busy.await.unwrap().unwrap();
        // What nobody waits for any more is not done.
        desk.run(|| Ok(())).await.unwrap();
        assert!(!ask(&kept, "true").is_known());
        let verdict = desk.judge(ask(&kept, "true"), &facts(), Instant::now() + LONG).await.unwrap();
        assert!(verdict.passed && ask(&kept, "true").is_known());
    }

    #[tokio::test]
    async fn the_same_is_not_asked_twice() {
        let (desk, kept) = (Arc::new(Desk::start(1, 1, LONG).unwrap()), Kept::new());
        let about = |title: &str| Arc::new(Facts::new(json!({ "manifest": { "title": title } })));
        let expression = "manifest.title == 'A'";
        assert!(ask(&kept, expression).said(&about("A")).1.is_none());
        let verdict = desk.judge(ask(&kept, expression), &about("A"), desk.until()).await.unwrap();
        assert_eq!(ask(&kept, expression).said(&about("A")).1, Some(verdict));
        // Other facts, another policy of the same name and version, and another word on the signature are other questions.
        let mut unverified = Facts::new(json!({ "manifest": { "title": "A" } }));
        unverified.unverified = true;
        assert!(ask(&kept, expression).said(&about("B")).1.is_none());
        assert!(ask(&kept, expression).said(&unverified).1.is_none());
        assert!(ask(&kept, "true").said(&about("A")).1.is_none());
        let mut shadow = ask(&kept, expression);
        Arc::make_mut(&mut shadow.policy).shadow = true;
        assert!(ask(&kept, expression).said(&about("A")).1.is_some() && kept.find(shadow.key(), &shadow.policy).is_none());
    }

    #[tokio::test]
    async fn what_needs_no_expressions_needs_no_thread() {
        let (desk, kept) = (Arc::new(Desk::start(1, 1, LONG).unwrap()), Kept::new());
        let busy = occupied(&desk, Duration::from_millis(300)).await;
        let mut plain = ask(&kept, "true");
        Arc::make_mut(&mut plain.policy).rules.clear();
        assert!(desk.judge(plain, &facts(), Instant::now()).await.unwrap().passed);
        busy.await.unwrap().unwrap();
    }
}
