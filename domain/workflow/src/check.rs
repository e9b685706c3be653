//! Whether a definition can work: looked at before it is used, with every fault at once.

use crate::definition::{Definition, Effect, Quorum, Stage, StateKind, Transition};
use omt_kernel::{Error, FieldError, Kind, Permission, Result, access::RoleRecord};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The most states, transitions or stages of a definition.
const MAX_PARTS: usize = 100;
/// The most effects of a transition.
const MAX_EFFECTS: usize = 10;
/// The most people or groups that one stage names.
const MAX_NAMES: usize = 200;

fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 64 && bytes.iter().all(|b| inner(*b)) && edge(bytes.first()) && edge(bytes.last())
}

/// What whoever has a role may be allowed, by roles of their own or by one that inherits from it.
type Allowed<'a> = BTreeMap<&'a str, BTreeSet<Permission>>;

fn allowed(roles: &[RoleRecord]) -> Allowed<'_> {
    let by_name: BTreeMap<&str, &RoleRecord> = roles.iter().map(|role| (role.name.as_str(), role)).collect();
    let mut out = Allowed::new();
    for role in roles {
        let (mut all, mut queue) = (BTreeMap::from([(role.name.as_str(), role)]), vec![role]);
        while let Some(role) = queue.pop() {
            for parent in role.inherits.iter().filter_map(|name| by_name.get(name.as_str())) {
                if all.insert(parent.name.as_str(), parent).is_none() {
                    queue.push(parent);
                }
            }
        }
        let permissions: BTreeSet<Permission> = all.values().flat_map(|role| &role.permissions).copied().collect();
        for name in all.into_keys() {
            out.entry(name).or_default().extend(&permissions);
        }
    }
    out
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
    /// Refuses a definition that could not work, with every fault at once: 422 `INVALID_DEFINITION`.
    pub fn validate(&self, roles: &[RoleRecord]) -> Result<()> {
        let mut faults = Faults::default();
        faults.unless(is_name(&self.name), "name", "must be lower-case letters, digits and inner hyphens, 64 at most");
        faults.unless(!self.title.trim().is_empty() && self.title.len() <= 200, "title", "must have 1 to 200 characters");
        faults.unless(self.description.len() <= 2_000, "description", "must have at most 2000 characters");
        faults.unless(self.states.len() <= MAX_PARTS, "states", "at most 100 are allowed");
        faults.unless(self.transitions.len() <= MAX_PARTS, "transitions", "at most 100 are allowed");
        if faults.0.is_empty() {
            self.check_states(&mut faults);
            let allowed = allowed(roles);
            self.check_roles(&allowed, &mut faults);
            for (at, transition) in self.transitions.iter().enumerate() {
                let field = format!("transitions[{at}]");
                self.check_transition(transition, &field, &mut faults);
                self.check_permission(transition, &allowed, &format!("{field}.permission"), &mut faults);
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

    /// Whoever decides in a stage needs its role and the transition's permission: somebody can have both.
    fn check_permission(&self, transition: &Transition, allowed: &Allowed<'_>, field: &str, faults: &mut Faults) {
        for stage in transition.all_stages() {
            // What no role is, is a fault of its own.
            if !allowed.contains_key(stage.role.as_str()) {
                continue;
            }
            let mut roles = std::iter::once(&stage.role).chain(self.stand_ins.get(&stage.role).into_iter().flatten());
            if !roles.any(|role| allowed.get(role.as_str()).is_some_and(|some| some.contains(&transition.permission))) {
                let words = format!("neither {} nor a role that stands in for it has {}", stage.role, transition.permission);
                faults.add(field, words);
            }
        }
    }

    fn check_roles(&self, known: &Allowed<'_>, faults: &mut Faults) {
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
        for role in all.into_iter().filter(|role| !known.contains_key(role)) {
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
        // From one approved state to another nobody decides anew; within one, something may be done besides.
        let approved = to != StateKind::Approved || from == StateKind::Review || transition.from == transition.to;
        let words = "an approved state is reached from one of the kind review, or stays as it is";
        faults.unless(approved, &at("from"), words);
        let decided = to != StateKind::Approved || transition.permission == Permission::WorkflowApprove;
        faults.unless(decided, &at("permission"), "an approved state is reached by workflow:approve only");
        let late = from != StateKind::Closed || !matches!(to, StateKind::Approved | StateKind::Published);
        faults.unless(late, &at("from"), "what is closed is not approved or published again");
        let signs = transition.effects.contains(&Effect::Sign);
        faults.unless(!signs || to == StateKind::Published, &at("effects"), "only a published state is reached by signing");
        // Else what is published could be an unsigned draft, which anybody may change.
        faults.unless(signs || to != StateKind::Published, &at("effects"), "a published state is reached by signing only");
        let badge = transition.effects.contains(&Effect::IssueBadge);
        faults.unless(!badge || signs, &at("effects"), "a badge is issued for what the same transition signs");
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
        Effect::Sign | Effect::Archive | Effect::IssueBadge => {}
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
        faults.unless(stage.task.is_some(), field, "is due, and has no task that anybody could be reminded of");
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::definition::{Due, State, shipped};
    use omt_kernel::{OffsetDateTime, TenantId};

    /// The roles that every tenant has, as the platform reads them.
    pub(crate) fn built_in() -> Vec<RoleRecord> {
        let mut out: BTreeMap<String, RoleRecord> = BTreeMap::new();
        for line in include_str!("../../../policies/access/roles.csv").lines().filter(|line| line.starts_with("p,")) {
            let parts: Vec<&str> = line.split(',').map(str::trim).collect();
            let role = out.entry(parts[1].to_owned()).or_insert_with(|| role(parts[1], &[], &[]));
            role.permissions.insert(parts[2].parse().unwrap());
        }
        out.into_values().collect()
    }

    pub(crate) fn role(name: &str, inherits: &[&str], permissions: &[Permission]) -> RoleRecord {
        RoleRecord {
            tenant: TenantId::default_tenant(),
            name: name.into(),
            description: String::new(),
            inherits: inherits.iter().map(|name| (*name).to_owned()).collect(),
            permissions: permissions.iter().copied().collect(),
            revision: 0,
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn roles() -> Vec<RoleRecord> {
        built_in()
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
        let again = |to: &str| Transition {
            action: "again".into(),
            from: "approved".into(),
            to: to.into(),
            effects: vec![],
            guards: vec![],
            ..default().transitions.into_iter().find(|t| t.action == "approve").unwrap()
        };
        let second = refused(|d| {
            d.states.insert("released".into(), State { title: "Released".into(), kind: StateKind::Approved });
            let publish = d.transitions.iter_mut().find(|t| t.action == "publish").unwrap();
            publish.from = "released".into();
            d.transitions.push(again("released"));
        });
        let words = "an approved state is reached from one of the kind review, or stays as it is";
        assert_eq!(second, [("transitions[7].from".to_owned(), words.to_owned())], "of permission nothing is wrong");
        let mut stays = default();
        stays.transitions.push(again("approved"));
        stays.validate(&roles()).unwrap();
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
    fn what_is_published_is_signed() {
        let unsigned = refused(|d| {
            let publish = d.transitions.iter_mut().find(|t| t.action == "publish").unwrap();
            publish.effects.clear();
        });
        assert_eq!(unsigned, [("transitions[4].effects".to_owned(), "a published state is reached by signing only".to_owned())]);
        let told = refused(|d| {
            let publish = d.transitions.iter_mut().find(|t| t.action == "publish").unwrap();
            publish.effects = vec![Effect::Webhook("out".into())];
        });
        assert_eq!(told.len(), 1, "telling of it is no signature: {told:?}");
        // One that was kept before this was asked for signs nevertheless.
        let mut kept = default();
        kept.transitions[4].effects.clear();
        assert_eq!(kept.publishing_signs(), default());
        assert_eq!(default().publishing_signs(), default());
    }

    #[test]
    fn somebody_can_take_every_transition() {
        let nobody = refused(|d| {
            d.transitions[1].permission = Permission::AuditRead;
            d.stand_ins.insert("reviewer".into(), ["approver".into()].into());
        });
        let words = "neither reviewer nor a role that stands in for it has audit:read";
        assert_eq!(nobody, [("transitions[1].permission".to_owned(), words.to_owned())]);
        // A role that stands in, or one that inherits, is enough.
        let mut definition = default();
        definition.transitions[1].permission = Permission::AuditRead;
        definition.validate(&roles()).unwrap();
        definition.stand_ins.remove("reviewer");
        assert!(definition.validate(&roles()).is_err());
        let more = [role("chief", &["deputy"], &[Permission::AuditRead]), role("deputy", &["reviewer", "chief"], &[])];
        definition.validate(&[roles(), more.to_vec()].concat()).unwrap();
    }

    #[test]
    fn what_is_due_has_a_task() {
        let due = || Some(Due { hours: 8, remind_before_hours: None, escalate_to: None });
        let silent = refused(|d| {
            d.transitions[3].due = due();
        });
        let words = "is due, and has no task that anybody could be reminded of";
        assert_eq!(silent, [("transitions[3].stages.reject".to_owned(), words.to_owned())]);
        let mut definition = default();
        (definition.transitions[3].due, definition.transitions[3].task) = (due(), Some("Reject".into()));
        definition.validate(&roles()).unwrap();
    }

    #[test]
    fn quorums() {
        assert_eq!(Quorum::Percent(50).needed(3), 2);
        assert_eq!(Quorum::Percent(100).needed(3), 3);
        assert_eq!(Quorum::Majority.needed(4), 3);
        assert_eq!(Quorum::Count(2).needed(0), 2);
    }
}
