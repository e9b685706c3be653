//! What approval means for a manifest: no signature without it where it is asked for, none of what was approved otherwise.

use crate::{
    definition::{Definition, Effect, Guard, StateKind, Transition},
    engine,
    guard::{Asked, Guards, Keep, compliance_policies},
    model::{Event, Instance, Refusal, Vote},
    store::{self, Definitions},
    tell::{Teller, deciders},
};
use async_trait::async_trait;
use omt_audit::AuditTrail;
use omt_claims::{
    definition::{Approval, ComplianceCheck, CustomAssertion, OrganizationalContext, WORKFLOW_LABEL, WorkflowAssertion},
    governance::{Attested, Governance, fingerprint},
};
use omt_kernel::{
    Actor, Error, Kind, Result, TenantSettings,
    error::Context as _,
    governance::WorkflowRecord,
    manifest::{ManifestRecord, ManifestState},
    port::{Clock, Database, Entropy, UnitOfWork},
};
use omt_notify::Notices;
use std::sync::Arc;

/// Approval as manifests see it.
pub struct Gate {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Identifiers.
    pub entropy: Arc<dyn Entropy>,
    /// The audit log.
    pub audit: Arc<AuditTrail>,
    /// Definitions.
    pub definitions: Arc<Definitions>,
    /// What answers for guards.
    pub guards: Guards,
    /// Messages.
    pub notices: Arc<Notices>,
}

/// What a manifest's workflow means for signing it.
enum Verdict {
    /// It is approved.
    Approved(Box<Instance>),
    /// Nobody asks for an approval.
    Free,
}

impl Gate {
    async fn verdict(&self, unit: &dyn UnitOfWork, record: &ManifestRecord, settings: &TenantSettings) -> Result<Verdict> {
        let required = settings.approval.get(&record.classification);
        let refuse = |words: String| Err(Error::new(Kind::Conflict, "APPROVAL_REQUIRED", words));
        let Some(workflow) = unit.workflows().of_manifest(&record.tenant, record.id, true).await? else {
            return match required {
                Some(name) => refuse(format!("content classified {} needs the workflow {name}", record.classification)),
                None => Ok(Verdict::Free),
            };
        };
        let instance: Instance = store::instance(&workflow)?;
        let definition = self.definitions.get(unit, &record.tenant, &instance.definition, Some(instance.version)).await?;
        if required.is_some_and(|name| *name != instance.definition) {
            return refuse(format!("the workflow {} is not the one that this classification needs", instance.definition));
        }
        // A workflow that has begun decides, whether it had to be begun or not.
        if definition.kind(&instance.state) != StateKind::Approved || instance.fingerprint != fingerprint(record) {
            return refuse(format!("the workflow {} of this manifest is in the state {}", workflow.id, instance.state));
        }
        self.check_publication(unit, record, settings, &definition, &instance).await?;
        Ok(Verdict::Approved(Box::new(instance)))
    }

    /// Signing by itself is no way around what publishing asks for: its guards hold here too, and where several must agree to it,
    /// they have.
    async fn check_publication(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        settings: &TenantSettings,
        definition: &Definition,
        instance: &Instance,
    ) -> Result<()> {
        let guards = signing_guards(definition, instance)?;
        let reasons = self.guards.against(unit, record, settings, instance, &guards, Keep::No).await?;
        if reasons.is_empty() { Ok(()) } else { Err(Refusal::Guard(reasons).into()) }
    }

    /// What a claim attests of an approved workflow.
    async fn attested(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        settings: &TenantSettings,
        instance: &Instance,
    ) -> Result<Attested> {
        let mut chain = Vec::new();
        for vote in &instance.chain {
            chain.push(self.approval(unit, instance, vote).await?);
        }
        let policies = compliance_policies(instance, record, settings);
        let passed = self.guards.compliance.passed(unit, Asked { record, settings, policies: &policies }).await?;
        // What nobody looked at was not passed.
        let is = |rule: &str| passed.get(rule).copied().unwrap_or(false);
        let assertion = WorkflowAssertion {
            workflow_id: instance.id.to_string(),
            approval_chain: chain,
            compliance_check: ComplianceCheck {
                pdpa_approved: is("pdpa_consent"),
                trademark_cleared: is("trademark_clearance"),
                legal_review: is("legal_review"),
                export_control_passed: is("export_control"),
                classification_verified: is("classification_valid"),
            },
            classification: record.classification,
            retention_policy: Some(format!("{}:{}d", record.classification, settings.retention_for(record.classification))),
            organizational_context: (record.department.is_some() || record.project.is_some())
                .then(|| OrganizationalContext { department: record.department.clone(), project: record.project.clone() }),
        };
        let data = serde_json::to_value(&assertion).context("a workflow assertion cannot be written")?;
        Ok(Attested { workflow: instance.id, assertion: CustomAssertion { label: WORKFLOW_LABEL.to_owned(), data } })
    }

    /// A decision as the world may see it: the role and a pseudonym, never a name or words.
    async fn approval(&self, unit: &dyn UnitOfWork, instance: &Instance, vote: &Vote) -> Result<Approval> {
        let on_behalf_of = match &vote.for_ {
            Some(subject) => Some(pseudonym(unit, instance, subject).await?),
            None => None,
        };
        Ok(Approval {
            role: vote.role.clone(),
            user_id: pseudonym(unit, instance, &vote.by).await?,
            user_name: None,
            on_behalf_of,
            timestamp: vote.at,
            status: vote.action.clone(),
            comments: None,
        })
    }
}

/// Refuses a claim that attests something else than what is so: signing takes time, in which a workflow may be cancelled, or evidence
/// withdrawn.
fn check_unchanged(attested: Option<&Attested>, now: Option<&Attested>) -> Result<()> {
    if attested == now {
        return Ok(());
    }
    let words = "the approval, or what compliance says, changed while the manifest was signed";
    Err(Error::new(Kind::Conflict, "CONCURRENT_CHANGE", words))
}

/// What somebody is called to the world. Whoever was forgotten since has no pseudonym any more.
async fn pseudonym(unit: &dyn UnitOfWork, instance: &Instance, subject: &str) -> Result<String> {
    let person = unit.audit().person(&instance.tenant, subject).await?;
    Ok(person.map_or_else(|| "erased".to_owned(), |person| person.pseudonym))
}

#[async_trait]
impl Governance for Gate {
    async fn may_sign(&self, record: &ManifestRecord, settings: &TenantSettings) -> Result<Option<Attested>> {
        let read = self.database.read().await?;
        match self.verdict(read.as_ref(), record, settings).await? {
            Verdict::Free => Ok(None),
            Verdict::Approved(instance) => self.attested(read.as_ref(), record, settings, &instance).await.map(Some),
        }
    }

    async fn signing(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        settings: &TenantSettings,
        attested: Option<&Attested>,
    ) -> Result<()> {
        store::lock(unit, record.id).await?;
        let approved = match self.verdict(unit, record, settings).await? {
            Verdict::Approved(instance) => Some(instance),
            Verdict::Free => None,
        };
        let now = match &approved {
            Some(instance) => Some(self.attested(unit, record, settings, instance).await?),
            None => None,
        };
        check_unchanged(attested, now.as_ref())?;
        if let Some(instance) = approved {
            // The claim says what compliance says now, whether a guard asks for it or not: it is kept with the signature.
            let policies = compliance_policies(&instance, record, settings);
            let asked = Asked { record, settings, policies: &policies };
            self.guards.compliance.against(unit, asked, Keep::WithTheMove).await?;
        }
        Ok(())
    }

    async fn is_published(&self, record: &ManifestRecord, settings: &TenantSettings) -> Result<bool> {
        let (read, required) = (self.database.read().await?, settings.approval.get(&record.classification));
        let Some(workflow) = read.workflows().of_manifest(&record.tenant, record.id, false).await? else {
            return Ok(required.is_none());
        };
        let instance = store::instance(&workflow)?;
        if required.is_none() && instance.ended {
            // Called off: as if it had not begun.
            return Ok(true);
        }
        let definition =
            self.definitions.get(read.as_ref(), &record.tenant, &instance.definition, Some(instance.version)).await?;
        let asked_for = required.is_none_or(|name| *name == instance.definition);
        Ok(asked_for && definition.kind(&instance.state) == StateKind::Published)
    }

    async fn changed(&self, unit: &dyn UnitOfWork, actor: &Actor, after: &ManifestRecord) -> Result<()> {
        store::lock(unit, after.id).await?;
        self.guards.compliance.changed(unit, after).await?;
        let Some(workflow) = unit.workflows().of_manifest(&after.tenant, after.id, true).await? else { return Ok(()) };
        let instance = store::instance(&workflow)?;
        let definition = self.definitions.get(unit, &after.tenant, &instance.definition, Some(instance.version)).await?;
        let itself = instance.pending.as_ref().and_then(|pending| definition.transition(&instance.state, &pending.action));
        let event = match after.state {
            // What is put away is decided on no more; unless that is what the workflow itself is doing.
            ManifestState::Archived if itself.is_some_and(|t| t.effects.contains(&Effect::Archive)) => return Ok(()),
            ManifestState::Archived => {
                Some(Event::Ended { by: actor.subject.clone(), reason: "the manifest was archived".to_owned() })
            }
            _ => engine::content_changed(&definition, &instance, &fingerprint(after), &actor.subject),
        };
        unit.tasks().set_project(&after.tenant, workflow.id, after.project.as_deref()).await?;
        let Some(event) = event else { return Ok(()) };
        if let Some(pending) = &instance.pending {
            return Err(Refusal::Pending(pending.action.clone()).into());
        }
        let over = matches!(event, Event::Ended { .. });
        let (name, told) = (if over { "workflow.cancel" } else { "workflow.void" }, event.told());
        // Before anything was decided there is nothing to void.
        let matters = !matches!(event, Event::Changed { .. }) || !instance.votes.is_empty() || !instance.chain.is_empty();
        let (from, deciders) = (instance.state.clone(), deciders(&instance));
        let tools = store::Tools { clock: self.clock.as_ref(), entropy: self.entropy.as_ref() };
        let (instance, tasks) = store::append(unit, &tools, &definition, instance, vec![event]).await?;
        let teller = Teller { notices: &self.notices, unit, record: after, instance: &instance };
        if over {
            teller.cancelled(&tasks.gone).await?;
        } else if matters {
            teller.voided(&from, deciders).await?;
        }
        teller.all_opened(&tasks.new).await?;
        teller.begun(&tasks, None).await?;
        if matters {
            let entry = omt_audit::Event::new(name, "workflow", workflow.id).tell(told, after);
            let detail = serde_json::json!({ "from": from, "to": instance.state, "revision": instance.revision });
            self.audit.append(unit, actor, entry.detail(detail)).await?;
        }
        Ok(())
    }
}

/// The guards that a signature is measured by now. One that was decided asks for those of its transition; one that nobody decided
/// on leads nowhere yet, so it asks for those of every signing transition, and is refused where one of them waits for several.
fn signing_guards(definition: &Definition, instance: &Instance) -> Result<Vec<Guard>> {
    let signs = |t: &&Transition| t.effects.contains(&Effect::Sign);
    let decided = instance.pending.as_ref().and_then(|pending| definition.transition(&instance.state, &pending.action));
    if let Some(decided) = decided.filter(signs) {
        return Ok(decided.guards.clone());
    }
    let mut guards = Vec::new();
    for transition in definition.leaving(&instance.state).filter(signs) {
        // Once all of its stages are complete it is decided, or was taken: without that, somebody is still asked.
        if transition.role.is_none() {
            let words = format!("several people agree to {} before this manifest is signed", transition.action);
            return Err(Error::new(Kind::Conflict, "APPROVAL_REQUIRED", words));
        }
        let new = transition.guards.iter().filter(|guard| !guards.contains(*guard)).copied().collect::<Vec<_>>();
        guards.extend(new);
    }
    Ok(guards)
}

/// Whether a workflow in this state is not over.
pub(crate) fn is_open(definition: &Definition, state: &str) -> bool {
    !matches!(definition.kind(state), StateKind::Published | StateKind::Closed)
}

/// The record that an instance is kept as.
pub(crate) fn record(definition: &Definition, instance: &Instance) -> Result<WorkflowRecord> {
    Ok(WorkflowRecord {
        id: instance.id,
        tenant: instance.tenant.clone(),
        manifest: instance.manifest,
        definition: instance.definition.clone(),
        state: instance.state.clone(),
        open: !instance.ended && is_open(definition, &instance.state),
        revision: instance.revision,
        created_by: instance.created_by.clone(),
        created_at: instance.created_at,
        updated_at: instance.updated_at,
        pending_since: instance.pending.as_ref().map(|_| instance.updated_at),
        data: serde_json::to_value(instance).context("a workflow cannot be written")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        definition::{Quorum, Stage, shipped},
        engine_tests::{Dice, begin},
        model::Pending,
    };
    use omt_kernel::{OffsetDateTime, manifest::Classification};
    use std::collections::BTreeSet;

    /// An approved workflow with two ways out: `publish` by several people, `express` by one.
    fn two_ways(express_first: bool) -> (Definition, Instance) {
        let mut definition = shipped().unwrap().remove(0);
        let publish = definition.transitions.iter().position(|t| t.action == "publish").unwrap();
        let mut express = definition.transitions[publish].clone();
        (express.action, express.guards) = ("express".into(), vec![Guard::ClassificationAtMost(Classification::Public)]);
        let stage = Stage {
            name: "board".into(),
            task: None,
            role: "approver".into(),
            groups: BTreeSet::new(),
            quorum: Quorum::Count(2),
            after: BTreeSet::new(),
            due: None,
        };
        let several = &mut definition.transitions[publish];
        (several.role, several.task, several.due, several.stages) = (None, None, None, vec![stage]);
        several.guards = vec![Guard::PolicyPassed];
        definition.transitions.insert(if express_first { publish } else { publish + 1 }, express);
        let mut instance = begin(&definition, &mut Dice(7), OffsetDateTime::UNIX_EPOCH);
        instance.state = "approved".into();
        (definition, instance)
    }

    fn decided(instance: &mut Instance, action: &str) {
        instance.pending = Some(Pending { action: action.into(), by: "user:1".into(), comments: None });
    }

    #[test]
    fn a_signature_is_measured_by_what_was_decided() {
        for express_first in [false, true] {
            let (definition, mut instance) = two_ways(express_first);
            // By hand, nobody goes around those who must agree.
            let error = signing_guards(&definition, &instance).unwrap_err();
            assert_eq!((error.kind, error.code), (Kind::Conflict, "APPROVAL_REQUIRED"));
            assert!(error.message.contains("publish"), "{error}");
            decided(&mut instance, "express");
            let express = [Guard::ClassificationAtMost(Classification::Public)];
            assert_eq!(signing_guards(&definition, &instance).unwrap(), express);
            decided(&mut instance, "publish");
            assert_eq!(signing_guards(&definition, &instance).unwrap(), [Guard::PolicyPassed]);
        }
    }

    #[test]
    fn a_claim_attests_what_is_so_when_it_is_kept() {
        let attested = |workflow: u128, pdpa: bool| Attested {
            workflow: omt_kernel::WorkflowId(uuid::Uuid::from_u128(workflow)),
            assertion: CustomAssertion {
                label: WORKFLOW_LABEL.into(),
                data: serde_json::json!({ "workflow_id": workflow.to_string(), "compliance_check": { "pdpa_approved": pdpa } }),
            },
        };
        let before = attested(1, true);
        check_unchanged(Some(&before), Some(&attested(1, true))).unwrap();
        check_unchanged(None, None).unwrap();
        // Cancelled meanwhile, begun meanwhile, another one, and evidence that was withdrawn.
        for (then, now) in [
            (Some(&before), None),
            (None, Some(&before)),
            (Some(&before), Some(&attested(2, true))),
            (Some(&before), Some(&attested(1, false))),
        ] {
            let error = check_unchanged(then, now).unwrap_err();
            assert_eq!((error.kind, error.code), (Kind::Conflict, "CONCURRENT_CHANGE"));
        }
    }

    #[test]
    fn a_signature_by_hand_is_measured_by_every_way_out() {
        let (mut definition, mut instance) = two_ways(false);
        for transition in definition.transitions.iter_mut().filter(|t| t.action == "publish") {
            (transition.role, transition.stages) = (Some("approver".into()), vec![]);
            transition.guards = vec![Guard::PolicyPassed, Guard::ClassificationAtMost(Classification::Public)];
        }
        let both = [Guard::PolicyPassed, Guard::ClassificationAtMost(Classification::Public)];
        assert_eq!(signing_guards(&definition, &instance).unwrap(), both, "each once");
        // What is under way and does not sign says nothing of signing.
        decided(&mut instance, "archive");
        assert_eq!(signing_guards(&definition, &instance).unwrap(), both);
        // One way out, by one person: its guards, as ever.
        let shipped = shipped().unwrap().remove(0);
        instance.pending = None;
        let publish = shipped.transition("approved", "publish").unwrap();
        assert_eq!(signing_guards(&shipped, &instance).unwrap(), publish.guards);
    }
}
