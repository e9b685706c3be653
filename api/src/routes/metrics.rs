//! Metrics for Prometheus.

use crate::{
    ApiState,
    extract::{Caller, may},
    once::Stop,
    problem::ProblemBody,
};
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use omt_kernel::{
    Error, Kind, OffsetDateTime, Result, TenantId,
    port::{Database, Gauges},
};
use std::{collections::BTreeMap, time::Duration};

/// How long the database has to say its part. What this process counted itself is shown without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Metrics in the text format of Prometheus. Takes `metrics:read`, unless the configuration opens it.
#[utoipa::path(get, path = "/metrics", tag = "health", security(("bearer" = [])), responses((status = 200, content_type = "text/plain; version=0.0.4", body = String), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn metrics(state: web::Data<ApiState>, request: HttpRequest) -> std::result::Result<HttpResponse, Stop> {
    if !state.open_metrics {
        let caller = Caller::<may::MetricsRead>::extract(&request).await?;
        // They are the platform's, not one tenant's.
        if caller.0.tenant.as_str() != TenantId::DEFAULT {
            return Err(Error::new(Kind::Forbidden, "FORBIDDEN", "the platform's metrics are for its own tenant").into());
        }
    }
    let replication = state.replication.as_ref().map(|_| state.clock.now());
    let text = state.telemetry.render(&gauges(state.database.as_ref(), replication).await)?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

/// What is read now; how far copies are behind, as of a time, where there are any. While the database is away, just that.
async fn gauges(database: &dyn Database, replication: Option<OffsetDateTime>) -> Gauges {
    let error = match tokio::time::timeout(PATIENCE, read(database, replication)).await {
        Ok(Ok(gauges)) => return gauges,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    tracing::warn!(error, "metrics are shown without what the database says");
    Gauges { connections: database.connections(), ..Gauges::default() }
}

async fn read(database: &dyn Database, replication: Option<OffsetDateTime>) -> Result<Gauges> {
    let unit = database.read().await?;
    let mut storage = BTreeMap::<_, u64>::new();
    for usage in unit.blobs().usage(None).await? {
        *storage.entry(usage.tier.to_string()).or_default() += usage.bytes;
    }
    let replication = match replication {
        None => None,
        Some(now) => {
            let behind = unit.blobs().replication().await?;
            Some((behind, behind.lag(now).as_seconds_f64()))
        }
    };
    Ok(Gauges {
        database_up: true,
        jobs: unit.jobs().counts().await?,
        connections: database.connections(),
        storage: storage.into_iter().collect(),
        replication,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_kernel::port::UnitOfWork;

    struct Away;

    #[async_trait::async_trait]
    impl Database for Away {
        async fn begin(&self) -> Result<Box<dyn UnitOfWork>> {
            self.read().await
        }
        async fn read(&self) -> Result<Box<dyn UnitOfWork>> {
            Err(Error::new(Kind::Unavailable, "DATABASE_UNAVAILABLE", "the database cannot answer now"))
        }
        async fn check(&self) -> Result<()> {
            self.read().await.map(drop)
        }
        fn connections(&self) -> Vec<(&'static str, u64)> {
            vec![("in_use", 1)]
        }
    }

    #[tokio::test]
    async fn what_is_counted_here_is_shown_without_the_database() {
        let gauges = gauges(&Away, Some(OffsetDateTime::UNIX_EPOCH)).await;
        assert!(!gauges.database_up && gauges.jobs.is_empty() && gauges.replication.is_none());
        assert_eq!(gauges.connections, [("in_use", 1)]);
    }
}
