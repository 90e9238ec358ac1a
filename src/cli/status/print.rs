//! The status as text.

use std::fmt::Write as _;

use crate::base::{count, limits, untrusted};
use crate::observe::{DatabaseStatus, FollowState, ReplicaStatus, Status, VerificationState};

/// Text from a store or another process, escaped, on one line.
fn say(text: &str) -> String {
    untrusted::line(text, limits::MESSAGE_CHARS)
}

/// One paragraph for each database.
pub(super) fn text(status: &Status) -> String {
    if status.databases.is_empty() {
        return "no databases".to_owned();
    }
    status.databases.iter().map(database).collect::<Vec<_>>().join("\n\n")
}

fn database(d: &DatabaseStatus) -> String {
    let mut out = format!("{}: {}", untrusted::escape(&d.path), say(database_state(&d.state)));
    let mut facts = Vec::new();
    facts.extend(d.size.map(|n| format!("{n} bytes")));
    facts.extend(d.wal_size.map(|n| format!("WAL {n} bytes")));
    facts
        .extend(d.position.as_ref().map(|p| format!("captured up to frame {} ({})", p.frame, say(&p.salts))));
    facts.extend(d.commits.map(|n| count(n, "commit")));
    if !facts.is_empty() {
        let _ = write!(out, "\n  {}", facts.join(", "));
    }
    if let Some(error) = &d.error {
        let _ = write!(out, "\n  last error {}: {}", say(&error.time), say(&error.message));
    }
    if let Some(damage) = &d.wal_damage {
        let _ = write!(
            out,
            "\n  the WAL has frames that can't be proven since {}: {}; a checkpoint moves them to the database file",
            damage.time, damage.message
        );
    }
    if let Some(f) = &d.follows {
        follower(&mut out, f);
    }
    for r in &d.replicas {
        replica(&mut out, r);
    }
    out
}

fn follower(out: &mut String, f: &FollowState) {
    let state = match f.state.as_str() {
        "restoring" => "restoring it",
        "failing" => "cannot follow it; retrying",
        "not running" => "no lsfast follows it",
        other => other,
    };
    let _ = match &f.url {
        Some(url) => write!(out, "\n  {}: {}", say(url), say(state)),
        None => write!(out, "\n  {}", say(state)),
    };
    if let Some(txid) = &f.txid {
        let time = f.time.as_ref().map_or_else(String::new, |t| format!(" of {}", say(t)));
        let _ = write!(out, "\n    applied: TXID {}{time}", say(txid));
    }
    if let Some(lag) = f.lag_seconds {
        let _ = write!(
            out,
            "\n    up to date {lag:.1} s ago, {} in {}, {}",
            count(f.files, "file"),
            count(f.transactions, "transaction"),
            count(f.images, "whole image")
        );
    }
    if let Some(error) = &f.error {
        let _ = write!(out, "\n    last error {}: {}", say(&error.time), say(&error.message));
    }
}

fn database_state(state: &str) -> &str {
    match state {
        "waiting" => "waiting for the database",
        "failed" => "not replicated",
        "not running" => "no lsfast replicates it",
        "not answering" => "the lsfast that replicates it does not answer",
        other => other,
    }
}

fn replica(out: &mut String, r: &ReplicaStatus) {
    let url = r.url.as_deref().unwrap_or("a replica whose URL is not known");
    let since = r.since.as_ref().map_or_else(String::new, |s| format!(" since {}", say(s)));
    let state = match r.state.as_str() {
        "away" => "uploads failing",
        "starting" => "asking the store what it has",
        "comparing" => "comparing pages",
        other => other,
    };
    let _ = write!(out, "\n  {}: {}{since}", say(url), say(state));
    match &r.durable {
        Some(d) => {
            let _ = write!(
                out,
                "\n    stored: TXID {} of {}, frame {}",
                say(&d.txid),
                say(&d.time),
                d.position.frame
            );
        }
        None => out.push_str("\n    stored: nothing yet, as far as is known here"),
    }
    match &r.lag {
        Some(l) if l.commits == 0 && l.bytes == 0 => out.push_str("\n    in sync"),
        Some(l) => {
            let _ = write!(
                out,
                "\n    behind by {}, {}, {:.1} s",
                count(l.commits, "commit"),
                count(l.bytes, "byte"),
                l.seconds
            );
        }
        None => {}
    }
    if let Some(l) = &r.latency {
        let _ = write!(
            out,
            "\n    {}, {} bytes, {:.1} ms on average from commit to store",
            if r.batches == 1 { "1 batch".to_owned() } else { format!("{} batches", r.batches) },
            r.batch_bytes,
            l.mean_ms
        );
    }
    if let Some(h) = &r.history {
        if let (Some(txid), Some(time)) = (&h.snapshot_txid, &h.snapshot_time) {
            let next =
                h.next_snapshot.as_ref().map_or_else(String::new, |n| format!(", next due {}", say(n)));
            let _ = write!(out, "\n    newest full image: TXID {} of {}{next}", say(txid), say(time));
        }
        if let Some(error) = &h.error {
            let _ = write!(out, "\n    history: {}", say(error));
        }
    }
    if let Some(v) = &r.verification {
        verification(out, v);
    }
    if let Some(error) = &r.error {
        let _ = write!(out, "\n    last error {}: {}", say(&error.time), say(&error.message));
    }
}

fn verification(out: &mut String, v: &VerificationState) {
    let next =
        v.next.as_ref().map_or_else(|| ", under way now".to_owned(), |n| format!(", next due {}", say(n)));
    let _ = match (&v.last, &v.fault) {
        (None, _) => write!(out, "\n    never verified yet{next}"),
        (Some(last), None) => write!(out, "\n    verified {}: sound{next}", say(last)),
        (Some(last), Some(fault)) => {
            write!(out, "\n    NOT SOUND, verified {}: {}{next}", say(last), say(fault))
        }
    };
    if let (Some(sound), Some(_)) = (&v.sound, &v.fault) {
        let _ = write!(out, "\n    last sound {}", say(sound));
    }
    if let Some(error) = &v.error {
        let _ = write!(out, "\n    cannot be verified: {}", say(error));
    }
}
