//! NIST's ACVP vectors, and implementations that share no code with ours.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use aws_lc_rs::{
    encoding::AsRawBytes,
    signature::{self as s, KeyPair, PqdsaKeyPair},
};
use omt_crypto::{Algorithm, KeyMaterial, ProviderName};
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
