//! Workflows, tasks, evidence, policies, messages; and what the migration of users keeps.

use super::now;
use crate::SqlDatabase;
use omt_kernel::{
    DeliveryId, EndpointId, EvidenceId, ManifestId, NotificationId, OffsetDateTime, Reach, TaskId, TenantId, WorkflowId,
    document::{DocumentKind, VersionRecord},
    governance::{
        DueReport, EvidenceRecord, NotificationRecord, ReportRecord, TaskFilter, TaskRecord, WorkflowFilter, WorkflowRecord,
    },
    manifest::{BlobRef, Classification, ManifestRecord, ManifestState, SignedParts},
    port::{Database, Page},
    webhook::{About, DeliveryFilter, DeliveryRecord, EndpointRecord},
};
use sea_orm::ConnectionTrait;
use serde_json::json;
use std::{collections::BTreeSet, sync::Arc};
use time::Duration;
use uuid::Uuid;

pub(super) fn tenant() -> TenantId {
    TenantId::default_tenant()
}

pub(super) fn page(limit: u32) -> Page {
    Page { after: None, limit }
}

pub(super) fn manifest(department: Option<&str>, project: &str) -> ManifestRecord {
    ManifestRecord {
        id: ManifestId(Uuid::now_v7()),
        tenant: tenant(),
        revision: 1,
        state: ManifestState::Draft,
        title: "A".into(),
        creator: "carla".into(),
        department: department.map(Into::into),
        project: Some(project.into()),
        organization: None,
        classification: Classification::Internal,
        media_type: "image/jpeg".into(),
        file_name: None,
        source: BlobRef { sha256: "ab".into(), size: 1 },
        source_kept: true,
        definition: json!({}),
        metadata: json!({}),
        ingredients: vec![],
        signed: None,
        created_by: "user:1".into(),
        created_at: now(),
        updated_at: now(),
        archived: None,
        legal_hold: None,
        content_deleted_at: None,
    }
}

fn workflow(manifest: &ManifestRecord, open: bool) -> WorkflowRecord {
    WorkflowRecord {
        id: WorkflowId(Uuid::now_v7()),
        tenant: tenant(),
        manifest: manifest.id,
        definition: "default".into(),
        state: "draft".into(),
        open,
        revision: 1,
        created_by: "user:1".into(),
        created_at: now(),
        updated_at: now(),
        pending_since: None,
        data: json!({ "a": 1 }),
    }
}

fn task(workflow: &WorkflowRecord, candidates: &[&str]) -> TaskRecord {
    TaskRecord {
        id: TaskId(Uuid::now_v7()),
        tenant: tenant(),
        workflow: workflow.id,
        manifest: workflow.manifest,
        visit: 1,
        action: "approve".into(),
        stage: "approve".into(),
        title: "Approve".into(),
        role: "approver".into(),
        candidates: candidates.iter().map(|c| (*c).to_owned()).collect(),
        done_by: BTreeSet::new(),
        decided: 0,
        needed: 1,
        claimed_by: None,
        due_at: Some(now()),
        next_at: Some(now() + Duration::hours(1)),
        lent_at: None,
        created_at: now(),
    }
}

/// A workflow is replaced only as it was seen, is found by its manifest, and a manifest has one open one.
pub(super) async fn workflows_are_kept_as_seen(database: Arc<SqlDatabase>) {
    let record = manifest(Some("legal"), "atlas");
    let unit = database.begin().await.unwrap();
    unit.manifests().insert(&record).await.unwrap();
    let mut first = workflow(&record, true);
    unit.workflows().insert(&first).await.unwrap();
    unit.commit().await.unwrap();
    let unit = database.begin().await.unwrap();
    assert!(unit.workflows().insert(&workflow(&record, true)).await.is_err(), "a second open one");
    drop(unit);
    let unit = database.begin().await.unwrap();
    unit.workflows().insert(&workflow(&record, false)).await.unwrap();
    (first.revision, first.state, first.pending_since) = (2, "approved".into(), Some(now()));
    assert!(!unit.workflows().update(&first, 7).await.unwrap());
    assert!(unit.workflows().update(&first, 1).await.unwrap());
    unit.commit().await.unwrap();

    let read = database.read().await.unwrap();
    assert_eq!(read.workflows().get(&tenant(), first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(read.workflows().get(&TenantId::parse("other").unwrap(), first.id).await.unwrap(), None);
    assert_eq!(read.workflows().of_manifest(&tenant(), record.id, true).await.unwrap().unwrap().id, first.id);
    assert_ne!(read.workflows().of_manifest(&tenant(), record.id, false).await.unwrap().unwrap().id, first.id);
    assert_eq!(read.workflows().stuck(now() + Duration::seconds(1), 5).await.unwrap().len(), 1);
    assert_eq!(read.workflows().stuck(now() - Duration::hours(1), 5).await.unwrap().len(), 0);
    let within = |department: &str| WorkflowFilter {
        reach: Some(Reach { department: Some(department.into()), ..Reach::ALL }),
        ..WorkflowFilter::default()
    };
    assert_eq!(read.workflows().list(&tenant(), &within("legal"), page(5)).await.unwrap().len(), 2);
    assert_eq!(read.workflows().list(&tenant(), &within("news"), page(5)).await.unwrap().len(), 0);
    let open = WorkflowFilter { open: Some(true), state: Some("approved".into()), ..WorkflowFilter::default() };
    assert_eq!(read.workflows().list(&tenant(), &open, page(5)).await.unwrap().len(), 1);
}

/// Documents have versions, the newest is the newest by number, and kinds do not meet.
pub(super) async fn versions_are_in_order(database: Arc<SqlDatabase>) {
    let unit = database.begin().await.unwrap();
    let kinds = [DocumentKind::WorkflowDefinition, DocumentKind::Policy, DocumentKind::CompliancePolicy];
    for kind in kinds {
        for version in [2, 10, 9] {
            let record = VersionRecord {
                kind,
                tenant: tenant(),
                name: "default".into(),
                version,
                data: json!({ "version": version, "kind": kind.words() }),
                created_by: "user:1".into(),
                created_at: now(),
            };
            assert!(unit.documents().insert(&record).await.unwrap());
            assert!(!unit.documents().insert(&record).await.unwrap());
        }
    }
    for kind in kinds {
        let get = async |version| unit.documents().get(kind, &tenant(), "default", version).await.unwrap();
        let newest = get(None).await.unwrap();
        assert_eq!((newest.version, &newest.data["kind"]), (10, &json!(kind.words())));
        assert_eq!(get(Some(9)).await.unwrap().version, 9);
        let number = async |tenant, name| unit.documents().newest(kind, &tenant, name).await.unwrap();
        let other = TenantId::parse("other").unwrap();
        assert_eq!(number(tenant(), "default").await, Some(10));
        assert_eq!((number(tenant(), "another").await, number(other.clone(), "default").await), (None, None));
        assert_eq!(get(Some(3)).await, None);
        let all = unit.documents().list(kind, &tenant()).await.unwrap();
        assert_eq!(all, [newest]);
        let every = unit.documents().versions(kind, &tenant(), "default").await.unwrap();
        assert_eq!(every.iter().map(|d| d.version).collect::<Vec<_>>(), [10, 9, 2]);
        assert_eq!(unit.documents().list(kind, &other).await.unwrap(), []);
    }
}

/// Tasks wait for candidates, on content within reach; claimed, for one; gone, for nobody.
pub(super) async fn tasks_wait_for_their_candidates(database: Arc<SqlDatabase>) {
    let (legal, news) = (manifest(Some("legal"), "atlas"), manifest(Some("news"), "other"));
    let unit = database.begin().await.unwrap();
    let mut tasks = Vec::new();
    for record in [&legal, &news] {
        unit.manifests().insert(record).await.unwrap();
        let workflow = workflow(record, true);
        unit.workflows().insert(&workflow).await.unwrap();
        let task = task(&workflow, &["role:approver", "group:desk"]);
        unit.tasks().put(&task).await.unwrap();
        tasks.push(task);
    }
    unit.commit().await.unwrap();
    let of = |names: &[&str]| TaskFilter {
        candidates: Some(names.iter().map(|n| (*n).to_owned()).collect()),
        ..TaskFilter::default()
    };
    let unit = database.begin().await.unwrap();
    let found = unit.tasks().inbox(&tenant(), &of(&["role:approver", "group:desk"]), page(5)).await.unwrap();
    assert_eq!(found.iter().map(|t| t.id).collect::<Vec<_>>(), [tasks[1].id, tasks[0].id], "each once, newest first");
    let first = unit.tasks().inbox(&tenant(), &of(&["role:approver"]), page(1)).await.unwrap();
    let after = Page { after: Some(first[0].id.0), limit: 5 };
    assert_eq!(unit.tasks().inbox(&tenant(), &of(&["role:approver"]), after).await.unwrap()[0].id, tasks[0].id);
    let reach = TaskFilter { reach: Some(Reach { department: Some("news".into()), ..Reach::ALL }), ..of(&["role:approver"]) };
    assert_eq!(unit.tasks().inbox(&tenant(), &reach, page(5)).await.unwrap().len(), 1);
    let project = TaskFilter { project: Some("atlas".into()), ..of(&["group:desk"]) };
    assert_eq!(unit.tasks().inbox(&tenant(), &project, page(5)).await.unwrap()[0].id, tasks[0].id);
    unit.tasks().set_project(&tenant(), tasks[0].workflow, Some("hermes")).await.unwrap();
    assert_eq!(unit.tasks().inbox(&tenant(), &project, page(5)).await.unwrap(), []);
    let overdue = TaskFilter { due_before: Some(now() + Duration::days(400)), ..of(&["group:desk", "role:approver"]) };
    let found = unit.tasks().inbox(&tenant(), &overdue, page(5)).await.unwrap();
    let (first, second) = (found[0].due_at.unwrap(), found[1].due_at.unwrap());
    assert!(found.len() == 2 && first <= second, "the most overdue first");
    for filter in [overdue.clone(), TaskFilter { candidates: None, ..overdue }] {
        let one = unit.tasks().inbox(&tenant(), &filter, page(1)).await.unwrap();
        let rest = unit.tasks().inbox(&tenant(), &filter, Page { after: Some(one[0].id.0), limit: 5 }).await.unwrap();
        assert_eq!([one, rest].concat(), found);
    }
    let overdue = TaskFilter { due_before: Some(now() - Duration::hours(1)), ..of(&["group:desk"]) };
    assert_eq!(unit.tasks().count(&tenant(), &overdue, 10).await.unwrap(), 0);
    assert_eq!(unit.tasks().count(&tenant(), &of(&["role:approver", "group:desk"]), 10).await.unwrap(), 2);
    assert_eq!(unit.tasks().count(&tenant(), &of(&["role:approver"]), 1).await.unwrap(), 1, "no further than asked");
    assert_eq!(unit.tasks().inbox(&tenant(), &TaskFilter::default(), page(5)).await.unwrap().len(), 2);

    (tasks[0].candidates, tasks[0].claimed_by) = (["user:7".to_owned()].into(), Some("user:7".into()));
    unit.tasks().put(&tasks[0]).await.unwrap();
    assert_eq!(unit.tasks().inbox(&tenant(), &of(&["role:approver"]), page(5)).await.unwrap().len(), 1);
    assert_eq!(unit.tasks().inbox(&tenant(), &of(&["user:7"]), page(5)).await.unwrap(), [tasks[0].clone()]);
    assert_eq!(unit.tasks().due(now(), 5).await.unwrap().len(), 0);
    assert_eq!(unit.tasks().due(now() + Duration::hours(2), 5).await.unwrap().len(), 2);
    // A place that is lent before its alarm is looked at before, and the alarm stays what it is.
    let mut lent = TaskRecord { lent_at: Some(now() - Duration::minutes(1)), ..tasks[1].clone() };
    unit.tasks().put(&lent).await.unwrap();
    assert_eq!(unit.tasks().due(now(), 5).await.unwrap(), [lent.clone()]);
    (lent.next_at, lent.lent_at) = (None, Some(now() + Duration::hours(3)));
    unit.tasks().put(&lent).await.unwrap();
    assert_eq!(unit.tasks().get(&tenant(), lent.id).await.unwrap(), Some(lent));
    assert_eq!(unit.tasks().due(now() + Duration::hours(2), 5).await.unwrap().len(), 1);
    unit.tasks().remove(&TenantId::parse("other").unwrap(), tasks[0].id).await.unwrap();
    assert!(unit.tasks().get(&tenant(), tasks[0].id).await.unwrap().is_some(), "not another tenant's");
    unit.tasks().remove(&tenant(), tasks[0].id).await.unwrap();
    assert_eq!(unit.tasks().inbox(&tenant(), &of(&["user:7"]), page(5)).await.unwrap(), []);
}

/// Evidence is found by what it is about, each kind by itself, and reports by the evidence that they looked for.
pub(super) async fn evidence_is_found_by_what_it_is_about(database: Arc<SqlDatabase>) {
    let record = |kind: &str, key: &str| EvidenceRecord {
        id: EvidenceId(Uuid::now_v7()),
        tenant: tenant(),
        kind: kind.into(),
        key: key.into(),
        revision: 1,
        data: json!({ "kind": kind }),
        created_by: "user:1".into(),
        created_at: now(),
        updated_at: now(),
    };
    let unit = database.begin().await.unwrap();
    let rights = record("rights", "content:ab");
    unit.compliance().insert_evidence(&rights).await.unwrap();
    for _ in 0..150 {
        unit.compliance().insert_evidence(&record("declaration", "content:ab")).await.unwrap();
    }
    unit.compliance().insert_evidence(&record("consent", "person:x")).await.unwrap();
    let keys = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    let found = unit.compliance().about(&tenant(), &keys(&["content:ab"])).await.unwrap();
    assert!(found.contains(&rights), "much of one kind hides no other");
    assert!(found.len() <= 101);
    assert_eq!(unit.compliance().about(&TenantId::parse("other").unwrap(), &keys(&["content:ab"])).await.unwrap(), []);
    assert_eq!(unit.compliance().about(&tenant(), &keys(&[])).await.unwrap(), []);
    let mut changed = rights.clone();
    changed.revision = 2;
    assert!(!unit.compliance().update_evidence(&changed, 5).await.unwrap());
    assert!(unit.compliance().update_evidence(&changed, 1).await.unwrap());

    let about = ManifestId(Uuid::now_v7());
    let report = |status: &str, names: &[&str]| ReportRecord {
        tenant: tenant(),
        manifest: about,
        policy: "p".into(),
        status: status.into(),
        keys: keys(names),
        data: json!({ "status": status }),
        at: now(),
        turns_at: None,
    };
    unit.compliance().put_report(&report("failed", &["person:x", "content:ab"])).await.unwrap();
    assert_eq!(unit.compliance().dependents(&tenant(), "person:x", page(5)).await.unwrap(), [about]);
    unit.compliance().put_report(&report("passed", &["content:ab"])).await.unwrap();
    assert_eq!(unit.compliance().dependents(&tenant(), "person:x", page(5)).await.unwrap(), []);
    let kept = unit.compliance().reports(&tenant(), about).await.unwrap();
    assert_eq!(kept.iter().map(|r| r.status.as_str()).collect::<Vec<_>>(), ["passed"]);

    // What is due by itself is found in pages, whoever's it is, until it is not due any more.
    let due = |n: i64, manifest: ManifestId| ReportRecord {
        manifest,
        turns_at: Some(now() + Duration::seconds(n)),
        ..report("passed", &["content:ab"])
    };
    let others: Vec<ManifestId> = (0..3).map(|_| ManifestId(Uuid::now_v7())).collect();
    let foreign = ReportRecord { tenant: TenantId::parse("other").unwrap(), ..due(-7, others[0]) };
    for report in [due(-5, about), foreign, due(-5, others[1]), due(60, others[2])] {
        unit.compliance().put_report(&report).await.unwrap();
    }
    let look = async |after: Option<&DueReport>, limit| unit.compliance().due_reports(now(), after, limit).await.unwrap();
    let first = look(None, 2).await;
    let rest = look(first.last(), 2).await;
    let found: Vec<ManifestId> = first.iter().chain(&rest).map(|due| due.manifest).collect();
    assert_eq!((found, first.len()), (vec![others[0], about, others[1]], 2));
    assert_eq!(first[0].tenant.as_str(), "other");
    assert_eq!(look(rest.last(), 2).await, []);
    unit.compliance().put_report(&report("passed", &["content:ab"])).await.unwrap();
    assert!(!look(None, 9).await.iter().any(|due| due.manifest == about), "nothing of it ends any more");
}

/// Messages are for their audience, within reach, until they are read or forgotten.
pub(super) async fn messages_reach_their_audience(database: Arc<SqlDatabase>) {
    let (legal, news) = (manifest(Some("legal"), "a"), manifest(Some("news"), "a"));
    let unit = database.begin().await.unwrap();
    let mut ids = Vec::new();
    for record in [&legal, &news, &legal] {
        if ids.len() < 2 {
            unit.manifests().insert(record).await.unwrap();
        }
        let message = NotificationRecord {
            id: NotificationId(Uuid::now_v7()),
            tenant: tenant(),
            audience: "role:approver".into(),
            kind: "test".into(),
            data: json!({}),
            manifest: record.id,
            created_at: now(),
        };
        unit.notifications().insert(&message).await.unwrap();
        ids.push(message.id);
    }
    let to: BTreeSet<String> = ["role:approver".to_owned()].into();
    let narrow = Reach { department: Some("legal".into()), ..Reach::ALL };
    let list =
        async |reach: &Reach, unread| unit.notifications().list(&tenant(), &to, reach, "user:1", unread, page(5)).await.unwrap();
    assert_eq!(list(&Reach::ALL, false).await.len(), 3);
    assert_eq!(list(&narrow, false).await.iter().map(|(m, _)| m.id).collect::<Vec<_>>(), [ids[2], ids[0]]);
    unit.notifications().read(ids[2], "user:1", now()).await.unwrap();
    unit.notifications().read(ids[2], "user:1", now()).await.unwrap();
    assert_eq!(list(&Reach::ALL, true).await.len(), 2);
    assert_eq!(list(&Reach::ALL, false).await.iter().filter(|(_, read)| *read).count(), 1);
    assert_eq!(unit.notifications().list(&tenant(), &to, &Reach::ALL, "user:2", true, page(5)).await.unwrap().len(), 3);
    assert_eq!(unit.notifications().forget(now() + Duration::seconds(1)).await.unwrap(), 3);
    assert_eq!(list(&Reach::ALL, false).await.len(), 0);
}

/// Endpoints are their tenant's, changed by those who saw what they change, and take their deliveries along.
pub(super) async fn webhooks_are_their_tenants(database: Arc<SqlDatabase>) {
    let other = TenantId::parse("other").unwrap();
    let unit = database.begin().await.unwrap();
    let endpoint = |n: u8| EndpointRecord {
        id: EndpointId(Uuid::now_v7()),
        tenant: tenant(),
        revision: 1,
        enabled: true,
        data: json!({ "n": n }),
        created_by: "user:1".into(),
        created_at: now(),
        updated_at: now(),
    };
    let (one, two) = (endpoint(1), endpoint(2));
    for record in [&one, &two] {
        unit.webhooks().insert_endpoint(record).await.unwrap();
    }
    assert_eq!(unit.webhooks().endpoints(&tenant()).await.unwrap(), [one.clone(), two.clone()]);
    assert_eq!(unit.webhooks().endpoints(&other).await.unwrap(), []);
    assert_eq!(unit.webhooks().endpoint(&other, one.id).await.unwrap(), None);
    let changed = EndpointRecord { revision: 2, enabled: false, ..one.clone() };
    assert!(!unit.webhooks().update_endpoint(&changed, 5).await.unwrap());
    let stolen = EndpointRecord { tenant: other.clone(), ..changed.clone() };
    assert!(!unit.webhooks().update_endpoint(&stolen, 1).await.unwrap());
    assert!(unit.webhooks().update_endpoint(&changed, 1).await.unwrap());
    assert_eq!(unit.webhooks().endpoint(&tenant(), one.id).await.unwrap(), Some(changed));

    let delivery = |endpoint: &EndpointRecord, state: &str, age: i64| DeliveryRecord {
        id: DeliveryId(Uuid::now_v7()),
        tenant: tenant(),
        endpoint: endpoint.id,
        message: Uuid::now_v7(),
        event: "manifest.signed".into(),
        state: state.into(),
        about: Some(About {
            manifest: ManifestId(Uuid::nil()),
            department: Some("news".into()),
            project: None,
            classification: Classification::Secret,
        }),
        data: json!({}),
        created_at: now() - Duration::days(age),
        updated_at: now(),
    };
    let made = [delivery(&one, "failed", 9), delivery(&one, "pending", 0), delivery(&two, "failed", 0)];
    for record in &made {
        unit.webhooks().insert_delivery(record).await.unwrap();
    }
    let list = async |filter: &DeliveryFilter| unit.webhooks().deliveries(&tenant(), filter, page(5)).await.unwrap();
    let of_one = DeliveryFilter { endpoint: Some(one.id), ..DeliveryFilter::default() };
    assert_eq!(list(&of_one).await, [made[1].clone(), made[0].clone()], "newest first");
    let failed = DeliveryFilter { state: Some("failed".into()), ..of_one.clone() };
    assert_eq!(list(&failed).await, [made[0].clone()]);
    let recent = DeliveryFilter { since: Some(now() - Duration::days(1)), ..failed.clone() };
    assert_eq!(list(&recent).await, []);
    let undelivered = DeliveryFilter { undelivered: true, ..of_one.clone() };
    assert_eq!(list(&undelivered).await.len(), 2);
    for (reach, seen) in [
        (Reach::ALL, 2),
        (Reach { clearance: Classification::Internal, ..Reach::ALL }, 0),
        (Reach { department: Some("legal".into()), ..Reach::ALL }, 0),
        (Reach { department: Some("news".into()), ..Reach::ALL }, 2),
    ] {
        assert_eq!(list(&DeliveryFilter { reach: Some(reach), ..of_one.clone() }).await.len(), seen);
    }
    let sung = DeliveryFilter { event: Some("manifest.sung".into()), ..DeliveryFilter::default() };
    assert_eq!(list(&sung).await, []);
    assert_eq!(unit.webhooks().deliveries(&other, &of_one, page(5)).await.unwrap(), []);
    assert_eq!(unit.webhooks().delivery(&other, made[0].id).await.unwrap(), None);
    let done = DeliveryRecord { state: "delivered".into(), ..made[1].clone() };
    assert!(unit.webhooks().update_delivery(&done).await.unwrap());
    assert_eq!(unit.webhooks().delivery(&tenant(), made[1].id).await.unwrap(), Some(done.clone()));
    assert!(!unit.webhooks().update_delivery(&DeliveryRecord { id: DeliveryId(Uuid::now_v7()), ..done }).await.unwrap());
    assert_eq!(unit.webhooks().forget_deliveries(now() - Duration::days(5)).await.unwrap(), 1);
    assert!(!unit.webhooks().delete_endpoint(&other, one.id).await.unwrap());
    assert!(unit.webhooks().delete_endpoint(&tenant(), one.id).await.unwrap());
    assert_eq!(unit.webhooks().forget_deliveries(now() - Duration::days(5)).await.unwrap(), 1, "its endpoint is gone");
    assert_eq!(list(&of_one).await, []);
    assert_eq!(unit.webhooks().deliveries(&tenant(), &DeliveryFilter::default(), page(5)).await.unwrap().len(), 1);
}

/// What was signed before signatures kept their workflow is told it: the one that was open then, and none that was over.
pub(super) async fn the_attested_migration_knows_who_approved(database: Arc<SqlDatabase>) {
    let signed_at = now();
    let signed = || {
        let mut record = manifest(None, "atlas");
        record.state = ManifestState::Signed;
        let blob = |c: char| BlobRef { sha256: c.to_string().repeat(64), size: 1 };
        record.signed = Some(SignedParts {
            asset: blob('a'),
            manifest_store: blob('b'),
            embedded: true,
            algorithm: "es256".into(),
            manifest_label: "urn:c2pa:x".into(),
            signed_at,
            workflow: None,
        });
        record
    };
    let second = Duration::seconds(1);
    let of = |record: &ManifestRecord, open: bool, updated_at: OffsetDateTime| {
        let created_at = signed_at - Duration::hours(1);
        WorkflowRecord { created_at, updated_at, ..workflow(record, open) }
    };
    let unit = database.begin().await.unwrap();
    let (alone, draft) = (signed(), manifest(None, "atlas"));
    let mut expected = vec![(alone.id, None), (draft.id, None)];
    unit.manifests().insert(&alone).await.unwrap();
    unit.manifests().insert(&draft).await.unwrap();
    unit.workflows().insert(&of(&draft, true, signed_at)).await.unwrap();
    for (open, updated_at, attested) in [
        (false, signed_at + second, true),
        (true, signed_at - second, true),
        (true, signed_at + second, true),
        (false, signed_at - second, false),
    ] {
        let record = signed();
        unit.manifests().insert(&record).await.unwrap();
        // One that was given up long before.
        unit.workflows().insert(&of(&record, false, signed_at - second * 60)).await.unwrap();
        let workflow = of(&record, open, updated_at);
        unit.workflows().insert(&workflow).await.unwrap();
        expected.push((record.id, attested.then_some(workflow.id)));
    }
    unit.commit().await.unwrap();
    let again = "DELETE FROM seaql_migrations WHERE version = 'm20261121_000021_attested'";
    assert_eq!(database.write.execute_unprepared(again).await.unwrap().rows_affected(), 1);
    database.migrate().await.unwrap();
    let read = database.read().await.unwrap();
    for (id, workflow) in expected {
        let found = read.manifests().get(&tenant(), id).await.unwrap().unwrap();
        assert_eq!(found.signed.and_then(|signed| signed.workflow), workflow);
    }
}
