//! What callers took of what they may, over processes.

use crate::{SqlDatabase, SqlPace};
use omt_kernel::{
    OffsetDateTime,
    port::{Clock, SharedPace},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

struct Set(Mutex<OffsetDateTime>);

impl Clock for Set {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap()
    }
}

pub(super) async fn what_callers_took_adds_up(database: Arc<SqlDatabase>) {
    let clock = Arc::new(Set(Mutex::new(super::now())));
    let (one, other) = (SqlPace::new(database.clone(), clock.clone()), SqlPace::new(database, clock.clone()));
    let seconds = Duration::from_secs;
    let took = |caller: &str, time| (caller.to_owned(), seconds(time));
    // Answered in the order of the question.
    assert_eq!(one.settle(&[took("b", 20), took("a", 5)]).await.unwrap(), [seconds(20), seconds(5)]);
    assert_eq!(other.settle(&[took("a", 10), took("c", 1)]).await.unwrap(), [seconds(15), seconds(1)]);
    *clock.0.lock().unwrap() += seconds(6);
    assert_eq!(one.settle(&[took("a", 3), took("c", 2), took("b", 0)]).await.unwrap(), [seconds(12), seconds(2), seconds(14)]);
    assert!(one.settle(&[]).await.unwrap().is_empty());
    // Many at once, from both, in any order.
    let many = |order: bool| {
        let callers = 0..450;
        let took = |n: u32| (format!("caller {n}"), seconds(1));
        if order { callers.map(took).collect::<Vec<_>>() } else { callers.rev().map(took).collect() }
    };
    let (forth, back) = (many(true), many(false));
    let (a, b) = tokio::join!(one.settle(&forth), other.settle(&back));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(a.iter().zip(b.iter().rev()).all(|(a, b)| *a + *b == seconds(3)), "{a:?} {b:?}");
}
