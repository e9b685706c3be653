//! Trusted issuers of tokens (OpenID Connect Core 1.0): their keys, and what their tokens say.

use crate::service::unauthenticated;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::Jwk};
use omt_kernel::{Error, Kind, Result, TenantId, port::IssuerClient};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration as StdDuration,
};
use time::OffsetDateTime;
use tokio::{sync::Mutex, time::Instant};

/// Algorithms that are taken; nothing symmetric, lest a public key be used as a secret, and never `none`.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// Keys are fetched anew after so long.
const FRESH: StdDuration = StdDuration::from_secs(600);
/// Keys that cannot be fetched anew count for so long.
const STALE: StdDuration = StdDuration::from_secs(86_400);
/// A key that is not known makes us ask again, but no oftener than this.
const ASK_AGAIN: StdDuration = StdDuration::from_secs(5);
/// Clocks differ by so many seconds.
pub(crate) const LEEWAY: u64 = 30;
/// The most keys of an issuer.
const MAX_KEYS: usize = 100;
/// Which of an issuer's tokens are taken (Amazon Cognito's claim `token_use`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenUse {
    /// ID tokens.
    Id,
    /// Access tokens.
    Access,
}

/// A trusted issuer: `[[auth.oidc]]`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcSettings {
    /// Its identifier, as in `iss`.
    pub issuer: String,
    /// Which audiences are ours: `aud`, or `client_id` where a token has no audience.
    pub audience: Vec<String>,
    /// Where its keys are; found by discovery when absent.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// The tenant of its users.
    #[serde(default = "TenantId::default_tenant")]
    pub tenant: TenantId,
    /// The claim that says of which of `tenants` somebody is, where the issuer has users of several.
    #[serde(default)]
    pub tenant_claim: Option<String>,
    /// Tenants by the values of that claim. Whoever has another value, or values of two tenants, is refused.
    #[serde(default)]
    pub tenants: BTreeMap<String, TenantId>,
    /// The claim with groups or roles: a text, or a list of texts.
    #[serde(default = "default_role_claim")]
    pub role_claim: String,
    /// Which tokens are taken; both when absent.
    #[serde(default)]
    pub token_use: Option<TokenUse>,
    /// Our name there, for logging in by browser.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Our secret there, if it gave us one.
    #[serde(default)]
    pub client_secret: Option<String>,
    /// Its name in our URLs.
    #[serde(default)]
    pub name: Option<String>,
}

fn default_role_claim() -> String {
    "cognito:groups".to_owned()
}

impl std::fmt::Debug for OidcSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OidcSettings({})", self.issuer)
    }
}

/// Something that an issuer said, when it did, and when it was last asked.
struct Kept<T> {
    found: Option<(Instant, T)>,
    asked: Option<Instant>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { found: None, asked: None }
    }
}

impl<T> Kept<T> {
    /// What counts at `now`. It is asked for anew when it is old or does not do, but not at once again. Whatever came of asking, and
    /// whoever asked, nothing that is older than [`STALE`] counts.
    async fn get(
        &mut self,
        issuer: &str,
        now: Instant,
        does: impl Fn(&T) -> bool,
        ask: impl Future<Output = Result<T>>,
    ) -> Result<&T> {
        let mut now = now;
        let fresh = self.found.as_ref().is_some_and(|(at, found)| now.duration_since(*at) < FRESH && does(found));
        if !fresh && self.asked.is_none_or(|at| now.duration_since(at) >= ASK_AGAIN) {
            let began = Instant::now();
            let answer = ask.await;
            // After the answer: those who waited behind us need not ask again.
            now += began.elapsed();
            self.asked = Some(now);
            match answer {
                Ok(found) => self.found = Some((now, found)),
                Err(error) => tracing::warn!(issuer, %error, "an issuer does not say what it is asked for"),
            }
        }
        let counts = self.found.as_ref().filter(|(at, _)| now.duration_since(*at) <= STALE);
        counts.map(|(_, found)| found).ok_or_else(|| unavailable(issuer))
    }
}

pub(crate) struct Issuer {
    pub(crate) settings: OidcSettings,
    keys: Mutex<Kept<Vec<Jwk>>>,
    discovered: Mutex<Kept<Value>>,
}

/// The trusted issuers.
pub(crate) struct Issuers {
    pub(crate) all: Vec<Issuer>,
    pub(crate) client: Arc<dyn IssuerClient>,
    /// Tokens verified of late, by digest.
    verified: moka::future::Cache<[u8; 32], Arc<Stranger>>,
}

/// What a verified token says.
pub(crate) struct Stranger {
    pub(crate) tenant: TenantId,
    /// As a user's record has it.
    pub(crate) identity: String,
    /// The issuer's own name for somebody, which never changes.
    pub(crate) subject: String,
    pub(crate) username: String,
    pub(crate) email: Option<String>,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) expires_at: i64,
    pub(crate) second_factor_at: Option<OffsetDateTime>,
}

pub(crate) fn refused(words: &str) -> Error {
    unauthenticated("INVALID_TOKEN", words)
}

pub(crate) fn unavailable(issuer: &str) -> Error {
    let words = format!("the issuer {issuer} does not answer as it should, so its tokens cannot be verified");
    Error::new(Kind::Unavailable, "ISSUER_UNAVAILABLE", words).retry_after(5)
}

fn texts(value: Option<&Value>) -> BTreeSet<String> {
    match value {
        Some(Value::String(text)) => [text.clone()].into(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).take(1000).collect(),
        _ => BTreeSet::new(),
    }
}

impl Issuers {
    pub(crate) fn new(settings: Vec<OidcSettings>, client: Arc<dyn IssuerClient>) -> Result<Self> {
        let bad = |words: String| Err(Error::new(Kind::Invalid, "BAD_CONFIGURATION", words));
        let mut seen = BTreeSet::new();
        for one in &settings {
            let urls = [Some(&one.issuer), one.jwks_url.as_ref()];
            if urls.into_iter().flatten().any(|url| !url.starts_with("https://") && !is_local(url)) {
                return bad(format!("auth.oidc: {} must be reached by https", one.issuer));
            }
            if one.audience.is_empty() {
                return bad(format!("auth.oidc: {} has no audience, so tokens for anybody would count", one.issuer));
            }
            if !seen.insert(one.issuer.clone()) {
                return bad(format!("auth.oidc: {} is there twice", one.issuer));
            }
        }
        let all = settings
            .into_iter()
            .map(|settings| Issuer { settings, keys: Mutex::default(), discovered: Mutex::default() })
            .collect();
        let verified = moka::future::Cache::builder().max_capacity(10_000).time_to_live(StdDuration::from_secs(900)).build();
        Ok(Self { all, client, verified })
    }

    /// Whether an issuer is trusted.
    pub(crate) fn knows(&self, issuer: &str) -> bool {
        self.all.iter().any(|known| known.settings.issuer == issuer)
    }

    /// What an issuer says of itself. One that does not answer is asked once, however many want to know at that time.
    pub(crate) async fn discovery(&self, issuer: &Issuer, now: Instant) -> Result<Value> {
        let mut kept = issuer.discovered.lock().await;
        kept.get(&issuer.settings.issuer, now, |_| true, self.discover(issuer)).await.cloned()
    }

    async fn discover(&self, issuer: &Issuer) -> Result<Value> {
        let base = issuer.settings.issuer.trim_end_matches('/');
        let found = self.client.get(&format!("{base}/.well-known/openid-configuration")).await?;
        // OpenID Connect Discovery 1.0 §4.3.
        if found["issuer"].as_str() != Some(&issuer.settings.issuer) {
            return Err(unavailable(&issuer.settings.issuer));
        }
        Ok(found)
    }

    async fn fetch(&self, issuer: &Issuer, now: Instant) -> Result<Vec<Jwk>> {
        let url = match &issuer.settings.jwks_url {
            Some(url) => url.clone(),
            None => {
                let found = self.discovery(issuer, now).await?;
                found["jwks_uri"].as_str().ok_or_else(|| unavailable(&issuer.settings.issuer))?.to_owned()
            }
        };
        let found = self.client.get(&url).await?;
        let keys = found["keys"].as_array().ok_or_else(|| unavailable(&issuer.settings.issuer))?;
        // Keys of kinds that we do not know are none of ours.
        Ok(keys.iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value(key.clone()).ok()).collect())
    }

    /// The issuer's key of this identifier, fetched when it is not known or old.
    async fn key(&self, issuer: &Issuer, kid: Option<&str>, now: Instant) -> Result<Jwk> {
        let pick = |keys: &Vec<Jwk>| match kid {
            Some(kid) => keys.iter().find(|key| key.common.key_id.as_deref() == Some(kid)).cloned(),
            // Without an identifier there must be no doubt.
            None => keys.first().filter(|_| keys.len() == 1).cloned(),
        };
        let mut kept = issuer.keys.lock().await;
        let keys = kept.get(&issuer.settings.issuer, now, |keys| pick(keys).is_some(), self.fetch(issuer, now)).await?;
        pick(keys).ok_or_else(|| refused("the token's key is not the issuer's"))
    }

    /// The claims of a token whose signature, issuer, audience and times hold.
    pub(crate) async fn claims(&self, issuer: &Issuer, token: &str) -> Result<Map<String, Value>> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| refused("the token is malformed"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(refused("the token's algorithm is not taken"));
        }
        let key = self.key(issuer, header.kid.as_deref(), Instant::now()).await?;
        // The key says what it is for, not the token.
        if key.common.key_algorithm.is_some_and(|alg| alg.to_string() != format!("{:?}", header.alg)) {
            return Err(refused("the token's algorithm is not its key's"));
        }
        let decoding = DecodingKey::from_jwk(&key).map_err(|_| refused("the token's key cannot be used"))?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        // Access tokens of some issuers have a `client_id` and no audience; both are looked at below.
        validation.validate_aud = false;
        validation.set_issuer(&[&issuer.settings.issuer]);
        validation.required_spec_claims = ["exp", "iss"].map(str::to_owned).into();
        let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &decoding, &validation)
            .map_err(|error| match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => unauthenticated("TOKEN_EXPIRED", "the token has expired"),
                _ => refused("the token is not valid"),
            })?
            .claims;
        let audience = texts(claims.get("aud").or_else(|| claims.get("client_id")));
        if !issuer.settings.audience.iter().any(|ours| audience.contains(ours)) {
            return Err(refused("the token is for somebody else"));
        }
        let wanted = issuer.settings.token_use.map(|wanted| if wanted == TokenUse::Id { "id" } else { "access" });
        if wanted.is_some_and(|wanted| claims.get("token_use").and_then(Value::as_str) != Some(wanted)) {
            return Err(refused("the token is of the wrong kind"));
        }
        Ok(claims)
    }

    pub(crate) async fn stranger(&self, token: &str) -> Result<(Arc<Stranger>, bool)> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.verified.get(&digest).await {
            return Ok((known, false));
        }
        let named = crate::token::claimed_issuer(token).ok_or_else(|| refused("the token is malformed"))?;
        let issuer = self.all.iter().find(|known| known.settings.issuer == named);
        let issuer = issuer.ok_or_else(|| refused("the token's issuer is not trusted"))?;
        let stranger = Arc::new(read(issuer, &self.claims(issuer, token).await?)?);
        self.verified.insert(digest, stranger.clone()).await;
        Ok((stranger, true))
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Issuer> {
        self.all.iter().find(|known| known.settings.name.as_deref() == Some(name) && known.settings.client_id.is_some())
    }
}

fn is_local(url: &str) -> bool {
    ["http://127.0.0.1", "http://localhost", "http://[::1]"]
        .iter()
        .any(|prefix| url.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/'])))
}

/// Of which tenant somebody is, by what the operator said of the issuer; never by a name that a token brings along.
fn tenant_of(settings: &OidcSettings, claims: &Map<String, Value>) -> Result<TenantId> {
    let Some(claim) = &settings.tenant_claim else { return Ok(settings.tenant.clone()) };
    let values = texts(claims.get(claim));
    let found: BTreeSet<&TenantId> = values.iter().filter_map(|value| settings.tenants.get(value)).collect();
    match found.into_iter().collect::<Vec<_>>().as_slice() {
        [one] => Ok((*one).clone()),
        _ => Err(refused("the token is of no tenant here, or of several")),
    }
}

/// What claims say of somebody.
pub(crate) fn read(issuer: &Issuer, claims: &Map<String, Value>) -> Result<Stranger> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty() && text.len() <= 254);
    let subject = text("sub").ok_or_else(|| refused("the token names nobody"))?;
    let name = ["preferred_username", "cognito:username", "username", "email"].into_iter().find_map(text).unwrap_or(subject);
    let strong = texts(claims.get("amr")).iter().any(|method| matches!(method.as_str(), "mfa" | "otp" | "hwk" | "swk"));
    let number = |name: &str| claims.get(name).and_then(Value::as_i64);
    let at = number("auth_time").or_else(|| number("iat")).and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    Ok(Stranger {
        tenant: tenant_of(&issuer.settings, claims)?,
        identity: format!("oidc:{}|{subject}", issuer.settings.issuer),
        subject: subject.to_owned(),
        username: name.to_owned(),
        email: text("email").filter(|email| email.contains('@')).map(str::to_owned),
        groups: texts(claims.get(&issuer.settings.role_claim)),
        expires_at: number("exp").unwrap_or(0),
        second_factor_at: at.filter(|_| strong),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use serde_json::json;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    const ISSUER: &str = "https://id.example.test";

    /// An issuer that takes its time, and may be down.
    #[derive(Default)]
    struct Slow {
        asked: AtomicU32,
        up: AtomicBool,
    }

    #[async_trait]
    impl IssuerClient for Slow {
        async fn get(&self, url: &str) -> Result<Value> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(StdDuration::from_millis(50)).await;
            let key = json!({ "kty": "oct", "kid": "1", "k": "AA" });
            match (self.up.load(Ordering::SeqCst), url.ends_with("/keys")) {
                (false, _) => Err(unavailable(ISSUER)),
                (true, true) => Ok(json!({ "keys": [key] })),
                (true, false) => Ok(json!({ "issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys") })),
            }
        }
        async fn post_form(&self, _: &str, _: &[(&str, &str)]) -> Result<Value> {
            Err(unavailable(ISSUER))
        }
    }

    fn corp(slow: &Arc<Slow>) -> Arc<Issuers> {
        let settings = OidcSettings {
            issuer: ISSUER.into(),
            audience: vec!["omt".into()],
            jwks_url: None,
            tenant: TenantId::default_tenant(),
            tenant_claim: None,
            tenants: BTreeMap::new(),
            role_claim: default_role_claim(),
            token_use: None,
            client_id: Some("console".into()),
            client_secret: None,
            name: Some("corp".into()),
        };
        Arc::new(Issuers::new(vec![settings], slow.clone()).unwrap())
    }

    /// Keys that somebody is given then, or why not.
    async fn key_at(issuers: &Issuers, kid: Option<&str>, now: Instant) -> std::result::Result<Option<String>, &'static str> {
        let found = issuers.key(issuers.by_name("corp").unwrap(), kid, now).await;
        found.map(|key| key.common.key_id).map_err(|error| error.code)
    }

    #[tokio::test]
    async fn an_issuer_that_is_down_is_asked_once_at_a_time() {
        let slow = Arc::new(Slow::default());
        let issuers = corp(&slow);
        let now = Instant::now();
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let issuers = issuers.clone();
            asking.spawn(async move {
                let found = issuers.discovery(issuers.by_name("corp").unwrap(), Instant::now()).await;
                found.map_err(|error| error.code)
            });
        }
        while let Some(answer) = asking.join_next().await {
            assert_eq!(answer.unwrap(), Err("ISSUER_UNAVAILABLE"));
        }
        assert_eq!(slow.asked.load(Ordering::SeqCst), 1);
        // It is asked again after a while, and what it said then counts while it is down once more.
        let corp = issuers.by_name("corp").unwrap();
        slow.up.store(true, Ordering::SeqCst);
        let (heard, soon) = (now + ASK_AGAIN * 2, StdDuration::from_secs(1));
        assert_eq!(issuers.discovery(corp, heard).await.unwrap()["issuer"], ISSUER);
        assert_eq!(slow.asked.load(Ordering::SeqCst), 2);
        slow.up.store(false, Ordering::SeqCst);
        assert_eq!(issuers.discovery(corp, heard + FRESH + soon).await.unwrap()["issuer"], ISSUER);
        assert_eq!(slow.asked.load(Ordering::SeqCst), 3);
        // A day later it does not, neither for who asks nor for who comes right after.
        for later in [soon, soon * 2] {
            let gone = issuers.discovery(corp, heard + STALE + later).await;
            assert_eq!(gone.map_err(|error| error.code), Err("ISSUER_UNAVAILABLE"));
        }
        assert_eq!(slow.asked.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn keys_that_cannot_be_fetched_anew_count_for_a_day_and_for_nobody_longer() {
        let slow = Arc::new(Slow::default());
        slow.up.store(true, Ordering::SeqCst);
        let issuers = corp(&slow);
        let (heard, soon) = (Instant::now(), StdDuration::from_secs(1));
        assert_eq!(key_at(&issuers, Some("1"), heard).await, Ok(Some("1".into())));
        assert_eq!(key_at(&issuers, None, heard).await, Ok(Some("1".into())));
        assert_eq!(key_at(&issuers, Some("2"), heard).await, Err("INVALID_TOKEN"));
        slow.up.store(false, Ordering::SeqCst);
        assert_eq!(key_at(&issuers, Some("1"), heard + STALE - soon).await, Ok(Some("1".into())));
        let before = slow.asked.load(Ordering::SeqCst);
        let old = heard + STALE + ASK_AGAIN + soon;
        assert_eq!(key_at(&issuers, Some("1"), old).await, Err("ISSUER_UNAVAILABLE"));
        let asked = slow.asked.load(Ordering::SeqCst);
        assert!(asked > before, "who comes then asks");
        // Whoever comes in the seconds after asks nobody, and is given no old key either.
        assert_eq!(key_at(&issuers, Some("1"), old + soon).await, Err("ISSUER_UNAVAILABLE"));
        assert_eq!(key_at(&issuers, None, old + soon).await, Err("ISSUER_UNAVAILABLE"));
        assert_eq!(slow.asked.load(Ordering::SeqCst), asked);
        slow.up.store(true, Ordering::SeqCst);
        assert_eq!(key_at(&issuers, Some("1"), old + ASK_AGAIN * 2).await, Ok(Some("1".into())));
    }

    #[test]
    fn a_claim_picks_among_the_tenants_that_the_operator_named() {
        let tenant = |name: &str| TenantId::parse(name).unwrap();
        let settings = OidcSettings {
            issuer: ISSUER.into(),
            audience: vec!["omt".into()],
            jwks_url: None,
            tenant: TenantId::default_tenant(),
            tenant_claim: Some("org".into()),
            tenants: [("Acme Ltd".to_owned(), tenant("acme")), ("News".to_owned(), tenant("news"))].into(),
            role_claim: default_role_claim(),
            token_use: None,
            client_id: None,
            client_secret: None,
            name: None,
        };
        let of = |claims: Value| tenant_of(&settings, claims.as_object().unwrap()).map_err(|error| error.code);
        assert_eq!(of(json!({ "org": "Acme Ltd" })), Ok(tenant("acme")));
        assert_eq!(of(json!({ "org": ["Elsewhere", "News"] })), Ok(tenant("news")));
        // A tenant's own name is no value that the operator gave, and nobody is of two.
        for bad in [json!({ "org": "acme" }), json!({ "org": "default" }), json!({}), json!({ "org": ["Acme Ltd", "News"] })] {
            assert_eq!(of(bad.clone()), Err("INVALID_TOKEN"), "{bad}");
        }
        let plain = OidcSettings { tenant_claim: None, ..settings };
        assert_eq!(tenant_of(&plain, &Map::new()).map_err(|error| error.code), Ok(TenantId::default_tenant()));
    }
}
