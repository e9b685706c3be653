//! Manifests: upload, sign, read, list, change, archive.

use crate::{
    ApiState,
    blob_response::{self, Restore, Serving},
    extract::{Caller, CallerOnce, CallerOnceWith, CallerWith, IfMatch, may, replayed},
    found::Found,
    multipart::{self, Form, Shape},
    problem::{Problem, ProblemBody},
    wire::{self, Manifest, PageQuery, Paged},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Payload},
};
use omt_claims::{
    VerificationReport,
    definition::ClaimDefinition,
    service::{self, Changes, Manifests, NewIngredient, NewManifest, Outcome, SignRequest, Uploaded},
};
use omt_compliance::pii;
use omt_kernel::{
    Error, Kind, ManifestId, check_revision,
    manifest::{Classification, ManifestFilter, ManifestRecord, Relationship},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

const UPLOAD: Shape = Shape {
    texts: &[
        "creator",
        "title",
        "department",
        "project",
        "organization",
        "classification",
        "action",
        "digital_source_type",
        "software_agent",
        "assertions",
        "metadata",
        "sign",
        "algorithm",
        "upload",
        "file_name",
    ],
    repeated_texts: &["ingredient_relationship", "relationship"],
    files: &["file"],
    repeated_files: &["ingredient"],
};

/// An upload.
#[derive(ToSchema)]
#[allow(dead_code)]
pub struct UploadForm {
    /// The content.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: Option<String>,
    /// Instead of `file`: the SHA-256 of content that was uploaded directly, see `/api/v1/uploads`.
    upload: Option<String>,
    /// The file's name, with `upload`.
    file_name: Option<String>,
    /// Title; the file's name when absent.
    title: Option<String>,
    /// Who made it; the caller when absent.
    creator: Option<String>,
    /// Department.
    department: Option<String>,
    /// Project.
    project: Option<String>,
    /// Organisation.
    organization: Option<String>,
    /// `public`, `internal` (default), `confidential`, `secret` or `top_secret`.
    classification: Option<String>,
    /// What was done: an action of C2PA or of your own namespace. `c2pa.created` when absent.
    action: Option<String>,
    /// IPTC or C2PA digital source type URI.
    digital_source_type: Option<String>,
    /// The software that did it.
    software_agent: Option<String>,
    /// Further assertions: a JSON array of `{label, data}`.
    assertions: Option<String>,
    /// Which metadata found in the content goes into the manifest: `safe` (default: no personal data), `all` or `none`.
    metadata: Option<String>,
    /// Ingredient files; repeat the part.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    ingredient: Option<String>,
    /// How the ingredients relate, in their order: `parentOf`, `componentOf` (default) or `inputTo`; repeat the field.
    ingredient_relationship: Option<String>,
    /// Sign at once.
    sign: Option<bool>,
    /// How to sign; `hybrid-es256-ml-dsa-65` when absent.
    algorithm: Option<String>,
}

fn answer(outcome: Outcome, status: actix_web::http::StatusCode) -> HttpResponse {
    match outcome {
        Outcome::Done(record) => {
            let mut response = HttpResponse::build(status);
            if status == actix_web::http::StatusCode::CREATED {
                response.insert_header((header::LOCATION, format!("/api/v1/manifests/{}", record.id)));
            }
            response.insert_header(etag(&record)).json(Manifest::from(record.as_ref()))
        }
        Outcome::Replayed { status, body } => {
            let mut response = replayed(status, &body);
            if let (true, Some(id)) = (status == 201, body.get("id").and_then(|id| id.as_str()))
                && let Ok(place) = header::HeaderValue::from_str(&format!("/api/v1/manifests/{id}"))
            {
                response.headers_mut().insert(header::LOCATION, place);
            }
            response
        }
    }
}

fn etag(record: &ManifestRecord) -> (header::HeaderName, String) {
    (header::ETAG, format!("\"{}\"", record.revision))
}

fn new_manifest(form: &mut Form, file: Uploaded) -> Result<NewManifest, Problem> {
    let classification = form.text("classification");
    let classification = classification.map(|c| wire::word::<Classification>("classification", &c)).transpose()?;
    let at_once = form.text("sign").map(|s| wire::flag("sign", &s)).transpose()?.unwrap_or(false);
    let algorithm = form.text("algorithm");
    // A wrong algorithm is wrong even where nothing is signed yet.
    let scheme = service::scheme(algorithm.as_deref())?;
    let mut definition = ClaimDefinition::default();
    if let Some(action) = form.text("action") {
        definition.action = action;
        definition.action_given = true;
    }
    definition.digital_source_type = form.text("digital_source_type");
    definition.software_agent = form.text("software_agent");
    if let Some(text) = form.text("assertions") {
        definition.assertions = serde_json::from_str(&text).map_err(|e| {
            Error::invalid_field("INVALID_ASSERTIONS", "assertions", format!("must be an array of {{label, data}}: {e}"))
        })?;
    }
    if let Some(inclusion) = form.text("metadata") {
        definition.metadata = wire::word("metadata", &inclusion)?;
    }
    let mut relationships = form.texts("ingredient_relationship");
    relationships.extend(form.texts("relationship"));
    let files = form.files("ingredient");
    if relationships.len() > files.len() {
        let reason = "there are more relationships than ingredients";
        return Err(Error::unprocessable_field("INVALID_FIELD", "ingredient_relationship", reason).into());
    }
    let mut ingredients = Vec::new();
    for (at, file) in files.into_iter().enumerate() {
        let relationship = match relationships.get(at) {
            Some(text) => wire::word::<Relationship>("ingredient_relationship", text)?,
            None => Relationship::ComponentOf,
        };
        ingredients.push(NewIngredient { file, relationship });
    }
    Ok(NewManifest {
        file,
        title: form.text("title"),
        creator: form.text("creator"),
        department: form.text("department"),
        project: form.text("project"),
        organization: form.text("organization"),
        classification: classification.unwrap_or(Classification::Internal),
        definition,
        ingredients,
        sign: at_once.then_some(scheme),
    })
}

/// Uploads content and makes a draft of it, or a signed manifest at once. With `sign=true` the signed asset, the manifest
/// store and the record are durable before the answer.
#[utoipa::path(post, path = "/api/v1/manifests", tag = "manifests", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "A retry with the same key and body gets the same answer")),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses((status = 201, body = Manifest), (status = 400, body = ProblemBody, description = "MISSING_FIELD, DUPLICATE_FIELD, UNKNOWN_FIELD, INVALID_ASSERTIONS, INVALID_MULTIPART"),
        (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 413, body = ProblemBody, description = "CONTENT_TOO_LARGE, ASSERTION_TOO_LARGE"),
        (status = 422, body = ProblemBody, description = "EMPTY_FILE, CONTENT_TRUNCATED, CONTENT_UNREADABLE, CONTENT_REFUSED, MEDIA_TYPE_MISMATCH, UNKNOWN_ALGORITHM, PRIVATE_PROFILE_DISABLED, RESERVED_LABEL, UPLOAD_MISSING, UPLOAD_MISMATCH, …"),
        (status = 503, body = ProblemBody, description = "BUSY, STORAGE_FULL, CONTENT_JUST_DELETED")))]
pub async fn create(
    state: web::Data<ApiState>,
    CallerOnce(actor, key, _): CallerOnce<may::ManifestCreate>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body = multipart::body(&request, payload).await?;
    let mut form = multipart::read(body, &UPLOAD, state.manifests.spool_dir(), state.max_upload).await?;
    let once = key.once(201, &["POST /api/v1/manifests", &form.fingerprint()], wire::manifest_json);
    let (upload, file_name) = (form.text("upload"), form.text("file_name"));
    let file = match (form.file("file"), &upload) {
        (Some(file), None) => file,
        (None, Some(upload)) => {
            // Done before, the upload is gone, and the answer is what it was.
            if let Some(outcome) = state.manifests.replay(&actor, once.as_ref()).await? {
                return Ok(answer(outcome, actix_web::http::StatusCode::CREATED));
            }
            state.manifests.uploaded(&actor, upload, file_name, state.max_upload).await?
        }
        (None, None) => return Err(Error::invalid_field("MISSING_FIELD", "file", "is needed, or `upload`").into()),
        (Some(_), Some(_)) => return Err(Error::invalid_field("DUPLICATE_FIELD", "upload", "cannot stand beside `file`").into()),
    };
    let new = new_manifest(&mut form, file)?;
    let outcome = state.manifests.create(&actor, new, once).await?;
    if let Some(upload) = &upload {
        state.manifests.drop_uploaded(&actor, upload).await;
    }
    Ok(answer(outcome, actix_web::http::StatusCode::CREATED))
}

/// A request to sign.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignBody {
    /// How to sign; `hybrid-es256-ml-dsa-65` when absent.
    #[schema(example = "hybrid-es256-ml-dsa-65")]
    algorithm: Option<String>,
}

/// Signs a draft.
#[utoipa::path(post, path = "/api/v1/manifests/{id}/sign", tag = "manifests", security(("bearer" = [])), request_body = SignBody,
    params(("id" = Uuid, Path,), ("Idempotency-Key" = Option<String>, Header,), ("If-Match" = Option<String>, Header, description = "The revision you saw")),
    responses((status = 200, body = Manifest), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, body = ProblemBody, description = "ALREADY_SIGNED, ARCHIVED, CONCURRENT_CHANGE"), (status = 412, body = ProblemBody),
        (status = 422, body = ProblemBody, description = "UNKNOWN_ALGORITHM, PRIVATE_PROFILE_DISABLED, ACTION_CONFLICT"), (status = 503, body = ProblemBody)))]
pub async fn sign(
    state: web::Data<ApiState>,
    CallerOnceWith(actor, body, key, _): CallerOnceWith<may::ManifestSign, Option<SignBody>>,
    if_match: IfMatch,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let algorithm = body.and_then(|body| body.algorithm);
    let scheme = service::scheme(algorithm.as_deref())?;
    let once = key.once(200, &["POST sign", &id.to_string(), &scheme.to_string()], wire::manifest_json);
    let request = SignRequest { scheme, if_match: if_match.0 };
    let outcome = state.manifests.sign(&actor, ManifestId(*id), request, once).await?;
    Ok(answer(outcome, actix_web::http::StatusCode::OK))
}

/// A manifest's record.
#[utoipa::path(get, path = "/api/v1/manifests/{id}", tag = "manifests", security(("bearer" = [])), params(("id" = Uuid, Path,)),
    responses((status = 200, body = Manifest, headers(("ETag" = String, description = "The revision"))), (status = 401, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn get(found: Found<may::ManifestRead, ManifestRecord>) -> HttpResponse {
    let record = found.thing;
    HttpResponse::Ok().insert_header(etag(&record)).json(Manifest::from(&record))
}

/// Which manifests to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Exact organisation.
    organization: Option<String>,
    /// Exact department.
    department: Option<String>,
    /// Exact creator.
    creator: Option<String>,
    /// Exact project.
    project: Option<String>,
    /// Exact classification.
    classification: Option<String>,
    /// `draft`, `signed` or `archived`; archived ones are listed only when asked for.
    state: Option<String>,
    /// Part of the title, case-insensitive; or words, `"phrases in quotes"` and `beginnings*` that all stand in the title, creator,
    /// department, project, organisation, file name, descriptive metadata of the content or descriptive members of assertions.
    q: Option<String>,
    /// Created at or after this time (RFC 3339).
    created_from: Option<String>,
    /// Created before this time (RFC 3339).
    created_before: Option<String>,
    /// Items on the page, 1 to 200; 50 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists manifests, newest first.
#[utoipa::path(get, path = "/api/v1/manifests", tag = "manifests", security(("bearer" = [])), params(ListQuery),
    responses((status = 200, body = Paged<Manifest>), (status = 400, body = ProblemBody, description = "INVALID_QUERY, INVALID_CURSOR"), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn list(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let texts = [
        ("organization", &query.organization),
        ("department", &query.department),
        ("creator", &query.creator),
        ("project", &query.project),
        ("q", &query.q),
    ];
    for (field, value) in texts {
        if value.as_ref().is_some_and(|v| v.len() > 512 || v.contains('\0')) {
            return Err(Error::invalid_field("INVALID_QUERY", field, "at most 512 bytes, none of them zero").into());
        }
    }
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    let filter = ManifestFilter {
        organization: query.organization,
        department: query.department,
        creator: query.creator,
        project: query.project,
        classification: query.classification.map(|c| wire::word("classification", &c)).transpose()?,
        state: query.state.map(|s| wire::word("state", &s)).transpose()?,
        search: query.q.filter(|q| !q.is_empty()),
        created_from: query.created_from.map(|t| wire::time("created_from", &t)).transpose()?,
        created_before: query.created_before.map(|t| wire::time("created_before", &t)).transpose()?,
        created_by: None,
        reach: None,
    };
    let records = state.manifests.list(&caller.0, filter, page).await?;
    Ok(HttpResponse::Ok().json(Paged::of(records, page, |r| r.id.0, |r| Manifest::from(&r))))
}

/// Changes to a draft. A null clears an optional field.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchBody {
    /// New title.
    title: Option<String>,
    /// New department.
    #[serde(default, deserialize_with = "wire::given")]
    #[schema(value_type = Option<String>)]
    department: Option<Option<String>>,
    /// New project.
    #[serde(default, deserialize_with = "wire::given")]
    #[schema(value_type = Option<String>)]
    project: Option<Option<String>>,
    /// New classification.
    classification: Option<String>,
}

/// Changes a draft.
#[utoipa::path(patch, path = "/api/v1/manifests/{id}", tag = "manifests", security(("bearer" = [])), request_body = PatchBody,
    params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header, description = "The revision you saw")),
    responses((status = 200, body = Manifest), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, body = ProblemBody, description = "ALREADY_SIGNED, ARCHIVED"), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub async fn update(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ManifestUpdate, PatchBody>,
    if_match: IfMatch,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let classification = body.classification.map(|c| wire::word("classification", &c)).transpose()?;
    let changes = Changes { title: body.title, department: body.department, project: body.project, classification };
    let record = state.manifests.update(&actor, ManifestId(*id), changes, if_match.0).await?;
    Ok(HttpResponse::Ok().insert_header(etag(&record)).json(Manifest::from(&record)))
}

/// What is to be taken out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedactRequest {
    /// Kinds of personal data: `gps`, `serial_number`, `email`, `phone`, `nric_sg`, `national_id_th`, `ssn_us`, `dni_es`, `name`. All
    /// when there are none, but for the names of people in the picture.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["gps", "email"]))]
    kinds: BTreeSet<pii::Kind>,
}

/// A datum that was taken out.
#[derive(Serialize, ToSchema)]
pub struct RedactedItem {
    /// Where it stood.
    #[schema(example = "metadata.exif.exif:GPSLatitude")]
    location: String,
    /// What it was.
    #[schema(example = "gps")]
    kind: &'static str,
}

/// A draft without it.
#[derive(Serialize, ToSchema)]
pub struct RedactResult {
    /// The draft.
    manifest: Manifest,
    /// What was taken out.
    redacted: Vec<RedactedItem>,
}

/// Takes personal data out of a draft: out of its content's metadata, its title and its assertions. The content has other bytes from
/// then on, so that decisions and evidence about the old ones count no more.
#[utoipa::path(post, path = "/api/v1/manifests/{id}/redact", tag = "manifests", security(("bearer" = [])), request_body = RedactRequest,
    params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header, description = "The revision you saw")),
    responses((status = 200, body = RedactResult), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, body = ProblemBody, description = "ALREADY_SIGNED, ARCHIVED, CONTENT_HAS_MANIFEST, TRANSITION_PENDING"), (status = 412, body = ProblemBody),
        (status = 422, body = ProblemBody, description = "REDACTION_INCOMPLETE: some of it cannot be reached; nothing was changed")))]
pub async fn redact(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ManifestUpdate, RedactRequest>,
    if_match: IfMatch,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let id = ManifestId(*id);
    let (plan, found, revision) = state.compliance.redaction(&actor, id, &body.kinds).await?;
    check_revision("manifest", revision, if_match.0)?;
    let record = match found.is_empty() {
        true => state.manifests.get(&actor, id).await?,
        // What was found is what goes: a change since then is refused.
        false => state.manifests.redact(&actor, id, plan, Some(revision)).await?,
    };
    let redacted =
        found.into_iter().map(|(place, kind)| RedactedItem { location: place.to_string(), kind: kind.as_str() }).collect();
    let body = RedactResult { manifest: Manifest::from(&record), redacted };
    Ok(HttpResponse::Ok().insert_header(etag(&record)).json(body))
}

/// Archives a manifest. Its content is kept under retention.
#[utoipa::path(delete, path = "/api/v1/manifests/{id}", tag = "manifests", security(("bearer" = [])), params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header,)),
    responses((status = 204), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 412, body = ProblemBody)))]
pub async fn archive(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestDelete>,
    if_match: IfMatch,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    state.manifests.archive(&caller.0, ManifestId(*id), if_match.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The content: the signed asset, or a draft's source. Takes range requests.
#[utoipa::path(get, path = "/api/v1/manifests/{id}/content", tag = "manifests", security(("bearer" = [])), params(("id" = Uuid, Path,), ("Range" = Option<String>, Header, example = "bytes=0-1023")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 202, body = Restore, description = "The content is archived and is being restored; `Retry-After` says when to ask again"), (status = 206, content_type = "application/octet-stream", body = Vec<u8>), (status = 304), (status = 401, body = ProblemBody), (status = 404, body = ProblemBody), (status = 416)))]
pub async fn content(
    state: web::Data<ApiState>,
    found: Found<may::ManifestRead, ManifestRecord>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let Found { actor, thing: record, .. } = found;
    let id = record.id;
    let link = format!("<{}/api/v1/manifests/{id}/manifest.c2pa>; rel=\"c2pa-manifest\"", state.public_url);
    let serving = Serving {
        blob: Manifests::served(&record)?,
        mime: &record.media_type,
        file_name: record.file_name.clone().unwrap_or_else(|| id.to_string()),
        link: record.signed.is_some().then_some(link),
    };
    blob_response::serve(&state.manifests, &actor, &request, serving).await
}

/// The manifest store alone.
#[utoipa::path(get, path = "/api/v1/manifests/{id}/manifest.c2pa", tag = "manifests", security(("bearer" = [])), params(("id" = Uuid, Path,)),
    responses((status = 200, content_type = "application/c2pa", body = Vec<u8>), (status = 401, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "NOT_SIGNED")))]
pub async fn manifest_store(
    state: web::Data<ApiState>,
    found: Found<may::ManifestRead, ManifestRecord>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let Found { actor, thing: record, .. } = found;
    let id = record.id;
    let signed = record.signed.as_ref();
    let signed = signed
        .ok_or_else(|| Error::new(Kind::Conflict, "NOT_SIGNED", "the manifest is not signed, so there is no manifest store"))?;
    let serving = Serving { blob: &signed.manifest_store, mime: "application/c2pa", file_name: format!("{id}.c2pa"), link: None };
    blob_response::serve(&state.manifests, &actor, &request, serving).await
}

/// The verification report on a signed manifest, made now or from the cache.
#[utoipa::path(get, path = "/api/v1/manifests/{id}/report", tag = "manifests", security(("bearer" = [])), params(("id" = Uuid, Path,)),
    responses((status = 200, body = VerificationReport), (status = 401, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "NOT_SIGNED"), (status = 503, body = ProblemBody, description = "CONTENT_ARCHIVED: the content is being restored")))]
pub async fn report(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let verification = state.manifests.examine(&caller.0, ManifestId(*id), false).await?;
    let mut report = verification.report.clone();
    report.manifest_id = Some(ManifestId(*id));
    Ok(HttpResponse::Ok().json(report))
}

/// All manifests in C2PA's crJSON.
#[utoipa::path(get, path = "/api/v1/manifests/{id}/crjson", tag = "manifests", security(("bearer" = [])), params(("id" = Uuid, Path,)),
    responses((status = 200, body = Object), (status = 401, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "NOT_SIGNED, MANIFEST_UNREADABLE"), (status = 503, body = ProblemBody, description = "CONTENT_ARCHIVED: the content is being restored")))]
pub async fn crjson(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let verification = state.manifests.examine(&caller.0, ManifestId(*id), true).await?;
    Ok(HttpResponse::Ok().json(readable(verification.crjson.as_ref())?))
}

/// What can be said only of a readable manifest.
pub fn readable(value: Option<&serde_json::Value>) -> Result<&serde_json::Value, Problem> {
    value.ok_or_else(|| Error::new(Kind::Conflict, "MANIFEST_UNREADABLE", "the manifest cannot be read; see its report").into())
}
