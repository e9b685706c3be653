//! Access tokens: JWT (RFC 7519) with ES256, signed by a key that never leaves the key store. They name a session; what it may do
//! is not in them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use omt_kernel::{Error, Kind, Result, SessionId, TenantId};
use serde::{Deserialize, Serialize};
use time::Duration;

/// How long an access token is good.
pub const ACCESS_TOKEN: Duration = Duration::minutes(15);
/// Who the tokens are for.
pub const AUDIENCE: &str = "openmediatrust-api";

/// What an access token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer: the public URL.
    pub iss: String,
    /// Audience.
    pub aud: String,
    /// The actor's subject.
    pub sub: String,
    /// Tenant.
    pub tenant: TenantId,
    /// Issued at, seconds since 1970.
    pub iat: i64,
    /// Expires at, seconds since 1970.
    pub exp: i64,
    /// The session.
    pub sid: SessionId,
}

fn refused(code: &'static str, words: &str) -> Error {
    Error::new(Kind::Unauthenticated, code, words)
}

/// Encodes and signs.
pub fn encode(claims: &Claims, sign: impl FnOnce(&[u8]) -> Result<Vec<u8>>) -> Result<String> {
    let json = |e: serde_json::Error| Error::internal("a token cannot be written").caused_by(e);
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"ES256","typ":"JWT"}"#);
    let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).map_err(json)?);
    let signed = format!("{header}.{body}");
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}

/// A key that verifies, from an uncompressed SEC 1 point.
pub fn decoding_key(public: &[u8]) -> Result<DecodingKey> {
    let (x, y) = (public.get(1..33).unwrap_or_default(), public.get(33..65).unwrap_or_default());
    DecodingKey::from_ec_components(&URL_SAFE_NO_PAD.encode(x), &URL_SAFE_NO_PAD.encode(y))
        .map_err(|e| Error::internal("the token key is malformed").caused_by(e))
}

/// Claims whose signature, issuer and audience hold; whether they are good now is asked anew at each use.
#[derive(Debug, Clone)]
pub struct Verified(Claims);

impl Verified {
    /// The claims, if the token is good at `now` (seconds since 1970).
    pub fn at(&self, now: i64) -> Result<&Claims> {
        if now >= self.0.exp {
            return Err(refused("TOKEN_EXPIRED", "the access token has expired"));
        }
        // A token from the future was not made by us.
        if self.0.iat > now + 60 {
            return Err(refused("INVALID_TOKEN", "the access token is not valid"));
        }
        Ok(&self.0)
    }
}

/// The issuer that a token names, unverified, to find out whose token it is.
pub fn claimed_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let body = token.split('.').nth(1).filter(|body| body.len() < 16_384)?;
    serde_json::from_slice::<Issuer>(&URL_SAFE_NO_PAD.decode(body).ok()?).ok().map(|claims| claims.iss)
}

/// Verifies signature, algorithm, issuer and audience.
pub fn decode(token: &str, key: &DecodingKey, issuer: &str) -> Result<Verified> {
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[issuer]);
    // The time is checked by `Verified::at`.
    validation.validate_exp = false;
    validation.required_spec_claims = ["exp", "aud", "iss"].map(str::to_owned).into();
    let claims = jsonwebtoken::decode::<Claims>(token, key, &validation)
        .map_err(|_| refused("INVALID_TOKEN", "the access token is not valid"))?
        .claims;
    Ok(Verified(claims))
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_crypto::{Algorithm as KeyAlgorithm, ProviderName};

    #[test]
    fn tokens_end_and_are_for_one_issuer() {
        let provider = ProviderName::AwsLc.provider();
        let material = provider.generate(KeyAlgorithm::Es256).unwrap();
        let key = provider.load(&material).unwrap();
        let claims = Claims {
            iss: "http://a.test".into(),
            aud: AUDIENCE.into(),
            sub: "user:1".into(),
            tenant: TenantId::default_tenant(),
            iat: 1_000,
            exp: 1_900,
            sid: SessionId(Default::default()),
        };
        let sign = |message: &[u8]| key.sign(message).map_err(|_| Error::internal("signing"));
        let token = encode(&claims, sign).unwrap();
        assert_eq!(claimed_issuer(&token).as_deref(), Some("http://a.test"));
        let verify_key = decoding_key(&material.public).unwrap();
        let code = |issuer: &str, now| {
            decode(&token, &verify_key, issuer).and_then(|v| v.at(now).map(|_| "ok")).unwrap_or_else(|e| e.code)
        };
        assert_eq!(code("http://a.test", 1_899), "ok");
        assert_eq!(code("http://a.test", 1_900), "TOKEN_EXPIRED");
        assert_eq!(code("http://a.test", 900), "INVALID_TOKEN");
        assert_eq!(code("http://b.test", 1_500), "INVALID_TOKEN");
        let other = Claims { aud: "other".into(), ..claims };
        let token = encode(&other, sign).unwrap();
        assert_eq!(decode(&token, &verify_key, "http://a.test").unwrap_err().code, "INVALID_TOKEN");
    }
}
