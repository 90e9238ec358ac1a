//! A store in memory that counts requests, fails from a chosen change on, and passes every state
//! that a reader could see to an inspector.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::base::clock::Millis;
use crate::base::{Level, LtxId};
use crate::ltx::TimesId;
use crate::store::{
    BoxFuture, Entry, ErrorKind, Listed, Listing, Part, PutOptions, Result, Scope, SideEntry, SideId, Store,
    StoreError, Upload,
};

/// Numbers of requests so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub lists: u32,
    pub gets: u32,
    pub puts: u32,
    pub copies: u32,
    pub deletes: u32,
    /// Bytes stored by PUTs.
    pub put_bytes: u64,
}

/// Looks at every state that a reader could see.
type Inspector = Box<dyn Fn(&[Entry]) + Send>;

/// What another program does to the replica between two requests.
type Meanwhile = Box<dyn FnOnce(&MemoryStore) + Send>;

#[derive(Default)]
struct State {
    files: BTreeMap<LtxId, (Bytes, Millis)>,
    times: BTreeMap<TimesId, Bytes>,
    counts: Counts,
    largest_get: u64,
    /// After this many more changes everything fails. `true`: the change that fails is made all the
    /// same.
    fuse: Option<(u32, bool)>,
    refuse_deletes: bool,
    inspector: Option<Inspector>,
    /// Files that one listing shows, if that is bounded.
    page: Option<usize>,
    /// Run after this many further GETs.
    meanwhile: Option<(u32, Meanwhile)>,
}

/// The store.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

fn dead() -> StoreError {
    StoreError::new(ErrorKind::Transient, "the process is dead")
}

impl State {
    fn entries(&self) -> Vec<Entry> {
        let entry = |(id, (bytes, created)): (&LtxId, &(Bytes, Millis))| Entry {
            id: *id,
            size: bytes.len() as u64,
            modified: *created,
        };
        self.files.iter().map(entry).collect()
    }

    fn alive(&self) -> Result<()> {
        if matches!(self.fuse, Some((0, _))) { Err(dead()) } else { Ok(()) }
    }

    /// Makes one change that a reader can see.
    fn change(&mut self, what: impl FnOnce(&mut State)) -> Result<()> {
        self.alive()?;
        let mut dies = None;
        if let Some((left, done)) = &mut self.fuse {
            *left -= 1;
            if *left == 0 {
                dies = Some(*done);
            }
        }
        if dies != Some(false) {
            what(self);
            if let Some(inspect) = &self.inspector {
                inspect(&self.entries());
            }
        }
        if dies.is_some() { Err(dead()) } else { Ok(()) }
    }
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Bytes of the longest range that was requested.
    pub fn largest_get(&self) -> u64 {
        self.lock().largest_get
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries()
    }

    pub fn file(&self, id: LtxId) -> Bytes {
        self.lock().files[&id].0.clone()
    }

    /// Changes one byte in the middle of a file.
    pub fn spoil(&self, id: LtxId) {
        let mut state = self.lock();
        let (bytes, _) = state.files.get_mut(&id).expect("a file");
        let mut wrong = bytes.to_vec();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 0x10;
        *bytes = wrong.into();
    }

    pub fn times(&self) -> Vec<(TimesId, Bytes)> {
        self.lock().times.iter().map(|(id, bytes)| (*id, bytes.clone())).collect()
    }

    pub fn level(&self, level: u32) -> Vec<(u64, u64)> {
        let level = Level::new(level).unwrap();
        let entries = self.entries();
        entries.iter().filter(|e| e.id.level == level).map(|e| (e.id.min.0, e.id.max.0)).collect()
    }

    /// Fails from this change on; `done`: the failing change itself is made.
    pub fn die_at(&self, change: u32, done: bool) {
        self.lock().fuse = Some((change, done));
    }

    pub fn is_dead(&self) -> bool {
        matches!(self.lock().fuse, Some((0, _)))
    }

    pub fn revive(&self) {
        self.lock().fuse = None;
    }

    /// From now on a request lists this many files.
    pub fn paged(&self, page: usize) {
        self.lock().page = Some(page);
    }

    pub fn refuse_deletes(&self) {
        self.lock().refuse_deletes = true;
    }

    pub fn inspect(&self, inspector: Inspector) {
        self.lock().inspector = Some(inspector);
    }

    /// Removes a file, as another program would.
    pub fn remove(&self, id: LtxId) {
        self.lock().files.remove(&id);
    }

    /// Replaces a file, as another program would.
    pub fn replace(&self, id: LtxId, bytes: Bytes, modified: Millis) {
        self.lock().files.insert(id, (bytes, modified));
    }

    /// Calls `what` once, after `gets` further GETs.
    pub fn after_gets(&self, gets: u32, what: Meanwhile) {
        self.lock().meanwhile = Some((gets, what));
    }

    fn count_get(&self) {
        let mut state = self.lock();
        let due = match &mut state.meanwhile {
            Some((gets, _)) if *gets > 0 => {
                *gets -= 1;
                return;
            }
            _ => state.meanwhile.take(),
        };
        drop(state);
        if let Some((_, what)) = due {
            what(self);
        }
    }
}

fn is_of(part: Part, id: LtxId) -> bool {
    match part {
        Part::Start => true,
        Part::Above(level) => id.level > level,
        Part::Stretch { level, from, to, .. } => id.level == level && (from..=to).contains(&id.min),
    }
}

fn now<'a, T: Send + 'a>(result: Result<T>) -> BoxFuture<'a, Result<T>> {
    Box::pin(std::future::ready(result))
}

impl Store for MemoryStore {
    fn url(&self) -> &str {
        "memory:"
    }

    fn identity(&self) -> String {
        "memory".to_owned()
    }

    fn list(&self, _scope: Scope) -> BoxFuture<'_, Result<Vec<Entry>>> {
        let mut state = self.lock();
        state.counts.lists += 1;
        now(state.alive().map(|()| state.entries()))
    }

    fn list_all(&self) -> BoxFuture<'_, Result<Listing>> {
        let mut state = self.lock();
        state.counts.lists += 1;
        let side = |(id, bytes): (&TimesId, &Bytes)| SideEntry {
            id: SideId::Times(*id),
            size: bytes.len() as u64,
            modified: Millis(0),
        };
        let sides = state.times.iter().map(side).collect();
        now(state.alive().map(|()| Listing { files: state.entries(), sides }))
    }

    fn list_part(&self, part: Part) -> BoxFuture<'_, Result<Option<Listed>>> {
        let Some(page) = self.lock().page else {
            return Box::pin(async move {
                let mut listing = self.list_all().await?;
                listing.files.retain(|e| is_of(part, e.id));
                Ok(Some(Listed { listing, more: false }))
            });
        };
        Box::pin(async move {
            let mut listing = self.list_all().await?;
            listing.files.retain(|e| is_of(part, e.id));
            let once = matches!(part, Part::Start | Part::Stretch { once: true, .. });
            let more = once && listing.files.len() > page;
            if more {
                listing.files.truncate(page);
                listing.sides.clear();
            }
            Ok(Some(Listed { listing, more }))
        })
    }

    fn put<'a>(&'a self, id: LtxId, body: Vec<Bytes>, options: PutOptions) -> BoxFuture<'a, Result<()>> {
        let mut state = self.lock();
        let bytes = Bytes::from(body.concat());
        state.counts.puts += 1;
        state.counts.put_bytes += bytes.len() as u64;
        now(state.change(|s| drop(s.files.insert(id, (bytes, options.created)))))
    }

    fn upload<'a>(
        &'a self,
        id: LtxId,
        size_max: u64,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        now(Ok(Box::new(Sending { store: self.clone(), id, size_max, options, bytes: Vec::new() })))
    }

    fn get<'a>(&'a self, id: LtxId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        self.count_get();
        let mut state = self.lock();
        state.counts.gets += 1;
        state.largest_get = state.largest_get.max(range.end - range.start);
        if let Err(e) = state.alive() {
            return now(Err(e));
        }
        let missing = || StoreError::new(ErrorKind::NotFound, format!("there is no {id}"));
        now(state.files.get(&id).ok_or_else(missing).map(|(bytes, _)| {
            let end = usize::try_from(range.end).unwrap().min(bytes.len());
            bytes.slice(usize::try_from(range.start).unwrap().min(end)..end)
        }))
    }

    fn head<'a>(&'a self, id: LtxId) -> BoxFuture<'a, Result<Option<Entry>>> {
        now(Ok(self.entries().into_iter().find(|e| e.id == id)))
    }

    fn delete<'a>(&'a self, ids: &'a [LtxId]) -> BoxFuture<'a, Result<()>> {
        let mut state = self.lock();
        state.counts.deletes += 1;
        if state.refuse_deletes {
            return now(Err(StoreError::new(ErrorKind::Credentials, "AccessDenied")));
        }
        // One by one: a reader may look in between, and each may be the last.
        now(ids.iter().try_for_each(|id| state.change(|s| drop(s.files.remove(id)))))
    }

    fn copy<'a>(&'a self, from: LtxId, to: LtxId, options: PutOptions) -> BoxFuture<'a, Result<()>> {
        let mut state = self.lock();
        state.counts.copies += 1;
        let Some((bytes, _)) = state.files.get(&from).cloned() else {
            return now(Err(StoreError::new(ErrorKind::NotFound, format!("there is no {from} to copy"))));
        };
        now(state.change(|s| drop(s.files.insert(to, (bytes, options.created)))))
    }

    fn prewarm(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn put_times<'a>(&'a self, id: TimesId, body: Bytes) -> BoxFuture<'a, Result<()>> {
        let mut state = self.lock();
        state.counts.puts += 1;
        now(state.change(|s| drop(s.times.insert(id, body))))
    }

    fn delete_times<'a>(&'a self, ids: &'a [TimesId]) -> BoxFuture<'a, Result<()>> {
        let mut state = self.lock();
        state.counts.deletes += 1;
        now(ids.iter().try_for_each(|id| state.change(|s| drop(s.times.remove(id)))))
    }
}

struct Sending {
    store: MemoryStore,
    id: LtxId,
    size_max: u64,
    options: PutOptions,
    bytes: Vec<u8>,
}

impl Upload for Sending {
    fn hold_start(&mut self) {}

    fn replace_start<'a>(&'a mut self, start: Bytes) -> BoxFuture<'a, Result<()>> {
        self.bytes[..start.len()].copy_from_slice(&start);
        now(Ok(()))
    }

    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        self.bytes.extend_from_slice(&bytes);
        now(Ok(()))
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        let Sending { store, id, size_max, options, bytes } = *self;
        assert!(
            bytes.len() as u64 <= size_max,
            "{id} has {} bytes, and {size_max} were announced",
            bytes.len()
        );
        Box::pin(async move { store.put(id, vec![bytes.into()], options).await })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
