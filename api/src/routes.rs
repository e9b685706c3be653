//! One module for each product; every operation is listed here once.

pub mod admin;
pub mod auth;
pub mod health;
pub mod jobs;
pub mod manifests;
pub mod metrics;
pub mod storage;
pub mod trust;
pub mod verify;

use crate::problem::Problem;
use actix_web::{HttpResponse, http::header, web};
use omt_kernel::{Error, Kind};

/// Registers every route. Each path is one resource, so that a wrong method is 405 and not 404.
pub fn configure(config: &mut web::ServiceConfig) {
    let at = |path: &str, allow: &'static str| {
        web::resource(path.to_owned()).default_service(web::to(move || method_not_allowed(allow)))
    };
    config
        .service(at("/health", "GET").route(web::get().to(health::health)))
        .service(at("/ready", "GET").route(web::get().to(health::ready)))
        .service(at("/api/v1/auth/login", "POST").route(web::post().to(auth::login)))
        .service(at("/api/v1/auth/refresh", "POST").route(web::post().to(auth::refresh)))
        .service(at("/api/v1/auth/logout", "POST").route(web::post().to(auth::logout)))
        .service(
            at("/api/v1/admin/api-keys", "POST, GET")
                .route(web::post().to(admin::create_api_key))
                .route(web::get().to(admin::list_api_keys)),
        )
        .service(at("/api/v1/admin/api-keys/{id}", "DELETE").route(web::delete().to(admin::revoke_api_key)))
        .service(at("/api/v1/admin/jobs", "GET").route(web::get().to(jobs::list)))
        .service(at("/api/v1/admin/jobs/{id}/retry", "POST").route(web::post().to(jobs::retry)))
        .service(at("/api/v1/admin/jobs/{id}/cancel", "POST").route(web::post().to(jobs::cancel)))
        .service(at("/api/v1/admin/jobs/{id}", "GET").route(web::get().to(jobs::get)))
        .service(at("/api/v1/admin/storage", "GET").route(web::get().to(storage::usage)))
        .service(at("/metrics", "GET").route(web::get().to(metrics::metrics)))
        .service(at("/api/v1/trust/roots.pem", "GET").route(web::get().to(trust::roots)))
        .service(at("/api/v1/trust/pq-roots.pem", "GET").route(web::get().to(trust::pq_roots)))
        .service(at("/api/v1/trust/issuers/{serial}.cer", "GET").route(web::get().to(trust::issuer)))
        .service(
            at("/api/v1/manifests", "POST, GET").route(web::post().to(manifests::create)).route(web::get().to(manifests::list)),
        )
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
        .service(at("/api/v1/verify", "POST").route(web::post().to(verify::verify)))
        .service(at("/api/v1/verify/{id}/history", "GET").route(web::get().to(verify::history)))
        .service(at("/api/v1/verify/{id}/chain-of-custody", "GET").route(web::get().to(verify::chain_of_custody)))
        .service(at("/api/openapi.json", "GET").route(web::get().to(openapi_json)))
        .service(at("/api/docs", "GET").route(web::get().to(docs)))
        .service(
            utoipa_swagger_ui::SwaggerUi::new("/api/docs/{_:.*}").config(utoipa_swagger_ui::Config::from("/api/openapi.json")),
        );
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
