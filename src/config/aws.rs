//! Names of Amazon S3: partitions, host names and access points.

/// Suffixes of host names, by the beginning of the region, the most specific first. The last entry
/// is for all other regions.
const PARTITIONS: [(&str, &str); 8] = [
    ("cn-", "amazonaws.com.cn"),
    ("us-gov-", "amazonaws.com"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("us-iso-", "c2s.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
    ("", "amazonaws.com"),
];

/// Words for directions that occur in names of regions.
const DIRECTIONS: [&str; 9] =
    ["north", "south", "east", "west", "central", "northeast", "northwest", "southeast", "southwest"];

/// The suffix of host names in the partition of a region.
pub(super) fn suffix(region: &str) -> &'static str {
    PARTITIONS.iter().find(|(start, _)| region.starts_with(start)).map_or("amazonaws.com", |(_, end)| end)
}

/// The name of a region's partition in ARNs.
pub(super) fn partition(region: &str) -> &'static str {
    match suffix(region) {
        "amazonaws.com.cn" => "aws-cn",
        "sc2s.sgov.gov" => "aws-iso-b",
        "csp.hci.ic.gov" => "aws-iso-f",
        "c2s.ic.gov" => "aws-iso",
        "cloud.adc-e.uk" => "aws-iso-e",
        "amazonaws.eu" => "aws-eusc",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// Whether `name` has the form of an AWS region: `eu-central-1`, `us-gov-west-1`, `eusc-de-east-1`.
pub(super) fn is_region(name: &str) -> bool {
    let parts: Vec<&str> = name.split('-').collect();
    let [first, .., direction, number] = parts.as_slice() else { return false };
    parts.len() <= 4
        && (2..=4).contains(&first.len())
        && parts[..parts.len() - 2].iter().all(|p| p.bytes().all(|b| b.is_ascii_lowercase()) && !p.is_empty())
        && DIRECTIONS.contains(direction)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
}

/// What the host name of an AWS server means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AwsHost {
    /// The S3 API.
    Api {
        /// Whether `dualstack` is in the name.
        dual_stack: bool,
        /// Whether `fips` is in the name.
        fips: bool,
        /// The region in the name.
        region: Option<String>,
        /// The part of the name before the host of the API.
        bucket: Option<String>,
    },
    /// Another address of the S3 API that has to be used unchanged: an access point, transfer
    /// acceleration, or a private link.
    Fixed {
        /// The host without the bucket.
        host: String,
        /// The region in the name.
        region: Option<String>,
        /// The part of the name before that host.
        bucket: Option<String>,
        /// Whether the bucket goes into the host name.
        virtual_host: bool,
    },
    /// A server of web sites, which takes no uploads.
    Website,
    /// A server of directory buckets (S3 Express One Zone), which need other requests.
    Express,
}

/// Parses a host name of AWS; `None` for any other host.
pub(super) fn host(host: &str) -> Option<AwsHost> {
    let name = PARTITIONS.iter().find_map(|(_, end)| host.strip_suffix(end)?.strip_suffix('.'))?;
    let labels: Vec<&str> = name.split('.').collect();
    if labels.last() == Some(&"vpce") {
        return private_link(host, &labels);
    }
    for at in (0..labels.len()).rev() {
        let bucket = (at > 0).then(|| labels[..at].join("."));
        if let Some(found) = api(&labels[at..], host, bucket) {
            return Some(found);
        }
    }
    None
}

/// Parses `s3.REGION` and its variants.
fn api(labels: &[&str], host: &str, bucket: Option<String>) -> Option<AwsHost> {
    let (first, rest) = labels.split_first()?;
    let after = first.strip_prefix("s3")?;
    let (dual_stack, rest) = match rest {
        ["dualstack", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let region = match rest {
        [] => None,
        [region] if is_region(region) => Some((*region).to_owned()),
        _ => return None,
    };
    let made = |fips, region: Option<String>, bucket| AwsHost::Api { dual_stack, fips, region, bucket };
    let bare = match &bucket {
        Some(bucket) => &host[bucket.len() + 1..],
        None => host,
    };
    match (after, &region) {
        ("", _) => Some(made(false, region, bucket)),
        ("-fips", Some(_)) => Some(made(true, region, bucket)),
        ("-external-1", None) => Some(made(false, Some("us-east-1".to_owned()), bucket)),
        ("-accesspoint" | "-accesspoint-fips", Some(_)) | ("-accelerate", None) => {
            Some(AwsHost::Fixed { host: bare.to_owned(), region, bucket, virtual_host: true })
        }
        ("-website", Some(_)) => Some(AwsHost::Website),
        (after, _) if after.starts_with("express-") => Some(AwsHost::Express),
        (after, None) if !dual_stack => {
            let region = after.strip_prefix('-')?;
            if region.strip_prefix("website-").is_some_and(is_region) {
                return Some(AwsHost::Website);
            }
            match region.strip_prefix("fips-") {
                Some(region) if is_region(region) => Some(made(true, Some(region.to_owned()), bucket)),
                None if is_region(region) => Some(made(false, Some(region.to_owned()), bucket)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Parses `bucket.vpce-ID.s3.REGION.vpce.amazonaws.com`, in which `bucket` is a fixed word.
fn private_link(host: &str, labels: &[&str]) -> Option<AwsHost> {
    let at = labels.iter().position(|l| l.starts_with("vpce-"))?;
    let ["s3", region, "vpce"] = labels[at + 1..] else { return None };
    let start = if at > 0 && labels[at - 1] == "bucket" { at - 1 } else { at };
    let bucket = (start > 0).then(|| labels[..start].join("."));
    let bare = bucket.as_ref().map_or(host, |b| &host[b.len() + 1..]).to_owned();
    Some(AwsHost::Fixed { host: bare, region: Some(region.to_owned()), bucket, virtual_host: false })
}

/// An access point, parsed from `arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AccessPoint {
    pub(super) region: String,
    pub(super) account: String,
    pub(super) name: String,
}

impl AccessPoint {
    /// Splits `ARN[/PATH]` into the access point and the path.
    pub(super) fn parse(text: &str) -> Result<(AccessPoint, &str), &'static str> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().unwrap_or("");
        let (_arn, partition_, service, region, account, resource) =
            (next(), next(), next(), next(), next(), next());
        if service == "s3-outposts" {
            return Err("lsfast cannot reach buckets on Outposts");
        }
        if service == "s3-object-lambda" {
            return Err("an Object Lambda access point cannot hold a replica");
        }
        let Some(rest) =
            resource.strip_prefix("accesspoint/").or_else(|| resource.strip_prefix("accesspoint:"))
        else {
            return Err("it is not an access point: write arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME");
        };
        let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if region.is_empty() && name.ends_with(".mrap") {
            return Err(
                "a multi-region access point needs signatures (SigV4A) that lsfast does not have: name one \
                        of its buckets",
            );
        }
        let is_name = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let fits = service == "s3"
            && is_region(region)
            && partition_ == partition(region)
            && account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && (3..=50).contains(&name.len())
            && is_name(name);
        if !fits {
            return Err("it is not an access point: write arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME");
        }
        let (region, account, name) = (region.to_owned(), account.to_owned(), name.to_owned());
        Ok((AccessPoint { region, account, name }, path))
    }

    /// The label before the host.
    pub(super) fn label(&self) -> String {
        format!("{}-{}", self.name, self.account)
    }

    /// The host of all access points in the region.
    pub(super) fn host(&self) -> String {
        format!("s3-accesspoint.{}.{}", self.region, suffix(&self.region))
    }

    /// The ARN of the access point.
    pub(super) fn arn(&self) -> String {
        let AccessPoint { region, account, name } = self;
        format!("arn:{}:s3:{region}:{account}:accesspoint/{name}", partition(region))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Formats as `api FLAGS REGION BUCKET` or `fixed HOST REGION BUCKET STYLE`.
    fn shown(name: &str) -> String {
        let or = |o: Option<String>| o.unwrap_or_else(|| "-".into());
        match host(name) {
            None => "none".into(),
            Some(AwsHost::Website) => "website".into(),
            Some(AwsHost::Express) => "express".into(),
            Some(AwsHost::Api { dual_stack, fips, region, bucket }) => {
                let flags = [(dual_stack, "dual"), (fips, "fips")];
                let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, s)| *s).collect();
                format!("api {flags} {} {}", or(region), or(bucket))
            }
            Some(AwsHost::Fixed { host, region, bucket, virtual_host }) => {
                format!(
                    "fixed {host} {} {} {}",
                    or(region),
                    or(bucket),
                    if virtual_host { "host" } else { "path" }
                )
            }
        }
    }

    #[test]
    fn hosts() {
        for (name, expected) in [
            ("s3.amazonaws.com", "api  - -"),
            ("s3.eu-west-1.amazonaws.com", "api  eu-west-1 -"),
            ("s3-eu-west-1.amazonaws.com", "api  eu-west-1 -"),
            ("b.s3-eu-west-1.amazonaws.com", "api  eu-west-1 b"),
            ("my.b.s3.us-east-2.amazonaws.com", "api  us-east-2 my.b"),
            ("s3.s3.amazonaws.com", "api  - s3"),
            ("s3.dualstack.us-west-2.amazonaws.com", "api dual us-west-2 -"),
            ("b.s3-fips.us-gov-west-1.amazonaws.com", "api fips us-gov-west-1 b"),
            ("s3-fips-us-gov-west-1.amazonaws.com", "api fips us-gov-west-1 -"),
            ("s3-fips.dualstack.ca-central-1.amazonaws.com", "api dualfips ca-central-1 -"),
            ("s3-external-1.amazonaws.com", "api  us-east-1 -"),
            ("b.s3.cn-north-1.amazonaws.com.cn", "api  cn-north-1 b"),
            ("s3.us-iso-east-1.c2s.ic.gov", "api  us-iso-east-1 -"),
            ("s3.us-isob-east-1.sc2s.sgov.gov", "api  us-isob-east-1 -"),
            ("s3.eu-isoe-west-1.cloud.adc-e.uk", "api  eu-isoe-west-1 -"),
            ("s3.us-isof-south-1.csp.hci.ic.gov", "api  us-isof-south-1 -"),
            ("b.s3.eusc-de-east-1.amazonaws.eu", "api  eusc-de-east-1 b"),
            (
                "ap-123456789012.s3-accesspoint.eu-west-1.amazonaws.com",
                "fixed s3-accesspoint.eu-west-1.amazonaws.com eu-west-1 ap-123456789012 host",
            ),
            ("b.s3-accelerate.amazonaws.com", "fixed s3-accelerate.amazonaws.com - b host"),
            (
                "bucket.vpce-1a-2b.s3.us-east-1.vpce.amazonaws.com",
                "fixed bucket.vpce-1a-2b.s3.us-east-1.vpce.amazonaws.com us-east-1 - path",
            ),
            ("b.s3-website-us-east-1.amazonaws.com", "website"),
            ("b.s3-website.eu-central-1.amazonaws.com", "website"),
            ("b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com", "express"),
            ("s3express-control.eu-north-1.amazonaws.com", "express"),
            ("ec2.us-east-1.amazonaws.com", "none"),
            ("s3.example.com", "none"),
            ("s3.amazonaws.com.evil.org", "none"),
            ("evilamazonaws.com", "none"),
        ] {
            assert_eq!(shown(name), expected, "{name}");
        }
    }

    #[test]
    fn regions_by_their_shape() {
        for yes in [
            "us-east-1",
            "ap-southeast-2",
            "us-gov-west-1",
            "eusc-de-east-1",
            "cn-northwest-1",
            "mx-central-1",
        ] {
            assert!(is_region(yes), "{yes}");
        }
        for no in [
            "nyc3",
            "auto",
            "fr-par",
            "us-west-004",
            "us-sea-1",
            "eu2",
            "ch-gva-2",
            "",
            "-east-1",
            "website-us-east-1",
        ] {
            assert!(!is_region(no), "{no}");
        }
    }

    #[test]
    fn access_points() {
        let (point, path) =
            AccessPoint::parse("arn:aws:s3:eu-west-1:123456789012:accesspoint/ap-1/db/x").unwrap();
        assert_eq!(point.label(), "ap-1-123456789012");
        assert_eq!(point.host(), "s3-accesspoint.eu-west-1.amazonaws.com");
        assert_eq!(point.arn(), "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap-1");
        assert_eq!(path, "/db/x");
        for (bad, why) in [
            ("arn:aws:s3::123456789012:accesspoint/abc.mrap", "multi-region"),
            ("arn:aws:s3-outposts:us-east-1:123456789012:outpost/op-1/accesspoint/x", "Outposts"),
            ("arn:aws:s3:::bucket/p", "arn:aws:s3:REGION"),
            ("arn:aws:s3:eu-west-1:1234:accesspoint/ap-1", "arn:aws:s3:REGION"),
            ("arn:aws-cn:s3:eu-west-1:123456789012:accesspoint/ap-1", "arn:aws:s3:REGION"),
        ] {
            let e = AccessPoint::parse(bad).unwrap_err();
            assert!(e.contains(why), "{bad}: {e}");
        }
    }
}
