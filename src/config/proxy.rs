//! HTTP proxies, as the environment names them: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and
//! `NO_PROXY`, in upper or lower case.
//!
//! The rules are those of curl and of Go's programs. Hosts of this machine and of its link (the
//! metadata service of a cloud) are reached directly, without any entry in `NO_PROXY`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::OnceLock;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use super::no_proxy::{NoProxy, bare};
use super::{EndpointUrl, Env};

/// The variables that name a proxy, for destinations over TLS, over plain HTTP, and for all.
const HTTPS: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const HTTP: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
const ALL: [&str; 2] = ["ALL_PROXY", "all_proxy"];
/// The variables that list hosts which are reached directly.
const NO: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Address of the metadata service of AWS, over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// No proxy at all.
static NONE: Proxies = Proxies(None);

/// Which proxy leads to which host.
#[derive(Debug, Default)]
pub struct Proxies(Option<Named>);

#[derive(Debug)]
struct Named {
    matcher: Matcher,
    no: NoProxy,
    /// Variable of the proxy for TLS, and of that for plain HTTP.
    variables: [&'static str; 2],
    /// Variables whose value is not the URL of a proxy.
    broken: Vec<&'static str>,
}

/// A proxy on the way to a host.
#[derive(Clone)]
pub struct Proxy {
    intercept: Intercept,
    variable: &'static str,
}

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP, over TLS or not: CONNECT for TLS, otherwise requests with the whole URL.
    Http {
        /// Whether the connection to the proxy itself is over TLS.
        tls: bool,
    },
    /// SOCKS 5; the proxy looks up names.
    Socks5,
}

impl Proxies {
    /// The proxies that `env` names.
    #[must_use]
    pub fn new(env: &Env) -> Proxies {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| env.raw(name).filter(|v| !v.is_empty()).map(|v| (name, v)))
        };
        let (https, http, all) = (first(HTTPS), first(HTTP), first(ALL));
        if https.is_none() && http.is_none() && all.is_none() {
            return Proxies(None);
        }
        let broken = [https, http, all].into_iter().flatten().filter(|(_, value)| !is_proxy(value));
        let value = |named: Option<(&'static str, &str)>| {
            named.and_then(|(_, value)| normal(value)).unwrap_or_default()
        };
        let matcher = Matcher::builder().https(value(https)).http(value(http)).all(value(all)).build();
        let no = NoProxy::parse(first(NO).map_or("", |(_, list)| list));
        let name = |named: Option<(&'static str, &str)>| named.or(all).map_or("", |(name, _)| name);
        let variables = [name(https), name(http)];
        Proxies(Some(Named { matcher, no, variables, broken: broken.map(|(name, _)| name).collect() }))
    }

    /// The proxies that the environment of this process names, read once. Warns of values that are
    /// not the URL of a proxy.
    pub fn of_process() -> &'static Proxies {
        static OF_PROCESS: OnceLock<Proxies> = OnceLock::new();
        OF_PROCESS.get_or_init(|| {
            let names = [HTTPS, HTTP, ALL, NO].concat();
            let vars = names.into_iter().filter_map(|n| Some((n, std::env::var(n).ok()?)));
            let proxies = Proxies::new(&Env::new(vars));
            for variable in proxies.broken() {
                tracing::warn!(
                    variable,
                    "this is not the URL of a proxy, and is ignored: write http://HOST:PORT, https://HOST:PORT or \
                     socks5://HOST:PORT"
                );
            }
            proxies
        })
    }

    /// No proxy, whatever the environment says.
    #[must_use]
    pub fn none() -> &'static Proxies {
        &NONE
    }

    /// Variables whose value is not the URL of a proxy that lsfast can use.
    #[must_use]
    pub fn broken(&self) -> &[&'static str] {
        self.0.as_ref().map_or(&[], |named| &named.broken)
    }

    /// The proxy on the way to `to`; `None` if it is reached directly.
    #[must_use]
    pub fn on_the_way(&self, to: &Uri) -> Option<Proxy> {
        let named = self.0.as_ref()?;
        let host = to.host()?;
        let port = to.port_u16().unwrap_or(if to.scheme_str() == Some("https") { 443 } else { 80 });
        if is_near(host) || named.no.contains(host, port) {
            return None;
        }
        let intercept = named.matcher.intercept(to).filter(|i| kind(i).is_some())?;
        let [https, http] = named.variables;
        let variable = if to.scheme_str() == Some("https") { https } else { http };
        Some(Proxy { intercept, variable })
    }
}

impl Proxies {
    /// The proxy on the way to an endpoint.
    #[must_use]
    pub fn on_the_way_to(&self, endpoint: &EndpointUrl) -> Option<Proxy> {
        let to = format!("{}://{}/", endpoint.scheme.as_str(), endpoint.authority());
        self.on_the_way(&to.parse().ok()?)
    }
}

impl Proxy {
    /// Where the proxy is, without user and password.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        self.intercept.uri()
    }

    /// Its URL without user and password.
    #[must_use]
    pub fn place(&self) -> String {
        let uri = self.uri();
        let authority = uri.authority().map_or("", |a| a.as_str());
        format!("{}://{authority}", uri.scheme_str().unwrap_or("http"))
    }

    /// The variable that names it.
    #[must_use]
    pub fn variable(&self) -> &'static str {
        self.variable
    }

    /// How it is spoken to.
    #[must_use]
    pub fn kind(&self) -> ProxyKind {
        kind(&self.intercept).unwrap_or(ProxyKind::Http { tls: false })
    }

    /// The `Proxy-Authorization` of an HTTP proxy. It is a secret.
    #[must_use]
    pub fn basic_auth(&self) -> Option<&HeaderValue> {
        self.intercept.basic_auth()
    }

    /// User and password of a SOCKS proxy. They are a secret.
    #[must_use]
    pub fn user_and_password(&self) -> Option<(&str, &str)> {
        self.intercept.raw_auth()
    }
}

/// The proxy without user and password, and the variable that names it.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.place(), self.variable)
    }
}

/// I7: hides user and password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

fn kind(intercept: &Intercept) -> Option<ProxyKind> {
    match intercept.uri().scheme_str()? {
        "http" => Some(ProxyKind::Http { tls: false }),
        "https" => Some(ProxyKind::Http { tls: true }),
        "socks5" | "socks5h" => Some(ProxyKind::Socks5),
        _ => None,
    }
}

/// Whether the value of a variable is the URL of a proxy that can be used.
fn is_proxy(value: &str) -> bool {
    let Some(value) = normal(value) else { return false };
    let matcher = Matcher::builder().http(value).build();
    matcher.intercept(&Uri::from_static("http://host.invalid/")).is_some_and(|i| kind(&i).is_some())
}

/// The value of a variable as the library reads it right; `None` if it is not the URL of a proxy.
///
/// I7: the library takes all that follows the first `@`, or that precedes the first `/`, for the
/// host, and shows it. A password that holds these characters unescaped would be shown in part.
fn normal(value: &str) -> Option<String> {
    let (scheme, rest) = value.trim().split_once("://").unwrap_or(("http", value.trim()));
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (login, place) = authority.rsplit_once('@').map_or((None, authority), |(l, p)| (Some(l), p));
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (place, None),
    };
    if path.contains('@') || host.is_empty() || port.is_some_and(|p| p.parse::<u16>().is_err()) {
        return None;
    }
    Some(match login {
        Some(login) => format!("{scheme}://{}@{place}", login.replace('@', "%40")),
        None => format!("{scheme}://{place}"),
    })
}

/// Whether a host is this one, or on the same link.
fn is_near(host: &str) -> bool {
    let name = bare(host);
    match name.parse().map(|ip: IpAddr| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified() || ip == METADATA_V6
        }
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(vars: &[(&str, &str)]) -> Proxies {
        Proxies::new(&Env::new(vars.iter().copied()))
    }

    fn to(proxies: &Proxies, url: &str) -> String {
        proxies.on_the_way(&url.parse().unwrap()).map_or("direct".to_owned(), |p| p.to_string())
    }

    #[test]
    fn each_variable_has_its_hosts() {
        let none = proxies(&[]);
        assert_eq!(to(&none, "https://s3.example.com/"), "direct");
        let both = proxies(&[
            ("HTTPS_PROXY", "http://user:hush@proxy:3128"),
            ("http_proxy", "proxy2:8080"),
            ("NO_PROXY", "minio.internal, *.corp.example,10.0.0.0/8"),
        ]);
        assert_eq!(to(&both, "https://s3.example.com/"), "http://proxy:3128 (HTTPS_PROXY)");
        assert_eq!(to(&both, "http://s3.example.com:9000/"), "http://proxy2:8080 (http_proxy)");
        for direct in [
            "https://minio.internal/",
            "https://a.minio.internal/",
            "https://a.corp.example/",
            "http://10.1.2.3:9000/",
            "http://localhost:9000/",
            "https://127.0.0.1/",
            "http://[::1]:9000/",
            "http://169.254.169.254/",
            "http://[fd00:ec2::254]/",
        ] {
            assert_eq!(to(&both, direct), "direct", "{direct}");
        }
        let all = proxies(&[("ALL_PROXY", "socks5h://proxy:1080"), ("HTTP_PROXY", "")]);
        assert_eq!(to(&all, "http://s3.example.com/"), "socks5h://proxy:1080 (ALL_PROXY)");
        let star = proxies(&[("ALL_PROXY", "http://proxy"), ("NO_PROXY", "*")]);
        for direct in ["https://s3.example.com/", "http://192.0.2.1:9000/", "http://[2001:db8::1]/"] {
            assert_eq!(to(&star, direct), "direct", "{direct}");
        }
        let port = proxies(&[("ALL_PROXY", "http://proxy"), ("NO_PROXY", "minio:9000,store.example:443")]);
        assert_eq!(to(&port, "http://minio:9000/"), "direct");
        assert_eq!(to(&port, "https://store.example/"), "direct");
        assert_eq!(to(&port, "http://minio/"), "http://proxy (ALL_PROXY)");
        assert_eq!(to(&port, "http://store.example/"), "http://proxy (ALL_PROXY)");
    }

    #[test]
    fn a_value_that_names_no_proxy_is_told() {
        let broken = proxies(&[
            ("HTTPS_PROXY", "ftp://proxy"),
            ("HTTP_PROXY", "http://proxy:1:2"),
            ("ALL_PROXY", "http://p"),
        ]);
        assert_eq!(broken.broken(), ["HTTPS_PROXY", "HTTP_PROXY"]);
    }

    /// I7: user and password of a proxy are in no text, whatever characters they hold.
    #[test]
    fn the_password_of_a_proxy_is_in_no_text() {
        for (value, login) in [
            ("http://user:hush@proxy:3128", Some("Basic dXNlcjpodXNo")),
            ("user:hush@proxy:3128", Some("Basic dXNlcjpodXNo")),
            ("http://user:hush@hush:hush@proxy:3128", Some("Basic dXNlcjpodXNoQGh1c2g6aHVzaA==")),
            ("user:hush%40hush@proxy:3128/", Some("Basic dXNlcjpodXNoQGh1c2g=")),
            ("http://user:hush/hush@proxy:3128", None),
            ("http://user:hush?hush@proxy:3128", None),
            ("http://user:hush#hush@proxy:3128", None),
            ("http://user:hush", None),
            ("user:hush/", None),
            ("http://user:hush@", None),
            ("http://user:hush@proxy:hush", None),
        ] {
            let proxies = proxies(&[("HTTPS_PROXY", value)]);
            let proxy = proxies.on_the_way(&Uri::from_static("https://s3.example.com/"));
            assert_eq!(proxy.as_ref().and_then(|p| p.basic_auth()?.to_str().ok()), login, "{value}");
            assert_eq!(proxies.broken().is_empty(), login.is_some(), "{value}");
            let text =
                format!("{proxies:?} {proxy:?} {}", proxy.as_ref().map_or(String::new(), Proxy::place));
            assert!(!text.contains("hush") && !text.contains("user"), "{value}: {text}");
            assert!(login.is_none() || text.ends_with("http://proxy:3128"), "{value}: {text}");
        }
    }
}
