//! The engine against a simple model, over random definitions and random people who try random things.

use crate::{
    check::tests::role,
    definition::{Definition, Effect, Quorum, Stage, State, StateKind, Transition, shipped},
    engine,
    model::{Command, Delegation, Event, Facts, Instance, Refusal, Vote, Who},
};
use omt_kernel::{ManifestId, OffsetDateTime, Permission, TenantId, WorkflowId, access::RoleRecord};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use time::Duration;
use uuid::Uuid;

/// Numbers that are the same in every run (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

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

/// Roles that allow everything: what people lack is up to the dice.
fn all_roles() -> Vec<RoleRecord> {
    ROLES.map(|name| role(name, &[], Permission::ALL)).into()
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
    // Now and then one that publishes what is not signed, which validation must find.
    if dice.roll(12) > 0 {
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

pub(crate) fn begin(definition: &Definition, dice: &mut Dice, now: OffsetDateTime) -> Instance {
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

/// What the model knows: who agreed to which stage of this visit, which content was approved, and who may decide besides.
#[derive(Default)]
struct Model {
    agreed: BTreeMap<String, BTreeSet<String>>,
    acted: BTreeSet<String>,
    approved: Option<String>,
    escalated: BTreeSet<(String, String)>,
    lent: BTreeMap<(String, String), Delegation>,
    over: bool,
}

impl Model {
    /// Follows an event, and panics where something was reached that must not be.
    fn follow(&mut self, run: &Run<'_>, event: &Event) {
        let Run { definition, instance: before, facts, .. } = run;
        assert!(!self.over, "something happened after the end: {event:?}");
        match event {
            Event::Voted { vote, .. } => {
                assert_eq!(facts.against, Vec::<String>::new(), "agreed to although something stands against it");
                assert_eq!(facts.fingerprint, before.fingerprint, "agreed to what is not there any more");
                let whose = vote.for_.clone().unwrap_or_else(|| vote.by.clone());
                for name in [&vote.by, &whose] {
                    // Of those who act, nobody twice; who acts for another uses up both.
                    assert!(!self.acted.contains(name), "{name} decided twice");
                }
                self.acted.extend([vote.by.clone(), whose.clone()]);
                let transition = definition.transition(&before.state, &vote.action).expect("a transition of this state");
                let stages = transition.all_stages();
                let stage = stages.iter().find(|stage| stage.name == vote.stage).expect("a stage of it");
                // Both as they are now, whatever they were when it began.
                let (who, deputy) = (run.person(&whose), run.person(&vote.by));
                assert!(who.permissions.contains(&transition.permission) && deputy.permissions.contains(&transition.permission));
                if vote.for_.is_some() {
                    assert!(facts.delegators.contains_key(&whose), "in the place of somebody who is gone");
                    assert!(self.places(&stage.name, &vote.by, run.now).contains(&whose), "in a place that was not lent");
                }
                let holds = |role: &str| {
                    who.roles.contains(role)
                        || definition.stand_ins.get(role).is_some_and(|others| !others.is_disjoint(&who.roles))
                };
                let is_assigned = before.assignees.get(&stage.name).is_none_or(|assigned| assigned.contains(&whose));
                let late = self.escalated.iter().any(|(name, role)| *name == stage.name && holds(role));
                assert!(late || (is_assigned && holds(&stage.role)), "{whose} may not decide in {}", stage.name);
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
            Event::Failed { .. } => self.forget(),
            Event::Delegated { delegation, .. } => {
                assert_ne!(delegation.from, delegation.to, "to oneself");
                assert!(delegation.ends.is_none_or(|ends| ends > delegation.starts), "for no time");
                self.lent.insert((delegation.stage.clone(), delegation.from.clone()), delegation.clone());
            }
            Event::Escalated { stage, role } => {
                self.escalated.insert((stage.clone(), role.clone()));
            }
            Event::Ended { by, .. } => {
                let manages = Permission::WORKFLOW.iter().all(|p| run.person(by).permissions.contains(p));
                assert!(*by == before.author || manages, "{by} ended it");
                assert_ne!(definition.kind(&before.state), StateKind::Published, "what is out is out");
                self.over = true;
            }
            _ => {}
        }
    }
    /// Those in whose place somebody may act at this moment, by whatever way.
    fn places(&self, stage: &str, to: &str, now: OffsetDateTime) -> BTreeSet<String> {
        let on = |d: &&Delegation| d.stage == stage && d.starts <= now && d.ends.is_none_or(|ends| now < ends);
        let mut places = BTreeSet::from([to.to_owned()]);
        // As many rounds as there are people: the longest way.
        for _ in 0..PEOPLE {
            let more: Vec<_> = self.lent.values().filter(on).filter(|d| places.contains(&d.to)).map(|d| d.from.clone()).collect();
            places.extend(more);
        }
        places
    }
    fn enter(&mut self) {
        self.forget();
        self.escalated.clear();
        self.lent.clear();
    }
    /// Whoever decided may decide again.
    fn forget(&mut self) {
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
    let near: Vec<String> = here.iter().flat_map(|t| t.all_stages()).map(|s| s.name).collect();
    match dice.roll(24) {
        8.. if !here.is_empty() => {
            Command::Take { action: dice.pick(&here).action.clone(), stage: None, comments: None, attachments: vec![] }
        }
        0 => Command::Claim { stage: dice.pick(&stages).clone() },
        1 => Command::Unclaim { stage: dice.pick(&stages).clone() },
        2 | 5 | 6 => Command::Delegate {
            stage: if dice.roll(4) > 0 && !near.is_empty() { dice.pick(&near).clone() } else { dice.pick(&stages).clone() },
            to: Box::new(dice.pick(people).clone()),
            starts: now + Duration::minutes(dice.roll(3) as i64),
            ends: (dice.roll(2) == 0).then(|| now + Duration::minutes(dice.roll(20) as i64)),
            comments: None,
        },
        3 => Command::Comment { comments: "so it is".into(), attachments: vec![] },
        4 if dice.roll(6) == 0 => Command::Cancel { reason: "enough".into() },
        _ => Command::Take {
            action: dice.pick(&definition.transitions).action.clone(),
            stage: None,
            comments: None,
            attachments: vec![],
        },
    }
}

/// What came of the dice.
#[derive(Debug, Default)]
struct Seen {
    published: u32,
    refused: u32,
    guarded: u32,
    escalated: u32,
    late: u32,
    lent: u32,
    over: u32,
    demoted: u32,
}

/// One sequence: a workflow, its people, and what is so.
struct Run<'a> {
    definition: &'a Definition,
    people: Vec<Who>,
    facts: Facts,
    instance: Instance,
    content: u32,
    now: OffsetDateTime,
}

impl<'a> Run<'a> {
    fn new(definition: &'a Definition, dice: &mut Dice, now: OffsetDateTime) -> Self {
        let people: Vec<Who> = (0..PEOPLE).map(|n| person(dice, n)).collect();
        let delegators = people.iter().map(|who| (who.subject.clone(), who.clone())).collect();
        let facts = Facts { fingerprint: "0".into(), against: vec![], delegators };
        Self { definition, people, facts, instance: begin(definition, dice, now), content: 0, now }
    }
    fn person(&self, subject: &str) -> &Who {
        self.people.iter().find(|who| who.subject == subject).expect("a person")
    }
    /// What happens next, by the dice.
    fn events(&mut self, dice: &mut Dice, seen: &mut Seen) -> Vec<Event> {
        // Between two decisions people get other roles and permissions, or are closed out.
        if dice.roll(12) == 0 {
            let n = dice.roll(PEOPLE);
            let now = person(dice, n);
            if dice.roll(4) == 0 {
                self.facts.delegators.remove(&now.subject);
            } else {
                self.facts.delegators.insert(now.subject.clone(), now.clone());
            }
            self.people[n] = now;
        }
        let guarded = dice.roll(10) == 0;
        self.facts.against = if guarded { vec!["no consent".to_owned()] } else { vec![] };
        if let Some(pending) = self.instance.pending.clone() {
            // Effects end, or cannot be had.
            return match dice.roll(3) {
                0 => vec![Event::Failed { action: pending.action, code: "X".into(), reason: "x".into() }],
                _ => engine::finished(self.definition, &self.instance).into_iter().collect(),
            };
        }
        match dice.roll(30) {
            0 | 1 if !self.instance.ended => {
                self.content += 1;
                self.facts.fingerprint = self.content.to_string();
                let changed = engine::content_changed(self.definition, &self.instance, &self.facts.fingerprint, "user:0");
                changed.into_iter().collect()
            }
            // Nobody decided in time.
            2 => {
                let waiting = engine::waiting(self.definition, &self.instance);
                let Some(late) = waiting.get(dice.roll(waiting.len().max(1))) else { return vec![] };
                seen.escalated += 1;
                vec![Event::Escalated { stage: late.stage.name.clone(), role: dice.role().into() }]
            }
            _ => self.decided(dice, seen),
        }
    }
    fn decided(&self, dice: &mut Dice, seen: &mut Seen) -> Vec<Event> {
        let (definition, instance, facts) = (self.definition, &self.instance, &self.facts);
        let who = dice.pick(&self.people);
        let asked = command(dice, definition, &instance.state, &self.people, self.now);
        let open = engine::available(definition, instance, who, facts, self.now);
        let action = if let Command::Take { action, .. } = &asked { Some(action.clone()) } else { None };
        let answer = engine::decide(definition, instance, asked, who, facts, self.now);
        match (&action, &answer) {
            (Some(action), Err(refusal)) => {
                seen.refused += 1;
                seen.guarded += u32::from(matches!(refusal, Refusal::Guard(_)));
                let after = matches!(refusal, Refusal::ContentChanged | Refusal::Guard(_));
                assert!(!open.contains(action) || after, "{action} was offered: {refusal:?}");
            }
            (Some(action), Ok(events)) => {
                assert!(open.contains(action), "{action} was not offered");
                let Some(Event::Voted { vote, .. }) = events.first() else { panic!("a decision without a vote") };
                seen.lent += u32::from(vote.for_.is_some());
                seen.late += u32::from(instance.escalated.contains_key(&vote.stage));
                // Somebody else has decided here who could not any more.
                let gone = |vote: &Vote| {
                    let who = self.person(vote.for_.as_ref().unwrap_or(&vote.by));
                    !definition.holds(&who.roles, &vote.role)
                };
                seen.demoted += u32::from(instance.votes.iter().any(gone));
            }
            (None, _) => {}
        }
        answer.unwrap_or_default()
    }
}

/// What a history adds up to as it is kept, whatever stood there before it.
fn replay(history: Vec<(Value, OffsetDateTime)>) -> Instance {
    let other = shipped().unwrap().remove(0);
    let mut replayed = Instance { revision: 77, ended: true, ..begin(&other, &mut Dice(7), OffsetDateTime::UNIX_EPOCH) };
    for (event, at) in history {
        engine::apply(&mut replayed, &serde_json::from_value(event).unwrap(), at);
    }
    replayed
}

/// 100,000 sequences: nothing is published but what the model knows to be approved, nobody counts twice, refusals change nothing,
/// and history replays to the same state. On the way people get and lose roles, guards fail, tasks are escalated, and workflows are
/// cancelled.
#[test]
fn nothing_is_published_around_its_approvers() {
    let mut dice = Dice(20_261_121);
    let start = OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap();
    let (mut sequences, mut invalid, mut seen, roles) = (0, 0, Seen::default(), all_roles());
    while sequences < 100_000 {
        let definition = definition(&mut dice);
        if definition.validate(&roles).is_err() {
            invalid += 1;
            continue;
        }
        assert!(definition.transition("draft", "shortcut").is_none_or(|t| t.to == "draft"));
        let mut publishing = definition.transitions.iter().filter(|t| definition.kind(&t.to) == StateKind::Published);
        assert!(publishing.all(|t| t.effects.contains(&Effect::Sign)), "what is published is signed");
        // A definition serves several people and sequences.
        for _ in 0..10 {
            sequences += 1;
            let mut run = Run::new(&definition, &mut dice, start);
            let began = Event::Started { instance: Box::new(run.instance.clone()) };
            engine::apply(&mut run.instance, &began, start);
            let (mut history, mut model) = (vec![(began, start)], Model::default());
            for _ in 0..12 + dice.roll(24) {
                run.now += Duration::minutes(1);
                for event in run.events(&mut dice, &mut seen) {
                    model.follow(&run, &event);
                    engine::apply(&mut run.instance, &event, run.now);
                    history.push((event, run.now));
                }
                if definition.kind(&run.instance.state) == StateKind::Published {
                    seen.published += 1;
                    break;
                }
            }
            seen.over += u32::from(run.instance.ended);
            // Some, as they are kept: reading is what takes long.
            if sequences % 100 == 0 {
                let kept: Vec<_> = history.iter().map(|(event, at)| (serde_json::to_value(event).unwrap(), *at)).collect();
                assert_eq!(replay(kept), run.instance, "history does not replay to the same state");
            }
        }
    }
    let tried =
        invalid > 100 && seen.published > 5_000 && seen.refused > 100_000 && seen.guarded > 5_000 && seen.escalated > 5_000;
    let tried = tried && seen.late > 1_000 && seen.lent > 1_000 && seen.over > 5_000 && seen.demoted > 300;
    assert!(tried, "{invalid} {seen:?}: the dice tried too little");
}
