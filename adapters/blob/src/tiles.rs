//! The audit log's tiles, beside the blobs: `.audit/<path>`.

use crate::{
    FileBlobStore, S3BlobStore, TieredBlobStore,
    file::{blocking, publish, write_error},
    s3_fault::{failed, is_missing},
};
use async_trait::async_trait;
use bytes::Bytes;
use omt_kernel::{Error, Result, error::Context, port::TileStore};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
};

/// The directory or prefix; hidden, so that no listing of blobs shows it.
const PLACE: &str = ".audit";

/// Paths are made by the log itself; a wrong one must never leave its place.
fn check(path: &str) -> Result<()> {
    let proper = path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains('\\'));
    if proper { Ok(()) } else { Err(Error::internal("a tile has no proper path")) }
}

#[async_trait]
impl TileStore for FileBlobStore {
    async fn put_tile(&self, path: &str, bytes: Bytes) -> Result<()> {
        check(path)?;
        let target = self.root.join(PLACE).join(path);
        let aside = self.spool.join(format!("tile-{}", uuid::Uuid::new_v4()));
        blocking(move || {
            let mut file = File::create_new(&aside).map_err(write_error)?;
            file.write_all(&bytes).map_err(write_error)?;
            publish(&aside, &target).map_err(write_error)
        })
        .await?;
        self.gate.pass().await
    }

    async fn tile(&self, path: &str) -> Result<Option<Bytes>> {
        check(path)?;
        let path = self.root.join(PLACE).join(path);
        blocking(move || match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::internal("cannot read a tile").caused_by(error)),
        })
        .await
    }

    async fn remove_tile(&self, path: &str) -> Result<()> {
        check(path)?;
        let path = self.root.join(PLACE).join(path);
        blocking(move || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::internal("cannot remove a tile").caused_by(error));
                }
                _ => {}
            }
            if let Some(directory) = path.parent() {
                // Fails while others are in it, which is well.
                let _ = fs::remove_dir(directory);
            }
            Ok(())
        })
        .await
    }

    async fn remove_partials(&self, path: &str) -> Result<()> {
        check(path)?;
        let path = self.root.join(PLACE).join(format!("{path}.p"));
        blocking(move || match fs::remove_dir_all(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::internal("cannot remove tiles").caused_by(error)),
            _ => Ok(()),
        })
        .await
    }
}

#[async_trait]
impl TileStore for S3BlobStore {
    async fn put_tile(&self, path: &str, bytes: Bytes) -> Result<()> {
        check(path)?;
        let (sse, kms_key) = self.encryption();
        self.client
            .put_object()
            .bucket(&self.url.bucket)
            .key(format!("{}{PLACE}/{path}", self.url.prefix))
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key)
            .body(bytes.into())
            .send()
            .await
            .map_err(|e| failed("store a tile", &e))?;
        Ok(())
    }

    async fn tile(&self, path: &str) -> Result<Option<Bytes>> {
        check(path)?;
        let key = format!("{}{PLACE}/{path}", self.url.prefix);
        match self.client.get_object().bucket(&self.url.bucket).key(key).send().await {
            Ok(found) => Ok(Some(found.body.collect().await.context("a tile was cut off")?.into_bytes())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failed("read a tile", &error)),
        }
    }

    async fn remove_tile(&self, path: &str) -> Result<()> {
        check(path)?;
        let key = format!("{}{PLACE}/{path}", self.url.prefix);
        match self.client.delete_object().bucket(&self.url.bucket).key(key).send().await {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(failed("remove a tile", &error)),
        }
    }

    async fn remove_partials(&self, path: &str) -> Result<()> {
        check(path)?;
        // At most 255 of them, which is one page.
        let prefix = format!("{}{PLACE}/{path}.p/", self.url.prefix);
        let page = self.client.list_objects_v2().bucket(&self.url.bucket).prefix(prefix).send().await;
        for object in page.map_err(|e| failed("list tiles", &e))?.contents() {
            let Some(key) = object.key() else { continue };
            let gone = self.client.delete_object().bucket(&self.url.bucket).key(key).send().await;
            gone.map_err(|e| failed("remove a tile", &e))?;
        }
        Ok(())
    }
}

#[async_trait]
impl TileStore for TieredBlobStore {
    async fn put_tile(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.hot.put_tile(path, bytes).await
    }
    async fn tile(&self, path: &str) -> Result<Option<Bytes>> {
        self.hot.tile(path).await
    }
    async fn remove_tile(&self, path: &str) -> Result<()> {
        self.hot.remove_tile(path).await
    }
    async fn remove_partials(&self, path: &str) -> Result<()> {
        self.hot.remove_partials(path).await
    }
}
