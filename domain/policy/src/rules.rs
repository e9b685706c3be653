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

/// Labels that say the same: the deprecated one is accepted where the newer one is named, and the reverse.
fn stands_for(label: &str, wanted: &str) -> bool {
    fn base(label: &str) -> &str {
        let without = label.rsplit_once(".v").filter(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        without.map_or(label, |(base, _)| base)
    }
    let creative = ["stds.schema-org.CreativeWork", "cawg.metadata"];
    label == wanted || base(label) == wanted || (creative.contains(&wanted) && creative.contains(&label))
}

fn found_assertion<'a>(facts: &'a Facts, wanted: &str) -> Option<(&'a String, &'a Value)> {
    assertions(facts).find(|(label, _)| stands_for(label, wanted))
}

/// The assertion that was found; where there is none, those that are there.
fn matched(facts: &Sight<'_>, found: Option<&String>) -> Evidence {
    match found {
        Some(label) => seen(facts, &facts::assertion_path(label)),
        None => {
            let labels: Vec<&str> = assertions(facts).map(|(label, _)| label.as_str()).collect();
            Evidence { found: shorten(labels.join(", ")), ..seen(facts, "assertions") }
        }
    }
}

fn assertion(rule: &Rule, facts: &Sight<'_>) -> Found {
    let wanted = rule.assertion_label.as_deref().unwrap_or_default();
    let found = found_assertion(facts, wanted).map(|(label, _)| label);
    let required = rule.rule_type == RuleType::RequiredAssertion;
    Found {
        passed: found.is_some() == required,
        reason: None,
        location: format!("assertions.{wanted}"),
        expected: if required { format!("{wanted} is there") } else { format!("{wanted} is not there") },
        actual: found.map_or_else(|| "not there".to_owned(), |label| format!("{label} is there")),
        evidence: vec![matched(facts, found)],
    }
}

fn field(rule: &Rule, facts: &Sight<'_>) -> Found {
    let path = rule.field_path.as_deref().unwrap_or_default();
    let (found, location, evidence) = match &rule.assertion_label {
        Some(wanted) => {
            let assertion = found_assertion(facts, wanted);
            let found = assertion.and_then(|(_, data)| facts::at(data, path));
            let mut evidence = matched(facts, assertion.map(|(label, _)| label));
            if assertion.is_some() {
                evidence.place = facts::join(&evidence.place, path);
                evidence.found = show(found);
            }
            (found, format!("assertions.{wanted}.{path}"), evidence)
        }
        None => (facts::at(&facts.value, path), path.to_owned(), seen(facts, path)),
    };
    let evidence = vec![evidence];
    let actual = show(found);
    if facts.unverified && rule.assertion_label.is_none() && facts::needs_verification(path, false) {
        let (reason, words) = not_verified();
        let expected = constraint(rule, found).1;
        return Found { passed: false, reason: Some(reason), location, expected, actual: unsaid(&words), evidence };
    }
    let (passed, expected) = constraint(rule, found);
    Found { passed, reason: None, location, expected, actual, evidence }
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
        passed &= found == Some(value);
    }
    if let Some(values) = &rule.allowed_values {
        expected.push(format!("one of {}", values.iter().map(|v| show(Some(v))).collect::<Vec<_>>().join(", ")));
        passed &= found.is_some_and(|found| values.contains(found));
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
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    /// For what is not about time.
    fn late() -> Deadline {
        Deadline::after(Duration::from_secs(600))
    }

    fn facts() -> Facts {
        Facts::new(json!({
            "manifest": { "title": "Poster", "creator": "Example", "classification": "public", "department": "news", "size": 10 },
            "assertions": { "c2pa.actions.v2": { "actions": [{ "action": "c2pa.created" }] }, "cawg.metadata": { "dc:title": "Poster" } },
            "metadata": {}, "ingredients": [], "signature": { "algorithm": "hybrid-es256-ml-dsa-65", "post_quantum": "trusted" },
        }))
    }

    fn rule(json: Value) -> Rule {
        let mut whole = json!({ "name": "r", "severity": "error" });
        whole.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn says(json: Value) -> bool {
        let policy = Policy {
            name: "p".into(),
            description: String::new(),
            department: None,
            classification_level: None,
            shadow: false,
            rules: vec![rule(json)],
        };
        policy.validate().unwrap();
        Compiled::new(policy, 1).evaluate(&facts(), &late()).passed
    }

    #[test]
    fn each_type_of_rule_decides() {
        for (good, bad) in [
            (
                json!({ "rule_type": "required_assertion", "assertion_label": "c2pa.actions" }),
                json!({ "rule_type": "required_assertion", "assertion_label": "cawg.training-mining" }),
            ),
            (
                json!({ "rule_type": "required_assertion", "assertion_label": "stds.schema-org.CreativeWork" }),
                json!({ "rule_type": "forbidden_assertion", "assertion_label": "stds.schema-org.CreativeWork" }),
            ),
            (
                json!({ "rule_type": "required_field", "field_path": "manifest.department" }),
                json!({ "rule_type": "required_field", "field_path": "manifest.project" }),
            ),
            (
                json!({ "rule_type": "value_constraint", "assertion_label": "cawg.metadata", "field_path": "dc:title", "required_value": "Poster" }),
                json!({ "rule_type": "value_constraint", "field_path": "manifest.title", "allowed_values": ["Flyer"] }),
            ),
            (
                json!({ "rule_type": "value_constraint", "field_path": "manifest.size", "min_value": 10, "max_value": 10 }),
                json!({ "rule_type": "value_constraint", "field_path": "manifest.title", "max_value": 3 }),
            ),
            (
                json!({ "rule_type": "classification_constraint", "classification_levels": ["public"] }),
                json!({ "rule_type": "classification_constraint", "classification_levels": ["secret"] }),
            ),
            (
                json!({ "rule_type": "custom_function", "custom_function": "signature.post_quantum == 'trusted'" }),
                json!({ "rule_type": "custom_function", "custom_function": "metadata['no'] == 'such'" }),
            ),
        ] {
            assert!(says(good.clone()), "{good}");
            assert!(!says(bad.clone()), "{bad}");
        }
    }

    #[test]
    fn shipped_policies_mean_something() {
        for policy in Policy::shipped().unwrap() {
            policy.validate().unwrap_or_else(|e| panic!("{}: {:?}", policy.name, e.fields));
            let verdict = Compiled::new(policy, 1).evaluate(&facts(), &late());
            assert!(!verdict.rules.is_empty());
            let expected = verdict.policy == "marketing_content";
            assert_eq!(verdict.passed, expected, "{verdict:#?}");
        }
    }

    #[test]
    fn policies_are_for_what_they_say() {
        let mut policy = Policy::shipped().unwrap().remove(0);
        policy.department = Some("legal".into());
        let verdict = Compiled::new(policy, 1).evaluate(&facts(), &late());
        assert!(!verdict.applies && verdict.passed);
    }

    #[test]
    fn a_policy_that_means_nothing_is_refused_with_every_fault() {
        let bad = json!({ "name": "p", "rules": [
            { "name": "a", "rule_type": "required_field", "severity": "error", "field_path": "manifest.titel" },
            { "name": "a", "rule_type": "value_constraint", "severity": "info", "field_path": "manifest.title" },
            { "name": "c", "rule_type": "custom_function", "severity": "info", "custom_function": "1 +" },
        ] });
        let error = serde_json::from_value::<Policy>(bad).unwrap().validate().unwrap_err();
        let fields: Vec<&str> = error.fields.iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["rules[0].field_path", "rules[1].name", "rules[1].required_value", "rules[2].custom_function"]);
    }

    #[test]
    fn verdicts_show_what_they_were_decided_from() {
        let policy: Policy = serde_json::from_value(json!({ "name": "p", "rules": [
            { "name": "there", "rule_type": "required_assertion", "severity": "error", "assertion_label": "c2pa.actions" },
            { "name": "gone", "rule_type": "forbidden_assertion", "severity": "error", "assertion_label": "x.y" },
            { "name": "within", "rule_type": "required_field", "severity": "error", "assertion_label": "cawg.metadata", "field_path": "dc:title" },
            { "name": "class", "rule_type": "classification_constraint", "severity": "error", "classification_levels": ["public"] },
            { "name": "said", "rule_type": "custom_function", "severity": "error",
              "custom_function": "signature.post_quantum == 'trusted' && manifest.size > 1" },
            { "name": "missing", "rule_type": "custom_function", "severity": "info", "custom_function": "assertions.z.a == 1" },
        ] }))
        .unwrap();
        policy.validate().unwrap();
        let verdict = Compiled::new(policy, 1).evaluate(&facts(), &late());
        assert!(verdict.passed, "{verdict:#?}");
        let seen = |n: usize| -> Vec<(&str, &str, Option<usize>, &str)> {
            let each = verdict.rules[n].evidence.iter();
            each.map(|e| (e.place.as_str(), e.source.as_str(), e.index, e.found.as_str())).collect()
        };
        let actions = "{\"actions\":[{\"action\":\"c2pa.created\"}]}";
        assert_eq!(seen(0), [("assertions[\"c2pa.actions.v2\"]", "definition", Some(0), actions)]);
        assert_eq!(verdict.rules[0].evidence[0].label.as_deref(), Some("c2pa.actions.v2"));
        assert_eq!(seen(1), [("assertions", "definition", None, "c2pa.actions.v2, cawg.metadata")]);
        assert_eq!(seen(2), [("assertions[\"cawg.metadata\"].dc:title", "definition", Some(1), "\"Poster\"")]);
        assert_eq!(seen(3), [("manifest.classification", "record", None, "\"public\"")]);
        let said = [("manifest.size", "content", None, "10"), ("signature.post_quantum", "verification", None, "\"trusted\"")];
        assert_eq!(seen(4), said);
        assert_eq!(seen(5), [("assertions.z.a", "definition", None, "not there")]);
        assert_eq!(verdict.rules[5].reason, Some(Unsaid::ExpressionFailed));
    }

    #[test]
    fn what_cannot_be_said_says_why() {
        let mut policy = Policy::shipped().unwrap().pop().unwrap();
        policy.rules.push(rule(json!({ "name": "trust", "rule_type": "required_field", "field_path": "signature.trust_level" })));
        let compiled = Compiled::new(policy, 1);
        let reasons = |facts: &Facts, deadline: Deadline| -> Vec<(String, Unsaid)> {
            let rules = compiled.evaluate(facts, &deadline).rules;
            rules.into_iter().filter(|rule| !rule.passed).filter_map(|rule| Some((rule.rule, rule.reason?))).collect()
        };
        assert_eq!(reasons(&facts(), late()), []);
        let slow = reasons(&facts(), Deadline::after(Duration::ZERO));
        assert_eq!(slow, [("post-quantum".to_owned(), Unsaid::ExpressionTooSlow)]);
        let mut unverified = facts();
        unverified.unverified = true;
        assert_eq!(reasons(&unverified, late()), [("trust".to_owned(), Unsaid::NotVerified)]);
        let mut large = facts();
        large.value["ingredients"] = json!(vec![json!({}); 101]);
        assert_eq!(reasons(&large, late()), [("post-quantum".to_owned(), Unsaid::TooMuchToLookAt)]);
    }
}
