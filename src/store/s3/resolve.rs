//! Host names to addresses: from DNS, or from the user (`--resolve NAME=ADDRESS[:PORT]`).

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

/// One address that the user gave for a host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAnswer {
    /// A host name in lower case, or `*.` and the end of one.
    name: String,
    /// The address of the host. Port 0 keeps the port of the URL.
    address: SocketAddr,
}

impl FromStr for HostAnswer {
    type Err = String;

    fn from_str(text: &str) -> Result<HostAnswer, String> {
        let wrong = || "write NAME=ADDRESS or NAME=ADDRESS:PORT, such as s3.example.com=10.0.0.5 or *.example.com=127.0.0.1:9000";
        let (name, address) = text.split_once('=').ok_or_else(wrong)?;
        if name.is_empty() {
            return Err(wrong().to_owned());
        }
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        let address = match (bare.parse::<IpAddr>(), address.parse::<SocketAddr>()) {
            (Ok(ip), _) => SocketAddr::new(ip, 0),
            (_, Ok(address)) => address,
            _ => return Err(wrong().to_owned()),
        };
        Ok(HostAnswer { name: name.to_ascii_lowercase(), address })
    }
}

impl HostAnswer {
    fn is_for(&self, name: &str) -> bool {
        match self.name.strip_prefix('*') {
            Some(end) => name.len() > end.len() && name.ends_with(end),
            None => self.name == name,
        }
    }
}

/// Resolves host names to addresses.
#[derive(Debug, Clone)]
pub(in crate::store) struct Names {
    own: Arc<[HostAnswer]>,
    system: GaiResolver,
}

impl Names {
    /// Uses the user's addresses first, then the system's resolver.
    pub(in crate::store) fn new(own: &[HostAnswer]) -> Names {
        Names { own: own.into(), system: GaiResolver::new() }
    }

    /// The user's addresses for a name: all those with the same pattern as the first that matches.
    fn own(&self, name: &str) -> Vec<SocketAddr> {
        let name = name.to_ascii_lowercase();
        let Some(first) = self.own.iter().find(|a| a.is_for(&name)) else { return Vec::new() };
        self.own.iter().filter(|a| a.name == first.name).map(|a| a.address).collect()
    }
}

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.system.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let own = self.own(name.as_str());
        if !own.is_empty() {
            return Box::pin(std::future::ready(Ok(own.into_iter())));
        }
        let asked = self.system.call(name);
        Box::pin(async move { Ok(asked.await?.collect::<Vec<_>>().into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_answers_are_for_whole_names_or_all_below_one() {
        let answers: Vec<HostAnswer> =
            ["S3.Example.com=10.0.0.5", "*.example.org=127.0.0.1:9000", "six=[::1]", "v6=::1"]
                .map(|t| t.parse().unwrap())
                .into();
        let names = Names::new(&answers);
        for (name, expected) in [
            ("s3.example.com", Some("10.0.0.5:0")),
            ("S3.EXAMPLE.COM", Some("10.0.0.5:0")),
            ("x.s3.example.com", None),
            ("a.b.example.org", Some("127.0.0.1:9000")),
            ("example.org", None),
            ("six", Some("[::1]:0")),
            ("v6", Some("[::1]:0")),
        ] {
            assert_eq!(names.own(name).first().map(ToString::to_string).as_deref(), expected, "{name}");
        }
        for wrong in ["", "a", "=1.2.3.4", "a=b", "a=1.2.3.4:x"] {
            assert!(wrong.parse::<HostAnswer>().unwrap_err().contains("NAME=ADDRESS:PORT"), "{wrong}");
        }
    }
}
