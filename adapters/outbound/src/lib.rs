//! What leaves the platform by itself: webhooks over HTTPS, mail over SMTP, requests for time-stamps.

mod address;
mod mail;
mod timestamp;
mod webhook;

pub use address::Networks;
pub use mail::{MailSettings, SmtpMailer};
pub use timestamp::{HttpTimestampAuthority, TimestampSettings};
pub use webhook::{HttpWebhookSender, WebhookSettings};
