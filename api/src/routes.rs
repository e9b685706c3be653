//! One module for each product; every operation is listed here once.

pub mod admin;
pub mod audit;
pub mod auth;
pub mod badges;
pub mod compliance;
pub mod definitions;
pub mod health;
pub mod jobs;
pub mod manifests;
pub mod metrics;
pub mod platform;
pub mod policies;
pub mod privacy;
pub mod roles;
pub mod scim;
pub mod storage;
pub mod tasks;
pub mod trust;
pub mod users;
pub mod verify;
pub mod webhooks;
pub mod workflows;

use crate::problem::Problem;
use actix_web::{HttpResponse, http::header, web};
use omt_kernel::{Error, Kind};

/// Registers every route. Each path is one resource, so that a wrong method is 405 and not 404.
pub fn configure(config: &mut web::ServiceConfig) {
    let at = |path: &str, allow: &'static str| {
        web::resource(path.to_owned()).default_service(web::to(move || method_not_allowed(allow)))
    };
    // Requests are matched in this order, by a regular expression for each path with a parameter: the busiest come first.
    config
        .service(at("/api/v1/verify", "POST").route(web::post().to(verify::verify)))
        .service(at("/api/v1/verify/{id}/history", "GET").route(web::get().to(verify::history)))
        .service(at("/api/v1/verify/{id}/chain-of-custody", "GET").route(web::get().to(verify::chain_of_custody)))
        .service(
            at("/api/v1/manifests", "POST, GET").route(web::post().to(manifests::create)).route(web::get().to(manifests::list)),
        )
        .service(at("/api/v1/manifests/{id}/redact", "POST").route(web::post().to(manifests::redact)))
        .service(at("/api/v1/manifests/{id}/sign", "POST").route(web::post().to(manifests::sign)))
        .service(
            at("/api/v1/manifests/{id}/content", "GET, HEAD")
                .route(web::get().to(manifests::content))
                .route(web::head().to(manifests::content)),
        )
        .service(
            at("/api/v1/manifests/{id}/manifest.c2pa", "GET, HEAD")
                .route(web::get().to(manifests::manifest_store))
                .route(web::head().to(manifests::manifest_store)),
        )
        .service(at("/api/v1/manifests/{id}/report", "GET").route(web::get().to(manifests::report)))
        .service(at("/api/v1/manifests/{id}/crjson", "GET").route(web::get().to(manifests::crjson)))
        .service(at("/api/v1/uploads", "POST").route(web::post().to(storage::begin_upload)))
        .service(at("/api/v1/manifests/{id}/content-url", "GET").route(web::get().to(storage::content_url)))
        .service(
            at("/api/v1/manifests/{id}/legal-hold", "PUT, DELETE")
                .route(web::put().to(storage::hold))
                .route(web::delete().to(storage::release)),
        )
        .service(
            at("/api/v1/manifests/{id}", "GET, PATCH, DELETE")
                .route(web::get().to(manifests::get))
                .route(web::patch().to(manifests::update))
                .route(web::delete().to(manifests::archive)),
        )
        .service(at("/health", "GET").route(web::get().to(health::health)))
        .service(at("/ready", "GET").route(web::get().to(health::ready)))
        .service(at("/api/v1/auth/login", "POST").route(web::post().to(auth::login)))
        .service(at("/api/v1/auth/refresh", "POST").route(web::post().to(auth::refresh)))
        .service(at("/api/v1/auth/logout", "POST").route(web::post().to(auth::logout)))
        .service(at("/api/v1/auth/me", "GET").route(web::get().to(auth::me)))
        .service(at("/api/v1/auth/password", "PUT").route(web::put().to(auth::change_password)))
        .service(
            at("/api/v1/auth/second-factor", "POST, PUT, DELETE")
                .route(web::post().to(auth::enrol))
                .route(web::put().to(auth::confirm))
                .route(web::delete().to(auth::unenrol)),
        )
        .service(at("/api/v1/auth/step-up", "POST").route(web::post().to(auth::step_up)))
        .service(at("/api/v1/auth/sessions", "GET").route(web::get().to(auth::sessions)))
        .service(at("/api/v1/auth/sessions/{id}", "DELETE").route(web::delete().to(auth::end_session)))
        .service(at("/api/v1/auth/oidc", "GET").route(web::get().to(auth::issuers)))
        .service(at("/api/v1/auth/oidc/callback", "GET").route(web::get().to(auth::callback)))
        .service(at("/api/v1/auth/oidc/{name}/start", "POST").route(web::post().to(auth::start)))
        .service(at("/api/v1/admin/users", "POST, GET").route(web::post().to(users::create)).route(web::get().to(users::list)))
        .service(
            at("/api/v1/admin/users/{id}", "GET, PUT, DELETE")
                .route(web::get().to(users::get))
                .route(web::put().to(users::update))
                .route(web::delete().to(users::delete)),
        )
        .service(at("/api/v1/admin/sessions", "GET").route(web::get().to(users::sessions)))
        .service(at("/api/v1/admin/sessions/{id}", "DELETE").route(web::delete().to(users::revoke_session)))
        .service(at("/api/v1/admin/explain", "GET").route(web::get().to(users::explain)))
        .service(at("/api/v1/admin/roles", "POST, GET").route(web::post().to(roles::create)).route(web::get().to(roles::list)))
        .service(
            at("/api/v1/admin/roles/{name}", "GET, PUT, DELETE")
                .route(web::get().to(roles::get))
                .route(web::put().to(roles::update))
                .route(web::delete().to(roles::delete)),
        )
        .service(
            at("/api/v1/admin/group-mappings", "POST, GET")
                .route(web::post().to(roles::create_mapping))
                .route(web::get().to(roles::mappings)),
        )
        .service(at("/api/v1/admin/group-mappings/{id}", "DELETE").route(web::delete().to(roles::delete_mapping)))
        .service(
            at("/api/v1/admin/tenants", "POST, GET").route(web::post().to(platform::create)).route(web::get().to(platform::list)),
        )
        .service(
            at("/api/v1/admin/tenants/{id}", "GET, PUT")
                .route(web::get().to(platform::get))
                .route(web::put().to(platform::update)),
        )
        .service(at("/api/v1/admin/system/archive", "POST").route(web::post().to(platform::archive)))
        .service(at("/api/v1/admin/metrics", "GET").route(web::get().to(platform::overview)))
        .service(at("/api/v1/admin/audit-logs", "GET").route(web::get().to(audit::list)))
        .service(at("/api/v1/audit/export", "GET").route(web::get().to(audit::export)))
        .service(at("/api/v1/audit/checkpoint", "GET").route(web::get().to(audit::checkpoint)))
        .service(at("/api/v1/audit/keys", "GET").route(web::get().to(audit::keys)))
        .service(at("/api/v1/audit/proof/inclusion", "GET").route(web::get().to(audit::inclusion)))
        .service(at("/api/v1/audit/proof/consistency", "GET").route(web::get().to(audit::consistency)))
        .service(at("/api/v1/audit/tile/{path:.*}", "GET").route(web::get().to(audit::tile)))
        .service(
            at("/scim/v2/Users", "POST, GET").route(web::post().to(scim::create_user)).route(web::get().to(scim::list_users)),
        )
        .service(
            at("/scim/v2/Users/{id}", "GET, PUT, PATCH, DELETE")
                .route(web::get().to(scim::get_user))
                .route(web::put().to(scim::replace_user))
                .route(web::patch().to(scim::patch_user))
                .route(web::delete().to(scim::delete_user)),
        )
        .service(
            at("/scim/v2/Groups", "POST, GET").route(web::post().to(scim::create_group)).route(web::get().to(scim::list_groups)),
        )
        .service(
            at("/scim/v2/Groups/{id}", "GET, PUT, PATCH, DELETE")
                .route(web::get().to(scim::get_group))
                .route(web::put().to(scim::replace_group))
                .route(web::patch().to(scim::patch_group))
                .route(web::delete().to(scim::delete_group)),
        )
        .service(at("/scim/v2/ServiceProviderConfig", "GET").route(web::get().to(scim::provider)))
        .service(at("/api/v1/privacy/subjects/{id}/export", "GET").route(web::get().to(privacy::export)))
        .service(at("/api/v1/privacy/subjects/{id}", "DELETE").route(web::delete().to(privacy::erase)))
        .service(
            at("/api/v1/admin/api-keys", "POST, GET")
                .route(web::post().to(admin::create_api_key))
                .route(web::get().to(admin::list_api_keys)),
        )
        .service(at("/api/v1/admin/api-keys/{id}", "DELETE").route(web::delete().to(admin::revoke_api_key)))
        .service(at("/api/v1/admin/jobs", "GET").route(web::get().to(jobs::list)))
        .service(at("/api/v1/admin/jobs/{id}/retry", "POST").route(web::post().to(jobs::retry)))
        .service(at("/api/v1/admin/jobs/{id}/cancel", "POST").route(web::post().to(jobs::cancel)))
        .service(at("/api/v1/admin/jobs/schedules", "GET").route(web::get().to(jobs::schedules)))
        .service(at("/api/v1/admin/jobs/{id}", "GET").route(web::get().to(jobs::get)))
        .service(at("/api/v1/admin/storage", "GET").route(web::get().to(storage::usage)))
        .service(at("/metrics", "GET").route(web::get().to(metrics::metrics)))
        .service(at("/api/v1/trust/roots.pem", "GET").route(web::get().to(trust::roots)))
        .service(at("/api/v1/trust/pq-roots.pem", "GET").route(web::get().to(trust::pq_roots)))
        .service(at("/api/v1/trust/issuers/{serial}.cer", "GET").route(web::get().to(trust::issuer)))
        .configure(governance)
        .service(at("/api/openapi.json", "GET").route(web::get().to(openapi_json)))
        .service(at("/api/docs", "GET").route(web::get().to(docs)))
        .service(
            utoipa_swagger_ui::SwaggerUi::new("/api/docs/{_:.*}").config(utoipa_swagger_ui::Config::from("/api/openapi.json")),
        );
}

/// Workflows, tasks and compliance.
fn governance(config: &mut web::ServiceConfig) {
    let at = |path: &str, allow: &'static str| {
        web::resource(path.to_owned()).default_service(web::to(move || method_not_allowed(allow)))
    };
    config
        .service(
            at("/api/v1/workflows", "POST, GET").route(web::post().to(workflows::create)).route(web::get().to(workflows::list)),
        )
        .service(at("/api/v1/workflows/{id}/transition", "POST").route(web::post().to(workflows::transition)))
        .service(at("/api/v1/workflows/{id}/cancel", "POST").route(web::post().to(workflows::cancel)))
        .service(at("/api/v1/workflows/{id}/comments", "POST").route(web::post().to(workflows::comment)))
        .service(at("/api/v1/workflows/{id}/compliance", "PUT").route(web::put().to(workflows::compliance)))
        .service(at("/api/v1/workflows/{id}/history", "GET").route(web::get().to(workflows::history)))
        .service(at("/api/v1/workflows/{id}", "GET").route(web::get().to(workflows::get)))
        .service(at("/api/v1/workflow-definitions", "GET").route(web::get().to(definitions::definitions)))
        .service(at("/api/v1/workflow-definitions/{name}/diagram.svg", "GET").route(web::get().to(definitions::diagram)))
        .service(at("/api/v1/workflow-definitions/{name}/migrate", "POST").route(web::post().to(definitions::migrate)))
        .service(
            at("/api/v1/workflow-definitions/{name}", "GET, PUT")
                .route(web::get().to(definitions::definition))
                .route(web::put().to(definitions::put_definition)),
        )
        .service(at("/api/v1/tasks", "GET").route(web::get().to(tasks::list)))
        .service(at("/api/v1/tasks/counts", "GET").route(web::get().to(tasks::counts)))
        .service(at("/api/v1/tasks/decide", "POST").route(web::post().to(tasks::decide_many)))
        .service(at("/api/v1/tasks/{id}/claim", "POST").route(web::post().to(tasks::claim)))
        .service(at("/api/v1/tasks/{id}/unclaim", "POST").route(web::post().to(tasks::unclaim)))
        .service(at("/api/v1/tasks/{id}/delegate", "POST").route(web::post().to(tasks::delegate)))
        .service(at("/api/v1/tasks/{id}/decide", "POST").route(web::post().to(tasks::decide)))
        .service(at("/api/v1/notifications", "GET").route(web::get().to(tasks::notifications)))
        .service(
            at("/api/v1/notifications/settings", "GET, PUT")
                .route(web::get().to(tasks::notification_settings))
                .route(web::put().to(tasks::set_notification_settings)),
        )
        .service(at("/api/v1/badges", "POST, GET").route(web::post().to(badges::issue)).route(web::get().to(badges::list)))
        .service(at("/api/v1/badges/{id}", "GET").route(web::get().to(badges::get)))
        .service(at("/api/v1/badges/{id}/badge.svg", "GET").route(web::get().to(badges::svg)))
        .service(at("/api/v1/badges/{id}/revoke", "POST").route(web::post().to(badges::revoke)))
        .service(at("/api/v1/webhooks", "POST, GET").route(web::post().to(webhooks::create)).route(web::get().to(webhooks::list)))
        .service(at("/api/v1/webhooks/event-types", "GET").route(web::get().to(webhooks::event_types)))
        .service(
            at("/api/v1/webhooks/{id}", "GET, PATCH, DELETE")
                .route(web::get().to(webhooks::get))
                .route(web::patch().to(webhooks::update))
                .route(web::delete().to(webhooks::delete)),
        )
        .service(at("/api/v1/webhooks/{id}/rotate-secret", "POST").route(web::post().to(webhooks::rotate)))
        .service(at("/api/v1/webhooks/{id}/test", "POST").route(web::post().to(webhooks::test)))
        .service(at("/api/v1/webhooks/{id}/recover", "POST").route(web::post().to(webhooks::recover)))
        .service(at("/api/v1/webhooks/{id}/deliveries", "GET").route(web::get().to(webhooks::deliveries)))
        .service(at("/api/v1/webhooks/{id}/deliveries/{delivery}", "GET").route(web::get().to(webhooks::delivery)))
        .service(at("/api/v1/webhooks/{id}/deliveries/{delivery}/replay", "POST").route(web::post().to(webhooks::replay)))
        .service(at("/api/v1/notifications/{id}/read", "POST").route(web::post().to(tasks::mark_read)))
        .service(at("/api/v1/policies", "POST, GET").route(web::post().to(policies::create)).route(web::get().to(policies::list)))
        .service(at("/api/v1/policies/{name}/versions", "GET").route(web::get().to(policies::versions)))
        .service(at("/api/v1/policies/{name}/rollback", "POST").route(web::post().to(policies::roll_back)))
        .service(at("/api/v1/policies/{name}/dry-run", "POST").route(web::post().to(policies::dry_run)))
        .service(
            at("/api/v1/policies/{name}", "GET, PUT, DELETE")
                .route(web::get().to(policies::get))
                .route(web::put().to(policies::update))
                .route(web::delete().to(policies::delete)),
        )
        .service(at("/api/v1/verify/policy", "POST").route(web::post().to(policies::verify)))
        .service(at("/api/v1/compliance/check", "POST").route(web::post().to(compliance::check)))
        .service(at("/api/v1/compliance/reports/{id}", "GET").route(web::get().to(compliance::reports)))
        .service(at("/api/v1/compliance/policies", "GET").route(web::get().to(compliance::policies)))
        .service(
            at("/api/v1/compliance/policies/{name}", "GET, PUT")
                .route(web::get().to(compliance::get_policy))
                .route(web::put().to(compliance::put_policy)),
        )
        .service(at("/api/v1/compliance/consents", "POST").route(web::post().to(compliance::add_consent)))
        .service(at("/api/v1/compliance/clearances", "POST").route(web::post().to(compliance::add_clearance)))
        .service(at("/api/v1/compliance/rights", "POST").route(web::post().to(compliance::add_rights)))
        .service(at("/api/v1/compliance/declarations", "POST").route(web::post().to(compliance::declare)))
        .service(at("/api/v1/compliance/records", "GET").route(web::get().to(compliance::records)))
        .service(
            at("/api/v1/compliance/records/{id}", "GET, DELETE")
                .route(web::get().to(compliance::get_record))
                .route(web::delete().to(compliance::withdraw)),
        )
        .service(at("/api/v1/compliance/override", "POST").route(web::post().to(compliance::ask_override)))
        .service(at("/api/v1/compliance/override/{id}/approve", "POST").route(web::post().to(compliance::approve_override)));
}

/// 405 with the methods that the path takes (RFC 9110 §15.5.6).
async fn method_not_allowed(allow: &'static str) -> HttpResponse {
    let words = format!("this path takes {allow}");
    let mut response = HttpResponse::from_error(Problem(Error::new(Kind::MethodNotAllowed, "METHOD_NOT_ALLOWED", words)));
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
    response
}

async fn docs() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header(("location", "/api/docs/")).finish()
}

async fn openapi_json() -> HttpResponse {
    HttpResponse::Ok().json(crate::openapi::document())
}
