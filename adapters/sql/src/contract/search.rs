//! Finding manifests by what is said of them: the same questions find the same on every database.

use super::governance::{manifest, page, tenant};
use crate::SqlDatabase;
use omt_kernel::{
    manifest::{ManifestFilter, ManifestRecord},
    port::Database,
    search::{Question, document},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use sea_orm::ConnectionTrait;
use serde_json::json;
use std::sync::Arc;

/// More than SQLite looks up.
const MANY: usize = 2_100;

fn record(title: &str, words: &str) -> ManifestRecord {
    let metadata = json!({ "xmp": { "dc:subject": words } });
    ManifestRecord { title: title.into(), metadata, ..manifest(Some("news"), "Night-Shift") }
}

async fn add(database: &SqlDatabase, records: &[ManifestRecord]) {
    let unit = database.begin().await.unwrap();
    for record in records {
        unit.manifests().insert(record).await.unwrap();
    }
    unit.commit().await.unwrap();
}

async fn found(database: &SqlDatabase, question: &str) -> Vec<ManifestRecord> {
    let filter = ManifestFilter { search: Some(question.into()), ..Default::default() };
    let read = database.read().await.unwrap();
    let found = read.manifests().list(&tenant(), &filter, page(10_000)).await.unwrap();
    let counted = read.manifests().count_where(&tenant(), &filter).await.unwrap();
    assert_eq!(found.len() as u64, counted, "{question:?}");
    found
}

/// What a question finds, by what it means.
fn meant(records: &[ManifestRecord], question: &str) -> Vec<String> {
    let asked = Question::parse(question);
    let hit = |record: &&ManifestRecord| {
        let said = document(&(*record).into());
        let all = !asked.phrases.is_empty() && asked.phrases.iter().all(|phrase| said.contains(&phrase.needle()));
        record.title.to_lowercase().contains(&question.to_lowercase()) || all
    };
    let mut hits: Vec<String> = records.iter().filter(hit).map(|record| record.id.to_string()).collect();
    hits.sort();
    hits.reverse();
    hits
}

fn ids(records: &[ManifestRecord]) -> Vec<String> {
    records.iter().map(|record| record.id.to_string()).collect()
}

fn corpus() -> Vec<ManifestRecord> {
    let mut all: Vec<ManifestRecord> = (0..MANY).map(|n| record(&format!("Common {n}"), "everywhere; always")).collect();
    all.extend([
        record("Harbour at night", "ferry; blue hour"),
        record("Night at the harbour", "Ferries"),
        record("F-16 over 東京タワー", "aeroplane 100% \\ _"),
        record("Ärger mit ΟΔΟΣ", "naïve cafe\u{301}"),
        record("x", "1e5 -12 3.14 http://example.org/a?b=c v1.2 a-b-c don't"),
        record("Common ferry", "harbour everywhere"),
        record("สวัสดีครับ", "नमस्ते दुनिया"),
        record("it's \"quoted\" (a | b) & !c <-> d:*", "NEAR OR AND NOT title:x ^y + {z}"),
    ]);
    all
}

pub(super) async fn what_is_said_is_found(database: Arc<SqlDatabase>) {
    let all = corpus();
    add(&database, &all).await;
    // Of another tenant nothing is found.
    let other = ManifestRecord { tenant: omt_kernel::TenantId::parse("other").unwrap(), ..record("Harbour at night", "ferry") };
    add(&database, &[other]).await;
    let counts = [
        ("harbour", 3),
        ("HARBOUR ferry", 2),
        ("\"harbour at night\"", 1),
        ("\"at harbour\"", 0),
        ("\"night ferry\"", 0),
        ("ferr*", 3),
        ("ferr", 1),
        ("arbou", 2),
        ("\"blue ho\"*", 1),
        ("f-16", 1),
        ("16-f", 0),
        ("東京", 1),
        ("京 東", 1),
        ("\"京東\"", 0),
        ("οδος", 1),
        ("caf\u{65}\u{301}", 1),
        ("1e5", 1),
        ("-12", 2),
        ("3.14", 1),
        ("v1.2 don't", 1),
        ("example.org/a?b=c", 1),
        ("สวัสดี", 1),
        ("ครับ", 1),
        ("दुनिया", 1),
        ("or and not", 1),
        ("everywhere", MANY + 1),
        ("everywhere always", MANY),
        ("everywhere 2099", 1),
        ("everywhere harbour", 1),
        ("everywhere submarine", 0),
        ("common", MANY + 1),
        ("carla common 7", 1),
        ("carla news night shift", MANY + 8),
        ("%", 0),
        ("_", 0),
        ("!", 1),
        ("***", 0),
        ("\"\"", 0),
    ];
    for (question, count) in counts {
        let found = found(&database, question).await;
        assert_eq!(ids(&found), meant(&all, question), "{question:?}");
        assert_eq!(found.len(), count, "{question:?}");
    }
    // Pages go on where the one before ended, and other conditions count.
    let filter = ManifestFilter { search: Some("everywhere".into()), ..Default::default() };
    let read = database.read().await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let next = omt_kernel::port::Page { after, limit: 500 };
        let found = read.manifests().list(&tenant(), &filter, next).await.unwrap();
        let Some(last) = found.last() else { break };
        after = Some(last.id.0);
        seen.extend(ids(&found));
    }
    assert_eq!(seen, meant(&all, "everywhere"));
    let narrow = ManifestFilter { department: Some("sports".into()), ..filter };
    assert!(read.manifests().list(&tenant(), &narrow, page(10)).await.unwrap().is_empty());
}

pub(super) async fn what_was_said_is_not_found(database: Arc<SqlDatabase>) {
    let mut record = ManifestRecord { creator: "Alice Liddell".into(), ..record("Tea", "hatter") };
    let other = ManifestRecord { creator: "Alice Liddell".into(), ..self::record("Cakes", "dormouse") };
    add(&database, &[record.clone(), other.clone()]).await;
    assert_eq!(found(&database, "liddell alice").await.len(), 2);
    let unit = database.begin().await.unwrap();
    let before = record.revision;
    (record.creator, record.metadata, record.revision) = ("erased".into(), json!({}), before + 1);
    assert!(unit.manifests().update(&record, before).await.unwrap());
    unit.commit().await.unwrap();
    assert_eq!(ids(&found(&database, "liddell").await), [other.id.to_string()]);
    assert_eq!(found(&database, "hatter").await, []);
    assert_eq!(ids(&found(&database, "tea").await), [record.id.to_string()]);
    // An older version changes the record and knows of no text.
    database.write.execute_unprepared("UPDATE manifests SET creator = 'erased' WHERE creator = 'Alice Liddell'").await.unwrap();
    for gone in ["liddell", "alice", "dormouse"] {
        assert_eq!(found(&database, gone).await, [], "{gone}");
    }
    assert_eq!(ids(&found(&database, "cake").await), [other.id.to_string()], "by its title still");
    database.write.execute_unprepared("DELETE FROM manifests").await.unwrap();
    assert_eq!(found(&database, "tea").await, []);
}

pub(super) async fn every_question_is_answered(database: Arc<SqlDatabase>) {
    let all: Vec<ManifestRecord> = corpus().split_off(MANY);
    add(&database, &all).await;
    let mut questions: Vec<String> =
        ["\"", "*", "'", "\\", "\\'", "a\0b", "\0", " ", "AND", "NEAR(", "a:b", "{}", "''", "\u{feff}", "¶"]
            .map(str::to_owned)
            .into();
    // The longest that are let in.
    questions.push(
        (0..255u32).filter_map(|n| char::from_u32(0x561 + n)).map(|c| format!("{c} ")).collect::<String>()[..512].trim().into(),
    );
    questions.extend([
        ('a'..='z').cycle().take(512).collect(),
        "a* ".repeat(170),
        "\"".repeat(512),
        "'".repeat(512),
        "京".repeat(170),
    ]);
    let mut runner = TestRunner::deterministic();
    let anything = proptest::string::string_regex("\\PC{0,40}").unwrap();
    let likely =
        proptest::string::string_regex("([hHa]arbour|night|at|ferr|f-16|[\"'*:&|!()<>\\\\% _.^~-]|東|京|ά|1e5){1,8}").unwrap();
    for _ in 0..150 {
        questions.push(anything.new_tree(&mut runner).unwrap().current());
        questions.push(likely.new_tree(&mut runner).unwrap().current());
    }
    for question in questions {
        assert_eq!(ids(&found(&database, &question).await), meant(&all, &question), "{question:?}");
    }
}
