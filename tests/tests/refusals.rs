//! Bad input: each gets its documented status and code, and the server goes on unharmed.

use omt_tests::{Server, fixture, fixtures, form, id, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};

#[tokio::test]
async fn uploads_that_are_refused() {
    depends_on!();
    let server = Server::start_with("[limits]\nmax_upload_bytes = 200000\n").await;
    let jpeg = || fixture("a.jpg");
    let big = "y".repeat(5 << 20);
    let assertion = |label: &str, data: Value| json!([{ "label": label, "data": data }]).to_string();
    type Case = (&'static str, Vec<u8>, Vec<(&'static str, String)>, u16, &'static str);
    let cases: Vec<Case> = vec![
        ("a.jpg", vec![], vec![], 422, "EMPTY_FILE"),
        ("a.jpg", b"not a picture".to_vec(), vec![], 422, "MEDIA_TYPE_MISMATCH"),
        ("a.jpg", b"\xff\xd8\xff\xe0garbage".to_vec(), vec![], 422, "CONTENT_TRUNCATED"),
        ("a.bin", vec![7; 300_000], vec![], 413, "CONTENT_TOO_LARGE"),
        ("a.jpg", jpeg(), vec![("algorithm", "rsa".into())], 422, "UNKNOWN_ALGORITHM"),
        ("a.jpg", jpeg(), vec![("algorithm", "ml-dsa-65".into()), ("sign", "true".into())], 422, "PRIVATE_PROFILE_DISABLED"),
        ("a.jpg", jpeg(), vec![("sign", "perhaps".into())], 422, "INVALID_FIELD"),
        ("a.jpg", jpeg(), vec![("classification", "hush".into())], 422, "INVALID_FIELD"),
        ("a.jpg", jpeg(), vec![("title", String::new())], 422, "INVALID_FIELD"),
        ("a.jpg", jpeg(), vec![("title", "a".into()), ("title", "b".into())], 400, "DUPLICATE_FIELD"),
        ("a.jpg", jpeg(), vec![("tilte", "a".into())], 400, "UNKNOWN_FIELD"),
        ("a.jpg", jpeg(), vec![("action", "c2pa.copied".into())], 422, "UNKNOWN_ACTION"),
        ("a.jpg", jpeg(), vec![("digital_source_type", "x".into())], 422, "INVALID_DIGITAL_SOURCE_TYPE"),
        ("a.jpg", jpeg(), vec![("assertions", "{".into())], 400, "INVALID_ASSERTIONS"),
        ("a.jpg", jpeg(), vec![("assertions", "[1]".into())], 400, "INVALID_ASSERTIONS"),
        ("a.jpg", jpeg(), vec![("assertions", "[".repeat(100_000))], 400, "INVALID_ASSERTIONS"),
        ("a.jpg", jpeg(), vec![("assertions", assertion("c2pa.hash.data", json!({})))], 422, "RESERVED_LABEL"),
        ("a.jpg", jpeg(), vec![("assertions", assertion("stds.exif", json!({})))], 422, "DEPRECATED_ASSERTION"),
        ("a.jpg", jpeg(), vec![("assertions", assertion("nodots", json!({})))], 422, "INVALID_LABEL"),
        ("a.jpg", jpeg(), vec![("assertions", assertion("com.example.big", json!({ "x": big })))], 413, "ASSERTION_TOO_LARGE"),
        ("a.jpg", jpeg(), vec![("ingredient_relationship", "parentOf".into())], 422, "INVALID_FIELD"),
    ];
    for (name, bytes, fields, status, code) in cases {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let body = problem(server.upload(name, bytes, &fields).await, status, code).await;
        if matches!(status, 400 | 422) && code != "INVALID_MULTIPART" {
            assert!(body["errors"][0]["field"].is_string(), "{code}: {body}");
        }
    }
    let no_file = reqwest::multipart::Form::new().text("title", "x");
    problem(server.request("POST", "/api/v1/manifests").multipart(no_file).send().await.unwrap(), 400, "MISSING_FIELD").await;
    let twice = form("a.jpg", jpeg(), &[]).part("file", reqwest::multipart::Part::bytes(jpeg()).file_name("b.jpg"));
    problem(server.request("POST", "/api/v1/manifests").multipart(twice).send().await.unwrap(), 400, "DUPLICATE_FIELD").await;
    let cut = server
        .request("POST", "/api/v1/manifests")
        .header("content-type", "multipart/form-data; boundary=x")
        .body("--x\r\nContent-");
    problem(cut.send().await.unwrap(), 400, "INVALID_MULTIPART").await;
    let plain = server.request("POST", "/api/v1/manifests").body("hello").send().await.unwrap();
    assert!(plain.status().is_client_error());
    // After all that nothing is left over and the next request works.
    assert_eq!(server.json("/api/v1/manifests").await["items"], json!([]));
    let spool = server.spool();
    assert_eq!(std::fs::read_dir(spool).unwrap().count(), 0);
    server.signed("a.jpg", jpeg(), &[]).await;
}

#[tokio::test]
async fn truncated_files_of_every_format_are_refused() {
    depends_on!();
    let server = Server::start().await;
    for name in fixtures().into_iter().filter(|n| n != "a.txt") {
        let whole = fixture(&name);
        let cut = whole[..whole.len() * 2 / 3].to_vec();
        let answer = server.upload(&name, cut, &[("sign", "true")]).await;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(
            (status, body["code"].as_str()),
            (StatusCode::UNPROCESSABLE_ENTITY, Some("CONTENT_TRUNCATED")),
            "{name}: {body}"
        );
    }
}

#[tokio::test]
async fn unknown_things_and_wrong_bodies() {
    depends_on!();
    let server = Server::start().await;
    let nobody = uuid::Uuid::now_v7();
    for path in [
        format!("/api/v1/manifests/{nobody}"),
        "/api/v1/manifests/not-a-uuid".into(),
        "/api/v2/x".into(),
        format!("/api/v1/verify/{nobody}/history"),
    ] {
        problem(server.get(&path).await, 404, "NOT_FOUND").await;
    }
    problem(
        server.request("POST", "/api/v1/verify").json(&json!({ "manifest_id": nobody })).send().await.unwrap(),
        404,
        "NOT_FOUND",
    )
    .await;
    problem(server.request("POST", "/api/v1/verify").json(&json!({ "manifest": 1 })).send().await.unwrap(), 400, "INVALID_JSON")
        .await;
    problem(server.request("POST", "/api/v1/verify").body("x").send().await.unwrap(), 415, "UNSUPPORTED_MEDIA_TYPE").await;
    let draft = ok(server.upload("a.jpg", fixture("a.jpg"), &[]).await, StatusCode::CREATED).await;
    let sign = format!("/api/v1/manifests/{}/sign", id(&draft));
    problem(server.request("POST", &sign).json(&json!({ "algorithm": "rot13" })).send().await.unwrap(), 422, "UNKNOWN_ALGORITHM")
        .await;
    problem(
        server.request("POST", &sign).json(&json!({ "algorithm": "slh-dsa-sha2-128f" })).send().await.unwrap(),
        422,
        "PRIVATE_PROFILE_DISABLED",
    )
    .await;
    let malformed = server.request("POST", &sign).header("content-type", "application/json").body("{").send().await.unwrap();
    problem(malformed, 400, "INVALID_JSON").await;
    let long =
        server.request("PATCH", &format!("/api/v1/manifests/{}", id(&draft))).json(&json!({ "title": "x".repeat(2 << 20) }));
    problem(long.send().await.unwrap(), 413, "BODY_TOO_LARGE").await;
    let method = server.request("PUT", "/api/v1/manifests").send().await.unwrap();
    assert_eq!(method.headers()["allow"], "POST, GET");
    problem(method, 405, "METHOD_NOT_ALLOWED").await;
    let given = server.anonymous("GET", "/api/v1/nothing").header("x-request-id", "my-id-1").send().await.unwrap();
    assert_eq!(problem(given, 404, "NOT_FOUND").await["requestId"], "my-id-1");
}

/// A JUMBF box.
fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32 + 8).to_be_bytes().to_vec();
    out.extend(kind);
    out.extend(body);
    out
}

fn superbox(label: &str, inner: &[u8]) -> Vec<u8> {
    let mut description = vec![0; 16];
    description.push(3);
    description.extend(label.as_bytes());
    description.push(0);
    boxed(b"jumb", &[boxed(b"jumd", &description), inner.to_vec()].concat())
}

#[tokio::test]
async fn malformed_manifests_are_invalid_with_a_reason() {
    depends_on!();
    let server = Server::start().await;
    let mut deep = superbox("x", &[]);
    for _ in 0..10_000 {
        deep = superbox("x", &deep);
    }
    let claim = |cbor: &[u8]| superbox("c2pa", &superbox("urn:c2pa:1", &superbox("c2pa.claim.v2", &boxed(b"cbor", cbor))));
    let stores = [
        ("deep", deep),
        ("long", claim(&[0x5b, 0, 0, 0, 1, 0, 0, 0, 0])),
        ("tags", claim(&vec![0xc1; 200_000])),
        ("arrays", claim(&vec![0x81; 200_000])),
        ("empty claim", claim(&[0xa0])),
        ("zeros", vec![0; 1000]),
        ("one byte", vec![1]),
    ];
    for (what, store) in stores {
        let form = form("a.jpg", fixture("a.jpg"), &[]).part("manifest", reqwest::multipart::Part::bytes(store));
        let answer = server.request("POST", "/api/v1/verify").multipart(form).send().await.unwrap();
        let report = ok(answer, StatusCode::OK).await;
        assert_eq!((report["valid"].as_bool(), report["validation_state"].as_str()), (Some(false), Some("invalid")), "{what}");
        assert!(report["issues"][0]["code"].is_string() && report["issues"][0]["explanation"].is_string(), "{what}: {report}");
    }
    for (name, bytes) in [("a.jpg", fixture("a.jpg")), ("a.txt", fixture("a.txt")), ("empty.jpg", vec![])] {
        let report = server.verify(name, bytes).await;
        assert_eq!(
            (report["manifest_present"].as_bool(), report["issues"][0]["code"].as_str()),
            (Some(false), Some("manifest.notFound")),
            "{name}"
        );
    }
    // A signed file cut off, or with any byte of the picture changed, is never valid.
    let record = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let signed = server.content(&record).await;
    let picture = signed.len() - (fixture("a.jpg").len() - 100);
    for at in (picture..signed.len()).step_by(150) {
        let mut changed = signed.clone();
        changed[at] ^= 0x10;
        let report = server.verify("a.jpg", changed).await;
        assert_eq!(report["valid"], false, "byte {at}: {report}");
    }
    for keep in [100, signed.len() / 2, signed.len() - 1] {
        assert_eq!(server.verify("a.jpg", signed[..keep].to_vec()).await["valid"], false, "{keep}");
    }
    assert_eq!(server.verify("a.jpg", signed).await["validation_state"], "trusted");
}

#[tokio::test]
async fn past_its_queue_the_server_says_busy() {
    depends_on!();
    let server = Server::start_with("[work]\nthreads = 1\nqueue = 1\n[tenant_defaults]\nprivate_profile = true\n").await;
    // Make the leaf first: that is slow by itself.
    server.signed("a.txt", fixture("a.txt"), &[("algorithm", "slh-dsa-sha2-256s")]).await;
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let form = form("a.txt", fixture("a.txt"), &[("sign", "true"), ("algorithm", "slh-dsa-sha2-256s")]);
        tasks.push(tokio::spawn(server.request("POST", "/api/v1/manifests").multipart(form).send()));
    }
    let (mut done, mut busy) = (0, 0);
    for task in tasks {
        let answer = task.await.unwrap().unwrap();
        if answer.status() == StatusCode::CREATED {
            done += 1;
        } else {
            assert!(answer.headers().contains_key("retry-after"));
            assert_eq!(problem(answer, 503, "BUSY").await["retry_after"], 2);
            busy += 1;
        }
    }
    assert!(done >= 1 && busy >= 1, "{done} done, {busy} refused");
    server.signed("a.jpg", fixture("a.jpg"), &[]).await;
}

#[tokio::test]
async fn callers_are_kept_to_their_pace() {
    depends_on!();
    let server = Server::start_with("[limits]\nrequests_per_minute = 20\n").await;
    let key = server.key("default", &["manifest:read"]).await;
    let ask = async || server.anonymous("GET", "/api/v1/manifests").bearer_auth(&key).send().await.unwrap();
    let first = ask().await;
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(first.headers()["ratelimit-policy"], "\"caller\";q=20;w=60");
    assert_eq!(first.headers()["ratelimit"], "\"caller\";r=19;t=3");
    let mut refused = None;
    for _ in 0..25 {
        let answer = ask().await;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the twenty-first is refused");
    assert_eq!(refused.headers()["ratelimit-policy"], "\"caller\";q=20;w=60");
    assert_eq!(refused.headers()["ratelimit"], "\"caller\";r=0;t=60");
    let wait: u32 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=4).contains(&wait), "{wait}");
    problem(refused, 429, "RATE_LIMITED").await;
    // Others are not held up.
    ok(server.get("/api/v1/manifests").await, StatusCode::OK).await;
    assert_eq!(server.anonymous("GET", "/health").send().await.unwrap().status(), StatusCode::OK);
}
