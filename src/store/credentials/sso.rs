//! IAM Identity Center: `aws sso login` leaves a token in `~/.aws/sso/cache`, which is exchanged
//! for a role's keys.
//!
//! The file name is the SHA-1 of the session's name (or, in the older form of a profile, of its
//! start URL). The refresh token renews a session's token while the registration of the client that
//! created it is valid. The file is then rewritten, because the refresh token may have changed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use http::StatusCode;
use http::header::HeaderName;
use serde_json::{Map, Value};

use super::answer::fetched;
use super::fetch::Fetched;
use super::http::{Ask, Web, failed, for_now};
use super::place::AwsRegion;
use crate::base::clock::Millis;
use crate::base::limits;
use crate::config::{CredentialError, Secret};
use crate::io::{durable, read_small};
use crate::store::s3::push_query;

/// A token that expires within this many milliseconds is renewed first.
const RENEW_MS: i64 = 5 * 60 * 1000;

/// The session settings of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sso {
    /// Name of the `sso-session`, if the profile has one.
    pub(super) session: Option<String>,
    pub(super) start_url: String,
    pub(super) region: String,
    pub(super) account_id: String,
    pub(super) role_name: String,
}

/// The file with the token of a session.
pub(super) fn cache_file(folder: &Path, sso: &Sso) -> PathBuf {
    use sha1::Digest as _;
    let name = sso.session.as_deref().unwrap_or(&sso.start_url);
    let hex = sha1::Sha1::digest(name.as_bytes()).iter().fold(String::new(), |mut hex, b| {
        _ = write!(hex, "{b:02x}");
        hex
    });
    folder.join(format!("{hex}.json"))
}

/// A token as it is stored in its file; unknown fields are kept. It has no `Debug`, because it is a
/// secret.
struct Token(Map<String, Value>);

impl Token {
    fn read(file: &Path, login: &str) -> Result<Token, CredentialError> {
        let bytes = match read_small(file, limits::CREDENTIAL_BYTES as u64) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(failed(format!(
                    "there is no session of IAM Identity Center ({}): {login}",
                    file.display()
                )));
            }
            Err(e) => return Err(for_now(format!("{} cannot be read: {e}", file.display()))),
        };
        serde_json::from_slice(&bytes)
            .map(Token)
            .map_err(|_| for_now(format!("{} is not the JSON of a session: {login}", file.display())))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|t| !t.is_empty())
    }

    fn time(&self, name: &str) -> Option<Millis> {
        // Old versions of the AWS command line wrote `2020-06-17T10:02:08UTC`.
        Millis::parse_rfc3339(&self.text(name)?.replace("UTC", "Z"))
    }

    /// The token, if it is still valid after `ahead_ms` milliseconds.
    fn valid(&self, now: Millis, ahead_ms: i64) -> Option<&str> {
        let until = self.time("expiresAt")?;
        (until.0 > now.0 + ahead_ms).then(|| self.text("accessToken")).flatten()
    }
}

/// Fetches the keys of the role.
pub(super) async fn keys(
    sso: &Sso,
    profile: &str,
    folder: &Path,
    place: &AwsRegion,
    web: &Web,
) -> Result<Fetched, CredentialError> {
    let login = match &sso.session {
        Some(session) => format!("run aws sso login --sso-session {session}"),
        None => format!("run aws sso login --profile {profile}"),
    };
    let file = cache_file(folder, sso);
    let place = place.in_region(Some(&sso.region));
    let mut token = Token::read(&file, &login)?;
    let now = Millis::now();
    if sso.session.is_some() && token.valid(now, RENEW_MS).is_none() {
        let renewed = renew(&mut token, &file, &place, web).await;
        // If the renewal fails, a token that is valid for a little longer is used.
        if let Err(e) = renewed
            && token.valid(now, 0).is_none()
        {
            return Err(match e {
                CredentialError::Source { message, transient } => {
                    CredentialError::Source { message: format!("{message}: {login}"), transient }
                }
                CredentialError::Missing => CredentialError::Missing,
            });
        }
    }
    let Some(access) = token.valid(Millis::now(), 0) else {
        return Err(failed(format!(
            "the session of IAM Identity Center has ended ({}): {login}",
            file.display()
        )));
    };
    role_keys(sso, access, &login, &place, web).await
}

async fn role_keys(
    sso: &Sso,
    access: &str,
    login: &str,
    place: &AwsRegion,
    web: &Web,
) -> Result<Fetched, CredentialError> {
    let at = place.sso();
    let service = format!("IAM Identity Center at {at}");
    let mut url = format!("{at}/federation/credentials?role_name=");
    push_query(&mut url, &sso.role_name);
    url.push_str("&account_id=");
    push_query(&mut url, &sso.account_id);
    let ask = Ask::get(url, limits::CREDENTIAL_TIME);
    let ask = ask.secret(HeaderName::from_static("x-amz-sso_bearer_token"), access)?;
    let said = web.ask(ask).await.map_err(|e| for_now(format!("{service}: {}", e.message)))?;
    match said.status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            return Err(failed(format!("{service} does not accept the session any more: {login}")));
        }
        _ => {
            let advice = format!(" for role {} of account {}", sso.role_name, sso.account_id);
            return Err(said.refusal(&service, &advice));
        }
    }
    let json: Value = serde_json::from_slice(&said.body)
        .map_err(|_| failed(format!("{service} did not answer in JSON")))?;
    let keys = &json["roleCredentials"];
    let text = |name: &str| keys[name].as_str().unwrap_or_default().to_owned();
    let expires = keys["expiration"].as_i64().map(|ms| Millis(ms).to_rfc3339());
    let origin = format!("IAM Identity Center (role {} of account {})", sso.role_name, sso.account_id);
    let secret = Secret::new(text("secretAccessKey"));
    let token = Some(text("sessionToken"));
    let found = fetched(&service, origin, text("accessKeyId"), secret, token, expires.as_deref())?;
    Ok(found.by_clock(said.date))
}

/// Gets another token with the refresh token, and writes it to the file.
async fn renew(token: &mut Token, file: &Path, place: &AwsRegion, web: &Web) -> Result<(), CredentialError> {
    let at = place.sso_oidc();
    let service = format!("IAM Identity Center at {at}");
    let (Some(refresh), Some(id), Some(secret)) =
        (token.text("refreshToken"), token.text("clientId"), token.text("clientSecret"))
    else {
        return Err(failed("the session of IAM Identity Center has ended and cannot be renewed".to_owned()));
    };
    if token.time("registrationExpiresAt").is_some_and(|t| t <= Millis::now()) {
        return Err(failed("the session of IAM Identity Center and its registration have ended".to_owned()));
    }
    let body = serde_json::json!({
        "clientId": id, "clientSecret": secret, "grantType": "refresh_token", "refreshToken": refresh,
    });
    let said = web.ask(Ask::post(format!("{at}/token"), "application/json", body.to_string())).await;
    let said = said.map_err(|e| for_now(format!("{service}: {}", e.message)))?;
    if said.status != StatusCode::OK {
        return Err(said.refusal(&service, " to the renewal of the session"));
    }
    let json: Map<String, Value> = serde_json::from_slice(&said.body)
        .map_err(|_| failed(format!("{service} did not answer in JSON")))?;
    let (Some(access), Some(seconds)) =
        (json.get("accessToken").and_then(Value::as_str), json.get("expiresIn").and_then(Value::as_i64))
    else {
        return Err(failed(format!("{service} answered without a token")));
    };
    let until = Millis(Millis::now().0.saturating_add(seconds.clamp(0, 1 << 31) * 1000));
    token.0.insert("accessToken".into(), access.into());
    token.0.insert("expiresAt".into(), until.to_rfc3339().into());
    if let Some(refresh) = json.get("refreshToken").and_then(Value::as_str) {
        token.0.insert("refreshToken".into(), refresh.into());
    }
    let text = serde_json::to_vec(&token.0).map_err(|e| failed(e.to_string()))?;
    if let Err(e) = durable::write(file, &text, 0o600) {
        // This process has the new token; the next one may have to log in again.
        tracing::warn!(file = %file.display(), error = %e, "the renewed session cannot be kept");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_named_as_others_name_it() {
        let mut sso = Sso {
            session: Some("admin".into()),
            start_url: "https://d-92671207e4.awsapps.com/start".into(),
            region: "us-east-1".into(),
            account_id: "1".into(),
            role_name: "r".into(),
        };
        let name = |sso: &Sso| cache_file(Path::new("/c"), sso).to_str().unwrap().to_owned();
        // From the tests of the AWS SDKs.
        assert_eq!(name(&sso), "/c/d033e22ae348aeb5660fc2140aec35850c4da997.json");
        sso.session = None;
        assert_eq!(name(&sso), "/c/13f9d35043871d073ab260e020f0ffde092cb14b.json");
    }

    #[test]
    fn a_token_is_valid_until_its_time() {
        let token = |until: &str| {
            let json = serde_json::json!({ "accessToken": "t", "expiresAt": until });
            Token(json.as_object().unwrap().clone())
        };
        let now = Millis::parse_rfc3339("2026-11-22T00:00:00Z").unwrap();
        assert_eq!(token("2026-11-22T00:10:00Z").valid(now, RENEW_MS), Some("t"));
        assert_eq!(token("2026-11-22T00:04:00Z").valid(now, RENEW_MS), None);
        assert_eq!(token("2026-11-22T00:04:00UTC").valid(now, 0), Some("t"));
        assert_eq!(token("soon").valid(now, 0), None);
    }
}
