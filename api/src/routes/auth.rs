//! Logging in, second factors, and one's own sessions.

use crate::{
    ApiState,
    extract::{Caller, CallerWith, json, may},
    problem::{Problem, ProblemBody},
    request_id,
    wire::{PageQuery, Paged, Session},
};
use actix_web::{
    HttpRequest, HttpResponse,
    cookie::{Cookie, SameSite},
    http::header,
    web::{self, Payload},
};
use omt_access::{Credentials, Tokens};
use omt_kernel::{Error, SessionId, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// The cookie that remembers a login at an issuer.
const LOGIN_COOKIE: &str = "omt_login";

/// Credentials.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// User name.
    #[schema(example = "admin")]
    username: String,
    /// Password.
    #[schema(example = "correct horse battery staple")]
    password: String,
    /// A one-time password or a recovery code, of those who have a second factor.
    #[schema(example = "492039")]
    second_factor: Option<String>,
    /// The tenant; the directory's or the default one when absent.
    tenant: Option<String>,
}

/// A refresh token.
#[derive(Deserialize, ToSchema)]
pub struct RefreshRequest {
    /// The token from the last answer.
    refresh_token: String,
}

/// A code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeRequest {
    /// A one-time password, or a recovery code where one is taken.
    #[schema(example = "492039")]
    code: String,
}

/// Passwords.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The current one.
    current: String,
    /// The new one.
    new: String,
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
    /// A second factor must be enrolled before anything else: POST /api/v1/auth/second-factor.
    second_factor_enrolment_required: bool,
}

/// What sets up an authenticator. Shown once.
#[derive(Serialize, ToSchema)]
pub struct EnrolmentResponse {
    /// The secret in base 32.
    secret: String,
    /// `otpauth:` URL.
    url: String,
    /// The URL as a QR code: PNG in base 64.
    qr_png: String,
    /// Each is good once, in place of a code.
    recovery_codes: Vec<String>,
}

/// Who is calling.
#[derive(Serialize, ToSchema)]
pub struct Me {
    /// `user:<id>` or `key:<id>`.
    subject: String,
    /// User or key name.
    name: String,
    /// Tenant.
    tenant: String,
    /// Roles.
    roles: Vec<String>,
    /// What is allowed.
    #[schema(value_type = Vec<String>)]
    permissions: Vec<&'static str>,
    /// Only this department's content, and content of none.
    department: Option<String>,
    /// Only these projects' content, and content of none; everything when empty.
    projects: Vec<String>,
    /// The most sensitive classification.
    clearance: String,
    /// How the caller proved who they are.
    #[schema(value_type = String)]
    via: &'static str,
    /// Whether the caller has a second factor.
    second_factor: bool,
}

/// Issuers by which one can log in.
#[derive(Serialize, ToSchema)]
pub struct IssuersResponse {
    /// Names for `/api/v1/auth/oidc/{name}/start`.
    issuers: Vec<String>,
}

/// Where to log in.
#[derive(Serialize, ToSchema)]
pub struct StartResponse {
    /// The issuer's page. The browser must keep the cookie that came with this answer.
    authorization_url: String,
}

/// An issuer's answer.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CallbackQuery {
    /// The code.
    code: Option<String>,
    /// What was sent along.
    state: Option<String>,
    /// Why there is no code.
    error: Option<String>,
}

fn answer(tokens: Tokens) -> HttpResponse {
    HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(TokenResponse {
        access_token: tokens.access,
        refresh_token: tokens.refresh,
        token_type: "Bearer",
        expires_in: tokens.expires_in,
        second_factor_enrolment_required: tokens.limited,
    })
}

fn user_agent(request: &HttpRequest) -> Option<String> {
    request.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok()).map(str::to_owned)
}

/// Logs in with user name, password and, of those who have one, second factor.
#[utoipa::path(post, path = "/api/v1/auth/login", tag = "auth", request_body = LoginRequest, responses((status = 200, body = TokenResponse), (status = 401, body = ProblemBody, description = "INVALID_CREDENTIALS, SECOND_FACTOR_REQUIRED, INVALID_SECOND_FACTOR"), (status = 403, body = ProblemBody, description = "NO_ROLE"), (status = 429, body = ProblemBody, description = "TOO_MANY_ATTEMPTS"), (status = 503, body = ProblemBody, description = "DIRECTORY_UNAVAILABLE, BUSY")))]
pub async fn login(state: web::Data<ApiState>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, Problem> {
    let body: LoginRequest = json(&request, &mut payload.into_inner()).await?;
    let tenant = body.tenant.as_deref().map(TenantId::parse).transpose();
    let credentials = Credentials {
        tenant: tenant.map_err(|reason| Error::unprocessable_field("INVALID_TENANT", "tenant", reason))?,
        username: body.username,
        password: body.password,
        second_factor: body.second_factor,
        user_agent: user_agent(&request),
        request_id: request_id::current(),
    };
    Ok(answer(state.access.login(credentials).await?))
}

/// Exchanges a refresh token for new tokens. A token used twice ends its whole session.
#[utoipa::path(post, path = "/api/v1/auth/refresh", tag = "auth", request_body = RefreshRequest, responses((status = 200, body = TokenResponse), (status = 401, body = ProblemBody, description = "INVALID_REFRESH_TOKEN, REFRESH_TOKEN_REUSED")))]
pub async fn refresh(state: web::Data<ApiState>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, Problem> {
    let body: RefreshRequest = json(&request, &mut payload.into_inner()).await?;
    Ok(answer(state.access.refresh(&body.refresh_token, request_id::current()).await?))
}

/// Ends the session that a refresh token belongs to.
#[utoipa::path(post, path = "/api/v1/auth/logout", tag = "auth", request_body = RefreshRequest, responses((status = 204)))]
pub async fn logout(state: web::Data<ApiState>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, Problem> {
    let body: RefreshRequest = json(&request, &mut payload.into_inner()).await?;
    state.access.logout(&body.refresh_token, request_id::current()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Who is calling, and what they may do.
#[utoipa::path(get, path = "/api/v1/auth/me", tag = "auth", security(("bearer" = [])), responses((status = 200, body = Me), (status = 401, body = ProblemBody)))]
pub async fn me(state: web::Data<ApiState>, caller: Caller<may::Anything>) -> Result<HttpResponse, Problem> {
    let user = state.access.me(&caller.0).await?;
    let actor = caller.0;
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(Me {
        second_factor: user.is_some_and(|user| user.has_second_factor()),
        subject: actor.subject,
        name: actor.name,
        tenant: actor.tenant.to_string(),
        roles: actor.roles.into_iter().collect(),
        permissions: actor.permissions.iter().map(|p| p.as_str()).collect(),
        department: actor.reach.department,
        projects: actor.reach.projects.into_iter().collect(),
        clearance: actor.reach.clearance.to_string(),
        via: actor.via.as_str(),
    }))
}

/// Changes one's own password. Every session ends.
#[utoipa::path(put, path = "/api/v1/auth/password", tag = "auth", request_body = PasswordRequest, security(("bearer" = [])), responses((status = 204), (status = 401, body = ProblemBody, description = "INVALID_CREDENTIALS"), (status = 403, body = ProblemBody, description = "NOT_A_USER"), (status = 409, body = ProblemBody, description = "NOT_LOCAL"), (status = 422, body = ProblemBody, description = "WEAK_PASSWORD"), (status = 429, body = ProblemBody)))]
pub async fn change_password(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::Anything, PasswordRequest>,
) -> Result<HttpResponse, Problem> {
    state.access.change_password(&actor, body.current, body.new).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Begins enrolment of an authenticator (RFC 6238). It protects nothing until a first code confirms it.
#[utoipa::path(post, path = "/api/v1/auth/second-factor", tag = "auth", security(("bearer" = [])), responses((status = 201, body = EnrolmentResponse), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "NOT_A_USER, STEP_UP_REQUIRED")))]
pub async fn enrol(state: web::Data<ApiState>, caller: Caller<may::Anything>) -> Result<HttpResponse, Problem> {
    let made = state.access.enrol(&caller.0).await?;
    Ok(HttpResponse::Created().insert_header(("cache-control", "no-store")).json(EnrolmentResponse {
        secret: made.secret,
        url: made.url,
        qr_png: made.qr,
        recovery_codes: made.recovery_codes,
    }))
}

/// Confirms enrolment with a first code.
#[utoipa::path(put, path = "/api/v1/auth/second-factor", tag = "auth", request_body = CodeRequest, security(("bearer" = [])), responses((status = 204), (status = 401, body = ProblemBody, description = "INVALID_SECOND_FACTOR"), (status = 403, body = ProblemBody), (status = 409, body = ProblemBody, description = "NO_ENROLMENT, ALREADY_ENROLLED")))]
pub async fn confirm(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::Anything, CodeRequest>,
) -> Result<HttpResponse, Problem> {
    state.access.confirm(&actor, &body.code).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Removes one's own second factor, after a fresh one was given.
#[utoipa::path(delete, path = "/api/v1/auth/second-factor", tag = "auth", security(("bearer" = [])), responses((status = 204), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "STEP_UP_REQUIRED, NOT_A_USER"), (status = 409, body = ProblemBody, description = "SECOND_FACTOR_REQUIRED")))]
pub async fn unenrol(state: web::Data<ApiState>, caller: Caller<may::Anything>) -> Result<HttpResponse, Problem> {
    state.access.unenrol(&caller.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Gives a second factor again, which dangerous actions need within minutes.
#[utoipa::path(post, path = "/api/v1/auth/step-up", tag = "auth", request_body = CodeRequest, security(("bearer" = [])), responses((status = 204), (status = 401, body = ProblemBody, description = "INVALID_SECOND_FACTOR"), (status = 403, body = ProblemBody, description = "NOT_A_USER"), (status = 409, body = ProblemBody, description = "NO_ENROLMENT"), (status = 429, body = ProblemBody)))]
pub async fn step_up(
    state: web::Data<ApiState>,
    CallerWith(actor, body, _): CallerWith<may::Anything, CodeRequest>,
) -> Result<HttpResponse, Problem> {
    state.access.step_up(&actor, &body.code).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// One's own live sessions, newest first.
#[utoipa::path(get, path = "/api/v1/auth/sessions", tag = "auth", params(PageQuery), security(("bearer" = [])), responses((status = 200, body = Paged<Session>), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "NOT_A_USER")))]
pub async fn sessions(
    state: web::Data<ApiState>,
    caller: Caller<may::Anything>,
    page: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.page()?;
    let sessions = state.access.own_sessions(&caller.0, page).await?;
    let current = caller.0.session;
    Ok(HttpResponse::Ok().json(Paged::of(sessions, page, |s| s.id.0, |s| Session::of(s, current))))
}

/// Ends one of one's own sessions, everywhere within a second.
#[utoipa::path(delete, path = "/api/v1/auth/sessions/{id}", tag = "auth", params(("id" = Uuid, Path,)), security(("bearer" = [])), responses((status = 204), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody, description = "NOT_A_USER"), (status = 404, body = ProblemBody)))]
pub async fn end_session(
    state: web::Data<ApiState>,
    caller: Caller<may::Anything>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    state.access.end_own_session(&caller.0, SessionId(*id)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Issuers by which one can log in.
#[utoipa::path(get, path = "/api/v1/auth/oidc", tag = "auth", responses((status = 200, body = IssuersResponse)))]
pub async fn issuers(state: web::Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok().json(IssuersResponse { issuers: state.access.login_issuers() })
}

fn redirect(state: &ApiState) -> String {
    format!("{}/api/v1/auth/oidc/callback", state.public_url)
}

/// Begins a login at an issuer: authorization code with PKCE (RFC 7636).
#[utoipa::path(post, path = "/api/v1/auth/oidc/{name}/start", tag = "auth", params(("name" = String, Path, description = "The issuer's name")), responses((status = 200, body = StartResponse), (status = 404, body = ProblemBody), (status = 503, body = ProblemBody, description = "ISSUER_UNAVAILABLE")))]
pub async fn start(state: web::Data<ApiState>, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let begun = state.access.authorize(&name, &redirect(&state)).await?;
    let cookie = Cookie::build(LOGIN_COOKIE, begun.state)
        .path("/api/v1/auth/oidc")
        .http_only(true)
        // The issuer's page sends the browser back with a plain link.
        .same_site(SameSite::Lax)
        .secure(state.public_url.starts_with("https://"))
        .finish();
    Ok(HttpResponse::Ok().cookie(cookie).json(StartResponse { authorization_url: begun.url }))
}

/// Where an issuer sends the browser back to: exchanges the code and begins a session.
#[utoipa::path(get, path = "/api/v1/auth/oidc/callback", tag = "auth", params(CallbackQuery), responses((status = 200, body = TokenResponse), (status = 401, body = ProblemBody, description = "INVALID_LOGIN_STATE, INVALID_TOKEN, LOGIN_REFUSED"), (status = 403, body = ProblemBody, description = "NO_ROLE"), (status = 503, body = ProblemBody, description = "ISSUER_UNAVAILABLE")))]
pub async fn callback(
    state: web::Data<ApiState>,
    request: HttpRequest,
    query: web::Query<CallbackQuery>,
) -> Result<HttpResponse, Problem> {
    let kind = omt_kernel::Kind::Unauthenticated;
    if query.error.is_some() {
        return Err(Error::new(kind, "LOGIN_REFUSED", "the issuer refused the login").into());
    }
    let kept = request.cookie(LOGIN_COOKIE);
    let (Some(kept), Some(code), Some(given)) = (kept, &query.code, &query.state) else {
        return Err(Error::new(kind, "INVALID_LOGIN_STATE", "this is not the answer to a login that was begun here").into());
    };
    let tokens = state
        .access
        .authorized(kept.value(), given, code, &redirect(&state), user_agent(&request), request_id::current())
        .await?;
    let mut response = answer(tokens);
    let mut gone = Cookie::build(LOGIN_COOKIE, "").path("/api/v1/auth/oidc").http_only(true).finish();
    gone.make_removal();
    response.add_cookie(&gone).map_err(|e| Error::internal("a cookie cannot be removed").caused_by(e))?;
    Ok(response)
}
