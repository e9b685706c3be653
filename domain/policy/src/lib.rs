//! Organisational policy: rules that a tenant writes about its manifests, in versions, and what they say of a manifest.

mod expression;
mod facts;
pub mod model;
pub mod rules;
mod service;

pub use model::{Policy, RuleVerdict, Verdict};
pub use service::{DRY_RUN, Dependencies, DryRun, DryRunOrder, Policies, Version};
