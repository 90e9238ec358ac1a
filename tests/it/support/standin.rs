//! A stand-in for a service of AWS: answers by a function, and notes what it was asked. And keys
//! that expire.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use lsfast::base::clock::Millis;
use s3s::auth::{S3Auth, SecretKey};
use tokio::sync::oneshot;

use super::s3::serve;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl Asked {
    /// The value of a header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().expect("text"))
    }
}

/// A server on a free port of the loopback interface. Dropping it ends it.
pub struct StandIn {
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    /// Answers each request with the status and the body that `answer` gives for it.
    pub fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> StandIn {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (stop, stopped) = oneshot::channel();
        let (answer, notes) = (Arc::new(answer), Arc::clone(&asked));
        let (addr, thread) = serve(stopped, move |stream| {
            let (answer, notes) = (Arc::clone(&answer), Arc::clone(&notes));
            let service = service_fn(move |request: Request<Incoming>| {
                let (answer, notes) = (Arc::clone(&answer), Arc::clone(&notes));
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let one = Asked {
                        method: head.method.to_string(),
                        path: head.uri.to_string(),
                        headers: head.headers,
                        body: String::from_utf8_lossy(&body).into_owned(),
                    };
                    let (status, body) = answer(&one);
                    notes.lock().expect("no panic while held").push(one);
                    let mut response = Response::new(Full::new(Bytes::from(body)));
                    *response.status_mut() = status.try_into().expect("a status");
                    Ok::<_, hyper::Error>(response)
                }
            });
            async move {
                let _ =
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            }
        });
        StandIn { addr, asked, stop: Some(stop), thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic while held").clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Keys of a server that expire, and how often others were used.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(Arc<Mutex<Ring>>);

#[derive(Debug, Default)]
struct Ring {
    keys: HashMap<String, (String, SystemTime)>,
    refused: u32,
    accepted: u32,
}

/// One set of keys.
#[derive(Debug, Clone)]
pub struct Issued {
    pub id: String,
    pub secret: String,
    pub token: String,
    pub until: Millis,
}

impl KeyRing {
    /// Makes keys that the server accepts for so long.
    pub fn issue(&self, life: Duration) -> Issued {
        let mut ring = self.0.lock().expect("no panic while held");
        let n = ring.keys.len() + 1;
        let until = SystemTime::now() + life;
        let issued = Issued {
            id: format!("ASIATESTTESTTEST{n:04}"),
            secret: format!("very-secret-{n:04}"),
            token: format!("very-secret-token-{n:04}"),
            until: Millis::from_system(until),
        };
        ring.keys.insert(issued.id.clone(), (issued.secret.clone(), until));
        issued
    }

    /// Ends all keys so far.
    pub fn revoke(&self) {
        let mut ring = self.0.lock().expect("no panic while held");
        ring.keys.values_mut().for_each(|(_, until)| *until = SystemTime::UNIX_EPOCH);
    }

    pub fn issued(&self) -> usize {
        self.0.lock().expect("no panic while held").keys.len()
    }

    /// Requests with keys that are unknown or have expired.
    pub fn refused(&self) -> u32 {
        self.0.lock().expect("no panic while held").refused
    }

    pub fn accepted(&self) -> u32 {
        self.0.lock().expect("no panic while held").accepted
    }

    fn secret_of(&self, id: &str) -> Option<String> {
        let mut ring = self.0.lock().expect("no panic while held");
        match ring.keys.get(id) {
            Some((secret, until)) if SystemTime::now() < *until => {
                let secret = secret.clone();
                ring.accepted += 1;
                Some(secret)
            }
            _ => {
                ring.refused += 1;
                None
            }
        }
    }
}

impl S3Auth for KeyRing {
    fn get_secret_key<'a, 'b, 'c>(
        &'a self,
        access_key: &'b str,
    ) -> Pin<Box<dyn Future<Output = s3s::S3Result<SecretKey>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        let found = self.secret_of(access_key).map(SecretKey::from);
        Box::pin(async move { found.ok_or_else(|| s3s::s3_error!(InvalidAccessKeyId)) })
    }
}

impl Issued {
    /// As container, EC2 metadata and `credential_process` give them.
    pub fn json(&self) -> String {
        serde_json::json!({
            "Version": 1, "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": self.id,
            "SecretAccessKey": self.secret, "Token": self.token, "Expiration": self.until.to_rfc3339(),
        })
        .to_string()
    }

    /// As STS gives them.
    pub fn xml(&self, action: &str) -> String {
        format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
             <AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
             <Expiration>{}</Expiration></Credentials></{action}Result></{action}Response>",
            self.id,
            self.secret,
            self.token,
            self.until.to_rfc3339()
        )
    }
}
