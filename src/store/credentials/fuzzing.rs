//! Entry points for the fuzz targets, built with `--cfg fuzzing` only.

use http::StatusCode;

use super::answer::Answer;
use super::http::Said;
use super::profiles::Profiles;

/// Parses the JSON of a container, of EC2 metadata or of `credential_process`. Returns the error's
/// text.
#[must_use]
pub fn json_answer(json: &[u8]) -> String {
    match Answer::read("the service", json).and_then(|a| a.credentials("the service", "fuzz".into())) {
        Ok(fetched) => format!("{:?}", fetched.credentials),
        Err(e) => format!("{e} {e:?}"),
    }
}

/// Parses a shared AWS file. Returns the error's text.
#[must_use]
pub fn profile_file(text: &str, is_config: bool) -> String {
    let mut profiles = Profiles::default();
    match profiles.add(text, is_config) {
        Ok(()) => profiles.names(),
        Err((line, why)) => format!("line {line}: {why}"),
    }
}

/// Reads an error of STS or IAM Identity Center, in XML, JSON or plain text. Returns the text that
/// would be shown.
#[must_use]
pub fn refusal(status: StatusCode, body: &[u8]) -> String {
    let said = Said { status, body: body.to_vec().into(), date: None };
    let e = said.refusal("the service", "");
    format!("{e} {e:?} {}", said.is_transient())
}
