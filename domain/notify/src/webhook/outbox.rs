//! From what the audit log hears to deliveries.

use super::{
    delivery::order,
    model::{Delivery, Endpoint},
    rules,
};
use async_trait::async_trait;
use omt_kernel::{
    DeliveryId, Result, TenantId,
    port::{Clock, Entropy, Listener, UnitOfWork},
    webhook::{EndpointRecord, Happening},
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

impl Outbox {
    /// Writes one delivery.
    pub(super) async fn put(
        &self,
        unit: &dyn UnitOfWork,
        endpoint: &EndpointRecord,
        message: Uuid,
        event: &str,
        what: (Value, Option<String>),
    ) -> Result<Delivery> {
        let now = self.clock.now();
        let id = DeliveryId(self.entropy.uuid_v7(now));
        let delivery = Delivery::new(id, endpoint, message, event, what, now);
        unit.webhooks().insert_delivery(&delivery.to_record()?).await?;
        omt_jobs::enqueue(unit, self.clock.as_ref(), self.entropy.as_ref(), order(&delivery.record, now)?).await?;
        Ok(delivery)
    }
}

#[async_trait]
impl Listener for Outbox {
    async fn heard(&self, unit: &dyn UnitOfWork, tenant: &TenantId, happening: &Happening) -> Result<()> {
        let Some(event) = rules::event_of(happening) else { return Ok(()) };
        let mut message = None;
        for record in unit.webhooks().endpoints(tenant).await? {
            let endpoint = Endpoint::of(record)?;
            let told = endpoint.record.enabled
                && rules::asked_for(&endpoint.place.events, event)
                && happening.about.within(&endpoint.place.reach);
            if told {
                let message = *message.get_or_insert_with(|| self.entropy.uuid_v7(happening.at));
                let what = (rules::data_of(happening), Some(happening.about.manifest.to_string()));
                self.put(unit, &endpoint.record, message, event, what).await?;
            }
        }
        Ok(())
    }
}
