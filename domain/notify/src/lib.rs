//! Telling of what happens: messages to people, in an inbox and by mail, and events to programs, by webhooks. All of it is written
//! in the transaction of the change that it tells of; what leaves the platform leaves it afterwards, from a job.

mod inbox;
mod mail;
pub mod webhook;

pub use inbox::{Notice, Notices};
pub use mail::{LETTER, Letter, MAILING, Mailing, Post};
pub use webhook::{DELIVERY, DeliveryOrder, Outbox, Webhooks};
