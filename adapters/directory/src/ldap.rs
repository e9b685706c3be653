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
    /// Connections bound as the account that searches, each with the place of its server.
    idle: Mutex<Vec<(usize, Ldap)>>,
    /// The server that answered last as it should.
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

    /// A new connection to a server.
    async fn connect(&self, url: &str) -> Result<Ldap, LdapError> {
        let mut settings = LdapConnSettings::new().set_conn_timeout(PATIENCE);
        if url.starts_with("ldap://") {
            settings = settings.set_starttls(self.settings.starttls);
        }
        if let Some(tls) = &self.tls {
            settings = settings.set_config(tls.clone());
        }
        // The library's own limit does not cover the TLS handshake.
        let (connection, ldap) = tokio::time::timeout(PATIENCE, LdapConnAsync::with_settings(settings, url)).await??;
        tokio::spawn(async move {
            if let Err(error) = connection.drive().await {
                tracing::debug!(%error, "a connection to the directory ended");
            }
        });
        Ok(ldap)
    }

    /// Binds on a new connection to the first server that says whether the password is right, beginning with the one that did
    /// last; with the place of the server, or nothing where the password is wrong. A server that takes connections and then is
    /// busy, or out of order, is no better than one that takes none.
    async fn bound(&self, dn: &str, password: &str) -> Result<Option<(usize, Ldap)>, LdapError> {
        let servers = &self.settings.urls;
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for offset in 0..servers.len() {
            let index = (first + offset) % servers.len();
            let tried: Result<Option<Ldap>, LdapError> = async {
                let mut ldap = self.connect(&servers[index]).await?;
                let answer = ldap.with_timeout(PATIENCE).simple_bind(dn, password).await?;
                match verdict(answer.rc) {
                    Verdict::Right => Ok(Some(ldap)),
                    Verdict::Wrong => {
                        let _ = ldap.unbind().await;
                        Ok(None)
                    }
                    Verdict::None => Err(answer.into()),
                }
            }
            .await;
            match tried {
                Ok(said) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(said.map(|ldap| (index, ldap)));
                }
                Err(error) => {
                    tracing::warn!(server = servers[index], %error, "a directory server does not serve");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or(LdapError::EndOfStream))
    }

    /// The server at this place failed: the next one is asked first from now on.
    fn avoid(&self, index: usize) {
        let next = (index + 1) % self.settings.urls.len().max(1);
        // Another request may have found a better one meanwhile.
        let _ = self.preferred.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A connection bound as the account that searches.
    async fn searcher(&self) -> Result<(usize, Ldap)> {
        while let Some((index, mut ldap)) = self.idle.lock().await.pop() {
            if !ldap.is_closed() {
                return Ok((index, ldap));
            }
        }
        let bound = self.bound(&self.settings.bind_dn, &self.settings.bind_password).await.map_err(unavailable)?;
        bound.ok_or_else(|| {
            tracing::error!("the directory refuses bind_dn with its bind_password");
            unavailable(std::io::Error::from(std::io::ErrorKind::PermissionDenied))
        })
    }

    async fn give_back(&self, index: usize, ldap: Ldap) {
        let mut idle = self.idle.lock().await;
        if idle.len() < POOL {
            idle.push((index, ldap));
        }
    }

    /// Does something with a connection; once more with a new one, to another server where there is one, when it fails.
    async fn with_searcher<T, F>(&self, work: impl Fn(Ldap) -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T, LdapError>> + Send,
    {
        for attempt in 0..2 {
            let (index, ldap) = self.searcher().await?;
            // A handle, of which there may be several to one connection.
            match work(ldap.clone()).await {
                Ok(done) => {
                    self.give_back(index, ldap).await;
                    return Ok(done);
                }
                Err(error) => {
                    tracing::debug!(%error, attempt, "the directory did not answer a question");
                    // A connection may have died of age, its server being well; one that answers late or badly is not well.
                    if attempt > 0 || matches!(error, LdapError::Timeout { .. } | LdapError::LdapResult { .. }) {
                        self.avoid(index);
                    }
                    self.idle.lock().await.clear();
                    if attempt > 0 {
                        return Err(unavailable(error));
                    }
                }
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
        let Some((_, mut ldap)) = self.bound(dn, password).await? else { return Ok(false) };
        let _ = ldap.unbind().await;
        Ok(true)
    }
}

/// What a server says to a bind.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The password is right.
    Right,
    /// It is wrong, or as good as that.
    Wrong,
    /// Neither: another server may know.
    None,
}

fn verdict(code: u32) -> Verdict {
    match code {
        0 => Verdict::Right,
        INVALID_CREDENTIALS => Verdict::Wrong,
        // Locked, expired, or not allowed to bind: as good as wrong, and the server's log says more.
        19 | 48 | 50 | 53 => Verdict::Wrong,
        _ => Verdict::None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    fn directory(urls: &[String]) -> LdapDirectory {
        let settings = serde_json::json!({
            "urls": urls, "starttls": false, "allow_plaintext": true, "ca_file": "",
            "bind_dn": "cn=searcher", "bind_password": "x",
            "user_base": "dc=example", "user_filter": "(uid={username})", "username_attribute": "uid", "name_attribute": "cn",
            "email_attribute": "mail", "group_base": "dc=example", "group_filter": "(member={dn})", "nested_groups": "search",
        });
        LdapDirectory::new(serde_json::from_value(settings).unwrap()).unwrap()
    }

    #[test]
    fn only_a_wrong_password_is_an_answer() {
        assert_eq!(verdict(0), Verdict::Right);
        for code in [49, 19, 48, 50, 53] {
            assert_eq!(verdict(code), Verdict::Wrong, "{code}");
        }
        // operationsError, busy, unavailable, other.
        for code in [1, 51, 52, 80] {
            assert_eq!(verdict(code), Verdict::None, "{code}");
        }
    }

    #[test]
    fn a_server_that_failed_is_not_asked_first() {
        let directory =
            directory(&["ldaps://a.example.test", "ldaps://b.example.test", "ldaps://c.example.test"].map(str::to_owned));
        directory.avoid(0);
        assert_eq!(directory.preferred.load(Ordering::Relaxed), 1);
        // One that failed long ago says nothing about the one that is preferred now.
        directory.avoid(0);
        assert_eq!(directory.preferred.load(Ordering::Relaxed), 1);
        directory.avoid(1);
        directory.avoid(2);
        assert_eq!(directory.preferred.load(Ordering::Relaxed), 0);
    }

    /// A server that answers every bind with this code (RFC 4511 §4.2.2); its URL.
    async fn server(code: u8) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ldap://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                // A message of fewer than 128 bytes: its number is the fifth.
                let Ok(5..) = stream.read(&mut request).await else { continue };
                let answer = [0x30, 0x0c, 2, 1, request[4], 0x61, 7, 0x0a, 1, code, 4, 0, 4, 0];
                let _ = stream.write_all(&answer).await;
                tokio::spawn(async move { while let Ok(1..) = stream.read(&mut request).await {} });
            }
        });
        url
    }

    #[tokio::test]
    async fn a_server_that_is_busy_is_left_for_another() {
        let (busy, well, refusing) = (server(51).await, server(0).await, server(49).await);
        let failing = directory(&[busy.clone(), well]);
        assert!(failing.bind("uid=alice", "secret").await.unwrap());
        assert_eq!(failing.preferred.load(Ordering::Relaxed), 1);
        // A wrong password is an answer, and nobody else is asked.
        let refused = directory(&[busy.clone(), refusing, server(0).await]);
        assert!(!refused.bind("uid=alice", "wrong").await.unwrap());
        assert_eq!(refused.preferred.load(Ordering::Relaxed), 1);
        assert!(directory(&[busy]).bind("uid=alice", "secret").await.is_err());
    }
}
