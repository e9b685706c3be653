//! Messages of a workflow to people: what waits for them, and what became of what they decided. Whoever changes a workflow has
//! them written in the transaction of the change.

use crate::{
    model::{Delegation, Instance},
    store::Tasks,
};
use omt_kernel::{Result, governance::TaskRecord, manifest::ManifestRecord, port::UnitOfWork};
use omt_notify::{Notice, Notices};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Tells people of one workflow.
pub(crate) struct Teller<'a> {
    pub(crate) notices: &'a Notices,
    pub(crate) unit: &'a dyn UnitOfWork,
    pub(crate) record: &'a ManifestRecord,
    pub(crate) instance: &'a Instance,
}

impl Teller<'_> {
    async fn tell(&self, audience: BTreeSet<String>, kind: &'static str, mut data: Value) -> Result<()> {
        data["workflow_id"] = json!(self.instance.id);
        data["manifest_id"] = json!(self.record.id);
        data["content"] = json!(self.record.title);
        let notice = Notice { audience, kind, data, manifest: self.record.id };
        self.notices.tell(self.unit, &self.instance.tenant, notice).await
    }

    /// Whoever made the content, and whoever began the workflow.
    fn authors(&self) -> BTreeSet<String> {
        [self.instance.author.clone(), self.instance.created_by.clone()].into()
    }

    /// These people have a task.
    pub(crate) async fn opened(&self, task: &TaskRecord, audience: BTreeSet<String>) -> Result<()> {
        self.tell(audience, "workflow.task.opened", json!({ "task_id": task.id, "title": task.title })).await
    }

    /// Everybody whom these tasks wait for has a task.
    pub(crate) async fn all_opened(&self, tasks: &[TaskRecord]) -> Result<()> {
        for task in tasks {
            self.opened(task, task.candidates.clone()).await?;
        }
        Ok(())
    }

    /// These tasks were there, and wait for more people now: for those whose time began, and for whom a place was just lent to.
    pub(crate) async fn begun(&self, tasks: &Tasks, lent: Option<&Delegation>) -> Result<()> {
        for task in &tasks.kept {
            let mut theirs = tasks.begun.get(&task.id).cloned().unwrap_or_default();
            // Lent from later on, it is told of then.
            let lent = lent.filter(|lent| lent.stage == task.stage && task.candidates.contains(&lent.to));
            theirs.extend(lent.map(|lent| lent.to.clone()));
            if !theirs.is_empty() {
                self.opened(task, theirs).await?;
            }
        }
        Ok(())
    }

    /// The workflow is in another state: its author hears of it.
    pub(crate) async fn moved(&self, from: &str) -> Result<()> {
        self.tell(self.authors(), "workflow.moved", json!({ "from": from, "to": self.instance.state })).await
    }

    /// What was decided counts no more, since the content changed: those who had decided hear of it, and the author.
    pub(crate) async fn voided(&self, from: &str, deciders: BTreeSet<String>) -> Result<()> {
        let audience = &self.authors() | &deciders;
        self.tell(audience, "workflow.voided", json!({ "from": from, "to": self.instance.state })).await
    }

    /// The workflow ended before its end: those for whom something waited hear of it, and the author.
    pub(crate) async fn cancelled(&self, tasks: &[TaskRecord]) -> Result<()> {
        let mut audience = self.authors();
        audience.extend(tasks.iter().flat_map(|task| &task.candidates).cloned());
        self.tell(audience, "workflow.cancelled", json!({ "from": self.instance.state })).await
    }
}

/// Those who decided in a workflow, and those in whose place.
pub(crate) fn deciders(instance: &Instance) -> BTreeSet<String> {
    let all = instance.chain.iter().chain(&instance.votes);
    all.flat_map(|vote| std::iter::once(&vote.by).chain(&vote.for_)).cloned().collect()
}
