//! What a step tells others: people whom something waits for, the author, and whomever the definition names.

use super::Workflows;
use crate::{
    definition::{Definition, Effect, Transition},
    model::{Delegation, Event, Instance},
    store::Tasks,
    tell::Teller,
};
use omt_kernel::{Actor, Result, manifest::ManifestRecord, port::UnitOfWork};
use omt_notify::Notice;
use serde_json::json;

impl Workflows {
    /// Has the effects of a transition that was taken which say that it was.
    pub(super) async fn announce(
        &self,
        unit: &dyn UnitOfWork,
        actor: &Actor,
        record: &ManifestRecord,
        instance: &Instance,
        transition: &Transition,
    ) -> Result<()> {
        for effect in &transition.effects {
            match effect {
                Effect::Sign | Effect::Archive => {}
                Effect::IssueBadge => drop(self.deps.badges.issue_within(unit, actor, record).await?),
                Effect::Notify(to) => {
                    let data = json!({
                        "workflow_id": instance.id, "manifest_id": record.id, "action": transition.action,
                        "from": transition.from, "to": transition.to, "content": record.title,
                    });
                    let audience = to.iter().map(|name| addressee(name)).collect();
                    let notice = Notice { audience, kind: "workflow.moved", data, manifest: record.id };
                    self.deps.notices.tell(unit, &instance.tenant, notice).await?;
                }
                Effect::Webhook(name) => {
                    let entry = omt_audit::Event::new("workflow.effect", "workflow", instance.id).tell("workflow.effect", record);
                    let detail =
                        json!({ "name": name, "from": transition.from, "to": transition.to, "revision": instance.revision });
                    self.deps.audit.append(unit, actor, entry.detail(detail)).await?;
                }
            }
        }
        Ok(())
    }

    /// Tells people what waits for them, and the author how it goes.
    pub(super) async fn tell(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        instance: &Instance,
        from: &str,
        news: &News,
        tasks: &Tasks,
    ) -> Result<()> {
        let teller = Teller { notices: &self.deps.notices, unit, record, instance };
        teller.all_opened(&tasks.new).await?;
        if news.over {
            teller.cancelled(&tasks.gone).await?;
        }
        teller.begun(tasks, news.lent.as_ref()).await?;
        if from != instance.state { teller.moved(from).await } else { Ok(()) }
    }
}

/// What people are told of besides tasks and states.
pub(super) struct News {
    /// The workflow ended before its end.
    over: bool,
    /// A place was lent.
    lent: Option<Delegation>,
}

impl News {
    /// What is new by these events.
    pub(super) fn of(events: &[Event]) -> Self {
        let lent = |event: &Event| match event {
            Event::Delegated { delegation, .. } => Some(delegation.clone()),
            _ => None,
        };
        let over = events.iter().any(|event| matches!(event, Event::Ended { .. }));
        Self { over, lent: events.iter().find_map(lent) }
    }
}

/// The transition that was taken, if these events are of one.
pub(super) fn taken(definition: &Definition, events: &[Event]) -> Option<Transition> {
    let step = |event: &Event| match event {
        Event::Moved { from, action, .. } => definition.transition(from, action).cloned(),
        _ => None,
    };
    events.iter().find_map(step)
}

/// Groups are compared in lower case.
fn addressee(name: &str) -> String {
    if name.starts_with("group:") { name.to_lowercase() } else { name.to_owned() }
}
