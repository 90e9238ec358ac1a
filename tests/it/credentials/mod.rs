//! Keys that somebody has to be asked for, from stand-ins on this machine.

mod messages;
mod rotation;
mod sources;

use lsfast::config::{CredentialSource, Env, Kind, Location, Overrides};
use lsfast::store::credentials::Sources;
use lsfast::store::{ClientOptions, S3Store};

/// The location of `url` with its chain.
fn location(url: &str, env: &[(&str, String)]) -> Result<Location, String> {
    let env = Env::new(env.iter().map(|(n, v)| (*n, v.clone())));
    let mut location = Location::resolve(url, &Overrides::default(), &env).expect("a location");
    Sources::new(env, &[]).complete(&mut location).map_err(|e| e.to_string())?;
    Ok(location)
}

/// The source of keys for a server on this machine.
fn source(env: &[(&str, String)]) -> Result<CredentialSource, String> {
    let location = location("s3://bucket/db?endpoint=http://127.0.0.1:1", env)?;
    match location.kind {
        Kind::S3(s3) => Ok(s3.credentials),
        Kind::File(path) => panic!("{} is a directory", path.display()),
    }
}

/// The store at `url`, with keys by the chain.
fn open(url: &str, env: &[(&str, String)], options: &ClientOptions) -> S3Store {
    let location = location(url, env).expect("a chain");
    match &location.kind {
        Kind::S3(s3) => S3Store::open(&location.url, s3, options).expect("a store"),
        Kind::File(path) => panic!("{} is a directory", path.display()),
    }
}
