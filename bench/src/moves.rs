//! Moving blobs between tiers, against copying the same files.

use clap::Args;
use omt_blob::TieredBlobStore;
use omt_claims::digest::BlobDigest;
use omt_kernel::{
    TenantId,
    manifest::BlobRef,
    port::{BlobStore, Content, TieredStore},
    storage::Tier,
};
use std::time::Instant;

/// Between what.
#[derive(Args)]
pub struct Arguments {
    /// The hot tier's URL; the others stand beside it. A directory when absent.
    #[arg(long)]
    blob: Option<String>,
    /// How many blobs.
    #[arg(long, default_value_t = 60)]
    blobs: usize,
    /// Bytes of each.
    #[arg(long, default_value_t = 4 << 20)]
    size: usize,
}

/// Runs it and prints a line.
pub async fn run(arguments: Arguments) {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let hot = arguments.blob.unwrap_or_else(|| format!("file:{}", dir.path().join("blobs").display()));
    let mut stores = Vec::new();
    for tier in Tier::ALL {
        stores.push(omt_blob::open(&omt_blob::tier_url(&hot, tier), &spool).await.unwrap());
    }
    let cold = stores.pop().unwrap();
    let warm = stores.pop().unwrap();
    let tiered = TieredBlobStore::new(stores.pop().unwrap(), warm, cold);
    let tenant = TenantId::parse("bench").unwrap();
    let mut blobs = Vec::new();
    let plain = dir.path().join("plain");
    std::fs::create_dir_all(&plain).unwrap();
    for n in 0..arguments.blobs {
        let seed = uuid::Uuid::new_v4();
        let bytes: Vec<u8> =
            seed.as_bytes().iter().copied().cycle().take(arguments.size).enumerate().map(|(i, b)| b ^ (i >> 8) as u8).collect();
        std::fs::write(plain.join(n.to_string()), &bytes).unwrap();
        let blob = BlobRef::of(&bytes);
        tiered.put(&tenant, &blob, Content::Memory(bytes.into())).await.unwrap();
        blobs.push(blob);
    }
    let megabytes = (arguments.blobs * arguments.size) as f64 / 1e6;
    let begun = Instant::now();
    for n in 0..arguments.blobs {
        let to = dir.path().join(format!("copy-{n}"));
        std::fs::copy(plain.join(n.to_string()), &to).unwrap();
        std::fs::File::open(&to).unwrap().sync_all().unwrap();
    }
    let copying = megabytes / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    for blob in &blobs {
        tiered.copy(&tenant, blob, Tier::Hot, Tier::Warm).await.unwrap();
        tiered.remove(&tenant, blob, Tier::Hot).await.unwrap();
    }
    let moving = megabytes / begun.elapsed().as_secs_f64();
    println!(
        "moves with read-back, one after another: {moving:.0} MB/s; cp with fsync on this disk: {copying:.0} MB/s, ratio {:.2}",
        moving / copying
    );
}
