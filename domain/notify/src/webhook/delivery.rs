//! Making deliveries: at least once, in the pauses that the standard names, until the endpoint takes it or nothing helps.

use super::{
    model::{Attempt, Delivery, Endpoint},
    rules::{self, Message},
    service::Webhooks,
};
use omt_audit::{Event, Outcome};
use omt_jobs::NewJob;
use omt_kernel::{
    Actor, DeliveryId, Error, Kind, OffsetDateTime, Result, TenantId,
    error::Context as _,
    port::{UnitOfWork, WebhookAnswer},
    webhook::DeliveryRecord,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
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

/// What came of a try.
#[derive(Debug)]
pub enum Tried {
    /// Nothing is left to do.
    Over,
    /// Again, after the error's `retry_after` seconds.
    Again(Error),
    /// It was given up.
    GivenUp(Error),
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
        drop(read);
        let Some(endpoint) = endpoint else { return Ok(Tried::Over) };
        if !endpoint.record.enabled {
            let closed = Error::new(Kind::Conflict, "WEBHOOK_DISABLED", "the webhook is disabled");
            let attempt = Attempt {
                at: self.deps.clock.now(),
                status: None,
                error: Some(closed.message.clone()),
                excerpt: None,
                milliseconds: 0,
            };
            return self.settle(delivery, attempt, Verdict::Failed(closed)).await;
        }
        let began = self.deps.clock.now();
        let answer = self.post(&endpoint, &delivery).await;
        let took = self.deps.clock.now() - began;
        let verdict = verdict(&answer, attempt, most);
        let (status, error, excerpt) = match answer {
            Ok(answer) => (Some(answer.status), None, Some(answer.excerpt).filter(|text| !text.is_empty())),
            Err(error) => (None, Some(error.message), None),
        };
        let milliseconds = u64::try_from(took.whole_milliseconds()).unwrap_or(0);
        self.settle(delivery, Attempt { at: began, status, error, excerpt, milliseconds }, verdict).await
    }

    async fn post(&self, endpoint: &Endpoint, delivery: &Delivery) -> Result<WebhookAnswer> {
        let now = self.deps.clock.now();
        let in_force = endpoint.place.secrets.iter().filter(|secret| secret.ends_at.is_none_or(|end| end > now));
        let secrets = in_force.map(|secret| self.open(&endpoint.record, secret)).collect::<Result<Vec<_>>>()?;
        let source = format!("{}/tenants/{}", self.deps.public_url, delivery.record.tenant);
        let message = Message {
            id: delivery.record.message,
            event: &delivery.record.event,
            at: delivery.record.created_at,
            data: &delivery.parcel.data,
            subject: delivery.parcel.subject.as_deref(),
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

    /// Writes down how a try went, and what that means for the endpoint.
    async fn settle(&self, delivery: Delivery, attempt: Attempt, verdict: Verdict) -> Result<Tried> {
        let write = async || {
            let unit = self.deps.database.begin().await?;
            let (tenant, endpoint) = (&delivery.record.tenant, delivery.record.endpoint);
            unit.lock(&format!("webhook:{endpoint}")).await?;
            // It may have been removed with its endpoint meanwhile.
            let Some(found) = unit.webhooks().delivery(tenant, delivery.record.id).await? else { return Ok(()) };
            let mut next = Delivery::of(found)?;
            next.note(attempt.clone());
            next.record.updated_at = attempt.at;
            next.parcel.next_at = None;
            match &verdict {
                Verdict::Taken => next.record.state = Delivery::DELIVERED.to_owned(),
                Verdict::Again(seconds, _) => next.parcel.next_at = Some(attempt.at + Duration::seconds(i64::from(*seconds))),
                Verdict::Failed(_) | Verdict::Gone(_) => next.record.state = Delivery::FAILED.to_owned(),
            }
            unit.webhooks().update_delivery(&next.to_record()?).await?;
            self.judge_endpoint(unit.as_ref(), &next, &verdict, attempt.at).await?;
            unit.commit().await
        };
        omt_kernel::retry::transaction(self.deps.entropy.as_ref(), write).await?;
        Ok(match verdict {
            Verdict::Taken => Tried::Over,
            Verdict::Again(seconds, error) => Tried::Again(error.retry_after(seconds)),
            Verdict::Failed(error) | Verdict::Gone(error) => Tried::GivenUp(error),
        })
    }

    /// An endpoint that says it is gone, or has taken nothing for days, is told no more.
    async fn judge_endpoint(
        &self,
        unit: &dyn UnitOfWork,
        delivery: &Delivery,
        verdict: &Verdict,
        now: OffsetDateTime,
    ) -> Result<()> {
        let found = unit.webhooks().endpoint(&delivery.record.tenant, delivery.record.endpoint).await?;
        let Some(mut endpoint) = found.map(Endpoint::of).transpose()? else { return Ok(()) };
        let before = endpoint.clone();
        let place = &mut endpoint.place;
        let closed_because = match verdict {
            Verdict::Taken => {
                place.failing_since = None;
                None
            }
            Verdict::Again(..) => None,
            Verdict::Gone(_) => Some("it answered 410 Gone"),
            Verdict::Failed(_) => {
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
            let actor = Actor::system(delivery.record.tenant.clone());
            self.deps.audit.append(unit, &actor, entry.detail(json!({ "reason": reason }))).await?;
        }
        Ok(())
    }
}

/// What an answer means.
enum Verdict {
    Taken,
    Again(u32, Error),
    Failed(Error),
    Gone(Error),
}

fn verdict(answer: &Result<WebhookAnswer>, attempt: u32, most: u32) -> Verdict {
    let refused = |status: u16| Error::new(Kind::Unavailable, "WEBHOOK_REFUSED", format!("the endpoint answered {status}"));
    let (error, asked) = match answer {
        Ok(answer) if (200..300).contains(&answer.status) => return Verdict::Taken,
        Ok(answer) if answer.status == 410 => return Verdict::Gone(refused(410)),
        Ok(answer) => (refused(answer.status), answer.retry_after),
        Err(error) => (error.clone(), None),
    };
    match rules::pause(attempt).filter(|_| attempt < most) {
        // It may ask for more time, though not for ever.
        Some(pause) => Verdict::Again(pause.max(asked.unwrap_or(0).min(86_400)), error),
        None => Verdict::Failed(error),
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
        assert!(matches!(verdict(&answer(410, None), 1, 8), Verdict::Gone(_)));
        assert!(matches!(verdict(&answer(302, None), 1, 8), Verdict::Again(5, _)));
        assert!(matches!(verdict(&answer(500, None), 3, 8), Verdict::Again(1_800, _)));
        assert!(matches!(verdict(&answer(429, Some(600)), 1, 8), Verdict::Again(600, _)));
        assert!(matches!(verdict(&answer(429, Some(u32::MAX)), 1, 8), Verdict::Again(86_400, _)));
        assert!(matches!(verdict(&answer(503, None), 8, 8), Verdict::Failed(_)));
        assert!(matches!(verdict(&Err(Error::internal("x")), 8, 8), Verdict::Failed(_)));
    }
}
