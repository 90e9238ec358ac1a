//! Credentials for a store, and their sources.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use super::Env;
use super::error::ConfigError;

const LITESTREAM: [&str; 2] = ["LITESTREAM_ACCESS_KEY_ID", "LITESTREAM_SECRET_ACCESS_KEY"];
const AWS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
const AWS_TOKEN: &str = "AWS_SESSION_TOKEN";

/// Text that must never be shown (I7).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`, so that `Debug` hides it.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for signing only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// I7: hides the text.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// One set of keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Access key id. It is not a secret, but is shown abbreviated nevertheless.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: Secret,
    /// Session token of temporary credentials.
    pub session_token: Option<Secret>,
    /// Source of the keys, as words that complete "the access key from ...".
    pub origin: String,
    /// When the keys expire, if that is known.
    pub expires: Option<SystemTime>,
}

impl Credentials {
    /// The first four and the last two characters of the access key id: enough to recognise it.
    #[must_use]
    pub fn abbreviated_id(&self) -> String {
        let chars: Vec<char> = self.access_key_id.chars().collect();
        if chars.len() < 10 {
            return format!("{}...", chars.iter().take(2).collect::<String>());
        }
        let (head, tail) = (&chars[..4], &chars[chars.len() - 2..]);
        format!("{}...{}", head.iter().collect::<String>(), tail.iter().collect::<String>())
    }
}

/// I7: shows neither the secret nor the token.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.abbreviated_id())
            .field("origin", &self.origin)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Why there are no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// No source is configured.
    #[error(
        "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or LITESTREAM_ACCESS_KEY_ID and LITESTREAM_SECRET_ACCESS_KEY)"
    )]
    Missing,
    /// A source failed.
    #[error("{message}")]
    Source {
        /// The source and its error, without a secret.
        message: String,
        /// Whether another request later may succeed.
        transient: bool,
    },
}

/// A future that resolves to the current credentials.
pub type CredentialFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Arc<Credentials>, CredentialError>> + Send + 'a>>;

/// A source that may have to make a request, and whose credentials may expire.
pub trait ProvideCredentials: Send + Sync + fmt::Debug {
    /// The current credentials, from memory while they are fresh.
    fn credentials(&self) -> CredentialFuture<'_>;

    /// Called when the store refused `used`. A source that can fetch others forgets them and
    /// returns true.
    fn refused(&self, used: &Credentials) -> bool;
}

/// The source of credentials.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    /// No source is configured.
    Missing,
    /// Fixed keys.
    Static(Arc<Credentials>),
    /// A source that refreshes its credentials.
    Provider(Arc<dyn ProvideCredentials>),
}

impl CredentialSource {
    /// Takes fixed keys from the environment: `LITESTREAM_*` first, then `AWS_*` with its session
    /// token.
    ///
    /// # Errors
    /// [`ConfigError::HalfCredentials`] if only one half of a pair is set.
    pub fn from_env(env: &Env) -> Result<CredentialSource, ConfigError> {
        for [id_name, secret_name] in [LITESTREAM, AWS] {
            let (id, secret) = match (env.get(id_name), env.get(secret_name)) {
                (Some(id), Some(secret)) => (id, secret),
                (None, None) => continue,
                (Some(_), None) => {
                    return Err(ConfigError::HalfCredentials { have: id_name, missing: secret_name });
                }
                (None, Some(_)) => {
                    return Err(ConfigError::HalfCredentials { have: secret_name, missing: id_name });
                }
            };
            let token = if id_name == AWS[0] { env.get(AWS_TOKEN) } else { None };
            return Ok(CredentialSource::Static(Arc::new(Credentials {
                access_key_id: id.to_owned(),
                secret_access_key: Secret::new(secret),
                session_token: token.map(Secret::new),
                origin: format!("the environment ({id_name})"),
                expires: None,
            })));
        }
        Ok(CredentialSource::Missing)
    }

    /// The current credentials.
    ///
    /// # Errors
    /// [`CredentialError`] if there are none.
    pub async fn credentials(&self) -> Result<Arc<Credentials>, CredentialError> {
        match self {
            CredentialSource::Missing => Err(CredentialError::Missing),
            CredentialSource::Static(c) => Ok(Arc::clone(c)),
            CredentialSource::Provider(p) => p.credentials().await,
        }
    }

    /// Tells the source that the store refused `used`. True if a retry may get other keys.
    #[must_use]
    pub fn refused(&self, used: &Credentials) -> bool {
        match self {
            CredentialSource::Missing | CredentialSource::Static(_) => false,
            CredentialSource::Provider(p) => p.refused(used),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(source: &CredentialSource) -> (String, Option<String>, String) {
        let CredentialSource::Static(c) = source else { panic!("{source:?}") };
        (c.access_key_id.clone(), c.session_token.as_ref().map(|t| t.expose().to_owned()), c.origin.clone())
    }

    #[test]
    fn litestream_before_aws_and_each_with_its_own_token() {
        let env = Env::new([
            ("LITESTREAM_ACCESS_KEY_ID", "LS"),
            ("LITESTREAM_SECRET_ACCESS_KEY", "s"),
            ("AWS_ACCESS_KEY_ID", "AK"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_SESSION_TOKEN", "token"),
        ]);
        let source = CredentialSource::from_env(&env).unwrap();
        assert_eq!(keys(&source), ("LS".into(), None, "the environment (LITESTREAM_ACCESS_KEY_ID)".into()));

        let env = Env::new([
            ("AWS_ACCESS_KEY_ID", "AK"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_SESSION_TOKEN", "token"),
        ]);
        let source = CredentialSource::from_env(&env).unwrap();
        assert_eq!(
            keys(&source),
            ("AK".into(), Some("token".into()), "the environment (AWS_ACCESS_KEY_ID)".into())
        );
    }

    #[test]
    fn half_a_pair_is_an_error_that_names_the_other_half() {
        let env = Env::new([("AWS_SECRET_ACCESS_KEY", "hush")]);
        let e = CredentialSource::from_env(&env).unwrap_err().to_string();
        assert_eq!(e, "AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not; set both or none");
    }

    #[test]
    fn debug_hides_the_secret() {
        let env = Env::new([
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI"),
            ("AWS_SESSION_TOKEN", "FwoGZXIvYXdz"),
        ]);
        let shown = format!("{:?}", CredentialSource::from_env(&env).unwrap());
        assert!(shown.contains("AKIA...LE"), "{shown}");
        for hidden in ["wJalrXUtnFEMI", "FwoGZXIvYXdz", "IOSFODNN"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }
}
