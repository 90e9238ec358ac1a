//! Roles: AssumeRole and AssumeRoleWithWebIdentity of AWS STS, as forms sent by POST, with
//! responses in XML.

use std::path::{Path, PathBuf};

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use sha2::Digest as _;

use super::answer::fetched;
use super::fetch::Fetched;
use super::http::{Ask, Said, Web, failed, for_now};
use super::place::AwsRegion;
use crate::base::clock::Millis;
use crate::base::limits;
use crate::config::{CredentialError, Credentials, Secret};
use crate::io::read_small;
use crate::store::s3::sign::{Signed, Signer, SigningKey, sign_for};
use crate::store::s3::{push_hex, push_query, xml};

const FORM: &str = "application/x-www-form-urlencoded";
const VERSION: &str = "2011-06-15";

/// A role to assume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session_name: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) duration_seconds: Option<u32>,
}

impl Role {
    fn session(&self) -> String {
        self.session_name.clone().unwrap_or_else(|| format!("lsfast-{}", Millis::now().0))
    }

    fn form(&self, action: &str) -> Form {
        let mut form = Form::default();
        form.add("Action", action).add("Version", VERSION);
        form.add("RoleArn", &self.arn).add("RoleSessionName", &self.session());
        if let Some(seconds) = self.duration_seconds {
            form.add("DurationSeconds", &seconds.to_string());
        }
        form
    }
}

#[derive(Default)]
struct Form(String);

impl Form {
    fn add(&mut self, name: &str, value: &str) -> &mut Form {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        push_query(&mut self.0, name);
        self.0.push('=');
        push_query(&mut self.0, value);
        self
    }
}

/// Assumes `role` with the token in `file`. The file is read each time, because the platform renews
/// it.
pub(super) async fn web_identity(
    role: &Role,
    file: &PathBuf,
    place: &AwsRegion,
    web: &Web,
) -> Result<Fetched, CredentialError> {
    let bytes = read_small(Path::new(file), limits::CREDENTIAL_BYTES as u64)
        .map_err(|e| for_now(format!("the web identity token {} cannot be read: {e}", file.display())))?;
    let token = String::from_utf8(bytes).unwrap_or_default();
    let token = token.trim();
    if token.is_empty() {
        return Err(for_now(format!("the web identity token {} is empty or not text", file.display())));
    }
    let mut form = role.form("AssumeRoleWithWebIdentity");
    form.add("WebIdentityToken", token);
    let url = place.sts();
    let service = format!("STS at {url}");
    let said = web.ask(Ask::post(format!("{url}/"), FORM, form.0)).await;
    let said = said.map_err(|e| for_now(format!("{service}: {}", e.message)))?;
    let advice = format!(
        " for the role {} by the web identity token {}: check that the role trusts this identity",
        role.arn,
        file.display()
    );
    taken(&said, &service, &advice, format!("STS (role {} by web identity)", role.arn))
}

/// Assumes `role` with the keys of `base`.
pub(super) async fn assume(
    role: &Role,
    base: &Credentials,
    place: &AwsRegion,
    web: &Web,
) -> Result<Fetched, CredentialError> {
    let mut form = role.form("AssumeRole");
    if let Some(id) = &role.external_id {
        form.add("ExternalId", id);
    }
    let url = place.sts();
    let service = format!("STS at {url}");
    let mut ask = Ask::post(format!("{url}/"), FORM, form.0);
    sign(&mut ask, base, &place.region)?;
    let said = web.ask(ask).await.map_err(|e| for_now(format!("{service}: {}", e.message)))?;
    let advice = format!(
        " to the access key {} from {}: allow it sts:AssumeRole on {}, and let the role trust it",
        base.abbreviated_id(),
        base.origin,
        role.arn
    );
    taken(&said, &service, &advice, format!("STS (role {})", role.arn))
}

fn sign(ask: &mut Ask, base: &Credentials, region: &str) -> Result<(), CredentialError> {
    let broken = |e: String| failed(format!("the request for a role cannot be signed: {e}"));
    let host = ask.url.split("://").nth(1).and_then(|r| r.split('/').next()).unwrap_or_default();
    let mut headers: HeaderMap = std::mem::take(&mut ask.headers);
    headers.insert(HOST, HeaderValue::from_str(host).map_err(|e| broken(e.to_string()))?);
    let kept = SigningKey::default();
    let signer = Signer { credentials: base, region, time: Millis::now().to_system(), kept: &kept };
    let mut hash = String::new();
    push_hex(&mut hash, &sha2::Sha256::digest(&ask.body));
    let path = ask.url.split_once(host).map_or("/", |(_, path)| path);
    sign_for("sts", signer, &Method::POST, (host, path), &mut headers, Signed::Sha256(&hash))
        .map_err(|e| broken(e.to_string()))?;
    ask.headers = headers;
    Ok(())
}

fn taken(said: &Said, service: &str, advice: &str, origin: String) -> Result<Fetched, CredentialError> {
    if said.status != StatusCode::OK {
        return Err(said.refusal(service, advice));
    }
    // No `Debug`: these strings hold a secret.
    let (mut id, mut secret, mut token, mut expiration) = <(String, String, String, String)>::default();
    let read = xml::visit(&said.body, |path, text| {
        if let [.., above, name] = path
            && above == "Credentials"
        {
            let field = match name.as_str() {
                "AccessKeyId" => &mut id,
                "SecretAccessKey" => &mut secret,
                "SessionToken" => &mut token,
                "Expiration" => &mut expiration,
                _ => return Ok(()),
            };
            text.clone_into(field);
        }
        Ok(())
    });
    if read.is_err() {
        return Err(failed(format!("{service} did not answer in the XML of STS: check its address")));
    }
    let found = fetched(service, origin, id, Secret::new(secret), Some(token), Some(&expiration))?;
    Ok(found.by_clock(said.date))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded() {
        let role = Role {
            arn: "arn:aws:iam::1:role/a b".into(),
            session_name: Some("me".into()),
            external_id: None,
            duration_seconds: Some(900),
        };
        assert_eq!(
            role.form("AssumeRole").0,
            "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fa%20b&RoleSessionName=me\
             &DurationSeconds=900"
        );
        assert!(Role { session_name: None, ..role }.session().starts_with("lsfast-"));
    }

    #[test]
    fn keys_stand_in_the_document_wherever_the_credentials_are() {
        let body = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
            <AssumedRoleUser><Arn>x</Arn></AssumedRoleUser><Credentials><AccessKeyId>ASIA</AccessKeyId>\
            <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
            <Expiration>2026-11-22T01:02:03Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let said = |body: &str| Said {
            status: StatusCode::OK,
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
            date: None,
        };
        let keys = taken(&said(body), "STS", "", "a test".into()).unwrap().credentials;
        assert_eq!((keys.access_key_id.as_str(), keys.secret_access_key.expose()), ("ASIA", "s"));
        assert!(keys.expires.is_some() && keys.session_token.is_some());
        for wrong in ["<html>", "", "<x/>"] {
            taken(&said(wrong), "STS", "", "a test".into()).unwrap_err();
        }
    }
}
