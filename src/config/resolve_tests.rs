use super::*;

fn s3_of(location: &Location) -> &S3Location {
    match &location.kind {
        Kind::S3(s3) => s3,
        Kind::File(path) => panic!("{path:?}"),
    }
}

/// Formats as `endpoint region bucket prefix style origin-of-endpoint`.
fn described(found: Result<Location, ConfigError>) -> String {
    let location = match found {
        Ok(location) => location,
        Err(e) => return e.to_string(),
    };
    match &location.kind {
        Kind::File(path) => format!("directory {}", path.display()),
        Kind::S3(s3) => {
            let style = match s3.addressing.value {
                Addressing::VirtualHost => "host",
                Addressing::Path => "path",
            };
            let (url, region, origin) = (s3.endpoint_url(), &s3.region.value, &s3.endpoint.origin);
            format!("{url} {region} {} {:?} {style} {origin}", s3.bucket, s3.prefix)
        }
    }
}

fn env(vars: &[(&str, &str)]) -> Env {
    Env::new(vars.iter().copied())
}

#[test]
fn urls() {
    let table = include_str!("resolve_table.txt");
    let mut rows = 0;
    let mut wrong = String::new();
    for block in table.split("\n\n").filter(|b| !b.trim().is_empty()) {
        let lines: Vec<&str> = block.lines().filter(|l| !l.starts_with('#')).collect();
        let [input, expected @ ..] = lines.as_slice() else { continue };
        let mut fields = ReplicaFields::default();
        let mut flags = Overrides::default();
        let mut vars = Vec::new();
        for word in input.split(' ') {
            let file = || Origin::File { path: "lsfast.yml".into(), line: 7 };
            let (name, value) = match word.split_once("://") {
                Some((scheme, _)) if !scheme.contains('=') => ("url", word),
                _ => word.split_once('=').expect(word),
            };
            let said = |v: &str, origin| Some(Sourced::new(v.to_owned(), origin));
            match name {
                "url" if word.starts_with("url=") => fields.url = said(value, file()),
                "url" => fields.url = said(value, Origin::Url),
                "--endpoint" => flags.endpoint = Some(value.to_owned()),
                "--region" => flags.region = Some(value.to_owned()),
                "type" => fields.kind = said(value, file()),
                "bucket" => fields.bucket = said(value, file()),
                "path" => fields.path = said(value, file()),
                "endpoint" => fields.endpoint = said(value, file()),
                "region" => fields.region = said(value, file()),
                "force-path-style" => {
                    fields.force_path_style = Some(Sourced::new(value == "true", file()));
                }
                _ if name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') => {
                    vars.push((name.to_owned(), value.to_owned()));
                }
                _ => panic!("{word}"),
            }
        }
        let env = Env::new(vars).in_directory("/srv");
        let found = described(Location::of_fields(fields, &flags, &env));
        let expected = expected.join("\n");
        if found != expected {
            wrong += &format!("{input}\n{found}\n  instead of\n{expected}\n\n");
        }
        rows += 1;
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(rows >= 80, "only {rows} rows");
}

#[test]
fn origins_of_regions_and_styles() {
    let none = Overrides::default();
    let vars = env(&[("AWS_REGION", "eu-north-1")]);
    let of = |url: &str| {
        let location = Location::resolve(url, &none, &vars).unwrap();
        let s3 = s3_of(&location);
        (s3.region.origin.clone(), s3.addressing.origin.clone())
    };
    assert_eq!(of("s3://b/p?endpoint=http://h:1"), (Origin::Env("AWS_REGION"), Origin::Default));
    assert!(!Origin::Env("AWS_REGION").is_explicit());
    assert_eq!(of("s3://bucket/p?region=eu-west-3").0, Origin::Url);
    let spaces = Origin::Provider("DigitalOcean Spaces");
    assert_eq!(of("s3://b.nyc3.digitaloceanspaces.com/p"), (Origin::Endpoint, spaces));
    let r2 = Origin::Provider("Cloudflare R2");
    assert_eq!(of("s3://b/p?endpoint=https://acc.r2.cloudflarestorage.com").0, r2);
    assert!(!r2.is_explicit());
}

#[test]
fn an_ambiguous_url_can_be_settled() {
    let url = "s3://litestream.example.com/qt.db?region=x-1";
    let e = Location::resolve(url, &Overrides::default(), &Env::default()).unwrap_err();
    let ConfigError::Ambiguous(ambiguity) = e else { panic!("{e}") };
    assert!(ambiguity.can_be_probed());
    assert_eq!(ambiguity.readings.len(), 3);
    assert_eq!(ambiguity.readings[1].endpoint.to_string(), "https://example.com");
    assert_eq!(ambiguity.readings[1].bucket.as_deref(), Some("litestream"));
    let one = Location::resolve(&ambiguity.readings[1].url, &Overrides::default(), &Env::default());
    assert_eq!(described(one), r#"https://example.com x-1 litestream "qt.db" path the replica URL"#);
    let mut flags = Overrides::default();
    flags.settle(&ambiguity, 0);
    let settled = Location::resolve(url, &flags, &Env::default());
    assert_eq!(described(settled), r#"https://litestream.example.com x-1 qt.db "" path the replica URL"#);

    let e = Location::resolve("s3://backup.example.com", &Overrides::default(), &Env::default()).unwrap_err();
    let ConfigError::Ambiguous(ambiguity) = e else { panic!("{e}") };
    assert!(!ambiguity.can_be_probed());
}

#[test]
fn every_reading_resolves_to_what_it_says() {
    for url in
        ["s3://a.b.c/d/e%25f?region=x-1", "https://a.s3.b.c/d", "s3://a.minio.b.c:9000/d/e", "s3://my.b/p"]
    {
        let e = Location::resolve(url, &Overrides::default(), &Env::default()).unwrap_err();
        let ConfigError::Ambiguous(ambiguity) = e else { panic!("{url}: {e}") };
        for reading in &ambiguity.readings {
            let location = Location::resolve(&reading.url, &Overrides::default(), &Env::default()).unwrap();
            let s3 = s3_of(&location);
            assert_eq!(Some(&s3.bucket), reading.bucket.as_ref(), "{reading:?}");
            if !s3.endpoint.value.is_aws() {
                assert_eq!(s3.endpoint_url(), reading.endpoint, "{reading:?}");
            }
        }
    }
}

#[test]
fn only_what_can_be_a_bucket_is_a_reading() {
    let readings = |url: &str| match Location::resolve(url, &Overrides::default(), &Env::default()) {
        Err(ConfigError::Ambiguous(a)) => {
            let all = (0..a.readings.len()).map(|i| {
                Location::resolve(&a.readings[i].url, &Overrides::default(), &Env::default()).unwrap()
            });
            Ok(all.map(|l| s3_of(&l).bucket.clone()).collect::<Vec<_>>())
        }
        other => Err(described(other)),
    };
    assert_eq!(readings("s3://a.example.com/x.y:4/db").unwrap(), ["a", "a.example.com"]);
    assert_eq!(readings("s3://a.example.com/10.0.0.1/db").unwrap(), ["a", "a.example.com"]);
    assert_eq!(readings("s3://a.example.com/s3.amazonaws.com/db").unwrap(), ["a", "a.example.com"]);
    assert_eq!(readings("s3://A.example.com/a.example.com/b/db").unwrap(), ["a", "a.example.com"]);
    assert_eq!(readings("s3://my.bucket/x:4/db").unwrap(), ["my.bucket"]);
    for url in ["s3://../a.s3.amazonaws.com.:4", "s3://a..b/c/d", "s3://./c", "https://a./c"] {
        let e = readings(url).unwrap_err();
        assert!(e.contains("a host name or an address"), "{url}: {e}");
    }
}

#[test]
fn a_secret_in_the_url_is_refused_and_not_repeated() {
    for url in [
        "s3://AKIA:HUSH-HUSH@bucket/p",
        "s3://AKIA:HUSH-HUSH/more@bucket/p",
        "s3://AKIA:12345/HUSH-HUSH@bucket/p",
        "s3://AKIA:x?HUSH-HUSH@bucket/p",
        "s3://HUSH-HUSH@bucket/p",
        "https://key:HUSH-HUSH@host/bucket",
        "s3://bucket/p?secret-access-key=HUSH-HUSH",
        "s3://bucket/p?endpoint=https://key:HUSH-HUSH@host",
        "s3://bucket/p?sse-customer-key=HUSH-HUSH",
        "s3://host:HUSH-HUSH/p",
        "gs://key:HUSH-HUSH@bucket/p",
        "HUSH://key:HUSH-HUSH@bucket/p",
        "postgres:HUSH@x?HUSH-HUSH",
    ] {
        let e = Location::resolve(url, &Overrides::default(), &Env::default()).unwrap_err();
        assert!(!format!("{e} {e:?}").contains("HUSH-HUSH"), "{url}: {e}");
    }
    let e = Location::resolve("s3://AKIA:hush@bucket/p", &Overrides::default(), &Env::default()).unwrap_err();
    assert!(e.to_string().contains("AWS_SECRET_ACCESS_KEY"), "{e}");
}

#[test]
fn keys_beside_the_replica_come_whole_or_not_at_all() {
    let file = |line| Origin::File { path: "/etc/lsfast.yml".into(), line };
    let mut fields = ReplicaFields::of_url("s3://bucket/p");
    fields.access_key_id = Some(Sourced::new("AKIAFILE00000".into(), file(3)));
    let vars = env(&[("AWS_ACCESS_KEY_ID", "AKIAENV000000"), ("AWS_SECRET_ACCESS_KEY", "s")]);
    let e = Location::of_fields(fields.clone(), &Overrides::default(), &vars).unwrap_err();
    assert_eq!(
        e.to_string(),
        "access-key-id is set in the config file (/etc/lsfast.yml:3) and secret-access-key is not; set both or none"
    );
    fields.secret_access_key = Some(Sourced::new(crate::config::Secret::new("hush"), file(4)));
    let location = Location::of_fields(fields, &Overrides::default(), &vars).unwrap();
    let CredentialSource::Static(keys) = &s3_of(&location).credentials else { panic!() };
    assert_eq!(keys.origin, "the config file (/etc/lsfast.yml:3)");
    assert_eq!(keys.access_key_id, "AKIAFILE00000");
    let lines: Vec<String> = location.explain().iter().map(ToString::to_string).collect();
    let text = lines.join("\n");
    assert!(text.contains("access key AKIA...00  (the config file (/etc/lsfast.yml:3))"), "{text}");
    assert!(!text.contains("hush"), "{text}");
}

#[test]
fn certificates_named_by_the_environment() {
    let vars = env(&[("SSL_CERT_FILE", "/a.pem"), ("AWS_CA_BUNDLE", "/b.pem")]);
    let location = Location::resolve("s3://bucket/p", &Overrides::default(), &vars).unwrap();
    let s3 = s3_of(&location);
    assert_eq!(s3.tls.ca_cert, Some(PathBuf::from("/b.pem")));
    assert_eq!(s3.origins.ca_cert.as_ref().unwrap().origin, Origin::Env("AWS_CA_BUNDLE"));
    let flags = Overrides { ca_cert: Some("/c.pem".into()), ..Overrides::default() };
    let location = Location::resolve("s3://bucket/p?ca-cert=/d.pem", &flags, &vars).unwrap();
    assert_eq!(s3_of(&location).tls.ca_cert, Some(PathBuf::from("/c.pem")));
}

#[test]
fn an_access_point_keeps_its_arn_for_copies() {
    let arn = "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap-1";
    let location =
        Location::resolve(&format!("s3://{arn}/db"), &Overrides::default(), &Env::default()).unwrap();
    let s3 = s3_of(&location);
    assert_eq!(s3.copy_source(), format!("{arn}/object"));
    assert_eq!(location.url, format!("s3://{arn}/db"));
}

#[test]
fn one_place_has_one_identity() {
    let of = |url: &str| Location::resolve(url, &Overrides::default(), &Env::default()).unwrap().identity();
    assert_eq!(of("s3://bucket/p?region=eu-west-1"), of("s3://bucket.s3.eu-west-1.amazonaws.com/p/"));
    assert_eq!(of("s3://b.nyc3.digitaloceanspaces.com/p"), of("https://nyc3.digitaloceanspaces.com/b/p"));
    assert_ne!(of("s3://bucket/p"), of("s3://bucket/p?endpoint=http://h:1"));
    assert_eq!(of("file:///a//b"), of("file:///a/b/"));
}
