//! A simple model of approval, which the engine must agree with.

use super::{PEOPLE, Run};
use crate::{
    definition::{Definition, Quorum, Stage, StateKind, Transition},
    model::{Delegation, Event, Instance},
};
use omt_kernel::{OffsetDateTime, Permission};
use std::collections::{BTreeMap, BTreeSet};

/// What the model knows: who agreed to which stage of this visit, which content was approved, and who may decide besides.
#[derive(Default)]
pub(super) struct Model {
    agreed: BTreeMap<String, BTreeSet<String>>,
    acted: BTreeSet<String>,
    editors: BTreeSet<String>,
    approved: Option<String>,
    escalated: BTreeSet<(String, String)>,
    lent: BTreeMap<(String, String), Delegation>,
    over: bool,
}

impl Model {
    /// Follows an event, and panics where something was reached that must not be.
    pub(super) fn follow(&mut self, run: &Run<'_>, event: &Event) {
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
                let is_member = stage.groups.is_empty() || stage.groups.iter().any(|g| who.groups.contains(&g.to_lowercase()));
                let of_right = is_assigned && is_member && holds(&stage.role);
                assert!(late || of_right, "{whose} may not decide in {}", stage.name);
                for earlier in &stage.after {
                    let needed = stages.iter().find(|s| s.name == *earlier).map(|s| self.needed(definition, before, s));
                    assert!(self.count(earlier) >= needed.expect("a stage"), "a stage was opened before its time");
                }
                if definition.four_eyes && definition.kind(&transition.to) == StateKind::Approved {
                    for name in [&vote.by, &whose] {
                        assert!(*name != before.author && !facts.authors.contains(name), "the author approved");
                        assert!(!self.editors.contains(name), "{name} approved their own change");
                    }
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
            Event::Changed { fingerprint, to, by } => {
                self.editors.insert(by.clone());
                if self.approved.as_ref().is_some_and(|approved| approved != fingerprint) {
                    self.approved = None;
                    assert_ne!(definition.kind(to), StateKind::Approved);
                }
                if *to != before.state {
                    self.enter();
                }
            }
            Event::Failed { .. } => self.forget(),
            // Another version approves nothing.
            Event::Migrated { to, .. } => {
                if *to != before.state {
                    assert!(matches!(definition.kind(to), StateKind::Open | StateKind::Review));
                    self.approved = None;
                }
                self.enter();
            }
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
