//! `openmediatrust doctor`: asks every part whether it works, and says how to mend what does not.

use crate::{
    config::Config,
    fault::Fault,
    platform::{self, SystemClock, SystemEntropy},
    transport::weaknesses,
};
use omt_crypto::cose::MAX_TOKEN;
use omt_directory::LdapDirectory;
use omt_kernel::{
    Error,
    port::{BlobStore, Cache, Clock, Database, Directory, Entropy, Mailer, TimestampAuthority},
    retry::BUSY,
};
use omt_outbound::{HttpTimestampAuthority, MailSettings, SmtpMailer, TimestampSettings};
use omt_pki::{Certificate, profile};
use omt_sql::SqlDatabase;
use omt_timestamp::{Imprint, Token};
use std::process::ExitCode;

/// What a check found: words when it is well, or what is wrong and how to mend it.
type Finding = Result<String, (String, &'static str)>;

/// Runs every check; exit code 1 when any fails.
pub async fn run(config: &Config) -> Result<ExitCode, Fault> {
    let mut failed = 0;
    let mut show = |name: &str, finding: Finding| match finding {
        Ok(words) => println!("ok    {name:<12} {words}"),
        Err((words, mend)) => {
            failed += 1;
            println!("FAIL  {name:<12} {words}\n      {:<12} mend: {mend}", "");
        }
    };
    show("data dir", data_dir(config));
    let database = SqlDatabase::connect(&config.database_url()).await;
    match &database {
        Ok(database) => show("database", primary(database).await),
        Err(error) => show("database", Err(unwell(error.clone()))),
    }
    if !config.database.replica_url.is_empty() {
        let mend = "check database.replica_url and that the replica runs; lists are asked of the primary meanwhile";
        let found = match SqlDatabase::connect(&config.database.replica_url).await {
            Ok(replica) => schema(&replica).await,
            Err(error) => Err((error.to_string(), mend)),
        };
        show("read replica", found);
    }
    show("blob store", blobs(config).await);
    if !config.replication.url.is_empty() {
        show("replica", replica(config).await);
    }
    buckets(config, &mut show).await;
    for weakness in weaknesses(config) {
        show("transport", Err((format!("{}: {}", weakness.key, weakness.words), weakness.mend)));
    }
    if let Some(words) = config.hasty_sweep() {
        show("lifecycle", Err((words, "leave it at a day: objects without a record cost little until then")));
    }
    show("queue", queue(config).await);
    show("cache", cache(config).await);
    if !config.auth.ldap.directory.urls.is_empty() {
        show("directory", directory(config).await);
    }
    if let Some(settings) = config.timestamp_settings() {
        show("time-stamps", timestamps(config, &settings));
    }
    if let Some(settings) = config.mail_settings() {
        show("mail", mail(&settings).await);
    }
    show("key store", keys(config));
    if let Ok(database) = &database {
        show("certificates", certificates(database).await);
    }
    show("trust lists", trust(config));
    show("clock", clock(database.as_ref().ok()).await);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn data_dir(config: &Config) -> Finding {
    let dir = &config.data_dir;
    let mend = "create it, or give data_dir a directory this user can write";
    if !dir.is_dir() {
        return Err((format!("{} does not exist; `serve` would create it", dir.display()), mend));
    }
    // Two may look at once.
    let probe = dir.join(format!(".doctor-{}", std::process::id()));
    let written = std::fs::write(&probe, b"ok").and_then(|()| std::fs::remove_file(&probe));
    written.map(|()| dir.display().to_string()).map_err(|e| (format!("{}: {e}", dir.display()), mend))
}

/// The schema is this build's.
async fn schema(database: &SqlDatabase) -> Finding {
    database.check_schema().await.map(|()| database.describe().to_owned()).map_err(unwell)
}

/// The schema is this build's, and the database takes writes: one that went over to a replica, or whose disk is full, answers too.
async fn primary(database: &SqlDatabase) -> Finding {
    let words = schema(database).await?;
    database.try_writing().await.map_err(unwell)?;
    Ok(words)
}

fn unwell(error: Error) -> (String, &'static str) {
    let mend = match error.code {
        "SCHEMA_TOO_NEW" => "use the newer version that migrated it",
        "SCHEMA_TOO_OLD" => "run `openmediatrust migrate up` with this version",
        "DATABASE_READ_ONLY" => {
            "give database.url the primary, not a replica; look at default_transaction_read_only, or at who may write the SQLite file"
        }
        "STORAGE_FULL" => "make room where the database keeps its files",
        "DATABASE_UNTRUSTED" => {
            "give the server a certificate for the name in database.url, and sslrootcert=FILE in the URL where its CA is your own"
        }
        "DATABASE_REFUSED" => "grant the role what docs/production.md says",
        BUSY => "end what holds the database for so long; nothing was changed",
        _ => "check database.url and that the server runs and accepts this user",
    };
    (error.to_string(), mend)
}

async fn directory(config: &Config) -> Finding {
    let mend = "check [auth.ldap]: urls, starttls, ca_file, bind_dn and its password";
    let directory = LdapDirectory::new(config.auth.ldap.directory.clone()).map_err(|e| (e.to_string(), mend))?;
    directory.check().await.map(|()| directory.describe()).map_err(|e| (e.to_string(), mend))
}

async fn mail(settings: &MailSettings) -> Finding {
    let mend = "check [email] url, from and ca_file, and that the server takes this user";
    let mailer = SmtpMailer::new(settings).map_err(|error| (error.to_string(), mend))?;
    mailer.check().await.map(|()| mailer.describe()).map_err(|error| (error.to_string(), mend))
}

async fn blobs(config: &Config) -> Finding {
    let mend = "check blob.url, its permissions and free space";
    let store = platform::open_tiers(config).await.map_err(|e| (e.to_string(), mend))?;
    store.check().await.map(|()| store.describe()).map_err(|e| (e.to_string(), mend))
}

async fn replica(config: &Config) -> Finding {
    let mend = "check replication.url, its permissions and free space; copies wait until it is back";
    match platform::open_replica(config).await.map_err(|e| (e.to_string(), mend))? {
        None => Ok("none".to_owned()),
        Some(replica) => replica.check().await.map(|()| replica.describe()).map_err(|e| (e.to_string(), mend)),
    }
}

/// Each bucket: permissions, clock, public access, and its rules.
async fn buckets(config: &Config, show: &mut impl FnMut(&str, Finding)) {
    let Ok(buckets) = crate::storage::buckets(config).await else { return };
    for (name, bucket) in buckets {
        let tier = if name == "replica" { "replication target".to_owned() } else { format!("{name} tier") };
        for finding in bucket.examine(SystemClock.now()).await {
            let words = format!("{tier}, {}", finding.subject);
            let well = finding.note.map_or(words.clone(), |note| format!("{words}: {note}"));
            show("bucket", finding.fault.map_or(Ok(well), |(fault, mend)| Err((format!("{words}: {fault}"), mend))));
        }
        for remark in bucket.remarks() {
            show("bucket", Ok(format!("{tier}, {remark}")));
        }
        match bucket.missing_rules().await {
            Ok(missing) if missing.is_empty() => show("bucket", Ok(format!("{tier}, lifecycle rules"))),
            // Nothing else removes old versions.
            Ok(_) if bucket.needs_rules() => {
                let words = format!("{tier}, object lock without lifecycle rules: deleted content would be kept for ever");
                show("bucket", Err((words, "run `openmediatrust storage apply`")));
            }
            // Without them the sweep does the same, once a day.
            Ok(_) => show("bucket", Ok(format!("{tier}, without lifecycle rules; `openmediatrust storage apply` writes them"))),
            Err(error) => {
                show("bucket", Ok(format!("{tier}, no lifecycle rules here ({}); the sweep does their work", error.code)))
            }
        }
    }
}

async fn queue(config: &Config) -> Finding {
    let mend = "check queue.url and that its server runs and accepts this user";
    let asked = async {
        let queue = omt_queue::ApalisQueue::connect(&config.queue_url(), &config.queue.name).await?;
        queue.check().await.map(|()| omt_kernel::port::JobTransport::describe(&queue))
    };
    asked.await.map_err(|e| (e.to_string(), mend))
}

async fn cache(config: &Config) -> Finding {
    let mend = "check cache.url and that its server runs; memory: needs none";
    let cache = platform::open_cache(config).map_err(|e| (e.to_string(), mend))?;
    match cache {
        None => Ok("memory:".to_owned()),
        Some(cache) => cache.check().await.map(|()| cache.describe()).map_err(|e| (e.to_string(), mend)),
    }
}

fn keys(config: &Config) -> Finding {
    use omt_crypto::KeyStore;
    if !config.keystore_path().exists() {
        return Err((format!("{} does not exist", config.keystore_path().display()), "`serve` makes it at first start"));
    }
    platform::open_keys(config).map(|keys| keys.describe()).map_err(|e| {
        (e.to_string(), "give the right keystore.passphrase, or restore the key store and its passphrase file from backup")
    })
}

async fn certificates(database: &SqlDatabase) -> Finding {
    let mend = "start `serve` once: it makes and renews certificates by itself";
    let current = async { database.read().await?.certificates().current().await }.await;
    let current = current.map_err(|e| (e.to_string(), mend))?;
    if current.is_empty() {
        return Err(("there are none yet".to_owned(), mend));
    }
    let now = SystemClock.now();
    for record in &current {
        let certificate = Certificate::from_der(&record.der).map_err(|e| (format!("{}: {e}", record.role), mend))?;
        let kind = match record.role.split('/').nth(1) {
            Some("root") => profile::Profile::Root,
            Some("issuer") => profile::Profile::Issuer,
            _ => profile::Profile::Leaf,
        };
        if !omt_pki::service::is_fresh(certificate.validity().1, kind, now) {
            return Err((format!("{} ends {}", record.role, record.not_after), mend));
        }
    }
    Ok(format!("{} current", current.len()))
}

fn trust(config: &Config) -> Finding {
    platform::trust_lists(config, None)
        .map(|lists| {
            format!(
                "{} claim-signing, {} time-stamping, {} post-quantum anchors beside our own",
                lists.signers.len(),
                lists.timestamps.len(),
                lists.post_quantum.len()
            )
        })
        .map_err(|e| (e.to_string(), "correct [trust] in the configuration"))
}

/// The authority stamps, and is trusted.
fn timestamps(config: &Config, settings: &TimestampSettings) -> Finding {
    let mend = "check [timestamp] url and that the authority answers; nothing is signed without it";
    let authority = HttpTimestampAuthority::new(settings).map_err(|e| (e.to_string(), mend))?;
    let message = b"openmediatrust doctor";
    let imprint = Imprint::of(message, SystemEntropy.uuid_v4().into_bytes());
    let request = omt_timestamp::request(&imprint).map_err(|e| (e.to_string(), mend))?;
    let answer = authority.ask(request).map_err(|e| (e.to_string(), mend))?;
    let token = omt_timestamp::token_in(&answer).map_err(|e| (e.to_string(), mend))?;
    if token.len() > MAX_TOKEN {
        return Err((
            format!("its tokens have {} bytes, and there is room for {MAX_TOKEN}", token.len()),
            "take another authority",
        ));
    }
    let token = Token::parse(token).map_err(|e| (e.to_string(), mend))?;
    let lists = platform::trust_lists(config, None).map_err(|e| (e.to_string(), "correct [trust] in the configuration"))?;
    let provider = config.crypto.provider.provider();
    let stamp =
        omt_timestamp::verify(&token, message, &lists.timestamps, provider.as_ref()).map_err(|e| (e.to_string(), mend))?;
    if !imprint.is_answered_by(&token) {
        return Err(("the answer is not to what was asked".to_owned(), mend));
    }
    let off = stamp.time - SystemClock.now();
    if off.abs() > time::Duration::minutes(1) {
        return Err((
            format!("its clock is {off} from ours"),
            "set the system clock (NTP); beyond ten minutes nothing is signed",
        ));
    }
    let untrusted = "add its root to [trust] timestamp_anchors; signatures are stamped, but their time counts for nothing";
    stamp.path.map_err(|e| (format!("{} answers and is not trusted: {e}", stamp.authority), untrusted))?;
    Ok(format!("{} answers and is trusted", stamp.authority))
}

/// The newest certificate was made in the past, or the clock went back since.
async fn clock(database: Option<&SqlDatabase>) -> Finding {
    let now = SystemClock.now();
    let mend = "set the system clock (NTP)";
    if now.year() < 2026 {
        return Err((format!("the clock says {now}"), mend));
    }
    if let Some(database) = database {
        let current = async { database.read().await?.certificates().current().await }.await.unwrap_or_default();
        if let Some(ahead) = current.iter().map(|record| record.created_at).filter(|at| *at > now).max() {
            return Err((format!("the clock says {now}, but a certificate was made at {ahead}"), mend));
        }
    }
    Ok(now.to_string())
}
