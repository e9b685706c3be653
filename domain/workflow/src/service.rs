//! The use cases: begin a workflow, decide in it, read what happened. Each authorises, locks, lets the engine decide, and writes
//! the events, the tasks that follow, the audit entries and the messages in one transaction.

mod assigning;
mod deciding;
mod definitions;
mod effects;
mod messages;
mod tasks;
mod timers;
mod view;

pub use definitions::Migration;
pub use effects::{EFFECTS, EffectsOrder};
pub use tasks::{Decision, Inbox, Lend, TaskView};
pub use view::{HistoryItem, TaskSummary, Vote, WorkflowView};

use crate::{
    definition::Definition,
    guard::Guards,
    model::{Attachment, Command, Event, Instance, Who},
    store::{self, Definitions, Tools},
};
use omt_audit::AuditTrail;
use omt_badge::Badges;
use omt_claims::{governance::fingerprint, service::Manifests};
use omt_jobs::Jobs;
use omt_kernel::{
    Actor, Error, Kind, ManifestId, Permission, Result, TenantSettings, WorkflowId, check_revision,
    governance::{WorkflowFilter, WorkflowRecord},
    manifest::{ManifestRecord, ManifestState, is_sha256},
    once::{Once, Outcome},
    port::{Clock, Database, Entropy, Page, People, Person, UnitOfWork},
    retry,
    tenant::settings,
};
use omt_notify::Notices;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The longest words that go with a decision, in bytes.
const MAX_WORDS: usize = 4_000;
/// The most evidence that goes with one.
const MAX_ATTACHMENTS: usize = 20;

/// Everything the use cases reach the world through.
pub struct Dependencies {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Identifiers.
    pub entropy: Arc<dyn Entropy>,
    /// The audit log.
    pub audit: Arc<AuditTrail>,
    /// Work for later.
    pub jobs: Arc<Jobs>,
    /// Who may do what.
    pub people: Arc<dyn People>,
    /// Manifests.
    pub manifests: Arc<Manifests>,
    /// Definitions.
    pub definitions: Arc<Definitions>,
    /// What answers for guards.
    pub guards: Guards,
    /// Messages.
    pub notices: Arc<Notices>,
    /// Badges.
    pub badges: Arc<Badges>,
}

/// The use cases.
pub struct Workflows {
    deps: Dependencies,
}

/// A workflow to begin.
#[derive(Debug, Clone, Default)]
pub struct NewWorkflow {
    /// On which manifest.
    pub manifest: Option<ManifestId>,
    /// By which definition; the one that the classification asks for, or `default`, when absent.
    pub definition: Option<String>,
    /// Who decides, by stage: subjects.
    pub assignees: BTreeMap<String, BTreeSet<String>>,
}

/// A decision on a workflow.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// The action.
    pub action: String,
    /// The stage, where it matters.
    pub stage: Option<String>,
    /// Words.
    pub comments: Option<String>,
    /// Evidence.
    pub attachments: Vec<Attachment>,
    /// The revision that the caller saw.
    pub if_match: Option<i64>,
    /// The visit of a state that it is meant for; whichever there is when absent.
    pub visit: Option<u32>,
}

/// A workflow, and what belongs to deciding on it, inside a transaction.
struct Bench {
    record: ManifestRecord,
    settings: TenantSettings,
    definition: Arc<Definition>,
    instance: Instance,
}

impl Workflows {
    /// The room, over its ports.
    pub fn new(deps: Dependencies) -> Self {
        Self { deps }
    }

    fn tools(&self) -> Tools<'_> {
        Tools { clock: self.deps.clock.as_ref(), entropy: self.deps.entropy.as_ref() }
    }

    /// Begins a workflow on a draft; one at a time.
    pub async fn start(
        &self,
        actor: &Actor,
        new: NewWorkflow,
        once: Option<&Once<WorkflowView>>,
    ) -> Result<Outcome<WorkflowView>> {
        actor.require(Permission::WorkflowInitiate)?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            if let Some(once) = once
                && let Some(done) = once.replay(unit.as_ref(), actor).await?
            {
                return Ok(done);
            }
            let id = new.manifest.ok_or_else(|| Error::invalid_field("MISSING_FIELD", "manifest_id", "is needed"))?;
            // First: what is read before it may be other by the time that it is decided on.
            store::lock(unit.as_ref(), id).await?;
            let (record, settings) = self.subject(unit.as_ref(), actor, id).await?;
            if record.state != ManifestState::Draft {
                let words = format!("the manifest is {}; workflows decide on drafts", record.state);
                return Err(Error::new(Kind::Conflict, "NOT_A_DRAFT", words));
            }
            if let Some(open) = unit.workflows().of_manifest(&actor.tenant, record.id, true).await? {
                let words = format!("the workflow {} decides on this manifest", open.id);
                return Err(Error::new(Kind::Conflict, "WORKFLOW_EXISTS", words));
            }
            let (definition, version) = self.definition_for(unit.as_ref(), actor, &new, &record, &settings).await?;
            self.check_assignees(unit.as_ref(), &record, &definition, &new.assignees).await?;
            let now = self.deps.clock.now();
            let instance = Instance {
                id: WorkflowId(self.deps.entropy.uuid_v7(now)),
                tenant: actor.tenant.clone(),
                manifest: record.id,
                definition: definition.name.clone(),
                version,
                state: definition.initial.clone(),
                revision: 0,
                visit: 0,
                author: record.created_by.clone(),
                created_by: actor.subject.clone(),
                editors: BTreeSet::new(),
                fingerprint: fingerprint(&record),
                votes: Vec::new(),
                chain: Vec::new(),
                assignees: new.assignees.clone(),
                claims: BTreeMap::new(),
                delegations: Vec::new(),
                escalated: BTreeMap::new(),
                policies: settings.compliance.get(&record.classification).cloned().unwrap_or_default(),
                pending: None,
                ended: false,
                created_at: now,
                updated_at: now,
            };
            let started = Event::Started { instance: Box::new(instance.clone()) };
            let bench = Bench { record, settings, definition, instance };
            let bench = self.write(unit.as_ref(), actor, bench, vec![started], ("start", "")).await?;
            let view = self.view(unit.as_ref(), actor, &bench.definition, &bench.instance).await?;
            if let Some(once) = once
                && !once.keep(unit.as_ref(), actor, &view, now).await?
            {
                let winner = once.replay(unit.as_ref(), actor).await?;
                return winner.ok_or_else(|| Error::internal("a stored answer vanished"));
            }
            unit.commit().await?;
            Ok(Outcome::Done(Box::new(view)))
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    async fn definition_for(
        &self,
        unit: &dyn UnitOfWork,
        actor: &Actor,
        new: &NewWorkflow,
        record: &ManifestRecord,
        settings: &TenantSettings,
    ) -> Result<(Arc<Definition>, u32)> {
        let required = settings.approval.get(&record.classification);
        if let (Some(required), Some(named)) = (required, &new.definition)
            && required != named
        {
            let words = format!("content classified {} goes through the workflow {required}", record.classification);
            return Err(Error::unprocessable_field("WRONG_DEFINITION", "definition", words));
        }
        let name = new.definition.as_ref().or(required).map_or("default", String::as_str);
        let found = self.deps.definitions.find(unit, &actor.tenant, name, None).await;
        let found = found.map_err(|error| match error.kind {
            Kind::NotFound => Error::unprocessable_field("UNKNOWN_DEFINITION", "definition", error.message),
            _ => error,
        })?;
        Ok((found.definition, found.version))
    }

    /// One workflow.
    pub async fn get(&self, actor: &Actor, id: WorkflowId) -> Result<WorkflowView> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.read().await?;
        let (definition, instance) = self.visible(read.as_ref(), actor, id).await?;
        self.view(read.as_ref(), actor, &definition, &instance).await
    }

    /// Workflows on content that the actor can see, newest first.
    pub async fn list(&self, actor: &Actor, mut filter: WorkflowFilter, page: Page) -> Result<Vec<WorkflowView>> {
        actor.require(Permission::ManifestRead)?;
        filter.reach = Some(actor.reach.clone());
        let read = self.deps.database.replica().await?;
        let who = self.who(read.as_ref(), actor).await?;
        let mut out = Vec::new();
        for record in read.workflows().list(&actor.tenant, &filter, page).await? {
            let instance = store::instance(&record)?;
            let definition = self.definition(read.as_ref(), &instance).await?;
            out.push(self.brief(read.as_ref(), &who, &definition, &instance).await?);
        }
        Ok(out)
    }

    /// Takes a transition, or agrees to it. Effects such as signing are done before this returns, unless they take longer.
    pub async fn step(
        self: &Arc<Self>,
        actor: &Actor,
        id: WorkflowId,
        step: Step,
        once: Option<&Once<WorkflowView>>,
    ) -> Result<Outcome<WorkflowView>> {
        takes_part(actor)?;
        check_words("comments", step.comments.as_deref())?;
        check_attachments(&step.attachments)?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            if let Some(once) = once
                && let Some(done) = once.replay(unit.as_ref(), actor).await?
            {
                return Ok((done, false));
            }
            let bench = self.bench(unit.as_ref(), actor, id).await?;
            check_revision("workflow", bench.instance.revision, step.if_match)?;
            tasks::check_visit(&bench.instance, step.visit)?;
            let command = Command::Take {
                action: step.action.clone(),
                stage: step.stage.clone(),
                comments: step.comments.clone(),
                attachments: step.attachments.clone(),
            };
            let bench = self.decide(unit.as_ref(), actor, bench, command, &step.action).await?;
            let began = bench.instance.pending.is_some();
            let view = self.view(unit.as_ref(), actor, &bench.definition, &bench.instance).await?;
            // What is still under way is 202, whenever it is asked again.
            let once = once.cloned().map(|once| Once { status: if began { 202 } else { once.status }, ..once });
            if let Some(once) = &once
                && !once.keep(unit.as_ref(), actor, &view, self.deps.clock.now()).await?
            {
                let winner = once.replay(unit.as_ref(), actor).await?;
                return Ok((winner.ok_or_else(|| Error::internal("a stored answer vanished"))?, false));
            }
            unit.commit().await?;
            Ok((Outcome::Done(Box::new(view)), began))
        };
        let (outcome, began) = retry::transaction(self.deps.entropy.as_ref(), attempt).await?;
        if began {
            // The job that was made in the same transaction does this, should this process end now.
            if let Err(error) = self.complete(&actor.tenant, id).await {
                tracing::warn!(workflow = %id, %error, "the effects of a decision could not be had at once");
            }
            // It is decided, whatever came of that: no answer says otherwise. What passes the job finishes (202 meanwhile); what
            // cannot be had is in the history.
            if let Ok(view) = self.get(actor, id).await {
                return Ok(Outcome::Done(Box::new(view)));
            }
        }
        Ok(outcome)
    }

    /// Says something in a workflow.
    pub async fn comment(
        &self,
        actor: &Actor,
        id: WorkflowId,
        comments: String,
        attachments: Vec<Attachment>,
    ) -> Result<WorkflowView> {
        takes_part(actor)?;
        if comments.trim().is_empty() {
            return Err(Error::unprocessable_field("COMMENTS_REQUIRED", "comments", "must not be empty"));
        }
        check_words("comments", Some(&comments))?;
        check_attachments(&attachments)?;
        self.command(actor, id, None, "comment", |_| Command::Comment {
            comments: comments.clone(),
            attachments: attachments.clone(),
        })
        .await
    }

    /// Ends a workflow before its end: its author, whoever began it, and managers may. What it approved is approved no more.
    pub async fn cancel(&self, actor: &Actor, id: WorkflowId, reason: String, if_match: Option<i64>) -> Result<WorkflowView> {
        takes_part(actor)?;
        if reason.trim().is_empty() {
            return Err(Error::unprocessable_field("COMMENTS_REQUIRED", "comments", "must not be empty"));
        }
        check_words("comments", Some(&reason))?;
        self.command(actor, id, if_match, "cancel", |_| Command::Cancel { reason: reason.clone() }).await
    }

    /// Sets the compliance policies that a workflow must pass: those that its classification asks for, and these.
    pub async fn set_policies(
        &self,
        actor: &Actor,
        id: WorkflowId,
        policies: BTreeSet<String>,
        if_match: Option<i64>,
    ) -> Result<WorkflowView> {
        actor.require(Permission::ComplianceCheck)?;
        let command = |bench: &Bench| {
            let mut policies = policies.clone();
            policies.extend(bench.settings.compliance.get(&bench.record.classification).into_iter().flatten().cloned());
            Command::SetPolicies { policies }
        };
        self.command(actor, id, if_match, "set_policies", command).await
    }

    /// Does what a command asks, in one transaction.
    async fn command(
        &self,
        actor: &Actor,
        id: WorkflowId,
        if_match: Option<i64>,
        name: &str,
        command: impl Fn(&Bench) -> Command,
    ) -> Result<WorkflowView> {
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            let bench = self.bench(unit.as_ref(), actor, id).await?;
            check_revision("workflow", bench.instance.revision, if_match)?;
            let command = command(&bench);
            let bench = self.decide(unit.as_ref(), actor, bench, command, name).await?;
            let view = self.view(unit.as_ref(), actor, &bench.definition, &bench.instance).await?;
            unit.commit().await?;
            Ok(view)
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// Writes what happened: events, tasks, the audit entry, a job for effects, messages. The log has the action with its ending,
    /// which says what became of its effects.
    async fn write(
        &self,
        unit: &dyn UnitOfWork,
        actor: &Actor,
        bench: Bench,
        events: Vec<Event>,
        (action, ending): (&str, &str),
    ) -> Result<Bench> {
        let Bench { record, settings, definition, instance } = bench;
        let from = instance.state.clone();
        let (taken, news) = (messages::taken(&definition, &events), messages::News::of(&events));
        // The last says where it led: a decision may move.
        let told = events.last().map(Event::told).ok_or_else(|| Error::internal("nothing happened to a workflow"))?;
        let (instance, tasks) = store::append(unit, &self.tools(), &definition, instance, events).await?;
        let name = format!("workflow.{action}{ending}");
        let entry = omt_audit::Event::new(name, "workflow", instance.id).tell(told, &record).after(&instance);
        let entry = entry.detail(json!({
            "manifest": instance.manifest, "action": action, "from": from, "to": instance.state, "revision": instance.revision,
        }));
        self.deps.audit.append(unit, actor, entry).await?;
        if instance.pending.is_some() {
            self.deps.jobs.enqueue(unit, effects::job(&instance, self.deps.clock.now())).await?;
        }
        self.tell(unit, &record, &instance, &from, &news, &tasks).await?;
        if let Some(transition) = taken {
            self.announce(unit, actor, &record, &instance, &transition).await?;
        }
        Ok(Bench { record, settings, definition, instance })
    }

    /// The manifest that a workflow is to begin on, and the tenant's settings.
    async fn subject(&self, unit: &dyn UnitOfWork, actor: &Actor, id: ManifestId) -> Result<(ManifestRecord, TenantSettings)> {
        let found = unit.manifests().get(&actor.tenant, id).await?;
        let record = found.filter(|record| actor.reach.sees(record)).ok_or_else(|| Error::not_found("manifest"))?;
        Ok((record, settings(unit, &actor.tenant).await?))
    }

    /// Loads a workflow on content that the actor can see, and locks it until the transaction ends.
    async fn bench(&self, unit: &dyn UnitOfWork, actor: &Actor, id: WorkflowId) -> Result<Bench> {
        let missing = || Error::not_found("workflow");
        let first = unit.workflows().get(&actor.tenant, id).await?.ok_or_else(missing)?;
        store::lock(unit, first.manifest).await?;
        let workflow = unit.workflows().get(&actor.tenant, id).await?.ok_or_else(missing)?;
        let record = unit.manifests().get(&actor.tenant, workflow.manifest).await?;
        let record = record.filter(|record| actor.reach.sees(record)).ok_or_else(missing)?;
        let instance = store::instance(&workflow)?;
        let definition = self.definition(unit, &instance).await?;
        Ok(Bench { record, settings: settings(unit, &actor.tenant).await?, definition, instance })
    }

    async fn visible(&self, unit: &dyn UnitOfWork, actor: &Actor, id: WorkflowId) -> Result<(Arc<Definition>, Instance)> {
        let workflow: WorkflowRecord =
            unit.workflows().get(&actor.tenant, id).await?.ok_or_else(|| Error::not_found("workflow"))?;
        let record = unit.manifests().get(&actor.tenant, workflow.manifest).await?;
        record.filter(|record| actor.reach.sees(record)).ok_or_else(|| Error::not_found("workflow"))?;
        let instance = store::instance(&workflow)?;
        Ok((self.definition(unit, &instance).await?, instance))
    }

    async fn definition(&self, unit: &dyn UnitOfWork, instance: &Instance) -> Result<Arc<Definition>> {
        self.deps.definitions.get(unit, &instance.tenant, &instance.definition, Some(instance.version)).await
    }

    async fn who(&self, unit: &dyn UnitOfWork, actor: &Actor) -> Result<Who> {
        Ok(who(self.deps.people.actor(unit, actor).await?))
    }
}

/// Refuses those who only look.
fn takes_part(actor: &Actor) -> Result<()> {
    actor.require(Permission::ManifestRead)?;
    actor.require_one(Permission::WORKFLOW)
}

fn who(person: Person) -> Who {
    Who { subject: person.subject, roles: person.roles, permissions: person.permissions, groups: person.groups }
}

fn check_words(field: &str, words: Option<&str>) -> Result<()> {
    let Some(words) = words else { return Ok(()) };
    if words.len() > MAX_WORDS {
        return Err(Error::unprocessable_field("INVALID_FIELD", field, "at most 4000 bytes are allowed"));
    }
    if words.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(Error::unprocessable_field("INVALID_FIELD", field, "control characters are not allowed"));
    }
    Ok(())
}

fn check_attachments(attachments: &[Attachment]) -> Result<()> {
    let refuse = |reason| Err(Error::unprocessable_field("INVALID_FIELD", "attachments", reason));
    if attachments.len() > MAX_ATTACHMENTS {
        return refuse("at most 20 are allowed");
    }
    for attachment in attachments {
        let name =
            !attachment.name.trim().is_empty() && attachment.name.len() <= 256 && !attachment.name.chars().any(char::is_control);
        if !name || !is_sha256(&attachment.sha256) {
            return refuse("each needs a name and the SHA-256 of its bytes in lower-case hexadecimal");
        }
    }
    Ok(())
}
