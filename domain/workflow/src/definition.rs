//! A workflow's definition: states, transitions, and who must agree to each. It is data, checked before it is used.

use crate::calendar::Calendar;
use omt_kernel::{Error, Permission, Result, manifest::Classification};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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
    /// A badge is issued for what was signed, when the new state is reached.
    IssueBadge,
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

    /// The definition with a signature on every way to a published state. One that was kept before that was asked for may lack it,
    /// and what it publishes would be an unsigned draft.
    pub(crate) fn publishing_signs(mut self) -> Self {
        let states = &self.states;
        let publishes = |t: &&mut Transition| states.get(&t.to).is_some_and(|state| state.kind == StateKind::Published);
        for transition in self.transitions.iter_mut().filter(publishes) {
            if !transition.effects.iter().any(Effect::comes_before) {
                transition.effects.push(Effect::Sign);
            }
        }
        self
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
