//! Making deliveries: at least once, in the pauses that the standard names, until the endpoint takes it or nothing helps.

use super::{
    model::{Attempt, Delivery, Endpoint},
    rules::{self, Message},
    service::Webhooks,
};
use omt_audit::{Event, Outcome};
use omt_jobs::NewJob;
use omt_kernel::{
    Actor, DeliveryId, EndpointId, Error, Kind, OffsetDateTime, Result, TenantId,
    error::Context as _,
    port::{UnitOfWork, WebhookAnswer},
    webhook::DeliveryRecord,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};
use time::Duration;

/// The kind of jobs that deliver.
pub const DELIVERY: &str = "webhook";
/// An endpoint that has taken nothing for so long is told no more.
const PATIENCE: Duration = Duration::days(5);

/// What such a job needs to know.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct DeliveryOrder {
    /// The delivery.
    pub delivery: DeliveryId,
}

/// The job that makes a delivery.
pub(super) fn order(delivery: &DeliveryRecord, now: OffsetDateTime) -> Result<NewJob> {
    Ok(NewJob {
        tenant: Some(delivery.tenant.clone()),
        kind: DELIVERY,
        payload: serde_json::to_value(DeliveryOrder { delivery: delivery.id }).context("an order cannot be written")?,
        unique_key: Some(format!("{DELIVERY}:{}", delivery.id)),
        priority: 0,
        run_at: now,
        max_attempts: u32::try_from(rules::RETRIES.len()).unwrap_or(0) + 1,
    })
}

/// Deliveries to one endpoint that a process makes at once: one that answers slowly keeps only so many busy.
const AT_ONCE: usize = 2;
/// Seconds after which one that found no room is looked at again: soon where the endpoint is well, so that many are made quickly; later
/// where it is not, so that those that wait for it are not looked at all the time.
const NO_ROOM: (u32, u32) = (2, 60);

/// What came of a try.
#[derive(Debug)]
pub enum Tried {
    /// Nothing is left to do; how it went is in the log of deliveries.
    Over,
    /// Again, after the error's `retry_after` seconds.
    Again(Error),
    /// Nothing was tried: there are enough to this endpoint just now. Again after so many seconds.
    Later(u32),
}

/// Room for a delivery, until it is dropped.
struct Room<'a> {
    busy: &'a Mutex<BTreeMap<EndpointId, usize>>,
    endpoint: EndpointId,
}

impl<'a> Room<'a> {
    fn take(busy: &'a Mutex<BTreeMap<EndpointId, usize>>, endpoint: EndpointId) -> Option<Self> {
        let mut all = busy.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(endpoint).or_default();
        if *count >= AT_ONCE {
            return None;
        }
        *count += 1;
        Some(Self { busy, endpoint })
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut all = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.endpoint) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.endpoint);
            }
        }
    }
}

impl Webhooks {
    /// Tries a delivery: the `attempt`-th time in this round, of `most`.
    pub async fn deliver(&self, tenant: &TenantId, id: DeliveryId, attempt: u32, most: u32) -> Result<Tried> {
        let read = self.deps.database.read().await?;
        let Some(record) = read.webhooks().delivery(tenant, id).await? else { return Ok(Tried::Over) };
        if record.state != Delivery::PENDING {
            return Ok(Tried::Over);
        }
        let delivery = Delivery::of(record)?;
        let endpoint = read.webhooks().endpoint(tenant, delivery.record.endpoint).await?.map(Endpoint::of).transpose()?;
        let Some(endpoint) = endpoint else { return Ok(Tried::Over) };
        let began = self.deps.clock.now();
        let untried =
            |reason: &str| Attempt { at: began, status: None, error: Some(reason.to_owned()), excerpt: None, milliseconds: 0 };
        if !endpoint.record.enabled {
            return self.settle(&endpoint, delivery, untried("the webhook is disabled"), Verdict::Dropped).await;
        }
        // As the content is now: what was raised since is not told any more.
        if !self.within_reach(read.as_ref(), &endpoint, &delivery).await? {
            return self
                .settle(&endpoint, delivery, untried("the content is beyond the webhook's reach"), Verdict::Dropped)
                .await;
        }
        drop(read);
        let Some(_room) = Room::take(&self.busy, endpoint.id()) else {
            return Ok(Tried::Later(if endpoint.place.failing_since.is_some() { NO_ROOM.1 } else { NO_ROOM.0 }));
        };
        let answer = self.post(&endpoint, &delivery).await;
        let took = self.deps.clock.now() - began;
        let verdict = match &answer {
            // A fault of ours says nothing about the endpoint.
            Err(error) if error.kind == Kind::Internal && attempt < most => return Err(error.clone()),
            Err(error) if error.kind == Kind::Internal => Verdict::Dropped,
            answer => verdict(answer, attempt, most),
        };
        let (status, error, excerpt) = match answer {
            Ok(answer) => (Some(answer.status), None, Some(answer.excerpt).filter(|text| !text.is_empty())),
            Err(error) => (None, Some(error.message), None),
        };
        let milliseconds = u64::try_from(took.whole_milliseconds()).unwrap_or(0);
        self.settle(&endpoint, delivery, Attempt { at: began, status, error, excerpt, milliseconds }, verdict).await
    }

    /// Whether an endpoint may hear of what a delivery tells of, as it was and as it is.
    pub(super) async fn within_reach(&self, unit: &dyn UnitOfWork, endpoint: &Endpoint, delivery: &Delivery) -> Result<bool> {
        let Some(about) = &delivery.record.about else { return Ok(true) };
        let now = unit.manifests().get(&delivery.record.tenant, about.manifest).await?;
        let reach = &endpoint.place.reach;
        Ok(about.within(reach) && now.is_none_or(|record| reach.sees(&record)))
    }

    async fn post(&self, endpoint: &Endpoint, delivery: &Delivery) -> Result<WebhookAnswer> {
        let now = self.deps.clock.now();
        let in_force = endpoint.place.secrets.iter().filter(|secret| secret.ends_at.is_none_or(|end| end > now));
        let secrets = in_force.map(|secret| self.open(&endpoint.record, secret)).collect::<Result<Vec<_>>>()?;
        let source = format!("{}/tenants/{}", self.deps.public_url, delivery.record.tenant);
        let subject = delivery.record.about.as_ref().map(|about| about.manifest.to_string());
        let message = Message {
            id: delivery.record.message,
            event: &delivery.record.event,
            at: delivery.record.created_at,
            data: &delivery.parcel.data,
            subject: subject.as_deref(),
            source: &source,
        };
        let (body, media_type) = message.write(endpoint.place.format)?;
        let timestamp = now.unix_timestamp();
        let headers = [
            ("content-type", media_type.to_owned()),
            ("webhook-id", message.id.to_string()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", rules::signatures(&secrets, message.id, timestamp, &body)?),
        ];
        self.deps.sender.post(&endpoint.place.url, &headers, body).await
    }

    /// Writes down how a try went, and what that means for the endpoint that was tried.
    async fn settle(&self, tried: &Endpoint, delivery: Delivery, attempt: Attempt, verdict: Verdict) -> Result<Tried> {
        let write = async || {
            let unit = self.deps.database.begin().await?;
            let (tenant, endpoint) = (&delivery.record.tenant, delivery.record.endpoint);
            unit.lock(&format!("webhook:{endpoint}")).await?;
            // It may have been removed with its endpoint meanwhile, or settled by another that took it over.
            let found = unit.webhooks().delivery(tenant, delivery.record.id).await?;
            let Some(found) = found.filter(|found| found.state == Delivery::PENDING) else { return Ok(()) };
            let mut next = Delivery::of(found)?;
            next.note(attempt.clone());
            next.record.updated_at = attempt.at;
            next.parcel.next_at = None;
            match &verdict {
                Verdict::Taken => next.record.state = Delivery::DELIVERED.to_owned(),
                Verdict::Again(seconds, _) => next.parcel.next_at = Some(attempt.at + Duration::seconds(i64::from(*seconds))),
                Verdict::Failed | Verdict::Gone | Verdict::Dropped => next.record.state = Delivery::FAILED.to_owned(),
            }
            unit.webhooks().update_delivery(&next.to_record()?).await?;
            self.judge_endpoint(unit.as_ref(), tried, &verdict, attempt.at).await?;
            unit.commit().await
        };
        omt_kernel::retry::transaction(self.deps.entropy.as_ref(), write).await?;
        Ok(match verdict {
            Verdict::Again(seconds, error) => Tried::Again(error.retry_after(seconds)),
            _ => Tried::Over,
        })
    }

    /// An endpoint that says it is gone, or has taken nothing for days, is told no more.
    async fn judge_endpoint(
        &self,
        unit: &dyn UnitOfWork,
        tried: &Endpoint,
        verdict: &Verdict,
        now: OffsetDateTime,
    ) -> Result<()> {
        let found = unit.webhooks().endpoint(&tried.record.tenant, tried.id()).await?.map(Endpoint::of).transpose()?;
        // Another place, under the same name, has not been asked.
        let Some(mut endpoint) = found.filter(|found| found.place.url == tried.place.url) else { return Ok(()) };
        let before = endpoint.clone();
        let place = &mut endpoint.place;
        let closed_because = match verdict {
            Verdict::Taken => {
                place.failing_since = None;
                None
            }
            Verdict::Dropped => None,
            Verdict::Gone => Some("it answered 410 Gone"),
            Verdict::Again(..) | Verdict::Failed => {
                let since = *place.failing_since.get_or_insert(now);
                (now - since > PATIENCE).then_some("it has taken nothing for five days")
            }
        };
        let close = closed_because.filter(|_| endpoint.record.enabled);
        if let Some(reason) = close {
            endpoint.record.enabled = false;
            endpoint.place.closed_because = Some(reason.to_owned());
            endpoint.record.revision += 1;
            endpoint.record.updated_at = now;
        }
        if endpoint == before {
            return Ok(());
        }
        if !unit.webhooks().update_endpoint(&endpoint.to_record()?, before.record.revision).await? {
            return Err(Error::new(Kind::Conflict, "CONCURRENT_CHANGE", "the webhook was changed at the same time"));
        }
        if let Some(reason) = close {
            let entry = Event::new("webhook.disable", "webhook", endpoint.id()).outcome(Outcome::Failed, "WEBHOOK_FAILING");
            let actor = Actor::system(tried.record.tenant.clone());
            self.deps.audit.append(unit, &actor, entry.detail(json!({ "reason": reason }))).await?;
        }
        Ok(())
    }
}

/// What an answer means.
enum Verdict {
    Taken,
    Again(u32, Error),
    Failed,
    Gone,
    /// It was not tried, and will not be.
    Dropped,
}

fn verdict(answer: &Result<WebhookAnswer>, attempt: u32, most: u32) -> Verdict {
    let refused = |status: u16| Error::new(Kind::Unavailable, "WEBHOOK_REFUSED", format!("the endpoint answered {status}"));
    let (error, asked) = match answer {
        Ok(answer) if (200..300).contains(&answer.status) => return Verdict::Taken,
        Ok(answer) if answer.status == 410 => return Verdict::Gone,
        Ok(answer) => (refused(answer.status), answer.retry_after),
        Err(error) => (error.clone(), None),
    };
    match rules::pause(attempt).filter(|_| attempt < most) {
        // It may ask for more time, though not for ever.
        Some(pause) => Verdict::Again(pause.max(asked.unwrap_or(0).min(86_400)), error),
        None => Verdict::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<u32>) -> Result<WebhookAnswer> {
        Ok(WebhookAnswer { status, retry_after, excerpt: String::new() })
    }

    #[test]
    fn answers_mean_what_the_standard_says() {
        assert!(matches!(verdict(&answer(204, None), 1, 8), Verdict::Taken));
        assert!(matches!(verdict(&answer(410, None), 1, 8), Verdict::Gone));
        assert!(matches!(verdict(&answer(302, None), 1, 8), Verdict::Again(5, _)));
        assert!(matches!(verdict(&answer(500, None), 3, 8), Verdict::Again(1_800, _)));
        assert!(matches!(verdict(&answer(429, Some(600)), 1, 8), Verdict::Again(600, _)));
        assert!(matches!(verdict(&answer(429, Some(u32::MAX)), 1, 8), Verdict::Again(86_400, _)));
        assert!(matches!(verdict(&answer(503, None), 8, 8), Verdict::Failed));
        assert!(matches!(verdict(&Err(Error::new(Kind::Unavailable, "X", "x")), 8, 8), Verdict::Failed));
    }
}
