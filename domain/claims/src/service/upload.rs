//! Taking content in: recognised, examined, made a draft or signed at once.

use super::{
    Manifests, Once, Outcome, Uploaded,
    signing::{Said, Signed, parts, planned, sign_now, store_signed},
    storage::Stored,
};
use crate::{
    definition::ClaimDefinition,
    engine, guard,
    jumbf::ManifestStore,
    media::{self, Embedding, Media},
    metadata::{self, Extracted},
    rules, structure,
};
use omt_audit::Event;
use omt_crypto::SignatureScheme;
use omt_kernel::{
    Actor, Error, ManifestId, Permission, Result,
    error::Context as _,
    manifest::{Classification, IngredientRecord, ManifestRecord, ManifestState, Relationship},
    port::{Content, StoredFile},
    retry,
};
use serde_json::json;
use std::sync::Arc;

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

/// What a look at content finds.
pub(super) struct Inspected {
    pub(super) media: Media,
    pub(super) extracted: Extracted,
    pub(super) has_manifest: bool,
}

/// Recognises content, refuses it when it is empty, cut off or hostile, and reads its metadata.
pub(super) fn inspect(file: &Uploaded, field: &str) -> Result<Inspected> {
    if file.blob.size == 0 {
        return Err(Error::unprocessable_field("EMPTY_FILE", field, "the file is empty"));
    }
    let mut source = engine::open(&file.content)?;
    let media = media::recognise(&mut source).context("cannot read an upload")?;
    rules::check_promise(media, field, file.file_name.as_deref(), file.declared_type.as_deref())?;
    structure::check_complete(media, &mut source)
        .map_err(|e| Error::unprocessable_field("CONTENT_TRUNCATED", field, e.to_string()))?;
    guard::check(media, &mut source).map_err(|e| Error::unprocessable_field("CONTENT_REFUSED", field, e.to_string()))?;
    let mut extracted = metadata::extract(media, file.blob.size, &mut source);
    drop(source);
    if media == media::MANIFEST_STORE {
        // The engine would take it for an archive of its own.
        return Err(Error::unprocessable_field("CONTENT_REFUSED", field, "a bare manifest store is not content"));
    }
    let has_manifest = has_manifest(media, file).map_err(|e| match e {
        Unreadable::Content(reason) => Error::unprocessable_field("CONTENT_REFUSED", field, reason),
        Unreadable::Fault(fault) => fault,
    })?;
    extracted.has_manifest = has_manifest;
    Ok(Inspected { media, extracted, has_manifest })
}

/// Why it is not known whether content has a manifest.
enum Unreadable {
    Content(String),
    Fault(Error),
}

/// Whether content has a manifest. One that cannot be read, or one of several, is not none: signed as if there were none, the content
/// would lose its provenance, and might keep what stops every validator.
fn has_manifest(media: Media, file: &Uploaded) -> std::result::Result<bool, Unreadable> {
    let Embedding::Embedded(format) = media.embedding else { return Ok(false) };
    let mut source = engine::open(&file.content).map_err(Unreadable::Fault)?;
    match c2pa::jumbf_io::load_jumbf_from_stream(format, &mut source) {
        // What we would not verify must not reach the engine as an ingredient either.
        Ok(store) => ManifestStore::parse(&store).map(|_| true).map_err(|e| Unreadable::Content(e.to_string())),
        Err(c2pa::Error::JumbfNotFound | c2pa::Error::UnsupportedType) => Ok(false),
        Err(error) => Err(Unreadable::Content(format!("whether the file has a manifest cannot be read: {error}"))),
    }
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
        let _turn = self.turns.take(new.file.blob.size).await?;
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
            store_signed(blobs, tenant, signed).await?;
        }
        let outcome = retry::transaction(self.deps.entropy.as_ref(), async || {
            let unit = self.deps.database.begin().await?;
            unit.manifests().insert(&record).await?;
            self.note_uses(unit.as_ref(), &record, &stored).await?;
            let event = Event::new("manifest.create", "manifest", record.id)
                .tell("manifest.created", &record)
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
                let planned = planned(&ingredients, new.ingredients.iter_mut().map(|i| share(&mut i.file.content)))?;
                let title = title_of(&new);
                let said = Said { title: &title, definition: &new.definition, attested: None };
                Some(sign_now(&self.deps, said, &new.file, &inspected, planned, identity, with_thumbnail)?)
            }
            None => None,
        };
        Ok((new, inspected, ingredients, signed))
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

/// A second handle on content that stays where it is. Files remain in the charge of the original.
fn share(content: &mut Content) -> Content {
    match content {
        Content::Memory(bytes) => Content::Memory(bytes.clone()),
        Content::File(temporary) => Content::Stored(StoredFile::at(temporary.path().to_owned())),
        Content::Stored(file) => Content::Stored(file.clone()),
    }
}
