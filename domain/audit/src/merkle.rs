//! The Merkle tree of RFC 6962 §2.1, as proofs and as the right edge that an appended tree needs.

use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The hash of a leaf.
pub fn leaf_hash(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

/// The hash of an inner node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of no leaves.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The root of a perfect tree over these hashes, whose number is a power of two.
pub fn perfect_root(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => empty_root(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            node_hash(&perfect_root(left), &perfect_root(right))
        }
    }
}

/// The perfect subtrees of the leaves `[start, end)`, left to right, as (level, index): leaf `index · 2^level` begins each.
/// `start` must be a multiple of the largest power of two that is at most `end - start`, as it is in every split of RFC 6962.
pub fn perfect_subtrees(start: u64, end: u64) -> Vec<(u32, u64)> {
    let (mut at, mut out) = (start, Vec::new());
    while at < end {
        let level = (end - at).ilog2();
        out.push((level, at >> level));
        at += 1 << level;
    }
    out
}

/// The largest power of two smaller than `n`, which is at least two.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// The ranges of leaves whose roots prove that the leaf `index` is in the tree of `size` leaves, nearest first (§2.1.1).
pub fn inclusion_ranges(index: u64, size: u64) -> Vec<(u64, u64)> {
    let (mut start, mut end, mut out) = (0, size, Vec::new());
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            out.push((middle, end));
            end = middle;
        } else {
            out.push((start, middle));
            start = middle;
        }
    }
    out.reverse();
    out
}

/// The ranges of leaves whose roots prove that the tree of `old` leaves is the beginning of the tree of `new` (§2.1.2).
/// `0 < old <= new`.
pub fn consistency_ranges(old: u64, new: u64) -> Vec<(u64, u64)> {
    let (mut start, mut end, mut whole, mut out) = (0, new, true, Vec::new());
    // Down to the subtree that ends where the old tree ends.
    while old - start != end - start {
        let middle = start + split(end - start);
        if old <= middle {
            out.push((middle, end));
            end = middle;
        } else {
            out.push((start, middle));
            start = middle;
            whole = false;
        }
    }
    if !whole {
        out.push((start, end));
    }
    out.reverse();
    out
}

/// The root that an inclusion proof leads to; none when it has the wrong number of hashes.
pub fn root_of_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last, mut root, mut proof) = (index, size - 1, *leaf, proof.iter());
    while last > 0 {
        if at == last && at % 2 == 0 {
            // No sibling at this level.
        } else if at % 2 == 0 {
            root = node_hash(&root, proof.next()?);
        } else {
            root = node_hash(proof.next()?, &root);
        }
        at /= 2;
        last /= 2;
    }
    proof.next().is_none().then_some(root)
}

/// Whether a consistency proof holds between two roots (RFC 9162 §2.1.4.2).
pub fn consistent(old: u64, old_root: &Hash, new: u64, new_root: &Hash, proof: &[Hash]) -> bool {
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 || old > new {
        return false;
    }
    let mut path = proof.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { path.next() };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old - 1, new - 1);
    while at % 2 == 1 {
        at /= 2;
        last /= 2;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for hash in path {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            old_hash = node_hash(hash, &old_hash);
            new_hash = node_hash(hash, &new_hash);
            while at % 2 == 0 && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            new_hash = node_hash(&new_hash, hash);
        }
        at /= 2;
        last /= 2;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition of RFC 6962 §2.1, word for word.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            more => {
                let (left, right) = more.split_at(split(more.len() as u64) as usize);
                node_hash(&mth(left), &mth(right))
            }
        }
    }

    fn leaves(n: u64) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn known_answers() {
        // The tree over the eight inputs of the Certificate Transparency test suite.
        let inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let leaves: Vec<Hash> = inputs.iter().map(|hex| leaf_hash(&hex::decode(hex).unwrap())).collect();
        assert_eq!(hex::encode(mth(&leaves[..1])), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(hex::encode(mth(&leaves)), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
        assert_eq!(hex::encode(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn proofs_hold_and_only_they_do(size in 1_u64..700, a in any::<u64>(), b in any::<u64>()) {
            let leaves = leaves(size);
            let hash = |(start, end): (u64, u64)| mth(&leaves[start as usize..end as usize]);
            let (index, root) = (a % size, mth(&leaves));
            let mut proof: Vec<Hash> = inclusion_ranges(index, size).into_iter().map(hash).collect();
            prop_assert_eq!(root_of_inclusion(&leaves[index as usize], index, size, &proof), Some(root));
            prop_assert_ne!(root_of_inclusion(&leaves[index as usize], index ^ 1, size, &proof), Some(root));
            if let Some(first) = proof.first_mut() {
                first[0] ^= 1;
                prop_assert_ne!(root_of_inclusion(&leaves[index as usize], index, size, &proof), Some(root));
                proof.pop();
                prop_assert_eq!(root_of_inclusion(&leaves[index as usize], index, size, &proof), None);
            }
            let old = 1 + b % size;
            let old_root = mth(&leaves[..old as usize]);
            let mut proof: Vec<Hash> = consistency_ranges(old, size).into_iter().map(hash).collect();
            prop_assert!(consistent(old, &old_root, size, &root, &proof));
            if old < size {
                prop_assert!(!consistent(old, &leaf_hash(b"x"), size, &root, &proof));
                prop_assert!(!consistent(old, &old_root, size, &leaf_hash(b"x"), &proof));
                proof.pop();
                prop_assert!(!consistent(old, &old_root, size, &root, &proof));
            }
        }

        #[test]
        fn ranges_are_perfect_subtrees(size in 1_u64..2000, a in any::<u64>()) {
            for (start, end) in inclusion_ranges(a % size, size) {
                let parts = perfect_subtrees(start, end);
                let mut at = start;
                for (level, index) in parts {
                    prop_assert_eq!(index << level, at);
                    at += 1 << level;
                }
                prop_assert_eq!(at, end);
            }
        }
    }
}
