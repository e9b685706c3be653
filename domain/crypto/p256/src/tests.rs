//! What AWS-LC says of keys and signatures is what arithmetic in Rust says.

use crate::ecdsa::{
    Signature, SigningKey, VerifyingKey,
    signature::{Signer, hazmat::PrehashVerifier as _},
};
use pkcs8::{DecodePrivateKey, DecodePublicKey};
use proptest::prelude::*;
use sha2::{Digest, Sha256, Sha384, Sha512};
use signing::{
    ecdsa::{
        Signature as Rust, SigningKey as RustSigning, VerifyingKey as RustVerifying,
        signature::hazmat::{PrehashSigner, PrehashVerifier as _},
    },
    pkcs8::{EncodePrivateKey, EncodePublicKey},
};

struct Keys {
    rust: RustSigning,
    ours: VerifyingKey,
}

impl Keys {
    fn new(secret: [u8; 32]) -> Option<Self> {
        let rust = RustSigning::from_slice(&secret).ok()?;
        let ours = VerifyingKey::from_public_key_der(&spki(rust.verifying_key())).unwrap();
        Some(Self { rust, ours })
    }
    /// What both say.
    fn verify(&self, digest: &[u8], signature: &[u8; 64]) -> (bool, bool) {
        let rust = Rust::from_slice(signature).is_ok_and(|s| self.rust.verifying_key().verify_prehash(digest, &s).is_ok());
        let ours = Signature::from_slice(signature).is_ok_and(|s| self.ours.verify_prehash(digest, &s).is_ok());
        (rust, ours)
    }
}

fn spki(key: &RustVerifying) -> Vec<u8> {
    key.to_public_key_der().unwrap().as_bytes().to_vec()
}

fn sign(keys: &Keys, digest: &[u8]) -> [u8; 64] {
    let signature: Rust = keys.rust.sign_prehash(digest).unwrap();
    signature.to_bytes().into()
}

fn digests(message: &[u8]) -> [Vec<u8>; 3] {
    [Sha256::digest(message).to_vec(), Sha384::digest(message).to_vec(), Sha512::digest(message).to_vec()]
}

proptest! {
    #[test]
    fn both_agree(secret: [u8; 32], message: Vec<u8>, flipped in proptest::option::of(0usize..512), other: bool) {
        let Some(keys) = Keys::new(secret) else { return Ok(()) };
        for digest in digests(&message) {
            let mut signature = sign(&keys, &digest);
            if let Some(bit) = flipped {
                signature[bit / 8] ^= 1 << (bit % 8);
            }
            let asked = if other { Sha256::digest(&digest).to_vec() } else { digest };
            let holds = flipped.is_none() && !other;
            prop_assert_eq!(keys.verify(&asked, &signature), (holds, holds));
        }
    }

    /// ECDSA does not choose between a signature and its twin with the other s, and neither of them does.
    #[test]
    fn either_s_is_good(secret: [u8; 32], message: Vec<u8>) {
        let Some(keys) = Keys::new(secret) else { return Ok(()) };
        let digest = Sha256::digest(&message);
        let signature: Rust = keys.rust.sign_prehash(&digest).unwrap();
        let twin = Rust::from_scalars(signature.r().to_bytes(), (-*signature.s()).to_bytes()).unwrap();
        for signature in [signature, twin] {
            prop_assert_eq!(keys.verify(&digest, &signature.to_bytes().into()), (true, true));
        }
    }

    /// Points, whole or compressed, on the curve or not.
    #[test]
    fn both_take_the_same_points(secret: [u8; 32], compressed: bool, changed in proptest::option::of((0usize..65, 1u8..))) {
        let Some(keys) = Keys::new(secret) else { return Ok(()) };
        let der = spki(keys.rust.verifying_key());
        let mut point = keys.rust.verifying_key().to_sec1_point(compressed).as_bytes().to_vec();
        if let Some((at, change)) = changed {
            let at = at % point.len();
            point[at] ^= change;
        }
        // SEQUENCE { SEQUENCE { algorithm, curve }, BIT STRING { no unused bits, point } }
        let algorithm = &der[2..23];
        let bits = [&[3, u8::try_from(point.len() + 1).unwrap(), 0], point.as_slice()].concat();
        let length = u8::try_from(algorithm.len() + bits.len()).unwrap();
        let info = [&[0x30, length], algorithm, &bits].concat();
        use signing::pkcs8::DecodePublicKey as _;
        // The arithmetic in Rust also takes an x with a tag that no certificate may have (RFC 5480 §2.2).
        let expected = point[0] != 5 && RustVerifying::from_public_key_der(&info).is_ok();
        prop_assert_eq!(VerifyingKey::from_public_key_der(&info).is_ok(), expected);
    }
}

#[test]
fn numbers_that_are_nothing_or_beyond_the_order_are_no_signature() {
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
        0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    for bad in [[0; 32], order, [0xff; 32]] {
        assert!(Signature::from_slice(&[bad, [1; 32]].concat()).is_err());
        assert!(Signature::from_slice(&[[1; 32], bad].concat()).is_err());
    }
    let mut below = order;
    below[31] -= 1;
    assert!(Signature::from_slice(&[below, [1; 32]].concat()).is_ok());
}

#[test]
fn keys_for_something_else_are_refused() {
    let keys = Keys::new([7; 32]).unwrap();
    let good = spki(keys.rust.verifying_key());
    let of_curve = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let of_kind = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    for identifier in [&of_curve[..], &of_kind[..]] {
        let mut foreign = good.clone();
        let at = foreign.windows(identifier.len()).position(|w| w == identifier).unwrap();
        foreign[at + identifier.len() - 1] = 6;
        assert!(VerifyingKey::from_public_key_der(&foreign).is_err());
    }
    assert!(VerifyingKey::from_public_key_der(&good[..good.len() - 1]).is_err());
    assert!(VerifyingKey::from_public_key_der(&[]).is_err());
}

#[test]
fn digests_of_other_lengths_are_refused() {
    let keys = Keys::new([7; 32]).unwrap();
    let digest = Sha512::digest(b"message");
    let signature = Signature::from_slice(&sign(&keys, &digest)).unwrap();
    assert!(keys.ours.verify_prehash(&digest, &signature).is_ok());
    for length in [0, 20, 28, 31, 33, 63] {
        assert!(keys.ours.verify_prehash(&digest[..length], &signature).is_err());
    }
}

#[test]
fn the_engine_s_own_signer_signs() {
    let keys = Keys::new([7; 32]).unwrap();
    let pem = keys.rust.to_pkcs8_pem(Default::default()).unwrap();
    let signature = SigningKey::from_pkcs8_pem(&pem).unwrap().sign(b"message");
    assert_eq!(keys.verify(&Sha256::digest(b"message"), &signature.to_bytes().into()), (true, true));
    assert!(SigningKey::from_pkcs8_pem(&pem[..pem.len() / 2]).is_err());
}
