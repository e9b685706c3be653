//! The inbox, and what people do with what is in it.

use super::{Step, WorkflowView, Workflows, check_words, who};
use crate::{
    model::{Attachment, Command, Instance, Refusal},
    store,
};
use omt_kernel::{
    Actor, Error, Kind, OffsetDateTime, Permission, Result, TaskId, WorkflowId,
    calendar::is_in_calendar,
    governance::{TaskFilter, TaskRecord},
    manifest::ManifestRecord,
    once::Outcome,
    port::{Page, Person},
    retry,
};
use std::{collections::BTreeSet, sync::Arc};

/// Whose tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inbox {
    /// The caller's own, and those of their roles and groups.
    #[default]
    All,
    /// What the caller has, or was assigned or lent.
    Mine,
    /// What waits for anybody in the caller's roles and groups.
    Groups,
    /// Everything on content that the caller can see.
    Everybody,
}

/// A task, and what it is about.
#[derive(Debug, Clone)]
pub struct TaskView {
    /// It.
    pub task: TaskRecord,
    /// The content's title.
    pub content: String,
    /// Its project.
    pub project: Option<String>,
    /// The state of the workflow.
    pub state: String,
}

/// What somebody decides on a task.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The task.
    pub task: TaskId,
    /// An action of the workflow's state; the task's own when absent.
    pub action: Option<String>,
    /// Words.
    pub comments: Option<String>,
    /// Evidence.
    pub attachments: Vec<Attachment>,
    /// The revision of the workflow that the caller saw.
    pub if_match: Option<i64>,
}

/// A place that is lent.
#[derive(Debug, Clone)]
pub struct Lend {
    /// To whom: a subject or a login name.
    pub to: String,
    /// From then on; at once when absent.
    pub starts: Option<OffsetDateTime>,
    /// Until then.
    pub ends: Option<OffsetDateTime>,
    /// Words.
    pub comments: Option<String>,
}

fn own(person: &Person) -> BTreeSet<String> {
    [person.subject.clone()].into()
}

fn shared(person: &Person) -> BTreeSet<String> {
    person.audience().into_iter().filter(|name| *name != person.subject).collect()
}

impl Workflows {
    /// Tasks on content that the actor can see, newest first; of what is overdue, the most overdue first.
    pub async fn tasks(&self, actor: &Actor, inbox: Inbox, mut filter: TaskFilter, page: Page) -> Result<Vec<TaskView>> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.replica().await?;
        let person = self.deps.people.actor(read.as_ref(), actor).await?;
        filter.reach = Some(actor.reach.clone());
        filter.candidates = match inbox {
            Inbox::All => Some(person.audience()),
            Inbox::Mine => Some(own(&person)),
            Inbox::Groups => Some(shared(&person)),
            Inbox::Everybody => None,
        };
        let tasks = read.tasks().inbox(&actor.tenant, &filter, page).await?;
        let (manifests, workflows): (Vec<_>, Vec<_>) = tasks.iter().map(|task| (task.manifest, task.workflow)).unzip();
        let headings = read.manifests().headings(&actor.tenant, &manifests).await?;
        let states = read.workflows().states(&actor.tenant, &workflows).await?;
        let view = |task: TaskRecord| {
            let (heading, state) = (headings.get(&task.manifest)?.clone(), states.get(&task.workflow)?.clone());
            Some(TaskView { task, content: heading.title, project: heading.project, state })
        };
        Ok(tasks.into_iter().filter_map(view).collect())
    }

    /// The most that a count of tasks says.
    pub const COUNTED: u32 = 1_000;

    /// How many tasks there are: own, shared, and overdue of both; each at most [`Self::COUNTED`].
    pub async fn task_counts(&self, actor: &Actor) -> Result<(u64, u64, u64)> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.replica().await?;
        let person = self.deps.people.actor(read.as_ref(), actor).await?;
        let of = |candidates, due_before| TaskFilter {
            candidates: Some(candidates),
            due_before,
            project: None,
            reach: Some(actor.reach.clone()),
        };
        let now = Some(self.deps.clock.now());
        let mine = read.tasks().count(&actor.tenant, &of(own(&person), None), Self::COUNTED).await?;
        let groups = read.tasks().count(&actor.tenant, &of(shared(&person), None), Self::COUNTED).await?;
        let overdue = read.tasks().count(&actor.tenant, &of(person.audience(), now), Self::COUNTED).await?;
        Ok((mine, groups, overdue))
    }

    /// A task on content that the actor can see, and that content.
    async fn task(&self, actor: &Actor, id: TaskId) -> Result<(TaskRecord, ManifestRecord)> {
        let missing = || Error::not_found("task");
        let read = self.deps.database.read().await?;
        let task = read.tasks().get(&actor.tenant, id).await?.ok_or_else(missing)?;
        let record = read.manifests().get(&actor.tenant, task.manifest).await?;
        let record = record.filter(|record| actor.reach.sees(record)).ok_or_else(missing)?;
        Ok((task, record))
    }

    /// Takes a task for oneself.
    pub async fn claim(&self, actor: &Actor, id: TaskId) -> Result<WorkflowView> {
        self.on_task(actor, id, "claim", |stage| Command::Claim { stage }).await
    }

    /// Gives a task back.
    pub async fn unclaim(&self, actor: &Actor, id: TaskId) -> Result<WorkflowView> {
        self.on_task(actor, id, "unclaim", |stage| Command::Unclaim { stage }).await
    }

    /// Lets another decide in one's place.
    pub async fn lend(&self, actor: &Actor, id: TaskId, lend: Lend) -> Result<WorkflowView> {
        check_words("comments", lend.comments.as_deref())?;
        check_moment("from", lend.starts)?;
        check_moment("until", lend.ends)?;
        let read = self.deps.database.read().await?;
        let found = match lend.to.starts_with("user:") {
            true => self.deps.people.find(read.as_ref(), &actor.tenant, &lend.to).await?,
            false => self.deps.people.by_name(read.as_ref(), &actor.tenant, &lend.to).await?,
        };
        let to = found.ok_or_else(|| Error::unprocessable_field("UNKNOWN_USER", "to", "there is no such active user"))?;
        // Else the task would wait for somebody for whom it does not exist.
        let (_, record) = self.task(actor, id).await?;
        if !to.reach.sees(&record) {
            return Err(Refusal::Delegation("the other does not see this content").into());
        }
        let to = Box::new(who(to));
        let starts = lend.starts.unwrap_or_else(|| self.deps.clock.now());
        let command =
            |stage| Command::Delegate { stage, to: to.clone(), starts, ends: lend.ends, comments: lend.comments.clone() };
        self.on_task(actor, id, "delegate", command).await
    }

    async fn on_task(&self, actor: &Actor, id: TaskId, name: &str, command: impl Fn(String) -> Command) -> Result<WorkflowView> {
        super::takes_part(actor)?;
        let (task, _) = self.task(actor, id).await?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            let bench = self.bench(unit.as_ref(), actor, task.workflow).await?;
            check_visit(&bench.instance, Some(task.visit))?;
            let bench = self.decide(unit.as_ref(), actor, bench, command(task.stage.clone()), name).await?;
            let view = self.view(unit.as_ref(), actor, &bench.definition, &bench.instance).await?;
            unit.commit().await?;
            Ok(view)
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// Decides on a task.
    pub async fn decide_task(self: &Arc<Self>, actor: &Actor, decision: Decision) -> Result<WorkflowView> {
        actor.require(Permission::ManifestRead)?;
        let (task, _) = self.task(actor, decision.task).await?;
        let action = decision.action.unwrap_or_else(|| task.action.clone());
        // The stage is that of the task when it is the task's own action; another action has its own.
        let stage = (action == task.action).then(|| task.stage.clone());
        let step = Step {
            action,
            stage,
            comments: decision.comments,
            attachments: decision.attachments,
            if_match: decision.if_match,
            visit: Some(task.visit),
        };
        match self.step(actor, task.workflow, step, None).await? {
            Outcome::Done(view) => Ok(*view),
            Outcome::Replayed { .. } => Err(Error::internal("a decision without a key was replayed")),
        }
    }

    /// The workflow of a task, for its entity tag.
    pub async fn workflow_of(&self, actor: &Actor, id: TaskId) -> Result<WorkflowId> {
        actor.require(Permission::ManifestRead)?;
        Ok(self.task(actor, id).await?.0.workflow)
    }
}

/// Refuses a moment that nothing which is kept could hold.
fn check_moment(field: &str, at: Option<OffsetDateTime>) -> Result<()> {
    if at.is_none_or(is_in_calendar) {
        return Ok(());
    }
    Err(Error::unprocessable_field("INVALID_FIELD", field, "must lie in the years 0 to 9999, in UTC"))
}

/// Refuses what was meant for an earlier visit of the state.
pub(super) fn check_visit(instance: &Instance, visit: Option<u32>) -> Result<()> {
    if visit.is_none_or(|visit| visit == instance.visit) {
        return Ok(());
    }
    Err(Error::new(Kind::Conflict, "TASK_CLOSED", "the workflow went on; the task is no more"))
}

impl Workflows {
    /// What somebody must be told of, or that must go to others, because it takes long.
    pub(super) async fn alarm(&self, task: &TaskRecord) -> Result<()> {
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            let actor = Actor::system(task.tenant.clone());
            store::lock(unit.as_ref(), task.manifest).await?;
            // Decided meanwhile: the task is gone, or another replica was first.
            let Some(found) = unit.tasks().get(&task.tenant, task.id).await? else { return Ok(()) };
            if (found.next_at, found.lent_at) != (task.next_at, task.lent_at) {
                return Ok(());
            }
            self.ring(unit.as_ref(), &actor, found).await?;
            unit.commit().await
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        definition::shipped,
        engine_tests::{Dice, begin},
    };

    #[test]
    fn moments_are_such_in_utc() {
        use time::format_description::well_known::Rfc3339;
        let at = |text: &str| check_moment("until", Some(OffsetDateTime::parse(text, &Rfc3339).unwrap()));
        check_moment("until", None).unwrap();
        at("9999-12-31T23:59:59Z").unwrap();
        at("9999-12-31T23:59:59+01:00").unwrap();
        for beyond in ["9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59-00:01"] {
            let error = at(beyond).unwrap_err();
            assert_eq!((error.kind, error.code, &*error.fields[0].field), (Kind::Unprocessable, "INVALID_FIELD", "until"));
        }
    }

    #[test]
    fn a_task_of_an_earlier_visit_is_closed() {
        let definition = shipped().unwrap().remove(0);
        let mut instance = begin(&definition, &mut Dice(7), OffsetDateTime::UNIX_EPOCH);
        instance.visit = 4;
        check_visit(&instance, None).unwrap();
        check_visit(&instance, Some(4)).unwrap();
        let error = check_visit(&instance, Some(3)).unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Conflict, "TASK_CLOSED"));
    }
}
