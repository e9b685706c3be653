//! `kill -9` at each write step of a signing: nothing acknowledged is lost, and no record points at a missing blob.

use omt_tests::{PASSWORD, Server, address, combination, fixture, form, id, kill_at_write};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// How often the server is killed.
const KILLS: usize = 50;

struct Killed {
    child: Child,
    url: String,
    client: Client,
    token: String,
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Killed {
    async fn start(dir: &Path) -> Self {
        let mut child = Server::command(dir, "").arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let url = address(&mut child);
        let client = Client::builder().no_proxy().build().unwrap();
        let body = json!({ "username": "admin", "password": PASSWORD });
        let tokens: Value =
            client.post(format!("{url}/api/v1/auth/login")).json(&body).send().await.unwrap().json().await.unwrap();
        let token = tokens["access_token"].as_str().unwrap().to_owned();
        Self { child, url, client, token }
    }
    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}{path}", self.url)).bearer_auth(&self.token)
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    let mut by_strace = 0;
    let kills = combination::current().kills(KILLS);
    let mut server = Killed::start(dir.path()).await;
    for round in 0..kills {
        let draft = server.request("POST", "/api/v1/manifests").multipart(form(
            "a.jpg",
            fixture("a.jpg"),
            &[("title", &format!("draft {round}"))],
        ));
        let draft: Value = draft.send().await.unwrap().json().await.unwrap();
        let pid = server.child.id();
        let strace = kill_at_write(pid, 1 + round * KILLS / kills % 30);
        by_strace += usize::from(strace.is_some());
        if strace.is_none() {
            // Without strace: after a time that sweeps over a signing.
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_micros(400 * round as u64));
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            });
        }
        // Sign the draft, and upload with sign=true, until the process dies.
        for step in 0..40 {
            let sign = if step == 0 {
                server.request("POST", &format!("/api/v1/manifests/{}/sign", id(&draft))).json(&json!({})).send().await
            } else {
                let title = format!("signed {round}.{step}");
                let form = form("a.png", fixture("a.png"), &[("sign", "true"), ("title", title.as_str())]);
                server.request("POST", "/api/v1/manifests").multipart(form).send().await
            };
            let Ok(answer) = sign else { break };
            if answer.status().is_success() {
                // Acknowledged only when the whole answer arrived.
                let Ok(record) = answer.json::<Value>().await else { break };
                acknowledged.push((id(&record).to_owned(), record["signature"]["asset_sha256"].as_str().unwrap().to_owned()));
            }
        }
        let _ = server.child.kill();
        let _ = server.child.wait();
        if let Some(mut strace) = strace {
            let _ = strace.wait();
        }
        // The draft is as it was, or signed; never in between.
        server = Killed::start(dir.path()).await;
        let record: Value =
            server.request("GET", &format!("/api/v1/manifests/{}", id(&draft))).send().await.unwrap().json().await.unwrap();
        match record["state"].as_str() {
            Some("draft") => assert_eq!((record["revision"].as_i64(), &record["signature"]), (Some(1), &Value::Null)),
            Some("signed") => assert_eq!(record["revision"], 2),
            other => panic!("{other:?}"),
        }
    }
    eprintln!("{by_strace} of {kills} kills at a write step, {} manifests acknowledged", acknowledged.len());
    for (id, asset) in &acknowledged {
        let record: Value = server.request("GET", &format!("/api/v1/manifests/{id}")).send().await.unwrap().json().await.unwrap();
        assert_eq!(
            (record["state"].as_str(), record["signature"]["asset_sha256"].as_str()),
            (Some("signed"), Some(asset.as_str()))
        );
    }
    // Every record's blobs are there, acknowledged or not, and verify.
    let mut path = "/api/v1/manifests?limit=200".to_owned();
    let mut seen = 0;
    loop {
        let page: Value = server.request("GET", &path).send().await.unwrap().json().await.unwrap();
        for record in page["items"].as_array().unwrap() {
            seen += 1;
            let content = server.request("GET", &format!("/api/v1/manifests/{}/content", id(record))).send().await.unwrap();
            assert_eq!(content.status(), StatusCode::OK);
            let expected = if record["state"] == "signed" { &record["signature"]["asset_sha256"] } else { &record["sha256"] };
            use sha2::Digest;
            assert_eq!(&json!(hex::encode(sha2::Sha256::digest(content.bytes().await.unwrap()))), expected);
            if record["state"] == "signed" {
                let store =
                    server.request("GET", &format!("/api/v1/manifests/{}/manifest.c2pa", id(record))).send().await.unwrap();
                assert_eq!(store.status(), StatusCode::OK);
                assert!(!store.bytes().await.unwrap().is_empty());
            }
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/manifests?limit=200&cursor={cursor}"),
            None => break,
        }
    }
    assert!(seen >= acknowledged.len());
}
