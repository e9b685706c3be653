//! Liveness and readiness.

use crate::ApiState;
use actix_web::{HttpResponse, web};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// The process lives.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    status: &'static str,
    /// The build's version.
    version: &'static str,
}

/// One dependency.
#[derive(Serialize, ToSchema)]
pub struct DependencyState {
    /// Its name.
    name: &'static str,
    /// `ok` or `failed`.
    status: &'static str,
    /// A stable code when it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Whether requests can be served.
#[derive(Serialize, ToSchema)]
pub struct Readiness {
    /// `ready`, `degraded` when only what no request waits for fails, or `not_ready`.
    status: &'static str,
    /// Each dependency.
    dependencies: Vec<DependencyState>,
}

/// Liveness: the process answers.
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, body = Health)))]
pub async fn health(state: web::Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok", version: state.version })
}

/// Readiness: every dependency was asked just now. Jobs that stand still are told and keep no request away.
#[utoipa::path(get, path = "/ready", tag = "health", responses((status = 200, body = Readiness), (status = 503, body = Readiness, description = "A dependency that requests need fails; it is named")))]
pub async fn ready(state: web::Data<ApiState>) -> HttpResponse {
    let (mut dependencies, mut served) = (Vec::new(), true);
    for dependency in &state.dependencies {
        let answer = tokio::time::timeout(Duration::from_secs(5), (dependency.check)()).await;
        let (status, code, detail) = match answer {
            Ok(Ok(())) => ("ok", None, None),
            Ok(Err(error)) => ("failed", Some(error.code), Some(error.message)),
            Err(_) => ("failed", Some("TIMEOUT"), Some("no answer within 5 seconds".to_owned())),
        };
        served &= status == "ok" || !dependency.needed;
        dependencies.push(DependencyState { name: dependency.name, status, code, detail });
    }
    let (mut response, status) = match dependencies.iter().all(|d| d.status == "ok") {
        true => (HttpResponse::Ok(), "ready"),
        false if served => (HttpResponse::Ok(), "degraded"),
        false => (HttpResponse::ServiceUnavailable(), "not_ready"),
    };
    response.json(Readiness { status, dependencies })
}
