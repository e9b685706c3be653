//! Workflows as people see them: with names, which are looked up now and never kept with the history.

use super::Workflows;
use crate::{
    definition::Definition,
    engine,
    model::{Event, Facts, Instance, Who},
    store::Kept,
};
use omt_kernel::error::Context as _;
use omt_kernel::{Actor, ManifestId, OffsetDateTime, Permission, Result, TaskId, TenantId, WorkflowId, port::UnitOfWork};
use std::collections::BTreeMap;

/// The most of the history that a workflow shows by itself.
const SHOWN: usize = 100;

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
    /// The state before.
    pub from_state: String,
    /// The state after.
    pub to_state: String,
    /// What.
    pub action: String,
    /// Words.
    pub comments: Option<String>,
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
        let mut facts = Facts { fingerprint: instance.fingerprint.clone(), against: Vec::new(), delegators: BTreeMap::new() };
        for delegation in &instance.delegations {
            if let Some(person) = self.deps.people.find(unit, &instance.tenant, &delegation.from).await? {
                facts.delegators.insert(delegation.from.clone(), super::who(person));
            }
        }
        let available = engine::available(definition, instance, who, &facts, self.deps.clock.now());
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
            let Some((action, by, comments)) = told(&event) else { continue };
            // A decision that moved the workflow is one thing to people.
            if matches!(&event, Event::Moved { .. }) && voted.is_some() && out.last().map(|last| last.sequence) == voted {
                out.pop();
            }
            voted = matches!(&event, Event::Voted { .. }).then_some(record.sequence);
            let user_name = match &by {
                Some(subject) => names.of(subject).await?,
                None => None,
            };
            out.push(HistoryItem {
                sequence: record.sequence,
                timestamp: record.at,
                user_id: by,
                user_name,
                from_state: from,
                to_state: to,
                action,
                comments,
            });
        }
        Ok(out)
    }
}

/// An event as a line of history: what, who, words. None for what is only the beginning of another.
fn told(event: &Event) -> Option<(String, Option<String>, Option<String>)> {
    let line = |action: &str, by: &str, comments: Option<String>| Some((action.to_owned(), Some(by.to_owned()), comments));
    match event {
        Event::Started { instance } => line("start", &instance.created_by, None),
        Event::Voted { vote, .. } => line(&vote.action, &vote.by, vote.comments.clone()),
        Event::Moved { action, by, comments, .. } => line(action, by, comments.clone()),
        Event::Began { .. } => None,
        Event::Failed { action, code, reason } => Some((format!("{action}_failed"), None, Some(format!("{code}: {reason}")))),
        Event::Changed { by, .. } => line("content_changed", by, None),
        Event::Claimed { by, stage } => line("claim", by, Some(stage.clone())),
        Event::Unclaimed { by, stage } => line("unclaim", by, Some(stage.clone())),
        Event::Delegated { delegation, comments } => line("delegate", &delegation.from, comments.clone()),
        Event::Escalated { stage, role } => Some(("escalate".to_owned(), None, Some(format!("{stage} to {role}")))),
        Event::Commented { by, comments, .. } => line("comment", by, Some(comments.clone())),
        Event::Ended { by, reason } => line("cancel", by, Some(reason.clone())),
        Event::PoliciesSet { by, policies } => {
            line("set_policies", by, Some(policies.iter().cloned().collect::<Vec<_>>().join(", ")))
        }
        Event::Migrated { by, version, .. } => line("migrate", by, Some(format!("version {version}"))),
    }
}
