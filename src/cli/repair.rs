//! `lsfast repair DB|URL`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::global::Global;
use super::setup::{Setup, Target};
use super::{replicate, report, runtime};
use crate::base::clock::Millis;
use crate::base::{Level, LtxId, Txid};
use crate::io::keep_heap;
use crate::replicate::state::{Home, home_of};
use crate::replicate::{DatabaseOptions, history};
use crate::restore::damage::Damaged;
use crate::restore::{self, Object, RestoreError, VerifyOptions, VerifyReport, object_name};
use crate::store::{Entry, Store};

/// Exit code if some states are lost for good, or something could not be repaired, but the newest
/// state can be restored.
const LOST: u8 = 3;

/// Exit code if the newest state cannot be restored.
const NEWEST_LOST: u8 = 4;

/// Write damaged or missing files of a replica again, and report what is lost for good.
///
/// Reads the replica end to end, as `lsfast verify` does. A damaged file is written again where
/// other files have its content. Where they do not and the newest state needs it, the database is
/// brought up to date there with a full image. Files that are empty or too short to be valid are
/// then removed if nothing needs them, since Litestream's plans fail on them. Every other damaged
/// file is kept: some of its pages may still be read.
///
/// The database is followed for a moment, as by `lsfast replicate --once`, so this is refused while
/// a running lsfast follows it: it does the same by itself when it finds a damaged file.
/// Without the database only other files of the replica help; files are written as they were, so a
/// program that replicates there meanwhile is not disturbed.
///
/// Exit codes: 0 nothing is wrong, or all is repaired; 1 an error; 2 usage; 3 some states are lost
/// for good, or something could not be repaired, and the newest state can be restored; 4 the newest
/// state cannot be restored. With --dry-run they describe the replica as it is.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// A database by its path, or a replica: s3://BUCKET/PREFIX or file:///DIR
    #[arg(value_name = "DB|URL")]
    pub what: String,
    /// The database that the replica at URL belongs to
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object for each replica instead of text
    #[arg(long)]
    pub json: bool,
}

/// Runs `lsfast repair`.
pub(super) fn run(global: &Global, setup: &mut Setup, args: &RepairArgs) -> anyhow::Result<ExitCode> {
    let (stores, database, lock) = targets(setup, args)?;
    keep_heap();
    let event_loop = runtime::event_loop()?;
    let _lock = lock.filter(|_| !args.dry_run).map(|(db, home)| Home::take(&db, home)).transpose()?;
    let mut found = Vec::new();
    for store in stores {
        found.push(event_loop.block_on(Found::look(store))?);
    }
    if !args.dry_run {
        for replica in &mut found {
            event_loop.block_on(replica.mend())?;
        }
        if let Some(database) = database.as_ref().filter(|_| found.iter().any(Found::wants_image)) {
            // If another process replicates the database, this fails here instead of waiting.
            let home = database.home.clone().unwrap_or_else(|| home_of(&database.path));
            drop(Home::take(&database.path, home)?);
            update(global, database, &mut found)?;
        }
        for replica in &mut found {
            event_loop.block_on(replica.finish())?;
        }
    }
    let mut code = 0;
    for replica in &found {
        let with = database.as_ref().map(|d| d.path.as_path());
        report::print_line(&if args.json {
            replica.to_json(args.dry_run, with)
        } else {
            replica.to_text(args.dry_run, with)
        })?;
        code = code.max(replica.code());
    }
    Ok(ExitCode::from(code))
}

/// The replicas, the database if it exists, and the lock to take if it does not.
type Targets = (Vec<Arc<dyn Store>>, Option<DatabaseOptions>, Option<(PathBuf, PathBuf)>);

fn targets(setup: &mut Setup, args: &RepairArgs) -> anyhow::Result<Targets> {
    let is_url = args.what.contains("://");
    if !is_url && args.db.is_some() {
        anyhow::bail!(
            "--db names the database of a replica that is given by its URL; {} is a database itself",
            args.what
        );
    }
    let (db, urls) = match setup.target(&args.what, "repair")? {
        Target::Replica(location) if is_url => {
            (args.db.as_ref().map(|db| setup.env().absolute(db)), vec![location.url.clone()])
        }
        Target::Replica(location) => {
            (Some(setup.env().absolute(Path::new(&args.what))), vec![location.url.clone()])
        }
        Target::Database(database) => (Some(database.path.value.clone()), Vec::new()),
    };
    let urls = if is_url { vec![args.what.clone()] } else { urls };
    let Some(db) = db else {
        let Target::Replica(location) = setup.target(&args.what, "repair")? else {
            anyhow::bail!("{} is not the URL of a replica", args.what);
        };
        return Ok((vec![setup.open(&location)?], None, None));
    };
    if args.db.is_some() && !db.is_file() {
        anyhow::bail!("there is no database {}", db.display());
    }
    let databases = replicate::database(setup, &db, urls)?;
    let database =
        databases.into_iter().next().with_context(|| format!("{} has no replica", db.display()))?;
    let stores = database.replicas.iter().map(|r| Arc::clone(&r.store)).collect();
    if db.is_file() {
        return Ok((stores, Some(database), None));
    }
    let home = database.home.clone().unwrap_or_else(|| home_of(&db));
    Ok((stores, None, home.is_dir().then_some((db, home))))
}

/// Updates the replicas that need it to the current state of the database, with a full image.
fn update(global: &Global, database: &DatabaseOptions, found: &mut [Found]) -> anyhow::Result<()> {
    let mut database = database.clone();
    let wanting = |identity: &str| found.iter().find(|f| f.store.identity() == identity && f.wants_image());
    database.replicas.retain_mut(|replica| match wanting(&replica.store.identity()) {
        Some(found) => {
            replica.history.damaged = found.damaged.clone();
            // No file is known to be damaged where they only do not fit together.
            replica.history.wants_image = found.before.wants_image;
            replica.verification = None;
            true
        }
        None => false,
    });
    replicate::once(global, vec![database])
}

/// One replica, with what was found and what was repaired.
struct Found {
    store: Arc<dyn Store>,
    before: VerifyReport,
    /// The files before the repair.
    files: Vec<Entry>,
    /// The files that are still damaged.
    damaged: Damaged,
    mendable: Vec<LtxId>,
    mended: Vec<LtxId>,
    removed: Vec<LtxId>,
    /// Damaged files that stay in the replica.
    kept: Vec<LtxId>,
    /// Lost states, as first and last TXID of each range.
    lost: Vec<(Txid, Txid)>,
    /// Images that the repair stored.
    images: Vec<LtxId>,
    /// Why the newest state cannot be restored.
    newest_lost: Option<String>,
    newest: Option<Txid>,
    /// What a verification after the repair still finds, without the files in `kept`.
    left: Vec<String>,
    /// Whether that verification finds anything, a file in `kept` included.
    is_left_unsound: bool,
}

impl Found {
    async fn look(store: Arc<dyn Store>) -> Result<Found, RestoreError> {
        let before = restore::verify_replica(&store, VerifyOptions::default()).await?;
        let files = store.list_all().await?.files;
        let mut damaged = Damaged::of_listing(&files);
        for damage in &before.damaged {
            if let Object::Ltx(id) = damage.object {
                damaged.add(id, damage.cause.clone());
            }
        }
        before.bases.iter().for_each(|id| _ = damaged.add_base(*id));
        let mendable = history::mendable(&files, &damaged);
        let lost = restore::lost_states(&files, &damaged, &before.refused);
        let (newest_lost, newest) = (before.newest_lost.clone(), before.newest.map(|n| n.txid));
        let (mended, removed, kept, images) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Found {
            store,
            before,
            files,
            damaged,
            mendable,
            mended,
            removed,
            kept,
            lost,
            images,
            newest_lost,
            newest,
            left: Vec::new(),
            is_left_unsound: false,
        })
    }

    /// Rewrites the damaged files whose content other files have.
    async fn mend(&mut self) -> anyhow::Result<()> {
        if self.damaged.is_empty() {
            return Ok(());
        }
        let listing = self.store.list_all().await?;
        let (store, damaged) = (Arc::clone(&self.store), self.damaged.clone());
        self.mended = history::mend(store, &listing, damaged, Millis::now()).await?;
        self.mended.iter().for_each(|id| self.damaged.remove(*id));
        self.lost = restore::lost_states(&self.files, &self.damaged, &self.before.refused);
        Ok(())
    }

    /// Whether only the database has what the replica lacks: its newest state, or its newest batch,
    /// from which other programs continue.
    fn wants_image(&self) -> bool {
        let newest = self.files.iter().map(|e| e.id).filter(|id| id.level == Level::RAW).max();
        let is_lost = self.damaged.plan(&self.files, restore::plan::Goal::Newest).is_err();
        let unfit = self.before.wants_image;
        is_lost || unfit || newest.is_some_and(|id| self.damaged.has(id)) || self.before.newest.is_none()
    }

    /// Deletes files that hold nothing and that no plan needs, then verifies the result.
    async fn finish(&mut self) -> anyhow::Result<()> {
        if self.is_sound() {
            return Ok(());
        }
        let files = self.store.list_all().await?.files;
        let had: Vec<LtxId> = self.files.iter().map(|e| e.id).collect();
        let images = files.iter().map(|e| e.id).filter(|id| id.level == Level::SNAPSHOT && !had.contains(id));
        self.images = images.collect();
        // Another process may have rewritten the file in between.
        let mut still: Vec<LtxId> = Vec::new();
        for entry in files.iter().filter(|e| self.damaged.has(e.id)) {
            match restore::prove_file(&self.store, *entry).await {
                Ok(()) => self.mended.push(entry.id),
                Err(_) => still.push(entry.id),
            }
        }
        self.mended.iter().for_each(|id| self.damaged.remove(*id));
        let whole = self.damaged.plan(&files, restore::plan::Goal::Newest).is_ok();
        let newest = files.iter().map(|e| e.id).filter(|id| id.level == Level::RAW).max();
        // The newest batch marks the position of the replica, even if it is damaged, so it stays. A
        // file with content is never deleted: its pages may be all that is left of a state.
        let empty = Damaged::of_listing(&files);
        let (removed, kept) =
            still.into_iter().partition(|id| whole && Some(*id) != newest && empty.has(*id));
        (self.removed, self.kept) = (removed, kept);
        self.store.delete(&self.removed).await?;
        let after = restore::verify_replica(&self.store, VerifyOptions::default()).await?;
        let said = |object: &Object| match object {
            Object::Ltx(id) => self.kept.contains(id),
            Object::Legacy(_) | Object::Times(_) => false,
        };
        let damaged = after.damaged.iter().filter(|d| !said(&d.object));
        self.left = damaged.map(|d| format!("{}: {}", object_name(&d.object), d.cause)).collect();
        self.is_left_unsound = after.health() != restore::Health::Sound;
        let lacks = |(level, from, to)| format!("level {level} lacks TXIDs {from} to {to}");
        self.left.extend(after.holes.iter().copied().map(lacks));
        let index = |id: &LtxId| format!("{}: its page index does not match", object_name(&Object::Ltx(*id)));
        self.left.extend(after.wrong_indexes.iter().map(index));
        self.left.extend(after.conflicts);
        self.lost = restore::lost_states(&files, &self.damaged, &after.refused);
        let still = |id: &LtxId| after.damaged.iter().any(|d| d.object == Object::Ltx(*id));
        self.mended.retain(|id| !still(id));
        (self.newest_lost, self.newest) = (after.newest_lost, after.newest.map(|n| n.txid));
        Ok(())
    }

    fn is_sound(&self) -> bool {
        self.before.health() == restore::Health::Sound
    }

    fn code(&self) -> u8 {
        match () {
            () if self.newest_lost.is_some() => NEWEST_LOST,
            // A sound replica has nothing to repair, even if states were lost earlier.
            () if self.is_sound() => 0,
            () if !self.lost.is_empty() || self.is_left_unsound => LOST,
            () => 0,
        }
    }

    fn to_text(&self, dry_run: bool, database: Option<&Path>) -> String {
        let url = self.store.url();
        let name = |id: &LtxId| object_name(&Object::Ltx(*id));
        if self.is_sound() {
            return format!("{url}: nothing is damaged, nothing to repair");
        }
        let mut lines: Vec<String> = self
            .before
            .damaged
            .iter()
            .map(|d| format!("damaged: {}: {}", object_name(&d.object), d.cause))
            .collect();
        lines.extend(
            self.before
                .holes
                .iter()
                .map(|(level, from, to)| format!("missing: level {level} lacks TXIDs {from} to {to}")),
        );
        lines.extend(self.before.conflicts.iter().map(|conflict| format!("conflict: {conflict}")));
        if dry_run {
            lines.extend(self.mendable.iter().map(|id| format!("would write again: {}", name(id))));
            if self.wants_image() {
                lines.push(match database {
                    Some(db) => format!("would store: an image of {}", db.display()),
                    None => "only the database has what is missing: name it with --db FILE".to_owned(),
                });
            }
        }
        lines.extend(self.mended.iter().map(|id| format!("written again: {}", name(id))));
        lines.extend(self.images.iter().map(|id| format!("stored: an image of TXID {}", id.max)));
        lines.extend(self.removed.iter().map(|id| format!("removed: {}: it held nothing", name(id))));
        lines.extend(
            self.kept.iter().map(|id| {
                format!("kept: {}: it is damaged, but other programs may read some of it", name(id))
            }),
        );
        lines.extend(self.left.iter().map(|left| format!("not repaired: {left}")));
        lines.extend(self.lost.iter().map(|(first, last)| match first == last {
            true => format!("lost for good: the state of TXID {first}"),
            false => format!("lost for good: the states of TXIDs {first} to {last}"),
        }));
        lines.push(match (&self.newest_lost, self.newest) {
            (Some(why), _) => format!("{url}: the newest state cannot be restored: {why}"),
            (None, Some(txid)) if txid.0 > 0 => {
                format!("{url}: the newest state, TXID {txid}, can be restored")
            }
            (None, _) => format!("{url}: the newest state can be restored"),
        });
        lines.join("\n")
    }

    fn to_json(&self, dry_run: bool, database: Option<&Path>) -> String {
        let names = |ids: &[LtxId]| ids.iter().map(|id| object_name(&Object::Ltx(*id))).collect::<Vec<_>>();
        let damaged: Vec<_> = self
            .before
            .damaged
            .iter()
            .map(|d| json!({ "name": object_name(&d.object), "cause": d.cause }))
            .collect();
        let lost: Vec<_> = self
            .lost
            .iter()
            .map(|(a, b)| json!({ "from_txid": a.to_string(), "to_txid": b.to_string() }))
            .collect();
        let wants_image = dry_run && self.wants_image() && !self.is_sound();
        json!({
            "url": self.store.url(), "dry_run": dry_run, "sound": self.is_sound(), "damaged": damaged, "conflicts": self.before.conflicts,
            "rewritable": names(&self.mendable), "rewritten": names(&self.mended), "images": names(&self.images),
            "not_repaired": self.left,
            "removed": names(&self.removed), "kept": names(&self.kept), "lost": lost, "needs_database": wants_image && database.is_none(),
            "would_store_image": wants_image && database.is_some(),
            "newest_txid": self.newest.map(|t| t.to_string()), "newest_lost": self.newest_lost,
        })
        .to_string()
    }
}
