//! Who is answered at a listener: how many connections at once, and requests for which host.

use std::collections::VecDeque;
use std::net::IpAddr;

use http::header::HOST;
use http::{HeaderMap, Uri};
use tokio::task::AbortHandle;

use crate::io::host;

/// The open connections of a listener. One more than allowed ends the oldest: a client that opens
/// connections and sends nothing keeps no other client waiting.
#[derive(Debug)]
pub(super) struct Connections {
    max: usize,
    open: VecDeque<AbortHandle>,
}

impl Connections {
    pub(super) fn new(max: usize) -> Connections {
        Connections { max, open: VecDeque::new() }
    }

    /// Adds the task of a new connection.
    pub(super) fn admit(&mut self, task: AbortHandle) {
        if self.open.len() >= self.max {
            self.open.retain(|task| !task.is_finished());
        }
        if self.open.len() >= self.max
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.abort();
        }
        self.open.push_back(task);
    }
}

/// Whether a request for `uri` names this machine: by an address, by `localhost` or its host name,
/// or by a name without a dot. Where only this machine can connect, other names come from web pages
/// in a browser here, whose name their owner has let lead to this machine (DNS rebinding).
pub(super) fn is_for_this_machine(uri: &Uri, headers: &HeaderMap) -> bool {
    let is_own = |name: &str| {
        let bare = name.trim_matches(['[', ']']).trim_end_matches('.');
        bare.parse::<IpAddr>().is_ok()
            || !bare.contains('.')
            || bare.to_ascii_lowercase().ends_with(".localhost")
            || host::name().is_some_and(|name| bare.eq_ignore_ascii_case(&name))
    };
    let in_headers = headers.get_all(HOST).iter().all(|host| {
        let authority = host.to_str().ok().and_then(|h| h.parse::<http::uri::Authority>().ok());
        authority.is_some_and(|a| is_own(a.host()))
    });
    in_headers && uri.host().is_none_or(is_own)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_page_from_elsewhere_is_known_by_its_host() {
        let asked = |uri: &str, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            hosts.iter().for_each(|h| _ = headers.append(HOST, h.parse().unwrap()));
            is_for_this_machine(&uri.parse().unwrap(), &headers)
        };
        let own = host::name().unwrap_or("localhost".into());
        for host in [
            "127.0.0.1:9090",
            "[::1]:9090",
            "localhost",
            "LocalHost:1",
            "lsfast.localhost",
            "lsfast:90",
            &own,
        ] {
            assert!(asked("/status", &[host]), "{host}");
        }
        assert!(asked("/status", &[]), "HTTP/1.0, which no browser speaks");
        for host in
            ["evil.example", "evil.example:9090", "127.0.0.1.evil.example", "a@evil.example", "evil.example."]
        {
            assert!(!asked("/status", &[host]), "{host}");
            assert!(!asked("/status", &["localhost", host]), "{host}");
        }
        assert!(!asked("http://evil.example/status", &["localhost"]));
        assert!(!asked("/status", &["localhost\u{e9}"]) && !asked("/status", &[""]));
    }

    #[tokio::test]
    async fn one_connection_more_than_allowed_ends_the_oldest() {
        let pending = || tokio::spawn(std::future::pending::<()>());
        let ends = async |task: tokio::task::JoinHandle<()>| {
            let ended = tokio::time::timeout(Duration::from_secs(60), task).await;
            assert!(ended.expect("it ends").unwrap_err().is_cancelled());
        };
        let mut connections = Connections::new(2);
        let (first, second, third) = (pending(), pending(), pending());
        for task in [&first, &second, &third] {
            connections.admit(task.abort_handle());
        }
        ends(first).await;
        let mut done = tokio::spawn(async {});
        connections.admit(done.abort_handle());
        ends(second).await;
        (&mut done).await.unwrap();
        connections.admit(pending().abort_handle());
        // One that had ended made room.
        let short = Duration::from_millis(50);
        assert!(tokio::time::timeout(short, third).await.is_err(), "the third goes on");
    }
}
