//! The configuration: defaults from `config.default.toml`, then a file, then the environment.

mod sections;

pub use sections::*;

use crate::fault::Fault;
use figment::{
    Figment,
    providers::{Env, Format, Toml},
};
use omt_blob::S3Url;
use omt_claims::cdn::Cdn;
use omt_jobs::Cron;
use omt_kernel::{TenantSettings, manifest::Classification, storage::Tier};
use omt_outbound::{MailSettings, TimestampSettings, WebhookSettings};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Every key with its default and what it means.
pub const DEFAULTS: &str = include_str!("../../config.default.toml");

/// No request takes so long.
const SWEEP_AFTER_SECONDS: u32 = 3600;

/// The configuration, checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Data directory.
    pub data_dir: PathBuf,
    /// Public URL.
    pub public_url: String,
    /// HTTP server.
    pub http: Http,
    /// Database.
    pub database: DatabaseSection,
    /// Blob store.
    pub blob: Blob,
    /// Copies of blobs elsewhere.
    pub replication: Replication,
    /// Life cycle of stored blobs.
    pub lifecycle: Lifecycle,
    /// Workflows.
    pub workflow: Workflow,
    /// Webhooks.
    pub webhooks: Webhooks,
    /// Mail.
    pub email: Email,
    /// Queue.
    pub queue: Named,
    /// Cache.
    pub cache: Named,
    /// Background jobs.
    pub jobs: Jobs,
    /// Metrics.
    pub metrics: Metrics,
    /// Who may log in, and how.
    pub auth: Auth,
    /// The audit log.
    pub audit: Audit,
    /// Key store.
    pub keystore: Keystore,
    /// Crypto provider.
    pub crypto: Crypto,
    /// First user.
    pub admin: Admin,
    /// Names in certificates.
    pub pki: PkiSection,
    /// Who stamps signatures.
    pub timestamp: Timestamp,
    /// Trust anchors.
    pub trust: Trust,
    /// Limits.
    pub limits: Limits,
    /// Worker threads.
    pub work: Work,
    /// The default tenant.
    pub tenant_defaults: TenantSettings,
    /// Logging.
    pub log: Log,
}

impl Config {
    /// Reads defaults, the file and the environment.
    pub fn load(file: Option<&Path>) -> Result<Self, Fault> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(Fault::new(format!("there is no configuration file {}", file.display())));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        // Only keys of the form OMT_SECTION__KEY, and the two without a section, are ours. Secrets are read below as they
        // stand: the environment provider would take "0042" for a number.
        let env = Env::prefixed("OMT_")
            .filter(|key| key.as_str().contains("__") || key == "data_dir" || key == "public_url")
            .ignore(&["admin__password", "keystore__passphrase", "auth__ldap__bind_password", "blob__cdn_secret"])
            .split("__");
        let mut config: Self = figment.merge(env).extract().map_err(|e| Fault::new(format!("configuration: {e}")))?;
        for (variable, target) in [
            ("OMT_ADMIN__PASSWORD", &mut config.admin.password),
            ("OMT_KEYSTORE__PASSPHRASE", &mut config.keystore.passphrase),
            ("OMT_BLOB__CDN_SECRET", &mut config.blob.cdn_secret),
            ("OMT_AUTH__LDAP__BIND_PASSWORD", &mut config.auth.ldap.directory.bind_password),
        ] {
            if let Ok(value) = std::env::var(variable) {
                *target = value;
            }
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Fault> {
        let url = self.public_url();
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if host.is_none_or(str::is_empty) || url.ends_with('/') || !url.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Fault::new("public_url must be an http: or https: URL without a final slash"));
        }
        let lifecycle = &self.lifecycle;
        let periods = [
            lifecycle.move_every_seconds,
            lifecycle.retention_every_seconds,
            lifecycle.sweep_every_seconds,
            lifecycle.sweep_after_seconds,
            lifecycle.restore_look_seconds,
            lifecycle.lock_every_seconds,
        ];
        for (key, tier) in [("blob.url", Tier::Hot), ("blob.warm_url", Tier::Warm)] {
            // One that cannot be read says so where it is opened.
            if self.tier_url(tier).parse::<S3Url>().is_ok_and(|url| url.archives()) {
                return Err(Fault::new(format!(
                    "{key}: what is stored as GLACIER or DEEP_ARCHIVE must be restored before it can be read; only blob.cold_url may \
                     have such a storage_class"
                )));
            }
        }
        for (one, other) in [(Tier::Hot, Tier::Warm), (Tier::Hot, Tier::Cold), (Tier::Warm, Tier::Cold)] {
            // A URL that cannot be read says so where it is opened.
            if omt_blob::same_place(&self.tier_url(one), &self.tier_url(other)).unwrap_or(false) {
                return Err(Fault::new(format!(
                    "blob: the {one} and the {other} tier are the same place, and moving content would delete it; give one another \
                     bucket, prefix or directory"
                )));
            }
        }
        if periods.contains(&0) || self.workflow.timers_every_seconds == 0 || self.workflow.compliance_every_seconds == 0 {
            return Err(Fault::new("the periods of [lifecycle] and [workflow] must be at least 1 second"));
        }
        if self.audit.expire_every_seconds == 0 || !matches!(self.audit.retention_days, 0 | 30..=36_500) {
            let words = "[audit] retention_days must be 0 (for ever) or from 30 to 36500, and expire_every_seconds at least 1";
            return Err(Fault::new(words));
        }
        let auth = &self.auth;
        if auth.password_min_length < 8 || auth.lockout_attempts == 0 || auth.lockout_seconds == 0 {
            let words = "[auth] password_min_length must be at least 8, lockout_attempts and lockout_seconds at least 1";
            return Err(Fault::new(words));
        }
        if auth.session_idle_seconds == 0 || auth.session_lifetime_seconds == 0 {
            return Err(Fault::new("[auth] session_idle_seconds and session_lifetime_seconds must be at least 1"));
        }
        if !(3..=36_500).contains(&self.webhooks.keep_days) {
            // The last attempt is more than a day after the first.
            return Err(Fault::new("[webhooks] keep_days must be from 3 to 36500"));
        }
        if !(1..=60).contains(&self.timestamp.timeout_seconds) {
            return Err(Fault::new("[timestamp] timeout_seconds must be from 1 to 60"));
        }
        if self.limits.max_upload_bytes == 0 {
            return Err(Fault::new("limits.max_upload_bytes must be at least 1"));
        }
        self.schedules()?;
        self.cdn()?;
        self.check_replication()?;
        Ok(())
    }

    /// What is wrong with the time that the sweep leaves to requests, if it is short: what one has stored and not yet committed would
    /// go, and its caller would be told that it is kept.
    pub fn hasty_sweep(&self) -> Option<String> {
        let seconds = self.lifecycle.sweep_after_seconds;
        (seconds < SWEEP_AFTER_SECONDS).then(|| {
            format!(
                "lifecycle.sweep_after_seconds is {seconds}: content of a request that takes longer may be removed before it is \
                 recorded; give it at least {SWEEP_AFTER_SECONDS}"
            )
        })
    }

    /// The public URL, or the listen address as one.
    pub fn public_url(&self) -> String {
        if self.public_url.is_empty() { format!("http://{}", self.http.listen) } else { self.public_url.clone() }
    }

    /// The database URL.
    pub fn database_url(&self) -> String {
        if self.database.url.is_empty() {
            format!("sqlite:{}", self.data_dir.join("openmediatrust.db").display())
        } else {
            self.database.url.clone()
        }
    }

    /// The blob store URL.
    pub fn blob_url(&self) -> String {
        if self.blob.url.is_empty() { format!("file:{}", self.data_dir.join("blobs").display()) } else { self.blob.url.clone() }
    }

    /// The URL of a tier.
    pub fn tier_url(&self, tier: Tier) -> String {
        let given = match tier {
            Tier::Hot => "",
            Tier::Warm => &self.blob.warm_url,
            Tier::Cold => &self.blob.cold_url,
        };
        if given.is_empty() { omt_blob::tier_url(&self.blob_url(), tier) } else { given.to_owned() }
    }

    /// The queue's URL: a file beside the embedded database, or the same server as the database's.
    pub fn queue_url(&self) -> String {
        let database = self.database_url();
        match (self.queue.url.as_str(), database.starts_with("sqlite:")) {
            ("", true) => format!("sqlite:{}", self.data_dir.join("queue.db").display()),
            ("", false) => database,
            (given, _) => given.to_owned(),
        }
    }

    /// Where webhooks may go.
    pub fn webhook_settings(&self) -> WebhookSettings {
        WebhookSettings {
            allowed_networks: self.webhooks.allowed_networks.clone(),
            allow_http: self.webhooks.allow_http,
            ca_file: file(&self.webhooks.ca_file),
        }
    }

    /// The mail server, if there is one.
    pub fn mail_settings(&self) -> Option<MailSettings> {
        let Email { url, from, ca_file } = self.email.clone();
        (!url.is_empty()).then(|| MailSettings { url, from, ca_file: file(&ca_file) })
    }

    /// The time-stamp authority, if there is one.
    pub fn timestamp_settings(&self) -> Option<TimestampSettings> {
        let Timestamp { url, timeout_seconds, ca_file } = self.timestamp.clone();
        let timeout = std::time::Duration::from_secs(timeout_seconds.into());
        (!url.is_empty()).then(|| TimestampSettings { url, timeout, ca_file: file(&ca_file) })
    }

    fn check_replication(&self) -> Result<(), Fault> {
        let Replication { url, every_seconds } = &self.replication;
        if *every_seconds == 0 {
            return Err(Fault::new("replication.every_seconds must be at least 1"));
        }
        if url.is_empty() {
            return Ok(());
        }
        if !url.starts_with("file:") && !url.starts_with("s3:") {
            return Err(Fault::new("replication.url must begin with file: or s3:"));
        }
        for tier in Tier::ALL {
            if omt_blob::overlap(url, &self.tier_url(tier)).map_err(|error| Fault::new(format!("replication.url: {error}")))? {
                let words = format!("replication.url and the {tier} tier lie within each other; a copy must be elsewhere");
                return Err(Fault::new(words));
            }
        }
        Ok(())
    }

    /// The content delivery network, if there is one.
    pub fn cdn(&self) -> Result<Option<Cdn>, Fault> {
        let Blob { cdn_url, cdn_secret, cdn_max_classification, .. } = &self.blob;
        if cdn_url.is_empty() {
            if !cdn_secret.is_empty() || *cdn_max_classification != Classification::Public {
                return Err(Fault::new("blob.cdn_secret and blob.cdn_max_classification say nothing without blob.cdn_url"));
            }
            return Ok(None);
        }
        if !self.blob_url().starts_with("s3:") {
            return Err(Fault::new("blob.cdn_url needs blob.url to be an S3 bucket, which the network reads from"));
        }
        Cdn::new(cdn_url, cdn_secret, *cdn_max_classification).map(Some).map_err(Fault::new)
    }

    /// The cron expressions of `[jobs.schedules]`, by kind.
    pub fn schedules(&self) -> Result<BTreeMap<String, Cron>, Fault> {
        // A wrong zone is found where no expression needs it yet, too.
        Cron::parse("@daily", &self.jobs.time_zone).map_err(|error| Fault::new(format!("jobs.time_zone: {error}")))?;
        let read = |(kind, text): (&String, &String)| match Cron::parse(text, &self.jobs.time_zone) {
            Ok(cron) => Ok((kind.clone(), cron)),
            Err(error) => Err(Fault::new(format!("jobs.schedules.{kind}: {error}"))),
        };
        self.jobs.schedules.iter().map(read).collect()
    }

    /// Jobs at once.
    pub fn job_concurrency(&self) -> usize {
        if self.jobs.concurrency > 0 { self.jobs.concurrency } else { cores() * 2 }
    }

    /// The key store's file.
    pub fn keystore_path(&self) -> PathBuf {
        if self.keystore.path.is_empty() { self.data_dir.join("keystore.json") } else { PathBuf::from(&self.keystore.path) }
    }

    /// Threads for signing and verifying.
    pub fn work_threads(&self) -> usize {
        if self.work.threads > 0 { self.work.threads } else { cores() }
    }

    /// Threads for serving.
    pub fn http_workers(&self) -> usize {
        if self.http.workers > 0 { self.http.workers } else { cores() }
    }
}

fn file(path: &str) -> Option<PathBuf> {
    (!path.is_empty()).then(|| PathBuf::from(path))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete() {
        let config: Config = Figment::from(Toml::string(DEFAULTS)).extract().unwrap();
        config.check().unwrap();
        assert_eq!(config.tenant_defaults, TenantSettings::default());
        assert_eq!(config.public_url(), "http://127.0.0.1:8080");
        assert_eq!(config.limits.max_upload_bytes, 4 << 30);
    }

    #[test]
    fn archives_are_for_the_cold_tier() {
        let with = |toml: &str| {
            let config: Config = Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(toml)).extract().unwrap();
            config.check().map_err(|fault| fault.to_string())
        };
        for class in ["GLACIER", "DEEP_ARCHIVE"] {
            for key in ["url", "warm_url"] {
                let error = with(&format!("[blob]\n{key} = \"s3://media?storage_class={class}\"")).unwrap_err();
                assert!(error.contains(&format!("blob.{key}")) && error.contains("cold_url"), "{error}");
            }
            with(&format!("[blob]\ncold_url = \"s3://media?storage_class={class}&restored_days=9\"")).unwrap();
        }
        with("[blob]\nurl = \"s3://media?storage_class=STANDARD_IA\"").unwrap();
        assert!(with("[lifecycle]\nlock_every_seconds = 0").is_err());
        assert!(with("[lifecycle]\nsweep_after_seconds = 0").is_err());
    }

    #[test]
    fn tiers_are_different_places() {
        let with = |toml: &str| {
            let config: Config = Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(toml)).extract().unwrap();
            config.check().map_err(|fault| fault.to_string())
        };
        for blob in [
            "url = \"s3://media/omt\"\ncold_url = \"s3://media/omt/?storage_class=DEEP_ARCHIVE\"",
            "warm_url = \"s3://old\"\ncold_url = \"s3://old?storage_class=GLACIER\"",
            "url = \"file:/srv/media\"\nwarm_url = \"file:///srv/media\"",
        ] {
            let fault = with(&format!("[blob]\n{blob}")).unwrap_err();
            assert!(fault.contains("are the same place"), "{fault}");
        }
        with("[blob]\nurl = \"s3://media/omt\"\ncold_url = \"s3://media/old?storage_class=GLACIER\"").unwrap();
    }

    #[test]
    fn schedules_are_read_and_what_is_wrong_is_named() {
        let with = |text: &str| {
            let config: Config = Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(text)).extract().unwrap();
            config.check().map(|()| config.schedules().unwrap()).map_err(|fault| fault.to_string())
        };
        let good = with("[jobs]\ntime_zone = \"Europe/Berlin\"\n[jobs.schedules]\nsweep = \"30 3 * * SUN\"\n").unwrap();
        assert_eq!(good["sweep"].to_string(), "30 3 * * SUN Europe/Berlin");
        for (text, key) in [
            ("[jobs.schedules]\nsweep = \"often\"", "jobs.schedules.sweep"),
            ("[jobs.schedules]\nretention = \"0 0 30 2 *\"", "jobs.schedules.retention: \"0 0 30 2 *\" never fires"),
            ("[jobs]\ntime_zone = \"Berlin\"", "jobs.time_zone"),
        ] {
            let fault = with(text).unwrap_err();
            assert!(fault.contains(key), "{fault}");
        }
    }

    #[test]
    fn a_content_delivery_network_needs_a_bucket_and_a_secret_for_what_is_not_public() {
        let with = |blob: &str| {
            let config: Config =
                Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(&format!("[blob]\n{blob}"))).extract().unwrap();
            config.check().map(|()| config.cdn().unwrap()).map_err(|fault| fault.to_string())
        };
        let (url, s3) = ("cdn_url = \"https://cdn.example.org/\"\n", "url = \"s3://media/omt\"\n");
        let secret = format!("cdn_secret = \"{}\"\n", "s".repeat(32));
        let internal = "cdn_max_classification = \"internal\"\n";
        assert!(with(s3).unwrap().is_none());
        assert!(!with(&format!("{s3}{url}")).unwrap().unwrap().signs());
        assert!(with(&format!("{s3}{url}{secret}{internal}")).unwrap().unwrap().signs());
        for (blob, words) in [
            (url.to_owned(), "needs blob.url to be an S3 bucket"),
            (format!("{s3}{secret}"), "say nothing without blob.cdn_url"),
            (format!("{s3}{internal}"), "say nothing without blob.cdn_url"),
            (format!("{s3}{url}{internal}"), "needs blob.cdn_secret"),
            (format!("{s3}{url}cdn_secret = \"short\""), "at least 32 bytes"),
            (format!("{s3}cdn_url = \"http://cdn.example.org\""), "must begin with https://"),
        ] {
            let fault = with(&blob).err().unwrap_or_default();
            assert!(fault.contains(words), "{blob}: {fault}");
        }
    }

    #[test]
    fn a_replication_target_is_elsewhere() {
        let with = |url: &str| {
            let text = format!("[blob]\nurl = \"s3://media/omt\"\n[replication]\nurl = \"{url}\"\n");
            let config: Config = Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(&text)).extract().unwrap();
            config.check().map_err(|fault| fault.to_string()).err().unwrap_or_default()
        };
        for url in ["", "s3://media-copy/omt", "s3://media/copy", "file:/mnt/copy"] {
            assert_eq!(with(url), "", "{url}");
        }
        for url in ["s3://media/omt", "s3://media", "s3://media/omt/.warm/x"] {
            assert!(with(url).contains("lie within each other"), "{url}");
        }
        assert!(with("ftp://x").contains("replication.url must begin"));
        assert!(with("s3://x").contains("replication.url: "));
    }

    #[test]
    fn typing_errors_are_refused() {
        let read = |toml: &str| {
            let found = Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(toml)).extract::<Config>();
            found.map_err(|error| error.to_string())
        };
        for (section, bad) in [("http", "listn"), ("auth", "step_upp"), ("auth.ldap", "start_tls"), ("auth.ldap", "grace_second")]
        {
            let error = read(&format!("[{section}]\n{bad} = true")).unwrap_err();
            assert!(error.contains(bad), "{section}: {error}");
        }
        let known = read("[auth.ldap]\nstarttls = false\ngrace_seconds = 7").unwrap().auth.ldap;
        assert_eq!((known.directory.starttls, known.grace_seconds), (false, 7));
    }
}
