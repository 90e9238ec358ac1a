//! Every key of the config file: its name, the form of its value, and its effect in lsfast.
//!
//! `docs/config.md` describes the same in prose; a test compares the two.

use crate::config::names::{PARAMETERS, nearest_of};

/// The form of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text, a number or a duration.
    Text,
    /// A text that must never be shown.
    Secret,
    /// A list of texts.
    Texts,
    /// A section with further keys.
    Section(Scope),
    /// A list of sections.
    List(Scope),
}

/// The section that a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Top,
    Database,
    Replica,
    Level,
    Snapshot,
    Validation,
    Retention,
    Logging,
    Socket,
    Age,
}

/// The effect of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The key works as in Litestream, or has no effect that a user could miss.
    Used,
    /// The key has no effect, which is worth a warning; with the reason.
    Ignored(&'static str),
    /// The key belongs to a kind of replica that lsfast does not support.
    Other(&'static str),
    /// Ignoring the key would do harm; with the reason.
    Refused(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) becomes: Use,
}

const fn text(name: &'static str) -> Key {
    Key { name, kind: Kind::Text, becomes: Use::Used }
}

const fn secret(name: &'static str) -> Key {
    Key { name, kind: Kind::Secret, becomes: Use::Used }
}

const fn ignored(name: &'static str, why: &'static str) -> Key {
    Key { name, kind: Kind::Text, becomes: Use::Ignored(why) }
}

const fn other(name: &'static str, kind: &'static str) -> Key {
    Key { name, kind: Kind::Text, becomes: Use::Other(kind) }
}

const fn other_secret(name: &'static str, kind: &'static str) -> Key {
    Key { name, kind: Kind::Secret, becomes: Use::Other(kind) }
}

const fn section(name: &'static str, scope: Scope) -> Key {
    Key { name, kind: Kind::Section(scope), becomes: Use::Used }
}

const fn list(name: &'static str, scope: Scope) -> Key {
    Key { name, kind: Kind::List(scope), becomes: Use::Used }
}

const PACED: &str = "lsfast uploads one batch at a time and bounds it by itself";

/// Keys of a replica that its URL may have as parameters.
const SHARED: [Key; PARAMETERS.len()] = {
    let mut keys = [text(""); PARAMETERS.len()];
    let mut at = 0;
    while at < keys.len() {
        keys[at] = text(PARAMETERS[at]);
        at += 1;
    }
    keys
};

/// Keys of a replica that its URL cannot have. Like [`SHARED`], they are also allowed at the top of
/// the file, where they hold for all replicas.
const SETTINGS: &[Key] = &[
    text("sync-interval"),
    text("precision"),
    text("precision-window"),
    text("verify-interval"),
    text("verify-rate"),
    ignored("validation-interval", "lsfast checks each object as it is written and read"),
    ignored("max-sync-ltx-files", PACED),
    ignored("auto-recover", "lsfast repairs its local state by comparing pages, without being told"),
    secret("access-key-id"),
    secret("secret-access-key"),
    secret("session-token"),
    text("bucket"),
    text("sign-accept-encoding"),
    text("sse-customer-algorithm"),
    secret("sse-customer-key"),
    text("sse-customer-key-path"),
    other("account-name", "abs"),
    other_secret("account-key", "abs"),
    other_secret("sas-token", "abs"),
    other("host", "sftp"),
    other("user", "sftp"),
    other_secret("password", "sftp"),
    other("key-path", "sftp"),
    other("host-key", "sftp"),
    other("concurrent-writes", "sftp"),
    other("webdav-url", "webdav"),
    other("webdav-username", "webdav"),
    other_secret("webdav-password", "webdav"),
    other_secret("jwt", "nats"),
    other_secret("seed", "nats"),
    other("creds", "nats"),
    other_secret("nkey", "nats"),
    other("username", "nats"),
    other_secret("token", "nats"),
    other("tls", "nats"),
    Key { name: "root-cas", kind: Kind::Texts, becomes: Use::Other("nats") },
    other("client-cert", "nats"),
    other("client-key", "nats"),
    other("max-reconnects", "nats"),
    other("reconnect-wait", "nats"),
    other("timeout", "nats"),
    Key {
        name: "age",
        kind: Kind::Section(Scope::Age),
        becomes: Use::Refused(
            "lsfast does not encrypt: remove it if the replica may be written in the clear",
        ),
    },
];

const TOP: &[Key] = &[
    list("dbs", Scope::Database),
    list("levels", Scope::Level),
    section("snapshot", Scope::Snapshot),
    text("l0-retention"),
    text("l0-retention-check-interval"),
    section("retention", Scope::Retention),
    section("validation", Scope::Validation),
    ignored("verify-compaction", "lsfast checks every object that it makes, before the upload"),
    section("logging", Scope::Logging),
    text("addr"),
    secret("addr-token"),
    section("socket", Scope::Socket),
    ignored("mcp-addr", "lsfast has no MCP server"),
    text("exec"),
    text("heartbeat-url"),
    text("heartbeat-interval"),
    text("shutdown-sync-timeout"),
    text("shutdown-sync-interval"),
];

const DATABASE: &[Key] = &[
    text("path"),
    text("dir"),
    text("pattern"),
    text("recursive"),
    text("watch"),
    text("meta-path"),
    text("meta-dir"),
    text("monitor-interval"),
    text("busy-timeout"),
    ignored("checkpoint-interval", "lsfast leaves checkpoints to the application and lets them run"),
    ignored("min-checkpoint-page-count", "lsfast leaves checkpoints to the application and lets them run"),
    ignored("max-checkpoint-page-count", "lsfast leaves checkpoints to the application and lets them run"),
    ignored("truncate-page-n", "lsfast gives the space of an idle WAL back by itself"),
    ignored("max-sync-wal-bytes", PACED),
    text("restore-if-db-not-exists"),
    text("precision"),
    text("precision-window"),
    text("verify-interval"),
    text("verify-rate"),
    section("snapshot", Scope::Snapshot),
    section("replica", Scope::Replica),
    list("replicas", Scope::Replica),
];

const REPLICA: &[Key] = &[
    text("url"),
    text("type"),
    text("name"),
    text("path"),
    // Keys of Litestream 0.3.
    text("retention"),
    ignored("retention-check-interval", "lsfast looks when an object is due"),
    text("snapshot-interval"),
];

const INTERVAL: &[Key] = &[text("interval")];

impl Scope {
    /// All keys of the section.
    pub(super) fn keys(self) -> impl Iterator<Item = &'static Key> {
        const NONE: &[Key] = &[];
        const SNAPSHOT: &[Key] = &[text("interval"), text("retention")];
        const VALIDATION: &[Key] =
            &[ignored("interval", "lsfast checks each object as it is written and read")];
        const RETENTION: &[Key] = &[text("enabled")];
        const LOGGING: &[Key] = &[text("level"), text("type"), text("stderr"), text("source")];
        const SOCKET: &[Key] = &[text("enabled"), text("path"), text("permissions")];
        const AGE: &[Key] = &[
            Key { name: "identities", kind: Kind::Texts, becomes: Use::Used },
            Key { name: "recipients", kind: Kind::Texts, becomes: Use::Used },
        ];
        let parameters = match self {
            Scope::Top | Scope::Replica => &SHARED[..],
            _ => NONE,
        };
        let (own, shared) = match self {
            Scope::Top => (TOP, SETTINGS),
            Scope::Database => (DATABASE, NONE),
            Scope::Replica => (REPLICA, SETTINGS),
            Scope::Level => (INTERVAL, NONE),
            Scope::Snapshot => (SNAPSHOT, NONE),
            Scope::Validation => (VALIDATION, NONE),
            Scope::Retention => (RETENTION, NONE),
            Scope::Logging => (LOGGING, NONE),
            Scope::Socket => (SOCKET, NONE),
            Scope::Age => (AGE, NONE),
        };
        own.iter().chain(shared).chain(parameters)
    }

    pub(super) fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().find(|k| k.name == name)
    }

    /// What was probably meant by an unknown name: a similar key, or the section that the key
    /// belongs to.
    pub(super) fn hint(self, name: &str) -> String {
        if let Some(nearest) = nearest_of(self.keys().map(|k| k.name), name) {
            return format!("did you mean {nearest}?");
        }
        for (scope, place) in [
            (Scope::Top, "at the top of the file"),
            (Scope::Database, "next to the path of a database"),
            (Scope::Replica, "in a replica"),
        ] {
            if scope.key(name).is_some() {
                return format!("it belongs {place}");
            }
        }
        let known: Vec<&str> = self.keys().map(|k| k.name).collect();
        if known.len() > 20 {
            "docs/config.md lists all keys".to_owned()
        } else {
            format!("known are {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints() {
        assert_eq!(Scope::Replica.hint("bukcet"), "did you mean bucket?");
        assert_eq!(Scope::Replica.hint("acess_key_id"), "did you mean access-key-id?");
        assert_eq!(Scope::Database.hint("endpoint"), "it belongs at the top of the file");
        assert_eq!(Scope::Top.hint("replica"), "it belongs next to the path of a database");
        assert_eq!(Scope::Level.hint("zzz"), "known are interval");
    }

    #[test]
    fn every_key_is_documented_with_what_becomes_of_it() {
        let docs = include_str!("../../../docs/config.md");
        let scopes = [
            Scope::Top,
            Scope::Database,
            Scope::Replica,
            Scope::Level,
            Scope::Snapshot,
            Scope::Validation,
            Scope::Retention,
            Scope::Logging,
            Scope::Socket,
            Scope::Age,
        ];
        for key in scopes.into_iter().flat_map(Scope::keys) {
            // A name may occur in several tables; one of its rows has to describe this effect.
            let name = format!("`{}`", key.name);
            let rows: Vec<&str> = docs.lines().filter(|l| l.starts_with('|') && l.contains(&name)).collect();
            assert!(!rows.is_empty(), "docs/config.md has no row for {}", key.name);
            let says = |word: &str| assert!(rows.iter().any(|r| r.contains(word)), "{rows:?}");
            match key.becomes {
                Use::Ignored(_) => says("ignored"),
                Use::Refused(_) => says("refused"),
                Use::Other(kind) => says(kind),
                Use::Used => {}
            }
        }
    }
}
