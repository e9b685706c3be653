//! Compliance: checks, evidence, overrides and policies.

use crate::{
    ApiState,
    extract::{Caller, CallerWith, IfMatch, may},
    found::Found,
    problem::{Problem, ProblemBody},
    wire::{self, PageQuery, Paged},
};
use actix_web::{HttpResponse, http::header, web};
use omt_compliance::{
    NewClearance, NewOverride, Policy, PolicyVersion, Report, RuleName,
    model::{Area, Consent, Declaration, Override, Rights},
};
use omt_kernel::{EvidenceId, ManifestId, governance::EvidenceRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// What to check.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// The manifest.
    manifest_id: Uuid,
    /// The policy.
    #[schema(example = "pdpa_compliance")]
    policy_name: String,
}

/// Reports on a manifest.
#[derive(Serialize, ToSchema)]
pub struct Reports {
    /// One for each policy that was asked about it, or that its classification asks for.
    #[schema(value_type = Vec<Object>)]
    items: Vec<Report>,
}

/// Checks a manifest by a policy. What is pending is never passed; every rule says what it decided from.
#[utoipa::path(post, path = "/api/v1/compliance/check", tag = "compliance", request_body = CheckRequest, security(("bearer" = [])), responses((status = 200, body = Object, description = "The report: `status`, and `rules` with status, locations, expected, actual and evidence"), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody, description = "UNKNOWN_POLICY")))]
pub async fn check(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ComplianceCheck, CheckRequest>,
) -> Result<HttpResponse, Problem> {
    let report = state.compliance.check(&actor, ManifestId(body.manifest_id), &body.policy_name).await?;
    Ok(HttpResponse::Ok().json(report))
}

/// What every policy says of a manifest now.
#[utoipa::path(get, path = "/api/v1/compliance/reports/{id}", tag = "compliance", params(("id" = Uuid, Path, description = "Manifest")), security(("bearer" = [])), responses((status = 200, body = Reports), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn reports(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let items = state.compliance.reports(&caller.0, ManifestId(*id)).await?;
    Ok(HttpResponse::Ok().json(Reports { items }))
}

/// A policy: a name and the rules that must hold.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompliancePolicy {
    /// Name.
    #[serde(default)]
    name: String,
    /// Words for people.
    #[serde(default)]
    description: String,
    /// Rules by name.
    #[schema(example = json!(["pdpa_consent", "legal_review"]))]
    rules: BTreeSet<String>,
    /// Its version, of which the entity tag is made. What is sent is not looked at.
    #[serde(default)]
    version: u32,
}

/// Policies.
#[derive(Serialize, ToSchema)]
pub struct CompliancePolicies {
    /// By name.
    items: Vec<CompliancePolicy>,
}

impl From<PolicyVersion> for CompliancePolicy {
    fn from(PolicyVersion { policy, version }: PolicyVersion) -> Self {
        let rules = policy.rules.iter().map(ToString::to_string).collect();
        Self { name: policy.name, description: policy.description, rules, version }
    }
}

fn one_policy(found: PolicyVersion) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::ETAG, format!("\"{}\"", found.version))).json(CompliancePolicy::from(found))
}

/// Which version.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CompliancePolicyQuery {
    /// The version; the newest, which is in force, when absent.
    version: Option<u32>,
}

/// A compliance policy, as it is in force or as it was.
#[utoipa::path(get, path = "/api/v1/compliance/policies/{name}", tag = "compliance", params(("name" = String, Path,), CompliancePolicyQuery), security(("bearer" = [])), responses((status = 200, body = CompliancePolicy), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody, description = "UNKNOWN_POLICY")))]
pub async fn get_policy(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    name: web::Path<String>,
    query: web::Query<CompliancePolicyQuery>,
) -> Result<HttpResponse, Problem> {
    Ok(one_policy(state.compliance.policy_version(&caller.0, &name, query.version).await?))
}

/// Lists compliance policies.
#[utoipa::path(get, path = "/api/v1/compliance/policies", tag = "compliance", security(("bearer" = [])), responses((status = 200, body = CompliancePolicies), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn policies(state: web::Data<ApiState>, caller: Caller<may::ManifestRead>) -> Result<HttpResponse, Problem> {
    let items = state.compliance.policies(&caller.0).await?.into_iter().map(Into::into).collect();
    Ok(HttpResponse::Ok().json(CompliancePolicies { items }))
}

/// Makes or changes a compliance policy of the tenant's own, as a new version.
#[utoipa::path(put, path = "/api/v1/compliance/policies/{name}", tag = "compliance", params(("name" = String, Path,), ("If-Match" = Option<String>, Header, description = "The version you saw")), request_body = CompliancePolicy, security(("bearer" = [])), responses((status = 200, body = CompliancePolicy), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 409, body = ProblemBody, description = "BUILT_IN_POLICY"), (status = 412, body = ProblemBody, description = "REVISION_MISMATCH"), (status = 422, body = ProblemBody)))]
pub async fn put_policy(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::AdminPolicies, CompliancePolicy>,
    name: web::Path<String>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let rules = body.rules.iter().map(|rule| wire::word::<RuleName>("rules", rule)).collect::<Result<_, _>>()?;
    let policy = Policy { name: name.into_inner(), description: body.description, rules };
    Ok(one_policy(state.compliance.put_policy(&actor, policy, if_match.0).await?))
}

/// A consent. The person's reference is hashed and not kept.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentRequest {
    /// The person: the name that metadata has for them, or another reference.
    subject: String,
    /// What for.
    #[schema(example = "publication")]
    purpose: String,
    /// How far, in words.
    scope: String,
    /// SHA-256 of the document that proves it.
    document_sha256: String,
    /// When it was given.
    #[serde(with = "time::serde::rfc3339")]
    given_at: OffsetDateTime,
    /// When it ends.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// A decision on a manifest's content.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClearanceRequest {
    /// The manifest whose content it is about.
    manifest_id: Uuid,
    /// SHA-256 of the content that the caller looked at, in lower-case hexadecimal. Where the manifest has other content by now,
    /// nothing is recorded (409 `OTHER_CONTENT`); absent, the record is about whatever the manifest has now.
    content_sha256: Option<String>,
    /// `trademark` or `legal`.
    area: String,
    /// Whether it is cleared.
    cleared: bool,
    /// Why.
    reason: String,
    /// When it ends.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// A right to use a manifest's content.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RightsRequest {
    /// The manifest whose content it is about.
    manifest_id: Uuid,
    /// SHA-256 of the content that the caller looked at, in lower-case hexadecimal. Where the manifest has other content by now,
    /// nothing is recorded (409 `OTHER_CONTENT`); absent, the record is about whatever the manifest has now.
    content_sha256: Option<String>,
    /// Whose it is.
    holder: String,
    /// The licence.
    licence: String,
    /// From then on.
    #[serde(default, with = "time::serde::rfc3339::option")]
    from: Option<OffsetDateTime>,
    /// Until then.
    #[serde(default, with = "time::serde::rfc3339::option")]
    until: Option<OffsetDateTime>,
    /// Where (ISO 3166-1 alpha-2); everywhere when empty.
    #[serde(default)]
    territories: BTreeSet<String>,
}

/// What the maker of content says of it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclarationRequest {
    /// The manifest whose content it is about.
    manifest_id: Uuid,
    /// SHA-256 of the content that the caller looked at, in lower-case hexadecimal. Where the manifest has other content by now,
    /// nothing is recorded (409 `OTHER_CONTENT`); absent, the record is about whatever the manifest has now.
    content_sha256: Option<String>,
    /// Everybody who can be recognised in it; an empty list says nobody can. Hashed, and not kept.
    persons: Vec<String>,
    /// What it is for; `publication` when absent.
    purpose: Option<String>,
    /// Who will see it: `public`, `partners` or `internal`.
    audience: String,
    /// Where it goes (ISO 3166-1 alpha-2).
    #[serde(default)]
    destinations: BTreeSet<String>,
    /// An ECCN such as `5A002`, or `dual-use`; absent when it is not controlled.
    export_code: Option<String>,
}

/// A record of evidence.
#[derive(Serialize, ToSchema)]
pub struct EvidenceBody {
    /// Identifier.
    id: Uuid,
    /// `consent`, `clearance`, `rights` or `declaration`.
    kind: String,
    /// Rises with each change; the same as the `ETag`.
    revision: i64,
    /// What it says.
    #[schema(value_type = Object)]
    evidence: Value,
    /// The subject that brought it.
    created_by: String,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// Last change.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<EvidenceRecord> for EvidenceBody {
    fn from(record: EvidenceRecord) -> Self {
        Self {
            id: record.id.0,
            kind: record.kind,
            revision: record.revision,
            evidence: record.data,
            created_by: record.created_by,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

fn record(found: EvidenceRecord, mut response: actix_web::HttpResponseBuilder) -> HttpResponse {
    response
        .insert_header((header::ETAG, format!("\"{}\"", found.revision)))
        .insert_header((header::LOCATION, format!("/api/v1/compliance/records/{}", found.id)))
        .json(EvidenceBody::from(found))
}

/// Records a consent of a person.
#[utoipa::path(post, path = "/api/v1/compliance/consents", tag = "compliance", request_body = ConsentRequest, security(("bearer" = [])), responses((status = 201, body = EvidenceBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub async fn add_consent(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ComplianceCheck, ConsentRequest>,
) -> Result<HttpResponse, Problem> {
    let consent = Consent {
        subject: String::new(),
        purpose: body.purpose,
        scope: body.scope,
        document_sha256: body.document_sha256,
        given_at: body.given_at,
        expires_at: body.expires_at,
        withdrawn_at: None,
    };
    Ok(record(state.compliance.add_consent(&actor, &body.subject, consent).await?, HttpResponse::Created()))
}

/// Records the caller's decision on a manifest's content. It counts for exactly this content.
#[utoipa::path(post, path = "/api/v1/compliance/clearances", tag = "compliance", request_body = ClearanceRequest, security(("bearer" = [])), responses((status = 201, body = EvidenceBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, NOT_ELIGIBLE, FOUR_EYES"), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "OTHER_CONTENT"), (status = 422, body = ProblemBody)))]
pub async fn add_clearance(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ComplianceCheck, ClearanceRequest>,
) -> Result<HttpResponse, Problem> {
    let area = match body.area.as_str() {
        "trademark" => Area::Trademark,
        "legal" => Area::Legal,
        _ => {
            let words = "must be trademark or legal";
            return Err(omt_kernel::Error::unprocessable_field("INVALID_FIELD", "area", words).into());
        }
    };
    let new = NewClearance {
        manifest: ManifestId(body.manifest_id),
        area,
        cleared: body.cleared,
        reason: body.reason,
        expires_at: body.expires_at,
    };
    let made = state.compliance.add_clearance(&actor, new, body.content_sha256.as_deref()).await?;
    Ok(record(made, HttpResponse::Created()))
}

/// Records a right to use a manifest's content.
#[utoipa::path(post, path = "/api/v1/compliance/rights", tag = "compliance", request_body = RightsRequest, security(("bearer" = [])), responses((status = 201, body = EvidenceBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "OTHER_CONTENT"), (status = 422, body = ProblemBody)))]
pub async fn add_rights(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ComplianceCheck, RightsRequest>,
) -> Result<HttpResponse, Problem> {
    let rights = Rights {
        content_sha256: String::new(),
        holder: body.holder,
        licence: body.licence,
        from: body.from,
        until: body.until,
        territories: body.territories,
        withdrawn_at: None,
    };
    let seen = body.content_sha256.as_deref();
    let made = state.compliance.add_rights(&actor, ManifestId(body.manifest_id), rights, seen).await?;
    Ok(record(made, HttpResponse::Created()))
}

/// Records what somebody says of content; the newest counts. What one says who checks compliance and did not make it is replaced only by
/// such a one.
#[utoipa::path(post, path = "/api/v1/compliance/declarations", tag = "compliance", request_body = DeclarationRequest, security(("bearer" = [])), responses((status = 201, body = EvidenceBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, REVIEWED_DECLARATION"), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "OTHER_CONTENT"), (status = 422, body = ProblemBody)))]
pub async fn declare(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::Declare, DeclarationRequest>,
) -> Result<HttpResponse, Problem> {
    let declaration = Declaration {
        content_sha256: String::new(),
        persons: BTreeSet::new(),
        purpose: body.purpose.unwrap_or_else(|| "publication".into()),
        audience: body.audience,
        destinations: body.destinations,
        export_code: body.export_code,
        reviewed: false,
    };
    let (id, seen) = (ManifestId(body.manifest_id), body.content_sha256.as_deref());
    let made = state.compliance.declare(&actor, id, &body.persons, declaration, seen).await?;
    Ok(record(made, HttpResponse::Created()))
}

/// Which records to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RecordQuery {
    /// `consent`, `clearance`, `rights` or `declaration`.
    kind: Option<String>,
    /// About this person.
    person: Option<String>,
    /// About this manifest's content.
    manifest_id: Option<Uuid>,
    /// Items on the page, 1 to 200; 50 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists records of evidence, newest first.
#[utoipa::path(get, path = "/api/v1/compliance/records", tag = "compliance", params(RecordQuery), security(("bearer" = [])), responses((status = 200, body = Paged<EvidenceBody>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn records(
    state: web::Data<ApiState>,
    caller: Caller<may::SeeEvidence>,
    query: web::Query<RecordQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    let manifest = query.manifest_id.map(ManifestId);
    let found = state.compliance.list_evidence(&caller.0, query.kind, query.person.as_deref(), manifest, page).await?;
    Ok(HttpResponse::Ok().json(Paged::of(found, page, |record| record.id.0, EvidenceBody::from)))
}

/// One record of evidence.
#[utoipa::path(get, path = "/api/v1/compliance/records/{id}", tag = "compliance", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = EvidenceBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn get_record(found: Found<may::SeeEvidence, EvidenceRecord>) -> HttpResponse {
    record(found.thing, HttpResponse::Ok())
}

/// Takes a consent, a clearance or a right back. The record stays and says when; everything that depends on it is looked at again.
#[utoipa::path(delete, path = "/api/v1/compliance/records/{id}", tag = "compliance", params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header, description = "The revision you saw")), security(("bearer" = [])), responses((status = 200, body = EvidenceBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "NOT_WITHDRAWABLE"), (status = 412, body = ProblemBody)))]
pub async fn withdraw(
    state: web::Data<ApiState>,
    caller: Caller<may::ComplianceCheck>,
    id: web::Path<Uuid>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    Ok(record(state.compliance.withdraw(&caller.0, EvidenceId(*id), if_match.0).await?, HttpResponse::Ok()))
}

/// An override to ask for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideRequest {
    /// The manifest.
    manifest_id: Uuid,
    /// The rule.
    #[schema(example = "legal_review")]
    rule: String,
    /// Why.
    reason: String,
    /// When it ends; within 366 days.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// An override.
#[derive(Serialize, ToSchema)]
pub struct OverrideBody {
    /// `asked` until a second person agrees, then `in_force`.
    state: &'static str,
    /// What it says.
    #[schema(value_type = Object)]
    #[serde(flatten)]
    content: Override,
}

impl From<Override> for OverrideBody {
    fn from(content: Override) -> Self {
        Self { state: if content.approved_by.is_some() { "in_force" } else { "asked" }, content }
    }
}

/// Asks for an override of a rule. It counts once a second person agrees, for this content, until it ends; every later report shows
/// it.
#[utoipa::path(post, path = "/api/v1/compliance/override", tag = "compliance", request_body = OverrideRequest, security(("bearer" = [])), responses((status = 201, body = OverrideBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub async fn ask_override(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ComplianceOverride, OverrideRequest>,
) -> Result<HttpResponse, Problem> {
    let rule = wire::word::<RuleName>("rule", &body.rule)?;
    let new = NewOverride { manifest: ManifestId(body.manifest_id), rule, reason: body.reason, expires_at: body.expires_at };
    Ok(HttpResponse::Created().json(OverrideBody::from(state.compliance.ask_override(&actor, new).await?)))
}

/// Agrees to an override that another person asked for.
#[utoipa::path(post, path = "/api/v1/compliance/override/{id}/approve", tag = "compliance", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = OverrideBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, SECOND_PERSON_NEEDED, FOUR_EYES"), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "ALREADY_DECIDED, OVERRIDE_LAPSED")))]
pub async fn approve_override(
    state: web::Data<ApiState>,
    caller: Caller<may::ComplianceOverride>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(OverrideBody::from(state.compliance.approve_override(&caller.0, *id).await?)))
}
