//! The JSON with keys that containers, EC2 metadata and `credential_process` return.

use serde::Deserialize;

use super::fetch::Fetched;
use super::http::{failed, for_now, quote};
use crate::base::clock::Millis;
use crate::config::{CredentialError, Credentials, Secret};

/// A response with keys. It has no `Debug`, because it holds a secret.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Answer {
    #[serde(rename = "Version")]
    pub(super) version: Option<u32>,
    #[serde(rename = "Code", alias = "code")]
    code: Option<String>,
    #[serde(rename = "Message", alias = "message")]
    message: Option<String>,
    #[serde(rename = "AccessKeyId")]
    access_key_id: String,
    #[serde(rename = "SecretAccessKey")]
    secret_access_key: String,
    #[serde(rename = "Token", alias = "SessionToken")]
    token: Option<String>,
    #[serde(rename = "Expiration")]
    expiration: Option<String>,
}

impl Answer {
    /// Parses a response of `service`. The error never quotes it: the text may contain keys (I7).
    pub(super) fn read(service: &str, json: &[u8]) -> Result<Answer, CredentialError> {
        serde_json::from_slice(json).map_err(|e| {
            let kind = match e.classify() {
                serde_json::error::Category::Data => "JSON of another shape",
                _ => "no JSON",
            };
            failed(format!("{service} answered {kind} (line {}, column {})", e.line(), e.column()))
        })
    }

    /// The keys in the response.
    pub(super) fn credentials(self, service: &str, origin: String) -> Result<Fetched, CredentialError> {
        if let Some(code) = self.code.filter(|c| c != "Success") {
            let message = self.message.unwrap_or_default();
            return Err(for_now(format!("{service} answered {}: {}", quote(&code), quote(&message))));
        }
        let secret = Secret::new(self.secret_access_key);
        fetched(service, origin, self.access_key_id, secret, self.token, self.expiration.as_deref())
    }
}

/// Checks the parts of the keys, and assembles them.
pub(super) fn fetched(
    service: &str,
    origin: String,
    access_key_id: String,
    secret_access_key: Secret,
    token: Option<String>,
    expiration: Option<&str>,
) -> Result<Fetched, CredentialError> {
    for (name, value) in
        [("AccessKeyId", access_key_id.as_str()), ("SecretAccessKey", secret_access_key.expose())]
    {
        if value.is_empty() {
            return Err(failed(format!("{service} answered without {name}")));
        }
    }
    let expires = match expiration.filter(|e| !e.is_empty()) {
        None => None,
        Some(text) => match Millis::parse_rfc3339(text) {
            Some(at) => Some(at.to_system()),
            None => {
                let text = quote(text);
                return Err(failed(format!(
                    "{service} answered with an Expiration of {text:?}, which is not a time"
                )));
            }
        },
    };
    Ok(Fetched::new(Credentials {
        access_key_id,
        secret_access_key,
        session_token: token.filter(|t| !t.is_empty()).map(Secret::new),
        origin,
        expires,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Credentials, String> {
        Answer::read("the service", json.as_bytes())
            .and_then(|a| a.credentials("the service", "a test".into()))
            .map(|f| f.credentials)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn both_names_of_the_token_and_no_expiry() {
        let keys = read(
            r#"{"AccessKeyId":"A","SecretAccessKey":"s","Token":"t","Expiration":"2026-01-02T03:04:05Z"}"#,
        )
        .unwrap();
        assert_eq!(keys.session_token, Some(Secret::new("t")));
        assert_eq!(Millis::from_system(keys.expires.unwrap()).to_rfc3339(), "2026-01-02T03:04:05Z");
        let keys =
            read(r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s","SessionToken":"t"}"#).unwrap();
        assert_eq!((keys.session_token, keys.expires), (Some(Secret::new("t")), None));
    }

    #[test]
    fn errors_repeat_no_key() {
        for (json, words) in [
            (r#"{"AccessKeyId":"A","SecretAccessKey":["hush"]}"#, "answered JSON of another shape (line 1"),
            (r#"{"SecretAccessKey":"hush""#, "answered no JSON (line 1"),
            (r#"{"SecretAccessKey":"hush"}"#, "the service answered without AccessKeyId"),
            (r#"{"Code":"Failed","Message":"try later"}"#, "the service answered Failed: try later"),
            (
                r#"{"AccessKeyId":"A","SecretAccessKey":"hush","Expiration":"soon"}"#,
                "\"soon\", which is not a time",
            ),
        ] {
            let e = read(json).unwrap_err();
            assert!(e.contains(words) && !e.contains("hush"), "{e}");
        }
    }
}
