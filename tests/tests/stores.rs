//! Content whose manifest stores cannot be read, or are several: never taken for content without one.

use omt_tests::{Server, combination, fixture, form, id, ok, problem};
use reqwest::{StatusCode, multipart::Part};
use serde_json::json;

/// Where something stands.
pub(crate) fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|w| w == what).expect("it is there")
}

/// The PNG with another chunk after its header.
pub(crate) fn png_with(png: &[u8], kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let named = [kind.as_slice(), body].concat();
    let chunk = [&(body.len() as u32).to_be_bytes()[..], &named, &crc32fast::hash(&named).to_be_bytes()].concat();
    [&png[..33], &chunk, &png[33..]].concat()
}

/// The PNG with its store twice.
fn png_twice(png: &[u8]) -> Vec<u8> {
    let at = find(png, b"caBX") - 4;
    let size = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
    png_with(png, b"caBX", &png[at + 8..at + 8 + size])
}

/// The JPEG with its store twice, under another box instance number or the same.
fn jpeg_twice(jpeg: &[u8], instance: Option<u8>) -> Vec<u8> {
    let (mut at, mut segments) = (2, Vec::new());
    while jpeg[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] == 0xeb {
            let mut segment = jpeg[at..end].to_vec();
            segment[6] = instance.unwrap_or(segment[6]);
            segments.extend(segment);
        }
        at = end;
    }
    [&jpeg[..at], &segments, &jpeg[at..]].concat()
}

/// The MP4 with its store twice.
fn mp4_twice(mp4: &[u8]) -> Vec<u8> {
    let at = find(mp4, b"uuid\xd8\xfe\xc3\xd6") - 4;
    let size = u32::from_be_bytes(mp4[at..at + 4].try_into().unwrap()) as usize;
    [mp4, &mp4[at..at + size]].concat()
}

/// The WAV with its store twice.
fn wav_twice(wav: &[u8]) -> Vec<u8> {
    let at = find(wav, b"C2PA");
    let size = u32::from_le_bytes(wav[at + 4..at + 8].try_into().unwrap()) as usize;
    let mut out = [wav, &wav[at..at + 8 + size.next_multiple_of(2)]].concat();
    let riff = (out.len() as u32 - 8).to_le_bytes();
    out[4..8].copy_from_slice(&riff);
    out
}

#[tokio::test]
async fn content_with_two_manifest_stores_is_refused() {
    if combination::current() != combination::ALL[0] {
        return;
    }
    let server = Server::start().await;
    let signed = async |name: &str| server.content(&server.signed(name, fixture(name), &[]).await).await;
    let (png, jpeg, mp4, wav) = (signed("a.png").await, signed("a.jpg").await, signed("a.mp4").await, signed("a.wav").await);
    let cases = [
        ("a.png", png_twice(&png)),
        ("a.jpg", jpeg_twice(&jpeg, Some(9))),
        ("a.jpg", jpeg_twice(&jpeg, None)),
        ("a.mp4", mp4_twice(&mp4)),
        ("a.wav", wav_twice(&wav)),
    ];
    for (name, bytes) in cases {
        for sign in ["true", "false"] {
            let refused = problem(server.upload(name, bytes.clone(), &[("sign", sign)]).await, 422, "CONTENT_REFUSED").await;
            assert_eq!(refused["errors"][0]["field"], "file", "{name}");
        }
        let whole = form("b.jpg", fixture("a.jpg"), &[("sign", "true"), ("ingredient_relationship", "componentOf")]);
        let with = whole.part("ingredient", Part::bytes(bytes.clone()).file_name(name));
        let refused = server.request("POST", "/api/v1/manifests").multipart(with).send().await.unwrap();
        assert_eq!(problem(refused, 422, "CONTENT_REFUSED").await["errors"][0]["field"], "ingredient", "{name}");
        let report = server.verify(name, bytes).await;
        assert_eq!((report["manifest_present"].as_bool(), report["valid"].as_bool()), (Some(true), Some(false)), "{name}");
    }
    // With one store, each is what it was.
    for (name, bytes) in [("a.png", png), ("a.jpg", jpeg), ("a.mp4", mp4), ("a.wav", wav)] {
        assert_eq!(server.verify(name, bytes.clone()).await["validation_state"], "trusted", "{name}");
        ok(server.upload(name, bytes, &[]).await, StatusCode::CREATED).await;
    }
}

/// Content of types that take manifests, in a form that takes none.
#[tokio::test]
async fn forms_that_take_no_manifest_get_a_sidecar() {
    if combination::current() != combination::ALL[0] {
        return;
    }
    let server = Server::start().await;
    // QuickTime from before `ftyp`; a bare JPEG XL codestream.
    let movie = fixture("a.mov");
    let start = u32::from_be_bytes(movie[..4].try_into().unwrap()) as usize;
    let still = fixture("a.jxl");
    let codestream = still[find(&still, b"jxlc") + 4..].to_vec();
    for (name, bytes) in [("a.mov", movie[start..].to_vec()), ("a.jxl", codestream)] {
        let record = server.signed(name, bytes.clone(), &[("action", "c2pa.edited")]).await;
        assert_eq!(record["signature"]["embedded"], false, "{name}");
        let path = format!("/api/v1/manifests/{}/report", id(&record));
        let report = server.json(&path).await;
        assert_eq!((report["validation_state"].as_str(), &report["issues"]), (Some("trusted"), &json!([])), "{report}");
        assert_eq!(report["warnings"], json!([]), "{name}");
        assert_eq!(server.content(&record).await, bytes, "{name}");
    }
}

/// An ingredient that was forged before it came here: the asset made of it is sound, and whoever reads about it is told.
#[tokio::test]
async fn what_was_forged_before_it_was_added_is_told() {
    if combination::current() != combination::ALL[0] {
        return;
    }
    let server = Server::start().await;
    let mut forged = server.content(&server.signed("a.jpg", fixture("a.jpg"), &[("title", "part")]).await).await;
    let at = forged.len() - 100;
    forged[at] ^= 1;
    let sound = server.content(&server.signed("a.png", fixture("a.png"), &[]).await).await;
    for (relationship, action) in [("componentOf", "c2pa.created"), ("parentOf", "c2pa.edited")] {
        let fields = [("sign", "true"), ("action", action), ("ingredient_relationship", relationship)];
        let form = form("b.png", fixture("a.png"), &fields);
        let form = form.part("ingredient", Part::bytes(forged.clone()).file_name("forged.jpg"));
        let answer = server.request("POST", "/api/v1/manifests").multipart(form).send().await.unwrap();
        let record = ok(answer, StatusCode::CREATED).await;
        tells_of_a_forgery(&server, &server.content(&record).await, relationship, 1).await;
        let custody = server.json(&format!("/api/v1/verify/{}/chain-of-custody", id(&record))).await;
        let failures = custody["chain"]["ingredients"][0]["failures"].as_array().unwrap();
        assert!(failures.iter().any(|f| f["code"] == "assertion.dataHash.mismatch"), "{custody}");
        // What is made of that tells it too.
        let next = server.signed("c.png", server.content(&record).await, &[("action", "c2pa.edited")]).await;
        tells_of_a_forgery(&server, &server.content(&next).await, relationship, 1).await;
    }
    // The forgery itself as the source.
    let record = server.signed("a.jpg", forged, &[("action", "c2pa.edited")]).await;
    tells_of_a_forgery(&server, &server.content(&record).await, "source", 1).await;
    // A sound ingredient is nothing to warn of.
    let record = server.signed("a.png", sound, &[("action", "c2pa.edited")]).await;
    let report = server.verify("a.png", server.content(&record).await).await;
    assert_eq!((&report["warnings"], report["validation_state"].as_str()), (&json!([]), Some("trusted")));
}

async fn tells_of_a_forgery(server: &Server, bytes: &[u8], what: &str, times: usize) {
    let report = server.verify("x", bytes.to_vec()).await;
    assert_eq!(
        (report["validation_state"].as_str(), report["valid"].as_bool()),
        (Some("trusted"), Some(true)),
        "{what}: {report}"
    );
    let warnings = report["warnings"].as_array().unwrap();
    let told: Vec<_> = warnings.iter().filter(|w| w["code"] == "ingredient.manifest.invalid").collect();
    assert_eq!(told.len(), times, "{what}: {report}");
    assert!(told[0]["explanation"].as_str().unwrap().contains("assertion.dataHash.mismatch"), "{what}: {}", told[0]);
    let strict = form("x", bytes.to_vec(), &[("strict", "true")]);
    let strict = server.request("POST", "/api/v1/verify").multipart(strict).send().await.unwrap();
    let strict = ok(strict, StatusCode::OK).await;
    assert_eq!((strict["valid"].as_bool(), &strict["warnings"]), (Some(false), &json!([])), "{what}");
}

/// Content whose XMP names a manifest elsewhere: nothing is fetched, and it is not said that there is none.
#[tokio::test]
async fn a_manifest_elsewhere_is_inaccessible() {
    if combination::current() != combination::ALL[0] {
        return;
    }
    let server = Server::start().await;
    let xmp = "http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF \
               xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description rdf:about=\"\" \
               xmlns:dcterms=\"http://purl.org/dc/terms/\" dcterms:provenance=\"https://manifests.example/1.c2pa\"/></rdf:RDF></x:xmpmeta>";
    let jpeg = fixture("a.jpg");
    let with = [&jpeg[..2], &[0xff, 0xe1], &(xmp.len() as u16 + 2).to_be_bytes(), xmp.as_bytes(), &jpeg[2..]].concat();
    let report = server.verify("a.jpg", with).await;
    assert_eq!((report["issues"][0]["code"].as_str(), report["valid"].as_bool()), (Some("manifest.inaccessible"), Some(false)));
    assert!(report["issues"][0]["explanation"].as_str().unwrap().contains("https://manifests.example/1.c2pa"), "{report}");
}

/// What is wrong with an ingredient is said of the ingredient.
#[tokio::test]
async fn an_ingredient_that_is_not_what_it_is_called_is_named() {
    if combination::current() != combination::ALL[0] {
        return;
    }
    let server = Server::start().await;
    let form = form("a.jpg", fixture("a.jpg"), &[("ingredient_relationship", "componentOf")]);
    let form = form.part("ingredient", Part::bytes(b"words".to_vec()).file_name("b.png"));
    let answer = server.request("POST", "/api/v1/manifests").multipart(form).send().await.unwrap();
    assert_eq!(problem(answer, 422, "MEDIA_TYPE_MISMATCH").await["errors"][0]["field"], "ingredient");
}
