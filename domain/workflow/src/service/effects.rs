//! What a transition does besides: signing, archiving. It was decided in one transaction and is done after it, at least once; the
//! new state is reached in the transaction that signs, so it is reached exactly once and never without the signature.

use super::Workflows;
use crate::{
    definition::Effect,
    engine,
    model::{Event, Instance},
    store,
};
use async_trait::async_trait;
use omt_claims::{governance::Alongside, service::SignRequest};
use omt_crypto::SignatureScheme;
use omt_jobs::NewJob;
use omt_kernel::{
    Actor, Error, Kind, OffsetDateTime, Result, TenantId, WorkflowId,
    manifest::{ManifestRecord, ManifestState},
    port::UnitOfWork,
    retry,
};
use serde::{Deserialize, Serialize};
use time::Duration;

/// The kind of jobs that finish what a decision began.
pub const EFFECTS: &str = "workflow_effects";

/// What such a job needs to know.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct EffectsOrder {
    /// The workflow.
    pub workflow: WorkflowId,
}

/// The job that does it should the process that decided not live to do it.
pub(super) fn job(instance: &Instance, now: OffsetDateTime) -> NewJob {
    NewJob {
        tenant: Some(instance.tenant.clone()),
        kind: EFFECTS,
        payload: serde_json::json!({ "workflow": instance.id }),
        unique_key: Some(format!("{EFFECTS}:{}:{}", instance.id, instance.revision)),
        priority: 10,
        run_at: now + Duration::seconds(5),
        max_attempts: 8,
    }
}

/// Whether doing it again may help.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind, Kind::Unavailable | Kind::Internal | Kind::TooMany) || error.code == "CONCURRENT_CHANGE"
}

/// The move to the new state, written in the transaction that signs.
struct Finish<'a> {
    workflows: &'a Workflows,
    tenant: &'a TenantId,
    id: WorkflowId,
    revision: i64,
}

#[async_trait]
impl Alongside for Finish<'_> {
    async fn write(&self, unit: &dyn UnitOfWork, signed: &ManifestRecord) -> Result<()> {
        self.workflows.finish(unit, self.tenant, self.id, self.revision, signed).await
    }
}

impl Workflows {
    /// Finishes what a decision began; nothing when there is nothing (any more). What cannot be had is written down, and the workflow
    /// stays where it was; that error is given back.
    pub async fn complete(self: &std::sync::Arc<Self>, tenant: &TenantId, id: WorkflowId) -> Result<()> {
        let read = self.deps.database.read().await?;
        let Some(workflow) = read.workflows().get(tenant, id).await? else { return Ok(()) };
        let instance = store::instance(&workflow)?;
        let definition = self.definition(read.as_ref(), &instance).await?;
        let Some(pending) = &instance.pending else { return Ok(()) };
        let effects = definition.transition(&instance.state, &pending.action).map(|t| t.effects.clone()).unwrap_or_default();
        let signs = effects.contains(&Effect::Sign);
        let done = if signs { self.sign(&instance).await } else { self.archive(&instance, &effects).await };
        let Err(error) = done else { return Ok(()) };
        // Another process may have done it at the same time.
        let now = self.deps.database.read().await?.workflows().get(tenant, id).await?;
        if now.is_some_and(|now| now.revision != workflow.revision) {
            return Ok(());
        }
        if is_passing(&error) {
            return Err(error);
        }
        self.give_up(&instance, &error).await?;
        Err(error)
    }

    async fn sign(self: &std::sync::Arc<Self>, instance: &Instance) -> Result<()> {
        let actor = self.on_behalf(self.deps.database.read().await?.as_ref(), instance).await?;
        let finish = Finish { workflows: self, tenant: &instance.tenant, id: instance.id, revision: instance.revision };
        let record = self.deps.manifests.get(&actor, instance.manifest).await?;
        if record.state == ManifestState::Signed {
            // Somebody signed it when it was approved; there is only the move left.
            let attempt = async || {
                let unit = self.deps.database.begin().await?;
                finish.write(unit.as_ref(), &record).await?;
                unit.commit().await
            };
            return retry::transaction(self.deps.entropy.as_ref(), attempt).await;
        }
        let request = SignRequest { scheme: SignatureScheme::DEFAULT, if_match: None };
        self.deps.manifests.sign_alongside(&actor, instance.manifest, request, None, Some(&finish)).await.map(drop)
    }

    async fn archive(&self, instance: &Instance, effects: &[Effect]) -> Result<()> {
        let actor = self.on_behalf(self.deps.database.read().await?.as_ref(), instance).await?;
        if effects.contains(&Effect::Archive) {
            self.deps.manifests.archive(&actor, instance.manifest, None).await?;
        }
        let record = self.deps.manifests.get(&actor, instance.manifest).await?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            self.finish(unit.as_ref(), &instance.tenant, instance.id, instance.revision, &record).await?;
            unit.commit().await
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// Moves a workflow whose effects were had, unless that was done already.
    async fn finish(
        &self,
        unit: &dyn UnitOfWork,
        tenant: &TenantId,
        id: WorkflowId,
        revision: i64,
        record: &ManifestRecord,
    ) -> Result<()> {
        store::lock(unit, record.id).await?;
        let workflow = unit.workflows().get(tenant, id).await?.ok_or_else(|| Error::not_found("workflow"))?;
        let instance = store::instance(&workflow)?;
        let gone = || Error::new(Kind::Conflict, "CONCURRENT_CHANGE", "the workflow went on in another way");
        if instance.revision != revision {
            return Err(gone());
        }
        let definition = self.definition(unit, &instance).await?;
        let event = engine::finished(&definition, &instance).ok_or_else(gone)?;
        let actor = self.on_behalf(unit, &instance).await?;
        let action = instance.pending.as_ref().map_or_else(String::new, |pending| pending.action.clone());
        let settings = omt_kernel::tenant::settings(unit, tenant).await?;
        let bench = super::Bench { record: record.clone(), settings, definition, instance };
        self.write(unit, &actor, bench, vec![event], (action.as_str(), ".done")).await.map(drop)
    }

    /// Writes down that effects could not be had.
    async fn give_up(&self, instance: &Instance, error: &Error) -> Result<()> {
        let action = instance.pending.as_ref().map_or_else(String::new, |pending| pending.action.clone());
        let event = Event::Failed { action: action.clone(), code: error.code.to_owned(), reason: error.message.clone() };
        let actor = self.on_behalf(self.deps.database.read().await?.as_ref(), instance).await?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            let bench = self.bench(unit.as_ref(), &actor, instance.id).await?;
            if bench.instance.revision == instance.revision {
                self.write(unit.as_ref(), &actor, bench, vec![event.clone()], (action.as_str(), ".failed")).await?;
                unit.commit().await?;
            }
            Ok(())
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// Gives up on a workflow's effects because no attempt is left.
    pub async fn abandon(&self, tenant: &TenantId, id: WorkflowId, error: &Error) -> Result<()> {
        let Some(workflow) = self.deps.database.read().await?.workflows().get(tenant, id).await? else { return Ok(()) };
        let instance = store::instance(&workflow)?;
        if instance.pending.is_some() { self.give_up(&instance, error).await } else { Ok(()) }
    }

    /// Acts as whoever decided: that they might was settled when they did.
    async fn on_behalf(&self, unit: &dyn UnitOfWork, instance: &Instance) -> Result<Actor> {
        let mut actor = Actor::system(instance.tenant.clone());
        if let Some(pending) = &instance.pending {
            let name = unit.audit().person(&instance.tenant, &pending.by).await?;
            actor.subject.clone_from(&pending.by);
            actor.name = name.map_or_else(|| "erased".to_owned(), |person| person.name);
        }
        Ok(actor)
    }
}
