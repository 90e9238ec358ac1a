//! Each source by itself.

use std::path::Path;
use std::time::Duration;

use lsfast::base::clock::Millis;

use super::source;
use crate::support::standin::{KeyRing, StandIn};

const LIFE: Duration = Duration::from_secs(3600);

/// The id that a chain gives, or its words.
async fn id(env: &[(&str, String)]) -> Result<String, String> {
    let keys = source(env)?.credentials().await.map_err(|e| e.to_string())?;
    Ok(keys.access_key_id.clone())
}

fn write(dir: &Path, text: &str) -> (&'static str, String) {
    let path = dir.join("config");
    std::fs::write(&path, text).unwrap();
    ("AWS_CONFIG_FILE", path.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_role_by_the_keys_of_another_profile() {
    let ring = KeyRing::default();
    let keys = ring.clone();
    let sts = StandIn::start(move |_| (200, keys.issue(LIFE).xml("AssumeRole")));
    let dir = tempfile::tempdir().unwrap();
    let config = write(
        dir.path(),
        "[profile backup]\nrole_arn = arn:aws:iam::1:role/backup\nsource_profile = base\nregion = eu-west-1\n\
         external_id = e/1\nduration_seconds = 900\nrole_session_name = me\n\
         [profile base]\naws_access_key_id = AKIABASEBASEBASEBASE\naws_secret_access_key = base-secret\n",
    );
    let env = [config, ("AWS_PROFILE", "backup".into()), ("AWS_ENDPOINT_URL_STS", sts.url())];
    assert_eq!(id(&env).await, Ok("ASIATESTTESTTEST0001".into()));
    let asked = sts.asked().remove(0);
    assert_eq!(
        asked.body,
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fbackup&RoleSessionName=me\
         &DurationSeconds=900&ExternalId=e%2F1"
    );
    let signed = asked.header("authorization");
    assert!(
        signed.contains("Credential=AKIABASEBASEBASEBASE/") && signed.contains("/eu-west-1/sts/aws4_request"),
        "{signed}"
    );
}

#[tokio::test]
async fn a_program_of_a_profile() {
    let dir = tempfile::tempdir().unwrap();
    let keys = KeyRing::default().issue(LIFE);
    std::fs::write(dir.path().join("keys.json"), keys.json()).unwrap();
    let program = format!("cat '{}'", dir.path().join("keys.json").display());
    let config = write(dir.path(), &format!("[default]\ncredential_process = {program}\n"));
    assert_eq!(id(&[config]).await, Ok(keys.id));
}

/// The cached token has ended and is renewed; the new one, and the new refresh token, are kept in
/// the file.
#[tokio::test]
async fn a_session_of_identity_center_is_renewed() {
    let ring = KeyRing::default();
    let keys = ring.clone();
    let service = StandIn::start(move |asked| match asked.path.split('?').next().unwrap_or_default() {
        "/token" if asked.body.contains("\"refreshToken\":\"refresh-1\"") => {
            (200, r#"{"accessToken":"access-2","expiresIn":28800,"refreshToken":"refresh-2"}"#.into())
        }
        "/federation/credentials" if asked.header("x-amz-sso_bearer_token") == "access-2" => {
            let k = keys.issue(LIFE);
            let json = serde_json::json!({ "roleCredentials": { "accessKeyId": k.id, "secretAccessKey": k.secret,
                "sessionToken": k.token, "expiration": k.until.0 } });
            (200, json.to_string())
        }
        _ => (401, String::new()),
    });
    let home = tempfile::tempdir().unwrap();
    let cache = home.path().join(".aws/sso/cache");
    std::fs::create_dir_all(&cache).unwrap();
    // SHA-1 of "admin".
    let token = cache.join("d033e22ae348aeb5660fc2140aec35850c4da997.json");
    let json = serde_json::json!({
        "accessToken": "access-1", "expiresAt": "2020-01-01T00:00:00Z", "refreshToken": "refresh-1",
        "clientId": "client", "clientSecret": "hush", "registrationExpiresAt": "2999-01-01T00:00:00Z",
        "startUrl": "https://corp.awsapps.com/start", "region": "us-east-1",
    });
    std::fs::write(&token, json.to_string()).unwrap();
    let config = write(
        home.path(),
        "[profile p]\nsso_session = admin\nsso_account_id = 123456789012\nsso_role_name = Back up\n\
         [sso-session admin]\nsso_region = us-east-1\nsso_start_url = https://corp.awsapps.com/start\n",
    );
    let env = [
        config,
        ("AWS_PROFILE", "p".into()),
        ("HOME", home.path().to_str().unwrap().into()),
        ("AWS_ENDPOINT_URL_SSO", service.url()),
        ("AWS_ENDPOINT_URL_SSO_OIDC", service.url()),
    ];
    assert_eq!(id(&env).await, Ok("ASIATESTTESTTEST0001".into()));
    assert_eq!(
        service.asked()[1].path,
        "/federation/credentials?role_name=Back%20up&account_id=123456789012"
    );
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&token).unwrap()).unwrap();
    assert_eq!((&kept["accessToken"], &kept["refreshToken"]), (&"access-2".into(), &"refresh-2".into()));
    assert_eq!(kept["startUrl"], "https://corp.awsapps.com/start");
    assert!(Millis::parse_rfc3339(kept["expiresAt"].as_str().unwrap()).unwrap() > Millis::now());
    // The next process renews nothing.
    assert_eq!(id(&env).await, Ok("ASIATESTTESTTEST0002".into()));
    assert_eq!(service.asked().len(), 3);
}

/// Whoever is set up first counts, and does not give way when he fails.
#[tokio::test]
async fn the_order() {
    let ring = KeyRing::default();
    let keys = ring.clone();
    let container = StandIn::start(move |_| (200, keys.issue(LIFE).json()));
    let dir = tempfile::tempdir().unwrap();
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.url());
    let nobody = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9".to_owned());
    assert_eq!(id(&[full.clone(), nobody.clone()]).await, Ok("ASIATESTTESTTEST0001".into()));
    let token = ("AWS_WEB_IDENTITY_TOKEN_FILE", dir.path().join("none").to_str().unwrap().to_owned());
    let role = ("AWS_ROLE_ARN", "r".to_owned());
    let e = id(&[full.clone(), token.clone(), role.clone()]).await.unwrap_err();
    assert!(e.contains("the web identity token") && e.contains("cannot be read"), "{e}");
    let config = write(dir.path(), "[default]\naws_access_key_id = FILE\naws_secret_access_key = s\n");
    assert_eq!(id(&[full.clone(), token.clone(), role.clone(), config.clone()]).await, Ok("FILE".into()));
    let env = [
        full,
        token,
        role,
        config,
        ("AWS_ACCESS_KEY_ID", "ENV".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "s".to_owned()),
    ];
    assert_eq!(id(&env).await, Ok("ENV".into()));
    assert_eq!(ring.issued(), 1);
}
