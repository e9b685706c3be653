//! End-to-end tests over the real binary. One test binary, so that the workspace links once.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod authorization;
mod command_line;
mod corpus;
mod crash;
mod document;
mod faults;
mod hybrid;
mod jobs;
mod life;
mod manifests;
mod public_key_infrastructure;
mod refusals;
mod removal;
mod storage;
mod users;
