//! Who is named for a stage when a workflow begins.

use super::{Workflows, who};
use crate::{
    definition::{Definition, Stage, Transition},
    engine,
};
use omt_kernel::{Error, Result, manifest::ManifestRecord, person::person, port::UnitOfWork};
use std::collections::{BTreeMap, BTreeSet};

/// The most people named for one stage.
const MAX_ASSIGNED: usize = 200;

impl Workflows {
    /// Refuses assignments that could not work: of people who could not decide, so that what they are a part of is never had.
    pub(super) async fn check_assignees(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        definition: &Definition,
        assignees: &BTreeMap<String, BTreeSet<String>>,
    ) -> Result<()> {
        let author = person(unit, &record.tenant, &record.created_by).await?;
        for (name, subjects) in assignees {
            let field = format!("assignees.{name}");
            // States may have stages of the same name: whoever is assigned is assigned in all of them.
            let stages: Vec<(&Transition, Stage)> = definition
                .transitions
                .iter()
                .flat_map(|t| t.all_stages().into_iter().map(move |stage| (t, stage)))
                .filter(|(_, stage)| stage.name == *name)
                .collect();
            if stages.is_empty() {
                return Err(Error::unprocessable_field("UNKNOWN_STAGE", field, "the definition has no such stage"));
            }
            if subjects.is_empty() || subjects.len() > MAX_ASSIGNED {
                return Err(Error::unprocessable_field("INVALID_FIELD", field, "must name 1 to 200 people"));
            }
            for subject in subjects {
                let found = self.deps.people.find(unit, &record.tenant, subject).await?;
                let able = found.filter(|person| person.reach.sees(record)).map(who).is_some_and(|who| {
                    stages.iter().all(|(transition, stage)| engine::fits(definition, transition, stage, &who))
                });
                if !able {
                    let words = format!("{subject} is not there, does not see this content, or could not decide in this stage");
                    return Err(Error::unprocessable_field("NOT_ELIGIBLE", field, words));
                }
            }
            for (transition, stage) in &stages {
                // The author is not among those who approve, whoever assigns them.
                let kept = definition.four_eyes && definition.is_approval(transition);
                let kept = usize::from(kept && [&author, &record.created_by].iter().any(|name| subjects.contains(*name)));
                if subjects.len() - kept < stage.quorum.needed(subjects.len()) {
                    let words = "fewer people than must agree";
                    return Err(Error::unprocessable_field("QUORUM_OUT_OF_REACH", field, words));
                }
            }
        }
        match definition.unassigned(assignees) {
            Some(stage) => {
                let words = "a part of those assigned must agree: name them";
                Err(Error::unprocessable_field("MISSING_FIELD", format!("assignees.{stage}"), words))
            }
            None => Ok(()),
        }
    }
}
