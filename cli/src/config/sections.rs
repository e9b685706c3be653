//! What each section holds. What a key means stands in `config.default.toml`; sections with secrets say nothing of them.

use omt_access::OidcSettings;
use omt_audit::Level;
use omt_crypto::ProviderName;
use omt_directory::LdapSettings;
use omt_kernel::{TenantId, manifest::Classification};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
};

/// `[http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address and port.
    pub listen: SocketAddr,
    /// Threads.
    pub workers: usize,
    /// Seconds to drain.
    pub shutdown_seconds: u64,
    /// Seconds that an idle connection stays open.
    pub keep_alive_seconds: u64,
    /// How many connections are served at once.
    pub max_connections: usize,
}

/// `[database]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSection {
    /// The URL; its scheme picks the adapter.
    pub url: String,
    /// A read replica for lists.
    pub replica_url: String,
}

impl std::fmt::Debug for DatabaseSection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // URLs may hold passwords.
        f.write_str("DatabaseSection(…)")
    }
}

/// `[blob]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// The hot tier; its scheme picks the adapter.
    pub url: String,
    /// The warm tier.
    pub warm_url: String,
    /// The cold tier.
    pub cold_url: String,
    /// The content delivery network in front of the hot tier; none when empty.
    pub cdn_url: String,
    /// The secret that its edge shares; URLs are not signed when empty.
    pub cdn_secret: String,
    /// The highest classification that it may serve.
    pub cdn_max_classification: Classification,
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blob(…)")
    }
}

/// `[replication]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replication {
    /// The target; none when empty.
    pub url: String,
    /// Seconds between looks for blobs that it lacks.
    pub every_seconds: u32,
}

/// `[lifecycle]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifecycle {
    /// Seconds between looks for idle blobs.
    pub move_every_seconds: u32,
    /// Seconds between looks for ended retention.
    pub retention_every_seconds: u32,
    /// Seconds between sweeps.
    pub sweep_every_seconds: u32,
    /// Seconds that an object without a record is left alone.
    pub sweep_after_seconds: u32,
    /// Seconds between looks whether archived content is restored.
    pub restore_look_seconds: u32,
    /// Seconds between looks at what the stores lock.
    pub lock_every_seconds: u32,
}

/// `[workflow]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workflow {
    /// Seconds between looks for tasks that are due.
    pub timers_every_seconds: u32,
    /// Seconds between looks for evidence, licences and overrides that have begun or ended.
    pub compliance_every_seconds: u32,
}

/// `[timestamp]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timestamp {
    /// The authority; none when empty.
    pub url: String,
    /// How long it may take.
    pub timeout_seconds: u32,
    /// PEM file.
    pub ca_file: String,
}

/// `[webhooks]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    /// Networks that are reached although they are not public.
    pub allowed_networks: Vec<String>,
    /// Whether `http:` will do.
    pub allow_http: bool,
    /// PEM file.
    pub ca_file: String,
    /// Days that deliveries are kept.
    pub keep_days: u32,
}

/// `[email]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// The mail server; none when empty.
    pub url: String,
    /// Who writes.
    pub from: String,
    /// PEM file.
    pub ca_file: String,
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        write!(f, "Email({:?}, …)", self.from)
    }
}

/// `[queue]` and `[cache]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The URL; its scheme picks the adapter.
    pub url: String,
    /// Our name on that server.
    pub name: String,
}

/// `[jobs]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// Whether `serve` works on jobs.
    pub in_process: InProcess,
    /// Jobs at once.
    pub concurrency: usize,
    /// The time zone of cron expressions.
    pub time_zone: String,
    /// Cron expressions by the kinds whose periods they replace.
    pub schedules: BTreeMap<String, String>,
}

/// Whether the serving process works on jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InProcess {
    /// When the queue is embedded.
    Embedded,
    /// Yes.
    Always,
    /// No: `openmediatrust worker` does.
    Never,
}

/// `[metrics]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Without a credential.
    pub open: bool,
}

/// `[auth]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The fewest characters of a password.
    pub password_min_length: usize,
    /// Failed logins in a row that are free.
    pub lockout_attempts: u32,
    /// How long a name is closed after.
    pub lockout_seconds: u32,
    /// A session that is not used for so long ends.
    pub session_idle_seconds: u32,
    /// A session ends after so long, used or not.
    pub session_lifetime_seconds: u32,
    /// Roles whose holders must have a second factor.
    pub second_factor_roles: BTreeSet<String>,
    /// How long a second factor counts for dangerous actions.
    pub step_up_seconds: u32,
    /// Who needs one for them.
    pub step_up: StepUp,
    /// The directory.
    pub ldap: Ldap,
    /// Trusted issuers.
    pub oidc: Vec<OidcSettings>,
}

/// Who needs a second factor for dangerous actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepUp {
    /// Those who have one.
    WhenEnrolled,
    /// Everybody: whoever has none cannot do what is dangerous.
    Always,
}

/// `[auth.ldap]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ldap {
    /// The tenant of its users.
    pub tenant: TenantId,
    /// How often a user is looked up again.
    pub refresh_seconds: u32,
    /// How long what it said counts while it does not answer.
    pub grace_seconds: u32,
    /// How it is reached and read.
    #[serde(flatten)]
    pub directory: LdapSettings,
}

/// `[audit]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// How much is written.
    pub level: Level,
    /// The log's name.
    pub origin: String,
    /// Days that entries are kept; 0 for ever.
    pub retention_days: u32,
    /// Seconds between looks for entries that have expired.
    pub expire_every_seconds: u32,
}

/// `[keystore]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keystore {
    /// File.
    pub path: String,
    /// Passphrase.
    pub passphrase: String,
}

/// `[crypto]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crypto {
    /// Which provider.
    pub provider: ProviderName,
}

/// `[admin]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Password of the first user.
    pub password: String,
}

/// `[pki]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PkiSection {
    /// `O`.
    pub organization: String,
    /// `C`.
    pub country: String,
    /// Conforming Products List record.
    pub cpl_record: String,
}

/// `[trust]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// PEM files.
    pub anchors: Vec<PathBuf>,
    /// PEM files.
    pub timestamp_anchors: Vec<PathBuf>,
    /// PEM files.
    pub pq_anchors: Vec<PathBuf>,
    /// Use the built-in lists.
    pub c2pa_lists: bool,
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Largest upload.
    pub max_upload_bytes: u64,
    /// Memory for verification results.
    pub result_cache_bytes: u64,
    /// Requests of one caller in a minute; 0 for as many as they like.
    pub requests_per_minute: u32,
}

/// `[work]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Threads.
    pub threads: usize,
    /// Waiting jobs.
    pub queue: usize,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Filter.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl std::fmt::Debug for Keystore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keystore({:?})", self.path)
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admin(…)")
    }
}
