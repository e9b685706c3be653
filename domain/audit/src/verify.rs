//! Checking a whole log, or one entry, with nothing but the public keys.

use crate::{
    merkle::{Hash, inclusion_ranges, leaf_hash, perfect_root, root_of_inclusion},
    note::{Checkpoint, VerifierKey},
    retention::expired_below,
    service::columns_agree,
    tiles::{Edge, Object, WIDTH, bundle_path, hashes, join, located, readable, tile_path, tile_width, unbundle},
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
    /// How many entries of its beginning have expired: of these the hashes are left, and an entry says so.
    pub expired: u64,
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

/// Where a tile differs from what the hashes below it give, if it does.
fn differs(expected: &Object, stored: Option<&[u8]>) -> Option<Finding> {
    let stored = stored.unwrap_or_default();
    if stored == expected.bytes.as_ref() {
        return None;
    }
    let same = expected.bytes.chunks(32).zip(stored.chunks(32)).take_while(|(a, b)| a == b).count() as u64;
    let problem = format!("the tile {} is missing or not what the entries below it give", expected.path);
    Some(finding(Some(expected.start + same * expected.each), problem))
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
    // Entries of the beginning that are gone, and how many the log says have expired.
    let (mut expired, mut stated) = (0, 0);
    while edge.size() < size {
        let (n, first) = (edge.size() / WIDTH, edge.size());
        let width = (size - first).min(WIDTH);
        let bundle = fetch(source, bundle_path(n, width), bundle_path(n, WIDTH)).await?;
        let Some(tile) = fetch(source, tile_path(0, n, width), tile_path(0, n, WIDTH)).await? else {
            return Ok(Err(finding(Some(first), "its tile is missing")));
        };
        let known = tile.as_chunks::<32>().0;
        let entries = match &bundle {
            Some(bundle) => readable(bundle).0,
            None if first == expired && width == WIDTH && known.len() as u64 == WIDTH => {
                expired += WIDTH;
                Vec::new()
            }
            None => return Ok(Err(finding(Some(first), "its bundle is missing"))),
        };
        for (offset, known) in known.iter().take(width as usize).enumerate() {
            let at = first + offset as u64;
            if let Some(entry) = entries.get(offset) {
                if *known != leaf_hash(entry) {
                    return Ok(Err(finding(Some(at), "its bytes are not those of the tree")));
                }
                stated = stated.max(expired_below(entry).unwrap_or(0));
            } else if bundle.is_some() {
                return Ok(Err(finding(Some(at), "its bundle is cut off or malformed")));
            }
            leaves.push(*known);
            for full in edge.append_hash(*known) {
                let stored = source.get(&full.path).await?;
                if let Some(finding) = differs(&full, stored.as_deref()) {
                    return Ok(Err(finding));
                }
            }
        }
        if edge.size() != first + width {
            return Ok(Err(finding(Some(edge.size()), "its bytes are not those of the tree")));
        }
        progress(edge.size(), size);
    }
    for object in edge.partial() {
        let full = object.path.split(".p/").next().unwrap_or_default().to_owned();
        let stored = fetch(source, object.path.clone(), full).await?;
        let beginning = stored.as_ref().map(|stored| &stored[..stored.len().min(object.bytes.len())]);
        if let Some(finding) = differs(&object, beginning) {
            return Ok(Err(finding));
        }
    }
    if edge.root() != checkpoint.root {
        // Every tile agrees with its entries, so the change is wherever all of them were changed alike.
        return Ok(Err(finding(None, "entries and tiles agree with each other and not with the signed tree head")));
    }
    if expired > stated {
        return Ok(Err(finding(Some(stated), "its bundle is missing, and no entry says that it expired")));
    }
    Ok(Ok(Summary { checkpoint, leaves, expired }))
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

/// An entry, and what proves that it is in the log, as `GET /api/v1/audit/proof/inclusion` gives it.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The entry's bytes.
    pub leaf: Vec<u8>,
    /// Its place.
    pub index: u64,
    /// How many leaves the tree has.
    pub size: u64,
    /// Hashes from the leaf up.
    pub hashes: Vec<Hash>,
    /// The signed tree head.
    pub checkpoint: String,
}

/// Checks an entry by its proof, with nothing else than the keys: for those who may see their own entries and not the whole log.
pub fn check_proof(proof: &Proof, keys: &[VerifierKey], provider: &dyn Provider) -> std::result::Result<(), Finding> {
    let refused = |problem| finding(None, format!("the signed tree head is refused: {problem}"));
    let head = Checkpoint::open(&proof.checkpoint, keys, provider).map_err(refused)?;
    if proof.index >= proof.size {
        let problem = format!("the proof is of a tree of {} entries, which does not have it", proof.size);
        return Err(finding(Some(proof.index), problem));
    }
    if head.size != proof.size {
        return Err(finding(
            Some(proof.index),
            format!("the signed tree has {} entries, the proof speaks of {}", head.size, proof.size),
        ));
    }
    if root_of_inclusion(&leaf_hash(&proof.leaf), proof.index, proof.size, &proof.hashes) != Some(head.root) {
        return Err(finding(Some(proof.index), "it is not in the tree that was signed"));
    }
    Ok(())
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
    let Some(entry) = entry else {
        return Ok(Err(finding(
            Some(index),
            "its bundle is missing or malformed; checking the whole log says whether it has expired",
        )));
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use omt_crypto::{Algorithm, ProviderName};
    use std::collections::BTreeMap;

    struct Memory(BTreeMap<String, Bytes>);

    #[async_trait]
    impl TileSource for Memory {
        async fn get(&self, path: &str) -> Result<Option<Bytes>> {
            Ok(self.0.get(path).cloned())
        }
    }

    /// A log of entries, and the key that verifies it.
    fn log(entries: &[Vec<u8>]) -> (Memory, Vec<VerifierKey>) {
        let provider = ProviderName::AwsLc.provider();
        let (mut edge, mut objects) = (Edge::default(), Vec::new());
        for entry in entries {
            objects.extend(edge.append(entry));
        }
        objects.extend(edge.partial());
        let mut store: BTreeMap<String, Bytes> = objects.into_iter().map(|object| (object.path, object.bytes)).collect();
        let material = provider.generate(Algorithm::Ed25519).unwrap();
        let keys = vec![VerifierKey { name: "log.test".into(), algorithm: Algorithm::Ed25519, public: material.public.clone() }];
        let head = Checkpoint { origin: "log.test".into(), size: edge.size(), root: edge.root() };
        let note = head.signed(&keys, 1_700_000_000, |_, message| provider.load(&material).unwrap().sign(message)).unwrap();
        store.insert("checkpoint".into(), note.into());
        (Memory(store), keys)
    }

    async fn found(store: &Memory, keys: &[VerifierKey]) -> Result<u64, (Option<u64>, String)> {
        let verdict = verify(store, keys, ProviderName::AwsLc.provider().as_ref(), |_, _| ()).await.unwrap();
        verdict.map(|summary| summary.expired).map_err(|finding| (finding.index, finding.problem))
    }

    fn plain(count: u32) -> Vec<Vec<u8>> {
        (0..count).map(|n| format!("{{\"entry\":{n}}}").into_bytes()).collect()
    }

    /// What says that the entries before a place have expired.
    fn statement(tenant: &str, before: u64) -> Vec<u8> {
        let leaf = serde_json::json!({
            "v": 1, "id": "x", "time": "2026-01-01T00:00:00Z", "tenant": tenant, "actor": "p", "via": "system",
            "action": "audit.expire", "resource": { "kind": "audit", "id": "log" }, "outcome": "done", "request": "",
            "detail": { "before": before }
        });
        leaf.to_string().into_bytes()
    }

    #[tokio::test]
    async fn a_change_above_the_leaves_is_found_where_it_is() {
        let (mut store, keys) = log(&plain(1000));
        assert_eq!(found(&store, &keys).await, Ok(0));
        // The third hash of the level above is about the entries from 512 on.
        let path = tile_path(1, 0, 3);
        let mut bytes = store.0[&path].to_vec();
        bytes[2 * 32] ^= 1;
        store.0.insert(path, bytes.into());
        assert_eq!(found(&store, &keys).await.unwrap_err().0, Some(512));
        // An entry and its hash were changed alike, in a full tile.
        let (mut store, keys) = log(&plain(1000));
        let mut entries = plain(1000);
        entries[300] = b"another".to_vec();
        let (forged, _) = log(&entries);
        for path in [bundle_path(1, WIDTH), tile_path(0, 1, WIDTH)] {
            store.0.insert(path.clone(), forged.0[&path].clone());
        }
        assert_eq!(found(&store, &keys).await.unwrap_err().0, Some(256));
        // One is left out of a full bundle.
        let (mut store, keys) = log(&plain(1000));
        let mut bytes = store.0[&bundle_path(1, WIDTH)].to_vec();
        let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        bytes.drain(..2 + len);
        store.0.insert(bundle_path(1, WIDTH), bytes.into());
        assert_eq!(found(&store, &keys).await.unwrap_err().0, Some(256));
    }

    #[test]
    fn a_proof_is_of_an_entry_of_the_tree_that_was_signed() {
        let (store, keys) = log(&plain(1));
        let provider = ProviderName::AwsLc.provider();
        let checkpoint = String::from_utf8(store.0["checkpoint"].to_vec()).unwrap();
        let check = |index, size, leaf: &[u8]| {
            let proof = Proof { index, leaf: leaf.to_vec(), size, hashes: Vec::new(), checkpoint: checkpoint.clone() };
            check_proof(&proof, &keys, provider.as_ref()).map_err(|finding| (finding.index, finding.problem))
        };
        let leaf = &plain(1)[0];
        assert_eq!(check(0, 1, leaf), Ok(()));
        let says = |refused: Result<(), (Option<u64>, String)>, words: &str| {
            let (_, problem) = refused.unwrap_err();
            assert!(problem.contains(words), "{problem}");
        };
        says(check(1, 1, leaf), "a tree of 1 entries, which does not have it");
        says(check(0, 2, leaf), "the signed tree has 1 entries, the proof speaks of 2");
        says(check(0, 1, b"another"), "not in the tree");
    }

    #[tokio::test]
    async fn what_expired_is_missed_only_as_far_as_the_log_says() {
        let with = |statement: Option<Vec<u8>>| {
            let mut entries = plain(1000);
            entries.extend(statement);
            log(&entries)
        };
        let gone = |store: &mut Memory, bundles: std::ops::Range<u64>| {
            for n in bundles {
                store.0.remove(&bundle_path(n, WIDTH)).unwrap();
            }
        };
        let (mut store, keys) = with(Some(statement("default", 512)));
        gone(&mut store, 0..1);
        assert_eq!(found(&store, &keys).await, Ok(256));
        gone(&mut store, 1..2);
        assert_eq!(found(&store, &keys).await, Ok(512));
        gone(&mut store, 2..3);
        assert_eq!(found(&store, &keys).await.unwrap_err().0, Some(512));
        // Not from the middle, even so far.
        let (mut store, keys) = with(Some(statement("default", 512)));
        gone(&mut store, 1..2);
        assert_eq!(found(&store, &keys).await.unwrap_err().0, Some(256));
        // Nobody said so, or nobody who runs the platform.
        for said in [None, Some(statement("acme", 512)), Some(b"audit.expire".to_vec())] {
            let (mut store, keys) = with(said);
            gone(&mut store, 0..1);
            assert_eq!(found(&store, &keys).await.unwrap_err().0, Some(0));
        }
        // Hashes of what expired stay, and are checked.
        let (mut store, keys) = with(Some(statement("default", 512)));
        gone(&mut store, 0..2);
        let mut bytes = store.0[&tile_path(0, 0, WIDTH)].to_vec();
        bytes[40] ^= 1;
        store.0.insert(tile_path(0, 0, WIDTH), bytes.into());
        assert_eq!(found(&store, &keys).await.unwrap_err().0, Some(0));
    }
}
