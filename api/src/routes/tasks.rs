//! The inbox: tasks of workflows, and messages.

use crate::{
    ApiState,
    extract::{Caller, CallerWith, IfMatch, may},
    problem::{Problem, ProblemBody},
    routes::workflows::{AttachmentBody, Workflow, attachments, one},
    wire::{self, PageQuery, Paged},
};
use actix_web::{HttpResponse, web};
use futures_util::StreamExt;
use omt_kernel::{Error, NotificationId, TaskId, governance::TaskFilter};
use omt_workflow::{Decision, Inbox, Lend, TaskView, Workflows};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// The most decisions of one request.
const MAX_BULK: usize = 200;

/// Which tasks to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TaskQuery {
    /// `mine`, `groups` (those of my roles and groups), `all` (both; default) or `everybody` (all that I can see).
    inbox: Option<String>,
    /// Only what is overdue.
    #[serde(default)]
    overdue: bool,
    /// Only on content of this project.
    project: Option<String>,
    /// Items on the page, 1 to 200; 50 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A task.
#[derive(Serialize, ToSchema)]
pub struct Task {
    /// Identifier.
    id: Uuid,
    /// Its workflow.
    workflow_id: Uuid,
    /// The manifest.
    manifest_id: Uuid,
    /// What is to be done.
    title: String,
    /// The content's title.
    content: String,
    /// The content's project.
    project: Option<String>,
    /// The workflow's state.
    state: String,
    /// The action that deciding takes, when no other is named.
    action: String,
    /// The stage.
    stage: String,
    /// The role that decides.
    role: String,
    /// How many must agree.
    needed: u32,
    /// How many have decided.
    decided: u32,
    /// Whether the caller has decided already.
    decided_by_me: bool,
    /// Who has it.
    claimed_by: Option<String>,
    /// When it is due.
    #[serde(with = "time::serde::rfc3339::option")]
    due_at: Option<OffsetDateTime>,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

fn task(view: TaskView, subject: &str) -> Task {
    Task {
        id: view.task.id.0,
        workflow_id: view.task.workflow.0,
        manifest_id: view.task.manifest.0,
        title: view.task.title,
        content: view.content,
        project: view.project,
        state: view.state,
        action: view.task.action,
        stage: view.task.stage,
        role: view.task.role,
        needed: view.task.needed,
        decided: view.task.decided,
        decided_by_me: view.task.done_by.contains(subject),
        claimed_by: view.task.claimed_by,
        due_at: view.task.due_at,
        created_at: view.task.created_at,
    }
}

/// Lists tasks on content that the caller can see, newest first.
#[utoipa::path(get, path = "/api/v1/tasks", tag = "tasks", params(TaskQuery), security(("bearer" = [])), responses((status = 200, body = Paged<Task>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn list(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    query: web::Query<TaskQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let known = [("all", Inbox::All), ("mine", Inbox::Mine), ("groups", Inbox::Groups), ("everybody", Inbox::Everybody)];
    let inbox = wire::choice("inbox", query.inbox.as_deref(), &known, Inbox::All)?;
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    let filter = TaskFilter {
        candidates: None,
        due_before: query.overdue.then(|| state.clock.now()),
        project: query.project,
        reach: None,
    };
    let found = state.workflows.tasks(&caller.0, inbox, filter, page).await?;
    Ok(HttpResponse::Ok().json(Paged::of(found, page, |view| view.task.id.0, |view| task(view, &caller.0.subject))))
}

/// How many tasks there are.
#[derive(Serialize, ToSchema)]
pub struct TaskCounts {
    /// Those that the caller has, was assigned or was lent.
    mine: u64,
    /// Those that wait for anybody in the caller's roles and groups.
    groups: u64,
    /// Those of both that are overdue.
    overdue: u64,
    /// No count goes beyond this.
    counted_to: u64,
}

/// Counts the caller's tasks.
#[utoipa::path(get, path = "/api/v1/tasks/counts", tag = "tasks", security(("bearer" = [])), responses((status = 200, body = TaskCounts), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn counts(state: web::Data<ApiState>, caller: Caller<may::ManifestRead>) -> Result<HttpResponse, Problem> {
    let (mine, groups, overdue) = state.workflows.task_counts(&caller.0).await?;
    Ok(HttpResponse::Ok().json(TaskCounts { mine, groups, overdue, counted_to: Workflows::COUNTED.into() }))
}

/// Takes a task for oneself, so that nobody else decides on it.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/claim", tag = "tasks", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = Workflow), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "TASK_CLAIMED, TASK_SHARED, TASK_CLOSED")))]
pub async fn claim(
    state: web::Data<ApiState>,
    caller: Caller<may::WorkflowPart>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    Ok(one(state.workflows.claim(&caller.0, TaskId(*id)).await?, HttpResponse::Ok()))
}

/// Gives a task back.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/unclaim", tag = "tasks", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 200, body = Workflow), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "TASK_NOT_CLAIMED, TASK_CLOSED")))]
pub async fn unclaim(
    state: web::Data<ApiState>,
    caller: Caller<may::WorkflowPart>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    Ok(one(state.workflows.unclaim(&caller.0, TaskId(*id)).await?, HttpResponse::Ok()))
}

/// Whom to let decide in one's place.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DelegateRequest {
    /// A user, as `user:<id>` or by login name.
    to: String,
    /// From then on; at once when absent.
    #[serde(default, with = "time::serde::rfc3339::option")]
    from: Option<OffsetDateTime>,
    /// Until then.
    #[serde(default, with = "time::serde::rfc3339::option")]
    until: Option<OffsetDateTime>,
    /// Words.
    comments: Option<String>,
}

/// Lets another decide in one's place. It is the same one vote, whoever casts it.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/delegate", tag = "tasks", params(("id" = Uuid, Path,)), request_body = DelegateRequest, security(("bearer" = [])), responses((status = 200, body = Workflow), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody), (status = 422, body = ProblemBody, description = "UNKNOWN_USER, DELEGATION_REFUSED: to oneself, in a circle, to the author, or to somebody who may not")))]
pub async fn delegate(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::WorkflowPart, DelegateRequest>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let lend = Lend { to: body.to, starts: body.from, ends: body.until, comments: body.comments };
    Ok(one(state.workflows.lend(&actor, TaskId(*id), lend).await?, HttpResponse::Ok()))
}

/// A decision.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideRequest {
    /// An action of the workflow's state, such as `approve` or `reject`; the task's own when absent.
    action: Option<String>,
    /// Words; some actions need them.
    comments: Option<String>,
    /// Evidence.
    #[serde(default)]
    attachments: Vec<AttachmentBody>,
}

/// Decides on a task.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/decide", tag = "tasks", request_body = DecideRequest, security(("bearer" = [])),
    params(("id" = Uuid, Path,), ("If-Match" = Option<String>, Header, description = "The workflow's revision that you saw")),
    responses((status = 200, body = Workflow), (status = 202, body = Workflow), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "FORBIDDEN, NOT_ELIGIBLE, FOUR_EYES"), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody, description = "TASK_CLOSED: the workflow went on; WRONG_STATE with the allowed actions, ALREADY_DECIDED, STAGE_CLOSED, TASK_CLAIMED, GUARD_FAILED with the reasons, CONTENT_CHANGED, TRANSITION_PENDING"), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody, description = "UNKNOWN_ACTION, COMMENTS_REQUIRED, INVALID_FIELD")))]
pub async fn decide(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::WorkflowPart, DecideRequest>,
    id: web::Path<Uuid>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let decision = Decision {
        task: TaskId(*id),
        attachments: attachments(&body.attachments),
        action: body.action,
        comments: body.comments,
        if_match: if_match.0,
    };
    Ok(one(state.workflows.decide_task(&actor, decision).await?, HttpResponse::Ok()))
}

/// One of many decisions.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkItem {
    /// The task.
    id: Uuid,
    /// An action; the task's own when absent.
    action: Option<String>,
    /// Words.
    comments: Option<String>,
    /// Evidence.
    #[serde(default)]
    attachments: Vec<AttachmentBody>,
}

/// Many decisions.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkRequest {
    /// 1 to 200.
    items: Vec<BulkItem>,
}

/// What came of one of them.
#[derive(Serialize, ToSchema)]
pub struct BulkResult {
    /// The task.
    id: Uuid,
    /// The status that it would have had alone.
    status: u16,
    /// The state that the workflow is in now.
    current_state: Option<String>,
    /// Why it was refused; with 200, why what the decision leads to could not be had: it was made, and is to be made again.
    code: Option<String>,
    /// That in words.
    message: Option<String>,
}

/// What came of them.
#[derive(Serialize, ToSchema)]
pub struct BulkResults {
    /// In the order of the request.
    items: Vec<BulkResult>,
}

/// Decides on many tasks. Each is its own: what one is refused for does not touch the others.
#[utoipa::path(post, path = "/api/v1/tasks/decide", tag = "tasks", request_body = BulkRequest, security(("bearer" = [])), responses((status = 200, body = BulkResults), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub async fn decide_many(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::WorkflowPart, BulkRequest>,
) -> Result<HttpResponse, Problem> {
    if !(1..=MAX_BULK).contains(&body.items.len()) {
        return Err(Error::unprocessable_field("INVALID_FIELD", "items", "must have 1 to 200 decisions").into());
    }
    let each = futures_util::stream::iter(body.items).map(|item| {
        let (state, actor) = (state.clone(), actor.clone());
        async move {
            let decision = Decision {
                task: TaskId(item.id),
                attachments: attachments(&item.attachments),
                action: item.action,
                comments: item.comments,
                if_match: None,
            };
            match state.workflows.decide_task(&actor, decision).await {
                Ok(view) => {
                    let status = if view.pending_action.is_some() { 202 } else { 200 };
                    let (code, message) = view.failure().unzip();
                    BulkResult { id: item.id, status, current_state: Some(view.state), code, message }
                }
                Err(error) => {
                    let problem = Problem(error);
                    let status = actix_web::ResponseError::status_code(&problem).as_u16();
                    let (code, message) = problem.public();
                    BulkResult { id: item.id, status, current_state: None, code: Some(code), message: Some(message) }
                }
            }
        }
    });
    let items = each.buffered(4).collect().await;
    Ok(HttpResponse::Ok().json(BulkResults { items }))
}

/// Which messages to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NotificationQuery {
    /// Only those that the caller has not read.
    #[serde(default)]
    unread: bool,
    /// Items on the page, 1 to 200; 50 when absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A message.
#[derive(Serialize, ToSchema)]
pub struct Notification {
    /// Identifier.
    id: Uuid,
    /// What kind, such as `workflow.task.opened`.
    kind: String,
    /// What it says.
    #[schema(value_type = Object)]
    data: Value,
    /// Whether the caller has read it.
    read: bool,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// Lists messages to the caller, their roles and their groups, newest first.
#[utoipa::path(get, path = "/api/v1/notifications", tag = "tasks", params(NotificationQuery), security(("bearer" = [])), responses((status = 200, body = Paged<Notification>), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn notifications(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    query: web::Query<NotificationQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    let found = state.notices.list(&caller.0, query.unread, page).await?;
    let item = |(record, read): (omt_kernel::governance::NotificationRecord, bool)| Notification {
        id: record.id.0,
        kind: record.kind,
        data: record.data,
        read,
        created_at: record.created_at,
    };
    Ok(HttpResponse::Ok().json(Paged::of(found, page, |(record, _)| record.id.0, item)))
}

/// Notes that the caller read a message.
#[utoipa::path(post, path = "/api/v1/notifications/{id}/read", tag = "tasks", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 204), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn mark_read(
    state: web::Data<ApiState>,
    caller: Caller<may::ManifestRead>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    state.notices.mark_read(&caller.0, NotificationId(*id)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// How the caller wants to be told.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NotificationSettings {
    /// Whether messages go out by mail besides, where the platform has a mail server and the caller an address.
    email: bool,
}

/// How the caller is told.
#[utoipa::path(get, path = "/api/v1/notifications/settings", tag = "tasks", security(("bearer" = [])), responses((status = 200, body = NotificationSettings), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "NOT_A_USER")))]
pub async fn notification_settings(state: web::Data<ApiState>, caller: Caller<may::Anything>) -> Result<HttpResponse, Problem> {
    let email = state.access.wants_mail(&caller.0).await?;
    Ok(HttpResponse::Ok().json(NotificationSettings { email }))
}

/// Says how the caller wants to be told.
#[utoipa::path(put, path = "/api/v1/notifications/settings", tag = "tasks", request_body = NotificationSettings, security(("bearer" = [])), responses((status = 200, body = NotificationSettings), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "NOT_A_USER")))]
pub async fn set_notification_settings(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::Anything, NotificationSettings>,
) -> Result<HttpResponse, Problem> {
    state.access.want_mail(&actor, body.email).await?;
    Ok(HttpResponse::Ok().json(body))
}
