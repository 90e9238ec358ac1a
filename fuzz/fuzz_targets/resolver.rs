//! Any text as a replica URL: no panic, nothing with a port goes to AWS, every reading of an
//! ambiguous URL resolves, and
//! a password is in no message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lsfast::config::{ConfigError, Env, Kind, Location, Overrides};

const SECRET: &str = "HUSH-HUSH";

fuzz_target!(|input: &str| {
    let mut lines = input.lines();
    let url = lines.next().unwrap_or("");
    let vars = lines.filter_map(|l| l.split_once('=')).take(4);
    let env = Env::new(vars).in_directory("/srv");
    let none = Overrides::default();

    for url in [url.to_owned(), format!("s3://{url}"), format!("https://{url}")] {
        match Location::resolve(&url, &none, &env) {
            Ok(location) => check(&url, &location),
            Err(ConfigError::Ambiguous(ambiguity)) => {
                assert!(!ambiguity.readings.is_empty(), "{url:?}");
                for reading in &ambiguity.readings {
                    let found = Location::resolve(&reading.url, &none, &env);
                    assert!(!matches!(found, Err(ConfigError::Ambiguous(_))), "{url:?}");
                    let of_reading = reading.bucket.as_ref().zip(found.ok());
                    let Some((bucket, Location { kind: Kind::S3(s3), .. })) = of_reading else { continue };
                    assert_eq!(&s3.bucket, bucket, "{url:?}");
                }
                let _ = ambiguity.to_string();
            }
            Err(e) => _ = e.to_string(),
        }
    }

    let hidden = format!("s3://AKIA:{SECRET}{url}@bucket/p");
    if !url.contains("HUSH")
        && let Err(e) = Location::resolve(&hidden, &none, &env)
    {
        assert!(!format!("{e} {e:?}").contains(SECRET), "{e}");
    }
});

fn check(url: &str, location: &Location) {
    assert!(!location.explain().is_empty());
    assert!(!location.identity().is_empty());
    let Kind::S3(s3) = &location.kind else { return };
    assert!(!s3.bucket.is_empty() && !s3.bucket.contains(char::is_control));
    assert!(!s3.prefix.contains(char::is_control));
    let authority = url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or(""));
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
    });
    if has_port && !url.contains("ndpoint") {
        assert!(!s3.endpoint.value.is_aws(), "{url:?}");
    }
}
