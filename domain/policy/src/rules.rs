//! What rules say of facts. Nothing else counts but the deadline.

mod sight;

use crate::{
    ask::undecided,
    expression::{self, Deadline, Expression},
    facts::{self, Facts, Path},
    model::{Evidence, Policy, Rule, RuleType, RuleVerdict, Severity, Unsaid, Verdict},
};
use cel::Context;
use omt_kernel::{Result, manifest::Classification};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sight::{Place, Sight, shorten, show};
use std::{collections::BTreeSet, sync::Arc};

/// Evidence that one expression shows at most.
const MAX_EVIDENCE: usize = 16;

/// A policy, read once: its expressions are compiled, and what is the same in every verdict is written.
pub struct Compiled {
    /// It.
    pub policy: Arc<Policy>,
    /// Its version.
    pub version: u32,
    /// What each of its rules looks at, in their order.
    wants: Vec<Want>,
    places: Vec<Path>,
    classification: Place,
    department: Path,
    /// What of the facts the expressions name.
    roots: BTreeSet<&'static str>,
    /// SHA-256 of the policy and its version; none of a policy that cannot be written.
    digest: Option<[u8; 32]>,
}

/// What a rule looks at, and what it wants to see there.
struct Want {
    look: Look,
    location: String,
    expected: String,
}

/// Where a rule looks.
enum Look {
    /// Among the assertions, for those of a label.
    Assertion(String),
    /// At a place.
    Field(Place),
    /// Within each assertion of a label or of what came for it; nobody knows which of several a reader takes.
    Within(String, Path),
    /// Within each assertion of exactly a label, which is what the place says.
    Instances(String, Path, Place),
    /// At the classification.
    Classification,
    /// Where an expression does; the reason, where it cannot be read.
    Expression(Result<Named, String>),
}

/// An expression, and what it names.
struct Named {
    expression: Expression,
    /// The first of them.
    places: Vec<Place>,
    /// Whether it depends on what a verification says of the signature.
    of_verification: bool,
}

/// What was found of a rule.
struct Found {
    passed: bool,
    reason: Option<Unsaid>,
    actual: String,
    evidence: Vec<Evidence>,
}

impl Found {
    /// What is so, where it can be said.
    fn said(passed: bool, actual: String, evidence: Vec<Evidence>) -> Self {
        Self { passed, reason: None, actual, evidence }
    }

    /// What cannot be said is not passed.
    fn unsaid(reason: Unsaid, words: &str, evidence: Vec<Evidence>) -> Self {
        let actual = format!("cannot be said: {}", words.chars().take(200).collect::<String>());
        Self { passed: false, reason: Some(reason), actual, evidence }
    }

    fn not_verified(evidence: Vec<Evidence>) -> Self {
        Self::unsaid(Unsaid::NotVerified, "the signature was not verified", evidence)
    }
}

/// Where the classification is.
const CLASSIFICATION: &str = "manifest.classification";

impl Compiled {
    /// Compiles its expressions; an error, which says nothing about it, where there is no thread to be had for that.
    pub fn new(policy: impl Into<Arc<Policy>>, version: u32) -> Result<Self> {
        let policy = policy.into();
        let is_expression = |rule: &&Rule| rule.rule_type == RuleType::CustomFunction;
        let sources: Vec<String> =
            policy.rules.iter().filter(is_expression).map(|rule| rule.custom_function.clone().unwrap_or_default()).collect();
        let compiled = if sources.is_empty() { Some(Vec::new()) } else { expression::compile_all(sources) };
        let mut compiled = compiled.ok_or_else(undecided)?.into_iter();
        let mut places = Vec::new();
        let classification = Place::of(&mut places, CLASSIFICATION);
        let wants: Vec<Want> = policy.rules.iter().map(|rule| want(rule, &mut compiled, &mut places)).collect();
        let roots = wants.iter().filter_map(Want::expression).flat_map(|named| named.expression.roots()).collect();
        let digest = serde_json::to_vec(&(policy.as_ref(), version)).ok().map(|written| Sha256::digest(written).into());
        let department = Path::new("manifest.department");
        Ok(Self { policy, version, wants, places, classification, department, roots, digest })
    }

    /// By what a verdict of it on these facts is found again: everything that it depends on. None where that cannot be written.
    pub(crate) fn question(&self, facts: &Facts) -> Option<[u8; 32]> {
        Some(Sha256::new().chain_update(self.digest?).chain_update(facts.digest()?).finalize().into())
    }

    /// What it says. Expressions that have not ended by the deadline cannot be said.
    pub fn evaluate(&self, facts: &Facts, deadline: &Deadline) -> Verdict {
        let sight = Sight::new(facts, &self.places);
        let text = |found: Option<&Value>| found.and_then(Value::as_str).map(str::to_owned);
        let classification: Option<Classification> = text(sight.at(self.classification)).and_then(|c| c.parse().ok());
        let department = self.policy.department.is_none() || self.policy.department == text(self.department.follow(&facts.value));
        let class = self.policy.classification_level.is_none() || self.policy.classification_level == classification;
        let applies = department && class;
        let expressions = applies && self.wants.iter().any(|want| want.expression().is_some());
        let visible = if expressions { facts::for_expressions(&facts.value) } else { None };
        let context = visible.map(|visible| expression::context(visible, &self.roots, deadline));
        let enabled = self.policy.rules.iter().zip(&self.wants).filter(|(rule, _)| applies && rule.enabled);
        let verdict = |(rule, want): (&Rule, &Want)| {
            let Found { passed, reason, actual, evidence } = self.found(rule, want, &sight, context.as_ref(), deadline);
            let (rule, severity, location, expected) =
                (rule.name.clone(), rule.severity, want.location.clone(), want.expected.clone());
            RuleVerdict { rule, severity, passed, reason, location, expected, actual, evidence }
        };
        let rules: Vec<RuleVerdict> = enabled.map(verdict).collect();
        let passed = rules.iter().all(|rule| rule.passed || rule.severity < Severity::Error);
        Verdict { policy: self.policy.name.clone(), version: self.version, applies, passed, shadow: self.policy.shadow, rules }
    }

    fn found(
        &self,
        rule: &Rule,
        want: &Want,
        sight: &Sight<'_>,
        context: Option<&Context<'_, '_>>,
        deadline: &Deadline,
    ) -> Found {
        match &want.look {
            Look::Assertion(wanted) => assertion(rule, wanted, sight),
            Look::Classification => {
                let (found, evidence) = (sight.at(self.classification), sight.seen(self.classification));
                let name = found.and_then(Value::as_str);
                let levels = rule.classification_levels.iter().flatten();
                let passed = name.is_some_and(|name| levels.map(|level| level.as_str()).any(|level| level == name));
                Found::said(passed, found.map_or_else(|| "null".to_owned(), |_| evidence.found.clone()), vec![evidence.clone()])
            }
            Look::Field(place) => {
                let one = Seen { found: sight.at(*place), evidence: sight.seen(*place).clone() };
                if sight.facts.unverified && self.places[place.0].needs_verification(false) {
                    return Found::not_verified(vec![one.evidence]);
                }
                field(rule, vec![one])
            }
            Look::Within(wanted, path) => {
                let all = within(sight, path, |label| meets(label, wanted));
                field(rule, if all.is_empty() { vec![Seen { found: None, evidence: sight.labels() }] } else { all })
            }
            Look::Instances(wanted, path, place) => {
                let all = within(sight, path, |label| label == wanted || facts::without_instance(label) == wanted);
                let nowhere = || vec![Seen { found: None, evidence: sight.seen(*place).clone() }];
                field(rule, if all.is_empty() { nowhere() } else { all })
            }
            Look::Expression(Err(reason)) => Found::unsaid(Unsaid::ExpressionFailed, reason, Vec::new()),
            Look::Expression(Ok(named)) => {
                let evidence = named.places.iter().map(|place| sight.seen(*place).clone()).collect();
                if sight.facts.unverified && named.of_verification {
                    return Found::not_verified(evidence);
                }
                match context.map(|context| expression::is_true(&named.expression, context, deadline)) {
                    Some(Ok(result)) => Found::said(result, result.to_string(), evidence),
                    Some(Err((reason, words))) => Found::unsaid(reason, &words, evidence),
                    None => {
                        let words = "the manifest says more than an expression may look at";
                        Found::unsaid(Unsaid::TooMuchToLookAt, words, evidence)
                    }
                }
            }
        }
    }
}

impl Want {
    fn expression(&self) -> Option<&Named> {
        if let Look::Expression(Ok(named)) = &self.look { Some(named) } else { None }
    }
}

/// What a rule wants. Expressions come in the order of their rules; `places` are those that the rules before look at.
fn want(rule: &Rule, compiled: &mut impl Iterator<Item = Result<Expression, String>>, places: &mut Vec<Path>) -> Want {
    let label = rule.assertion_label.as_deref();
    match rule.rule_type {
        RuleType::RequiredAssertion | RuleType::ForbiddenAssertion => {
            let wanted = label.unwrap_or_default();
            let not = if rule.rule_type == RuleType::RequiredAssertion { "" } else { "not " };
            let (location, expected) = (format!("assertions.{wanted}"), format!("{wanted} is {not}there"));
            Want { look: Look::Assertion(wanted.to_owned()), location, expected }
        }
        RuleType::RequiredField | RuleType::ValueConstraint => {
            let path = rule.field_path.as_deref().unwrap_or_default();
            let location = label.map_or_else(|| path.to_owned(), |wanted| format!("assertions.{wanted}.{path}"));
            let look = match (label, facts::into_assertion(path)) {
                (Some(wanted), _) => Look::Within(wanted.to_owned(), Path::new(path)),
                (None, Some((wanted, rest))) => Look::Instances(wanted, Path::new(rest), Place::of(places, path)),
                (None, None) => Look::Field(Place::of(places, path)),
            };
            Want { look, location, expected: constraint(rule) }
        }
        RuleType::ClassificationConstraint => {
            let levels = rule.classification_levels.iter().flatten().map(|level| level.as_str());
            let expected = format!("one of {}", levels.collect::<Vec<_>>().join(", "));
            Want { look: Look::Classification, location: CLASSIFICATION.to_owned(), expected }
        }
        RuleType::CustomFunction => {
            let named = compiled.next().unwrap_or_else(|| Err("cannot be read".to_owned())).map(|expression| {
                let of_verification = expression.names.iter().any(|(path, whole)| Path::new(path).needs_verification(*whole));
                let named = expression.names.keys().take(MAX_EVIDENCE).map(|path| Place::of(places, path)).collect();
                Named { expression, places: named, of_verification }
            });
            let expected = rule.custom_function.clone().unwrap_or_default();
            Want { look: Look::Expression(named), location: "custom_function".to_owned(), expected }
        }
    }
}

/// The assertion that `cawg.metadata` came for, and that rules name still.
const CREATIVE_WORK: &str = "stds.schema-org.CreativeWork";

/// Whether a label is an instance of the wanted one, in whatever version where the wanted one names none.
fn is_of(label: &str, wanted: &str) -> bool {
    let one = facts::without_instance(label);
    let version = one.rsplit_once(".v").filter(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    label == wanted || one == wanted || version.is_some_and(|(base, _)| base == wanted)
}

/// Whether what a rule wants for is there: what is deprecated is met by what came for it, and not the reverse.
fn meets(label: &str, wanted: &str) -> bool {
    is_of(label, wanted) || (wanted == CREATIVE_WORK && is_of(label, "cawg.metadata"))
}

fn assertion(rule: &Rule, wanted: &str, sight: &Sight<'_>) -> Found {
    let required = rule.rule_type == RuleType::RequiredAssertion;
    let fits = |label: &str| if required { meets(label, wanted) } else { is_of(label, wanted) };
    let found: Vec<usize> = (0..sight.assertions.len()).filter(|n| fits(sight.assertions[*n].0)).collect();
    let passed = found.is_empty() != required;
    if found.is_empty() {
        return Found::said(passed, "not there".to_owned(), vec![sight.labels()]);
    }
    let labels: Vec<&str> = found.iter().map(|n| sight.assertions[*n].0).collect();
    let evidence = found.iter().take(MAX_EVIDENCE).map(|n| sight.assertion(*n).clone()).collect();
    Found::said(passed, shorten(format!("{} is there", labels.join(", "))), evidence)
}

/// One place where a rule about a field looked.
struct Seen<'a> {
    found: Option<&'a Value>,
    evidence: Evidence,
}

/// What a path leads to within each assertion whose label fits.
fn within<'a>(sight: &Sight<'a>, path: &Path, fits: impl Fn(&str) -> bool) -> Vec<Seen<'a>> {
    let fitting = (0..sight.assertions.len()).filter(|n| fits(sight.assertions[*n].0));
    let look = |n: usize| {
        let (evidence, found) = (sight.assertion(n).clone(), path.follow(sight.assertions[n].1));
        Seen { evidence: Evidence { place: facts::join(&evidence.place, &path.text), found: show(found), ..evidence }, found }
    };
    fitting.map(look).collect()
}

/// It holds wherever the field is, and the field is somewhere.
fn field(rule: &Rule, mut looks: Vec<Seen<'_>>) -> Found {
    let nowhere = looks.iter().all(|look| look.found.is_none());
    let broken = looks.iter().position(|look| (nowhere || look.found.is_some()) && !holds(rule, look.found));
    // What decided comes first.
    let decided = broken.or_else(|| looks.iter().position(|look| look.found.is_some())).unwrap_or_default();
    if decided > 0 {
        looks.swap(0, decided);
    }
    let actual = match looks.first() {
        Some(look) if look.found.is_some() => look.evidence.found.clone(),
        _ => show(None),
    };
    Found::said(broken.is_none(), actual, looks.into_iter().take(MAX_EVIDENCE).map(|look| look.evidence).collect())
}

/// Whether two values are the same. Numbers are compared as such: 1 is 1.0.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => a == b || ((a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64()),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => one == other,
    }
}

/// How a rule wants a field, in words.
fn constraint(rule: &Rule) -> String {
    if rule.rule_type == RuleType::RequiredField {
        return "there, and not empty".to_owned();
    }
    let one = rule.required_value.iter().map(|value| show(Some(value)));
    let several = |values: &Vec<Value>| format!("one of {}", values.iter().map(|v| show(Some(v))).collect::<Vec<_>>().join(", "));
    let several = rule.allowed_values.iter().map(several);
    let least = rule.min_value.iter().map(|least| format!("at least {least}"));
    let most = rule.max_value.iter().map(|most| format!("at most {most}"));
    one.chain(several).chain(least).chain(most).collect::<Vec<_>>().join(", ")
}

/// Whether a field is as a rule wants it.
fn holds(rule: &Rule, found: Option<&Value>) -> bool {
    let Some(found) = found.filter(|found| !found.is_null()) else { return false };
    if rule.rule_type == RuleType::RequiredField {
        return match found {
            Value::String(text) => !text.trim().is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        };
    }
    let measure = || match found {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => Some(text.chars().count() as f64),
        Value::Array(items) => Some(items.len() as f64),
        _ => None,
    };
    rule.required_value.as_ref().is_none_or(|value| same(found, value))
        && rule.allowed_values.as_ref().is_none_or(|values| values.iter().any(|value| same(found, value)))
        && rule.min_value.is_none_or(|least| measure().is_some_and(|n| n >= least))
        && rule.max_value.is_none_or(|most| measure().is_some_and(|n| n <= most))
}

#[cfg(test)]
mod tests;
