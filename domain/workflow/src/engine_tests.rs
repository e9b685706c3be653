//! The engine against a simple model, over random definitions and random people who try random things.

mod model;

use crate::{
    check::tests::role,
    definition::{Definition, Effect, Quorum, Stage, State, StateKind, Transition, shipped},
    engine,
    model::{Command, Event, Facts, Instance, Refusal, Vote, Who},
};
use model::Model;
use omt_kernel::{ManifestId, OffsetDateTime, Permission, TenantId, WorkflowId, access::RoleRecord};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};
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
/// Groups as definitions write them; people have them in lower case.
const GROUPS: [&str; 3] = ["Counsel", "desk", "Board"];

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
            let mut stage = stage(format!("stage{n}"), dice.role(), quorum, after);
            if dice.roll(3) == 0 {
                stage.groups = (0..=dice.roll(2)).map(|_| (*dice.pick(&GROUPS)).to_owned()).collect();
            }
            approve.stages.push(stage);
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
    let groups = GROUPS.iter().filter(|_| dice.roll(2) == 0).map(|group| group.to_lowercase()).collect();
    Who { subject: format!("user:{n}"), roles, permissions, groups }
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
        editors: BTreeSet::new(),
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
    grouped: u32,
    migrated: u32,
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
        let facts = Facts { fingerprint: "0".into(), delegators, ..Facts::default() };
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
        // The author worked with a key of somebody's, or with none.
        if dice.roll(40) == 0 {
            self.facts.authors = [format!("user:{}", dice.roll(PEOPLE))].into();
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
                let by = format!("user:{}", if dice.roll(3) > 0 { 0 } else { dice.roll(PEOPLE) });
                let changed = engine::content_changed(self.definition, &self.instance, &self.facts.fingerprint, &by);
                changed.into_iter().collect()
            }
            // Nobody decided in time.
            2 => {
                let waiting = engine::waiting(self.definition, &self.instance);
                let Some(late) = waiting.get(dice.roll(waiting.len().max(1))) else { return vec![] };
                seen.escalated += 1;
                vec![Event::Escalated { stage: late.stage.name.clone(), role: dice.role().into() }]
            }
            // Its definition has another version, and in that perhaps another state for this one.
            3 if !self.instance.ended && dice.roll(3) == 0 => {
                let kinds = self.definition.states.iter();
                let low: Vec<&String> =
                    kinds.filter(|(_, s)| matches!(s.kind, StateKind::Open | StateKind::Review)).map(|(name, _)| name).collect();
                let to = if dice.roll(2) == 0 { self.instance.state.clone() } else { (*dice.pick(&low)).clone() };
                seen.migrated += 1;
                vec![Event::Migrated { version: self.instance.version + 1, to, by: "user:6".into() }]
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
                let stages = definition.leaving(&instance.state).flat_map(Transition::all_stages);
                seen.grouped += u32::from(stages.into_iter().any(|s| s.name == vote.stage && !s.groups.is_empty()));
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

/// What a history adds up to, whatever stood there before it.
fn replay(history: &[(Event, OffsetDateTime)]) -> Instance {
    static OTHER: LazyLock<Definition> = LazyLock::new(|| shipped().unwrap().remove(0));
    let mut replayed = Instance { revision: 77, ended: true, ..begin(&OTHER, &mut Dice(7), OffsetDateTime::UNIX_EPOCH) };
    for (event, at) in history {
        engine::apply(&mut replayed, event, *at);
    }
    replayed
}

/// 100,000 sequences: nothing is published but what the model knows to be approved, nobody counts twice, refusals change nothing,
/// and history replays to the same state. On the way people get and lose roles and groups, guards fail, tasks are escalated, and workflows
/// are cancelled and migrated.
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
            assert_eq!(replay(&history), run.instance, "history does not replay to the same state");
            // Some, as they are kept: reading is what takes long.
            if sequences % 100 == 0 {
                let kept = |event: &Event| serde_json::from_value(serde_json::to_value(event).unwrap()).unwrap();
                let read: Vec<(Event, _)> = history.iter().map(|(event, at)| (kept(event), *at)).collect();
                assert_eq!(replay(&read), run.instance, "history does not replay to the same state as it is kept");
            }
        }
    }
    let tried =
        invalid > 100 && seen.published > 5_000 && seen.refused > 100_000 && seen.guarded > 5_000 && seen.escalated > 5_000;
    let tried = tried && seen.late > 1_000 && seen.lent > 1_000 && seen.over > 5_000 && seen.demoted > 300;
    let tried = tried && seen.grouped > 5_000 && seen.migrated > 5_000;
    assert!(tried, "{invalid} {seen:?}: the dice tried too little");
}
