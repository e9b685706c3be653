//! What administrators do with webhooks.

use super::{
    delivery::order,
    model::{Delivery, Endpoint, Format, MAX_ENDPOINTS, Place, Secret, check_place},
    outbox::{News, Outbox},
    rules::{self, TEST},
};
use omt_audit::{AuditTrail, Event};
use omt_crypto::seal::Sealer;
use omt_kernel::{
    Actor, DeliveryId, EndpointId, Error, Kind, OffsetDateTime, Permission, Reach, Result, check_revision,
    error::Context as _,
    manifest::Classification,
    once::{Once, Outcome},
    port::{Clock, Database, Entropy, Page, UnitOfWork, WebhookSender},
    retry,
    webhook::{DeliveryFilter, DeliveryRecord, EndpointRecord},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use time::Duration;
use zeroize::Zeroizing;

/// The longest that an old secret goes on signing.
const LONGEST_OVERLAP: Duration = Duration::days(7);
/// The most secrets in force.
const MAX_SECRETS: usize = 5;
/// Failed deliveries that one request starts again.
const RECOVERED: u32 = 500;

/// What the room needs of the world.
pub struct Dependencies {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Identifiers and secrets.
    pub entropy: Arc<dyn Entropy>,
    /// The audit log.
    pub audit: Arc<AuditTrail>,
    /// Who posts.
    pub sender: Arc<dyn WebhookSender>,
    /// What encrypts secrets.
    pub sealer: Sealer,
    /// The platform's URL, by which receivers know who tells them.
    pub public_url: String,
}

/// An endpoint to be made.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// Where to post.
    pub url: String,
    /// Words for people.
    pub description: String,
    /// Types of events.
    pub events: BTreeSet<String>,
    /// How bodies look.
    pub format: Format,
    /// Events on which content; nothing beyond the actor's own reach.
    pub reach: Reach,
}

/// What is to become different.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Where to post.
    pub url: Option<String>,
    /// Words for people.
    pub description: Option<String>,
    /// Types of events.
    pub events: Option<BTreeSet<String>>,
    /// How bodies look.
    pub format: Option<Format>,
    /// Events on content classified so or lower.
    pub clearance: Option<Classification>,
    /// Events on content of this department only; `Some(None)` for all that the actor sees.
    pub department: Option<Option<String>>,
    /// Events on content of these projects only; none for all that the actor sees.
    pub projects: Option<BTreeSet<String>>,
    /// Whether it is told.
    pub enabled: Option<bool>,
}

/// An endpoint that was made.
#[derive(Debug)]
pub struct Created {
    /// It.
    pub endpoint: Endpoint,
    /// Its secret, shown this once.
    pub secret: String,
}

/// A new secret.
#[derive(Debug)]
pub struct Rotated {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The secret, shown this once.
    pub secret: String,
}

/// Webhooks.
pub struct Webhooks {
    pub(super) deps: Dependencies,
    outbox: Outbox,
    /// Deliveries that this process makes just now.
    pub(super) busy: Mutex<BTreeMap<EndpointId, usize>>,
}

impl Webhooks {
    /// The room, over its ports.
    pub fn new(deps: Dependencies) -> Self {
        let outbox = Outbox { clock: deps.clock.clone(), entropy: deps.entropy.clone() };
        Self { deps, outbox, busy: Mutex::default() }
    }

    /// Makes an endpoint.
    pub async fn create(&self, actor: &Actor, new: NewEndpoint, once: Option<&Once<Created>>) -> Result<Outcome<Created>> {
        actor.require(Permission::AdminSystem)?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            if let Some(once) = once
                && let Some(before) = once.replay(unit.as_ref(), actor).await?
            {
                return Ok(before);
            }
            let now = self.deps.clock.now();
            let id = EndpointId(self.deps.entropy.uuid_v7(now));
            let (secret, text) = self.new_secret(id, now)?;
            let place = Place {
                url: new.url.clone(),
                description: new.description.clone(),
                events: new.events.clone(),
                format: new.format,
                reach: new.reach.clone(),
                secrets: vec![secret],
                failing_since: None,
                closed_because: None,
            };
            self.check(actor, &place)?;
            unit.lock(&format!("webhooks:{}", actor.tenant)).await?;
            if unit.webhooks().endpoints(&actor.tenant).await?.len() >= MAX_ENDPOINTS {
                let words = format!("a tenant has at most {MAX_ENDPOINTS} webhooks");
                return Err(Error::new(Kind::Conflict, "TOO_MANY_WEBHOOKS", words));
            }
            let record = EndpointRecord {
                id,
                tenant: actor.tenant.clone(),
                revision: 1,
                enabled: true,
                data: json!(null),
                created_by: actor.subject.clone(),
                created_at: now,
                updated_at: now,
            };
            let endpoint = Endpoint { record, place };
            unit.webhooks().insert_endpoint(&endpoint.to_record()?).await?;
            self.log(unit.as_ref(), actor, "create", &endpoint).await?;
            let done = Created { endpoint, secret: text };
            if let Some(once) = once
                && !once.keep(unit.as_ref(), actor, &done, now).await?
            {
                let winner = once.replay(unit.as_ref(), actor).await?;
                return winner.ok_or_else(|| Error::internal("a stored answer vanished"));
            }
            unit.commit().await?;
            Ok(Outcome::Done(Box::new(done)))
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// Every endpoint of the actor's tenant whose content the actor could see, oldest first.
    pub async fn list(&self, actor: &Actor) -> Result<Vec<Endpoint>> {
        actor.require_one(Permission::SEE_CONFIGURATION)?;
        let found = self.deps.database.read().await?.webhooks().endpoints(&actor.tenant).await?;
        let all: Vec<Endpoint> = found.into_iter().map(Endpoint::of).collect::<Result<_>>()?;
        Ok(all.into_iter().filter(|endpoint| actor.reach.includes(&endpoint.place.reach)).collect())
    }

    /// One endpoint.
    pub async fn get(&self, actor: &Actor, id: EndpointId) -> Result<Endpoint> {
        actor.require_one(Permission::SEE_CONFIGURATION)?;
        self.load(self.deps.database.read().await?.as_ref(), actor, id).await
    }

    /// Changes an endpoint. Enabling it forgives what it did not take.
    pub async fn update(&self, actor: &Actor, id: EndpointId, changes: Changes, if_match: Option<i64>) -> Result<Endpoint> {
        let change = |endpoint: &mut Endpoint| {
            let (changes, place) = (changes.clone(), &mut endpoint.place);
            place.url = changes.url.unwrap_or_else(|| std::mem::take(&mut place.url));
            place.description = changes.description.unwrap_or_else(|| std::mem::take(&mut place.description));
            place.events = changes.events.unwrap_or_else(|| std::mem::take(&mut place.events));
            place.format = changes.format.unwrap_or(place.format);
            place.reach.clearance = changes.clearance.unwrap_or(place.reach.clearance);
            if let Some(department) = changes.department {
                place.reach.department = department.or_else(|| actor.reach.department.clone());
            }
            if let Some(projects) = changes.projects {
                place.reach.projects = if projects.is_empty() { actor.reach.projects.clone() } else { projects };
            }
            if let Some(enabled) = changes.enabled {
                endpoint.record.enabled = enabled;
                (place.failing_since, place.closed_because) = (None, None);
            }
            Ok(())
        };
        self.change(actor, id, if_match, "update", change).await.map(|(endpoint, ())| endpoint)
    }

    /// Makes a new secret; those before it go on signing for a time, so that receivers can change over.
    pub async fn rotate(&self, actor: &Actor, id: EndpointId, overlap: Duration, if_match: Option<i64>) -> Result<Rotated> {
        if overlap.is_negative() || overlap > LONGEST_OVERLAP {
            return Err(Error::unprocessable_field("INVALID_FIELD", "overlap_seconds", "must be from 0 to 604800"));
        }
        let change = |endpoint: &mut Endpoint| {
            let now = self.deps.clock.now();
            let (new, text) = self.new_secret(id, now)?;
            let secrets = &mut endpoint.place.secrets;
            for old in secrets.iter_mut() {
                old.ends_at = Some(old.ends_at.map_or(now + overlap, |end| end.min(now + overlap)));
            }
            secrets.retain(|old| old.ends_at.is_none_or(|end| end > now));
            if secrets.len() >= MAX_SECRETS {
                let words = "five secrets are in force; wait until one ends, or rotate with overlap_seconds 0";
                return Err(Error::new(Kind::Conflict, "TOO_MANY_SECRETS", words));
            }
            secrets.insert(0, new);
            Ok(text)
        };
        let (endpoint, secret) = self.change(actor, id, if_match, "rotate", change).await?;
        Ok(Rotated { endpoint, secret })
    }

    /// Removes an endpoint, and its deliveries.
    pub async fn delete(&self, actor: &Actor, id: EndpointId, if_match: Option<i64>) -> Result<()> {
        actor.require(Permission::AdminSystem)?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            unit.lock(&format!("webhook:{id}")).await?;
            let endpoint = self.load(unit.as_ref(), actor, id).await?;
            check_revision("webhook", endpoint.record.revision, if_match)?;
            unit.webhooks().delete_endpoint(&actor.tenant, id).await?;
            self.log(unit.as_ref(), actor, "delete", &endpoint).await?;
            unit.commit().await
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// Sends an endpoint an event of its own, whatever it asked for.
    pub async fn test(&self, actor: &Actor, id: EndpointId) -> Result<Delivery> {
        actor.require(Permission::AdminSystem)?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            let endpoint = self.load(unit.as_ref(), actor, id).await?;
            check_enabled(&endpoint)?;
            let message = self.deps.entropy.uuid_v7(self.deps.clock.now());
            let data = json!({ "webhook_id": id });
            let delivery =
                self.outbox.put(unit.as_ref(), &endpoint.record, News { message, event: TEST, data, about: None }).await?;
            self.log(unit.as_ref(), actor, "test", &endpoint).await?;
            unit.commit().await?;
            Ok(delivery)
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// An endpoint's deliveries, newest first.
    pub async fn deliveries(&self, actor: &Actor, id: EndpointId, filter: DeliveryFilter, page: Page) -> Result<Vec<Delivery>> {
        actor.require_one(Permission::SEE_CONFIGURATION)?;
        let read = self.deps.database.replica().await?;
        self.load(read.as_ref(), actor, id).await?;
        let filter = DeliveryFilter { endpoint: Some(id), reach: Some(actor.reach.clone()), ..filter };
        let found = read.webhooks().deliveries(&actor.tenant, &filter, page).await?;
        found.into_iter().map(Delivery::of).collect()
    }

    /// One delivery.
    pub async fn delivery(&self, actor: &Actor, endpoint: EndpointId, id: DeliveryId) -> Result<Delivery> {
        actor.require_one(Permission::SEE_CONFIGURATION)?;
        let read = self.deps.database.read().await?;
        self.load(read.as_ref(), actor, endpoint).await?;
        self.load_delivery(read.as_ref(), actor, endpoint, id).await
    }

    /// Makes a delivery again, with the same message.
    pub async fn replay(&self, actor: &Actor, endpoint: EndpointId, id: DeliveryId) -> Result<Delivery> {
        actor.require(Permission::AdminSystem)?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            let place = self.load(unit.as_ref(), actor, endpoint).await?;
            check_enabled(&place)?;
            let delivery = self.load_delivery(unit.as_ref(), actor, endpoint, id).await?;
            if !self.within_reach(unit.as_ref(), &place, &delivery).await? {
                let words = "the content is beyond the webhook's reach";
                return Err(Error::new(Kind::Conflict, "BEYOND_REACH", words));
            }
            let Some(delivery) = self.again(unit.as_ref(), delivery).await? else {
                return Err(Error::new(Kind::Conflict, "DELIVERY_PENDING", "the delivery is under way"));
            };
            self.log(unit.as_ref(), actor, "replay", &place).await?;
            unit.commit().await?;
            Ok(delivery)
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// Makes failed deliveries of events since a time again; how many, and whether there are more.
    pub async fn recover(&self, actor: &Actor, id: EndpointId, since: OffsetDateTime) -> Result<(u64, bool)> {
        actor.require(Permission::AdminSystem)?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            let place = self.load(unit.as_ref(), actor, id).await?;
            check_enabled(&place)?;
            let filter = DeliveryFilter {
                endpoint: Some(id),
                // Those that seem to be under way, too: their job may be gone.
                undelivered: true,
                reach: Some(place.place.reach.clone()),
                since: Some(since),
                ..DeliveryFilter::default()
            };
            let page = Page { after: None, limit: RECOVERED };
            let found = unit.webhooks().deliveries(&actor.tenant, &filter, page).await?;
            let (more, mut made) = (found.len() >= RECOVERED as usize, 0);
            for record in found {
                made += u64::from(self.again(unit.as_ref(), Delivery::of(record)?).await?.is_some());
            }
            self.log(unit.as_ref(), actor, "recover", &place).await?;
            unit.commit().await?;
            Ok((made, more))
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// Queues a delivery once more; nothing when its job lives.
    async fn again(&self, unit: &dyn UnitOfWork, mut delivery: Delivery) -> Result<Option<Delivery>> {
        let now = self.deps.clock.now();
        let job = order(&delivery.record, now)?;
        if omt_jobs::enqueue(unit, self.deps.clock.as_ref(), self.deps.entropy.as_ref(), job).await?.is_none() {
            return Ok(None);
        }
        delivery.record.state = Delivery::PENDING.to_owned();
        delivery.record.updated_at = now;
        delivery.parcel.next_at = Some(now);
        unit.webhooks().update_delivery(&delivery.to_record()?).await?;
        Ok(Some(delivery))
    }

    async fn load(&self, unit: &dyn UnitOfWork, actor: &Actor, id: EndpointId) -> Result<Endpoint> {
        let missing = || Error::not_found("webhook");
        let found = unit.webhooks().endpoint(&actor.tenant, id).await?.ok_or_else(missing)?;
        Some(Endpoint::of(found)?).filter(|endpoint| actor.reach.includes(&endpoint.place.reach)).ok_or_else(missing)
    }

    async fn load_delivery(&self, unit: &dyn UnitOfWork, actor: &Actor, of: EndpointId, id: DeliveryId) -> Result<Delivery> {
        let found = unit.webhooks().delivery(&actor.tenant, id).await?;
        let seen = |delivery: &DeliveryRecord| delivery.about.as_ref().is_none_or(|about| about.within(&actor.reach));
        let theirs = found.filter(|delivery| delivery.endpoint == of && seen(delivery));
        Delivery::of(theirs.ok_or_else(|| Error::not_found("delivery"))?)
    }

    async fn change<T>(
        &self,
        actor: &Actor,
        id: EndpointId,
        if_match: Option<i64>,
        name: &str,
        change: impl Fn(&mut Endpoint) -> Result<T>,
    ) -> Result<(Endpoint, T)> {
        actor.require(Permission::AdminSystem)?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            unit.lock(&format!("webhook:{id}")).await?;
            let mut endpoint = self.load(unit.as_ref(), actor, id).await?;
            check_revision("webhook", endpoint.record.revision, if_match)?;
            let expected = endpoint.record.revision;
            let out = change(&mut endpoint)?;
            self.check(actor, &endpoint.place)?;
            endpoint.record.revision += 1;
            endpoint.record.updated_at = self.deps.clock.now();
            if !unit.webhooks().update_endpoint(&endpoint.to_record()?, expected).await? {
                return Err(Error::new(Kind::Conflict, "CONCURRENT_CHANGE", "the webhook was changed at the same time"));
            }
            self.log(unit.as_ref(), actor, name, &endpoint).await?;
            unit.commit().await?;
            Ok((endpoint, out))
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    fn check(&self, actor: &Actor, place: &Place) -> Result<()> {
        self.deps.sender.check(&place.url)?;
        check_place(place)?;
        if !actor.reach.includes(&place.reach) {
            let words = "nobody lets a webhook hear of content that they do not see themselves";
            return Err(Error::new(Kind::Forbidden, "BEYOND_REACH", words));
        }
        Ok(())
    }

    async fn log(&self, unit: &dyn UnitOfWork, actor: &Actor, name: &str, endpoint: &Endpoint) -> Result<()> {
        let entry = Event::new(format!("webhook.{name}"), "webhook", endpoint.id()).after(&endpoint.place);
        self.deps.audit.append(unit, actor, entry).await
    }

    fn new_secret(&self, id: EndpointId, now: OffsetDateTime) -> Result<(Secret, String)> {
        let bytes = Zeroizing::new(self.deps.entropy.secret());
        let sealed = self.deps.sealer.seal(bytes.as_slice(), &purpose(id)).context("a secret cannot be sealed")?;
        Ok((Secret { sealed, made_at: now, ends_at: None }, rules::secret_text(bytes.as_slice())))
    }

    pub(super) fn open(&self, record: &EndpointRecord, secret: &Secret) -> Result<Zeroizing<Vec<u8>>> {
        self.deps.sealer.open(&secret.sealed, &purpose(record.id)).context("a webhook's secret cannot be opened")
    }
}

fn purpose(id: EndpointId) -> String {
    format!("webhook:{id}")
}

fn check_enabled(endpoint: &Endpoint) -> Result<()> {
    match endpoint.record.enabled {
        true => Ok(()),
        false => Err(Error::new(Kind::Conflict, "WEBHOOK_DISABLED", "the webhook is disabled; enable it first")),
    }
}
