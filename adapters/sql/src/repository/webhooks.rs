//! Webhooks' endpoints and deliveries.

use super::manifests::reached;
use crate::{
    Finish, Unit,
    entity::{webhook_deliveries as deliveries, webhook_endpoints as endpoints},
    failed, instant, micros, tenant_id,
};
use async_trait::async_trait;
use omt_kernel::{
    DeliveryId, EndpointId, Error, ManifestId, Reach, Result, TenantId,
    port::{Page, WebhookRepository},
    webhook::{About, DeliveryFilter, DeliveryRecord, EndpointRecord},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Query};
use time::OffsetDateTime;
use uuid::Uuid;

fn endpoint(row: endpoints::Model) -> Result<EndpointRecord> {
    Ok(EndpointRecord {
        id: EndpointId(row.id),
        tenant: tenant_id(&row.tenant)?,
        revision: row.revision,
        enabled: row.enabled,
        data: row.data,
        created_by: row.created_by,
        created_at: instant(row.created_at)?,
        updated_at: instant(row.updated_at)?,
    })
}

fn endpoint_row(record: &EndpointRecord) -> endpoints::ActiveModel {
    endpoints::ActiveModel {
        id: Set(record.id.0),
        tenant: Set(record.tenant.to_string()),
        revision: Set(record.revision),
        enabled: Set(record.enabled),
        data: Set(record.data.clone()),
        created_by: Set(record.created_by.clone()),
        created_at: Set(micros(record.created_at)),
        updated_at: Set(micros(record.updated_at)),
    }
}

fn delivery(row: deliveries::Model) -> Result<DeliveryRecord> {
    let about = match (row.manifest_id, row.classification) {
        (Some(id), Some(classification)) => Some(About {
            manifest: ManifestId(id),
            department: row.department,
            project: row.project,
            classification: classification.parse().map_err(|()| Error::internal("a stored classification is unknown"))?,
        }),
        _ => None,
    };
    Ok(DeliveryRecord {
        id: DeliveryId(row.id),
        tenant: tenant_id(&row.tenant)?,
        endpoint: EndpointId(row.endpoint_id),
        message: row.message_id,
        event: row.event,
        state: row.state,
        about,
        data: row.data,
        created_at: instant(row.created_at)?,
        updated_at: instant(row.updated_at)?,
    })
}

fn delivery_row(record: &DeliveryRecord) -> deliveries::ActiveModel {
    let about = record.about.as_ref();
    deliveries::ActiveModel {
        id: Set(record.id.0),
        tenant: Set(record.tenant.to_string()),
        endpoint_id: Set(record.endpoint.0),
        message_id: Set(record.message),
        event: Set(record.event.clone()),
        state: Set(record.state.clone()),
        manifest_id: Set(about.map(|about| about.manifest.0)),
        department: Set(about.and_then(|about| about.department.clone())),
        project: Set(about.and_then(|about| about.project.clone())),
        classification: Set(about.map(|about| about.classification.as_str().to_owned())),
        data: Set(record.data.clone()),
        created_at: Set(micros(record.created_at)),
        updated_at: Set(micros(record.updated_at)),
    }
}

/// Deliveries of content within reach, and those of none.
fn within(reach: &Reach) -> Condition {
    use deliveries::Column;
    let content = reached(reach, Column::Department, Column::Project, Column::Classification);
    Condition::any().add(Column::Classification.is_null()).add(content)
}

#[async_trait]
impl<C: Finish> WebhookRepository for Unit<C> {
    async fn insert_endpoint(&self, record: &EndpointRecord) -> Result<()> {
        let done = endpoints::Entity::insert(endpoint_row(record)).exec_without_returning(&self.connection).await;
        done.map(drop).map_err(failed)
    }

    async fn endpoint(&self, tenant: &TenantId, id: EndpointId) -> Result<Option<EndpointRecord>> {
        let found = endpoints::Entity::find_by_id(id.0).filter(endpoints::Column::Tenant.eq(tenant.as_str()));
        found.one(&self.connection).await.map_err(failed)?.map(endpoint).transpose()
    }

    async fn endpoints(&self, tenant: &TenantId) -> Result<Vec<EndpointRecord>> {
        let found = endpoints::Entity::find()
            .filter(endpoints::Column::Tenant.eq(tenant.as_str()))
            .order_by_asc(endpoints::Column::Id)
            // Nothing that waits is about endpoints, and each change asks for them.
            .all(self.connection.ahead())
            .await;
        found.map_err(failed)?.into_iter().map(endpoint).collect()
    }

    async fn update_endpoint(&self, record: &EndpointRecord, expected: i64) -> Result<bool> {
        let done = endpoints::Entity::update_many()
            .set(endpoint_row(record))
            .filter(endpoints::Column::Id.eq(record.id.0))
            .filter(endpoints::Column::Tenant.eq(record.tenant.as_str()))
            .filter(endpoints::Column::Revision.eq(expected))
            .exec(&self.connection)
            .await;
        Ok(done.map_err(failed)?.rows_affected == 1)
    }

    async fn delete_endpoint(&self, tenant: &TenantId, id: EndpointId) -> Result<bool> {
        let gone = endpoints::Entity::delete_many()
            .filter(endpoints::Column::Id.eq(id.0))
            .filter(endpoints::Column::Tenant.eq(tenant.as_str()));
        Ok(gone.exec(&self.connection).await.map_err(failed)?.rows_affected == 1)
    }

    async fn insert_delivery(&self, record: &DeliveryRecord) -> Result<()> {
        let done = deliveries::Entity::insert(delivery_row(record)).exec_without_returning(&self.connection).await;
        done.map(drop).map_err(failed)
    }

    async fn delivery(&self, tenant: &TenantId, id: DeliveryId) -> Result<Option<DeliveryRecord>> {
        let found = deliveries::Entity::find_by_id(id.0).filter(deliveries::Column::Tenant.eq(tenant.as_str()));
        found.one(&self.connection).await.map_err(failed)?.map(delivery).transpose()
    }

    async fn update_delivery(&self, record: &DeliveryRecord) -> Result<bool> {
        let done = deliveries::Entity::update_many()
            .set(delivery_row(record))
            .filter(deliveries::Column::Id.eq(record.id.0))
            .filter(deliveries::Column::Tenant.eq(record.tenant.as_str()))
            .exec(&self.connection)
            .await;
        Ok(done.map_err(failed)?.rows_affected == 1)
    }

    async fn deliveries(&self, tenant: &TenantId, filter: &DeliveryFilter, page: Page) -> Result<Vec<DeliveryRecord>> {
        let mut query = deliveries::Entity::find().filter(deliveries::Column::Tenant.eq(tenant.as_str()));
        if let Some(endpoint) = filter.endpoint {
            query = query.filter(deliveries::Column::EndpointId.eq(endpoint.0));
        }
        if let Some(state) = &filter.state {
            query = query.filter(deliveries::Column::State.eq(state.as_str()));
        }
        if filter.undelivered {
            query = query.filter(deliveries::Column::State.ne("delivered"));
        }
        if let Some(reach) = &filter.reach {
            query = query.filter(within(reach));
        }
        if let Some(event) = &filter.event {
            query = query.filter(deliveries::Column::Event.eq(event.as_str()));
        }
        if let Some(since) = filter.since {
            query = query.filter(deliveries::Column::CreatedAt.gte(micros(since)));
        }
        if let Some(after) = page.after {
            query = query.filter(deliveries::Column::Id.lt(after));
        }
        let found = query.order_by_desc(deliveries::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await;
        found.map_err(failed)?.into_iter().map(delivery).collect()
    }

    async fn forget_deliveries(&self, before: OffsetDateTime) -> Result<u64> {
        let find = |condition: sea_orm::sea_query::SimpleExpr| {
            let find = deliveries::Entity::find().select_only().column(deliveries::Column::Id).filter(condition);
            find.limit(1_000).into_tuple::<Uuid>()
        };
        // By age there is an index; the rest is looked for when nothing is left of that.
        let mut old = find(deliveries::Column::CreatedAt.lt(micros(before))).all(&self.connection).await.map_err(failed)?;
        if old.is_empty() {
            let endpoints = Query::select().column(endpoints::Column::Id).from(endpoints::Entity).to_owned();
            let orphans = find(deliveries::Column::EndpointId.not_in_subquery(endpoints));
            old = orphans.all(&self.connection).await.map_err(failed)?;
        }
        if old.is_empty() {
            return Ok(0);
        }
        let gone = deliveries::Entity::delete_many().filter(deliveries::Column::Id.is_in(old));
        Ok(gone.exec(&self.connection).await.map_err(failed)?.rows_affected)
    }
}
