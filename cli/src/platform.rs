//! The composition root: picks adapters by the configuration and puts the rooms together.

use crate::{
    config::{Config, StepUp},
    fault::Fault,
    transport::weaknesses,
};
use omt_access::{Access, Registry, rules::Lockout};
use omt_audit::{AuditTrail, LogKeys};
use omt_authz::CasbinAuthorizer;
use omt_badge::Badges;
use omt_blob::TieredBlobStore;
use omt_cache::RedisCache;
use omt_claims::{
    Engine, TrustLists,
    cdn::Cdn,
    service::{Dependencies, Manifests, SharedResults},
};
use omt_compliance::{Compliance, Subjects};
use omt_crypto::{KeyStore, seal::Sealer};
use omt_directory::{HttpIssuerClient, LdapDirectory};
use omt_jobs::Jobs;
use omt_kernel::{
    Actor, Kind, OffsetDateTime, TenantId,
    pool::WorkPool,
    port::{
        Authorizer, BlobStock, BlobStore, Broadcast, Clock, Database, Directory, Entropy, Local, People, SharedPace, Telemetry,
        TieredStore, TileStore,
    },
    storage::Tier,
};
use omt_keys::KeystoreFile;
use omt_notify::{Notices, Outbox, Post, Webhooks};
use omt_outbound::{HttpTimestampAuthority, HttpWebhookSender, SmtpMailer};
use omt_pki::{AnchorSource, Hierarchy, Pki, PkiSettings};
use omt_policy::Policies;
use omt_sql::{SqlDatabase, SqlPace};
use omt_workflow::{Definitions, Gate, Guards, Workflows};
use std::sync::Arc;
use uuid::Uuid;

const C2PA_SIGNERS: &[u8] = include_bytes!("../../policies/trust-lists/C2PA-TRUST-LIST.pem");
const C2PA_TSAS: &[u8] = include_bytes!("../../policies/trust-lists/C2PA-TSA-TRUST-LIST.pem");

/// The system's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        // As exact as databases keep it: an answer says the same before and after.
        let now = OffsetDateTime::now_utc();
        now - time::Duration::nanoseconds(i64::from(now.nanosecond() % 1000))
    }
}

/// The operating system's randomness.
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn uuid_v7(&self, at: OffsetDateTime) -> Uuid {
        let seconds = u64::try_from(at.unix_timestamp()).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix(uuid::ContextV7::new(), seconds, at.nanosecond()))
    }
    fn uuid_v4(&self) -> Uuid {
        Uuid::new_v4()
    }
    fn secret(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        // Two version 4 UUIDs carry 244 random bits; their fixed bits are spread away by hashing.
        bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        <sha2::Sha256 as sha2::Digest>::digest(bytes).into()
    }
}

/// The rooms, open.
pub struct Platform {
    /// The database.
    pub database: Arc<SqlDatabase>,
    /// Blobs.
    pub blobs: Arc<dyn BlobStore>,
    /// The same, by tier.
    pub tiers: Arc<dyn TieredStore>,
    /// Where copies of blobs go, where they do.
    pub replica: Option<Arc<dyn BlobStock>>,
    /// Where the audit log's tiles are.
    pub tiles: Arc<dyn TileStore>,
    /// Keys.
    pub keys: Arc<dyn KeyStore>,
    /// Certificates.
    pub pki: Arc<Pki>,
    /// Uploading, signing, verifying.
    pub manifests: Arc<Manifests>,
    /// The content delivery network, where there is one.
    pub cdn: Option<Arc<Cdn>>,
    /// What replicas share, where they do.
    pub cache: Option<Arc<RedisCache>>,
    /// How processes hear of what they must forget.
    pub broadcast: Arc<dyn Broadcast>,
    /// The audit log.
    pub audit: Arc<AuditTrail>,
    /// Background jobs.
    pub jobs: Arc<Jobs>,
    /// Approval.
    pub workflows: Arc<Workflows>,
    /// Compliance.
    pub compliance: Arc<Compliance>,
    /// Organisational policy.
    pub policies: Arc<Policies>,
    /// Messages to people.
    pub notices: Arc<Notices>,
    /// Mail, where there is a mail server.
    pub post: Option<Arc<Post>>,
    /// Webhooks.
    pub webhooks: Arc<Webhooks>,
    /// Badges.
    pub badges: Arc<Badges>,
    /// What roles may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// What is counted.
    pub telemetry: Arc<dyn Telemetry>,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// Opens the key store of the configuration.
pub fn open_keys(config: &Config) -> Result<Arc<KeystoreFile>, Fault> {
    let passphrase = if config.keystore.passphrase.is_empty() {
        omt_keys::passphrase_file(&config.data_dir.join("keystore.passphrase"))?.to_string()
    } else {
        config.keystore.passphrase.clone()
    };
    Ok(Arc::new(KeystoreFile::open(&config.keystore_path(), &passphrase, config.crypto.provider.provider())?))
}

/// Opens the blob store of the configuration, with its tiers.
pub async fn open_tiers(config: &Config) -> Result<TieredBlobStore, Fault> {
    let spool = config.data_dir.join("spool");
    let [hot, warm, cold] = Tier::ALL.map(|tier| config.tier_url(tier));
    let (hot, warm, cold) =
        (omt_blob::open(&hot, &spool).await?, omt_blob::open(&warm, &spool).await?, omt_blob::open(&cold, &spool).await?);
    Ok(TieredBlobStore::new(hot, warm, cold))
}

/// Opens the replication target of the configuration, if there is one.
pub async fn open_replica(config: &Config) -> Result<Option<Arc<dyn BlobStock>>, Fault> {
    match config.replication.url.as_str() {
        "" => Ok(None),
        url => {
            let opened = omt_blob::open(url, &config.data_dir.join("spool")).await;
            opened.map(Some).map_err(|error| Fault::new(format!("replication.url: {error}")))
        }
    }
}

/// The cache of the configuration; none when each process keeps its own. It need not answer now.
pub fn open_cache(config: &Config) -> Result<Option<Arc<RedisCache>>, Fault> {
    match config.cache.url.split(':').next() {
        Some("memory") => Ok(None),
        Some("redis" | "rediss") => Ok(Some(Arc::new(RedisCache::open(&config.cache.url, &config.cache.name)?))),
        _ => Err(Fault::new("cache.url must begin with memory: or redis:")),
    }
}

/// The trust anchors of the configuration; our own roots come on top.
pub fn trust_lists(config: &Config, pki: Option<&Pki>) -> Result<TrustLists, Fault> {
    let mut lists = TrustLists::default();
    if let Some(pki) = pki {
        pki.add_roots(Hierarchy::Classical, &mut lists.signers)?;
        pki.add_roots(Hierarchy::PostQuantum, &mut lists.post_quantum)?;
    }
    let files = [
        (&config.trust.anchors, &mut lists.signers),
        (&config.trust.timestamp_anchors, &mut lists.timestamps),
        (&config.trust.pq_anchors, &mut lists.post_quantum),
    ];
    for (paths, list) in files {
        for path in paths {
            let pem = std::fs::read(path).map_err(|e| Fault::new(format!("trust anchors {}: {e}", path.display())))?;
            let before = list.len();
            list.add_pem(&pem, AnchorSource::Tenant).map_err(|e| Fault::new(format!("trust anchors {}: {e}", path.display())))?;
            if list.len() == before {
                return Err(Fault::new(format!("trust anchors {}: no new certificate in it", path.display())));
            }
        }
    }
    if config.trust.c2pa_lists {
        lists.signers.add_pem(C2PA_SIGNERS, AnchorSource::C2pa)?;
        lists.timestamps.add_pem(C2PA_TSAS, AnchorSource::C2paTsa)?;
    }
    Ok(lists)
}

impl Platform {
    /// Refuses settings of the default tenant that name compliance policies which it does not have, as the API does of other tenants:
    /// nothing could ever be approved by them.
    pub async fn check_defaults(&self, config: &Config) -> Result<(), Fault> {
        let there = Actor::system(TenantId::default_tenant());
        for (classification, names) in &config.tenant_defaults.compliance {
            self.compliance.check_names(&there, names).await.map_err(|error| match error.kind {
                Kind::Unprocessable => {
                    let reason = error.fields.first().map_or(error.message.as_str(), |field| field.reason.as_str());
                    Fault::new(format!("[tenant_defaults.compliance] {classification}: {reason}"))
                }
                _ => error.into(),
            })?;
        }
        Ok(())
    }

    /// Opens everything, making what is missing on an empty data directory.
    pub async fn open(config: &Config) -> Result<Self, Fault> {
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|e| Fault::new(format!("cannot create the data directory {}: {e}", config.data_dir.display())))?;
        for weakness in weaknesses(config) {
            tracing::warn!(key = weakness.key, "{}; {}", weakness.words, weakness.mend);
        }
        if let Some(words) = config.hasty_sweep() {
            tracing::warn!("{words}");
        }
        let database = SqlDatabase::connect(&config.database_url()).await?;
        let database = Arc::new(match config.database.replica_url.as_str() {
            "" => database,
            replica => database.with_replica(replica)?,
        });
        let schema = database.schema_status().await?;
        if schema.unknown > 0 {
            return Err(Fault::new("the database was migrated by a newer version; this one would not understand it"));
        }
        // A role that may not change the schema can serve what its owner has migrated.
        if schema.pending > 0 {
            database.migrate().await?;
        }
        if let Err(error) = database.keep_audit_for(config.audit.retention_days).await {
            // A role of its own for the application may not change it: `migrate up` does, as the owner.
            tracing::warn!(%error, "audit.retention_days is not what the database holds to; run `openmediatrust migrate up`");
        }
        let telemetry: Arc<dyn Telemetry> = Arc::new(omt_metrics::Prometheus::new()?);
        let (tiers, replica) = (open_tiers(config).await?, open_replica(config).await?);
        let tiers = Arc::new(match &replica {
            Some(replica) => tiers.with_replica(replica.clone(), telemetry.clone()),
            None => tiers,
        });
        let blobs: Arc<dyn BlobStore> = tiers.clone();
        let keys: Arc<dyn KeyStore> = {
            let config = config.clone();
            tokio::task::spawn_blocking(move || open_keys(&config)).await??
        };
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        let settings = PkiSettings {
            organization: config.pki.organization.clone(),
            country: config.pki.country.clone(),
            // Relying parties fetch status over plain HTTP: what they get is signed itself (RFC 5280 §8).
            public_url: config.public_url().replacen("https://", "http://", 1),
            cpl_record: Some(config.pki.cpl_record.clone()).filter(|r| !r.is_empty()),
        };
        let port: Arc<dyn Database> = database.clone();
        let tiles: Arc<dyn TileStore> = tiers.clone();
        let audit = AuditTrail::new(
            database.clone(),
            tiles.clone(),
            clock.clone(),
            entropy.clone(),
            LogKeys::open(keys.clone(), &config.audit.origin)?,
            config.audit.level,
        );
        let audit = Arc::new(audit.heard_by(Arc::new(Outbox { clock: clock.clone(), entropy: entropy.clone() })));
        audit.note_retention().await?;
        let pki = Pki::open(keys.clone(), port.clone(), clock.clone(), entropy.clone(), audit.clone(), settings).await?;
        let pki = Arc::new(pki);
        let trust = Arc::new(trust_lists(config, Some(&pki))?);
        let pool = Arc::new(WorkPool::start(config.work_threads(), config.work.queue)?);
        let engine = Engine::new(config.crypto.provider.provider(), keys.clone(), blobs.spool_dir().to_owned())?;
        let engine = match config.timestamp_settings() {
            Some(settings) => engine.stamped_by(Arc::new(HttpTimestampAuthority::new(&settings)?)),
            None => engine,
        };
        let cache = open_cache(config)?;
        let broadcast: Arc<dyn Broadcast> = match &cache {
            Some(cache) => cache.broadcast(),
            None => Arc::new(Local::default()),
        };
        broadcast.join(audit.remembered());
        let shared = match &cache {
            Some(cache) => {
                let unit = database.begin().await?;
                let secret = unit.certificates().shared_secret("cache", entropy.secret(), clock.now()).await?;
                unit.commit().await?;
                Some(SharedResults::new(cache.clone(), secret)?)
            }
            None => None,
        };
        let jobs = Arc::new(Jobs::new(database.clone(), clock.clone(), entropy.clone(), audit.clone()));
        let authorizer: Arc<dyn Authorizer> = Arc::new(CasbinAuthorizer::new()?);
        let people: Arc<dyn People> = Arc::new(Registry::new(authorizer.clone()));
        let post = match config.mail_settings() {
            Some(settings) => Some(Arc::new(Post {
                database: database.clone(),
                clock: clock.clone(),
                entropy: entropy.clone(),
                people: people.clone(),
                mailer: Arc::new(SmtpMailer::new(&settings)?),
                public_url: config.public_url(),
            })),
            None => None,
        };
        let notices = Arc::new(Notices::new(database.clone(), clock.clone(), entropy.clone(), people.clone(), post.is_some()));
        let sealer = Sealer::derived(keys.as_ref(), "webhooks/seal", "openmediatrust/webhooks/seal/1")
            .map_err(|e| Fault::new(format!("the key that protects webhooks' secrets: {e}")))?;
        let webhooks = Arc::new(Webhooks::new(omt_notify::webhook::Dependencies {
            database: database.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            audit: audit.clone(),
            sender: Arc::new(HttpWebhookSender::new(&config.webhook_settings())?),
            sealer,
            public_url: config.public_url(),
        }));
        let subjects = {
            let unit = database.begin().await?;
            let secret = unit.certificates().shared_secret("subjects", entropy.secret(), clock.now()).await?;
            unit.commit().await?;
            Subjects(secret)
        };
        let compliance = Arc::new(Compliance::new(omt_compliance::Dependencies {
            database: database.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            audit: audit.clone(),
            jobs: jobs.clone(),
            people: people.clone(),
            notices: notices.clone(),
            subjects,
        }));
        let policies = Arc::new(Policies::new(omt_policy::Dependencies {
            database: database.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            audit: audit.clone(),
            jobs: jobs.clone(),
            telemetry: telemetry.clone(),
        })?);
        let definitions = Arc::new(Definitions::new(&authorizer.built_in())?);
        let guards = Guards { compliance: compliance.clone(), policy: policies.clone() };
        let gate = Gate {
            database: database.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            audit: audit.clone(),
            definitions: definitions.clone(),
            guards: guards.clone(),
            notices: notices.clone(),
        };
        let cdn = config.cdn()?.map(Arc::new);
        if cdn.as_ref().is_some_and(|cdn| !cdn.signs()) {
            tracing::warn!(
                "URLs of the CDN are not signed: whoever knows the SHA-256 of content in the bucket can fetch it there; the network must \
                 refuse paths below blob.cdn_url that begin with a dot, which are not content"
            );
        }
        let manifests = Arc::new(Manifests::new(
            config.limits.result_cache_bytes,
            Dependencies {
                database: port,
                blobs: blobs.clone(),
                engine: Arc::new(engine),
                pki: pki.clone(),
                pool,
                clock: clock.clone(),
                entropy: entropy.clone(),
                trust,
                telemetry: telemetry.clone(),
                shared,
                audit: audit.clone(),
                governance: Arc::new(gate),
                cdn: cdn.clone(),
            },
        ));
        broadcast.join(manifests.remembered());
        let badges = Arc::new(Badges::new(omt_badge::Dependencies {
            database: database.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            audit: audit.clone(),
        }));
        let workflows = Arc::new(Workflows::new(omt_workflow::Dependencies {
            database: database.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            audit: audit.clone(),
            jobs: jobs.clone(),
            people,
            manifests: manifests.clone(),
            definitions,
            guards,
            notices: notices.clone(),
            badges: badges.clone(),
        }));
        Ok(Self {
            database,
            blobs,
            tiers,
            replica,
            tiles,
            keys,
            pki,
            manifests,
            cdn,
            cache,
            broadcast,
            audit,
            jobs,
            workflows,
            compliance,
            policies,
            notices,
            post,
            webhooks,
            badges,
            authorizer,
            telemetry,
            clock,
            entropy,
        })
    }

    /// Where processes add up what callers take: the cache they share, and the database while it is away or where there is none. A
    /// SQLite file without such a cache has one process.
    pub fn paces(&self, config: &Config) -> Vec<Arc<dyn SharedPace>> {
        let mut out: Vec<Arc<dyn SharedPace>> = Vec::new();
        out.extend(self.cache.clone().map(|cache| cache as Arc<dyn SharedPace>));
        if self.cache.is_some() || !config.database_url().starts_with("sqlite:") {
            out.push(Arc::new(SqlPace::new(self.database.clone(), self.clock.clone())));
        }
        out
    }

    /// Opens the access room; the second part is the first user's password when it had to be made up.
    pub async fn access(&self, config: &Config) -> Result<(Arc<Access>, Option<String>), Fault> {
        let password = Some(config.admin.password.clone()).filter(|p| !p.is_empty());
        let (auth, seconds) = (&config.auth, |n: u32| time::Duration::seconds(n.into()));
        let directory: Option<Arc<dyn Directory>> = match auth.ldap.directory.urls.is_empty() {
            true => None,
            false => Some(Arc::new(LdapDirectory::new(auth.ldap.directory.clone())?)),
        };
        let dependencies = omt_access::Dependencies {
            database: self.database.clone(),
            keys: self.keys.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            // Logins wait for each other, never for signing or the reverse.
            pool: Arc::new(WorkPool::start(1, 64)?),
            audit: self.audit.clone(),
            authorizer: self.authorizer.clone(),
            directory,
            issuers: Arc::new(HttpIssuerClient::new()?),
            broadcast: self.broadcast.clone(),
        };
        let settings = omt_access::Settings {
            issuer: config.public_url(),
            tenant_defaults: config.tenant_defaults.clone(),
            lockout: Lockout { attempts: auth.lockout_attempts, closed: seconds(auth.lockout_seconds) },
            password_min: auth.password_min_length,
            session_idle: seconds(auth.session_idle_seconds),
            session_lifetime: seconds(auth.session_lifetime_seconds),
            second_factor_roles: auth.second_factor_roles.clone(),
            step_up: seconds(auth.step_up_seconds),
            step_up_always: auth.step_up == StepUp::Always,
            directory_tenant: auth.ldap.tenant.clone(),
            directory_refresh: seconds(auth.ldap.refresh_seconds),
            directory_grace: seconds(auth.ldap.grace_seconds),
            oidc: auth.oidc.clone(),
        };
        let (access, made) = Access::open(dependencies, settings, password).await?;
        Ok((Arc::new(access), made))
    }
}
