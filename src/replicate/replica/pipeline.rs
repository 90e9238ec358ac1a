//! The task of one replica: takes what capture hands over, uploads it, acknowledges it.
//!
//! # Overview
//!
//! ```text
//! first_contact -> wait_for_a_sign -> decide -> Follow | Repair | Recognise | Image
//! then, until the stop: repair a gap | grant the history a state | store pending | wait
//! ```
//!
//! # Order of writes
//!
//! The intended point is written before an upload. The durable point moves after the store has
//! answered (I1), and only one upload is under way at a time (I4).
//!
//! # Failure and crash
//!
//! A failed request is repeated as `retry` says. If the replica is found to hold something
//! other than what was stored there ([`ReplicaError::Doubt`]), the pipeline begins again with the
//! first contact. So it does if an upload meets the object of an earlier attempt of ours
//! ([`ReplicaError::Late`]), which may arrive after a kill and the LIST of the next start.

use std::rc::Rc;

use tokio::time::Instant;

use super::background::Background;
use super::error::ReplicaError;
use super::resume::{self, Decision, Remote, Start};
use super::task::Replica;
use crate::base::{Txid, limits};
use crate::replicate::history::Once;
use crate::replicate::remote::RemoteError;
use crate::replicate::vitals::ReplicaPhase;

/// Reason for an image where the stored files do not make the newest state.
const MISSING: &str = "files that its newest state needs are damaged or missing";

impl Replica {
    /// Runs until the stop is requested and everything captured by then is stored, or until an
    /// error that no further attempt can help.
    ///
    /// # Errors
    /// [`ReplicaError`], if the pipeline ends before everything is stored.
    pub async fn run(self) -> Result<(), ReplicaError> {
        let (handoff, index) = (Rc::clone(&self.handoff), self.index);
        let result = self.work().await;
        let vitals = handoff.vitals(index);
        vitals.set_phase(ReplicaPhase::Stopped);
        if let Err(e) = &result {
            vitals.fail(&e.to_string());
        }
        result
    }

    async fn work(mut self) -> Result<(), ReplicaError> {
        let _verifier = self.verify();
        self.recall_create_only();
        loop {
            let mut executor = self.keep_history();
            match self.begin_and_go_on(&mut executor).await {
                Err(ReplicaError::Doubt(reason)) => self.say_doubt(&reason),
                Err(ReplicaError::Late(txid)) => tracing::info!(
                    db = %self.db_name(), replica = self.store.url(), %txid,
                    "an upload of an earlier attempt has arrived late; comparing the database with it"
                ),
                result => return result,
            }
            drop(executor);
            self.history.forget();
            self.store.forget_written();
            self.vigil.disarm();
            self.prepared = None;
            // What is pending is all that changed, or the slot has a gap.
            self.continuity = Ok(());
        }
    }

    fn say_doubt(&self, reason: &str) {
        tracing::warn!(
            db = %self.db_name(), replica = self.store.url(), reason,
            "the replica is not what was stored there; looking at all of it again"
        );
        self.vitals().fail(&format!("the replica was changed by another program: {reason}"));
    }

    async fn begin_and_go_on(&mut self, executor: &mut Background) -> Result<(), ReplicaError> {
        let mut next = Txid(0);
        let whole = self.begin(&mut next, executor).await?;
        self.vigil.arm(self.local.state().durable);
        self.note_landmarks().await;
        self.go_on(&mut next, whole, executor).await
    }

    /// Makes the replica this database. Sets `next`, and returns the batch that has all pages, if
    /// there is one.
    async fn begin(
        &mut self,
        next: &mut Txid,
        executor: &mut Background,
    ) -> Result<Option<Txid>, ReplicaError> {
        let remote = self.first_contact().await?;
        let remote = self.wait_for_a_sign(remote).await?;
        let decision = self.decide(&remote).await?;
        // Another program that went on with the replica may have written any of its files again.
        let goes_on = matches!(decision.start, Start::Follow | Start::Repair(_));
        if goes_on && remote.newest == self.local.state().durable.txid {
            self.find_exchanged().await?;
        }
        let Decision { start, stranger, unsound, resized } = self.after_graft(decision);
        if stranger {
            self.leave_a_living_writer_alone(&remote).await?;
        }
        self.vitals().known(&self.local.state().durable, self.local.state().timestamp);
        *next = self.next_txid(&remote);
        let first = *next;
        let start = self.in_one_batch(start);
        let may_store_all = matches!(start, Start::Recognise(..) | Start::Image(_));
        match start {
            Start::Follow => {
                self.vigil.arm(self.local.state().durable);
                tracing::info!(db = %self.db_name(), replica = self.store.url(), txid = %Txid(next.0 - 1), "resuming from the WAL");
            }
            Start::Repair(reason) => {
                self.vigil.arm(self.local.state().durable);
                self.repair(next, &reason).await?;
            }
            Start::Recognise(newest, reason) => self.recognise(next, &newest, &reason).await?,
            Start::Image(reason) => {
                if resized {
                    self.end_page_size(&reason, executor).await?;
                }
                self.image(next, &reason).await?;
            }
        }
        if resized {
            self.begin_page_size(executor).await;
            return Ok(None);
        }
        if !may_store_all || *next == first {
            return Ok(None);
        }
        // Where files before it cannot be used, only an image of level 9 can be restored.
        if unsound | self.local.take_wish_for_image() || !self.history.is_restorable() {
            self.history.want_image();
        }
        Ok(Some(self.local.state().durable.txid))
    }

    /// With `--once`, and at the stop, no executor reads the database for images: an image is made
    /// from a batch that has all pages.
    fn in_one_batch(&self, start: Start) -> Start {
        let ends = self.once.is_some() || self.handoff.is_closing();
        match start {
            Start::Follow | Start::Repair(_) | Start::Recognise(..)
                if ends && self.history.wants_whole_batch() =>
            {
                Start::Image(MISSING.to_owned())
            }
            start => start,
        }
    }

    /// Stores what capture hands over, until the stop. `whole` is the batch that has all pages.
    async fn go_on(
        &mut self,
        next: &mut Txid,
        mut whole: Option<Txid>,
        executor: &mut Background,
    ) -> Result<(), ReplicaError> {
        loop {
            self.vitals().set_phase(ReplicaPhase::Following);
            self.handoff.tell_waiting();
            if let Some(reason) = self.handoff.slot(self.index, |s| s.gap.clone()) {
                self.still_ours().await?;
                self.repair(next, &reason).await?;
                continue;
            }
            if let Some(wish) = self.history.take_wish() {
                self.grant(wish, next).await?;
                continue;
            }
            let waiting = self.handoff.slot(self.index, |s| !s.pending.is_empty()) || self.is_doubted();
            let stopping = self.handoff.is_closing();
            if !waiting {
                self.vitals().nothing_waits();
            }
            if waiting {
                if !stopping && !self.wait_for_pace().await {
                    continue;
                }
                self.still_ours().await?;
                // Frames may have been missed during the wait.
                if !self.has_gap() {
                    self.store_pending(next).await?;
                }
                continue;
            }
            if stopping {
                if !self.ends_restorable(next, &mut whole, executor).await? {
                    continue;
                }
                self.still_ours_at_stop().await?;
                return self.finish().await;
            }
            self.prepare(*next)?;
            self.wait_for_work().await;
        }
    }

    /// At the stop, with nothing pending: leaves a replica that can be restored. `Ok(false)` if a
    /// batch with all pages was stored for that, after which more may be pending.
    async fn ends_restorable(
        &mut self,
        next: &mut Txid,
        whole: &mut Option<Txid>,
        executor: &mut Background,
    ) -> Result<bool, ReplicaError> {
        if let Some(once) = self.once {
            let finished = self.finish_history(once).await;
            // Merging may have met damage that only a batch with all pages repairs.
            let durable = self.local.state().durable.txid;
            let is_lost = self.history.wants_whole_batch() || !self.history.is_restorable();
            if is_lost && *whole != Some(durable) {
                self.image(next, MISSING).await?;
                *whole = Some(self.local.state().durable.txid);
                self.history.want_image();
                return Ok(false);
            }
            finished?;
        } else if !self.history.is_restorable() {
            *executor = Background::none();
            if *whole != Some(self.local.state().durable.txid) {
                self.image(next, MISSING).await?;
                *whole = Some(self.local.state().durable.txid);
                return Ok(false);
            }
            self.history.want_image();
            self.finish_history(Once::default()).await?;
        }
        Ok(true)
    }

    async fn finish(&mut self) -> Result<(), ReplicaError> {
        self.local.note_stamp(self.handoff.stamp());
        let synced = self.local.sync(&self.engine).await;
        self.noted(synced);
        self.note_landmarks().await;
        let txid = self.local.state().durable.txid;
        tracing::info!(db = %self.db_name(), replica = self.store.url(), txid = %txid, "everything is stored");
        Ok(())
    }

    async fn wait_for_work(&mut self) {
        let due = self.local.sync_due().map(Instant::from_std);
        tokio::select! {
            () = self.handoff.changed(self.index) => {}
            () = self.handoff.closing() => {}
            () = sleep_until(due), if due.is_some() => {
                self.note_landmarks().await;
                if let Err(e) = self.local.sync(&self.engine).await {
                    tracing::warn!(db = %self.db_name(), error = %e, "cannot flush page hashes to the disk");
                }
            }
        }
    }

    /// Waits until a batch may leave, is large, is waited for by a request, or comes from a writer
    /// that has paused; `false` if the wait was cut short.
    async fn wait_for_pace(&mut self) -> bool {
        let now = Instant::now();
        let at = self.pace.ready_at(now);
        if at <= now {
            return true;
        }
        self.handoff.begin_upload();
        let timer = tokio::time::sleep_until(at);
        let rest = tokio::time::sleep(limits::SYNC_REST);
        tokio::pin!(timer, rest);
        let may_rest = self.pace.may_rest(now);
        let waited = loop {
            let worth_it = self.handoff.slot(self.index, |s| s.pending.is_worth_a_batch());
            if worth_it || self.handoff.is_hurried(self.index) {
                break true;
            }
            tokio::select! {
                () = &mut timer => break true,
                () = &mut rest, if may_rest => {
                    self.pace.rest(Instant::now());
                    break true;
                }
                () = self.handoff.closing() => break false,
                () = self.handoff.changed(self.index) => rest.as_mut().reset(Instant::now() + limits::SYNC_REST),
            }
        };
        self.handoff.end_upload();
        waited
    }

    /// Lists the replica; retries until the store answers.
    pub(super) async fn first_contact(&mut self) -> Result<Remote, ReplicaError> {
        loop {
            let begun = Instant::now();
            self.vigil.ask();
            // Not cut short by a stop: what was committed until then still has to be stored.
            // Damage may need any file.
            let whole = !self.history_options.damaged.is_empty() || self.history.has_damage();
            match resume::look(&*self.store, whole).await {
                Ok((remote, survey)) => {
                    self.works();
                    self.history.surveyed(&survey, self.history_options.clock.now());
                    self.look_for_landmarks(&survey.listing().files);
                    let damaged = self.history_options.damaged.iter();
                    self.history.damaged(damaged.map(|(id, why)| (*id, why.to_owned())));
                    if self.history_options.wants_image {
                        self.history.want_image();
                    }
                    self.store.prewarm().await;
                    return Ok(remote);
                }
                Err(e) if self.strict && !e.is_transient() => return Err(e.into()),
                Err(e) => self.wait_out(e, begun).await?,
            }
        }
    }

    async fn decide(&mut self, remote: &Remote) -> Result<Decision, ReplicaError> {
        loop {
            let begun = Instant::now();
            let size = self.db.page_size();
            match resume::decide(&*self.store, remote, &mut self.local, &self.continuity, size).await {
                Ok(decision) => {
                    self.works();
                    return Ok(decision);
                }
                Err(RemoteError::Store(e)) if e.is_transient() => self.wait_out(e, begun).await?,
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The TXID after the newest one that the store or the local state knows (I4).
    fn next_txid(&self, remote: &Remote) -> Txid {
        remote.newest.max(self.local.state().durable.txid).next()
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}
