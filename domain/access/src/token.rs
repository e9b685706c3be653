//! Access tokens: JWT (RFC 7519) with ES256, signed by a key that never leaves the key store.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use omt_kernel::{Actor, Error, Kind, Permission, Result, TenantId, Via};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

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
    /// The user's name.
    pub name: String,
    /// Tenant.
    pub tenant: TenantId,
    /// What is allowed.
    pub permissions: BTreeSet<Permission>,
    /// Issued at, seconds since 1970.
    pub iat: i64,
    /// Expires at, seconds since 1970.
    pub exp: i64,
    /// The login it descends from.
    pub sid: String,
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

/// A token whose signature, issuer and audience hold; whether it is good now is asked anew at each use.
#[derive(Debug, Clone)]
pub struct Verified {
    actor: Actor,
    issued_at: i64,
    expires_at: i64,
}

impl Verified {
    /// The actor, if the token is good at `now` (seconds since 1970).
    pub fn actor(&self, now: i64) -> Result<Actor> {
        if now >= self.expires_at {
            return Err(refused("TOKEN_EXPIRED", "the access token has expired"));
        }
        // A token from the future was not made by us.
        if self.issued_at > now + 60 {
            return Err(refused("INVALID_TOKEN", "the access token is not valid"));
        }
        Ok(self.actor.clone())
    }
}

/// Verifies signature, algorithm, issuer and audience.
pub fn decode(token: &str, key: &DecodingKey, issuer: &str) -> Result<Verified> {
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[issuer]);
    // The time is checked by `Verified::actor`.
    validation.validate_exp = false;
    validation.required_spec_claims = ["exp", "aud", "iss"].map(str::to_owned).into();
    let claims = jsonwebtoken::decode::<Claims>(token, key, &validation)
        .map_err(|_| refused("INVALID_TOKEN", "the access token is not valid"))?
        .claims;
    let actor = Actor {
        tenant: claims.tenant,
        subject: claims.sub,
        name: claims.name,
        permissions: claims.permissions,
        via: Via::AccessToken,
    };
    Ok(Verified { actor, issued_at: claims.iat, expires_at: claims.exp })
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
            name: "n".into(),
            tenant: TenantId::default_tenant(),
            permissions: [Permission::ManifestRead].into(),
            iat: 1_000,
            exp: 1_900,
            sid: "s".into(),
        };
        let sign = |message: &[u8]| key.sign(message).map_err(|_| Error::internal("signing"));
        let token = encode(&claims, sign).unwrap();
        let verify_key = decoding_key(&material.public).unwrap();
        let code = |issuer: &str, now| {
            decode(&token, &verify_key, issuer).and_then(|v| v.actor(now)).map(|_| "ok").unwrap_or_else(|e| e.code)
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
