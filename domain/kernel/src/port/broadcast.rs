//! Telling every process of a platform what it must not remember any longer.

use crate::{Result, SessionId, TenantId};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// Something that processes remember for a while, and that has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stale {
    /// Anything may have changed: messages may have been lost.
    Everything,
    /// A session ended, or what it may do is another.
    Session(SessionId),
    /// Users, their roles and groups, or what roles may do.
    Rights,
    /// A tenant's settings.
    Settings(TenantId),
    /// Who stands behind a subject of a tenant in the audit log.
    Person(TenantId, String),
}

/// Somebody who remembers.
#[async_trait]
pub trait Remembers: Send + Sync {
    /// Forgets it.
    async fn forget(&self, stale: &Stale);
}

/// Has every process forget what has changed. A message may be lost, so nothing may be wrong without it for longer than what was
/// remembered lasts by itself.
#[async_trait]
pub trait Broadcast: Send + Sync {
    /// From now on these forget what they are told to.
    fn join(&self, who: Arc<dyn Remembers>);
    /// Everybody in this process has forgotten it when this returns; those in others are told soon after. Called after the commit.
    async fn tell(&self, stale: Stale);
}

/// A broadcast that reaches this process: all there is where there is one, and a part of those that reach others.
#[derive(Default)]
pub struct Local(RwLock<Vec<Arc<dyn Remembers>>>);

#[async_trait]
impl Broadcast for Local {
    fn join(&self, who: Arc<dyn Remembers>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(who);
    }

    async fn tell(&self, stale: Stale) {
        let everybody = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        for one in everybody {
            one.forget(&stale).await;
        }
    }
}

/// How much callers have used of what they may, added up over processes. Where it does not answer, each process goes by what it saw
/// itself.
#[async_trait]
pub trait SharedPace: Send + Sync {
    /// Adds what each caller took, as the time in which it comes back; says for each in what time everything that was taken by
    /// anybody will have come back.
    async fn settle(&self, taken: &[(String, Duration)]) -> Result<Vec<Duration>>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Heard(Mutex<Vec<Stale>>);

    #[async_trait]
    impl Remembers for Heard {
        async fn forget(&self, stale: &Stale) {
            self.0.lock().unwrap().push(stale.clone());
        }
    }

    #[tokio::test]
    async fn everybody_in_the_process_has_heard_when_it_was_told() {
        let (local, one, other) = (Local::default(), Arc::new(Heard::default()), Arc::new(Heard::default()));
        local.join(one.clone());
        local.tell(Stale::Rights).await;
        local.join(other.clone());
        let settings = Stale::Settings(TenantId::default_tenant());
        local.tell(settings.clone()).await;
        assert_eq!(*one.0.lock().unwrap(), [Stale::Rights, settings.clone()]);
        assert_eq!(*other.0.lock().unwrap(), [settings]);
    }

    #[test]
    fn processes_of_other_versions_read_it() {
        let person = Stale::Person(TenantId::default_tenant(), "user:1".into());
        for (stale, text) in
            [(Stale::Rights, "\"rights\""), (Stale::Everything, "\"everything\""), (person, r#"{"person":["default","user:1"]}"#)]
        {
            assert_eq!(serde_json::to_string(&stale).unwrap(), text);
            assert_eq!(serde_json::from_str::<Stale>(text).unwrap(), stale);
        }
    }
}
