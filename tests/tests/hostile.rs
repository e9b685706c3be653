//! Content that was built to hurt: each gets its documented answer, and the server's memory and next request are unharmed.

use crate::stores::png_with;
use omt_tests::{Server, combination, fixture, fixtures, form, id, ok, problem};
use reqwest::{StatusCode, multipart::Part};
use serde_json::{Value, json};

/// A zlib stream of so many zeros, a thousandth of their number or so: one literal and copies of it, in codes of a fixed length.
fn zeros(count: usize) -> Vec<u8> {
    let (mut out, mut held, mut bits) = (vec![0x78, 0x01], 0u64, 0u32);
    let mut put = |value: u64, length: u32, out: &mut Vec<u8>| {
        held |= value << bits;
        bits += length;
        while bits >= 8 {
            out.push(held as u8);
            held >>= 8;
            bits -= 8;
        }
    };
    // The last block, of fixed codes; the literal 0 is 00110000, read from its first bit.
    put(0b011, 3, &mut out);
    put(0b0000_1100, 8, &mut out);
    // Length 258 is 11000101, distance 1 is 00000.
    let copies = (count - 1) / 258;
    for _ in 0..copies {
        put(0b1010_0011, 8, &mut out);
        put(0, 5, &mut out);
    }
    put(0, 7, &mut out);
    put(0, 7, &mut out);
    let length = (1 + 258 * copies) as u32;
    out.extend((((length % 65_521) << 16) | 1).to_be_bytes());
    out
}

/// A box.
fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
}

/// A superbox of a C2PA type.
fn superbox(kind: &[u8; 4], label: &str, inner: &[u8]) -> Vec<u8> {
    let tail = [0x00, 0x11, 0x00, 0x10, 0x80, 0x00, 0x00, 0xaa, 0x00, 0x38, 0x9b, 0x71];
    let description = [kind.as_slice(), &tail, &[3], label.as_bytes(), &[0]].concat();
    boxed(b"jumb", &[boxed(b"jumd", &description), inner.to_vec()].concat())
}

/// A store whose one manifest has this in it.
fn store(inner: &[u8]) -> Vec<u8> {
    superbox(b"c2pa", "c2pa", &superbox(b"c2ma", "urn:c2pa:1", inner))
}

fn claim(cbor: &[u8]) -> Vec<u8> {
    store(&superbox(b"c2cl", "c2pa.claim.v2", &boxed(b"cbor", cbor)))
}

/// The most memory that a process ever had, in megabytes.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

async fn unharmed(server: &Server, before: u64) {
    let now = peak(server);
    assert!(now < before + 250, "from {before} to {now} MB");
    server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    assert_eq!(std::fs::read_dir(server.spool()).unwrap().count(), 0);
}

#[tokio::test]
async fn bombs_have_their_answers() {
    if combination::current() != combination::ALL[0] {
        return;
    }
    let server = Server::start().await;
    server.signed("a.png", fixture("a.png"), &[]).await;
    let before = peak(&server);
    let png = fixture("a.png");
    let bomb = zeros(1 << 29);
    let compressed = |kind: &[u8; 4], head: &[u8]| png_with(&png, kind, &[head, &bomb].concat());
    let mut deep = superbox(b"none", "x", &[]);
    for _ in 0..10_000 {
        deep = superbox(b"none", "x", &deep);
    }
    let entities: String =
        (b'b'..=b'k').map(|c| format!("<!ENTITY {} \"{}\">", c as char, format!("&{};", (c - 1) as char).repeat(10))).collect();
    let laughs = format!(
        "<?xml version=\"1.0\"?><!DOCTYPE svg [<!ENTITY a \"aaaaaaaaaa\">{entities}]>\
         <svg xmlns=\"http://www.w3.org/2000/svg\"><metadata>&k;</metadata></svg>"
    );
    let nested = format!("<svg xmlns=\"http://www.w3.org/2000/svg\">{}{}</svg>", "<g>".repeat(200_000), "</g>".repeat(200_000));
    // A tag of one compressed frame in the place of the file's own.
    let mut frame = b"ID3\x04\0\0\0\0\0\x1aTXXX\0\0\0\x10\0\x08".to_vec();
    frame.resize(10 + 0x1a, 0);
    let sound = fixture("a.mp3");
    let own = 10 + sound[6..10].iter().fold(0, |n, byte| (n << 7) | usize::from(*byte));
    frame.extend(&sound[own..]);
    let directory = b"II*\0\x08\0\0\0\0\0\x08\0\0\0".to_vec();
    let boxes: Vec<u8> = std::iter::repeat_n(*b"\0\0\0\x08free", 60_000).flatten().collect();
    // Refused: name, bytes and code.
    let refused: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a.png", compressed(b"iCCP", b"p\0\0"), "CONTENT_REFUSED"),
        ("a.png", compressed(b"zTXt", b"Comment\0\0"), "CONTENT_REFUSED"),
        ("a.png", compressed(b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0"), "CONTENT_REFUSED"),
        ("a.png", png_with(&png, b"caBX", &store(&deep)), "CONTENT_REFUSED"),
        ("a.png", png_with(&png, b"caBX", &claim(&[0x5b, 0, 0, 0, 1, 0, 0, 0, 0])), "CONTENT_REFUSED"),
        ("a.png", png_with(&png, b"caBX", &claim(&vec![0x81; 100_000])), "CONTENT_REFUSED"),
        ("a.mp3", frame, "CONTENT_REFUSED"),
        ("a.tiff", directory, "CONTENT_REFUSED"),
        ("a.mp4", [fixture("a.mp4"), boxes].concat(), "CONTENT_REFUSED"),
        // Who writes entities of their own does not write SVG that we recognise.
        ("a.svg", laughs.into_bytes(), "MEDIA_TYPE_MISMATCH"),
        ("a.jpg", [b"PK\x03\x04".as_slice(), &[0; 1000]].concat(), "MEDIA_TYPE_MISMATCH"),
    ];
    for (n, (name, bytes, code)) in refused.into_iter().enumerate() {
        for sign in ["true", "false"] {
            let answer = problem(server.upload(name, bytes.clone(), &[("sign", sign)]).await, 422, code).await;
            assert_eq!(answer["errors"][0]["field"], "file", "{n} {name}");
        }
        let whole = form("b.jpg", fixture("a.jpg"), &[("sign", "true"), ("ingredient_relationship", "componentOf")]);
        let whole = whole.part("ingredient", Part::bytes(bytes.clone()).file_name(name));
        let answer = server.request("POST", "/api/v1/manifests").multipart(whole).send().await.unwrap();
        assert_eq!(problem(answer, 422, code).await["errors"][0]["field"], "ingredient", "{n} {name}");
        // Looking at it is no reason to refuse: what it is is said.
        let report = server.verify(name, bytes).await;
        assert_eq!(
            (report["valid"].as_bool(), report["validation_state"].as_str()),
            (Some(false), Some("invalid")),
            "{n} {name}"
        );
        assert!(report["issues"][0]["code"].is_string() && report["issues"][0]["explanation"].is_string(), "{n}: {report}");
    }
    // Harmless here: nobody expands or unpacks it, and it is signed as it is.
    let still = [fixture("a.jxl"), boxed(b"brob", &[b"Exif".as_slice(), &[0xff; 1000]].concat())].concat();
    for (name, bytes) in [("a.svg", nested.into_bytes()), ("a.jxl", still)] {
        let record = server.signed(name, bytes, &[]).await;
        let report = server.json(&format!("/api/v1/manifests/{}/report", id(&record))).await;
        assert_eq!(report["validation_state"], "trusted", "{name}: {report}");
    }
    unharmed(&server, before).await;
}

/// Cut anywhere, no file is taken for whole.
#[tokio::test]
async fn files_cut_anywhere_are_refused() {
    if combination::current() != combination::ALL[0] {
        return;
    }
    let server = Server::start().await;
    for name in fixtures().into_iter().filter(|n| n != "a.txt") {
        let whole = fixture(&name);
        for tenths in [1, 3, 5, 8, 9] {
            let answer = server.upload(&name, whole[..whole.len() * tenths / 10].to_vec(), &[("sign", "true")]).await;
            let status = answer.status();
            let body: Value = answer.json().await.unwrap();
            let code = body["code"].as_str().unwrap_or_default();
            let known = ["CONTENT_TRUNCATED", "CONTENT_UNREADABLE", "CONTENT_REFUSED", "MEDIA_TYPE_MISMATCH"];
            assert!(status == StatusCode::UNPROCESSABLE_ENTITY && known.contains(&code), "{name} {tenths}: {status} {body}");
        }
    }
    assert_eq!(server.json("/api/v1/manifests").await["items"], json!([]));
    unharmed(&server, peak(&server)).await;
}

/// An assertion that we could not read ourselves is not signed.
#[tokio::test]
async fn assertions_beyond_our_own_bounds_are_refused() {
    if combination::current() != combination::ALL[0] {
        return;
    }
    let server = Server::start().await;
    let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({ "x": inner }));
    let assertion = |levels: usize| json!([{ "label": "com.example.deep", "data": nested(levels) }]).to_string();
    let fields = |text: &str| vec![("sign".to_owned(), "true".to_owned()), ("assertions".to_owned(), text.to_owned())];
    let send = async |levels: usize| {
        let fields = fields(&assertion(levels));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        server.upload("a.jpg", fixture("a.jpg"), &fields).await
    };
    let answer = problem(send(63).await, 422, "INVALID_ASSERTION").await;
    assert_eq!(answer["errors"][0]["field"], "assertions[0].data");
    let record = ok(send(62).await, StatusCode::CREATED).await;
    assert_eq!(server.verify("a.jpg", server.content(&record).await).await["validation_state"], "trusted");
}
