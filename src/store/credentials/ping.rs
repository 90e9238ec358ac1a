//! A request that only says that somebody is alive.

use super::http::{Ask, Web};
use crate::base::limits;
use crate::config::{Secret, TlsOptions};
use crate::store::HostAnswer;

/// Asks for one URL, which is a secret: neither it nor its parts but the host are in any message.
#[derive(Debug)]
pub struct Pinger {
    web: Web,
    url: Secret,
}

impl Pinger {
    /// `tls` says which certificates are trusted beside those of the system; they are always
    /// checked.
    #[must_use]
    pub fn new(url: Secret, tls: &TlsOptions, answers: &[HostAnswer]) -> Pinger {
        Pinger { web: Web::new(tls, answers), url }
    }

    /// One GET; redirects are not followed.
    ///
    /// # Errors
    /// Why it did not succeed, in words.
    pub async fn ping(&self) -> Result<(), String> {
        if self.url.expose().parse::<http::Uri>().is_err() {
            return Err("heartbeat-url is not a URL".to_owned());
        }
        let said = self.web.ask(Ask::get(self.url.expose(), limits::CREDENTIAL_TIME)).await;
        match said {
            Ok(said) if said.status.is_success() => Ok(()),
            Ok(said) => Err(format!("the server answered {}", said.status.as_u16())),
            Err(e) => Err(e.message),
        }
    }
}
