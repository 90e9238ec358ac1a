//! Uploads without a pause while the keys end every few seconds.

use std::path::Path;
use std::time::Duration;

use lsfast::store::Store;

use super::open;
use crate::s3::{content, raw, replacing};
use crate::support::s3::{S3Server, options};
use crate::support::standin::{KeyRing, StandIn};

/// Of each set of keys. The client asks for the next ones when a third of it is left.
const LIFE: Duration = Duration::from_secs(3);

/// One upload after the other until the fifth set of keys is out, which are four rotations. Not one
/// is refused.
async fn upload_across_rotations(ring: &KeyRing, env: &[(&str, String)]) {
    let server = S3Server::start_for(ring.clone());
    let store = open(&server.url("db"), env, &options());
    let mut n = 0;
    while ring.issued() < 5 {
        n += 1;
        store.put(raw(n % 50 + 1), vec![content(1000, n)], replacing()).await.expect("an upload");
    }
    store.list(lsfast::store::Scope::All).await.expect("a listing");
    assert_eq!(ring.refused(), 0, "of {}", ring.accepted());
    assert!(u64::from(ring.accepted()) > n && n > 5);
}

#[tokio::test]
async fn ec2_metadata() {
    let ring = KeyRing::default();
    let keys = ring.clone();
    let service = StandIn::start(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("PUT", "/latest/api/token") => (200, "a-token".into()),
        _ if asked.header("x-aws-ec2-metadata-token") != "a-token" => (401, String::new()),
        ("GET", "/latest/meta-data/iam/security-credentials/") => (200, "backup".into()),
        ("GET", "/latest/meta-data/iam/security-credentials/backup") => (200, keys.issue(LIFE).json()),
        _ => (404, String::new()),
    });
    upload_across_rotations(&ring, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url())]).await;
    let put = service.asked().remove(0);
    assert_eq!(put.header("x-aws-ec2-metadata-token-ttl-seconds"), "21600");
}

#[tokio::test]
async fn container() {
    let ring = KeyRing::default();
    let keys = ring.clone();
    let service = StandIn::start(move |asked| match asked.header("authorization") {
        "pod-token" if asked.path == "/v1/credentials" => (200, keys.issue(LIFE).json()),
        _ => (403, String::new()),
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "pod-token\n").unwrap();
    let env = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", service.url())),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", text(&file)),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "not this one".into()),
    ];
    upload_across_rotations(&ring, &env).await;
}

#[tokio::test]
async fn web_identity() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "jwt-1").unwrap();
    let (ring, renewed) = (KeyRing::default(), file.clone());
    let keys = ring.clone();
    let service = StandIn::start(move |asked| {
        // Each token serves once; the next one is written to the same file, as a cluster does.
        let token = std::fs::read_to_string(&renewed).expect("a token");
        if !asked.body.contains(&format!("&WebIdentityToken={token}")) {
            let e = "<ErrorResponse><Error><Code>ExpiredTokenException</Code></Error></ErrorResponse>";
            return (400, e.into());
        }
        std::fs::write(&renewed, format!("jwt-{}", keys.issued() + 2)).expect("written");
        (200, keys.issue(LIFE).xml("AssumeRoleWithWebIdentity"))
    });
    let env = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", text(&file)),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backup".into()),
        ("AWS_ROLE_SESSION_NAME", "me".into()),
        ("AWS_ENDPOINT_URL_STS", service.url()),
        ("AWS_REGION", "eu-central-1".into()),
    ];
    upload_across_rotations(&ring, &env).await;
    let first = service.asked().remove(0);
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/"));
    assert_eq!(
        first.body,
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fbackup\
         &RoleSessionName=me&WebIdentityToken=jwt-1"
    );
    assert_eq!(first.header("authorization"), "");
}

/// Keys are taken away at once and others stand in the file: the upload that met the refusal goes
/// on with them.
#[tokio::test]
async fn a_credentials_file_that_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    let ring = KeyRing::default();
    let write = || {
        ring.revoke();
        let keys = ring.issue(Duration::from_secs(3600));
        let text =
            format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n", keys.id, keys.secret);
        std::fs::write(&file, text).unwrap();
    };
    write();
    let server = S3Server::start_for(ring.clone());
    let store = open(&server.url("db"), &[("AWS_SHARED_CREDENTIALS_FILE", text(&file))], &options());
    for n in 1..5 {
        store.put(raw(n), vec![content(1000, n)], replacing()).await.expect("an upload");
        write();
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}
