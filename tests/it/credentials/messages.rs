//! What a user reads when there are no keys.

use std::net::TcpListener;
use std::time::Duration;

use super::source;
use crate::support::canned::nobody;
use crate::support::lsfast;
use crate::support::s3::S3Server;
use crate::support::standin::{KeyRing, StandIn};

async fn words(env: &[(&str, String)]) -> String {
    match source(env) {
        Err(e) => e,
        Ok(source) => source.credentials().await.expect_err("no keys").to_string(),
    }
}

#[tokio::test]
async fn without_anything_set_it_says_at_once_where_it_looked() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().to_str().unwrap();
    assert_eq!(
        words(&[("HOME", home.into())]).await,
        format!(
            "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or LITESTREAM_ACCESS_KEY_ID and \
             LITESTREAM_SECRET_ACCESS_KEY); looked at LITESTREAM_ACCESS_KEY_ID (not set), AWS_ACCESS_KEY_ID (not set), \
             profile default in {home}/.aws/credentials and {home}/.aws/config (no such file), \
             AWS_WEB_IDENTITY_TOKEN_FILE (not set), the container's credential service (not set up), the EC2 metadata \
             service (not asked: the endpoint is not one of AWS)"
        )
    );
}

#[tokio::test]
async fn the_metadata_service() {
    let at = |url: String| [("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)];
    let e = words(&at(format!("http://{}", nobody()))).await;
    assert!(
        e.starts_with("no credentials: set AWS_ACCESS_KEY_ID") && e.contains("nothing listens at 127.0.0.1"),
        "{e}"
    );
    // From inside a container the answer to the PUT is lost: a connection, and silence.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let e = words(&at(format!("http://{}", silent.local_addr().unwrap()))).await;
    assert!(
        e.contains("in a container raise the hop limit") && e.contains("--http-put-response-hop-limit 2"),
        "{e}"
    );
    let roleless =
        StandIn::start(|asked| if asked.method == "PUT" { (200, "t".into()) } else { (404, String::new()) });
    let e = words(&at(roleless.url())).await;
    assert!(e.contains("has no role: attach an instance profile"), "{e}");
    let off = StandIn::start(|_| (403, String::new()));
    let e = words(&at(off.url())).await;
    assert!(e.contains("is switched off for this instance (403)"), "{e}");
    let mut env = at(off.url()).to_vec();
    env.push(("AWS_EC2_METADATA_DISABLED", "true".into()));
    let e = words(&env).await;
    assert!(e.contains("(switched off by AWS_EC2_METADATA_DISABLED)"), "{e}");
    assert_eq!(off.asked().len(), 1);
}

#[tokio::test]
async fn refusals_repeat_no_secret() {
    let echo = StandIn::start(|asked| {
        // A careless server sends back what it got.
        let said = format!("{} {}", asked.header("authorization"), asked.body);
        (403, serde_json::json!({ "code": "AccessDenied", "message": said }).to_string())
    });
    let token = "Zm9vYmFyLXRva2VuLTEyMzQ1Njc4OTAxMjM0NTY3ODkw";
    let env = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", echo.url()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", token.to_owned()),
    ];
    let e = words(&env).await;
    assert!(e.contains("answered 403 AccessDenied: (hidden)") && !e.contains(token), "{e}");
    let long = StandIn::start(|_| (200, "x".repeat(100_000)));
    let e = words(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", long.url())]).await;
    assert!(e.contains("is longer than 65536 bytes"), "{e}");
}

/// The commands have the chain too, and say what they looked at without a request to the store.
#[test]
fn commands_say_where_they_looked() {
    let home = tempfile::tempdir().unwrap();
    let url = format!("s3://bucket/db?endpoint=http://{}", nobody());
    let mut command = lsfast::command(["restore", "-o", "out.db", &url]);
    command.env("HOME", home.path()).current_dir(home.path());
    let output = lsfast::run(command);
    let said = lsfast::stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("error: s3://bucket/db: no credentials: set AWS_ACCESS_KEY_ID"), "{said}");
    assert!(said.contains("looked at") && said.lines().count() == 1, "{said}");
}

/// Keys that were fetched, their token, and what they were fetched with: nowhere in the log, at its
/// most talkative.
#[test]
fn a_trace_shows_no_secret() {
    let ring = KeyRing::default();
    let keys = ring.clone();
    let service = StandIn::start(move |_| (200, keys.issue(Duration::from_secs(3600)).json()));
    let server = S3Server::start_for(ring.clone());
    let mut command = lsfast::command(["restore", "-o", "out.db", &server.url("db"), "--log-level", "trace"]);
    command.env("HOME", "/nonexistent").env("AWS_CONTAINER_CREDENTIALS_FULL_URI", service.url());
    command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "very-secret-authorization");
    let output = lsfast::run(command);
    let said = lsfast::stderr(&output);
    assert!(ring.accepted() > 0 && service.asked()[0].header("authorization") == "very-secret-authorization");
    assert!(said.contains("credentials available") && said.contains("ASIA...01"), "{said}");
    assert!(!said.contains("very-secret"), "{said}");
}
