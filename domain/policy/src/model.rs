//! Policies, their rules, and verdicts.

use crate::cost::MAX_COST;
use omt_kernel::{Error, FieldError, Kind, Result, manifest::Classification};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// The most rules of a policy.
const MAX_RULES: usize = 200;
/// The longest text of a rule.
const MAX_TEXT: usize = 2_000;

/// What kind of rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleType {
    /// The manifest has an assertion.
    RequiredAssertion,
    /// It has not.
    ForbiddenAssertion,
    /// A field is there and not empty.
    RequiredField,
    /// A field has a certain value, one of some, or lies between two.
    ValueConstraint,
    /// The classification is one of some.
    ClassificationConstraint,
    /// A CEL expression is true.
    CustomFunction,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// The policy fails.
    Error,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name, unique in the policy.
    pub name: String,
    /// Words for people.
    #[serde(default)]
    pub description: String,
    /// What kind.
    pub rule_type: RuleType,
    /// How bad it is when it does not hold.
    pub severity: Severity,
    /// Whether it is looked at.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The assertion that it is about. A label without a version stands for every version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assertion_label: Option<String>,
    /// The field, such as `manifest.title`; within the assertion's data where one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_path: Option<String>,
    /// The value that it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_value: Option<Value>,
    /// The values of which it must have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_values: Option<Vec<Value>>,
    /// The least: of a number, or of a text's characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_value: Option<f64>,
    /// The most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_value: Option<f64>,
    /// The classifications of which it must have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classification_levels: Option<BTreeSet<Classification>>,
    /// A CEL expression over `manifest`, `assertions`, `metadata`, `ingredients` and `signature`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_function: Option<String>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Name: lower-case letters, digits, underscores and hyphens.
    pub name: String,
    /// Words for people.
    #[serde(default)]
    pub description: String,
    /// Only for content of this department.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub department: Option<String>,
    /// Only for content of this classification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classification_level: Option<Classification>,
    /// Says what it would say, and stands against nothing.
    #[serde(default)]
    pub shadow: bool,
    /// Rules.
    pub rules: Vec<Rule>,
}

fn yes() -> bool {
    true
}

/// A policy that is to be written.
pub(crate) enum Given {
    /// As somebody gives it.
    New(Policy),
    /// As a version that was written before says it.
    Again(Policy),
    /// The same, to be taken out of force.
    Removed(Policy),
}

impl Given {
    /// It; a new one only where it means something. What was allowed once stays so, whatever checks came since: it is put back when
    /// something newer fails, and can be removed always. Reading expressions of a new one takes time.
    pub(crate) fn checked(self) -> Result<Policy> {
        match self {
            Self::New(policy) => policy.validate().map(|()| policy),
            Self::Again(policy) | Self::Removed(policy) => Ok(policy),
        }
    }
}

/// Why it cannot be said whether a rule holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Unsaid {
    /// The time for the policy's expressions was over.
    ExpressionTooSlow,
    /// The expression gives no truth value.
    ExpressionFailed,
    /// The manifest says more than an expression may look at.
    TooMuchToLookAt,
    /// It depends on what a verification says of the signature, and there was none.
    NotVerified,
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Evidence {
    /// Where, such as `manifest.title`.
    #[schema(example = "manifest.title")]
    pub place: String,
    /// Whose word it is: the manifest's `record`, the `definition` of its claim, the `claim` itself, the `workflow` that approved it,
    /// the `content`; `verification`, with its identifier where it is an earlier one; `none` where nobody verified it.
    #[schema(example = "record")]
    pub source: String,
    /// The label of the assertion that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its place among the assertions, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// What is there, as JSON, cut short after 200 characters.
    pub found: String,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RuleVerdict {
    /// The rule.
    pub rule: String,
    /// How bad it is when it does not hold.
    pub severity: Severity,
    /// Whether it holds. What cannot be said does not.
    pub passed: bool,
    /// Why it cannot be said, where it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Unsaid>,
    /// What it looked at.
    pub location: String,
    /// What would have to be so.
    pub expected: String,
    /// What is so.
    pub actual: String,
    /// What that was decided from, whether it holds or not.
    pub evidence: Vec<Evidence>,
}

/// What a policy says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Verdict {
    /// The policy.
    pub policy: String,
    /// Its version.
    pub version: u32,
    /// Whether it is for this content at all; what is not passes.
    pub applies: bool,
    /// Whether no rule of the severity error is broken.
    pub passed: bool,
    /// Whether it only says so.
    pub shadow: bool,
    /// Rule by rule.
    pub rules: Vec<RuleVerdict>,
}

/// How content stands with a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It passes.
    Passes,
    /// It does not.
    Fails,
    /// It would not be let through, but only for want of a verification, or of time.
    CannotSay,
}

impl RuleVerdict {
    /// Whether it might hold all the same, had somebody looked.
    pub fn is_open(&self) -> bool {
        matches!(self.reason, Some(Unsaid::NotVerified | Unsaid::ExpressionTooSlow))
    }
}

impl Verdict {
    /// The rules for which it stands against content.
    pub fn broken(&self) -> impl Iterator<Item = &RuleVerdict> {
        self.rules.iter().filter(|rule| !rule.passed && rule.severity == Severity::Error)
    }

    /// Whether something could not be said for want of time.
    pub(crate) fn wants_time(&self) -> bool {
        self.rules.iter().any(|rule| rule.reason == Some(Unsaid::ExpressionTooSlow))
    }

    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        let seen = |evidence: &Evidence| 256 + serde_json::to_string(evidence).map_or(0, |written| written.len());
        let rule = |rule: &RuleVerdict| {
            let words = rule.rule.len() + rule.location.len() + rule.expected.len() + rule.actual.len();
            256 + words + rule.evidence.iter().map(seen).sum::<usize>()
        };
        256 + self.policy.len() + self.rules.iter().map(rule).sum::<usize>()
    }

    /// How content stands with it.
    pub fn outcome(&self) -> Outcome {
        let mut broken = self.broken().peekable();
        match (broken.peek().is_some(), broken.all(RuleVerdict::is_open)) {
            (false, _) => Outcome::Passes,
            (true, true) => Outcome::CannotSay,
            (true, false) => Outcome::Fails,
        }
    }
}

impl Policy {
    /// Refuses a policy that means nothing, with every fault at once: 422 `INVALID_POLICY`.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let mut fault = |field: String, reason: &str| faults.push(FieldError { field, reason: reason.to_owned() });
        let good = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
        if self.name.is_empty() || self.name.len() > 64 || !self.name.as_bytes().iter().all(good) {
            fault("name".into(), "1 to 64 of a-z, 0-9, underscores and hyphens");
        }
        if self.description.len() > MAX_TEXT {
            fault("description".into(), "at most 2000 bytes");
        }
        if self.rules.is_empty() || self.rules.len() > MAX_RULES {
            fault("rules".into(), "1 to 200 rules are needed");
        }
        // All on one thread, and that is the dear part: no more of them than there may be rules.
        let sources = self.rules.iter().take(MAX_RULES).filter_map(|rule| rule.custom_function.clone());
        let mut compiled = crate::expression::compile_all(sources.collect()).ok_or_else(crate::ask::undecided)?.into_iter();
        let (mut cost, mut dearest) = (0_u64, (0, String::new()));
        let mut names = BTreeSet::new();
        for (n, rule) in self.rules.iter().enumerate().take(MAX_RULES) {
            let at = |part: &str| format!("rules[{n}].{part}");
            if rule.name.trim().is_empty() || rule.name.len() > 128 || !names.insert(&rule.name) {
                fault(at("name"), "must have 1 to 128 bytes, and be the only one of its name");
            }
            if rule.description.len() > MAX_TEXT {
                fault(at("description"), "at most 2000 bytes");
            }
            let needs = |present: bool, part: &str| if present { None } else { Some(at(part)) };
            let missing = match rule.rule_type {
                RuleType::RequiredAssertion | RuleType::ForbiddenAssertion => {
                    needs(rule.assertion_label.is_some(), "assertion_label")
                }
                RuleType::RequiredField => needs(rule.field_path.is_some(), "field_path"),
                RuleType::ValueConstraint => {
                    let some = rule.required_value.is_some()
                        || rule.allowed_values.is_some()
                        || rule.min_value.is_some()
                        || rule.max_value.is_some();
                    needs(rule.field_path.is_some(), "field_path").or_else(|| needs(some, "required_value"))
                }
                RuleType::ClassificationConstraint => {
                    needs(rule.classification_levels.as_ref().is_some_and(|l| !l.is_empty()), "classification_levels")
                }
                RuleType::CustomFunction => needs(rule.custom_function.is_some(), "custom_function"),
            };
            if let Some(field) = missing {
                fault(field, "this type of rule needs it");
            }
            if let (Some(least), Some(most)) = (rule.min_value, rule.max_value)
                && least > most
            {
                fault(at("min_value"), "is more than max_value");
            }
            if let Some(path) = &rule.field_path
                && let Err(reason) = crate::facts::check_path(path, rule.assertion_label.is_some())
            {
                fault(at("field_path"), &reason);
            }
            let Some(expression) = rule.custom_function.as_ref().and_then(|_| compiled.next()) else { continue };
            match expression {
                Ok(expression) => {
                    if let Some(reason) = &expression.mistyped {
                        fault(at("custom_function"), reason);
                    }
                    if rule.enabled && rule.rule_type == RuleType::CustomFunction {
                        cost = cost.saturating_add(expression.cost);
                        dearest = dearest.max((expression.cost, at("custom_function")));
                    }
                }
                Err(reason) => fault(at("custom_function"), &reason),
            }
        }
        if cost > MAX_COST {
            let (most, field) = dearest;
            let words = format!(
                "would cost too much: the policy's expressions may take {cost} steps in all, of which this one {most}; at most \
                 {MAX_COST} are allowed"
            );
            fault(field, &words);
        }
        if faults.is_empty() {
            return Ok(());
        }
        let mut error = Error::new(Kind::Unprocessable, "INVALID_POLICY", "the policy means nothing as it is");
        error.fields = faults;
        Err(error)
    }

    /// About how many bytes its rules take, compiled too.
    pub(crate) fn weight(&self) -> usize {
        let written = |rule: &Rule| serde_json::to_string(rule).map_or(0, |written| written.len());
        let expression = |rule: &Rule| rule.custom_function.as_ref().map_or(0, String::len);
        self.rules.iter().map(|rule| 1_024 + 8 * (written(rule) + expression(rule))).sum()
    }

    /// The policies that every tenant has.
    pub fn shipped() -> Result<Vec<Self>> {
        let texts = [
            include_str!("../../../policies/organisation/legal_documents.yaml"),
            include_str!("../../../policies/organisation/marketing_content.yaml"),
        ];
        let parse =
            |text| serde_saphyr::from_str(text).map_err(|e| Error::internal(format!("a shipped policy cannot be read: {e}")));
        texts.into_iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_allowed_once_is_put_back_as_it_was() {
        // Written before types and costs were checked.
        for expression in ["manifest.title > 3", "assertions.a.all(a, assertions.b.all(b, a > b))"] {
            let rules =
                json!([{ "name": "r", "rule_type": "custom_function", "severity": "error", "custom_function": expression }]);
            let policy: Policy = serde_json::from_value(json!({ "name": "p", "rules": rules })).unwrap();
            assert_eq!(Given::New(policy.clone()).checked().unwrap_err().code, "INVALID_POLICY");
            assert_eq!(Given::Again(policy.clone()).checked().unwrap(), policy);
            assert_eq!(Given::Removed(policy.clone()).checked().unwrap(), policy);
        }
    }
}
