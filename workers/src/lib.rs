//! The handlers of background jobs.

mod housekeeping;
mod lifecycle;

pub use housekeeping::Housekeeping;
pub use lifecycle::{Lifecycle, Retention, Sweep};
