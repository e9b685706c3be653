//! Stored blobs, their tiers and their uses.

use crate::{
    Finish, Unit,
    entity::{blob_uses, blobs as rows, doomed_blobs, manifests, replication},
    failed, instant, micros, word,
};
use async_trait::async_trait;
use omt_kernel::{
    ManifestId, Result, TenantId,
    manifest::BlobRef,
    port::BlobRepository,
    storage::{BlobRole, BlobUse, Place, ReplicationState, StoredBlob, Tier, Unreplicated, Usage},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, OnConflict, Query},
};
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;
use uuid::Uuid;

fn tenant(text: &str) -> Result<TenantId> {
    TenantId::parse(text).map_err(omt_kernel::Error::internal)
}

fn from_row(row: rows::Model) -> Result<StoredBlob> {
    Ok(StoredBlob {
        tenant: tenant(&row.tenant)?,
        blob: BlobRef { sha256: row.sha256, size: row.size.unsigned_abs() },
        tier: word(&row.tier)?,
        last_used_at: instant(row.last_used_at)?,
    })
}

/// What comes after a blob, by a time, its digest and its tenant.
fn beyond(time: rows::Column, at: i64, tenant: &TenantId, blob: &BlobRef) -> Condition {
    let same = Condition::all().add(time.eq(at));
    let digest = same.clone().add(rows::Column::Sha256.eq(blob.sha256.as_str()));
    Condition::any()
        .add(time.gt(at))
        .add(same.add(rows::Column::Sha256.gt(blob.sha256.as_str())))
        .add(digest.add(rows::Column::Tenant.gt(tenant.as_str())))
}

fn named(tenant: &TenantId, sha256: &str) -> Condition {
    Condition::all().add(rows::Column::Tenant.eq(tenant.as_str())).add(rows::Column::Sha256.eq(sha256))
}

#[derive(FromQueryResult)]
struct Sum {
    tenant: String,
    tier: String,
    blobs: i64,
    bytes: i64,
}

/// The row that says where copies go.
const TARGET: i32 = 1;

#[derive(FromQueryResult)]
struct Behind {
    blobs: i64,
    bytes: Option<i64>,
    oldest: Option<i64>,
}

#[async_trait]
impl<C: Finish> BlobRepository for Unit<C> {
    async fn add_uses(
        &self,
        tenant: &TenantId,
        manifest: ManifestId,
        blobs: &[(&BlobRef, BlobRole)],
        now: OffsetDateTime,
    ) -> Result<()> {
        if blobs.is_empty() {
            return Ok(());
        }
        // One row for each blob, in one order: two transactions over the same blobs never wait for each other, and PostgreSQL
        // takes no row twice in one statement.
        let distinct: BTreeMap<&str, &BlobRef> = blobs.iter().map(|(blob, _)| (blob.sha256.as_str(), *blob)).collect();
        let known = distinct.values().map(|blob| rows::ActiveModel {
            tenant: Set(tenant.to_string()),
            sha256: Set(blob.sha256.clone()),
            size: Set(blob.size.cast_signed()),
            tier: Set(Tier::Hot.to_string()),
            created_at: Set(micros(now)),
            last_used_at: Set(micros(now)),
            replicated_at: Set(None),
        });
        // A blob that is known stays where it is.
        let used =
            OnConflict::columns([rows::Column::Tenant, rows::Column::Sha256]).update_column(rows::Column::LastUsedAt).to_owned();
        self.connection.later(rows::Entity::insert_many(known).on_conflict(used)).await.map_err(failed)?;
        let uses = blobs.iter().map(|(blob, role)| blob_uses::ActiveModel {
            tenant: Set(tenant.to_string()),
            sha256: Set(blob.sha256.clone()),
            manifest_id: Set(manifest.0),
            role: Set(role.as_str().to_owned()),
        });
        let ignore = OnConflict::new().do_nothing().to_owned();
        self.connection.later(blob_uses::Entity::insert_many(uses).on_conflict(ignore)).await.map_err(failed)?;
        // From here on whoever would forget one of them waits for this transaction.
        self.connection.keep_out().await.map_err(failed)
    }

    async fn touch(&self, tenant: &TenantId, sha256: &str, now: OffsetDateTime) -> Result<()> {
        rows::Entity::update_many()
            .col_expr(rows::Column::LastUsedAt, Expr::value(micros(now)))
            .filter(named(tenant, sha256))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn find(&self, tenant: &TenantId, sha256: &str) -> Result<Option<StoredBlob>> {
        rows::Entity::find().filter(named(tenant, sha256)).one(&self.connection).await.map_err(failed)?.map(from_row).transpose()
    }

    async fn in_tier(&self, tier: Tier, after: Option<&StoredBlob>, limit: u32) -> Result<Vec<StoredBlob>> {
        let mut query = rows::Entity::find().filter(rows::Column::Tier.eq(tier.as_str()));
        if let Some(after) = after {
            query = query.filter(beyond(rows::Column::LastUsedAt, micros(after.last_used_at), &after.tenant, &after.blob));
        }
        let found = query
            .order_by_asc(rows::Column::LastUsedAt)
            .order_by_asc(rows::Column::Sha256)
            .order_by_asc(rows::Column::Tenant)
            .limit(u64::from(limit))
            .all(&self.connection)
            .await
            .map_err(failed)?;
        found.into_iter().map(from_row).collect()
    }

    async fn uses(&self, tenant: &TenantId, sha256: &str) -> Result<Vec<BlobUse>> {
        let needs = |role: Option<BlobRole>| {
            Query::select()
                .column(blob_uses::Column::ManifestId)
                .from(blob_uses::Entity)
                .and_where(blob_uses::Column::Tenant.eq(tenant.as_str()))
                .and_where(blob_uses::Column::Sha256.eq(sha256))
                .and_where_option(role.map(|role| blob_uses::Column::Role.eq(role.as_str())))
                .to_owned()
        };
        let found = manifests::Entity::find()
            .filter(manifests::Column::Tenant.eq(tenant.as_str()))
            .filter(manifests::Column::Id.in_subquery(needs(None)))
            .all(&self.connection)
            .await
            .map_err(failed)?;
        let evidence: Vec<Uuid> = manifests::Entity::find()
            .select_only()
            .column(manifests::Column::Id)
            .filter(manifests::Column::Tenant.eq(tenant.as_str()))
            .filter(manifests::Column::Id.in_subquery(needs(Some(BlobRole::ManifestStore))))
            .into_tuple()
            .all(&self.connection)
            .await
            .map_err(failed)?;
        found
            .into_iter()
            .map(|row| {
                Ok(BlobUse {
                    manifest: ManifestId(row.id),
                    classification: word(&row.classification)?,
                    state: word(&row.state)?,
                    evidence: evidence.contains(&row.id),
                    held: row.legal_hold.is_some(),
                    retain_until: row.retain_until.map(instant).transpose()?,
                })
            })
            .collect()
    }

    async fn set_tier(&self, tenant: &TenantId, sha256: &str, from: Tier, to: Tier) -> Result<bool> {
        let done = rows::Entity::update_many()
            .col_expr(rows::Column::Tier, Expr::value(to.as_str()))
            .filter(named(tenant, sha256))
            .filter(rows::Column::Tier.eq(from.as_str()))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn doom(&self, tenant: &TenantId, sha256: &str, place: Place, until: OffsetDateTime) -> Result<Uuid> {
        let id = Uuid::new_v4();
        let row = doomed_blobs::ActiveModel {
            id: Set(id),
            tenant: Set(tenant.to_string()),
            sha256: Set(sha256.to_owned()),
            place: Set(place.as_str().to_owned()),
            until: Set(micros(until)),
        };
        // Those of processes that died.
        let over = doomed_blobs::Column::Until.lt(micros(until - time::Duration::days(1)));
        self.connection.later(doomed_blobs::Entity::delete_many().filter(over)).await.map_err(failed)?;
        self.connection.later(doomed_blobs::Entity::insert(row)).await.map_err(failed)?;
        Ok(id)
    }

    async fn spare(&self, doom: Uuid) -> Result<()> {
        doomed_blobs::Entity::delete_by_id(doom).exec(&self.connection).await.map(drop).map_err(failed)
    }

    async fn drop_uses(&self, tenant: &TenantId, manifest: ManifestId, roles: &[BlobRole]) -> Result<Vec<BlobRef>> {
        let of_manifest = || {
            Condition::all()
                .add(blob_uses::Column::Tenant.eq(tenant.as_str()))
                .add(blob_uses::Column::ManifestId.eq(manifest.0))
                .add(blob_uses::Column::Role.is_in(roles.iter().map(|role| role.as_str())))
        };
        let uses = blob_uses::Entity::find().filter(of_manifest()).all(&self.connection).await.map_err(failed)?;
        blob_uses::Entity::delete_many().filter(of_manifest()).exec(&self.connection).await.map_err(failed)?;
        // In the order of digests, as everyone locks them; the same blob may have several roles.
        let digests: BTreeSet<String> = uses.into_iter().map(|used| used.sha256).collect();
        let mut gone = Vec::new();
        for sha256 in digests {
            // Locked before other uses are looked for: whoever notes one has this row, or waits for it.
            let row = rows::Entity::find().filter(named(tenant, &sha256)).lock_exclusive().one(&self.connection).await;
            let Some(row) = row.map_err(failed)? else { continue };
            let others = blob_uses::Entity::find()
                .filter(blob_uses::Column::Tenant.eq(tenant.as_str()))
                .filter(blob_uses::Column::Sha256.eq(sha256.as_str()))
                .one(&self.connection)
                .await
                .map_err(failed)?;
            if others.is_none() {
                rows::Entity::delete_many().filter(named(tenant, &sha256)).exec(&self.connection).await.map_err(failed)?;
                gone.push(from_row(row)?.blob);
            }
        }
        Ok(gone)
    }

    async fn aim_replicas(&self, target: &str, now: OffsetDateTime) -> Result<OffsetDateTime> {
        let found = replication::Entity::find_by_id(TARGET).one(&self.connection).await.map_err(failed)?;
        if let Some(row) = found.filter(|row| row.target == target) {
            return instant(row.since);
        }
        let row = replication::ActiveModel { id: Set(TARGET), target: Set(target.to_owned()), since: Set(micros(now)) };
        let other = OnConflict::column(replication::Column::Id)
            .update_columns([replication::Column::Target, replication::Column::Since])
            .to_owned();
        replication::Entity::insert(row).on_conflict(other).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(now)
    }

    async fn forget_replicas(&self, before: OffsetDateTime, limit: u32) -> Result<u64> {
        let some = Query::select()
            .columns([rows::Column::Tenant, rows::Column::Sha256])
            .from(rows::Entity)
            .and_where(rows::Column::ReplicatedAt.lt(micros(before)))
            .limit(limit.into())
            .to_owned();
        let name = Expr::tuple([Expr::col(rows::Column::Tenant), Expr::col(rows::Column::Sha256)]);
        let done = rows::Entity::update_many()
            .col_expr(rows::Column::ReplicatedAt, Expr::value(Option::<i64>::None))
            .filter(name.in_subquery(some))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected)
    }

    async fn unreplicated(&self, after: Option<&Unreplicated>, limit: u32) -> Result<Vec<Unreplicated>> {
        let mut query = rows::Entity::find().filter(rows::Column::ReplicatedAt.is_null());
        if let Some(after) = after {
            let at = micros(after.created_at);
            let later = beyond(rows::Column::CreatedAt, at, &after.tenant, &after.blob);
            // What the index can begin at.
            query = query.filter(rows::Column::CreatedAt.gte(at)).filter(later);
        }
        let found = query
            .order_by_asc(rows::Column::CreatedAt)
            .order_by_asc(rows::Column::Sha256)
            .order_by_asc(rows::Column::Tenant)
            .limit(u64::from(limit))
            .all(&self.connection)
            .await
            .map_err(failed)?;
        let read = |row: rows::Model| {
            let created_at = instant(row.created_at)?;
            let StoredBlob { tenant, blob, .. } = from_row(row)?;
            Ok(Unreplicated { tenant, blob, created_at })
        };
        found.into_iter().map(read).collect()
    }

    async fn set_replicated(&self, tenant: &TenantId, sha256: &str, copied: Option<(&str, OffsetDateTime)>) -> Result<bool> {
        let mut update = rows::Entity::update_many()
            .col_expr(rows::Column::ReplicatedAt, Expr::value(copied.map(|(_, at)| micros(at))))
            .filter(named(tenant, sha256));
        if let Some((target, _)) = copied {
            // Not by a process that still copies to the target of before.
            let aimed = Query::select()
                .column(replication::Column::Id)
                .from(replication::Entity)
                .and_where(replication::Column::Target.eq(target))
                .to_owned();
            update = update.filter(Expr::exists(aimed));
        }
        let done = update.exec(&self.connection).await.map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn replication(&self) -> Result<ReplicationState> {
        let behind = rows::Entity::find()
            .select_only()
            .column_as(rows::Column::Sha256.count(), "blobs")
            .column_as(rows::Column::Size.sum().cast_as("bigint"), "bytes")
            .column_as(rows::Column::CreatedAt.min(), "oldest")
            .filter(rows::Column::ReplicatedAt.is_null())
            .into_model::<Behind>()
            .one(&self.connection)
            .await
            .map_err(failed)?;
        let last = rows::Entity::find()
            .filter(rows::Column::ReplicatedAt.is_not_null())
            .order_by_desc(rows::Column::ReplicatedAt)
            .limit(1)
            .one(&self.connection)
            .await
            .map_err(failed)?;
        let last = last.and_then(|row| row.replicated_at).map(instant).transpose()?;
        let Some(behind) = behind else { return Ok(ReplicationState { last, ..ReplicationState::default() }) };
        Ok(ReplicationState {
            blobs: behind.blobs.unsigned_abs(),
            bytes: behind.bytes.unwrap_or_default().unsigned_abs(),
            oldest: behind.oldest.map(instant).transpose()?,
            last,
        })
    }

    async fn usage(&self, tenant: Option<&TenantId>) -> Result<Vec<Usage>> {
        let mut query = rows::Entity::find()
            .select_only()
            .columns([rows::Column::Tenant, rows::Column::Tier])
            .column_as(rows::Column::Sha256.count(), "blobs")
            // PostgreSQL sums big integers as numeric.
            .column_as(rows::Column::Size.sum().cast_as("bigint"), "bytes")
            .group_by(rows::Column::Tenant)
            .group_by(rows::Column::Tier)
            .order_by_asc(rows::Column::Tenant)
            .order_by_asc(rows::Column::Tier);
        if let Some(tenant) = tenant {
            query = query.filter(rows::Column::Tenant.eq(tenant.as_str()));
        }
        let found = query.into_model::<Sum>().all(&self.connection).await.map_err(failed)?;
        found
            .into_iter()
            .map(|sum| {
                Ok(Usage {
                    tenant: self::tenant(&sum.tenant)?,
                    tier: word(&sum.tier)?,
                    blobs: sum.blobs.unsigned_abs(),
                    bytes: sum.bytes.unsigned_abs(),
                })
            })
            .collect()
    }
}
