//! The pipeline's part in the history of its replica: it runs the executor of the history, and
//! supplies it with states of the database.

use std::rc::Rc;
use std::sync::Arc;

use super::background::Background;
use super::error::ReplicaError;
use super::task::Replica;
use crate::base::Txid;
use crate::replicate::event::Event;
use crate::replicate::history::{self, Executor, HistoryError, Live, Once, Point, Wish};
use crate::replicate::image::source::PageSource;

impl Replica {
    /// Starts the executor of the history, if there is anything to do. It waits for the listing.
    pub(super) fn keep_history(&self) -> Background {
        let options = &self.history_options;
        // With `--once`, `finish_history` does it at the end.
        if options.is_off() || self.once.is_some() {
            return Background::none();
        }
        let live = Live { handoff: Rc::clone(&self.handoff), index: self.index };
        let (feed, name) = (Rc::clone(&self.history), self.db_name().to_string());
        let executor = Executor::new(Arc::clone(&self.store), options.clone(), Rc::clone(&feed), name)
            .with_live(live)
            .with_outages(self.outages.clone())
            .with_folder(self.local.dir().to_owned());
        let (observer, db, replica) = (Arc::clone(&self.observer), self.db.path().to_owned(), self.index);
        let handoff = Rc::clone(&self.handoff);
        let tell = Box::new(move |status: &_| {
            handoff.vitals(replica).set_history(status);
            observer(&Event::History { db: &db, replica, status });
        });
        Background::spawn(history::keep(
            executor,
            feed,
            self.common.clone(),
            Arc::clone(&options.clock),
            tell,
        ))
    }

    /// Does the steps that are due or were requested, once everything is stored.
    pub(super) async fn finish_history(&self, once: Once) -> Result<(), ReplicaError> {
        Ok(self.executor().finish(once, self.history_options.clock.now()).await?)
    }

    /// Brings every level up to the newest batch.
    pub(super) async fn close_levels(&self) -> Result<(), HistoryError> {
        self.executor().close_levels(self.history_options.clock.now()).await
    }

    /// An executor that does not read the database.
    fn executor(&self) -> Executor {
        let (options, feed) = (self.history_options.clone(), Rc::clone(&self.history));
        Executor::new(Arc::clone(&self.store), options, feed, self.db_name().to_string())
            .with_folder(self.local.dir().to_owned())
    }

    /// Grants the executor a state of the database that belongs to a TXID. Pending pages become a
    /// batch for that purpose.
    pub(super) async fn grant(&mut self, wish: Wish, next: &mut Txid) -> Result<(), ReplicaError> {
        // No other task runs on this thread between reading the mark and taking the pending pages.
        let mark = self.handoff.mark();
        let (empty, numbers) =
            self.handoff.slot(self.index, |s| (s.pending.is_empty(), s.pending.has_numbers_only()));
        let unusable = !empty && (numbers || mark.size_pages == 0);
        if unusable {
            self.still_ours().await?;
            return self.store_pending(next).await;
        }
        if !wish.holds() {
            return Ok(());
        }
        let txid = if empty { self.local.state().durable.txid } else { *next };
        let db = Arc::clone(&self.db);
        let source = tokio::task::spawn_blocking(move || PageSource::new(&db, &mark));
        wish.give(Point { txid, mark, source });
        if empty { Ok(()) } else { self.store_pending(next).await }
    }
}
