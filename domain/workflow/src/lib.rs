//! Approval workflows: definitions that are data, a pure engine that decides what may happen, and the use cases that write it down.

pub mod calendar;
mod check;
pub mod definition;
mod diagram;
pub mod engine;
mod gate;
mod guard;
pub mod model;
mod service;
mod store;
mod tell;

pub use gate::Gate;
pub use guard::{Asked, ComplianceStanding, Guards, Keep, Standing};
pub use service::{
    Decision, Dependencies, EFFECTS, EffectsOrder, HistoryItem, Inbox, Lend, Migration, NewWorkflow, Step, TaskSummary, TaskView,
    Vote, WorkflowView, Workflows,
};
pub use store::{Definitions, Version};

#[cfg(test)]
mod engine_tests;
#[cfg(test)]
mod play_tests;
