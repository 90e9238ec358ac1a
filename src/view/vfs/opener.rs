//! Finds the replica that a name or a URI means.

use std::collections::HashMap;
use std::ffi::CStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::{Connection, OpenFlags};

use super::face::{DatabaseFile, Failed, Opener};
use super::file::{self, LastError, StateFile};
use super::sys::{self, Api};
use crate::config::{Env, Location, Overrides};
use crate::store::credentials::Sources;
use crate::store::{self, ClientOptions};
use crate::view::replica::WeakReplica;
use crate::view::{At, Replica, ViewError};

/// The name of the file system.
pub(super) const NAME: &CStr = c"lsfast";

/// States of this program that SQLite can open, by the names of their files.
static MOUNTED: Mutex<Option<HashMap<String, Mounted>>> = Mutex::new(None);

/// Replicas that connections of this process share, by what was said about them.
static SHARED: Mutex<Option<HashMap<String, WeakReplica>>> = Mutex::new(None);

#[derive(Debug, Clone)]
struct Mounted {
    replica: Replica,
    at: At,
    error: LastError,
}

fn map<T>(of: &'static Mutex<Option<HashMap<String, T>>>) -> MutexGuard<'static, Option<HashMap<String, T>>> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers the file system with the SQLite in this program, once.
///
/// # Errors
/// [`ViewError::Register`].
fn register_linked() -> Result<(), ViewError> {
    static DONE: OnceLock<i32> = OnceLock::new();
    let code = *DONE.get_or_init(|| sys::register(Api::linked(), NAME, Box::new(States)).err().unwrap_or(0));
    if code == 0 { Ok(()) } else { Err(ViewError::Register(code)) }
}

/// A state that connections of this program can open until it is dropped.
#[derive(Debug)]
pub struct Mount {
    name: String,
    error: LastError,
}

impl Mount {
    /// Makes a state available.
    ///
    /// # Errors
    /// [`ViewError::Register`].
    pub fn new(replica: &Replica, at: At) -> Result<Mount, ViewError> {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        register_linked()?;
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (name, error) = (format!("mounted-{number}"), LastError::default());
        let mounted = Mounted { replica: replica.clone(), at, error: Arc::clone(&error) };
        map(&MOUNTED).get_or_insert_default().insert(name.clone(), mounted);
        Ok(Mount { name, error })
    }

    /// Opens a connection that reads the state.
    ///
    /// # Errors
    /// SQLite's; [`Mount::error`] has the reason.
    pub fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags_and_vfs(&self.name, flags, NAME)
    }

    /// Takes the error behind the last I/O error of a connection.
    #[must_use]
    pub fn error(&self) -> Option<ViewError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        map(&MOUNTED).get_or_insert_default().remove(&self.name);
    }
}

/// Opens states by mounted names, or by the parameters of a URI.
#[derive(Debug)]
pub(super) struct States;

impl Opener for States {
    fn open(
        &self,
        name: &str,
        parameter: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Box<dyn DatabaseFile>, Failed> {
        let mounted = map(&MOUNTED).get_or_insert_default().get(name).cloned();
        if let Some(Mounted { replica, at, error }) = mounted {
            let url = replica.store().url().to_owned();
            let connect = Box::new(move || Ok(replica.clone()));
            return Ok(Box::new(StateFile::new(connect, url, (at, false), error)));
        }
        // A plain name, as VACUUM INTO and ATTACH pass it, is no state.
        if parameter("vfs").is_none() && parameter("replica").is_none() {
            return Err(Failed);
        }
        let wanted = Wanted::new(parameter);
        let (url, follows) = (wanted.url.clone().unwrap_or_default(), wanted.follows);
        let (at, problem) = match wanted.at.clone() {
            Ok(at) => (at, None),
            Err(e) => (At::Newest, Some(e)),
        };
        let connect = Box::new(move || match &problem {
            Some(e) => Err(ViewError::Parameter(e.clone())),
            None => wanted.replica(),
        });
        Ok(Box::new(StateFile::new(connect, url, (at, follows), LastError::default())))
    }
}

/// What the parameters of a URI say.
#[derive(Debug)]
struct Wanted {
    url: Option<String>,
    at: Result<At, String>,
    follows: bool,
    cache: Option<String>,
    flags: Overrides,
}

impl Wanted {
    fn new(parameter: &dyn Fn(&str) -> Option<String>) -> Wanted {
        let at = match (parameter("timestamp"), parameter("txid")) {
            (Some(_), Some(_)) => Err("timestamp= and txid= exclude each other".to_owned()),
            (Some(time), None) => file::time(&time),
            (None, Some(txid)) => file::txid(&txid),
            (None, None) => Ok(At::Newest),
        };
        let follow = parameter("follow");
        let follows = matches!(follow.as_deref(), Some("1" | "true" | "yes" | "on"));
        let at = match (&follow, at) {
            (Some(_), Ok(at)) if follows && at != At::Newest => {
                Err("follow=1 needs the newest state: leave timestamp= and txid= out".to_owned())
            }
            (Some(value), Ok(_)) if !follows && !matches!(value.as_str(), "0" | "false" | "no" | "off") => {
                Err(format!("follow={value} is not known: write follow=1"))
            }
            (_, at) => at,
        };
        let flags = Overrides {
            endpoint: parameter("endpoint"),
            region: parameter("region"),
            ..Overrides::default()
        };
        Wanted { url: parameter("replica"), at, follows, cache: parameter("cache"), flags }
    }

    /// The replica, shared with other connections of this process that say the same.
    fn replica(&self) -> Result<Replica, ViewError> {
        let Some(url) = &self.url else {
            return Err(ViewError::Parameter(
                "the URI does not say which replica: write file:NAME?vfs=lsfast&replica=URL".to_owned(),
            ));
        };
        // A child of a fork has none of the threads of its parent.
        let Overrides { endpoint, region, .. } = &self.flags;
        let key = format!("{} {url} {endpoint:?} {region:?} {:?}", std::process::id(), self.cache);
        let mut shared = map(&SHARED);
        let shared = shared.get_or_insert_default();
        if let Some(replica) = shared.get(&key).and_then(WeakReplica::upgrade) {
            return Ok(replica);
        }
        let replica = connect(url, &self.flags, self.cache.as_deref())?;
        shared.retain(|_, replica| replica.upgrade().is_some());
        shared.insert(key, replica.downgrade());
        Ok(replica)
    }
}

/// Opens the store that a URL means, with what the environment says.
fn connect(url: &str, flags: &Overrides, cache: Option<&str>) -> Result<Replica, ViewError> {
    let vars = std::env::vars_os();
    let mut env = Env::new(
        vars.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    );
    if let Ok(directory) = std::env::current_dir() {
        env = env.in_directory(directory);
    }
    let wrong = |e: &dyn std::error::Error| ViewError::Parameter(e.to_string());
    let mut location = Location::resolve(url, flags, &env).map_err(|e| wrong(&e))?;
    let client = ClientOptions::default();
    Sources::new(env, &client.answers).complete(&mut location).map_err(|e| wrong(&e))?;
    let store = store::open(&location, &client).map_err(crate::restore::RestoreError::from)?;
    Replica::keeping(store, cache.map(Path::new))
}
