//! Rows of jobs: in their order, unique, with one worker at a time.

use super::now;
use crate::SqlDatabase;
use omt_kernel::{
    JobId, OffsetDateTime,
    job::{AttemptEnd, DueJob, JobEnd, JobFilter, JobRecord, JobState, JobTurn, LEASE},
    port::{Database, Page},
};
use sea_orm::ConnectionTrait;
use serde_json::json;
use std::sync::Arc;
use time::Duration;
use uuid::Uuid;

pub(super) fn job(kind: &str) -> JobRecord {
    JobRecord {
        id: JobId(Uuid::now_v7()),
        tenant: None,
        kind: kind.into(),
        payload: json!({ "n": 1 }),
        unique_key: None,
        priority: 0,
        state: JobState::Queued,
        attempts: 0,
        max_attempts: 3,
        run_at: now(),
        lease_until: None,
        worker: None,
        progress: None,
        error: None,
        created_at: now(),
        updated_at: now(),
        finished_at: None,
    }
}

pub(super) async fn add(database: &SqlDatabase, job: &JobRecord) -> bool {
    let unit = database.begin().await.unwrap();
    let added = unit.jobs().enqueue(job).await.unwrap();
    unit.commit().await.unwrap();
    added
}

pub(super) async fn claim(database: &SqlDatabase, id: JobId, worker: &str, at: OffsetDateTime) -> Option<JobRecord> {
    let unit = database.begin().await.unwrap();
    let claimed = unit.jobs().claim(&[id], worker, at, at + LEASE).await.unwrap();
    unit.commit().await.unwrap();
    claimed.into_iter().next()
}

pub(super) async fn end(database: &SqlDatabase, id: JobId, worker: &str, end: AttemptEnd) -> bool {
    let unit = database.begin().await.unwrap();
    let ended = unit.jobs().end(&[id], worker, &end, None, now()).await.unwrap();
    unit.commit().await.unwrap();
    ended == [id]
}

pub(super) async fn get(database: &SqlDatabase, id: JobId) -> JobRecord {
    database.read().await.unwrap().jobs().get(id).await.unwrap().unwrap()
}

pub(super) async fn jobs_are_added_at_once(database: Arc<SqlDatabase>) {
    let keyed = |key: &str| JobRecord { unique_key: Some(key.into()), ..job("many") };
    let lives = keyed("many-0");
    assert!(add(&database, &lives).await);
    let mut jobs: Vec<JobRecord> = (0..2_500).map(|_| job("many")).collect();
    let twice = [keyed("many-1"), keyed("many-1")];
    jobs.extend(twice.iter().cloned());
    jobs.push(keyed("many-0"));
    let unit = database.begin().await.unwrap();
    let added = unit.jobs().enqueue_all(&jobs).await.unwrap();
    assert!(unit.jobs().enqueue_all(&[]).await.unwrap().is_empty());
    unit.commit().await.unwrap();
    let mut wanted: Vec<JobId> = jobs[..2_501].iter().map(|job| job.id).collect();
    let mut had = added;
    wanted.sort_by_key(|id| id.0);
    had.sort_by_key(|id| id.0);
    assert_eq!(had, wanted, "all but those whose keys live");
    assert_eq!(get(&database, jobs[1_234].id).await.kind, "many");
}

pub(super) async fn unique_jobs_live_once(database: Arc<SqlDatabase>) {
    let keyed = |key: &str| JobRecord { unique_key: Some(key.into()), ..job("a") };
    let first = keyed("k");
    assert!(add(&database, &first).await);
    assert!(!add(&database, &keyed("k")).await);
    assert!(add(&database, &keyed("other")).await);
    assert!(add(&database, &job("a")).await && add(&database, &job("a")).await, "jobs without a key are never the same");
    claim(&database, first.id, "w", now()).await.unwrap();
    assert!(!add(&database, &keyed("k")).await, "it runs");
    let living = async || database.read().await.unwrap().jobs().living("k").await.unwrap().map(|job| job.id);
    assert_eq!(living().await, Some(first.id));
    assert!(end(&database, first.id, "w", AttemptEnd::Done).await);
    assert_eq!(living().await, None);
    let second = keyed("k");
    assert!(add(&database, &second).await, "it is done");
    // A dead one cannot come back beside one that lives.
    claim(&database, second.id, "w", now()).await.unwrap();
    end(&database, second.id, "w", AttemptEnd::Dead("x".into())).await;
    assert!(add(&database, &keyed("k")).await);
    let unit = database.begin().await.unwrap();
    assert!(!unit.jobs().replay(second.id, now()).await.unwrap());
}

pub(super) async fn slots_are_taken_once(database: Arc<SqlDatabase>) {
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move {
                let unit = database.begin().await.unwrap();
                let taken = unit.jobs().take_slot("k", 7, now()).await.unwrap();
                unit.commit().await.unwrap();
                u32::from(taken)
            })
        })
        .collect();
    let mut taken = 0;
    for task in tasks {
        taken += task.await.unwrap();
    }
    assert_eq!(taken, 1);
}

pub(super) async fn due_jobs_come_in_order(database: Arc<SqlDatabase>) {
    let at = now();
    let early = JobRecord { run_at: at - Duration::seconds(9), ..job("a") };
    let late = JobRecord { run_at: at - Duration::seconds(1), ..job("b") };
    let urgent = JobRecord { priority: 5, ..late.clone() };
    let urgent = JobRecord { id: JobId(Uuid::now_v7()), ..urgent };
    let future = JobRecord { run_at: at + Duration::hours(1), priority: 9, ..job("a") };
    for job in [&late, &early, &urgent, &future] {
        assert!(add(&database, job).await);
    }
    let due = async |kinds: &[&str], limit| database.read().await.unwrap().jobs().due(kinds, at, limit).await.unwrap();
    let ids = |due: Vec<DueJob>| due.into_iter().map(|due| due.id).collect::<Vec<_>>();
    assert_eq!(ids(due(&["a", "b"], 10).await), [urgent.id, early.id, late.id]);
    assert_eq!(ids(due(&["a", "b"], 2).await), [urgent.id, early.id]);
    assert_eq!(ids(due(&["a"], 10).await), [early.id]);
    assert!(due(&["c"], 10).await.is_empty() && due(&[], 10).await.is_empty());
    let unit = database.begin().await.unwrap();
    unit.jobs().announced(&[urgent.id], at).await.unwrap();
    unit.commit().await.unwrap();
    let told: Vec<_> = due(&["a", "b"], 10).await.into_iter().map(|due| due.announced_at).collect();
    assert_eq!(told, [Some(at), None, None]);
    let page = Page { after: None, limit: 10 };
    let filter = JobFilter { kind: Some("a".into()), ..Default::default() };
    assert_eq!(database.read().await.unwrap().jobs().list(&filter, page).await.unwrap().len(), 2);
    let counts = database.read().await.unwrap().jobs().counts().await.unwrap();
    assert!(counts.contains(&("b".into(), "queued".into(), 2)), "{counts:?}");
}

pub(super) async fn one_worker_has_a_job(database: Arc<SqlDatabase>) {
    let one = job("a");
    add(&database, &one).await;
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let (database, id) = (database.clone(), one.id);
            tokio::spawn(async move { claim(&database, id, &format!("w{n}"), now()).await.is_some() })
        })
        .collect();
    let mut claimed = 0;
    for task in tasks {
        claimed += u32::from(task.await.unwrap());
    }
    assert_eq!(claimed, 1);
    let held = get(&database, one.id).await;
    assert_eq!((held.state, held.attempts), (JobState::Running, 1));
}

pub(super) async fn a_worker_ends_and_begins_at_once(database: Arc<SqlDatabase>) {
    let sorted = |mut ids: Vec<JobId>| {
        ids.sort();
        ids
    };
    let at = now() + Duration::minutes(1);
    let several = async |count: usize, change: fn(&mut JobRecord)| {
        let mut ids = Vec::new();
        for _ in 0..count {
            let mut new = job("a");
            change(&mut new);
            assert!(add(&database, &new).await);
            ids.push(new.id);
        }
        ids
    };
    let turn = async |done: &[JobId], wanted: &[JobId], now| {
        let ends: Vec<_> = done.iter().map(|job| JobEnd { job: *job, at: now, end: &AttemptEnd::Done, progress: None }).collect();
        let turn = JobTurn { worker: "w", ends: &ends, wanted, now, lease: now + LEASE };
        let turned = database.turn_jobs(&turn).await.unwrap();
        (sorted(turned.ended), sorted(turned.claimed.into_iter().map(|job| job.id).collect()))
    };
    let (first, second) = (several(3, |_| ()).await, several(5, |_| ()).await);
    assert_eq!(turn(&[], &first, at).await, (vec![], first.clone()));
    assert_eq!(turn(&first, &second, at).await, (first.clone(), second.clone()));
    let (done, running) = (get(&database, first[1]).await, get(&database, second[4]).await);
    assert_eq!((done.state, done.lease_until, done.finished_at.is_some()), (JobState::Done, None, true));
    assert_eq!((running.state, running.attempts, running.worker.as_deref()), (JobState::Running, 1, Some("w")));

    // What is not to be had is left out: jobs that are not due, or another's; and ends of jobs that were taken away.
    let later = several(1, |job| job.run_at += Duration::hours(1)).await;
    let (free, others) = (several(2, |_| ()).await, several(1, |_| ()).await);
    claim(&database, others[0], "other", at).await.unwrap();
    let wanted = [later.clone(), free.clone(), others.clone(), first[..1].to_vec()].concat();
    let ended = [&second[..2], &others].concat();
    assert_eq!(turn(&ended, &wanted, at).await, (second[..2].to_vec(), free.clone()));
    assert_eq!(get(&database, others[0]).await.worker.as_deref(), Some("other"));
    assert_eq!(get(&database, later[0]).await.state, JobState::Queued);

    // A job that ends may be asked for in the same breath, and is not got. One that kills its workers ends here too.
    let poison = several(1, |job| job.max_attempts = 1).await;
    claim(&database, poison[0], "dead", at).await.unwrap();
    let after = at + LEASE + Duration::seconds(1);
    assert_eq!(turn(&free, &[free[0], poison[0]], after).await, (free.clone(), vec![]));
    assert_eq!(get(&database, poison[0]).await.state, JobState::Dead);
    let fresh = several(1, |_| ()).await;
    assert_eq!(turn(&second[2..3], &fresh, at).await, (second[2..3].to_vec(), fresh.clone()));
    // One that says more, and goes back into the queue, may be had again at once.
    let (back, progress) = (AttemptEnd::RetryAt(at, "no answer".into()), json!({ "done": 1 }));
    let ends = [
        JobEnd { job: fresh[0], at, end: &back, progress: None },
        JobEnd { job: second[3], at, end: &AttemptEnd::Done, progress: Some(&progress) },
    ];
    let turned = JobTurn { worker: "w", ends: &ends, wanted: &fresh, now: at, lease: at + LEASE };
    let turned = database.turn_jobs(&turned).await.unwrap();
    assert_eq!(sorted(turned.ended), sorted(vec![fresh[0], second[3]]));
    assert_eq!((turned.claimed.len(), turned.claimed[0].attempts), (1, 2));
    assert_eq!(turned.claimed[0].error.as_deref(), Some("no answer"));
    assert_eq!(get(&database, second[3]).await.progress, Some(progress));

    // One that cannot be read keeps none of the others from being done, and ends like those that kill their workers.
    let unreadable = several(1, |job| (job.kind, job.max_attempts) = ("unreadable".into(), 1)).await;
    let words = "UPDATE jobs SET tenant = 'No Tenant!' WHERE kind = 'unreadable'";
    database.write.execute_unprepared(words).await.unwrap();
    let good = several(1, |_| ()).await;
    assert_eq!(turn(&fresh, &[unreadable[0], good[0]], at).await, (fresh.clone(), good.clone()));
    assert_eq!(turn(&good, &unreadable, after).await, (good.clone(), vec![]));
    database.write.execute_unprepared("UPDATE jobs SET tenant = NULL WHERE kind = 'unreadable'").await.unwrap();
    assert_eq!(get(&database, unreadable[0]).await.state, JobState::Dead);

    // Nothing to end, nothing to begin.
    assert_eq!(turn(&second[4..], &[], at).await, (second[4..].to_vec(), vec![]));
    assert_eq!(turn(&[], &[], at).await, (vec![], vec![]));
}

pub(super) async fn who_announces_waits_for_no_worker(database: Arc<SqlDatabase>) {
    if !database.writes_in_parallel() {
        // There a transaction waits for the one before, whatever it writes.
        return;
    }
    let (begun, waiting) = (job("a"), job("a"));
    add(&database, &begun).await;
    add(&database, &waiting).await;
    let at = now();
    let worker = database.begin().await.unwrap();
    assert_eq!(worker.jobs().claim(&[begun.id], "w", at, at + LEASE).await.unwrap().len(), 1);
    let telling = async {
        let unit = database.begin().await.unwrap();
        unit.jobs().announced(&[begun.id, waiting.id], at).await.unwrap();
        unit.commit().await.unwrap();
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), telling).await.expect("it waits for the worker");
    worker.commit().await.unwrap();
    let due = database.read().await.unwrap().jobs().due(&["a"], at + LEASE * 2, 10).await.unwrap();
    let told = |id| due.iter().find(|due| due.id == id).unwrap().announced_at.is_some();
    assert_eq!((told(begun.id), told(waiting.id)), (false, true));
}

pub(super) async fn a_lease_that_ends_gives_the_job_away(database: Arc<SqlDatabase>) {
    let (one, at) = (job("a"), now());
    add(&database, &one).await;
    claim(&database, one.id, "first", at).await.unwrap();
    assert!(claim(&database, one.id, "second", at + LEASE).await.is_none(), "the lease has not ended");
    let unit = database.begin().await.unwrap();
    assert!(unit.jobs().renew(one.id, "first", at + LEASE * 2, Some(&json!({ "done": 3 }))).await.unwrap());
    unit.commit().await.unwrap();
    let later = at + LEASE * 2 + Duration::seconds(1);
    assert_eq!(get(&database, one.id).await.progress, Some(json!({ "done": 3 })));
    assert!(claim(&database, one.id, "second", at + LEASE + Duration::seconds(1)).await.is_none(), "it was renewed");
    assert_eq!(claim(&database, one.id, "second", later).await.unwrap().attempts, 2);
    // The first is out, whatever it believes.
    assert!(!end(&database, one.id, "first", AttemptEnd::Done).await);
    let unit = database.begin().await.unwrap();
    assert!(!unit.jobs().renew(one.id, "first", later + LEASE, None).await.unwrap());
    drop(unit);
    assert!(end(&database, one.id, "second", AttemptEnd::Done).await);
    assert!(!end(&database, one.id, "second", AttemptEnd::Dead("x".into())).await, "done is done");
}

pub(super) async fn jobs_that_kill_their_workers_end(database: Arc<SqlDatabase>) {
    let one = job("a");
    add(&database, &one).await;
    let mut at = now();
    for attempt in 1..=3 {
        assert_eq!(claim(&database, one.id, "w", at).await.unwrap().attempts, attempt);
        at += LEASE + Duration::seconds(1);
    }
    assert!(claim(&database, one.id, "w", at).await.is_none());
    let dead = get(&database, one.id).await;
    assert_eq!(dead.state, JobState::Dead);
    assert!(dead.error.unwrap().contains("without an answer"));
}

pub(super) async fn jobs_are_cancelled_and_replayed(database: Arc<SqlDatabase>) {
    let one = job("a");
    add(&database, &one).await;
    claim(&database, one.id, "w", now()).await.unwrap();
    let unit = database.begin().await.unwrap();
    assert!(unit.jobs().cancel(one.id, now()).await.unwrap());
    assert!(!unit.jobs().cancel(one.id, now()).await.unwrap());
    assert!(!unit.jobs().renew(one.id, "w", now(), None).await.unwrap());
    assert!(unit.jobs().replay(one.id, now()).await.unwrap());
    unit.commit().await.unwrap();
    let back = get(&database, one.id).await;
    assert_eq!((back.state, back.attempts, back.finished_at), (JobState::Queued, 0, None));
    claim(&database, one.id, "w", now()).await.unwrap();
    end(&database, one.id, "w", AttemptEnd::Done).await;
    let unit = database.begin().await.unwrap();
    assert!(!unit.jobs().replay(one.id, now()).await.unwrap(), "done is done");
    assert_eq!(unit.jobs().forget(now() - Duration::days(1)).await.unwrap(), 0);
    assert_eq!(unit.jobs().forget(now() + Duration::days(1)).await.unwrap(), 1);
}
