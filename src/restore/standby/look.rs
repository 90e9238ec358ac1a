//! Asks the store which files to apply next.

use super::lineage::{self, Verdict};
use super::run::Follower;
use super::{FollowError, chain};
use crate::base::clock::Millis;
use crate::base::{Level, LtxId, Txid, limits};
use crate::ltx::Header;
use crate::ltx::index::FILE_LEN_MIN;
use crate::restore::damage::Damaged;
use crate::restore::plan::{self, Goal};
use crate::restore::{Object, RestoreError, Survey, times, verify};
use crate::store::{Entry, ErrorKind, Part, Scope};

/// What to do next.
pub(super) enum News {
    /// Nothing new is stored.
    Nothing,
    /// The next file, with its whole content.
    Next(LtxId, bytes::Bytes),
    /// Files that lead on, in the order in which they build on each other.
    Chain(Vec<Entry>),
    /// Files that make up a whole database, and the reason why they are needed.
    Image(Vec<Entry>, &'static str),
}

const NOTHING_LEADS_ON: &str = "nothing there leads on from here";
const BEGAN_ANEW: &str = "the replica started over";
const OTHER_HISTORY: &str = "the replica has another history than the database";
const DOES_NOT_FIT: &str = "the next file does not fit the database, and one of the two is wrong";
const UNPROVEN: &str = "nothing there proves that the replica still has the history of the database";

impl Follower {
    /// Asks for the next file, or for a listing if `list` is set or needed.
    pub(super) async fn look(&mut self, list: bool) -> Result<News, FollowError> {
        if !list && let Some(news) = self.probe().await? {
            return Ok(news);
        }
        // Where a file could not be applied, any other one may be needed.
        if self.bad.is_empty() && !self.doubted {
            if let Some(next) = self.few_next().await?
                && self.history(&next).await? == Verdict::Same
            {
                return self.choose(&next, Verdict::Same);
            }
            let entries = self.part().await?;
            let verdict = self.history(&entries).await?;
            let news = self.choose(&entries, verdict);
            let newest = entries.iter().map(|e| e.id.max).max();
            match &news {
                Ok(News::Nothing) => return news,
                Ok(News::Chain(files)) if files.last().map(|f| f.id.max) == newest => return news,
                // Other files may lead on, or to the same state with fewer bytes.
                _ => {}
            }
        }
        let entries = usable(self.store.list(Scope::All).await?);
        let verdict = self.history(&entries).await?;
        loop {
            let news = self.choose(&entries, verdict)?;
            let (News::Chain(files) | News::Image(files, _)) = &news else { return Ok(news) };
            let Some(wanted) = files.last().map(|e| e.id.max) else { return Ok(news) };
            let damaged = Damaged::of_listing(&entries);
            let odd = verify::odd_files(&self.store, &entries, &damaged, wanted).await?;
            let before = self.bad.len();
            self.bad.extend(odd.into_iter().map(|(id, _)| id));
            if self.bad.len() == before {
                return Ok(news);
            }
        }
    }

    /// The level-0 files from the position on, if they are few and without a gap.
    async fn few_next(&self) -> Result<Option<Vec<Entry>>, FollowError> {
        let from = self.status.txid;
        let part = Part::Stretch { level: Level::RAW, from, to: Txid(u64::MAX), once: true };
        let Some(next) = self.store.list_part(part).await?.filter(|next| !next.more) else { return Ok(None) };
        let files = usable(next.listing.files);
        let has_no_gap = files.iter().zip(from.0..).all(|(e, txid)| e.id == LtxId::raw(Txid(txid)));
        let are_few = (1..=limits::FOLLOW_NEAR_FILES).contains(&files.len());
        Ok(Some(files).filter(|_| are_few && has_no_gap))
    }

    /// What leads to the newest state, and what is around the position.
    async fn part(&self) -> Result<Vec<Entry>, FollowError> {
        let position = self.status.txid;
        let mut survey = Survey::newest(&*self.store, 0).await?;
        if !survey.is_whole() && position < survey.from() {
            let from = survey.reached(position);
            survey.cover(&*self.store, from, position).await?;
        }
        Ok(usable(survey.into_listing().files))
    }

    /// The next file, if it builds on this database; `None` if only a listing can tell.
    async fn probe(&mut self) -> Result<Option<News>, FollowError> {
        let id = LtxId::raw(self.status.txid.next());
        if self.bad.contains(&id) {
            return Ok(None);
        }
        let bytes = match self.store.get(id, 0..limits::FOLLOW_PROBE_BYTES).await {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Some(News::Nothing)),
            Err(e) => return Err(e.into()),
        };
        // Bytes that are not a header cause an error when they are applied.
        if let Some(Ok(header)) = bytes.first_chunk().map(Header::parse)
            && !lineage::takes_up(self.log_end, &header.wal)
            && !self.still_there_below(id).await?
        {
            return Ok(None);
        }
        if (bytes.len() as u64) < limits::FOLLOW_PROBE_BYTES {
            return Ok(Some(News::Next(id, bytes)));
        }
        let entry = self.store.head(id).await?;
        Ok(Some(entry.map_or(News::Nothing, |entry| News::Chain(vec![entry]))))
    }

    /// Whether the raw file before `id` belongs to the history of this database.
    async fn still_there_below(&mut self, id: LtxId) -> Result<bool, FollowError> {
        let Some(before) = id.min.0.checked_sub(1).filter(|n| *n > 0) else { return Ok(false) };
        let entry = Entry { id: LtxId::raw(Txid(before)), size: 0, modified: Millis::default() };
        Ok(self.witness(&entry).await? == Verdict::Same)
    }

    /// What the header of one file proves about the history.
    async fn witness(&mut self, entry: &Entry) -> Result<Verdict, FollowError> {
        match times::header(&*self.store, entry).await {
            Ok(header) => {
                let verdict = lineage::judge(self.status.txid, self.made, entry.id.level, &header);
                // The database is at the state that this file ends with.
                if verdict == Verdict::Same
                    && header.max == self.status.txid
                    && let (Some(replica), Some(checksum)) = (&mut self.replica, header.checksum)
                {
                    replica.learn(checksum);
                }
                Ok(verdict)
            }
            Err(RestoreError::Store(e)) => Err(e.into()),
            Err(
                e @ (RestoreError::Vanished { object: Object::Ltx(_), .. } | RestoreError::Corrupt { .. }),
            ) => {
                tracing::debug!(error = %e, "no witness");
                Ok(Verdict::Unknown)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Whether the listed files belong to the history of the database.
    async fn history(&mut self, entries: &[Entry]) -> Result<Verdict, FollowError> {
        let newest = entries.iter().map(|e| e.id.max).max();
        if self.made.is_none() || newest.is_none_or(|newest| newest < self.status.txid) {
            return Ok(Verdict::Unknown);
        }
        for entry in lineage::witnesses(entries, self.status.txid, self.made) {
            let verdict = self.witness(&entry).await?;
            if verdict != Verdict::Unknown {
                return Ok(verdict);
            }
        }
        Ok(Verdict::Unknown)
    }

    /// What to do if `entries` is all that counts of what is stored.
    fn choose(&self, entries: &[Entry], history: Verdict) -> Result<News, FollowError> {
        let position = self.status.txid;
        let Some(newest) = entries.iter().map(|e| e.id.max).max() else { return Ok(News::Nothing) };
        let good: Vec<Entry> = entries.iter().filter(|e| !self.bad.contains(&e.id)).copied().collect();
        let image = |entries: &[Entry], beyond: Txid| {
            let files = plan::plan(entries, Goal::UpTo(Txid(u64::MAX))).ok()?;
            files.last().is_some_and(|f| f.id.max > beyond).then_some(files)
        };
        // I4: the newest raw file is never deleted, so a replica that ends before the position has
        // started over.
        let anew = match history {
            Verdict::Same => None,
            _ if newest < position => Some(BEGAN_ANEW),
            Verdict::Other => Some(OTHER_HISTORY),
            Verdict::Unknown => Some(UNPROVEN),
        };
        if let Some(why) = anew {
            let path = self.status.output.clone();
            return match image(&good, Txid(0)).or_else(|| image(entries, Txid(0))) {
                Some(files) => Ok(News::Image(files, why)),
                None => Err(FollowError::OtherHistory { url: self.store.url().to_owned(), path, position }),
            };
        }
        // A file that could not be applied is tried again only if no other files lead past it.
        let onward = chain::onward(&good, position);
        if !onward.is_empty() {
            return Ok(News::Chain(onward));
        }
        if newest == position {
            return Ok(News::Nothing);
        }
        if let Some(files) = image(&good, position) {
            return Ok(News::Image(files, NOTHING_LEADS_ON));
        }
        // A whole image makes the database right, whatever is wrong with it now.
        if self.doubted
            && let Some(files) = image(entries, position)
            && files.first().is_some_and(|f| !self.bad.contains(&f.id))
        {
            return Ok(News::Image(files, DOES_NOT_FIT));
        }
        let onward = chain::onward(entries, position);
        if !onward.is_empty() {
            return Ok(News::Chain(onward));
        }
        if let Some(files) = image(entries, position) {
            return Ok(News::Image(files, NOTHING_LEADS_ON));
        }
        let later = entries.iter().map(|e| e.id).filter(|id| id.max > position);
        match later.min_by_key(|id| (id.min, id.level)) {
            Some(next) => Err(FollowError::Hole { url: self.store.url().to_owned(), position, next }),
            None => Ok(News::Nothing),
        }
    }

    /// Leaves out a file that cannot be applied, as long as others lead past it.
    pub(super) fn leave_out(&mut self, e: &FollowError) {
        let id = match *e {
            FollowError::Checksum { file, oldest, .. } => {
                self.doubted = true;
                // Of several files, the one that does not fit is found first.
                match oldest.min.0 == 1 {
                    true => oldest,
                    false if file != oldest && !self.one_by_one => {
                        self.one_by_one = true;
                        return;
                    }
                    false => file,
                }
            }
            FollowError::Corrupt { id, .. } | FollowError::Order { id, .. } => id,
            FollowError::Missing { file, .. } => file,
            _ => return,
        };
        self.bad.insert(id);
    }

    /// Forgets bad files that the position has passed.
    pub(super) fn forget_bad(&mut self) {
        let position = self.status.txid;
        self.bad.retain(|id| id.max > position);
    }
}

/// The files that are long enough to be LTX files.
fn usable(mut files: Vec<Entry>) -> Vec<Entry> {
    files.retain(|e| e.size >= FILE_LEN_MIN);
    files
}
