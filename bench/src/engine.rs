//! In-process signing and verifying, ours and the c2pa crate's in turn, so that drift of the machine hits both.

use crate::{median, world::System};
use bytes::Bytes;
use c2pa::{Builder, Context, Reader, Settings, SigningAlg};
use omt_claims::{
    Engine, TrustLists, VerifyRequest,
    engine::{PlannedAction, SignPlan},
    media,
};
use omt_crypto::{Algorithm, KeyStore, ProviderName, SignatureScheme};
use omt_kernel::{PqRequirement, port::Content};
use omt_keys::KeystoreFile;
use omt_pki::{
    Certificate, Hierarchy, Pki, PkiSettings,
    profile::{self, KeyInfo, Profile, Request},
};
use omt_sql::SqlDatabase;
use p256::pkcs8::EncodePrivateKey;
use serde_json::json;
use std::{io::Cursor, path::Path, sync::Arc, time::Instant};
use time::OffsetDateTime;
use uuid::Uuid;

fn settings() -> PkiSettings {
    PkiSettings { organization: "Bench".into(), country: "SG".into(), public_url: "http://bench.test".into(), cpl_record: None }
}

/// An ES256 chain whose key the c2pa crate can hold itself.
fn plain_chain() -> (String, Vec<u8>, String) {
    let key = |algorithm| ProviderName::Rust.provider().generate(algorithm).unwrap();
    let (root, issuer, leaf) = (key(Algorithm::Es384), key(Algorithm::Es384), key(Algorithm::Es256));
    let info = |k: &omt_crypto::KeyMaterial| KeyInfo { algorithm: k.algorithm, public: k.public.clone() };
    let issue = |profile, name, subject: &omt_crypto::KeyMaterial, by: &omt_crypto::KeyMaterial, by_name, serial| {
        let request = Request {
            profile,
            common_name: name,
            serial: *Uuid::new_v4().as_bytes(),
            not_before: OffsetDateTime::now_utc() - time::Duration::hours(1),
            subject: &info(subject),
            issuer_common_name: by_name,
            issuer: &info(by),
            issuer_serial: serial,
        };
        profile::issue(&request, &settings(), |tbs| ProviderName::Rust.provider().load(by)?.sign(tbs)).unwrap()
    };
    let root_der = issue(Profile::Root, "R", &root, &root, "R", None);
    let issuer_der = issue(Profile::Issuer, "I", &issuer, &root, "R", Some("00"));
    let leaf_der = issue(Profile::Leaf, "L", &leaf, &issuer, "I", Some("00"));
    use p256::pkcs8::DecodePrivateKey;
    let secret = p256::SecretKey::from_pkcs8_der(&leaf.private).unwrap();
    let key_pem = secret.to_pkcs8_pem(p256::pkcs8::LineEnding::LF).unwrap().to_string();
    let chain = profile::pem_bundle([leaf_der.as_slice(), issuer_der.as_slice()]);
    (chain, key_pem.into_bytes(), profile::pem_bundle([root_der.as_slice()]))
}

/// Measures and prints.
pub async fn run(file: &Path, rounds: usize) {
    let source = Bytes::from(std::fs::read(file).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let provider = ProviderName::AwsLc.provider();
    let keys: Arc<dyn KeyStore> = Arc::new(KeystoreFile::open(&dir.path().join("keys.json"), "bench", provider.clone()).unwrap());
    let database = Arc::new(SqlDatabase::connect(&format!("sqlite:{}", dir.path().join("db").display())).await.unwrap());
    database.migrate().await.unwrap();
    let (audit, _) = crate::world::audit(dir.path(), database.clone());
    let pki = Pki::open(keys.clone(), database, Arc::new(System), Arc::new(System), audit, settings()).await.unwrap();
    let identity = pki.identity(SignatureScheme::DEFAULT).await.unwrap();
    let engine = Engine::new(provider, keys, dir.path().to_owned()).unwrap();
    let mut trust = TrustLists::default();
    pki.add_roots(Hierarchy::Classical, &mut trust.signers).unwrap();
    pki.add_roots(Hierarchy::PostQuantum, &mut trust.post_quantum).unwrap();

    let sign_ours = || {
        let plan = SignPlan {
            uuid: Uuid::new_v4(),
            salts: omt_kernel::port::Entropy::secret(&System),
            title: "bench".into(),
            media: media::by_mime("image/jpeg"),
            now: OffsetDateTime::now_utc(),
            actions: vec![PlannedAction {
                action: "c2pa.created".into(),
                digital_source_type: Some("http://cv.iptc.org/newscodes/digitalsourcetype/digitalCreation".into()),
                software_agent: None,
                ingredients: Vec::new(),
            }],
            assertions: Vec::new(),
            thumbnail: None,
            ingredients: Vec::new(),
            source: None,
            identity: identity.clone(),
        };
        let signed = engine.sign(plan, &Content::Memory(source.clone())).unwrap();
        let Some(Content::Memory(bytes)) = signed.asset else { unreachable!("a small JPEG stays in memory") };
        bytes
    };

    let (chain, key, root) = plain_chain();
    let base = json!({ "verify": { "verify_after_sign": false }, "builder": { "thumbnail": { "enabled": false } } });
    let context = |extra: serde_json::Value| {
        let mut all = base.clone();
        all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Context::new().with_settings(Settings::new().with_json(&all.to_string()).unwrap()).unwrap().into_shared()
    };
    let (plain_context, trusting) = (context(json!({})), context(json!({ "trust": { "trust_anchors": root } })));
    let signer = c2pa::create_signer::from_keys(chain.as_bytes(), &key, SigningAlg::Es256, None).unwrap();
    let definition = json!({
        "claim_generator_info": [{ "name": "bench", "version": "1" }],
        "title": "bench",
        "assertions": [{ "label": "c2pa.actions.v2", "created": true, "data": { "actions": [{
            "action": "c2pa.created",
            "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCreation",
        }] } }],
    });
    let sign_plain = || {
        let mut builder = Builder::from_shared_context(&plain_context).with_definition(definition.clone()).unwrap();
        let mut out = Cursor::new(Vec::new());
        builder.sign(signer.as_ref(), "image/jpeg", &mut Cursor::new(source.as_ref()), &mut out).unwrap();
        out.into_inner()
    };

    let (hybrid, plain) = (Content::Memory(sign_ours()), sign_plain());
    let verify_ours = || {
        let request = VerifyRequest {
            content: &hybrid,
            media: media::by_mime("image/jpeg"),
            sidecar: None,
            trust: &trust,
            post_quantum: PqRequirement::WhenCommitted,
            now: OffsetDateTime::now_utc(),
            detail: false,
        };
        let report = engine.verify(&request).unwrap().report;
        assert_eq!(report.validation_state.as_str(), "trusted");
    };
    let verify_plain = || {
        let reader = Reader::from_shared_context(&trusting).with_stream("image/jpeg", Cursor::new(plain.as_slice())).unwrap();
        assert_eq!(reader.validation_state(), c2pa::ValidationState::Trusted);
    };
    assert!(Certificate::from_pem_bundle(chain.as_bytes()).unwrap().len() == 2);

    println!("in process, {} bytes JPEG, {rounds} pairs, medians", source.len());
    compare("sign: hybrid (ours) / ES256 (c2pa crate)", rounds, || drop(sign_ours()), || drop(sign_plain()), 1.2);
    compare("verify with trust: hybrid (ours) / ES256 (c2pa Reader)", rounds, verify_ours, verify_plain, 1.2);
    let provider = ProviderName::AwsLc.provider();
    for algorithm in [Algorithm::Es256, Algorithm::MlDsa65] {
        let material = provider.generate(algorithm).unwrap();
        let key = provider.load(&material).unwrap();
        let message = vec![7; 20_000];
        let signature = key.sign(&message).unwrap();
        let sign = median((0..rounds).map(|_| timed(|| drop(key.sign(&message)))).collect());
        let verify = || provider.verify(algorithm, &material.public, &message, &signature).unwrap();
        let verify = median((0..rounds).map(|_| timed(verify)).collect());
        println!("{algorithm} alone: sign {:.3} ms, verify {:.3} ms", sign * 1e3, verify * 1e3);
    }
    let digest = || drop(omt_claims::digest::digest(&mut Cursor::new(source.as_ref())));
    println!("SHA-256 of the JPEG alone: {:.3} ms", median((0..rounds).map(|_| timed(digest)).collect()) * 1e3);
    let thumbnail = |_: ()| {
        omt_claims::thumbnail::make(media::by_mime("image/jpeg"), Cursor::new(source.as_ref()), 1).unwrap();
    };
    let times: Vec<f64> = (0..rounds).map(|_| timed(|| thumbnail(()))).collect();
    println!("thumbnail of this JPEG: {:.2} ms (goal for 1 megapixel: 10 ms)", median(times) * 1e3);
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn compare(what: &str, rounds: usize, ours: impl Fn(), baseline: impl Fn(), goal: f64) {
    for _ in 0..20 {
        ours();
        baseline();
    }
    let pairs: Vec<(f64, f64)> = (0..rounds).map(|_| (timed(&ours), timed(&baseline))).collect();
    let ratio = median(pairs.iter().map(|(a, b)| a / b).collect());
    let (a, b) = (median(pairs.iter().map(|p| p.0).collect()), median(pairs.iter().map(|p| p.1).collect()));
    println!("{what}: {:.3} ms / {:.3} ms, ratio {ratio:.2} (goal at most {goal})", a * 1e3, b * 1e3);
}
