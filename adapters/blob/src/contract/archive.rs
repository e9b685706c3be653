//! Classes that must be restored, over moto, which keeps what is archived from being read.

use super::{all, blob, bucket, bytes_of, fresh};
use crate::{S3BlobStore, S3Url, TieredBlobStore};
use omt_kernel::{
    OffsetDateTime, TenantId,
    port::{BlobStock, BlobStore, Content, DirectDownload, Put, TieredStore},
    storage::{ARCHIVED, Availability, Tier},
};
use std::{process::Command, sync::Arc, time::Duration};

fn archive(class: &str) -> Option<S3Url> {
    let url = bucket("OMT_TEST_MOTO")?;
    Some(S3Url { storage_class: Some(class.to_owned()), restored_days: 2, ..url })
}

/// Has moto take this long for a restore; at once when none.
fn restores_take(endpoint: &str, seconds: Option<u32>) {
    let (call, body) = match seconds {
        Some(seconds) => (
            "set-transition",
            format!(r#"{{"model_name":"s3::keyrestore","transition":{{"progression":"time","seconds":{seconds}}}}}"#),
        ),
        None => ("unset-transition", r#"{"model_name":"s3::keyrestore"}"#.to_owned()),
    };
    let url = format!("{endpoint}/moto-api/state-manager/{call}");
    let done = Command::new("curl").args(["-sf", "-X", "POST", "-d", &body, &url]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// Waits until it is restored: another test may have set how long that takes.
async fn restored(store: &S3BlobStore, name: &omt_kernel::manifest::BlobRef) {
    for _ in 0..200 {
        if let Availability::Restored(_) = store.availability(&TenantId::default_tenant(), name).await.unwrap() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it is not restored");
}

async fn is_refused(store: &S3BlobStore, name: &omt_kernel::manifest::BlobRef) {
    let tenant = TenantId::default_tenant();
    let wanted =
        DirectDownload { expires: Duration::from_secs(5), media_type: "image/png".into(), disposition: "attachment".into() };
    let errors = [
        store.open(&tenant, name).await.err(),
        store.read(&tenant, name, 2..5).await.err(),
        store.direct_download(&tenant, name, &wanted).await.err(),
    ];
    for error in errors {
        let error = error.expect("it cannot be read");
        assert_eq!((error.code, error.retry_after), (ARCHIVED, Some(43_200)), "{error}");
    }
}

#[tokio::test]
async fn archived_blobs_are_restored() {
    let Some(url) = archive("DEEP_ARCHIVE") else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = S3BlobStore::open(&url, dir.path()).await.unwrap();
    let (tenant, bytes) = (TenantId::default_tenant(), fresh(70_000));
    let name = blob(&bytes);
    assert!(store.archives());
    store.put(&tenant, &name, Content::Memory(bytes.clone().into())).await.unwrap();
    // It can be read back until it is settled.
    assert_eq!(store.availability(&tenant, &name).await.unwrap(), Availability::AtOnce);
    assert_eq!(bytes_of(&store.open(&tenant, &name).await.unwrap()), bytes);
    for _ in 0..2 {
        store.settle(&tenant, &name).await.unwrap();
        assert_eq!(store.availability(&tenant, &name).await.unwrap(), Availability::Archived);
    }
    is_refused(&store, &name).await;
    // It is there all the same, and stays as it is when the same bytes come again.
    assert!(store.exists(&tenant, &name).await.unwrap());
    assert_eq!(store.put(&tenant, &name, Content::Memory(bytes.clone().into())).await.unwrap(), Put::Present);
    assert_eq!(store.list(None, 10).await.unwrap().len(), 1);
    is_refused(&store, &name).await;
    // Restoring takes its time, and asking again changes nothing.
    let endpoint = url.endpoint.clone().unwrap();
    restores_take(&endpoint, Some(2));
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    for _ in 0..2 {
        store.restore(&tenant, &name).await.unwrap();
        assert_eq!(store.availability(&tenant, &name).await.unwrap(), Availability::Restoring);
    }
    is_refused(&store, &name).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let Availability::Restored(Some(until)) = store.availability(&tenant, &name).await.unwrap() else { panic!() };
    restores_take(&endpoint, None);
    assert_eq!((until - OffsetDateTime::now_utc()).whole_hours(), 47);
    assert_eq!(bytes_of(&store.open(&tenant, &name).await.unwrap()), bytes);
    assert_eq!(all(&store, &tenant, &name, 2..5).await, bytes[2..5]);
    store.restore(&tenant, &name).await.unwrap();
    store.delete(&tenant, &name).await.unwrap();
    assert!(store.restore(&tenant, &name).await.is_err());
    assert!(store.settle(&tenant, &name).await.is_err());
}

#[tokio::test]
async fn large_blobs_are_archived_in_parts() {
    let Some(url) = archive("GLACIER") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut store = S3BlobStore::open(&url, dir.path()).await.unwrap();
    store.copy_part = 5 << 20;
    let (tenant, bytes) = (TenantId::default_tenant(), fresh(12 << 20));
    let name = blob(&bytes);
    store.put(&tenant, &name, Content::Memory(bytes.clone().into())).await.unwrap();
    store.settle(&tenant, &name).await.unwrap();
    assert_eq!(store.availability(&tenant, &name).await.unwrap(), Availability::Archived);
    store.restore(&tenant, &name).await.unwrap();
    restored(&store, &name).await;
    assert!(bytes_of(&store.open(&tenant, &name).await.unwrap()) == bytes);
    store.delete(&tenant, &name).await.unwrap();
}

#[tokio::test]
async fn moves_into_an_archive_end_well_wherever_they_were_cut_off() {
    let Some(cold_url) = archive("DEEP_ARCHIVE") else { return };
    let dir = tempfile::tempdir().unwrap();
    let open = async |url: S3Url| Arc::new(S3BlobStore::open(&url, dir.path()).await.unwrap());
    let (hot, warm) = (open(bucket("OMT_TEST_MOTO").unwrap()).await, open(bucket("OMT_TEST_MOTO").unwrap()).await);
    let cold = open(cold_url).await;
    let tiers = TieredBlobStore::new(hot.clone(), warm, cold.clone());
    assert_eq!(Tier::ALL.map(|tier| tiers.archives(tier)), [false, false, true]);
    let tenant = TenantId::default_tenant();
    for cut in ["not at all", "before it was read back", "before it was settled", "before the record switched"] {
        let bytes = fresh(9_000);
        let name = blob(&bytes);
        tiers.put(&tenant, &name, Content::Memory(bytes.clone().into())).await.unwrap();
        match cut {
            "before it was read back" | "before it was settled" => {
                cold.put(&tenant, &name, Content::Memory(bytes.clone().into())).await.unwrap();
            }
            "before the record switched" => tiers.copy(&tenant, &name, Tier::Hot, Tier::Cold).await.unwrap(),
            _ => {}
        }
        tiers.copy(&tenant, &name, Tier::Hot, Tier::Cold).await.unwrap();
        assert_eq!(cold.availability(&tenant, &name).await.unwrap(), Availability::Archived, "{cut}");
        tiers.verify(&tenant, &name, Tier::Cold).await.unwrap();
        // While the original is there, it is what is read.
        assert_eq!(bytes_of(&tiers.open(&tenant, &name).await.unwrap()), bytes);
        tiers.remove(&tenant, &name, Tier::Hot).await.unwrap();
        assert_eq!(tiers.open(&tenant, &name).await.unwrap_err().code, ARCHIVED);
        tiers.restore(&tenant, &name).await.unwrap();
        restored(&cold, &name).await;
        assert_eq!(bytes_of(&tiers.open(&tenant, &name).await.unwrap()), bytes);
    }
    // Other bytes under its name are found out before they are archived. Whoever has it copied decides whether they go.
    let bytes = fresh(9_000);
    let name = blob(&bytes);
    tiers.put(&tenant, &name, Content::Memory(bytes.clone().into())).await.unwrap();
    let wrong = cold.client.put_object().bucket(&cold.url.bucket).key(cold.key(&tenant, &name).unwrap());
    wrong.body(vec![7; 9_000].into()).send().await.unwrap();
    assert_eq!(tiers.copy(&tenant, &name, Tier::Hot, Tier::Cold).await.unwrap_err().code, "BLOB_DAMAGED");
    assert_eq!(cold.availability(&tenant, &name).await.unwrap(), Availability::AtOnce);
    assert_eq!(bytes_of(&tiers.open(&tenant, &name).await.unwrap()), bytes);
    // What somebody else's rule archived, in a tier that does not, is not taken for verified.
    let alien = open(S3Url { prefix: hot.url.prefix.clone(), ..archive("GLACIER").unwrap() }).await;
    alien.settle(&tenant, &name).await.unwrap();
    assert_eq!(tiers.verify(&tenant, &name, Tier::Hot).await.unwrap_err().code, ARCHIVED);
}
