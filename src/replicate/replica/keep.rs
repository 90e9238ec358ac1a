//! What a pipeline does for the history of its replica: keeps its keeper running, and gives it
//! states of the database.

use std::rc::Rc;
use std::sync::Arc;

use tokio::task::AbortHandle;

use super::error::ReplicaError;
use super::pipeline::Replica;
use crate::base::Txid;
use crate::replicate::event::Event;
use crate::replicate::history::{self, Keeper, Live, Once, Point, Wish};
use crate::replicate::image::source::PageSource;

/// A task that ends with its replica.
pub(super) struct Background(Option<AbortHandle>);

impl Background {
    pub(super) fn none() -> Background {
        Background(None)
    }

    pub(super) fn spawn(task: impl Future<Output = ()> + 'static) -> Background {
        Background(Some(tokio::task::spawn_local(task).abort_handle()))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Replica {
    /// Starts the keeper of the history, if there is anything to keep. It waits for the listing.
    pub(super) fn keep_history(&self) -> Background {
        let options = &self.history_options;
        // A run that ends does it in the end.
        if options.is_off() || self.once.is_some() {
            return Background::none();
        }
        let live = Live { board: Rc::clone(&self.board), index: self.index };
        let (feed, name) = (Rc::clone(&self.history), self.db_name().to_string());
        let keeper = Keeper::new(Arc::clone(&self.store), options.clone(), Rc::clone(&feed), name)
            .with_live(live)
            .with_outages(self.outages.clone())
            .with_folder(self.local.dir().to_owned());
        let (observer, db, replica) = (Arc::clone(&self.observer), self.db.path().to_owned(), self.index);
        let board = Rc::clone(&self.board);
        let tell = Box::new(move |status: &_| {
            board.vitals(replica).set_history(status);
            observer(&Event::History { db: &db, replica, status });
        });
        Background::spawn(history::keep(keeper, feed, self.common.clone(), Arc::clone(&options.clock), tell))
    }

    /// Does what is due, and what was asked for, once everything is stored.
    pub(super) async fn finish_history(&self, once: Once) -> Result<(), ReplicaError> {
        let (options, feed) = (self.history_options.clone(), Rc::clone(&self.history));
        let now = options.clock.now();
        let mut keeper = Keeper::new(Arc::clone(&self.store), options, feed, self.db_name().to_string())
            .with_folder(self.local.dir().to_owned());
        Ok(keeper.finish(once, now).await?)
    }

    /// Gives the keeper a state of the database that belongs to a TXID. What is pending becomes a
    /// batch for that.
    pub(super) async fn grant(&mut self, wish: Wish, next: &mut Txid) -> Result<(), ReplicaError> {
        // From here to the taking of what is pending nothing else runs on this thread.
        let mark = self.board.mark();
        let (empty, numbers) =
            self.board.slot(self.index, |s| (s.pending.is_empty(), s.pending.has_numbers_only()));
        let unusable = !empty && (numbers || mark.size_pages == 0);
        if unusable || !wish.holds() {
            return if unusable { self.store_pending(next).await } else { Ok(()) };
        }
        let txid = if empty { self.local.state().durable.txid } else { *next };
        let db = Arc::clone(&self.db);
        let source = tokio::task::spawn_blocking(move || PageSource::new(&db, &mark));
        wish.give(Point { txid, mark, source });
        if empty { Ok(()) } else { self.store_pending(next).await }
    }
}
