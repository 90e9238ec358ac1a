//! Turns an operation into a signed request, and makes one attempt at it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::body::Payload;
use super::call::{Call, Plan, Reply};
use super::client::{Answer, Wire};
use super::down::Doing;
use super::failure::{Class, Failure};
use super::inner::Inner;
use super::message::{About, sentence, turns_to_tls};
use super::sign::{Signed, Signer, sign};
use super::{classify, encode, web_page, xml};
use crate::base::limits;
use crate::config::{Addressing, CredentialError, Credentials, EndpointUrl, Scheme, SignPayload};
use crate::store::{ErrorKind, progress};

impl Inner {
    /// The region to sign for: the one the store named, otherwise the configured one.
    pub(super) fn region(&self) -> String {
        self.client.region_of(&self.location.bucket).unwrap_or_else(|| self.location.region.value.clone())
    }

    /// The address, and the path with its query.
    fn target(&self, call: &Call<'_>, plan: &Plan, region: &str) -> (EndpointUrl, String) {
        let mut url = match &plan.redirect {
            Some(url) => url.clone(),
            None => self.location.endpoint.value.url(region),
        };
        let bucket = &self.location.bucket;
        let mut path = url.path.clone();
        match self.location.addressing.value {
            Addressing::Path => {
                path.push('/');
                encode::push_path(&mut path, bucket);
                if call.key.is_some() {
                    path.push('/');
                }
            }
            Addressing::VirtualHost => {
                if plan.redirect.is_none() {
                    url.host = format!("{bucket}.{}", url.host);
                }
                path.push('/');
            }
        }
        encode::push_path(&mut path, call.key.unwrap_or_default());
        for (i, (name, value)) in call.query.iter().enumerate() {
            path.push(if i == 0 { '?' } else { '&' });
            encode::push_query(&mut path, name);
            path.push('=');
            encode::push_query(&mut path, value);
        }
        (url, path)
    }

    async fn credentials(&self) -> Result<Arc<Credentials>, Failure> {
        self.location.credentials.credentials().await.map_err(|e| {
            let class = match e {
                CredentialError::Source { transient: true, .. } => Class::Transient,
                CredentialError::Source { .. } | CredentialError::Missing => Class::Credentials,
            };
            Failure::new(class, e.to_string())
        })
    }

    /// Makes one attempt, signed now. An error response is read and returned as the failure.
    pub(super) async fn attempt(&self, call: &Call<'_>, plan: &Plan) -> Result<Answer, Failure> {
        let credentials = self.credentials().await?;
        let region = self.region();
        let signed_at = self.client.now();
        let (url, path) = self.target(call, plan, &region);
        let kept = &self.signing_key;
        let signer = Signer { credentials: &credentials, region: &region, time: signed_at, kept };
        let headers = self.headers(call, &url, &path, signer)?;
        let policy = &self.options.retry;
        let moving = |bytes: u64| Duration::from_secs(bytes / policy.bytes_per_second.max(1));
        let wire = Wire {
            scheme: url.scheme,
            authority: url.authority(),
            method: call.method.clone(),
            path,
            headers,
            payload: call.payload.clone(),
            head_time: policy.attempt + moving(call.payload.len()) + call.extra_time,
            body_time: policy.attempt + moving(call.answer_bytes) + call.extra_time,
            stall: policy.stall + call.extra_time,
            fresh: plan.fresh,
        };
        let mut answer = self.client.send(wire).await?;
        let differs = self.client.clock.learn(&answer.headers).filter(|_| answer.status.is_success());
        let differs = differs.filter(|by| self.client.clock.say(*by));
        if let Some(by) = differs.filter(|by| *by > limits::CLOCK_CORRECTION) {
            tracing::warn!(
                replica = %self.url,
                days = by.as_secs() / (24 * 3600),
                "this machine's clock and that of the store differ by more than a day; the store's is ignored, and times \
                 are those of this machine (find out which of the two is wrong, and set it)"
            );
        } else if differs.is_some() {
            tracing::warn!(
                replica = %self.url,
                "this machine's clock and that of the store differ by more than five minutes; times are judged by the \
                 store's clock (set this machine's)"
            );
        }
        if answer.status.is_success() {
            self.client.down.set(Doing::of(call), false);
            progress::note();
            return Ok(answer);
        }
        // Best effort: an error response whose body cannot be read is still an error.
        let body = answer.body.collect(limits::ERROR_BYTES).await.unwrap_or_default();
        Err(self.failure(call, answer.status, &answer.headers, &body, &credentials, &region, signed_at))
    }

    /// Makes one attempt and reads a success to its end, up to `max` bytes.
    pub(super) async fn attempt_whole(
        &self,
        call: &Call<'_>,
        plan: &Plan,
        max: usize,
    ) -> Result<Reply, Failure> {
        let signed_at = self.client.now();
        let mut answer = self.attempt(call, plan).await?;
        let body = answer.body.collect(max).await?;
        if web_page::is_web_page(&body) {
            return Err(web_page::unbelievable("a web page", &body));
        }
        // A whole listing is longer, and its own parser reads it.
        if body.len() <= limits::ERROR_BYTES && xml::error(&body).is_some() {
            // S3 answers 200 before it begins to copy or to complete, and puts a later error into
            // the body. Other stores do so with every request.
            let (credentials, region) = (self.credentials().await?, self.region());
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Err(self.failure(call, status, &answer.headers, &body, &credentials, &region, signed_at));
        }
        Ok(Reply { headers: answer.headers, body })
    }

    #[allow(clippy::too_many_arguments)]
    fn failure(
        &self,
        call: &Call<'_>,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        credentials: &Credentials,
        region: &str,
        signed_at: SystemTime,
    ) -> Failure {
        let (mut class, mut detail) = classify::read(status, headers, body, signed_at);
        let about = About {
            location: &self.location,
            credentials,
            region,
            method: &call.method,
            keyed: call.key.is_some(),
        };
        // Proxies and gateways answer 301 or 308 to plain HTTP, as S3 does for another region.
        if class == Class::Final(ErrorKind::WrongRegion) && turns_to_tls(&detail, about).is_some() {
            class = Class::Redirect;
        }
        let message = sentence(class, &detail, about);
        region.clone_into(&mut detail.signed_for);
        if class == Class::Credentials && self.location.credentials.refused(credentials) {
            class = Class::Transient;
        }
        Failure { class, message, detail: Box::new(detail) }
    }

    /// Whether the signature covers the content of objects.
    fn signs_content(&self, scheme: Scheme) -> bool {
        let location = &self.location;
        // Without a checked certificate, only the signature proves that the content arrives
        // unchanged.
        if location.tls.skip_verify || (scheme == Scheme::Http && location.endpoint_url().is_public()) {
            return true;
        }
        match location.quirks.sign_payload {
            SignPayload::Auto => scheme != Scheme::Https,
            SignPayload::Never => false,
            SignPayload::Always => true,
        }
    }

    /// Computes the checksums of a content before it is first sent.
    pub(super) async fn sum(&self, content: &Payload) {
        let scheme = self.location.endpoint.value.url(&self.region()).scheme;
        content.sum(self.signs_content(scheme)).await;
    }

    fn headers(
        &self,
        call: &Call<'_>,
        url: &EndpointUrl,
        path: &str,
        signer: Signer<'_>,
    ) -> Result<HeaderMap, Failure> {
        let fatal = |message: String| Failure::new(Class::Final(ErrorKind::Fatal), message);
        let mut headers = HeaderMap::with_capacity(call.headers.len() + 8);
        for (name, value) in &call.headers {
            let value = HeaderValue::from_str(value).map_err(|e| fatal(format!("header {name}: {e}")))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        self.extras.add(call, &mut headers);
        let host = url.authority();
        headers.insert(HOST, HeaderValue::from_str(&host).map_err(|e| fatal(format!("host: {e}")))?);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("lsfast/", env!("CARGO_PKG_VERSION"))));
        let signed = match call.content && !self.signs_content(url.scheme) {
            true => Signed::Unsigned,
            false => Signed::Sha256(call.payload.sha256()),
        };
        sign(signer, &call.method, (&host, path), &mut headers, signed).map_err(|e| fatal(e.to_string()))?;
        Ok(headers)
    }
}
