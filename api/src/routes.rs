//! One module for each product; every operation is listed here once.

pub mod admin;
pub mod auth;
pub mod health;
pub mod manifests;
pub mod trust;
pub mod verify;

use actix_web::{HttpResponse, web};

/// Registers every route.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .service(health::health)
        .service(health::ready)
        .service(auth::login)
        .service(auth::refresh)
        .service(auth::logout)
        .service(admin::create_api_key)
        .service(admin::list_api_keys)
        .service(admin::revoke_api_key)
        .service(trust::roots)
        .service(trust::pq_roots)
        .service(trust::issuer)
        .service(manifests::create)
        .service(manifests::list)
        .service(manifests::sign)
        .service(manifests::content)
        .service(manifests::manifest_store)
        .service(manifests::report)
        .service(manifests::crjson)
        .service(manifests::get)
        .service(manifests::update)
        .service(manifests::archive)
        .service(verify::verify)
        .service(verify::history)
        .service(verify::chain_of_custody)
        .route("/api/openapi.json", web::get().to(openapi_json))
        .route("/api/docs", web::get().to(|| async { HttpResponse::PermanentRedirect().insert_header(("location", "/api/docs/")).finish() }))
        .service(utoipa_swagger_ui::SwaggerUi::new("/api/docs/{_:.*}").config(utoipa_swagger_ui::Config::from("/api/openapi.json")));
}

async fn openapi_json() -> HttpResponse {
    HttpResponse::Ok().json(crate::openapi::document())
}
