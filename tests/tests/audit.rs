//! The audit log: what is written, that it can be proved, and that any change shows.

use omt_tests::{PASSWORD, Server, combination, fixture, id, judge, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

/// Waits until every entry has its place in a signed tree; the tree head.
pub(crate) async fn integrated(server: &Server) -> String {
    let began = Instant::now();
    loop {
        let newest = server.json("/api/v1/admin/audit-logs?limit=1").await;
        if newest["items"][0]["index"].is_u64() {
            return server.get("/api/v1/audit/checkpoint").await.text().await.unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(10), "the log is not integrated");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn run(server: &Server, arguments: &[&str]) -> Output {
    Server::command(server.dir.path(), "").arg("audit").args(arguments).output().unwrap()
}

pub(crate) fn says(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The log as a directory.
pub(crate) fn tiles(server: &Server) -> PathBuf {
    server.dir.path().join("data/blobs/.audit")
}

#[tokio::test]
async fn what_is_done_is_written_and_proved() {
    let server = Server::start().await;
    let first = integrated(&server).await;
    let record = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let path = format!("/api/v1/manifests/{}", id(&record));
    server.verify("a.jpg", fixture("a.jpg")).await;
    let body = json!({ "manifest_id": record["id"] });
    ok(server.request("POST", "/api/v1/verify").json(&body).send().await.unwrap(), StatusCode::OK).await;
    let hold = server.request("PUT", &format!("{path}/legal-hold")).json(&json!({ "reason": "case 7" })).send().await.unwrap();
    ok(hold, StatusCode::OK).await;
    ok(server.request("DELETE", &format!("{path}/legal-hold")).send().await.unwrap(), StatusCode::OK).await;
    assert_eq!(server.request("DELETE", &path).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    problem(server.log_in(json!({ "username": "admin", "password": "wrong" })).await, 401, "INVALID_CREDENTIALS").await;
    problem(server.anonymous("GET", "/api/v1/manifests").bearer_auth("omt_x").send().await.unwrap(), 401, "INVALID_API_KEY")
        .await;
    integrated(&server).await;
    let log = server.json("/api/v1/admin/audit-logs?limit=200").await;
    let items = log["items"].as_array().unwrap();
    let find = |action: &str| items.iter().find(|i| i["entry"]["action"] == action).unwrap_or_else(|| panic!("{action}: {log}"));
    for action in ["manifest.create", "manifest.verify", "manifest.hold", "manifest.release", "manifest.archive"] {
        let item = find(action);
        assert_eq!((item["actor_name"].as_str(), &item["entry"]["resource"]["id"]), (Some("admin"), &record["id"]), "{action}");
        assert!(item["entry"]["request"].as_str().is_some_and(|request| !request.is_empty()));
    }
    // One state follows the other.
    assert_eq!(find("manifest.hold")["entry"]["before"], find("manifest.create")["entry"]["after"]);
    assert_eq!(find("manifest.release")["entry"]["before"], find("manifest.hold")["entry"]["after"]);
    assert_eq!(find("access.denied")["entry"]["code"], "INVALID_API_KEY");
    let failed = items.iter().find(|i| i["entry"]["action"] == "auth.login" && i["entry"]["outcome"] == "denied").unwrap();
    assert_eq!((failed["actor"].as_str(), failed["entry"]["via"].as_str()), (Some("anonymous"), Some("nothing")));
    // No name of a person is in what cannot be changed.
    assert!(items.iter().all(|item| !item["entry"].to_string().contains("admin\"")), "{log}");
    // Search.
    let count = async |query: &str| {
        server.json(&format!("/api/v1/admin/audit-logs?limit=200&{query}")).await["items"].as_array().unwrap().len()
    };
    assert_eq!(count(&format!("resource={}", id(&record))).await, 5);
    assert_eq!(count("action=manifest.").await, 5);
    assert_eq!(count("action=manifest.hold&outcome=done").await, 1);
    assert_eq!(count("actor=user:nobody").await, 0);
    assert_eq!(count("before=2020-01-01T00:00:00Z").await, 0);
    problem(server.get("/api/v1/admin/audit-logs?from=yesterday").await, 400, "INVALID_QUERY").await;
    // Proofs, by code that shares nothing with ours.
    let entry = find("manifest.create")["id"].as_str().unwrap().to_owned();
    let inclusion = server.json(&format!("/api/v1/audit/proof/inclusion?entry={entry}")).await;
    let size: u64 = first.lines().nth(1).unwrap().parse().unwrap();
    let consistency = server.json(&format!("/api/v1/audit/proof/consistency?from={size}")).await;
    let keys = ok(server.anonymous("GET", "/api/v1/audit/keys").send().await.unwrap(), StatusCode::OK).await;
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut arguments = vec![
        write("keys", keys.to_string()),
        write("inclusion", inclusion.to_string()),
        write("old", first.clone()),
        write("consistency", consistency.to_string()),
    ];
    if !combination::current().s3 {
        arguments.push(tiles(&server).display().to_string());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(verdict) = judge("audit.py", &arguments) {
        let mut expected = json!({ "signatures": 2, "inclusion": true, "consistency": true });
        if !combination::current().s3 {
            expected["tiles"] = json!(true);
        }
        assert_eq!(verdict[0], expected);
    }
    problem(server.get("/api/v1/audit/proof/consistency?from=0").await, 400, "INVALID_QUERY").await;
    problem(server.get("/api/v1/audit/proof/consistency?from=1&to=100000").await, 400, "INVALID_QUERY").await;
    let unknown = format!("/api/v1/audit/proof/inclusion?entry={}", uuid::Uuid::now_v7());
    problem(server.get(&unknown).await, 404, "NOT_FOUND").await;
    for path in ["entries/.hidden", "0/000.p/.x", "9/999", "0//1"] {
        problem(server.get(&format!("/api/v1/audit/tile/{path}")).await, 404, "NOT_FOUND").await;
    }
    // A copy is itself written down.
    let copy = server.get("/api/v1/audit/export").await.text().await.unwrap();
    let lines: Vec<Value> = copy.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["action"], "audit.export");
    assert!(lines.len() > items.len());
}

#[tokio::test]
async fn every_decision_is_written_where_that_is_asked_for() {
    depends_on!(Database);
    for (level, written) in [("standard", 0), ("full", 2)] {
        let server = Server::start_with(&format!("[audit]\nlevel = \"{level}\"\n")).await;
        server.json("/api/v1/manifests").await;
        server.json("/api/v1/admin/users").await;
        let log = server.json("/api/v1/admin/audit-logs?action=access.allowed").await;
        let paths: Vec<&str> =
            log["items"].as_array().unwrap().iter().map(|i| i["entry"]["resource"]["id"].as_str().unwrap()).collect();
        let reads = paths.iter().filter(|path| ["GET /api/v1/manifests", "GET /api/v1/admin/users"].contains(path));
        assert_eq!(reads.count(), written, "{level}: {log}");
    }
}

#[tokio::test]
async fn the_log_is_checked_from_a_server_and_from_files() {
    let server = Server::start().await;
    for n in 0..3 {
        server.user(&format!("user-{n}"), json!({})).await;
    }
    integrated(&server).await;
    let whole = run(&server, &["verify"]);
    assert!(whole.status.success() && says(&whole).contains("the database holds the same"), "{}", says(&whole));
    let keys = server.dir.path().join("keys");
    std::fs::write(&keys, says(&run(&server, &["keys"]))).unwrap();
    let keys = keys.display().to_string();
    let token = server.dir.path().join("token");
    std::fs::write(&token, server.login().await).unwrap();
    let remote = run(&server, &["verify", "--from", &server.url, "--keys", &keys, "--token", &token.display().to_string()]);
    // The checkpoint is asked for as a tile would be; both paths are the server's.
    assert!(remote.status.success(), "{}", says(&remote));
    let made = server.json("/api/v1/admin/audit-logs?action=user.create&limit=1").await["items"][0]["index"].to_string();
    let one = run(&server, &["verify", "--entry", &made]);
    assert!(one.status.success() && says(&one).contains("user.create"), "{}", says(&one));
    // By a proof alone, as a tenant has it.
    let entry = server.json("/api/v1/admin/audit-logs?action=user.create&limit=1").await["items"][0]["id"].clone();
    let mut proof = server.json(&format!("/api/v1/audit/proof/inclusion?entry={}", entry.as_str().unwrap())).await;
    let file = server.dir.path().join("proof").display().to_string();
    std::fs::write(&file, proof.to_string()).unwrap();
    let proved = run(&server, &["verify", "--proof", &file, "--keys", &keys]);
    assert!(proved.status.success() && says(&proved).contains("user.create"), "{}", says(&proved));
    proof["index"] = json!(proof["index"].as_u64().unwrap() - 1);
    std::fs::write(&file, proof.to_string()).unwrap();
    let moved = run(&server, &["verify", "--proof", &file, "--keys", &keys]);
    assert_eq!(moved.status.code(), Some(2), "{}", says(&moved));
    std::fs::write(&file, "{}").unwrap();
    assert_eq!(run(&server, &["verify", "--proof", &file, "--keys", &keys]).status.code(), Some(1));
    let beyond = run(&server, &["verify", "--entry", "99999"]);
    assert_eq!(beyond.status.code(), Some(2), "{}", says(&beyond));
    let without = run(&server, &["verify", "--from", &server.url]);
    assert_eq!(without.status.code(), Some(1), "{}", says(&without));
    // Somebody else's keys.
    let other = Server::start().await;
    let foreign = server.dir.path().join("foreign");
    std::fs::write(&foreign, says(&run(&other, &["keys"]))).unwrap();
    let refused = run(&server, &["verify", "--keys", &foreign.display().to_string()]);
    assert_eq!(refused.status.code(), Some(2), "{}", says(&refused));
}

/// Changes the database as somebody who owns it could.
pub(crate) fn change(dir: &Path, sqlite: &str, postgres: &str) {
    let output = combination::execute(dir, if combination::current().postgres { postgres } else { sqlite });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whether the database refuses a statement.
pub(crate) fn refuses(server: &Server, statement: &str) -> bool {
    let output = combination::execute(server.dir.path(), statement);
    !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("append-only")
}

#[tokio::test]
async fn every_change_of_the_database_shows_and_where() {
    depends_on!(Database);
    let server = Server::start().await;
    for n in 0..6 {
        server.user(&format!("user-{n}"), json!({})).await;
    }
    integrated(&server).await;
    for statement in [
        "UPDATE audit_entries SET outcome = 'done'",
        "DELETE FROM audit_entries",
        "UPDATE audit_places SET place = place + 100",
        "DELETE FROM audit_places",
        "DELETE FROM audit_checkpoints",
    ] {
        assert!(refuses(&server, statement), "{statement}");
    }
    if !combination::current().postgres {
        for table in ["audit_entries", "audit_places", "audit_checkpoints"] {
            let statement = format!("INSERT OR REPLACE INTO {table} SELECT * FROM {table} LIMIT 1");
            assert!(refuses(&server, &statement), "{statement}");
        }
    }
    // Where the users were made.
    let made = server.json("/api/v1/admin/audit-logs?action=user.create&limit=6").await;
    let [.., two, one] = made["items"].as_array().unwrap().as_slice() else { panic!("{made}") };
    let (one, two) = (one["index"].as_u64().unwrap(), two["index"].as_u64().unwrap());
    let bad = |place: u64| {
        let output = run(&server, &["verify"]);
        assert_eq!(output.status.code(), Some(2), "{}", says(&output));
        assert!(says(&output).contains(&format!("BAD   entry {place}:")), "{}", says(&output));
    };
    let good = || {
        let output = run(&server, &["verify"]);
        assert!(output.status.success(), "{}", says(&output));
    };
    // As the owner of the database, who can take the triggers away.
    let open_sqlite =
        "DROP TRIGGER audit_entries_no_update; DROP TRIGGER audit_places_no_update; DROP TRIGGER audit_entries_no_delete;";
    let open_postgres = "ALTER TABLE audit_entries DISABLE TRIGGER USER; ALTER TABLE audit_places DISABLE TRIGGER USER;";
    change(server.dir.path(), open_sqlite, open_postgres);
    let of = |place: u64| format!("(SELECT id FROM audit_places WHERE place = {place})");
    // One byte of one old leaf.
    change(
        server.dir.path(),
        &format!(
            "UPDATE audit_entries SET leaf = CAST(replace(CAST(leaf AS TEXT), '\"done\"', '\"dons\"') AS BLOB) WHERE id = {}",
            of(one)
        ),
        &format!("UPDATE audit_entries SET leaf = set_byte(leaf, 20, get_byte(leaf, 20) # 1) WHERE id = {}", of(one)),
    );
    bad(one);
    change(
        server.dir.path(),
        &format!(
            "UPDATE audit_entries SET leaf = CAST(replace(CAST(leaf AS TEXT), '\"dons\"', '\"done\"') AS BLOB) WHERE id = {}",
            of(one)
        ),
        &format!("UPDATE audit_entries SET leaf = set_byte(leaf, 20, get_byte(leaf, 20) # 1) WHERE id = {}", of(one)),
    );
    good();
    // A column that people search by, and not the leaf.
    let both = format!("UPDATE audit_entries SET action = 'user.nothing' WHERE id = {}", of(two));
    change(server.dir.path(), &both, &both);
    bad(two);
    let both = format!("UPDATE audit_entries SET action = 'user.create' WHERE id = {}", of(two));
    change(server.dir.path(), &both, &both);
    good();
    // Two change places.
    let swap = "UPDATE audit_places SET place = -1 WHERE place = 2; UPDATE audit_places SET place = 2 WHERE place = 5; \
                UPDATE audit_places SET place = 5 WHERE place = -1;";
    change(server.dir.path(), swap, swap);
    bad(2);
    change(server.dir.path(), swap, swap);
    good();
    // One is gone.
    let drop = format!("DELETE FROM audit_entries WHERE id = {}", of(two));
    change(server.dir.path(), &drop, &drop);
    bad(two);
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn every_change_of_a_tile_shows_and_where() {
    if combination::current().s3 {
        return;
    }
    let server = Server::start().await;
    for n in 0..6 {
        server.user(&format!("user-{n}"), json!({})).await;
    }
    let head = integrated(&server).await;
    let size: u64 = head.lines().nth(1).unwrap().parse().unwrap();
    let (tile, bundle) =
        (tiles(&server).join(format!("tile/0/000.p/{size}")), tiles(&server).join(format!("tile/entries/000.p/{size}")));
    let bad = |words: &str| {
        let output = run(&server, &["verify"]);
        assert_eq!(output.status.code(), Some(2), "{}", says(&output));
        assert!(says(&output).contains(words), "{}", says(&output));
    };
    flip(&tile, 32 * 4 + 7);
    bad("entry 4:");
    flip(&tile, 32 * 4 + 7);
    let kept = std::fs::read(&bundle).unwrap();
    let mut entries: Vec<Vec<u8>> = Vec::new();
    let mut rest = kept.as_slice();
    while let Some((len, more)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len));
        entries.push(rest[..2 + len].to_vec());
        rest = &more[len..];
    }
    let write = |entries: &[Vec<u8>]| std::fs::write(&bundle, entries.concat()).unwrap();
    let mut dropped = entries.clone();
    dropped.remove(2);
    write(&dropped);
    bad("entry 2:");
    write(&entries[..4]);
    bad("entry 4: its bundle is cut off");
    let mut swapped = entries.clone();
    swapped.swap(1, 3);
    write(&swapped);
    bad("entry 1:");
    let mut changed = entries.clone();
    *changed[5].last_mut().unwrap() ^= 1;
    write(&changed);
    bad("entry 5:");
    write(&entries);
    assert!(run(&server, &["verify"]).status.success());
    // Entries and tiles changed alike do not fit the signed tree head; and a tree head that was changed is not signed.
    std::fs::remove_file(&tile).unwrap();
    bad("entry 0: its tile is missing");
    let path = tiles(&server).join("checkpoint");
    std::fs::write(&path, head.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size - 1), 1)).unwrap();
    bad("the signed tree head is refused");
}

#[tokio::test]
async fn a_server_that_dies_goes_on_with_the_same_log() {
    let mut server = Server::start().await;
    let mut heads = vec![integrated(&server).await];
    for round in 0..3 {
        for n in 0..100 {
            let body = json!({ "name": format!("key-{round}-{n}"), "scopes": ["manifest:read"] });
            ok(server.request("POST", "/api/v1/admin/api-keys").json(&body).send().await.unwrap(), StatusCode::CREATED).await;
        }
        server = server.crash_and_restart().await;
        heads.push(integrated(&server).await);
    }
    let size = |head: &str| head.lines().nth(1).unwrap().parse::<u64>().unwrap();
    assert!(size(heads.last().unwrap()) > 300, "{}", heads.last().unwrap());
    for head in &heads {
        let path = format!("/api/v1/audit/proof/consistency?from={}", size(head));
        // Somebody who logged in may stand in a tree whose tiles are being written.
        omt_tests::until("the tiles are there", async || server.get(&path).await.status() == StatusCode::OK).await;
        let proof = server.json(&path).await;
        let decode = |text: &str| {
            use base64::{Engine, engine::general_purpose::STANDARD};
            <[u8; 32]>::try_from(STANDARD.decode(text).unwrap()).unwrap()
        };
        let hashes: Vec<[u8; 32]> = proof["hashes"].as_array().unwrap().iter().map(|h| decode(h.as_str().unwrap())).collect();
        let newest = proof["checkpoint"].as_str().unwrap();
        let root = |head: &str| decode(head.lines().nth(2).unwrap());
        assert!(omt_audit::merkle::consistent(size(head), &root(head), size(newest), &root(newest), &hashes), "{proof}");
    }
    let whole = run(&server, &["verify"]);
    assert!(whole.status.success(), "{}", says(&whole));
}

#[tokio::test]
async fn a_person_is_forgotten_and_the_log_still_holds() {
    depends_on!(Database);
    let server = Server::start().await;
    let alice = server.user("alice-in-chains", json!({ "roles": ["manager"], "email": "alice@example.test" })).await;
    let token = server.token("alice-in-chains").await;
    let form = omt_tests::form("a.png", fixture("a.png"), &[]);
    let draft = server.anonymous("POST", "/api/v1/manifests").bearer_auth(&token).multipart(form).send().await.unwrap();
    let draft = ok(draft, StatusCode::CREATED).await;
    let form = omt_tests::form("a.jpg", fixture("a.jpg"), &[("sign", "true")]);
    let signed = server.anonymous("POST", "/api/v1/manifests").bearer_auth(&token).multipart(form).send().await.unwrap();
    let signed = ok(signed, StatusCode::CREATED).await;
    integrated(&server).await;
    let path = format!("/api/v1/privacy/subjects/{alice}");
    let known = server.json(&format!("{path}/export")).await;
    assert_eq!((known["user"]["email"].as_str(), known["manifests"].as_array().unwrap().len()), (Some("alice@example.test"), 2));
    assert_eq!(known["sessions"].as_array().unwrap().len(), 1);
    let held = format!("/api/v1/manifests/{}/legal-hold", id(&draft));
    ok(server.request("PUT", &held).json(&json!({ "reason": "case" })).send().await.unwrap(), StatusCode::OK).await;
    let erase = || server.request("DELETE", &path).send();
    problem(erase().await.unwrap(), 409, "LEGAL_HOLD").await;
    ok(server.request("DELETE", &held).send().await.unwrap(), StatusCode::OK).await;
    let erased = ok(erase().await.unwrap(), StatusCode::OK).await;
    assert_eq!(erased["signed_with_name"], json!([signed["id"]]));
    // Nothing is left that names her.
    problem(server.get(&format!("{path}/export")).await, 404, "NOT_FOUND").await;
    problem(server.anonymous("GET", "/api/v1/manifests").bearer_auth(&token).send().await.unwrap(), 401, "SESSION_ENDED").await;
    problem(server.log_in(json!({ "username": "alice-in-chains", "password": PASSWORD })).await, 401, "INVALID_CREDENTIALS")
        .await;
    assert_eq!(server.json(&format!("/api/v1/manifests/{}", id(&draft))).await["creator"], "erased");
    let log = server.json("/api/v1/admin/audit-logs?limit=200").await;
    let copy = server.get("/api/v1/audit/export").await.text().await.unwrap();
    assert!(!log.to_string().contains("alice") && !copy.contains("alice"), "{log}");
    let hers: Vec<&Value> = log["items"].as_array().unwrap().iter().filter(|i| i["actor"].is_null()).collect();
    assert!(hers.len() >= 3, "{log}");
    let act = log["items"].as_array().unwrap().iter().find(|i| i["entry"]["action"] == "privacy.erase").unwrap();
    assert_eq!((act["actor_name"].as_str(), act["entry"]["resource"]["id"].as_str()), (Some("admin"), Some(alice.as_str())));
    integrated(&server).await;
    let whole = run(&server, &["verify"]);
    assert!(whole.status.success(), "{}", says(&whole));
    // Nobody erases themselves, and an administrator is left.
    let admin = server.json("/api/v1/admin/users?username=admin").await;
    let own = format!("/api/v1/privacy/subjects/{}", id(&admin["items"][0]));
    problem(server.request("DELETE", &own).send().await.unwrap(), 409, "OWN_ERASURE").await;
}

#[tokio::test]
async fn refusals_are_written_and_counted() {
    depends_on!(Database);
    let server = Server::start().await;
    let secret = server.signed("a.jpg", fixture("a.jpg"), &[("classification", "secret")]).await;
    server.user("reader", json!({ "roles": ["auditor"], "clearance": "internal" })).await;
    let token = server.token("reader").await;
    let path = format!("/api/v1/manifests/{}", id(&secret));
    problem(server.anonymous("GET", &path).bearer_auth(&token).send().await.unwrap(), 404, "NOT_FOUND").await;
    let cycle = json!({ "name": "a", "inherits": ["a"] });
    let refused = server.request("POST", "/api/v1/admin/roles").json(&cycle).send().await.unwrap();
    assert!(refused.status().is_client_error());
    let code = refused.json::<Value>().await.unwrap()["code"].as_str().unwrap().to_owned();
    let log = server.json("/api/v1/admin/audit-logs?action=access.denied&limit=50").await;
    let items = log["items"].as_array().unwrap();
    // Which thing somebody was not to see, and who tried.
    let hidden = items.iter().find(|i| i["entry"]["detail"]["id"] == secret["id"]).unwrap_or_else(|| panic!("{log}"));
    assert_eq!((hidden["actor_name"].as_str(), hidden["entry"]["code"].as_str()), (Some("reader"), Some("NOT_FOUND")));
    assert!(items.iter().any(|i| i["entry"]["code"] == code.as_str()), "{log}");
    // An identifier that is no identifier is a mistake and nothing more.
    assert!(server.get("/api/v1/manifests/nonsense").await.status().is_client_error());
    let metrics = server.get("/metrics").await.text().await.unwrap();
    for code in ["NOT_FOUND", &code] {
        assert!(metrics.contains(&format!("omt_refusals_total{{code=\"{code}\"}}")), "{code}: {metrics}");
    }
}
