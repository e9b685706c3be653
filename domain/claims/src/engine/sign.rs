//! Building and signing a manifest.

use super::{
    Engine, LARGE,
    compose::{Composition, Exclusion},
    insert, len, open,
    stamp::Stamping,
    unreadable,
};
use crate::{
    definition,
    digest::digest_of,
    media::{Embedding, Media},
    thumbnail::Thumbnail,
};
use bytes::Bytes;
use c2pa::{Builder, Context, HashRange, SigningAlg, assertions::DataHash};
use omt_crypto::{
    Algorithm, CryptoError, KeyStore, Provider,
    cose::{Sign1Template, SignFn, Signers},
};
use omt_kernel::{
    Error, Result,
    error::{Context as _, not_written},
    manifest::{BlobRef, Relationship},
    port::{Content, TemporaryFile},
};
use omt_pki::SigningIdentity;
use serde_json::{Value, json};
use std::{
    io::{Cursor, ErrorKind},
    sync::Arc,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// The C2PA specification that our claims follow.
pub(super) const SPEC_VERSION: &str = "2.2.0";
const SPOOLING: &str = "cannot write in the spool directory";

/// One entry of the actions assertion.
#[derive(Debug, Clone)]
pub struct PlannedAction {
    /// The action.
    pub action: String,
    /// The digital source type, for `c2pa.created`.
    pub digital_source_type: Option<String>,
    /// Which software did it.
    pub software_agent: Option<String>,
    /// The ingredients it concerns, by position in the plan.
    pub ingredients: Vec<usize>,
}

impl PlannedAction {
    /// It as the assertion has it, but for the time and for the ingredients.
    pub fn to_json(&self) -> Value {
        let mut entry = json!({ "action": self.action });
        if let Some(source_type) = &self.digital_source_type {
            entry["digitalSourceType"] = json!(source_type);
        }
        if let Some(agent) = &self.software_agent {
            entry["softwareAgent"] = json!({ "name": agent });
        }
        entry
    }
}

/// One further assertion.
#[derive(Debug, Clone)]
pub struct PlannedAssertion {
    /// Its label.
    pub label: String,
    /// Its content.
    pub data: Value,
    /// Written as JSON rather than CBOR.
    pub json: bool,
    /// Made by us (`created_assertions`), not handed to us (`gathered_assertions`).
    pub created: bool,
}

/// One ingredient.
#[derive(Debug)]
pub struct PlannedIngredient {
    /// Title.
    pub title: String,
    /// Its media.
    pub media: Media,
    /// How it relates.
    pub relationship: Relationship,
    /// Its bytes; none means the source itself.
    pub content: Option<Content>,
}

/// Everything that a manifest will say, and how it is signed.
#[derive(Debug)]
pub struct SignPlan {
    /// The manifest's UUID (version 4), part of its label.
    pub uuid: Uuid,
    /// A secret of which the assertions' salts are made.
    pub salts: [u8; 32],
    /// Title.
    pub title: String,
    /// What the content is.
    pub media: Media,
    /// When.
    pub now: OffsetDateTime,
    /// The actions, an inception first.
    pub actions: Vec<PlannedAction>,
    /// Further assertions.
    pub assertions: Vec<PlannedAssertion>,
    /// The thumbnail.
    pub thumbnail: Option<Thumbnail>,
    /// Ingredients.
    pub ingredients: Vec<PlannedIngredient>,
    /// The source's digest, where the caller knows that it is this content's.
    pub source: Option<BlobRef>,
    /// Who signs.
    pub identity: SigningIdentity,
}

impl SignPlan {
    /// The identifier of the asset in this form.
    pub(super) fn instance_id(&self) -> String {
        format!("xmp:iid:{}", self.uuid)
    }
}

/// What signing produced.
#[derive(Debug)]
pub struct SignedAsset {
    /// The asset with the manifest inside; none when the format takes a sidecar.
    pub asset: Option<Content>,
    /// The manifest store.
    pub manifest_store: Bytes,
    /// The active manifest's label.
    pub label: String,
}

/// Returns finished COSE to the manifest engine, and verifies every signature with the public key of the certificate before it
/// does: a fault in a key store or provider must not leave this process as a signed manifest.
pub(super) struct DirectSigner<'a> {
    keys: &'a dyn KeyStore,
    provider: &'a dyn Provider,
    identity: &'a SigningIdentity,
    template: Sign1Template,
    stamping: Option<Stamping<'a>>,
}

impl<'a> DirectSigner<'a> {
    pub(super) fn new(engine: &'a Engine, plan: &'a SignPlan) -> Self {
        let identity = &plan.identity;
        let counter = identity.counter.as_ref().map(|(certificates, _)| certificates);
        let stamping = engine.authority.as_deref().map(|authority| Stamping::new(authority, engine.provider(), plan));
        let template = Sign1Template::new(&identity.claim, counter, stamping.is_some());
        Self { keys: engine.keys.as_ref(), provider: engine.provider(), identity, template, stamping }
    }

    fn sign_checked(&self, key: &str, algorithm: Algorithm, public: &[u8], message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let signature = self.keys.sign(key, message).map_err(CryptoError::from)?;
        self.provider.verify(algorithm, public, message, &signature)?;
        Ok(signature)
    }
}

impl DirectSigner<'_> {
    /// The finished COSE over a claim.
    fn cose(&self, claim: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let identity = self.identity;
        let sign =
            |message: &[u8]| self.sign_checked(&identity.claim_key, identity.claim.algorithm, &identity.claim_public, message);
        let counter = identity.counter.as_ref().map(|(counter, key)| {
            move |message: &[u8]| self.sign_checked(key, counter.algorithm, &identity.counter_public, message)
        });
        let stamp = self.stamping.as_ref().map(|stamping| move |message: &[u8]| stamping.stamp(message));
        let signers = Signers {
            claim: &sign,
            counter: counter.as_ref().map(|counter| counter as SignFn<'_>),
            stamp: stamp.as_ref().map(|stamp| stamp as SignFn<'_>),
        };
        self.template.sign(claim, signers)
    }

    /// Why there is no time-stamp, where that is why there is no signature; or what else went wrong.
    fn reason(&self, error: Error) -> Error {
        self.stamping.as_ref().and_then(Stamping::refusal).unwrap_or(error)
    }
}

impl c2pa::Signer for DirectSigner<'_> {
    fn sign(&self, claim: &[u8]) -> c2pa::Result<Vec<u8>> {
        self.cose(claim).map_err(|e| c2pa::Error::OtherError(Box::new(e)))
    }
    fn alg(&self) -> SigningAlg {
        // Not used where the signer makes the COSE itself.
        SigningAlg::Es256
    }
    fn certs(&self) -> c2pa::Result<Vec<Vec<u8>>> {
        Ok(self.identity.claim.chain.clone())
    }
    fn reserve_size(&self) -> usize {
        self.template.reserve_size()
    }
    fn direct_cose_handling(&self) -> bool {
        true
    }
}

impl Engine {
    /// Builds, embeds and signs. The source is not changed; large results go to a temporary file.
    pub fn sign(&self, plan: SignPlan, source: &Content) -> Result<SignedAsset> {
        let size = len(source)?;
        let _turn = (size >= LARGE).then(|| self.one_large.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        let label = format!("urn:c2pa:{}", plan.uuid);
        let signer = DirectSigner::new(self, &plan);
        let signed = match plan.media.embedding {
            Embedding::Embedded(format) => match insert::place(format, source, size)? {
                Some(place) => self.insert(&label, &plan, &signer, source, &place),
                None => self.embed(&label, &plan, &signer, format, source, size),
            }
            .map(|(asset, store)| (Some(asset), store)),
            Embedding::Sidecar => self.bound(&label, &plan, &signer, source, None).map(|store| (None, store)),
        };
        let (asset, manifest_store) = signed.map_err(|error| signer.reason(error))?;
        Ok(SignedAsset { asset, manifest_store: manifest_store.into(), label })
    }

    /// Large ISO base media with all media data in one box is hashed in pieces, in little memory. Of several `mdat` boxes the
    /// engine does not keep the order, and in fragmented files it does not verify pieces; both are hashed flat.
    fn hash_in_pieces(&self, format: &str, size: u64, source: &Content) -> Result<bool> {
        if size < LARGE || !matches!(format, "video/mp4" | "video/quicktime" | "audio/mp4") {
            return Ok(false);
        }
        Ok(crate::metadata::technical::is_one_piece(&mut open(source)?))
    }

    /// The manifest engine writes the asset anew, with the manifest in it.
    fn embed(
        &self,
        label: &str,
        plan: &SignPlan,
        signer: &DirectSigner<'_>,
        format: &str,
        source: &Content,
        size: u64,
    ) -> Result<(Content, Vec<u8>)> {
        let context = if self.hash_in_pieces(format, size, source)? { &self.signing_large } else { &self.signing };
        let mut builder = self.builder(context, label, plan, source)?;
        let mut input = open(source)?;
        if size < LARGE {
            let mut output = Cursor::new(Vec::with_capacity(size as usize + (64 << 10)));
            let store = builder.sign(signer, format, &mut input, &mut output).map_err(sign_error)?;
            read_back(format, &mut output, &store)?;
            return Ok((Content::Memory(output.into_inner().into()), store));
        }
        let path = self.spool.join(format!("signed-{}", Uuid::new_v4()));
        let temporary = TemporaryFile::new(path);
        let mut output = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(temporary.path())
            .map_err(not_written(SPOOLING))?;
        let store = builder.sign(signer, format, &mut input, &mut output).map_err(sign_error)?;
        read_back(format, &mut output, &store)?;
        Ok((Content::File(temporary), store))
    }

    /// Puts the manifest between two bytes of a format that allows it and leaves every byte of the source as it is, so that the
    /// hash of the source is the hash of the asset without the manifest (C2PA 2.2 §18.5, `c2pa.hash.data` with one exclusion).
    fn insert(
        &self,
        label: &str,
        plan: &SignPlan,
        signer: &DirectSigner<'_>,
        source: &Content,
        place: &insert::Place<'_>,
    ) -> Result<(Content, Vec<u8>)> {
        let (bytes, at) = (place.bytes.as_ref(), place.at);
        let exclusion = Exclusion { start: at, length: insert::length };
        let store = self.bound(label, plan, signer, source, Some(exclusion))?;
        let mut asset = Vec::with_capacity(bytes.len() + insert::length(store.len()));
        asset.extend_from_slice(&bytes[..at]);
        insert::segments(&mut asset, &store);
        asset.extend_from_slice(&bytes[at..]);
        Ok((Content::Memory(asset.into()), store))
    }

    /// A manifest store that is bound to its content by a data hash: of the whole, or of what is not excluded.
    pub(super) fn bound(
        &self,
        label: &str,
        plan: &SignPlan,
        signer: &DirectSigner<'_>,
        source: &Content,
        exclusion: Option<Exclusion>,
    ) -> Result<Vec<u8>> {
        let hash = source_hash(plan, source)?;
        if plan.ingredients.is_empty() {
            let signature_len = signer.template.reserve_size();
            let failed = |e: CryptoError| Error::internal("signing failed").caused_by(e);
            let composition = Composition { plan, label, hash: &hash, exclusion, signature_len };
            return composition.sign(|claim| signer.cose(claim).map_err(failed));
        }
        let mut builder = self.builder(&self.signing, label, plan, source)?;
        sign_bound(&mut builder, signer, hash, exclusion)
    }

    pub(super) fn builder(&self, context: &Arc<Context>, label: &str, plan: &SignPlan, source: &Content) -> Result<Builder> {
        let mut builder =
            Builder::from_shared_context(context).with_definition(definition_json(label, plan)?).map_err(sign_error)?;
        if let Some(thumbnail) = &plan.thumbnail {
            builder.set_thumbnail(thumbnail.mime, &mut Cursor::new(&thumbnail.bytes)).map_err(sign_error)?;
        }
        for (at, ingredient) in plan.ingredients.iter().enumerate() {
            let format = match ingredient.media.embedding {
                Embedding::Embedded(format) => format,
                // By its own type the engine would look into it after all.
                Embedding::Sidecar => "application/octet-stream",
            };
            let json = json!({
                "title": ingredient.title,
                "format": ingredient.media.mime,
                "relationship": ingredient.relationship.as_str(),
                "label": ingredient_label(at),
            });
            let mut stream = open(ingredient.content.as_ref().unwrap_or(source))?;
            builder.add_ingredient_from_stream(json.to_string(), format, &mut stream).map_err(|e| unreadable(&e))?;
        }
        Ok(builder)
    }
}

/// Refuses an asset that does not give back the manifest store that was written into it: something in the content is in its way, and
/// would be in every validator's.
fn read_back<S: std::io::Read + std::io::Seek + Send>(format: &str, asset: &mut S, store: &[u8]) -> Result<()> {
    asset.rewind().context("cannot read what was signed")?;
    let reason = match c2pa::jumbf_io::load_jumbf_from_stream(format, asset) {
        Ok(found) if found == store => return Ok(()),
        Ok(_) => "another manifest store stands in its place".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Error::unprocessable_field("CONTENT_REFUSED", "file", format!("a manifest in this file cannot be read back: {reason}")))
}

/// Signs a manifest store that is bound to its content by `hash`.
pub(super) fn sign_bound(
    builder: &mut Builder,
    signer: &DirectSigner<'_>,
    hash: Vec<u8>,
    exclusion: Option<Exclusion>,
) -> Result<Vec<u8>> {
    const STORE: &str = "application/c2pa";
    let (format, instance) = (builder.definition.format.clone(), builder.definition.instance_id.clone());
    let placeholder = builder.data_hashed_placeholder(signer.template.reserve_size(), STORE).map_err(sign_error)?;
    // The placeholder puts its own there.
    (builder.definition.format, builder.definition.instance_id) = (format, instance);
    let mut binding = DataHash::new("jumbf manifest", "sha256");
    if let Some(Exclusion { start, length }) = exclusion {
        binding.add_exclusion(HashRange::new(start as u64, length(placeholder.len()) as u64));
    }
    binding.set_hash(hash);
    let store = builder.sign_data_hashed_embeddable(signer, &binding, STORE).map_err(sign_error)?;
    if store.len() != placeholder.len() {
        return Err(Error::internal("a manifest store is not as long as its placeholder"));
    }
    Ok(store)
}

/// The hash of the source, computed where it is not known.
pub(super) fn source_hash(plan: &SignPlan, source: &Content) -> Result<Vec<u8>> {
    let hash = match &plan.source {
        Some(known) => known.sha256.clone(),
        None => digest_of(source)?.sha256,
    };
    hex::decode(&hash).context("a digest is not hexadecimal")
}

fn ingredient_label(at: usize) -> String {
    format!("ingredient_{at}")
}

fn definition_json(label: &str, plan: &SignPlan) -> Result<Value> {
    let when = plan.now.format(&Rfc3339).context("the time cannot be written")?;
    let actions: Vec<Value> = plan
        .actions
        .iter()
        .map(|action| {
            let mut entry = action.to_json();
            entry["when"] = json!(when);
            if !action.ingredients.is_empty() {
                let labels: Vec<_> = action.ingredients.iter().map(|at| ingredient_label(*at)).collect();
                entry["parameters"] = json!({ "ingredientIds": labels });
            }
            entry
        })
        .collect();
    let mut assertions = vec![json!({
        "label": "c2pa.actions.v2",
        "created": true,
        "data": { "actions": actions, "allActionsIncluded": true },
    })];
    if let (Some((certificates, _)), Some(spki)) = (&plan.identity.counter, plan.identity.counter_spki_sha256) {
        assertions.push(json!({
            "label": definition::COMMITMENT_LABEL,
            "created": true,
            "data": definition::commitment(certificates.algorithm, spki),
        }));
    }
    for assertion in &plan.assertions {
        let mut entry = json!({ "label": assertion.label, "data": assertion.data, "created": assertion.created });
        if assertion.json {
            entry["kind"] = json!("Json");
        }
        assertions.push(entry);
    }
    Ok(json!({
        "claim_version": 2,
        "label": label,
        "title": plan.title,
        "format": plan.media.mime,
        "instance_id": plan.instance_id(),
        "claim_generator_info": [{
            "name": "OpenMediaTrust",
            "version": env!("CARGO_PKG_VERSION"),
            "specVersion": SPEC_VERSION,
        }],
        "assertions": assertions,
    }))
}

/// Signing fails by our fault (keys, disk) or by the content's.
fn sign_error(error: c2pa::Error) -> Error {
    match error {
        c2pa::Error::IoError(io)
            if matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem) =>
        {
            not_written(SPOOLING)(io)
        }
        c2pa::Error::OtherError(ref inner) if inner.is::<CryptoError>() => Error::internal("signing failed").caused_by(error),
        _ => unreadable(&error),
    }
}
