//! Every maximum, interval and timeout of the program by name, with its unit and what happens when
//! it is reached. Each section is one area. Relations between constants are asserted. What bounds
//! memory is in [`memory`](super::memory), with its sums, and what a view reads in
//! [`view_limits`](super::view_limits).

use std::time::Duration;

pub use super::memory::*;
pub use super::view_limits::*;

// # Capture: from the WAL to page images

/// Frames in the WAL before the guard lets the application checkpoint (a turn). The same as
/// SQLite's default for `wal_autocheckpoint`.
pub const TURN_FRAMES: u32 = 1_000;

/// Bytes of a WAL that neither turns nor rounds have reset. Beyond this the WAL is reported once,
/// and no further pin joins one that is held, so that the guard gets its turn.
pub const WAL_REPORT_BYTES: u64 = 64 << 20;

/// Bytes of the WAL of an idle database. A larger file is cut by a TRUNCATE checkpoint.
pub const WAL_IDLE_BYTES: u64 = 16 << 20;

/// Interval of the look at every mapped wal-index header, which covers lost inotify events. A
/// commit whose event is lost is captured up to this much later.
pub const SAFETY_TICK: Duration = Duration::from_secs(1);

/// Interval at which watched directories are read when no inotify watch is available. A new
/// database is found up to this much later.
pub const ARRIVALS_TICK: Duration = Duration::from_secs(5);

/// Interval at which the path of each database is looked up, with one system call. A directory
/// above it that was exchanged, a link with another target and a new mount give no other sign.
pub const PATH_TICK: Duration = Duration::from_secs(2);

/// Databases that are opened at once, each on a thread. Further ones wait, for at most five seconds
/// per database that is locked.
pub const OPENING: usize = 32;

/// Databases found in directories that one process replicates. A further one is refused with an
/// error in the log.
pub const DATABASES_MAX: usize = 100_000;

/// Time to wait for the locks of others when a database is opened. After this it fails as locked,
/// and is tried again.
pub const OPEN_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Names of new files in a directory that one hint keeps until they are taken. With more the whole
/// directory is read instead.
pub const ARRIVALS_MAX: usize = 4096;

/// Time to wait for the lock of a database that another lsfast holds, which may be about to end.
/// After this it is an error.
pub const HOLD_WAIT: Duration = Duration::from_secs(10);

/// File descriptors that an idle database takes: database, WAL, wal-index, lock file and status
/// socket. At the start the process warns if its limit is too low for all databases.
pub const DATABASE_FILES: u64 = 5;

/// File descriptors that the process takes in addition to [`DATABASE_FILES`] for each database.
pub const PROCESS_FILES: u64 = 200;

// # I/O engine and files

/// Requests in flight in the I/O engine. Further ones wait.
pub const IO_DEPTH: usize = 64;

/// Threads of the plain I/O engine. Requests beyond that wait in its queue.
pub const IO_THREADS: usize = 4;

/// Processes of the host that are examined for open files. Further ones are ignored.
pub const PROCESSES_MAX: usize = 10_000;

/// Bytes of a config file. A longer one is an error.
pub const CONFIG_BYTES: u64 = 16 << 20;

// # Upload: batches, retries, end of the process

/// Uploads that may start at once after a quiet time. After these `sync-interval` spaces them.
pub const SYNC_BURST: u32 = 10;

/// Time without a commit after which a writer counts as resting. What it left is uploaded without
/// waiting for `sync-interval`, at most once in [`SYNC_REST_INTERVALS`] intervals.
pub const SYNC_REST: Duration = Duration::from_millis(20);

/// Number of `sync-interval`s in which [`SYNC_REST`] takes effect once. This keeps a writer with
/// short pauses from causing an upload for each of them.
pub const SYNC_REST_INTERVALS: u32 = 10;

/// First wait after a failure; see `base::backoff`.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Factor from each wait to the next. Attempts start after 0, 0.1, 0.6, 3.1 and 15.6 s: five in the
/// first minute.
pub const BACKOFF_GROWTH: u32 = 5;

/// Longest wait between two attempts of something that fails again and again. A random part of up
/// to a half is added to it.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Shortest wait after a failure that does not heal by itself: wrong keys or permissions, no
/// bucket, a full disk, a refused request. The second attempt is thus not in the first minute.
pub const BACKOFF_REFUSED: Duration = Duration::from_secs(60);
const _: () = assert!(BACKOFF_FIRST.as_millis() < BACKOFF_REFUSED.as_millis(), "refusals wait longer");
const _: () = assert!(BACKOFF_REFUSED.as_millis() < BACKOFF_MAX.as_millis(), "waits grow after refusals");

/// Longest wait between two attempts at a store that no connection reaches, so that its return is
/// noticed soon. The fifth attempt comes after 15.6 s at the earliest, so that the sixth is not in
/// the first minute.
pub const BACKOFF_UNREACHABLE: Duration = Duration::from_secs(45);
const _: () = assert!(BACKOFF_UNREACHABLE.as_millis() < BACKOFF_MAX.as_millis(), "a return is noticed soon");

/// Longest wait between two attempts once the process has been asked to end.
pub const BACKOFF_STOPPING: Duration = Duration::from_secs(2);

/// Longest wait between two attempts of one request in a command that a user waits for.
pub const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);

/// Time that the program of `--exec` has to end after lsfast was killed, if `--shutdown-timeout` is
/// not shorter. Then the guardian kills it, because its commits are stored nowhere.
pub const ORPHANED_PROGRAM: Duration = Duration::from_secs(10);

/// Time to wait for the program of `--exec` after it was killed. After this lsfast ends without it:
/// it is stuck in the kernel, or belongs to another user.
pub const KILLED_PROGRAM: Duration = Duration::from_secs(5);

/// Time without a successful upload after which `--once` without `--shutdown-timeout` gives up a
/// store.
pub const ONCE_OUTAGE: Duration = Duration::from_secs(20);

/// Time without an answer or a sent byte to any store after which `--once` without
/// `--shutdown-timeout` ends with an error.
pub const ONCE_STALL: Duration = Duration::from_secs(30);

/// A pipeline that continues a replica waits this long for another writer to end, then it fails.
pub const OVERLAP: Duration = Duration::from_secs(60);

/// Longest time of uploads between two checks that a replica holds what was stored, or interval of
/// the first level if that is shorter. An upload after a longer pause waits for one.
pub const LINEAGE_EVERY: Duration = Duration::from_secs(30);

/// Shortest time between two such checks.
pub const LINEAGE_EVERY_MIN: Duration = Duration::from_secs(1);

/// Age at which the proof is repeated that a store keeps create-only PUTs from replacing objects.
pub const CREATE_ONLY_PROOF: Duration = Duration::from_secs(24 * 3600);

/// Bytes of the longest batch that is sent a second time for the proof of [`CREATE_ONLY_PROOF`].
/// Longer batches would cost more than the small request that the proof is worth.
pub const CREATE_ONLY_BYTES: usize = 64 << 10;

// # S3: transfers and connections

/// Bytes of one ranged GET. A longer range takes several.
pub const GET_PART_BYTES: u64 = 8 << 20;

/// Parts of a multipart upload at most, by S3's rule.
pub const PARTS_MAX: u64 = 10_000;

/// Objects that one DeleteObjects names, by S3's rule. More take several requests.
pub const DELETE_BATCH: usize = 1_000;

/// Bytes of the largest object that one CopyObject copies, by S3's rule. Larger ones are copied in
/// parts.
pub const COPY_BYTES: u64 = 5 << 30;

/// Bytes of a part of a copy that is made in parts.
pub const COPY_PART_BYTES: u64 = 1 << 30;
const _: () = assert!(COPY_PART_BYTES <= COPY_BYTES, "a part is not longer than S3 copies at once");

/// Requests to one endpoint that wait for an answer at once. Further ones wait for a place in the
/// order of their arrival. Without this bound a fleet would open a connection per database when it
/// starts.
pub const POOL_REQUESTS: usize = 128;

/// Idle connections kept for one endpoint. Further ones are closed. As many are kept as can be
/// busy. Otherwise a fleet whose databases commit together would reopen half of them with each
/// burst.
pub const POOL_IDLE: usize = POOL_REQUESTS;

/// Time after which an idle connection is closed unused. Servers close theirs after 5 to 75 s.
pub const POOL_IDLE_TIME: Duration = Duration::from_secs(20);

/// Age at which a connection is not used again, so that changes in DNS take effect.
pub const POOL_AGE: Duration = Duration::from_secs(300);

/// Time that an address of a host may be silent before the next address is tried at the same time.
pub const CONNECT_STAGGER: Duration = Duration::from_millis(200);

/// Time for the TCP connection, and again for the TLS handshake. After this the attempt has failed.
pub const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Time for a server to answer whether it speaks S3. A slower one counts as unknown.
pub const PROBE_TIME: Duration = Duration::from_secs(2);

/// Bytes of a file of trusted certificates. A longer one is an error. The largest bundles in use
/// have about 300 KB.
pub const CA_BYTES: u64 = 4 << 20;

/// Changes of plan within one request (region, clock, redirect, a header that the store refuses).
/// One more is an error.
pub const REPLANS: u32 = 6;

/// Bytes of one answer in XML. A longer one is an error.
pub const XML_BYTES: usize = 8 << 20;

/// Bytes that are read of an answer that reports an error. The rest is not read.
pub const ERROR_BYTES: usize = 64 << 10;

// # S3: listings

/// Pages of one listing. With more the listing is an error, because it may never end.
pub const LIST_PAGES: usize = 10_000;

/// Pages of one listing that contain nothing new. With more the listing is an error.
pub const LIST_IDLE_PAGES: usize = 1_000;
const _: () = assert!(LIST_IDLE_PAGES < LIST_PAGES, "a listing without news ends first");

/// Objects of one replica in one listing, and names in one directory. With more the listing is an
/// error. An entry takes about 50 bytes of memory.
pub const LIST_OBJECTS: usize = 2_000_000;

/// Time for all pages of one listing. After this no further page is requested, and the listing is
/// an error.
pub const LIST_TIME: Duration = Duration::from_secs(600);

// # S3: credentials and clocks

/// Bytes of an answer of a credential service, or of the output of a `credential_process`. A longer
/// one is an error.
pub const CREDENTIAL_BYTES: usize = 64 << 10;

/// Bytes of a file of AWS profiles. A longer one is an error.
pub const PROFILE_BYTES: u64 = 1 << 20;

/// Profiles that refer to one another in a row (`source_profile`). A longer row is an error.
pub const PROFILE_CHAIN: usize = 8;

/// Time for one answer of a credential service on the network. After this the attempt has failed.
pub const CREDENTIAL_TIME: Duration = Duration::from_secs(10);

/// Time for one answer of a credential service on this host or next to it (container, EC2
/// metadata). After this the attempt has failed.
pub const METADATA_TIME: Duration = Duration::from_secs(1);

/// Attempts for one answer of the EC2 metadata service, which drops requests when it is busy. After
/// these the last failure is the result.
pub const METADATA_ATTEMPTS: u32 = 3;

/// Time for a `credential_process`. After this it is killed.
pub const CREDENTIAL_PROCESS_TIME: Duration = Duration::from_secs(60);

/// Time before credentials expire at which new ones are requested, or a third of their life if that
/// is shorter.
pub const CREDENTIAL_LEAD: Duration = Duration::from_secs(300);

/// Time before credentials expire from which on they are not used, or a tenth of their life if that
/// is shorter. A request in flight must still arrive before they expire.
pub const CREDENTIAL_MARGIN: Duration = Duration::from_secs(10);
const _: () = assert!(CREDENTIAL_MARGIN.as_millis() < CREDENTIAL_LEAD.as_millis(), "renewed while in use");

/// Wait after the first failure to get credentials; it grows up to [`CREDENTIAL_WAIT_MAX`].
/// Requests without valid credentials get this failure as their answer until the wait is over.
pub const CREDENTIAL_WAIT_FIRST: Duration = Duration::from_secs(1);

/// Longest wait between two attempts to get credentials.
pub const CREDENTIAL_WAIT_MAX: Duration = Duration::from_secs(60);
const _: () = assert!(CREDENTIAL_WAIT_FIRST.as_millis() < CREDENTIAL_WAIT_MAX.as_millis(), "the wait grows");

/// Shortest time between two requests for new credentials because a store refused the old ones. A
/// refusal within it is final.
pub const CREDENTIAL_REASK: Duration = Duration::from_secs(30);

/// Difference of clocks up to which they count as equal. A time further ahead of the store's clock
/// is a clock error. It is corrected by the order of TXIDs, and new files do not continue from it.
pub const CLOCK_AHEAD: Duration = Duration::from_secs(300);

/// Largest difference between the clocks of the store and of this host up to which requests are
/// signed with the store's time. Beyond it requests fail: a server that chooses the time of a
/// signature chooses when it can be used.
pub const CLOCK_CORRECTION: Duration = Duration::from_secs(24 * 3600);

/// States that are asked for their time after a state whose time is in the future, one small
/// request each. If the time of all of them is in the future, the present time is used.
pub const CLOCK_WITNESSES: usize = 16;

// # History: merges, images, retention

/// Objects of one level that a replica remembers. Beyond this the oldest are forgotten, and stay in
/// the store until the next start lists them.
pub const SHELF_OBJECTS: usize = 200_000;

/// Raw batches that are kept for precise restores. Beyond this the oldest are deleted as soon as
/// they are compacted and five minutes old. An explicit `l0-retention` is kept whatever their
/// number: a file that the user asked to keep is not deleted early. Those beyond
/// [`SHELF_OBJECTS`] then stay until the next start.
pub const RAW_OBJECTS: usize = 100_000;
const _: () = assert!(RAW_OBJECTS < SHELF_OBJECTS, "batches are deleted before they are forgotten");

/// Batches in one object of times. More take several objects.
pub const TIMES_ENTRIES: usize = 1 << 17;

/// Bytes of an object of times. A longer one is ignored. [`TIMES_ENTRIES`] entries never need more
/// than this.
pub const TIMES_BYTES: u64 = 3 << 20;

/// Files that one merge reads. The rest becomes the next file of the level.
pub const MERGE_INPUTS: usize = 256;

/// Merges, copies, images and deletions in progress at once, for all databases. Further ones wait.
pub const HISTORY_JOBS: usize = 4;

/// Large jobs among [`HISTORY_JOBS`]. Further large ones wait.
pub const HISTORY_LARGE_JOBS: usize = 1;
const _: () = assert!(HISTORY_LARGE_JOBS < HISTORY_JOBS, "small jobs pass large ones");

/// GETs in flight at once for the small inputs of one merge. Further ones wait.
pub const HISTORY_TRANSFERS: usize = 4;

/// Time without deletions after the store has refused one for good.
pub const HISTORY_REFUSED_REST: Duration = Duration::from_secs(24 * 3600);

/// Time that a full image waits for each of three things: its pin, its batch, and the upload of
/// that batch. After this it is given up and retried, so that the WAL is not held back.
pub const SNAPSHOT_POINT_WAIT: Duration = Duration::from_secs(10);

// # Restore

/// Listings of one restore whose files are removed or replaced while it reads them. One more is an
/// error.
pub const RESTORE_LISTINGS: u32 = 8;

/// Plans tried for one state if its files do not fit together. Each reads the whole database.
pub const RESTORE_PLANS: usize = 8;

/// Bytes in the page cache after which a restore asks the kernel to start writing them to the disk.
/// Less is left to the kernel and to the final flush.
pub const RESTORE_WRITEBACK_BYTES: u64 = 16 << 20;

/// Requests in flight at once for one restore by default. The files after an image are many and
/// small, and wait for round trips rather than for bytes.
pub const RESTORE_TRANSFERS: usize = 16;

/// Requests in flight at once for one restore at most. A larger `--parallelism` is an error.
pub const RESTORE_TRANSFERS_MAX: usize = 64;
const _: () = assert!(RESTORE_TRANSFERS <= RESTORE_TRANSFERS_MAX, "the default is allowed");

/// Bytes of one piece of a Litestream 0.3 snapshot or WAL in memory. Longer ones take several.
pub const LEGACY_READ_BYTES: usize = 1 << 20;

/// States that one list of restore points shows. Older ones are left out, and the list says so.
pub const POINTS_MAX: usize = 1_000;

/// File headers that are read at once for a list of restore points. Further ones wait.
pub const HEADERS_AT_ONCE: usize = 16;

/// Pages that `lsfast log` reads for one step, those in memory included. Rows of a larger step are
/// not counted, which its line says.
pub const LOG_PAGES_MAX: u64 = 1 << 20;

/// Pages of a database up to which `lsfast log` counts the rows of its first state, and reads whole
/// tables to find the row of a changed overflow page.
pub const LOG_READ_PAGES: u32 = 4096;

// # Verification

/// Bytes that each request of a paced verification counts as at least: many small files are as
/// expensive as a large one.
pub const VERIFY_REQUEST_BYTES: u64 = 32 << 10;

/// Attempts to verify a replica whose files are replaced or removed meanwhile. The last one counts.
pub const VERIFY_ATTEMPTS: u32 = 5;

/// Replicas that are verified in the background at once, for all databases. Further ones wait.
pub const VERIFY_REPLICAS: usize = 1;

/// Time after the start within which the first verification begins, or the interval if that is
/// shorter. It does not begin in the first quarter of it.
pub const VERIFY_FIRST: Duration = Duration::from_secs(600);

/// First wait after a verification that could not be done; it grows up to [`VERIFY_REST_MAX`].
pub const VERIFY_REST_MIN: Duration = Duration::from_secs(60);

/// Longest wait after a verification that could not be done, or the interval if that is shorter.
pub const VERIFY_REST_MAX: Duration = Duration::from_secs(3600);
const _: () = assert!(VERIFY_REST_MIN.as_millis() < VERIFY_REST_MAX.as_millis(), "the wait grows");

/// Interval at which a replica is checked that is not ready to be verified.
pub const VERIFY_READY: Duration = Duration::from_secs(10);

/// Bytes of the file that records the last verification. A longer one is ignored.
pub const VERIFY_RECORD_BYTES: u64 = 64 << 10;

/// Pages of the largest database whose batches a verification proves one by one: 32 MiB of hashes.
/// In a larger one only files, and states at which several files end, are proven.
pub const VERIFY_CHAIN_PAGES: u32 = 4 << 20;

/// Pages of the largest batch that a verification follows: 16 MiB with their hashes. After a larger
/// one it begins again, with the files of a later state.
pub const VERIFY_BATCH_PAGES: usize = 1 << 20;

/// Findings of one kind that a report of a verification names. Further ones are only counted.
pub const VERIFY_FINDINGS: usize = 1_000;

/// Attempts to compare a replica with a database whose WAL starts over meanwhile. One more is an
/// error.
pub const COMPARE_ATTEMPTS: u32 = 5;

/// Pages that a comparison names. Further ones are only counted.
pub const COMPARE_FINDINGS: usize = 20;

// # Standby: `restore -f`

/// Bytes of a standby's WAL from which on it is emptied by a TRUNCATE checkpoint, which waits
/// briefly for readers. A shorter WAL starts over by itself.
pub const FOLLOW_LOG_BYTES: u64 = 64 << 20;

/// Bytes of the files that a standby applies in one transaction. A single file may be longer.
pub const FOLLOW_BATCH_BYTES: u64 = 64 << 20;

/// Bytes that a standby requests when it does not know the length of the next file.
pub const FOLLOW_PROBE_BYTES: u64 = 1 << 20;

/// Most level-0 files that a standby applies one by one. If more wait, it lists the other levels,
/// where fewer files have the same.
pub const FOLLOW_NEAR_FILES: usize = 64;

/// First wait before a standby lists the replica while nothing new arrives. It doubles up to
/// [`FOLLOW_LIST_MAX`].
pub const FOLLOW_LIST_MIN: Duration = Duration::from_secs(60);

/// Longest wait between two listings of a standby while nothing new arrives.
pub const FOLLOW_LIST_MAX: Duration = Duration::from_secs(600);
const _: () = assert!(FOLLOW_LIST_MIN.as_millis() < FOLLOW_LIST_MAX.as_millis(), "the wait grows");

/// Lag after which a standby logs how old its state is, and again each time the lag has doubled.
pub const FOLLOW_STALE: Duration = Duration::from_secs(60);

/// Interval at which a standby logs its position.
pub const FOLLOW_LINE: Duration = Duration::from_secs(3600);

/// Requests to the databases of the process that wait to be read. A further one waits until there
/// is a place.
pub const CONTROL_QUEUE: usize = 1024;

// # Status and messages

/// Age of the oldest commit that is not stored from which `lsfast status` ends with exit code 1.
pub const STATUS_LATE: Duration = Duration::from_secs(60);

/// Files of each level whose ends are shown as states that can be restored. `lsfast points` lists
/// all of them.
pub const POINTS_OF_LEVEL: usize = 8;

/// Bytes of a response from which on it is compressed, for a client that accepts gzip.
pub const OBSERVE_GZIP_BYTES: usize = 4 << 10;

/// Time that a connection to the metrics address stays open without a request. It is longer than
/// the usual intervals of Prometheus.
pub const OBSERVE_IDLE: Duration = Duration::from_secs(150);

/// Connections at once to the metrics address, and to the socket of the process. A further one ends
/// the oldest.
pub const OBSERVE_CONNECTIONS: usize = 16;

/// Connections at once to the socket of one database. A further one ends the oldest.
pub const OBSERVE_HOME_CONNECTIONS: usize = 4;

/// Time for a connection to send its request and receive the answer. After this the connection is
/// closed.
pub const OBSERVE_TIME: Duration = Duration::from_secs(10);

/// Commands at once that wait for a database, over all sockets; a further one is refused. Also the
/// connections at once to a socket that takes commands; a further one ends the oldest.
pub const OBSERVE_WAITS: usize = 4096;

/// Bytes of the body of a command. A longer one is refused.
pub const OBSERVE_BODY_BYTES: usize = 64 << 10;

/// Bytes of the head of a request for the status. A longer one is refused.
pub const OBSERVE_HEAD_BYTES: usize = 16 << 10;

/// Sockets that wait to be served. A socket that finds no place is not served, which is logged.
pub const OBSERVE_QUEUE: usize = DATABASES_MAX;

/// Bytes of a running process's answer about its state. A longer one is an error.
pub const STATUS_BYTES: u64 = 256 << 20;

/// Bytes of one database in such an answer, with one replica and long paths. About 1,500 are
/// usual.
pub const STATUS_DATABASE_BYTES: u64 = 2_500;
const _: () = assert!(DATABASES_MAX as u64 * STATUS_DATABASE_BYTES <= STATUS_BYTES, "each database is shown");

/// Characters of one external text in a message, such as a store's error or an object's name. The
/// rest is cut off.
pub const UNTRUSTED_CHARS: usize = 200;

/// Characters of one message to a user, or of one error in the status. The rest is cut off: a
/// longer message contains text without a bound.
pub const MESSAGE_CHARS: usize = 4000;
