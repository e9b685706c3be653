//! The engine against a simple model, over random definitions and random people who try random things.

use crate::{
    definition::{Definition, Effect, Quorum, Stage, State, StateKind, Transition, shipped},
    engine,
    model::{Command, Event, Facts, Instance, Refusal, Who},
};
use omt_kernel::{ManifestId, OffsetDateTime, Permission, TenantId, WorkflowId};
use std::collections::{BTreeMap, BTreeSet};
use time::Duration;
use uuid::Uuid;

/// Numbers that are the same in every run (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }
    fn role(&mut self) -> &'static str {
        ROLES[self.roll(ROLES.len())]
    }
}

const ROLES: [&str; 4] = ["creator", "reviewer", "approver", "manager"];
const PEOPLE: usize = 7;

fn all_roles() -> BTreeSet<String> {
    ROLES.map(String::from).into()
}

fn stage(name: String, role: &str, quorum: Quorum, after: BTreeSet<String>) -> Stage {
    Stage { name, task: None, role: role.into(), groups: BTreeSet::new(), quorum, after, due: None }
}

fn way(from: &str, action: &str, to: &str, role: &str, permission: Permission) -> Transition {
    Transition {
        from: from.into(),
        action: action.into(),
        to: to.into(),
        role: Some(role.into()),
        permission,
        task: None,
        due: None,
        stages: vec![],
        comments_required: false,
        guards: vec![],
        effects: vec![],
    }
}

/// A definition that may work: some reviews, an approval of some stages, publication, and ways back.
fn definition(dice: &mut Dice) -> Definition {
    let mut states = BTreeMap::new();
    let mut add = |name: &str, kind| {
        states.insert(name.to_owned(), State { title: name.to_owned(), kind });
    };
    add("draft", StateKind::Open);
    let reviews = dice.roll(3);
    for n in 0..=reviews {
        add(&format!("review{n}"), StateKind::Review);
    }
    add("approved", StateKind::Approved);
    add("published", StateKind::Published);
    add("rejected", StateKind::Open);
    let mut transitions = vec![way("draft", "submit", "review0", dice.role(), Permission::WorkflowInitiate)];
    for n in 0..reviews {
        let (from, to) = (format!("review{n}"), format!("review{}", n + 1));
        transitions.push(way(&from, "review", &to, dice.role(), Permission::WorkflowReview));
    }
    let last = format!("review{reviews}");
    let mut approve = way(&last, "approve", "approved", "approver", Permission::WorkflowApprove);
    if dice.roll(3) > 0 {
        approve.role = None;
        for n in 0..=dice.roll(3) {
            let quorum = match dice.roll(4) {
                0 => Quorum::Percent(1 + dice.roll(100) as u32),
                1 => Quorum::Majority,
                _ => Quorum::Count(1 + dice.roll(3) as u32),
            };
            let after = if n > 0 && dice.roll(2) == 0 { [format!("stage{}", dice.roll(n))].into() } else { BTreeSet::new() };
            approve.stages.push(stage(format!("stage{n}"), dice.role(), quorum, after));
        }
    }
    transitions.push(approve);
    transitions.push(way(&last, "reject", "rejected", dice.role(), Permission::WorkflowReject));
    let mut publish = way("approved", "publish", "published", dice.role(), Permission::ManifestSign);
    if dice.roll(2) == 0 {
        publish.effects.push(Effect::Sign);
    }
    transitions.push(publish);
    transitions.push(way("rejected", "recall", "draft", dice.role(), Permission::WorkflowInitiate));
    if dice.roll(2) == 0 {
        transitions.push(way("approved", "reopen", "review0", dice.role(), Permission::WorkflowReview));
    }
    // Now and then one that cannot work, which validation must find.
    if dice.roll(6) == 0 {
        let from = ["draft", "review0", "rejected"][dice.roll(3)];
        let to = ["published", "approved", "draft", "nowhere"][dice.roll(4)];
        transitions.push(way(from, "shortcut", to, dice.role(), Permission::WorkflowReview));
    }
    let stand_ins = if dice.roll(2) == 0 { [("approver".into(), ["manager".into()].into())].into() } else { BTreeMap::new() };
    Definition {
        name: "random".into(),
        title: "Random".into(),
        description: String::new(),
        initial: "draft".into(),
        four_eyes: dice.roll(4) > 0,
        stand_ins,
        calendar: None,
        states,
        transitions,
    }
}

fn person(dice: &mut Dice, n: usize) -> Who {
    let roles: BTreeSet<String> = ROLES.iter().filter(|_| dice.roll(2) == 0).map(|r| (*r).to_owned()).collect();
    let every = [
        Permission::WorkflowInitiate,
        Permission::WorkflowReview,
        Permission::WorkflowApprove,
        Permission::WorkflowReject,
        Permission::ManifestSign,
    ];
    let permissions = every.into_iter().filter(|_| dice.roll(5) > 0).collect();
    Who { subject: format!("user:{n}"), roles, permissions, groups: BTreeSet::new() }
}

fn begin(definition: &Definition, dice: &mut Dice, now: OffsetDateTime) -> Instance {
    let mut assignees: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for stage in definition.transitions.iter().flat_map(Transition::all_stages) {
        if stage.quorum.is_of_assigned() || dice.roll(8) == 0 {
            let some: BTreeSet<String> = (0..PEOPLE).filter(|_| dice.roll(3) > 0).map(|n| format!("user:{n}")).collect();
            if !some.is_empty() {
                assignees.insert(stage.name, some);
            }
        }
    }
    Instance {
        id: WorkflowId(Uuid::from_u128(1)),
        tenant: TenantId::default_tenant(),
        manifest: ManifestId(Uuid::from_u128(2)),
        definition: definition.name.clone(),
        version: 1,
        state: definition.initial.clone(),
        revision: 0,
        visit: 0,
        author: "user:0".into(),
        created_by: "user:0".into(),
        fingerprint: "0".into(),
        votes: vec![],
        chain: vec![],
        assignees,
        claims: BTreeMap::new(),
        delegations: vec![],
        escalated: BTreeMap::new(),
        policies: BTreeSet::new(),
        pending: None,
        ended: false,
        created_at: now,
        updated_at: now,
    }
}

/// What the model knows: who agreed to which stage of this visit, and which content was approved.
#[derive(Default)]
struct Model {
    agreed: BTreeMap<String, BTreeSet<String>>,
    acted: BTreeSet<String>,
    approved: Option<String>,
}

impl Model {
    /// Follows an event, and panics where something was reached that must not be.
    fn follow(&mut self, definition: &Definition, before: &Instance, people: &[Who], event: &Event) {
        match event {
            Event::Voted { vote, .. } => {
                let whose = vote.for_.clone().unwrap_or_else(|| vote.by.clone());
                for name in [&vote.by, &whose] {
                    // Of those who act, nobody twice; who acts for another uses up both.
                    assert!(!self.acted.contains(name), "{name} decided twice");
                }
                self.acted.extend([vote.by.clone(), whose.clone()]);
                let transition = definition.transition(&before.state, &vote.action).expect("a transition of this state");
                let stages = transition.all_stages();
                let stage = stages.iter().find(|stage| stage.name == vote.stage).expect("a stage of it");
                let who = people.iter().find(|who| who.subject == whose).expect("a person");
                assert!(who.permissions.contains(&transition.permission));
                assert!(
                    who.roles.contains(&stage.role) || before.escalated.contains_key(&stage.name) || {
                        definition.stand_ins.get(&stage.role).is_some_and(|others| !others.is_disjoint(&who.roles))
                    }
                );
                if let Some(assigned) = before.assignees.get(&stage.name) {
                    assert!(assigned.contains(&whose));
                }
                for earlier in &stage.after {
                    let needed = stages.iter().find(|s| s.name == *earlier).map(|s| self.needed(definition, before, s));
                    assert!(self.count(earlier) >= needed.expect("a stage"), "a stage was opened before its time");
                }
                if definition.four_eyes && definition.kind(&transition.to) == StateKind::Approved {
                    assert!(vote.by != before.author && whose != before.author, "the author approved");
                }
                self.agreed.entry(stage.name.clone()).or_default().insert(whose);
            }
            Event::Moved { action, from, to, .. } => {
                let transition = definition.transition(from, action).expect("a transition");
                assert_eq!((from, to), (&before.state, &transition.to));
                for stage in transition.all_stages() {
                    assert!(self.count(&stage.name) >= self.needed(definition, before, &stage), "{} moved too early", stage.name);
                }
                match definition.kind(to) {
                    StateKind::Approved => self.approved = Some(before.fingerprint.clone()),
                    StateKind::Published => {
                        assert_eq!(
                            self.approved.as_ref(),
                            Some(&before.fingerprint),
                            "published without an approval of this content"
                        );
                    }
                    _ => self.approved = None,
                }
                self.enter();
            }
            Event::Changed { fingerprint, to, .. } => {
                if self.approved.as_ref().is_some_and(|approved| approved != fingerprint) {
                    self.approved = None;
                    assert_ne!(definition.kind(to), StateKind::Approved);
                }
                if *to != before.state {
                    self.enter();
                }
            }
            Event::Failed { .. } => self.enter(),
            _ => {}
        }
    }
    fn enter(&mut self) {
        self.agreed.clear();
        self.acted.clear();
    }
    fn count(&self, stage: &str) -> usize {
        self.agreed.get(stage).map_or(0, BTreeSet::len)
    }
    fn needed(&self, definition: &Definition, instance: &Instance, stage: &Stage) -> usize {
        let own = instance.assignees.get(&stage.name).map_or(0, BTreeSet::len);
        let all = || -> usize {
            let names: BTreeSet<String> =
                definition.leaving(&instance.state).flat_map(Transition::all_stages).map(|s| s.name).collect();
            let people = instance.assignees.iter().filter(|(name, _)| names.contains(*name)).flat_map(|(_, who)| who);
            people.collect::<BTreeSet<_>>().len()
        };
        let of = if own == 0 { all() } else { own };
        match stage.quorum {
            Quorum::Count(n) => n as usize,
            Quorum::Percent(p) => ((of as f64) * f64::from(p) / 100.0).ceil().max(1.0) as usize,
            Quorum::Majority => of / 2 + 1,
        }
    }
}

fn command(dice: &mut Dice, definition: &Definition, state: &str, people: &[Who], now: OffsetDateTime) -> Command {
    let stages: Vec<String> = definition.transitions.iter().flat_map(Transition::all_stages).map(|s| s.name).collect();
    // Mostly what this state has; anything at all often enough.
    let here: Vec<&Transition> = definition.leaving(state).collect();
    match dice.roll(24) {
        8.. if !here.is_empty() => {
            Command::Take { action: dice.pick(&here).action.clone(), stage: None, comments: None, attachments: vec![] }
        }
        0 => Command::Claim { stage: dice.pick(&stages).clone() },
        1 => Command::Unclaim { stage: dice.pick(&stages).clone() },
        2 => Command::Delegate {
            stage: dice.pick(&stages).clone(),
            to: Box::new(dice.pick(people).clone()),
            starts: now + Duration::minutes(dice.roll(3) as i64),
            ends: (dice.roll(2) == 0).then(|| now + Duration::minutes(dice.roll(20) as i64)),
            comments: None,
        },
        3 => Command::Comment { comments: "so it is".into(), attachments: vec![] },
        _ => Command::Take {
            action: dice.pick(&definition.transitions).action.clone(),
            stage: None,
            comments: None,
            attachments: vec![],
        },
    }
}

/// 100,000 sequences: nothing is published but what the model knows to be approved, nobody counts twice, refusals change nothing,
/// and history replays to the same state.
#[test]
fn nothing_is_published_around_its_approvers() {
    let mut dice = Dice(20_261_121);
    let start = OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap();
    let (mut sequences, mut invalid, mut published, mut refused) = (0, 0, 0, 0);
    while sequences < 100_000 {
        let definition = definition(&mut dice);
        if definition.validate(&all_roles()).is_err() {
            invalid += 1;
            continue;
        }
        assert!(definition.transition("draft", "shortcut").is_none_or(|t| t.to == "draft"));
        // A definition serves several people and sequences.
        for _ in 0..10 {
            sequences += 1;
            let people: Vec<Who> = (0..PEOPLE).map(|n| person(&mut dice, n)).collect();
            let mut now = start;
            let mut instance = begin(&definition, &mut dice, now);
            let first = instance.clone();
            let mut content = 0;
            let mut history = Vec::new();
            let mut model = Model::default();
            for _ in 0..10 + dice.roll(20) {
                now += Duration::minutes(1);
                let facts = Facts {
                    fingerprint: content.to_string(),
                    against: vec![],
                    delegators: people.iter().map(|who| (who.subject.clone(), who.clone())).collect(),
                };
                let events = if let Some(pending) = instance.pending.clone() {
                    // Effects end, or cannot be had.
                    match dice.roll(3) {
                        0 => vec![Event::Failed { action: pending.action, code: "X".into(), reason: "x".into() }],
                        _ => engine::finished(&definition, &instance).into_iter().collect(),
                    }
                } else if dice.roll(15) == 0 {
                    content += 1;
                    engine::content_changed(&definition, &instance, &content.to_string(), "user:0").into_iter().collect()
                } else {
                    let who = dice.pick(&people).clone();
                    let asked = command(&mut dice, &definition, &instance.state, &people, now);
                    let open = engine::available(&definition, &instance, &who, &facts, now);
                    let answer = engine::decide(&definition, &instance, asked.clone(), &who, &facts, now);
                    if let (Command::Take { action, .. }, Err(refusal)) = (&asked, &answer) {
                        refused += 1;
                        assert!(
                            !open.contains(action) || *refusal == Refusal::ContentChanged,
                            "{action} was offered: {refusal:?}"
                        );
                    }
                    answer.unwrap_or_default()
                };
                for event in events {
                    model.follow(&definition, &instance, &people, &event);
                    engine::apply(&mut instance, &event, now);
                    history.push((event, now));
                }
                if definition.kind(&instance.state) == StateKind::Published {
                    published += 1;
                    break;
                }
            }
            let mut replayed = first;
            for (event, at) in &history {
                engine::apply(&mut replayed, event, *at);
            }
            assert_eq!(replayed, instance, "history does not replay to the same state");
        }
    }
    assert!(
        invalid > 100 && published > 5_000 && refused > 100_000,
        "{invalid} {published} {refused}: the dice tried too little"
    );
}

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
        let facts = Facts { fingerprint: "0".into(), against: vec![], delegators: BTreeMap::new() };
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
