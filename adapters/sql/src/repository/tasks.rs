//! What waits for somebody.

use super::manifests::within;
use crate::{
    Finish, Unit,
    entity::{manifests, workflow_candidates as candidates, workflow_tasks as rows},
    failed, from_json, instant, micros, tenant_id, to_json,
};
use async_trait::async_trait;
use omt_kernel::{
    ManifestId, Result, TaskId, TenantId, WorkflowId,
    governance::{TaskFilter, TaskRecord},
    port::{Page, TaskRepository},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, JoinType, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, RelationDef, Select,
    sea_query::{Expr, ExprTrait, OnConflict, Order, Query, SimpleExpr},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// The columns that nothing is found by.
#[derive(Serialize, Deserialize)]
struct Data {
    visit: u32,
    action: String,
    stage: String,
    title: String,
    role: String,
    candidates: BTreeSet<String>,
    done_by: BTreeSet<String>,
    decided: u32,
    needed: u32,
    claimed_by: Option<String>,
    /// When it waits for others, in microseconds: `next_at` of the row is the earlier of this and `alarm_at` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lent_at: Option<i64>,
    /// When somebody must be reminded or it must be escalated, in microseconds, where there is `lent_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alarm_at: Option<i64>,
}

fn from_row(row: rows::Model) -> Result<TaskRecord> {
    let data: Data = from_json(row.data)?;
    Ok(TaskRecord {
        id: TaskId(row.id),
        tenant: tenant_id(&row.tenant)?,
        workflow: WorkflowId(row.workflow_id),
        manifest: ManifestId(row.manifest_id),
        visit: data.visit,
        action: data.action,
        stage: data.stage,
        title: data.title,
        role: data.role,
        candidates: data.candidates,
        done_by: data.done_by,
        decided: data.decided,
        needed: data.needed,
        claimed_by: data.claimed_by,
        due_at: row.due_at.map(instant).transpose()?,
        next_at: if data.lent_at.is_some() { data.alarm_at } else { row.next_at }.map(instant).transpose()?,
        lent_at: data.lent_at.map(instant).transpose()?,
        created_at: instant(row.created_at)?,
    })
}

fn to_row(task: &TaskRecord) -> Result<rows::ActiveModel> {
    let (alarm_at, lent_at) = (task.next_at.map(micros), task.lent_at.map(micros));
    let data = Data {
        visit: task.visit,
        action: task.action.clone(),
        stage: task.stage.clone(),
        title: task.title.clone(),
        role: task.role.clone(),
        candidates: task.candidates.clone(),
        done_by: task.done_by.clone(),
        decided: task.decided,
        needed: task.needed,
        claimed_by: task.claimed_by.clone(),
        lent_at,
        alarm_at: lent_at.and(alarm_at),
    };
    Ok(rows::ActiveModel {
        id: Set(task.id.0),
        tenant: Set(task.tenant.to_string()),
        workflow_id: Set(task.workflow.0),
        manifest_id: Set(task.manifest.0),
        due_at: Set(task.due_at.map(micros)),
        // One index finds both.
        next_at: Set(alarm_at.into_iter().chain(lent_at).min()),
        created_at: Set(micros(task.created_at)),
        data: Set(to_json(&data)?),
    })
}

/// From a task to its manifest.
fn to_manifest() -> RelationDef {
    rows::Entity::belongs_to(manifests::Entity).from(rows::Column::ManifestId).to(manifests::Column::Id).into()
}

/// From a task to whom it waits for.
fn to_candidates() -> RelationDef {
    rows::Entity::belongs_to(candidates::Entity).from(rows::Column::Id).to(candidates::Column::TaskId).into()
}

fn filtered(tenant: &TenantId, filter: &TaskFilter) -> Select<rows::Entity> {
    let mut query = rows::Entity::find().filter(rows::Column::Tenant.eq(tenant.as_str()));
    if let Some(before) = filter.due_before {
        query = query.filter(rows::Column::DueAt.lt(micros(before)));
    }
    if filter.reach.is_some() || filter.project.is_some() {
        query = query.join(JoinType::InnerJoin, to_manifest());
        if let Some(reach) = &filter.reach {
            query = query.filter(within(reach));
        }
        if let Some(project) = &filter.project {
            query = query.filter(manifests::Column::Project.eq(project.as_str()));
        }
    }
    query
}

/// Tasks that wait for one candidate: what they are narrowed by stands beside the candidate, in an index.
fn waiting(tenant: &TenantId, filter: &TaskFilter, candidate: &str) -> Select<rows::Entity> {
    let reach = TaskFilter { reach: filter.reach.clone(), ..TaskFilter::default() };
    let mut query = filtered(tenant, &reach)
        .join(JoinType::InnerJoin, to_candidates())
        .filter(candidates::Column::Tenant.eq(tenant.as_str()))
        .filter(candidates::Column::Candidate.eq(candidate));
    if let Some(before) = filter.due_before {
        query = query.filter(candidates::Column::DueAt.lt(micros(before)));
    }
    if let Some(project) = &filter.project {
        query = query.filter(candidates::Column::Project.eq(project.as_str()));
    }
    query
}

/// Where a task stands in a list: the most overdue first where only what is overdue is listed, else the newest first.
type Place = (std::cmp::Reverse<i64>, uuid::Uuid);

fn place(filter: &TaskFilter, row: &rows::Model) -> Place {
    let due = filter.due_before.and(row.due_at).unwrap_or(0);
    (std::cmp::Reverse(due), row.id)
}

#[async_trait]
impl<C: Finish> TaskRepository for Unit<C> {
    async fn put(&self, task: &TaskRecord) -> Result<()> {
        let replace = OnConflict::column(rows::Column::Id)
            .update_columns([rows::Column::DueAt, rows::Column::NextAt, rows::Column::Data])
            .to_owned();
        rows::Entity::insert(to_row(task)?)
            .on_conflict(replace)
            .exec_without_returning(&self.connection)
            .await
            .map_err(failed)?;
        let old = candidates::Entity::delete_many().filter(candidates::Column::TaskId.eq(task.id.0));
        old.exec(&self.connection).await.map_err(failed)?;
        if task.candidates.is_empty() {
            return Ok(());
        }
        let project: Option<Option<String>> = manifests::Entity::find_by_id(task.manifest.0)
            .filter(manifests::Column::Tenant.eq(task.tenant.as_str()))
            .select_only()
            .column(manifests::Column::Project)
            .into_tuple()
            .one(&self.connection)
            .await
            .map_err(failed)?;
        let row = |candidate: &String| candidates::ActiveModel {
            tenant: Set(task.tenant.to_string()),
            candidate: Set(candidate.clone()),
            task_id: Set(task.id.0),
            project: Set(project.clone().flatten()),
            due_at: Set(task.due_at.map(micros)),
        };
        let rows = candidates::Entity::insert_many(task.candidates.iter().map(row));
        rows.exec_without_returning(&self.connection).await.map(drop).map_err(failed)
    }

    async fn get(&self, tenant: &TenantId, id: TaskId) -> Result<Option<TaskRecord>> {
        let found = rows::Entity::find_by_id(id.0).filter(rows::Column::Tenant.eq(tenant.as_str())).one(&self.connection).await;
        found.map_err(failed)?.map(from_row).transpose()
    }

    async fn of_workflow(&self, tenant: &TenantId, workflow: WorkflowId) -> Result<Vec<TaskRecord>> {
        let found = rows::Entity::find()
            .filter(rows::Column::WorkflowId.eq(workflow.0))
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .order_by_asc(rows::Column::Id)
            .all(&self.connection)
            .await;
        found.map_err(failed)?.into_iter().map(from_row).collect()
    }

    async fn remove(&self, tenant: &TenantId, id: TaskId) -> Result<()> {
        let gone = rows::Entity::delete_many()
            .filter(rows::Column::Id.eq(id.0))
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        if gone.rows_affected == 1 {
            let old = candidates::Entity::delete_many().filter(candidates::Column::TaskId.eq(id.0));
            old.exec(&self.connection).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn inbox(&self, tenant: &TenantId, filter: &TaskFilter, page: Page) -> Result<Vec<TaskRecord>> {
        // What the page begins after; a task that is gone meanwhile begins the list anew where its place depends on more than it.
        let after = match (page.after, filter.due_before) {
            (Some(after), Some(_)) => {
                let found = rows::Entity::find_by_id(after).filter(rows::Column::Tenant.eq(tenant.as_str()));
                found.one(&self.connection).await.map_err(failed)?
            }
            _ => None,
        };
        let part = |mut query: Select<rows::Entity>, id: SimpleExpr, due: SimpleExpr| {
            if filter.due_before.is_none() {
                if let Some(after) = page.after {
                    query = query.filter(id.clone().lt(after));
                }
                return query.order_by(id, Order::Desc).limit(u64::from(page.limit));
            }
            if let Some((after, at)) = after.as_ref().and_then(|row| Some((row.id, row.due_at?))) {
                let later = due.clone().gt(at).or(due.clone().eq(at).and(id.clone().lt(after)));
                query = query.filter(later);
            }
            query.order_by(due, Order::Asc).order_by(id, Order::Desc).limit(u64::from(page.limit))
        };
        let Some(wanted) = &filter.candidates else {
            let (id, due) = (Expr::col((rows::Entity, rows::Column::Id)), Expr::col((rows::Entity, rows::Column::DueAt)));
            let found = part(filtered(tenant, filter), id, due).all(&self.connection).await.map_err(failed)?;
            return found.into_iter().map(from_row).collect();
        };
        // The first of each candidate, so that an index gives every part in order, however many tasks there are.
        let mut found = BTreeMap::new();
        for candidate in wanted {
            let id = Expr::col((candidates::Entity, candidates::Column::TaskId));
            let due = Expr::col((candidates::Entity, candidates::Column::DueAt));
            let query = part(waiting(tenant, filter, candidate), id, due);
            for row in query.all(&self.connection).await.map_err(failed)? {
                found.insert(place(filter, &row), row);
            }
        }
        found.into_values().rev().take(page.limit as usize).map(from_row).collect()
    }

    async fn count(&self, tenant: &TenantId, filter: &TaskFilter, most: u32) -> Result<u64> {
        let most = u64::from(most);
        let Some(wanted) = &filter.candidates else {
            return filtered(tenant, filter).limit(most).count(&self.connection).await.map(|n| Ord::min(n, most)).map_err(failed);
        };
        let mut ids = BTreeSet::new();
        for candidate in wanted {
            let query = waiting(tenant, filter, candidate).select_only().column(rows::Column::Id).limit(most);
            let found: Vec<uuid::Uuid> = query.into_tuple().all(&self.connection).await.map_err(failed)?;
            ids.extend(found);
        }
        Ok(Ord::min(ids.len() as u64, most))
    }

    async fn set_project(&self, tenant: &TenantId, workflow: WorkflowId, project: Option<&str>) -> Result<()> {
        let tasks = Query::select()
            .column(rows::Column::Id)
            .from(rows::Entity)
            .and_where(rows::Column::WorkflowId.eq(workflow.0))
            .and_where(rows::Column::Tenant.eq(tenant.as_str()))
            .to_owned();
        let done = candidates::Entity::update_many()
            .col_expr(candidates::Column::Project, Expr::value(project.map(str::to_owned)))
            .filter(candidates::Column::TaskId.in_subquery(tasks))
            .exec(&self.connection)
            .await;
        done.map(drop).map_err(failed)
    }

    async fn due(&self, now: OffsetDateTime, limit: u32) -> Result<Vec<TaskRecord>> {
        let found = rows::Entity::find()
            .filter(rows::Column::NextAt.lte(micros(now)))
            .order_by_asc(rows::Column::NextAt)
            .limit(u64::from(limit))
            .all(&self.connection)
            .await;
        found.map_err(failed)?.into_iter().map(from_row).collect()
    }
}
