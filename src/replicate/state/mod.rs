//! What lsfast keeps next to a database: a lock, and for each replica how far it reaches.
//!
//! For a database `DIR/NAME` everything is in `DIR/.NAME-lsfast/`:
//!
//! | file | content |
//! |---|---|
//! | `lock` | locked while a process follows the database |
//! | `socket` | where that process tells its state, see `observe` |
//! | `REPLICA/state` | two slots of 512 bytes, written alternately; the valid one with the higher sequence number counts |
//! | `REPLICA/pages` | page hashes, see `page_hashes` |
//! | `REPLICA.image` | left by `lsfast reset`: a full image is stored after the first batch |
//! | `REPLICA/verified` | when the replica was last verified, see `verify` |
//! | `REPLICA/landmarks` | length and times of some stored files, see `replica` |
//! | `REPLICA/url` | where the replica is, for commands that are given the database alone |
//! | `REPLICA/create-only` | whether the store honours create-only PUTs, see `replica` |
//!
//! `REPLICA` is a hash of the replica's identity, 16 hex digits.
//!
//! `home` opens the folder and reads and writes the slots, `record` is the state of one replica
//! while it is followed, `page_hashes` the file of page hashes, `next_checksum` the database
//! checksum after a batch, `unanswered` what may still arrive, `uploads` how the points move with
//! uploads. A slot, all integers little-endian:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `LSFSTATE` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | page size |
//! | 16 | 8 | sequence number of the slot |
//! | 24 | 16 | boot id of the host |
//! | 40 | 16 | device and inode of the database |
//! | 56 | 32 | *durable* point: the store has answered |
//! | 88 | 32 | *intended* point: being uploaded |
//! | 120 | 8 | seed of the page hashes |
//! | 128 | 8 | TXID as of which the page hashes are on disk; 0 = never |
//! | 136 | 8 | newest timestamp written to a header |
//! | 144 | 8 | print of the object of the durable point; 0 = not known |
//! | 152 | 8 | print of the object of the intended point |
//! | 160 | 8 | print of the object as of which the page hashes are on disk |
//! | 168 | 8 | modification time of the database file, in nanoseconds; 0 = not known |
//! | 176 | 8 | length of the database file |
//! | 184 | 8 | not used |
//! | 192 | 8 | 1 if the database checksum of the durable point is known |
//! | 200 | 8 | that checksum |
//! | 208 | 8 | when the inode of the database file was last changed, in nanoseconds; 0 = not known |
//! | 216 | 8 | TXID of uploads without an answer, see `unanswered` |
//! | 224 | 128 | prints of their objects, the oldest first; 0 = none |
//! | 352 | 152 | 0 |
//! | 504 | 8 | CRC-64/GO-ISO of bytes 0..504 |
//!
//! A point: TXID (8), salts (4 + 4), frame (4), database size in pages (4), running checksum (4 +
//! 4). The *print* of its object is the CRC-64 of that object's LTX header without the database
//! checksum. The header has the time
//! to the millisecond, and the range of the WAL with its salts: no other database, and no other run
//! of this one, makes the same print. States of earlier versions have zeros there, and their
//! objects are trusted without this check.
//!
//! # Failure and crash
//!
//! The state is written without fsync. After a crash of the process it is exact. After a crash of
//! the host it is trusted only where the boot id and the TXID of the page hashes allow it.
//!
//! The page hashes get their new TXID before the first of their entries changes. So where their
//! TXID is that of the durable point, they are exactly its pages, and the checksum of the durable
//! point is the sum of their published halves. Otherwise, and after a crash of the host, the
//! checksum is not known until all pages of the database were compared.

mod home;
pub mod next_checksum;
pub mod page_hashes;
pub(crate) mod record;
mod unanswered;
mod uploads;

#[cfg(fuzzing)]
pub(crate) use home::round_trip_for_fuzzing;
pub use home::{
    Home, HomeError, LOCK, Point, SOCKET, State, StateFile, boot_id, folder_of, home_folder, home_of,
    image_wish, note_url, noted_replicas, noted_url, print_of, read_state, replica_folder,
};
