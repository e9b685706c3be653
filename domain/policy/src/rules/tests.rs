//! What each type of rule says.

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
    says_of(&facts(), json)
}

fn says_of(facts: &Facts, json: Value) -> bool {
    let policy = Policy {
        name: "p".into(),
        description: String::new(),
        department: None,
        classification_level: None,
        shadow: false,
        rules: vec![rule(json)],
    };
    policy.validate().unwrap();
    Compiled::new(policy, 1).unwrap().evaluate(facts, &late()).passed
}

fn with_assertions(assertions: Value) -> Facts {
    let mut facts = facts();
    facts.value["assertions"] = assertions;
    facts
}

#[test]
fn each_type_of_rule_decides() {
    for (good, bad) in [
        (
            json!({ "rule_type": "required_assertion", "assertion_label": "c2pa.actions" }),
            json!({ "rule_type": "required_assertion", "assertion_label": "cawg.training-mining" }),
        ),
        // The deprecated one is met by what came for it. Whoever forbids it does not forbid the other, and whoever asks for the
        // other gets it.
        (
            json!({ "rule_type": "required_assertion", "assertion_label": "stds.schema-org.CreativeWork" }),
            json!({ "rule_type": "forbidden_assertion", "assertion_label": "cawg.metadata" }),
        ),
        (
            json!({ "rule_type": "forbidden_assertion", "assertion_label": "stds.schema-org.CreativeWork" }),
            json!({ "rule_type": "forbidden_assertion", "assertion_label": "c2pa.actions" }),
        ),
        // Numbers are compared as numbers.
        (
            json!({ "rule_type": "value_constraint", "field_path": "manifest.size", "required_value": 10.0 }),
            json!({ "rule_type": "value_constraint", "field_path": "manifest.size", "allowed_values": [10.5, "10"] }),
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
fn nothing_hides_behind_another_of_its_kind() {
    let found =
        with_assertions(json!({ "org.x": { "a": 1 }, "org.x.v2": { "a": 2 }, "org.x.v2__1": { "a": 3 }, "org.z__1": {} }));
    let most =
        |most: u32| json!({ "rule_type": "value_constraint", "assertion_label": "org.x", "field_path": "a", "max_value": most });
    assert!(says_of(&found, most(3)) && !says_of(&found, most(2)) && !says_of(&found, most(1)));
    let by_path =
        |most: u32| json!({ "rule_type": "value_constraint", "field_path": "assertions[\"org.x.v2\"].a", "max_value": most });
    assert!(says_of(&found, by_path(3)) && !says_of(&found, by_path(2)));
    assert!(!says_of(&found, json!({ "rule_type": "forbidden_assertion", "assertion_label": "org.z" })));
    // Where a field is not, nothing is said of it; somewhere it must be, and nowhere empty.
    let required = |path: &str| json!({ "rule_type": "required_field", "assertion_label": "org.y", "field_path": path });
    let some = with_assertions(json!({ "org.y": { "a": "", "b": "b" }, "org.y__1": { "a": "a" } }));
    assert!(!says_of(&some, required("a")) && says_of(&some, required("b")) && !says_of(&some, required("c")));
    // The one that decided is shown first.
    let policy: Policy = serde_json::from_value(json!({ "name": "p", "rules": [
        { "name": "r", "rule_type": "value_constraint", "severity": "error", "assertion_label": "org.x", "field_path": "a", "max_value": 2 },
        { "name": "f", "rule_type": "forbidden_assertion", "severity": "error", "assertion_label": "org.x" },
    ] })).unwrap();
    let rules = Compiled::new(policy, 1).unwrap().evaluate(&found, &late()).rules;
    assert_eq!((rules[0].actual.as_str(), rules[0].evidence.len()), ("3", 3));
    assert_eq!(rules[0].evidence[0].place, "assertions[\"org.x.v2__1\"].a");
    assert_eq!((rules[1].actual.as_str(), rules[1].evidence.len()), ("org.x, org.x.v2, org.x.v2__1 is there", 3));
}

#[test]
fn machines_may_be_trained_by_no_assertion() {
    let policy = Policy::shipped().unwrap().into_iter().find(|policy| policy.name == "legal_documents").unwrap();
    let compiled = Compiled::new(policy, 1).unwrap();
    let no_training = |assertions: Value| {
        let rules = compiled.evaluate(&with_assertions(assertions), &late()).rules;
        rules.into_iter().find(|rule| rule.rule == "no-training").unwrap().passed
    };
    let says = |word: &str| json!({ "entries": { "cawg.ai_training": { "use": word } } });
    assert!(no_training(json!({ "org.x": {} })));
    assert!(no_training(json!({ "cawg.training-mining": says("notAllowed") })));
    assert!(!no_training(json!({ "cawg.training-mining": says("allowed") })));
    let second = |word: &str| json!({ "cawg.training-mining": says("notAllowed"), "cawg.training-mining__1": says(word) });
    assert!(no_training(second("notAllowed")) && !no_training(second("allowed")));
}

#[test]
fn shipped_policies_mean_something() {
    for policy in Policy::shipped().unwrap() {
        policy.validate().unwrap_or_else(|e| panic!("{}: {:?}", policy.name, e.fields));
        let verdict = Compiled::new(policy, 1).unwrap().evaluate(&facts(), &late());
        assert!(!verdict.rules.is_empty());
        let expected = verdict.policy == "marketing_content";
        assert_eq!(verdict.passed, expected, "{verdict:#?}");
    }
}

#[test]
fn policies_are_for_what_they_say() {
    let mut policy = Policy::shipped().unwrap().remove(0);
    policy.department = Some("legal".into());
    let verdict = Compiled::new(policy, 1).unwrap().evaluate(&facts(), &late());
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
    let verdict = Compiled::new(policy, 1).unwrap().evaluate(&facts(), &late());
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
    let compiled = Compiled::new(policy, 1).unwrap();
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
