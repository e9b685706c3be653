//! How a command becomes what happens: the engine decides, and guards are asked only about what it would let through.

use super::{Bench, Workflows, who};
use crate::{
    definition::Definition,
    engine,
    guard::Keep,
    model::{Command, Event, Facts, Instance, Refusal, Who},
};
use omt_claims::governance::fingerprint;
use omt_kernel::{Actor, Result, manifest::ManifestRecord, person::person, port::UnitOfWork};
use std::collections::{BTreeMap, BTreeSet};

impl Workflows {
    /// Decides what a command does, and writes it.
    pub(super) async fn decide(
        &self,
        unit: &dyn UnitOfWork,
        actor: &Actor,
        bench: Bench,
        command: Command,
        name: &str,
    ) -> Result<Bench> {
        let now = self.deps.clock.now();
        let who = self.who(unit, actor).await?;
        let mut facts = self.facts(unit, &bench.instance, &bench.record).await?;
        // Nobody waits for a deputy whose time is over, whether the timers have looked since or not; who gives it back may.
        let mut events = match command {
            Command::Unclaim { .. } => Vec::new(),
            _ => self.lapsed(unit, &bench.definition, &bench.instance, &facts).await?,
        };
        let mut instance = bench.instance.clone();
        events.iter().for_each(|event| engine::apply(&mut instance, event, now));
        let guards = match &command {
            Command::Take { action, .. } => {
                bench.definition.transition(&instance.state, action).map(|t| t.guards.clone()).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let decide = |facts: &Facts| engine::decide(&bench.definition, &instance, command.clone(), &who, facts, now);
        let ask = self.deps.guards.against(unit, &bench.record, &bench.settings, &instance, &guards, Keep::WithTheMove);
        let decided = weigh(&mut facts, decide, ask).await?;
        if decided.is_empty() {
            return Ok(bench);
        }
        events.extend(decided);
        self.write(unit, actor, bench, events, (name, "")).await
    }

    /// What is so now, as far as the engine depends on it, but for guards: nothing stands against anything yet.
    pub(super) async fn facts(&self, unit: &dyn UnitOfWork, instance: &Instance, record: &ManifestRecord) -> Result<Facts> {
        let mut delegators = BTreeMap::new();
        for delegation in &instance.delegations {
            let found = self.deps.people.find(unit, &instance.tenant, &delegation.from).await?;
            // Whoever does not see the content any more has no place that another could use.
            if let Some(person) = found.filter(|person| person.reach.sees(record)) {
                delegators.insert(delegation.from.clone(), who(person));
            }
        }
        let authors = authors(unit, instance).await?;
        Ok(Facts { fingerprint: fingerprint(record), against: Vec::new(), authors, delegators })
    }

    /// The same for somebody who only looks, on what was decided on: its record is read where something depends on it.
    pub(super) async fn facts_shown(&self, unit: &dyn UnitOfWork, instance: &Instance) -> Result<Facts> {
        let record = match instance.delegations.is_empty() {
            true => None,
            false => unit.manifests().get(&instance.tenant, instance.manifest).await?,
        };
        let facts = match record {
            Some(record) => self.facts(unit, instance, &record).await?,
            None => Facts { authors: authors(unit, instance).await?, ..Facts::default() },
        };
        Ok(Facts { fingerprint: instance.fingerprint.clone(), ..facts })
    }

    /// What gives back tasks that deputies keep whose time is over, and who have no place of their own.
    pub(super) async fn lapsed(
        &self,
        unit: &dyn UnitOfWork,
        definition: &Definition,
        instance: &Instance,
        facts: &Facts,
    ) -> Result<Vec<Event>> {
        let now = self.deps.clock.now();
        let ended = |stage: &str| instance.delegations.iter().any(|d| d.stage == stage && d.ends.is_some_and(|ends| ends <= now));
        let mut out = Vec::new();
        for (stage, holder) in instance.claims.iter().filter(|(stage, _)| ended(stage)) {
            // Whoever is gone has nothing of their own.
            let gone = || Who { subject: holder.clone(), ..Who::default() };
            let holder = self.deps.people.find(unit, &instance.tenant, holder).await?.map_or_else(gone, who);
            let by = Actor::system(instance.tenant.clone()).subject;
            out.extend(engine::lapsed(definition, instance, stage, &holder, facts, (now, &by)));
        }
        Ok(out)
    }
}

/// The people behind those who made the content, and who changed it since it is decided on.
async fn authors(unit: &dyn UnitOfWork, instance: &Instance) -> Result<BTreeSet<String>> {
    let mut out = BTreeSet::new();
    for subject in std::iter::once(&instance.author).chain(&instance.editors) {
        out.insert(person(unit, &instance.tenant, subject).await?);
    }
    Ok(out)
}

/// Decides, and asks what stands against it only where it would be let through: guards may cost much, and whoever is refused
/// anyway has them asked nothing.
async fn weigh(
    facts: &mut Facts,
    decide: impl Fn(&Facts) -> Result<Vec<Event>, Refusal>,
    ask: impl Future<Output = Result<Vec<String>>>,
) -> Result<Vec<Event>> {
    let decided = decide(facts)?;
    facts.against = ask.await?;
    if facts.against.is_empty() { Ok(decided) } else { Ok(decide(facts)?) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::timers::tests::now;
    use std::cell::Cell;

    #[test]
    fn guards_are_asked_about_what_would_be_let_through() {
        let run = |refused: Option<Refusal>, against: &[&str]| {
            let asked = Cell::new(0);
            let mut facts = Facts::default();
            let decide = |facts: &Facts| match (&refused, facts.against.is_empty()) {
                (Some(refusal), _) => Err(refusal.clone()),
                (None, false) => Err(Refusal::Guard(facts.against.clone())),
                (None, true) => Ok(vec![Event::Unclaimed { stage: "review".into(), by: "user:1".into() }]),
            };
            let ask = async {
                asked.set(asked.get() + 1);
                Ok(against.iter().map(|reason| (*reason).to_owned()).collect())
            };
            let done = now(weigh(&mut facts, decide, ask));
            (done.map(|events| events.len()).map_err(|error| error.code), asked.get())
        };
        assert_eq!(run(Some(Refusal::FourEyes), &["no consent"]), (Err("FOUR_EYES"), 0));
        assert_eq!(run(Some(Refusal::ContentChanged), &[]), (Err("CONTENT_CHANGED"), 0));
        assert_eq!(run(None, &["no consent"]), (Err("GUARD_FAILED"), 1));
        assert_eq!(run(None, &[]), (Ok(1), 1));
    }
}
