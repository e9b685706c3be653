//! The HTTP API: extractors, problems, wire types and one routes module for each product.

mod blob_response;
mod extract;
mod found;
mod multipart;
mod once;
mod openapi;
mod pace;
mod problem;
mod request_id;
mod routes;
mod scim_patch;
mod timing;
mod wire;

pub use openapi::document as openapi_document;
pub use pace::Pace;

use actix_web::{
    HttpResponse,
    dev::{ServiceFactory, ServiceRequest, ServiceResponse},
    middleware, web,
};
use omt_access::Access;
use omt_audit::AuditTrail;
use omt_badge::Badges;
use omt_claims::service::Manifests;
use omt_compliance::Compliance;
use omt_jobs::{Jobs, Timing};
use omt_kernel::{
    Error,
    port::{BlobStore, Clock, Database, Entropy, Telemetry},
};
use omt_notify::{Notices, Webhooks};
use omt_pki::Pki;
use omt_policy::Policies;
use omt_workflow::Workflows;
use problem::Problem;
use std::{collections::BTreeMap, sync::Arc};

/// A dependency that readiness asks.
pub struct Dependency {
    /// Its name in the answer.
    pub name: &'static str,
    /// Whether requests cannot be served without it.
    pub needed: bool,
    /// Asks it.
    pub check: Box<dyn Fn() -> futures_util::future::BoxFuture<'static, omt_kernel::Result<()>> + Send + Sync>,
}

/// What the handlers work with.
pub struct ApiState {
    /// Uploading, signing, verifying.
    pub manifests: Arc<Manifests>,
    /// Callers.
    pub access: Arc<Access>,
    /// The audit log.
    pub audit: Arc<AuditTrail>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Our certificates.
    pub pki: Arc<Pki>,
    /// Background jobs.
    pub jobs: Arc<Jobs>,
    /// When recurring jobs are due, by kind.
    pub timings: BTreeMap<&'static str, Timing>,
    /// Approval.
    pub workflows: Arc<Workflows>,
    /// Compliance.
    pub compliance: Arc<Compliance>,
    /// Organisational policy.
    pub policies: Arc<Policies>,
    /// Messages to people.
    pub notices: Arc<Notices>,
    /// Webhooks.
    pub webhooks: Arc<Webhooks>,
    /// Badges.
    pub badges: Arc<Badges>,
    /// The database, for what metrics read from it.
    pub database: Arc<dyn Database>,
    /// Where copies of blobs go, where they do.
    pub replication: Option<String>,
    /// What is counted.
    pub telemetry: Arc<dyn Telemetry>,
    /// Whether metrics are for everybody.
    pub open_metrics: bool,
    /// What readiness asks.
    pub dependencies: Vec<Dependency>,
    /// The URL that callers reach us by, without a final slash.
    pub public_url: String,
    /// How fast each caller may ask; as fast as they like when absent.
    pub pace: Option<Pace>,
    /// The largest upload in bytes.
    pub max_upload: u64,
    /// The build's version.
    pub version: &'static str,
}

impl ApiState {
    /// The database and the blob store as dependencies.
    pub fn storage_dependencies(database: Arc<dyn Database>, blobs: Arc<dyn BlobStore>) -> Vec<Dependency> {
        let check_database = move || {
            let database = database.clone();
            Box::pin(async move { database.check().await }) as futures_util::future::BoxFuture<'static, _>
        };
        let check_blobs = move || {
            let blobs = blobs.clone();
            Box::pin(async move { blobs.check().await }) as futures_util::future::BoxFuture<'static, _>
        };
        vec![
            Dependency { name: "database", needed: true, check: Box::new(check_database) },
            Dependency { name: "blob_store", needed: true, check: Box::new(check_blobs) },
        ]
    }
}

/// The application.
pub fn app(
    state: web::Data<ApiState>,
) -> actix_web::App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl actix_web::body::MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    actix_web::App::new()
        .app_data(state)
        .app_data(web::PathConfig::default().error_handler(|_, _| Problem(Error::not_found("resource")).into()))
        .app_data(
            web::QueryConfig::default().error_handler(|error, _| {
                Problem(Error::new(omt_kernel::Kind::Invalid, "INVALID_QUERY", error.to_string())).into()
            }),
        )
        .configure(routes::configure)
        .default_service(web::route().to(|| async { HttpResponse::from_error(Problem(Error::not_found("resource"))) }))
        .wrap(middleware::from_fn(once::middleware))
        .wrap(middleware::from_fn(timing::middleware))
        .wrap(middleware::from_fn(request_id::middleware))
}
