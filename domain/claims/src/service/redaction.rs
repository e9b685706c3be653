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
    Actor, Error, Kind, ManifestId, Permission, Result,
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
    /// The title from then on.
    pub title: String,
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
        rules::check_revision(&record, if_match)?;
        rules::check_draft(&record)?;
        redaction.definition.validate()?;
        let mut next = record.clone();
        next.title.clone_from(&redaction.title);
        next.definition = serde_json::to_value(&redaction.definition).context("a definition cannot be written")?;
        let (tenant, blobs) = (&actor.tenant, self.deps.blobs.as_ref());
        let mut stored = Stored::default();
        if !redaction.properties.is_empty() {
            let _turn = self.turn(record.source.size).await?;
            let content = blobs.open(tenant, &record.source).await?;
            let source = record.source.clone();
            let work = move || rewrite(content, source, &redaction.properties);
            let (file, inspected) = self.deps.pool.run(work).await?;
            next.source = file.blob.clone();
            next.metadata = serde_json::to_value(&inspected.extracted).context("metadata cannot be written")?;
            stored.put(blobs, tenant, &next.source, file.content).await?;
        }
        next.revision += 1;
        next.updated_at = self.deps.clock.now();
        let change = Change { action: "manifest.redact", old: &record, next, stored: Some(&stored), signing: None };
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
    redact(inspected.media, &mut bytes, properties);
    let blob = BlobRef::of(&bytes);
    let file = Uploaded { content: Content::Memory(bytes.into()), blob, file_name: None, declared_type: None };
    let after = inspect(&file, "file")?;
    let left: Vec<&String> = [
        (&properties.exif, &after.extracted.exif),
        (&properties.xmp, &after.extracted.xmp),
        (&properties.iptc, &after.extracted.iptc),
    ]
    .into_iter()
    .flat_map(|(names, found)| names.iter().filter(|name| found.contains_key(*name)))
    .collect();
    if !left.is_empty() {
        let words = format!("these cannot be taken out of {} content: {left:?}", inspected.media.mime);
        return Err(Error::new(Kind::Unprocessable, "REDACTION_INCOMPLETE", words));
    }
    Ok((file, after))
}
