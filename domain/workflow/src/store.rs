//! Keeping workflows: definitions by version, instances, their events, and the tasks that follow from them.

use crate::{
    calendar::Calendar,
    definition::{Definition, Due, shipped},
    engine::{self, Waiting},
    gate,
    model::{Event, Instance},
};
use omt_kernel::{
    Error, Kind, ManifestId, OffsetDateTime, Result, TaskId, TenantId,
    access::RoleRecord,
    document::{DocumentKind, VersionRecord},
    error::Context as _,
    governance::{TaskRecord, WorkflowEventRecord, WorkflowRecord},
    port::{Clock, Entropy, UnitOfWork},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use time::Duration;

/// Definitions: those that every tenant has, and each tenant's own.
pub struct Definitions {
    shipped: Vec<Arc<Definition>>,
}

/// A version of a definition.
#[derive(Debug, Clone)]
pub struct Version {
    /// What it says.
    pub definition: Arc<Definition>,
    /// Its number, from 1.
    pub version: u32,
    /// The record; none for what every tenant has.
    pub record: Option<VersionRecord>,
}

impl Definitions {
    /// Reads what is shipped, and refuses what could not work with the roles that every tenant has: such a build is not started.
    pub fn new(roles: &[RoleRecord]) -> Result<Self> {
        let shipped = shipped()?;
        for definition in &shipped {
            definition.validate(roles).map_err(|error| {
                let faults: Vec<String> = error.fields.iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect();
                Error::internal(format!("the shipped workflow {} cannot work: {}", definition.name, faults.join("; ")))
            })?;
        }
        Ok(Self { shipped: shipped.into_iter().map(Arc::new).collect() })
    }

    /// A version of a definition, the newest when none is named; 404 when there is none.
    pub async fn find(&self, unit: &dyn UnitOfWork, tenant: &TenantId, name: &str, version: Option<u32>) -> Result<Version> {
        // What is shipped under a name is its version 1 everywhere.
        let shipped = self.shipped.iter().find(|definition| definition.name == name);
        if (version != Some(1) || shipped.is_none())
            && let Some(record) = unit.documents().get(DocumentKind::WorkflowDefinition, tenant, name, version).await?
        {
            return version_of(record);
        }
        match shipped {
            Some(definition) if version.is_none_or(|version| version == 1) => {
                Ok(Version { definition: definition.clone(), version: 1, record: None })
            }
            _ => Err(Error::new(Kind::NotFound, "UNKNOWN_DEFINITION", format!("there is no workflow definition {name:?}"))),
        }
    }

    /// What a version says.
    pub async fn get(
        &self,
        unit: &dyn UnitOfWork,
        tenant: &TenantId,
        name: &str,
        version: Option<u32>,
    ) -> Result<Arc<Definition>> {
        self.find(unit, tenant, name, version).await.map(|found| found.definition)
    }

    /// The newest version of each.
    pub async fn list(&self, unit: &dyn UnitOfWork, tenant: &TenantId) -> Result<Vec<Version>> {
        let mut out = Vec::new();
        for record in unit.documents().list(DocumentKind::WorkflowDefinition, tenant).await? {
            out.push(version_of(record)?);
        }
        for definition in &self.shipped {
            if !out.iter().any(|version| version.definition.name == definition.name) {
                out.push(Version { definition: definition.clone(), version: 1, record: None });
            }
        }
        out.sort_by(|a, b| a.definition.name.cmp(&b.definition.name));
        Ok(out)
    }
}

/// A version as it was kept.
fn version_of(record: VersionRecord) -> Result<Version> {
    let definition: Definition = serde_json::from_value(record.data.clone()).context("a workflow definition cannot be read")?;
    Ok(Version { definition: Arc::new(definition.publishing_signs()), version: record.version, record: Some(record) })
}

/// An event as it is kept: with where it led, so that a part of a history can be read by itself.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) event: Event,
}

/// What writing needs.
pub(crate) struct Tools<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) entropy: &'a dyn Entropy,
}

/// Waits until nobody else decides on this manifest, until the transaction ends.
pub(crate) async fn lock(unit: &dyn UnitOfWork, manifest: ManifestId) -> Result<()> {
    unit.lock(&format!("workflow:{manifest}")).await
}

/// What a record holds.
pub(crate) fn instance(record: &WorkflowRecord) -> Result<Instance> {
    serde_json::from_value(record.data.clone()).context("a workflow cannot be read")
}

/// What became of a workflow's tasks.
#[derive(Default)]
pub(crate) struct Tasks {
    /// Those that were not there before.
    pub(crate) new: Vec<TaskRecord>,
    /// Those that were, as they are now.
    pub(crate) kept: Vec<TaskRecord>,
    /// Those that are no more, as they were.
    pub(crate) gone: Vec<TaskRecord>,
    /// By kept task, those to whom a place in it was lent from a moment on that came since it was looked at last.
    pub(crate) begun: BTreeMap<TaskId, BTreeSet<String>>,
}

/// Adds events to a workflow, with the tasks that follow; the caller holds the lock. Gives the instance after them, and what became
/// of its tasks.
pub(crate) async fn append(
    unit: &dyn UnitOfWork,
    tools: &Tools<'_>,
    definition: &Definition,
    mut instance: Instance,
    events: Vec<Event>,
) -> Result<(Instance, Tasks)> {
    let (now, before) = (tools.clock.now(), instance.revision);
    let mut records = Vec::new();
    for event in &events {
        // Of what begins, there is nothing before.
        let from = if before == 0 && records.is_empty() { String::new() } else { instance.state.clone() };
        engine::apply(&mut instance, event, now);
        let kept = Kept { from, to: instance.state.clone(), event: event.clone() };
        records.push(WorkflowEventRecord {
            workflow: instance.id,
            sequence: instance.revision,
            tenant: instance.tenant.clone(),
            at: now,
            data: serde_json::to_value(&kept).context("an event cannot be written")?,
        });
    }
    let record = gate::record(definition, &instance)?;
    if before == 0 {
        unit.workflows().insert(&record).await?;
    } else if !unit.workflows().update(&record, before).await? {
        return Err(Error::new(Kind::Conflict, "CONCURRENT_CHANGE", "somebody else changed the workflow at the same time"));
    }
    unit.workflows().add_events(&records).await?;
    let tasks = sync_tasks(unit, tools, definition, &instance).await?;
    Ok((instance, tasks))
}

/// Makes the tasks what the instance says now; the caller holds the lock.
pub(crate) async fn sync_tasks(
    unit: &dyn UnitOfWork,
    tools: &Tools<'_>,
    definition: &Definition,
    instance: &Instance,
) -> Result<Tasks> {
    let old = unit.tasks().of_workflow(&instance.tenant, instance.id).await?;
    let wanted: Vec<Waiting> =
        engine::waiting(definition, instance).into_iter().filter(|waiting| waiting.stage.task.is_some()).collect();
    let same = |task: &TaskRecord, waiting: &Waiting| task.visit == instance.visit && task.stage == waiting.stage.name;
    let (now, mut out) = (tools.clock.now(), Tasks::default());
    for task in &old {
        if !wanted.iter().any(|waiting| same(task, waiting)) {
            unit.tasks().remove(&instance.tenant, task.id).await?;
            out.gone.push(task.clone());
        }
    }
    for waiting in &wanted {
        let found = old.iter().find(|task| same(task, waiting));
        let task = task(tools, definition, instance, waiting, found, now);
        if found != Some(&task) {
            unit.tasks().put(&task).await?;
        }
        let Some(found) = found else {
            out.new.push(task);
            continue;
        };
        // From here on nobody else looks at that moment again.
        let theirs = begun(instance, found, &task, now);
        if !theirs.is_empty() {
            out.begun.insert(task.id, theirs);
        }
        out.kept.push(task);
    }
    Ok(out)
}

fn task(
    tools: &Tools<'_>,
    definition: &Definition,
    instance: &Instance,
    waiting: &Waiting,
    old: Option<&TaskRecord>,
    now: OffsetDateTime,
) -> TaskRecord {
    let stage = &waiting.stage;
    let due = stage.due.as_ref();
    let due_at = old.map_or_else(|| due.map(|due| after(definition.calendar.as_ref(), now, due.hours)), |task| task.due_at);
    let next_at = match old {
        Some(task) => task.next_at,
        None => due.and_then(|due| first_alarm(definition.calendar.as_ref(), now, due)),
    };
    let done_by = instance.votes.iter().flat_map(|vote| std::iter::once(&vote.by).chain(&vote.for_)).cloned().collect();
    TaskRecord {
        id: old.map_or_else(|| TaskId(tools.entropy.uuid_v7(now)), |task| task.id),
        tenant: instance.tenant.clone(),
        workflow: instance.id,
        manifest: instance.manifest,
        visit: instance.visit,
        action: waiting.action.clone(),
        stage: stage.name.clone(),
        title: stage.task.clone().unwrap_or_default(),
        role: stage.role.clone(),
        candidates: candidates(instance, waiting, now),
        done_by,
        decided: u32::try_from(waiting.votes).unwrap_or(u32::MAX),
        needed: u32::try_from(waiting.needed).unwrap_or(u32::MAX),
        claimed_by: instance.claims.get(&stage.name).cloned(),
        due_at,
        next_at,
        lent_at: lent_at(instance, &stage.name, now),
        created_at: old.map_or(now, |task| task.created_at),
    }
}

/// Whom a stage waits for now.
fn candidates(instance: &Instance, waiting: &Waiting, now: OffsetDateTime) -> BTreeSet<String> {
    let stage = &waiting.stage;
    if let Some(holder) = instance.claims.get(&stage.name) {
        return [holder.clone()].into();
    }
    let mut out: BTreeSet<String> = match instance.assignees.get(&stage.name) {
        Some(assigned) => assigned.clone(),
        None if stage.groups.is_empty() => [format!("role:{}", stage.role)].into(),
        None => stage.groups.iter().map(|group| format!("group:{}", group.to_lowercase())).collect(),
    };
    out.extend(instance.escalated.get(&stage.name).into_iter().flatten().map(|role| format!("role:{role}")));
    out.extend(instance.delegations.iter().filter(|d| d.stage == stage.name && d.is_on(now)).map(|d| d.to.clone()));
    out
}

/// When a place in a stage is lent or given back next: whom it waits for is looked at again then.
fn lent_at(instance: &Instance, stage: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let delegations = instance.delegations.iter().filter(|d| d.stage == stage);
    delegations.flat_map(|d| std::iter::once(d.starts).chain(d.ends)).filter(|at| *at > now).min()
}

/// Those for whom a task that was there waits since their time began.
fn begun(instance: &Instance, old: &TaskRecord, task: &TaskRecord, now: OffsetDateTime) -> BTreeSet<String> {
    let Some(since) = old.lent_at.filter(|at| *at <= now) else { return BTreeSet::new() };
    &lent_since(instance, &task.stage, since, now) & &task.candidates
}

/// Those to whom a place in a stage was lent from a moment on, and still is.
fn lent_since(instance: &Instance, stage: &str, since: OffsetDateTime, now: OffsetDateTime) -> BTreeSet<String> {
    let begun = instance.delegations.iter().filter(|d| d.stage == stage && d.starts >= since && d.is_on(now));
    begun.map(|d| d.to.clone()).collect()
}

/// So many working hours later.
fn after(calendar: Option<&Calendar>, start: OffsetDateTime, hours: u32) -> OffsetDateTime {
    let work = Duration::hours(i64::from(hours));
    calendar.map_or(start + work, |calendar| calendar.after(start, work))
}

/// When something must be done about a task first: a reminder, or its end.
fn first_alarm(calendar: Option<&Calendar>, start: OffsetDateTime, due: &Due) -> Option<OffsetDateTime> {
    match due.remind_before_hours {
        Some(before) => Some(after(calendar, start, due.hours - before)),
        None => Some(after(calendar, start, due.hours)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::tests::built_in,
        engine_tests::{Dice, begin},
        model::Delegation,
    };

    struct At(OffsetDateTime);

    impl Clock for At {
        fn now(&self) -> OffsetDateTime {
            self.0
        }
    }

    struct Same;

    impl Entropy for Same {
        fn uuid_v7(&self, _: OffsetDateTime) -> uuid::Uuid {
            uuid::Uuid::nil()
        }
        fn uuid_v4(&self) -> uuid::Uuid {
            uuid::Uuid::nil()
        }
        fn secret(&self) -> [u8; 32] {
            [0; 32]
        }
    }

    #[test]
    fn a_build_with_definitions_that_cannot_work_is_not_started() {
        assert_eq!(Definitions::new(&built_in()).unwrap().shipped.len(), 2);
        let few: Vec<RoleRecord> = built_in().into_iter().filter(|role| role.name != "manager").collect();
        let Err(error) = Definitions::new(&few) else { panic!("must be refused") };
        assert_eq!(error.kind, Kind::Internal);
        assert!(error.message.contains("default") && error.message.contains("no role \"manager\""), "{error}");
    }

    #[test]
    fn a_stage_of_groups_waits_for_their_members() {
        let definition = shipped().unwrap().remove(0);
        let start = OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap();
        let mut instance = begin(&definition, &mut Dice(7), start);
        instance.assignees.clear();
        instance.state = "submitted".into();
        let mut waiting = engine::waiting(&definition, &instance).remove(0);
        let names = |instance: &Instance, waiting: &Waiting| candidates(instance, waiting, start).into_iter().collect::<Vec<_>>();
        assert_eq!(names(&instance, &waiting), ["role:reviewer"]);
        waiting.stage.groups = ["Counsel".to_owned(), "desk".to_owned()].into();
        assert_eq!(names(&instance, &waiting), ["group:counsel", "group:desk"]);
        instance.escalated.insert("review".into(), ["manager".to_owned()].into());
        assert_eq!(names(&instance, &waiting), ["group:counsel", "group:desk", "role:manager"]);
        instance.assignees.insert("review".into(), ["user:3".to_owned()].into());
        assert_eq!(names(&instance, &waiting), ["role:manager", "user:3"]);
    }

    #[test]
    fn a_place_is_lent_for_its_time_only() {
        let definition = shipped().unwrap().remove(0);
        let start = OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap();
        let mut instance = begin(&definition, &mut Dice(7), start);
        instance.assignees.clear();
        instance.state = "submitted".into();
        let hours = |n: i64| start + Duration::hours(n);
        let lend = |to: &str, stage: &str, starts, ends| Delegation {
            stage: stage.into(),
            from: "user:9".into(),
            to: to.into(),
            starts,
            ends,
        };
        instance.delegations = vec![
            lend("user:1", "review", hours(2), Some(hours(4))),
            lend("user:2", "review", hours(3), None),
            lend("user:3", "other", hours(0), None),
        ];
        let waiting = engine::waiting(&definition, &instance).remove(0);
        let seen =
            |at| candidates(&instance, &waiting, at).into_iter().filter(|name| name.starts_with("user:")).collect::<Vec<_>>();
        assert_eq!(seen(hours(1)), Vec::<String>::new());
        assert_eq!(seen(hours(2)), ["user:1"]);
        assert_eq!(seen(hours(3)), ["user:1", "user:2"]);
        assert_eq!(seen(hours(4)), ["user:2"], "it ends when it says");
        let next: Vec<_> = (1..5).map(|n| lent_at(&instance, "review", hours(n))).collect();
        assert_eq!(next, [Some(hours(2)), Some(hours(3)), Some(hours(4)), None]);
        // Whom to tell: those whose time began since, and is not over.
        let told = |since, now| lent_since(&instance, "review", since, now).into_iter().collect::<Vec<_>>();
        assert_eq!(told(hours(2), hours(2)), ["user:1"]);
        assert_eq!(told(hours(2), hours(3)), ["user:1", "user:2"]);
        assert_eq!(told(hours(3), hours(3)), ["user:2"]);
        assert_eq!(told(hours(2), hours(5)), ["user:2"], "too late for the first");
        // Whatever happens first after that moment says whose time began; nothing does a second time.
        let tools = Tools { clock: &At(hours(1)), entropy: &Same };
        let at = |old: Option<&TaskRecord>, at| task(&tools, &definition, &instance, &waiting, old, at);
        let first = at(None, hours(1));
        let (early, late) = (at(Some(&first), hours(1)), at(Some(&first), hours(3)));
        let told = |old: &TaskRecord, new: &TaskRecord, now| begun(&instance, old, new, now).into_iter().collect::<Vec<_>>();
        assert_eq!(told(&first, &early, hours(1)), Vec::<String>::new(), "before its time");
        assert_eq!(told(&first, &late, hours(3)), ["user:1", "user:2"]);
        assert_eq!(told(&late, &at(Some(&late), hours(3)), hours(3)), Vec::<String>::new(), "once");
        let mut taken = instance.clone();
        taken.claims.insert("review".into(), "user:7".into());
        let theirs = task(&tools, &definition, &taken, &waiting, Some(&first), hours(3));
        assert_eq!(begun(&taken, &first, &theirs, hours(3)), BTreeSet::new(), "it waits for somebody else");
        // Taken by somebody, it waits for nobody else.
        instance.claims.insert("review".into(), "user:7".into());
        assert_eq!(candidates(&instance, &waiting, hours(3)), ["user:7".to_owned()].into());
    }
}
