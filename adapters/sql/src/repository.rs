//! The repositories.

mod identities;
mod jobs;
mod manifests;
mod platform;
