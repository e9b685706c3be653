//! Letting entries go when the log's retention has ended.
//!
//! First an entry says which ones will go, and gets its place in the signed tree; only then are they removed, from the beginning of
//! the log on and in whole bundles. Their hashes stay, so that the tree and every proof still hold, and whoever verifies the log
//! knows that nothing was taken out which the log does not own up to.

use crate::{
    AuditTrail, Event,
    model::Leaf,
    tiles::{WIDTH, bundle_path},
};
use omt_kernel::{
    Actor, OffsetDateTime, Result, TenantId,
    audit::{AuditEntry, AuditFilter},
    port::{Clock, Database, Page, TileStore},
};
use serde::Serialize;
use std::sync::Arc;
use time::{Duration, format_description::well_known::Rfc3339};

/// The action of the entry that says which ones go.
const ACTION: &str = "audit.expire";
/// The action of the entry that says for how long entries are kept.
const KEPT: &str = "audit.retention";
/// Entries looked at or removed at once.
const PAGE: u32 = 1024;
/// The clock of the database, which has the last word, may be behind ours.
const MARGIN: Duration = Duration::hours(1);

/// Removes what has expired.
pub struct Expiry {
    /// The log.
    pub trail: Arc<AuditTrail>,
    /// The database.
    pub database: Arc<dyn Database>,
    /// Where the bundles are.
    pub tiles: Arc<dyn TileStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For how many days entries are kept; 0 for ever.
    pub days: u32,
}

/// What came of one look.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Entries that were removed.
    pub entries: u64,
    /// People who are named nowhere any more and were forgotten.
    pub people: u64,
    /// Entries before this place will go at the next look, now that the log says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announced: Option<u64>,
}

/// Which entries go, by what an entry of the log says; none when it is about something else.
pub(crate) fn expired_below(entry: &[u8]) -> Option<u64> {
    // Most entries need not be read for this.
    memchr::memmem::find(entry, ACTION.as_bytes())?;
    let leaf: Leaf = serde_json::from_slice(entry).ok()?;
    let ours = leaf.action == ACTION && leaf.tenant == TenantId::default_tenant().as_str() && leaf.outcome == "done";
    leaf.detail.filter(|_| ours)?.get("before")?.as_u64()
}

/// Of entries in the order of their places, how many of the first are older than the limit.
fn old(entries: &[AuditEntry], limit: OffsetDateTime) -> usize {
    entries.iter().take_while(|entry| entry.at < limit).count()
}

impl AuditTrail {
    /// Writes down for how long entries are kept, when the log's newest word on it says otherwise. Whoever owns the database may set
    /// it without the log's keys; the next process to start says so.
    pub async fn note_retention(&self) -> Result<()> {
        let read = self.database.read().await?;
        let held = read.audit().kept_for().await?;
        let filter = AuditFilter { action: Some(KEPT.to_owned()), ..AuditFilter::default() };
        let found = read.audit().search(&TenantId::default_tenant(), &filter, Page { after: None, limit: 1 }).await?;
        drop(read);
        let said =
            found.first().and_then(|entry| serde_json::from_slice::<Leaf>(&entry.leaf).ok()?.detail?.get("days")?.as_u64());
        if said.unwrap_or(0) == u64::from(held) {
            return Ok(());
        }
        let event = Event::new(KEPT, "audit", "log").detail(serde_json::json!({ "days": held, "before": said.unwrap_or(0) }));
        self.record(&Actor::system(TenantId::default_tenant()), event).await
    }
}

impl Expiry {
    /// Removes what the log already says has expired, then looks for more and says so.
    pub async fn look(&self) -> Result<Removed> {
        let mut done = Removed::default();
        let held = self.database.read().await?.audit().kept_for().await?;
        if self.days == 0 || held == 0 {
            return Ok(done);
        }
        // The database has the last word, and bundles go before it is asked.
        let days = self.days.max(held);
        let limit = self.clock.now() - Duration::days(days.into()) - MARGIN;
        let announced = self.announced().await?;
        if let Some((before, true)) = announced {
            done.entries = self.remove(before, limit).await?;
        }
        let unit = self.database.begin().await?;
        done.people = unit.audit().forget_unmentioned().await?;
        unit.commit().await?;
        let before = self.expired(limit).await?;
        if before > announced.map_or(0, |(before, _)| before) {
            let kept_since = limit.format(&Rfc3339).unwrap_or_default();
            let detail = serde_json::json!({ "before": before, "kept_since": kept_since, "days": days });
            let event = Event::new(ACTION, "audit", "log").detail(detail);
            let unit = self.database.begin().await?;
            self.trail.append(unit.as_ref(), &Actor::system(TenantId::default_tenant()), event).await?;
            unit.commit().await?;
            done.announced = Some(before);
        }
        Ok(done)
    }

    /// What the newest entry about this says, and whether it has its place.
    async fn announced(&self) -> Result<Option<(u64, bool)>> {
        let filter = AuditFilter { action: Some(ACTION.to_owned()), outcome: Some("done".to_owned()), ..AuditFilter::default() };
        let newest = Page { after: None, limit: 1 };
        let found = self.database.read().await?.audit().search(&TenantId::default_tenant(), &filter, newest).await?;
        Ok(found.first().and_then(|entry| Some((expired_below(&entry.leaf)?, entry.index.is_some()))))
    }

    /// The first place that has not expired, in whole bundles. Places are nearly in the order of time; the first young entry ends it.
    async fn expired(&self, limit: OffsetDateTime) -> Result<u64> {
        let (mut from, mut found) = (0, 0);
        loop {
            let page = self.database.read().await?.audit().placed(from, PAGE).await?;
            let count = old(&page, limit);
            let last = count.checked_sub(1).and_then(|last| page.get(last)).and_then(|entry| entry.index);
            found = last.map_or(found, |last| last + 1);
            if count < PAGE as usize {
                return Ok(found / WIDTH * WIDTH);
            }
            from = found;
        }
    }

    /// Bundles first: a row without its bundle is what the next look goes on with.
    async fn remove(&self, before: u64, limit: OffsetDateTime) -> Result<u64> {
        let first = self.database.read().await?.audit().placed(0, 1).await?.first().and_then(|entry| entry.index);
        let Some(first) = first.filter(|first| *first < before) else { return Ok(0) };
        // Should days have become more since it was said, younger entries stay.
        let before = before.min(self.expired(limit).await?);
        for n in first / WIDTH..before / WIDTH {
            let path = bundle_path(n, WIDTH);
            self.tiles.remove_tile(&path).await?;
            // What a process that died had not replaced yet.
            self.tiles.remove_partials(&path).await?;
        }
        let mut removed = 0;
        loop {
            let unit = self.database.begin().await?;
            let gone = unit.audit().expire(before, PAGE).await?;
            unit.commit().await?;
            removed += gone;
            if gone < u64::from(PAGE) {
                return Ok(removed);
            }
        }
    }
}
