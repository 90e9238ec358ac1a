use super::*;

fn resolve(url: &str) -> Result<Location, ConfigError> {
    Location::resolve(url, &Overrides::default(), &Env::default())
}

fn s3_of(location: &Location) -> &S3Location {
    match &location.kind {
        Kind::S3(s3) => s3,
        Kind::File(path) => panic!("{path:?}"),
    }
}

/// `endpoint region bucket prefix style`
fn row(url: &str, env: &Env) -> String {
    match Location::resolve(url, &Overrides::default(), env) {
        Ok(location) => {
            let s3 = s3_of(&location);
            let style = match s3.addressing.value {
                Addressing::VirtualHost => "host",
                Addressing::Path => "path",
            };
            format!("{} {} {} {:?} {style}", s3.endpoint_url(), s3.region.value, s3.bucket, s3.prefix)
        }
        Err(e) => e.to_string(),
    }
}

#[test]
fn urls() {
    let none = Env::default();
    for (url, expected) in [
        ("s3://bucket/app.db", r#"https://s3.us-east-1.amazonaws.com us-east-1 bucket "app.db" host"#),
        ("s3://bucket", r#"https://s3.us-east-1.amazonaws.com us-east-1 bucket "" host"#),
        ("s3://bucket/", r#"https://s3.us-east-1.amazonaws.com us-east-1 bucket "" host"#),
        ("s3://bucket//a//b/", r#"https://s3.us-east-1.amazonaws.com us-east-1 bucket "a/b" host"#),
        ("s3://bucket/a%20b%2Bc", r#"https://s3.us-east-1.amazonaws.com us-east-1 bucket "a b+c" host"#),
        ("s3://bucket/p?region=eu-west-1", r#"https://s3.eu-west-1.amazonaws.com eu-west-1 bucket "p" host"#),
        (
            "s3://bucket/p?endpoint=http://localhost:9000",
            r#"http://localhost:9000 us-east-1 bucket "p" path"#,
        ),
        (
            "s3://bucket/p?endpoint=s3.example.com&forcePathStyle=false",
            r#"https://s3.example.com us-east-1 bucket "p" host"#,
        ),
        (
            "s3://my.bucket/p?endpoint=https://s3.eu-west-1.amazonaws.com",
            r#"https://s3.eu-west-1.amazonaws.com eu-west-1 my.bucket "p" path"#,
        ),
        ("s3://Up_per/p?endpoint=http://h:1", r#"http://h:1 us-east-1 Up_per "p" path"#),
    ] {
        assert_eq!(row(url, &none), expected, "{url}");
    }
}

#[test]
fn environment_fills_what_the_url_leaves_out() {
    let env = Env::new([
        ("AWS_ENDPOINT_URL", "https://generic.example.com"),
        ("AWS_ENDPOINT_URL_S3", "https://s3.example.com"),
        ("AWS_REGION", "eu-north-1"),
        ("AWS_DEFAULT_REGION", "eu-south-1"),
    ]);
    assert_eq!(row("s3://b/p", &env), r#"https://s3.example.com eu-north-1 b "p" path"#);
    assert_eq!(row("s3://b/p?endpoint=http://h:1&region=x-1", &env), r#"http://h:1 x-1 b "p" path"#);
    let location = Location::resolve("s3://b/p", &Overrides::default(), &env).unwrap();
    assert_eq!(s3_of(&location).region.origin, Origin::Env("AWS_REGION"));
    assert!(!s3_of(&location).region.origin.is_explicit());
    let flags = Overrides {
        endpoint: Some("http://flag:1".into()),
        region: Some("f-1".into()),
        ..Overrides::default()
    };
    let location = Location::resolve("s3://b/p", &flags, &env).unwrap();
    assert_eq!(s3_of(&location).endpoint_url().to_string(), "http://flag:1");
    assert_eq!(s3_of(&location).region, Sourced::new("f-1".to_owned(), Origin::Flag("region")));
}

#[test]
fn a_server_in_the_place_of_the_bucket_never_goes_to_aws() {
    for (url, lines) in [
        (
            "s3://s3.example.com/litestream/app.db",
            vec![
                "s3://litestream/app.db?endpoint=https://s3.example.com;",
                "s3://s3.example.com/litestream/app.db?endpoint=https://s3.amazonaws.com",
            ],
        ),
        ("s3://localhost:9000/bucket/p", vec!["s3://bucket/p?endpoint=http://localhost:9000"]),
        ("s3://localhost/bucket/p", vec!["s3://bucket/p?endpoint=http://localhost"]),
        ("s3://192.168.1.5:9000/bucket/p", vec!["s3://bucket/p?endpoint=http://192.168.1.5:9000"]),
        ("s3://[::1]:9000/bucket", vec!["s3://bucket?endpoint=http://[::1]:9000"]),
        (
            "s3://bucket.localhost:9000/p",
            vec![
                "s3://p?endpoint=http://bucket.localhost:9000",
                "s3://bucket/p?endpoint=http://localhost:9000",
            ],
        ),
        (
            "s3://space.nyc3.digitaloceanspaces.com/db",
            vec!["s3://space/db?endpoint=https://nyc3.digitaloceanspaces.com"],
        ),
        ("s3://minio.example.com", vec!["s3://BUCKET/PREFIX?endpoint=https://minio.example.com"]),
    ] {
        let e = resolve(url).unwrap_err();
        assert!(matches!(e, ConfigError::HostLike { .. }), "{e:?}");
        for line in lines {
            assert!(format!("{e};").contains(line), "{url}: {e}");
        }
    }
    // With an endpoint the name is a bucket, whatever it looks like.
    resolve("s3://my.bucket/p?endpoint=http://localhost:9000").unwrap();
}

#[test]
fn what_is_refused() {
    for (url, expected) in [
        ("app.db", r#"replica URL "app.db" has no scheme; write s3://BUCKET/PREFIX or file:///DIRECTORY"#),
        (
            "gs://bucket/p",
            r#"replica URL "gs://bucket/p": lsfast has no gs:// replicas; write s3://BUCKET/PREFIX or file:///DIRECTORY"#,
        ),
        ("s3:///p", r#"replica URL "s3:///p" names no bucket; write s3://BUCKET/PREFIX"#),
        ("s3://ab/p", r#""ab" cannot be a bucket name: on AWS it has 3 to 63 characters"#),
        (
            "s3://Bucket/p",
            r#""Bucket" cannot be a bucket name: on AWS it holds no upper-case letters and no underscores"#,
        ),
        ("s3://b$b/p", r#""b$b" cannot be a bucket name: it may hold letters, digits, hyphens and dots"#),
        (
            "s3://bucket/p?region=a/b",
            r#"region from the replica URL: "a/b" is not a region such as eu-central-1"#,
        ),
        (
            "file://dir/x",
            r#"replica URL "file://dir/x" names no absolute directory; write file:///DIRECTORY with three slashes"#,
        ),
        (
            "s3://bucket/100%",
            r#"replica URL "s3://bucket/100%": a percent sign must be followed by two hex digits, together valid UTF-8; write %25 for a percent sign"#,
        ),
    ] {
        assert_eq!(row(url, &Env::default()), expected);
    }
}

#[test]
fn a_password_in_the_url_is_refused_and_not_repeated() {
    let e = resolve("s3://AKIA:hush@bucket/p").unwrap_err().to_string();
    assert!(e.contains("AWS_SECRET_ACCESS_KEY"), "{e}");
    assert!(!e.contains("hush") && !e.contains("AKIA"), "{e}");
    let e = resolve("s3://bucket/p?secret-access-key=hush").unwrap_err().to_string();
    assert!(e.contains("secret-access-key") && !e.contains("hush"), "{e}");
}

#[test]
fn directories() {
    for (url, path) in [("file:///a/b", "/a/b"), ("file:///a//b/../c/", "/a/c"), ("file:///a%20b", "/a b")] {
        let location = resolve(url).unwrap();
        match location.kind {
            Kind::File(p) => assert_eq!(p, PathBuf::from(path)),
            Kind::S3(s3) => panic!("{s3:?}"),
        }
    }
}
