//! How a profile obtains keys: from the file, from a program, from a session, or by assuming a role
//! with other keys.

use std::path::PathBuf;

use super::http::failed;
use super::profiles::{Files, Profiles, Section};
use super::sso::Sso;
use super::sts::Role;
use crate::base::limits;
use crate::config::{CredentialError, Credentials, Secret};

/// How to obtain keys. `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// The file contains the keys.
    Keys(Box<Credentials>),
    /// A program prints the keys.
    Process(String),
    /// A token in a file is exchanged for a role's keys.
    WebIdentity { role: Role, file: PathBuf },
    /// A session of IAM Identity Center provides the keys.
    Sso(Sso),
    /// A role is assumed with the keys of another plan.
    Assume { role: Role, region: Option<String>, base: Box<Plan> },
    /// The environment contains the keys.
    Environment,
    /// The container's credential service provides the keys.
    Container,
    /// The metadata service of the instance provides the keys.
    Instance,
}

impl Plan {
    /// A description that follows "profile NAME: ".
    pub(super) fn words(&self) -> String {
        match self {
            Plan::Keys(keys) => format!("access key {}", keys.abbreviated_id()),
            Plan::Process(_) => "a credential_process".into(),
            Plan::WebIdentity { role, .. } => format!("role {} by web identity", role.arn),
            Plan::Sso(sso) => {
                format!("IAM Identity Center, role {} of account {}", sso.role_name, sso.account_id)
            }
            Plan::Assume { role, base, .. } => format!("role {} by {}", role.arn, base.words()),
            Plan::Environment => "the keys of the environment".into(),
            Plan::Container => "the container's credential service".into(),
            Plan::Instance => "the EC2 metadata service".into(),
        }
    }
}

/// The plan of the selected profile. `None` if it sets nothing about keys, or if it is the default
/// profile and does not exist.
pub(super) fn plan(files: &Files, profiles: &Profiles) -> Result<Option<Plan>, CredentialError> {
    let name = &files.profile;
    if profiles.profile(name).is_none() {
        let Some(variable) = files.named_by else { return Ok(None) };
        return Err(failed(format!(
            "profile {name} (from {variable}) is not in {}; there are: {}",
            files.names(),
            profiles.names()
        )));
    }
    let plan = Planner { files, profiles }.of(name, &mut Vec::new())?;
    if plan.is_none() && files.named_by.is_some() {
        return Err(failed(format!("profile {name} in {} says nothing about keys", files.names())));
    }
    Ok(plan)
}

struct Planner<'a> {
    files: &'a Files,
    profiles: &'a Profiles,
}

impl Planner<'_> {
    fn of(&self, name: &str, above: &mut Vec<String>) -> Result<Option<Plan>, CredentialError> {
        let Some(section) = self.profiles.profile(name) else {
            let from = above.last().map_or("", String::as_str);
            return Err(failed(format!(
                "profile {name}, the source_profile of {from}, is not in {}; there are: {}",
                self.files.names(),
                self.profiles.names()
            )));
        };
        // A profile that names itself as its source has keys of its own.
        if above.last().is_some_and(|last| last == name) {
            return self.own(name, section);
        }
        if above.len() >= limits::PROFILE_CHAIN || above.iter().any(|a| a == name) {
            let row = above.join(" -> ");
            return Err(failed(format!(
                "the profiles {row} -> {name} name each other without end (source_profile)"
            )));
        }
        match section.get("role_arn") {
            Some(arn) => self.role(name, section, arn, above).map(Some),
            None => self.own(name, section),
        }
    }

    /// Keys that need no role, in the order of the AWS command line.
    fn own(&self, name: &str, section: &Section) -> Result<Option<Plan>, CredentialError> {
        if section.get("sso_account_id").is_some() || section.get("sso_role_name").is_some() {
            return self.sso(name, section).map(Some);
        }
        let file = || format!("profile {name} in {}", self.files.names());
        match (section.get("aws_access_key_id"), section.get("aws_secret_access_key")) {
            (Some(id), Some(secret)) => Ok(Some(Plan::Keys(Box::new(Credentials {
                access_key_id: id.to_owned(),
                secret_access_key: Secret::new(secret),
                session_token: section.get("aws_session_token").map(Secret::new),
                origin: file(),
                expires: None,
            })))),
            (None, None) => Ok(section.get("credential_process").map(|c| Plan::Process(c.to_owned()))),
            (Some(_), None) => {
                Err(failed(format!("{} has aws_access_key_id and no aws_secret_access_key", file())))
            }
            (None, Some(_)) => {
                Err(failed(format!("{} has aws_secret_access_key and no aws_access_key_id", file())))
            }
        }
    }

    fn role(
        &self,
        name: &str,
        section: &Section,
        arn: &str,
        above: &mut Vec<String>,
    ) -> Result<Plan, CredentialError> {
        let refuse = |why: String| Err(failed(format!("profile {name}: {why}")));
        let duration_seconds = match section.get("duration_seconds").map(str::parse) {
            None => None,
            Some(Ok(seconds)) => Some(seconds),
            Some(Err(_)) => return refuse("duration_seconds is not a number".into()),
        };
        let role = Role {
            arn: arn.to_owned(),
            session_name: section.get("role_session_name").map(str::to_owned),
            external_id: section.get("external_id").map(str::to_owned),
            duration_seconds,
        };
        if let Some(file) = section.get("web_identity_token_file") {
            return Ok(Plan::WebIdentity { role, file: PathBuf::from(file) });
        }
        if section.get("mfa_serial").is_some() {
            return refuse(
                "its role wants a code by hand (mfa_serial): use credential_process or a session".into(),
            );
        }
        let base = match (section.get("source_profile"), section.get("credential_source")) {
            (Some(_), Some(_)) => return refuse("it has both source_profile and credential_source".into()),
            (Some(source), None) => {
                above.push(name.to_owned());
                match self.of(source, above)? {
                    Some(plan) => plan,
                    None => return refuse(format!("its source_profile {source} says nothing about keys")),
                }
            }
            (None, Some(source)) if source.eq_ignore_ascii_case("Environment") => Plan::Environment,
            (None, Some(source)) if source.eq_ignore_ascii_case("EcsContainer") => Plan::Container,
            (None, Some(source)) if source.eq_ignore_ascii_case("Ec2InstanceMetadata") => Plan::Instance,
            (None, Some(_)) => {
                return refuse(
                    "credential_source must be Environment, Ec2InstanceMetadata or EcsContainer".into(),
                );
            }
            (None, None) => {
                return refuse(
                    "role_arn needs source_profile, credential_source or web_identity_token_file".into(),
                );
            }
        };
        Ok(Plan::Assume { role, region: section.get("region").map(str::to_owned), base: Box::new(base) })
    }

    fn sso(&self, name: &str, section: &Section) -> Result<Plan, CredentialError> {
        let session = match section.get("sso_session") {
            None => None,
            Some(session) => match self.profiles.session(session) {
                Some(found) => Some((session, found)),
                None => {
                    return Err(failed(format!(
                        "profile {name}: its sso_session {session} is not in {}",
                        self.files.names()
                    )));
                }
            },
        };
        let get = |key: &str| {
            let value = session.and_then(|(_, s)| s.get(key)).or_else(|| section.get(key));
            value.map(str::to_owned).ok_or_else(|| failed(format!("profile {name}: {key} is missing")))
        };
        Ok(Plan::Sso(Sso {
            session: session.map(|(name, _)| name.to_owned()),
            start_url: get("sso_start_url")?,
            region: get("sso_region")?,
            account_id: get("sso_account_id")?,
            role_name: get("sso_role_name")?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Env;

    fn of(profile: &str, config: &str) -> Result<Option<Plan>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, config).unwrap();
        let env = Env::new([("AWS_CONFIG_FILE", path.to_str().unwrap()), ("AWS_PROFILE", profile)]);
        let files = Files::of(&env);
        let planned = files.read().and_then(|p| plan(&files, &p));
        planned.map_err(|e| e.to_string().replace(path.to_str().unwrap(), "FILE"))
    }

    const KEYS: &str = "aws_access_key_id=AKIAIOSFODNN7EXAMPLE\naws_secret_access_key=hush\n";

    #[test]
    fn the_ways_to_keys() {
        for (config, words) in [
            (KEYS.to_owned(), "access key AKIA...LE"),
            ("credential_process = /bin/keys".into(), "a credential_process"),
            (
                "role_arn=r\nweb_identity_token_file=/t\nsource_profile=gone".into(),
                "role r by web identity",
            ),
            (format!("role_arn=r\nsource_profile=p\n{KEYS}"), "role r by access key AKIA...LE"),
            (format!("role_arn=r\nsource_profile=b\n[profile b]\n{KEYS}"), "role r by access key AKIA...LE"),
            (
                "role_arn=r\nsource_profile=b\n[profile b]\nrole_arn=s\ncredential_source=Ec2InstanceMetadata".into(),
                "role r by role s by the EC2 metadata service",
            ),
            (
                "sso_session=s\nsso_account_id=1\nsso_role_name=n\n[sso-session s]\nsso_region=x\nsso_start_url=u".into(),
                "IAM Identity Center, role n of account 1",
            ),
            (
                "sso_start_url=u\nsso_region=x\nsso_account_id=1\nsso_role_name=n".into(),
                "IAM Identity Center, role n of account 1",
            ),
        ] {
            let plan = of("p", &format!("[profile p]\n{config}")).unwrap().unwrap();
            assert_eq!(plan.words(), words);
            assert!(!format!("{plan:?}").contains("hush"));
        }
    }

    #[test]
    fn what_cannot_be_meant() {
        for (config, words) in [
            ("[profile q]", "profile p (from AWS_PROFILE) is not in FILE; there are: q"),
            ("[profile p]\nregion=x", "profile p in FILE says nothing about keys"),
            ("[profile p]\naws_access_key_id=A", "has aws_access_key_id and no aws_secret_access_key"),
            ("[profile p]\nrole_arn=r", "needs source_profile, credential_source or web_identity_token_file"),
            (
                "[profile p]\nrole_arn=r\nsource_profile=q",
                "profile q, the source_profile of p, is not in FILE",
            ),
            (
                "[profile p]\nrole_arn=r\nsource_profile=q\n[profile q]\nrole_arn=s\nsource_profile=p",
                "p -> q -> p name",
            ),
            ("[profile p]\nrole_arn=r\ncredential_source=Moon", "must be Environment, Ec2InstanceMetadata"),
            ("[profile p]\nrole_arn=r\nsource_profile=p\nmfa_serial=m", "wants a code by hand"),
            ("[profile p]\nsso_session=s\nsso_account_id=1", "its sso_session s is not in FILE"),
            ("[profile p]\nsso_account_id=1\nsso_region=x", "profile p: sso_start_url is missing"),
        ] {
            let e = of("p", config).unwrap_err();
            assert!(e.contains(words), "{e}");
        }
        // The default profile is optional.
        let files = Files::of(&Env::default());
        assert_eq!(plan(&files, &Profiles::default()), Ok(None));
    }
}
