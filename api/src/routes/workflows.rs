//! Workflows.

use crate::{
    ApiState,
    extract::{Caller, CallerOnceWith, CallerWith, IfMatch, may, replayed},
    found::Found,
    problem::{Problem, ProblemBody},
    wire::{PageQuery, Paged},
};
use actix_web::{HttpResponse, http::header, web};
use omt_kernel::{Error, ManifestId, WorkflowId, governance::WorkflowFilter, once::Outcome};
use omt_workflow::{NewWorkflow, Step, WorkflowView, model::Attachment};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// A workflow to begin.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkflowRequest {
    /// The draft that it decides on.
    manifest_id: Uuid,
    /// The definition; the one that the classification asks for, or `default`, when absent.
    #[schema(example = "default")]
    definition: Option<String>,
    /// Who decides, by stage: users as `user:<id>`. Everybody of the stage's role when absent.
    #[serde(default)]
    assignees: BTreeMap<String, BTreeSet<String>>,
}

/// Evidence for a decision, kept elsewhere.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentBody {
    /// Name.
    name: String,
    /// SHA-256 of its bytes, lower-case hexadecimal.
    sha256: String,
}

/// A transition to take, or to agree to.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransitionRequest {
    /// One of `available_actions`.
    #[schema(example = "approve")]
    action: String,
    /// Words; some actions need them.
    comments: Option<String>,
    /// The stage, where the caller could decide in several.
    stage: Option<String>,
    /// Evidence.
    #[serde(default)]
    attachments: Vec<AttachmentBody>,
}

/// Something to say.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommentRequest {
    /// Words.
    comments: String,
    /// Evidence.
    #[serde(default)]
    attachments: Vec<AttachmentBody>,
}

/// Compliance policies.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoliciesRequest {
    /// Policies that the workflow must pass, besides those of its classification.
    #[schema(example = json!(["pdpa_compliance"]))]
    policies: BTreeSet<String>,
}

/// Something that happened.
#[derive(Serialize, ToSchema)]
pub struct HistoryEntry {
    /// Its number.
    sequence: i64,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
    /// Who; null for the platform itself.
    user_id: Option<String>,
    /// Their name, while they are known.
    user_name: Option<String>,
    /// In whose place, when it was delegated.
    on_behalf_of: Option<String>,
    /// The state before.
    from_state: String,
    /// The state after.
    to_state: String,
    /// What.
    action: String,
    /// Words.
    comments: Option<String>,
    /// Evidence.
    attachments: Vec<AttachmentBody>,
}

/// A decision on the present content.
#[derive(Serialize, ToSchema)]
pub struct ApprovalEntry {
    /// The role in which it was made.
    role: String,
    /// Who.
    user_id: String,
    /// Their name, while they are known.
    user_name: Option<String>,
    /// In whose place.
    on_behalf_of: Option<String>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
    /// What.
    action: String,
    /// Words.
    comments: Option<String>,
}

/// A task of a workflow.
#[derive(Serialize, ToSchema)]
pub struct WorkflowTask {
    /// Identifier.
    id: Uuid,
    /// Stage.
    stage: String,
    /// Words.
    title: String,
    /// The role that decides.
    role: String,
    /// How many must agree.
    needed: u32,
    /// How many have decided.
    decided: u32,
    /// Who has it.
    claimed_by: Option<String>,
    /// When it is due.
    #[serde(with = "time::serde::rfc3339::option")]
    due_at: Option<OffsetDateTime>,
}

/// A workflow.
#[derive(Serialize, ToSchema)]
pub struct Workflow {
    /// Identifier.
    workflow_id: Uuid,
    /// The manifest that it decides on.
    manifest_id: Uuid,
    /// Its definition.
    definition: String,
    /// The definition's version.
    definition_version: u32,
    /// Where it stands.
    current_state: String,
    /// That in words.
    state_title: String,
    /// The subject that began it.
    created_by: String,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// Last event.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    /// Rises with each event; the same as the `ETag`.
    revision: i64,
    /// What the caller could do now.
    available_actions: Vec<String>,
    /// A transition whose effects, such as signing, are under way.
    pending_action: Option<String>,
    /// Compliance policies that it must pass.
    compliance_policies: Vec<String>,
    /// What waits for somebody. Empty in lists.
    tasks: Vec<WorkflowTask>,
    /// Decisions on the present content. Empty in lists.
    approval_chain: Vec<ApprovalEntry>,
    /// What happened, oldest first, the last hundred. Empty in lists.
    history: Vec<HistoryEntry>,
}

impl From<omt_workflow::HistoryItem> for HistoryEntry {
    fn from(item: omt_workflow::HistoryItem) -> Self {
        Self {
            sequence: item.sequence,
            timestamp: item.timestamp,
            user_id: item.user_id,
            user_name: item.user_name,
            on_behalf_of: item.on_behalf_of,
            from_state: item.from_state,
            to_state: item.to_state,
            action: item.action,
            comments: item.comments,
            attachments: item
                .attachments
                .into_iter()
                .map(|file| AttachmentBody { name: file.name, sha256: file.sha256 })
                .collect(),
        }
    }
}

impl From<WorkflowView> for Workflow {
    fn from(view: WorkflowView) -> Self {
        let task = |task: omt_workflow::TaskSummary| WorkflowTask {
            id: task.id.0,
            stage: task.stage,
            title: task.title,
            role: task.role,
            needed: task.needed,
            decided: task.decided,
            claimed_by: task.claimed_by,
            due_at: task.due_at,
        };
        let approval = |vote: omt_workflow::Vote| ApprovalEntry {
            role: vote.role,
            user_id: vote.user_id,
            user_name: vote.user_name,
            on_behalf_of: vote.on_behalf_of,
            timestamp: vote.at,
            action: vote.action,
            comments: vote.comments,
        };
        Self {
            workflow_id: view.id.0,
            manifest_id: view.manifest.0,
            definition: view.definition,
            definition_version: view.version,
            current_state: view.state,
            state_title: view.state_title,
            created_by: view.created_by,
            created_at: view.created_at,
            updated_at: view.updated_at,
            revision: view.revision,
            available_actions: view.available_actions,
            pending_action: view.pending_action,
            compliance_policies: view.policies,
            tasks: view.tasks.into_iter().map(task).collect(),
            approval_chain: view.approval_chain.into_iter().map(approval).collect(),
            history: view.history.into_iter().map(Into::into).collect(),
        }
    }
}

/// Evidence as the room takes it.
pub fn attachments(bodies: &[AttachmentBody]) -> Vec<Attachment> {
    bodies.iter().map(|body| Attachment { name: body.name.clone(), sha256: body.sha256.clone() }).collect()
}

fn render(view: &WorkflowView) -> Value {
    // Our own types can all be written.
    serde_json::to_value(Workflow::from(view.clone())).unwrap_or_default()
}

fn answer(outcome: Outcome<WorkflowView>, status: actix_web::http::StatusCode) -> HttpResponse {
    match outcome {
        Outcome::Done(view) => {
            let mut response = HttpResponse::build(status);
            if status == actix_web::http::StatusCode::CREATED {
                response.insert_header((header::LOCATION, format!("/api/v1/workflows/{}", view.id)));
            }
            one(*view, response)
        }
        Outcome::Replayed { status, body } => replayed(status, &body),
    }
}

/// A workflow with its entity tag; 202 while effects are under way.
pub fn one(view: WorkflowView, mut response: actix_web::HttpResponseBuilder) -> HttpResponse {
    if view.pending_action.is_some() {
        response.status(actix_web::http::StatusCode::ACCEPTED).insert_header((header::RETRY_AFTER, "1"));
    }
    response.insert_header((header::ETAG, format!("\"{}\"", view.revision))).json(Workflow::from(view))
}

/// Begins a workflow on a draft. A manifest has one at a time.
#[utoipa::path(post, path = "/api/v1/workflows", tag = "workflows", request_body = WorkflowRequest, security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "A retry with the same key and body gets the same answer")),
    responses((status = 201, body = Workflow), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "NOT_A_DRAFT, WORKFLOW_EXISTS"), (status = 422, body = ProblemBody, description = "UNKNOWN_DEFINITION, WRONG_DEFINITION, UNKNOWN_STAGE, NOT_ELIGIBLE, QUORUM_OUT_OF_REACH, MISSING_FIELD")))]
pub async fn create(
    state: web::Data<ApiState>,
    CallerOnceWith(actor, body, key, _): CallerOnceWith<may::WorkflowInitiate, WorkflowRequest>,
) -> Result<HttpResponse, Problem> {
    let once = key.once(201, &["POST /api/v1/workflows", &json!(body).to_string()], render);
    let new =
        NewWorkflow { manifest: Some(ManifestId(body.manifest_id)), definition: body.definition, assignees: body.assignees };
    Ok(answer(state.workflows.start(&actor, new, once.as_ref()).await?, actix_web::http::StatusCode::CREATED))
}

/// Which workflows to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WorkflowQuery {
    /// Exact manifest.
    manifest_id: Option<Uuid>,
    /// Exact state.
    state: Option<String>,
    /// Exact definition.
    definition: Option<String>,
    /// Exact subject that began it.
    created_by: Option<String>,
    /// Only what is not over (`true`), or only what is (`false`).
    open: Option<bool>,
    /// Items on the page, 1 to 200; 50 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists workflows on content that the caller can see, newest first.
#[utoipa::path(get, path = "/api/v1/workflows", tag = "workflows", params(WorkflowQuery), security(("bearer" = [])), responses((status = 200, body = Paged<Workflow>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn list(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    query: web::Query<WorkflowQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    let filter = WorkflowFilter {
        manifest: query.manifest_id.map(ManifestId),
        state: query.state,
        definition: query.definition,
        created_by: query.created_by,
        open: query.open,
        reach: None,
    };
    let found = state.workflows.list(&caller.0, filter, page).await?;
    Ok(HttpResponse::Ok().json(Paged::of(found, page, |view| view.id.0, Workflow::from)))
}

/// One workflow, with what the caller could do now.
#[utoipa::path(get, path = "/api/v1/workflows/{id}", tag = "workflows", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = Workflow), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn get(found: Found<may::ManifestRead, WorkflowView>) -> HttpResponse {
    let view = found.thing;
    let mut response = HttpResponse::Ok();
    response.insert_header((header::ETAG, format!("\"{}\"", view.revision))).json(Workflow::from(view))
}

/// Takes a transition, or agrees to it where several must. What it does besides, such as signing, is done when this answers 200;
/// 202 says that it is still under way. A retry gets what was stored with the decision: 202 where something was still to be done then.
#[utoipa::path(post, path = "/api/v1/workflows/{id}/transition", tag = "workflows", request_body = TransitionRequest, security(("bearer" = [])),
    params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header, description = "The revision you saw"), ("Idempotency-Key" = Option<String>, Header, description = "A retry with the same key and body gets what was stored when the decision was written")),
    responses((status = 200, body = Workflow), (status = 202, body = Workflow), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, NOT_ELIGIBLE, FOUR_EYES"), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "WRONG_STATE with the allowed actions, ALREADY_DECIDED, STAGE_CLOSED, TASK_CLAIMED, GUARD_FAILED with the reasons, CONTENT_CHANGED, TRANSITION_PENDING"), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody, description = "UNKNOWN_ACTION, UNKNOWN_STAGE, COMMENTS_REQUIRED, INVALID_FIELD")))]
pub async fn transition(
    state: web::Data<ApiState>,
    CallerOnceWith(actor, body, key, _): CallerOnceWith<may::WorkflowPart, TransitionRequest>,
    id: web::Path<Uuid>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let once = key.once(200, &["POST transition", &id.to_string(), &json!(body).to_string()], render);
    let step = Step {
        attachments: attachments(&body.attachments),
        action: body.action,
        stage: body.stage,
        comments: body.comments,
        if_match: if_match.0,
        visit: None,
    };
    let outcome = state.workflows.step(&actor, WorkflowId(*id), step, once.as_ref()).await?;
    Ok(answer(outcome, actix_web::http::StatusCode::OK))
}

/// Says something in a workflow.
#[utoipa::path(post, path = "/api/v1/workflows/{id}/comments", tag = "workflows", params(("id" = Uuid, Path,)), request_body = CommentRequest, security(("bearer" = [])), responses((status = 200, body = Workflow), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub async fn comment(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::WorkflowPart, CommentRequest>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let files = attachments(&body.attachments);
    let view = state.workflows.comment(&actor, WorkflowId(*id), body.comments, files).await?;
    Ok(one(view, HttpResponse::Ok()))
}

/// Ends a workflow before its end. Its author, whoever began it, and managers may.
#[utoipa::path(post, path = "/api/v1/workflows/{id}/cancel", tag = "workflows", params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header, description = "The revision you saw")), request_body = CommentRequest, security(("bearer" = [])), responses((status = 200, body = Workflow), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "WORKFLOW_OVER, TRANSITION_PENDING"), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub async fn cancel(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::WorkflowPart, CommentRequest>,
    id: web::Path<Uuid>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    Ok(one(state.workflows.cancel(&actor, WorkflowId(*id), body.comments, if_match.0).await?, HttpResponse::Ok()))
}

/// Sets which compliance policies a workflow must pass; those that its classification asks for stay.
#[utoipa::path(put, path = "/api/v1/workflows/{id}/compliance", tag = "workflows", params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header, description = "The revision you saw")), request_body = PoliciesRequest, security(("bearer" = [])), responses((status = 200, body = Workflow), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "WORKFLOW_OVER, WRONG_STATE"), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody, description = "UNKNOWN_POLICY")))]
pub async fn compliance(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::ComplianceCheck, PoliciesRequest>,
    id: web::Path<Uuid>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    state.compliance.check_names(&actor, &body.policies).await?;
    let view = state.workflows.set_policies(&actor, WorkflowId(*id), body.policies, if_match.0).await?;
    Ok(one(view, HttpResponse::Ok()))
}

/// Where a history continues.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// After this `sequence`.
    #[serde(default)]
    after: i64,
    /// At most so many events, 1 to 500; 100 when absent.
    limit: Option<u32>,
}

/// A workflow's history.
#[derive(Serialize, ToSchema)]
pub struct History {
    /// What happened, oldest first.
    items: Vec<HistoryEntry>,
}

/// What happened to a workflow, oldest first.
#[utoipa::path(get, path = "/api/v1/workflows/{id}/history", tag = "workflows", params(("id" = Uuid, Path,), HistoryQuery), security(("bearer" = [])), responses((status = 200, body = History), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn history(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    id: web::Path<Uuid>,
    query: web::Query<HistoryQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=500).contains(&limit) || !(0..=1_000_000).contains(&query.after) {
        return Err(Error::invalid_field("INVALID_QUERY", "limit", "must be 1 to 500, and `after` a sequence").into());
    }
    let items = state.workflows.history(&caller.0, WorkflowId(*id), query.after, limit).await?;
    Ok(HttpResponse::Ok().json(History { items: items.into_iter().map(Into::into).collect() }))
}
