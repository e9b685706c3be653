//! Compliance: rules that decide from evidence and say which, the records of that evidence, and overrides that stay visible.

mod countries;
pub mod model;
pub mod pii;
mod redaction;
pub mod rules;
mod service;

pub use model::{Policy, Report, RuleName, RuleResult, Status};
pub use redaction::{Found, Place};
pub use service::{
    Compliance, Dependencies, LOOK, Looked, NewClearance, NewOverride, PolicyVersion, RECHECK, REMEASURE, RecheckOrder, Subjects,
};

#[cfg(test)]
mod rule_tests;
