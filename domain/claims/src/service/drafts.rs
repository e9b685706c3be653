//! Uploading, signing, changing and archiving.

use super::{Dependencies, Manifests, Once, Outcome, Uploaded, plan, storage::Stored};
use crate::{
    definition::ClaimDefinition,
    digest::{BlobDigest, digest},
    engine::{self, PlannedIngredient},
    governance::Alongside,
    guard,
    jumbf::ManifestStore,
    media::{self, Embedding, Media},
    metadata::{self, Extracted},
    rules, structure, thumbnail,
};
use bytes::Bytes;
use omt_audit::Event;
use omt_crypto::SignatureScheme;
use omt_kernel::{
    Actor, Error, Kind, ManifestId, Permission, Result, TenantId, TenantSettings,
    error::Context as _,
    manifest::{Archived, BlobRef, Classification, IngredientRecord, ManifestRecord, ManifestState, Relationship, SignedParts},
    port::{BlobStore, Content},
    retry,
};
use serde_json::json;
use std::{io::BufReader, sync::Arc};
use time::Duration;

/// The most ingredients of one manifest.
pub const MAX_INGREDIENTS: usize = 32;

/// An upload.
#[derive(Debug)]
pub struct NewManifest {
    /// The content.
    pub file: Uploaded,
    /// Title; the file's name when absent.
    pub title: Option<String>,
    /// Who made it; the actor's name when absent.
    pub creator: Option<String>,
    /// Department.
    pub department: Option<String>,
    /// Project.
    pub project: Option<String>,
    /// Organisation.
    pub organization: Option<String>,
    /// Sensitivity.
    pub classification: Classification,
    /// What the claim will say.
    pub definition: ClaimDefinition,
    /// Ingredients.
    pub ingredients: Vec<NewIngredient>,
    /// Sign at once, with this scheme.
    pub sign: Option<SignatureScheme>,
}

/// An ingredient that came with an upload.
#[derive(Debug)]
pub struct NewIngredient {
    /// Its content.
    pub file: Uploaded,
    /// How it relates.
    pub relationship: Relationship,
}

/// A request to sign a draft.
#[derive(Debug, Clone, Copy)]
pub struct SignRequest {
    /// The scheme.
    pub scheme: SignatureScheme,
    /// The revision the caller saw.
    pub if_match: Option<i64>,
}

/// Changes to a draft. `Some(None)` clears an optional field.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// New title.
    pub title: Option<String>,
    /// New department.
    pub department: Option<Option<String>>,
    /// New project.
    pub project: Option<Option<String>>,
    /// New classification.
    pub classification: Option<Classification>,
}

/// A change of a record.
pub(super) struct Change<'a> {
    /// What the audit log calls it.
    pub(super) action: &'static str,
    /// As it was.
    pub(super) old: &'a ManifestRecord,
    /// As it will be.
    pub(super) next: ManifestRecord,
    /// Blobs that were stored for it.
    pub(super) stored: Option<&'a Stored>,
    /// When it is signed by this.
    pub(super) signing: Option<Signing<'a>>,
}

/// What belongs to signing a draft.
pub(super) struct Signing<'a> {
    settings: &'a TenantSettings,
    alongside: Option<&'a dyn Alongside>,
}

/// What a look at content finds.
struct Inspected {
    media: Media,
    extracted: Extracted,
    has_manifest: bool,
}

/// Recognises content, refuses it when it is empty, cut off or hostile, and reads its metadata.
fn inspect(file: &Uploaded, field: &str) -> Result<Inspected> {
    if file.blob.size == 0 {
        return Err(Error::unprocessable_field("EMPTY_FILE", field, "the file is empty"));
    }
    let mut source = engine::open(&file.content)?;
    let mut head = vec![0; media::SNIFF_LEN.min(file.blob.size as usize)];
    std::io::Read::read_exact(&mut source, &mut head).context("cannot read an upload")?;
    let media = media::sniff(&head);
    rules::check_promise(media, file.file_name.as_deref(), file.declared_type.as_deref())?;
    structure::check_complete(media, &mut source)
        .map_err(|e| Error::unprocessable_field("CONTENT_TRUNCATED", field, e.to_string()))?;
    guard::check(media, &mut source).map_err(|e| Error::unprocessable_field("CONTENT_REFUSED", field, e.to_string()))?;
    let extracted = metadata::extract(media, file.blob.size, &mut source);
    drop(source);
    if media == media::MANIFEST_STORE {
        // The engine would take it for an archive of its own.
        return Err(Error::unprocessable_field("CONTENT_REFUSED", field, "a bare manifest store is not content"));
    }
    let has_manifest = match media.embedding {
        Embedding::Embedded(format) => {
            match c2pa::jumbf_io::load_jumbf_from_stream(format, &mut engine::open(&file.content)?) {
                Ok(store) => {
                    // What we would not verify must not reach the engine as an ingredient either.
                    ManifestStore::parse(&store)
                        .map_err(|e| Error::unprocessable_field("CONTENT_REFUSED", field, e.to_string()))?;
                    true
                }
                Err(_) => false,
            }
        }
        Embedding::Sidecar => false,
    };
    Ok(Inspected { media, extracted, has_manifest })
}

/// Refuses content that is not what its record says. What came through memory or a download was checked on its way.
fn check_stored(content: &Content, blob: &BlobRef) -> Result<()> {
    if !matches!(content, Content::Stored(_)) || digest(&mut engine::open(content)?)? == *blob {
        return Ok(());
    }
    Err(Error::internal("stored content is not what its record says"))
}

/// What signing gives the store: bytes and their digests.
struct Signed {
    /// The asset with the manifest inside; none when the format takes a sidecar.
    asset: Option<(Content, BlobRef)>,
    manifest_store: Bytes,
    manifest_digest: BlobRef,
    label: String,
}

/// Plans and signs, on the pool.
#[allow(clippy::too_many_arguments)]
fn sign_now(
    deps: &Dependencies,
    title: &str,
    file: &Uploaded,
    inspected: &Inspected,
    definition: &ClaimDefinition,
    ingredients: Vec<PlannedIngredient>,
    identity: omt_pki::SigningIdentity,
    with_thumbnail: bool,
) -> Result<Signed> {
    let content = &file.content;
    let mut plan =
        plan(deps, title, inspected.media, definition, &inspected.extracted, inspected.has_manifest, ingredients, identity)?;
    if with_thumbnail && engine::len(content)? < engine::LARGE {
        let source = BufReader::new(engine::open(content)?);
        plan.thumbnail = thumbnail::make(inspected.media, source, inspected.extracted.orientation);
    }
    plan.source = Some(file.blob.clone());
    let signed = deps.engine.sign(plan, content)?;
    let asset = match signed.asset {
        Some(content) => {
            let blob = digest(&mut engine::open(&content)?)?;
            Some((content, blob))
        }
        None => None,
    };
    let manifest_digest = BlobRef::of(&signed.manifest_store);
    Ok(Signed { asset, manifest_store: signed.manifest_store, manifest_digest, label: signed.label })
}

fn parts(signed: &Signed, source: &BlobRef, scheme: SignatureScheme, now: time::OffsetDateTime) -> SignedParts {
    SignedParts {
        asset: signed.asset.as_ref().map_or_else(|| source.clone(), |(_, blob)| blob.clone()),
        manifest_store: signed.manifest_digest.clone(),
        embedded: signed.asset.is_some(),
        algorithm: scheme.to_string(),
        manifest_label: signed.label.clone(),
        signed_at: now,
    }
}

/// Stores the signed asset and the manifest store; durable when it returns.
async fn store_signed(stored: &mut Stored, blobs: &dyn BlobStore, tenant: &TenantId, signed: Signed) -> Result<()> {
    let mut also = Stored::default();
    let store = also.put(blobs, tenant, &signed.manifest_digest, Content::Memory(signed.manifest_store));
    match signed.asset {
        Some((content, blob)) => {
            let (asset, store) = futures_util::join!(stored.put(blobs, tenant, &blob, content), store);
            asset.and(store)?;
        }
        None => store.await?,
    }
    stored.join(also);
    Ok(())
}

impl Manifests {
    /// Makes a draft of an upload, or a signed manifest at once.
    pub async fn create(self: &Arc<Self>, actor: &Actor, new: NewManifest, once: Option<Once>) -> Result<Outcome> {
        actor.require(Permission::ManifestCreate)?;
        if new.sign.is_some() {
            actor.require(Permission::ManifestSign)?;
        }
        if let Some(outcome) = self.replay(actor, once.as_ref()).await? {
            return Ok(outcome);
        }
        let texts = [
            ("title", &new.title),
            ("creator", &new.creator),
            ("department", &new.department),
            ("project", &new.project),
            ("organization", &new.organization),
        ];
        for (field, value) in texts {
            value.as_deref().map_or(Ok(()), |v| rules::check_text(field, v))?;
        }
        // Whoever sees one department's content makes content of that department.
        let mut new = new;
        new.department = new.department.or_else(|| actor.reach.department.clone());
        rules::check_within(actor, new.department.as_deref(), new.project.as_deref(), new.classification)?;
        new.definition.validate()?;
        if new.ingredients.len() > MAX_INGREDIENTS {
            return Err(Error::unprocessable_field("TOO_MANY_INGREDIENTS", "ingredient", "at most 32 are allowed"));
        }
        let settings = self.settings(actor).await?;
        rules::check_no_own_approval(&new.definition, &settings)?;
        let identity = match new.sign {
            Some(scheme) => {
                rules::check_scheme(scheme, &settings)?;
                rules::check_unapproved(new.classification, &settings)?;
                Some(self.identity(scheme).await?)
            }
            None => None,
        };
        let _turn = self.turn(new.file.blob.size).await?;
        let this = self.clone();
        let (new, inspected, ingredients, signed) =
            self.deps.pool.run(move || this.take_in(new, identity, settings.thumbnails)).await?;
        let now = self.deps.clock.now();
        let (tenant, blobs) = (&actor.tenant, self.deps.blobs.as_ref());
        let title = title_of(&new);
        let source = new.file.blob.clone();
        let signed_parts = signed.as_ref().zip(new.sign).map(|(signed, scheme)| parts(signed, &source, scheme, now));
        // With the manifest inside a signed copy, the source need not be kept beside it.
        let keep_source = signed_parts.as_ref().is_none_or(|parts| !parts.embedded);
        let record = ManifestRecord {
            id: ManifestId(self.deps.entropy.uuid_v7(now)),
            tenant: tenant.clone(),
            revision: 1,
            state: if signed_parts.is_some() { ManifestState::Signed } else { ManifestState::Draft },
            title,
            creator: new.creator.unwrap_or_else(|| actor.name.clone()),
            department: new.department,
            project: new.project,
            organization: new.organization,
            classification: new.classification,
            media_type: inspected.media.mime.to_owned(),
            file_name: new.file.file_name,
            source,
            source_kept: keep_source,
            definition: serde_json::to_value(&new.definition).context("a definition cannot be written")?,
            metadata: serde_json::to_value(&inspected.extracted).context("metadata cannot be written")?,
            ingredients,
            signed: signed_parts,
            created_by: actor.subject.clone(),
            created_at: now,
            updated_at: now,
            archived: None,
            legal_hold: None,
            content_deleted_at: None,
        };
        let mut stored = Stored::default();
        for (ingredient, kept) in new.ingredients.into_iter().zip(&record.ingredients) {
            stored.put(blobs, tenant, &kept.blob, ingredient.file.content).await?;
        }
        if keep_source {
            stored.put(blobs, tenant, &record.source, new.file.content).await?;
        }
        if let Some(signed) = signed {
            store_signed(&mut stored, blobs, tenant, signed).await?;
        }
        let outcome = retry::transaction(self.deps.entropy.as_ref(), async || {
            let unit = self.deps.database.begin().await?;
            unit.manifests().insert(&record).await?;
            self.note_uses(unit.as_ref(), &record, &stored).await?;
            let event = Event::new("manifest.create", "manifest", record.id)
                .about(&record)
                .after(&super::audited(&record))
                .detail(json!({ "signed": record.signed.as_ref().map(|signed| &signed.algorithm) }));
            self.commit(actor, unit, record.clone(), once.as_ref(), event).await
        })
        .await?;
        let is_signed = record.signed.is_some();
        if matches!(outcome, Outcome::Done(_)) {
            self.deps.telemetry.manifest("created");
            if is_signed {
                self.deps.telemetry.manifest("signed");
            }
        }
        Ok(outcome)
    }

    /// The part of [`Self::create`] that computes.
    #[allow(clippy::type_complexity)]
    fn take_in(
        &self,
        mut new: NewManifest,
        identity: Option<omt_pki::SigningIdentity>,
        with_thumbnail: bool,
    ) -> Result<(NewManifest, Inspected, Vec<IngredientRecord>, Option<Signed>)> {
        let inspected = inspect(&new.file, "file")?;
        let mut ingredients = Vec::new();
        for ingredient in &new.ingredients {
            let found = inspect(&ingredient.file, "ingredient")?;
            ingredients.push(IngredientRecord {
                blob: ingredient.file.blob.clone(),
                title: ingredient.file.file_name.clone().unwrap_or_else(|| "ingredient".into()),
                media_type: found.media.mime.to_owned(),
                relationship: ingredient.relationship,
            });
        }
        let relationships: Vec<Relationship> = new.ingredients.iter().map(|i| i.relationship).collect();
        // A draft that could never be signed is refused now.
        rules::plan_actions(&new.definition, inspected.has_manifest, &relationships)?;
        let signed = match identity {
            Some(identity) => {
                let planned = planned(&ingredients, new.ingredients.iter_mut().map(|i| share(&mut i.file.content)));
                let title = title_of(&new);
                Some(sign_now(&self.deps, &title, &new.file, &inspected, &new.definition, planned, identity, with_thumbnail)?)
            }
            None => None,
        };
        Ok((new, inspected, ingredients, signed))
    }

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
        if let Err(refusal) = rules::check_draft(&record).and_then(|()| rules::check_revision(&record, request.if_match)) {
            // This very request may have been answered between the two reads.
            return match self.replay(actor, once.as_ref()).await? {
                Some(outcome) => Ok(outcome),
                None => Err(refusal),
            };
        }
        let _turn = self.turn(record.source.size).await?;
        let settings = self.settings(actor).await?;
        rules::check_scheme(request.scheme, &settings)?;
        let identity = self.identity(request.scheme).await?;
        let mut definition: ClaimDefinition =
            serde_json::from_value(record.definition.clone()).context("the record's definition cannot be read")?;
        if !settings.approval.is_empty() {
            // Of drafts that are older than this rule.
            definition.assertions.retain(|assertion| assertion.label != crate::definition::WORKFLOW_LABEL);
        }
        if let Some(approval) = self.deps.governance.may_sign(&record, &settings).await? {
            // What really happened stands in the place of what the draft said about it.
            definition.assertions.retain(|assertion| assertion.label != approval.label);
            definition.assertions.push(approval);
        }
        let content = self.deps.blobs.open(&actor.tenant, &record.source).await?;
        let mut contents = Vec::new();
        for ingredient in &record.ingredients {
            contents.push(self.deps.blobs.open(&actor.tenant, &ingredient.blob).await?);
        }
        let (this, draft, thumbnails) = (self.clone(), record.clone(), settings.thumbnails);
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
                let planned = planned(&draft.ingredients, contents.into_iter());
                sign_now(&this.deps, &draft.title, &file, &inspected, &definition, planned, identity, thumbnails)
            })
            .await?;
        let now = self.deps.clock.now();
        let mut next = record.clone();
        next.revision += 1;
        next.state = ManifestState::Signed;
        next.signed = Some(parts(&signed, &record.source, request.scheme, now));
        next.updated_at = now;
        let mut stored = Stored::default();
        store_signed(&mut stored, self.deps.blobs.as_ref(), &actor.tenant, signed).await?;
        let signing = Signing { settings: &settings, alongside };
        let change = Change { action: "manifest.sign", old: &record, next, stored: Some(&stored), signing: Some(signing) };
        let outcome = self.replace(actor, change, once.as_ref()).await?;
        if matches!(outcome, Outcome::Done(_)) {
            self.deps.telemetry.manifest("signed");
        }
        Ok(outcome)
    }

    /// Changes a draft.
    pub async fn update(&self, actor: &Actor, id: ManifestId, changes: Changes, if_match: Option<i64>) -> Result<ManifestRecord> {
        actor.require(Permission::ManifestUpdate)?;
        let record = self.load(actor, id).await?;
        rules::check_revision(&record, if_match)?;
        rules::check_draft(&record)?;
        let mut next = record.clone();
        if let Some(title) = changes.title {
            rules::check_text("title", &title)?;
            next.title = title;
        }
        for (field, change, target) in
            [("department", changes.department, &mut next.department), ("project", changes.project, &mut next.project)]
        {
            if let Some(change) = change {
                change.as_deref().map_or(Ok(()), |v| rules::check_text(field, v))?;
                *target = change;
            }
        }
        next.classification = changes.classification.unwrap_or(next.classification);
        rules::check_within(actor, next.department.as_deref(), next.project.as_deref(), next.classification)?;
        next.revision += 1;
        next.updated_at = self.deps.clock.now();
        let change = Change { action: "manifest.update", old: &record, next, stored: None, signing: None };
        match self.replace(actor, change, None).await? {
            Outcome::Done(record) => Ok(*record),
            Outcome::Replayed { .. } => Err(Error::internal("a change without a key was replayed")),
        }
    }

    /// Puts a manifest away; content is kept under retention. Archiving twice is archiving once.
    pub async fn archive(&self, actor: &Actor, id: ManifestId, if_match: Option<i64>) -> Result<()> {
        actor.require(Permission::ManifestDelete)?;
        let record = self.load(actor, id).await?;
        if record.state == ManifestState::Archived {
            return Ok(());
        }
        rules::check_revision(&record, if_match)?;
        if record.legal_hold.is_some() {
            return Err(Error::new(Kind::Conflict, "LEGAL_HOLD", "the manifest is under a legal hold; release it first"));
        }
        let settings = self.settings(actor).await?;
        let now = self.deps.clock.now();
        let mut next = record.clone();
        next.revision += 1;
        next.state = ManifestState::Archived;
        next.updated_at = now;
        next.archived = Some(Archived {
            at: now,
            retain_until: now + Duration::days(i64::from(settings.retention_for(record.classification))),
        });
        self.replace(actor, Change { action: "manifest.archive", old: &record, next, stored: None, signing: None }, None).await?;
        self.deps.telemetry.manifest("archived");
        Ok(())
    }

    /// Writes a changed record, and its uses of blobs where some were stored for it.
    pub(super) async fn replace(&self, actor: &Actor, change: Change<'_>, once: Option<&Once>) -> Result<Outcome> {
        let Change { action, old, next, stored, signing } = change;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            if !unit.manifests().update(&next, old.revision).await? {
                return Ok(None);
            }
            if let Some(stored) = stored {
                self.note_uses(unit.as_ref(), &next, stored).await?;
            }
            match &signing {
                Some(signing) => {
                    self.deps.governance.signing(unit.as_ref(), old, signing.settings).await?;
                    if let Some(alongside) = signing.alongside {
                        alongside.write(unit.as_ref(), &next).await?;
                    }
                }
                None => self.deps.governance.changed(unit.as_ref(), actor, &next).await?,
            }
            let mut event =
                Event::new(action, "manifest", next.id).about(&next).before(&super::audited(old)).after(&super::audited(&next));
            if let Some(signed) = next.signed.as_ref().filter(|_| stored.is_some()) {
                event = event.detail(json!({ "signed": signed.algorithm }));
            }
            self.commit(actor, unit, next.clone(), once, event).await.map(Some)
        };
        let Some(outcome) = retry::transaction(self.deps.entropy.as_ref(), attempt).await? else {
            // A retry of this very request may have won.
            if let Some(outcome) = self.replay(actor, once).await? {
                return Ok(outcome);
            }
            return Err(Error::new(Kind::Conflict, "CONCURRENT_CHANGE", "someone else changed the manifest at the same time"));
        };
        Ok(outcome)
    }

    async fn identity(&self, scheme: SignatureScheme) -> Result<omt_pki::SigningIdentity> {
        self.deps.pki.identity(scheme).await.map_err(|e| Error::internal("no signing identity").caused_by(e))
    }
}

fn title_of(new: &NewManifest) -> String {
    let fallback = || {
        let name = new.file.file_name.as_deref().unwrap_or("untitled");
        let name: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
        if name.trim().is_empty() { "untitled".to_owned() } else { name }
    };
    new.title.clone().unwrap_or_else(fallback)
}

fn planned(records: &[IngredientRecord], contents: impl Iterator<Item = Content>) -> Vec<PlannedIngredient> {
    let each = |(record, content): (&IngredientRecord, Content)| PlannedIngredient {
        title: record.title.clone(),
        media: media::by_mime(&record.media_type),
        relationship: record.relationship,
        content: Some(content),
    };
    records.iter().zip(contents).map(each).collect()
}

/// A second handle on content that stays where it is. Files remain in the charge of the original.
fn share(content: &mut Content) -> Content {
    match content {
        Content::Memory(bytes) => Content::Memory(bytes.clone()),
        Content::File(temporary) => Content::Stored(temporary.path().to_owned()),
        Content::Stored(path) => Content::Stored(path.clone()),
    }
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
        let signed = sign_now(&self.deps, title, &file, &inspected, definition, Vec::new(), identity, with_thumbnail)?;
        Ok(Offline {
            asset: signed.asset.map(|(content, _)| content),
            manifest_store: signed.manifest_store,
            media: inspected.media,
        })
    }
}
