//! Every maximum of the program, by name, with what happens when it is reached.

use std::time::Duration;

/// Frames in the log before the guard gives the application its turn to checkpoint. SQLite's own
/// default.
pub const TURN_FRAMES: u32 = 1_000;

/// A log this large that neither turns nor rounds reset is reported once. Nothing else happens.
pub const WAL_REPORT_BYTES: u64 = 64 << 20;

/// An idle log file larger than this is given back to the disk by a TRUNCATE checkpoint.
pub const WAL_IDLE_BYTES: u64 = 16 << 20;

/// Page images that wait in memory for one replica. Beyond it only page numbers are kept, and the
/// pages are read from the database when the batch is made.
pub const PENDING_BYTES: usize = 16 << 20;

/// Page images of a transaction whose commit has not been read yet. Beyond it only page numbers are
/// kept, and the pages are read from the database when the batch is made. Frames that are not
/// published are not among them.
pub const OPEN_BYTES: usize = 16 << 20;

/// Hashes of the pages of one batch in memory: 16 bytes and a page number each. Beyond it they wait
/// in a file beside the database for the store's answer.
pub const BATCH_HASHES: usize = 32 << 10;

/// Page images that make a batch worth a request of its own: so many don't wait for
/// `sync-interval`. A fast writer would else reach [`PENDING_BYTES`] within it, and reading its
/// pages again would keep its log from starting over.
pub const BATCH_BYTES: usize = 4 << 20;

/// One read of the tail, at most. More frames than this take several reads.
pub const TAIL_READ_BYTES: usize = 1 << 20;

/// Bytes of one answer in XML. A longer one is an error.
pub const XML_BYTES: usize = 8 << 20;

/// A part of a ranged GET. Longer ranges are cut.
pub const GET_PART_BYTES: u64 = 8 << 20;

/// Smallest part of a multipart upload, by S3's rule; the last may be smaller.
pub const PART_BYTES_MIN: u64 = 5 << 20;

/// Part of a multipart upload unless the length asks for more. An object has at most [`PARTS_MAX`].
pub const PART_BYTES: u64 = 5 << 20;

/// Parts of a multipart upload, by S3's rule.
pub const PARTS_MAX: u64 = 10_000;

/// Objects that one DeleteObjects names, by S3's rule. More take several requests.
pub const DELETE_BATCH: usize = 1_000;

/// Requests under way at once for one multipart upload.
pub const TRANSFERS: usize = 4;

/// Idle connections kept for one endpoint. Further ones are closed. As many as can be busy at once:
/// a fleet whose databases commit together would otherwise open half of them again with each burst.
pub const POOL_IDLE: usize = POOL_REQUESTS;

/// Requests that wait for the answer of one endpoint at once. Further ones wait for their place,
/// each database with one of its own: a fleet that starts would else open a connection for each
/// database.
pub const POOL_REQUESTS: usize = 128;

/// How long an idle connection is trusted. Servers close theirs after 5 to 75 s; an older one is
/// closed unused.
pub const POOL_IDLE_TIME: Duration = Duration::from_secs(20);

/// Age at which a connection is not used again, so that a change in the name service is followed.
pub const POOL_AGE: Duration = Duration::from_secs(300);

/// How long an address of a name may be silent before the next one is tried next to it.
pub const CONNECT_STAGGER: Duration = Duration::from_millis(200);

/// Time for TCP to connect, and again for TLS to agree. Beyond it the attempt has failed.
pub const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Time for a server to say whether it speaks S3. One that takes longer has not answered.
pub const PROBE_TIME: Duration = Duration::from_secs(2);

/// A file of trusted certificates. A longer one is an error; the largest bundles in use have some
/// 300 KB.
pub const CA_BYTES: u64 = 4 << 20;

/// A config file. A longer one is an error.
pub const CONFIG_BYTES: u64 = 16 << 20;

/// Characters of a text from elsewhere (the words of a store, the name of an object) in one
/// message. The rest is cut off.
pub const UNTRUSTED_CHARS: usize = 200;

/// Characters of one message to a person, or of one error in the status. The rest is cut off:
/// something that was put into it had no end.
pub const MESSAGE_CHARS: usize = 4000;

/// Bytes of an answer that reports an error. The rest is not read.
pub const ERROR_BYTES: usize = 64 << 10;

/// Pages of one listing. With more, the listing is an error: it may be one that never ends.
pub const LIST_PAGES: usize = 10_000;

/// Pages of one listing that bring nothing new. With more, the listing is an error.
pub const LIST_IDLE_PAGES: usize = 1_000;

/// Objects of one replica in one listing, and names in one directory. With more, the listing is an
/// error. An entry takes some 50 bytes of memory.
pub const LIST_OBJECTS: usize = 2_000_000;

/// Time for all pages of one listing. Beyond it no further page is asked for, and the listing is an
/// error.
pub const LIST_TIME: Duration = Duration::from_secs(600);

/// Objects up to this size are copied by one CopyObject, by S3's rule. Larger ones are copied in
/// parts.
pub const COPY_BYTES: u64 = 5 << 30;

/// A part of a copy made in parts.
pub const COPY_PART_BYTES: u64 = 1 << 30;

/// Changes of plan within one request (region, clock, redirect, a header that the store refuses).
/// One more is an error.
pub const REPLANS: u32 = 6;

/// First wait after a failure; see `base::backoff`.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Each wait is this many times as long as the one before: attempts after 0, 0.1, 0.6, 3.1 and 15.6
/// s, five in the first minute.
pub const BACKOFF_GROWTH: u32 = 5;

/// Longest wait between two attempts of something that fails again and again, without the random
/// part of up to a half.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Shortest wait after a failure that does not heal by itself: wrong keys or rights, no bucket, a
/// full disk, a refused request.
pub const BACKOFF_REFUSED: Duration = Duration::from_secs(30);

/// Longest wait between two attempts at a store that no connection reaches, so that its return is
/// soon noticed.
pub const BACKOFF_UNREACHABLE: Duration = Duration::from_secs(10);

/// Longest wait between two attempts once the end of the process is asked for.
pub const BACKOFF_STOPPING: Duration = Duration::from_secs(2);

/// `--once` without `--shutdown-timeout` gives up a store that has taken nothing for this long.
pub const ONCE_OUTAGE: Duration = Duration::from_secs(20);

/// How long a deployment may overlap with the process before it: a pipeline whose state belongs to
/// a replica waits for this time while another program still writes there, then it is an error.
pub const OVERLAP: Duration = Duration::from_secs(60);

/// How long the lock of a database may be held by another lsfast that is about to end; then it is
/// an error.
pub const HOLD_WAIT: Duration = Duration::from_secs(10);

/// A store is asked again after this time whether it keeps create-only PUTs from replacing objects.
pub const CREATE_ONLY_PROOF: Duration = Duration::from_secs(24 * 3600);

/// A batch up to this length proves that; longer ones would cost more than the small request that
/// it is worth.
pub const CREATE_ONLY_BYTES: usize = 64 << 10;

/// `--once` without `--shutdown-timeout` ends when no store has answered or taken a byte for this
/// long.
pub const ONCE_STALL: Duration = Duration::from_secs(30);

/// Longest wait between two attempts of one request of a command that somebody waits for.
pub const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);

/// Uploads that may leave at once after a quiet time before `sync-interval` spaces them.
pub const SYNC_BURST: u32 = 10;

/// A writer that has committed nothing for so long has come to rest: what it left need not wait for
/// `sync-interval`.
pub const SYNC_REST: Duration = Duration::from_millis(20);

/// That counts once in so many intervals, so that a writer of short pauses does not make an upload
/// of each.
pub const SYNC_REST_INTERVALS: u32 = 10;

/// The slow look at every mapped header that covers lost events.
pub const SAFETY_TICK: Duration = Duration::from_secs(1);

/// The interval at which watched directories are read where inotify has no watch left. A new
/// database is found so much later.
pub const ARRIVALS_TICK: Duration = Duration::from_secs(5);

/// The interval at which the path of each followed database is looked up, by one system call: a
/// directory that was exchanged above it, a link that leads elsewhere and a new mount give no other
/// sign.
pub const PATH_TICK: Duration = Duration::from_secs(2);

/// Requests in flight in the I/O engine. Further ones wait for a place.
pub const IO_DEPTH: usize = 64;

/// Threads of the plain I/O engine. Requests beyond that wait in its queue.
pub const IO_THREADS: usize = 4;

/// A read up to this length is tried in the page cache before it goes to the I/O engine.
pub const IO_CACHED_READ_BYTES: usize = 256 << 10;

/// Bytes of LTX files that a restore has asked for and not decoded yet. Further requests wait.
pub const RESTORE_BYTES: u64 = 8 * RESTORE_PART_BYTES;

/// One ranged GET of a restore. Longer files take several. As long as the parts that images are
/// uploaded in: stores that keep parts as they came have less to do for ranges that match them.
pub const RESTORE_PART_BYTES: u64 = PART_BYTES;

/// Listings of one restore whose files are removed or replaced while it reads them. One more is an
/// error.
pub const RESTORE_LISTINGS: u32 = 8;

/// Pages that a thread of a restore decodes in one go, at most. More take several turns.
pub const RESTORE_BATCH_BYTES: usize = 1 << 20;

/// One write of a restore, at most. Longer runs of pages take several. A run of this length is
/// still in the cache of its processor when it is copied to the page cache; longer ones took twice
/// the time.
pub const RESTORE_WRITE_BYTES: usize = 256 << 10;

/// After so many bytes a restore asks the disk to begin writing. Less is left to the kernel, and to
/// the flush.
pub const RESTORE_WRITEBACK_BYTES: u64 = 16 << 20;

/// Decoding threads of a restore, however many cores there are.
pub const RESTORE_THREADS: usize = 16;

/// Requests under way at once for one restore, unless the user says otherwise: the files after an
/// image are many and small, and wait for round trips rather than for bytes.
pub const RESTORE_TRANSFERS: usize = 16;

/// Requests under way at once for one restore, at most, whatever `--parallelism` says.
pub const RESTORE_TRANSFERS_MAX: usize = 64;

/// Open files that a database at rest takes: itself, its log, its wal-index, the lock beside it,
/// the socket for its status.
pub const DATABASE_FILES: u64 = 5;

/// Open files that the process takes beside those.
pub const PROCESS_FILES: u64 = 200;

/// Databases that are opened at once, each on a thread. Further ones wait, five seconds at most for
/// each that is locked.
pub const OPENING: usize = 32;

/// Databases that are followed because they were found in directories. Beyond it, a database is
/// refused with an error in the log.
pub const DATABASES_MAX: usize = 100_000;

/// An answer of a credential service, or the output of a `credential_process`. A longer one is an
/// error.
pub const CREDENTIAL_BYTES: usize = 64 << 10;

/// A file of AWS profiles. A longer one is an error.
pub const PROFILE_BYTES: u64 = 1 << 20;

/// Time for one answer of a credential service on the network. Beyond it the attempt has failed.
pub const CREDENTIAL_TIME: Duration = Duration::from_secs(10);

/// Time for a credential service on this host or beside it (container, EC2 metadata) to answer.
pub const METADATA_TIME: Duration = Duration::from_secs(1);

/// Attempts at the EC2 metadata service for one answer: it drops requests when it is busy.
pub const METADATA_ATTEMPTS: u32 = 3;

/// Time for a `credential_process`. Beyond it it is killed.
pub const CREDENTIAL_PROCESS_TIME: Duration = Duration::from_secs(60);

/// So long before they expire credentials are asked for anew, or a third of their life if that is
/// shorter.
pub const CREDENTIAL_LEAD: Duration = Duration::from_secs(300);

/// Credentials are not used for the last of their life: a request that is under way must arrive. A
/// tenth of their life if that is shorter.
pub const CREDENTIAL_MARGIN: Duration = Duration::from_secs(10);

/// Wait after the first failure to get credentials; it grows up to the next. Until then the failure
/// is the answer.
pub const CREDENTIAL_WAIT_FIRST: Duration = Duration::from_secs(1);

/// Longest wait between two attempts to get credentials.
pub const CREDENTIAL_WAIT_MAX: Duration = Duration::from_secs(60);

/// Credentials that a store refuses are asked for anew at most this often. A refusal in between is
/// final.
pub const CREDENTIAL_REASK: Duration = Duration::from_secs(30);

/// Profiles that name each other (`source_profile`). A longer row is an error.
pub const PROFILE_CHAIN: usize = 8;

/// Batches in one object of times. More take several objects.
pub const TIMES_ENTRIES: usize = 1 << 17;

/// A time this far ahead of the store's clock is an error of a clock: it is corrected by the order
/// of TXIDs, and new files do not go on from it. Clocks that differ by less are taken for equal.
pub const CLOCK_AHEAD: Duration = Duration::from_secs(300);

/// Requests are signed by the store's clock where it differs from this host's by no more than this.
/// Beyond it they are refused: who chooses the time of a signature chooses when it can be used.
pub const CLOCK_CORRECTION: Duration = Duration::from_secs(24 * 3600);

/// States after one from the future that are asked for their time, one small request each. Where
/// all of them are from the future, the present moment counts.
pub const CLOCK_WITNESSES: usize = 16;

/// Bytes of an object of times. A longer one is ignored; [`TIMES_ENTRIES`] need no more than this.
pub const TIMES_BYTES: u64 = 3 << 20;

/// One piece of a snapshot or a log of Litestream 0.3 in memory. Longer ones take several.
pub const LEGACY_READ_BYTES: usize = 1 << 20;

/// States that one list of restore points shows. Older ones are left out, and the list says so.
pub const POINTS_MAX: usize = 1_000;

/// Headers that are read at once for a list of restore points.
pub const HEADERS_AT_ONCE: usize = 16;

/// Objects of one level that a replica remembers. The oldest beyond are forgotten, and stay in the
/// store until the next start lists them.
pub const SHELF_OBJECTS: usize = 200_000;

/// Raw batches that are kept for the sake of precision. Of more the oldest go as soon as they are
/// compacted and five minutes old.
pub const RAW_OBJECTS: usize = 100_000;

/// Files of one merge. The rest becomes the next file of the level.
pub const MERGE_INPUTS: usize = 256;

/// Bytes of the inputs of one merge that are in memory at once.
pub const MERGE_BYTES: usize = 16 << 20;

/// Bytes of young files that the process remembers so that merging them needs no GET. The oldest go
/// first.
pub const CACHE_BYTES: usize = 8 << 20;

/// A file that is longer is not remembered.
pub const CACHE_OBJECT_BYTES: usize = 1 << 20;

/// Merges, copies, images and deletions under way at once, for all databases. Further ones wait.
pub const HISTORY_JOBS: usize = 4;

/// Of these, how many may be about more than [`HISTORY_LARGE_BYTES`].
pub const HISTORY_LARGE_JOBS: usize = 1;

/// What makes a job a large one.
pub const HISTORY_LARGE_BYTES: u64 = 16 << 20;

/// GETs under way at once for the small inputs of one merge.
pub const HISTORY_TRANSFERS: usize = 4;

/// The rest after the store has refused a deletion for good.
pub const HISTORY_REFUSED_REST: Duration = Duration::from_secs(24 * 3600);

/// How long a full image waits for the batch that it belongs to. Then it is given up and tried
/// again, so that the log is not held back.
pub const SNAPSHOT_POINT_WAIT: Duration = Duration::from_secs(10);

/// Bytes of a page index under construction that are held in memory. Beyond it they go to a file
/// beside the database.
pub const INDEX_BYTES: usize = 1 << 20;

/// Files of a replica that are verified at once. Further ones wait.
pub const VERIFY_FILES: usize = 4;

/// What a request of a paced verification counts at least: many small files are as dear as a large
/// one.
pub const VERIFY_REQUEST_BYTES: u64 = 32 << 10;

/// Attempts to verify a replica whose files are replaced or removed meanwhile. The last one counts.
pub const VERIFY_ATTEMPTS: u32 = 5;

/// Replicas that are verified in the background at once, for all databases. Further ones wait.
pub const VERIFY_REPLICAS: usize = 1;

/// The first verification after a start comes within this time, or within the interval if that is
/// shorter, and not in its first quarter.
pub const VERIFY_FIRST: Duration = Duration::from_secs(600);

/// The first rest of a verification that could not be done; it grows up to [`VERIFY_REST_MAX`].
pub const VERIFY_REST_MIN: Duration = Duration::from_secs(60);

/// The longest, unless the interval is shorter.
pub const VERIFY_REST_MAX: Duration = Duration::from_secs(3600);

/// How often a replica that is not ready to be verified is looked at.
pub const VERIFY_READY: Duration = Duration::from_secs(10);

/// What is remembered of the last verification. A longer file is ignored.
pub const VERIFY_RECORD_BYTES: u64 = 64 << 10;

/// Findings of one kind that a report of a verification names. Further ones are counted.
pub const VERIFY_FINDINGS: usize = 1_000;

/// Attempts to compare a replica with a database whose log starts over meanwhile. One more is an
/// error.
pub const COMPARE_ATTEMPTS: u32 = 5;

/// Pages that a comparison names. Further ones are counted.
pub const COMPARE_FINDINGS: usize = 20;

/// Connections at once to the metrics address, and to the socket of the process. Further ones wait
/// in the kernel's queue.
pub const OBSERVE_CONNECTIONS: usize = 16;

/// Connections at once to the socket of one database. Further ones wait in the kernel's queue.
pub const OBSERVE_HOME_CONNECTIONS: usize = 4;

/// Time for a connection to ask and to take its answer. Beyond it the connection is closed.
pub const OBSERVE_TIME: Duration = Duration::from_secs(10);

/// Head of a request for the status. A longer one is refused.
pub const OBSERVE_HEAD_BYTES: usize = 16 << 10;

/// An answer of a running process about its state. A longer one is an error; a database with a
/// replica takes some 1,500 bytes.
pub const STATUS_BYTES: u64 = 64 << 20;

/// Sockets that wait to be served. One that finds no place is not served, which is said.
pub const OBSERVE_QUEUE: usize = DATABASES_MAX;
/// A follower's log of this size is emptied with a little patience for its readers; shorter ones
/// begin anew by themselves.
pub const FOLLOW_LOG_BYTES: u64 = 64 << 20;

/// Bytes of the files that a follower applies in one transaction; a single file may be longer.
pub const FOLLOW_BATCH_BYTES: u64 = 64 << 20;

/// Bytes that a follower asks for when it does not know how long the next file is.
pub const FOLLOW_PROBE_BYTES: u64 = 1 << 20;

/// While nothing new comes, a follower lists so long after the last time; it doubles up to
/// [`FOLLOW_LIST_MAX`].
pub const FOLLOW_LIST_MIN: Duration = Duration::from_secs(60);

/// The longest.
pub const FOLLOW_LIST_MAX: Duration = Duration::from_secs(600);

/// A follower that is not up to date for so long says how old its state is, and again whenever that
/// has doubled.
pub const FOLLOW_STALE: Duration = Duration::from_secs(60);

/// A follower says where it is so often.
pub const FOLLOW_LINE: Duration = Duration::from_secs(3600);
