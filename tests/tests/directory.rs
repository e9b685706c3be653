//! Users of an LDAP directory, on a real OpenLDAP server.

use omt_tests::{PASSWORD, Server, ok, problem, service};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};

const APPROVERS: &str = "cn=approvers,ou=groups,dc=example,dc=test";

/// Where the directory is, where there is one: its plain port, its TLS port and its certificates.
pub(crate) struct Ldap {
    pub(crate) plain: String,
    pub(crate) secure: String,
    dir: String,
}

pub(crate) fn ldap() -> Option<Ldap> {
    Some(Ldap { plain: service("OMT_TEST_LDAP")?, secure: service("OMT_TEST_LDAPS")?, dir: service("OMT_TEST_TLS_DIR")? })
}

impl Ldap {
    pub(crate) fn config(&self, urls: &[String], ca: &str) -> String {
        format!(
            "[auth.ldap]\nurls = {urls:?}\nca_file = \"{}/{ca}.pem\"\nbind_dn = \"uid=searcher,dc=example,dc=test\"\n\
             bind_password = \"search-secret\"\nuser_base = \"ou=people,dc=example,dc=test\"\n\
             group_base = \"ou=groups,dc=example,dc=test\"\nrefresh_seconds = 1\ngrace_seconds = 4\n",
            self.dir
        )
    }

    /// Changes the directory.
    fn change(&self, ldif: &str) {
        let mut child = Command::new("ldapmodify")
            .args(["-x", "-H", &format!("ldaps://{}", self.secure), "-D", "cn=root,dc=example,dc=test", "-w", "root-secret"])
            .env("LDAPTLS_CACERT", format!("{}/ca.pem", self.dir))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(ldif.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{ldif}");
    }

    /// A person and a group of their own, named after the test; the group's name.
    pub(crate) fn person(&self, name: &str) -> String {
        self.change(&format!(
            "dn: uid={name},ou=people,dc=example,dc=test\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\n\
             sn: {name}\nuserPassword: {name}-secret\n\n\
             dn: cn={name},ou=groups,dc=example,dc=test\nchangetype: add\nobjectClass: groupOfNames\ncn: {name}\n\
             member: uid={name},ou=people,dc=example,dc=test\nmember: uid=searcher,dc=example,dc=test\n"
        ));
        format!("cn={name},ou=groups,dc=example,dc=test")
    }
}

pub(crate) async fn map(server: &Server, group: &str, fields: Value) -> Value {
    let mut body = json!({ "group": group });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    ok(server.request("POST", "/api/v1/admin/group-mappings").json(&body).send().await.unwrap(), StatusCode::CREATED).await
}

pub(crate) fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4().simple())
}

async fn me(server: &Server, token: &str) -> reqwest::Response {
    server.anonymous("GET", "/api/v1/auth/me").bearer_auth(token).send().await.unwrap()
}

#[tokio::test]
async fn directory_users_log_in_over_starttls_and_ldaps() {
    depends_on!(Database);
    let Some(ldap) = ldap() else { return };
    let dead = "ldaps://127.0.0.1:1".to_owned();
    for urls in [
        vec![format!("ldap://{}", ldap.plain)],
        vec![format!("ldaps://{}", ldap.secure)],
        vec![dead.clone(), format!("ldaps://{}", ldap.secure)],
    ] {
        let server = Server::start_with(&ldap.config(&urls, "ca")).await;
        let login = |name: &str, password: &str| server.log_in(json!({ "username": name, "password": password }));
        // The first user is a local one, and no directory is asked for their password.
        ok(login("admin", PASSWORD).await, StatusCode::OK).await;
        problem(login("petra", "petra-secret").await, 403, "NO_ROLE").await;
        let mapping = json!({ "roles": ["approver"], "department": "pictures", "clearance": "confidential" });
        let body = json!({ "group": APPROVERS.to_uppercase(), "roles": ["approver"] });
        let tried = server.request("POST", "/api/v1/admin/group-mappings?dry_run=true").json(&body).send().await.unwrap();
        let tried = ok(tried, StatusCode::OK).await;
        assert_eq!(
            (tried["summary"].as_str(), tried["users"][0]["username"].as_str()),
            (Some("this 1 user would gain approver"), Some("petra"))
        );
        map(&server, APPROVERS, mapping).await;
        let tokens = ok(login("petra", "petra-secret").await, StatusCode::OK).await;
        let token = tokens["access_token"].as_str().unwrap();
        let who = ok(me(&server, token).await, StatusCode::OK).await;
        // She is in a group of a group of the mapped one.
        assert_eq!((&who["roles"], who["via"].as_str()), (&json!(["approver"]), Some("directory")));
        assert_eq!((who["department"].as_str(), who["clearance"].as_str()), (Some("pictures"), Some("confidential")));
        let user = &server.json("/api/v1/admin/users?username=petra").await["items"][0];
        assert_eq!((user["source"].as_str(), user["email"].as_str()), (Some("ldap"), Some("petra@example.test")));
        assert_eq!(user["groups"].as_array().unwrap().len(), 3);
        // Names that would match somebody if they were not escaped, and passwords that bind nobody.
        for (name, password) in [
            ("petra", "wrong"),
            ("petra", ""),
            ("", ""),
            ("*", "petra-secret"),
            ("pet*", "petra-secret"),
            ("petra)(objectClass=*", "petra-secret"),
            ("x)(|(uid=petra", "petra-secret"),
            ("petra\\2a", "petra-secret"),
            ("petra\0", "petra-secret"),
            ("uid=petra,ou=people,dc=example,dc=test", "petra-secret"),
        ] {
            let answer = login(name, password).await;
            assert!(matches!(answer.status().as_u16(), 401 | 429), "{name:?}: {}", answer.status());
        }
        // A local user of the same name is not theirs, however the name is padded.
        for name in ["admin ", " admin", "petra ", "petra  "] {
            let answer = login(name, "petra-secret").await;
            assert!(matches!(answer.status().as_u16(), 401 | 429), "{name:?}: {}", answer.status());
        }
        // A name that has to be escaped is found all the same.
        problem(login("we(ird", "weird-secret").await, 403, "NO_ROLE").await;
        problem(login("otto", "otto-secret").await, 403, "NO_ROLE").await;
        let why = server.json(&format!("/api/v1/admin/explain?user={}&permission=manifest:sign", omt_tests::id(user))).await;
        assert_eq!((why["allowed"].as_bool(), &why["roles"][0]["groups"]), (Some(true), &json!([APPROVERS])));
        assert_eq!(server.get("/ready").await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_group_that_is_left_takes_its_role_along() {
    depends_on!(Database);
    let Some(ldap) = ldap() else { return };
    let server = Server::start_with(&ldap.config(&[format!("ldaps://{}", ldap.secure)], "ca")).await;
    let name = unique("gus");
    let group = ldap.person(&name);
    map(&server, &group, json!({ "roles": ["approver"] })).await;
    let tokens = server.log_in(json!({ "username": name, "password": format!("{name}-secret") })).await;
    let token = ok(tokens, StatusCode::OK).await["access_token"].as_str().unwrap().to_owned();
    assert_eq!(ok(me(&server, &token).await, StatusCode::OK).await["roles"], json!(["approver"]));
    ldap.change(&format!("dn: {group}\nchangetype: modify\ndelete: member\nmember: uid={name},ou=people,dc=example,dc=test\n"));
    tokio::time::sleep(Duration::from_millis(1700)).await;
    assert_eq!(ok(me(&server, &token).await, StatusCode::OK).await["roles"], json!([]));
    let sign = format!("/api/v1/manifests/{}/sign", uuid::Uuid::now_v7());
    let refused = server.anonymous("POST", &sign).bearer_auth(&token).json(&json!({})).send().await.unwrap();
    problem(refused, 403, "FORBIDDEN").await;
    // Whoever is gone from the directory is gone from here.
    ldap.change(&format!("dn: uid={name},ou=people,dc=example,dc=test\nchangetype: delete\n"));
    tokio::time::sleep(Duration::from_millis(1700)).await;
    problem(me(&server, &token).await, 401, "SESSION_ENDED").await;
    problem(server.log_in(json!({ "username": name, "password": format!("{name}-secret") })).await, 401, "INVALID_CREDENTIALS")
        .await;
}

#[tokio::test]
async fn servers_with_the_wrong_certificate_are_not_believed() {
    depends_on!();
    let Some(ldap) = ldap() else { return };
    for url in [format!("ldap://{}", ldap.plain), format!("ldaps://{}", ldap.secure)] {
        let dir = tempfile::tempdir().unwrap();
        let config = ldap.config(&[url], "other");
        let mut child =
            Server::command(dir.path(), &config).arg("serve").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let url = omt_tests::address(&mut child);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let login = json!({ "username": "petra", "password": "petra-secret" });
        let refused = client.post(format!("{url}/api/v1/auth/login")).json(&login).send().await.unwrap();
        problem(refused, 503, "DIRECTORY_UNAVAILABLE").await;
        let ready = client.get(format!("{url}/ready")).send().await.unwrap();
        assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
        let ready: Value = ready.json().await.unwrap();
        let directory = ready["dependencies"].as_array().unwrap().iter().find(|d| d["name"] == "directory").unwrap();
        assert_eq!((directory["status"].as_str(), directory["code"].as_str()), (Some("failed"), Some("DIRECTORY_UNAVAILABLE")));
        child.kill().unwrap();
        child.wait().unwrap();
        let doctor = Server::command(dir.path(), &config).arg("doctor").output().unwrap();
        let found = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(!doctor.status.success() && found.contains("FAIL  directory") && found.contains("ca_file"), "{found}");
    }
    // Without TLS nothing begins.
    let dir = tempfile::tempdir().unwrap();
    let config = ldap.config(&[format!("ldap://{}", ldap.plain)], "ca").replace("[auth.ldap]", "[auth.ldap]\nstarttls = false");
    let output = Server::command(dir.path(), &config).arg("serve").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("must be ldaps://, or ldap:// with starttls"));
}

#[tokio::test]
async fn the_last_administrator_goes_aloud_when_the_directory_says_so() {
    depends_on!(Database);
    let Some(ldap) = ldap() else { return };
    let server = Server::start_with(&ldap.config(&[format!("ldaps://{}", ldap.secure)], "ca")).await;
    let name = unique("lasse");
    let group = ldap.person(&name);
    map(&server, &group, json!({ "roles": ["administrator"], "clearance": "top_secret" })).await;
    let tokens = server.log_in(json!({ "username": name, "password": format!("{name}-secret") })).await;
    let token = ok(tokens, StatusCode::OK).await["access_token"].as_str().unwrap().to_owned();
    let send = |method: &str, path: &str| server.anonymous(method, path).bearer_auth(&token);
    let key = json!({ "name": "reader", "scopes": ["audit:read"] });
    let key = ok(send("POST", "/api/v1/admin/api-keys").json(&key).send().await.unwrap(), StatusCode::CREATED).await;
    let admin = ok(send("GET", "/api/v1/admin/users?username=admin").send().await.unwrap(), StatusCode::OK).await;
    let path = format!("/api/v1/admin/users/{}", omt_tests::id(&admin["items"][0]));
    assert_eq!(send("DELETE", &path).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    ldap.change(&format!("dn: {group}\nchangetype: modify\ndelete: member\nmember: uid={name},ou=people,dc=example,dc=test\n"));
    tokio::time::sleep(Duration::from_millis(1700)).await;
    assert_eq!(ok(me(&server, &token).await, StatusCode::OK).await["roles"], json!([]));
    let read = async |action: &str| {
        let path = format!("/api/v1/admin/audit-logs?action={action}");
        let key = key["key"].as_str().unwrap();
        ok(server.anonymous("GET", &path).bearer_auth(key).send().await.unwrap(), StatusCode::OK).await["items"].clone()
    };
    let said = read("tenant.unadministered").await;
    assert_eq!((said.as_array().unwrap().len(), &said[0]["entry"]["resource"]["id"]), (1, &json!("default")));
    assert_eq!(read("user.groups").await.as_array().unwrap().len(), 1);
}

/// A way to the directory that can be cut.
async fn way(to: String) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, tokio::spawn(carry(listener, to)))
}

async fn carry(listener: TcpListener, to: String) {
    let mut running = tokio::task::JoinSet::new();
    loop {
        let (mut here, _) = listener.accept().await.unwrap();
        let to = to.clone();
        running.spawn(async move {
            if let Ok(mut there) = TcpStream::connect(to).await {
                let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
            }
        });
    }
}

#[tokio::test]
async fn a_directory_that_is_down_lets_nobody_in_and_nobody_out_at_once() {
    depends_on!();
    let Some(ldap) = ldap() else { return };
    let (port, carrier) = way(ldap.secure.clone()).await;
    let server = Server::start_with(&ldap.config(&[format!("ldaps://127.0.0.1:{port}")], "ca")).await;
    let name = unique("dora");
    let group = ldap.person(&name);
    map(&server, &group, json!({ "roles": ["creator"] })).await;
    let login = json!({ "username": name, "password": format!("{name}-secret") });
    let token = ok(server.log_in(login.clone()).await, StatusCode::OK).await["access_token"].as_str().unwrap().to_owned();
    carrier.abort();
    let _ = carrier.await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // What the directory said before counts for a time; nobody new comes in; local users do.
    assert_eq!(ok(me(&server, &token).await, StatusCode::OK).await["roles"], json!(["creator"]));
    problem(server.log_in(login.clone()).await, 503, "DIRECTORY_UNAVAILABLE").await;
    assert_eq!(server.get("/ready").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    ok(server.log_in(json!({ "username": "admin", "password": PASSWORD })).await, StatusCode::OK).await;
    tokio::time::sleep(Duration::from_millis(3500)).await;
    problem(me(&server, &token).await, 503, "DIRECTORY_UNAVAILABLE").await;
    // It is back.
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let _carrier = tokio::spawn(carry(listener, ldap.secure.clone()));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(ok(me(&server, &token).await, StatusCode::OK).await["roles"], json!(["creator"]));
    ok(server.log_in(login).await, StatusCode::OK).await;
}

#[tokio::test]
async fn keys_of_who_is_gone_end_though_nobody_logs_in() {
    depends_on!(Database);
    let Some(ldap) = ldap() else { return };
    let server = Server::start_with(&ldap.config(&[format!("ldaps://{}", ldap.secure)], "ca")).await;
    let name = unique("greta");
    let group = ldap.person(&name);
    map(&server, &group, json!({ "roles": ["administrator"], "clearance": "top_secret" })).await;
    let tokens = server.log_in(json!({ "username": name, "password": format!("{name}-secret") })).await;
    let token = ok(tokens, StatusCode::OK).await["access_token"].as_str().unwrap().to_owned();
    let make = async |bearer: &str| {
        let body = json!({ "name": "k", "scopes": ["manifest:read", "admin:api-key:manage"] });
        let made = server.anonymous("POST", "/api/v1/admin/api-keys").bearer_auth(bearer).json(&body).send().await.unwrap();
        ok(made, StatusCode::CREATED).await["key"].as_str().unwrap().to_owned()
    };
    let list = async |key: &str| server.anonymous("GET", "/api/v1/manifests").bearer_auth(key).send().await.unwrap();
    let first = make(&token).await;
    let (second, third) = (make(&first).await, make(&first).await);
    // The directory is asked for a key's maker, and still knows her.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(list(&third).await.status(), StatusCode::OK);
    ldap.change(&format!("dn: uid={name},ou=people,dc=example,dc=test\nchangetype: delete\n"));
    tokio::time::sleep(Duration::from_millis(1700)).await;
    // Nobody uses her session. A key that was made with her key is the one that is used, and they all end.
    for key in [&second, &third, &first] {
        problem(list(key).await, 401, "API_KEY_REVOKED").await;
    }
    problem(me(&server, &token).await, 401, "SESSION_ENDED").await;
    let gone = &server.json(&format!("/api/v1/admin/users?username={name}")).await["items"][0];
    assert_eq!((&gone["group_roles"], gone["active"].as_bool()), (&json!([]), Some(true)));
    // She does not stand in for the last administrator who can log in.
    let scopes = server.json("/api/v1/auth/me").await["permissions"].clone();
    let key = json!({ "name": "all", "scopes": scopes });
    let key = ok(server.request("POST", "/api/v1/admin/api-keys").json(&key).send().await.unwrap(), StatusCode::CREATED).await;
    let admin = server.json("/api/v1/admin/users?username=admin").await;
    let path = format!("/api/v1/admin/users/{}", omt_tests::id(&admin["items"][0]));
    let removed = server.anonymous("DELETE", &path).bearer_auth(key["key"].as_str().unwrap()).send().await.unwrap();
    problem(removed, 409, "LAST_ADMINISTRATOR").await;
}
