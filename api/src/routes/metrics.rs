//! Metrics for Prometheus.

use crate::{
    ApiState,
    extract::{Caller, may},
    once::Stop,
    problem::ProblemBody,
};
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use omt_kernel::{Error, Kind, TenantId, port::Gauges};

/// Metrics in the text format of Prometheus. Takes `metrics:read`, unless the configuration opens it.
#[utoipa::path(get, path = "/metrics", tag = "health", security(("bearer" = [])), responses((status = 200, content_type = "text/plain; version=0.0.4", body = String), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub async fn metrics(state: web::Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Stop> {
    if !state.open_metrics {
        let caller = Caller::<may::MetricsRead>::extract(&request).await?;
        // They are the platform's, not one tenant's.
        if caller.0.tenant.as_str() != TenantId::DEFAULT {
            return Err(Error::new(Kind::Forbidden, "FORBIDDEN", "the platform's metrics are for its own tenant").into());
        }
    }
    let unit = state.database.read().await?;
    let mut storage = std::collections::BTreeMap::<_, u64>::new();
    for usage in unit.blobs().usage(None).await? {
        *storage.entry(usage.tier.to_string()).or_default() += usage.bytes;
    }
    let replication = match state.replication {
        None => None,
        Some(_) => {
            let behind = unit.blobs().replication().await?;
            Some((behind, behind.lag(state.clock.now()).as_seconds_f64()))
        }
    };
    let gauges = Gauges {
        jobs: unit.jobs().counts().await?,
        connections: state.database.connections(),
        storage: storage.into_iter().collect(),
        replication,
    };
    let text = state.telemetry.render(&gauges)?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}
