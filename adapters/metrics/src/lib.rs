//! Metrics for Prometheus. No label carries a tenant, a user or anything else that a caller can choose.

use omt_kernel::{
    Error, Result,
    port::{Gauges, Telemetry},
};
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
    process_collector::ProcessCollector,
};
use std::time::Duration;

/// Upper bounds of latency in seconds: from a cached answer to a large film.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// The metrics of this process.
pub struct Prometheus {
    registry: Registry,
    requests: HistogramVec,
    refusals: IntCounterVec,
    attempts: HistogramVec,
    waits: HistogramVec,
    verifications: IntCounterVec,
    manifests: IntCounterVec,
    caches: IntCounterVec,
    shadows: IntCounterVec,
    jobs: IntGaugeVec,
    connections: IntGaugeVec,
    database_up: IntGaugeVec,
    storage: IntGaugeVec,
    replica_reads: IntCounterVec,
    lag: GaugeVec,
    behind_blobs: IntGaugeVec,
    behind_bytes: IntGaugeVec,
}

fn broken(error: prometheus::Error) -> Error {
    Error::internal("a metric cannot be registered").caused_by(error)
}

impl Prometheus {
    /// A registry with every metric, and those of the process itself.
    pub fn new() -> Result<Self> {
        let registry = Registry::new();
        let histogram = |name: &str, help: &str, labels: &[&str]| {
            let made = HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels).map_err(broken)?;
            registry.register(Box::new(made.clone())).map_err(broken)?;
            Ok::<_, Error>(made)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels).map_err(broken)?;
            registry.register(Box::new(made.clone())).map_err(broken)?;
            Ok::<_, Error>(made)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name, help), labels).map_err(broken)?;
            registry.register(Box::new(made.clone())).map_err(broken)?;
            Ok::<_, Error>(made)
        };
        let metrics = Self {
            requests: histogram(
                "omt_http_request_duration_seconds",
                "Time to answer a request.",
                &["route", "method", "status"],
            )?,
            refusals: counter("omt_refusals_total", "Requests that were refused, by the code of the problem.", &["code"])?,
            attempts: histogram("omt_job_duration_seconds", "Time that an attempt at a job took.", &["kind", "outcome"])?,
            waits: histogram("omt_job_wait_seconds", "Time from a job being due to its attempt.", &["kind"])?,
            verifications: counter("omt_verifications_total", "Verifications by validation state.", &["state"])?,
            manifests: counter("omt_manifests_total", "Manifests created, signed and archived.", &["event"])?,
            caches: counter("omt_cache_requests_total", "Questions to caches.", &["cache", "outcome"])?,
            shadows: counter("omt_policy_shadow_total", "What shadow policies said when guards asked.", &["outcome"])?,
            jobs: gauge("omt_jobs", "Jobs by kind and state.", &["kind", "state"])?,
            connections: gauge("omt_database_connections", "Connections to the database.", &["state"])?,
            database_up: gauge("omt_database_up", "Whether the database answered just now.", &[])?,
            storage: gauge("omt_storage_bytes", "Bytes that records name, by storage tier.", &["tier"])?,
            replica_reads: counter(
                "omt_replica_reads_total",
                "Reads from the replication target, because no tier gave it.",
                &[],
            )?,
            lag: {
                let help = "Age of the oldest blob that the replication target lacks; 0 when it lacks none.";
                let made = GaugeVec::new(Opts::new("omt_replication_lag_seconds", help), &[]).map_err(broken)?;
                registry.register(Box::new(made.clone())).map_err(broken)?;
                made
            },
            behind_blobs: gauge("omt_replication_pending_blobs", "Blobs that the replication target lacks.", &[])?,
            behind_bytes: gauge("omt_replication_pending_bytes", "Bytes that the replication target lacks.", &[])?,
            registry,
        };
        metrics.registry.register(Box::new(ProcessCollector::for_self())).map_err(broken)?;
        Ok(metrics)
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Telemetry for Prometheus {
    fn request(&self, route: &str, method: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[route, method, &status.to_string()]).observe(took.as_secs_f64());
    }

    fn refused(&self, code: &'static str) {
        self.refusals.with_label_values(&[code]).inc();
    }

    fn attempt(&self, kind: &str, outcome: &'static str, took: Duration, waited: Duration) {
        self.attempts.with_label_values(&[kind, outcome]).observe(took.as_secs_f64());
        self.waits.with_label_values(&[kind]).observe(waited.as_secs_f64());
    }

    fn verified(&self, state: &str) {
        self.verifications.with_label_values(&[state]).inc();
    }

    fn manifest(&self, event: &'static str) {
        self.manifests.with_label_values(&[event]).inc();
    }

    fn cache(&self, cache: &'static str, hit: bool) {
        self.caches.with_label_values(&[cache, if hit { "hit" } else { "miss" }]).inc();
    }

    fn shadow_policy(&self, passed: bool) {
        self.shadows.with_label_values(&[if passed { "passed" } else { "failed" }]).inc();
    }

    fn replica_read(&self) {
        self.replica_reads.with_label_values::<&str>(&[]).inc();
    }

    fn render(&self, gauges: &Gauges) -> Result<String> {
        // What is no longer there must not stay at its last value.
        self.jobs.reset();
        for (kind, state, number) in &gauges.jobs {
            self.jobs.with_label_values(&[kind.as_str(), state.as_str()]).set(whole(*number));
        }
        for (state, number) in &gauges.connections {
            self.connections.with_label_values(&[*state]).set(whole(*number));
        }
        self.database_up.with_label_values::<&str>(&[]).set(i64::from(gauges.database_up));
        self.storage.reset();
        for (tier, bytes) in &gauges.storage {
            self.storage.with_label_values(&[tier.as_str()]).set(whole(*bytes));
        }
        self.lag.reset();
        self.behind_blobs.reset();
        self.behind_bytes.reset();
        if let Some((behind, lag)) = &gauges.replication {
            self.lag.with_label_values::<&str>(&[]).set(*lag);
            self.behind_blobs.with_label_values::<&str>(&[]).set(whole(behind.blobs));
            self.behind_bytes.with_label_values::<&str>(&[]).set(whole(behind.bytes));
        }
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out).map_err(broken)?;
        String::from_utf8(out).map_err(|e| Error::internal("metrics are not UTF-8").caused_by(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_kernel::storage::ReplicationState;

    #[test]
    fn everything_counted_is_shown() {
        let metrics = Prometheus::new().unwrap();
        metrics.request("/health", "GET", 200, Duration::from_millis(3));
        metrics.attempt("housekeeping", "done", Duration::from_secs(1), Duration::from_secs(2));
        metrics.verified("trusted");
        metrics.manifest("signed");
        metrics.cache("verification", true);
        metrics.shadow_policy(false);
        metrics.refused("FORBIDDEN");
        metrics.replica_read();
        let behind = ReplicationState { blobs: 3, bytes: 4, ..ReplicationState::default() };
        let mut gauges =
            Gauges { replication: Some((behind, 2.5)), jobs: vec![("k".into(), "dead".into(), 2)], ..Default::default() };
        let text = metrics.render(&gauges).unwrap();
        for line in [
            "omt_http_request_duration_seconds_count{method=\"GET\",route=\"/health\",status=\"200\"} 1",
            "omt_job_duration_seconds_sum{kind=\"housekeeping\",outcome=\"done\"} 1",
            "omt_job_wait_seconds_sum{kind=\"housekeeping\"} 2",
            "omt_verifications_total{state=\"trusted\"} 1",
            "omt_manifests_total{event=\"signed\"} 1",
            "omt_cache_requests_total{cache=\"verification\",outcome=\"hit\"} 1",
            "omt_policy_shadow_total{outcome=\"failed\"} 1",
            "omt_refusals_total{code=\"FORBIDDEN\"} 1",
            "omt_jobs{kind=\"k\",state=\"dead\"} 2",
            "omt_database_up 0",
            "omt_replica_reads_total 1",
            "omt_replication_lag_seconds 2.5",
            "omt_replication_pending_blobs 3",
            "omt_replication_pending_bytes 4",
            "process_resident_memory_bytes",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        gauges.jobs.clear();
        gauges.replication = None;
        gauges.database_up = true;
        let text = metrics.render(&gauges).unwrap();
        assert!(text.contains("omt_database_up 1"), "{text}");
        assert!(!text.contains("omt_jobs{") && !text.contains("omt_replication_lag_seconds "), "{text}");
    }
}
