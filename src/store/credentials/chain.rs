//! The chain of credential sources, in the order of the AWS SDKs. The first source that is set up
//! is used.
//!
//! The order is: LITESTREAM_* and AWS_* variables, the profile of the shared files, web identity,
//! container, EC2 metadata. A source that is set up and fails is an error: falling through to the
//! next one could sign in as another identity.

use super::fetch::{Fetch, Fetched, Stamp};
use super::http::{Web, failed};
use super::place::AwsRegion;
use super::plan::{Plan, plan};
use super::profiles::Files;
use super::sts::{self, Role};
use super::{metadata, process, sso};
use crate::base::limits;
use crate::config::{CredentialError, CredentialSource, Env, TlsOptions};
use crate::store::HostAnswer;
use crate::store::api::BoxFuture;

const WEB_IDENTITY: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ROLE: &str = "AWS_ROLE_ARN";

/// One source, and what a look at its settings showed. No request is made for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// Name of the source.
    pub source: String,
    /// The state of the source: "not set", "no such file", or what it would use.
    pub found: String,
    /// Whether keys come from this source.
    pub used: bool,
}

/// The chain for one region.
#[derive(Debug)]
pub(super) struct Chain {
    env: Env,
    place: AwsRegion,
    web: Web,
    is_aws: bool,
}

impl Chain {
    pub(super) fn new(
        env: &Env,
        region: &str,
        is_aws: bool,
        tls: &TlsOptions,
        answers: &[HostAnswer],
    ) -> Chain {
        Chain { env: env.clone(), place: AwsRegion::new(env, region), web: Web::new(tls, answers), is_aws }
    }

    /// Whether to ask the metadata service: on AWS, or where a variable sets its address.
    fn asks_instance(&self) -> bool {
        !metadata::is_disabled(&self.env) && (self.is_aws || self.env.get(metadata::ENDPOINT).is_some())
    }

    /// Looks at every source, without a request.
    ///
    /// # Errors
    /// A shared file that cannot be read, or a profile that is invalid.
    pub(super) fn look(&self) -> Result<Vec<Looked>, CredentialError> {
        let mut all = Vec::new();
        let mut add = |source: String, found: Result<String, String>| {
            let used = found.is_ok() && !all.iter().any(|l: &Looked| l.used);
            let (Ok(found) | Err(found)) = found;
            all.push(Looked { source, found, used });
        };
        for names in ["LITESTREAM_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"] {
            let found = self.env.get(names).map(|_| "set".to_owned());
            add(names.to_owned(), found.ok_or("not set".into()));
        }
        let files = Files::of(&self.env);
        let profiles = files.read()?;
        let found = match plan(&files, &profiles)? {
            Some(plan) => Ok(plan.words()),
            None if profiles.read.is_empty() => Err("no such file".to_owned()),
            None if profiles.profile(&files.profile).is_none() => Err("no such profile".to_owned()),
            None => Err("nothing about keys".to_owned()),
        };
        add(format!("profile {} in {}", files.profile, files.names()), found);
        let found = self.env.get(WEB_IDENTITY).map(str::to_owned);
        add(WEB_IDENTITY.to_owned(), found.ok_or("not set".into()));
        let found = self.env.first(&metadata::CONTAINER).map(|(name, _)| format!("{name} is set"));
        add("the container's credential service".to_owned(), found.ok_or("not set up".into()));
        let found = if metadata::is_disabled(&self.env) {
            Err(format!("switched off by {}", metadata::DISABLED))
        } else if self.asks_instance() {
            Ok("asked when keys are needed".to_owned())
        } else {
            Err("not asked: the endpoint is not one of AWS".to_owned())
        };
        add("the EC2 metadata service".to_owned(), found);
        Ok(all)
    }

    async fn walk(&self) -> Result<Fetched, CredentialError> {
        let files = Files::of(&self.env);
        // The stamps are taken before the files are read, so that a change in between is noticed
        // later.
        let stamps: Vec<Stamp> = files.paths().map(|p| Stamp::of(p)).collect();
        let profiles = files.read()?;
        if let Some(plan) = plan(&files, &profiles)? {
            let mut found = self.follow(&plan, &files).await?;
            found.stamps = stamps;
            return Ok(found);
        }
        if let Some(file) = self.env.get(WEB_IDENTITY) {
            let Some(arn) = self.env.get(ROLE) else {
                return Err(failed(format!("{WEB_IDENTITY} is set and {ROLE} is not; set both or none")));
            };
            let role = Role {
                arn: arn.to_owned(),
                session_name: self.env.get("AWS_ROLE_SESSION_NAME").map(str::to_owned),
                external_id: None,
                duration_seconds: None,
            };
            return sts::web_identity(&role, &file.into(), &self.place, &self.web).await;
        }
        if let Some(found) = metadata::container(&self.env, &self.web).await? {
            return Ok(found);
        }
        if self.asks_instance() {
            return metadata::instance(&self.env, &self.web).await.map_err(|e| self.none(e));
        }
        Err(missing(&self.look()?))
    }

    /// Adds the other sources to the error. The metadata service is the last source, so a user
    /// outside EC2 needs to know the alternatives.
    fn none(&self, e: CredentialError) -> CredentialError {
        let CredentialError::Source { message, transient } = e else { return e };
        let looked = self.look().map(|l| looked(&l)).unwrap_or_default();
        CredentialError::Source {
            message: format!("{}: {message}; {looked}", CredentialError::Missing),
            transient,
        }
    }

    fn follow<'a>(
        &'a self,
        plan: &'a Plan,
        files: &'a Files,
    ) -> BoxFuture<'a, Result<Fetched, CredentialError>> {
        let profile = &files.profile;
        Box::pin(async move {
            match plan {
                Plan::Keys(keys) => Ok(Fetched::new((**keys).clone())),
                Plan::Process(command) => {
                    process::run(command, profile, limits::CREDENTIAL_PROCESS_TIME).await
                }
                Plan::WebIdentity { role, file } => {
                    sts::web_identity(role, file, &self.place, &self.web).await
                }
                Plan::Sso(sso) => {
                    let Some(folder) = &files.sso_cache else {
                        return Err(failed(
                            "HOME is not set: the session of IAM Identity Center is kept there",
                        ));
                    };
                    sso::keys(sso, profile, folder, &self.place, &self.web).await
                }
                Plan::Assume { role, region, base } => {
                    let base = self.follow(base, files).await?;
                    let place = self.place.in_region(region.as_deref());
                    sts::assume(role, &base.credentials, &place, &self.web).await
                }
                Plan::Environment => match CredentialSource::from_env(&self.env) {
                    Ok(CredentialSource::Static(keys)) => Ok(Fetched::new((*keys).clone())),
                    Ok(_) => Err(failed(format!(
                        "profile {profile}: credential_source=Environment, but AWS_ACCESS_KEY_ID is not set"
                    ))),
                    Err(e) => Err(failed(e.to_string())),
                },
                Plan::Container => metadata::container(&self.env, &self.web).await?.ok_or_else(|| {
                    failed(format!(
                        "profile {profile}: credential_source=EcsContainer, but {} is not set",
                        metadata::CONTAINER.join(" or ")
                    ))
                }),
                Plan::Instance => metadata::instance(&self.env, &self.web).await,
            }
        })
    }
}

impl Fetch for Chain {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, CredentialError>> {
        Box::pin(self.walk())
    }
}

/// All sources and their states, in one line.
fn looked(all: &[Looked]) -> String {
    let all: Vec<String> = all.iter().map(|l| format!("{} ({})", l.source, l.found)).collect();
    format!("looked at {}", all.join(", "))
}

/// The error that no source has keys.
pub(super) fn missing(all: &[Looked]) -> CredentialError {
    failed(format!("{}; {}", CredentialError::Missing, looked(all)))
}
