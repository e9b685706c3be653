//! What may happen to a workflow, decided from its definition, its history, whoever asks and the facts of the moment. Pure: the
//! same question has the same answer, and an instance is what its events add up to.

use crate::{
    definition::{Definition, Effect, Stage, StateKind, Transition},
    model::{Attachment, Command, Delegation, Event, Facts, Instance, Pending, Refusal, Vote, Who},
};
use omt_kernel::{OffsetDateTime, Permission};
use std::collections::BTreeSet;

/// From then on nobody says anything more that decides nothing.
const MAX_EVENTS: i64 = 5_000;

/// Decides what a command does to a workflow.
pub fn decide(
    definition: &Definition,
    instance: &Instance,
    command: Command,
    who: &Who,
    facts: &Facts,
    now: OffsetDateTime,
) -> Result<Vec<Event>, Refusal> {
    if let Some(pending) = &instance.pending {
        return Err(Refusal::Pending(pending.action.clone()));
    }
    if instance.ended {
        return Err(Refusal::Over);
    }
    match command {
        Command::Take { action, stage, comments, attachments } => {
            let desk = Desk { definition, instance, who, facts, now };
            desk.take(&action, stage.as_deref(), comments, attachments)
        }
        Command::Claim { stage } => {
            let desk = Desk { definition, instance, who, facts, now };
            let (transition, found) = desk.open_stage(&stage)?;
            desk.seat(&transition, &found)?;
            if needed(definition, instance, &found) > 1 {
                return Err(Refusal::Shared);
            }
            match instance.claims.get(&stage) {
                Some(holder) if *holder == who.subject => Ok(vec![]),
                Some(_) => Err(Refusal::Claimed),
                None => Ok(vec![Event::Claimed { stage, by: who.subject.clone() }]),
            }
        }
        Command::Unclaim { stage } => {
            let all = [Permission::WorkflowReview, Permission::WorkflowApprove, Permission::WorkflowReject];
            let any = all.iter().all(|permission| who.permissions.contains(permission));
            match instance.claims.get(&stage) {
                Some(holder) if *holder == who.subject || any => Ok(vec![Event::Unclaimed { stage, by: who.subject.clone() }]),
                _ => Err(Refusal::NotClaimed),
            }
        }
        Command::Delegate { stage, to, starts, ends, comments } => {
            let desk = Desk { definition, instance, who, facts, now };
            let delegation = Delegation { stage, from: who.subject.clone(), to: to.subject.clone(), starts, ends };
            desk.delegate(&to, delegation, comments)
        }
        Command::Cancel { reason } => {
            let over = matches!(definition.kind(&instance.state), StateKind::Published | StateKind::Closed);
            let theirs = [&instance.author, &instance.created_by].contains(&&who.subject);
            // Managers hold every permission of workflows.
            let manages = Permission::WORKFLOW.iter().all(|permission| who.permissions.contains(permission));
            if over {
                return Err(Refusal::Over);
            }
            if !theirs && !manages {
                return Err(Refusal::NotEligible("the author, whoever began it, and managers".to_owned()));
            }
            Ok(vec![Event::Ended { by: who.subject.clone(), reason }])
        }
        Command::Comment { .. } if instance.revision > MAX_EVENTS => Err(Refusal::TooLong),
        Command::Comment { comments, attachments } => {
            Ok(vec![Event::Commented { by: who.subject.clone(), comments, attachments }])
        }
        Command::SetPolicies { policies } => {
            if matches!(definition.kind(&instance.state), StateKind::Published | StateKind::Closed) {
                return Err(Refusal::Over);
            }
            // Nobody makes it easier once others look at it, who may have asked for what is harder.
            if definition.kind(&instance.state) != StateKind::Open && !policies.is_superset(&instance.policies) {
                return Err(Refusal::WrongState(instance.state.clone(), allowed(definition, &instance.state)));
            }
            Ok(vec![Event::PoliciesSet { policies, by: who.subject.clone() }])
        }
    }
}

/// What the content's change does to a workflow that is not over.
pub fn content_changed(definition: &Definition, instance: &Instance, fingerprint: &str, by: &str) -> Option<Event> {
    if instance.fingerprint == fingerprint {
        return None;
    }
    let to = match definition.kind(&instance.state) {
        StateKind::Published | StateKind::Closed => return None,
        StateKind::Open => instance.state.clone(),
        StateKind::Review if instance.chain.is_empty() => instance.state.clone(),
        StateKind::Review | StateKind::Approved => definition.initial.clone(),
    };
    Some(Event::Changed { fingerprint: fingerprint.to_owned(), to, by: by.to_owned() })
}

/// What gives back the task of a stage that somebody keeps who cannot decide in it any more, such as a deputy after their time.
/// `holder` is whoever has it, as they are now; `by` whoever gives it back.
pub fn lapsed(
    definition: &Definition,
    instance: &Instance,
    stage: &str,
    holder: &Who,
    facts: &Facts,
    (now, by): (OffsetDateTime, &str),
) -> Option<Event> {
    if instance.claims.get(stage) != Some(&holder.subject) {
        return None;
    }
    let desk = Desk { definition, instance, who: holder, facts, now };
    let (transition, found) = desk.open_stage(stage).ok()?;
    let has_place = desk.role_in(&found, holder).is_some() || desk.delegated(&transition, &found).is_some();
    (!has_place).then(|| Event::Unclaimed { stage: stage.to_owned(), by: by.to_owned() })
}

/// The end of a transition whose effects were under way.
pub fn finished(definition: &Definition, instance: &Instance) -> Option<Event> {
    let pending = instance.pending.as_ref()?;
    let transition = definition.transition(&instance.state, &pending.action)?;
    Some(moved(definition, transition, &pending.by, pending.comments.clone()))
}

/// The actions that this person could take now.
pub fn available(
    definition: &Definition,
    instance: &Instance,
    who: &Who,
    facts: &Facts,
    now: OffsetDateTime,
) -> BTreeSet<String> {
    if instance.pending.is_some() || instance.ended {
        return BTreeSet::new();
    }
    let desk = Desk { definition, instance, who, facts, now };
    let open = |t: &&Transition| desk.choose(t, None).is_ok();
    definition.leaving(&instance.state).filter(open).map(|t| t.action.clone()).collect()
}

/// A stage that waits for decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The action that it is part of.
    pub action: String,
    /// It.
    pub stage: Stage,
    /// How many people must agree.
    pub needed: usize,
    /// How many have.
    pub votes: usize,
}

/// The stages that wait for decisions now.
pub fn waiting(definition: &Definition, instance: &Instance) -> Vec<Waiting> {
    if instance.pending.is_some() || instance.ended {
        return Vec::new();
    }
    let mut out = Vec::new();
    for transition in definition.leaving(&instance.state) {
        let stages = transition.all_stages();
        for stage in stages.iter().filter(|stage| is_open(definition, instance, stage)) {
            let needed = needed(definition, instance, stage);
            let votes = voters(instance, &stage.name).len();
            out.push(Waiting { action: transition.action.clone(), stage: stage.clone(), needed, votes });
        }
    }
    out
}

/// Adds an event to an instance.
pub fn apply(instance: &mut Instance, event: &Event, at: OffsetDateTime) {
    match event {
        Event::Started { instance: begun } => *instance = begun.as_ref().clone(),
        Event::Voted { vote, decides, .. } => {
            instance.votes.push(vote.clone());
            if *decides {
                instance.chain.push(vote.clone());
            }
            instance.claims.remove(&vote.stage);
        }
        Event::Moved { to, afresh, .. } => {
            enter(instance, to);
            if *afresh {
                instance.chain.clear();
            }
        }
        Event::Began { pending } => instance.pending = Some(pending.clone()),
        Event::Failed { .. } => {
            instance.pending = None;
            // Whoever decided may decide again.
            let votes = std::mem::take(&mut instance.votes);
            instance.chain.retain(|vote| !votes.contains(vote));
        }
        Event::Changed { fingerprint, to, by } => {
            instance.editors.insert(by.clone());
            instance.fingerprint.clone_from(fingerprint);
            if *to != instance.state {
                enter(instance, to);
            }
            // Whatever was decided, was decided on something else.
            instance.votes.clear();
            instance.claims.clear();
            instance.chain.clear();
        }
        Event::Claimed { stage, by } => {
            instance.claims.insert(stage.clone(), by.clone());
        }
        Event::Unclaimed { stage, .. } => {
            instance.claims.remove(stage);
        }
        Event::Delegated { delegation, .. } => {
            instance.delegations.retain(|old| old.stage != delegation.stage || old.from != delegation.from);
            instance.delegations.push(delegation.clone());
            // Whoever lends their place does not keep the task.
            if instance.claims.get(&delegation.stage) == Some(&delegation.from) {
                instance.claims.remove(&delegation.stage);
            }
        }
        Event::Escalated { stage, role } => {
            instance.escalated.entry(stage.clone()).or_default().insert(role.clone());
            // Whoever has had it all the time has it no more.
            instance.claims.remove(stage);
        }
        Event::Commented { .. } => {}
        Event::Ended { .. } => instance.ended = true,
        Event::PoliciesSet { policies, .. } => instance.policies.clone_from(policies),
        Event::Migrated { version, to, .. } => {
            instance.version = *version;
            // Decisions of this visit are to be made again.
            let votes = std::mem::take(&mut instance.votes);
            instance.chain.retain(|vote| !votes.contains(vote));
            enter(instance, to);
        }
    }
    instance.revision += 1;
    instance.updated_at = at;
}

fn enter(instance: &mut Instance, state: &str) {
    instance.state = state.to_owned();
    instance.visit += 1;
    instance.votes.clear();
    instance.claims.clear();
    instance.delegations.clear();
    instance.escalated.clear();
    instance.pending = None;
}

fn allowed(definition: &Definition, state: &str) -> BTreeSet<String> {
    definition.leaving(state).map(|t| t.action.clone()).collect()
}

/// The people whose agreement a stage has.
fn voters<'a>(instance: &'a Instance, stage: &str) -> BTreeSet<&'a str> {
    instance.votes.iter().filter(|vote| vote.stage == stage).map(|vote| vote.for_.as_deref().unwrap_or(&vote.by)).collect()
}

/// How many people must agree to a stage.
fn needed(definition: &Definition, instance: &Instance, stage: &Stage) -> usize {
    let named = |name: &str| instance.assignees.get(name).map_or(0, BTreeSet::len);
    let assigned = match named(&stage.name) {
        // Nobody in particular may reject: the majority is that of all who are assigned in this state.
        0 => {
            let stages = definition.leaving(&instance.state).flat_map(Transition::all_stages);
            let all: BTreeSet<&String> =
                stages.filter_map(|s| instance.assignees.get(&s.name).map(|a| (s, a))).flat_map(|(_, a)| a).collect();
            all.len()
        }
        some => some,
    };
    // A part of nobody is nobody's agreement.
    if stage.quorum.is_of_assigned() && assigned == 0 { usize::MAX } else { stage.quorum.needed(assigned) }
}

fn is_complete(definition: &Definition, instance: &Instance, stage: &Stage) -> bool {
    voters(instance, &stage.name).len() >= needed(definition, instance, stage)
}

/// Whether a stage waits for nothing but decisions.
fn is_open(definition: &Definition, instance: &Instance, stage: &Stage) -> bool {
    if is_complete(definition, instance, stage) {
        return false;
    }
    let siblings = definition.leaving(&instance.state).flat_map(Transition::all_stages);
    let mut before = siblings.filter(|other| stage.after.contains(&other.name));
    before.all(|other| is_complete(definition, instance, &other))
}

fn moved(definition: &Definition, transition: &Transition, by: &str, comments: Option<String>) -> Event {
    Event::Moved {
        action: transition.action.clone(),
        from: transition.from.clone(),
        to: transition.to.clone(),
        by: by.to_owned(),
        afresh: transition.to == definition.initial,
        comments,
    }
}

/// Where somebody sits who may decide: in which role, and in whose place.
struct Seat {
    role: String,
    place_of: Option<String>,
}

/// One person at one workflow at one moment.
struct Desk<'a> {
    definition: &'a Definition,
    instance: &'a Instance,
    who: &'a Who,
    facts: &'a Facts,
    now: OffsetDateTime,
}

impl Desk<'_> {
    fn take(
        &self,
        action: &str,
        stage: Option<&str>,
        comments: Option<String>,
        attachments: Vec<Attachment>,
    ) -> Result<Vec<Event>, Refusal> {
        let (definition, instance) = (self.definition, self.instance);
        let Some(transition) = definition.transition(&instance.state, action) else {
            let known: BTreeSet<String> = definition.transitions.iter().map(|t| t.action.clone()).collect();
            if !known.contains(action) {
                return Err(Refusal::UnknownAction(known));
            }
            return Err(Refusal::WrongState(instance.state.clone(), allowed(definition, &instance.state)));
        };
        let (stage, seat) = self.choose(transition, stage)?;
        let comments = comments.filter(|text| !text.trim().is_empty());
        if transition.comments_required && comments.is_none() {
            return Err(Refusal::CommentsRequired);
        }
        if self.facts.fingerprint != instance.fingerprint {
            return Err(Refusal::ContentChanged);
        }
        if !self.facts.against.is_empty() {
            return Err(Refusal::Guard(self.facts.against.clone()));
        }
        let vote = Vote {
            stage: stage.name.clone(),
            action: action.to_owned(),
            by: self.who.subject.clone(),
            for_: seat.place_of,
            role: seat.role,
            at: self.now,
            comments: comments.clone(),
        };
        let decides = definition.kind(&instance.state) != StateKind::Open || definition.is_approval(transition);
        let voted = Event::Voted { vote, attachments, decides };
        let mut after = instance.clone();
        apply(&mut after, &voted, self.now);
        let mut events = vec![voted];
        if transition.all_stages().iter().all(|stage| is_complete(definition, &after, stage)) {
            events.push(if transition.effects.iter().any(Effect::comes_before) {
                Event::Began { pending: Pending { action: action.to_owned(), by: self.who.subject.clone(), comments } }
            } else {
                moved(definition, transition, &self.who.subject, comments)
            });
        }
        Ok(events)
    }

    /// The stage in which this person decides: the one that is named, or the first that they may.
    fn choose(&self, transition: &Transition, named: Option<&str>) -> Result<(Stage, Seat), Refusal> {
        let stages = transition.all_stages();
        if let Some(name) = named {
            let stage = stages.iter().find(|stage| stage.name == name).ok_or_else(|| Refusal::NoStage(name.to_owned()))?;
            return self.may_decide(transition, stage).map(|seat| (stage.clone(), seat));
        }
        let mut refusal = None;
        for stage in &stages {
            match self.may_decide(transition, stage) {
                Ok(seat) => return Ok((stage.clone(), seat)),
                // What stands against an open stage tells more than that another is closed.
                Err(Refusal::StageClosed(_)) if refusal.is_some() => {}
                Err(other) => refusal = Some(other),
            }
        }
        Err(refusal.unwrap_or_else(|| Refusal::StageClosed(transition.action.clone())))
    }

    fn may_decide(&self, transition: &Transition, stage: &Stage) -> Result<Seat, Refusal> {
        let seat = self.seat(transition, stage)?;
        if !is_open(self.definition, self.instance, stage) {
            return Err(Refusal::StageClosed(stage.name.clone()));
        }
        match self.instance.claims.get(&stage.name) {
            Some(holder) if *holder != self.who.subject => Err(Refusal::Claimed),
            _ => Ok(seat),
        }
    }

    fn open_stage(&self, name: &str) -> Result<(Transition, Stage), Refusal> {
        for transition in self.definition.leaving(&self.instance.state) {
            if let Some(stage) = transition.all_stages().into_iter().find(|stage| stage.name == name) {
                if is_open(self.definition, self.instance, &stage) {
                    return Ok((transition.clone(), stage));
                }
                return Err(Refusal::StageClosed(name.to_owned()));
            }
        }
        Err(Refusal::NoStage(name.to_owned()))
    }

    /// Whether this person may decide in a stage at all, and for whom.
    fn seat(&self, transition: &Transition, stage: &Stage) -> Result<Seat, Refusal> {
        if !self.who.permissions.contains(&transition.permission) {
            return Err(Refusal::Permission(transition.permission));
        }
        // The author has no part in an approval, in nobody's place either.
        if self.is_kept_from(transition, &self.who.subject) {
            return Err(Refusal::FourEyes);
        }
        if self.has_voted(&self.who.subject) {
            return Err(Refusal::AlreadyVoted);
        }
        if let Some(role) = self.role_in(stage, self.who) {
            return Ok(Seat { role, place_of: None });
        }
        self.delegated(transition, stage).ok_or_else(|| Refusal::NotEligible(describe(stage)))
    }

    /// Whether somebody made what is to be approved, or changed it since it is decided on.
    fn is_kept_from(&self, transition: &Transition, subject: &str) -> bool {
        let (definition, instance) = (self.definition, self.instance);
        let own = instance.author == *subject || instance.editors.contains(subject) || self.facts.authors.contains(subject);
        definition.four_eyes && definition.is_approval(transition) && own
    }

    /// One person, one decision in a visit, over all stages and roles, whoever cast it.
    fn has_voted(&self, subject: &str) -> bool {
        self.instance.votes.iter().any(|vote| vote.by == subject || vote.for_.as_deref() == Some(subject))
    }

    /// The role in which somebody may decide of themselves.
    fn role_in(&self, stage: &Stage, who: &Who) -> Option<String> {
        let assigned = self.instance.assignees.get(&stage.name);
        let is_assigned = assigned.is_none_or(|assigned| assigned.contains(&who.subject));
        if is_assigned && is_member(stage, &who.groups) && self.definition.holds(&who.roles, &stage.role) {
            let direct = who.roles.contains(&stage.role);
            let stand_in = || self.definition.stand_ins.get(&stage.role)?.intersection(&who.roles).next().cloned();
            return if direct { Some(stage.role.clone()) } else { stand_in() };
        }
        // It took too long: assignment and groups bind no more.
        let escalated = self.instance.escalated.get(&stage.name)?;
        escalated.iter().find(|role| self.definition.holds(&who.roles, role)).cloned()
    }

    /// The place that this person has by delegation: of somebody who could decide themselves, and has not.
    fn delegated(&self, transition: &Transition, stage: &Stage) -> Option<Seat> {
        let is_on = |d: &&Delegation| d.stage == stage.name && d.is_on(self.now);
        let mut seen = BTreeSet::from([self.who.subject.as_str()]);
        let mut queue = vec![self.who.subject.as_str()];
        while let Some(subject) = queue.pop() {
            for delegation in self.instance.delegations.iter().filter(is_on).filter(|d| d.to == subject) {
                if !seen.insert(&delegation.from) {
                    continue;
                }
                queue.push(&delegation.from);
                let Some(origin) = self.facts.delegators.get(&delegation.from) else { continue };
                let author = self.is_kept_from(transition, &origin.subject);
                let may = origin.permissions.contains(&transition.permission) && !author && !self.has_voted(&origin.subject);
                if let Some(role) = self.role_in(stage, origin).filter(|_| may) {
                    return Some(Seat { role, place_of: Some(origin.subject.clone()) });
                }
            }
        }
        None
    }

    fn delegate(&self, to: &Who, delegation: Delegation, comments: Option<String>) -> Result<Vec<Event>, Refusal> {
        let (transition, stage) = self.open_stage(&delegation.stage)?;
        self.seat(&transition, &stage)?;
        if to.subject == self.who.subject {
            return Err(Refusal::Delegation("nobody delegates to themselves"));
        }
        if delegation.ends.is_some_and(|ends| ends <= delegation.starts || ends <= self.now) {
            return Err(Refusal::Delegation("it would end before it begins"));
        }
        if !to.permissions.contains(&transition.permission) {
            return Err(Refusal::Delegation("the other may not do this at all"));
        }
        if self.is_kept_from(&transition, &to.subject) {
            return Err(Refusal::Delegation("whoever made or changed the content cannot approve it"));
        }
        if self.has_voted(&to.subject) {
            return Err(Refusal::Delegation("the other has decided already"));
        }
        // Follow whom the other delegates to: it must not come back.
        let mut seen = BTreeSet::new();
        let mut queue = vec![to.subject.as_str()];
        while let Some(subject) = queue.pop() {
            if subject == self.who.subject {
                return Err(Refusal::Delegation("it would come back in a circle"));
            }
            if seen.insert(subject) {
                let onward = self.instance.delegations.iter().filter(|d| d.stage == stage.name && d.from == subject);
                queue.extend(onward.map(|d| d.to.as_str()));
            }
        }
        Ok(vec![Event::Delegated { delegation, comments }])
    }
}

/// Whether somebody of these groups is among those that a stage is for.
fn is_member(stage: &Stage, groups: &BTreeSet<String>) -> bool {
    stage.groups.is_empty() || stage.groups.iter().any(|group| groups.contains(&group.to_lowercase()))
}

/// Whether somebody could decide in a stage, as far as it depends on what they are: permission, role and group.
pub fn fits(definition: &Definition, transition: &Transition, stage: &Stage, who: &Who) -> bool {
    who.permissions.contains(&transition.permission) && definition.holds(&who.roles, &stage.role) && is_member(stage, &who.groups)
}

fn describe(stage: &Stage) -> String {
    if stage.groups.is_empty() {
        return format!("the role {}", stage.role);
    }
    format!("the role {} in {}", stage.role, stage.groups.iter().cloned().collect::<Vec<_>>().join(" or "))
}
