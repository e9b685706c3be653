//! The repositories.

mod identities;
mod manifests;
mod platform;
