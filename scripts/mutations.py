#!/usr/bin/env python3
"""Takes out one fix or invariant after the other, and expects a test that fails.

    scripts/mutations.py                     all faults of the list
    scripts/mutations.py NAME...             only these; a part of a name will do
    scripts/mutations.py --list              names, and the fix that each one takes out
    scripts/mutations.py --budget SECONDS    begins no further fault after this time
    scripts/mutations.py --plain NAME...     with the replacement alone, without the switch described below
    scripts/mutations.py --table             the rows of docs/reliability.md, from the latest results
    scripts/mutations.py --simulation [NAME...]      faults of the data path against simulated histories, without the
                                             tests that the list names; --seeds N for how many histories each
    scripts/mutations.py --simulation --table        the rows of that

It needs cargo-nextest (cargo install cargo-nextest --locked). Everything happens in target/mutations: a copy of the
source tree, with a target folder of its own. The working tree is never changed.

A build takes minutes, a test seconds. So the copy is built once with all faults in it, each behind a switch:
`if crate::mutation("NAME") { NEW } else { OLD }`. The file target/mutations/active names the fault that is switched
on; it has to be a file, because tests start lsfast with an empty environment. First all tests that the list names run
with no fault switched on, and must pass. A fault that cannot be put behind an `if`, such as one of a constant, is
built alone.

One line for each fault says by which test it is found. The exit code is 1 if one is not found, 2 if the list is wrong:
a text that is not there exactly once, a fault that does not compile, a filter without tests, a test that fails
without a fault.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "target" / "mutations"
TREE = PLACE / "tree"
ACTIVE = PLACE / "active"
RESULTS = PLACE / "results.json"
SIMULATED = PLACE / "simulated.json"

# What the simulation runs: from the WAL to the store and back.
SIMULATED_PARTS = ("sqlite/", "wal/", "ltx/", "replicate/", "store/", "restore/")

# What is appended to the copy of src/lib.rs.
SWITCH = """
/// Whether this fault is switched on.
#[allow(clippy::disallowed_methods)]
pub fn mutation(name: &str) -> bool {
    static ACTIVE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let read = || std::fs::read_to_string("PATH").unwrap_or_default();
    ACTIVE.get_or_init(read) == name
}
"""

# What is appended to the copy of .cargo/config.toml: the build takes longer than the tests.
CARGO = """
[profile.dev.package.lsfast]
opt-level = 0
debug = false
"""

# A test that hangs because of a fault is ended sooner than in other runs.
PROFILE = """
[profile.mutations]
inherits = "default"
fail-fast = true
slow-timeout = { period = "25s", terminate-after = 4 }
"""


class WrongList(Exception):
    """The list does not fit the source."""


@dataclass
class Mutation:
    name: str
    fault: str
    # Of (file below src, old text, new text). Where part of the old text is marked as in `if «self.is_full()» {`, only
    # that part is replaced, and the rest says which place is meant.
    edits: list
    tests: str  # a filter of nextest
    alone: bool = False  # it cannot be put behind an `if`


MUTATIONS = []


def mutation(name, fault, file, old, new, tests, alone=False):
    MUTATIONS.append(Mutation(name, fault, [(file, old, new)], tests, alone))


def mutations(name, fault, edits, tests, alone=False):
    MUTATIONS.append(Mutation(name, fault, edits, tests, alone))


# A. Wrong data, unbounded loss

mutations(
    "unproven-frames-keep-the-checkpoint-lock",
    "frames that cannot be proven are moved to the database file at once",
    [
        (
            "replicate/capture/damage.rs",
            "if self.guard.in_cruise() && self.handoff.void_pins_once() {\n"
            "            self.guard.copy_now(header.mx_frame)?;\n        }",
            "let _ = &header;",
        ),
        ("replicate/capture/damage.rs", "self.guard.must_copy(header.mx_frame);", ""),
    ],
    "test(frames_that_are_not_the_published_ones)",
)
mutation(
    "unproven-frames-are-waited-for",
    "a published frame that does not verify is damage after some tries, and is not waited for",
    "replicate/capture/damage.rs",
    "self.read_tries >= READ_TRIES && !self.guard.is_open()",
    "false",
    "test(what_cant_be_proven_is_checkpointed)",
)
mutation(
    "unproven-frames-stay-in-an-idle-wal",
    "an idle WAL with unproven frames is truncated within seconds",
    "replicate/database/idle.rs",
    'if «self.capture.is_damaged()» {\n            return',
    'false',
    "test(/^damage::/)",
)
mutation(
    "unproven-frames-stop-the-start",
    "frames that cannot be proven are no obstacle at the start",
    "replicate/database/attach.rs",
    'guard.copy_before_capture()?;',
    'return Err(TailError::Io(std::io::Error::other("frames that cannot be proven")));',
    "test(damage_that_is_there_at_the_start)",
)
mutation(
    "damaged-wal-index-keeps-its-locks",
    "CKPT is released for a damaged wal-index, so that SQLite rebuilds it",
    "replicate/capture/loss.rs",
    "is_damaged && self.guard.heal()?",
    "now < since",
    "test(a_damaged_wal_index_does_not_wait)",
)
mutation(
    "damaged-wal-index-waits-for-a-slot",
    "CKPT is released for a damaged wal-index even if no read slot is free",
    "sqlite/phases.rs",
    'Phase::Cruise => «take_read(self.shm())?.is_some()»,',
    '{\n                if take_read(self.shm())?.is_none() {\n                    return Ok(false);\n                }\n                true\n            }',
    "test(a_damaged_wal_index_does_not_wait)",
)
mutation(
    "backfill-count-is-believed",
    "a count of copied frames beyond the end of the WAL is damage",
    "replicate/capture/loss.rs",
    "mx.0 < limits::TURN_FRAMES || self.db.shm().checkpoint_info().n_backfill <= mx",
    "mx.0 < u32::MAX",
    "test(a_count_of_copied_frames)",
)
mutation(
    "lookup-tables-are-believed",
    "a wal-index that hides frames is rebuilt before the next application opens the database",
    "replicate/capture/mend.rs",
    "self.db.shm().is_sound()?",
    "true",
    "test(a_wal_index_that_hides_frames)",
)
mutation(
    "cut-wal-index-is-a-bus-error",
    "a wal-index that is cut while it is mapped does not end the process",
    "wal/shm/map.rs",
    "fault::survive(from..from + MAPPED, read)",
    "fault::survive(from..from, read)",
    "test(a_wal_index_that_is_cut_ends_nothing)",
)
mutation(
    "removed-database-keeps-its-locks",
    "all locks go as soon as the path names another file",
    "replicate/capture/loss.rs",
    "self.db.shm().leave()",
    "Ok::<(), std::io::Error>(())",
    "test(all_locks_are_released)",
)
mutation(
    "moved-database-is-not-made-whole",
    "a database that was moved elsewhere gets what is in its WAL",
    "replicate/database/abandon.rs",
    "make_whole(&db, &header)?;",
    "let _ = &header;",
    "test(a_database_that_is_moved_elsewhere)",
)
mutation(
    "arriving-database-is-opened",
    "a file that may still be arriving is not opened",
    "replicate/database/arrival.rs",
    'if «settled» ||',
    'true',
    "test(a_database_that_is_copied_slowly) or test(a_wal_that_arrives_after_its_database)",
)
mutation(
    "late-wal-is-not-seen",
    "a WAL that arrives after its database was opened is seen",
    "replicate/capture/loss.rs",
    "(other || unpublished) && !self.db.is_in_use()? && self.db.shm().header() == Ok(header)",
    "other && unpublished && false",
    "test(a_wal_that_arrives_after_its_database)",
)
mutations(
    "another-history-is-gone-on-with",
    "the object at the durable point is the one that was stored there",
    [
        ("replicate/replica/resume.rs", "if «durable.print != 0 && print_of(header) != durable.print» =>", "false"),
        ("replicate/replica/resume.rs", "is_some_and(|here| «here != *there»)", "false"),
    ],
    "test(another_history_at_the_place)",
)
mutation(
    "another-history-after-a-pause",
    "after a pause or an outage the replica is looked at before the next upload",
    "replicate/replica/vigil.rs",
    "self.armed && («self.outage || paused || self.uploaded.elapsed() >= pause»)",
    "paused && false",
    "test(a_replica_exchanged_while_the_process_was_stopped) or test(a_pause_after_the_request)",
)
mutation(
    "shorter-history-is-gone-on-with",
    "a replica that ends before the durable point is not continued",
    "replicate/replica/resume.rs",
    'if «remote.newest < durable» {',
    'false',
    "test(/^lineage::/)",
)
mutation(
    "missing-files-are-not-missed",
    "files that a restore needs are looked for while the process runs",
    "replicate/replica/lineage.rs",
    "let what = Mismatch { reason, stranger: false };\n    Ok(«history.has(id)».then_some",
    "false",
    "test(a_file_that_is_gone_or_has_another_length)",
)
mutations(
    "durable-object-is-not-looked-for",
    "the object of the durable point is looked for while the process runs",
    [
        ("replicate/replica/lineage.rs", "Finding::at(true, «resume::confirm(store, &anchor).await?»)", "None"),
        ("replicate/replica/lineage.rs", "Finding::at(false, «resume::confirm(store, &durable).await?»)", "None"),
    ],
    "test(/^lineage::/)",
)
mutation(
    "overwritten-database-is-not-compared",
    "a database file that is written to outside SQLite is compared",
    "replicate/capture/look.rs",
    "self.was_edited(now)?",
    "false",
    "test(a_database_overwritten_in_place)",
)
mutation(
    "database-overwritten-while-stopped",
    "a database file that is written to while lsfast is stopped is compared",
    "replicate/database/attach.rs",
    "«now.differs(before)».then_some(reason)",
    "false",
    "test(a_file_with_another_stamp)",
)
mutation(
    "page-hashes-of-another-time",
    "page hashes count only with the TXID that they belong to",
    "replicate/state/record.rs",
    "of.is_some_and(|of| «(state.durable.txid..=newest).contains(&of)»)",
    "of.0 < u64::MAX",
    "test(hashes_of_another_txid)",
)
mutation(
    "damaged-page-hashes-make-a-checksum",
    "replication does not go on from a checksum that the page hashes do not make",
    "replicate/state/record.rs",
    "if «read.is_err() || sum != expected» {",
    "false",
    "test(a_checksum_counts_only_with_the_hashes)",
)
mutation(
    "two-names-of-one-file",
    "one file is followed under one name",
    "replicate/database/open_files.rs",
    "files.get(&id)",
    "None",
    "test(two_names_of_one_file)",
)
mutation(
    "one-place-for-two-databases",
    "one place is the replica of one database",
    "replicate/database/open_files.rs",
    "places.get(&identity)",
    "None",
    "test(a_place_is_the_replica_of_one_database) or test(one_place_for_two_replicas)",
)
mutation(
    "exchanged-folder-is-not-noticed",
    "a folder that is exchanged above the database is noticed",
    "replicate/sweep.rs",
    "FileId::at(path).is_ok_and(|now| now != Some(*id))",
    "FileId::at(path).is_ok_and(|now| now != now)",
    "test(a_folder_exchanged_above_the_database) or test(a_directory_that_is_exchanged_is_noticed)",
)
mutation(
    "second-writer-at-a-store-without-conditions",
    "where a store ignores conditions, a LIST shows the objects of another writer",
    "store/s3/owner.rs",
    "!written.is(etag, *size)",
    "false && !written.is(etag, *size)",
    "test(a_store_that_ignores_conditions) or test(of_two_writers)",
)
mutation(
    "ignored-conditions-are-not-found-out",
    "a second PUT proves whether the store honours create-only",
    "store/s3/owner.rs",
    "answer = Some(reply);\n                    false",
    "answer = Some(reply);\n                    true",
    "test(a_store_that_ignores_conditions) or test(of_two_writers)",
)
mutation(
    "newcomer-writes-at-once",
    "a newcomer waits for a sign of life of another writer",
    "replicate/replica/writer.rs",
    "if «!self.is_newcomer(&remote)» {",
    "true",
    "test(of_two_writers)",
)
mutation(
    "copy-with-its-wal-writes-at-once",
    "a copy of a database and its WAL waits for a living original",
    "replicate/replica/writer.rs",
    "newest.is_some_and(|header| «self.local.state().is_of_our_upload(&header)»)",
    "self.local.state().is_of_our_upload(&header) || self.is_of_its_wal(&header)",
    "test(a_copy_with_its_wal_leaves_a_living_original_alone)",
)
mutation(
    "database-without-its-state-does-not-wait",
    "a deployment that has lost its state waits for the one before to end",
    "replicate/replica/writer.rs",
    "let continues = «is_of_its_wal» || ",
    "false",
    "test(a_deployment_without_its_state_may_overlap)",
)
mutation(
    "turn-begins-with-what-an-older-look-found",
    "a reset that comes after a look is followed before a turn begins",
    "sqlite/soft.rs",
    "let backfilled = «self.backfilled»;",
    "self.shm().checkpoint_info().n_backfill",
    "test(a_reset_after_the_look_is_followed_before_a_turn_begins)",
)
mutation(
    "writer-that-waits-for-a-processor-is-dead",
    "a header that a writer is publishing is not damaged",
    "replicate/capture/loss.rs",
    "invalid_for >= DAMAGED_AFTER && «!self.db.shm().held_by_other(LOCK_WRITE)?»",
    "true",
    "test(a_header_that_is_being_published_is_not_damaged)",
)
mutation(
    "exchange-before-the-stop-is-missed",
    "a directory that is exchanged just before the stop is noticed",
    "replicate/database/run.rs",
    "if «!self.is_same()» {",
    "false",
    "test(a_directory_that_is_exchanged_just_before_the_stop_is_stored)",
)
mutation(
    "slow-copy-is-opened",
    "a database that is copied in slowly is opened when it is complete",
    "replicate/database/arrival.rs",
    "if «is_incomplete || wal_grows» {",
    "false",
    "test(a_slow_copy_is_waited_for_and_its_wal_too)",
)
mutation(
    "unstored-database-is-forgotten",
    "a database that leaves without being stored makes the exit code 1",
    "replicate/fleet/commands.rs",
    "failed.filter(|_| «!goes_on»)",
    "false",
    "test(a_database_that_leaves_unstored_is_not_forgotten_at_the_end)",
)
mutation(
    "overlapping-deployment-is-refused",
    "a deployment that overlaps for seconds goes through",
    "replicate/replica/writer.rs",
    "continues && waited < limits::OVERLAP",
    "false",
    "test(only_a_deployment_of_the_same_database)",
)
mutation(
    "verify-takes-mixed-histories",
    "verify finds files of two writers",
    "restore/verify/histories.rs",
    'if «returns || overlaps» {',
    'false',
    "test(files_of_two_writers)",
)
mutation(
    "taken-key-is-always-ours",
    "a create-only PUT of other content is a conflict",
    "store/s3/taken_key.rs",
    "if same { self.note_own(key, found) } else { Err(self.conflict(key, payload.len(), found)) }",
    "self.note_own(key, found)",
    "test(a_taken_key_is_ours_or_a_conflict)",
)
mutation(
    "lost-answer-is-a-conflict",
    "after a lost answer the content decides whose object it is",
    "store/s3/put.rs",
    'if let Some(found) = self.head(key).await? {\n                    «return self.settle(key, &payload, &found).await;»',
    'return Err(self.conflict(key, payload.len(), &found));',
    "test(a_reset_after_the_put) or test(a_taken_key_is_ours_or_a_conflict)",
)
mutation(
    "every-success-is-believed",
    "a response of 200 that stored nothing is no success",
    "store/s3/put.rs",
    "let Some(failure) = «self.believe(key, &payload, &reply).await?» else",
    "None",
    "test(what_was_answered_but_not_stored)",
)
mutation(
    "first-object-is-not-looked-for",
    "the first object of a process is looked for",
    "store/s3/plausible.rs",
    '«self.prove_there(key, size).await?;»\n            self.client',
    '',
    "test(the_first_object_is_looked_for)",
)
mutation(
    "renamed-keys-are-not-found-out",
    "a store that renames keys is found out at the first object",
    "store/s3/plausible.rs",
    "self.prove_listed(key, size).await?;",
    "",
    "test(a_store_that_renames_keys)",
)
mutation(
    "parts-are-not-looked-for",
    "an object made of parts is looked for before it counts as stored",
    "store/s3/multipart.rs",
    "self.inner.prove_parts(&self.key, &print, doubtful || of_parts).await",
    "Ok::<(), StoreError>(())",
    "test(an_upload_in_parts_is_looked_for)",
)
mutation(
    "page-without-token-ends-a-listing",
    "a page that says that there is more, without a token, does not end a listing",
    "store/s3/pages.rs",
    "!goes_on(page)",
    "!goes_on(page) || page.token.is_none()",
    "test(a_listing_without_tokens_is_whole) or test(without_a_token_it_goes_on)",
)
mutation(
    "announced-page-may-be-empty",
    "a page that was announced and names nothing is no end of a listing",
    "store/s3/pages.rs",
    "self.announced && page.truncated.is_none()",
    "false",
    "test(a_cut_listing_is_an_error)",
)
mutation(
    "keys-of-a-page-are-not-counted",
    "a page names as many keys as it counts",
    "store/s3/pages.rs",
    "«lacks(page) > 0»",
    "false",
    "test(a_cut_listing_is_an_error)",
)
mutation(
    "any-listed-size-is-believed",
    "a size in a listing that no object can have is an error",
    "store/s3/list.rs",
    "«size > LISTED_BYTES»",
    "false",
    "test(sizes_that_no_object_has)",
)
mutation(
    "encoding-type-is-always-sent",
    "a listing without encoding-type is tried where it is refused",
    "store/s3/list.rs",
    "refused.swap(true, Ordering::Relaxed)",
    "refused.load(Ordering::Relaxed)",
    "test(a_store_that_refuses_the_encoding)",
)
mutation(
    "tokens-lead-in-a-circle",
    "a listing whose tokens lead in a circle is an error",
    "store/s3/pages.rs",
    "!self.tokens.insert(self.hasher.hash_one(token))",
    "self.tokens.insert(self.hasher.hash_one(token)) && false",
    "test(tokens_lead_on_but_not_in_a_circle) or test(the_same_page_again_and_again)",
)
mutation(
    "listing-has-no-bound",
    "a listing has a bounded number of pages",
    "store/s3/pages.rs",
    "self.pages >= limits::LIST_PAGES || self.idle >= limits::LIST_IDLE_PAGES",
    "false",
    "test(it_ends) or test(a_listing_that_has_no_end)",
)
mutation(
    "open-transaction-in-memory",
    "a transaction of any length is captured in bounded memory",
    "replicate/pending.rs",
    "self.numbers.is_empty() && self.bytes + len <= limits::OPEN_BYTES",
    "self.numbers.is_empty()",
    "test(a_transaction_of_any_length)",
)
mutation(
    "backlog-in-memory",
    "pages that wait for the store hold a bounded number of bytes",
    "replicate/pending.rs",
    "self.bytes >= limits::PENDING_BYTES",
    "false",
    "test(beyond_the_bound_only_numbers)",
)
mutation(
    "merge-reads-whole-files",
    "the inputs of a merge hold a bounded number of bytes",
    "replicate/history/inputs.rs",
    "share.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX)",
    "share.max(u64::MAX)",
    "test(inputs_of_a_merge)",
)
mutation(
    "damaged-file-stops-a-restore",
    "a restore uses another file instead of a damaged one",
    "restore/search.rs",
    'if «!self.damaged.add(id, why)» {',
    'true',
    "test(other_files_are_used_whatever_is_damaged)",
)
mutation(
    "delta-is-not-proven",
    "pages that do not make the wanted state are not written into a database",
    "view/delta/fetch.rs",
    "if «found != self.found.sum» {",
    "false",
    "test(pages_that_make_another_database_are_not_written)",
)
mutation(
    "view-lists-everything",
    "a view lists no more than a restore",
    "view/source.rs",
    "Needed::State(until) => «restore::survey_for(store, until.into()).await»,",
    "Survey::whole(store).await.map_err(RestoreError::from)",
    "test(a_day_of_raw_files_costs_a_view_no_listing)",
)
mutation(
    "near-states-are-not-tried",
    "the states near the time of a file are tried before everything is listed",
    "view/delta/base.rs",
    "Look::Near => «near(store, survey, damaged, local).await?»,",
    "{}",
    "test(a_day_of_raw_files_costs_a_view_no_listing)",
)
mutation(
    "merges-of-an-open-state-add-up",
    "a state that is open for long sees any number of merges",
    "view/snapshot.rs",
    "«self.source.begin();»",
    "",
    "test(a_state_that_is_open_for_long_sees_any_number_of_merges)",
)
mutation(
    "merged-step-ends-a-log",
    "a step that is merged while a history is read leads to another listing",
    "cli/changes/settled.rs",
    "if «listings < limits::RESTORE_LISTINGS» && is_moved(&e)",
    "false",
    "test(a_listed_file_that_is_gone_leads_to_another_listing)",
)
mutation(
    "full-disk-is-not-rolled-back",
    "pages that were written before the disk was full are written back",
    "view/delta/apply.rs",
    "Err(e) => match «self.roll_back(&folder, watch)» {",
    "self.remove_journal(&folder, watch)",
    "test(a_disk_that_is_full_leaves_the_old_state)",
)
mutation(
    "journal-without-its-last-page",
    "a journal has each page that is overwritten",
    "view/delta/plan.rs",
    "self.found.wanted.iter().filter(move |pgno| «pgno.get() <= pages»).chain(cut)",
    "pgno.get() < pages / 2",
    "test(a_stop_at_any_step_leaves_one_of_the_two_states)",
)
mutation(
    "journal-checksum-is-shifted",
    "the records of a journal have the checksum that SQLite computes",
    "view/delta/journal.rs",
    "u32::from(page[«page.len() - back»])",
    "page.len() - back - 1",
    "test(a_stop_at_any_step_leaves_one_of_the_two_states)",
)
mutation(
    "wal-is-overlooked",
    "a database with transactions in its WAL is not changed",
    "view/delta/local.rs",
    "if «length(&wal)? > 0» {",
    "false",
    "test(a_database_in_use_or_with_a_wal_is_not_touched)",
)
mutation(
    "stretch-is-left-out",
    "a plan from a part of the listing reaches the newest file",
    "restore/survey.rs",
    "«!has_newest || !is_sound || self.is_odd()»",
    "false",
    "test(a_stretch_without_the_newest_file)",
)
mutation(
    "error-of-a-part",
    "an error is that of a whole listing, never that of a part",
    "restore/choose.rs",
    "«!matches!(e, RestoreError::Store(_))» => survey.complete",
    "false",
    "test(no_state_is_another_one_because_a_stretch)",
)
mutation(
    "start-after-is-believed",
    "a store that ignores start-after is listed as a whole",
    "store/s3/list_part.rs",
    "«!in_order && (more || part != Part::Start)»",
    "false",
    "test(a_day_of_raw_files_costs_no_listing)",
)
mutation(
    "all-batches-are-listed-at-the-start",
    "a restart lists of level 0 what the levels do not cover",
    "replicate/replica/resume.rs",
    "if «whole» { Survey::whole(store).await? }",
    "true || whole",
    "test(a_day_of_raw_files_costs_no_listing)",
)
mutation(
    "groups-are-deleted-in-part",
    "a group of batches is deleted only where all of it is listed",
    "replicate/history/retain.rs",
    "«gap.is_some_and(|gap| gap <= end)»",
    "false && gap.is_some_and(|gap| gap <= end)",
    "test(older_batches_are_listed_in_pieces)",
)
mutation(
    "an-image-is-stored-twice",
    "an image that the levels have is deleted on level 0",
    "replicate/history/retain.rs",
    "s.size >= COPY_BYTES_MIN && «s.id.max < position»",
    "s.id.max < position && false",
    "test(an_image_is_stored_once)",
)
mutation(
    "older-state-in-silence",
    "an older state is not restored in place of one that is lost",
    "restore/damage.rs",
    'if «reached == Some(wanted)» {',
    'reached.is_some()',
    "test(an_older_state_is_not)",
)
mutation(
    "empty-file-is-no-damage",
    "a file that is too short for its format is damaged",
    "restore/damage.rs",
    '|e| «e.size < FILE_LEN_MIN»)',
    'false',
    "test(what_is_empty_is_known_by_the_listing) or test(an_empty_file_is_known) or test(empty_newest_file)",
)
mutation(
    "vanished-file-stops-a-restore",
    "a file that vanishes during a restore leads to another listing",
    "restore/search.rs",
    'if «self.listings == limits::RESTORE_LISTINGS» {',
    'true',
    "test(a_store_that_fails_at_any_request)",
)
mutation(
    "database-checksum-is-not-compared",
    "a restore is compared with the checksum of the database",
    "restore/run.rs",
    'Some(expected) if «expected != found» =>',
    'false',
    "test(restore::proof)",
)
mutation(
    "no-other-plan-is-tried",
    "where a checksum is wrong, other files for the same state are tried",
    "restore/search.rs",
    "!matches!(e, RestoreError::Checksum { .. } | RestoreError::MissingPage { .. })",
    "true",
    "test(restore::proof)",
)
mutation(
    "covered-hole-is-damage",
    "a hole that files of higher levels cover is no damage",
    "restore/verify/coverage.rs",
    '&& «!is_covered(files, level, (end.next(), Txid(id.min.0 - 1)))»',
    'true',
    "test(a_hole_that_other_files_lead_over)",
)
mutation(
    "damaged-input-stops-compaction",
    "a damaged file does not stop compaction",
    "restore/damage.rs",
    "files.iter().filter(|e| !self.has(e.id)).copied().collect()",
    "files.to_vec()",
    "test(history::tests::damage)",
)
mutation(
    "time-from-the-future-is-believed",
    "a header from the future is corrected by the order of TXIDs",
    "restore/times.rs",
    'if «own <= self.latest» {',
    'true',
    "test(a_time_from_the_future)",
)
mutation(
    "time-from-the-future-is-gone-on-from",
    "a header from the future does not freeze later times",
    "replicate/state/record.rs",
    "self.state.timestamp = «now.not_before(before)»;",
    "now.max(before)",
    "test(a_time_from_the_future)",
)
mutation(
    "zone-name-is-utc",
    "TZ=Europe/Berlin means Berlin",
    "cli/zone.rs",
    'let named = «db().get(name).ok()»;',
    'Some(TimeZone::UTC)',
    "test(all_forms_of_the_variable)",
)
mutation(
    "clean-stop-leaves-the-wal",
    "after a clean stop the database file alone is whole",
    "replicate/database/leave.rs",
    "match «self.copy(&db, damaged).await» {",
    "None::<String>",
    "test(the_file_alone_is_whole)",
)
mutation(
    "wal-is-left-unread",
    "a WAL that a recovery would not read through is not left to one at a clean stop",
    "replicate/database/leave.rs",
    "            damaged = «true»;",
    "false",
    "test(frames_that_change_after_they_were_read)",
)
mutation(
    "store-takes-the-time-of-the-checkpoint",
    "the WAL comes into the database file when the shutdown timeout is over",
    "replicate/fleet/supervisor.rs",
    "        «self.members.give_up_all();»",
    "",
    "test(sigterm_ends_in_time_at_a_store_that_hangs)",
)
mutation(
    "empty-etag-is-believed",
    "an ETag without content is none",
    "store/s3/plausible.rs",
    "if «bare(etag)».is_empty() {\n            return Some(Doubt::NoEtag);",
    "etag",
    "test(an_etag_without_sense_is_doubted)",
)
mutation(
    "etag-of-another-form-is-believed",
    "where ETags are MD5s, one of another form is doubted",
    "store/s3/plausible.rs",
    "return «self.client.md5_etags.load(Ordering::Relaxed)».then(",
    "false",
    "test(an_etag_without_sense_is_doubted)",
)
mutation(
    "special-file-is-fatal",
    "a FIFO, a folder or a link in the place of a file is a damaged file",
    "store/file/inner.rs",
    "StoreError::new(«ErrorKind::Corrupt», format!(\"cannot read {}: {e}\"",
    "ErrorKind::Fatal",
    "test(what_is_no_file_is_a_damaged_file)",
)
mutation(
    "restore-over-a-locked-database",
    "a restore does not replace a database that a process has locked, even by force",
    "restore/target.rs",
    "file.locked_by(from, len).map_err(|e| RestoreError::output(\"look at\", path, 0, e))?",
    "{ let _ = (file, from, len); None }",
    "test(a_database_in_use_is_refused) or test(a_database_that_somebody_has_open)",
)
mutation(
    "restore-over-an-open-database",
    "a restore does not replace a database that a process has open without a lock",
    "restore/target.rs",
    'match «self.opened_by(&sidecars)?» {',
    'None',
    "test(a_database_in_use_is_refused) or test(a_database_that_somebody_has_open)",
)

# B. Out of control

mutation(
    "refusal-is-retried-soon",
    "an error that does not heal by itself waits for minutes",
    "store/error.rs",
    "backoff.fail_for_good()",
    "backoff.fail()",
    "test(waits_fit_the_cause)",
)
mutation(
    "waits-do-not-grow",
    "waits grow with each failure",
    "base/backoff.rs",
    "spread(wait.min(self.most))",
    "spread(self.first.min(wait))",
    "test(five_attempts_in_the_first_minute) or test(waits_reach_minutes)",
)
mutation(
    "each-failure-is-logged",
    "an outage is logged once for all databases",
    "replicate/outage.rs",
    'let fresh = «!state.kinds.contains(&e.kind())»;',
    'true',
    "test(an_outage_of_a_hundred_replicas)",
)
mutation(
    "outage-is-not-reminded-of",
    "an outage is logged again after 1, 10 and 60 minutes",
    "replicate/outage.rs",
    "!state.reminders.take(age)",
    "age < Duration::MAX || !state.reminders.take(age)",
    "test(an_outage_of_a_hundred_replicas)",
)
mutation(
    "end-of-an-outage-wakes-none",
    "a replica that works again wakes those at the same store",
    "replicate/outage.rs",
    "member.outage.works.notify_waiters();",
    "",
    "test(a_replica_that_works_wakes_the_others)",
)
mutation(
    "once-waits-for-ever",
    "--once ends at a store that does not work",
    "replicate/replica/retry.rs",
    "!transient || once && failing >= limits::ONCE_OUTAGE",
    "!transient",
    "test(once_ends_at_a_store_that_keeps_failing)",
)
mutation(
    "database-that-never-came-is-stored",
    "a database that never came is an error at the end",
    "replicate/database/follow.rs",
    "Err(FollowError::NeverCame(path.clone()))",
    "Ok(Ended::Stopped)",
    "test(a_database_that_never_came)",
)
mutation(
    "hang-up-kills",
    "SIGHUP leads to a final sync",
    "cli/signals.rs",
    "*n != libc::SIGHUP || !is_ignored(*n)",
    "*n != libc::SIGHUP",
    "test(a_hang_up)",
)
mutation(
    "nohup-is-overruled",
    "a SIGHUP that was ignored at the start stays ignored",
    "cli/signals.rs",
    "*n != libc::SIGHUP || «!is_ignored(*n)»",
    "true",
    "test(a_hang_up_that_nohup_ignores)",
)
mutation(
    "stop-has-no-end",
    "a stop ends within its timeout, whatever the store does",
    "replicate/run.rs",
    '() = sleep_until(deadline), if «deadline.is_some()» =>',
    'false',
    "test(sigterm_ends_in_time)",
)
mutation(
    "failed-open-ends-it",
    "a database that cannot be opened yet is waited for",
    "replicate/database/wait.rs",
    'Err(e) if «e.is_too_early()» =>',
    'false',
    "test(/^waits::/)",
)
mutation(
    "incomplete-file-ends-it",
    "a file that is still being copied in is waited for",
    "replicate/database/wait.rs",
    'Err(e) if «is_incomplete(&e)» =>',
    'false',
    "test(a_file_that_is_being_copied_in)",
)
mutation(
    "no-inotify-no-commits",
    "without inotify the clock finds commits",
    "io/watch.rs",
    "self.0.by_clock.borrow_mut().push(watcher);",
    "drop(watcher);",
    "test(without_inotify_the_clock) or test(without_a_watch_the_clock)",
)
mutation(
    "full-inotify-ends-it",
    "a limit of inotify is no error",
    "io/watch.rs",
    "matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::ENOMEM))",
    "e.raw_os_error().is_none()",
    "test(without_inotify_the_clock) or test(without_a_watch_the_clock)",
)
mutation(
    "missing-folder-is-made",
    "a folder that does not exist yet is waited for, and not made",
    "replicate/database/wait.rs",
    "(«dir.is_dir() || options.home.is_some()»)",
    "true",
    "test(a_folder_that_is_not_there_yet)",
)
mutation(
    "link-is-not-followed",
    "a database that is named by a link is followed by its real path",
    "io/link.rs",
    '0..«LINKS_MAX»',
    '0',
    "test(/^links::/)",
)
mutation(
    "restore-replaces-the-link",
    "a restore writes to the file that a link leads to",
    "restore/place.rs",
    '«path = target;»\n    }',
    'return Ok(path);',
    "test(links_lead_to_where_the_database) or test(links_are_replaced_where_they_lead_to)",
)
mutation(
    "foreign-link-leads-root",
    "a link of another user does not lead root to where that user may not write",
    "restore/place.rs",
    "trusted(&path, &link, &target)?;",
    "let _ = &link;",
    "test(a_link_of_another_user)",
)
mutation(
    "refused-header-is-final",
    "a header that the store refuses is left out from then on",
    "store/s3/optional_headers.rs",
    'if «!may_be_refusal(&failure)» {',
    'true',
    "test(a_store_without_conditional_writes) or test(a_store_without_checksums)",
)
mutation(
    "checksum-mode-is-always-sent",
    "a HEAD without the checksum mode is tried where it is refused",
    "store/s3/head.rs",
    "asks && done.as_ref().is_err_and(|f| may_be_refusal(f) || f.status() == Some(403))",
    "false",
    "test(a_store_that_refuses_the_checksum_mode)",
)
mutation(
    "required-md5-is-not-sent",
    "Content-MD5 goes along where the store requires it",
    "store/s3/optional_headers.rs",
    "!self.now.md5 && asks_for_md5(&failure)",
    "false",
    "test(content_md5_goes_along)",
)
mutation(
    "failed-copy-is-final",
    "a copy that fails for good goes through this host",
    "store/s3/copy.rs",
    'Err(failure) if «another_way_may_do(inner, &failure)» =>',
    'false',
    "test(a_copy_that_fails_for_good)",
)
mutation(
    "condition-by-403-is-a-matter-of-rights",
    "a 403 that names If-None-Match is a refusal of the header",
    "store/s3/optional_headers.rs",
    "blames_checksum(failure) || «blames_condition(failure)»",
    "false",
    "test(a_403_that_names_the_condition)",
)
mutation(
    "redirect-to-https-is-another-region",
    "a 301 from HTTP to HTTPS at the same host is no matter of the region",
    "store/s3/request.rs",
    "«turns_to_tls(&detail, about).is_some()»",
    "false",
    "test(a_redirect_to_https_is_called_so)",
)
mutation(
    "redirect-is-shown-with-its-password",
    "a redirect is named without its user and password",
    "store/s3/message.rs",
    "authority.rsplit('@').next()?",
    "authority.split('@').next()?",
    "test(a_redirect_is_named_without)",
)
mutation(
    "copy-that-may-pass-is-tried-for-ever",
    "a copy that fails again and again goes through this host",
    "store/s3/copy.rs",
    "failure.detail.attempts >= COPY_ATTEMPTS_MAX || in_a_row >= COPIES_FAILED_MAX",
    "false",
    "test(a_copy_that_fails_again)",
)
mutation(
    "empty-answer-to-a-deletion-is-believed",
    "an empty answer to a deletion is checked by one HEAD",
    "store/s3/delete.rs",
    "«self.is_still_there(left[0]).await?»",
    "false",
    "test(a_deletion_may_be_answered)",
)
mutation(
    "check-ends-an-outage-of-writes",
    "a store that can be read and takes no write is tried at growing intervals",
    "replicate/replica/lineage.rs",
    "if «!failed_before» {",
    "true",
    "test(a_store_that_refuses_writes_is_not_flooded)",
)

mutation(
    "backlog-of-the-start-is-acknowledged",
    "a sync that is asked for at the start waits for what the WAL held by then",
    "replicate/database/desk.rs",
    "&& «!vitals.recalls()»",
    "true",
    "test(what_was_committed_before_the_start_is_waited_for)",
)

mutation(
    "each-wait-is-a-group",
    "a thousand requests for one commit are compared once",
    "replicate/database/desk.rs",
    "groups.last().is_none_or(|last| «last.targets != targets»)",
    "true",
    "test(a_thousand_waits_for_one_commit)",
)

mutation(
    "mistyped-path-is-not-warned-about",
    "a database that has not come after a minute is a warning",
    "replicate/database/wait.rs",
    "if «long_at.take_if(|at| *at <= Instant::now()).is_some()» {",
    "false",
    "test(a_path_without_a_database)",
)

mutation(
    "dead-address-is-waited-for",
    "an address that does not answer costs little",
    "store/s3/race.rs",
    "waiting.len() > 0",
    "waiting.len() > usize::MAX - 1",
    "test(an_address_that_does_not_answer)",
)

mutation(
    "early-signals-end-the-process",
    "a signal in the first milliseconds asks for an orderly end",
    "cli/dispatch.rs",
    'is_some_and(|name| «name == "replicate"»)',
    "false",
    "test(a_signal_before_the_config_file)",
)
mutation(
    "once-ends-at-damage-that-a-merge-meets",
    "`--once` stores an image where a merge meets damage",
    "replicate/replica/pipeline.rs",
    "if «is_lost && *whole != Some(durable)» {",
    "false",
    "test(once_stores_an_image_where_a_merge_meets_damage)",
)
mutation(
    "obstacle-is-not-named",
    "what is in the way of a state file is named, with what to do",
    "io/process.rs",
    'InvalidInput | IsADirectory | NotADirectory => «Some("remove it, and lsfast makes it again")»',
    "None",
    "test(what_is_in_the_way)",
)
# Invariants

mutation(
    "position-before-the-answer",
    "I1: the position moves only when the store has answered the PUT",
    "replicate/replica/upload.rs",
    "self.put(&batch).await?;",
    "let early = self.local.acknowledge(batch.point, batch.hashes.clone()); self.noted(early); "
    "self.vitals().known(&batch.point, batch.created); self.put(&batch).await?;",
    "test(a_store_that_is_away_shows_lag)",
)
mutation(
    "read-lock-is-not-held-in-a-turn",
    "I2: CKPT is released only when READ(k) is held",
    "sqlite/guard.rs",
    '// I2: CKPT is released only now that READ(k) is held.\n        «self.leave_cruise()?;»',
    'self.shm().unlock(lock_read(slot))?; self.leave_cruise()?;',
    "test(in_a_turn_a_checkpoint_does_not)",
)
mutation(
    "copied-wal-has-no-lock",
    "I2: in cruise CKPT is released only when READ(0) is held",
    "sqlite/soft.rs",
    '// I2: CKPT is released only now that READ(0) is held.\n        «self.shm().unlock(LOCK_CKPT)?;»',
    'self.shm().unlock(lock_read(0))?; self.shm().unlock(LOCK_CKPT)?;',
    "test(a_commit_to_an_empty_wal)",
)
mutation(
    "early-turn-holds-no-read-lock",
    "I2: in an early turn READ(k) is held before the lock of cruise is released",
    "sqlite/early.rs",
    '// I2: the lock of cruise is released only now that READ(k) is held.\n        «self.leave_cruise()?;»',
    'self.shm().unlock(lock_read(slot))?; self.leave_cruise()?;',
    "test(a_checkpoint_of_a_copied_wal)",
)
mutation(
    "copied-wal-keeps-the-checkpoint-lock",
    "checkpoints of the application succeed where all of the WAL is copied",
    "sqlite/soft.rs",
    'if «!self.shm().try_lock(lock_read(0), LockKind::Shared)?» {\n            return Ok(false);\n        }\n        // I2: CKPT',
    'true',
    "test(a_commit_to_an_empty_wal)",
)
mutation(
    "pin-leaves-the-checkpoint-lock-free",
    "a pin holds CKPT, so that commits to a long WAL don't try to checkpoint",
    "replicate/capture/look.rs",
    'if «wanted || self.handoff.is_pinned()» {\n            // If',
    'false',
    "test(a_pin_takes_the_checkpoint_lock)",
)
mutation(
    "busy-writer-has-only-early-turns",
    "after a turn that was due CKPT is held for a moment",
    "sqlite/soft.rs",
    'let is_hard = «self.hard_until.is_some()»',
    'false',
    "test(after_a_turn_that_was_due)",
)
mutation(
    "recovery-by-the-application-is-not-seen",
    "a wal-index that SQLite rebuilds while CKPT is free begins a new count",
    "replicate/capture/loss.rs",
    'if «is_smaller» && header.salts',
    'is_smaller && false',
    "test(a_wal_index_that_the_application_rebuilds)",
)
mutation(
    "unproven-restart-is-taken",
    "I2: a restart of the WAL without locks is proven, or repaired",
    "replicate/capture/look.rs",
    'if «by_count.unwrap_or(by_locks)» {',
    'true',
    "test(a_restart_of_the_wal_without_locks)",
)
mutations(
    "uncommitted-frames-are-read",
    "I3: nothing beyond mxFrame is read",
    [
        ("wal/tail.rs", "let frames = «(limit.0 - chain.last().0) as usize»;", "1000"),
        ("wal/tail.rs", "chain.scan(bytes, «limit»)", "FrameNo(limit.0.saturating_add(1000))"),
    ],
    "test(nothing_beyond_what_is_published)",
)
mutation(
    "prepared-batch-leaves-early",
    "I3: a batch that was prepared leaves only when its transaction is published",
    "replicate/capture/look.rs",
    "header.mx_frame == end.last() && header.frame_sum == end.sum && header.salts == end.salts",
    "header.mx_frame <= end.last()",
    "test(a_whole_transaction_is_not_taken)",
)
mutation(
    "published-checksum-is-not-compared",
    "I3: the last frame taken has the published checksum",
    "wal/tail.rs",
    "c.last() == header.mx_frame && c.sum != header.frame_sum",
    "c.last() == header.mx_frame && false",
    "test(frames_that_are_not_the_published_ones)",
)
mutation(
    "merge-with-a-hole",
    "I4: the TXIDs of a merge are contiguous",
    "ltx/merge.rs",
    "after.min.0 > before.max.0.saturating_add(1) || after.max <= before.max",
    "after.max <= before.max",
    "test(merges_that_may_not_be)",
)
mutation(
    "newest-batch-is-deleted",
    "I4: the newest level-0 file is never deleted",
    "replicate/history/retain.rs",
    "objects.len().saturating_sub(1)",
    "objects.len()",
    "test(every_offered_state_is_what_it_claims)",
)
mutation(
    "missing-page-is-restored",
    "I5: each page of a restored state is in one of its files",
    "restore/walk.rs",
    "self.claims.as_ref().and_then(Claims::missing)",
    "None",
    "test(a_page_that_no_file_has) or test(a_page_that_is_missing_is_noticed)",
)
mutation(
    "page-from-before-a-shrink",
    "I5: no page comes back from before a shrink",
    "ltx/merge.rs",
    "pgno.get() <= self.inputs[newest].ceiling",
    "true",
    "test(a_page_cut_off_does_not_come_back)",
)
mutation(
    "read-mixes-two-versions",
    "I5: one read never mixes two versions of an object",
    "store/s3/get.rs",
    "got.etag.is_some() && got.etag != etag",
    "false",
    "test(an_object_that_is_replaced_while_it_is_read)",
)
mutation(
    "other-range-is-taken",
    "I5: only the requested bytes are accepted",
    "store/s3/get.rs",
    "first != wanted.start || last + 1 != end",
    "false",
    "test(an_answer_that_holds_another_range) or test(answers_that_do_not)",
)
mutation(
    "bare-answer-is-an-object",
    "a 200 that names neither type nor ETag and holds XML is no object",
    "store/s3/get.rs",
    'std::mem::take(&mut is_bare) && data.trim_ascii_start().starts_with(b"<")',
    "false",
    "test(a_200_that_is_no_object)",
)
mutation(
    "exchanged-file-is-installed",
    "I5: the file that was verified is the one that is installed",
    "restore/target.rs",
    "!pending.is_itself()",
    "false",
    "test(a_file_that_was_exchanged)",
)
mutation(
    "file-checksum-is-not-compared",
    "I5: a file counts only with the right CRC",
    "ltx/decode.rs",
    "trailer.verify(&open.header, crc.value(), open.database.unwrap_or(0))?;",
    "",
    "test(a_changed_byte_is_noticed) or test(database_checksums_are_verified)",
)
mutation(
    "pages-in-any-order",
    "I5: the pages of a file ascend",
    "ltx/order.rs",
    '&& «pgno <= last»',
    'false',
    "test(page_numbers_that_may_not_be) or test(blocks_out_of_order) or test(ranges_out_of_order)",
)
mutation(
    "pins-hold-a-large-wal",
    "I6: a large WAL gets no further pin, so that it can start over",
    "replicate/capture/look.rs",
    "wanted && bytes < limits::WAL_REPORT_BYTES",
    "wanted && bytes < u64::MAX",
    "test(no_further_pin_joins)",
)
mutation(
    "failed-upload-keeps-its-pin",
    "I6: an upload that waits for the store holds no pin",
    "replicate/replica/large.rs",
    'in the next attempt.\n        «drop(pin);»',
    'std::mem::forget(pin);',
    "test(a_store_that_is_unreachable_does_not_make_the_log_grow)",
)
mutation(
    "credentials-in-debug-output",
    "I7: Debug output has neither keys nor tokens",
    "config/credentials.rs",
    'f.debug_struct("Credentials")\n            .field("access_key_id", &«self.abbreviated_id()»)',
    'self.secret_access_key.0.clone()',
    "test(debug_hides_the_secret)",
)
mutation(
    "environment-in-debug-output",
    "I7: Debug output has names of variables only",
    "config/env.rs",
    "f.debug_set().entries(self.vars.keys()).finish()",
    "f.debug_map().entries(self.vars.iter()).finish()",
    "test(empty_is_unset_and_debug_shows_names_only)",
)
mutation(
    "program-inherits-the-keys",
    "I7: the program of --exec does not inherit the keys of the replication",
    "cli/replicate/program.rs",
    'if «is_ours(&name, &value, &secrets)» ||',
    'false',
    "test(the_program_has_its_own_environment) or test(keys_that_the_config_takes)",
)

mutation(
    "log-freed-pages-are-not-read",
    "rows on pages that left a tree without being written are found as deleted",
    "view/change/moved.rs",
    "if «!(after.open(new.state, &before, changed, &before.opened)? || more)» {",
    "true",
    "test(what_sqlite_does_not_write_is_found)",
)
mutation(
    "log-overflow-pages-are-not-tried",
    "a changed overflow page of a row whose cell did not change is an update of that row",
    "view/change/overflow.rs",
    "if «!self.pages.is_empty()» {\n            self.suspects",
    "false",
    "test(a_changed_overflow_page_is_an_update_of_its_row)",
)
mutation(
    "undo-ignores-conflicts",
    "an undo stops if one of the rows was changed again",
    "view/change/script.rs",
    "«stop_at_conflicts(&mut out)»;\n    let changes",
    "()",
    "test(an_undo_stops_if_a_row_was_changed_again)",
)
mutation(
    "undo-ignores-triggers",
    "an undo during which a trigger ran changes nothing",
    "view/change/script.rs",
    'tables.iter().any(|t| !t.table.triggers.is_empty())',
    'false',
    "test(an_undo_runs_no_trigger_and_no_cascade) or test(a_wrong_delete_is_found)",
)

# Others

mutation(
    "late-request-is-not-hedged",
    "a small request whose answer is late is sent once more",
    "store/s3/hedge.rs",
    'None if «self.spend()» =>',
    'false',
    "test(a_late_request_is_sent_once_more)",
)
mutation(
    "hedges-have-no-bound",
    "at most one request in twenty is sent twice",
    "store/s3/hedge.rs",
    "times.saved.checked_sub(ONE_IN)",
    "Some(times.saved)",
    "test(a_store_that_is_slow_as_a_whole)",
)
mutation(
    "first-failure-of-a-hedge-counts",
    "a hedged request has failed when both attempts have",
    "store/s3/hedge.rs",
    "matches!(failure.class, Class::Stale | Class::Transient | Class::Unreachable)",
    "failure.class == Class::Precondition && false",
    "test(a_failure_counts_when_both_have_failed)",
)
mutation(
    "text-of-a-store-moves-the-terminal",
    "text of a store cannot move the terminal",
    "base/untrusted.rs",
    'c if «c.is_ascii() || !prints(c)» =>',
    'false',
    "test(nothing_moves_the_terminal)",
)
mutation(
    "text-of-a-store-in-errors",
    "the message of an error is escaped, whatever part of it comes from a store",
    "store/error.rs",
    "untrusted::escape(&message.into()).into_owned()",
    "message.into()",
    "test(a_message_moves_no_terminal)",
)
mutation(
    "state-folder-behind-a-link",
    "no link is followed to the folder of the state",
    "io/private.rs",
    "flags | OFlags::NOFOLLOW",
    "flags",
    "test(no_link_is_followed_at_any_level) or test(no_link_in_the_folder_is_followed)",
)
mutation(
    "program-outlives-lsfast",
    "the program of --exec ends when lsfast is killed",
    "io/guardian.rs",
    'ended.send(pid, «libc::SIGTERM»);',
    '0',
    "test(the_program_has_its_own_environment_and_limits_and_does_not_outlive_lsfast)",
)
mutation(
    "stubborn-program-outlives-lsfast",
    "a program of --exec that ignores SIGTERM is killed when lsfast is killed",
    "io/guardian.rs",
    'ended.send(pid, «libc::SIGKILL»);',
    'libc::SIGTERM',
    "test(a_program_that_ignores_the_signal_does_not_outlive_lsfast)",
)
mutation(
    "stop-waits-for-a-stubborn-program",
    "--shutdown-timeout bounds the wait for the program of --exec",
    "cli/signals.rs",
    'program.send(«libc::SIGKILL», "SIGKILL")',
    'libc::SIGTERM',
    "test(a_program_that_ignores_the_signal_is_killed)",
)
mutation(
    "children-outlive-the-killed-program",
    "what the program of --exec has started is killed with it",
    "io/tree.rs",
    'let found = «descendants(root)»;',
    'BTreeSet::from([root])',
    "test(the_children_of_a_program_are_killed_with_it)",
)
mutation(
    "killed-guardian-is-not-noticed",
    "the program of --exec ends when its guardian is killed",
    "io/sys.rs",
    'PR_SET_PDEATHSIG, «libc::SIGTERM»',
    '0',
    "test(a_killed_guardian_is_noticed)",
)
mutation(
    "standby-goes-on-with-another-history",
    "a standby notices that its replica has begun again",
    "restore/standby/look.rs",
    "if let Some(why) = «anew» {",
    "None",
    "test(follow::lineage)",
)
mutation(
    "own-object-is-anothers",
    "an upload whose answer never came is adopted by the next start",
    "replicate/replica/resume.rs",
    "is_next && remote.newest_raw == remote.newest && is_ours",
    "false",
    "test(replica::own_file)",
)
mutation(
    "two-histories-are-one",
    "a state that may be of two histories is refused",
    "restore/verify/forks.rs",
    "= «judge.levels.clash(wanted).await?» else",
    "None",
    "test(a_state_of_two_histories)",
)
mutation(
    "a-later-clash-is-not-seen",
    "a state between a common one and a clash may be of two histories",
    "restore/levels.rs",
    "if «!sides.is_empty()» {",
    "false",
    "test(a_state_of_two_histories)",
)
mutation(
    "refused-states-count-as-restorable",
    "verify counts no state that a restore refuses",
    "restore/verify/forks.rs",
    "} else if «!judge.makes(clash, *txid).await?» {",
    "false",
    "test(a_state_of_two_histories)",
)
mutation(
    "first-state-is-left-out",
    "lsfast log lists a first state that only an image has",
    "cli/changes/log.rs",
    "if «args.table.is_none() && end > after» {",
    "false",
    "test(a_first_state_of_an_image)",
)
mutation(
    "reasons-of-a-burst-are-lost",
    "the line that counts databases is one for each kind of reason",
    "cli/bursts.rs",
    "let mut kind = «reason.as_deref().map(kind_of)».unwrap_or_default();",
    "None::<String>",
    "test(each_kind_of_reason)",
)
mutation(
    "last-step-of-a-restore-is-interrupted",
    "a signal while the database gets its name waits for the end",
    "cli/restore/interrupt.rs",
    "if «watcher.is_installing()» {",
    "false",
    "test(a_signal_while_the_database)",
)
mutation(
    "file-size-signal-ends-a-restore",
    "a limit of the file size is an error of the restore",
    "cli/restore/interrupt.rs",
    "SignalKind::from_raw(«libc::SIGXFSZ»)",
    "libc::SIGUSR1",
    "test(a_limit_of_the_file_size)",
)
mutation(
    "leftovers-of-into-stay",
    "restore --into removes what a killed run left",
    "view/delta/apply.rs",
    "«remove_leftovers(&local.path);»",
    "",
    "test(the_next_run_removes)",
)
mutation(
    "background-follows-no-batches",
    "a background verification finds a batch of a fork",
    "restore/verify/run.rs",
    "let batches = «chain::batches(&listing.files, percent)»;",
    "Vec::new()",
    "test(a_batch_of_a_fork_is_a_fault)",
)
mutation(
    "run-of-batches-begins-unproven",
    "verify finds that the files before the first batch do not make their state",
    "restore/verify/chain.rs",
    "«found.add(last, None, true);»",
    "",
    "test(a_run_of_batches_that_begins)",
)
mutation(
    "repair-names-no-refused-state",
    "repair names the states that a restore refuses",
    "restore/verify/coverage.rs",
    "let is_lost = «refused.contains(&txid)» || bad",
    "false",
    "test(a_batch_of_a_fork_that_no_level_ends_with)",
)
mutation(
    "batches-are-not-followed",
    "verify follows level 0 from state to state",
    "restore/verify/chain.rs",
    "usize::from(«percent.min(100)»)",
    "0_u8",
    "test(a_batch_of_a_fork_that_no_level_ends_with)",
)
mutation(
    "whole-batch-is-doubted",
    "a state that needs nothing of what is before a clash is not doubtful",
    "restore/verify/forks.rs",
    "if «txid < wanted && self.is_made_after(txid, wanted).await?» {",
    "false",
    "test(a_batch_with_all_pages_ends_the_doubt)",
)
mutation(
    "whole-batch-is-no-base",
    "a restore may begin with any file that has all pages",
    "restore/bases.rs",
    "largest.into_iter().take(«FILES»)",
    "0",
    "test(a_batch_with_all_pages_is_a_base)",
)
mutation(
    "unsound-replica-gets-no-image",
    "a start that cannot use the newest file stores a full image on level 9",
    "replicate/replica/pipeline.rs",
    "if «unsound | self.local.take_wish_for_image()» ||",
    "self.local.take_wish_for_image()",
    "test(a_start_after_a_damaged_newest_file)",
)
mutation(
    "taken-name-is-a-second-writer",
    "a replica in the place of ours is not taken for a second writer",
    "replicate/replica/upload.rs",
    "if let Err(e) = «self.taken(e).await» {",
    "Err::<(), ReplicaError>(e.into())",
    "test(a_replica_in_the_place_of_ours)",
)
mutation(
    "own-object-is-looked-for-in-another-replica",
    "in another replica the store does not look for the object that was written last",
    "replicate/replica/pipeline.rs",
    "self.store.forget_written();",
    "",
    "test(a_replica_in_the_place_of_ours)",
)
mutation(
    "stop-lists-no-bucket",
    "a stop finds a missing object of a bucket",
    "replicate/replica/lineage.rs",
    "&& («store.is_local() || self.vigil.wrote») {",
    "store.is_local()",
    "test(a_stop_misses_an_object)",
)
mutation(
    "levels-are-not-ended",
    "every level ends before the first file of another page size",
    "replicate/replica/resize.rs",
    "match «self.close_levels().await» {",
    "Ok(())",
    "test(a_new_page_size_begins)",
)
mutation(
    "any-page-size-goes-on",
    "a database of another page size needs proof that the replica is its own",
    "replicate/replica/resume.rs",
    "if «!ours && !local.wants_image()» {",
    "false",
    "test(another_database_with_another_page_size)",
)

mutation(
    'proxy-password-is-shown',
    'a password with an @ is in no message about a proxy',
    'config/proxy.rs',
    'login.replace(\'@\', "%40")',
    'login.to_owned()',
    'test(the_password_of_a_proxy_is_in_no_text)',
)

mutation(
    'empty-parameter-takes-back',
    'an empty parameter of a URL says nothing',
    'config/query.rs',
    'if «!value.is_empty()» {',
    'known.len() > 1',
    'test(config::query)',
)

mutation(
    'no-proxy-ignores-ports',
    'an entry of NO_PROXY with a port is for that port only',
    'config/no_proxy.rs',
    '.filter(|e| «e.port.is_none_or(|p| p == port)»)',
    'true',
    'test(an_entry_with_a_port_is_for_that_port)',
)

mutation(
    'status-is-answered-under-any-name',
    'a local address answers only requests for this host',
    'observe/server.rs',
    'if «desk.is_local && !is_for_this_machine(uri, headers)» {',
    'false',
    'test(a_local_address_answers_only_requests_for_this_host)',
)

mutation(
    'status-is-answered-without-the-token',
    'with addr-token, only /healthz is answered without the token',
    'observe/server.rs',
    '&& «!gate::shows(headers, token)»',
    'false',
    'test(a_token_opens_the_page)',
)

mutation(
    'empty-token-opens-the-page',
    'an empty addr-token is refused, instead of asking for none',
    'config/file/build.rs',
    'Some(text) if «token.is_none()» => {',
    'false',
    'test(a_token_opens_the_page)',
)

mutation(
    'metrics-close-the-connection',
    'a connection to addr stays open for the next request',
    'observe/server.rs',
    'server.keep_alive(«stays_open»)',
    'false',
    'test(a_connection_stays_open)',
)

mutation(
    'requests-are-not-counted',
    'requests to S3 are counted by operation and status code',
    'store/s3/client.rs',
    'requests::answered(operation, code, taken.load(Ordering::Relaxed));',
    'let _ = (operation, code);',
    'test(two_databases_a_page_metrics)',
)

mutation(
    'each-of-many-databases-logs',
    'what many databases log at once is a few lines',
    'cli/bursts.rs',
    'if «burst.shown.len() < SHOWN» {',
    'true',
    'test(many_databases_are_a_few_lines)',
)

mutation(
    'routine-is-not-counted',
    'the regular work of many databases is a few lines a day',
    'cli/bursts.rs',
    '«if self.routine { ROUTINE_PAUSE } else { PAUSE }»',
    'PAUSE',
    'test(routine_is_counted_for_hours)',
)

mutation(
    'counted-bytes-are-lost',
    'the line that counts databases has the sum of their bytes',
    'cli/bursts.rs',
    'hidden.sums.add(«sums»);',
    'Sums::default()',
    'test(routine_is_counted_for_hours) or test(many_databases_are_a_few_lines)',
)

mutation(
    'each-deletion-is-a-line',
    'what retention removes in an hour is one line',
    'replicate/history/removed.rs',
    'self.due().filter(|due| «*due <= now»)?;',
    'true',
    'test(an_hour_is_one_line)',
)

mutation(
    'retention-has-no-line',
    'what retention has removed is logged',
    'replicate/history/executor.rs',
    'self.removed.add(&Sum { files: «ids.len() as u64», bytes, txid, took: begun.elapsed() });',
    '0',
    'test(a_day_of_a_hundred_databases)',
)

mutation(
    'each-outage-fails-a-verification',
    'a verification that an outage ends is no line for each database',
    'replicate/verify/verifier.rs',
    'passes && «backoff.failures() < FAILURES»;',
    'false',
    'test(a_store_that_does_not_answer_has_a_line)',
)

mutation(
    'start-names-no-server',
    'the first line of the log names endpoints and regions',
    'cli/replicate/plan.rs',
    'let at = «Some(servers.as_str()).filter(|servers| !servers.is_empty())»;',
    'None::<&str>',
    'test(a_day_of_a_hundred_databases)',
)

mutation(
    'left-replica-has-no-url',
    'status without a process shows the URL of a replica that no config file names',
    'observe/offline.rs',
    'replica(&dir, «noted_url(&dir)»)?',
    'None',
    'test(positions_agree_with_the_store)',
)

mutation(
    'causes-are-cut-off',
    'status tells a long cause in full',
    'cli/status/overview.rs',
    'let causes = «causes(&lines)»;',
    'String::new()',
    'test(a_long_cause_is_told_in_full)',
)

mutation(
    'explain-warns-twice',
    'explain tells each warning once',
    'cli/dispatch.rs',
    'if !matches!(&command, Command::Explain(args) if «args.target.is_none()») {',
    'false',
    'test(explain_tells_each_warning_once)',
)

mutation(
    'bench-shows-nothing',
    'the bench shows how far it is on a terminal',
    'cli/progress.rs',
    'if terminal && «start.elapsed() >= SHOWN_AFTER» {',
    'false',
    'test(a_bench_shows_how_far_it_is)',
)

mutation(
    'ltx-lists-all-levels-as-litestream',
    'ltx --json=litestream lists what litestream ltx -json lists',
    'cli/ltx.rs',
    'Some(Shape::Litestream) => «Scope::Level(Level::RAW)»,',
    'Scope::All',
    'test(json_has_the_fields_of_litestream)',
)

mutation(
    'page-has-no-order',
    'the page shows the worst first',
    'observe/page.rs',
    'rows.sort_by(|(a, ..), (b, ..)| b.health.cmp(&a.health).then(b.lag.total_cmp(&a.lag)));',
    'let _ = &rows;',
    'test(a_thousand_databases_fit_in_a_page)',
)

mutation(
    'held-connections-starve-others',
    'one connection more than allowed ends the oldest',
    'observe/visitors.rs',
    'oldest.abort();',
    'let _ = oldest;',
    'test(one_connection_more_than_allowed)',
)

mutation(
    'link-of-another-user-is-followed',
    'root follows a link in a watched directory only if it belongs to the owner of its file',
    'io/link.rs',
    'found.uid() == 0 || «found.uid() == file.metadata()?.uid()»;',
    'true',
    'test(a_link_between_a_path_and_its_file)',
)

mutation(
    'direct-write-fails-unnoticed',
    'a failed write of a restore is an error, also of a write that was under way',
    'restore/write.rs',
    '(result, _) => «Err(result.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into()))»,',
    'Aligned::new()',
    'test(a_failed_write_is_reported_once_all_have_ended)',
)

mutation(
    'refused-direct-write-ends-a-restore',
    'what a file system refuses to write directly is written through the page cache',
    'restore/write.rs',
    '(Err(e), Some(run)) if «direct::is_refusal(&e)» => {',
    'false && direct::is_refusal(&e)',
    'test(where_direct_writes_are_refused)',
)

mutation(
    'image-empties-the-page-cache',
    'an image leaves nothing in the page cache that was not there before',
    'replicate/image/stream.rs',
    '«source.file().pread_passing(bytes, run.first.offset(page_size))»?',
    'source.file().pread(bytes, run.first.offset(page_size))',
    'test(what_the_application_has_cached_stays_cached)',
)

mutation(
    'exchanged-directory-is-restored-to',
    'a restore stops if the path of its directory leads elsewhere in the end',
    'restore/target.rs',
    '|| «!there.is_at(durable::directory_of(&self.path))»',
    'false',
    'test(another_database_keeps_its_log_if_the_directory_is_exchanged)',
)

mutation(
    'hard-link-is-written-to',
    'a file with a second name is not written to in the directory of another user',
    'io/below.rs',
    'folder.own(File::open_in(folder.fd.as_fd(), name, true, create)?)',
    'File::open_in(folder.fd.as_fd(), name, true, create)',
    'test(a_file_of_ours_is_not_written_to_by_another_name)',
)

mutation(
    'exec-inherits-keys-within-text',
    'the program of --exec gets no variable that contains a key',
    'cli/replicate/program.rs',
    '_ => «value.contains(secret.as_str())»,',
    '*secret == value.trim()',
    'test(keys_that_the_config_takes_from_variables_are_hidden)',
)

mutation(
    'missing-directory-ends-the-list-of-databases',
    'databases and status list a watched directory that does not exist yet as empty',
    'cli/databases.rs',
    'Err(e) if «e.kind() == std::io::ErrorKind::NotFound» => continue,',
    'e.kind() == std::io::ErrorKind::Other',
    'test(a_watched_directory_that_does_not_exist_yet_has_no_databases)',
)

mutation(
    'examples-reorder-the-commands',
    'the commands keep their order when examples are added to their help',
    'cli/dispatch.rs',
    'Command::Man(args) => manual::man(«examples::added_to(Cli::command())», &args),',
    'Cli::command().mut_subcommand("replicate", |command| command)',
    'test(man_pages_and_completions_come_from_the_table_of_the_help)',
)
mutation(
    "removed-before-the-proof",
    "a database that is removed before a turn is proven is compared, where it can still be read",
    "replicate/capture/loss.rs",
    "        match entered {\n            Ok((tail, mark)) => «self.continue_at(tail, mark)»,",
    "drop((tail, mark))",
    "test(a_removed_database_is_compared)",
)
mutations(
    "times-that-are-set-back-hide-an-edit",
    "restore --into leaves a file alone that was edited meanwhile, though its time was set back",
    [
        ("view/delta/local.rs", "m.mtime_nsec(), «m.ctime()»,", "0"),
        ("view/delta/local.rs", "«m.ctime_nsec()»);", "0"),
    ],
    "test(a_file_that_is_edited_meanwhile)",
)

mutation(
    "wal-that-may-follow-is-not-waited-for",
    "a new database in WAL mode without a WAL is opened later, because its WAL may follow",
    "replicate/database/arrival.rs",
    "true if alone && «still < QUIET_BEFORE_WAL» &&",
    "false",
    "test(where_a_wal_may_follow)",
)

mutation(
    "limit-of-open-files-is-logged-for-each",
    "the limit of open files is logged once for the process",
    "io/process.rs",
    "let news = «said.is_none_or(|at| at.elapsed() >= FILE_LIMIT_AGAIN)»;",
    "true",
    "test(a_limit_of_open_files_is_logged_once)",
)

mutation(
    "lost-commits-are-waited-for",
    "who waits for commits that are lost with their file gets an error",
    "replicate/database/desk.rs",
    "Some(false) => «self.refuse(LOST)»,",
    "()",
    "test(commits_that_are_lost_with_their_file)",
)

mutation(
    "unread-frames-are-left-out-by-a-stop",
    "a stop waits until each published frame is captured, or known to be damaged",
    "replicate/database/run.rs",
    "self.capture.settles(now) && «look.all»",
    "true",
    "test(a_stop_before_the_first_look_at_damage)",
)

mutation(
    "image-is-no-witness-of-its-history",
    "an image that a standby has applied proves its own history, whatever time a batch has",
    "restore/standby/lineage.rs",
    "(«!is_marked», is_image,",
    "false",
    "test(an_image_from_after_a_clock_was_set_back)",
)

mutation(
    "late-upload-is-another-program",
    "an upload of an earlier attempt that arrives late is adopted",
    "replicate/replica/lineage.rs",
    "Ok(Met::File(header)) if «self.local.state().is_of_our_upload(&header)» => {",
    "{\n                    let _ = header;\n                    false\n                }",
    "test(an_upload_that_arrives_after_the_next_start)",
)
mutation(
    "parts-fail-each-for-itself",
    "parts that meet an outage share one backoff",
    "store/s3/multipart.rs",
    "call.streak = «Some(Arc::clone(&begun.streak))»;",
    "None",
    "test(an_outage_costs_five_requests)",
)
mutation(
    "lost-answer-is-asked-for-at-once",
    "the look for an upload whose answer was lost waits like the next attempt",
    "replicate/replica/large.rs",
    "match «self.wait_out(failed, Instant::now()).await» {",
    "{\n                let _ = &failed;\n                Ok::<(), ReplicaError>(())\n            }",
    "test(an_outage_costs_five_requests)",
)
mutation(
    "parts-are-removed-in-the-outage",
    "the parts of an upload are removed after the outage",
    "store/s3/abort.rs",
    "self.options.retry.rest_when_down && self.client.down.is(Doing::writing(key))",
    "false",
    "test(an_outage_costs_five_requests)",
)
mutation(
    "refused-checksum-is-wrong-rights",
    "a 403 that names a checksum header is about that header",
    "store/s3/optional_headers.rs",
    "Class::Credentials => «blames_checksum(failure)»",
    "false",
    "test(a_checksum_that_is_refused_with_403)",
)
mutation(
    "refused-head-is-an-error",
    "where HEAD is refused, GET of one byte replaces it",
    "store/s3/head.rs",
    "Err(failure) if «matches!(failure.status(), Some(403 | 405 | 501))» => {",
    "false",
    "test(where_head_is_refused)",
)
mutation(
    "listing-without-its-object-is-final",
    "a 404 to a listing is an outage, unless it names the bucket",
    "store/s3/list.rs",
    "Class::Final(ErrorKind::NotFound) => Failure { class: «Class::Transient», ..failure },",
    "Class::Final(ErrorKind::NotFound)",
    "test(a_listing_that_is_not_of_the_store)",
)
mutation(
    "each-level-has-its-outage",
    "levels that cannot be written wait together",
    "replicate/history/rests.rs",
    "if «meets_all(e) && !own.alone» {",
    "false",
    "test(what_meets_all_levels)",
)
mutation(
    "head-that-finds-nothing-is-believed",
    "what HEAD does not find, and GET reads, is there",
    "store/s3/head.rs",
    "None => «self.is_gone(key).await»,",
    "Ok(None)",
    "test(a_server_whose_head_finds_nothing)",
)
mutation(
    "half-a-part-is-retried-at-once",
    "a store that keeps half of a part is blamed for it",
    "store/s3/plausible.rs",
    "true => «self.stored_wrong(key, &why)»,",
    "self.missing(key, &why)",
    "test(half_of_a_part)",
)
mutation(
    "unread-commits-are-in-sync",
    "what is published and not read yet counts as lag",
    "replicate/vitals/replica.rs",
    "commits: captured.0.saturating_sub(durable.0) + «u64::from(unread > 0)»,",
    "0",
    "test(what_is_published_and_not_read)",
)
mutation(
    "store-clock-that-is-days-off-counts",
    "a store's clock that is days off is ignored",
    "store/s3/date.rs",
    "by > limits::CLOCK_AHEAD && «by <= limits::CLOCK_CORRECTION»",
    "true",
    "test(only_a_great_difference_counts)",
)
mutation(
    "batch-of-a-fork-is-any-neighbour",
    "other levels tell which of two neighbours is of another history",
    "restore/verify/run.rs",
    "let odd = «forks::odd_neighbours(store, &listing.files, &bad, &broken.first).await?»;",
    "Vec::<(LtxId, String)>::new()",
    "test(the_batch_of_a_fork_is_written_again)",
)
mutation(
    "repair-believes-itself",
    "repair says what a verification still finds",
    "cli/repair.rs",
    "self.left.extend(«after.conflicts»);",
    "Vec::<String>::new()",
    "test(a_batch_of_a_fork_that_no_level)",
)
mutation(
    "range-within-a-range-is-sound",
    "a batch that begins within the range of the one before it is of another writer",
    "restore/verify/histories.rs",
    "&& («wal.end() < last.end() || wal.offset > last.offset»);",
    "wal.end() < last.end()",
    "test(files_of_two_writers_are_found)",
)
mutation(
    "late-upload-of-two-kills-ago",
    "uploads without an answer are known over any number of kills",
    "replicate/state/home.rs",
    "state.unanswered = «Unanswered::decode(&mut f)?»;",
    "{\n        let _ = Unanswered::decode(&mut f)?;\n        Unanswered::default()\n    }",
    "test(an_upload_that_arrives_after_the_next_start)",
)
mutation(
    "key-that-is-taken-and-free-is-tried-again",
    "a store that refuses a key as taken, and has no such object, is asked again after a minute",
    "store/s3/put.rs",
    "if «races > RACES_MAX» {",
    "races > 3",
    "test(an_outage_costs_five_requests)",
)
mutation(
    "lag-counts-from-the-last-look",
    "a commit that takes several looks to read waits since the first of them",
    "replicate/vitals/replica.rs",
    "let is_first_look = «self.unread.load(Relaxed) == 0»;",
    "true",
    "test(what_is_published_and_not_read)",
)
mutation(
    "object-is-judged-unseen",
    "a store that fails between a 412 and the look at the object is asked again",
    "replicate/replica/lineage.rs",
    "Err(RemoteError::Store(failed)) if «failed.kind() != ErrorKind::Corrupt» =>",
    "failed.kind() == ErrorKind::Corrupt",
    "test(an_upload_that_arrives_after_the_next_start)",
)
mutation(
    "merge-joins-an-outage",
    "no merge begins while a request of another task is retried",
    "replicate/history/task.rs",
    "Next::Job(_) if «executor.store_is_failing()» =>",
    "false",
    "test(an_outage_costs_five)",
)
mutation(
    "stop-begins-turns",
    "a stop begins no turn of the WAL guard",
    "replicate/capture/look.rs",
    "let is_stopping = «self.edits.last_chance.is_some() && !self.guard.is_urgent()»;",
    "false",
    "test(a_stop_begins_no_turn)",
)
mutation(
    "upload-of-the-old-page-size-is-anothers",
    "an upload without an answer is known by its print after the page size has changed",
    "replicate/replica/resume.rs",
    "let ours = «local.former().is_some_and(is_ours) || local.state().is_of_our_upload(newest)»;",
    "local.former().is_some_and(is_ours)",
    "test(an_upload_without_an_answer_may_have)",
)



def sources():
    """All files of the working tree that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True,
    ).stdout.decode()
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def marked(old):
    """The text before the part that is replaced, that part, and the text after it: `before «part» after`."""
    if "«" not in old:
        return "", old, ""
    before, _, rest = old.partition("«")
    part, _, after = rest.partition("»")
    return before, part, after


def apply(texts, mutation, switched):
    """Puts a fault into `texts`, which maps names of files to their contents."""
    for file, old, new in mutation.edits:
        name = "src/" + file
        text = texts.setdefault(name, (ROOT / name).read_text())
        whole = old.replace("«", "").replace("»", "")
        found = text.count(whole)
        if found != 1:
            raise WrongList(f"{mutation.name}: the text occurs {found} times in {name}: {whole!r}")
        before, part, after = marked(old)
        if switched:
            new = f'if crate::mutation("{mutation.name}") {{ {new} }} else {{ {part} }}'
            if after.startswith(" else"):  # of a `let ... else`
                new = f"({new})"
        texts[name] = text.replace(whole, before + new + after)


def check(chosen):
    """Each text is there exactly once, also where other faults are in the same file."""
    wrong = []
    for mutation in chosen:
        try:
            apply({}, mutation, False)
        except (WrongList, OSError) as e:
            wrong.append(str(e))
    names = [m.name for m in MUTATIONS]
    wrong += [f"{name}: the name occurs twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if wrong:
        raise WrongList("\n".join(wrong))


def prepare(chosen, switched):
    """Makes the copy: the working tree with these faults. Only files that differ are written, for cargo's sake."""
    texts = {}
    # The longest text goes first, so that a fault within the text of another one is still found as it is written.
    for mutation in sorted(chosen, key=lambda m: -max(len(marked(old)[1]) for _, old, _ in m.edits)):
        apply(texts, mutation, switched)
    if switched:
        lib = texts.setdefault("src/lib.rs", (ROOT / "src/lib.rs").read_text())
        texts["src/lib.rs"] = lib + SWITCH.replace("PATH", str(ACTIVE))
    for name, more in ((".config/nextest.toml", PROFILE), (".cargo/config.toml", CARGO)):
        texts[name] = (ROOT / name).read_text() + more
    wanted = set()
    for name in sources():
        wanted.add(name)
        content = texts[name].encode() if name in texts else (ROOT / name).read_bytes()
        at = TREE / name
        if not at.is_file() or at.read_bytes() != content:
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(content)
            shutil.copymode(ROOT / name, at)
    for folder, folders, files in os.walk(TREE):
        folders[:] = [f for f in folders if f not in ("target", ".git")]
        for file in files:
            at = Path(folder) / file
            if str(at.relative_to(TREE)) not in wanted:
                at.unlink()
    peers = PLACE / "target" / "peers"
    if (ROOT / "target" / "peers").is_dir() and not peers.exists():
        peers.parent.mkdir(exist_ok=True)
        peers.symlink_to(ROOT / "target" / "peers")


def nextest(tests, *more):
    """Runs tests in the copy. Returns the exit code and the output."""
    environment = dict(os.environ, CARGO_TARGET_DIR=str(PLACE / "target"), CARGO_TERM_COLOR="never")
    command = ["cargo", "nextest", "run", "--profile", "mutations", "--lib", "--test", "it", "-E", tests, *more]
    done = subprocess.run(
        command, cwd=TREE, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.returncode, done.stdout


def failed_tests(output):
    lines = re.findall(r"^ *(?:TRY \d+ )?(?:FAIL|TIMEOUT|SIG\w+|ABORT|LEAK-FAIL) \[[^\]]*\] (?:\([^)]*\) )?\S+ (\S+)", output, re.M)
    return list(dict.fromkeys(lines))


def build(what):
    """Builds the copy, or raises what the compiler says."""
    began = time.monotonic()
    code, output = nextest("none()", "--no-tests=pass")
    if code != 0:
        (PLACE / "build.txt").write_text(output)
        at = re.search(r"^error", output, re.M)
        raise WrongList(f"{what} does not compile:\n{output[at.start() if at else 0:][:6000]}")
    print(f"# {what}: built in {time.monotonic() - began:.0f} s", flush=True)


def baseline(chosen):
    """With no fault switched on, all these tests pass, if need be after a retry on a loaded machine."""
    ACTIVE.write_text("")
    began = time.monotonic()
    tests = " or ".join(f"({t})" for t in dict.fromkeys(m.tests for m in chosen))
    code, output = nextest(tests, "--no-fail-fast", "--retries", "2")
    if code != 0:
        raise WrongList(f"without a fault these tests fail: {failed_tests(output)}\n{output[-6000:]}")
    count = re.search(r"(\d+) tests? run", output)
    print(f"# without a fault {count[1] if count else '?'} tests pass, in {time.monotonic() - began:.0f} s", flush=True)


def try_one(mutation, results):
    began = time.monotonic()
    ACTIVE.write_text(mutation.name)
    try:
        code, output = nextest(mutation.tests)
    finally:
        ACTIVE.write_text("")
    (PLACE / "logs").mkdir(exist_ok=True)
    (PLACE / "logs" / f"{mutation.name}.txt").write_text(output)
    seconds = time.monotonic() - began
    failed = failed_tests(output)
    if code == 4:
        raise WrongList(f"{mutation.name}: no test has the filter {mutation.tests}")
    if code == 0:
        found = None
        print(f"{mutation.name}: NOT FOUND ({seconds:.0f} s)", flush=True)
    elif failed:
        found = failed[0]
        print(f"{mutation.name}: found by {found} ({seconds:.0f} s)", flush=True)
    else:
        raise WrongList(f"{mutation.name}: nextest ended with {code}\n{output[-4000:]}")
    results[mutation.name] = {"found": found, "date": date.today().isoformat()}
    RESULTS.write_text(json.dumps(results, indent=1))
    return found is not None


def table(results):
    for m in MUTATIONS:
        seen = results.get(m.name)
        if seen and seen["found"]:
            print(f"| `{m.name}` | {m.fault} | `{seen['found'].rsplit('::', 1)[-1]}` |")


def build_simulation():
    """Builds the tests of the copy, lsfast itself optimized. Returns the program."""
    began = time.monotonic()
    environment = dict(os.environ, CARGO_TARGET_DIR=str(PLACE / "target"), CARGO_TERM_COLOR="never")
    command = ["cargo", "test", "--no-run", "--test", "sim", "--message-format", "json-render-diagnostics"]
    command += ["--config", "profile.dev.package.lsfast.opt-level=1"]
    done = subprocess.run(command, cwd=TREE, env=environment, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise WrongList(f"the simulation does not compile:\n{done.stderr[-6000:]}")
    built = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    programs = [b["executable"] for b in built if b.get("executable") and b["target"]["name"] == "sim"]
    print(f"# built in {time.monotonic() - began:.0f} s", flush=True)
    return programs[-1]


def histories(program, seeds):
    """Runs histories until one fails. Returns its seed and why it failed, or None, and how many were run."""
    environment = dict(os.environ, LSFAST_SIM_SEEDS=f"1-{seeds}", LSFAST_SIM_FIRST="1")
    done = subprocess.run(
        [program, "histories", "--exact", "--nocapture"], cwd=TREE, env=environment, text=True,
        errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )
    failed = re.search(r"^seed (\d+): (.*)\n  again: ", done.stdout, re.M)
    count = re.search(r"^(\d+) histories in", done.stdout, re.M)
    if done.returncode != 0 and not failed:
        raise WrongList(f"the simulation ended with {done.returncode}\n{done.stdout[-4000:]}")
    return (int(failed[1]), failed[2]) if failed else None, int(count[1]) if count else 0, done.stdout


def simulate(chosen, seeds, budget):
    check(MUTATIONS)
    parts = [m for m in MUTATIONS if not m.alone and any(e[0].startswith(SIMULATED_PARTS) for e in m.edits)]
    results = json.loads(SIMULATED.read_text()) if SIMULATED.is_file() else {}
    (PLACE / "logs").mkdir(parents=True, exist_ok=True)
    ACTIVE.write_text("")
    prepare(parts, True)
    program = build_simulation()
    began, missed, tried = time.monotonic(), 0, 0
    failed, count, output = histories(program, seeds)
    if failed:
        raise WrongList(f"without a fault seed {failed[0]} fails: {failed[1]}")
    print(f"# without a fault {count} histories pass, in {time.monotonic() - began:.0f} s", flush=True)
    for mutation in [m for m in parts if m in chosen]:
        if budget and time.monotonic() - began >= budget:
            break
        ACTIVE.write_text(mutation.name)
        begun = time.monotonic()
        try:
            failed, count, output = histories(program, seeds)
        finally:
            ACTIVE.write_text("")
        (PLACE / "logs" / f"sim-{mutation.name}.txt").write_text(output)
        tried += 1
        missed += not failed
        seed, why = failed or (None, None)
        results[mutation.name] = {"seed": seed, "why": why, "histories": count, "date": date.today().isoformat()}
        SIMULATED.write_text(json.dumps(results, indent=1))
        said = f"seed {seed}: {why[:120]}" if failed else f"NOT FOUND in {count} histories"
        print(f"{mutation.name}: {said} ({time.monotonic() - begun:.0f} s)", flush=True)
    print(f"# {tried - missed} of {tried} found")
    return 0


def simulated_table():
    results = json.loads(SIMULATED.read_text()) if SIMULATED.is_file() else {}
    for m in MUTATIONS:
        seen = results.get(m.name)
        if seen and seen["seed"]:
            print(f"| `{m.name}` | {seen['seed']} | {seen['histories']} |")
    unseen = [f"`{n}` ({r['histories']})" for n, r in results.items() if not r["seed"]]
    print(f"\nNot found, with the number of histories: {', '.join(unseen)}.")


def choose(names):
    unknown = [n for n in names if not any(n in m.name for m in MUTATIONS)]
    if unknown:
        raise WrongList(f"no fault has this name: {', '.join(unknown)} (see --list)")
    exact = [m for m in MUTATIONS if m.name in names]
    rest = [n for n in names if not any(m.name == n for m in exact)]
    return [m for m in MUTATIONS if not names or m in exact or any(n in m.name for n in rest)]


def run(chosen, budget, plain):
    check(MUTATIONS)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    PLACE.mkdir(parents=True, exist_ok=True)
    ACTIVE.write_text("")
    began, missed, tried = time.monotonic(), [], 0
    together = [m for m in chosen if not m.alone and not plain]
    single = [m for m in chosen if m.alone or plain]
    if together:
        # Always with all of them, so that another choice of names needs no other build.
        prepare([m for m in MUTATIONS if not m.alone], True)
        build(f"{sum(not m.alone for m in MUTATIONS)} faults behind switches")
    if chosen and not plain:
        baseline(chosen)
    for mutation in together + single:
        if budget and time.monotonic() - began >= budget:
            break
        if mutation in single:
            prepare([mutation], False)
            build(mutation.name)
        tried += 1
        if not try_one(mutation, results):
            missed.append(mutation.name)
    left = len(chosen) - tried
    print(f"# {tried - len(missed)} found, {len(missed)} not found" + (f", {left} not tried" if left else ""))
    if missed:
        print(f"# not found: {' '.join(missed)}")
    return 1 if missed else 0


def main():
    about, _, more = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=about, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="faults to try (default: all)")
    parser.add_argument("--list", action="store_true", help="print the list and end")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="begin no further fault after this time")
    parser.add_argument("--plain", action="store_true", help="build each fault by itself, without the switch")
    parser.add_argument("--table", action="store_true", help="print the rows of docs/reliability.md")
    parser.add_argument("--simulation", action="store_true", help="try them on simulated histories instead of tests")
    parser.add_argument("--seeds", type=int, default=60, metavar="N", help="histories for each fault (default: 60)")
    args = parser.parse_args()
    try:
        chosen = choose(args.names)
        if args.simulation and args.table:
            simulated_table()
            return 0
        if args.simulation and not args.list:
            return simulate(chosen, args.seeds, args.budget)
        if args.list:
            for m in chosen:
                print(f"{m.name}: {m.fault}\n    {m.tests}")
            return 0
        if args.table:
            table(json.loads(RESULTS.read_text()) if RESULTS.is_file() else {})
            return 0
        return run(chosen, args.budget, args.plain)
    except WrongList as e:
        print(f"mutations.py: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
