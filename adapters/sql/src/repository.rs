//! The repositories.

mod blobs;
mod identities;
mod jobs;
mod manifests;
mod platform;
mod search;
