//! The repositories.

mod api_keys;
mod audit;
mod blobs;
mod groups;
mod jobs;
mod manifests;
mod platform;
mod roles;
mod search;
mod sessions;
mod users;
