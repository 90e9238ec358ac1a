//! Keys from the environment of the process: the credential service of a container (ECS, EKS Pod
//! Identity) and the metadata service of an EC2 instance (IMDSv2).
//!
//! With IMDSv2, `PUT /latest/api/token` returns a session token. The token is sent with `GET
//! /latest/meta-data/iam/security-credentials/` (the name of the role) and `.../ROLE` (its keys).
//! The response to the PUT has a limited number of hops, so inside a container it may be lost
//! silently.

use std::net::IpAddr;
use std::path::Path;

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderValue, Method, StatusCode, Uri};

use super::answer::Answer;
use super::fetch::Fetched;
use super::http::{Ask, NoAnswer, Said, Web, failed, for_now, is_loopback, quote, without_query};
use crate::base::limits;
use crate::config::{CredentialError, Env};
use crate::io::read_small;

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Address of the ECS agent.
const ECS: &str = "http://169.254.170.2";

/// Addresses that may be used without TLS, in addition to the loopback: the agents of ECS and of
/// EKS.
const AGENTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// The variables with the address of a container's credentials.
pub(super) const CONTAINER: [&str; 2] = [RELATIVE, FULL];

/// The variable with the address of the metadata service.
pub(super) const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// The variable that disables the metadata service.
pub(super) const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";

/// The URL of the container's credentials; `None` outside an AWS container.
fn container_url(env: &Env) -> Result<Option<String>, CredentialError> {
    if let Some(path) = env.get(RELATIVE) {
        if !path.starts_with('/') {
            return Err(failed(format!("{RELATIVE} must begin with a slash")));
        }
        return Ok(Some(format!("{ECS}{path}")));
    }
    let Some(url) = env.get(FULL) else { return Ok(None) };
    let shown = without_query(url);
    let uri: Uri = url.parse().map_err(|_| failed(format!("{FULL} holds {shown:?}, which is not a URL")))?;
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let is_agent = AGENTS.iter().any(|a| a.parse().ok() == bare && bare.is_some());
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback(host) || is_agent => {}
        _ => {
            return Err(failed(format!(
                "{FULL} holds {shown}: a token is sent there only by https, or by http to this machine, {}",
                AGENTS.join(" or ")
            )));
        }
    }
    Ok(Some(url.to_owned()))
}

/// Asks the container's service; `None` if there is none.
pub(super) async fn container(env: &Env, web: &Web) -> Result<Option<Fetched>, CredentialError> {
    let Some(url) = container_url(env)? else { return Ok(None) };
    let service = format!("the container's credential service at {}", without_query(&url));
    let mut ask = Ask::get(&url, limits::CREDENTIAL_TIME);
    let token = match env.get(TOKEN_FILE) {
        // The file is read each time, because the agent renews the token.
        Some(path) => {
            let bytes = read_small(Path::new(path), limits::CREDENTIAL_BYTES as u64);
            let bytes =
                bytes.map_err(|e| for_now(format!("{path} (from {TOKEN_FILE}) cannot be read: {e}")))?;
            let text = String::from_utf8(bytes).map_err(|_| failed(format!("{path} is not text")))?;
            Some(text.trim().to_owned())
        }
        None => env.get(TOKEN).map(str::to_owned),
    };
    if let Some(token) = token {
        ask = ask.secret(AUTHORIZATION, &token)?;
    }
    let said = web.ask(ask).await.map_err(|e| for_now(format!("{service}: {}", e.message)))?;
    if said.status != StatusCode::OK {
        return Err(said.refusal(&service, ": check the role of the task or of the pod"));
    }
    let found = Answer::read(&service, &said.body)?.credentials(&service, service.clone())?;
    Ok(Some(found.by_clock(said.date)))
}

/// The address of the metadata service.
fn endpoint(env: &Env) -> String {
    match env.get(ENDPOINT) {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => match env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE") {
            Some(mode) if mode.eq_ignore_ascii_case("ipv6") => "http://[fd00:ec2::254]".to_owned(),
            _ => "http://169.254.169.254".to_owned(),
        },
    }
}

/// Whether the metadata service is disabled.
pub(super) fn is_disabled(env: &Env) -> bool {
    env.get(DISABLED).is_some_and(|v| v.eq_ignore_ascii_case("true"))
}

/// Asks the metadata service for the keys of the instance's role.
pub(super) async fn instance(env: &Env, web: &Web) -> Result<Fetched, CredentialError> {
    let at = endpoint(env);
    let service = format!("the EC2 metadata service at {at}");
    let token = session(web, &at, &service).await?;
    let roles = "/latest/meta-data/iam/security-credentials/";
    let said = get(web, &at, roles, &token, &service).await?;
    let names = String::from_utf8_lossy(&said.body).into_owned();
    let role = names.lines().next().unwrap_or_default().trim();
    if said.status == StatusCode::NOT_FOUND || (said.status == StatusCode::OK && role.is_empty()) {
        return Err(failed(format!(
            "{service} has no role: attach an instance profile to the instance, or set AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY"
        )));
    }
    if said.status != StatusCode::OK {
        return Err(said.refusal(&service, ""));
    }
    if !role.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@-_".contains(&b)) {
        return Err(failed(format!("{service} names the role {:?}, which is not a role name", quote(role))));
    }
    let said = get(web, &at, &format!("{roles}{role}"), &token, &service).await?;
    if said.status != StatusCode::OK {
        return Err(said.refusal(&service, &format!(" for the role {role}")));
    }
    let origin = format!("the EC2 metadata service (role {role})");
    let found = Answer::read(&service, &said.body)?.credentials(&service, origin)?;
    Ok(found.by_clock(said.date).stable())
}

async fn session(web: &Web, at: &str, service: &str) -> Result<String, CredentialError> {
    let mut ask = Ask::get(format!("{at}/latest/api/token"), limits::METADATA_TIME);
    ask.method = Method::PUT;
    let life = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
    ask.headers.insert(life, HeaderValue::from_static("21600"));
    match several(web, &ask).await {
        Ok(said) if said.status == StatusCode::OK => {
            let token = String::from_utf8_lossy(&said.body).trim().to_owned();
            if token.is_empty() { Err(failed(format!("{service} gave an empty token"))) } else { Ok(token) }
        }
        Ok(said) if said.status == StatusCode::FORBIDDEN => Err(failed(format!(
            "{service} is switched off for this instance (403): switch it on, or set keys"
        ))),
        Ok(said) => Err(said.refusal(service, " to the request for a token")),
        Err(e) if e.silent => Err(for_now(format!(
            "{service} took the request for a token, and its answer never came: in a container raise the hop limit \
             (aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2 --instance-id ID)"
        ))),
        Err(e) => Err(failed(format!("{service}: {}", e.message))),
    }
}

async fn get(web: &Web, at: &str, path: &str, token: &str, service: &str) -> Result<Said, CredentialError> {
    let ask = Ask::get(format!("{at}{path}"), limits::METADATA_TIME);
    let ask = ask.secret(HeaderName::from_static("x-aws-ec2-metadata-token"), token)?;
    several(web, &ask).await.map_err(|e| for_now(format!("{service}: {}", e.message)))
}

/// Makes several attempts, because a busy service drops requests. A failed connection is final:
/// there is no such service.
async fn several(web: &Web, ask: &Ask) -> Result<Said, NoAnswer> {
    let mut last = web.ask(ask.clone()).await;
    for _ in 1..limits::METADATA_ATTEMPTS {
        match &last {
            Ok(said) if !said.is_transient() => break,
            Err(e) if !e.silent => break,
            _ => last = web.ask(ask.clone()).await,
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_only_where_it_may() {
        let url = |value: &str| container_url(&Env::new([(FULL, value)])).map_err(|e| e.to_string());
        for good in [
            "https://example.com/keys",
            "http://localhost:8080/",
            "http://127.0.0.5/x",
            "http://[::1]:9/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
        ] {
            assert_eq!(url(good), Ok(Some(good.to_owned())));
        }
        for bad in [
            "http://example.com/keys",
            "http://169.254.169.254/",
            "ftp://localhost/",
            "/keys",
            "http://localhost.evil.org/",
        ] {
            let e = url(bad).unwrap_err();
            assert!(e.contains(FULL), "{e}");
        }
        let env = Env::new([(RELATIVE, "/v2/credentials/1"), (FULL, "https://x/")]);
        assert_eq!(container_url(&env).unwrap().as_deref(), Some("http://169.254.170.2/v2/credentials/1"));
        assert_eq!(container_url(&Env::default()), Ok(None));
        assert!(container_url(&Env::new([(RELATIVE, "@evil.org/")])).is_err());
    }

    #[test]
    fn the_place_of_the_metadata_service() {
        assert_eq!(endpoint(&Env::default()), "http://169.254.169.254");
        let six = Env::new([("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")]);
        assert_eq!(endpoint(&six), "http://[fd00:ec2::254]");
        assert_eq!(endpoint(&Env::new([(ENDPOINT, "http://localhost:1338/")])), "http://localhost:1338");
        assert!(is_disabled(&Env::new([(DISABLED, "True")])) && !is_disabled(&Env::new([(DISABLED, "no")])));
    }
}
