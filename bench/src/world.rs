//! The world as benchmarks see it.

use omt_kernel::port::{Clock, Entropy};
use time::OffsetDateTime;
use uuid::Uuid;

/// The system's clock and randomness.
pub struct System;

impl Clock for System {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

impl Entropy for System {
    fn uuid_v7(&self, _: OffsetDateTime) -> Uuid {
        Uuid::now_v7()
    }
    fn uuid_v4(&self) -> Uuid {
        Uuid::new_v4()
    }
    fn secret(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        out[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        out
    }
}
