//! Tokens of trusted issuers, and logging in by them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use omt_crypto::{Algorithm, KeyMaterial, ProviderName};
use omt_tests::{Server, http, ok, problem, service};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{io::AsyncWriteExt, net::TcpListener};

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// How the issuer behaves.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Down,
    Slow,
    Huge,
}

struct State {
    keys: Vec<(String, KeyMaterial)>,
    mood: Mood,
    asked: u32,
    /// ID tokens by code, with the challenge that the code was asked for with.
    codes: BTreeMap<String, (String, String)>,
}

/// An OpenID Connect issuer.
#[derive(Clone)]
struct Issuer {
    url: String,
    state: Arc<Mutex<State>>,
}

fn generate() -> KeyMaterial {
    ProviderName::AwsLc.provider().generate(Algorithm::Es256).unwrap()
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = State { keys: vec![("one".into(), generate())], mood: Mood::Well, asked: 0, codes: BTreeMap::new() };
        let issuer = Self { url, state: Arc::new(Mutex::new(state)) };
        let this = issuer.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let this = this.clone();
                tokio::spawn(async move {
                    let Some(heard) = http::read(&mut stream).await else { return };
                    let mood = this.state.lock().unwrap().mood;
                    match mood {
                        Mood::Down => return,
                        Mood::Slow => tokio::time::sleep(Duration::from_secs(30)).await,
                        Mood::Huge => {
                            let _ =
                                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"keys\":[\"").await;
                            let chunk = vec![b'a'; 65_536];
                            for _ in 0..160 {
                                if stream.write_all(&chunk).await.is_err() {
                                    return;
                                }
                            }
                            return;
                        }
                        Mood::Well => {}
                    }
                    let (status, body) = this.answer(&heard);
                    let head = format!(
                        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                });
            }
        });
        issuer
    }

    fn answer(&self, request: &http::Heard) -> (&'static str, String) {
        let mut state = self.state.lock().unwrap();
        match request.path.as_str() {
            "/.well-known/openid-configuration" => (
                "200 OK",
                json!({
                    "issuer": self.url, "jwks_uri": format!("{}/jwks", self.url),
                    "authorization_endpoint": format!("{}/authorize", self.url), "token_endpoint": format!("{}/token", self.url),
                })
                .to_string(),
            ),
            "/jwks" => {
                state.asked += 1;
                let keys: Vec<Value> = state
                    .keys
                    .iter()
                    .map(|(kid, key)| {
                        json!({
                            "kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig",
                            "x": URL_SAFE_NO_PAD.encode(&key.public[1..33]), "y": URL_SAFE_NO_PAD.encode(&key.public[33..]),
                        })
                    })
                    .chain([json!({ "kty": "FANCY", "kid": "unknown" })])
                    .collect();
                ("200 OK", json!({ "keys": keys }).to_string())
            }
            "/token" => {
                let form: BTreeMap<&str, &str> = request.body.split('&').filter_map(|pair| pair.split_once('=')).collect();
                let Some((token, challenge)) = form.get("code").and_then(|code| state.codes.remove(*code)) else {
                    return ("400 Bad Request", json!({ "error": "invalid_grant" }).to_string());
                };
                let proof = URL_SAFE_NO_PAD.encode(Sha256::digest(form["code_verifier"]));
                if proof != challenge || form["client_id"] != "console" || form["client_secret"] != "shh" {
                    return ("400 Bad Request", json!({ "error": "invalid_grant" }).to_string());
                }
                ("200 OK", json!({ "id_token": token, "access_token": "x", "token_type": "Bearer" }).to_string())
            }
            _ => ("404 Not Found", "{}".to_owned()),
        }
    }

    fn claims(&self) -> Value {
        json!({
            "iss": self.url, "aud": "omt-app", "sub": "0815", "token_use": "id", "cognito:username": "petra",
            "cognito:groups": ["approver"], "email": "petra@example.test", "iat": now(), "exp": now() + 300,
        })
    }

    fn token(&self, claims: &Value) -> String {
        let state = self.state.lock().unwrap();
        let (kid, key) = state.keys.last().unwrap();
        sign(&json!({ "alg": "ES256", "kid": kid, "typ": "JWT" }), claims, key)
    }

    fn rotate(&self, kid: &str) {
        self.state.lock().unwrap().keys = vec![(kid.into(), generate())];
    }

    fn feel(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    fn config(&self) -> String {
        format!(
            "[[auth.oidc]]\nissuer = \"{}\"\naudience = [\"omt-app\", \"console\"]\ntoken_use = \"id\"\nname = \"corp\"\n\
             client_id = \"console\"\nclient_secret = \"shh\"\n",
            self.url
        )
    }
}

fn sign(header: &Value, claims: &Value, key: &KeyMaterial) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = ProviderName::AwsLc.provider().load(key).unwrap().sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

async fn me(server: &Server, token: &str) -> reqwest::Response {
    server.anonymous("GET", "/api/v1/auth/me").bearer_auth(token).send().await.unwrap()
}

#[tokio::test]
async fn tokens_of_a_trusted_issuer_count_and_others_do_not() {
    depends_on!();
    let issuer = Issuer::start().await;
    let server = Server::start_with(&issuer.config()).await;
    let good = issuer.claims();
    let who = ok(me(&server, &issuer.token(&good)).await, StatusCode::OK).await;
    assert_eq!((&who["roles"], who["via"].as_str(), who["name"].as_str()), (&json!(["approver"]), Some("oidc"), Some("petra")));
    let with = |changes: Value| {
        let mut claims = good.clone();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims
    };
    for (changes, code) in [
        (json!({ "exp": now() - 60 }), "TOKEN_EXPIRED"),
        (json!({ "exp": null }), "INVALID_TOKEN"),
        (json!({ "nbf": now() + 600 }), "INVALID_TOKEN"),
        (json!({ "aud": "somebody-else" }), "INVALID_TOKEN"),
        (json!({ "aud": null }), "INVALID_TOKEN"),
        (json!({ "token_use": "access" }), "INVALID_TOKEN"),
        (json!({ "token_use": null }), "INVALID_TOKEN"),
        (json!({ "sub": null }), "INVALID_TOKEN"),
        (json!({ "iss": "https://evil.example.test" }), "INVALID_TOKEN"),
    ] {
        problem(me(&server, &issuer.token(&with(changes))).await, 401, code).await;
    }
    let (key, public) = {
        let state = issuer.state.lock().unwrap();
        (state.keys[0].1.clone(), state.keys[0].1.public.clone())
    };
    // No algorithm, a symmetric one with the public key as its secret, another key, an unknown key.
    let none = format!("{}.{}.", encode(&json!({ "alg": "none", "kid": "one" })), encode(&good));
    problem(me(&server, &none).await, 401, "INVALID_TOKEN").await;
    let header = json!({ "alg": "HS256", "kid": "one" });
    let signed = format!("{}.{}", encode(&header), encode(&good));
    let tag = {
        use hmac::{Hmac, KeyInit, Mac};
        let mut mac = Hmac::<Sha256>::new_from_slice(&public).unwrap();
        mac.update(signed.as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    };
    problem(me(&server, &format!("{signed}.{tag}")).await, 401, "INVALID_TOKEN").await;
    for (header, key) in [
        (json!({ "alg": "ES256", "kid": "one" }), generate()),
        (json!({ "alg": "ES256", "kid": "two" }), key.clone()),
        (json!({ "alg": "RS256", "kid": "one" }), key.clone()),
    ] {
        problem(me(&server, &sign(&header, &good, &key)).await, 401, "INVALID_TOKEN").await;
    }
    let token = issuer.token(&good);
    problem(me(&server, &token[..token.len() - 4]).await, 401, "INVALID_TOKEN").await;
    // Unknown keys do not make us ask the issuer again and again.
    assert!(issuer.state.lock().unwrap().asked <= 3, "{}", issuer.state.lock().unwrap().asked);
    // A client_id stands for an audience that is not there.
    ok(me(&server, &issuer.token(&with(json!({ "aud": null, "client_id": "omt-app" })))).await, StatusCode::OK).await;
    // What the issuer says changes what the user may do; who is not active here is out.
    let creator = issuer.token(&with(json!({ "cognito:groups": ["creator", "no-such-role"], "jti": "2" })));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(ok(me(&server, &creator).await, StatusCode::OK).await["roles"], json!(["creator"]));
    let users = server.json("/api/v1/admin/users?username=petra").await;
    assert_eq!((users["items"].as_array().unwrap().len(), users["items"][0]["source"].as_str()), (1, Some("oidc")));
    let petra = omt_tests::id(&users["items"][0]);
    let why = server.json(&format!("/api/v1/admin/explain?user={petra}&permission=manifest:create")).await;
    assert_eq!((why["roles"][0]["assigned"].as_bool(), &why["roles"][0]["groups"]), (Some(false), &json!(["creator"])));
    let path = format!("/api/v1/admin/users/{petra}");
    ok(server.request("PUT", &path).json(&json!({ "active": false })).send().await.unwrap(), StatusCode::OK).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    problem(me(&server, &creator).await, 401, "USER_INACTIVE").await;
    // A name that somebody may have chosen does not make them a user whom a SCIM client announced, nor does a forged link.
    let key = server
        .key("default", &["admin:user:read", "admin:user:manage", "manifest:read", "manifest:create", "workflow:initiate"])
        .await;
    let scim = |body: Value| {
        server
            .anonymous("POST", "/scim/v2/Users")
            .bearer_auth(&key)
            .header("content-type", "application/scim+json")
            .body(body.to_string())
    };
    let boss = json!({ "userName": "boss", "externalId": "77" });
    assert_eq!(scim(boss).send().await.unwrap().status(), StatusCode::CREATED);
    let thief = issuer.token(&with(json!({ "sub": "666", "cognito:username": "boss", "cognito:groups": [] })));
    let who = ok(me(&server, &thief).await, StatusCode::OK).await;
    assert!(who["name"].as_str().unwrap().starts_with("boss#"), "{who}");
    let forged = json!({ "userName": "mallory", "externalId": format!("oidc:{}|0815", issuer.url) });
    assert_eq!(scim(forged).send().await.unwrap().status(), StatusCode::CREATED);
    let rightful = issuer.token(&with(json!({ "sub": "77", "cognito:username": "boss", "cognito:groups": ["approver"] })));
    let who = ok(me(&server, &rightful).await, StatusCode::OK).await;
    assert_eq!((who["name"].as_str(), &who["roles"]), (Some("boss"), &json!([])));
    // Once linked, nobody sets a password for them here.
    let linked = server.json("/api/v1/admin/users?username=boss").await;
    let linked = linked["items"].as_array().unwrap().iter().find(|u| u["username"] == "boss").unwrap().clone();
    let path = format!("/api/v1/admin/users/{}", omt_tests::id(&linked));
    let stolen = server.request("PUT", &path).json(&json!({ "password": "a very long password" })).send().await.unwrap();
    problem(stolen, 409, "NOT_LOCAL").await;
    // All of it is in the log.
    let log = server.json("/api/v1/admin/audit-logs?limit=200").await.to_string();
    assert!(log.contains("auth.token") && log.contains("TOKEN_EXPIRED") && log.contains("INVALID_TOKEN"));
}

#[tokio::test]
async fn keys_rotate_and_an_issuer_that_fails_is_waited_for_briefly() {
    depends_on!();
    let issuer = Issuer::start().await;
    let server = Server::start_with(&issuer.config()).await;
    let token = |n: u32| {
        let mut claims = issuer.claims();
        claims["jti"] = json!(n);
        issuer.token(&claims)
    };
    ok(me(&server, &token(1)).await, StatusCode::OK).await;
    let old = token(2);
    issuer.rotate("two");
    tokio::time::sleep(Duration::from_secs(6)).await;
    ok(me(&server, &token(3)).await, StatusCode::OK).await;
    problem(me(&server, &old).await, 401, "INVALID_TOKEN").await;
    // Keys that are known go on to count while the issuer is down.
    issuer.feel(Mood::Down);
    ok(me(&server, &token(4)).await, StatusCode::OK).await;
    for mood in [Mood::Down, Mood::Slow, Mood::Huge] {
        let issuer = Issuer::start().await;
        issuer.feel(mood);
        let server = Server::start_with(&issuer.config()).await;
        let began = std::time::Instant::now();
        problem(me(&server, &issuer.token(&issuer.claims())).await, 503, "ISSUER_UNAVAILABLE").await;
        assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
        assert_eq!(server.get("/health").await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn one_logs_in_by_browser_with_a_code() {
    depends_on!(Database);
    let issuer = Issuer::start().await;
    let server = Server::start_with(&issuer.config()).await;
    let names = ok(server.anonymous("GET", "/api/v1/auth/oidc").send().await.unwrap(), StatusCode::OK).await;
    assert_eq!(names["issuers"], json!(["corp"]));
    problem(server.anonymous("POST", "/api/v1/auth/oidc/other/start").send().await.unwrap(), 404, "NOT_FOUND").await;
    let begun = server.anonymous("POST", "/api/v1/auth/oidc/corp/start").send().await.unwrap();
    let cookie = begun.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let url = ok(begun, StatusCode::OK).await["authorization_url"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&format!("{}/authorize?", issuer.url)), "{url}");
    let query: BTreeMap<&str, &str> = url.split_once('?').unwrap().1.split('&').filter_map(|p| p.split_once('=')).collect();
    assert_eq!((query["code_challenge_method"], query["response_type"]), ("S256", "code"));
    let mut claims = issuer.claims();
    claims["aud"] = json!("console");
    let give = |code: &str, nonce: &str| {
        let mut claims = claims.clone();
        claims["nonce"] = json!(nonce);
        let token = issuer.token(&claims);
        let mut state = issuer.state.lock().unwrap();
        state.codes.insert(code.into(), (token, query["code_challenge"].to_owned()));
    };
    let back = |cookie: String, state: &str, code: &str| {
        let path = format!("/api/v1/auth/oidc/callback?state={state}&code={code}");
        server.anonymous("GET", &path).header("cookie", cookie).send()
    };
    give("c1", query["nonce"]);
    problem(back(String::new(), query["state"], "c1").await.unwrap(), 401, "INVALID_LOGIN_STATE").await;
    problem(back(cookie.clone(), "other", "c1").await.unwrap(), 401, "INVALID_LOGIN_STATE").await;
    problem(back("omt_login=AAAA".into(), query["state"], "c1").await.unwrap(), 401, "INVALID_LOGIN_STATE").await;
    problem(back(cookie.clone(), query["state"], "unknown").await.unwrap(), 503, "ISSUER_UNAVAILABLE").await;
    give("c2", "another-nonce");
    problem(back(cookie.clone(), query["state"], "c2").await.unwrap(), 401, "INVALID_TOKEN").await;
    let tokens = ok(back(cookie, query["state"], "c1").await.unwrap(), StatusCode::OK).await;
    let who = ok(me(&server, tokens["access_token"].as_str().unwrap()).await, StatusCode::OK).await;
    assert_eq!((who["name"].as_str(), who["via"].as_str()), (Some("petra"), Some("oidc")));
    let refused = server.anonymous("GET", "/api/v1/auth/oidc/callback?error=access_denied").send().await.unwrap();
    problem(refused, 401, "LOGIN_REFUSED").await;
}

/// A call of Amazon Cognito's API.
async fn cognito(client: &reqwest::Client, url: &str, operation: &str, body: Value) -> Value {
    let answer = client
        .post(url)
        .header("x-amz-target", format!("AWSCognitoIdentityProviderService.{operation}"))
        .header("content-type", "application/x-amz-json-1.1")
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/cognito-idp/aws4_request, SignedHeaders=host, Signature=x",
        )
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    ok(answer, StatusCode::OK).await
}

#[tokio::test]
async fn cognito_tokens_count() {
    depends_on!();
    let Some(moto) = service("OMT_TEST_MOTO") else { return };
    let at = moto.find("http://").unwrap();
    let url = moto[at..].split('&').next().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let pool = cognito(&client, url, "CreateUserPool", json!({ "PoolName": "people" })).await["UserPool"]["Id"].clone();
    let flows = json!(["ALLOW_ADMIN_USER_PASSWORD_AUTH"]);
    let app = json!({ "UserPoolId": pool, "ClientName": "app", "ExplicitAuthFlows": flows });
    let app = cognito(&client, url, "CreateUserPoolClient", app).await["UserPoolClient"]["ClientId"].clone();
    cognito(&client, url, "CreateGroup", json!({ "UserPoolId": pool, "GroupName": "approver" })).await;
    let user = |more: Value| {
        let mut body = json!({ "UserPoolId": pool, "Username": "petra" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    cognito(&client, url, "AdminCreateUser", user(json!({ "TemporaryPassword": "Temp-12345" }))).await;
    cognito(&client, url, "AdminSetUserPassword", user(json!({ "Password": "Perm-12345", "Permanent": true }))).await;
    let group = client
        .post(url)
        .header("x-amz-target", "AWSCognitoIdentityProviderService.AdminAddUserToGroup")
        .header("content-type", "application/x-amz-json-1.1")
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/cognito-idp/aws4_request, SignedHeaders=host, Signature=x",
        )
        .body(user(json!({ "GroupName": "approver" })).to_string());
    assert_eq!(group.send().await.unwrap().status(), StatusCode::OK);
    let login = json!({
        "UserPoolId": pool, "ClientId": app, "AuthFlow": "ADMIN_USER_PASSWORD_AUTH",
        "AuthParameters": { "USERNAME": "petra", "PASSWORD": "Perm-12345" },
    });
    let tokens = cognito(&client, url, "AdminInitiateAuth", login).await["AuthenticationResult"].clone();
    let (pool, app) = (pool.as_str().unwrap(), app.as_str().unwrap());
    let config = |token_use: &str, audience: &str| {
        format!(
            "[[auth.oidc]]\nissuer = \"https://cognito-idp.us-east-1.amazonaws.com/{pool}\"\naudience = [\"{audience}\"]\n\
             jwks_url = \"{url}/{pool}/.well-known/jwks.json\"\ntoken_use = \"{token_use}\"\n"
        )
    };
    let (id, access) = (tokens["IdToken"].as_str().unwrap(), tokens["AccessToken"].as_str().unwrap());
    let server = Server::start_with(&config("id", app)).await;
    let who = ok(me(&server, id).await, StatusCode::OK).await;
    assert_eq!((who["name"].as_str(), &who["roles"]), (Some("petra"), &json!(["approver"])));
    problem(me(&server, access).await, 401, "INVALID_TOKEN").await;
    let server = Server::start_with(&config("access", app)).await;
    ok(me(&server, access).await, StatusCode::OK).await;
    problem(me(&server, id).await, 401, "INVALID_TOKEN").await;
    let server = Server::start_with(&config("id", "another-app")).await;
    problem(me(&server, id).await, 401, "INVALID_TOKEN").await;
}
