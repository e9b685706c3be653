//! Tenants, stored answers and certificates.

use crate::{
    Finish, Unit,
    entity::{certificates, idempotency, secrets, tenants},
    failed, from_json, inserted, instant, micros, tenant_id, to_json,
};
use async_trait::async_trait;
use omt_kernel::{
    Result, TenantId, TenantSettings,
    port::{CertificateRepository, IdempotencyRepository, TenantRepository},
    record::{CertificateRecord, IdempotencyRecord},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, LikeExpr, OnConflict},
};
use time::OffsetDateTime;

#[async_trait]
impl<C: Finish> TenantRepository for Unit<C> {
    async fn settings(&self, tenant: &TenantId) -> Result<Option<TenantSettings>> {
        let found = tenants::Entity::find_by_id(tenant.as_str()).one(&self.connection).await.map_err(failed)?;
        found.map(|row| from_json(row.settings)).transpose()
    }

    async fn list(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<(TenantId, OffsetDateTime)>> {
        let mut query = tenants::Entity::find();
        if let Some(after) = after {
            query = query.filter(tenants::Column::Id.gt(after.as_str()));
        }
        let found = query.order_by_asc(tenants::Column::Id).limit(u64::from(limit)).all(&self.connection).await;
        found.map_err(failed)?.into_iter().map(|row| Ok((tenant_id(&row.id)?, instant(row.created_at)?))).collect()
    }

    async fn put(&self, tenant: &TenantId, settings: &TenantSettings, at: OffsetDateTime) -> Result<()> {
        let row =
            tenants::ActiveModel { id: Set(tenant.to_string()), settings: Set(to_json(settings)?), created_at: Set(micros(at)) };
        let replace = OnConflict::column(tenants::Column::Id).update_column(tenants::Column::Settings).to_owned();
        tenants::Entity::insert(row).on_conflict(replace).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(())
    }
}

#[async_trait]
impl<C: Finish> IdempotencyRepository for Unit<C> {
    async fn get(&self, tenant: &TenantId, subject: &str, key: &str) -> Result<Option<IdempotencyRecord>> {
        let found = idempotency::Entity::find()
            .filter(idempotency::Column::Tenant.eq(tenant.as_str()))
            .filter(idempotency::Column::Subject.eq(subject))
            .filter(idempotency::Column::Key.eq(key))
            .one(&self.connection)
            .await
            .map_err(failed)?;
        found
            .map(|row| {
                Ok(IdempotencyRecord {
                    tenant: tenant.clone(),
                    subject: row.subject,
                    key: row.key,
                    fingerprint: row.fingerprint,
                    status: row.status as u16,
                    body: row.body,
                    created_at: instant(row.created_at)?,
                })
            })
            .transpose()
    }

    async fn put(&self, record: &IdempotencyRecord) -> Result<bool> {
        let row = idempotency::ActiveModel {
            tenant: Set(record.tenant.to_string()),
            subject: Set(record.subject.clone()),
            key: Set(record.key.clone()),
            fingerprint: Set(record.fingerprint.clone()),
            status: Set(record.status as i16),
            body: Set(record.body.clone()),
            created_at: Set(micros(record.created_at)),
        };
        let keep = OnConflict::columns([idempotency::Column::Tenant, idempotency::Column::Subject, idempotency::Column::Key])
            .do_nothing()
            .to_owned();
        let done = idempotency::Entity::insert(row).on_conflict(keep).exec_without_returning(&self.connection).await;
        inserted(done)
    }

    async fn remove(&self, tenant: &TenantId, subject: &str, key: &str) -> Result<()> {
        idempotency::Entity::delete_many()
            .filter(idempotency::Column::Tenant.eq(tenant.as_str()))
            .filter(idempotency::Column::Subject.eq(subject))
            .filter(idempotency::Column::Key.eq(key))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn forget_subject(&self, tenant: &TenantId, subject: &str) -> Result<()> {
        idempotency::Entity::delete_many()
            .filter(idempotency::Column::Tenant.eq(tenant.as_str()))
            .filter(idempotency::Column::Subject.eq(subject))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn forget_naming(&self, tenant: &TenantId, text: &str) -> Result<()> {
        let escaped: String = text.chars().flat_map(|c| if "%_\\".contains(c) { vec!['\\', c] } else { vec![c] }).collect();
        let pattern = LikeExpr::new(format!("%{escaped}%")).escape('\\');
        idempotency::Entity::delete_many()
            .filter(idempotency::Column::Tenant.eq(tenant.as_str()))
            .filter(Expr::col(idempotency::Column::Body).cast_as("text").like(pattern))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn forget(&self, before: OffsetDateTime) -> Result<u64> {
        let gone = idempotency::Entity::delete_many()
            .filter(idempotency::Column::CreatedAt.lt(micros(before)))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(gone.rows_affected)
    }
}

#[async_trait]
impl<C: Finish> CertificateRepository for Unit<C> {
    async fn insert(&self, record: &CertificateRecord) -> Result<()> {
        let row = certificates::ActiveModel {
            serial: Set(record.serial.clone()),
            role: Set(record.role.clone()),
            key_name: Set(record.key_name.clone()),
            der: Set(record.der.clone()),
            not_after: Set(micros(record.not_after)),
            created_at: Set(micros(record.created_at)),
        };
        certificates::Entity::insert(row).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(())
    }

    async fn current(&self) -> Result<Vec<CertificateRecord>> {
        let rows = certificates::Entity::find()
            .order_by_asc(certificates::Column::CreatedAt)
            .all(&self.connection)
            .await
            .map_err(failed)?;
        // The newest of each role comes last and wins.
        let mut newest = std::collections::BTreeMap::new();
        for row in rows {
            newest.insert(row.role.clone(), row);
        }
        newest
            .into_values()
            .map(|row| {
                Ok(CertificateRecord {
                    role: row.role,
                    serial: row.serial,
                    key_name: row.key_name,
                    der: row.der,
                    not_after: instant(row.not_after)?,
                    created_at: instant(row.created_at)?,
                })
            })
            .collect()
    }

    async fn shared_secret(&self, name: &str, new: [u8; 32], at: OffsetDateTime) -> Result<[u8; 32]> {
        let row = secrets::ActiveModel { name: Set(name.to_owned()), value: Set(new.to_vec()), created_at: Set(micros(at)) };
        let keep = OnConflict::column(secrets::Column::Name).do_nothing().to_owned();
        inserted(secrets::Entity::insert(row).on_conflict(keep).exec_without_returning(&self.connection).await)?;
        let found = secrets::Entity::find_by_id(name).one(&self.connection).await.map_err(failed)?;
        let value = found.and_then(|row| row.value.try_into().ok());
        value.ok_or_else(|| omt_kernel::Error::internal("a shared secret is missing or malformed"))
    }
}
