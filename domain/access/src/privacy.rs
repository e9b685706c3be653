//! The rights of persons: what is known of somebody, and forgetting it (GDPR articles 15 and 17, PDPA sections 21 and 25).

use crate::{Access, rules};
use omt_audit::Event;
use omt_kernel::{
    Actor, Error, Kind, ManifestId, Permission, Result, UserId,
    access::{SessionRecord, UserRecord},
    manifest::{ManifestFilter, ManifestRecord, ManifestState},
    port::Page,
};
use serde_json::json;

/// What an erased person's name becomes.
const ERASED: &str = "erased";
/// Records of one page while somebody's are looked through.
const PAGE: u32 = 200;

/// What is known of a person.
#[derive(Debug, Clone)]
pub struct SubjectExport {
    /// The user.
    pub user: UserRecord,
    /// Live sessions.
    pub sessions: Vec<SessionRecord>,
    /// Manifests that the person made.
    pub manifests: Vec<ManifestRecord>,
}

impl Access {
    async fn manifests_of(&self, user: &UserRecord) -> Result<Vec<ManifestRecord>> {
        let read = self.deps.database.read().await?;
        let mut out = Vec::new();
        for state in ManifestState::ALL {
            let filter = ManifestFilter { created_by: Some(user.subject()), state: Some(*state), ..ManifestFilter::default() };
            let mut after = None;
            loop {
                let page = read.manifests().list(&user.tenant, &filter, Page { after, limit: PAGE }).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.id.0);
                out.extend(page);
            }
        }
        Ok(out)
    }

    /// Everything that is known of a user.
    pub async fn export_subject(&self, actor: &Actor, id: UserId) -> Result<SubjectExport> {
        actor.require(Permission::AdminPrivacy)?;
        let user = self.own_record(actor, id).await?;
        let now = self.deps.clock.now();
        let page = Page { after: None, limit: 1000 };
        let sessions = self.deps.database.read().await?.sessions().list(&actor.tenant, Some(id), now, page).await?;
        rules::check_reach(&actor.reach, &user.effective_reach())?;
        let mut manifests = self.manifests_of(&user).await?;
        manifests.retain(|record| actor.reach.sees(record));
        self.deps.audit.record(actor, Event::new("privacy.export", "user", id)).await?;
        Ok(SubjectExport { user, sessions, manifests })
    }

    /// Forgets a user: record, sessions, stored answers and the name in the audit log go, and drafts and records no longer name
    /// them. What was signed with a name keeps it, because a signature cannot be changed; those manifests are listed. Refused
    /// while a legal hold lies on anything that the person made.
    pub async fn erase_subject(&self, actor: &Actor, id: UserId) -> Result<Vec<ManifestId>> {
        actor.require(Permission::AdminPrivacy)?;
        self.require_step_up(actor).await?;
        let user = self.own_record(actor, id).await?;
        if actor.subject == user.subject() {
            return Err(Error::new(Kind::Conflict, "OWN_ERASURE", "somebody else has to erase you"));
        }
        let manifests = self.manifests_of(&user).await?;
        if manifests.iter().any(|record| !actor.reach.sees(record)) {
            let words = "the person made content beyond your reach; somebody who sees it has to erase them";
            return Err(Error::new(Kind::Forbidden, "REACH_NOT_HELD", words));
        }
        let held = manifests.iter().filter(|record| record.legal_hold.is_some()).count();
        if held > 0 {
            let words = format!("{held} of the person's manifests are under a legal hold; release it first");
            return Err(Error::new(Kind::Conflict, "LEGAL_HOLD", words));
        }
        let names: Vec<&str> = [Some(user.username.as_str()), user.display_name.as_deref()]
            .into_iter()
            .flatten()
            .chain(user.former_names.iter().map(String::as_str))
            .collect();
        let now = self.deps.clock.now();
        let signed: Vec<ManifestId> = manifests
            .iter()
            .filter(|record| record.signed.is_some() && record.content_deleted_at.is_none())
            .filter(|record| names.contains(&record.creator.as_str()))
            .map(|record| record.id)
            .collect();
        self.transaction(async |unit| {
            unit.lock(&format!("administrators:{}", actor.tenant)).await?;
            let user = unit.users().get(&actor.tenant, id).await?.ok_or_else(|| Error::not_found("user"))?;
            self.check_outranked(unit, actor, &user).await?;
            self.check_administrators(unit, &user, None).await?;
            for record in manifests.iter().filter(|record| names.contains(&record.creator.as_str())) {
                let mut next = record.clone();
                (next.creator, next.revision, next.updated_at) = (ERASED.to_owned(), record.revision + 1, now);
                if !unit.manifests().update(&next, record.revision).await? {
                    let words = "somebody changed one of the person's manifests at the same time; try again";
                    return Err(Error::new(Kind::Conflict, "CONCURRENT_CHANGE", words));
                }
            }
            unit.idempotency().forget_subject(&actor.tenant, &user.subject()).await?;
            unit.users().set_attempts(&actor.tenant, &crate::service::digest(&rules::counted_name(&user.username)), None).await?;
            unit.users().delete(&actor.tenant, id).await?;
            self.deps.audit.forget(unit, &actor.tenant, &user.subject()).await?;
            let detail = json!({ "records": manifests.len(), "signed_with_name": signed.len() });
            self.deps.audit.append(unit, actor, Event::new("privacy.erase", "user", id).detail(detail)).await
        })
        .await?;
        self.forget_known();
        Ok(signed)
    }
}
