//! LDAP and Active Directory: search for the user, then bind as the user (RFC 4511, RFC 4513).
//!
//! Every value that comes from outside is escaped (RFC 4515 §3) before it becomes part of a filter. Certificates are checked unless
//! the configuration says otherwise, and without TLS nothing is sent unless it says so.

use async_trait::async_trait;
use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry,
    adapters::{Adapter, EntriesOnly, PagedResults},
    ldap_escape,
};
use omt_kernel::{
    Error, Kind, Result,
    port::{Directory, DirectoryUser},
};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Mutex;

/// How long an operation may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are kept open for searches.
const POOL: usize = 4;
/// How deep groups may lie in groups.
const DEPTH: usize = 16;
/// The most groups of a user.
const MAX_GROUPS: usize = 5_000;
/// Entries that a search asks for at once (RFC 2696).
const PAGE: i32 = 500;
/// Active Directory's rule that follows groups in groups by itself.
const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";
/// `invalidCredentials` (RFC 4511 appendix A).
const INVALID_CREDENTIALS: u32 = 49;
/// `noSuchObject`.
const NO_SUCH_OBJECT: u32 = 32;

/// How groups in groups are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NestedGroups {
    /// Not at all: direct groups only.
    Off,
    /// By searching for the groups of groups.
    Search,
    /// By Active Directory's matching rule in chain.
    ActiveDirectory,
    /// By the user's `memberOf`, and that of the groups it names.
    MemberOf,
}

/// `[auth.ldap]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapSettings {
    /// Servers, asked in this order: `ldaps://HOST`, or `ldap://HOST` with `starttls`. None: no directory.
    pub urls: Vec<String>,
    /// TLS is begun on `ldap://` connections.
    pub starttls: bool,
    /// Passwords may cross the network in the clear. For tests alone.
    pub allow_plaintext: bool,
    /// A PEM file with the authorities that sign the servers' certificates; the system's when empty.
    pub ca_file: PathBuf,
    /// The account that searches.
    pub bind_dn: String,
    /// Its password.
    pub bind_password: String,
    /// Where users are.
    pub user_base: String,
    /// Which entry is the user: `{username}` stands for the login name, escaped.
    pub user_filter: String,
    /// Attributes of users.
    pub username_attribute: String,
    /// Name for people.
    pub name_attribute: String,
    /// Address.
    pub email_attribute: String,
    /// Where groups are.
    pub group_base: String,
    /// Which entries are groups with a member: `{dn}` stands for the member's distinguished name, escaped.
    pub group_filter: String,
    /// How groups in groups are found.
    pub nested_groups: NestedGroups,
}

impl std::fmt::Debug for LdapSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password stays out.
        write!(f, "LdapSettings({:?}, {})", self.urls, self.bind_dn)
    }
}

/// A directory behind LDAP servers.
pub struct LdapDirectory {
    settings: LdapSettings,
    tls: Option<Arc<ClientConfig>>,
    /// Connections bound as the account that searches.
    idle: Mutex<Vec<Ldap>>,
    /// The server that answered last.
    preferred: AtomicUsize,
}

fn bad(words: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, "BAD_CONFIGURATION", format!("auth.ldap: {}", words.into()))
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let words = "the directory does not answer; nobody new can log in with it now";
    Error::new(Kind::Unavailable, "DIRECTORY_UNAVAILABLE", words).retry_after(5).caused_by(error)
}

fn tls(settings: &LdapSettings) -> Result<Option<Arc<ClientConfig>>> {
    if settings.ca_file.as_os_str().is_empty() {
        // The connection takes the system's authorities by itself.
        return Ok(None);
    }
    let unreadable = |e: rustls::pki_types::pem::Error| bad(format!("{}: {e}", settings.ca_file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&settings.ca_file).map_err(unreadable)? {
        let added = roots.add(certificate.map_err(unreadable)?);
        added.map_err(|e| bad(format!("{}: {e}", settings.ca_file.display())))?;
    }
    if roots.is_empty() {
        return Err(bad(format!("{}: no certificate in it", settings.ca_file.display())));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(Arc::new(config)))
}

impl LdapDirectory {
    /// A directory of these settings; nothing is asked of it yet.
    pub fn new(settings: LdapSettings) -> Result<Self> {
        for url in &settings.urls {
            let plain = url.starts_with("ldap://");
            if !url.starts_with("ldaps://") && !(plain && (settings.starttls || settings.allow_plaintext)) {
                return Err(bad(format!("{url}: must be ldaps://, or ldap:// with starttls")));
            }
        }
        for (name, value, mark) in [
            ("user_base", &settings.user_base, ""),
            ("bind_dn", &settings.bind_dn, ""),
            ("user_filter", &settings.user_filter, "{username}"),
            ("group_filter", &settings.group_filter, "{dn}"),
        ] {
            if value.is_empty() || !value.contains(mark) {
                return Err(bad(format!("{name} is missing, or does not contain {mark}")));
            }
        }
        if settings.bind_password.is_empty() {
            return Err(bad("bind_password is missing; an empty one would be an anonymous bind"));
        }
        let tls = tls(&settings)?;
        Ok(Self { settings, tls, idle: Mutex::default(), preferred: AtomicUsize::new(0) })
    }

    /// A new connection to the first server that answers, beginning with the one that did last.
    async fn connect(&self) -> Result<Ldap, LdapError> {
        let servers = &self.settings.urls;
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for offset in 0..servers.len() {
            let index = (first + offset) % servers.len();
            let mut settings = LdapConnSettings::new().set_conn_timeout(PATIENCE);
            if servers[index].starts_with("ldap://") {
                settings = settings.set_starttls(self.settings.starttls);
            }
            if let Some(tls) = &self.tls {
                settings = settings.set_config(tls.clone());
            }
            // The library's own limit does not cover the TLS handshake.
            let connecting = LdapConnAsync::with_settings(settings, &servers[index]);
            match tokio::time::timeout(PATIENCE, connecting).await {
                Ok(Ok((connection, ldap))) => {
                    tokio::spawn(async move {
                        if let Err(error) = connection.drive().await {
                            tracing::debug!(%error, "a connection to the directory ended");
                        }
                    });
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(ldap);
                }
                Ok(Err(error)) => {
                    tracing::warn!(server = servers[index], %error, "a directory server cannot be reached");
                    last = Some(error);
                }
                Err(elapsed) => {
                    tracing::warn!(server = servers[index], "a directory server does not answer");
                    last = Some(elapsed.into());
                }
            }
        }
        Err(last.unwrap_or(LdapError::EndOfStream))
    }

    /// A connection bound as the account that searches.
    async fn searcher(&self) -> Result<Ldap, LdapError> {
        while let Some(mut ldap) = self.idle.lock().await.pop() {
            if !ldap.is_closed() {
                return Ok(ldap);
            }
        }
        let mut ldap = self.connect().await?;
        let bound = ldap.with_timeout(PATIENCE).simple_bind(&self.settings.bind_dn, &self.settings.bind_password).await?;
        bound.success()?;
        Ok(ldap)
    }

    async fn give_back(&self, ldap: Ldap) {
        let mut idle = self.idle.lock().await;
        if idle.len() < POOL {
            idle.push(ldap);
        }
    }

    /// Does something with a connection; once more with a new one when an old one turns out to be dead.
    async fn with_searcher<T, F>(&self, work: impl Fn(Ldap) -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T, LdapError>> + Send,
    {
        for attempt in 0..2 {
            let ldap = self.searcher().await.map_err(unavailable)?;
            // A handle, of which there may be several to one connection.
            match work(ldap.clone()).await {
                Ok(done) => {
                    self.give_back(ldap).await;
                    return Ok(done);
                }
                Err(error) if attempt == 0 => {
                    tracing::debug!(%error, "the directory is asked once more");
                    self.idle.lock().await.clear();
                }
                Err(error) => return Err(unavailable(error)),
            }
        }
        Err(Error::internal("the directory was asked more often than it can be"))
    }

    async fn search(
        ldap: &mut Ldap,
        base: &str,
        scope: Scope,
        filter: &str,
        attributes: Vec<String>,
        limit: usize,
    ) -> Result<Vec<SearchEntry>, LdapError> {
        let adapters: Vec<Box<dyn Adapter<_, _>>> = vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(PAGE))];
        let mut stream = ldap.with_timeout(PATIENCE).streaming_search_with(adapters, base, scope, filter, attributes).await?;
        let mut out = Vec::new();
        while let Some(entry) = stream.next().await? {
            out.push(SearchEntry::construct(entry));
            if out.len() >= limit {
                break;
            }
        }
        let result = stream.finish().await;
        // Cut off by ourselves, or not there any more.
        if out.len() >= limit || result.rc == NO_SUCH_OBJECT {
            return Ok(out);
        }
        result.success()?;
        Ok(out)
    }

    fn attributes(&self) -> Vec<String> {
        let settings = &self.settings;
        vec![
            settings.username_attribute.clone(),
            settings.name_attribute.clone(),
            settings.email_attribute.clone(),
            "memberOf".to_owned(),
        ]
    }

    /// The one entry of a login name. Two are none: who is meant must be certain.
    async fn find(&self, ldap: &mut Ldap, username: &str) -> Result<Option<SearchEntry>, LdapError> {
        let filter = self.settings.user_filter.replace("{username}", &ldap_escape(username));
        let mut found = Self::search(ldap, &self.settings.user_base, Scope::Subtree, &filter, self.attributes(), 2).await?;
        if found.len() > 1 {
            tracing::warn!("two entries of the directory have the same login name; neither can log in");
            return Ok(None);
        }
        Ok(found.pop())
    }

    /// The groups that an entry is in, and those that they are in.
    async fn groups(&self, ldap: &mut Ldap, entry: &SearchEntry) -> Result<BTreeSet<String>, LdapError> {
        let settings = &self.settings;
        let names = |entries: Vec<SearchEntry>| entries.into_iter().map(|entry| entry.dn).collect::<Vec<String>>();
        let none = || vec!["1.1".to_owned()];
        if settings.nested_groups == NestedGroups::ActiveDirectory {
            let filter = format!("(member:{IN_CHAIN}:={})", ldap_escape(entry.dn.as_str()));
            let found = Self::search(ldap, &settings.group_base, Scope::Subtree, &filter, none(), MAX_GROUPS).await?;
            return Ok(names(found).into_iter().collect());
        }
        let mut next: Vec<String> = match settings.nested_groups {
            NestedGroups::MemberOf => entry.attrs.get("memberOf").cloned().unwrap_or_default(),
            _ => {
                let filter = settings.group_filter.replace("{dn}", &ldap_escape(entry.dn.as_str()));
                names(Self::search(ldap, &settings.group_base, Scope::Subtree, &filter, none(), MAX_GROUPS).await?)
            }
        };
        let mut all = BTreeSet::new();
        for _ in 0..DEPTH {
            let fresh: Vec<String> = next.drain(..).filter(|group| all.len() < MAX_GROUPS && all.insert(group.clone())).collect();
            if fresh.is_empty() || settings.nested_groups == NestedGroups::Off {
                break;
            }
            for group in fresh {
                next.extend(match settings.nested_groups {
                    NestedGroups::MemberOf => {
                        let wanted = vec!["memberOf".to_owned()];
                        let found = Self::search(ldap, &group, Scope::Base, "(objectClass=*)", wanted, 1).await?;
                        found.into_iter().flat_map(|entry| entry.attrs.get("memberOf").cloned().unwrap_or_default()).collect()
                    }
                    _ => {
                        let filter = settings.group_filter.replace("{dn}", &ldap_escape(group.as_str()));
                        names(Self::search(ldap, &settings.group_base, Scope::Subtree, &filter, none(), MAX_GROUPS).await?)
                    }
                });
            }
        }
        Ok(all)
    }

    async fn describe_user(&self, ldap: &mut Ldap, entry: &SearchEntry) -> Result<DirectoryUser, LdapError> {
        let first = |attribute: &str| {
            let found = entry.attrs.iter().find(|(name, _)| name.eq_ignore_ascii_case(attribute));
            found.and_then(|(_, values)| values.first().cloned())
        };
        Ok(DirectoryUser {
            external_id: entry.dn.clone(),
            username: first(&self.settings.username_attribute).unwrap_or_else(|| entry.dn.clone()),
            display_name: first(&self.settings.name_attribute),
            email: first(&self.settings.email_attribute),
            groups: self.groups(ldap, entry).await?,
        })
    }

    /// Binds as somebody, on a connection of its own; whether the password is right.
    async fn bind(&self, dn: &str, password: &str) -> Result<bool, LdapError> {
        let mut ldap = self.connect().await?;
        let bound = ldap.with_timeout(PATIENCE).simple_bind(dn, password).await?;
        let _ = ldap.unbind().await;
        match bound.rc {
            0 => Ok(true),
            INVALID_CREDENTIALS => Ok(false),
            // Locked, expired, or not allowed to bind: as good as wrong, and the server's log says more.
            19 | 48 | 50 | 53 => Ok(false),
            _ => bound.success().map(|_| true),
        }
    }
}

#[async_trait]
impl Directory for LdapDirectory {
    async fn authenticate(&self, username: &str, password: &str) -> Result<Option<DirectoryUser>> {
        // An empty password would be an anonymous bind, which succeeds (RFC 4513 §5.1.2).
        if password.is_empty() || username.is_empty() {
            return Ok(None);
        }
        let found = self.with_searcher(|mut ldap| async move { self.find(&mut ldap, username).await }).await?;
        let Some(entry) = found else { return Ok(None) };
        if !self.bind(&entry.dn, password).await.map_err(unavailable)? {
            return Ok(None);
        }
        let entry = &entry;
        self.with_searcher(|mut ldap| async move { self.describe_user(&mut ldap, entry).await }).await.map(Some)
    }

    async fn lookup(&self, external_id: &str) -> Result<Option<DirectoryUser>> {
        self.with_searcher(|mut ldap| async move {
            let ldap = &mut ldap;
            // Still somebody who may log in: the filter says who that is, for any name.
            let filter = self.settings.user_filter.replace("{username}", "*");
            let mut found = Self::search(ldap, external_id, Scope::Base, &filter, self.attributes(), 1).await?;
            match found.pop() {
                Some(entry) => self.describe_user(ldap, &entry).await.map(Some),
                None => Ok(None),
            }
        })
        .await
    }

    async fn check(&self) -> Result<()> {
        self.with_searcher(|mut ldap| async move {
            Self::search(&mut ldap, "", Scope::Base, "(objectClass=*)", vec!["1.1".to_owned()], 1).await.map(drop)
        })
        .await
    }

    fn describe(&self) -> String {
        self.settings.urls.join(", ")
    }
}
