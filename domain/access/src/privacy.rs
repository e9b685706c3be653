//! The rights of persons: what is known of somebody, and forgetting it (GDPR articles 15 and 17, PDPA sections 21 and 25).

use crate::{Access, keys::keys_of, rules, service::lock_administrators};
use omt_audit::Event;
use omt_kernel::{
    Actor, Error, Kind, ManifestId, Permission, Result, TenantId, UserId,
    access::{SessionRecord, UserRecord},
    governance::{EvidenceRecord, WorkflowFilter, WorkflowRecord},
    manifest::{ManifestFilter, ManifestRecord, ManifestState},
    port::{Stale, UnitOfWork, whole},
    record::ApiKeyRecord,
};
use serde_json::json;
use std::collections::BTreeSet;

/// What an erased person's name becomes.
const ERASED: &str = "erased";

/// What the answer to an export does not have in it, and where that is to be found.
pub const NOT_EXPORTED: &[&str] = &[
    "the person's entries of the audit log: GET /api/v1/admin/audit-logs?actor=user:{id}",
    "the person's steps in workflows that others began, and comments: GET /api/v1/workflows/{id}/history",
    "what the person's evidence says, which may be about others: GET /api/v1/compliance/records",
    "verifications that the person asked for: GET /api/v1/verify/{id}/history",
    "uploaded and signed content, and metadata in it: GET /api/v1/manifests/{id}/content",
    "free text by anybody that may name the person: titles, comments, reasons, names of API keys",
    "logs of the server process, backups, and copies of the audit log",
];

/// Where an erasure does not look.
pub const NOT_ERASED: &[&str] = &[
    "uploaded and signed content, metadata in it, and reports on it",
    "what claims of drafts and signed manifests say",
    "free text by anybody that may name the person: titles, comments in workflows, reasons, evidence, names of API keys",
    "messages that were sent, and answers of webhooks that were delivered",
    "logs of the server process, backups, and copies of the audit log",
];

/// What is known of a person.
#[derive(Debug, Clone)]
pub struct SubjectExport {
    /// The user; none when they were removed.
    pub user: Option<UserRecord>,
    /// The name behind the pseudonym in the audit log.
    pub name_in_log: Option<String>,
    /// Live sessions.
    pub sessions: Vec<SessionRecord>,
    /// Manifests that the person made.
    pub manifests: Vec<ManifestRecord>,
    /// API keys that the person made.
    pub api_keys: Vec<ApiKeyRecord>,
    /// Evidence that the person brought.
    pub evidence: Vec<EvidenceRecord>,
    /// Workflows that the person began.
    pub workflows: Vec<WorkflowRecord>,
}

/// Somebody of whom something is known, whether or not they are still a user.
struct Subject {
    id: String,
    user: Option<UserRecord>,
    name_in_log: Option<String>,
    manifests: Vec<ManifestRecord>,
}

async fn manifests_of(read: &dyn UnitOfWork, tenant: &TenantId, subject: &str) -> Result<Vec<ManifestRecord>> {
    let mut out = Vec::new();
    for state in ManifestState::ALL {
        let filter = ManifestFilter { created_by: Some(subject.to_owned()), state: Some(*state), ..ManifestFilter::default() };
        let made = async |page| read.manifests().list(tenant, &filter, page).await;
        out.extend(whole(|record: &ManifestRecord| record.id.0, made).await?);
    }
    Ok(out)
}

impl Access {
    /// Who is removed is no user any more, and may still be known by name: in the audit log, and on what they made.
    async fn subject(&self, tenant: &TenantId, id: UserId) -> Result<Subject> {
        let read = self.deps.database.read().await?;
        let subject = format!("user:{id}");
        let user = read.users().get(tenant, id).await?;
        let name_in_log = read.audit().person(tenant, &subject).await?.map(|person| person.name);
        let manifests = manifests_of(read.as_ref(), tenant, &subject).await?;
        let known = user.is_some() || name_in_log.is_some() || manifests.iter().any(|record| record.creator != ERASED);
        match known {
            true => Ok(Subject { id: subject, user, name_in_log, manifests }),
            false => Err(Error::not_found("user")),
        }
    }

    /// Everything that is known of somebody who is or was a user, but for [`NOT_EXPORTED`].
    pub async fn export_subject(&self, actor: &Actor, id: UserId) -> Result<SubjectExport> {
        actor.require(Permission::AdminPrivacy)?;
        let Subject { id: subject, user, name_in_log, mut manifests } = self.subject(&actor.tenant, id).await?;
        if let Some(user) = &user {
            rules::check_reach(&actor.reach, &user.effective_reach())?;
        }
        let (tenant, now) = (&actor.tenant, self.deps.clock.now());
        let read = self.deps.database.read().await?;
        let live = async |page| read.sessions().list(tenant, Some(id), now, page).await;
        let sessions = whole(|session: &SessionRecord| session.id.0, live).await?;
        manifests.retain(|record| actor.reach.sees(record));
        let api_keys = keys_of(read.as_ref(), tenant, &subject).await?;
        let brought = async |page| read.compliance().brought_by(tenant, &subject, page).await;
        let evidence = whole(|record: &EvidenceRecord| record.id.0, brought).await?;
        let filter =
            WorkflowFilter { created_by: Some(subject.clone()), reach: Some(actor.reach.clone()), ..WorkflowFilter::default() };
        let begun = async |page| read.workflows().list(tenant, &filter, page).await;
        let workflows = whole(|record: &WorkflowRecord| record.id.0, begun).await?;
        drop(read);
        self.deps.audit.record(actor, Event::new("privacy.export", "user", id)).await?;
        Ok(SubjectExport { user, name_in_log, sessions, manifests, api_keys, evidence, workflows })
    }

    /// Forgets somebody who is or was a user: record, sessions, stored answers to them or about them and the name in the audit log
    /// go, their API keys end, and records that they made name nobody any more. What was signed with a name keeps it, because a
    /// signature cannot be changed; those manifests are listed. Refused while a legal hold lies on anything that the person made.
    /// It does not look into [`NOT_ERASED`].
    pub async fn erase_subject(&self, actor: &Actor, id: UserId) -> Result<Vec<ManifestId>> {
        actor.require(Permission::AdminPrivacy)?;
        self.require_step_up(actor).await?;
        let Subject { id: subject, manifests, .. } = self.subject(&actor.tenant, id).await?;
        if actor.subject == subject {
            return Err(Error::new(Kind::Conflict, "OWN_ERASURE", "somebody else has to erase you"));
        }
        if manifests.iter().any(|record| !actor.reach.sees(record)) {
            let words = "the person made content beyond your reach; somebody who sees it has to erase them";
            return Err(Error::new(Kind::Forbidden, "REACH_NOT_HELD", words));
        }
        let held = manifests.iter().filter(|record| record.legal_hold.is_some()).count();
        if held > 0 {
            let words = format!("{held} of the person's manifests are under a legal hold; release it first");
            return Err(Error::new(Kind::Conflict, "LEGAL_HOLD", words));
        }
        let now = self.deps.clock.now();
        // Whatever they called themselves there: people write their names in many ways.
        let named: Vec<&ManifestRecord> = manifests.iter().filter(|record| record.creator != ERASED).collect();
        let signed: Vec<ManifestId> = named
            .iter()
            .filter(|record| record.signed.is_some() && record.content_deleted_at.is_none())
            .map(|record| record.id)
            .collect();
        self.transaction(async |unit| {
            lock_administrators(unit, &actor.tenant).await?;
            if let Some(user) = unit.users().get(&actor.tenant, id).await? {
                self.check_outranked(unit, actor, &user).await?;
                self.check_administrators(unit, &user, None).await?;
                let names: BTreeSet<&String> = user.former_names.iter().chain([&user.username]).collect();
                for name in names {
                    let counted = crate::service::digest(&rules::counted_name(name));
                    unit.users().set_attempts(&actor.tenant, &counted, None).await?;
                }
            }
            for record in &named {
                let mut next = (*record).clone();
                (next.creator, next.revision, next.updated_at) = (ERASED.to_owned(), record.revision + 1, now);
                if !unit.manifests().update(&next, record.revision).await? {
                    let words = "somebody changed one of the person's manifests at the same time; try again";
                    return Err(Error::new(Kind::Conflict, "CONCURRENT_CHANGE", words));
                }
            }
            self.revoke_keys_of(unit, actor, &subject, now).await?;
            unit.idempotency().forget_subject(&actor.tenant, &subject).await?;
            // Answers given to others tell of the person too: those that made or changed the user say name and address.
            unit.idempotency().forget_naming(&actor.tenant, &id.to_string()).await?;
            // Where the user is gone already, older versions may have left something of them.
            unit.users().delete(&actor.tenant, id).await?;
            self.deps.audit.forget(unit, &actor.tenant, &subject).await?;
            let detail = json!({ "records": manifests.len(), "signed_with_name": signed.len() });
            self.deps.audit.append(unit, actor, Event::new("privacy.erase", "user", id).detail(detail)).await
        })
        .await?;
        self.rights_changed().await;
        self.deps.broadcast.tell(Stale::Person(actor.tenant.clone(), subject.clone())).await;
        Ok(signed)
    }
}
