//! Starts the real binary and talks to it over HTTP, for the end-to-end tests.

// This is test code, though it is a library.
#![allow(clippy::expect_used)]

pub mod authority;
pub mod combination;
pub mod http;
pub mod stub_s3;

use omt_sql::SqlDatabase;
use reqwest::{Client, RequestBuilder, Response, StatusCode, header, multipart};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The first user's password in every test.
pub const PASSWORD: &str = "0042-correct-horse";

/// The binary under test: `OMT_BINARY`, or the one built beside the tests.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OMT_BINARY") {
        return path.into();
    }
    let this = std::env::current_exe().expect("a test has a path");
    let path = this.parent().and_then(Path::parent).expect("tests live in deps/").join("openmediatrust");
    assert!(path.exists(), "build the workspace first: {} is missing", path.display());
    path
}

/// This package's directory, asked at run time: a build cache that several checkouts share keeps the path of the one that
/// compiled.
pub fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// A file of `tests/fixtures`.
pub fn fixture(name: &str) -> Vec<u8> {
    let path = package().join("fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Names of all fixtures.
pub fn fixtures() -> Vec<String> {
    let dir = package().join("fixtures");
    let mut names: Vec<String> =
        std::fs::read_dir(dir).expect("fixtures").flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The larger corpus, where `OMT_CORPUS` names one. A wrong name is an error, lest tests pass by doing nothing.
pub fn corpus() -> Option<PathBuf> {
    let path = std::env::var_os("OMT_CORPUS").map(PathBuf::from)?;
    assert!(path.is_dir(), "OMT_CORPUS names no directory: {}", path.display());
    Some(path)
}

/// A service of the environment that `tests/services/services.sh` writes; none where there are no services at all. Where
/// `OMT_TEST_SERVICES` says that there are, none is missing, so that no test is left out by a typing error.
pub fn service(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    assert!(found.is_some() || std::env::var_os("OMT_TEST_SERVICES").is_none(), "services are running, but not {variable}");
    found
}

/// A client for what lies in moto's buckets, which wants a credential and checks none.
pub fn moto_client() -> Client {
    let credential = "AWS4-HMAC-SHA256 Credential=omt-test/20261121/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let headers = [(header::AUTHORIZATION, header::HeaderValue::from_static(credential))].into_iter().collect();
    Client::builder().no_proxy().default_headers(headers).build().expect("a client")
}

/// The Python of the independent judges, where `OMT_JUDGES` names its environment. A wrong name is an error, and so is none where
/// there are services: the whole suite is run with judges, and none is silently left out.
pub fn judges() -> Option<PathBuf> {
    let named = std::env::var_os("OMT_JUDGES").map(|dir| PathBuf::from(dir).join("bin/python"));
    assert!(
        named.is_some() || std::env::var_os("OMT_TEST_SERVICES").is_none(),
        "services are running, but OMT_JUDGES is not set"
    );
    let python = named?;
    assert!(python.exists(), "OMT_JUDGES names no environment: {}", python.display());
    Some(python)
}

/// Runs a judge script with arguments and gives its output lines as JSON.
pub fn judge(script: &str, arguments: &[&str]) -> Option<Vec<Value>> {
    let python = judges()?;
    let script = package().join("judges").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().expect("the judge runs");
    assert!(output.status.success(), "judge: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    Some(text.lines().filter(|l| l.starts_with('{')).map(|l| serde_json::from_str(l).expect("JSON")).collect())
}

/// A running server.
pub struct Server {
    /// The process.
    pub child: Child,
    /// Its URL.
    pub url: String,
    /// Its data directory's parent.
    pub dir: TempDir,
    /// Time from start to the first answer of `/ready`.
    pub start_time: Duration,
    client: Client,
    config: String,
    token: String,
}

impl Server {
    /// Starts a server on an empty data directory.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts a server with more configuration (TOML).
    pub async fn start_with(config: &str) -> Self {
        Self::launch(TempDir::new().expect("a temporary directory"), config).await
    }

    /// The command that starts a server over this directory.
    pub fn command(dir: &Path, config: &str) -> Command {
        std::fs::write(dir.join("config.toml"), config).expect("writable");
        let mut command = Command::new(binary());
        command
            .arg("--config")
            .arg(dir.join("config.toml"))
            .env("OMT_DATA_DIR", dir.join("data"))
            .env("OMT_HTTP__LISTEN", "127.0.0.1:0")
            .env("OMT_ADMIN__PASSWORD", PASSWORD)
            .env("OMT_LOG__LEVEL", "warn")
            // Every test server listens elsewhere, and tokens must outlive a restart.
            .env("OMT_PUBLIC_URL", "http://media.example.test")
            .envs(combination::environment(dir, config));
        command
    }

    /// Starts a server over what is in this directory.
    pub async fn launch(dir: TempDir, config: &str) -> Self {
        let started = Instant::now();
        let mut child = Self::command(dir.path(), config).arg("serve").stdout(Stdio::piped()).spawn().expect("the binary starts");
        let url = address(&mut child);
        let client = Client::builder().no_proxy().build().expect("a client");
        let mut server =
            Self { child, url, dir, start_time: Duration::ZERO, client, config: config.to_owned(), token: String::new() };
        assert_eq!(server.anonymous("GET", "/ready").send().await.expect("an answer").status(), StatusCode::OK);
        server.start_time = started.elapsed();
        server.token = server.login().await;
        server
    }

    /// Kills the server at once and starts another on the same data.
    pub async fn crash_and_restart(mut self) -> Self {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        let Parts { dir, config } = take(self);
        Self::launch(dir, &config).await
    }

    /// Kills the server at once and starts another on the same data with another configuration.
    pub async fn restart_with(mut self, config: &str) -> Self {
        config.clone_into(&mut self.config);
        self.crash_and_restart().await
    }

    /// The directory of temporary files.
    pub fn spool(&self) -> PathBuf {
        let own = if combination::current().s3 { "data/spool" } else { "data/blobs/.spool" };
        self.dir.path().join(own)
    }

    /// The database that it uses.
    pub async fn database(&self) -> SqlDatabase {
        let path = self.dir.path().join(combination::DATABASE);
        let url = combination::database_url(self.dir.path()).unwrap_or_else(|| format!("sqlite:{}", path.display()));
        SqlDatabase::connect(&url).await.expect("the database opens")
    }

    /// A new access token for the first user.
    pub async fn login(&self) -> String {
        let body = json!({ "username": "admin", "password": PASSWORD });
        let answer = self.anonymous("POST", "/api/v1/auth/login").json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let tokens: Value = answer.json().await.expect("JSON");
        tokens["access_token"].as_str().expect("a token").to_owned()
    }

    /// Makes a user of the default tenant; the identifier.
    pub async fn user(&self, username: &str, fields: Value) -> String {
        let mut body = json!({ "username": username, "password": PASSWORD });
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("fields").clone());
        let made = self.request("POST", "/api/v1/admin/users").json(&body).send().await.expect("an answer");
        id(&ok(made, StatusCode::CREATED).await).to_owned()
    }

    /// Logs somebody in; their tokens.
    pub async fn log_in(&self, body: Value) -> Response {
        self.anonymous("POST", "/api/v1/auth/login").json(&body).send().await.expect("an answer")
    }

    /// An access token of a user with the usual password.
    pub async fn token(&self, username: &str) -> String {
        let tokens = ok(self.log_in(json!({ "username": username, "password": PASSWORD })).await, StatusCode::OK).await;
        tokens["access_token"].as_str().expect("a token").to_owned()
    }

    /// A request without a credential.
    pub fn anonymous(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().expect("a method"), format!("{}{path}", self.url))
    }

    /// A request as the first user.
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    /// GET as the first user.
    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path).send().await.expect("an answer")
    }

    /// GET as the first user, a JSON answer with status 200.
    pub async fn json(&self, path: &str) -> Value {
        ok(self.get(path).await, StatusCode::OK).await
    }

    /// An API key of the tenant.
    pub async fn key(&self, tenant: &str, scopes: &[&str]) -> String {
        let body = json!({ "name": "test", "tenant": tenant, "scopes": scopes });
        let made =
            ok(self.request("POST", "/api/v1/admin/api-keys").json(&body).send().await.expect("an answer"), StatusCode::CREATED);
        made.await["key"].as_str().expect("a key").to_owned()
    }

    /// Makes another tenant; its administrator's access token.
    pub async fn tenant(&self, id: &str) -> String {
        let body = json!({ "id": id, "administrator": { "username": "boss", "password": PASSWORD } });
        let made = self.request("POST", "/api/v1/admin/tenants").json(&body).send().await.expect("an answer");
        ok(made, StatusCode::CREATED).await;
        let login = json!({ "username": "boss", "password": PASSWORD, "tenant": id });
        ok(self.log_in(login).await, StatusCode::OK).await["access_token"].as_str().expect("a token").to_owned()
    }

    /// Uploads bytes with further fields.
    pub async fn upload(&self, name: &str, bytes: Vec<u8>, fields: &[(&str, &str)]) -> Response {
        self.request("POST", "/api/v1/manifests").multipart(form(name, bytes, fields)).send().await.expect("an answer")
    }

    /// Uploads and signs; the record.
    pub async fn signed(&self, name: &str, bytes: Vec<u8>, fields: &[(&str, &str)]) -> Value {
        let fields = [&[("sign", "true")], fields].concat();
        ok(self.upload(name, bytes, &fields).await, StatusCode::CREATED).await
    }

    /// The content of a manifest.
    pub async fn content(&self, record: &Value) -> Vec<u8> {
        let answer = self.get(&format!("/api/v1/manifests/{}/content", id(record))).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer.bytes().await.expect("a body").to_vec()
    }

    /// Verifies bytes.
    pub async fn verify(&self, name: &str, bytes: Vec<u8>) -> Value {
        let answer = self.request("POST", "/api/v1/verify").multipart(form(name, bytes, &[])).send().await.expect("an answer");
        ok(answer, StatusCode::OK).await
    }
}

/// Kills the process at its n-th write from now on: strace stops it at the system call and delivers SIGKILL.
pub fn kill_at_write(pid: u32, n: usize) -> Option<Child> {
    let calls = "write,pwrite64,pwritev,fsync,fdatasync,rename,renameat2,ftruncate,mkdir,unlink,openat";
    let mut strace = Command::new("strace")
        .args(["-f", "-q", "-o", "/dev/null", "-e", &format!("trace={calls}")])
        .args(["-e", &format!("inject=write,pwrite64,fsync,fdatasync,rename,unlink:signal=KILL:when={n}")])
        .args(["-p", &pid.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    // Attached once the process says who traces it.
    for _ in 0..200 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if status.lines().any(|l| l.strip_prefix("TracerPid:").is_some_and(|v| v.trim() != "0")) {
            std::thread::sleep(Duration::from_millis(20));
            return Some(strace);
        }
        if let Ok(Some(_)) = strace.try_wait() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = strace.kill();
    None
}

/// Parts of a server whose process has ended.
struct Parts {
    dir: TempDir,
    config: String,
}

fn take(mut server: Server) -> Parts {
    let dir = std::mem::replace(&mut server.dir, TempDir::new().expect("a temporary directory"));
    Parts { dir, config: std::mem::take(&mut server.config) }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already after a crash test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the line that says where the server listens.
pub fn address(child: &mut Child) -> String {
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut lines = BufReader::new(stdout).lines();
    let line = lines.by_ref().map_while(Result::ok).find(|l| l.contains("listening on ")).expect("the server starts");
    // The rest is read and dropped, so that the server never blocks on a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    line.rsplit("listening on ").next().expect("an address").trim().to_owned()
}

/// A form with a file.
pub fn form(name: &str, bytes: Vec<u8>, fields: &[(&str, &str)]) -> multipart::Form {
    let form = multipart::Form::new().part("file", multipart::Part::bytes(bytes).file_name(name.to_owned()));
    fields.iter().fold(form, |form, (key, value)| form.text((*key).to_owned(), (*value).to_owned()))
}

/// Asks until it is so: what a job does takes its time.
pub async fn until(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    for _ in 0..300 {
        if ask().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it never became so: {what}");
}

/// The identifier in a record.
pub fn id(record: &Value) -> &str {
    record["id"].as_str().expect("an identifier")
}

/// The JSON of an answer that must have this status.
pub async fn ok(answer: Response, status: StatusCode) -> Value {
    let found = answer.status();
    let text = answer.text().await.expect("a body");
    assert_eq!(found, status, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Checks a problem: status, code, and the members that every problem has.
pub async fn problem(answer: Response, status: u16, code: &str) -> Value {
    let found = answer.status().as_u16();
    let kind = answer.headers().get("content-type").map(|v| v.to_str().unwrap_or_default().to_owned());
    let request_id = answer.headers().get("x-request-id").map(|v| v.to_str().unwrap_or_default().to_owned());
    let text = answer.text().await.expect("a body");
    assert_eq!((found, kind.as_deref()), (status, Some("application/problem+json")), "{text}");
    let body: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(body["code"], code, "{text}");
    assert_eq!(body["status"], status);
    for member in ["type", "title", "detail", "message", "error"] {
        assert!(body[member].is_string(), "{member} is missing: {text}");
    }
    assert_eq!(body["requestId"].as_str(), request_id.as_deref());
    body
}
