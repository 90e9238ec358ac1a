//! The S3 client: a signature, also by AWS's own crate, a page of a listing, and a PUT beside the
//! same PUT on a bare hyper connection.
//!
//! `cargo bench --bench s3`. Only ratios of one run mean something.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::SystemTime;

use aws_sigv4::http_request::{
    self, PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use lsfast::base::clock::Millis;
use lsfast::base::{LtxId, Txid};
use lsfast::config::{Credentials, Env, Kind, Location, Overrides, Secret};
use lsfast::store::s3::sign::{Signed, Signer, SigningKey, sign};
use lsfast::store::s3::xml;
use lsfast::store::{ClientOptions, PutOptions, S3Store, Store};

const HOST: &str = "bucket.s3.eu-central-1.amazonaws.com";
const PATH: &str = "/db/0000/0000000000000001-0000000000000001.ltx";

/// Signs with AWS's own crate, set up for S3 as its SDK does it.
fn sign_by_aws(identity: &Identity, method: &str, url: &str, headers: &mut HeaderMap) {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    let params = v4::SigningParams::builder()
        .identity(identity)
        .region("eu-central-1")
        .name("s3")
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .expect("parameters")
        .into();
    let plain = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().expect("text")));
    let request = SignableRequest::new(method, url, plain, SignableBody::UnsignedPayload).expect("a request");
    let (signed, _) = http_request::sign(request, &params).expect("a signature").into_parts();
    for header in signed.into_parts().0 {
        let value = HeaderValue::from_str(header.value()).expect("a value");
        headers.insert(HeaderName::from_static(header.name()), value);
    }
}

/// With the key of the day kept, derived each time, and by AWS's own crate, which derives it each
/// time.
fn signature(c: &mut Criterion) {
    let credentials = Credentials {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        session_token: None,
        origin: "a bench".into(),
        expires: None,
    };
    let identity: Identity = aws_credential_types::Credentials::new(
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        None,
        None,
        "a bench",
    )
    .into();
    let mut put = HeaderMap::new();
    put.insert("content-type", HeaderValue::from_static("application/octet-stream"));
    put.insert("x-amz-checksum-crc32", HeaderValue::from_static("y/Q5Jg=="));
    put.insert("x-amz-meta-litestream-timestamp", HeaderValue::from_static("2026-11-21T21:14:10.801Z"));
    let mut get = HeaderMap::new();
    get.insert("range", HeaderValue::from_static("bytes=0-4095"));
    let url = format!("https://{HOST}{PATH}");
    let mut group = c.benchmark_group("sign");
    for (method, headers) in [(Method::PUT, put), (Method::GET, get)] {
        let kept = SigningKey::default();
        let own = |kept: &SigningKey| {
            let mut headers = headers.clone();
            let (region, time) = ("eu-central-1", SystemTime::now());
            let signer = Signer { credentials: &credentials, region, time, kept };
            sign(signer, &method, black_box((HOST, PATH)), &mut headers, Signed::Unsigned)
                .expect("a signature");
            headers
        };
        group.bench_function(BenchmarkId::new("kept", &method), |b| b.iter(|| own(&kept)));
        group
            .bench_function(BenchmarkId::new("derived", &method), |b| b.iter(|| own(&SigningKey::default())));
        group.bench_function(BenchmarkId::new("aws-sigv4", &method), |b| {
            b.iter(|| {
                let mut headers = headers.clone();
                sign_by_aws(&identity, method.as_str(), black_box(&url), &mut headers);
                headers
            });
        });
    }
    group.finish();
}

fn listing(c: &mut Criterion) {
    let mut page = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
    for n in 1..=1_000u64 {
        let name = LtxId::raw(Txid(n)).file_name();
        page += &format!(
            "<Contents><Key>db/0000/{name}</Key><LastModified>2026-11-21T21:14:10.000Z</LastModified>\
             <ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</Size>\
             <StorageClass>STANDARD</StorageClass></Contents>"
        );
    }
    page += "</ListBucketResult>";
    let mut group = c.benchmark_group("xml");
    group.throughput(Throughput::Bytes(page.len() as u64));
    group.bench_function("list-1000", |b| b.iter(|| xml::list(black_box(page.as_bytes())).expect("a page")));
    group.finish();
}

/// Reads requests with a Content-Length and says yes.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 1 << 20];
    let mut filled = 0;
    loop {
        let end = loop {
            if let Some(at) = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            filled += match stream.read(&mut buffer[filled..])? {
                0 => return Ok(()),
                n => n,
            };
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let length =
            head.lines().find_map(|l| l.strip_prefix("content-length:")).and_then(|l| l.trim().parse().ok());
        let mut missing = length.unwrap_or(0usize).saturating_sub(filled - end);
        while missing > 0 {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                n => missing = missing.saturating_sub(n),
            }
        }
        filled = 0;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: \"x\"\r\n\r\n")?;
    }
}

fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    addr
}

fn store(addr: SocketAddr) -> S3Store {
    let env = Env::new([("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    let url = format!("s3://bucket/db?endpoint=http://{addr}");
    let location = Location::resolve(&url, &Overrides::default(), &env).expect("a location");
    let Kind::S3(s3) = &location.kind else { unreachable!("an S3 URL") };
    S3Store::open(&location.url, s3, &ClientOptions::default()).expect("a store")
}

fn puts(c: &mut Criterion) {
    let addr = server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut group = c.benchmark_group("put");
    for len in [4 << 10, 64 << 10] {
        let body = Bytes::from(vec![7u8; len]);
        let store = store(addr);
        let options = PutOptions { created: Millis(0), create_only: true };
        let id = LtxId::raw(Txid(1));
        runtime.block_on(store.prewarm());
        group.bench_function(BenchmarkId::new("client", len), |b| {
            b.iter(|| runtime.block_on(store.put(id, vec![body.clone()], options)).expect("a PUT"));
        });

        let (mut sender, driver) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(addr).await.expect("a connection");
            stream.set_nodelay(true).expect("nodelay");
            let io = hyper_util::rt::TokioIo::new(stream);
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(io).await.expect("a handshake")
        });
        runtime.spawn(driver);
        group.bench_function(BenchmarkId::new("bare", len), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let request = Request::put("/bucket/db/0000/x").header("host", "localhost");
                    let request = request.body(Full::new(body.clone())).expect("a request");
                    sender.ready().await.expect("a connection");
                    let answer = sender.send_request(request).await.expect("an answer");
                    answer.into_body().collect().await.expect("its end");
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, signature, listing, puts);
criterion_main!(benches);
