//! Writing entries, finding them, and proving that they are in the log.

use crate::{
    merkle::{Hash, consistency_ranges, inclusion_ranges, perfect_root},
    model::{Event, Leaf, Level, entry, keyed},
    note::VerifierKey,
    tiles::{self, join, located, tile_path, tile_width},
};
use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use omt_crypto::{Algorithm, KeyStore, KeyStoreError, key_store::ensure};
use omt_kernel::{
    Actor, AuditId, Error, Kind, Permission, Result, TenantId,
    audit::{AuditEntry, AuditFilter, AuditPerson, CheckpointRecord},
    port::{Clock, Database, Entropy, Listener, Page, Remembers, Stale, TileStore, UnitOfWork},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The log's keys: in the key store under these names.
const KEYS: [(&str, Algorithm); 2] = [("audit/ed25519", Algorithm::Ed25519), ("audit/ml-dsa-44", Algorithm::MlDsa44)];
/// Entries about requests without a known caller that each process writes in a second; more are only counted.
const ANONYMOUS_A_SECOND: u32 = 50;

/// The keys that sign tree heads.
pub struct LogKeys {
    store: Arc<dyn KeyStore>,
    /// What verifies them.
    pub verifiers: Vec<VerifierKey>,
    /// The log's name.
    pub origin: String,
    /// What states are hashed under.
    state_key: [u8; 32],
}

impl LogKeys {
    /// Makes the keys where they are missing. Without an `origin` the log is named after its first key.
    pub fn open(store: Arc<dyn KeyStore>, origin: &str) -> Result<Self> {
        let fault = |e: KeyStoreError| Error::internal("the key store failed").caused_by(e);
        let mut publics = Vec::new();
        for (name, algorithm) in KEYS {
            let public = ensure(store.as_ref(), name, algorithm).map_err(fault)?;
            publics.push((algorithm, public));
        }
        let origin = match origin {
            "" => format!("openmediatrust/audit/{}", hex::encode(publics.first().map_or(&[][..], |(_, key)| &key[..8]))),
            named => named.to_owned(),
        };
        let bad = origin.len() > 255 || origin.contains('+') || origin.chars().any(|c| c.is_whitespace() || c.is_control());
        if bad {
            let words = "audit.origin must be at most 255 bytes without spaces and plus signs";
            return Err(Error::new(Kind::Invalid, "BAD_CONFIGURATION", words));
        }
        let key = |(algorithm, public)| VerifierKey { name: origin.clone(), algorithm, public };
        // An Ed25519 signature is the same each time (RFC 8032), so that replicas agree and the key store keeps one key less.
        let seed = store.sign(KEYS[0].0, b"openmediatrust/audit/states/1").map_err(fault)?;
        let state_key = Sha256::digest(seed).into();
        Ok(Self { store, verifiers: publics.into_iter().map(key).collect(), origin, state_key })
    }

    pub(crate) fn sign(&self, key: &VerifierKey, message: &[u8]) -> Result<Vec<u8>> {
        let name = KEYS.iter().find(|(_, algorithm)| *algorithm == key.algorithm).map_or("", |(name, _)| *name);
        self.store.sign(name, message).map_err(|e| Error::internal("a tree head cannot be signed").caused_by(e))
    }
}

/// An entry as readers see it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The entry.
    pub entry: AuditEntry,
    /// What it says.
    pub leaf: serde_json::Value,
    /// Who acted, unless they were forgotten.
    pub person: Option<(String, String)>,
}

/// A proof that an entry is in the log.
#[derive(Debug, Clone)]
pub struct Inclusion {
    /// Its place.
    pub index: u64,
    /// The entry.
    pub entry: AuditEntry,
    /// Hashes from the leaf up.
    pub hashes: Vec<Hash>,
    /// The tree head that they lead to.
    pub checkpoint: CheckpointRecord,
}

/// How many anonymous entries there were in this second.
#[derive(Default)]
struct Flood {
    second: i64,
    written: u32,
    dropped: u64,
}

/// Pseudonyms that are in the database.
struct Pseudonyms(moka::future::Cache<(TenantId, String), String>);

#[async_trait]
impl Remembers for Pseudonyms {
    async fn forget(&self, stale: &Stale) {
        match stale {
            Stale::Person(tenant, subject) => self.0.invalidate(&(tenant.clone(), subject.clone())).await,
            Stale::Everything => self.0.invalidate_all(),
            Stale::Session(_) | Stale::Rights | Stale::Settings(_) => {}
        }
    }
}

/// The audit log.
pub struct AuditTrail {
    pub(crate) database: Arc<dyn Database>,
    tiles: Arc<dyn TileStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// The keys.
    pub keys: LogKeys,
    level: Level,
    /// Those that were added, by which unit of work: it may not have ended. What another sees is committed.
    fresh: moka::future::Cache<(TenantId, String, usize), ()>,
    /// Pseudonyms that are in the database.
    pseudonyms: moka::future::Cache<(TenantId, String), String>,
    flood: std::sync::Mutex<Flood>,
    listener: Option<Arc<dyn Listener>>,
}

impl AuditTrail {
    /// The log over its ports.
    pub fn new(
        database: Arc<dyn Database>,
        tiles: Arc<dyn TileStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        keys: LogKeys,
        level: Level,
    ) -> Self {
        // Not for long: somebody may be forgotten in another process.
        let pseudonyms = moka::future::Cache::builder().max_capacity(50_000).time_to_live(Duration::from_secs(60)).build();
        // Longer than any transaction lasts.
        let fresh = moka::future::Cache::builder().max_capacity(50_000).time_to_live(Duration::from_secs(60)).build();
        Self {
            database,
            tiles,
            clock,
            entropy,
            keys,
            level,
            fresh,
            pseudonyms,
            flood: std::sync::Mutex::default(),
            listener: None,
        }
    }

    /// The same log, with somebody who hears of what is done to content.
    #[must_use]
    pub fn heard_by(mut self, listener: Arc<dyn Listener>) -> Self {
        self.listener = Some(listener);
        self
    }

    /// What is remembered here and may change elsewhere.
    pub fn remembered(&self) -> Arc<dyn Remembers> {
        Arc::new(Pseudonyms(self.pseudonyms.clone()))
    }

    /// How much is written.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Writes an entry in the transaction of the change that it tells of.
    pub async fn append(&self, unit: &dyn UnitOfWork, actor: &Actor, event: Event) -> Result<()> {
        let now = self.clock.now();
        if let Some(claim) = actor.claim.as_ref().filter(|_| event.is_done()) {
            claim.take(unit, now).await?;
        }
        let pseudonym = self.pseudonym(unit, actor).await?;
        if let (Some(listener), Some(happening)) = (&self.listener, event.happening(now)) {
            listener.heard(unit, &actor.tenant, &happening).await?;
        }
        unit.audit()
            .append(&entry(AuditId(self.entropy.uuid_v7(now)), now, actor, &pseudonym, event, &self.keys.state_key)?)
            .await
    }

    /// Writes an entry of something that changed nothing.
    pub async fn record(&self, actor: &Actor, event: Event) -> Result<()> {
        let attempt = async || {
            let unit = self.database.begin().await?;
            self.append(unit.as_ref(), actor, event.clone()).await?;
            unit.commit().await
        };
        omt_kernel::retry::transaction(self.entropy.as_ref(), attempt).await
    }

    /// Writes an entry about a request whose caller is not known, unless there were too many of late; those that were left out
    /// are counted in the next.
    pub async fn record_anonymous(&self, tenant: TenantId, request_id: String, event: Event) -> Result<()> {
        let second = self.clock.now().unix_timestamp();
        let dropped = {
            let mut flood = self.flood.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if flood.second != second {
                (flood.second, flood.written) = (second, 0);
            }
            if flood.written >= ANONYMOUS_A_SECOND {
                flood.dropped += 1;
                return Ok(());
            }
            flood.written += 1;
            std::mem::take(&mut flood.dropped)
        };
        let event = if dropped > 0 { event.detail(serde_json::json!({ "left_out_before": dropped })) } else { event };
        self.record(&Actor::anonymous(tenant, request_id), event).await
    }

    async fn pseudonym(&self, unit: &dyn UnitOfWork, actor: &Actor) -> Result<String> {
        let key = (actor.tenant.clone(), actor.subject.clone());
        // Only to tell units of work apart; one that comes to stand where another stood is taken for it, and asks once more.
        let here = (key.0.clone(), key.1.clone(), std::ptr::from_ref(unit).addr());
        if let Some(known) = self.pseudonyms.get(&key).await {
            return Ok(known);
        }
        // In the caller's transaction: one that waited for a second connection could wait for itself.
        if let Some(person) = unit.audit().person(&actor.tenant, &actor.subject).await? {
            // Only what is committed is kept: who was added by this very unit may yet be rolled back.
            if !self.fresh.contains_key(&here) {
                self.pseudonyms.insert(key, person.pseudonym.clone()).await;
            }
            return Ok(person.pseudonym);
        }
        self.fresh.insert(here, ()).await;
        let salt = self.entropy.secret();
        let mut mac = Hmac::<Sha256>::new_from_slice(&salt).map_err(|_| Error::internal("no key for a pseudonym"))?;
        mac.update(actor.subject.as_bytes());
        let person = AuditPerson {
            pseudonym: hex::encode(mac.finalize().into_bytes()),
            tenant: actor.tenant.clone(),
            subject: actor.subject.clone(),
            name: actor.name.clone(),
            salt: salt.to_vec(),
        };
        // Another transaction may have been first; whoever is in the table counts.
        unit.audit().add_person(&person).await?;
        let found = unit.audit().person(&actor.tenant, &actor.subject).await?;
        Ok(found.map_or(person.pseudonym, |found| found.pseudonym))
    }

    /// A hash under a key of the log, of a SHA-256: what was hashed cannot be guessed by whoever reads the database.
    pub fn keyed(&self, sha256: &str) -> Result<String> {
        keyed(sha256, &self.keys.state_key)
    }

    /// Forgets who stands behind a subject's pseudonym, in the caller's transaction.
    pub async fn forget(&self, unit: &dyn UnitOfWork, tenant: &TenantId, subject: &str) -> Result<bool> {
        self.pseudonyms.invalidate(&(tenant.clone(), subject.to_owned())).await;
        unit.audit().erase_person(tenant, subject).await
    }

    /// Entries of the actor's tenant, newest first, with the people behind them.
    pub async fn search(&self, actor: &Actor, subject: Option<&str>, mut filter: AuditFilter, page: Page) -> Result<Vec<Found>> {
        actor.require(Permission::AuditRead)?;
        let read = self.database.replica().await?;
        if let Some(subject) = subject {
            let person = read.audit().person(&actor.tenant, subject).await?;
            filter.actors = Some(person.into_iter().map(|person| person.pseudonym).collect());
        }
        let entries = read.audit().search(&actor.tenant, &filter, page).await?;
        self.with_people(read.as_ref(), entries).await
    }

    async fn with_people(&self, read: &dyn UnitOfWork, entries: Vec<AuditEntry>) -> Result<Vec<Found>> {
        let mut wanted: Vec<String> = entries.iter().map(|entry| entry.actor.clone()).collect();
        wanted.sort();
        wanted.dedup();
        let people: BTreeMap<String, AuditPerson> =
            read.audit().people(&wanted).await?.into_iter().map(|person| (person.pseudonym.clone(), person)).collect();
        let found = |entry: AuditEntry| {
            let leaf = serde_json::from_slice(&entry.leaf).unwrap_or_default();
            let person = people.get(&entry.actor).map(|person| (person.subject.clone(), person.name.clone()));
            Found { entry, leaf, person }
        };
        Ok(entries.into_iter().map(found).collect())
    }

    /// One page of a copy of the tenant's log, oldest last. The first page is itself written into the log.
    pub async fn export(
        &self,
        actor: &Actor,
        subject: Option<&str>,
        filter: &AuditFilter,
        page: Page,
    ) -> Result<Vec<AuditEntry>> {
        actor.require(Permission::AuditExport)?;
        if page.after.is_none() {
            self.record(actor, Event::new("audit.export", "audit", "log")).await?;
        }
        let (read, mut filter) = (self.database.replica().await?, filter.clone());
        if let Some(subject) = subject {
            let person = read.audit().person(&actor.tenant, subject).await?;
            filter.actors = Some(person.into_iter().map(|person| person.pseudonym).collect());
        }
        read.audit().search(&actor.tenant, &filter, page).await
    }

    /// The newest tree head, once there is one.
    pub async fn checkpoint(&self) -> Result<CheckpointRecord> {
        let found = self.database.read().await?.audit().checkpoint().await?;
        found.ok_or_else(|| Error::new(Kind::Unavailable, "NO_CHECKPOINT", "the log has no tree head yet").retry_after(2))
    }

    /// Proves that an entry of the actor's tenant is in the log.
    pub async fn inclusion(&self, actor: &Actor, id: AuditId) -> Result<Inclusion> {
        actor.require(Permission::AuditRead)?;
        let read = self.database.read().await?;
        let entry = read.audit().find(&actor.tenant, id).await?.ok_or_else(|| Error::not_found("audit entry"))?;
        let checkpoint = self.checkpoint().await?;
        let Some(index) = entry.index.filter(|index| *index < checkpoint.size) else {
            let words = "the entry has no place in a signed tree yet; ask again in a moment";
            return Err(Error::new(Kind::Unavailable, "NOT_INTEGRATED", words).retry_after(2));
        };
        let hashes = self.roots(&inclusion_ranges(index, checkpoint.size), checkpoint.size).await?;
        Ok(Inclusion { index, entry, hashes, checkpoint })
    }

    /// Proves that the tree of `old` leaves is the beginning of the tree of `new`.
    pub async fn consistency(&self, actor: &Actor, old: u64, new: Option<u64>) -> Result<(Vec<Hash>, CheckpointRecord)> {
        actor.require(Permission::AuditRead)?;
        let checkpoint = self.checkpoint().await?;
        let new = new.unwrap_or(checkpoint.size);
        if old == 0 || old > new || new > checkpoint.size {
            let words =
                format!("must be at least 1 and at most the size of the newer tree, which is at most {}", checkpoint.size);
            return Err(Error::invalid_field("INVALID_QUERY", "from", words));
        }
        Ok((self.roots(&consistency_ranges(old, new), checkpoint.size).await?, checkpoint))
    }

    /// The roots of ranges, out of the tiles of a tree of `size` leaves.
    async fn roots(&self, ranges: &[(u64, u64)], size: u64) -> Result<Vec<Hash>> {
        let mut seen: BTreeMap<(u32, u64), Vec<Hash>> = BTreeMap::new();
        let mut out = Vec::new();
        for (start, end) in ranges {
            let mut parts = Vec::new();
            for (level, n, first, count) in located(*start, *end) {
                let tile = match seen.get(&(level, n)) {
                    Some(tile) => tile,
                    None => {
                        let tile = self.tile_hashes(level, n, size).await?;
                        seen.entry((level, n)).or_insert(tile)
                    }
                };
                let hashes =
                    tile.get(first..first + count).ok_or_else(|| Error::internal("a tile of the audit log is cut off"))?;
                parts.push(perfect_root(hashes));
            }
            out.push(join(&parts));
        }
        Ok(out)
    }

    async fn tile_hashes(&self, level: u32, n: u64, size: u64) -> Result<Vec<Hash>> {
        let width = tile_width(level, n, size);
        for width in [width, tiles::WIDTH] {
            // A tile that became full meanwhile may have taken its partial one away.
            if let Some(bytes) = self.tiles.tile(&tile_path(level, n, width)).await? {
                return tiles::hashes(&bytes).ok_or_else(|| Error::internal("a tile of the audit log is cut off"));
            }
        }
        let words = "the tiles of the audit log are being written; ask again in a moment";
        Err(Error::new(Kind::Unavailable, "NOT_INTEGRATED", words).retry_after(2))
    }

    /// An object of the log by its path, for the tenant that runs the platform: bundles hold the entries of every tenant.
    pub async fn object(&self, actor: &Actor, path: &str) -> Result<bytes::Bytes> {
        actor.require(Permission::AuditExport)?;
        if actor.tenant != TenantId::default_tenant() {
            return Err(Error::new(Kind::Forbidden, "FORBIDDEN", "the whole log is for the tenant that runs the platform"));
        }
        let proper = path.len() < 200
            && path.starts_with("tile/")
            && path.split('/').all(|part| {
                !part.is_empty()
                    && !part.starts_with('.')
                    && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.')
            });
        if !proper {
            return Err(Error::not_found("tile"));
        }
        let found = self.tiles.tile(path).await?.ok_or_else(|| Error::not_found("tile"))?;
        if path.starts_with("tile/entries/") {
            // What entries say leaves the platform; hashes say nothing.
            self.record(actor, Event::new("audit.export", "audit", path)).await?;
        }
        Ok(found)
    }
}

/// Whether an entry's columns say what its leaf says.
pub(crate) fn columns_agree(entry: &AuditEntry) -> bool {
    let Ok(leaf) = serde_json::from_slice::<Leaf>(&entry.leaf) else { return false };
    leaf.id == entry.id.to_string()
        && leaf.tenant == entry.tenant.as_str()
        && leaf.actor == entry.actor
        && leaf.action == entry.action
        && leaf.resource.kind == entry.resource_kind
        && leaf.resource.id == entry.resource_id
        && leaf.outcome == entry.outcome
        && leaf.request == entry.request_id
        && time::OffsetDateTime::parse(&leaf.time, &time::format_description::well_known::Rfc3339).is_ok_and(|at| at == entry.at)
}
