//! Directories of people (LDAP), and what trusted issuers publish (HTTP).

mod issuer;
mod ldap;

pub use issuer::HttpIssuerClient;
pub use ldap::{LdapDirectory, LdapSettings, NestedGroups};
