//! Workflows as people see them: with names, which are looked up now and never kept with the history.

use super::Workflows;
use crate::{
    definition::Definition,
    engine,
    model::{Attachment, Event, Instance, Who},
    store::Kept,
};
use omt_kernel::error::Context as _;
use omt_kernel::{Actor, ManifestId, OffsetDateTime, Permission, Result, TaskId, TenantId, WorkflowId, port::UnitOfWork};
use std::collections::BTreeMap;

/// The most of the history that a workflow shows by itself.
const SHOWN: usize = 100;
/// What the history calls an action whose effects could not be had ends so.
const FAILED: &str = "_failed";

/// A workflow.
#[derive(Debug, Clone)]
pub struct WorkflowView {
    /// Identifier.
    pub id: WorkflowId,
    /// The manifest that it decides on.
    pub manifest: ManifestId,
    /// Its definition.
    pub definition: String,
    /// The definition's version.
    pub version: u32,
    /// Where it stands.
    pub state: String,
    /// That in words.
    pub state_title: String,
    /// The subject that began it.
    pub created_by: String,
    /// Creation.
    pub created_at: OffsetDateTime,
    /// Last event.
    pub updated_at: OffsetDateTime,
    /// Rises with each event.
    pub revision: i64,
    /// What the caller could do now.
    pub available_actions: Vec<String>,
    /// A transition whose effects are under way.
    pub pending_action: Option<String>,
    /// Compliance policies that it must pass.
    pub policies: Vec<String>,
    /// What waits for somebody.
    pub tasks: Vec<TaskSummary>,
    /// Decisions on the present content.
    pub approval_chain: Vec<Vote>,
    /// What happened, oldest first; the last hundred.
    pub history: Vec<HistoryItem>,
}

impl WorkflowView {
    /// Why the effects of the last decision could not be had, as a code and in words, where nothing happened since.
    pub fn failure(&self) -> Option<(String, String)> {
        let last = self.history.last().filter(|line| line.user_id.is_none() && line.action.ends_with(FAILED))?;
        let (code, words) = last.comments.as_deref()?.split_once(": ")?;
        Some((code.to_owned(), words.to_owned()))
    }
}

/// A task of a workflow.
#[derive(Debug, Clone)]
pub struct TaskSummary {
    /// Identifier.
    pub id: TaskId,
    /// Stage.
    pub stage: String,
    /// Words.
    pub title: String,
    /// The role that decides.
    pub role: String,
    /// How many must agree.
    pub needed: u32,
    /// How many have decided.
    pub decided: u32,
    /// Who has it.
    pub claimed_by: Option<String>,
    /// When it is due.
    pub due_at: Option<OffsetDateTime>,
}

/// A decision.
#[derive(Debug, Clone)]
pub struct Vote {
    /// The role in which it was made.
    pub role: String,
    /// Who.
    pub user_id: String,
    /// Their name, if they are known.
    pub user_name: Option<String>,
    /// In whose place.
    pub on_behalf_of: Option<String>,
    /// When.
    pub at: OffsetDateTime,
    /// What.
    pub action: String,
    /// Words.
    pub comments: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct HistoryItem {
    /// Its number.
    pub sequence: i64,
    /// When.
    pub timestamp: OffsetDateTime,
    /// Who; none for the platform itself.
    pub user_id: Option<String>,
    /// Their name, if they are known.
    pub user_name: Option<String>,
    /// In whose place.
    pub on_behalf_of: Option<String>,
    /// The state before.
    pub from_state: String,
    /// The state after.
    pub to_state: String,
    /// What.
    pub action: String,
    /// Words.
    pub comments: Option<String>,
    /// Evidence.
    pub attachments: Vec<Attachment>,
}

/// Names of subjects, each looked up once.
struct Names<'a> {
    unit: &'a dyn UnitOfWork,
    tenant: &'a TenantId,
    known: BTreeMap<String, Option<String>>,
}

impl Names<'_> {
    async fn of(&mut self, subject: &str) -> Result<Option<String>> {
        if let Some(known) = self.known.get(subject) {
            return Ok(known.clone());
        }
        let name = self.unit.audit().person(self.tenant, subject).await?.map(|person| person.name);
        self.known.insert(subject.to_owned(), name.clone());
        Ok(name)
    }
}

impl Workflows {
    /// A workflow with its history.
    pub(super) async fn view(
        &self,
        unit: &dyn UnitOfWork,
        actor: &Actor,
        definition: &Definition,
        instance: &Instance,
    ) -> Result<WorkflowView> {
        let who = self.who(unit, actor).await?;
        let mut view = self.brief(unit, &who, definition, instance).await?;
        let after = (instance.revision - SHOWN as i64).max(0);
        view.history = self.history_after(unit, instance, after, SHOWN as u32).await?;
        let mut names = Names { unit, tenant: &instance.tenant, known: BTreeMap::new() };
        for vote in &instance.chain {
            view.approval_chain.push(Vote {
                role: vote.role.clone(),
                user_id: vote.by.clone(),
                user_name: names.of(&vote.by).await?,
                on_behalf_of: vote.for_.clone(),
                at: vote.at,
                action: vote.action.clone(),
                comments: vote.comments.clone(),
            });
        }
        for task in unit.tasks().of_workflow(&instance.tenant, instance.id).await? {
            view.tasks.push(TaskSummary {
                id: task.id,
                stage: task.stage,
                title: task.title,
                role: task.role,
                needed: task.needed,
                decided: task.decided,
                claimed_by: task.claimed_by,
                due_at: task.due_at,
            });
        }
        Ok(view)
    }

    /// A workflow without its history.
    pub(super) async fn brief(
        &self,
        unit: &dyn UnitOfWork,
        who: &Who,
        definition: &Definition,
        instance: &Instance,
    ) -> Result<WorkflowView> {
        let now = self.deps.clock.now();
        // What is offered is what a decision would find: nobody waits for a deputy whose time is over.
        let facts = self.facts_shown(unit, instance).await?;
        let mut then = instance.clone();
        for event in self.lapsed(unit, definition, instance, &facts).await? {
            engine::apply(&mut then, &event, now);
        }
        let available = engine::available(definition, &then, who, &facts, now);
        let title = definition.states.get(&instance.state).map_or_else(|| instance.state.clone(), |state| state.title.clone());
        Ok(WorkflowView {
            id: instance.id,
            manifest: instance.manifest,
            definition: instance.definition.clone(),
            version: instance.version,
            state: instance.state.clone(),
            state_title: title,
            created_by: instance.created_by.clone(),
            created_at: instance.created_at,
            updated_at: instance.updated_at,
            revision: instance.revision,
            available_actions: available.into_iter().collect(),
            pending_action: instance.pending.as_ref().map(|pending| pending.action.clone()),
            policies: instance.policies.iter().cloned().collect(),
            tasks: Vec::new(),
            approval_chain: Vec::new(),
            history: Vec::new(),
        })
    }

    /// What happened to a workflow after an event, oldest first.
    pub async fn history(&self, actor: &Actor, id: WorkflowId, after: i64, limit: u32) -> Result<Vec<HistoryItem>> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.read().await?;
        let (_, instance) = self.visible(read.as_ref(), actor, id).await?;
        self.history_after(read.as_ref(), &instance, after, limit).await
    }

    async fn history_after(
        &self,
        unit: &dyn UnitOfWork,
        instance: &Instance,
        after: i64,
        limit: u32,
    ) -> Result<Vec<HistoryItem>> {
        let records = unit.workflows().events(&instance.tenant, instance.id, after, limit).await?;
        let mut names = Names { unit, tenant: &instance.tenant, known: BTreeMap::new() };
        let mut out: Vec<HistoryItem> = Vec::new();
        // The line of a decision that has not moved anything yet.
        let mut voted: Option<i64> = None;
        for record in records {
            let Kept { from, to, event } = serde_json::from_value(record.data).context("an event cannot be read")?;
            let Some(mut line) = told(&event) else { continue };
            // A decision that moved the workflow is one thing to people: what was decided with, and for whom, stays with it.
            if matches!(&event, Event::Moved { .. })
                && voted.is_some()
                && let Some(decision) = out.pop_if(|last| Some(last.sequence) == voted)
            {
                (line.on_behalf_of, line.attachments) = (decision.on_behalf_of, decision.attachments);
            }
            voted = matches!(&event, Event::Voted { .. }).then_some(record.sequence);
            let user_name = match &line.by {
                Some(subject) => names.of(subject).await?,
                None => None,
            };
            out.push(HistoryItem {
                sequence: record.sequence,
                timestamp: record.at,
                user_id: line.by,
                user_name,
                on_behalf_of: line.on_behalf_of,
                from_state: from,
                to_state: to,
                action: line.action,
                comments: line.comments,
                attachments: line.attachments,
            });
        }
        Ok(out)
    }
}

/// A line of history.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    action: String,
    by: Option<String>,
    on_behalf_of: Option<String>,
    comments: Option<String>,
    attachments: Vec<Attachment>,
}

/// An event as a line of history. None for what is only the beginning of another.
fn told(event: &Event) -> Option<Line> {
    let by = |action: &str, by: &str, comments: Option<String>| Line {
        action: action.to_owned(),
        by: Some(by.to_owned()),
        comments,
        ..Line::default()
    };
    let itself = |action: String, words: String| Line { action, comments: Some(words), ..Line::default() };
    Some(match event {
        Event::Started { instance } => by("start", &instance.created_by, None),
        Event::Voted { vote, attachments, .. } => Line {
            on_behalf_of: vote.for_.clone(),
            attachments: attachments.clone(),
            ..by(&vote.action, &vote.by, vote.comments.clone())
        },
        Event::Moved { action, by: who, comments, .. } => by(action, who, comments.clone()),
        Event::Began { .. } => return None,
        Event::Failed { action, code, reason } => itself(format!("{action}{FAILED}"), format!("{code}: {reason}")),
        Event::Changed { by: who, .. } => by("content_changed", who, None),
        Event::Claimed { by: who, stage } => by("claim", who, Some(stage.clone())),
        // The platform gives back what a deputy keeps after their time.
        Event::Unclaimed { by: who, stage } if who == "system" => itself("unclaim".to_owned(), stage.clone()),
        Event::Unclaimed { by: who, stage } => by("unclaim", who, Some(stage.clone())),
        Event::Delegated { delegation, comments } => by("delegate", &delegation.from, comments.clone()),
        Event::Escalated { stage, role } => itself("escalate".to_owned(), format!("{stage} to {role}")),
        Event::Commented { by: who, comments, attachments } => {
            Line { attachments: attachments.clone(), ..by("comment", who, Some(comments.clone())) }
        }
        Event::Ended { by: who, reason } => by("cancel", who, Some(reason.clone())),
        Event::PoliciesSet { by: who, policies } => {
            by("set_policies", who, Some(policies.iter().cloned().collect::<Vec<_>>().join(", ")))
        }
        Event::Migrated { by: who, version, .. } => by("migrate", who, Some(format!("version {version}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;

    #[test]
    fn a_failure_is_shown_until_something_else_happens() {
        let failed = Event::Failed { action: "publish".into(), code: "NOT_A_DRAFT".into(), reason: "it is signed: so".into() };
        let said = Event::Commented { by: "user:3".into(), comments: "A: b".into(), attachments: vec![] };
        let shown = |events: &[&Event]| {
            let item = |event: &&Event| {
                let line = told(event).unwrap();
                HistoryItem {
                    sequence: 1,
                    timestamp: OffsetDateTime::UNIX_EPOCH,
                    user_id: line.by,
                    user_name: None,
                    on_behalf_of: None,
                    from_state: String::new(),
                    to_state: String::new(),
                    action: line.action,
                    comments: line.comments,
                    attachments: vec![],
                }
            };
            WorkflowView {
                id: WorkflowId(uuid::Uuid::nil()),
                manifest: ManifestId(uuid::Uuid::nil()),
                definition: String::new(),
                version: 1,
                state: String::new(),
                state_title: String::new(),
                created_by: String::new(),
                created_at: OffsetDateTime::UNIX_EPOCH,
                updated_at: OffsetDateTime::UNIX_EPOCH,
                revision: 1,
                available_actions: vec![],
                pending_action: None,
                policies: vec![],
                tasks: vec![],
                approval_chain: vec![],
                history: events.iter().map(item).collect(),
            }
            .failure()
        };
        assert_eq!(shown(&[&said, &failed]), Some(("NOT_A_DRAFT".to_owned(), "it is signed: so".to_owned())));
        assert_eq!((shown(&[&failed, &said]), shown(&[])), (None, None));
    }

    #[test]
    fn a_line_carries_the_evidence_and_the_place() {
        let file = Attachment { name: "opinion.pdf".into(), sha256: "ab".repeat(32) };
        let vote = model::Vote {
            stage: "approval".into(),
            action: "approve".into(),
            by: "user:2".into(),
            for_: Some("user:1".into()),
            role: "approver".into(),
            at: OffsetDateTime::UNIX_EPOCH,
            comments: Some("fine".into()),
        };
        let line = told(&Event::Voted { vote, attachments: vec![file.clone()], decides: true }).unwrap();
        let expected = Line {
            action: "approve".into(),
            by: Some("user:2".into()),
            on_behalf_of: Some("user:1".into()),
            comments: Some("fine".into()),
            attachments: vec![file.clone()],
        };
        assert_eq!(line, expected);
        let said = Event::Commented { by: "user:3".into(), comments: "see there".into(), attachments: vec![file.clone()] };
        let line = told(&said).unwrap();
        assert_eq!((line.attachments, line.on_behalf_of), (vec![file], None));
    }
}
