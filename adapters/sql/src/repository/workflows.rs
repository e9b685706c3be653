//! Workflows.

use super::manifests::within;
use crate::{
    Finish, Unit,
    entity::{manifests, workflow_events as events, workflows as rows},
    failed, instant, micros, tenant_id,
};
use async_trait::async_trait;
use omt_kernel::{
    ManifestId, OffsetDateTime, Result, TenantId, WorkflowId,
    governance::{WorkflowEventRecord, WorkflowFilter, WorkflowRecord},
    port::{Page, WorkflowRepository},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, RelationDef,
    sea_query::{Expr, ExprTrait},
};
use std::collections::BTreeMap;

fn from_row(row: rows::Model) -> Result<WorkflowRecord> {
    Ok(WorkflowRecord {
        id: WorkflowId(row.id),
        tenant: tenant_id(&row.tenant)?,
        manifest: ManifestId(row.manifest_id),
        definition: row.definition,
        state: row.state,
        open: row.open,
        revision: row.revision,
        created_by: row.created_by,
        created_at: instant(row.created_at)?,
        updated_at: instant(row.updated_at)?,
        pending_since: row.pending_since.map(instant).transpose()?,
        data: row.data,
    })
}

fn to_row(workflow: &WorkflowRecord) -> rows::ActiveModel {
    rows::ActiveModel {
        id: Set(workflow.id.0),
        tenant: Set(workflow.tenant.to_string()),
        manifest_id: Set(workflow.manifest.0),
        definition: Set(workflow.definition.clone()),
        state: Set(workflow.state.clone()),
        open: Set(workflow.open),
        revision: Set(workflow.revision),
        created_by: Set(workflow.created_by.clone()),
        created_at: Set(micros(workflow.created_at)),
        updated_at: Set(micros(workflow.updated_at)),
        pending_since: Set(workflow.pending_since.map(micros)),
        data: Set(workflow.data.clone()),
    }
}

/// From a workflow to its manifest.
fn to_manifest() -> RelationDef {
    rows::Entity::belongs_to(manifests::Entity).from(rows::Column::ManifestId).to(manifests::Column::Id).into()
}

#[async_trait]
impl<C: Finish> WorkflowRepository for Unit<C> {
    async fn insert(&self, workflow: &WorkflowRecord) -> Result<()> {
        rows::Entity::insert(to_row(workflow)).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(())
    }

    async fn get(&self, tenant: &TenantId, id: WorkflowId) -> Result<Option<WorkflowRecord>> {
        let found = rows::Entity::find_by_id(id.0).filter(rows::Column::Tenant.eq(tenant.as_str())).one(&self.connection).await;
        found.map_err(failed)?.map(from_row).transpose()
    }

    async fn update(&self, workflow: &WorkflowRecord, expected: i64) -> Result<bool> {
        let done = rows::Entity::update_many()
            .set(to_row(workflow))
            .filter(rows::Column::Id.eq(workflow.id.0))
            .filter(rows::Column::Tenant.eq(workflow.tenant.as_str()))
            .filter(rows::Column::Revision.eq(expected))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn of_manifest(&self, tenant: &TenantId, manifest: ManifestId, open: bool) -> Result<Option<WorkflowRecord>> {
        let mut query =
            rows::Entity::find().filter(rows::Column::ManifestId.eq(manifest.0)).filter(rows::Column::Tenant.eq(tenant.as_str()));
        if open {
            query = query.filter(rows::Column::Open.eq(true));
        }
        let found = query.order_by_desc(rows::Column::Id).limit(1).one(&self.connection).await;
        found.map_err(failed)?.map(from_row).transpose()
    }

    async fn list(&self, tenant: &TenantId, filter: &WorkflowFilter, page: Page) -> Result<Vec<WorkflowRecord>> {
        let mut query = rows::Entity::find().filter(rows::Column::Tenant.eq(tenant.as_str()));
        if let Some(manifest) = filter.manifest {
            query = query.filter(rows::Column::ManifestId.eq(manifest.0));
        }
        let texts = [
            (rows::Column::State, &filter.state),
            (rows::Column::Definition, &filter.definition),
            (rows::Column::CreatedBy, &filter.created_by),
        ];
        for (column, text) in texts {
            if let Some(text) = text {
                query = query.filter(column.eq(text.as_str()));
            }
        }
        if let Some(open) = filter.open {
            query = query.filter(rows::Column::Open.eq(open));
        }
        if let Some(reach) = &filter.reach {
            query = query.join(JoinType::InnerJoin, to_manifest()).filter(within(reach));
        }
        if let Some(after) = page.after {
            query = query.filter(rows::Column::Id.lt(after));
        }
        let found = query.order_by_desc(rows::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await;
        found.map_err(failed)?.into_iter().map(from_row).collect()
    }

    async fn states(&self, tenant: &TenantId, ids: &[WorkflowId]) -> Result<BTreeMap<WorkflowId, String>> {
        let found: Vec<(uuid::Uuid, String)> = rows::Entity::find()
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .filter(rows::Column::Id.is_in(ids.iter().map(|id| id.0)))
            .select_only()
            .columns([rows::Column::Id, rows::Column::State])
            .into_tuple()
            .all(&self.connection)
            .await
            .map_err(failed)?;
        Ok(found.into_iter().map(|(id, state)| (WorkflowId(id), state)).collect())
    }

    async fn following(&self, tenant: &TenantId, definition: &str, page: Page) -> Result<Vec<WorkflowRecord>> {
        let mut query = rows::Entity::find()
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .filter(rows::Column::Definition.eq(definition))
            .filter(rows::Column::Open.eq(true));
        if let Some(after) = page.after {
            query = query.filter(Expr::col((rows::Entity, rows::Column::Id)).gt(after));
        }
        let found = query.order_by_asc(rows::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await;
        found.map_err(failed)?.into_iter().map(from_row).collect()
    }

    async fn stuck(&self, before: OffsetDateTime, limit: u32) -> Result<Vec<WorkflowRecord>> {
        let found = rows::Entity::find()
            .filter(rows::Column::PendingSince.lt(micros(before)))
            .order_by_asc(rows::Column::PendingSince)
            .limit(u64::from(limit))
            .all(&self.connection)
            .await;
        found.map_err(failed)?.into_iter().map(from_row).collect()
    }

    async fn add_events(&self, new: &[WorkflowEventRecord]) -> Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        let row = |event: &WorkflowEventRecord| events::ActiveModel {
            workflow_id: Set(event.workflow.0),
            sequence: Set(event.sequence),
            tenant: Set(event.tenant.to_string()),
            at: Set(micros(event.at)),
            data: Set(event.data.clone()),
        };
        let done = events::Entity::insert_many(new.iter().map(row)).exec_without_returning(&self.connection).await;
        done.map(drop).map_err(failed)
    }

    async fn events(&self, tenant: &TenantId, id: WorkflowId, after: i64, limit: u32) -> Result<Vec<WorkflowEventRecord>> {
        let found = events::Entity::find()
            .filter(events::Column::WorkflowId.eq(id.0))
            .filter(events::Column::Tenant.eq(tenant.as_str()))
            .filter(events::Column::Sequence.gt(after))
            .order_by_asc(events::Column::Sequence)
            .limit(u64::from(limit))
            .all(&self.connection)
            .await;
        let event = |row: events::Model| {
            Ok(WorkflowEventRecord {
                workflow: WorkflowId(row.workflow_id),
                sequence: row.sequence,
                tenant: tenant_id(&row.tenant)?,
                at: instant(row.at)?,
                data: row.data,
            })
        };
        found.map_err(failed)?.into_iter().map(event).collect()
    }
}
