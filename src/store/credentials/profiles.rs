//! The shared AWS files: `~/.aws/config` and `~/.aws/credentials`.
//!
//! Sections are `[default]`, `[profile NAME]` (in the credentials file `[NAME]`) and `[sso-session
//! NAME]`, with lines `key = value`. `#` and `;` begin a comment, at the start of a line or after
//! white space. Lines that begin with white space belong to the value above (nested settings, which
//! are not needed here). The credentials file takes precedence over the config file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::http::{failed, for_now};
use crate::base::limits;
use crate::config::{CredentialError, Env};
use crate::io::read_small;

/// The settings of one profile or session. It has no `Debug`, because some are secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Section(BTreeMap<String, String>);

impl Section {
    /// The value of a setting, if it is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }
}

/// The profiles and sessions of both files.
#[derive(Default)]
pub(super) struct Profiles {
    profiles: BTreeMap<String, Section>,
    sessions: BTreeMap<String, Section>,
    /// Paths of the files that exist.
    pub(super) read: Vec<PathBuf>,
}

/// Paths of the files, and the selected profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) config: Option<PathBuf>,
    pub(super) credentials: Option<PathBuf>,
    pub(super) sso_cache: Option<PathBuf>,
    pub(super) profile: String,
    /// The variable that selected the profile.
    pub(super) named_by: Option<&'static str>,
}

impl Files {
    pub(super) fn of(env: &Env) -> Files {
        let home = env.get("HOME").map(PathBuf::from);
        let file = |variable: &str, name: &str| match env.get(variable) {
            Some(path) => Some(expand(path, home.as_deref())),
            None => home.as_ref().map(|h| h.join(".aws").join(name)),
        };
        let named = env.first(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]);
        Files {
            config: file("AWS_CONFIG_FILE", "config"),
            credentials: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            sso_cache: home.as_ref().map(|h| h.join(".aws/sso/cache")),
            profile: named.map_or("default", |(_, name)| name).to_owned(),
            named_by: named.map(|(variable, _)| variable),
        }
    }

    /// The paths, in the order of precedence.
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.credentials.iter().chain(&self.config)
    }

    /// The paths, for messages.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self.paths().map(|p| p.display().to_string()).collect();
        if names.is_empty() { "no file (HOME is not set)".into() } else { names.join(" and ") }
    }

    /// Reads both files; a missing file counts as empty.
    pub(super) fn read(&self) -> Result<Profiles, CredentialError> {
        let mut profiles = Profiles::default();
        for (path, is_config) in [(&self.config, true), (&self.credentials, false)] {
            let Some(path) = path else { continue };
            let bytes = match read_small(path, limits::PROFILE_BYTES) {
                Ok(bytes) => bytes,
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(e) => return Err(for_now(format!("{} cannot be read: {e}", path.display()))),
            };
            let text =
                String::from_utf8(bytes).map_err(|_| failed(format!("{} is not UTF-8", path.display())))?;
            profiles
                .add(&text, is_config)
                .map_err(|(line, why)| failed(format!("{}, line {line}: {why}", path.display())))?;
            profiles.read.push(path.clone());
        }
        Ok(profiles)
    }
}

fn expand(path: &str, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

/// The section of a line.
enum At {
    Nowhere,
    /// A section that is not used here.
    Other,
    Profile(String),
    Session(String),
}

impl Profiles {
    /// A profile by name.
    pub(super) fn profile(&self, name: &str) -> Option<&Section> {
        self.profiles.get(name)
    }

    /// An `sso-session` by name.
    pub(super) fn session(&self, name: &str) -> Option<&Section> {
        self.sessions.get(name)
    }

    /// The names of all profiles, for messages.
    pub(super) fn names(&self) -> String {
        match self.profiles.len() {
            0 => "none".into(),
            _ => self.profiles.keys().map(String::as_str).take(20).collect::<Vec<_>>().join(", "),
        }
    }

    /// Adds the lines of a file, which take precedence over the existing ones. Errors never contain
    /// values (I7).
    pub(super) fn add(&mut self, text: &str, is_config: bool) -> Result<(), (usize, &'static str)> {
        let mut at = At::Nowhere;
        for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let bare = line.trim();
            if bare.is_empty() || bare.starts_with(['#', ';']) || line.starts_with([' ', '\t']) {
                continue;
            }
            if let Some(rest) = bare.strip_prefix('[') {
                let (name, _) = rest.split_once(']').ok_or((number, "a section ends with \"]\""))?;
                at = section(name, is_config);
                match &at {
                    At::Profile(name) => _ = self.profiles.entry(name.clone()).or_default(),
                    At::Session(name) => _ = self.sessions.entry(name.clone()).or_default(),
                    At::Nowhere | At::Other => {}
                }
                continue;
            }
            let (name, value) = bare.split_once('=').ok_or((number, "a line is \"name = value\""))?;
            let section = match &at {
                At::Nowhere => return Err((number, "a section such as [default] must come first")),
                At::Other => continue,
                At::Profile(name) => self.profiles.entry(name.clone()).or_default(),
                At::Session(name) => self.sessions.entry(name.clone()).or_default(),
            };
            section.0.insert(name.trim().to_ascii_lowercase(), without_comment(value.trim()).to_owned());
        }
        Ok(())
    }
}

fn section(name: &str, is_config: bool) -> At {
    let name = name.trim();
    let unquoted = |n: &str| n.trim().trim_matches(['"', '\'']).to_owned();
    match name.split_once([' ', '\t']) {
        Some(("profile", rest)) => At::Profile(unquoted(rest)),
        Some(("sso-session", rest)) if is_config => At::Session(unquoted(rest)),
        _ if !is_config || name == "default" => At::Profile(name.to_owned()),
        _ => At::Other,
    }
}

/// Removes a comment, which begins with `#` or `;` after white space.
fn without_comment(value: &str) -> &str {
    let end = value.match_indices(['#', ';']).find(|(at, _)| value[..*at].ends_with([' ', '\t']));
    end.map_or(value, |(at, _)| value[..at].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "\
# comment
[default]
region = eu-central-1
s3 =
    max_concurrent_requests = 20
output=json ; comment
[profile  \"two words\" ]
Role_Arn = arn:aws:iam::1:role/x#y
[sso-session corp]
sso_region = us-east-1
[services mine]
s3 =
  endpoint_url = http://localhost
[profile both]
aws_access_key_id = from-config
region = a
";

    #[test]
    fn two_files() {
        let mut p = Profiles::default();
        p.add(CONFIG, true).unwrap();
        p.add("[both]\naws_access_key_id=from-credentials\n[sso-session corp]\nx=y", false).unwrap();
        let get = |profile: &str, name: &str| p.profile(profile).unwrap().get(name).map(str::to_owned);
        assert_eq!(get("default", "region").as_deref(), Some("eu-central-1"));
        assert_eq!(get("default", "output").as_deref(), Some("json"));
        assert_eq!(get("default", "s3"), None);
        assert_eq!(get("two words", "role_arn").as_deref(), Some("arn:aws:iam::1:role/x#y"));
        assert_eq!(get("both", "aws_access_key_id").as_deref(), Some("from-credentials"));
        assert_eq!(get("both", "region").as_deref(), Some("a"));
        assert_eq!(p.session("corp").unwrap().get("sso_region"), Some("us-east-1"));
        assert!(p.profile("services mine").is_none() && p.profile("mine").is_none());
    }

    #[test]
    fn broken_files_are_named_by_line_and_repeat_nothing() {
        for (text, line) in [("[default", 1), ("\nx = y", 2), ("[default]\nhush", 2)] {
            assert_eq!(Profiles::default().add(text, true).unwrap_err().0, line, "{text:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        std::fs::write(&path, "[default]\nhush-hush\n").unwrap();
        let env = Env::new([("AWS_SHARED_CREDENTIALS_FILE", path.to_str().unwrap())]);
        let e = Files::of(&env).read().err().unwrap().to_string();
        assert_eq!(e, format!("{}, line 2: a line is \"name = value\"", path.display()));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([\\[\\]=#; \t\na-z]|profile|sso-session)*", is_config: bool) {
            let _ = Profiles::default().add(&text, is_config);
        }
    }

    #[test]
    fn where_the_files_are() {
        let files = Files::of(&Env::new([("HOME", "/h"), ("AWS_CONFIG_FILE", "~/c"), ("AWS_PROFILE", "p")]));
        assert_eq!(files.names(), "/h/.aws/credentials and /h/c");
        assert_eq!((files.profile.as_str(), files.named_by), ("p", Some("AWS_PROFILE")));
        assert_eq!(Files::of(&Env::default()).names(), "no file (HOME is not set)");
        assert!(Files::of(&Env::default()).read().unwrap().read.is_empty());
    }
}
