//! Broken set-ups: what `doctor` says of each, and what servers do.

use omt_tests::{
    Server,
    authority::{Authority, Mood},
    combination, fixture, service,
    stub_s3::{Answer, StubS3},
};
use reqwest::StatusCode;
use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Output},
};

/// The rest does not depend on which adapters there are.
fn embedded() -> bool {
    combination::current() == combination::ALL[0]
}

/// A directory with everything that a server needs.
fn installation() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.jpg"), fixture("a.jpg")).unwrap();
    let mut sign = Server::command(dir.path(), "");
    let sign = sign.arg("sign").arg(dir.path().join("in.jpg")).arg("-o").arg(dir.path().join("out.jpg")).output().unwrap();
    assert!(sign.status.success(), "{}", String::from_utf8_lossy(&sign.stderr));
    dir
}

/// The names of what `doctor` finds wrong with this installation under this configuration, and all that it says.
fn doctor(installation: &Path, config: &str, environment: &[(&str, &str)]) -> (BTreeSet<String>, String) {
    let own = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(installation.join("data"), own.path().join("data")).unwrap();
    let mut command = Server::command(own.path(), config);
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret").envs(environment.iter().copied());
    let output = command.arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let failed: BTreeSet<String> =
        text.lines().filter_map(|line| line.strip_prefix("FAIL  ")).map(|rest| rest[..12].trim_end().to_owned()).collect();
    assert_eq!(output.status.code(), Some(i32::from(!failed.is_empty())), "{text}");
    (failed, text)
}

/// A database file with the schema, changed by a statement.
fn database(installation: &Path, name: &str, statement: &str) -> String {
    let copy = installation.join(name);
    let copied = Command::new("sqlite3")
        .arg(installation.join("data/openmediatrust.db"))
        .arg(format!("VACUUM INTO '{}'", copy.display()))
        .output()
        .unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let changed = Command::new("sqlite3").arg(&copy).arg(statement).output().unwrap();
    assert!(changed.status.success(), "{changed:?}");
    format!("sqlite:{}", copy.display())
}

/// What answers, and is wrong all the same: each is named, with how to mend it, and nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_what_is_wrong_with_what_answers() {
    if !embedded() {
        return;
    }
    let dir = installation();
    let well = StubS3::start(|_| None);
    let open = r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"*"}]}"#;
    let public = StubS3::start(move |r| match r.parameter("publicAccessBlock") {
        Some(_) => Some(Answer::error(404, "NoSuchPublicAccessBlockConfiguration")),
        None => r.parameter("policy").map(|_| Answer::new(200, open)),
    });
    let strangers = StubS3::start(|_| Some(Answer::error(403, "InvalidAccessKeyId").with("x-amz-bucket-region", "us-east-1")));
    let gone = StubS3::start(|_| Some(Answer::error(404, "NoSuchBucket")));
    let elsewhere =
        StubS3::start(|_| Some(Answer::error(400, "AuthorizationHeaderMalformed").with("x-amz-bucket-region", "eu-north-1")));
    let late = StubS3::start(|_| Some(Answer::error(403, "RequestTimeTooSkewed")));
    late.set_clock_ahead(3600);
    let blob = |stub: &StubS3| format!("[blob]\nurl = \"{}\"\n", stub.url("media"));
    let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m99991231_000001_of_a_newer_version', 0)";
    let older = "DELETE FROM seaql_migrations WHERE version = (SELECT max(version) FROM seaql_migrations)";
    let sqlite = |name: &str, statement: &str, more: &str| {
        format!("[database]\nurl = \"{}{more}\"\n", database(dir.path(), name, statement))
    };
    let both: &[&str] = &["blob store", "bucket"];
    let cases: [(String, &[&str], &str, &str); 12] = [
        (String::new(), &[], "", ""),
        (blob(&well), &[], "", ""),
        (sqlite("newer.db", newer, ""), &["database"], "newer version", "use the newer version"),
        (sqlite("older.db", older, ""), &["database"], "older schema", "migrate up"),
        (sqlite("read.db", "SELECT 1", "?mode=ro"), &["database"], "DATABASE_READ_ONLY", "primary"),
        (blob(&gone), both, "BLOB_STORE_MISSING", "make the bucket"),
        (blob(&strangers), both, "BLOB_STORE_REFUSED", "credentials"),
        (blob(&elsewhere), both, "which is eu-north-1", "region="),
        (blob(&late), both, "by -3", "NTP"),
        (blob(&public), &["bucket"], "policy lets everybody in", "block public access"),
        ("[lifecycle]\nsweep_after_seconds = 60\n".to_owned(), &["lifecycle"], "before it is recorded", "a day"),
        // This machine by another name than its own.
        ("[cache]\nurl = \"redis://0.0.0.0:9/\"\n".to_owned(), &["cache", "transport"], "not encrypted", "rediss://"),
    ];
    // At once: some of them wait.
    std::thread::scope(|scope| {
        for (config, names, words, mend) in cases {
            let installation = dir.path();
            scope.spawn(move || {
                let (failed, text) = doctor(installation, &config, &[]);
                assert_eq!(failed, names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), "{config}: {text}");
                assert!(text.contains(words) && text.contains(mend), "{config}: {text}");
            });
        }
    });
}

/// Servers with certificates of a CA that is trusted, and of one that is not.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_verified() {
    let (Some(tls), true) = (service("OMT_TEST_TLS_DIR"), embedded()) else { return };
    let (redis, bucket) = (service("OMT_TEST_REDIS_TLS").unwrap(), service("OMT_TEST_S3_TLS").unwrap());
    let dir = installation();
    let config = format!("[queue]\nurl = \"{redis}\"\n[cache]\nurl = \"{redis}\"\n[blob]\nurl = \"{bucket}\"\n");
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| (name, std::env::var(name).unwrap()));
    let found = |ca: &str| {
        let ca = format!("{tls}/{ca}.pem");
        let environment = [(keys[0].0, keys[0].1.as_str()), (keys[1].0, keys[1].1.as_str()), ("SSL_CERT_FILE", ca.as_str())];
        doctor(dir.path(), &config, &environment)
    };
    let (failed, text) = found("ca");
    assert!(["queue", "cache", "blob store", "transport"].iter().all(|name| !failed.contains(*name)), "{text}");
    let (failed, text) = found("other");
    assert!(["queue", "cache", "blob store", "bucket"].iter().all(|name| failed.contains(*name)), "{text}");
}

/// During an upgrade the first new replica migrates. The old ones go on serving, and no further old one starts.
#[tokio::test]
async fn a_newer_schema_stops_a_start_and_no_server() {
    if !embedded() {
        return;
    }
    let server = Server::start().await;
    let record = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m99991231_000001_of_a_newer_version', 0)";
    assert!(combination::execute(server.dir.path(), newer).status.success());
    assert_eq!(server.anonymous("GET", "/ready").send().await.unwrap().status(), StatusCode::OK);
    assert!(!server.content(&record).await.is_empty());
    server.signed("a.png", fixture("a.png"), &[]).await;
    let run = |arguments: &[&str]| -> Output { Server::command(server.dir.path(), "").args(arguments).output().unwrap() };
    for arguments in [&["serve"][..], &["worker"], &["migrate", "up"]] {
        let refused = run(arguments);
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && words.contains("newer version"), "{arguments:?}: {words}");
    }
    assert_eq!(run(&["migrate", "check"]).status.code(), Some(1));
}

/// As after a failover: callers are told, and when the database takes writes again everything goes on.
#[tokio::test]
async fn callers_are_told_what_the_database_lacks() {
    if combination::current().name != "postgres-file" {
        return;
    }
    let server = Server::start().await;
    server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let url = combination::database_url(server.dir.path()).unwrap();
    let name = url.rsplit_once('/').unwrap().1.to_owned();
    let alter = |what: &str| {
        // From another database, whose transactions may write. Connections that are open keep what they had.
        let all = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        for statement in [format!("ALTER DATABASE {name} {what}"), all] {
            let output = Command::new("psql").args([&service("OMT_TEST_POSTGRES").unwrap(), "-qc", &statement]).output();
            assert!(output.as_ref().unwrap().status.success(), "{output:?}");
        }
    };
    let upload = async || {
        let form = omt_tests::form("a.png", fixture("a.png"), &[("sign", "true")]);
        let answer = server.request("POST", "/api/v1/manifests").multipart(form).send().await.unwrap();
        let (status, wait) = (answer.status(), answer.headers().contains_key("retry-after"));
        (status, wait, answer.json::<serde_json::Value>().await.unwrap())
    };
    alter("SET default_transaction_read_only = on");
    let mut said = BTreeSet::new();
    for _ in 0..5 {
        let (status, wait, body) = upload().await;
        assert!(status == StatusCode::SERVICE_UNAVAILABLE && wait, "{status}: {body}");
        said.insert(body["code"].as_str().unwrap().to_owned());
    }
    assert!(said.contains("DATABASE_READ_ONLY"), "{said:?}");
    assert_eq!(server.anonymous("GET", "/ready").send().await.unwrap().status(), StatusCode::OK);
    alter("RESET default_transaction_read_only");
    for attempt in 0.. {
        let (status, _, body) = upload().await;
        if status == StatusCode::CREATED {
            break;
        }
        assert!(attempt < 10, "{status}: {body}");
    }
}

/// A server that may not ask for unfinished uploads still sweeps.
#[tokio::test]
async fn what_may_not_be_listed_keeps_nothing_else_from_being_swept() {
    // The server takes its credentials from the environment.
    if !embedded() || service("OMT_TEST_S3").is_none() {
        return;
    }
    let denied = |r: &omt_tests::stub_s3::Request| r.method == "GET" && r.parameter("uploads").is_some();
    let stub = StubS3::start(move |r| denied(r).then(|| Answer::error(403, "AccessDenied")));
    let orphan = format!("default/ab/{}", "ab".repeat(32));
    stub.put(&orphan, b"x");
    let lifecycle = "[lifecycle]\nsweep_every_seconds = 1\n";
    let server = Server::start_with(&format!("[blob]\nurl = \"{}\"\n{lifecycle}", stub.url("media"))).await;
    omt_tests::until("the orphan is swept", async || !stub.keys().contains(&orphan)).await;
    let progress = async || {
        let jobs = server.json("/api/v1/admin/jobs?kind=sweep&state=done").await;
        jobs["items"].as_array().unwrap().iter().find(|job| job["progress"]["orphans_removed"] == 1).cloned()
    };
    omt_tests::until("the sweep ends well", async || progress().await.is_some()).await;
    assert_eq!(progress().await.unwrap()["progress"]["failed"], 3, "the uploads of each tier");
}

/// The authority is asked, by `doctor` and by `sign` alike.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_asks_for_a_time_stamp() {
    if !embedded() {
        return;
    }
    let (dir, authority) = (installation(), Authority::start().await);
    let said = |config: &str| {
        let (failed, text) = doctor(dir.path(), config, &[]);
        let line = text.lines().find(|line| line.contains("time-stamps")).unwrap_or_default().to_owned();
        (failed.contains("time-stamps"), line)
    };
    assert_eq!(said(""), (false, String::new()));
    let (failed, line) = said(&authority.config());
    assert!(!failed && line.contains("CN=Time,O=OpenMediaTrust answers and is trusted"), "{line}");
    let (failed, line) = said(&format!("[timestamp]\nurl = \"{}\"\n", authority.url));
    assert!(failed && line.contains("is not trusted"), "{line}");
    let sign = |to: &str| {
        let (from, to) = (dir.path().join("in.jpg"), dir.path().join(to));
        Server::command(dir.path(), &authority.config()).arg("sign").arg(from).arg("-o").arg(to).output().unwrap()
    };
    assert!(sign("stamped.jpg").status.success());
    let verify =
        Server::command(dir.path(), &authority.config()).args(["verify", "--json"]).arg(dir.path().join("stamped.jpg")).output();
    let text = String::from_utf8(verify.unwrap().stdout).unwrap();
    assert!(text.contains("timeStamp.trusted"), "{text}");
    authority.behave(Mood::Broken);
    let (failed, line) = said(&authority.config());
    assert!(failed && line.contains("the authority answers 500"), "{line}");
    let refused = sign("never.jpg");
    assert!(refused.status.code() == Some(1) && !dir.path().join("never.jpg").exists());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("TIMESTAMP_UNAVAILABLE") || told.contains("there is no time-stamp"), "{told}");
}
