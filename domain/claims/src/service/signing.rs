//! Signing: drafts, uploads that are signed at once, and files away from the database.

use super::{
    Dependencies, Manifests, Once, Outcome, Uploaded,
    drafts::Change,
    plan,
    storage::Stored,
    upload::{Inspected, inspect},
};
use crate::{
    definition::{ClaimDefinition, CustomAssertion, is_workflow_label},
    digest::{BlobDigest, digest_of},
    engine::{self, PlannedAssertion, PlannedIngredient},
    governance::{Alongside, Attested},
    media::Media,
    rules, thumbnail,
};
use bytes::Bytes;
use omt_crypto::SignatureScheme;
use omt_kernel::{
    Actor, Error, ManifestId, Permission, Result, TenantId, TenantSettings, check_revision,
    error::Context as _,
    manifest::{BlobRef, IngredientRecord, ManifestState, SignedParts},
    port::{BlobStore, Content},
};
use std::{io::BufReader, sync::Arc};

/// A request to sign a draft.
#[derive(Debug, Clone, Copy)]
pub struct SignRequest {
    /// The scheme.
    pub scheme: SignatureScheme,
    /// The revision the caller saw.
    pub if_match: Option<i64>,
}

/// What belongs to signing a draft.
pub(super) struct Signing<'a> {
    pub(super) settings: &'a TenantSettings,
    pub(super) attested: Option<&'a Attested>,
    pub(super) alongside: Option<&'a dyn Alongside>,
}

/// Refuses content that is not what its record says. What came through memory or a download was checked on its way.
pub(super) fn check_stored(content: &Content, blob: &BlobRef) -> Result<()> {
    if !matches!(content, Content::Stored(_)) || digest_of(content)? == *blob {
        return Ok(());
    }
    Err(Error::internal("stored content is not what its record says"))
}

/// What signing gives the store: bytes and their digests.
pub(super) struct Signed {
    /// The asset with the manifest inside; none when the format takes a sidecar.
    pub(super) asset: Option<(Content, BlobRef)>,
    manifest_store: Bytes,
    manifest_digest: BlobRef,
    label: String,
}

/// What the claim says.
pub(super) struct Said<'a> {
    /// Title.
    pub(super) title: &'a str,
    /// What its author says.
    pub(super) definition: &'a ClaimDefinition,
    /// What the platform says itself: a created assertion, where those of the author are gathered (C2PA 2.2 §10.3).
    pub(super) attested: Option<CustomAssertion>,
}

/// Plans and signs, on the pool.
pub(super) fn sign_now(
    deps: &Dependencies,
    said: Said<'_>,
    file: &Uploaded,
    inspected: &Inspected,
    ingredients: Vec<PlannedIngredient>,
    identity: omt_pki::SigningIdentity,
    with_thumbnail: bool,
) -> Result<Signed> {
    let content = &file.content;
    let mut plan = plan(deps, said.title, inspected, said.definition, ingredients, identity)?;
    plan.assertions.extend(said.attested.map(|assertion| PlannedAssertion {
        json: assertion.is_json(),
        label: assertion.label,
        data: assertion.data,
        created: true,
    }));
    if with_thumbnail && engine::len(content)? < engine::LARGE {
        let source = BufReader::new(engine::open(content)?);
        plan.thumbnail = thumbnail::make(inspected.media, source, inspected.extracted.orientation);
    }
    plan.source = Some(file.blob.clone());
    let signed = deps.engine.sign(plan, content)?;
    let asset = match signed.asset {
        Some(content) => {
            let blob = digest_of(&content)?;
            Some((content, blob))
        }
        None => None,
    };
    let manifest_digest = BlobRef::of(&signed.manifest_store);
    Ok(Signed { asset, manifest_store: signed.manifest_store, manifest_digest, label: signed.label })
}

pub(super) fn parts(signed: &Signed, source: &BlobRef, scheme: SignatureScheme, now: time::OffsetDateTime) -> SignedParts {
    SignedParts {
        asset: signed.asset.as_ref().map_or_else(|| source.clone(), |(_, blob)| blob.clone()),
        manifest_store: signed.manifest_digest.clone(),
        embedded: signed.asset.is_some(),
        algorithm: scheme.to_string(),
        manifest_label: signed.label.clone(),
        signed_at: now,
        workflow: None,
    }
}

/// Stores the signed asset and the manifest store, which no two signings make alike; durable when it returns.
pub(super) async fn store_signed(blobs: &dyn BlobStore, tenant: &TenantId, signed: Signed) -> Result<()> {
    let store = blobs.put_new(tenant, &signed.manifest_digest, Content::Memory(signed.manifest_store));
    let Some((content, blob)) = signed.asset else { return store.await };
    let (asset, store) = futures_util::join!(blobs.put_new(tenant, &blob, content), store);
    asset.and(store)
}

impl Manifests {
    /// Signs a draft.
    pub async fn sign(
        self: &Arc<Self>,
        actor: &Actor,
        id: ManifestId,
        request: SignRequest,
        once: Option<Once>,
    ) -> Result<Outcome> {
        self.sign_alongside(actor, id, request, once, None).await
    }

    /// Signs a draft, and writes something else in the same transaction.
    pub async fn sign_alongside(
        self: &Arc<Self>,
        actor: &Actor,
        id: ManifestId,
        request: SignRequest,
        once: Option<Once>,
        alongside: Option<&dyn Alongside>,
    ) -> Result<Outcome> {
        actor.require(Permission::ManifestSign)?;
        if let Some(outcome) = self.replay(actor, once.as_ref()).await? {
            return Ok(outcome);
        }
        let record = self.load(actor, id).await?;
        if let Err(refusal) =
            rules::check_draft(&record).and_then(|()| check_revision("manifest", record.revision, request.if_match))
        {
            // This very request may have been answered between the two reads.
            return match self.replay(actor, once.as_ref()).await? {
                Some(outcome) => Ok(outcome),
                None => Err(refusal),
            };
        }
        let _turn = self.turns.take(record.source.size).await?;
        let settings = self.settings(actor).await?;
        rules::check_scheme(request.scheme, &settings)?;
        let identity = self.identity(request.scheme).await?;
        let mut definition: ClaimDefinition =
            serde_json::from_value(record.definition.clone()).context("the record's definition cannot be read")?;
        if !settings.approval.is_empty() {
            // Of drafts that are older than this rule.
            definition.assertions.retain(|assertion| !is_workflow_label(&assertion.label));
        }
        let attested = self.deps.governance.may_sign(&record, &settings).await?;
        let workflow = attested.as_ref().map(|attested| attested.workflow);
        if workflow.is_some() {
            // What really happened stands in the place of what the draft said about it.
            definition.assertions.retain(|assertion| !is_workflow_label(&assertion.label));
        }
        let content = self.open(actor, &record.source).await?;
        let mut contents = Vec::new();
        for ingredient in &record.ingredients {
            contents.push(self.open(actor, &ingredient.blob).await?);
        }
        let (this, draft, thumbnails) = (self.clone(), record.clone(), settings.thumbnails);
        let assertion = attested.as_ref().map(|attested| attested.assertion.clone());
        let signed = self
            .deps
            .pool
            .run(move || {
                check_stored(&content, &draft.source)?;
                for (content, ingredient) in contents.iter().zip(&draft.ingredients) {
                    check_stored(content, &ingredient.blob)?;
                }
                let file = Uploaded { content, blob: draft.source.clone(), file_name: None, declared_type: None };
                let inspected = inspect(&file, "file")?;
                let planned = planned(&draft.ingredients, contents.into_iter())?;
                let said = Said { title: &draft.title, definition: &definition, attested: assertion };
                sign_now(&this.deps, said, &file, &inspected, planned, identity, thumbnails)
            })
            .await?;
        let now = self.deps.clock.now();
        let mut next = record.clone();
        next.revision += 1;
        next.state = ManifestState::Signed;
        next.signed = Some(SignedParts { workflow, ..parts(&signed, &record.source, request.scheme, now) });
        next.updated_at = now;
        store_signed(self.deps.blobs.as_ref(), &actor.tenant, signed).await?;
        let signing = Signing { settings: &settings, attested: attested.as_ref(), alongside };
        let change = Change {
            action: "manifest.sign",
            event: "manifest.signed",
            old: &record,
            next,
            stored: Some(&Stored::default()),
            signing: Some(signing),
        };
        let outcome = self.replace(actor, change, once.as_ref()).await?;
        if matches!(outcome, Outcome::Done(_)) {
            self.deps.telemetry.manifest("signed");
        }
        Ok(outcome)
    }

    pub(super) async fn identity(&self, scheme: SignatureScheme) -> Result<omt_pki::SigningIdentity> {
        self.deps.pki.identity(scheme).await.map_err(|e| Error::internal("no signing identity").caused_by(e))
    }
}

pub(super) fn planned(records: &[IngredientRecord], contents: impl Iterator<Item = Content>) -> Result<Vec<PlannedIngredient>> {
    let each = |(record, content): (&IngredientRecord, Content)| {
        Ok(PlannedIngredient {
            title: record.title.clone(),
            media: engine::sniff(&content)?,
            relationship: record.relationship,
            content: Some(content),
        })
    };
    records.iter().zip(contents).map(each).collect()
}

/// A file signed away from the database.
#[derive(Debug)]
pub struct Offline {
    /// The signed asset; none when the format takes a sidecar.
    pub asset: Option<Content>,
    /// The manifest store.
    pub manifest_store: bytes::Bytes,
    /// What the content is.
    pub media: Media,
}

impl Manifests {
    /// Signs content without keeping a record: the command line's way. Blocks.
    pub fn sign_offline(
        &self,
        file: Uploaded,
        title: &str,
        definition: &ClaimDefinition,
        identity: omt_pki::SigningIdentity,
        with_thumbnail: bool,
    ) -> Result<Offline> {
        definition.validate()?;
        let inspected = inspect(&file, "file")?;
        let said = Said { title, definition, attested: None };
        let signed = sign_now(&self.deps, said, &file, &inspected, Vec::new(), identity, with_thumbnail)?;
        Ok(Offline {
            asset: signed.asset.map(|(content, _)| content),
            manifest_store: signed.manifest_store,
            media: inspected.media,
        })
    }
}
