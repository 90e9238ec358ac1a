//! The text of URLs: percent encoding, slashes, and the part that may be shown.

/// Cleans a path as Litestream does for URLs: no empty, `.` or `..` parts, no slash at the end.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Schemes of SQLite connection strings, as in DATABASE_URL.
const DATABASE_SCHEMES: [&str; 2] = ["sqlite", "sqlite3"];

/// The path in a connection string of SQLite, without its parameters: `sqlite:///PATH` or
/// `sqlite:PATH`, also with `sqlite3`. `None` for anything else. As in Litestream, the path begins
/// after the second slash, so three slashes make it absolute.
#[must_use]
pub fn connection_path(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    if !DATABASE_SCHEMES.contains(&scheme) {
        return None;
    }
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let path = rest.split(['?', '#']).next().unwrap_or(rest);
    // Some libraries require four slashes.
    Some(if path.starts_with("//") { &path[1..] } else { path })
}

/// The path of a database, given as it is or in a connection string. Where a replica cannot be
/// meant, a `file:` URI is accepted too: SQLite's own form, in which `%41` is `A`.
#[must_use]
pub fn database_path(text: &str) -> Option<String> {
    if let Some(path) = connection_path(text) {
        return Some(path.to_owned());
    }
    let rest = text.strip_prefix("file:")?;
    let rest = match rest.strip_prefix("//") {
        // The host: empty, or this machine.
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    decode(rest.split(['?', '#']).next().unwrap_or(rest))
}

/// Decodes percent encoding (`%41`). `None` for a percent sign without two hex digits, or bytes
/// that are not UTF-8.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push((high * 16 + low) as u8);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

/// Whether a user name or a password is before the host. A secret may contain slashes and question
/// marks, so it does not always end where a host would.
pub(super) fn has_user_info(rest: &str) -> bool {
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    if authority.contains('@') {
        return true;
    }
    let Some((name, port)) = authority.split_once(':') else { return false };
    let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let is_key = name.len() >= 3 && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    rest.contains('@') && !authority.starts_with(['[']) && name != "arn" && (!is_port || is_key)
}

/// The URL for messages, without user name, password, parameters and fragment (I7).
#[must_use]
pub fn shown(url: &str) -> String {
    let place = |text: &str| text.split(['?', '#']).next().unwrap_or(text).to_owned();
    let Some((scheme, rest)) = url.split_once("://") else {
        // This is not a URL, so it may be anything, even a secret.
        return if url.contains('@') { "...@...".to_owned() } else { place(url) };
    };
    if has_user_info(rest) {
        return format!("{scheme}://{}", place(rest.rsplit('@').next().unwrap_or(rest)));
    }
    format!("{scheme}://{}", place(rest))
}
