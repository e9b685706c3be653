//! Servers and workers beside others, over one directory.
//!
//! Some tests are longer where `OMT_LONG` says so: 1 makes them as long as they can be, 0.05 a twentieth of that. `make soak` runs
//! those of which more is asked than there is time for in every run.

use omt_tests::{PASSWORD, Server, form};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::{
    path::Path,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

/// How often, or how much: `short`, or the share of `long` that was asked for where that is more.
pub(crate) fn times(short: usize, long: usize) -> usize {
    let Ok(share) = std::env::var("OMT_LONG") else { return short };
    let share: f64 = share.parse().expect("OMT_LONG is a share of the long versions, such as 1 or 0.05");
    short.max((long as f64 * share) as usize)
}

/// A process that ends with the test.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Kills it at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server beside others over the same directory.
pub(crate) struct Replica {
    process: Mutex<Process>,
    pub(crate) url: String,
    pub(crate) client: Client,
    token: Arc<Mutex<String>>,
    renewing: tokio::task::JoinHandle<()>,
}

async fn log_in(client: &Client, url: &str) -> reqwest::Result<String> {
    let body = json!({ "username": "admin", "password": PASSWORD });
    let tokens: Value = client.post(format!("{url}/api/v1/auth/login")).json(&body).send().await?.json().await?;
    Ok(tokens["access_token"].as_str().expect("a token").to_owned())
}

impl Replica {
    pub(crate) async fn start(dir: &Path, config: &str) -> Self {
        let mut child = Server::command(dir, config).arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let url = omt_tests::address(&mut child);
        let client = Client::builder().no_proxy().build().unwrap();
        let token = Arc::new(Mutex::new(log_in(&client, &url).await.unwrap()));
        // A token is good for 15 minutes, and a long test goes on for more.
        let renewing = {
            let (client, url, token) = (client.clone(), url.clone(), token.clone());
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_secs(600)).await;
                    if let Ok(new) = log_in(&client, &url).await {
                        *token.lock().unwrap() = new;
                    }
                }
            })
        };
        Self { process: Mutex::new(Process(child)), url, client, token, renewing }
    }

    /// Kills the server at once, whoever is still asking it.
    pub(crate) fn kill(&self) {
        self.process.lock().unwrap().kill();
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url));
        request.bearer_auth(self.token.lock().unwrap().as_str())
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let answer = self.request("GET", path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json().await.unwrap()
    }

    pub(crate) async fn sign(&self, name: &str, bytes: Vec<u8>, key: &str) -> (StatusCode, Value) {
        let form = form(name, bytes, &[("sign", "true"), ("title", key)]);
        let answer =
            self.request("POST", "/api/v1/manifests").header("idempotency-key", key).multipart(form).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

/// A worker beside others over the same directory.
pub(crate) fn worker(dir: &Path, config: &str) -> Process {
    Process(Server::command(dir, config).arg("worker").stdout(Stdio::null()).spawn().unwrap())
}

/// Everything that a list has, page by page.
pub(crate) async fn every(replica: &Replica, path: &str) -> Vec<Value> {
    let (mut out, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = replica.json(&format!("{path}limit=200{cursor}")).await;
        out.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return out,
        }
    }
}

/// Every job of a kind.
pub(crate) async fn jobs(replica: &Replica, kind: &str) -> Vec<Value> {
    every(replica, &format!("/api/v1/admin/jobs?kind={kind}&")).await
}
