//! Addresses of the AWS services: by region, unless a variable sets one.

use crate::config::{Endpoint, Env};

/// The region, and the addresses for it.
#[derive(Debug, Clone)]
pub(super) struct AwsRegion {
    pub(super) region: String,
    env: Env,
}

impl AwsRegion {
    /// Takes the region from the environment; without one there, `region`.
    pub(super) fn new(env: &Env, region: &str) -> AwsRegion {
        let named = env.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).map(|(_, r)| r.to_owned());
        AwsRegion { region: named.unwrap_or_else(|| region.to_owned()), env: env.clone() }
    }

    /// The same addresses for another region, if one is given.
    pub(super) fn in_region(&self, region: Option<&str>) -> AwsRegion {
        let region = region.map_or_else(|| self.region.clone(), str::to_owned);
        AwsRegion { region, env: self.env.clone() }
    }

    /// Address of STS, for roles.
    pub(super) fn sts(&self) -> String {
        self.service("AWS_ENDPOINT_URL_STS", "sts")
    }

    /// Address that returns keys for a session of IAM Identity Center.
    pub(super) fn sso(&self) -> String {
        self.service("AWS_ENDPOINT_URL_SSO", "portal.sso")
    }

    /// Address that renews the tokens of such sessions.
    pub(super) fn sso_oidc(&self) -> String {
        self.service("AWS_ENDPOINT_URL_SSO_OIDC", "oidc")
    }

    fn service(&self, variable: &str, name: &str) -> String {
        if let Some((_, url)) = self.env.first(&[variable, "AWS_ENDPOINT_URL"]) {
            return url.trim_end_matches('/').to_owned();
        }
        // The domain is that of S3 in the same partition.
        let s3 = Endpoint::AWS.url(&self.region).host;
        let domain = s3.strip_prefix(&format!("s3.{}.", self.region)).unwrap_or("amazonaws.com");
        format!("https://{name}.{}.{domain}", self.region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_region_partition_and_variable() {
        let place = AwsRegion::new(&Env::default(), "eu-central-1");
        assert_eq!(place.sts(), "https://sts.eu-central-1.amazonaws.com");
        assert_eq!(place.sso(), "https://portal.sso.eu-central-1.amazonaws.com");
        assert_eq!(place.in_region(Some("us-east-2")).sso_oidc(), "https://oidc.us-east-2.amazonaws.com");
        assert_eq!(place.in_region(Some("cn-north-1")).sts(), "https://sts.cn-north-1.amazonaws.com.cn");
        let env = Env::new([
            ("AWS_REGION", "us-west-2"),
            ("AWS_ENDPOINT_URL", "http://localhost:1/"),
            ("AWS_ENDPOINT_URL_STS", "http://localhost:2"),
        ]);
        let place = AwsRegion::new(&env, "eu-central-1");
        assert_eq!((place.region.as_str(), place.sts().as_str()), ("us-west-2", "http://localhost:2"));
        assert_eq!(place.sso(), "http://localhost:1");
    }
}
