//! Logging in.

use crate::{
    ApiState,
    extract::json,
    problem::{Problem, ProblemBody},
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Payload},
};
use omt_access::Tokens;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Credentials.
#[derive(Deserialize, ToSchema)]
pub struct LoginRequest {
    /// User name.
    #[schema(example = "admin")]
    username: String,
    /// Password.
    #[schema(example = "correct horse battery staple")]
    password: String,
}

/// A refresh token.
#[derive(Deserialize, ToSchema)]
pub struct RefreshRequest {
    /// The token from the last answer.
    refresh_token: String,
}

/// Tokens.
#[derive(Serialize, ToSchema)]
pub struct TokenResponse {
    /// JWT for `Authorization: Bearer`.
    access_token: String,
    /// Good for one exchange.
    refresh_token: String,
    /// Always `Bearer`.
    token_type: &'static str,
    /// Seconds that the access token is good.
    #[schema(example = 900)]
    expires_in: i64,
}

fn answer(tokens: Tokens) -> HttpResponse {
    HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(TokenResponse {
        access_token: tokens.access,
        refresh_token: tokens.refresh,
        token_type: "Bearer",
        expires_in: tokens.expires_in,
    })
}

/// Logs in with user name and password.
#[utoipa::path(post, path = "/api/v1/auth/login", tag = "auth", request_body = LoginRequest, responses((status = 200, body = TokenResponse), (status = 401, body = ProblemBody, description = "INVALID_CREDENTIALS")))]
pub async fn login(state: web::Data<ApiState>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, Problem> {
    let body: LoginRequest = json(&request, &mut payload.into_inner()).await?;
    Ok(answer(state.access.login(&body.username, &body.password).await?))
}

/// Exchanges a refresh token for new tokens. A token used twice ends its whole login.
#[utoipa::path(post, path = "/api/v1/auth/refresh", tag = "auth", request_body = RefreshRequest, responses((status = 200, body = TokenResponse), (status = 401, body = ProblemBody, description = "INVALID_REFRESH_TOKEN, REFRESH_TOKEN_REUSED")))]
pub async fn refresh(state: web::Data<ApiState>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, Problem> {
    let body: RefreshRequest = json(&request, &mut payload.into_inner()).await?;
    Ok(answer(state.access.refresh(&body.refresh_token).await?))
}

/// Ends the login that a refresh token belongs to.
#[utoipa::path(post, path = "/api/v1/auth/logout", tag = "auth", request_body = RefreshRequest, responses((status = 204)))]
pub async fn logout(state: web::Data<ApiState>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, Problem> {
    let body: RefreshRequest = json(&request, &mut payload.into_inner()).await?;
    state.access.logout(&body.refresh_token).await?;
    Ok(HttpResponse::NoContent().finish())
}
