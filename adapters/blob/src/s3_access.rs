//! Whether everybody could read a bucket.

use crate::{
    BucketFinding, S3BlobStore,
    s3_admin::finding,
    s3_fault::{Fault, failed, fault},
};
use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    types::Type,
};
use omt_kernel::Error;
use serde_json::Value;

const SUBJECT: &str = "public access";
const BLOCK: &str = "block public access to the bucket: content is served through this server or by presigned URLs only";
const PERMIT: &str = "allow s3:GetBucketPublicAccessBlock, GetBucketPolicy and GetBucketAcl, so that this can be looked at";

/// What an answer about access says.
enum Answer<T> {
    Known(T),
    /// The service has no such setting.
    Unsupported,
    /// It may not be asked, or does not answer.
    Refused(Error),
}

fn answer<T, E>(result: Result<T, SdkError<E>>, doing: &str, absent: (&str, T)) -> Answer<T>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match result {
        Ok(found) => Answer::Known(found),
        Err(error) if error.code() == Some(absent.0) => Answer::Known(absent.1),
        Err(error) => {
            let status = error.raw_response().map(|response| response.status().as_u16());
            // 501 NotImplemented and 405 MethodNotAllowed, and what services say to a parameter that they do not know.
            let unsupported = matches!(status, Some(400 | 404 | 405 | 501)) && fault(&error) == Fault::Unavailable;
            if unsupported { Answer::Unsupported } else { Answer::Refused(failed(doing, &error)) }
        }
    }
}

impl S3BlobStore {
    /// Whether the bucket's content could be read by anybody: by its public access block, and where that blocks not all, or is not
    /// known, by its policy and its ACL.
    pub(crate) async fn examine_access(&self) -> BucketFinding {
        let blocked = match self.blocked().await {
            Answer::Known(true) => return finding(SUBJECT, None),
            Answer::Known(false) => Some("public access is not blocked wholly"),
            Answer::Unsupported => None,
            Answer::Refused(error) => return finding(SUBJECT, Some((error.to_string(), PERMIT))),
        };
        let (policy, acl) = (self.open_policy().await, self.open_acl().await);
        let fault = match (&policy, &acl, blocked) {
            (Answer::Known(true), _, _) => Some(("the bucket's policy lets everybody in".to_owned(), BLOCK)),
            (_, Answer::Known(true), _) => Some(("the bucket's ACL lets everybody in".to_owned(), BLOCK)),
            (_, _, Some(words)) => Some((words.to_owned(), BLOCK)),
            (Answer::Refused(error), _, None) | (_, Answer::Refused(error), None) => Some((error.to_string(), PERMIT)),
            _ => None,
        };
        let unknown = matches!((&policy, &acl), (Answer::Unsupported, _) | (_, Answer::Unsupported));
        let note = (fault.is_none() && unknown).then_some("not known: this service does not say");
        BucketFinding { note, ..finding(SUBJECT, fault) }
    }

    async fn blocked(&self) -> Answer<bool> {
        let asked = self.client.get_public_access_block().bucket(&self.url.bucket).send().await;
        let blocked = asked.map(|answer| {
            answer.public_access_block_configuration().is_some_and(|b| {
                b.block_public_acls() == Some(true)
                    && b.block_public_policy() == Some(true)
                    && b.ignore_public_acls() == Some(true)
                    && b.restrict_public_buckets() == Some(true)
            })
        });
        answer(blocked, "read the bucket's public access block", ("NoSuchPublicAccessBlockConfiguration", false))
    }

    async fn open_policy(&self) -> Answer<bool> {
        let asked = self.client.get_bucket_policy().bucket(&self.url.bucket).send().await;
        let open = asked.map(|answer| answer.policy().is_some_and(lets_everybody_in));
        answer(open, "read the bucket's policy", ("NoSuchBucketPolicy", false))
    }

    async fn open_acl(&self) -> Answer<bool> {
        let asked = self.client.get_bucket_acl().bucket(&self.url.bucket).send().await;
        let everybody = |uri: &str| uri.ends_with("/global/AllUsers") || uri.ends_with("/global/AuthenticatedUsers");
        let open = asked.map(|answer| {
            let mut grantees = answer.grants().iter().filter_map(|grant| grant.grantee());
            grantees.any(|grantee| grantee.r#type() == &Type::Group && grantee.uri().is_some_and(everybody))
        });
        // A bucket whose objects belong to its owner has none (`BucketOwnerEnforced`), and answers for the owner.
        answer(open, "read the bucket's ACL", ("AccessControlListNotSupported", false))
    }
}

/// Whether a policy allows something to everybody without a condition. One that cannot be read may.
fn lets_everybody_in(policy: &str) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else { return true };
    let several = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let anybody = |principal: &Value| match principal {
        Value::Object(kinds) => kinds.get("AWS").is_some_and(|names| several(names).iter().any(|name| name == "*")),
        other => other == "*",
    };
    several(&policy["Statement"]).iter().any(|statement| {
        let conditions = statement.get("Condition").and_then(Value::as_object).is_some_and(|conditions| !conditions.is_empty());
        statement["Effect"] == "Allow" && anybody(&statement["Principal"]) && !conditions
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_for_everybody_are_found() {
        for (statement, open) in [
            (r#"{"Effect":"Allow","Principal":"*","Action":"s3:GetObject"}"#, true),
            (r#"[{"Effect":"Deny","Principal":"*"},{"Effect":"Allow","Principal":{"AWS":["*"]}}]"#, true),
            (r#"{"Effect":"Allow","Principal":{"AWS":"*"},"Condition":{}}"#, true),
            (r#"{"Effect":"Allow","Principal":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}"#, false),
            (r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::1:root"}}"#, false),
            (r#"{"Effect":"Allow","Principal":{"Service":"cloudfront.amazonaws.com"}}"#, false),
            (r#"{"Effect":"Deny","Principal":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}"#, false),
            ("[]", false),
        ] {
            let policy = format!(r#"{{"Version":"2012-10-17","Statement":{statement}}}"#);
            assert_eq!(lets_everybody_in(&policy), open, "{policy}");
        }
        assert!(lets_everybody_in("{"));
    }
}
