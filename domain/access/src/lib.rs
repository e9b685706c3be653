//! Access: who calls, and what they may do.
//!
//! Whoever calls becomes one [`omt_kernel::Actor`]: users by password, directory or issuer, programs by API key. Tokens name a
//! session and nothing else; what its user may do is read anew every second, so that what is taken away is gone everywhere at
//! once. Roles give permissions (decided by the [`omt_kernel::port::Authorizer`]), and reach says which content they are for.

mod directory;
mod explain;
mod groups;
mod issuers;
mod keys;
mod login;
mod oidc;
mod password;
mod people;
mod privacy;
mod roles;
pub mod rules;
mod second_factor;
mod service;
mod sessions;
mod start;
mod tables;
mod tenants;
mod token;
mod users;

pub use explain::{Explanation, RoleReason};
pub use groups::GroupChange;
pub use issuers::{OidcSettings, TokenUse};
pub use keys::NewApiKey;
pub use login::{Credentials, Tokens};
pub use oidc::Authorization;
pub use people::Registry;
pub use privacy::{NOT_ERASED, NOT_EXPORTED, SubjectExport};
pub use roles::{MappingEffect, NewMapping, RoleChange};
pub use second_factor::Enrolment;
pub use service::{Access, Dependencies, Settings};
pub use token::{ACCESS_TOKEN, AUDIENCE};
pub use users::{NewUser, UserChange};
