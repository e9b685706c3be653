//! Building a manifest store of one manifest that is bound to its content by a data hash and has no ingredients: what most signings
//! are. Everything else is built by the manifest engine; what both write differs in nothing that a reader looks at.

use super::sign::{SPEC_VERSION, SignPlan};
use crate::{
    definition::{self, COMMITMENT_LABEL},
    jumbf::write::{BoxType, HEAD, boxed, superbox},
};
use omt_crypto::cbor::{self, Major};
use omt_kernel::{Error, Result, error::Context as _};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use time::format_description::well_known::Rfc3339;

/// The bytes of the asset that its hash leaves out, because they hold the manifest store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exclusion {
    /// Where they start.
    pub(super) start: usize,
    /// How many they are, by the length of the store.
    pub(super) length: fn(usize) -> usize,
}

/// What is signed, and by what.
pub(super) struct Composition<'a> {
    /// The plan, without ingredients.
    pub(super) plan: &'a SignPlan,
    /// The manifest's label.
    pub(super) label: &'a str,
    /// SHA-256 of the content without what is excluded.
    pub(super) hash: &'a [u8],
    /// What is excluded; nothing of content that has its manifest beside it.
    pub(super) exclusion: Option<Exclusion>,
    /// How long the claim signature's COSE will be.
    pub(super) signature_len: usize,
}

/// An assertion in its box.
struct Assertion {
    label: String,
    created: bool,
    bytes: Vec<u8>,
    hash: [u8; 32],
}

impl Assertion {
    fn new(label: String, created: bool, bytes: Vec<u8>) -> Self {
        // The hash of an assertion is over its superbox without the head (C2PA 2.2 §8.4.2.3).
        let hash = Sha256::digest(&bytes[HEAD..]).into();
        Self { label, created, bytes, hash }
    }
}

impl Composition<'_> {
    /// Writes the claim, has it signed, and returns the store.
    pub(super) fn sign(&self, sign: impl Fn(&[u8]) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        let mut assertions = self.assertions()?;
        let at = assertions.len();
        assertions.push(self.binding(None));
        if let Some(exclusion) = self.exclusion {
            let unsigned = vec![0; self.signature_len];
            // The store says how long it is, and longer numbers make it longer. They only grow from here, so this ends.
            let mut excluded = (exclusion.length)(self.signature_len);
            loop {
                assertions[at] = self.binding(Some((exclusion.start, excluded)));
                let found = (exclusion.length)(self.store(&assertions, &self.claim(&assertions), &unsigned).len());
                if found == excluded {
                    break;
                }
                excluded = found;
            }
        }
        let claim = self.claim(&assertions);
        let signature = sign(&claim)?;
        if signature.len() != self.signature_len {
            return Err(Error::internal("a claim signature is not as long as was reserved"));
        }
        Ok(self.store(&assertions, &claim, &signature))
    }

    /// The whole store.
    fn store(&self, assertions: &[Assertion], claim: &[u8], signature: &[u8]) -> Vec<u8> {
        let inside: usize = assertions.iter().map(|assertion| assertion.bytes.len()).sum();
        let mut out = Vec::with_capacity(inside + claim.len() + signature.len() + 512);
        let cbor = |out: &mut Vec<u8>, bytes: &[u8]| boxed(out, b"cbor", |out| out.extend(bytes));
        superbox(&mut out, BoxType::Named(*b"c2pa"), "c2pa", None, |out| {
            superbox(out, BoxType::Named(*b"c2ma"), self.label, None, |out| {
                superbox(out, BoxType::Named(*b"c2as"), "c2pa.assertions", None, |out| {
                    assertions.iter().for_each(|assertion| out.extend(&assertion.bytes));
                });
                superbox(out, BoxType::Named(*b"c2cl"), "c2pa.claim.v2", None, |out| cbor(out, claim));
                superbox(out, BoxType::Named(*b"c2cs"), "c2pa.signature", None, |out| cbor(out, signature));
            });
        });
        out
    }

    /// The claim (C2PA 2.2 §10.2, `claim-map-v2`).
    fn claim(&self, assertions: &[Assertion]) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + 128 * assertions.len());
        let references = |out: &mut Vec<u8>, created: bool| {
            let listed: Vec<_> = assertions.iter().filter(|assertion| assertion.created == created).collect();
            cbor::head(out, Major::Array, listed.len() as u64);
            for assertion in listed {
                cbor::head(out, Major::Map, 2);
                cbor::text(out, "url");
                cbor::text(out, &format!("self#jumbf=c2pa.assertions/{}", assertion.label));
                cbor::text(out, "hash");
                cbor::bytes(out, &assertion.hash);
            }
        };
        let gathered = assertions.iter().any(|assertion| !assertion.created);
        cbor::head(&mut out, Major::Map, 6 + u64::from(gathered));
        cbor::text(&mut out, "instanceID");
        cbor::text(&mut out, &self.plan.instance_id());
        cbor::text(&mut out, "claim_generator_info");
        cbor::head(&mut out, Major::Map, 3);
        for (key, value) in [("name", "OpenMediaTrust"), ("version", env!("CARGO_PKG_VERSION")), ("specVersion", SPEC_VERSION)] {
            cbor::text(&mut out, key);
            cbor::text(&mut out, value);
        }
        cbor::text(&mut out, "signature");
        cbor::text(&mut out, &format!("self#jumbf=/c2pa/{}/c2pa.signature", self.label));
        cbor::text(&mut out, "created_assertions");
        references(&mut out, true);
        if gathered {
            cbor::text(&mut out, "gathered_assertions");
            references(&mut out, false);
        }
        cbor::text(&mut out, "dc:title");
        cbor::text(&mut out, &self.plan.title);
        cbor::text(&mut out, "alg");
        cbor::text(&mut out, "sha256");
        out
    }

    /// Every assertion but the hard binding.
    fn assertions(&self) -> Result<Vec<Assertion>> {
        let plan = self.plan;
        let mut out = Assertions { made: Vec::new(), seen: HashMap::new(), salts: plan.salts };
        if let Some(thumbnail) = &plan.thumbnail {
            out.add("c2pa.thumbnail.claim", true, BoxType::EmbeddedFile, |out| {
                // No file name (ISO 19566-5 §B.5.2).
                boxed(out, b"bfdb", |out| {
                    out.push(0);
                    out.extend(thumbnail.mime.as_bytes());
                    out.push(0);
                });
                boxed(out, b"bidb", |out| out.extend(&thumbnail.bytes));
            });
        }
        let actions = self.actions()?;
        out.cbor("c2pa.actions.v2", true, &actions);
        if let (Some((certificates, _)), Some(spki)) = (&plan.identity.counter, plan.identity.counter_spki_sha256) {
            out.cbor(COMMITMENT_LABEL, true, &encoded(&definition::commitment(certificates.algorithm, spki))?);
        }
        for assertion in &plan.assertions {
            if assertion.json {
                let text = serde_json::to_vec(&assertion.data).context("an assertion cannot be written")?;
                let named = BoxType::Named(*b"json");
                out.add(&assertion.label, assertion.created, named, |out| boxed(out, b"json", |out| out.extend(&text)));
            } else {
                out.cbor(&assertion.label, assertion.created, &encoded(&assertion.data)?);
            }
        }
        Ok(out.made)
    }

    /// `c2pa.actions.v2` (C2PA 2.2 §18.15).
    fn actions(&self) -> Result<Vec<u8>> {
        const DATE_TIME: u64 = 0;
        let when = self.plan.now.format(&Rfc3339).context("the time cannot be written")?;
        let mut out = Vec::with_capacity(256);
        cbor::head(&mut out, Major::Map, 2);
        cbor::text(&mut out, "actions");
        cbor::head(&mut out, Major::Array, self.plan.actions.len() as u64);
        for action in &self.plan.actions {
            let members = 2 + u64::from(action.software_agent.is_some()) + u64::from(action.digital_source_type.is_some());
            cbor::head(&mut out, Major::Map, members);
            cbor::text(&mut out, "action");
            cbor::text(&mut out, &action.action);
            cbor::text(&mut out, "when");
            cbor::head(&mut out, Major::Tag, DATE_TIME);
            cbor::text(&mut out, &when);
            if let Some(agent) = &action.software_agent {
                cbor::text(&mut out, "softwareAgent");
                cbor::head(&mut out, Major::Map, 1);
                cbor::text(&mut out, "name");
                cbor::text(&mut out, agent);
            }
            if let Some(source_type) = &action.digital_source_type {
                cbor::text(&mut out, "digitalSourceType");
                cbor::text(&mut out, source_type);
            }
        }
        cbor::text(&mut out, "allActionsIncluded");
        out.push(cbor::TRUE);
        Ok(out)
    }

    /// `c2pa.hash.data` (C2PA 2.2 §18.5). It has no salt: what it hashes is there for all to see.
    fn binding(&self, excluded: Option<(usize, usize)>) -> Assertion {
        const LABEL: &str = "c2pa.hash.data";
        let mut data = Vec::with_capacity(128);
        cbor::head(&mut data, Major::Map, 4 + u64::from(excluded.is_some()));
        if let Some((start, length)) = excluded {
            cbor::text(&mut data, "exclusions");
            cbor::head(&mut data, Major::Array, 1);
            cbor::head(&mut data, Major::Map, 2);
            cbor::text(&mut data, "start");
            cbor::head(&mut data, Major::Unsigned, start as u64);
            cbor::text(&mut data, "length");
            cbor::head(&mut data, Major::Unsigned, length as u64);
        }
        cbor::text(&mut data, "name");
        cbor::text(&mut data, "jumbf manifest");
        cbor::text(&mut data, "alg");
        cbor::text(&mut data, "sha256");
        cbor::text(&mut data, "hash");
        cbor::bytes(&mut data, self.hash);
        cbor::text(&mut data, "pad");
        cbor::bytes(&mut data, &[]);
        let mut bytes = Vec::with_capacity(data.len() + 64);
        superbox(&mut bytes, BoxType::Named(*b"cbor"), LABEL, None, |out| boxed(out, b"cbor", |out| out.extend(&data)));
        Assertion::new(LABEL.to_owned(), true, bytes)
    }
}

/// Assertions as they come.
struct Assertions {
    made: Vec<Assertion>,
    /// How many have each label.
    seen: HashMap<String, usize>,
    salts: [u8; 32],
}

impl Assertions {
    fn cbor(&mut self, label: &str, created: bool, data: &[u8]) {
        self.add(label, created, BoxType::Named(*b"cbor"), |out| boxed(out, b"cbor", |out| out.extend(data)));
    }

    fn add(&mut self, label: &str, created: bool, kind: BoxType, content: impl FnOnce(&mut Vec<u8>)) {
        let instance = self.seen.entry(label.to_owned()).or_default();
        // Instances of one label are told apart (C2PA 2.2 §6.4).
        let unique = if *instance == 0 { label.to_owned() } else { format!("{label}__{instance}") };
        *instance += 1;
        let salt = self.salt();
        let mut bytes = Vec::with_capacity(512);
        superbox(&mut bytes, kind, &unique, Some(&salt), content);
        self.made.push(Assertion::new(unique, created, bytes));
    }

    /// One for each assertion, of a secret that is then forgotten: what is redacted later cannot be guessed by its hash.
    fn salt(&self) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update(self.salts);
        hash.update((self.made.len() as u64).to_be_bytes());
        let mut out = [0; 16];
        out.copy_from_slice(&hash.finalize()[..16]);
        out
    }
}

fn encoded(value: &Value) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(256);
    ciborium::into_writer(value, &mut out).context("an assertion cannot be written")?;
    Ok(out)
}
