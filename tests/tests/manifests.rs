//! Upload, sign, read, list, change, archive, over every format.

use futures_util::future::join_all;
use omt_tests::{Server, fixture, fixtures, form, id, judge, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Formats without embedding among the fixtures.
const SIDECARS: [&str; 1] = ["a.txt"];

#[tokio::test]
async fn every_format_signs_downloads_and_verifies() {
    depends_on!(Blobs);
    let server = Server::start().await;
    let out = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for name in fixtures() {
        let original = fixture(&name);
        let record = server.signed(&name, original.clone(), &[]).await;
        assert_eq!(record["state"], "signed", "{name}");
        assert_eq!(record["sha256"], hex::encode(Sha256::digest(&original)), "{name}");
        assert_eq!(record["signature"]["algorithm"], "hybrid-es256-ml-dsa-65");
        let embedded = !SIDECARS.contains(&name.as_str());
        assert_eq!(record["signature"]["embedded"], embedded, "{name}");
        let content = server.content(&record).await;
        assert_eq!(hex::encode(Sha256::digest(&content)), record["signature"]["asset_sha256"], "{name}");
        assert_eq!(content != original, embedded, "{name}");
        let body = json!({ "manifest_id": id(&record) });
        let report = ok(server.request("POST", "/api/v1/verify").json(&body).send().await.unwrap(), StatusCode::OK).await;
        check_trusted(&name, &report);
        if embedded {
            check_trusted(&name, &server.verify(&name, content.clone()).await);
            let path = out.path().join(&name);
            std::fs::write(&path, content).unwrap();
            files.push(path.to_string_lossy().into_owned());
        }
    }
    let roots = out.path().join("roots.pem");
    std::fs::write(&roots, server.get("/api/v1/trust/roots.pem").await.text().await.unwrap()).unwrap();
    let roots = roots.to_string_lossy().into_owned();
    let arguments: Vec<&str> = [roots.as_str()].into_iter().chain(files.iter().map(String::as_str)).collect();
    let Some(verdicts) = judge("media.py", &arguments) else { return eprintln!("no judges here") };
    assert_eq!(verdicts.len(), files.len());
    for verdict in verdicts {
        assert_eq!(verdict["state"], "trusted", "{verdict}");
    }
}

fn check_trusted(name: &str, report: &Value) {
    assert_eq!(report["validation_state"], "trusted", "{name}: {report}");
    assert_eq!(report["c2pa_state"], "trusted", "{name}");
    assert_eq!(report["trust_level"], "enterprise", "{name}");
    assert_eq!(report["post_quantum"]["state"], "trusted", "{name}: {}", report["post_quantum"]);
    assert_eq!(report["post_quantum"]["required_by"], "when_committed", "{name}");
    for flag in ["valid", "signature_valid", "certificate_trusted", "chain_complete"] {
        assert_eq!(report[flag], true, "{name}: {flag}");
    }
    let unverified: Vec<_> = report["assertions_verified"].as_array().unwrap().iter().filter(|a| a["verified"] != true).collect();
    assert!(unverified.is_empty(), "{name}: {unverified:?}");
    assert_eq!(report["issues"], json!([]), "{name}");
    assert_eq!(
        report["organizational_compliance"],
        json!({ "pdpa_compliant": null, "workflow_approved": null, "department_authorized": null })
    );
}

/// The fixture with its `mdat` grown; with `split`, a second `mdat` after everything.
fn large_mp4(megabytes: usize, split: bool) -> Vec<u8> {
    let seed = fixture("a.mp4");
    let filler: Vec<u8> = (0..megabytes << 20).map(|n| (n as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    if split {
        let size = (filler.len() as u32 + 8).to_be_bytes();
        return [seed.as_slice(), &size, b"mdat", &filler].concat();
    }
    let at = seed.windows(4).position(|w| w == b"mdat").unwrap() - 4;
    let old = u32::from_be_bytes(seed[at..at + 4].try_into().unwrap()) as usize;
    let size = (old + filler.len()) as u32;
    [&seed[..at], &size.to_be_bytes(), &seed[at + 4..at + old], &filler, &seed[at + old..]].concat()
}

#[tokio::test]
async fn large_movies_sign_and_verify() {
    depends_on!(Blobs);
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, server.get("/api/v1/trust/roots.pem").await.bytes().await.unwrap()).unwrap();
    for split in [false, true] {
        let record = server.signed("large.mp4", large_mp4(70, split), &[]).await;
        check_trusted("large", &server.json(&format!("/api/v1/manifests/{}/report", id(&record))).await);
        let path = dir.path().join("large.mp4");
        std::fs::write(&path, server.content(&record).await).unwrap();
        let arguments = [roots.to_string_lossy().into_owned(), path.to_string_lossy().into_owned()];
        for verdict in judge("media.py", &[&arguments[0], &arguments[1]]).unwrap_or_default() {
            assert_eq!(verdict["state"], "trusted", "split {split}: {verdict}");
        }
    }
}

#[tokio::test]
async fn a_draft_is_signed_later_with_everything_it_said() {
    let server = Server::start().await;
    let assertions = json!([
        { "label": "com.example.note", "data": { "text": "hello" } },
        { "label": "cawg.training-mining", "data": { "entries": { "cawg.ai_training": { "use": "notAllowed" } } } },
        { "label": "org.enterprise.workflow", "data": {
            "workflow_id": "w-1",
            "approval_chain": [{ "role": "approver", "user_id": "u1", "user_name": "U", "timestamp": "2026-01-02T03:04:05Z", "status": "approved", "comments": "fine" }],
            "compliance_check": { "pdpa_approved": true, "trademark_cleared": true, "legal_review": true, "export_control_passed": true, "classification_verified": true },
            "classification": "confidential", "retention_policy": "7y", "organizational_context": { "department": "news", "project": "p" } } },
    ])
    .to_string();
    let fields = [
        ("title", "A title"),
        ("creator", "A creator"),
        ("department", "news"),
        ("project", "p"),
        ("organization", "o"),
        ("classification", "confidential"),
        ("action", "c2pa.edited"),
        ("software_agent", "Editor 1"),
        ("assertions", assertions.as_str()),
        ("ingredient_relationship", "parentOf"),
        ("ingredient_relationship", "componentOf"),
    ];
    let part = |name: &'static str| reqwest::multipart::Part::bytes(fixture(name)).file_name(name);
    let form = form("a.jpg", fixture("a.jpg"), &fields).part("ingredient", part("a.png")).part("ingredient", part("a.wav"));
    let answer = server.request("POST", "/api/v1/manifests").multipart(form).send().await.unwrap();
    assert_eq!(answer.headers()["etag"], "\"1\"");
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let draft = ok(answer, StatusCode::CREATED).await;
    assert_eq!((draft["state"].as_str(), draft["classification"].as_str()), (Some("draft"), Some("confidential")));
    assert_eq!(location, format!("/api/v1/manifests/{}", id(&draft)));
    assert_eq!(server.content(&draft).await, fixture("a.jpg"));
    problem(server.get(&format!("{location}/manifest.c2pa")).await, 409, "NOT_SIGNED").await;
    problem(server.get(&format!("{location}/report")).await, 409, "NOT_SIGNED").await;

    let changed =
        server.request("PATCH", &location).header("if-match", "\"1\"").json(&json!({ "title": "Better", "project": null }));
    let changed = ok(changed.send().await.unwrap(), StatusCode::OK).await;
    assert_eq!(
        (changed["title"].as_str(), &changed["project"], changed["revision"].as_i64()),
        (Some("Better"), &Value::Null, Some(2))
    );
    let stale =
        server.request("PATCH", &location).header("if-match", "\"1\"").json(&json!({ "title": "x" })).send().await.unwrap();
    problem(stale, 412, "REVISION_MISMATCH").await;

    let signed = server.request("POST", &format!("{location}/sign")).json(&json!({ "algorithm": "hybrid-es256-ml-dsa-87" }));
    let signed = ok(signed.send().await.unwrap(), StatusCode::OK).await;
    assert_eq!(signed["signature"]["algorithm"], "hybrid-es256-ml-dsa-87");
    let again = server.request("POST", &format!("{location}/sign")).json(&json!({})).send().await.unwrap();
    problem(again, 409, "ALREADY_SIGNED").await;
    let patched = server.request("PATCH", &location).json(&json!({ "title": "x" })).send().await.unwrap();
    problem(patched, 409, "ALREADY_SIGNED").await;

    let report = server.json(&format!("{location}/report")).await;
    check_trusted("draft", &report);
    assert_eq!(report["manifest_id"], signed["id"]);
    assert_eq!(report["title"], "Better");
    let labels: Vec<&str> =
        report["assertions_verified"].as_array().unwrap().iter().map(|a| a["label"].as_str().unwrap()).collect();
    for label in [
        "c2pa.actions.v2",
        "org.openmediatrust.pq-commitment",
        "com.example.note",
        "cawg.training-mining",
        "org.enterprise.workflow",
        "c2pa.ingredient.v3",
        "c2pa.ingredient.v3__1",
        "c2pa.hash.data",
        "c2pa.thumbnail.claim",
    ] {
        assert!(labels.contains(&label), "{label} not in {labels:?}");
    }
    let custody = server.json(&format!("/api/v1/verify/{}/chain-of-custody", id(&signed))).await;
    let actions: Vec<&str> =
        custody["chain"]["actions"].as_array().unwrap().iter().map(|a| a["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["c2pa.opened", "c2pa.edited", "c2pa.placed"]);
    assert_eq!(custody["chain"]["ingredients"][0]["relationship"], "parentOf");
    let crjson = server.json(&format!("{location}/crjson")).await;
    assert!(crjson["manifests"].is_array() || crjson["manifests"].is_object(), "{crjson}");
    let generator = report["claim_generator"].clone();
    assert_eq!((generator["name"].as_str(), generator["specVersion"].is_string()), (Some("OpenMediaTrust"), true));
}

#[tokio::test]
async fn provenance_is_kept_when_signed_content_is_signed_again() {
    depends_on!();
    let server = Server::start().await;
    let first = server.signed("a.png", fixture("a.png"), &[("title", "first")]).await;
    let content = server.content(&first).await;
    let second = server.signed("a.png", content.clone(), &[("title", "second"), ("action", "c2pa.resized")]).await;
    let custody = server.json(&format!("/api/v1/verify/{}/chain-of-custody", id(&second))).await;
    let inner = &custody["chain"]["ingredients"][0]["manifest"];
    assert_eq!(inner["title"], "first", "{custody}");
    check_trusted("second", &server.verify("a.png", server.content(&second).await).await);
    let fields = [("sign", "true"), ("action", "c2pa.created")];
    problem(server.upload("a.png", content, &fields).await, 422, "ACTION_CONFLICT").await;
}

#[tokio::test]
async fn ranges_tags_and_headers() {
    depends_on!(Blobs);
    let server = Server::start().await;
    let record = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let path = format!("/api/v1/manifests/{}/content", id(&record));
    let whole = server.get(&path).await;
    let tag = whole.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(whole.headers()["content-type"], "image/jpeg");
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    let link = whole.headers()["link"].to_str().unwrap().to_owned();
    assert!(link.contains("rel=\"c2pa-manifest\"") && link.contains("/manifest.c2pa>"), "{link}");
    let bytes = whole.bytes().await.unwrap();
    let part = server.request("GET", &path).header("range", "bytes=10-19").send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], format!("bytes 10-19/{}", bytes.len()));
    assert_eq!(part.bytes().await.unwrap(), bytes.slice(10..20));
    let beyond = server.request("GET", &path).header("range", format!("bytes={}-", bytes.len())).send().await.unwrap();
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    let known = server.request("GET", &path).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    let store = server.get(&format!("/api/v1/manifests/{}/manifest.c2pa", id(&record))).await;
    assert_eq!(store.headers()["content-type"], "application/c2pa");
    let store = store.bytes().await.unwrap();
    assert_eq!(&store[4..8], b"jumb");
    // The sidecar serves content whose embedded manifest was lost.
    let form = form("a.jpg", bytes.to_vec(), &[]).part("manifest", reqwest::multipart::Part::bytes(store.to_vec()));
    let answer = server.request("POST", "/api/v1/verify").multipart(form).send().await.unwrap();
    let report = ok(answer, StatusCode::OK).await;
    assert_eq!(report["validation_state"], "trusted", "{report}");
}

#[tokio::test]
async fn lists_filter_and_page_without_loss() {
    depends_on!(Database);
    let server = Server::start().await;
    for n in 0..7 {
        let (title, department) = (format!("Item {n}"), if n % 2 == 0 { "even" } else { "odd" });
        let (creator, project) = if n < 2 { ("Early", "p 1") } else { ("Late", "p 2") };
        let fields = [
            ("title", title.as_str()),
            ("department", department),
            ("organization", "o%"),
            ("creator", creator),
            ("project", project),
        ];
        ok(server.upload("a.txt", fixture("a.txt"), &fields).await, StatusCode::CREATED).await;
    }
    let titles = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|m| m["title"].as_str().unwrap().to_owned()).collect()
    };
    let mut all = Vec::new();
    let mut path = "/api/v1/manifests?limit=3".to_owned();
    loop {
        let page = server.json(&path).await;
        all.extend(titles(&page));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/manifests?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(all, (0..7).rev().map(|n| format!("Item {n}")).collect::<Vec<_>>());
    assert_eq!(titles(&server.json("/api/v1/manifests?department=odd").await), ["Item 5", "Item 3", "Item 1"]);
    assert_eq!(titles(&server.json("/api/v1/manifests?creator=Early").await), ["Item 1", "Item 0"]);
    assert_eq!(titles(&server.json("/api/v1/manifests?project=p%201&department=even").await), ["Item 0"]);
    for nobody in ["creator=Earl", "creator=early", "project=p", "project=p%203"] {
        assert_eq!(titles(&server.json(&format!("/api/v1/manifests?{nobody}")).await).len(), 0, "{nobody}");
    }
    assert_eq!(titles(&server.json("/api/v1/manifests?q=TEM%205").await), ["Item 5"]);
    assert_eq!(titles(&server.json("/api/v1/manifests?q=%25").await).len(), 0);
    assert_eq!(titles(&server.json("/api/v1/manifests?organization=o%25&state=draft&classification=internal").await).len(), 7);
    assert_eq!(titles(&server.json("/api/v1/manifests?state=signed").await).len(), 0);
    assert_eq!(titles(&server.json("/api/v1/manifests?created_before=2020-01-01T00:00:00Z").await).len(), 0);
    assert_eq!(titles(&server.json("/api/v1/manifests?created_from=2020-01-01T00:00:00Z").await).len(), 7);
    problem(server.get("/api/v1/manifests?limit=0").await, 400, "INVALID_QUERY").await;
    problem(server.get("/api/v1/manifests?cursor=xx").await, 400, "INVALID_CURSOR").await;
    problem(server.get("/api/v1/manifests?state=lost").await, 422, "INVALID_FIELD").await;
    problem(server.get("/api/v1/manifests?created_from=yesterday").await, 400, "INVALID_QUERY").await;

    let first = server.json("/api/v1/manifests?limit=1").await["items"][0].clone();
    let path = format!("/api/v1/manifests/{}", id(&first));
    // What a draft is filed under can be changed, and is found as it is from then on.
    let change = json!({ "department": "moved", "classification": "secret" });
    let changed = ok(server.request("PATCH", &path).json(&change).send().await.unwrap(), StatusCode::OK).await;
    assert_eq!((changed["department"].as_str(), changed["classification"].as_str()), (Some("moved"), Some("secret")));
    assert_eq!(server.json(&path).await, changed);
    assert_eq!(titles(&server.json("/api/v1/manifests?department=moved&classification=secret").await), ["Item 6"]);
    assert_eq!(titles(&server.json("/api/v1/manifests?department=even").await).len(), 3);
    assert_eq!(titles(&server.json("/api/v1/manifests?classification=internal").await).len(), 6);
    for _ in 0..2 {
        assert_eq!(server.request("DELETE", &path).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    }
    assert_eq!(titles(&server.json("/api/v1/manifests").await).len(), 6);
    assert_eq!(titles(&server.json("/api/v1/manifests?state=archived").await).len(), 1);
    let archived = server.json(&path).await;
    assert!(archived["archived_at"].is_string() && archived["retain_until"].is_string());
    assert_eq!(server.content(&archived).await, fixture("a.txt"));
    let sign = server.request("POST", &format!("{path}/sign")).json(&json!({})).send().await.unwrap();
    problem(sign, 409, "ARCHIVED").await;
}

#[tokio::test]
async fn an_idempotency_key_acts_once() {
    let server = Server::start().await;
    let send = |key: &'static str, title: &'static str| {
        let form = form("a.jpg", fixture("a.jpg"), &[("title", title), ("sign", "true")]);
        server.request("POST", "/api/v1/manifests").header("idempotency-key", key).multipart(form).send()
    };
    let first = ok(send("k1", "t").await.unwrap(), StatusCode::CREATED).await;
    let again = send("k1", "t").await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(ok(again, StatusCode::CREATED).await, first);
    problem(send("k1", "other").await.unwrap(), 422, "IDEMPOTENCY_KEY_REUSED").await;
    // Eight at once with one key make one manifest.
    let answers =
        join_all((0..8).map(async |_| ok(send("k2", "t2").await.unwrap(), StatusCode::CREATED).await["id"].clone())).await;
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    assert_eq!(server.json("/api/v1/manifests?q=t2").await["items"].as_array().unwrap().len(), 1);
    // Signing a draft, too.
    let draft = ok(server.upload("a.png", fixture("a.png"), &[]).await, StatusCode::CREATED).await;
    let path = format!("/api/v1/manifests/{}/sign", id(&draft));
    let sign = || server.request("POST", &path).header("idempotency-key", "k3").json(&json!({})).send();
    let signed = ok(sign().await.unwrap(), StatusCode::OK).await;
    assert_eq!(ok(sign().await.unwrap(), StatusCode::OK).await, signed);
}

#[tokio::test]
async fn concurrent_signing_of_one_draft_signs_once() {
    depends_on!(Database);
    let server = Server::start().await;
    let draft = ok(server.upload("a.jpg", fixture("a.jpg"), &[]).await, StatusCode::CREATED).await;
    let path = format!("/api/v1/manifests/{}/sign", id(&draft));
    let sign = || async { server.request("POST", &path).json(&json!({})).send().await.unwrap().status().as_u16() };
    let mut codes = join_all((0..6).map(|_| sign())).await;
    codes.sort_unstable();
    assert_eq!(codes, [200, 409, 409, 409, 409, 409]);
    let record = server.json(&format!("/api/v1/manifests/{}", id(&draft))).await;
    assert_eq!(record["revision"], 2);
    check_trusted("once", &server.verify("a.jpg", server.content(&record).await).await);
}

#[tokio::test]
async fn history_keeps_every_verification() {
    depends_on!(Database);
    let server = Server::start().await;
    let record = server.signed("a.gif", fixture("a.gif"), &[]).await;
    for strict in [false, true, false] {
        let body = json!({ "manifest_id": id(&record), "strict": strict });
        let report = ok(server.request("POST", "/api/v1/verify").json(&body).send().await.unwrap(), StatusCode::OK).await;
        assert_eq!((report["valid"].as_bool(), report["strict"].as_bool()), (Some(true), Some(strict)));
    }
    let path = format!("/api/v1/verify/{}/history?limit=2", id(&record));
    let page = server.json(&path).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let next = server.json(&format!("{path}&cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!(next["items"].as_array().unwrap().len(), 1);
    assert_eq!(next["items"][0]["report"]["validation_state"], "trusted");
}

#[tokio::test]
async fn personal_data_is_listed_and_left_out() {
    depends_on!(Database);
    let server = Server::start().await;
    let image = with_exif(&fixture("a.jpg"));
    for (inclusion, has_gps) in [("safe", false), ("all", true), ("none", false)] {
        let record = server.signed("a.jpg", image.clone(), &[("metadata", inclusion)]).await;
        let kinds: Vec<&str> =
            record["metadata"]["pii"].as_array().unwrap().iter().map(|p| p["kind"].as_str().unwrap()).collect();
        assert!(kinds.contains(&"gps") && kinds.contains(&"serial_number") && kinds.contains(&"email"), "{kinds:?}");
        assert_eq!(record["metadata"]["technical"]["width"], 160);
        let store = server.get(&format!("/api/v1/manifests/{}/manifest.c2pa", id(&record))).await.bytes().await.unwrap();
        let text = String::from_utf8_lossy(&store);
        assert_eq!(text.contains("GPSLatitude"), has_gps, "{inclusion}");
        assert_eq!(text.contains("SN-12345"), has_gps, "{inclusion}");
        assert_eq!(text.contains("TestCam"), inclusion != "none", "{inclusion}");
        check_trusted(inclusion, &server.verify("a.jpg", server.content(&record).await).await);
    }
}

/// The JPEG with an EXIF segment: make, an artist's e-mail address, a body serial number and a latitude.
fn with_exif(jpeg: &[u8]) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0".to_vec();
    let entry = |tag: u16, kind: u16, count: u32, value: u32| {
        let mut out = tag.to_le_bytes().to_vec();
        out.extend(kind.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend(value.to_le_bytes());
        out
    };
    // IFD0 at 8 with four entries ends at 62; data from 62 on.
    let (make, artist, serial) = (b"TestCam\0".as_slice(), b"ann@example.org\0".as_slice(), b"SN-12345\0\0".as_slice());
    let data = 8 + 2 + 4 * 12 + 4;
    let (make_at, artist_at) = (data, data + 8);
    let exif_at = artist_at + 16;
    let gps_at = exif_at + 2 + 12 + 4;
    let serial_at = gps_at + 2 + 2 * 12 + 4;
    let latitude_at = serial_at + 10;
    tiff.extend(4u16.to_le_bytes());
    tiff.extend(entry(0x010f, 2, make.len() as u32, make_at));
    tiff.extend(entry(0x013b, 2, artist.len() as u32, artist_at));
    tiff.extend(entry(0x8769, 4, 1, exif_at));
    tiff.extend(entry(0x8825, 4, 1, gps_at));
    tiff.extend([0; 4]);
    tiff.extend(make);
    tiff.extend(artist);
    tiff.extend(1u16.to_le_bytes());
    tiff.extend(entry(0xa431, 2, 9, serial_at));
    tiff.extend([0; 4]);
    tiff.extend(2u16.to_le_bytes());
    tiff.extend(entry(1, 2, 2, u32::from_le_bytes(*b"N\0\0\0")));
    tiff.extend(entry(2, 5, 3, latitude_at));
    tiff.extend([0; 4]);
    tiff.extend(serial);
    for n in [52u32, 1, 30, 1, 0, 1] {
        tiff.extend(n.to_le_bytes());
    }
    let mut out = jpeg[..2].to_vec();
    out.extend([0xff, 0xe1]);
    out.extend(((tiff.len() + 8) as u16).to_be_bytes());
    out.extend(b"Exif\0\0");
    out.extend(&tiff);
    out.extend(&jpeg[2..]);
    out
}

/// Words of a question are found wherever a record says them, in content's metadata and in assertions too, as long as it does.
#[tokio::test]
async fn search_finds_what_is_said_and_nothing_that_was() {
    depends_on!(Database);
    let server = Server::start().await;
    let properties = "<dc:subject><rdf:Bag><rdf:li>Regatta</rdf:li><rdf:li>late summer</rdf:li></rdf:Bag></dc:subject>\
                      <dc:description>ask bob@example.org for the blue boats</dc:description>\
                      <dc:creator><rdf:Seq><rdf:li>Wanda Unseen</rdf:li></rdf:Seq></dc:creator>\
                      <Iptc4xmpExt:Event>Harbour Days</Iptc4xmpExt:Event>";
    let note = json!([{ "label": "com.example.story", "data": { "headline": "Tides turn", "author": { "title": "Zelda" } } }]);
    let note = note.to_string();
    let fields = [("title", "One"), ("creator", "Carla Maier"), ("project", "Night-Shift"), ("assertions", note.as_str())];
    let bytes = crate::workflow::jpeg_with_xmp(properties);
    let one = ok(server.upload("quay 7.jpg", bytes, &fields).await, StatusCode::CREATED).await;
    let two = ok(server.upload("a.txt", fixture("a.txt"), &[("title", "Two regattas")]).await, StatusCode::CREATED).await;
    let found = async |question: &str| -> Vec<String> {
        let url = reqwest::Url::parse_with_params("http://server/api/v1/manifests", [("q", question)]).unwrap();
        let page = server.json(&format!("{}?{}", url.path(), url.query().unwrap())).await;
        page["items"].as_array().unwrap().iter().map(|item| id(item).to_owned()).collect()
    };
    let (one, two) = (id(&one).to_owned(), id(&two).to_owned());
    let hits = [
        "regatta summer",
        "\"late summer\"",
        "harbour days",
        "TIDES carla",
        "night-shift",
        "quay 7",
        "tid* mai*",
        "\"days\" one",
        "\"late su\"*",
    ];
    for question in hits {
        assert_eq!(found(question).await, [one.as_str()], "{question}");
    }
    assert_eq!(found("regatta").await, [two.as_str(), one.as_str()], "words, and parts of titles");
    assert_eq!(found("regatt*").await, [two.as_str(), one.as_str()]);
    for question in
        ["\"summer late\"", "regatta summer wanda", "wanda", "unseen", "zelda", "bob", "example", "blue", "ummer", "\"", "*", "'"]
    {
        assert_eq!(found(question).await, [] as [&str; 0], "{question}");
    }
    // What is changed is found as it is now.
    let path = format!("/api/v1/manifests/{one}");
    let change = json!({ "title": "Three", "project": null });
    ok(server.request("PATCH", &path).json(&change).send().await.unwrap(), StatusCode::OK).await;
    assert_eq!((found("one").await.len(), found("night-shift").await.len()), (0, 0));
    assert_eq!(found("three regatta").await, [one.as_str()]);
    let long = "x".repeat(513);
    problem(server.get(&format!("/api/v1/manifests?q={long}")).await, 400, "INVALID_QUERY").await;
    problem(server.get("/api/v1/manifests?q=a%00b").await, 400, "INVALID_QUERY").await;
    for question in ["\\", "a:b AND (c | d) <-> !e", "NEAR(a b)", "\"\"\"", "京都*", "%", "-- ;", &"\" * ".repeat(120)] {
        found(question).await;
    }
}
