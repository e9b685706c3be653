//! Building and signing a manifest.

use super::{Engine, LARGE, len, open, unreadable};
use crate::{
    definition,
    digest::{BlobDigest, digest},
    media::{Embedding, Media},
    thumbnail::Thumbnail,
};
use bytes::Bytes;
use c2pa::{Builder, Context, SigningAlg, assertions::DataHash};
use omt_crypto::{CryptoError, KeyStore, cose, cose::Sign1Template};
use omt_kernel::{
    Error, Result,
    error::Context as _,
    manifest::{BlobRef, Relationship},
    port::{Content, TemporaryFile},
};
use omt_pki::SigningIdentity;
use serde_json::{Value, json};
use std::{io::Cursor, sync::Arc};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// The C2PA specification that our claims follow.
const SPEC_VERSION: &str = "2.2.0";

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
    /// Who signs.
    pub identity: SigningIdentity,
}

/// What signing produced.
#[derive(Debug)]
pub struct SignedAsset {
    /// The asset with the manifest inside, and its digest; none when the format takes a sidecar.
    pub asset: Option<(Content, BlobRef)>,
    /// The manifest store.
    pub manifest_store: Bytes,
    /// Its digest.
    pub manifest_digest: BlobRef,
    /// The active manifest's label.
    pub label: String,
}

/// Returns finished COSE to the manifest engine.
#[derive(Clone)]
struct DirectSigner {
    keys: Arc<dyn KeyStore>,
    identity: Arc<SigningIdentity>,
    template: Arc<Sign1Template>,
}

impl c2pa::Signer for DirectSigner {
    fn sign(&self, claim: &[u8]) -> c2pa::Result<Vec<u8>> {
        let with = |name: &str, message: &[u8]| self.keys.sign(name, message).map_err(CryptoError::from);
        let sign = |message: &[u8]| with(&self.identity.claim_key, message);
        let cose = match &self.identity.counter {
            Some((_, key)) => self.template.sign(claim, &sign, Some(&|message: &[u8]| with(key, message))),
            None => self.template.sign(claim, &sign, None),
        };
        cose.map_err(|e| c2pa::Error::OtherError(Box::new(e)))
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
        let signer = self.signer(&plan.identity);
        let embedded_as = match plan.media.embedding {
            Embedding::Embedded(format) => Some(format),
            Embedding::Sidecar => None,
        };
        let (asset, manifest_store) = match embedded_as {
            Some(format) => {
                let context = if self.hash_in_pieces(format, size, source)? { &self.signing_large } else { &self.signing };
                let mut builder = self.builder(context, &label, &plan, source)?;
                let (asset, store) = self.embed(&mut builder, &signer, format, source, size)?;
                (Some(asset), store)
            }
            None => (None, self.sign_beside(&label, &plan, signer.clone(), source)?),
        };
        self.check_own(&manifest_store, &plan.identity)?;
        let manifest_digest = BlobRef::of(&manifest_store);
        Ok(SignedAsset { asset, manifest_store: manifest_store.into(), manifest_digest, label })
    }

    fn signer(&self, identity: &SigningIdentity) -> DirectSigner {
        let template = Sign1Template::new(&identity.claim, identity.counter.as_ref().map(|(certificates, _)| certificates));
        DirectSigner { keys: self.keys.clone(), identity: Arc::new(identity.clone()), template: Arc::new(template) }
    }

    /// Large ISO base media with all media data in one box is hashed in pieces, in little memory. Of several `mdat` boxes the
    /// engine does not keep the order, and in fragmented files it does not verify pieces; both are hashed flat.
    fn hash_in_pieces(&self, format: &str, size: u64, source: &Content) -> Result<bool> {
        if size < LARGE || !matches!(format, "video/mp4" | "video/quicktime" | "audio/mp4") {
            return Ok(false);
        }
        Ok(crate::metadata::technical::is_one_piece(&mut open(source)?))
    }

    fn embed(
        &self,
        builder: &mut Builder,
        signer: &DirectSigner,
        format: &str,
        source: &Content,
        size: u64,
    ) -> Result<((Content, BlobRef), Vec<u8>)> {
        let mut input = open(source)?;
        let failed = |e: c2pa::Error| sign_error(e);
        if size < LARGE {
            let mut output = Cursor::new(Vec::with_capacity(size as usize + (64 << 10)));
            let store = builder.sign(signer, format, &mut input, &mut output).map_err(failed)?;
            let bytes = output.into_inner();
            let blob = BlobRef::of(&bytes);
            return Ok(((Content::Memory(bytes.into()), blob), store));
        }
        let path = self.spool.join(format!("signed-{}", Uuid::new_v4()));
        let temporary = TemporaryFile::new(path);
        let mut output = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(temporary.path())
            .context("cannot write in the spool directory")?;
        let store = builder.sign(signer, format, &mut input, &mut output).map_err(failed)?;
        let blob = digest(&mut std::fs::File::open(temporary.path()).context("cannot read back the signed file")?)?;
        Ok(((Content::File(temporary), blob), store))
    }

    /// A manifest beside the content, bound by a hash over all of it.
    fn sign_beside(&self, label: &str, plan: &SignPlan, signer: DirectSigner, source: &Content) -> Result<Vec<u8>> {
        let context = Context::new()
            .with_settings(self.signing.settings().clone())
            .map_err(|e| Error::internal("the manifest engine refused its settings").caused_by(e))?
            .with_signer(signer)
            .into_shared();
        let mut builder = self.builder(&context, label, plan, source)?;
        let blob = digest(&mut open(source)?)?;
        let mut binding = DataHash::new("jumbf manifest", "sha256");
        binding.set_hash(hex::decode(&blob.sha256).context("own digest")?);
        builder.add_assertion(DataHash::LABEL, &binding).map_err(sign_error)?;
        builder.sign_embeddable("application/c2pa").map_err(sign_error)
    }

    fn builder(&self, context: &Arc<Context>, label: &str, plan: &SignPlan, source: &Content) -> Result<Builder> {
        let mut builder =
            Builder::from_shared_context(context).with_definition(definition_json(label, plan)?).map_err(sign_error)?;
        if let Some(thumbnail) = &plan.thumbnail {
            builder.set_thumbnail(thumbnail.mime, &mut Cursor::new(&thumbnail.bytes)).map_err(sign_error)?;
        }
        for (at, ingredient) in plan.ingredients.iter().enumerate() {
            let format = match ingredient.media.embedding {
                Embedding::Embedded(format) => format,
                Embedding::Sidecar => ingredient.media.mime,
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

    /// Verifies our own signatures once, with the public keys from the certificates: a fault in a key store or provider must
    /// not leave this process as a signed manifest.
    fn check_own(&self, store: &[u8], identity: &SigningIdentity) -> Result<()> {
        let fault = |what: &str| Error::internal(format!("the manifest just signed does not verify: {what}"));
        let parsed = crate::jumbf::ManifestStore::parse(store).map_err(|e| fault(&e.to_string()))?;
        let active = parsed.active().ok_or_else(|| fault("no manifest"))?;
        let (Some(claim), Some(signature)) = (active.claim, active.signature) else { return Err(fault("no claim signature")) };
        let sign1 = cose::parse_sign1(signature).map_err(|e| fault(&e.to_string()))?;
        crate::post_quantum::verify_claim(self.provider(), &sign1, claim).map_err(|e| fault(&e.to_string()))?;
        match (&identity.counter, &sign1.countersignature) {
            (Some(_), Some(Ok(counter))) => crate::post_quantum::verify_countersignature(self.provider(), &sign1, counter, claim)
                .map_err(|e| fault(&e.to_string())),
            (None, None) => Ok(()),
            _ => Err(fault("the countersignature")),
        }
    }
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
            let mut entry = json!({ "action": action.action, "when": when });
            if let Some(source_type) = &action.digital_source_type {
                entry["digitalSourceType"] = json!(source_type);
            }
            if let Some(agent) = &action.software_agent {
                entry["softwareAgent"] = json!({ "name": agent });
            }
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
        "instance_id": format!("xmp:iid:{}", plan.uuid),
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
    match &error {
        c2pa::Error::IoError(io) if io.kind() == std::io::ErrorKind::StorageFull => {
            Error::internal("no room in the spool directory").caused_by(error)
        }
        c2pa::Error::OtherError(inner) if inner.is::<CryptoError>() => Error::internal("signing failed").caused_by(error),
        _ => unreadable(&error),
    }
}
