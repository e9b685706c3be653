//! What leaves the platform by itself: webhooks over HTTPS, mail over SMTP.

mod address;
mod mail;
mod webhook;

pub use address::Networks;
pub use mail::{MailSettings, SmtpMailer};
pub use webhook::{HttpWebhookSender, WebhookSettings};
