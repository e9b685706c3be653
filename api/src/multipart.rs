//! Multipart bodies, streamed: text fields within bounds, files hashed on their way to memory or the spool.

use crate::problem::Problem;
use actix_multipart::{Field, Multipart};
use actix_web::{FromRequest, HttpRequest, http::header, web::Payload};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use omt_claims::service::Uploaded;
use omt_kernel::{
    Error, Kind, Result,
    error::not_written,
    manifest::BlobRef,
    port::{Content, TemporaryFile},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, path::Path};
use tokio::io::AsyncWriteExt;

/// Up to here all files of a form together stay in memory.
const IN_MEMORY: usize = 4 << 20;
const MAX_FILES: usize = 40;
/// All text fields together.
const MAX_TEXT: usize = 16 << 20;
const MAX_PARTS: usize = 256;
const WRITE_BUFFER: usize = 1 << 20;
const SPOOLING: &str = "cannot write in the spool directory";

/// The two kinds of body of operations on what is stored or what comes along.
pub enum BodyKind {
    /// JSON names something stored.
    Json,
    /// A form brings content.
    Form,
}

impl BodyKind {
    /// By the request's `Content-Type`; 415 when it is neither.
    pub fn of(request: &HttpRequest) -> Result<Self> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.unwrap_or_default().to_ascii_lowercase();
        if kind.starts_with("multipart/form-data") {
            Ok(Self::Form)
        } else if kind.starts_with("application/json") {
            Ok(Self::Json)
        } else {
            let words = "this operation takes application/json or multipart/form-data";
            Err(Error::new(Kind::UnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", words))
        }
    }
}

/// What a form may contain.
pub struct Shape {
    /// Text fields, each at most once.
    pub texts: &'static [&'static str],
    /// Text fields that may be repeated.
    pub repeated_texts: &'static [&'static str],
    /// Files, each at most once.
    pub files: &'static [&'static str],
    /// Files that may be repeated.
    pub repeated_files: &'static [&'static str],
}

/// A form that has arrived.
#[derive(Debug, Default)]
pub struct Form {
    texts: BTreeMap<String, Vec<String>>,
    files: BTreeMap<String, Vec<Uploaded>>,
}

impl Form {
    /// Takes a text field.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.texts.remove(name).and_then(|mut values| values.pop())
    }
    /// Takes a repeated text field.
    pub fn texts(&mut self, name: &str) -> Vec<String> {
        self.texts.remove(name).unwrap_or_default()
    }
    /// Takes a file.
    pub fn file(&mut self, name: &str) -> Option<Uploaded> {
        self.files.remove(name).and_then(|mut files| files.pop())
    }
    /// Takes a repeated file.
    pub fn files(&mut self, name: &str) -> Vec<Uploaded> {
        self.files.remove(name).unwrap_or_default()
    }
    /// A digest over everything the form says.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |kind: &str, name: &str, value: &str| {
            for text in [kind, name, value] {
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text);
            }
        };
        for (name, values) in &self.texts {
            values.iter().for_each(|value| part("text", name, value));
        }
        for (name, files) in &self.files {
            for file in files {
                part("file", name, &file.blob.sha256);
                part("name", name, file.file_name.as_deref().unwrap_or_default());
            }
        }
        hex::encode(hash.finalize())
    }
}

fn refuse(code: &'static str, field: &str, reason: &str) -> Problem {
    Error::invalid_field(code, field, reason).into()
}

fn broken(error: actix_multipart::MultipartError) -> Error {
    Error::new(Kind::Invalid, "INVALID_MULTIPART", format!("the multipart body cannot be read: {error}"))
}

fn too_large(max: u64) -> Error {
    Error::new(Kind::TooLarge, "CONTENT_TOO_LARGE", format!("the upload is over the limit of {max} bytes"))
}

/// The multipart body of a request; 415 when it has another type.
pub async fn body(request: &HttpRequest, payload: Payload) -> Result<Multipart, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("multipart/form-data") {
        let words = "this operation takes multipart/form-data";
        return Err(Error::new(Kind::UnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", words).into());
    }
    let body = Multipart::from_request(request, &mut payload.into_inner()).await;
    Ok(body.map_err(|e| Error::new(Kind::Invalid, "INVALID_MULTIPART", format!("the multipart body cannot be read: {e}")))?)
}

/// Reads a form. `max_upload` bounds all files together.
pub async fn read(mut body: Multipart, shape: &Shape, spool: &Path, max_upload: u64) -> Result<Form, Problem> {
    let mut form = Form::default();
    let (mut left, mut text_left) = (max_upload, MAX_TEXT);
    let (mut parts, mut files, mut memory) = (0, 0, IN_MEMORY);
    while let Some(mut field) = body.try_next().await.map_err(broken)? {
        parts += 1;
        if parts > MAX_PARTS {
            return Err(Error::new(Kind::Invalid, "TOO_MANY_PARTS", "at most 256 parts are allowed").into());
        }
        let name = field.name().unwrap_or_default().to_owned();
        let known = |lists: [&[&str]; 2]| lists.iter().any(|list| list.contains(&name.as_str()));
        let seen = form.texts.contains_key(&name) || form.files.contains_key(&name);
        if seen && (shape.texts.contains(&name.as_str()) || shape.files.contains(&name.as_str())) {
            return Err(refuse("DUPLICATE_FIELD", &name, "may be given only once"));
        }
        if known([shape.files, shape.repeated_files]) {
            files += 1;
            if files > MAX_FILES {
                return Err(refuse("TOO_MANY_FILES", &name, "at most 40 files are allowed"));
            }
            let uploaded = file(&mut field, spool, &mut left, max_upload, memory).await?;
            if let Content::Memory(bytes) = &uploaded.content {
                memory = memory.saturating_sub(bytes.len());
            }
            form.files.entry(name).or_default().push(uploaded);
        } else if known([shape.texts, shape.repeated_texts]) {
            let value = text(&mut field, &name, &mut text_left).await?;
            form.texts.entry(name).or_default().push(value);
        } else {
            let all = [shape.texts, shape.repeated_texts, shape.files, shape.repeated_files].concat().join(", ");
            return Err(refuse("UNKNOWN_FIELD", &name, &format!("is not a field of this form; there are {all}")));
        }
    }
    Ok(form)
}

async fn text(field: &mut Field, name: &str, left: &mut usize) -> Result<String, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = field.try_next().await.map_err(broken)? {
        *left = left
            .checked_sub(chunk.len())
            .ok_or_else(|| Error::new(Kind::TooLarge, "FIELDS_TOO_LARGE", "the text fields are over 16 MiB together"))?;
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| refuse("INVALID_FIELD", name, "is not UTF-8"))
}

async fn file(field: &mut Field, spool: &Path, left: &mut u64, max: u64, in_memory: usize) -> Result<Uploaded> {
    let file_name = field
        .content_disposition()
        .and_then(|d| {
            let extended = d.get_filename_ext().and_then(|ext| String::from_utf8(ext.value.clone()).ok());
            extended.or_else(|| d.get_filename().map(str::to_owned))
        })
        // Some senders give a whole path; only its last part is a name.
        .map(|n| n.rsplit(['/', '\\']).next().unwrap_or_default().to_owned())
        .filter(|n| !n.is_empty() && n.len() <= 255);
    let declared_type = field.content_type().map(|t| t.essence_str().to_owned());
    let mut hash = Sha256::new();
    let mut size = 0u64;
    let mut memory = BytesMut::new();
    let mut spooled: Option<(TemporaryFile, tokio::fs::File)> = None;
    while let Some(chunk) = field.try_next().await.map_err(broken)? {
        *left = left.checked_sub(chunk.len() as u64).ok_or_else(|| too_large(max))?;
        hash.update(&chunk);
        size += chunk.len() as u64;
        memory.extend_from_slice(&chunk);
        let limit = if spooled.is_some() { WRITE_BUFFER } else { in_memory };
        if memory.len() > limit {
            if spooled.is_none() {
                let temporary = TemporaryFile::new(spool.join(format!("upload-{}", uuid::Uuid::new_v4())));
                let file = tokio::fs::File::create_new(temporary.path()).await.map_err(not_written(SPOOLING))?;
                spooled = Some((temporary, file));
            }
            if let Some((_, file)) = &mut spooled {
                write(file, &mut memory).await?;
            }
        }
    }
    let content = match spooled {
        Some((temporary, mut file)) => {
            write(&mut file, &mut memory).await?;
            file.flush().await.map_err(not_written(SPOOLING))?;
            Content::File(temporary)
        }
        None => Content::Memory(memory.freeze()),
    };
    Ok(Uploaded { content, blob: BlobRef { sha256: hex::encode(hash.finalize()), size }, file_name, declared_type })
}

async fn write(file: &mut tokio::fs::File, buffer: &mut BytesMut) -> Result<()> {
    let chunk: Bytes = buffer.split().freeze();
    file.write_all(&chunk).await.map_err(not_written(SPOOLING))
}
