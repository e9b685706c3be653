//! What a time-stamp proves when certificates have ended since. OpenSSL is the authority.

use super::{
    SignedAsset, VerifyRequest,
    sign_tests::{JPEG, World, plan, world},
};
use crate::{
    jumbf::ManifestStore,
    media,
    post_quantum::PqState,
    report::{TrustLevel, ValidationState, VerificationReport},
};
use bytes::Bytes;
use omt_crypto::cose;
use omt_kernel::{
    PqRequirement, Result,
    port::{Content, TimestampAuthority},
};
use omt_pki::AnchorSource;
use std::{path::Path, process::Command, sync::Arc};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

struct OpenSsl(TempDir);

fn openssl(dir: &Path, arguments: &str) {
    let done = Command::new("openssl").current_dir(dir).args(arguments.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

impl OpenSsl {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("leaf.ext", "keyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\n");
        write(
            "ts.cnf",
            "[t]\nserial=./serial\nsigner_digest=sha256\ndefault_policy=1.2.3.4\ndigests=sha256\ness_cert_id_alg=sha256\n",
        );
        write("serial", "01\n");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        for arguments in [
            format!(
                "req -x509 {key} -keyout root.key -out root.pem -days 9 -subj /CN=Root -addext keyUsage=critical,keyCertSign"
            ),
            format!("req {key} -keyout leaf.key -out leaf.csr -subj /CN=Time"),
            "x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -days 9 -extfile leaf.ext -out leaf.pem".into(),
        ] {
            openssl(dir.path(), &arguments);
        }
        Self(dir)
    }
}

impl TimestampAuthority for OpenSsl {
    fn ask(&self, request: Vec<u8>) -> Result<Vec<u8>> {
        std::fs::write(self.0.path().join("query"), request).unwrap();
        openssl(
            self.0.path(),
            "ts -reply -queryfile query -signer leaf.pem -inkey leaf.key -config ts.cnf -section t -out reply",
        );
        Ok(std::fs::read(self.0.path().join("reply")).unwrap())
    }
}

/// A world with an authority, and something that it stamped.
fn stamped(trusts: bool) -> (World, SignedAsset) {
    let mut world = world();
    let authority = OpenSsl::new();
    let root = std::fs::read(authority.0.path().join("root.pem")).unwrap();
    if trusts {
        world.trust.timestamps.add_pem(&root, AnchorSource::Tenant).unwrap();
    }
    world.engine = world.engine.stamped_by(Arc::new(authority));
    let mut plan = plan(&world);
    plan.now = OffsetDateTime::now_utc();
    let signed = world.engine.sign(plan, &Content::Memory(Bytes::from_static(JPEG))).unwrap();
    (world, signed)
}

fn seen(world: &World, signed: &SignedAsset, after_days: i64) -> VerificationReport {
    let request = VerifyRequest {
        content: signed.asset.as_ref().unwrap(),
        media: media::by_mime("image/jpeg"),
        sidecar: None,
        trust: &world.trust,
        post_quantum: PqRequirement::WhenCommitted,
        now: OffsetDateTime::now_utc() + Duration::days(after_days),
        detail: false,
    };
    world.engine.verify(&request).unwrap().report
}

#[test]
fn what_a_trusted_authority_stamped_outlives_its_certificates() {
    let (world, signed) = stamped(true);
    let now = seen(&world, &signed, 0);
    assert_eq!((now.validation_state, now.post_quantum.state), (ValidationState::Trusted, PqState::Trusted), "{now:#?}");
    assert!(now.signing_time.unwrap().trusted && now.warnings.is_empty());
    let later = seen(&world, &signed, 2_000);
    assert_eq!((later.validation_state, later.post_quantum.state), (ValidationState::Trusted, PqState::Valid), "{later:#?}");
    assert_eq!((later.trust_level, later.certificate_trusted), (TrustLevel::Enterprise, true));
}

#[test]
fn nobody_elses_word_revives_anything() {
    let (world, signed) = stamped(false);
    let now = seen(&world, &signed, 0);
    assert_eq!((now.validation_state, now.signing_time.unwrap().trusted), (ValidationState::Trusted, false));
    let later = seen(&world, &signed, 2_000);
    assert_eq!((later.certificate_trusted, later.post_quantum.state), (false, PqState::Invalid));
    assert_eq!(later.validation_state, ValidationState::Invalid);
}

#[test]
fn the_deprecated_header_proves_no_time() {
    let (world, signed) = stamped(true);
    let store = ManifestStore::parse(&signed.manifest_store).unwrap();
    let active = store.active().unwrap();
    let sign1 = cose::parse_sign1(active.signature.unwrap()).unwrap();
    let claim = active.claim.unwrap();
    let authority = OpenSsl::new();
    let mut anchors = world.trust.timestamps.clone();
    anchors.add_pem(&std::fs::read(authority.0.path().join("root.pem")).unwrap(), AnchorSource::Tenant).unwrap();
    let message = cose::stamped_structure(&sign1.claim.protected, claim);
    let request = omt_timestamp::request(&omt_timestamp::Imprint::of(&message, [7; 16])).unwrap();
    let answer = authority.ask(request).unwrap();
    for (token, of_claim) in [(answer.clone(), true), (omt_timestamp::token_in(&answer).unwrap().to_vec(), true)] {
        let old = cose::ParsedSign1 { stamp: Some(Ok(cose::StampHeader { token, of_claim })), ..sign1.clone() };
        let verdict = super::stamp::judge(&old, claim, &anchors, world.engine.provider());
        let stamped = verdict.as_ref().unwrap().as_ref().unwrap();
        assert!(stamped.stamp.path.is_ok() && !stamped.is_trusted());
        assert_eq!(super::stamp::trusted_time(&verdict), None);
    }
    // The same token in the other header is about something else.
    let new = cose::ParsedSign1 { stamp: Some(Ok(cose::StampHeader { token: answer, of_claim: false })), ..sign1 };
    assert!(super::stamp::judge(&new, claim, &anchors, world.engine.provider()).unwrap().is_err());
}
