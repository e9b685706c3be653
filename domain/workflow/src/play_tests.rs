//! The engine as people play it: one case after another.

use crate::{
    definition::{Definition, shipped},
    engine,
    engine_tests::{Dice, begin},
    model::{Command, Facts, Instance, Refusal, Who},
};
use omt_kernel::{OffsetDateTime, Permission};
use std::collections::BTreeSet;
use time::Duration;

fn who(name: &str, roles: &[&str]) -> Who {
    let permissions = Permission::ALL.iter().copied().filter(|p| p.as_str().starts_with("workflow:")).collect();
    Who { subject: name.into(), roles: roles.iter().map(|r| (*r).to_owned()).collect(), permissions, groups: BTreeSet::new() }
}

fn take(action: &str) -> Command {
    Command::Take { action: action.into(), stage: None, comments: Some("words".into()), attachments: vec![] }
}

/// A workflow by the given definition, driven by people.
struct Play {
    definition: Definition,
    instance: Instance,
    facts: Facts,
    now: OffsetDateTime,
}

impl Play {
    fn new(name: &str) -> Self {
        let definition = shipped().unwrap().into_iter().find(|d| d.name == name).unwrap();
        let now = OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap();
        let mut instance = begin(&definition, &mut Dice(7), now);
        instance.assignees.clear();
        instance.author = "author".into();
        let facts = Facts { fingerprint: "0".into(), ..Facts::default() };
        Self { definition, instance, facts, now }
    }
    fn act(&mut self, who: &Who, command: Command) -> Result<String, Refusal> {
        let events = engine::decide(&self.definition, &self.instance, command, who, &self.facts, self.now)?;
        for event in events {
            engine::apply(&mut self.instance, &event, self.now);
        }
        Ok(self.instance.state.clone())
    }
}

#[test]
fn two_approve_and_nobody_twice() {
    let mut play = Play::new("dual-approval");
    let (author, reviewer) = (who("author", &["creator", "approver"]), who("rev", &["reviewer"]));
    let (one, two) = (who("one", &["approver"]), who("two", &["approver", "manager"]));
    assert_eq!(play.act(&author, take("submit")).unwrap(), "submitted");
    assert!(matches!(play.act(&author, take("publish")), Err(Refusal::WrongState(_, allowed)) if allowed.contains("review")));
    assert!(matches!(play.act(&author, take("dance")), Err(Refusal::UnknownAction(_))));
    play.act(&reviewer, take("review")).unwrap();
    assert_eq!(play.act(&author, take("approve")), Err(Refusal::FourEyes));
    assert!(matches!(play.act(&reviewer, take("approve")), Err(Refusal::NotEligible(_))));
    assert_eq!(play.act(&one, take("approve")).unwrap(), "in_review");
    assert_eq!(play.act(&one, take("approve")), Err(Refusal::AlreadyVoted));
    assert_eq!(play.act(&one, take("reject")), Err(Refusal::AlreadyVoted), "nor does one decide both ways");
    assert_eq!(play.act(&two, take("approve")).unwrap(), "approved");
    let people: Vec<&str> = play.instance.chain.iter().map(|vote| vote.by.as_str()).collect();
    assert_eq!(people, ["rev", "one", "two"]);
    // The content changes: all of it was for nothing.
    let event = engine::content_changed(&play.definition, &play.instance, "1", "author").unwrap();
    engine::apply(&mut play.instance, &event, play.now);
    assert_eq!(play.instance.state, "draft");
    assert!(play.instance.chain.is_empty());
}

#[test]
fn whoever_made_or_changed_it_does_not_approve() {
    let begun = || {
        let mut play = Play::new("default");
        play.act(&who("author", &["creator"]), take("submit")).unwrap();
        play
    };
    let (reviewer, one, two) = (who("rev", &["reviewer"]), who("one", &["approver"]), who("two", &["approver"]));
    // Made with a key of theirs.
    let mut play = begun();
    play.act(&reviewer, take("review")).unwrap();
    play.facts.authors = ["one".to_owned()].into();
    assert_eq!(play.act(&one, take("approve")), Err(Refusal::FourEyes));
    // Changed by them while it is decided on, whatever becomes of it later.
    let mut play = begun();
    play.facts.fingerprint = "1".into();
    let event = engine::content_changed(&play.definition, &play.instance, "1", "one").unwrap();
    engine::apply(&mut play.instance, &event, play.now);
    play.act(&reviewer, take("review")).unwrap();
    assert_eq!(play.act(&one, take("approve")), Err(Refusal::FourEyes));
    // Nor does anybody in their place, or they in another's.
    let lend = |to: &Who, now| Command::Delegate {
        stage: "approve".into(),
        to: Box::new(to.clone()),
        starts: now,
        ends: None,
        comments: None,
    };
    let now = play.now;
    assert!(matches!(play.act(&two, lend(&one, now)), Err(Refusal::Delegation(_))));
    assert_eq!(play.act(&one, lend(&two, now)), Err(Refusal::FourEyes));
    assert_eq!(play.act(&two, take("approve")).unwrap(), "approved");
}

#[test]
fn what_was_asked_for_in_review_stays_asked_for() {
    let mut play = Play::new("default");
    let set = |names: &[&str]| Command::SetPolicies { policies: names.iter().map(|name| (*name).to_owned()).collect() };
    let (author, reviewer) = (who("author", &["creator"]), who("rev", &["reviewer"]));
    play.act(&author, set(&["a", "b"])).unwrap();
    play.act(&author, set(&["a"])).unwrap();
    play.act(&author, take("submit")).unwrap();
    play.act(&reviewer, set(&["a", "c"])).unwrap();
    for fewer in [&["a"][..], &["b", "c"], &[]] {
        assert!(matches!(play.act(&who("one", &["approver"]), set(fewer)), Err(Refusal::WrongState(..))), "{fewer:?}");
    }
    play.act(&reviewer, set(&["a", "b", "c"])).unwrap();
    assert_eq!(play.instance.policies.len(), 3);
}

#[test]
fn a_guard_stands_against_approving() {
    let mut play = Play::new("default");
    play.act(&who("author", &["creator"]), take("submit")).unwrap();
    play.act(&who("rev", &["reviewer"]), take("review")).unwrap();
    play.facts.against = vec!["no consent".into()];
    let approver = who("one", &["approver"]);
    assert_eq!(play.act(&approver, take("approve")), Err(Refusal::Guard(vec!["no consent".into()])));
    assert_eq!(play.instance.votes, []);
    play.facts.against.clear();
    assert_eq!(play.act(&approver, take("approve")).unwrap(), "approved");
}

#[test]
fn delegation_lends_a_place_and_no_vote() {
    let mut play = Play::new("dual-approval");
    play.act(&who("author", &["creator"]), take("submit")).unwrap();
    play.act(&who("rev", &["reviewer"]), take("review")).unwrap();
    let (one, two, deputy) = (who("one", &["approver"]), who("two", &["approver"]), who("deputy", &[]));
    let to = |to: &Who, now| Command::Delegate {
        stage: "approval".into(),
        to: Box::new(to.clone()),
        starts: now,
        ends: Some(now + Duration::hours(1)),
        comments: None,
    };
    let now = play.now;
    assert!(matches!(play.act(&one, to(&one, now)), Err(Refusal::Delegation(_))));
    assert!(matches!(play.act(&one, to(&who("author", &["approver"]), now)), Err(Refusal::Delegation(_))));
    play.act(&one, to(&deputy, now)).unwrap();
    play.facts.delegators.insert("one".into(), one.clone());
    // A circle: the deputy has the place by `one`, and would give it back.
    assert!(matches!(play.act(&deputy, to(&one, now)), Err(Refusal::Delegation(_))));
    play.act(&deputy, take("approve")).unwrap();
    assert_eq!(play.instance.votes.last().unwrap().for_.as_deref(), Some("one"));
    assert_eq!(play.act(&one, take("approve")), Err(Refusal::AlreadyVoted), "the place is used");
    assert_eq!(play.act(&two, take("approve")).unwrap(), "approved");
}

#[test]
fn a_lent_place_ends_with_its_time_and_with_its_owner() {
    let set = || {
        let mut play = Play::new("dual-approval");
        play.act(&who("author", &["creator"]), take("submit")).unwrap();
        play.act(&who("rev", &["reviewer"]), take("review")).unwrap();
        let one = who("one", &["approver"]);
        let ends = Some(play.now + Duration::hours(1));
        let to = Box::new(who("deputy", &[]));
        let lend = Command::Delegate { stage: "approval".into(), to, starts: play.now, ends, comments: None };
        play.act(&one, lend).unwrap();
        play.facts.delegators.insert("one".into(), one);
        play
    };
    let deputy = who("deputy", &[]);
    let mut late = set();
    late.now += Duration::hours(2);
    assert!(matches!(late.act(&deputy, take("approve")), Err(Refusal::NotEligible(_))));
    let mut gone = set();
    gone.facts.delegators.clear();
    assert!(matches!(gone.act(&deputy, take("approve")), Err(Refusal::NotEligible(_))));
    let mut demoted = set();
    demoted.facts.delegators.insert("one".into(), who("one", &["reviewer"]));
    assert!(matches!(demoted.act(&deputy, take("approve")), Err(Refusal::NotEligible(_))));
}

#[test]
fn a_deputy_who_took_a_task_gives_it_back_after_their_time() {
    let set = || {
        let mut play = Play::new("default");
        play.act(&who("author", &["creator"]), take("submit")).unwrap();
        let (one, deputy) = (who("one", &["reviewer"]), who("deputy", &[]));
        let ends = Some(play.now + Duration::hours(1));
        let lend =
            Command::Delegate { stage: "review".into(), to: Box::new(deputy.clone()), starts: play.now, ends, comments: None };
        play.act(&one, lend).unwrap();
        play.facts.delegators.insert("one".into(), one);
        play.act(&deputy, Command::Claim { stage: "review".into() }).unwrap();
        play
    };
    let lapsed = |play: &Play, holder: &Who| {
        engine::lapsed(&play.definition, &play.instance, "review", holder, &play.facts, (play.now, "system"))
    };
    let (deputy, two) = (who("deputy", &[]), who("two", &["reviewer"]));
    let mut play = set();
    assert_eq!(lapsed(&play, &deputy), None, "it is their time");
    play.now += Duration::hours(1);
    assert_eq!(play.act(&two, take("review")), Err(Refusal::Claimed));
    assert_eq!(lapsed(&play, &two), None, "they do not have it");
    // Whoever has a place of their own by now keeps it.
    assert_eq!(lapsed(&play, &who("deputy", &["reviewer"])), None);
    let event = lapsed(&play, &deputy).unwrap();
    engine::apply(&mut play.instance, &event, play.now);
    assert_eq!(lapsed(&play, &deputy), None, "once");
    assert_eq!(play.act(&two, take("review")).unwrap(), "in_review");
    // Another place, lent for longer, is a place.
    let mut longer = set();
    longer.act(&two, Command::Unclaim { stage: "review".into() }).unwrap();
    let lend = Command::Delegate {
        stage: "review".into(),
        to: Box::new(deputy.clone()),
        starts: longer.now,
        ends: None,
        comments: None,
    };
    longer.act(&two, lend).unwrap();
    longer.facts.delegators.insert("two".into(), two.clone());
    longer.act(&deputy, Command::Claim { stage: "review".into() }).unwrap();
    longer.now += Duration::hours(2);
    assert_eq!(lapsed(&longer, &deputy), None);
}

#[test]
fn a_task_that_is_taken_is_taken() {
    let mut play = Play::new("default");
    play.act(&who("author", &["creator"]), take("submit")).unwrap();
    let (one, two) = (who("one", &["reviewer"]), who("two", &["reviewer"]));
    let claim = || Command::Claim { stage: "review".into() };
    play.act(&one, claim()).unwrap();
    assert_eq!(play.act(&two, claim()), Err(Refusal::Claimed));
    assert_eq!(play.act(&two, take("review")), Err(Refusal::Claimed));
    let mut few = two.clone();
    few.permissions.remove(&Permission::WorkflowApprove);
    assert_eq!(play.act(&few, Command::Unclaim { stage: "review".into() }), Err(Refusal::NotClaimed));
    play.act(&one, Command::Unclaim { stage: "review".into() }).unwrap();
    assert_eq!(play.act(&two, take("review")).unwrap(), "in_review");
}
