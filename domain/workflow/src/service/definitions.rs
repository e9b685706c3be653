//! A tenant's own definitions, in versions, and the move of running workflows from one version to another.

use super::{Workflows, messages::News};
use crate::{
    definition::Definition,
    model::Event,
    store::{self, Version},
};
use omt_kernel::{
    Actor, Error, Kind, Permission, Result, WorkflowId,
    document::{self, DocumentKind, NewVersion},
    error::Context as _,
    port::Page,
    retry,
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

/// What came of a migration.
#[derive(Debug, Clone, Default)]
pub struct Migration {
    /// The version that running workflows follow now.
    pub version: u32,
    /// How many were moved.
    pub moved: u64,
    /// Those that stay, and why.
    pub stayed: Vec<(WorkflowId, String)>,
}

impl Workflows {
    /// The newest version of each definition.
    pub async fn definitions(&self, actor: &Actor) -> Result<Vec<Version>> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.read().await?;
        self.deps.definitions.list(read.as_ref(), &actor.tenant).await
    }

    /// A version of a definition.
    pub async fn definition_version(&self, actor: &Actor, name: &str, version: Option<u32>) -> Result<Version> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.read().await?;
        self.deps.definitions.find(read.as_ref(), &actor.tenant, name, version).await
    }

    /// A definition as a picture.
    pub async fn diagram(&self, actor: &Actor, name: &str, version: Option<u32>) -> Result<String> {
        Ok(crate::diagram::svg(&self.definition_version(actor, name, version).await?.definition))
    }

    /// Adds a version of a definition. Workflows that run keep theirs.
    pub async fn put_definition(&self, actor: &Actor, definition: Definition, expected: Option<i64>) -> Result<Version> {
        actor.require(Permission::AdminPolicies)?;
        let roles = self.deps.people.roles(self.deps.database.read().await?.as_ref(), &actor.tenant).await?;
        definition.validate(&roles)?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            document::lock(unit.as_ref(), DocumentKind::WorkflowDefinition, &actor.tenant).await?;
            let present = match self.deps.definitions.find(unit.as_ref(), &actor.tenant, &definition.name, None).await {
                Ok(found) => found.version,
                Err(error) if error.kind == Kind::NotFound => 0,
                Err(error) => return Err(error),
            };
            let data = serde_json::to_value(&definition).context("a definition cannot be written")?;
            let new = NewVersion { name: definition.name.clone(), present, expected, data };
            let now = self.deps.clock.now();
            let record = document::append(unit.as_ref(), actor, DocumentKind::WorkflowDefinition, new, now).await?;
            let entry = omt_audit::Event::new("workflow_definition.put", "workflow_definition", &record.name);
            let entry = entry.after(&record.data).detail(json!({ "version": record.version }));
            self.deps.audit.append(unit.as_ref(), actor, entry).await?;
            unit.commit().await?;
            Ok(Version { definition: Arc::new(definition.clone()), version: record.version, record: Some(record) })
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// Moves running workflows to the newest version of their definition. States that it has no more go where `states` says; workflows
    /// in a state of which nothing is said, or whose effects are under way, stay with their version.
    pub async fn migrate(&self, actor: &Actor, name: &str, states: &BTreeMap<String, String>) -> Result<Migration> {
        actor.require(Permission::AdminPolicies)?;
        let read = self.deps.database.read().await?;
        let target = self.deps.definitions.find(read.as_ref(), &actor.tenant, name, None).await?;
        for (from, to) in states {
            let kinds = target.definition.states.get(to).map(|state| state.kind);
            let Some(kind) = kinds else {
                let words = format!("{to:?} is not a state of version {}", target.version);
                return Err(Error::unprocessable_field("UNKNOWN_STATE", format!("states.{from}"), words));
            };
            // A migration is no approval.
            if !matches!(kind, crate::definition::StateKind::Open | crate::definition::StateKind::Review) && from != to {
                let words = "a migration leads to states of the kinds open and review only";
                return Err(Error::unprocessable_field("INVALID_FIELD", format!("states.{from}"), words));
            }
        }
        let (mut out, mut after) = (Migration { version: target.version, ..Migration::default() }, None);
        loop {
            let page = Page { after, limit: 200 };
            let found = self.deps.database.read().await?.workflows().following(&actor.tenant, name, page).await?;
            let Some(last) = found.last() else { return Ok(out) };
            after = Some(last.id.0);
            for record in found {
                match self.migrate_one(actor, record.id, &target, states).await? {
                    None => out.moved += 1,
                    Some(reason) if reason.is_empty() => {}
                    Some(reason) => out.stayed.push((record.id, reason)),
                }
            }
        }
    }

    /// Moves one; the reason when it stays, an empty one when there is nothing to do.
    async fn migrate_one(
        &self,
        actor: &Actor,
        id: WorkflowId,
        target: &Version,
        states: &BTreeMap<String, String>,
    ) -> Result<Option<String>> {
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            // Whoever changes definitions moves workflows on content that they do not see, and learns nothing of it.
            let system = Actor { reach: omt_kernel::Reach::ALL, ..actor.clone() };
            let bench = self.bench(unit.as_ref(), &system, id).await?;
            if bench.instance.version == target.version {
                return Ok(Some(String::new()));
            }
            if bench.instance.pending.is_some() {
                return Ok(Some("the effects of a transition are under way".to_owned()));
            }
            if let Some(stage) = target.definition.unassigned(&bench.instance.assignees) {
                return Ok(Some(format!("a part of the people of {stage} must agree, and nobody is assigned")));
            }
            let state = &bench.instance.state;
            let to = states.get(state).unwrap_or(state).clone();
            let Some(kind) = target.definition.states.get(&to).map(|state| state.kind) else {
                return Ok(Some(format!("version {} has no state {to:?}", target.version)));
            };
            let old = bench.definition.kind(state);
            let rises = matches!(kind, crate::definition::StateKind::Approved | crate::definition::StateKind::Published);
            if rises && old != kind {
                return Ok(Some(format!("{to:?} means more in version {} than it did", target.version)));
            }
            let event = Event::Migrated { version: target.version, to, by: actor.subject.clone() };
            let (from, told, events) = (state.clone(), event.told(), vec![event]);
            let (news, tools) = (News::of(&events), self.tools());
            let (instance, tasks) = store::append(unit.as_ref(), &tools, &target.definition, bench.instance, events).await?;
            let entry = omt_audit::Event::new("workflow.migrate", "workflow", id)
                .tell(told, &bench.record)
                .detail(json!({ "version": target.version, "revision": instance.revision }));
            self.deps.audit.append(unit.as_ref(), actor, entry).await?;
            self.tell(unit.as_ref(), &bench.record, &instance, &from, &news, &tasks).await?;
            unit.commit().await?;
            Ok(None)
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }
}
