//! Trust anchors and issuers' certificates, public by nature.

use crate::{
    ApiState,
    problem::{Problem, ProblemBody},
};
use actix_web::{HttpResponse, web};
use omt_kernel::Error;
use omt_pki::Hierarchy;

const PEM: &str = "application/x-pem-file";

/// The trust anchor of our claim signers, as PEM.
#[utoipa::path(get, path = "/api/v1/trust/roots.pem", tag = "trust", responses((status = 200, content_type = "application/x-pem-file", body = String)))]
pub async fn roots(state: web::Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok().content_type(PEM).body(state.pki.roots_pem(Hierarchy::Classical))
}

/// The trust anchor of our post-quantum signers, as PEM.
#[utoipa::path(get, path = "/api/v1/trust/pq-roots.pem", tag = "trust", responses((status = 200, content_type = "application/x-pem-file", body = String)))]
pub async fn pq_roots(state: web::Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok().content_type(PEM).body(state.pki.roots_pem(Hierarchy::PostQuantum))
}

/// One of our issuers' certificates (DER), where certificates' `caIssuers` point.
#[utoipa::path(get, path = "/api/v1/trust/issuers/{serial}.cer", tag = "trust", params(("serial" = String, Path, description = "Serial number, hexadecimal")),
    responses((status = 200, content_type = "application/pkix-cert", body = Vec<u8>), (status = 404, body = ProblemBody)))]
pub async fn issuer(state: web::Data<ApiState>, serial: web::Path<String>) -> Result<HttpResponse, Problem> {
    let der = state.pki.issuer_by_serial(&serial).ok_or_else(|| Error::not_found("issuer"))?;
    Ok(HttpResponse::Ok().content_type("application/pkix-cert").body(der))
}
