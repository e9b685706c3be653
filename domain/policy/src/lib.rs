//! Organisational policy: rules that a tenant writes about its manifests, in versions, and what they say of a manifest.

mod ask;
mod check;
mod cost;
mod dry_run;
mod expression;
mod facts;
mod json;
pub mod model;
mod remembered;
pub mod rules;
mod schema;
mod service;
mod shadow;
mod stand;
mod types;

pub use dry_run::{DRY_RUN, DryRun, DryRunOrder};
pub use expression::Deadline;
pub use facts::{Facts, Verified};
pub use model::{Evidence, Policy, RuleVerdict, Verdict};
pub use service::{Answer, Dependencies, Policies, Shown, Version};
pub use shadow::Findings;
