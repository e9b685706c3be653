//! Messages by mail, besides the inbox: to each person that a message is addressed to, who sees the content and wants mail. A mail
//! says that something waits, never what the content is called: mail is read by more than its addressee.

use omt_jobs::NewJob;
use omt_kernel::{
    NotificationId, OffsetDateTime, Permission, Result, TenantId,
    error::Context as _,
    governance::NotificationRecord,
    port::{Clock, Database, Entropy, Mail, Mailer, People, Person, UnitOfWork},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc};

/// The kind of jobs that find out who gets mail.
pub const MAILING: &str = "mailing";
/// The kind of jobs that send one mail.
pub const LETTER: &str = "letter";
/// The most people that one message is mailed to.
const MAX_RECIPIENTS: usize = 500;

/// Messages of one notice, that go to each person once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mailing {
    /// They.
    pub notifications: Vec<NotificationId>,
}

/// A mail to one person.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Letter {
    /// The message.
    pub notification: NotificationId,
    /// To whom.
    pub subject: String,
}

/// The job that mails a notice.
pub(crate) fn mailing(tenant: &TenantId, notifications: Vec<NotificationId>, now: OffsetDateTime) -> Result<NewJob> {
    let unique_key = notifications.first().map(|first| format!("{MAILING}:{first}"));
    let payload = serde_json::to_value(Mailing { notifications }).context("an order cannot be written")?;
    Ok(NewJob { tenant: Some(tenant.clone()), kind: MAILING, payload, unique_key, priority: 0, run_at: now, max_attempts: 8 })
}

/// Mail.
pub struct Post {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Identifiers.
    pub entropy: Arc<dyn Entropy>,
    /// People.
    pub people: Arc<dyn People>,
    /// Who sends.
    pub mailer: Arc<dyn Mailer>,
    /// Where the platform is found.
    pub public_url: String,
}

impl Post {
    /// Makes a job for each person who gets mail; how many. A mail that is sent twice has the same `Message-ID`.
    pub async fn address(&self, tenant: &TenantId, mailing: &Mailing) -> Result<u64> {
        // Who that is is found without a transaction: there may be many people to look at.
        let read = self.database.read().await?;
        if !mails(read.as_ref(), tenant).await? {
            return Ok(0);
        }
        let mut found: Vec<NotificationRecord> = Vec::new();
        for id in &mailing.notifications {
            found.extend(read.notifications().get(tenant, *id).await?);
        }
        let Some(first) = found.first() else { return Ok(0) };
        let Some(content) = read.manifests().get(tenant, first.manifest).await? else { return Ok(0) };
        let audience: BTreeSet<String> = found.iter().map(|message| message.audience.clone()).collect();
        let wanted = move |person: &Person| gets_mail(person) && person.reach.sees(&content);
        let people = self.people.among(read.as_ref(), tenant, &audience, MAX_RECIPIENTS, &wanted).await?;
        drop(read);
        let unit = self.database.begin().await?;
        let mut made = 0;
        for person in &people {
            let letter = Letter { notification: first.id, subject: person.subject.clone() };
            let job = NewJob {
                tenant: Some(tenant.clone()),
                kind: LETTER,
                payload: serde_json::to_value(&letter).context("an order cannot be written")?,
                unique_key: Some(format!("{LETTER}:{}:{}", first.id, person.subject)),
                priority: 0,
                run_at: self.clock.now(),
                // For a day: the pauses end at a quarter of an hour.
                max_attempts: 100,
            };
            omt_jobs::enqueue(unit.as_ref(), self.clock.as_ref(), self.entropy.as_ref(), job).await?;
            made += 1;
        }
        unit.commit().await?;
        Ok(made)
    }

    /// Sends one mail, to the address that the person has now; nothing when they get none any more.
    /// [`Unprocessable`](omt_kernel::Kind::Unprocessable) when the mail server refuses it for good.
    pub async fn send(&self, tenant: &TenantId, letter: &Letter) -> Result<()> {
        let read = self.database.read().await?;
        if !mails(read.as_ref(), tenant).await? {
            return Ok(());
        }
        let Some(message) = read.notifications().get(tenant, letter.notification).await? else { return Ok(()) };
        let Some(content) = read.manifests().get(tenant, message.manifest).await? else { return Ok(()) };
        let person = self.recipient(read.as_ref(), tenant, &letter.subject).await?;
        drop(read);
        let Some(person) = person.filter(|person| person.reach.sees(&content)) else { return Ok(()) };
        let Some(to) = person.email else { return Ok(()) };
        let (subject, text) = words(&message, &self.public_url);
        let id = format!("{}.{}", message.id, letter.subject.trim_start_matches("user:"));
        self.mailer.send(&Mail { id, to, subject, text }).await
    }

    async fn recipient(&self, unit: &dyn UnitOfWork, tenant: &TenantId, subject: &str) -> Result<Option<Person>> {
        Ok(self.people.find(unit, tenant, subject).await?.filter(gets_mail))
    }
}

/// The subject of a mail and its text.
fn words(message: &NotificationRecord, public_url: &str) -> (String, String) {
    let named = |name: &str| message.data.get(name).and_then(|value| value.as_str()).unwrap_or("?");
    // The title of a task comes of the workflow's definition; that of the content stays where it is.
    let (subject, line) = match message.kind.as_str() {
        "workflow.task.opened" => ("A task waits for you", format!("A task waits for you: {}.", named("title"))),
        "workflow.task.reminder" => ("A task is due soon", format!("A task is due soon: {}.", named("title"))),
        "workflow.task.overdue" => ("A task is overdue", format!("A task is overdue: {}.", named("title"))),
        "workflow.task.escalated" => {
            ("A task was escalated to you", format!("Nobody has decided in time, so you may: {}.", named("title")))
        }
        "workflow.moved" => {
            let line = format!("A workflow of yours went from {} to {}.", named("from"), named("to"));
            ("A workflow of yours moved on", line)
        }
        "workflow.voided" => {
            let line = "The content changed, so that what was decided about it counts no more";
            let line = format!("{line}: its workflow went from {} to {}.", named("from"), named("to"));
            ("What was decided counts no more", line)
        }
        "workflow.cancelled" => {
            let line = format!("A workflow was cancelled in the state {}; nothing waits for you there.", named("from"));
            ("A workflow was cancelled", line)
        }
        "compliance.failed" => {
            let line = format!("Content no longer passes the compliance policy {}.", named("policy"));
            ("Content fails compliance", line)
        }
        "compliance.override.asked" => {
            let line = format!("Somebody asks for an override of the rule {}; a second person must agree.", named("rule"));
            ("An override waits for a second person", line)
        }
        _ => ("A message waits for you", "A message waits for you in your inbox.".to_owned()),
    };
    let mut text = format!("{line}\n\nManifest: {}\n", message.manifest);
    for (label, name) in [("Workflow", "workflow_id"), ("Task", "task_id")] {
        if message.data.get(name).is_some() {
            text += &format!("{label}: {}\n", named(name));
        }
    }
    text +=
        &format!("Where: {public_url}\n\nYou get this because of your role. Turn it off: PUT /api/v1/notifications/settings.\n");
    (format!("OpenMediaTrust: {subject}"), text)
}

/// Whether a tenant wants mail at all.
async fn mails(unit: &dyn UnitOfWork, tenant: &TenantId) -> Result<bool> {
    Ok(unit.tenants().settings(tenant).await?.is_some_and(|settings| settings.email_notifications))
}

fn gets_mail(person: &Person) -> bool {
    person.mail && person.email.is_some() && person.permissions.contains(&Permission::ManifestRead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_kernel::ManifestId;
    use serde_json::json;
    use uuid::Uuid;

    #[test]
    fn what_is_over_is_said_in_words_of_its_own() {
        let mail = |kind: &str| {
            let message = NotificationRecord {
                id: NotificationId(Uuid::nil()),
                tenant: TenantId::default_tenant(),
                audience: "user:1".into(),
                kind: kind.into(),
                data: json!({ "workflow_id": "w", "from": "approved", "to": "draft", "content": "Poster" }),
                manifest: ManifestId(Uuid::nil()),
                created_at: OffsetDateTime::UNIX_EPOCH,
            };
            words(&message, "https://media.example")
        };
        let (subject, text) = mail("workflow.voided");
        assert_eq!(subject, "OpenMediaTrust: What was decided counts no more");
        assert!(text.contains("went from approved to draft") && text.contains("https://media.example"), "{text}");
        let (subject, text) = mail("workflow.cancelled");
        assert_eq!(subject, "OpenMediaTrust: A workflow was cancelled");
        assert!(text.contains("in the state approved") && text.contains("Workflow: w"), "{text}");
        for kind in ["workflow.voided", "workflow.cancelled", "anything.else"] {
            assert!(!mail(kind).1.contains("Poster"), "never what the content is called");
        }
    }
}
