//! Content, what is claimed of it, and the manifests that say so.
//!
//! - [`media`], [`structure`], [`guard`] — what content is, whether it is whole, whether it is safe to read.
//! - [`metadata`], [`thumbnail`] — what it says about itself, and how it looks.
//! - [`definition`], [`rules`] — what a claim will say, and how a record may change.
//! - [`engine`] — building, signing and verifying manifests. [`jumbf`], [`post_quantum`], [`report`], [`custody`]: its parts.
//! - [`cdn`] — what a content delivery network may serve.
//! - [`service`] — the use cases.

pub mod cdn;
pub mod custody;
pub mod definition;
pub mod digest;
pub mod engine;
pub mod governance;
mod guard;
pub mod jumbf;
pub mod media;
pub mod metadata;
pub mod post_quantum;
pub mod report;
pub mod rules;
pub mod service;
pub mod structure;
pub mod thumbnail;
mod window;

pub use engine::{Engine, TrustLists, Verification, VerifyRequest};
pub use report::{TrustLevel, ValidationState, VerificationReport};
