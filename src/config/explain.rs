//! Shows the resolved settings line by line, each value with its origin. Secrets are hidden (I7).

use std::fmt;

use super::location::{Kind, Location, S3Location};
use super::quirks::{Addressing, Checksum, SignPayload};
use super::sourced::{Origin, Sourced};
use super::{CredentialSource, Proxies, ReplicaFields};

/// One line: a name, its value, and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Name of the setting.
    pub name: String,
    /// The value, for people.
    pub value: String,
    /// The origin, to be shown in brackets; empty if there is nothing to show.
    pub origin: String,
}

impl Line {
    pub(super) fn new(name: &str, value: impl fmt::Display, origin: impl fmt::Display) -> Line {
        Line { name: name.to_owned(), value: format!("{value}"), origin: format!("{origin}") }
    }

    pub(super) fn of<T: fmt::Display>(name: &str, value: &Sourced<T>) -> Line {
        Line::new(name, &value.value, &value.origin)
    }

    /// The same line, indented by `by` spaces.
    #[must_use]
    pub fn indented(mut self, by: usize) -> Line {
        self.name.insert_str(0, &" ".repeat(by));
        self
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.value)?;
        if !self.origin.is_empty() {
            write!(f, "  ({})", self.origin)?;
        }
        Ok(())
    }
}

impl Location {
    /// All settings of the replica, line by line.
    #[must_use]
    pub fn explain(&self) -> Vec<Line> {
        match &self.kind {
            Kind::File(path) => vec![Line::new("directory", path.display(), "")],
            Kind::S3(s3) => s3.explain(),
        }
    }
}

impl S3Location {
    fn explain(&self) -> Vec<Line> {
        let provider = self.provider.map_or_else(String::new, |p| format!(" ({p})"));
        let mut lines = vec![
            Line::new("endpoint", format!("{}{provider}", self.endpoint_url()), &self.endpoint.origin),
            Line::of("region", &self.region),
            Line::new(
                "bucket",
                self.access_point.as_ref().unwrap_or(&self.bucket),
                place(&self.origins.bucket),
            ),
            Line::new("path", format!("{:?}", self.prefix), place(&self.origins.path)),
        ];
        if let Some(proxy) = Proxies::of_process().on_the_way_to(&self.endpoint_url()) {
            lines.push(Line::new("proxy", proxy.place(), proxy.variable()));
        }
        let style = match self.addressing.value {
            Addressing::VirtualHost => "in the host name",
            Addressing::Path => "in the path",
        };
        lines.push(Line::new("addressing", style, &self.addressing.origin));
        lines.extend(self.explain_fields(&self.origins));
        lines.push(self.explain_credentials());
        lines
    }

    fn explain_fields(&self, fields: &ReplicaFields) -> Vec<Line> {
        let mut lines = Vec::new();
        if let Some(skip) = fields.skip_verify.as_ref().filter(|s| s.value) {
            lines.push(Line::new("certificates", "not checked", &skip.origin));
        }
        if let Some(file) = &fields.ca_cert {
            lines.push(Line::new("ca-cert", file.value.display(), &file.origin));
        }
        if let Some(sign) = &fields.sign_payload {
            let value = match sign.value {
                SignPayload::Auto => "auto",
                SignPayload::Always => "always",
                SignPayload::Never => "never",
            };
            lines.push(Line::new("sign-payload", value, &sign.origin));
        }
        let checksum = match self.quirks.checksum {
            Checksum::Crc32 => "crc32",
            Checksum::None => "none",
        };
        match (&fields.checksum, self.provider) {
            (Some(said), _) => lines.push(Line::new("checksum", checksum, &said.origin)),
            (None, Some(name)) if self.quirks.checksum == Checksum::None => {
                lines.push(Line::new("checksum", checksum, Origin::Provider(name)));
            }
            _ => {}
        }
        let mut add = |name, line: Option<Line>| lines.extend(line.map(|l| Line { name, ..l }));
        add("storage-class".into(), fields.storage_class.as_ref().map(|v| Line::of("", v)));
        add("part-size".into(), fields.part_size.as_ref().map(|v| Line::of("", v)));
        add("concurrency".into(), fields.concurrency.as_ref().map(|v| Line::of("", v)));
        add("sse-kms-key-id".into(), fields.sse_kms_key_id.as_ref().map(|v| Line::of("", v)));
        add("requester-pays".into(), fields.requester_pays.as_ref().map(|v| Line::of("", v)));
        add("expected-bucket-owner".into(), fields.expected_bucket_owner.as_ref().map(|v| Line::of("", v)));
        if let Some(key) = &fields.sse_customer_key {
            lines.push(Line::new("sse-customer-key", "(hidden)", &key.origin));
        }
        if let Some(path) = &fields.sse_customer_key_path {
            lines.push(Line::new("sse-customer-key-path", path.value.display(), &path.origin));
        }
        lines
    }

    fn explain_credentials(&self) -> Line {
        match &self.credentials {
            CredentialSource::Missing => Line::new("credentials", "none", "nothing is set"),
            CredentialSource::Static(keys) => {
                let token = if keys.session_token.is_some() { ", with a session token" } else { "" };
                Line::new("credentials", format!("access key {}{token}", keys.abbreviated_id()), &keys.origin)
            }
            CredentialSource::Provider(provider) => Line::new("credentials", format!("{provider:?}"), ""),
        }
    }
}

/// The origin of bucket or path: that of the field, or the URL.
fn place(field: &Option<Sourced<String>>) -> Origin {
    field.as_ref().map_or(Origin::Url, |f| f.origin.clone())
}
