//! The background verification of a replica, for as long as its pipeline runs.

use std::rc::Rc;
use std::sync::Arc;

use super::background::Background;
use super::task::Replica;
use crate::replicate::verify::{self, Verifier};
use crate::replicate::vitals::ReplicaPhase;

impl Replica {
    /// Starts the verification, if it is configured. It first waits until the replica follows the
    /// database.
    pub(super) fn verify(&self) -> Background {
        let Some(options) = self.verification.clone().filter(|_| self.once.is_none()) else {
            return Background::none();
        };
        let meter = self.vitals().verified_bytes.clone();
        let (name, folder) = (self.db_name().to_string(), self.local.dir().to_owned());
        let history = Rc::clone(&self.history);
        let verifier = Verifier::new(Arc::clone(&self.store), options, name, folder, meter).telling_damage(
            Box::new(move |files, wants_image| {
                history.damaged(files);
                if wants_image {
                    history.want_image();
                }
            }),
        );
        let (handoff, index) = (Rc::clone(&self.handoff), self.index);
        let stored = {
            let handoff = Rc::clone(&handoff);
            move || {
                let vitals = handoff.vitals(index);
                let follows = vitals.phase() == ReplicaPhase::Following;
                vitals.durable().filter(|_| follows).map(|(txid, ..)| txid)
            }
        };
        let tell = move |status| handoff.vitals(index).set_verification(status);
        Background::spawn(verify::keep(verifier, self.turns.clone(), stored, tell))
    }
}
