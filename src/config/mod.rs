//! The user's settings as values: durations, replica URLs, endpoints and credentials, each with its
//! origin.
//!
//! Apart from `file`, which reads the config file, and [`Proxies::of_process`], this module has no
//! side effects: the environment is passed in as an [`Env`], other files are named but not read,
//! and no name is looked up in the network.

mod address;
mod ambiguity;
mod aws;
mod bucket;
mod credentials;
mod duration;
mod endpoint;
mod env;
mod error;
mod explain;
mod fields;
pub mod file;
mod host;
mod location;
mod names;
mod no_proxy;
mod provider;
mod proxy;
mod query;
mod quirks;
mod resolve;
mod settings;
mod sourced;
mod text;
mod values;

pub use address::{Endpoint, EndpointUrl, Scheme};
pub use ambiguity::Ambiguity;
#[cfg(feature = "internals")]
pub use ambiguity::Reading;
pub use credentials::{
    CredentialError, CredentialFuture, CredentialSource, Credentials, ProvideCredentials, Secret,
};
pub use duration::parse_duration;
pub use env::Env;
pub use error::ConfigError;
pub use explain::Line;
pub use fields::ReplicaFields;
pub use file::Config;
pub use location::{Kind, Location, S3Location};
pub use proxy::{Proxies, Proxy, ProxyKind};
pub use quirks::{Addressing, Checksum, SignPayload, TlsOptions};
pub use resolve::Overrides;
pub use settings::{CustomerKey, KeyPlace};
pub use sourced::{Origin, Sourced};
pub use text::{connection_path, database_path, decode, shown};
pub use values::parse_rate;
