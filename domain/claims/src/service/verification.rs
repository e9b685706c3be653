//! Verifying: uploads and stored manifests, with a cache of results and a history.

use super::{Manifests, Uploaded};
use crate::{
    Verification, VerificationReport, VerifyRequest, engine, guard,
    media::{self, Media},
    metadata::{self, Extracted},
    report::{OrganizationalCompliance, TrustLevel},
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use omt_audit::Event;
use omt_kernel::{
    Actor, Error, Kind, ManifestId, Permission, PqRequirement, Result, VerificationId,
    error::Context as _,
    manifest::{BlobRef, ManifestRecord, ManifestState},
    port::{Content, Page},
    record::VerificationRecord,
    retry,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What to verify.
#[derive(Debug)]
pub enum VerifyTarget {
    /// A manifest of ours.
    Stored(ManifestId),
    /// Content that came with the request.
    Uploaded {
        /// The content.
        file: Uploaded,
        /// A manifest store beside it.
        sidecar: Option<Bytes>,
    },
}

/// Content that was examined.
#[derive(Debug)]
pub struct Examined {
    /// Its type.
    pub media_type: &'static str,
    /// Its size in bytes.
    pub size: u64,
    /// Its metadata.
    pub extracted: Extracted,
    /// Its verification.
    pub report: VerificationReport,
    /// The C2PA crJSON of all its manifests, where they are readable.
    pub crjson: Option<serde_json::Value>,
}

/// Content and everything the result depends on.
struct Subject {
    content: Content,
    blob: BlobRef,
    media: Option<Media>,
    sidecar: Option<Bytes>,
}

impl Manifests {
    /// Verifies. Results on stored manifests go into their history.
    ///
    /// `strict` turns warnings into issues.
    pub async fn verify(self: &Arc<Self>, actor: &Actor, target: VerifyTarget, strict: bool) -> Result<VerificationReport> {
        actor.require(Permission::ManifestRead)?;
        let finish = async |verification: &Verification, id| {
            let mut report = self.own_word(actor, &verification.report).await?;
            report.manifest_id = id;
            Ok::<_, Error>(if strict { report.strict() } else { report })
        };
        match target {
            VerifyTarget::Uploaded { file, sidecar } => {
                let subject = Subject { content: file.content, blob: file.blob, media: None, sidecar };
                let verification = self.judge(actor, subject, false).await?;
                finish(&verification, None).await
            }
            VerifyTarget::Stored(id) => {
                let record = self.load(actor, id).await?;
                let verification = self.judge_stored(actor, &record, false).await?;
                let report = finish(&verification, Some(id)).await?;
                self.remember(actor, &record, &report).await?;
                Ok(report)
            }
        }
    }

    /// Verifies a stored manifest, and says what its claim says besides: the crJSON of all its manifests, where they are readable. The
    /// result goes into its history.
    pub async fn verify_in_full(
        self: &Arc<Self>,
        actor: &Actor,
        id: ManifestId,
    ) -> Result<(VerificationReport, Option<serde_json::Value>)> {
        actor.require(Permission::ManifestRead)?;
        let record = self.load(actor, id).await?;
        let verification = self.judge_stored(actor, &record, true).await?;
        let mut report = self.own_word(actor, &verification.report).await?;
        report.manifest_id = Some(id);
        self.remember(actor, &record, &report).await?;
        Ok((report, verification.crjson.clone()))
    }

    /// The verification of a stored manifest, with crJSON and chain of custody where `detail` asks for them; not kept in the
    /// history.
    pub async fn examine(self: &Arc<Self>, actor: &Actor, id: ManifestId, detail: bool) -> Result<Arc<Verification>> {
        actor.require(Permission::ManifestRead)?;
        let record = self.load(actor, id).await?;
        self.note_read(actor, &record).await?;
        self.judge_stored(actor, &record, detail).await
    }

    /// What content that came with the request is and says, in full.
    pub async fn examine_upload(self: &Arc<Self>, actor: &Actor, file: Uploaded, sidecar: Option<Bytes>) -> Result<Examined> {
        actor.require(Permission::ManifestRead)?;
        let Uploaded { content, blob, .. } = file;
        let size = blob.size;
        let look = move || {
            let media = engine::sniff(&content)?;
            guard::check(media, &mut engine::open(&content)?)
                .map_err(|e| Error::unprocessable_field("CONTENT_REFUSED", "file", e.to_string()))?;
            let extracted = metadata::extract(media, size, &mut engine::open(&content)?);
            Ok((media, extracted, content))
        };
        let (media, extracted, content) = self.deps.pool.run(look).await?;
        let verification = self.judge(actor, Subject { content, blob, media: Some(media), sidecar }, true).await?;
        let report = self.own_word(actor, &verification.report).await?;
        let crjson = verification.crjson.clone();
        Ok(Examined { media_type: media.mime, size, extracted, report, crjson })
    }

    /// A report as the actor's tenant may read it: an approval by a workflow that is none of theirs is not their organisation's word.
    async fn own_word(&self, actor: &Actor, report: &VerificationReport) -> Result<VerificationReport> {
        let mut report = report.clone();
        let Some(workflow) = report.organizational_compliance.workflow_id.clone() else { return Ok(report) };
        let ours = match workflow.parse() {
            Ok(id) => self.deps.database.read().await?.workflows().get(&actor.tenant, id).await?.is_some(),
            Err(_) => false,
        };
        if !ours {
            report.organizational_compliance = OrganizationalCompliance::default();
            report.trust_level = report.trust_level.min(TrustLevel::Enterprise);
        }
        Ok(report)
    }

    /// A manifest's kept results, newest first.
    pub async fn history(&self, actor: &Actor, id: ManifestId, page: Page) -> Result<Vec<VerificationRecord>> {
        actor.require(Permission::ManifestRead)?;
        self.load(actor, id).await?;
        self.deps.database.read().await?.verifications().history(&actor.tenant, id, page).await
    }

    async fn judge_stored(self: &Arc<Self>, actor: &Actor, record: &ManifestRecord, detail: bool) -> Result<Arc<Verification>> {
        let Some(signed) = &record.signed else {
            let (code, words) = match record.state {
                ManifestState::Archived => ("ARCHIVED", "the manifest was archived before it was signed"),
                _ => ("NOT_SIGNED", "the manifest is a draft; there is nothing to verify yet"),
            };
            return Err(Error::new(Kind::Conflict, code, words));
        };
        super::storage::check_content(record)?;
        let content = self.open(actor, &signed.asset).await?;
        let sidecar = if signed.embedded {
            None
        } else {
            let range = 0..signed.manifest_store.size;
            let read = self.deps.blobs.read(&actor.tenant, &signed.manifest_store, range).await;
            let chunks = self.fetched(actor, &signed.manifest_store, read).await?.now()?;
            let bytes: Vec<Bytes> = chunks.try_collect().await?;
            Some(bytes.concat().into())
        };
        let media = Some(media::recorded(&record.media_type, signed.embedded));
        self.judge(actor, Subject { content, blob: signed.asset.clone(), media, sidecar }, detail).await
    }

    async fn judge(self: &Arc<Self>, actor: &Actor, subject: Subject, detail: bool) -> Result<Arc<Verification>> {
        let requirement = self.settings(actor).await?.post_quantum;
        let key = self.key(&subject, requirement, detail);
        let found = self.results.get(&key).await;
        self.deps.telemetry.cache("verification", found.is_some());
        if let Some(found) = found {
            self.deps.telemetry.verified(found.report.validation_state.as_str());
            return Ok(found);
        }
        if let Some(shared) = &self.deps.shared {
            let found = shared.get(&key).await;
            self.deps.telemetry.cache("shared_verification", found.is_some());
            if let Some(found) = found {
                let found = Arc::new(found);
                self.deps.telemetry.verified(found.report.validation_state.as_str());
                self.results.insert(key, found.clone()).await;
                return Ok(found);
            }
        }
        let _turn = self.turns.take(subject.blob.size).await?;
        let this = self.clone();
        let result = self.deps.pool.run(move || this.verify_now(&subject, requirement, detail)).await?;
        let result = Arc::new(result);
        if let Some(shared) = &self.deps.shared {
            // Half the time: it may already be old where it is found.
            shared.put(&key, &result, super::RESULTS / 2).await;
        }
        self.deps.telemetry.verified(result.report.validation_state.as_str());
        self.results.insert(key, result.clone()).await;
        Ok(result)
    }

    fn verify_now(&self, subject: &Subject, post_quantum: PqRequirement, detail: bool) -> Result<Verification> {
        let media = match subject.media {
            Some(media) => media,
            None => engine::sniff(&subject.content)?,
        };
        self.deps.engine.verify(&VerifyRequest {
            content: &subject.content,
            media,
            sidecar: subject.sidecar.as_deref(),
            trust: &self.deps.trust,
            post_quantum,
            now: self.deps.clock.now(),
            detail,
        })
    }

    fn key(&self, subject: &Subject, requirement: PqRequirement, detail: bool) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(subject.blob.sha256.as_bytes());
        hash.update(subject.media.map_or("sniffed", |m| m.mime));
        hash.update(subject.sidecar.as_ref().map(Sha256::digest).unwrap_or_default());
        hash.update(self.deps.trust.digest());
        hash.update(requirement.as_str());
        hash.update([u8::from(detail)]);
        hash.finalize().into()
    }

    async fn remember(&self, actor: &Actor, about: &ManifestRecord, report: &VerificationReport) -> Result<()> {
        let now = self.deps.clock.now();
        let record = VerificationRecord {
            id: VerificationId(self.deps.entropy.uuid_v7(now)),
            tenant: actor.tenant.clone(),
            manifest: about.id,
            state: report.validation_state.as_str().to_owned(),
            trust_level: report.trust_level.as_str().to_owned(),
            report: serde_json::to_value(report).context("a report cannot be written")?,
            verified_by: actor.subject.clone(),
            created_at: now,
        };
        retry::transaction(self.deps.entropy.as_ref(), async || {
            let unit = self.deps.database.begin().await?;
            unit.verifications().insert(&record).await?;
            let event = Event::new("manifest.verify", "manifest", about.id).tell("manifest.verified", about);
            let event = event.detail(serde_json::json!({ "state": record.state }));
            self.deps.audit.append(unit.as_ref(), actor, event).await?;
            unit.commit().await
        })
        .await
    }
}
