//! NIST's ACVP vectors, and implementations that share no code with ours.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use aws_lc_rs::{
    encoding::AsRawBytes,
    signature::{self as s, KeyPair, PqdsaKeyPair},
};
use base64::Engine as _;
use omt_crypto::{Algorithm, CryptoError, KeyMaterial, ProviderName};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/acvp-keygen.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn algorithm(case: &Value) -> Algorithm {
    let name = case["set"].as_str().unwrap().to_lowercase();
    Algorithm::all().find(|a| a.name() == name).unwrap_or_else(|| panic!("{name}"))
}

/// NIST's private key signs in both providers, and NIST's public key verifies what it signed in both.
fn signs_and_verifies(algorithm: Algorithm, private: Vec<u8>, public: Vec<u8>) {
    let material = KeyMaterial { algorithm, private: private.into(), public };
    for signer in ProviderName::ALL {
        let signature = signer.provider().load(&material).unwrap().sign(b"vector").unwrap();
        for judge in ProviderName::ALL {
            judge.provider().verify(algorithm, &material.public, b"vector", &signature).unwrap();
        }
    }
}

#[test]
fn ml_dsa_keys_are_nists() {
    let vectors = vectors();
    let cases = vectors["ml_dsa"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let algorithm = algorithm(case);
        let signing = match algorithm {
            Algorithm::MlDsa44 => &s::ML_DSA_44_SIGNING,
            Algorithm::MlDsa65 => &s::ML_DSA_65_SIGNING,
            _ => &s::ML_DSA_87_SIGNING,
        };
        let pair = PqdsaKeyPair::from_seed(signing, &bytes(&case["seed"])).unwrap();
        assert_eq!(pair.public_key().as_ref(), bytes(&case["pk"]), "{}", case["tcId"]);
        assert_eq!(pair.private_key().as_raw_bytes().unwrap().as_ref(), bytes(&case["sk"]), "{}", case["tcId"]);
        signs_and_verifies(algorithm, bytes(&case["sk"]), bytes(&case["pk"]));
    }
}

#[test]
fn slh_dsa_keys_are_nists() {
    fn derived<P: slh_dsa::ParameterSet>(case: &Value) -> Vec<u8> {
        let part = |name: &str| bytes(&case[name]);
        slh_dsa::SigningKey::<P>::slh_keygen_internal(&part("skSeed"), &part("skPrf"), &part("pkSeed")).to_vec()
    }
    let vectors = vectors();
    let cases = vectors["slh_dsa"].as_array().unwrap();
    assert_eq!(cases.len(), 8);
    for case in cases {
        let algorithm = algorithm(case);
        let private = match algorithm {
            Algorithm::SlhDsaSha2_128s => derived::<slh_dsa::Sha2_128s>(case),
            Algorithm::SlhDsaSha2_128f => derived::<slh_dsa::Sha2_128f>(case),
            Algorithm::SlhDsaSha2_192s => derived::<slh_dsa::Sha2_192s>(case),
            _ => derived::<slh_dsa::Sha2_256s>(case),
        };
        assert_eq!(private, bytes(&case["sk"]), "{}", case["tcId"]);
        assert!(private.ends_with(&bytes(&case["pk"])));
    }
    for case in cases.iter().filter(|c| c["set"] == "SLH-DSA-SHA2-128f") {
        signs_and_verifies(Algorithm::SlhDsaSha2_128f, bytes(&case["sk"]), bytes(&case["pk"]));
    }
}

fn base64(value: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn signatures() -> Value {
    serde_json::from_str(include_str!("vectors/acvp-signatures.json")).unwrap()
}

/// Both providers accept NIST's signatures, and refuse them for anything else.
#[test]
fn ml_dsa_signatures_are_nists() {
    let vectors = signatures();
    let cases = vectors["ml_dsa_sig_gen"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let algorithm = algorithm(case);
        let signing = match algorithm {
            Algorithm::MlDsa44 => &s::ML_DSA_44_SIGNING,
            Algorithm::MlDsa65 => &s::ML_DSA_65_SIGNING,
            _ => &s::ML_DSA_87_SIGNING,
        };
        // The vectors of signing have no public keys.
        let pair = PqdsaKeyPair::from_raw_private_key(signing, &base64(&case["sk"])).unwrap();
        let (public, message, signature) = (pair.public_key().as_ref(), base64(&case["message"]), base64(&case["signature"]));
        for name in ProviderName::ALL {
            let verify = |message: &[u8], signature: &[u8]| name.provider().verify(algorithm, public, message, signature);
            verify(&message, &signature).unwrap_or_else(|e| panic!("{name} {algorithm}: {e}"));
            assert_eq!(verify(&message[1..], &signature), Err(CryptoError::BadSignature), "{name} {algorithm}");
            for at in [0, signature.len() / 2, signature.len() - 1] {
                let mut bad = signature.clone();
                bad[at] ^= 1;
                assert_eq!(verify(&message, &bad), Err(CryptoError::BadSignature), "{name} {algorithm} byte {at}");
            }
        }
        signs_and_verifies(algorithm, base64(&case["sk"]), public.to_vec());
    }
}

/// Hints have one encoding (FIPS 204 §7.1, algorithm 21); with another, signatures could be changed and stay good.
#[test]
fn ml_dsa_hints_have_one_encoding() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/wycheproof-ml-dsa-65.json")).unwrap();
    let public = base64(&vectors["pk"]);
    let cases = vectors["tests"].as_array().unwrap();
    assert_eq!(cases.iter().filter(|case| case["valid"] == false).count(), 3);
    for (case, name) in cases.iter().flat_map(|case| ProviderName::ALL.map(|name| (case, name))) {
        let (message, signature) = (base64(&case["message"]), base64(&case["signature"]));
        let verdict = name.provider().verify(Algorithm::MlDsa65, &public, &message, &signature);
        assert_eq!(verdict.is_ok(), case["valid"] == true, "{name}: {}", case["comment"]);
    }
}

/// NIST's cases of verifying are of the internal interface (FIPS 205 §9.3), which the external one that both providers use stands on:
/// it puts two zeros before the message where there is no context.
#[test]
fn slh_dsa_verdicts_are_nists() {
    let vectors = signatures();
    let cases = vectors["slh_dsa_sig_ver"].as_array().unwrap();
    assert_eq!(cases.iter().map(|case| case["passes"] == true).collect::<Vec<_>>(), [false, true]);
    for case in cases {
        assert_eq!(algorithm(case), Algorithm::SlhDsaSha2_192s);
        let (public, message, signature) = (base64(&case["pk"]), base64(&case["message"]), base64(&case["signature"]));
        let key = slh_dsa::VerifyingKey::<slh_dsa::Sha2_192s>::try_from(public.as_slice()).unwrap();
        let parsed = slh_dsa::Signature::try_from(signature.as_slice()).unwrap();
        let verdict = key.slh_verify_internal(&[&message], &parsed);
        assert_eq!(verdict.is_ok(), case["passes"] == true, "{}: {}", case["tcId"], case["reason"]);
        for name in ProviderName::ALL {
            let verdict = name.provider().verify(Algorithm::SlhDsaSha2_192s, &public, &message, &signature);
            assert_eq!(verdict, Err(CryptoError::BadSignature), "{name} takes no signature of the internal interface");
        }
    }
}

#[test]
fn slh_dsa_agrees_with_another_implementation() {
    use fips205::traits::{SerDes, Signer, Verifier};
    let provider = ProviderName::AwsLc.provider();
    macro_rules! check {
        ($module:ident, $algorithm:expr) => {
            let (public, private) = fips205::$module::try_keygen().unwrap();
            let theirs = private.try_sign(b"message", b"", true).unwrap();
            let material = KeyMaterial {
                algorithm: $algorithm,
                private: private.into_bytes().to_vec().into(),
                public: public.clone().into_bytes().to_vec(),
            };
            provider.verify($algorithm, &material.public, b"message", &theirs).unwrap();
            let ours = provider.load(&material).unwrap().sign(b"message").unwrap();
            assert!(public.verify(b"message", &ours.clone().try_into().unwrap(), b""));
            assert!(!public.verify(b"massage", &ours.try_into().unwrap(), b""));
        };
    }
    check!(slh_dsa_sha2_128s, Algorithm::SlhDsaSha2_128s);
    check!(slh_dsa_sha2_128f, Algorithm::SlhDsaSha2_128f);
    check!(slh_dsa_sha2_192s, Algorithm::SlhDsaSha2_192s);
    check!(slh_dsa_sha2_256s, Algorithm::SlhDsaSha2_256s);
}
