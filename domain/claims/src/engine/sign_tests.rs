//! What we build ourselves against what the manifest engine builds, as independent readers see both.

use super::{
    Engine, PlannedAction, PlannedAssertion, SignPlan, TrustLists, VerifyRequest,
    sign::{DirectSigner, sign_bound, source_hash},
};
use crate::{media, thumbnail::Thumbnail};
use bytes::Bytes;
use omt_crypto::{Algorithm, KeyStore, KeyStoreError, ProviderName, SignatureScheme, SigningKey, cose::SignerCertificates};
use omt_kernel::{PqRequirement, port::Content};
use omt_pki::{
    AnchorSource, Certificate, PkiSettings, SigningIdentity,
    profile::{self, KeyInfo, Profile, Request},
};
use serde_json::{Value, json};
use std::{collections::HashMap, io::Cursor, sync::Arc};
use time::OffsetDateTime;
use uuid::Uuid;

pub(super) const JPEG: &[u8] = include_bytes!("../../../../tests/fixtures/a.jpg");

type Key = (Algorithm, Vec<u8>, Box<dyn SigningKey>);

/// Keys in memory.
struct Keys(HashMap<String, Key>);

impl KeyStore for Keys {
    fn generate(&self, name: &str, _: Algorithm) -> Result<Vec<u8>, KeyStoreError> {
        Err(KeyStoreError::Exists(name.into()))
    }
    fn public_key(&self, name: &str) -> Result<Option<(Algorithm, Vec<u8>)>, KeyStoreError> {
        Ok(self.0.get(name).map(|(algorithm, public, _)| (*algorithm, public.clone())))
    }
    fn sign(&self, name: &str, message: &[u8]) -> Result<Vec<u8>, KeyStoreError> {
        Ok(self.0[name].2.sign(message)?)
    }
    fn check(&self) -> Result<(), KeyStoreError> {
        Ok(())
    }
    fn describe(&self) -> String {
        "memory".into()
    }
}

pub(super) struct World {
    pub(super) engine: Engine,
    identity: SigningIdentity,
    pub(super) trust: TrustLists,
    _spool: tempfile::TempDir,
}

/// A hierarchy: a leaf, its issuer and their root, which are returned as DER.
fn hierarchy(keys: &mut Keys, name: &str, algorithms: [Algorithm; 3], profiles: [Profile; 3]) -> [Vec<u8>; 3] {
    let provider = ProviderName::AwsLc.provider();
    let settings =
        PkiSettings { organization: "Test".into(), country: "SG".into(), public_url: "http://test".into(), cpl_record: None };
    let made = algorithms.map(|algorithm| provider.generate(algorithm).unwrap());
    let info = |at: usize| KeyInfo { algorithm: made[at].algorithm, public: made[at].public.clone() };
    let names = ["Leaf", "Issuer", "Root"].map(|role| format!("{name} {role}"));
    let certificates = [0, 1, 2].map(|at| {
        let by = (at + 1).min(2);
        let (subject, issuer) = (info(at), info(by));
        let request = Request {
            profile: profiles[at],
            common_name: &names[at],
            serial: *Uuid::new_v4().as_bytes(),
            not_before: OffsetDateTime::now_utc() - time::Duration::hours(1),
            subject: &subject,
            issuer_common_name: &names[by],
            issuer: &issuer,
            issuer_serial: (at < 2).then_some("00"),
        };
        profile::issue(&request, &settings, |tbs| provider.load(&made[by])?.sign(tbs)).unwrap()
    });
    keys.0.insert(name.into(), (algorithms[0], made[0].public.clone(), provider.load(&made[0]).unwrap()));
    certificates
}

pub(super) fn world() -> World {
    let mut keys = Keys(HashMap::new());
    let profiles = [Profile::Leaf, Profile::Issuer, Profile::Root];
    let classical = hierarchy(&mut keys, "classical", [Algorithm::Es256, Algorithm::Es384, Algorithm::Es384], profiles);
    let quantum = hierarchy(&mut keys, "quantum", [Algorithm::MlDsa65; 3], profiles);
    let mut trust = TrustLists::default();
    trust.signers.add(Certificate::from_der(&classical[2]).unwrap(), AnchorSource::Own);
    trust.post_quantum.add(Certificate::from_der(&quantum[2]).unwrap(), AnchorSource::Own);
    let signer = |algorithm, chain: &[Vec<u8>; 3]| SignerCertificates { algorithm, chain: chain[..2].to_vec() };
    let counter = signer(Algorithm::MlDsa65, &quantum);
    let spki = Certificate::from_der(&counter.chain[0]).unwrap().spki;
    let identity = SigningIdentity {
        scheme: SignatureScheme::DEFAULT,
        claim: signer(Algorithm::Es256, &classical),
        claim_key: "classical".into(),
        claim_public: keys.0["classical"].1.clone(),
        counter: Some((counter, "quantum".into())),
        counter_spki_sha256: Some(<sha2::Sha256 as sha2::Digest>::digest(&spki).into()),
        counter_public: keys.0["quantum"].1.clone(),
    };
    let spool = tempfile::tempdir().unwrap();
    let engine = Engine::new(ProviderName::AwsLc.provider(), Arc::new(keys), spool.path().to_owned()).unwrap();
    World { engine, identity, trust, _spool: spool }
}

pub(super) fn plan(world: &World) -> SignPlan {
    let assertion =
        |label: &str, data: Value, json: bool, created: bool| PlannedAssertion { label: label.into(), data, json, created };
    SignPlan {
        uuid: Uuid::new_v4(),
        salts: [7; 32],
        title: "Ein Titel, größer als ASCII".into(),
        media: media::by_mime("image/jpeg"),
        now: OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000),
        actions: vec![
            PlannedAction {
                action: "c2pa.created".into(),
                digital_source_type: Some(crate::definition::DEFAULT_SOURCE_TYPE.into()),
                software_agent: Some("Camera 3".into()),
                ingredients: Vec::new(),
            },
            PlannedAction {
                action: "com.example.stamped".into(),
                digital_source_type: None,
                software_agent: None,
                ingredients: Vec::new(),
            },
        ],
        assertions: vec![
            assertion(
                "com.example.note",
                json!({ "a": [1, -2, 3.25, 1e300, true, null], "n": i64::MIN, "m": i64::MAX }),
                false,
                false,
            ),
            assertion("com.example.note", json!({ "second": {} }), false, false),
            assertion(
                "cawg.training-mining",
                json!({ "entries": { "cawg.ai_training": { "use": "notAllowed" } } }),
                false,
                false,
            ),
            assertion(
                "cawg.metadata",
                json!({ "@context": { "dc": "http://purl.org/dc/elements/1.1/" }, "dc:title": "x" }),
                true,
                false,
            ),
            assertion("org.enterprise.workflow", json!({ "workflow_id": "w" }), false, true),
        ],
        thumbnail: Some(Thumbnail { mime: "image/jpeg", bytes: JPEG.to_vec() }),
        ingredients: Vec::new(),
        source: None,
        identity: world.identity.clone(),
    }
}

fn bytes(content: &Content) -> Bytes {
    match content {
        Content::Memory(bytes) => bytes.clone(),
        _ => panic!("small content stays in memory"),
    }
}

fn state(world: &World, content: &Content, sidecar: Option<&[u8]>) -> (String, String, Vec<crate::report::Status>) {
    let request = VerifyRequest {
        content,
        media: media::by_mime(if sidecar.is_some() { "text/plain" } else { "image/jpeg" }),
        sidecar,
        trust: &world.trust,
        post_quantum: PqRequirement::WhenCommitted,
        now: OffsetDateTime::now_utc(),
        detail: false,
    };
    let report = world.engine.verify(&request).unwrap().report;
    let quantum = serde_json::to_value(report.post_quantum.state).unwrap();
    (report.validation_state.as_str().to_owned(), quantum.as_str().unwrap().to_owned(), report.issues)
}

/// What a reader of the `c2pa` crate sees, without what differs from one signing to the next.
fn seen(store: &[u8], content: &[u8]) -> Value {
    let reader = c2pa::Reader::default().with_manifest_data_and_stream(store, "image/jpeg", Cursor::new(content)).unwrap();
    let mut manifest = serde_json::to_value(reader.active_manifest().unwrap()).unwrap();
    let object = manifest.as_object_mut().unwrap();
    object.remove("claim_generator_info");
    object.remove("signature_info");
    let thumbnail = object["thumbnail"].clone();
    let codes = |list: &[c2pa::validation_status::ValidationStatus]| -> Vec<String> {
        let mut codes: Vec<_> =
            list.iter().map(|status| format!("{} {}", status.code(), status.url().unwrap_or_default())).collect();
        codes.sort();
        codes
    };
    let results = reader.validation_results().unwrap().active_manifest().unwrap();
    json!({
        "manifest": manifest,
        "thumbnail": thumbnail,
        "success": codes(results.success()),
        "informational": codes(results.informational()),
        "failure": codes(results.failure()),
    })
}

#[test]
fn our_stores_say_what_those_of_the_engine_say() {
    let world = world();
    let source = Content::Memory(Bytes::from_static(JPEG));
    let plan = plan(&world);
    let label = format!("urn:c2pa:{}", plan.uuid);
    let signer = DirectSigner::new(&world.engine, &plan);
    let ours = world.engine.bound(&label, &plan, &signer, &source, None).unwrap();
    let mut builder = world.engine.builder(&world.engine.signing, &label, &plan, &source).unwrap();
    let theirs = sign_bound(&mut builder, &signer, source_hash(&plan, &source).unwrap(), None).unwrap();
    let (ours, theirs) = (seen(&ours, JPEG), seen(&theirs, JPEG));
    assert_eq!(ours, theirs, "ours {ours:#}\ntheirs {theirs:#}");
    assert_eq!(ours["failure"], json!([format!("signingCredential.untrusted self#jumbf=/c2pa/{label}/c2pa.signature")]));
}

#[test]
fn what_is_signed_is_trusted_inside_and_beside() {
    let world = world();
    let source = Content::Memory(Bytes::from_static(JPEG));
    let signed = world.engine.sign(plan(&world), &source).unwrap();
    let asset = signed.asset.unwrap();
    assert_eq!(state(&world, &asset, None), ("trusted".into(), "trusted".into(), Vec::new()));
    let read = c2pa::Reader::default().with_stream("image/jpeg", Cursor::new(bytes(&asset))).unwrap();
    assert_eq!(read.validation_state(), c2pa::ValidationState::Valid);

    let text = Content::Memory(Bytes::from_static(b"plain text"));
    let beside = SignPlan { media: media::by_mime("text/plain"), thumbnail: None, ..plan(&world) };
    let signed = world.engine.sign(beside, &text).unwrap();
    assert!(signed.asset.is_none());
    assert_eq!(state(&world, &text, Some(&signed.manifest_store)).0, "trusted");
    let other = Content::Memory(Bytes::from_static(b"plain test"));
    assert_eq!(state(&world, &other, Some(&signed.manifest_store)).0, "invalid");
}

/// The store says how long it is in numbers of two lengths, and goes into segments of 64 KiB.
#[test]
fn stores_of_every_length_around_the_limits_hold() {
    let world = world();
    let source = Content::Memory(Bytes::from_static(JPEG));
    let sign = |padding: usize| {
        let mut plan = plan(&world);
        plan.thumbnail = None;
        plan.assertions = vec![PlannedAssertion {
            label: "com.example.padding".into(),
            data: json!({ "x": "y".repeat(padding) }),
            json: true,
            created: false,
        }];
        world.engine.sign(plan, &source).unwrap()
    };
    let empty = sign(0).manifest_store.len();
    let lengths = [65_400, 65_480, 131_000].into_iter().flat_map(|around| (around..around + 140).step_by(4));
    for wanted in lengths {
        let signed = sign(wanted - empty);
        let (state, _, issues) = state(&world, &signed.asset.unwrap(), None);
        assert_eq!(state, "trusted", "a store of {} bytes: {issues:?}", signed.manifest_store.len());
    }
}
