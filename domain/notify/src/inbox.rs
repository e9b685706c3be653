//! The inbox: messages written in the transaction of the change that they tell of.

use crate::mail::mailing;
use omt_kernel::{
    Actor, Error, ManifestId, NotificationId, Permission, Result, TenantId,
    governance::NotificationRecord,
    port::{Clock, Database, Entropy, Page, People, UnitOfWork},
    retry,
};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

/// A message.
#[derive(Debug, Clone)]
pub struct Notice {
    /// To whom: `role:…`, `group:…` or a subject.
    pub audience: BTreeSet<String>,
    /// What kind, such as `workflow.task.opened`.
    pub kind: &'static str,
    /// What it says; no names of people.
    pub data: Value,
    /// The manifest that it is about: only those who see it see the message.
    pub manifest: ManifestId,
}

/// The inbox.
pub struct Notices {
    database: Arc<dyn Database>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    people: Arc<dyn People>,
    mail: bool,
}

impl Notices {
    /// The room, over its ports; whether messages go out by mail besides.
    pub fn new(
        database: Arc<dyn Database>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        people: Arc<dyn People>,
        mail: bool,
    ) -> Self {
        Self { database, clock, entropy, people, mail }
    }

    /// Writes a message in the caller's transaction.
    pub async fn tell(&self, unit: &dyn UnitOfWork, tenant: &TenantId, notice: Notice) -> Result<()> {
        let (now, mut written) = (self.clock.now(), Vec::new());
        for audience in notice.audience {
            let record = NotificationRecord {
                id: NotificationId(self.entropy.uuid_v7(now)),
                tenant: tenant.clone(),
                audience,
                kind: notice.kind.to_owned(),
                data: notice.data.clone(),
                manifest: notice.manifest,
                created_at: now,
            };
            unit.notifications().insert(&record).await?;
            written.push(record.id);
        }
        if self.mail && !written.is_empty() {
            let job = mailing(tenant, written, now)?;
            omt_jobs::enqueue(unit, self.clock.as_ref(), self.entropy.as_ref(), job).await?;
        }
        Ok(())
    }

    /// The actor's messages, newest first, and whether each was read.
    pub async fn list(&self, actor: &Actor, unread: bool, page: Page) -> Result<Vec<(NotificationRecord, bool)>> {
        let read = self.database.read().await?;
        let audience = self.audience(read.as_ref(), actor).await?;
        read.notifications().list(&actor.tenant, &audience, &actor.reach, &actor.subject, unread, page).await
    }

    /// Notes that the actor read a message.
    pub async fn mark_read(&self, actor: &Actor, id: NotificationId) -> Result<()> {
        retry::transaction(self.entropy.as_ref(), async || {
            let unit = self.database.begin().await?;
            let audience = self.audience(unit.as_ref(), actor).await?;
            let found = unit.notifications().get(&actor.tenant, id).await?;
            let missing = || Error::not_found("notification");
            let theirs = found.filter(|record| audience.contains(&record.audience)).ok_or_else(missing)?;
            let about = unit.manifests().get(&actor.tenant, theirs.manifest).await?;
            about.filter(|record| actor.reach.sees(record)).ok_or_else(missing)?;
            unit.notifications().read(id, &actor.subject, self.clock.now()).await?;
            unit.commit().await
        })
        .await
    }

    async fn audience(&self, unit: &dyn UnitOfWork, actor: &Actor) -> Result<BTreeSet<String>> {
        actor.require(Permission::ManifestRead)?;
        Ok(self.people.actor(unit, actor).await?.audience())
    }
}
