//! One suite over both providers: each checks what the other made, with keys crossing over.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use omt_crypto::{Algorithm, CryptoError, ProviderName};

/// Algorithms that are quick enough to sign in an ordinary test run.
fn algorithms() -> impl Iterator<Item = Algorithm> {
    Algorithm::all()
}

#[test]
fn each_provider_verifies_what_the_other_signs_with_the_same_key() {
    for algorithm in algorithms() {
        for maker in ProviderName::ALL {
            let material = maker.provider().generate(algorithm).unwrap();
            assert_eq!(material.public.len(), algorithm.public_key_len());
            for signer in ProviderName::ALL {
                let signature = signer.provider().load(&material).unwrap().sign(b"message").unwrap();
                assert_eq!(signature.len(), algorithm.signature_len(), "{algorithm} by {signer}");
                for judge in ProviderName::ALL {
                    let judge = judge.provider();
                    judge.verify(algorithm, &material.public, b"message", &signature).unwrap();
                    assert_eq!(judge.verify(algorithm, &material.public, b"massage", &signature), Err(CryptoError::BadSignature));
                }
            }
            if matches!(algorithm, Algorithm::SlhDsaSha2_128s | Algorithm::SlhDsaSha2_192s | Algorithm::SlhDsaSha2_256s) {
                break; // the same code in both providers, and slow
            }
        }
    }
}

#[test]
fn every_bit_counts() {
    for name in ProviderName::ALL {
        let provider = name.provider();
        for algorithm in
            [Algorithm::Es256, Algorithm::Es384, Algorithm::Ed25519, Algorithm::MlDsa44, Algorithm::MlDsa65, Algorithm::MlDsa87]
        {
            let material = provider.generate(algorithm).unwrap();
            let signature = provider.load(&material).unwrap().sign(b"message").unwrap();
            for at in (0..signature.len()).step_by(signature.len() / 16) {
                let mut bad = signature.clone();
                bad[at] ^= 1;
                assert!(provider.verify(algorithm, &material.public, b"message", &bad).is_err(), "{name} {algorithm} byte {at}");
            }
        }
    }
}

#[test]
fn wrong_lengths_and_garbage_are_refused_without_panic() {
    for name in ProviderName::ALL {
        let provider = name.provider();
        for algorithm in algorithms() {
            let public = vec![7; algorithm.public_key_len()];
            assert!(provider.verify(algorithm, &public, b"m", &[]).is_err());
            assert!(provider.verify(algorithm, &[], b"m", &vec![0; algorithm.signature_len()]).is_err());
            assert!(provider.verify(algorithm, &public, b"m", &vec![0xff; algorithm.signature_len()]).is_err());
            for private in [vec![], vec![0; 10], vec![0xff; 5000]] {
                let material = omt_crypto::KeyMaterial { algorithm, private: private.into(), public: public.clone() };
                assert!(provider.load(&material).is_err(), "{name} {algorithm}");
            }
        }
    }
}
