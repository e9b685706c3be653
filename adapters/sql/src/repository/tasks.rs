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
    ActiveValue::Set, ColumnTrait, EntityTrait, JoinType, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, RelationDef,
    Select, sea_query::OnConflict,
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
        next_at: row.next_at.map(instant).transpose()?,
        created_at: instant(row.created_at)?,
    })
}

fn to_row(task: &TaskRecord) -> Result<rows::ActiveModel> {
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
    };
    Ok(rows::ActiveModel {
        id: Set(task.id.0),
        tenant: Set(task.tenant.to_string()),
        workflow_id: Set(task.workflow.0),
        manifest_id: Set(task.manifest.0),
        due_at: Set(task.due_at.map(micros)),
        next_at: Set(task.next_at.map(micros)),
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

/// Tasks that wait for one candidate.
fn waiting(query: Select<rows::Entity>, tenant: &TenantId, candidate: &str) -> Select<rows::Entity> {
    query
        .join(JoinType::InnerJoin, to_candidates())
        .filter(candidates::Column::Tenant.eq(tenant.as_str()))
        .filter(candidates::Column::Candidate.eq(candidate))
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
        let row = |candidate: &String| candidates::ActiveModel {
            tenant: Set(task.tenant.to_string()),
            candidate: Set(candidate.clone()),
            task_id: Set(task.id.0),
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
        let page_of = |mut query: Select<rows::Entity>| {
            if let Some(after) = page.after {
                query = query.filter(rows::Column::Id.lt(after));
            }
            query.order_by_desc(rows::Column::Id).limit(u64::from(page.limit))
        };
        let Some(wanted) = &filter.candidates else {
            let found = page_of(filtered(tenant, filter)).all(&self.connection).await.map_err(failed)?;
            return found.into_iter().map(from_row).collect();
        };
        // The newest of each candidate, so that an index gives every part in order, however many tasks there are.
        let mut found = BTreeMap::new();
        for candidate in wanted {
            let mut query = waiting(filtered(tenant, filter), tenant, candidate);
            if let Some(after) = page.after {
                query = query.filter(candidates::Column::TaskId.lt(after));
            }
            let query = query.order_by_desc(candidates::Column::TaskId).limit(u64::from(page.limit));
            for row in query.all(&self.connection).await.map_err(failed)? {
                found.insert(row.id, row);
            }
        }
        found.into_values().rev().take(page.limit as usize).map(from_row).collect()
    }

    async fn count(&self, tenant: &TenantId, filter: &TaskFilter, most: u32) -> Result<u64> {
        let most = u64::from(most);
        let Some(wanted) = &filter.candidates else {
            return filtered(tenant, filter).limit(most).count(&self.connection).await.map(|n| n.min(most)).map_err(failed);
        };
        let mut ids = BTreeSet::new();
        for candidate in wanted {
            let query = waiting(filtered(tenant, filter), tenant, candidate).select_only().column(rows::Column::Id).limit(most);
            let found: Vec<uuid::Uuid> = query.into_tuple().all(&self.connection).await.map_err(failed)?;
            ids.extend(found);
        }
        Ok((ids.len() as u64).min(most))
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
