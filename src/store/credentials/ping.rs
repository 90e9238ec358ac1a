//! A request that only reports that lsfast is running (heartbeat).

use super::http::{Ask, Web};
use crate::base::limits;
use crate::config::{Secret, TlsOptions};
use crate::store::HostAnswer;

/// Requests one URL, which is a secret: messages contain only its host.
#[derive(Debug)]
pub struct Pinger {
    web: Web,
    url: Secret,
}

impl Pinger {
    /// `tls` names certificates to trust in addition to the system's. Certificates are always
    /// checked.
    #[must_use]
    pub fn new(url: Secret, tls: &TlsOptions, answers: &[HostAnswer]) -> Pinger {
        Pinger { web: Web::new(tls, answers), url }
    }

    /// Sends one GET. Redirects are not followed.
    ///
    /// # Errors
    /// Why it did not succeed, as text.
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
