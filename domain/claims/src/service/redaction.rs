//! Taking personal data out of a draft: out of its content, its title, and what its claim will say.

use super::{
    Manifests, Outcome, Uploaded,
    drafts::Change,
    signing::check_stored,
    storage::Stored,
    upload::{Inspected, inspect},
};
use crate::{
    definition::ClaimDefinition,
    digest::BlobDigest,
    engine,
    metadata::redact::{PropertyNames, redact},
    rules,
};
use omt_kernel::{
    Actor, Error, Kind, ManifestId, Permission, Result, check_revision,
    error::Context as _,
    manifest::{BlobRef, ManifestRecord},
    port::Content,
};
use std::{io::Read, sync::Arc};

/// What is to go.
#[derive(Debug, Clone)]
pub struct Redaction {
    /// Properties of the content's metadata.
    pub properties: PropertyNames,
    /// The record as it will be, in its title, creator, organisation, file name and titles of ingredients.
    pub record: ManifestRecord,
    /// What the claim will say from then on.
    pub definition: ClaimDefinition,
}

impl Manifests {
    /// Takes personal data out of a draft, all of what is asked for or nothing. The content has other bytes from then on: decisions
    /// and evidence about the old ones do not count for it.
    pub async fn redact(
        self: &Arc<Self>,
        actor: &Actor,
        id: ManifestId,
        redaction: Redaction,
        if_match: Option<i64>,
    ) -> Result<ManifestRecord> {
        actor.require(Permission::ManifestUpdate)?;
        let record = self.load(actor, id).await?;
        check_revision("manifest", record.revision, if_match)?;
        rules::check_draft(&record)?;
        if record.legal_hold.is_some() {
            return Err(Error::new(
                Kind::Conflict,
                "LEGAL_HOLD",
                "the manifest is under a legal hold; its content stays as it is",
            ));
        }
        redaction.definition.check()?;
        let mut next = record.clone();
        let said = &redaction.record;
        next.title.clone_from(&said.title);
        next.creator.clone_from(&said.creator);
        next.organization.clone_from(&said.organization);
        next.file_name.clone_from(&said.file_name);
        for (ingredient, said) in next.ingredients.iter_mut().zip(&said.ingredients) {
            ingredient.title.clone_from(&said.title);
        }
        next.definition = serde_json::to_value(&redaction.definition).context("a definition cannot be written")?;
        let (tenant, blobs) = (&actor.tenant, self.deps.blobs.as_ref());
        let mut stored = Stored::default();
        if !redaction.properties.is_empty() {
            let _turn = self.turns.take(record.source.size).await?;
            let content = self.open(actor, &record.source).await?;
            let source = record.source.clone();
            let work = move || rewrite(content, source, &redaction.properties);
            let (file, inspected) = self.deps.pool.run(work).await?;
            next.source = file.blob.clone();
            next.metadata = serde_json::to_value(&inspected.extracted).context("metadata cannot be written")?;
            stored.put(blobs, tenant, &next.source, file.content).await?;
        }
        next.revision += 1;
        next.updated_at = self.deps.clock.now();
        let change = Change {
            action: "manifest.redact",
            event: "manifest.redacted",
            old: &record,
            next,
            stored: Some(&stored),
            signing: None,
        };
        match self.replace(actor, change, None).await? {
            Outcome::Done(record) => Ok(*record),
            Outcome::Replayed { .. } => Err(Error::internal("a change without a key was replayed")),
        }
    }
}

/// The content without these properties. Fails when any of them is still found.
fn rewrite(content: Content, source: BlobRef, properties: &PropertyNames) -> Result<(Uploaded, Inspected)> {
    check_stored(&content, &source)?;
    let before = Uploaded { content, blob: source, file_name: None, declared_type: None };
    let inspected = inspect(&before, "file")?;
    if inspected.has_manifest {
        // Its hard binding is over the bytes that would change.
        let words = "the content has a manifest of its own, which would not fit it any more";
        return Err(Error::new(Kind::Conflict, "CONTENT_HAS_MANIFEST", words));
    }
    let mut bytes = Vec::new();
    engine::open(&before.content)?.read_to_end(&mut bytes).context("cannot read content")?;
    let incomplete = |words: String| Err(Error::new(Kind::Unprocessable, "REDACTION_INCOMPLETE", words));
    if !redact(inspected.media, &mut bytes, properties) {
        let words = "its EXIF has directories that cannot be reached, or maker's notes that the picture is developed with";
        return incomplete(words.to_owned());
    }
    let blob = BlobRef::of(&bytes);
    let file = Uploaded { content: Content::Memory(bytes.into()), blob, file_name: None, declared_type: None };
    let after = inspect(&file, "file")?;
    let left: Vec<&String> = [
        (&properties.exif, &after.extracted.exif),
        (&properties.xmp, &after.extracted.xmp),
        (&properties.iptc, &after.extracted.iptc),
        (&properties.tags, &after.extracted.tags),
    ]
    .into_iter()
    .flat_map(|(names, found)| names.iter().filter(|name| found.contains_key(*name)))
    .collect();
    if !left.is_empty() {
        return incomplete(format!("these cannot be taken out of {} content: {left:?}", inspected.media.mime));
    }
    if after.extracted.technical != inspected.extracted.technical {
        return incomplete(format!("this {} content would be another picture", inspected.media.mime));
    }
    Ok((file, after))
}
