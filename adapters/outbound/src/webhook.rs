//! Posting to endpoints.

use crate::address::Networks;
use async_trait::async_trait;
use futures_util::StreamExt;
use omt_kernel::{
    Error, Kind, Result,
    port::{WebhookAnswer, WebhookSender},
};
use reqwest::{
    Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::RETRY_AFTER,
    redirect::Policy,
};
use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

/// How long an endpoint may take (Standard Webhooks: 15 to 30 seconds).
const PATIENCE: Duration = Duration::from_secs(20);
/// How long until it must be connected to.
const CONNECT: Duration = Duration::from_secs(10);
/// What is kept of an answer, in bytes.
const EXCERPT: usize = 500;
/// The longest URL.
const MAX_URL: usize = 2_000;

/// Where webhooks may go.
#[derive(Debug, Clone, Default)]
pub struct WebhookSettings {
    /// Networks, in CIDR notation, that are reached although they are not public.
    pub allowed_networks: Vec<String>,
    /// Whether `http:` will do.
    pub allow_http: bool,
    /// PEM certificates that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// Webhooks over HTTPS.
pub struct HttpWebhookSender {
    client: Client,
    networks: Networks,
    allow_http: bool,
}

/// Resolves names to addresses that may be posted to.
struct Guarded(Networks);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = self.0.clone();
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let some = !found.is_empty();
            let open: Vec<_> = found.into_iter().filter(|address| networks.allow(address.ip())).collect();
            // The reason goes into the delivery log: the name only, not what it leads to.
            if some && open.is_empty() {
                return Err(format!("{} leads to addresses that are not public only", name.as_str()).into());
            }
            Ok(Box::new(open.into_iter()) as Addrs)
        })
    }
}

fn refused(reason: &str) -> Error {
    Error::unprocessable_field("INVALID_WEBHOOK_URL", "url", reason)
}

impl HttpWebhookSender {
    /// A sender.
    pub fn new(settings: &WebhookSettings) -> Result<Self> {
        let bad = |words: String| Error::new(Kind::Invalid, "BAD_CONFIGURATION", words);
        let networks = Networks::parse(&settings.allowed_networks)
            .map_err(|network| bad(format!("[webhooks] allowed_networks: {network:?} is no network in CIDR notation")))?;
        let mut builder = Client::builder()
            .timeout(PATIENCE)
            .connect_timeout(CONNECT)
            .redirect(Policy::none())
            // A proxy would resolve names itself, and reach what must not be reached.
            .no_proxy()
            .user_agent(concat!("OpenMediaTrust/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Guarded(networks.clone())));
        if let Some(path) = &settings.ca_file {
            let pem = std::fs::read(path).map_err(|e| bad(format!("[webhooks] ca_file {}: {e}", path.display())))?;
            let found = reqwest::Certificate::from_pem_bundle(&pem);
            let found = found.map_err(|e| bad(format!("[webhooks] ca_file {}: {e}", path.display())))?;
            builder = found.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        let client = builder.build().map_err(|e| Error::internal("no HTTP client can be made").caused_by(e))?;
        Ok(Self { client, networks, allow_http: settings.allow_http })
    }

    fn parse(&self, url: &str) -> Result<Url> {
        if url.len() > MAX_URL {
            return Err(refused("at most 2000 bytes are allowed"));
        }
        let url = Url::parse(url).map_err(|_| refused("is no URL"))?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            _ => return Err(refused("must be an https: URL")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("must not hold a user name or password; messages are signed"));
        }
        if url.fragment().is_some() {
            return Err(refused("must not hold a fragment"));
        }
        // Names are looked at when they are resolved: what they lead to changes.
        let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if literal.is_some_and(|address| !self.networks.allow(address)) {
            return Err(refused("must not lead to an address that is not public"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(refused("names no host"));
        }
        Ok(url)
    }
}

/// The last cause of a failure says what happened; the others repeat the URL.
fn words(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let what = if error.is_timeout() { "no answer in time" } else { "no answer" };
    format!("{what}: {cause}").chars().filter(|c| !c.is_control()).take(300).collect()
}

#[async_trait]
impl WebhookSender for HttpWebhookSender {
    fn check(&self, url: &str) -> Result<()> {
        self.parse(url).map(drop)
    }

    async fn post(&self, url: &str, headers: &[(&str, String)], body: String) -> Result<WebhookAnswer> {
        let url = self.parse(url)?;
        let request = headers.iter().fold(self.client.post(url), |request, (name, value)| request.header(*name, value));
        let failed = |e: reqwest::Error| Error::new(Kind::Unavailable, "WEBHOOK_UNREACHABLE", words(&e.without_url()));
        let answer = request.body(body).send().await.map_err(failed)?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let (mut said, mut chunks) = (Vec::new(), answer.bytes_stream());
        // What comes after the status changes nothing, whether it comes or not.
        while said.len() < EXCERPT
            && let Some(Ok(chunk)) = chunks.next().await
        {
            said.extend_from_slice(&chunk[..chunk.len().min(EXCERPT - said.len())]);
        }
        let excerpt = String::from_utf8_lossy(&said).chars().filter(|c| !c.is_control() || *c == '\n').collect();
        Ok(WebhookAnswer { status, retry_after, excerpt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(settings: WebhookSettings) -> HttpWebhookSender {
        // Another test of the process may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        HttpWebhookSender::new(&settings).unwrap()
    }

    #[test]
    fn urls_are_looked_at_before_anything_is_posted() {
        let strict = sender(WebhookSettings::default());
        for bad in [
            "http://example.com/",
            "ftp://example.com/",
            "https://user:secret@example.com/",
            "https://example.com/#x",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
            "not a url",
            "https://",
        ] {
            assert_eq!(strict.check(bad).unwrap_err().code, "INVALID_WEBHOOK_URL", "{bad}");
        }
        assert!(strict.check("https://hooks.example.com/a?b=c").is_ok());
        let local = WebhookSettings { allowed_networks: vec!["127.0.0.0/8".into()], allow_http: true, ca_file: None };
        assert!(sender(local).check("http://127.0.0.1:8080/").is_ok());
        let bad = WebhookSettings { allowed_networks: vec!["everything".into()], ..WebhookSettings::default() };
        assert!(HttpWebhookSender::new(&bad).is_err());
    }

    #[tokio::test]
    async fn names_of_private_addresses_lead_nowhere() {
        let lenient = WebhookSettings { allow_http: true, ..WebhookSettings::default() };
        let error = sender(lenient).post("http://localhost:9/", &[], String::new()).await.unwrap_err();
        assert!(error.message.contains("not public"), "{}", error.message);
    }
}
