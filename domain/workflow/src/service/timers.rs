//! Reminders before a task is due, and escalation when nobody has decided.

use super::{Bench, Workflows};
use crate::{model::Event, store, tell::Teller};
use omt_kernel::{Actor, Result, governance::TaskRecord, port::UnitOfWork};
use omt_notify::Notice;
use serde_json::json;

/// Effects take less.
const STUCK: time::Duration = time::Duration::minutes(15);
/// Tasks looked at in one run.
const BATCH: u32 = 500;

impl Workflows {
    /// Does what is due; how many tasks.
    pub async fn ring_all(&self) -> Result<u64> {
        self.revive().await?;
        let mut rung = 0;
        loop {
            let due = self.deps.database.read().await?.tasks().due(self.deps.clock.now(), BATCH).await?;
            for task in &due {
                self.alarm(task).await?;
            }
            rung += due.len() as u64;
            if due.len() < BATCH as usize {
                return Ok(rung);
            }
        }
    }

    /// Has effects had whose job is gone: it was called off, or died with its worker at its last attempt. A job that lives stays the
    /// only one, by its key.
    async fn revive(&self) -> Result<()> {
        let now = self.deps.clock.now();
        let stuck = self.deps.database.read().await?.workflows().stuck(now - STUCK, BATCH).await?;
        for workflow in stuck {
            let unit = self.deps.database.begin().await?;
            let instance = store::instance(&workflow)?;
            self.deps.jobs.enqueue(unit.as_ref(), super::effects::job(&instance, now)).await?;
            unit.commit().await?;
        }
        Ok(())
    }

    /// Reminds, or escalates once it is due; says when to look again. A place that is lent or given back meanwhile comes first.
    pub(super) async fn ring(&self, unit: &dyn UnitOfWork, actor: &Actor, task: TaskRecord) -> Result<()> {
        let now = self.deps.clock.now();
        let bench = self.bench(unit, actor, task.workflow).await?;
        let Some(mut task) = self.hand_over(unit, &bench, task).await? else { return Ok(()) };
        if task.next_at.is_none_or(|next| next > now) {
            return Ok(());
        }
        let is_due = task.due_at.is_none_or(|due| due <= now);
        let kind = if is_due { "workflow.task.overdue" } else { "workflow.task.reminder" };
        let data = json!({
            "workflow_id": task.workflow, "manifest_id": task.manifest, "task_id": task.id, "title": task.title,
            "content": bench.record.title, "due_at": task.due_at.map(|due| due.unix_timestamp()),
        });
        let notice = Notice { audience: task.candidates.clone(), kind, data: data.clone(), manifest: bench.record.id };
        self.deps.notices.tell(unit, &task.tenant, notice).await?;
        task.next_at = if is_due { None } else { task.due_at };
        unit.tasks().put(&task).await?;
        let stages = bench.definition.leaving(&bench.instance.state).flat_map(crate::definition::Transition::all_stages);
        let stage = stages.into_iter().find(|stage| stage.name == task.stage);
        let Some(role) = stage.and_then(|stage| stage.due?.escalate_to).filter(|_| is_due) else { return Ok(()) };
        let event = Event::Escalated { stage: task.stage.clone(), role: role.clone() };
        let definition = bench.definition.clone();
        let (instance, _) = store::append(unit, &self.tools(), &definition, bench.instance, vec![event]).await?;
        let entry =
            omt_audit::Event::new("workflow.escalate", "workflow", task.workflow).tell("workflow.escalated", &bench.record);
        let entry = entry.detail(json!({ "role": role, "revision": instance.revision }));
        self.deps.audit.append(unit, actor, entry).await?;
        let audience = [format!("role:{role}")].into();
        let notice = Notice { audience, kind: "workflow.task.escalated", data, manifest: bench.record.id };
        self.deps.notices.tell(unit, &task.tenant, notice).await
    }

    /// Has a task wait for those to whom a place in it was lent meanwhile, who hear of it, and no more for those whose time is over;
    /// the task as it is then, if there is one.
    async fn hand_over(&self, unit: &dyn UnitOfWork, bench: &Bench, task: TaskRecord) -> Result<Option<TaskRecord>> {
        let now = self.deps.clock.now();
        let Some(since) = task.lent_at.filter(|at| *at <= now) else { return Ok(Some(task)) };
        let tasks = store::sync_tasks(unit, &self.tools(), &bench.definition, &bench.instance).await?;
        let Some(task) = tasks.kept.into_iter().find(|kept| kept.id == task.id) else { return Ok(None) };
        let mut theirs = store::lent_since(&bench.instance, &task.stage, since, now);
        theirs.retain(|subject| task.candidates.contains(subject));
        let teller = Teller { notices: &self.deps.notices, unit, record: &bench.record, instance: &bench.instance };
        teller.opened(&task, theirs).await?;
        Ok(Some(task))
    }
}
