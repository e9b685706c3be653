//! Digests of content.

use crate::engine;
use omt_kernel::{Result, error::Context as _, manifest::BlobRef, port::Content};
use sha2::{Digest, Sha256};
use std::io::Read;

/// Makes a [`BlobRef`] of bytes.
pub trait BlobDigest {
    /// Digest and size of `bytes`.
    fn of(bytes: &[u8]) -> Self;
}

impl BlobDigest for BlobRef {
    fn of(bytes: &[u8]) -> Self {
        Self { sha256: hex::encode(Sha256::digest(bytes)), size: bytes.len() as u64 }
    }
}

/// Digest and size of content.
pub(crate) fn digest_of(content: &Content) -> Result<BlobRef> {
    match content {
        Content::Memory(bytes) => Ok(BlobRef::of(bytes)),
        stored => digest(&mut engine::open(stored)?),
    }
}

/// Digest and size of a stream, in constant memory.
pub fn digest(stream: &mut dyn Read) -> Result<BlobRef> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0u64;
    loop {
        let read = stream.read(&mut buffer).context("cannot read content")?;
        if read == 0 {
            return Ok(BlobRef { sha256: hex::encode(hash.finalize()), size });
        }
        hash.update(&buffer[..read]);
        size += read as u64;
    }
}
