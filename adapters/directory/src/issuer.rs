//! Fetching from issuers: bounded in time and size, and never redirected elsewhere.

use async_trait::async_trait;
use futures_util::StreamExt;
use omt_kernel::{Error, Kind, Result, port::IssuerClient};
use reqwest::{Client, RequestBuilder, redirect::Policy};
use serde_json::Value;
use std::time::Duration;

/// The longest document that is taken: a key set is a few kilobytes.
const MAX: usize = 512 << 10;
/// How long an issuer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Issuers over HTTP.
pub struct HttpIssuerClient(Client);

fn unavailable(words: String) -> Error {
    Error::new(Kind::Unavailable, "ISSUER_UNAVAILABLE", words).retry_after(5)
}

impl HttpIssuerClient {
    /// A client.
    pub fn new() -> Result<Self> {
        let client = Client::builder().timeout(PATIENCE).connect_timeout(PATIENCE).redirect(Policy::none()).build();
        client.map(Self).map_err(|e| Error::internal("no HTTP client can be made").caused_by(e))
    }

    async fn json(&self, request: RequestBuilder, url: &str) -> Result<Value> {
        let failed = |e: reqwest::Error| unavailable(format!("{url} does not answer")).caused_by(e.without_url());
        let answer = request.send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(unavailable(format!("{url} answers {}", answer.status().as_u16())));
        }
        if answer.content_length().is_some_and(|length| length > MAX as u64) {
            return Err(unavailable(format!("{url} answers with more than {MAX} bytes")));
        }
        let (mut body, mut chunks) = (Vec::new(), answer.bytes_stream());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(failed)?;
            if body.len() + chunk.len() > MAX {
                return Err(unavailable(format!("{url} answers with more than {MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|_| unavailable(format!("{url} answers with something that is not JSON")))
    }
}

#[async_trait]
impl IssuerClient for HttpIssuerClient {
    async fn get(&self, url: &str) -> Result<Value> {
        self.json(self.0.get(url), url).await
    }

    async fn post_form(&self, url: &str, form: &[(&str, &str)]) -> Result<Value> {
        self.json(self.0.post(url).form(form), url).await
    }
}
