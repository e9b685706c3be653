//! What rules say of facts. Nothing else counts but the deadline.

use crate::{
    expression::{self, Deadline, Expression},
    facts::{self, Facts},
    model::{Evidence, Policy, Rule, RuleType, RuleVerdict, Severity, Unsaid, Verdict},
};
use cel::Context;
use omt_kernel::manifest::Classification;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
};

/// Evidence that one expression shows at most.
const MAX_EVIDENCE: usize = 16;

/// A policy whose expressions are compiled.
pub struct Compiled {
    /// It.
    pub policy: Policy,
    /// Its version.
    pub version: u32,
    expressions: BTreeMap<String, Result<Expression, String>>,
    /// What of the facts they name.
    roots: BTreeSet<&'static str>,
    /// SHA-256 of the policy and its version; none of a policy that cannot be written.
    digest: Option<[u8; 32]>,
}

/// What was found of a rule.
struct Found {
    passed: bool,
    reason: Option<Unsaid>,
    location: String,
    expected: String,
    actual: String,
    evidence: Vec<Evidence>,
}

/// The facts, and what rules have shown of them: many look at the same place.
struct Sight<'a> {
    facts: &'a Facts,
    shown: RefCell<BTreeMap<String, Evidence>>,
}

impl Deref for Sight<'_> {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        self.facts
    }
}

impl Compiled {
    /// Compiles its expressions.
    pub fn new(policy: Policy, version: u32) -> Self {
        let own = |rule: &Rule| Some((rule.name.clone(), rule.custom_function.clone()?));
        let (names, sources): (Vec<_>, Vec<_>) = policy.rules.iter().filter_map(own).unzip();
        let expressions = match sources.is_empty() {
            true => BTreeMap::new(),
            false => names.into_iter().zip(expression::compile_all(sources)).collect(),
        };
        let roots = expressions.values().flatten().flat_map(Expression::roots).collect();
        let digest = serde_json::to_vec(&(&policy, version)).ok().map(|written| Sha256::digest(written).into());
        Self { policy, version, expressions, roots, digest }
    }

    /// By what a verdict of it on these facts is found again: everything that it depends on. None where that cannot be written.
    pub(crate) fn question(&self, facts: &Facts) -> Option<[u8; 32]> {
        Some(Sha256::new().chain_update(self.digest?).chain_update(facts.digest()?).finalize().into())
    }

    /// Whether there is anything in it that takes time.
    pub fn has_expressions(&self) -> bool {
        !self.expressions.is_empty()
    }

    /// What it says. Expressions that have not ended by the deadline cannot be said.
    pub fn evaluate(&self, facts: &Facts, deadline: &Deadline) -> Verdict {
        let text = |path| facts::at(&facts.value, path).and_then(Value::as_str);
        let classification: Option<Classification> = text("manifest.classification").and_then(|c| c.parse().ok());
        let department = self.policy.department.is_none() || self.policy.department.as_deref() == text("manifest.department");
        let class = self.policy.classification_level.is_none() || self.policy.classification_level == classification;
        let applies = department && class;
        let visible = if applies && self.has_expressions() { facts::for_expressions(&facts.value) } else { None };
        let context = visible.map(|visible| expression::context(visible, &self.roots, deadline));
        let enabled = self.policy.rules.iter().filter(|rule| applies && rule.enabled);
        let sight = Sight { facts, shown: RefCell::default() };
        let rules: Vec<RuleVerdict> = enabled.map(|rule| self.rule(rule, &sight, context.as_ref(), deadline)).collect();
        let passed = rules.iter().all(|rule| rule.passed || rule.severity < Severity::Error);
        Verdict { policy: self.policy.name.clone(), version: self.version, applies, passed, shadow: self.policy.shadow, rules }
    }

    fn rule(&self, rule: &Rule, facts: &Sight<'_>, context: Option<&Context<'_, '_>>, deadline: &Deadline) -> RuleVerdict {
        let found = match rule.rule_type {
            RuleType::RequiredAssertion | RuleType::ForbiddenAssertion => assertion(rule, facts),
            RuleType::RequiredField | RuleType::ValueConstraint => field(rule, facts),
            RuleType::ClassificationConstraint => {
                let found = facts::at(&facts.value, "manifest.classification").cloned().unwrap_or_default();
                let levels = rule.classification_levels.clone().unwrap_or_default();
                let names: Vec<&str> = levels.iter().map(|level| level.as_str()).collect();
                Found {
                    passed: found.as_str().is_some_and(|found| names.contains(&found)),
                    reason: None,
                    location: "manifest.classification".to_owned(),
                    expected: format!("one of {}", names.join(", ")),
                    actual: show(Some(&found)),
                    evidence: vec![seen(facts, "manifest.classification")],
                }
            }
            RuleType::CustomFunction => self.expression(rule, facts, context, deadline),
        };
        let Found { passed, reason, location, expected, actual, evidence } = found;
        RuleVerdict { rule: rule.name.clone(), severity: rule.severity, passed, reason, location, expected, actual, evidence }
    }

    fn expression(&self, rule: &Rule, facts: &Sight<'_>, context: Option<&Context<'_, '_>>, deadline: &Deadline) -> Found {
        let compiled = self.expressions.get(&rule.name);
        let names = compiled.and_then(|compiled| compiled.as_ref().ok()).map(|compiled| &compiled.names);
        let unverified = |(path, whole): (&String, &bool)| facts.unverified && facts::needs_verification(path, *whole);
        let result = match (compiled, context) {
            (Some(Ok(compiled)), _) if compiled.names.iter().any(unverified) => Err(not_verified()),
            (Some(Ok(compiled)), Some(context)) => expression::is_true(compiled, context, deadline),
            (Some(Err(reason)), _) => Err((Unsaid::ExpressionFailed, reason.clone())),
            _ => Err((Unsaid::TooMuchToLookAt, "the manifest says more than an expression may look at".to_owned())),
        };
        let (passed, reason, actual) = match result {
            Ok(result) => (result, None, result.to_string()),
            // What cannot be said is not passed.
            Err((reason, words)) => (false, Some(reason), unsaid(&words)),
        };
        let evidence = names.into_iter().flatten().take(MAX_EVIDENCE).map(|(path, _)| seen(facts, path)).collect();
        let expected = rule.custom_function.clone().unwrap_or_default();
        Found { passed, reason, location: "custom_function".to_owned(), expected, actual, evidence }
    }
}

fn not_verified() -> (Unsaid, String) {
    (Unsaid::NotVerified, "the signature was not verified".to_owned())
}

fn unsaid(reason: &str) -> String {
    format!("cannot be said: {}", reason.chars().take(200).collect::<String>())
}

/// What is at a place of the facts, and whose word it is. Of an assertion, which one.
fn seen(facts: &Sight<'_>, path: &str) -> Evidence {
    if let Some(shown) = facts.shown.borrow().get(path) {
        return shown.clone();
    }
    let (found, source, label) = facts.look(path);
    let index = label.as_ref().and_then(|label| assertions(facts).position(|(known, _)| known == label));
    let shown = Evidence { place: path.to_owned(), source, label: label.filter(|_| index.is_some()), index, found: show(found) };
    facts.shown.borrow_mut().insert(path.to_owned(), shown.clone());
    shown
}

/// The assertions, in their order.
fn assertions(facts: &Facts) -> impl Iterator<Item = (&String, &Value)> {
    facts.value.get("assertions").and_then(Value::as_object).into_iter().flatten()
}

/// The assertion that `cawg.metadata` came for, and that rules name still.
const CREATIVE_WORK: &str = "stds.schema-org.CreativeWork";

/// Whether a label is an instance of the wanted one, in whatever version where the wanted one names none.
fn is_of(label: &str, wanted: &str) -> bool {
    let one = facts::without_instance(label);
    let version = one.rsplit_once(".v").filter(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    label == wanted || one == wanted || version.is_some_and(|(base, _)| base == wanted)
}

/// Whether what a rule asks for is there: what is deprecated is met by what came for it, and not the reverse.
fn meets(label: &str, wanted: &str) -> bool {
    is_of(label, wanted) || (wanted == CREATIVE_WORK && is_of(label, "cawg.metadata"))
}

fn assertion(rule: &Rule, facts: &Sight<'_>) -> Found {
    let wanted = rule.assertion_label.as_deref().unwrap_or_default();
    let required = rule.rule_type == RuleType::RequiredAssertion;
    let fits = |label: &str| if required { meets(label, wanted) } else { is_of(label, wanted) };
    let found: Vec<&str> = assertions(facts).map(|(label, _)| label.as_str()).filter(|label| fits(label)).collect();
    let each = found.iter().take(MAX_EVIDENCE).map(|label| seen(facts, &facts::assertion_path(label)));
    Found {
        passed: found.is_empty() != required,
        reason: None,
        location: format!("assertions.{wanted}"),
        expected: if required { format!("{wanted} is there") } else { format!("{wanted} is not there") },
        actual: if found.is_empty() { "not there".to_owned() } else { shorten(format!("{} is there", found.join(", "))) },
        evidence: if found.is_empty() { vec![labels(facts)] } else { each.collect() },
    }
}

/// Which assertions there are, for who looked for another.
fn labels(facts: &Sight<'_>) -> Evidence {
    let labels: Vec<&str> = assertions(facts).map(|(label, _)| label.as_str()).collect();
    Evidence { found: shorten(labels.join(", ")), ..seen(facts, "assertions") }
}

/// One place where a rule about a field looks.
struct Look<'a> {
    found: Option<&'a Value>,
    evidence: Evidence,
}

/// Every place where a rule about a field looks: in each assertion of the label that it names, beside it or in its path, for nobody
/// knows which of several a reader takes.
fn looks<'a>(rule: &Rule, path: &str, facts: &'a Sight<'_>) -> Vec<Look<'a>> {
    let look = |(label, data): (&String, &'a Value), path: &str| {
        let (evidence, found) = (seen(facts, &facts::assertion_path(label)), facts::within(data, path));
        Look { evidence: Evidence { place: facts::join(&evidence.place, path), found: show(found), ..evidence }, found }
    };
    let one = |evidence| vec![Look { found: None, evidence }];
    match (&rule.assertion_label, facts::into_assertion(path)) {
        (Some(wanted), _) => {
            let all: Vec<_> = assertions(facts).filter(|(label, _)| meets(label, wanted)).map(|it| look(it, path)).collect();
            if all.is_empty() { one(labels(facts)) } else { all }
        }
        (None, Some((wanted, rest))) => {
            let same = |label: &str| label == wanted || facts::without_instance(label) == wanted;
            let all: Vec<_> = assertions(facts).filter(|(label, _)| same(label)).map(|it| look(it, rest)).collect();
            if all.is_empty() { one(seen(facts, path)) } else { all }
        }
        (None, None) => vec![Look { found: facts::at(&facts.value, path), evidence: seen(facts, path) }],
    }
}

fn field(rule: &Rule, facts: &Sight<'_>) -> Found {
    let path = rule.field_path.as_deref().unwrap_or_default();
    let location = match &rule.assertion_label {
        Some(wanted) => format!("assertions.{wanted}.{path}"),
        None => path.to_owned(),
    };
    let mut looks = looks(rule, path, facts);
    if facts.unverified && rule.assertion_label.is_none() && facts::needs_verification(path, false) {
        let (reason, words) = not_verified();
        let expected = constraint(rule, looks.first().and_then(|look| look.found)).1;
        let evidence = looks.into_iter().map(|look| look.evidence).collect();
        return Found { passed: false, reason: Some(reason), location, expected, actual: unsaid(&words), evidence };
    }
    // It holds wherever the field is, and the field is somewhere.
    let nowhere = looks.iter().all(|look| look.found.is_none());
    let broken = looks.iter().position(|look| (nowhere || look.found.is_some()) && !constraint(rule, look.found).0);
    let passed = broken.is_none();
    // What decided comes first.
    let decided = broken.or_else(|| looks.iter().position(|look| look.found.is_some())).unwrap_or_default();
    if decided > 0 {
        looks.swap(0, decided);
    }
    let found = looks.first().and_then(|look| look.found);
    let (expected, actual) = (constraint(rule, found).1, show(found));
    let evidence = looks.into_iter().take(MAX_EVIDENCE).map(|look| look.evidence).collect();
    Found { passed, reason: None, location, expected, actual, evidence }
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

/// Whether a field is as a rule wants it, and how that is.
fn constraint(rule: &Rule, found: Option<&Value>) -> (bool, String) {
    if rule.rule_type == RuleType::RequiredField {
        let empty = match found {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.trim().is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(_) => false,
        };
        return (!empty, "there, and not empty".to_owned());
    }
    let mut expected = Vec::new();
    let mut passed = found.is_some_and(|found| !found.is_null());
    if let Some(value) = &rule.required_value {
        expected.push(show(Some(value)));
        passed &= found.is_some_and(|found| same(found, value));
    }
    if let Some(values) = &rule.allowed_values {
        expected.push(format!("one of {}", values.iter().map(|v| show(Some(v))).collect::<Vec<_>>().join(", ")));
        passed &= found.is_some_and(|found| values.iter().any(|value| same(found, value)));
    }
    let measure = found.and_then(|found| match found {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => Some(text.chars().count() as f64),
        Value::Array(items) => Some(items.len() as f64),
        _ => None,
    });
    if let Some(least) = rule.min_value {
        expected.push(format!("at least {least}"));
        passed &= measure.is_some_and(|n| n >= least);
    }
    if let Some(most) = rule.max_value {
        expected.push(format!("at most {most}"));
        passed &= measure.is_some_and(|n| n <= most);
    }
    (passed, expected.join(", "))
}

/// The most characters of a value that are shown.
const SHOWN: usize = 200;

/// A value in words, cut short. What is not shown is not written either: a list may be long.
fn show(value: Option<&Value>) -> String {
    let Some(value) = value else { return "not there".to_owned() };
    let mut head = Head(Vec::new());
    // It ends with an error when there is enough.
    let whole = serde_json::to_writer(&mut head, value).is_ok();
    // The last character may have been cut.
    let text = String::from_utf8(head.0).unwrap_or_else(|cut| String::from_utf8_lossy(cut.as_bytes()).into_owned());
    if whole { shorten(text) } else { shorten(text + "…") }
}

fn shorten(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The beginning of what is written.
struct Head(Vec<u8>);

impl std::io::Write for Head {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Four bytes are one character at the most, and one more shows that there is more.
        let room = 4 * (SHOWN + 1) - self.0.len();
        self.0.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if room == 0 { Ok(0) } else { Ok(bytes.len().min(room)) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
