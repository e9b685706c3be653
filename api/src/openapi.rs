//! The OpenAPI 3.1 document.

use crate::{problem::ProblemBody, routes};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An access token from /api/v1/auth/login, or an API key (omt_…)"))
            .build();
        document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "OpenMediaTrust",
        description = "Signs, stores, verifies and governs C2PA manifests (Content Credentials) with post-quantum protection.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        routes::health::health,
        routes::health::ready,
        routes::auth::login,
        routes::auth::refresh,
        routes::auth::logout,
        routes::auth::me,
        routes::auth::change_password,
        routes::auth::enrol,
        routes::auth::confirm,
        routes::auth::unenrol,
        routes::auth::step_up,
        routes::auth::sessions,
        routes::auth::end_session,
        routes::auth::issuers,
        routes::auth::start,
        routes::auth::callback,
        routes::users::create,
        routes::users::list,
        routes::users::get,
        routes::users::update,
        routes::users::delete,
        routes::users::sessions,
        routes::users::revoke_session,
        routes::users::explain,
        routes::roles::list,
        routes::roles::create,
        routes::roles::get,
        routes::roles::update,
        routes::roles::delete,
        routes::roles::mappings,
        routes::roles::create_mapping,
        routes::roles::delete_mapping,
        routes::platform::list,
        routes::platform::create,
        routes::platform::get,
        routes::platform::update,
        routes::platform::overview,
        routes::platform::archive,
        routes::audit::list,
        routes::audit::export,
        routes::audit::checkpoint,
        routes::audit::keys,
        routes::audit::inclusion,
        routes::audit::consistency,
        routes::audit::tile,
        routes::scim::create_user,
        routes::scim::list_users,
        routes::scim::get_user,
        routes::scim::replace_user,
        routes::scim::patch_user,
        routes::scim::delete_user,
        routes::scim::create_group,
        routes::scim::list_groups,
        routes::scim::get_group,
        routes::scim::replace_group,
        routes::scim::patch_group,
        routes::scim::delete_group,
        routes::scim::provider,
        routes::privacy::export,
        routes::privacy::erase,
        routes::admin::create_api_key,
        routes::admin::list_api_keys,
        routes::admin::revoke_api_key,
        routes::jobs::list,
        routes::jobs::get,
        routes::jobs::retry,
        routes::jobs::cancel,
        routes::metrics::metrics,
        routes::storage::hold,
        routes::storage::release,
        routes::storage::usage,
        routes::storage::content_url,
        routes::storage::begin_upload,
        routes::trust::roots,
        routes::trust::pq_roots,
        routes::trust::issuer,
        routes::manifests::create,
        routes::manifests::list,
        routes::manifests::get,
        routes::manifests::update,
        routes::manifests::archive,
        routes::manifests::sign,
        routes::manifests::content,
        routes::manifests::manifest_store,
        routes::manifests::report,
        routes::manifests::crjson,
        routes::verify::verify,
        routes::verify::history,
        routes::verify::chain_of_custody,
    ),
    components(schemas(ProblemBody)),
    modifiers(&Bearer),
)]
struct Document;

/// The document, as code and annotations say it.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
