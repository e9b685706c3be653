//! The world as benchmarks see it.

use omt_audit::{AuditTrail, Level, LogKeys};
use omt_blob::FileBlobStore;
use omt_crypto::ProviderName;
use omt_kernel::port::{Clock, Database, Entropy, TileStore};
use omt_keys::KeystoreFile;
use std::{path::Path, sync::Arc};
use time::OffsetDateTime;
use uuid::Uuid;

/// The system's clock and randomness.
pub struct System;

impl Clock for System {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

impl Entropy for System {
    fn uuid_v7(&self, _: OffsetDateTime) -> Uuid {
        Uuid::now_v7()
    }
    fn uuid_v4(&self) -> Uuid {
        Uuid::new_v4()
    }
    fn secret(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        out[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        out
    }
}

/// An audit log over a database, with keys and tiles in a directory.
pub fn audit(dir: &Path, database: Arc<dyn Database>) -> (Arc<AuditTrail>, Arc<dyn TileStore>) {
    let provider = ProviderName::AwsLc.provider();
    let keys = Arc::new(KeystoreFile::open(&dir.join("keys.json"), "bench", provider).unwrap());
    let tiles: Arc<dyn TileStore> = Arc::new(FileBlobStore::open(&dir.join("blobs")).unwrap());
    let keys = LogKeys::open(keys, "bench/audit").unwrap();
    (Arc::new(AuditTrail::new(database, tiles.clone(), Arc::new(System), Arc::new(System), keys, Level::Standard)), tiles)
}
