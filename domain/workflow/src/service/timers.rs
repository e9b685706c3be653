//! Reminders before a task is due, and escalation when nobody has decided.

use super::Workflows;
use crate::{model::Event, store};
use omt_kernel::{Actor, Result, governance::TaskRecord, port::UnitOfWork};
use omt_notify::Notice;
use serde_json::json;

/// Tasks looked at in one run.
const BATCH: u32 = 500;

impl Workflows {
    /// Does what is due; how many tasks.
    pub async fn ring_all(&self) -> Result<u64> {
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

    /// Reminds, or escalates once it is due; says when to look again.
    pub(super) async fn ring(&self, unit: &dyn UnitOfWork, actor: &Actor, mut task: TaskRecord) -> Result<()> {
        let now = self.deps.clock.now();
        let bench = self.bench(unit, actor, task.workflow).await?;
        let is_due = task.due_at.is_none_or(|due| due <= now);
        let kind = if is_due { "workflow.task.overdue" } else { "workflow.task.reminder" };
        let data = json!({
            "workflow_id": task.workflow, "manifest_id": task.manifest, "task_id": task.id, "title": task.title,
            "content": bench.record.title, "due_at": task.due_at.map(|due| due.unix_timestamp()),
        });
        let notice =
            Notice { audience: task.candidates.clone(), kind, data: data.clone(), classification: bench.record.classification };
        self.deps.notices.tell(unit, &task.tenant, notice).await?;
        task.next_at = if is_due { None } else { task.due_at };
        unit.tasks().put(&task).await?;
        let stages = bench.definition.leaving(&bench.instance.state).flat_map(crate::definition::Transition::all_stages);
        let stage = stages.into_iter().find(|stage| stage.name == task.stage);
        let Some(role) = stage.and_then(|stage| stage.due?.escalate_to).filter(|_| is_due) else { return Ok(()) };
        let event = Event::Escalated { stage: task.stage.clone(), role: role.clone() };
        let definition = bench.definition.clone();
        store::append(unit, &self.tools(), &definition, bench.instance, vec![event]).await?;
        let entry = omt_audit::Event::new("workflow.escalate", "workflow", task.workflow).detail(json!({ "role": role }));
        self.deps.audit.append(unit, actor, entry).await?;
        let audience = [format!("role:{role}")].into();
        let notice = Notice { audience, kind: "workflow.task.escalated", data, classification: bench.record.classification };
        self.deps.notices.tell(unit, &task.tenant, notice).await
    }
}
