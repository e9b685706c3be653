//! Giving entries their places: one process at a time, in batches.
//!
//! Places and the signed tree head are committed first; tiles are written after. A process that dies between the two leaves tiles
//! behind the database, and the next one writes them anew from there.

use crate::{
    AuditTrail,
    note::Checkpoint,
    tiles::{Edge, Object, WIDTH, bundle_path, hashes, tile_path, unbundle},
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use omt_kernel::{
    Error, Result,
    audit::CheckpointRecord,
    port::{Clock, Database, TileStore},
};
use std::{sync::Arc, time::Duration};

/// Entries in one batch.
const BATCH: u32 = 4096;
/// Pause between looks.
const LOOK: Duration = Duration::from_millis(500);
/// Looks until everything is looked at anew.
const RECHECK: u64 = 120;
/// Where the newest signed tree head lies.
const CHECKPOINT: &str = "checkpoint";

/// Integrates entries, for ever.
pub struct Integrator {
    trail: Arc<AuditTrail>,
    database: Arc<dyn Database>,
    tiles: Arc<dyn TileStore>,
    clock: Arc<dyn Clock>,
    edge: Edge,
    /// Partial tiles that this process wrote and that a full one will replace.
    partial: Vec<String>,
}

impl Integrator {
    /// An integrator over the log's ports.
    pub fn new(trail: Arc<AuditTrail>, database: Arc<dyn Database>, tiles: Arc<dyn TileStore>, clock: Arc<dyn Clock>) -> Self {
        Self { trail, database, tiles, clock, edge: Edge::default(), partial: Vec::new() }
    }

    /// Looks twice a second, for ever. Faults are logged and tried again.
    pub async fn run(mut self) {
        for look in 0_u64.. {
            if look.is_multiple_of(RECHECK) {
                // As if nothing were known: whatever is missing in the blob store is written anew.
                self.edge = Edge::default();
            }
            match self.integrate().await {
                // A full batch: more is waiting.
                Ok(n) if n == BATCH as usize => continue,
                Ok(_) => tokio::time::sleep(LOOK).await,
                Err(error) => {
                    tracing::error!(%error, "the audit log cannot be integrated");
                    tokio::time::sleep(4 * LOOK).await;
                }
            }
        }
    }

    /// Integrates what is waiting, if anything is; how many entries.
    pub async fn integrate(&mut self) -> Result<usize> {
        let read = self.database.read().await?;
        let current = read.audit().checkpoint().await?;
        let behind = current.as_ref().is_some_and(|c| c.size != self.edge.size());
        if read.audit().waiting(1).await?.is_empty() && !behind && current.is_some() {
            return Ok(0);
        }
        drop(read);
        // Before the lock where it can be: writing tiles takes time, and on SQLite the lock is everybody's.
        self.catch_up(current.as_ref()).await?;
        let unit = self.database.begin().await?;
        unit.lock("audit").await?;
        let current = unit.audit().checkpoint().await?;
        let size = current.as_ref().map_or(0, |c| c.size);
        self.catch_up(current.as_ref()).await?;
        let waiting = unit.audit().waiting(BATCH).await?;
        if waiting.is_empty() && current.is_some() {
            return Ok(0);
        }
        let (mut edge, mut full) = (self.edge.clone(), Vec::new());
        for entry in &waiting {
            full.extend(edge.append(&entry.leaf));
        }
        let now = self.clock.now();
        let head = Checkpoint { origin: self.trail.keys.origin.clone(), size: edge.size(), root: edge.root() };
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
        let note = head.signed(&self.trail.keys.verifiers, seconds, |key, message| self.trail.keys.sign(key, message))?;
        let checkpoint = CheckpointRecord { size: head.size, root: head.root, note, at: now };
        unit.audit().place(size, &waiting).await?;
        unit.audit().add_checkpoint(&checkpoint).await?;
        unit.commit().await?;
        self.edge = edge;
        if let Err(error) = self.publish(full, &checkpoint).await {
            // The next look finds the tiles behind and begins where they are.
            self.edge = Edge::default();
            return Err(error);
        }
        Ok(waiting.len())
    }

    /// Brings the edge to where the database is, and the tiles too if they lag behind.
    async fn catch_up(&mut self, current: Option<&CheckpointRecord>) -> Result<()> {
        let Some(current) = current else {
            self.edge = Edge::default();
            return Ok(());
        };
        let published = self.published().await?;
        if self.edge.size() == current.size && published == current.size {
            return Ok(());
        }
        if self.edge.size() == 0 || self.edge.size() > published {
            self.edge = self.restore(published).await?;
        }
        let mut full = Vec::new();
        while self.edge.size() < current.size {
            let left = u32::try_from(current.size - self.edge.size()).unwrap_or(BATCH).min(BATCH);
            let entries = self.database.read().await?.audit().placed(self.edge.size(), left).await?;
            if entries.is_empty() {
                return Err(Error::internal("entries of the audit log are missing from the database"));
            }
            for entry in entries {
                let at = self.edge.size();
                if entry.index != Some(at) {
                    return Err(Error::internal("entries of the audit log are missing from the database"));
                }
                let done = self.edge.append(&entry.leaf);
                if at >= published {
                    full.extend(done);
                }
            }
        }
        if self.edge.root() != current.root {
            self.edge = Edge::default();
            return Err(Error::internal("the audit log in the database is not what its signed tree head says"));
        }
        if published < current.size {
            self.publish(full, current).await?;
        }
        Ok(())
    }

    /// How far the tiles are.
    async fn published(&self) -> Result<u64> {
        let Some(note) = self.tiles.tile(CHECKPOINT).await? else { return Ok(0) };
        let read = std::str::from_utf8(&note).ok().and_then(|note| Checkpoint::read(note).ok());
        Ok(read.map_or(0, |(head, _)| head.size))
    }

    /// The edge of the tree of `size` leaves, out of the tiles; from nothing when they do not give it.
    async fn restore(&self, size: u64) -> Result<Edge> {
        let mut levels = Vec::new();
        for level in 0..Edge::heights(size) as u32 {
            let n = size >> (8 * (level + 1));
            let width = (size >> (8 * level)) % WIDTH;
            levels.push(match width {
                0 => Vec::new(),
                _ => {
                    let tile = self.tiles.tile(&tile_path(level, n, width)).await?;
                    tile.and_then(|bytes| hashes(&bytes)).unwrap_or_default()
                }
            });
        }
        let entries = match size % WIDTH {
            0 => Vec::new(),
            width => {
                let bundle = self.tiles.tile(&bundle_path(size / WIDTH, width)).await?.unwrap_or_default();
                unbundle(&bundle).unwrap_or_default().into_iter().map(Bytes::copy_from_slice).collect()
            }
        };
        let restored = Edge::restore(size, levels, entries);
        match restored {
            Some(edge) => Ok(edge),
            None if size == 0 => Ok(Edge::default()),
            None => {
                tracing::error!(size, "tiles of the audit log are missing or cut off; the tree is built anew from the database");
                self.expired().await
            }
        }
    }

    /// The edge of the tree over what has expired, of which only hashes are left; of nothing when nothing has.
    async fn expired(&self) -> Result<Edge> {
        let first = self.database.read().await?.audit().placed(0, 1).await?.first().and_then(|entry| entry.index);
        let mut edge = Edge::default();
        for n in 0..first.unwrap_or(0) / WIDTH {
            let tile = self.tiles.tile(&tile_path(0, n, WIDTH)).await?.and_then(|bytes| hashes(&bytes));
            let missing =
                || Error::internal(format!("hashes of entries that have expired are missing from {}", tile_path(0, n, WIDTH)));
            for hash in tile.filter(|tile| tile.len() as u64 == WIDTH).ok_or_else(missing)? {
                edge.append_hash(hash);
            }
        }
        Ok(edge)
    }

    /// Writes tiles, then the tree head that needs them, then removes partial tiles that are full now.
    async fn publish(&mut self, full: Vec<Object>, checkpoint: &CheckpointRecord) -> Result<()> {
        let objects: Vec<Object> = full.into_iter().chain(self.edge.partial()).collect();
        let mut obsolete = Vec::new();
        for object in objects.iter().filter(|object| object.full) {
            let prefix = format!("{}.p/", object.path);
            obsolete.extend(self.partial.extract_if(.., |path| path.starts_with(&prefix)));
        }
        let partial = objects.iter().filter(|object| !object.full).map(|object| object.path.clone());
        self.partial.extend(partial);
        let tiles = &self.tiles;
        stream::iter(objects)
            .map(|object| async move { tiles.put_tile(&object.path, object.bytes).await })
            .buffer_unordered(8)
            .try_collect::<Vec<()>>()
            .await?;
        // Another process may be ahead by now.
        if self.published().await? <= checkpoint.size {
            tiles.put_tile(CHECKPOINT, Bytes::from(checkpoint.note.clone())).await?;
        }
        for path in obsolete {
            tiles.remove_tile(&path).await?;
        }
        Ok(())
    }
}
