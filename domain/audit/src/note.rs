//! Signed tree heads: C2SP signed-note and tlog-checkpoint, signed with Ed25519 (type 0x01) and ML-DSA-44 (type 0x06, C2SP
//! tlog-cosignature, the log itself being the cosigner).

use crate::merkle::Hash;
use base64::{Engine, engine::general_purpose::STANDARD};
use omt_crypto::{Algorithm, Provider};
use sha2::{Digest, Sha256};
use std::fmt;

/// A tree head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root.
    pub root: Hash,
}

/// Why a note is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadNote(pub &'static str);

impl fmt::Display for BadNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadNote {}

/// A key that verifies notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    /// Its name; a log's is its origin.
    pub name: String,
    /// Ed25519 or ML-DSA-44.
    pub algorithm: Algorithm,
    /// The public key.
    pub public: Vec<u8>,
}

fn kind(algorithm: Algorithm) -> Option<u8> {
    match algorithm {
        Algorithm::Ed25519 => Some(0x01),
        Algorithm::MlDsa44 => Some(0x06),
        _ => None,
    }
}

impl VerifierKey {
    fn id(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(self.name.as_bytes())
            .chain_update([b'\n', kind(self.algorithm).unwrap_or_default()])
            .chain_update(&self.public)
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    /// Reads `<name>+<identifier>+<key>`.
    pub fn parse(text: &str) -> Result<Self, BadNote> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(BadNote("a verifier key has three parts"));
        };
        let bytes = STANDARD.decode(key).map_err(|_| BadNote("a verifier key is base64"))?;
        let (algorithm, public) = match bytes.split_first() {
            Some((0x01, public)) => (Algorithm::Ed25519, public),
            Some((0x06, public)) => (Algorithm::MlDsa44, public),
            _ => return Err(BadNote("the verifier key is of an unknown type")),
        };
        if name.is_empty() || public.len() != algorithm.public_key_len() {
            return Err(BadNote("the verifier key has no name or the wrong length"));
        }
        let key = Self { name: name.to_owned(), algorithm, public: public.to_vec() };
        if id != hex::encode(key.id()) {
            return Err(BadNote("the verifier key's identifier is not that of the key"));
        }
        Ok(key)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[kind(self.algorithm).unwrap_or_default()], self.public.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), STANDARD.encode(key))
    }
}

impl Checkpoint {
    /// The text that is signed.
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// What ML-DSA-44 signs (tlog-cosignature): cosigner, time, log, and the subtree from 0 to the size.
    fn cosigned(&self, name: &str, seconds: u64) -> Option<Vec<u8>> {
        let mut out = b"subtree/v1\n\0".to_vec();
        out.push(u8::try_from(name.len()).ok()?);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&seconds.to_be_bytes());
        out.push(u8::try_from(self.origin.len()).ok()?);
        out.extend_from_slice(self.origin.as_bytes());
        out.extend_from_slice(&0_u64.to_be_bytes());
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.root);
        Some(out)
    }

    /// The signed note. `sign` makes a signature with the key of a verifier key.
    pub fn signed<E>(
        &self,
        keys: &[VerifierKey],
        seconds: u64,
        sign: impl Fn(&VerifierKey, &[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<String, E> {
        let body = self.body();
        let mut note = format!("{body}\n");
        for key in keys {
            let mut blob = key.id().to_vec();
            if key.algorithm == Algorithm::MlDsa44 {
                // Origins are short: they are made or checked at start.
                let Some(message) = self.cosigned(&key.name, seconds) else { continue };
                blob.extend_from_slice(&seconds.to_be_bytes());
                blob.extend(sign(key, &message)?);
            } else {
                blob.extend(sign(key, body.as_bytes())?);
            }
            note.push_str(&format!("\u{2014} {} {}\n", key.name, STANDARD.encode(blob)));
        }
        Ok(note)
    }

    /// Reads a signed note. Every one of `keys` must have signed it; signatures of others are passed by.
    pub fn open(note: &str, keys: &[VerifierKey], provider: &dyn Provider) -> Result<Self, BadNote> {
        let (checkpoint, signatures) = Self::read(note)?;
        if keys.is_empty() {
            return Err(BadNote("no key to verify the note with"));
        }
        for key in keys {
            let id = key.id();
            let ours = signatures.iter().filter(|(name, blob)| *name == key.name && blob.starts_with(&id));
            let mut found = false;
            for (_, blob) in ours {
                found = true;
                if !checkpoint.signature_holds(key, &blob[4..], provider) {
                    return Err(BadNote("a signature of the note does not hold"));
                }
            }
            if !found {
                return Err(BadNote("the note is not signed by every key"));
            }
        }
        Ok(checkpoint)
    }

    fn signature_holds(&self, key: &VerifierKey, blob: &[u8], provider: &dyn Provider) -> bool {
        if key.algorithm == Algorithm::Ed25519 {
            return provider.verify(key.algorithm, &key.public, self.body().as_bytes(), blob).is_ok();
        }
        let Some((seconds, signature)) = blob.split_first_chunk::<8>() else { return false };
        let Some(message) = self.cosigned(&key.name, u64::from_be_bytes(*seconds)) else { return false };
        provider.verify(key.algorithm, &key.public, &message, signature).is_ok()
    }

    /// Reads a note without believing it: the tree head, and signatures by name.
    #[allow(clippy::type_complexity)]
    pub fn read(note: &str) -> Result<(Self, Vec<(String, Vec<u8>)>), BadNote> {
        let split = note.rfind("\n\n").ok_or(BadNote("the note has no signatures"))?;
        let (body, signatures) = (&note[..=split], &note[split + 2..]);
        let mut lines = body.lines();
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(BadNote("the note has no origin"))?;
        let digits = lines.next().ok_or(BadNote("the note has no size"))?;
        let size: u64 = digits.parse().map_err(|_| BadNote("the note's size is no number"))?;
        if size.to_string() != digits {
            return Err(BadNote("the note's size is not written as it must be"));
        }
        let root = lines.next().and_then(|line| STANDARD.decode(line).ok()).and_then(|root| Hash::try_from(root).ok());
        let checkpoint = Self { origin: origin.to_owned(), size, root: root.ok_or(BadNote("the note has no root"))? };
        // Extension lines would not be covered by the second signature; we write none and take none.
        if checkpoint.body() != body {
            return Err(BadNote("the note says more than a tree head"));
        }
        let mut out = Vec::new();
        for line in signatures.lines() {
            let parsed = line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' '));
            let blob = parsed.and_then(|(name, text)| Some((name.to_owned(), STANDARD.decode(text).ok()?)));
            out.push(blob.filter(|(_, blob)| blob.len() > 4).ok_or(BadNote("a signature line is malformed"))?);
        }
        Ok((checkpoint, out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_crypto::ProviderName;

    #[test]
    fn the_specifications_own_key_is_read() {
        // The example of signed-note.
        let text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let key = VerifierKey::parse(text).unwrap();
        assert_eq!((key.name.as_str(), key.algorithm), ("example.com/foo", Algorithm::Ed25519));
        assert_eq!(key.to_string(), text);
        for bad in ["example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "a+b", "a+00000000+AQ==", ""] {
            assert!(VerifierKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn notes_hold_for_their_keys_alone() {
        let provider = ProviderName::AwsLc.provider();
        let make = |algorithm| {
            let material = provider.generate(algorithm).unwrap();
            (VerifierKey { name: "log.test/audit".into(), algorithm, public: material.public.clone() }, material)
        };
        let pairs = [make(Algorithm::Ed25519), make(Algorithm::MlDsa44)];
        let keys: Vec<VerifierKey> = pairs.iter().map(|(key, _)| key.clone()).collect();
        for key in &keys {
            assert_eq!(VerifierKey::parse(&key.to_string()).as_ref(), Ok(key));
        }
        let checkpoint = Checkpoint { origin: "log.test/audit".into(), size: 7, root: [3; 32] };
        let sign = |key: &VerifierKey, message: &[u8]| {
            let (_, material) = pairs.iter().find(|(k, _)| k == key).unwrap();
            provider.load(material).unwrap().sign(message)
        };
        let note = checkpoint.signed(&keys, 1_700_000_000, sign).unwrap();
        for other in ProviderName::ALL {
            assert_eq!(Checkpoint::open(&note, &keys, other.provider().as_ref()).as_ref(), Ok(&checkpoint));
        }
        let open = |note: &str, keys: &[VerifierKey]| Checkpoint::open(note, keys, provider.as_ref());
        assert!(open(&note, &[]).is_err());
        assert!(open(&note.replace("\n7\n", "\n8\n"), &keys).is_err());
        assert!(open(&note.replace("\n7\n", "\n07\n"), &keys).is_err());
        assert!(open(&note.replacen("\n\n", "\nextension\n\n", 1), &keys).is_err());
        assert!(open(&note, &[make(Algorithm::Ed25519).0]).is_err());
        // One signature cut off.
        let cut = note.rfind('\u{2014}').unwrap();
        assert!(open(&note[..cut], &keys).is_err() && open(&note[..cut], &keys[..1]).is_ok());
    }
}
