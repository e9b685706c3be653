//! From what the audit log hears to deliveries.

use super::{
    delivery::order,
    model::{Delivery, Endpoint},
    rules,
};
use async_trait::async_trait;
use omt_jobs::NewJob;
use omt_kernel::{
    DeliveryId, Result, TenantId,
    port::{Clock, Entropy, Listener, UnitOfWork},
    webhook::{About, EndpointRecord, Happening},
};
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

/// Writes deliveries, and the jobs that make them, in the transaction of the change that they tell of.
pub struct Outbox {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Identifiers.
    pub entropy: Arc<dyn Entropy>,
}

/// What an endpoint is told.
pub(super) struct News<'a> {
    /// The same for every endpoint that is told it.
    pub(super) message: Uuid,
    pub(super) event: &'a str,
    pub(super) data: Value,
    pub(super) about: Option<About>,
}

impl Outbox {
    /// Writes one delivery, and the job that makes it.
    pub(super) async fn put(&self, unit: &dyn UnitOfWork, endpoint: &EndpointRecord, news: News<'_>) -> Result<Delivery> {
        let (delivery, job) = self.write(unit, endpoint, news).await?;
        self.enqueue(unit, &[job]).await?;
        Ok(delivery)
    }

    async fn enqueue(&self, unit: &dyn UnitOfWork, jobs: &[NewJob]) -> Result<()> {
        omt_jobs::enqueue_all(unit, self.clock.as_ref(), self.entropy.as_ref(), jobs).await.map(drop)
    }

    /// Writes one delivery; it, and the job that is to make it.
    async fn write(&self, unit: &dyn UnitOfWork, endpoint: &EndpointRecord, news: News<'_>) -> Result<(Delivery, NewJob)> {
        let now = self.clock.now();
        let id = DeliveryId(self.entropy.uuid_v7(now));
        let delivery = Delivery::new(id, endpoint, news.message, news.event, (news.data, news.about), now);
        unit.webhooks().insert_delivery(&delivery.to_record()?).await?;
        let job = order(&delivery.record, now)?;
        Ok((delivery, job))
    }
}

#[async_trait]
impl Listener for Outbox {
    async fn heard(&self, unit: &dyn UnitOfWork, tenant: &TenantId, happening: &Happening) -> Result<()> {
        debug_assert!(rules::EVENTS.iter().any(|(event, _)| *event == happening.event), "{} is no listed event", happening.event);
        let (mut message, mut jobs) = (None, Vec::new());
        for record in unit.webhooks().endpoints(tenant).await?.into_iter().filter(|record| record.enabled) {
            let id = record.id;
            let endpoint = match Endpoint::of(record) {
                Ok(endpoint) => endpoint,
                // One that this build cannot read must not undo the change that others hear of.
                Err(error) => {
                    tracing::error!(%tenant, webhook = %id, %error, "a webhook is told nothing");
                    continue;
                }
            };
            let place = &endpoint.place;
            if rules::asked_for(&place.events, happening.event) && happening.about.within(&place.reach) {
                let message = *message.get_or_insert_with(|| self.entropy.uuid_v7(happening.at));
                let (data, about) = (rules::data_of(happening), Some(happening.about.clone()));
                let news = News { message, event: happening.event, data, about };
                jobs.push(self.write(unit, &endpoint.record, news).await?.1);
            }
        }
        self.enqueue(unit, &jobs).await
    }
}
