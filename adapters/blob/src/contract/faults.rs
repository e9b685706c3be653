//! Services that fail, each in its way, and buckets that are not as they should be.

use super::{all, blob, bytes_of, fresh, spooled};
use crate::{BucketFinding, S3BlobStore, S3Url, TieredBlobStore};
use omt_kernel::{
    Kind, OffsetDateTime, TenantId,
    manifest::BlobRef,
    port::{BlobStock, BlobStore, Content, DirectDownload, Put},
};
use omt_tests::stub_s3::{Answer, Request, StubS3};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;

/// The stub checks no credentials, but nothing is asked without any.
async fn open(stub: &StubS3, more: &str) -> (S3BlobStore, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let url: S3Url = format!("{}{more}", stub.url("media")).parse().unwrap();
    let mut store = S3BlobStore::open(&url, dir.path()).await.unwrap();
    let credentials = aws_sdk_s3::config::Credentials::new("key", "secret", None, None, "test");
    let config = store.client.config().to_builder().credentials_provider(credentials).build();
    store.client = aws_sdk_s3::Client::from_conf(config);
    (store, dir)
}

fn tenant() -> TenantId {
    TenantId::parse("a").unwrap()
}

async fn code(stub: &StubS3) -> [&'static str; 4] {
    let (store, _dir) = open(stub, "").await;
    let bytes = fresh(10);
    let is = |error: omt_kernel::Error| {
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        assert!(error.retry_after.is_some() && !error.message.contains("as told"), "{error}");
        error.code
    };
    let put = store.put(&tenant(), &blob(&bytes), Content::Memory(bytes.clone().into())).await;
    let checked = store.check().await;
    let store: Arc<dyn BlobStock> = Arc::new(store);
    let tiers = TieredBlobStore::new(store.clone(), store.clone(), store);
    let opened = tiers.open(&tenant(), &blob(&bytes)).await;
    let read = tiers.read(&tenant(), &blob(&bytes), 0..10).await;
    [is(put.unwrap_err()), is(checked.unwrap_err()), is(opened.unwrap_err()), is(read.err().unwrap())]
}

/// As services do: an answer to `HEAD` says nothing but its status and headers.
#[tokio::test]
async fn each_fault_has_its_name_whatever_is_asked() {
    let gone = StubS3::start(|_| Some(Answer::error(404, "NoSuchBucket")));
    assert_eq!(code(&gone).await, ["BLOB_STORE_MISSING"; 4]);
    let strangers = StubS3::start(|_| Some(Answer::error(403, "InvalidAccessKeyId").with("x-amz-bucket-region", "us-east-1")));
    assert_eq!(code(&strangers).await, ["BLOB_STORE_REFUSED"; 4]);
    for (status, code_of_body) in [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")] {
        let elsewhere =
            StubS3::start(move |_| Some(Answer::error(status, code_of_body).with("x-amz-bucket-region", "eu-central-1")));
        assert_eq!(code(&elsewhere).await, ["BLOB_STORE_REGION"; 4]);
    }
    // What a token that has expired gets; the header says that the region is right.
    let expired = StubS3::start(|_| Some(Answer::error(400, "ExpiredToken").with("x-amz-bucket-region", "us-east-1")));
    assert_eq!(code(&expired).await, ["BLOB_STORE_REFUSED"; 4]);
    for ahead in [3600, -3600] {
        let skewed = StubS3::start(|_| Some(Answer::error(403, "RequestTimeTooSkewed")));
        skewed.set_clock_ahead(ahead);
        assert_eq!(code(&skewed).await, ["BLOB_STORE_CLOCK"; 4]);
    }
    let minio = StubS3::start(|_| Some(Answer::error(400, "ExpiredToken").with("x-minio-error-code", "ExpiredToken")));
    assert_eq!(code(&minio).await, ["BLOB_STORE_REFUSED"; 4]);
}

/// What is missing in a bucket that is there is a fault of ours.
#[tokio::test]
async fn a_missing_blob_is_told_from_a_missing_bucket() {
    let stub = StubS3::start(|_| None);
    let (store, _dir) = open(&stub, "").await;
    let store: Arc<dyn BlobStock> = Arc::new(store);
    let tiers = TieredBlobStore::new(store.clone(), store.clone(), store.clone());
    assert_eq!(tiers.open(&tenant(), &blob(b"x")).await.unwrap_err().kind, Kind::Internal);
    assert!(store.uploaded(&tenant(), &blob(b"x").sha256, 10).await.unwrap().is_none());
    let gone = StubS3::start(|_| Some(Answer::error(404, "NoSuchBucket")));
    let (store, _dir) = open(&gone, "").await;
    assert_eq!(store.uploaded(&tenant(), &blob(b"x").sha256, 10).await.unwrap_err().code, "BLOB_STORE_MISSING");
}

async fn examined(stub: &StubS3, more: &str) -> Vec<BucketFinding> {
    let (store, _dir) = open(stub, more).await;
    store.examine(OffsetDateTime::now_utc()).await
}

/// The subjects that something is wrong with, and what.
fn faults(found: &[BucketFinding]) -> Vec<(&str, String)> {
    found.iter().filter_map(|f| Some((f.subject, f.fault.clone()?.0))).collect()
}

#[tokio::test]
async fn a_bucket_is_examined() {
    let well = StubS3::start(|_| None);
    let found = examined(&well, "&sse=kms&kms_key=alias/omt").await;
    assert_eq!(faults(&found), []);
    assert!(found.iter().all(|f| f.note.is_none()));
    let probe = well.asked().into_iter().find(|r| r.method == "PUT").unwrap();
    assert_eq!(probe.header("x-amz-server-side-encryption-aws-kms-key-id"), "alias/omt", "as content is written");
    assert!(well.keys().is_empty(), "nothing is left there");
    // A clock that is off, but not by as much as the service refuses.
    let slow = StubS3::start(|_| None);
    slow.set_clock_ahead(300);
    assert_eq!(faults(&examined(&slow, "").await)[0].0, "clock");

    for (answer, words) in [
        (Answer::error(404, "NoSuchBucket"), "does not exist"),
        (Answer::error(403, "SignatureDoesNotMatch"), "credentials"),
        (Answer::error(301, "PermanentRedirect").with("x-amz-bucket-region", "eu-central-1"), "which is eu-central-1"),
    ] {
        let stub = StubS3::start(move |_| Some(answer.clone()));
        let found = examined(&stub, "").await;
        let [(subject, fault)] = &faults(&found)[..] else { panic!("{found:?}") };
        assert!(*subject == "bucket" && fault.contains(words), "{fault}");
    }
    let skewed = StubS3::start(|_| Some(Answer::error(403, "RequestTimeTooSkewed")));
    skewed.set_clock_ahead(-7200);
    let found = examined(&skewed, "").await;
    assert!(faults(&found)[0].1.contains("by 7"), "{found:?}");
}

/// Each permission is tried, that to see and end uploads in parts too.
#[tokio::test]
async fn a_missing_permission_is_found() {
    type Denied = fn(&Request) -> bool;
    let cases: [(Denied, &str); 7] = [
        (|r| r.method == "PUT", "write"),
        (|r| r.method == "GET" && r.path.contains(".doctor-"), "read"),
        (|r| r.method == "DELETE" && r.parameter("uploadId").is_none(), "delete"),
        (|r| r.parameter("list-type").is_some(), "list the bucket"),
        (|r| r.method == "POST", "begin"),
        (|r| r.method == "GET" && r.parameter("uploads").is_some(), "list uploads"),
        (|r| r.method == "DELETE" && r.parameter("uploadId").is_some(), "abort"),
    ];
    for (denied, words) in cases {
        let stub = StubS3::start(move |r| denied(r).then(|| Answer::error(403, "AccessDenied")));
        let found = examined(&stub, "").await;
        let [(subject, fault)] = &faults(&found)[..] else { panic!("{words}: {found:?}") };
        assert!(*subject == "permissions" && fault.contains(words), "{words}: {fault}");
    }
}

#[tokio::test]
async fn a_public_bucket_is_found_and_what_is_not_known_is_said() {
    let partly = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>";
    let policy = r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"*"}]}"#;
    let acl = "<AccessControlPolicy><AccessControlList><Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
               xsi:type=\"Group\"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission>\
               </Grant></AccessControlList></AccessControlPolicy>";
    let unsupported = || Answer::error(501, "NotImplemented");
    let denied = || Answer::error(403, "AccessDenied");
    let well = |part: &str| Answer::error(404, part);
    let cases = [
        // The block, the policy, the ACL; what is wrong.
        (Answer::new(200, partly), well("NoSuchBucketPolicy"), Answer::new(200, "<AccessControlPolicy/>"), Some("not blocked")),
        (well("NoSuchPublicAccessBlockConfiguration"), Answer::new(200, policy), unsupported(), Some("policy")),
        (denied(), unsupported(), unsupported(), Some("public access block")),
        (unsupported(), Answer::new(200, policy), unsupported(), Some("policy lets everybody in")),
        (unsupported(), well("NoSuchBucketPolicy"), Answer::new(200, acl), Some("ACL lets everybody in")),
        (unsupported(), denied(), Answer::new(200, "<AccessControlPolicy/>"), Some("read the bucket's policy")),
        (unsupported(), well("NoSuchBucketPolicy"), Answer::new(200, "<AccessControlPolicy/>"), None),
    ];
    for (block, policy, acl, wrong) in cases {
        let stub = StubS3::start(move |r| match () {
            () if r.parameter("publicAccessBlock").is_some() => Some(block.clone()),
            () if r.parameter("policy").is_some() => Some(policy.clone()),
            () if r.parameter("acl").is_some() => Some(acl.clone()),
            () => None,
        });
        let found = examined(&stub, "").await;
        match (&faults(&found)[..], wrong) {
            ([("public access", fault)], Some(words)) => assert!(fault.contains(words), "{words}: {fault}"),
            ([], None) => {}
            other => panic!("{other:?}"),
        }
    }
    let silent = StubS3::start(move |r| {
        let asks = ["publicAccessBlock", "policy", "acl"].iter().any(|name| r.parameter(name).is_some());
        asks.then(unsupported)
    });
    let found = examined(&silent, "").await;
    let note = found.iter().find(|f| f.subject == "public access").unwrap();
    assert!(note.fault.is_none() && note.note.is_some_and(|note| note.contains("not known")), "{note:?}");
}

/// Uploads in parts that began before a day, however many.
#[tokio::test]
async fn old_uploads_go_page_by_page() {
    let upload =
        |n: u32, at: &str| format!("<Upload><Key>k{n}</Key><UploadId>{n}</UploadId><Initiated>{at}</Initiated></Upload>");
    let (old, new) = ("2026-01-01T00:00:00.000Z", "2026-01-03T00:00:00.000Z");
    let page = move |uploads: String, next: Option<u32>| {
        let next = next.map(|n| format!("<NextKeyMarker>k{n}</NextKeyMarker><NextUploadIdMarker>{n}</NextUploadIdMarker>"));
        let cut = next.is_some();
        let next = next.unwrap_or_default();
        Answer::new(
            200,
            format!("<ListMultipartUploadsResult>{uploads}{next}<IsTruncated>{cut}</IsTruncated></ListMultipartUploadsResult>"),
        )
    };
    let stub = StubS3::start(move |r| match (r.method.as_str(), r.parameter("uploads"), r.parameter("uploadId")) {
        ("GET", Some(_), _) => Some(match r.parameter("upload-id-marker") {
            None => page(upload(1, old) + &upload(2, new), Some(2)),
            Some("2") => page(upload(3, old) + &upload(4, old), Some(4)),
            _ => page(upload(5, old), None),
        }),
        // One ended meanwhile, and one cannot be aborted: they keep none of the others.
        ("DELETE", _, Some("3")) => Some(Answer::error(404, "NoSuchUpload")),
        ("DELETE", _, Some("4")) => Some(Answer::error(403, "AccessDenied")),
        ("DELETE", _, Some(_)) => Some(Answer::new(204, "")),
        _ => None,
    });
    let (store, _dir) = open(&stub, "").await;
    let day = OffsetDateTime::from_unix_timestamp(1_767_312_000).unwrap();
    assert_eq!(store.abort_uploads(day).await.unwrap(), 2);
    let gone: Vec<String> =
        stub.asked().iter().filter(|r| r.method == "DELETE").filter_map(|r| r.parameter("uploadId").map(str::to_owned)).collect();
    assert_eq!(gone, ["1", "3", "4", "5"]);
}

/// A service that says nothing of checksums and spoils a part is found out, and does not keep what it spoiled.
#[tokio::test]
async fn a_spoiled_part_is_not_acknowledged() {
    let spoils = Arc::new(AtomicBool::new(true));
    let (spoiled, bytes) = (spoils.clone(), fresh(33 << 20));
    let name = blob(&bytes);
    let (key, digest) = (format!("a/{}/{}", &name.sha256[..2], name.sha256), name.sha256.clone());
    let stub = StubS3::start(move |r| {
        let read = r.method == "GET" && r.path.ends_with(&digest) && spoiled.load(Ordering::SeqCst);
        // Another byte than was sent; what is left of the answer is right.
        read.then(|| Answer::new(206, vec![0; 33 << 20]))
    });
    let (store, _dir) = open(&stub, "").await;
    let put = async || store.put(&tenant(), &name, spooled(&store, &bytes)).await;
    assert_eq!(put().await.unwrap_err().code, "BLOB_DAMAGED");
    assert!(stub.keys().is_empty(), "who sends it again must not find it there");
    let parts: Vec<Request> = stub.asked().into_iter().filter(|r| r.parameter("partNumber").is_some()).collect();
    assert_eq!(parts.len(), 3);
    for part in &parts {
        use base64::{Engine, engine::general_purpose::STANDARD};
        use sha2::{Digest, Sha256};
        assert_eq!(part.header("x-amz-checksum-sha256"), STANDARD.encode(Sha256::digest(&part.body)));
    }
    spoils.store(false, Ordering::SeqCst);
    assert_eq!(put().await.unwrap(), Put::Written);
    assert_eq!(stub.keys(), [key]);
    assert!(bytes_of(&store.open(&tenant(), &name).await.unwrap()) == bytes);
}

/// Where the service says what it has, nothing is read back, and other bytes are refused.
#[tokio::test]
async fn a_part_with_another_checksum_is_refused() {
    let bytes = fresh(9 << 20);
    let name = blob(&bytes);
    let echo = |r: &Request| {
        let sum = r.headers.get("x-amz-checksum-sha256")?.clone();
        Some(Answer::new(200, "").with("x-amz-checksum-sha256", &sum).with("ETag", "\"x\""))
    };
    for (honest, code) in [(true, "BLOB_DAMAGED"), (false, "BLOB_DAMAGED")] {
        let stub = StubS3::start(move |r| match honest {
            // It keeps nothing, so that only its size shows.
            true => echo(r),
            false => (r.method == "PUT").then(|| Answer::new(200, "").with("x-amz-checksum-sha256", "AAAA")),
        });
        let (store, _dir) = open(&stub, "").await;
        let put = store.put(&tenant(), &name, spooled(&store, &bytes)).await;
        assert_eq!(put.unwrap_err().code, code);
        assert!(stub.asked().iter().all(|r| r.method != "GET"), "nothing is read back");
    }
}

/// A bucket that wants its objects encrypted in one way takes direct uploads too.
#[tokio::test]
async fn direct_uploads_are_encrypted_like_the_rest() {
    let stub = StubS3::start(|_| None);
    let (store, _dir) = open(&stub, "&sse=kms&kms_key=alias/omt").await;
    let name = BlobRef { sha256: "ab".repeat(32), size: 10 };
    let upload = store.direct_upload(&tenant(), &name, Duration::from_secs(60)).await.unwrap().unwrap();
    let header = |name: &str| upload.headers.iter().find(|(n, _)| n.as_str() == name).map(|(_, value)| value.as_str());
    assert_eq!(header("x-amz-server-side-encryption"), Some("aws:kms"));
    assert_eq!(header("x-amz-server-side-encryption-aws-kms-key-id"), Some("alias/omt"));
    let signed = "x-amz-server-side-encryption%3Bx-amz-server-side-encryption-aws-kms-key-id";
    assert!(upload.url.contains(signed), "{}", upload.url);
    // Reading needs none of it.
    let wanted =
        DirectDownload { expires: Duration::from_secs(60), media_type: "image/png".into(), disposition: "attachment".into() };
    store.put(&tenant(), &blob(b"x"), Content::Memory(bytes::Bytes::from_static(b"x"))).await.unwrap();
    let url = store.direct_download(&tenant(), &blob(b"x"), &wanted).await.unwrap().unwrap();
    assert!(!url.contains("encryption"), "{url}");
    assert_eq!(all(&store, &tenant(), &blob(b"x"), 0..1).await, b"x");
}
