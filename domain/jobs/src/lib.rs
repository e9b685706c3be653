//! Background jobs: what happens to an attempt, who runs it, and what administrators can do about it.
//!
//! A job is a row that is written in the transaction of the change that causes it. A transport tells workers of due jobs; it may
//! lose a ticket or send it twice, on any queue, because the row decides: a worker claims it for [`LEASE`](omt_kernel::job::LEASE)
//! and gives signs of life, and a job without them is taken over by another. Attempts are counted when they begin, so a job that
//! kills its workers ends as well.

mod cron;
mod ledger;
mod model;
pub mod rules;
mod runner;
mod service;

pub use cron::{Cron, Tick, Timing};
pub use model::{
    ARCHIVE, ArchiveOrder, Handler, JobError, LockOrder, NewJob, OBJECT_LOCK, Progress, RESTORE, RestoreOrder, Schedule,
};
pub use runner::{Ending, Runner};
pub use service::{Jobs, Recurring, enqueue, enqueue_all};
