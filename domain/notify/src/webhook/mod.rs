//! Webhooks after Standard Webhooks (<https://www.standardwebhooks.com>): events are deliveries from the moment of the change on,
//! one for each endpoint that asked for them; a job posts each until it is taken or given up.

mod delivery;
mod model;
mod outbox;
mod rules;
mod service;

pub use delivery::{DELIVERY, DeliveryOrder, Tried};
pub use model::{Attempt, Delivery, Endpoint, Format, MAX_ENDPOINTS, Parcel, Place, Secret};
pub use outbox::Outbox;
pub use rules::{EVENTS, RETRIES};
pub use service::{Changes, Created, Dependencies, NewEndpoint, Rotated, Webhooks};
