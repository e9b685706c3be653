//! What replicas tell each other over Redis, and that nothing depends on it.

use omt_tests::{PASSWORD, Server, combination, fixture, form, id, until};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A caller's allowance in a minute.
const ALLOWANCE: usize = 60;

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn redis(port: u16) -> Process {
    let arguments = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"].map(str::to_owned);
    Process(Command::new("redis-server").args(arguments).stdout(Stdio::null()).spawn().unwrap())
}

struct Replica {
    _process: Process,
    url: String,
    client: Client,
    token: String,
}

impl Replica {
    async fn start(dir: &Path, config: &str) -> Self {
        let mut child = Server::command(dir, config).arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let url = omt_tests::address(&mut child);
        let client = Client::builder().no_proxy().build().unwrap();
        let mut replica = Self { _process: Process(child), url, client, token: String::new() };
        replica.token = replica.log_in("admin").await;
        replica
    }

    fn anonymous(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}{path}", self.url))
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.request("POST", path).json(&body).send().await.unwrap();
        let status = answer.status();
        let body = answer.json().await.unwrap();
        assert!(status.is_success(), "{status} {body}");
        body
    }

    async fn log_in(&self, name: &str) -> String {
        let body = json!({ "username": name, "password": PASSWORD });
        let tokens: Value = self.anonymous("POST", "/api/v1/auth/login").json(&body).send().await.unwrap().json().await.unwrap();
        tokens["access_token"].as_str().unwrap().to_owned()
    }

    async fn me(&self, token: &str) -> StatusCode {
        self.anonymous("GET", "/api/v1/auth/me").bearer_auth(token).send().await.unwrap().status()
    }

    /// How many requests a key is granted, of so many.
    async fn granted(&self, key: &str, of: usize) -> usize {
        let mut granted = 0;
        for _ in 0..of {
            let answer = self.anonymous("GET", "/api/v1/manifests?limit=1").bearer_auth(key).send().await.unwrap();
            granted += usize::from(answer.status() == StatusCode::OK);
        }
        granted
    }

    async fn key(&self) -> String {
        let made = self.post("/api/v1/admin/api-keys", json!({ "name": "test", "scopes": ["manifest:read"] })).await;
        made["key"].as_str().unwrap().to_owned()
    }
}

/// How long a session that ends on one replica lives on the other: the least of some, since machines have other things to do.
async fn revoked_after(one: &Replica, two: &Replica, round: &str) -> Duration {
    let mut least = Duration::MAX;
    for n in 0..3 {
        let name = format!("{round}{n}");
        let user = one.post("/api/v1/admin/users", json!({ "username": name, "password": PASSWORD, "roles": ["auditor"] })).await;
        let token = one.log_in(&name).await;
        let sessions = one.request("GET", &format!("/api/v1/admin/sessions?user={}", id(&user))).send().await.unwrap();
        let sessions: Value = sessions.json().await.unwrap();
        let session = format!("/api/v1/admin/sessions/{}", sessions["items"][0]["id"].as_str().unwrap());
        // The other has just looked, and would not look again for half a second.
        assert_eq!(two.me(&token).await, StatusCode::OK);
        assert_eq!(one.request("DELETE", &session).send().await.unwrap().status(), StatusCode::NO_CONTENT);
        let began = Instant::now();
        while two.me(&token).await != StatusCode::UNAUTHORIZED {
            assert!(began.elapsed() < Duration::from_secs(1), "it lives on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        least = least.min(began.elapsed());
    }
    least
}

/// An allowance that was used up at one replica is, a moment later, used up at the other.
async fn share_an_allowance(one: &Replica, two: &Replica) {
    let key = one.key().await;
    let granted = one.granted(&key, ALLOWANCE).await;
    assert!(granted + 1 >= ALLOWANCE, "{granted}");
    // The other lets some through until it has heard.
    let (mut elsewhere, began) = (0, Instant::now());
    while two.granted(&key, 1).await == 1 {
        elsewhere += 1;
        assert!(elsewhere < ALLOWANCE / 3, "each has an allowance of its own");
        assert!(began.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// With Redis what changes on one replica is seen on the other at once; without it a little later, and everything else is the same.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_tell_each_other_and_need_not() {
    if !combination::current().redis {
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "[cache]\nurl = \"redis://127.0.0.1:{port}/\"\n[queue]\nurl = \"redis://127.0.0.1:{port}/\"\n[jobs]\nin_process = \"always\"\n\
         [lifecycle]\nretention_every_seconds = 1\n[limits]\nrequests_per_minute = {ALLOWANCE}\n"
    );
    let away = redis(port);
    let one = Replica::start(dir.path(), &config).await;
    let two = Replica::start(dir.path(), &config).await;
    let told = revoked_after(&one, &two, "told").await;
    assert!(told < Duration::from_millis(300), "{told:?}");
    share_an_allowance(&one, &two).await;

    drop(away);
    revoked_after(&one, &two, "quiet").await;
    // Everybody's own requests count, too: the first user's are used up soon.
    let other =
        one.post("/api/v1/admin/users", json!({ "username": "boss", "password": PASSWORD, "roles": ["administrator"] })).await;
    assert!(other["id"].is_string());
    let (mut one, mut two) = (one, two);
    (one.token, two.token) = (one.log_in("boss").await, two.log_in("boss").await);
    share_an_allowance(&one, &two).await;
    let form = form("a.png", fixture("a.png"), &[("sign", "true")]);
    let record = one.request("POST", "/api/v1/manifests").multipart(form).send().await.unwrap();
    assert_eq!(record.status(), StatusCode::CREATED);
    let record: Value = record.json().await.unwrap();

    // A replica and its workers start without it, and a job that waited is done when it is back.
    drop(two);
    let three = Replica::start(dir.path(), &config).await;
    assert_eq!(three.anonymous("GET", "/ready").send().await.unwrap().status(), StatusCode::OK);
    let report = three.request("GET", &format!("/api/v1/manifests/{}/report", id(&record))).send().await.unwrap();
    assert_eq!(report.json::<Value>().await.unwrap()["validation_state"], "trusted");
    drop(one);
    let done = async || {
        let answer = three.request("GET", "/api/v1/admin/jobs?kind=retention&state=done&limit=200").send().await.unwrap();
        answer.json::<Value>().await.unwrap()["items"].as_array().map_or(0, Vec::len)
    };
    let before = done().await;
    let _back = redis(port);
    until("a job is done", async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        done().await > before
    })
    .await;
}
