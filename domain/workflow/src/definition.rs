//! A workflow's definition: states, transitions, and who must agree to each. It is data, checked before it is used.

use crate::calendar::Calendar;
use omt_kernel::{Error, FieldError, Kind, Permission, Result, manifest::Classification};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The most states, transitions or stages of a definition.
const MAX_PARTS: usize = 100;
/// The most effects of a transition.
const MAX_EFFECTS: usize = 10;
/// The most people or groups that one stage names.
const MAX_NAMES: usize = 200;

/// What a state means for the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// Its author works on it: a change disturbs nobody.
    Open,
    /// Others look at it: a change sends it back to the beginning once one of them has decided something.
    Review,
    /// It may be signed. A change sends it back to the beginning.
    Approved,
    /// It is out.
    Published,
    /// It is put away.
    Closed,
}

/// A state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Words for people.
    pub title: String,
    /// What it means.
    pub kind: StateKind,
}

/// How many must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Quorum {
    /// So many people.
    Count(u32),
    /// So many of a hundred of those assigned, rounded up.
    Percent(u32),
    /// More than half of those assigned.
    Majority,
}

impl Default for Quorum {
    fn default() -> Self {
        Self::Count(1)
    }
}

impl Quorum {
    /// How many people that is, of so many assigned.
    pub fn needed(self, assigned: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Percent(percent) => (assigned * percent as usize).div_ceil(100).max(1),
            Self::Majority => assigned / 2 + 1,
        }
    }
    /// Whether it is a part of those assigned.
    pub fn is_of_assigned(self) -> bool {
        !matches!(self, Self::Count(_))
    }
}

/// When a task is due, in hours of the definition's calendar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Due {
    /// After so many hours.
    pub hours: u32,
    /// A reminder so many hours before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remind_before_hours: Option<u32>,
    /// From then on this role may decide too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_to: Option<String>,
}

/// A part of an agreement: people of one role, or of some groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name, unique in the state that it leaves.
    pub name: String,
    /// The words of its task; without them there is none in anybody's inbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Who decides: holders of this role or of one that stands in for it.
    pub role: String,
    /// Only members of one of these groups, when there are any.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// How many of them.
    #[serde(default)]
    pub quorum: Quorum,
    /// Opens when these stages are complete. Stages that wait for nothing run side by side.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub after: BTreeSet<String>,
    /// When it is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Due>,
}

/// What must hold before a transition is taken, or agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// Every compliance policy that the workflow must pass is passed, or passed with warnings.
    CompliancePassed,
    /// Every organisational policy in force for the content is passed.
    PolicyPassed,
    /// The content is classified so or lower.
    ClassificationAtMost(Classification),
}

/// What a transition does besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The manifest is signed, with the approval chain in it, before the new state is reached.
    Sign,
    /// The manifest is archived before the new state is reached.
    Archive,
    /// These are told that the new state was reached: `role:…`, `group:…`, `user:…`.
    Notify(BTreeSet<String>),
    /// Webhooks are told `workflow.effect` with this name.
    Webhook(String),
}

impl Effect {
    /// Whether the new state waits for it. The others are written when it is reached.
    pub fn comes_before(&self) -> bool {
        matches!(self, Self::Sign | Self::Archive)
    }
}

/// A way from one state to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    /// From.
    pub from: String,
    /// What it is called.
    pub action: String,
    /// To.
    pub to: String,
    /// Who takes it, when one person does. Otherwise `stages` say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What they must be allowed besides.
    pub permission: Permission,
    /// The words of its task, with `role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// When it is due, with `role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Due>,
    /// Who must agree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// Whether it needs words.
    #[serde(default)]
    pub comments_required: bool,
    /// What must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<Guard>,
    /// What it does besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
}

impl Transition {
    /// Its stages; a transition that one person takes has one, named like its action.
    pub fn all_stages(&self) -> Vec<Stage> {
        match &self.role {
            None => self.stages.clone(),
            Some(role) => vec![Stage {
                name: self.action.clone(),
                task: self.task.clone(),
                role: role.clone(),
                groups: BTreeSet::new(),
                quorum: Quorum::default(),
                after: BTreeSet::new(),
                due: self.due.clone(),
            }],
        }
    }
}

/// A definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Its name: lower-case letters, digits and inner hyphens.
    pub name: String,
    /// Words for people.
    pub title: String,
    /// More of them.
    #[serde(default)]
    pub description: String,
    /// Where workflows begin.
    pub initial: String,
    /// Whether the author of the content is kept from approving it.
    #[serde(default = "yes")]
    pub four_eyes: bool,
    /// Roles that may act where another is named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stand_ins: BTreeMap<String, BTreeSet<String>>,
    /// Hours in which people work; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar: Option<Calendar>,
    /// States by name.
    pub states: BTreeMap<String, State>,
    /// Transitions.
    pub transitions: Vec<Transition>,
}

fn yes() -> bool {
    true
}

fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 64 && bytes.iter().all(|b| inner(*b)) && edge(bytes.first()) && edge(bytes.last())
}

/// Faults found in a definition.
#[derive(Default)]
struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), reason: reason.into() });
    }
    fn unless(&mut self, holds: bool, field: &str, reason: &str) {
        if !holds {
            self.add(field, reason);
        }
    }
}

impl Definition {
    /// A transition by what it is called, from a state.
    pub fn transition(&self, from: &str, action: &str) -> Option<&Transition> {
        self.transitions.iter().find(|t| t.from == from && t.action == action)
    }

    /// Transitions from a state.
    pub fn leaving<'a>(&'a self, from: &'a str) -> impl Iterator<Item = &'a Transition> {
        self.transitions.iter().filter(move |t| t.from == from)
    }

    /// What a state means; a state that the definition does not know is closed.
    pub fn kind(&self, state: &str) -> StateKind {
        self.states.get(state).map_or(StateKind::Closed, |state| state.kind)
    }

    /// Whether somebody with these roles may act where `role` is named.
    pub fn holds(&self, roles: &BTreeSet<String>, role: &str) -> bool {
        roles.contains(role) || self.stand_ins.get(role).is_some_and(|others| !others.is_disjoint(roles))
    }

    /// A stage of whose people a part must agree, in a state where nobody is assigned.
    pub fn unassigned(&self, assignees: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
        self.states.keys().find_map(|state| {
            let stages: Vec<Stage> = self.leaving(state).flat_map(Transition::all_stages).collect();
            let anybody = stages.iter().any(|stage| assignees.get(&stage.name).is_some_and(|some| !some.is_empty()));
            let part = stages.into_iter().find(|stage| stage.quorum.is_of_assigned());
            part.filter(|_| !anybody).map(|stage| stage.name)
        })
    }

    /// Whether a transition is an approval: the author is kept from it.
    pub fn is_approval(&self, transition: &Transition) -> bool {
        self.kind(&transition.to) == StateKind::Approved
    }

    /// Refuses a definition that could not work, with every fault at once: 422 `INVALID_DEFINITION`.
    pub fn validate(&self, roles: &BTreeSet<String>) -> Result<()> {
        let mut faults = Faults::default();
        faults.unless(is_name(&self.name), "name", "must be lower-case letters, digits and inner hyphens, 64 at most");
        faults.unless(!self.title.trim().is_empty() && self.title.len() <= 200, "title", "must have 1 to 200 characters");
        faults.unless(self.description.len() <= 2_000, "description", "must have at most 2000 characters");
        faults.unless(self.states.len() <= MAX_PARTS, "states", "at most 100 are allowed");
        faults.unless(self.transitions.len() <= MAX_PARTS, "transitions", "at most 100 are allowed");
        if faults.0.is_empty() {
            self.check_states(&mut faults);
            self.check_roles(roles, &mut faults);
            for (at, transition) in self.transitions.iter().enumerate() {
                self.check_transition(transition, &format!("transitions[{at}]"), &mut faults);
            }
            if let Some(calendar) = &self.calendar {
                calendar.validate().unwrap_or_else(|reason| faults.add("calendar", reason));
            }
        }
        if faults.0.is_empty() {
            return Ok(());
        }
        let mut error = Error::new(Kind::Unprocessable, "INVALID_DEFINITION", "the workflow definition cannot work");
        error.fields = faults.0;
        Err(error)
    }

    fn check_states(&self, faults: &mut Faults) {
        for (name, state) in &self.states {
            let field = format!("states.{name}");
            faults.unless(is_name(name), &field, "must be lower-case letters, digits, inner hyphens and underscores");
            faults.unless(!state.title.trim().is_empty() && state.title.len() <= 200, &field, "needs a title");
        }
        let Some(initial) = self.states.get(&self.initial) else {
            return faults.add("initial", "is not a state");
        };
        faults.unless(initial.kind == StateKind::Open, "initial", "must be a state of the kind open");
        let reached = self.reach(&self.initial, |t| (&t.from, &t.to));
        let is_end = |kind| matches!(kind, StateKind::Published | StateKind::Closed);
        for (name, state) in &self.states {
            let field = format!("states.{name}");
            faults.unless(reached.contains(name.as_str()), &field, "cannot be reached");
            if self.leaving(name).next().is_none() {
                faults.unless(is_end(state.kind), &field, "is a dead end: only published and closed states may have no way out");
            } else {
                let onward = self.reach(name, |t| (&t.from, &t.to));
                let ends = onward.iter().any(|state| is_end(self.kind(state)));
                faults.unless(ends, &field, "no published or closed state can be reached from it");
            }
        }
    }

    fn reach<'a>(&'a self, from: &'a str, way: impl Fn(&'a Transition) -> (&'a String, &'a String)) -> BTreeSet<&'a str> {
        let (mut seen, mut queue) = (BTreeSet::from([from]), VecDeque::from([from]));
        while let Some(state) = queue.pop_front() {
            for (from, to) in self.transitions.iter().map(&way) {
                if from == state && seen.insert(to) {
                    queue.push_back(to);
                }
            }
        }
        seen
    }

    fn check_roles(&self, known: &BTreeSet<String>, faults: &mut Faults) {
        let named = self.stand_ins.iter().flat_map(|(role, others)| std::iter::once(role).chain(others));
        let staged = self.transitions.iter().flat_map(Transition::all_stages);
        let staged: Vec<Stage> = staged.collect();
        let escalated = staged.iter().filter_map(|stage| stage.due.as_ref()?.escalate_to.as_ref());
        let all = named.chain(staged.iter().map(|stage| &stage.role)).chain(escalated).map(String::as_str);
        let notified = self.transitions.iter().flat_map(|t| &t.effects).filter_map(|effect| match effect {
            Effect::Notify(to) => Some(to),
            _ => None,
        });
        let notified = notified.flatten().filter_map(|name| name.strip_prefix("role:"));
        let all: BTreeSet<&str> = all.chain(notified).collect();
        for role in all.into_iter().filter(|role| !known.contains(*role)) {
            faults.add("roles", format!("there is no role {role:?}"));
        }
    }

    fn check_transition(&self, transition: &Transition, field: &str, faults: &mut Faults) {
        let at = |part: &str| format!("{field}.{part}");
        faults.unless(is_name(&transition.action), &at("action"), "must be lower-case letters, digits and inner hyphens");
        let known = [("from", &transition.from), ("to", &transition.to)];
        for (part, state) in known {
            faults.unless(self.states.contains_key(state), &at(part), "is not a state");
        }
        let same = self.transitions.iter().filter(|t| t.from == transition.from && t.action == transition.action).count();
        faults.unless(same == 1, &at("action"), "another transition from this state has the same action");
        let one = transition.role.is_some() == transition.stages.is_empty();
        faults.unless(one, &at("role"), "a transition has either a role or stages");
        let bare = transition.role.is_some() || (transition.task.is_none() && transition.due.is_none());
        faults.unless(bare, &at("task"), "stages have tasks and due dates of their own");
        let (from, to) = (self.kind(&transition.from), self.kind(&transition.to));
        let published = to != StateKind::Published || matches!(from, StateKind::Approved | StateKind::Published);
        faults.unless(published, &at("to"), "a published state is reached from an approved one only");
        let approved = to != StateKind::Approved || matches!(from, StateKind::Review | StateKind::Approved);
        faults.unless(approved, &at("from"), "an approved state is reached from one of the kind review");
        let approved = to != StateKind::Approved || from != StateKind::Approved || transition.from == transition.to;
        let decided = to != StateKind::Approved || transition.permission == Permission::WorkflowApprove;
        faults.unless(decided && approved, &at("permission"), "an approved state is reached by workflow:approve only");
        let late = from != StateKind::Closed || !matches!(to, StateKind::Approved | StateKind::Published);
        faults.unless(late, &at("from"), "what is closed is not approved or published again");
        let signs = transition.effects.contains(&Effect::Sign);
        faults.unless(!signs || to == StateKind::Published, &at("effects"), "only a published state is reached by signing");
        let archives = transition.effects.contains(&Effect::Archive);
        faults.unless(!archives || to == StateKind::Closed, &at("effects"), "only a closed state is reached by archiving");
        let before = transition.effects.iter().filter(|effect| effect.comes_before()).count();
        faults.unless(before <= 1, &at("effects"), "at most one of sign and archive is allowed");
        faults.unless(transition.effects.len() <= MAX_EFFECTS, &at("effects"), "at most 10 are allowed");
        for effect in &transition.effects {
            check_effect(effect, &at("effects"), faults);
        }
        let mut names = BTreeSet::new();
        for other in self.leaving(&transition.from) {
            for stage in other.all_stages() {
                faults.unless(names.insert(stage.name), &at("stages"), "another stage of this state has the same name");
            }
        }
        faults.unless(transition.stages.len() <= MAX_PARTS, &at("stages"), "at most 100 are allowed");
        for stage in transition.all_stages() {
            check_stage(&stage, &transition.stages, &at(&format!("stages.{}", stage.name)), faults);
        }
        faults.unless(is_order(&transition.stages), &at("stages"), "wait for each other in a circle");
    }
}

/// Effects that are told of name somebody, or something.
fn check_effect(effect: &Effect, field: &str, faults: &mut Faults) {
    match effect {
        Effect::Sign | Effect::Archive => {}
        Effect::Notify(to) => {
            faults.unless(!to.is_empty() && to.len() <= MAX_NAMES, field, "notify names 1 to 200");
            let is_one = |name: &String| {
                ["role:", "group:", "user:"].iter().any(|kind| name.strip_prefix(kind).is_some_and(|rest| !rest.is_empty()))
            };
            faults.unless(to.iter().all(is_one), field, "notify names role:…, group:… or user:…");
        }
        Effect::Webhook(name) => {
            let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.'));
            faults.unless(letters && !name.is_empty() && name.len() <= 64, field, "webhook is 1 to 64 of a-z, 0-9, . _ and -");
        }
    }
}

fn check_stage(stage: &Stage, all: &[Stage], field: &str, faults: &mut Faults) {
    faults.unless(is_name(&stage.name), field, "must be named in lower-case letters, digits and inner hyphens");
    faults.unless(stage.groups.len() <= MAX_NAMES, field, "at most 200 groups are allowed");
    let good = match stage.quorum {
        Quorum::Count(count) => (1..=1_000).contains(&count),
        Quorum::Percent(percent) => (1..=100).contains(&percent),
        Quorum::Majority => true,
    };
    faults.unless(good, field, "a quorum is 1 to 1000 people, or 1 to 100 percent");
    for name in &stage.after {
        faults.unless(all.iter().any(|other| other.name == *name), field, "waits for a stage that there is not");
    }
    if let Some(due) = &stage.due {
        faults.unless((1..=8_760).contains(&due.hours), field, "is due after 1 to 8760 hours");
        faults.unless(due.remind_before_hours.is_none_or(|hours| hours < due.hours), field, "reminds before it begins");
    }
}

/// Whether no stage waits for itself, by whatever way.
fn is_order(stages: &[Stage]) -> bool {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    loop {
        let ready =
            |stage: &&Stage| !done.contains(stage.name.as_str()) && stage.after.iter().all(|name| done.contains(name.as_str()));
        let next: Vec<&str> = stages.iter().filter(ready).map(|stage| stage.name.as_str()).collect();
        if next.is_empty() {
            return done.len() == stages.iter().map(|stage| &stage.name).collect::<BTreeSet<_>>().len();
        }
        done.extend(next);
    }
}

/// The definitions that every tenant has.
pub fn shipped() -> Result<Vec<Definition>> {
    let texts = [
        include_str!("../../../policies/workflows/default.yaml"),
        include_str!("../../../policies/workflows/dual-approval.yaml"),
    ];
    let parse =
        |text| serde_saphyr::from_str(text).map_err(|e| Error::internal(format!("a shipped workflow cannot be read: {e}")));
    texts.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles() -> BTreeSet<String> {
        let names = ["creator", "reviewer", "approver", "editor", "manager", "administrator", "auditor", "service"];
        names.map(String::from).into()
    }

    fn default() -> Definition {
        shipped().unwrap().remove(0)
    }

    fn refused(change: impl FnOnce(&mut Definition)) -> Vec<(String, String)> {
        let mut definition = default();
        change(&mut definition);
        let error = definition.validate(&roles()).expect_err("must be refused");
        assert_eq!(error.code, "INVALID_DEFINITION");
        error.fields.into_iter().map(|f| (f.field, f.reason)).collect()
    }

    #[test]
    fn shipped_definitions_work() {
        for definition in shipped().unwrap() {
            definition.validate(&roles()).unwrap_or_else(|e| panic!("{}: {:?}", definition.name, e.fields));
        }
    }

    #[test]
    fn the_default_is_the_table() {
        let table: Vec<(String, String, String, String)> =
            default().transitions.into_iter().map(|t| (t.from, t.action, t.to, t.role.unwrap_or_default())).collect();
        let expected = [
            ("draft", "submit", "submitted", "creator"),
            ("submitted", "review", "in_review", "reviewer"),
            ("in_review", "approve", "approved", "approver"),
            ("in_review", "reject", "rejected", "reviewer"),
            ("approved", "publish", "published", "approver"),
            ("published", "archive", "archived", "manager"),
            ("rejected", "recall", "draft", "creator"),
        ];
        assert_eq!(table, expected.map(|(a, b, c, d)| (a.into(), b.into(), c.into(), d.into())));
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_place() {
        let island = |d: &mut Definition| {
            d.states.insert("island".into(), State { title: "Island".into(), kind: StateKind::Closed });
        };
        assert_eq!(refused(island), [("states.island".into(), "cannot be reached".into())]);
        let dead = refused(|d| d.transitions.retain(|t| t.action != "recall"));
        assert!(dead.iter().any(|(field, reason)| field == "states.rejected" && reason.contains("dead end")), "{dead:?}");
        let role = refused(|d| d.transitions[0].role = Some("king".into()));
        assert!(role.iter().any(|(_, reason)| reason.contains("king")), "{role:?}");
        let around = refused(|d| d.transitions[0].to = "published".into());
        assert!(around.iter().any(|(_, reason)| reason.contains("from an approved one only")), "{around:?}");
        let cheap = refused(|d| {
            let approve = d.transitions.iter_mut().find(|t| t.action == "approve").unwrap();
            approve.permission = Permission::ManifestRead;
        });
        assert!(cheap.iter().any(|(field, _)| field.ends_with("permission")), "{cheap:?}");
        let circle = refused(|d| {
            let stage = |name: &str, after: &str| Stage {
                name: name.into(),
                task: None,
                role: "approver".into(),
                groups: BTreeSet::new(),
                quorum: Quorum::default(),
                after: [after.to_owned()].into(),
                due: None,
            };
            let approve = d.transitions.iter_mut().find(|t| t.action == "approve").unwrap();
            (approve.role, approve.task) = (None, None);
            approve.stages = vec![stage("one", "two"), stage("two", "one")];
        });
        assert!(circle.iter().any(|(_, reason)| reason.contains("circle")), "{circle:?}");
    }

    #[test]
    fn quorums() {
        assert_eq!(Quorum::Percent(50).needed(3), 2);
        assert_eq!(Quorum::Percent(100).needed(3), 3);
        assert_eq!(Quorum::Majority.needed(4), 3);
        assert_eq!(Quorum::Count(2).needed(0), 2);
    }
}
