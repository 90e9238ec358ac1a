//! Providers of S3: the forms of their host names, and their documented properties. Everything else
//! is found out by asking the store.

use super::quirks::{Addressing, Checksum};

/// How a provider's region is found if none is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Region {
    /// The host name contains it as `{region}`. If it does not, the rules for unknown providers
    /// apply.
    InName,
    /// The provider has only this region, whatever the environment says.
    Always(&'static str),
}

/// One provider.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) name: &'static str,
    /// Host names of the API, the most specific first. `{region}` is a part of the name, and other
    /// words in braces match any label. Labels before the whole form are a bucket. A path after the
    /// host is part of the address.
    pub(super) endpoints: &'static [&'static str],
    /// Hosts that serve the same buckets to browsers, with the endpoint that belongs to them.
    pub(super) fronts: &'static [(&'static str, &'static str)],
    /// The preferred addressing style.
    pub(super) addressing: Addressing,
    pub(super) region: Region,
    /// Regions whose names occur only at this provider or a few others.
    pub(super) regions: &'static [&'static str],
    /// Whether the documentation says that `If-None-Match: *` on a PUT works; `None` if it says
    /// nothing.
    pub(super) create_only: Option<bool>,
    /// The checksum header; `None` where the documentation rules it out.
    pub(super) checksum: Checksum,
}

const PLAIN: Provider = Provider {
    name: "",
    endpoints: &[],
    fronts: &[],
    addressing: Addressing::Path,
    region: Region::InName,
    regions: &[],
    create_only: None,
    checksum: Checksum::Crc32,
};

/// All providers. Amazon has its own rules, in `aws.rs`.
pub(super) const PROVIDERS: &[Provider] = &[
    Provider {
        name: "DigitalOcean Spaces",
        endpoints: &["{region}.digitaloceanspaces.com"],
        fronts: &[("{region}.cdn.digitaloceanspaces.com", "{region}.digitaloceanspaces.com")],
        addressing: Addressing::VirtualHost,
        regions: &[
            "nyc3", "ams3", "sfo2", "sfo3", "sgp1", "fra1", "blr1", "syd1", "lon1", "tor1", "atl1", "ric1",
        ],
        ..PLAIN
    },
    Provider {
        name: "Backblaze B2",
        endpoints: &["s3.{region}.backblazeb2.com"],
        regions: &[
            "us-west-000",
            "us-west-001",
            "us-west-002",
            "us-west-004",
            "us-east-005",
            "eu-central-003",
            "ca-east-006",
        ],
        // "Unsupported header 'x-amz-checksum-crc32' received for this API call."
        checksum: Checksum::None,
        ..PLAIN
    },
    Provider {
        name: "Cloudflare R2",
        endpoints: &[
            "{account}.eu.r2.cloudflarestorage.com",
            "{account}.fedramp.r2.cloudflarestorage.com",
            "{account}.r2.cloudflarestorage.com",
        ],
        region: Region::Always("auto"),
        create_only: Some(true),
        ..PLAIN
    },
    Provider { name: "Wasabi", endpoints: &["s3.{region}.wasabisys.com", "s3.wasabisys.com"], ..PLAIN },
    Provider {
        name: "Linode (Akamai) Object Storage",
        endpoints: &["{region}.linodeobjects.com"],
        addressing: Addressing::VirtualHost,
        ..PLAIN
    },
    Provider {
        name: "Scaleway Object Storage",
        endpoints: &["s3.{region}.scw.cloud"],
        addressing: Addressing::VirtualHost,
        regions: &["fr-par", "nl-ams", "pl-waw", "it-mil"],
        // "Using conditional writes", July 2026.
        create_only: Some(true),
        ..PLAIN
    },
    Provider {
        name: "Hetzner Object Storage",
        endpoints: &["{region}.your-objectstorage.com"],
        addressing: Addressing::VirtualHost,
        regions: &["fsn1", "nbg1", "hel1"],
        ..PLAIN
    },
    Provider {
        name: "Filebase",
        endpoints: &["s3.filebase.com", "s3.filebase.io"],
        region: Region::Always("us-east-1"),
        ..PLAIN
    },
    Provider {
        name: "Tigris",
        endpoints: &["fly.storage.tigris.dev", "t3.storage.dev"],
        // New buckets answer only at host names of their own.
        addressing: Addressing::VirtualHost,
        region: Region::Always("auto"),
        create_only: Some(true),
        ..PLAIN
    },
    Provider {
        name: "OVHcloud Object Storage",
        endpoints: &[
            "s3.{region}.io.cloud.ovh.net",
            "s3.{region}.perf.cloud.ovh.net",
            "s3.{region}.cloud.ovh.net",
            "s3.{region}.io.cloud.ovh.us",
            "s3.{region}.perf.cloud.ovh.us",
            "s3.{region}.cloud.ovh.us",
        ],
        addressing: Addressing::VirtualHost,
        // "Object Storage - Conditional writes", June 2026.
        create_only: Some(true),
        ..PLAIN
    },
    Provider {
        name: "Storj",
        endpoints: &["gateway.{satellite}.storjshare.io", "gateway.storjshare.io"],
        // The hosted gateway has it since 2025, but its compatibility table does not mention
        // If-None-Match, so lsfast tries it.
        create_only: None,
        ..PLAIN
    },
    Provider {
        name: "IDrive e2",
        endpoints: &["s3.{region}.idrivee2.com", "{node}.{site}.idrivee2-{number}.com"],
        ..PLAIN
    },
    Provider {
        name: "Vultr Object Storage",
        endpoints: &["{region}.vultrobjects.com"],
        regions: &["ewr1", "sjc1", "sjc2", "ams1", "ams2", "blr1", "sgp1", "del1", "lux1", "lax1"],
        ..PLAIN
    },
    Provider {
        name: "Google Cloud Storage",
        endpoints: &["storage.{region}.rep.googleapis.com", "storage.googleapis.com"],
        region: Region::Always("auto"),
        // According to the documentation, If-None-Match is only for requests that read. Google's
        // own header for this, x-goog-if-generation-match, must not be combined with x-amz headers.
        create_only: Some(false),
        ..PLAIN
    },
    Provider {
        name: "Supabase Storage",
        endpoints: &["{project}.storage.supabase.co/storage/v1/s3", "{project}.supabase.co/storage/v1/s3"],
        ..PLAIN
    },
    Provider {
        name: "Exoscale Object Storage",
        endpoints: &["sos-{region}.exo.io"],
        regions: &[
            "ch-gva-2", "ch-dk-2", "de-fra-1", "de-muc-1", "at-vie-1", "at-vie-2", "bg-sof-1", "hr-zag-1",
        ],
        // "SOS: Conditional Requests", August 2025.
        create_only: Some(true),
        ..PLAIN
    },
    Provider { name: "Contabo Object Storage", endpoints: &["{region}.contabostorage.com"], ..PLAIN },
];

/// A host that matches a provider's form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Match<'h> {
    pub(super) provider: &'static Provider,
    /// The host without the bucket. For a front, [`Match::host`] replaces it by the endpoint.
    bare: &'h str,
    canonical: Option<&'static str>,
    /// The path between the host and the bucket.
    pub(super) path: &'static str,
    pub(super) region: Option<&'h str>,
    pub(super) bucket: Option<&'h str>,
}

impl Match<'_> {
    /// Host of the API.
    pub(super) fn host(&self) -> String {
        match self.canonical {
            Some(form) => form.replace("{region}", self.region.unwrap_or_default()),
            None => self.bare.to_owned(),
        }
    }
}

/// The provider of a host, which is given in lower case without a port.
pub(super) fn of_host(host: &str) -> Option<Match<'_>> {
    for provider in PROVIDERS {
        let plain = provider.endpoints.iter().map(|form| (*form, None));
        let fronts = provider.fronts.iter().map(|(form, canonical)| (*form, Some(*canonical)));
        // Fronts come first: they are longer.
        for (form, canonical) in fronts.chain(plain) {
            let at = form.find('/').unwrap_or(form.len());
            let (name, path) = form.split_at(at);
            if let Some((bucket, bare, region)) = fit(name, host) {
                return Some(Match { provider, bare, canonical, path, region, bucket });
            }
        }
    }
    None
}

/// The providers that have a region of this name, with their endpoints, if the name is
/// characteristic.
pub(super) fn of_region(region: &str) -> Vec<(&'static Provider, String)> {
    PROVIDERS
        .iter()
        .filter(|p| p.regions.contains(&region))
        .map(|p| (p, p.endpoints[0].replace("{region}", region)))
        .collect()
}

type Fit<'h> = (Option<&'h str>, &'h str, Option<&'h str>);

/// Compares label by label from the right.
fn fit<'h>(form: &str, host: &'h str) -> Option<Fit<'h>> {
    let mut region = None;
    let mut rest = host;
    let mut bucket = None;
    let labels = form.split('.').count();
    for (i, expected) in form.rsplit('.').enumerate() {
        let (before, label) = match rest.rsplit_once('.') {
            Some((before, label)) => (Some(before), label),
            None => (None, rest),
        };
        if label.is_empty() {
            return None;
        }
        if let Some((start, brace)) = expected.split_once('{') {
            let (name, end) = brace.split_once('}')?;
            let inner = label.strip_prefix(start)?.strip_suffix(end).filter(|s| !s.is_empty())?;
            if name == "region" {
                region = Some(inner);
            }
        } else if label != expected {
            return None;
        }
        match before {
            Some(before) => rest = before,
            None if i + 1 < labels => return None,
            None => return Some((None, host, region)),
        }
        bucket = Some(rest);
    }
    let bucket = bucket.filter(|b| !b.is_empty())?;
    Some((Some(bucket), &host[bucket.len() + 1..], region))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(host: &str) -> String {
        match of_host(host) {
            None => "none".into(),
            Some(m) => format!(
                "{}: {}{} {} {}",
                m.provider.name,
                m.host(),
                m.path,
                m.region.unwrap_or("-"),
                m.bucket.unwrap_or("-")
            ),
        }
    }

    #[test]
    fn hosts() {
        for (host, expected) in [
            ("nyc3.digitaloceanspaces.com", "DigitalOcean Spaces: nyc3.digitaloceanspaces.com nyc3 -"),
            ("a.b.nyc3.digitaloceanspaces.com", "DigitalOcean Spaces: nyc3.digitaloceanspaces.com nyc3 a.b"),
            ("a.nyc3.cdn.digitaloceanspaces.com", "DigitalOcean Spaces: nyc3.digitaloceanspaces.com nyc3 a"),
            ("digitaloceanspaces.com", "none"),
            (
                "b.s3.us-west-004.backblazeb2.com",
                "Backblaze B2: s3.us-west-004.backblazeb2.com us-west-004 b",
            ),
            ("acc.r2.cloudflarestorage.com", "Cloudflare R2: acc.r2.cloudflarestorage.com - -"),
            ("acc.eu.r2.cloudflarestorage.com", "Cloudflare R2: acc.eu.r2.cloudflarestorage.com - -"),
            ("b.acc.eu.r2.cloudflarestorage.com", "Cloudflare R2: acc.eu.r2.cloudflarestorage.com - b"),
            ("b.acc.r2.cloudflarestorage.com", "Cloudflare R2: acc.r2.cloudflarestorage.com - b"),
            ("s3.wasabisys.com", "Wasabi: s3.wasabisys.com - -"),
            ("b.s3.eu-central-1.wasabisys.com", "Wasabi: s3.eu-central-1.wasabisys.com eu-central-1 b"),
            ("sos-ch-gva-2.exo.io", "Exoscale Object Storage: sos-ch-gva-2.exo.io ch-gva-2 -"),
            ("x.supabase.co", "Supabase Storage: x.supabase.co/storage/v1/s3 - -"),
            ("x.storage.supabase.co", "Supabase Storage: x.storage.supabase.co/storage/v1/s3 - -"),
            ("l4g4.ch11.idrivee2-2.com", "IDrive e2: l4g4.ch11.idrivee2-2.com - -"),
            ("b.fly.storage.tigris.dev", "Tigris: fly.storage.tigris.dev - b"),
            ("storage.googleapis.com", "Google Cloud Storage: storage.googleapis.com - -"),
            (".nyc3.digitaloceanspaces.com", "none"),
            ("s3.example.com", "none"),
            ("evilwasabisys.com", "none"),
        ] {
            assert_eq!(shown(host), expected, "{host}");
        }
    }

    #[test]
    fn regions_that_say_whose_they_are() {
        let names = |r| of_region(r).into_iter().map(|(_, e)| e).collect::<Vec<_>>();
        assert_eq!(names("nyc3"), ["nyc3.digitaloceanspaces.com"]);
        assert_eq!(names("sgp1"), ["sgp1.digitaloceanspaces.com", "sgp1.vultrobjects.com"]);
        assert!(names("us-east-1").is_empty());
    }

    #[test]
    fn no_form_hides_another() {
        for provider in PROVIDERS {
            for form in provider.endpoints {
                let host = form.split('/').next().unwrap();
                let host: String = host.replace(['{', '}'], "");
                let found = of_host(&host).unwrap_or_else(|| panic!("{host}"));
                assert_eq!(found.provider.name, provider.name, "{host}");
                assert_eq!(found.bucket, None, "{host}");
            }
        }
    }
}
