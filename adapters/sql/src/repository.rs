//! The repositories.

mod api_keys;
mod audit;
mod badges;
mod blobs;
mod compliance;
mod documents;
mod groups;
mod jobs;
mod manifests;
mod notices;
mod platform;
mod roles;
mod search;
mod sessions;
mod tasks;
pub(crate) mod turn;
mod users;
mod webhooks;
mod workflows;
