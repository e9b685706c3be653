//! Checking a whole log, or one entry, with nothing but the public keys.

use crate::{
    merkle::{Hash, inclusion_ranges, leaf_hash, perfect_root, root_of_inclusion},
    note::{Checkpoint, VerifierKey},
    service::columns_agree,
    tiles::{Edge, WIDTH, bundle_path, hashes, join, located, tile_path, tile_width, unbundle},
};
use async_trait::async_trait;
use bytes::Bytes;
use omt_crypto::Provider;
use omt_kernel::{Result, audit::AuditEntry};
use std::fmt;

/// Where a log's objects come from.
#[async_trait]
pub trait TileSource: Send + Sync {
    /// An object's bytes, if there is one.
    async fn get(&self, path: &str) -> Result<Option<Bytes>>;
}

/// What is wrong, and where first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The first bad place, where it is known.
    pub index: Option<u64>,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "entry {index}: {}", self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

/// A log that holds.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Its tree head.
    pub checkpoint: Checkpoint,
    /// Hashes of its leaves.
    pub leaves: Vec<Hash>,
}

fn finding(index: Option<u64>, problem: impl Into<String>) -> Finding {
    Finding { index, problem: problem.into() }
}

/// Gets a tile or bundle: its partial form, or else the full one, of which it is the beginning.
async fn fetch(source: &dyn TileSource, partial: String, full: String) -> Result<Option<Bytes>> {
    match source.get(&partial).await? {
        Some(bytes) => Ok(Some(bytes)),
        None if partial != full => source.get(&full).await,
        None => Ok(None),
    }
}

/// The tree head, its signatures checked with every key.
async fn head(source: &dyn TileSource, keys: &[VerifierKey], provider: &dyn Provider) -> Result<Result<Checkpoint, Finding>> {
    let Some(note) = source.get("checkpoint").await? else { return Ok(Err(finding(None, "there is no signed tree head"))) };
    let opened = std::str::from_utf8(&note)
        .map_err(|_| "it is not UTF-8".to_owned())
        .and_then(|note| Checkpoint::open(note, keys, provider).map_err(|e| e.to_string()));
    Ok(opened.map_err(|problem| finding(None, format!("the signed tree head is refused: {problem}"))))
}

/// Checks a whole log: the signatures of its tree head, every entry against its tile, every tile against the one above, and the
/// root. The first bad place is named.
pub async fn verify(
    source: &dyn TileSource,
    keys: &[VerifierKey],
    provider: &dyn Provider,
    progress: impl Fn(u64, u64),
) -> Result<Result<Summary, Finding>> {
    let checkpoint = match head(source, keys, provider).await? {
        Ok(checkpoint) => checkpoint,
        Err(finding) => return Ok(Err(finding)),
    };
    let (size, mut edge, mut leaves) = (checkpoint.size, Edge::default(), Vec::new());
    while edge.size() < size {
        let (n, first) = (edge.size() / WIDTH, edge.size());
        let width = (size - first).min(WIDTH);
        let bundle = fetch(source, bundle_path(n, width), bundle_path(n, WIDTH)).await?;
        let tile = fetch(source, tile_path(0, n, width), tile_path(0, n, WIDTH)).await?;
        let (Some(bundle), Some(tile)) = (bundle, tile) else {
            return Ok(Err(finding(Some(first), "its bundle or its tile is missing")));
        };
        let Some(entries) = unbundle(&bundle).filter(|entries| entries.len() as u64 >= width) else {
            return Ok(Err(finding(Some(first), "its bundle is cut off or malformed")));
        };
        let known = tile.as_chunks::<32>().0;
        for (offset, entry) in entries.into_iter().take(width as usize).enumerate() {
            let (at, hash) = (first + offset as u64, leaf_hash(entry));
            if known.get(offset) != Some(&hash) {
                return Ok(Err(finding(Some(at), "its bytes are not those of the tree")));
            }
            leaves.push(hash);
            for full in edge.append(entry).into_iter().filter(|object| !object.path.starts_with("tile/entries/")) {
                let stored = source.get(&full.path).await?;
                if stored.as_ref() != Some(&full.bytes) {
                    let level_0 = full.path.starts_with("tile/0/");
                    let problem = format!("the tile {} is missing or not what the entries below it give", full.path);
                    return Ok(Err(finding(Some(if level_0 { first } else { at }), problem)));
                }
            }
        }
        progress(edge.size(), size);
    }
    if edge.root() != checkpoint.root {
        // Every tile agrees with its entries, so the change is wherever both were changed alike.
        return Ok(Err(finding(None, "entries and tiles agree with each other and not with the signed tree head")));
    }
    for object in edge.partial().into_iter().filter(|object| !object.path.starts_with("tile/entries/")) {
        let full = object.path.split(".p/").next().unwrap_or_default().to_owned();
        let stored = fetch(source, object.path.clone(), full).await?;
        if !stored.is_some_and(|stored| stored.starts_with(&object.bytes)) {
            return Ok(Err(finding(None, format!("the tile {} is missing or not what the entries give", object.path))));
        }
    }
    Ok(Ok(Summary { checkpoint, leaves }))
}

/// Compares rows of the database with the leaves of a log that holds; what is wrong first.
pub fn check_entries(leaves: &[Hash], first: u64, entries: &[AuditEntry]) -> Option<Finding> {
    for (at, entry) in (first..).zip(entries) {
        if entry.index != Some(at) {
            return Some(finding(Some(at), "it is missing from the database"));
        }
        if leaves.get(at as usize) != Some(&leaf_hash(&entry.leaf)) {
            return Some(finding(Some(at), "the database has other bytes than the signed tree"));
        }
        if !columns_agree(entry) {
            return Some(finding(Some(at), "the database's columns do not say what the entry says"));
        }
    }
    None
}

/// Checks one entry of a log: that it is in the tree that was signed.
pub async fn check_one(
    source: &dyn TileSource,
    keys: &[VerifierKey],
    provider: &dyn Provider,
    index: u64,
) -> Result<Result<Vec<u8>, Finding>> {
    let checkpoint = match head(source, keys, provider).await? {
        Ok(checkpoint) => checkpoint,
        Err(finding) => return Ok(Err(finding)),
    };
    let size = checkpoint.size;
    if index >= size {
        return Ok(Err(finding(Some(index), format!("the log has {size} entries"))));
    }
    let (n, width) = (index / WIDTH, (size - index / WIDTH * WIDTH).min(WIDTH));
    let bundle = fetch(source, bundle_path(n, width), bundle_path(n, WIDTH)).await?.unwrap_or_default();
    let entry = unbundle(&bundle).and_then(|entries| entries.get((index % WIDTH) as usize).map(|entry| entry.to_vec()));
    let Some(entry) = entry else { return Ok(Err(finding(Some(index), "its bundle is missing or malformed"))) };
    let mut proof = Vec::new();
    for (start, end) in inclusion_ranges(index, size) {
        let mut parts = Vec::new();
        for (level, n, first, count) in located(start, end) {
            let width = tile_width(level, n, size);
            let tile = fetch(source, tile_path(level, n, width), tile_path(level, n, WIDTH)).await?.unwrap_or_default();
            let found = hashes(&tile).and_then(|tile| tile.get(first..first + count).map(perfect_root));
            let Some(root) = found else { return Ok(Err(finding(Some(index), "a tile of its proof is missing"))) };
            parts.push(root);
        }
        proof.push(join(&parts));
    }
    if root_of_inclusion(&leaf_hash(&entry), index, size, &proof) != Some(checkpoint.root) {
        return Ok(Err(finding(Some(index), "it is not in the tree that was signed")));
    }
    Ok(Ok(entry))
}
