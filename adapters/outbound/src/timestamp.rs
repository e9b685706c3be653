//! Asking a time-stamp authority over HTTP (RFC 3161 §3.4).

use futures_util::StreamExt;
use omt_kernel::{
    Error, Kind, Result,
    port::{TimestampAuthority, no_timestamp},
};
use reqwest::{Client, Url, header, redirect::Policy};
use std::{
    path::PathBuf,
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};
use tokio::runtime::Runtime;

/// The longest answer: a token with all certificates has a few thousand bytes.
const MAX_ANSWER: usize = 64 << 10;
/// How much longer than the request itself its answer is waited for.
const GRACE: Duration = Duration::from_secs(1);

/// Which authority, and how long it may take.
#[derive(Debug, Clone)]
pub struct TimestampSettings {
    /// Its URL, `http:` or `https:`. Tokens are signed, so that nobody on the way can forge one.
    pub url: String,
    /// How long an answer may take.
    pub timeout: Duration,
    /// PEM certificates that are trusted besides the system's, for TLS.
    pub ca_file: Option<PathBuf>,
}

/// A time-stamp authority over HTTP.
pub struct HttpTimestampAuthority {
    client: Client,
    url: Url,
    timeout: Duration,
    /// Its own: whoever asks may stand on the only thread of theirs. There until the end.
    runtime: Option<Runtime>,
}

impl Drop for HttpTimestampAuthority {
    fn drop(&mut self) {
        // To wait for it is not allowed where this may happen.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl HttpTimestampAuthority {
    /// An authority; requests run on a thread of their own.
    pub fn new(settings: &TimestampSettings) -> Result<Self> {
        let bad = |words: String| Error::new(Kind::Invalid, "BAD_CONFIGURATION", words);
        let url = Url::parse(&settings.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| bad("[timestamp] url must be an http: or https: URL".to_owned()))?;
        let mut builder = Client::builder()
            .timeout(settings.timeout)
            .redirect(Policy::none())
            .user_agent(concat!("OpenMediaTrust/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &settings.ca_file {
            let pem = std::fs::read(path).map_err(|e| bad(format!("[timestamp] ca_file {}: {e}", path.display())))?;
            let found = reqwest::Certificate::from_pem_bundle(&pem);
            let found = found.map_err(|e| bad(format!("[timestamp] ca_file {}: {e}", path.display())))?;
            builder = found.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        let client = builder.build().map_err(|e| Error::internal("no HTTP client can be made").caused_by(e))?;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).thread_name("time-stamps").enable_all().build();
        let runtime = runtime.map_err(|e| Error::internal("no thread for time-stamps can be had").caused_by(e))?;
        Ok(Self { client, url, timeout: settings.timeout, runtime: Some(runtime) })
    }
}

async fn post(client: Client, url: Url, request: Vec<u8>) -> Result<Vec<u8>> {
    let failed = |e: reqwest::Error| {
        no_timestamp(if e.is_timeout() { "no answer in time" } else { "no answer" }).caused_by(e.without_url())
    };
    let post = client.post(url).header(header::CONTENT_TYPE, "application/timestamp-query").body(request);
    let answer = post.send().await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(no_timestamp(format!("the authority answers {}", answer.status().as_u16())));
    }
    let mut out = Vec::new();
    let mut body = answer.bytes_stream();
    while let Some(part) = body.next().await {
        let part = part.map_err(failed)?;
        if out.len() + part.len() > MAX_ANSWER {
            return Err(no_timestamp("the answer is too long"));
        }
        out.extend_from_slice(&part);
    }
    Ok(out)
}

impl TimestampAuthority for HttpTimestampAuthority {
    fn ask(&self, request: Vec<u8>) -> Result<Vec<u8>> {
        let (send, receive) = mpsc::sync_channel(1);
        let asked = post(self.client.clone(), self.url.clone(), request);
        let runtime = self.runtime.as_ref().ok_or_else(|| no_timestamp("the server is stopping"))?;
        let task = runtime.spawn(async move { drop(send.send(asked.await)) });
        match receive.recv_timeout(self.timeout + GRACE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                task.abort();
                Err(no_timestamp("no answer in time"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(no_timestamp("the server is stopping")),
        }
    }
}
