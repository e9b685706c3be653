//! Reminders before a task is due, and escalation when nobody has decided.

use super::{Bench, Workflows};
use crate::{model::Event, store, tell::Teller};
use omt_kernel::{Actor, Result, governance::TaskRecord, port::UnitOfWork};
use omt_notify::Notice;
use serde_json::json;
use std::collections::BTreeSet;

/// Effects take less.
const STUCK: time::Duration = time::Duration::minutes(15);
/// Tasks looked at in one run.
const BATCH: u32 = 500;

impl Workflows {
    /// Does what is due; how many tasks. What fails stops nothing else: it is tried again in the next run, and the last error is
    /// given back when everything else is done.
    pub async fn ring_all(&self) -> Result<u64> {
        let revived = self.revive().await;
        let due = async || self.deps.database.read().await?.tasks().due(self.deps.clock.now(), BATCH).await;
        let rung = work_off(
            BATCH as usize,
            due,
            |task| task.id,
            async |task: &TaskRecord| {
                let done = self.alarm(task).await;
                if let Err(error) = &done {
                    tracing::warn!(tenant = %task.tenant, task = %task.id, %error, "a task could not be looked at");
                }
                done
            },
        );
        let rung = rung.await;
        revived.and(rung)
    }

    /// Has effects had whose job is gone: it was called off, or died with its worker at its last attempt. A job that lives stays the
    /// only one, by its key.
    async fn revive(&self) -> Result<()> {
        let now = self.deps.clock.now();
        let stuck = self.deps.database.read().await?.workflows().stuck(now - STUCK, BATCH).await?;
        let mut last = Ok(());
        for workflow in stuck {
            let attempt = async || {
                let unit = self.deps.database.begin().await?;
                let instance = store::instance(&workflow)?;
                self.deps.jobs.enqueue(unit.as_ref(), super::effects::job(&instance, now)).await?;
                unit.commit().await
            };
            if let Err(error) = attempt().await {
                tracing::warn!(tenant = %workflow.tenant, workflow = %workflow.id, %error, "its effects cannot be begun again");
                last = Err(error);
            }
        }
        last
    }

    /// Reminds, or escalates once it is due; says when to look again. A place that is lent or given back meanwhile comes first.
    pub(super) async fn ring(&self, unit: &dyn UnitOfWork, actor: &Actor, task: TaskRecord) -> Result<()> {
        let now = self.deps.clock.now();
        let bench = self.bench(unit, actor, task.workflow).await?;
        let (bench, task) = self.hand_over(unit, actor, bench, task).await?;
        let Some(mut task) = task else { return Ok(()) };
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
        let (definition, told) = (bench.definition.clone(), event.told());
        let (instance, tasks) = store::append(unit, &self.tools(), &definition, bench.instance, vec![event]).await?;
        Teller { notices: &self.deps.notices, unit, record: &bench.record, instance: &instance }.begun(&tasks, None).await?;
        let entry = omt_audit::Event::new("workflow.escalate", "workflow", task.workflow).tell(told, &bench.record);
        let entry = entry.detail(json!({ "role": role, "revision": instance.revision }));
        self.deps.audit.append(unit, actor, entry).await?;
        let audience = [format!("role:{role}")].into();
        let notice = Notice { audience, kind: "workflow.task.escalated", data, manifest: bench.record.id };
        self.deps.notices.tell(unit, &task.tenant, notice).await
    }

    /// Has a task wait for those to whom a place in it was lent meanwhile, who hear of it, and no more for those whose time is
    /// over, whether they took it or not; the workflow and the task as they are then, if there is one.
    async fn hand_over(
        &self,
        unit: &dyn UnitOfWork,
        actor: &Actor,
        bench: Bench,
        task: TaskRecord,
    ) -> Result<(Bench, Option<TaskRecord>)> {
        if task.lent_at.is_none_or(|at| at > self.deps.clock.now()) {
            return Ok((bench, Some(task)));
        }
        let facts = self.facts(unit, &bench.instance, &bench.record).await?;
        let lapsed = self.lapsed(unit, &bench.definition, &bench.instance, &facts).await?;
        let bench = if lapsed.is_empty() {
            let tasks = store::sync_tasks(unit, &self.tools(), &bench.definition, &bench.instance).await?;
            let teller = Teller { notices: &self.deps.notices, unit, record: &bench.record, instance: &bench.instance };
            teller.begun(&tasks, None).await?;
            bench
        } else {
            self.write(unit, actor, bench, lapsed, ("unclaim", "")).await?
        };
        let task = unit.tasks().get(&task.tenant, task.id).await?;
        Ok((bench, task))
    }
}

/// Works off what comes in batches, each at most once: how many were done, or the last error once all that can be done is. A
/// batch of which nothing was done is the last: what failed is still at its head, and would come for ever.
async fn work_off<T, K: Ord>(
    batch: usize,
    mut next: impl AsyncFnMut() -> Result<Vec<T>>,
    key: impl Fn(&T) -> K,
    mut one: impl AsyncFnMut(&T) -> Result<()>,
) -> Result<u64> {
    let (mut done, mut failed, mut last) = (0, BTreeSet::new(), None);
    loop {
        let (found, before) = (next().await?, done);
        for item in &found {
            if failed.contains(&key(item)) {
                continue;
            }
            match one(item).await {
                Ok(()) => done += 1,
                Err(error) => {
                    failed.insert(key(item));
                    last = Some(error);
                }
            }
        }
        if found.len() < batch || done == before {
            break;
        }
    }
    let Some(error) = last else { return Ok(done) };
    tracing::warn!(done, failed = failed.len(), "some of what is due could not be done");
    Err(error)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use omt_kernel::Error;
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    /// What a future gives that waits for nothing.
    pub(in crate::service) fn now<F: Future>(future: F) -> F::Output {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("it waits"),
        }
    }

    /// Works off 0 to `count`, three at a time, of which these fail; what came of it, what was tried, and how often was asked.
    fn run(count: u32, bad: &[u32]) -> (Result<u64, &'static str>, Vec<u32>, u32) {
        let (mut tried, mut asked) = (Vec::new(), 0);
        let open = std::cell::RefCell::new((0..count).collect::<Vec<_>>());
        let next = async || {
            asked += 1;
            Ok(open.borrow().iter().take(3).copied().collect())
        };
        let one = async |item: &u32| {
            tried.push(*item);
            if bad.contains(item) {
                return Err(Error::internal("broken"));
            }
            open.borrow_mut().retain(|other| other != item);
            Ok(())
        };
        let done = now(work_off(3, next, |item| *item, one)).map_err(|error| error.code);
        (done, tried, asked)
    }

    #[test]
    fn what_fails_stops_nothing_else_and_is_said() {
        assert_eq!(run(0, &[]), (Ok(0), vec![], 1));
        assert_eq!(run(4, &[]), (Ok(4), vec![0, 1, 2, 3], 2));
        let (done, tried, _) = run(5, &[0, 1]);
        assert_eq!((done.is_err(), tried), (true, vec![0, 1, 2, 3, 4]), "each once");
        // A whole batch that fails is the last.
        let (done, tried, asked) = run(9, &[0, 1, 2]);
        assert_eq!((done.is_err(), tried, asked), (true, vec![0, 1, 2], 1));
    }
}
