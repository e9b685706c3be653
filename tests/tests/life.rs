//! Starting, readiness, stopping.

use omt_tests::{Server, fixture, id};
use reqwest::StatusCode;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

#[tokio::test]
async fn first_start_restart_and_sigterm() {
    let server = Server::start().await;
    let record = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let roots = server.get("/api/v1/trust/roots.pem").await.text().await.unwrap();
    let server = server.crash_and_restart().await;
    assert_eq!(server.get("/api/v1/trust/roots.pem").await.text().await.unwrap(), roots);
    let report = server.json(&format!("/api/v1/manifests/{}/report", id(&record))).await;
    assert_eq!(report["validation_state"], "trusted");
    let mut server = server;
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn health_and_readiness_name_what_fails() {
    depends_on!();
    // A bucket cannot be taken away from one test alone.
    let server = Server::start_with("[blob]\nurl = \"\"\n").await;
    let health: Value = server.anonymous("GET", "/health").send().await.unwrap().json().await.unwrap();
    assert_eq!(health["status"], "ok");
    // The blob store loses its spool directory.
    let spool = server.dir.path().join("data/blobs/.spool");
    std::fs::remove_dir_all(&spool).unwrap();
    let answer = server.anonymous("GET", "/ready").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body: Value = answer.json().await.unwrap();
    let failed: Vec<&str> = body["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|d| d["status"] == "failed")
        .map(|d| d["name"].as_str().unwrap())
        .collect();
    assert_eq!(failed, ["blob_store"]);
    assert_eq!(server.anonymous("GET", "/health").send().await.unwrap().status(), StatusCode::OK);
    std::fs::create_dir(&spool).unwrap();
    assert_eq!(server.anonymous("GET", "/ready").send().await.unwrap().status(), StatusCode::OK);
    std::fs::rename(server.dir.path().join("data/keystore.json"), server.dir.path().join("gone")).unwrap();
    let body: Value = server.anonymous("GET", "/ready").send().await.unwrap().json().await.unwrap();
    assert!(body.to_string().contains("KEY_STORE_UNAVAILABLE"), "{body}");
}

#[tokio::test]
async fn a_made_up_password_is_printed_once_and_secrets_stay_out_of_the_log() {
    depends_on!();
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = Server::command(dir.path(), "[log]\nlevel = \"trace\"\n");
        command.env_remove("OMT_ADMIN__PASSWORD").env_remove("OMT_LOG__LEVEL").arg("serve");
        // A file, since nobody reads a pipe while the server writes.
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        command.stdout(Stdio::piped()).stderr(log).spawn().unwrap()
    };
    let stop = |mut child: std::process::Child| {
        let (mut out, mut text) = (BufReader::new(child.stdout.take().unwrap()), String::new());
        while !text.contains("listening on") {
            assert!(out.read_line(&mut text).unwrap() > 0, "{text}");
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        out.read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        (text, String::from_utf8_lossy(&std::fs::read(dir.path().join("log")).unwrap()).into_owned())
    };
    let (first, log) = stop(start());
    let password = first.lines().find_map(|l| l.split("password: ").nth(1)).expect("a password").to_owned();
    assert!(password.len() >= 20);
    let passphrase = std::fs::read_to_string(dir.path().join("data/keystore.passphrase")).unwrap();
    assert!(!log.contains(&password) && !log.contains(passphrase.trim()));
    let (second, _) = stop(start());
    assert!(!second.contains("password"), "{second}");
}

#[tokio::test]
async fn broken_configurations_are_named() {
    depends_on!();
    let dir = tempfile::tempdir().unwrap();
    for (config, words) in [
        ("[http]\nlistn = \"127.0.0.1:1\"\n", "listn"),
        ("[database]\nurl = \"mysql://x\"\n", "sqlite: or postgres:"),
        ("[blob]\nurl = \"ftp:x\"\n", "blob.url"),
        ("[trust]\nanchors = [\"absent.pem\"]\n", "absent.pem"),
        ("[crypto]\nprovider = \"rot13\"\n", "provider"),
        ("[tenant_defaults]\npost_quantum = \"maybe\"\n", "maybe"),
    ] {
        let output = Server::command(dir.path(), config).arg("serve").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{config}");
        assert!(text.contains(words), "{config}: {text}");
    }
    // A wrong passphrase opens nothing.
    let dir = tempfile::tempdir().unwrap();
    let signed = dir.path().join("out.jpg");
    std::fs::write(dir.path().join("in.jpg"), fixture("a.jpg")).unwrap();
    let sign = |passphrase: &str| {
        let mut command = Server::command(dir.path(), "");
        command.env("OMT_KEYSTORE__PASSPHRASE", passphrase).arg("sign").arg(dir.path().join("in.jpg")).arg("-o").arg(&signed);
        command.output().unwrap()
    };
    assert!(sign("one").status.success());
    let refused = sign("two");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("wrong passphrase"));
}

#[tokio::test]
async fn doctor_finds_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let doctor_in = |dir: &std::path::Path, config: &str| {
        let output = Server::command(dir, config).arg("doctor").output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let doctor = |config: &str| doctor_in(dir.path(), config);
    let (code, text) = doctor("");
    assert_eq!(code, Some(1));
    assert!(text.contains("FAIL  data dir"), "{text}");
    std::fs::write(dir.path().join("in.jpg"), fixture("a.jpg")).unwrap();
    let sign = Server::command(dir.path(), "")
        .arg("sign")
        .arg(dir.path().join("in.jpg"))
        .arg("-o")
        .arg(dir.path().join("out.jpg"))
        .output()
        .unwrap();
    assert!(sign.status.success(), "{}", String::from_utf8_lossy(&sign.stderr));
    let (code, text) = doctor("");
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = doctor("[trust]\nanchors = [\"absent.pem\"]\n");
    assert_eq!(code, Some(1));
    assert!(text.contains("FAIL  trust lists"), "{text}");
    let status = Server::command(dir.path(), "").args(["migrate", "check"]).output().unwrap();
    assert!(status.status.success());
    // Each of these is named, and nothing else is.
    let broken = [
        ("[database]\nurl = \"postgres://nobody@127.0.0.1:9/none\"\n", "database"),
        ("[database]\nurl = \"sqlite:/nowhere/at/all.db\"\n", "database"),
        ("[blob]\nurl = \"file:/proc/nowhere\"\n", "blob store"),
        ("[blob]\nurl = \"s3://media?endpoint=http://127.0.0.1:9&path_style=true&region=x\"\n", "blob store"),
        ("[queue]\nurl = \"redis://127.0.0.1:9/\"\n", "queue"),
        ("[queue]\nurl = \"amqp://127.0.0.1/\"\n", "queue"),
        ("[cache]\nurl = \"redis://127.0.0.1:9/\"\n", "cache"),
        ("[keystore]\npassphrase = \"wrong\"\n", "key store"),
        ("[keystore]\npath = \"/nowhere/keys.json\"\n", "key store"),
        ("[trust]\nanchors = [\"absent.pem\"]\n", "trust lists"),
    ];
    // At once, since each waits for what does not answer; each with a configuration file of its own.
    std::thread::scope(|scope| {
        for (config, name) in broken {
            let (source, doctor_in) = (dir.path(), &doctor_in);
            scope.spawn(move || {
                let own = tempfile::tempdir().unwrap();
                std::os::unix::fs::symlink(source.join("data"), own.path().join("data")).unwrap();
                let (code, text) = doctor_in(own.path(), config);
                assert_eq!(code, Some(1), "{config}: {text}");
                assert!(text.contains(&format!("FAIL  {name:<12}")), "{config}: {text}");
                assert!(text.contains("mend:"), "{text}");
            });
        }
    });
}
