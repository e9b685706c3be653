//! What stands against content when guards ask. Pure.

use crate::{
    ask::undecided,
    model::{RuleVerdict, Unsaid, Verdict},
};
use omt_kernel::{Kind, Result};

/// What was said so far.
#[derive(Default)]
pub(crate) struct Said {
    reasons: Vec<String>,
    /// Whether one of the reasons stays one however often it is asked.
    decided: bool,
    /// Whether something was not decided for want of time.
    open: bool,
}

impl Said {
    /// A policy is not there, and therefore not passed.
    pub(crate) fn missing(&mut self, reason: String) {
        self.decided = true;
        self.reasons.push(reason);
    }

    /// What a policy said, or that there was no time to ask it. Other errors are given back.
    pub(crate) fn hear(&mut self, name: &str, answer: Result<Verdict>) -> Result<()> {
        let verdict = match answer {
            Ok(verdict) => verdict,
            Err(error) if error.kind == Kind::Unavailable => {
                self.open = true;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for rule in verdict.broken() {
            match rule.reason {
                Some(Unsaid::ExpressionTooSlow) => self.open = true,
                _ => self.decided = true,
            }
            let RuleVerdict { rule, location, expected, actual, .. } = rule;
            self.reasons.push(format!("{name}: {rule} at {location}: expected {expected}, found {actual}"));
        }
        Ok(())
    }

    /// The reasons against it. Where there is none but want of time, it is undecided: whoever asks may ask again.
    pub(crate) fn reasons(self) -> Result<Vec<String>> {
        if self.open && !self.decided { Err(undecided()) } else { Ok(self.reasons) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Severity;
    use omt_kernel::Error;

    fn verdict(severity: Severity, reason: Option<Unsaid>) -> Verdict {
        let text = String::new;
        let rule = RuleVerdict {
            rule: "r".into(),
            severity,
            passed: false,
            reason,
            location: text(),
            expected: text(),
            actual: text(),
            evidence: Vec::new(),
        };
        Verdict { policy: "p".into(), version: 1, applies: true, passed: false, shadow: false, rules: vec![rule] }
    }

    fn said(answers: Vec<Result<Verdict>>) -> Result<usize> {
        let mut said = Said::default();
        for answer in answers {
            said.hear("p", answer)?;
        }
        said.reasons().map(|reasons| reasons.len())
    }

    #[test]
    fn want_of_time_is_no_failure() {
        let slow = || Ok(verdict(Severity::Error, Some(Unsaid::ExpressionTooSlow)));
        for answer in [slow(), Err(undecided())] {
            let error = said(vec![answer]).unwrap_err();
            assert!(error.kind == Kind::Unavailable && error.retry_after.is_some(), "{error}");
        }
        assert_eq!(said(vec![Ok(verdict(Severity::Warning, Some(Unsaid::ExpressionTooSlow)))]).unwrap(), 0);
        // What stands against it anyway does so, and asking again would not help.
        assert_eq!(said(vec![slow(), Err(undecided()), Ok(verdict(Severity::Error, None))]).unwrap(), 2);
        assert_eq!(said(vec![Ok(verdict(Severity::Error, Some(Unsaid::NotVerified)))]).unwrap(), 1);
        assert_eq!(said(vec![Err(Error::internal("broken"))]).unwrap_err().kind, Kind::Internal);
        let mut missing = Said::default();
        missing.missing("p: there is no policy".into());
        missing.hear("q", Err(undecided())).unwrap();
        assert_eq!(missing.reasons().unwrap().len(), 1);
    }
}
