//! One set of tests for both engines.

use std::io::ErrorKind;

use super::engine::CACHED_READ_BYTES;
use super::*;
use crate::base::limits;

/// Runs a test with each engine that works here. If io_uring is forbidden, the test prints that it
/// was left out.
fn each(test: impl Fn(&Engine)) {
    let plain = Engine::new(IoChoice::Plain).unwrap();
    assert_eq!((plain.kind(), plain.fallback()), (IoKind::Plain, None));
    test(&plain);
    match Engine::new(IoChoice::Uring) {
        Ok(uring) => {
            assert_eq!((uring.kind(), uring.fallback()), (IoKind::Uring, None));
            test(&uring);
        }
        Err(e) => {
            let auto = Engine::new(IoChoice::Auto).unwrap();
            assert_eq!(auto.kind(), IoKind::Plain);
            assert!(auto.fallback().unwrap().ends_with(": using plain calls"));
            eprintln!("not tested with io_uring: {e}");
        }
    }
}

fn temporary() -> (tempfile::TempDir, File) {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create_new(&dir.path().join("f"), 0o600).unwrap();
    (dir, file)
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + seed * 7 + i / 251) % 256) as u8).collect()
}

#[test]
fn what_is_written_is_read_back() {
    each(|engine| {
        let (_dir, file) = temporary();
        for len in [0, 1, 511, 4096, CACHED_READ_BYTES, CACHED_READ_BYTES + 1, 3 << 20] {
            let data = pattern(len, 3);
            let (result, back) = wait(engine.write_all_at(&file, data.clone(), 10));
            result.unwrap();
            assert_eq!(back, data, "the buffer comes back as it went");
            wait(engine.sync_data(&file)).unwrap();
            wait(engine.sync_all(&file)).unwrap();
            let (result, read) = wait(engine.read_exact_at(&file, vec![0; len], 10));
            result.unwrap();
            assert!(read == data, "{len} bytes");
            let (result, read) = wait(engine.read_at_queued(&file, vec![0; len], 10));
            assert!(result.unwrap() == len && read == data, "{len} bytes, queued");
        }
    });
}

#[test]
fn a_read_is_short_at_the_end_of_the_file_only() {
    each(|engine| {
        let (_dir, file) = temporary();
        let len = CACHED_READ_BYTES + 5000;
        wait(engine.write_all_at(&file, pattern(len, 1), 0)).0.unwrap();
        for want in [5001, CACHED_READ_BYTES + 6000] {
            let from = (len - 5000) as u64;
            let (result, buf) = wait(engine.read_at(&file, vec![9; want], from));
            assert_eq!(result.unwrap(), 5000);
            assert_eq!(buf.len(), want, "the length of the buffer never changes");
            assert!(buf[..5000] == pattern(len, 1)[len - 5000..] && buf[5000..].iter().all(|&b| b == 9));
            let (result, _) = wait(engine.read_exact_at(&file, vec![9; want], from));
            let e = result.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::UnexpectedEof);
            assert_eq!(e.to_string(), format!("the file ends after 5000 of {want} bytes at offset {from}"));
        }
        assert_eq!(wait(engine.read_at(&file, vec![0; 10], 1 << 40)).0.unwrap(), 0);
    });
}

#[test]
fn only_the_length_of_a_buffer_counts_not_its_capacity() {
    each(|engine| {
        let (_dir, file) = temporary();
        let mut out = Vec::with_capacity(1 << 20);
        out.extend_from_slice(&pattern(CACHED_READ_BYTES * 2, 5));
        wait(engine.write_all_at(&file, out, 0)).0.unwrap();
        assert_eq!(file.len().unwrap(), 2 * CACHED_READ_BYTES as u64);
        let mut room = Vec::with_capacity(1 << 20);
        room.resize(CACHED_READ_BYTES + 1, 0);
        let (result, room) = wait(engine.read_at(&file, room, 0));
        assert_eq!((result.unwrap(), room.len()), (CACHED_READ_BYTES + 1, room.len()));
        assert_eq!(room.len(), CACHED_READ_BYTES + 1);
    });
}

#[test]
fn more_requests_than_places_are_all_answered() {
    each(|engine| {
        let (_dir, file) = temporary();
        let n = limits::IO_DEPTH * 4;
        let writes: Vec<_> =
            (0..n).map(|i| engine.write_all_at(&file, vec![i as u8; 1000], i as u64 * 1000)).collect();
        for write in writes {
            wait(write).0.unwrap();
        }
        file.forget_cached();
        let reads: Vec<_> =
            (0..n).map(|i| engine.read_exact_at(&file, vec![0; 1000], i as u64 * 1000)).collect();
        // The answers may be taken in any order.
        for (i, read) in reads.into_iter().enumerate().rev() {
            let (result, buf) = wait(read);
            result.unwrap();
            assert!(buf.iter().all(|&b| b == i as u8), "request {i}");
        }
    });
}

#[test]
fn it_works_inside_async_runtimes_and_without() {
    each(|engine| {
        let (_dir, file) = temporary();
        for runtime in [
            tokio::runtime::Builder::new_current_thread().build().unwrap(),
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap(),
        ] {
            let (engine, file) = (engine.clone(), file.clone());
            runtime.block_on(async move {
                let task = tokio::spawn(async move {
                    engine.write_all_at(&file, vec![1; 70_000], 0).await.0.unwrap();
                    engine.set_len(&file, 300_000).await.unwrap();
                    engine.read_exact_at(&file, vec![9; 300_000], 0).await
                });
                let (result, buf) = task.await.unwrap();
                result.unwrap();
                assert!(buf[..70_000].iter().all(|&b| b == 1) && buf[70_000..].iter().all(|&b| b == 0));
            });
        }
    });
}

#[test]
fn a_dropped_future_harms_nothing() {
    each(|engine| {
        let (_dir, file) = temporary();
        for i in 0..limits::IO_DEPTH * 2 {
            drop(engine.write_all_at(&file, vec![1; 1 << 16], (i % 4) as u64 * 4096));
        }
        wait(engine.idle());
        wait(engine.write_all_at(&file, vec![2; 4096], 0)).0.unwrap();
        let (result, buf) = wait(engine.read_exact_at(&file, vec![0; (1 << 16) + 3 * 4096], 0));
        result.unwrap();
        assert!(buf[..4096].iter().all(|&b| b == 2) && buf[4096..].iter().all(|&b| b == 1));
    });
}

#[test]
fn errors_carry_the_number_and_the_buffer() {
    each(|engine| {
        let (dir, file) = temporary();
        wait(engine.write_all_at(&file, vec![1; 10], 0)).0.unwrap();
        let read_only = File::open(&dir.path().join("f")).unwrap();
        let (result, buf) = wait(engine.write_all_at(&read_only, vec![7; 10], 0));
        assert_eq!((result.unwrap_err().raw_os_error(), buf), (Some(libc::EBADF), vec![7; 10]));
        let directory = File::open_directory(dir.path()).unwrap();
        let (result, buf) = wait(engine.read_at(&directory, vec![7; 10], 0));
        assert_eq!((result.unwrap_err().kind(), buf), (ErrorKind::IsADirectory, vec![7; 10]));
        assert_eq!(wait(engine.set_len(&read_only, 0)).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_full_disk_is_an_error_of_its_kind() {
    each(|engine| {
        let Ok(full) = File::open_rw(std::path::Path::new("/dev/full")) else { return };
        let (result, _) = wait(engine.write_all_at(&full, vec![0; 4096], 0));
        assert!(durable::is_full(&result.unwrap_err()));
    });
}

/// Closing any descriptor of a file drops all POSIX locks that the process holds on it. So the
/// engine must not close a file.
#[test]
fn the_engine_closes_nothing() {
    each(|engine| {
        let (_dir, file) = temporary();
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        wait(engine.write_all_at(&file, vec![1; 100], 0)).0.unwrap();
        wait(engine.sync_all(&file)).unwrap();
        assert_eq!(file.len().unwrap(), 100, "descriptor {number} is open after its requests");
        // A database must be able to take a lock through the descriptor, and keep it while the
        // engine works.
        file.std().lock().unwrap();
        wait(engine.read_exact_at(&file, vec![0; 100], 0)).0.unwrap();
        assert_eq!(file.len().unwrap(), 100);
    });
}

#[test]
fn the_same_descriptor_number_for_another_file_is_the_other_file() {
    each(|engine| {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..20u8 {
            let file = File::create_new(&dir.path().join(i.to_string()), 0o600).unwrap();
            wait(engine.write_all_at(&file, vec![i; 10], 0)).0.unwrap();
        }
        for i in 0..20u8 {
            let content = read_small(&dir.path().join(i.to_string()), 100).unwrap();
            assert_eq!(content, vec![i; 10]);
        }
    });
}

#[test]
fn dropping_the_last_clone_finishes_what_was_begun() {
    each(|engine| {
        let (_dir, file) = temporary();
        let own = Engine::new(match engine.kind() {
            IoKind::Uring => IoChoice::Uring,
            IoKind::Plain => IoChoice::Plain,
        });
        let own = own.unwrap();
        let writes: Vec<_> =
            (0..20u64).map(|i| own.write_all_at(&file, vec![3; 100_000], i * 100_000)).collect();
        drop(own);
        for write in writes {
            let (result, buf) = wait(write);
            result.unwrap();
            assert_eq!(buf.len(), 100_000);
        }
        assert_eq!(file.len().unwrap(), 2_000_000);
    });
}

#[test]
fn names_of_engines() {
    for choice in [IoChoice::Auto, IoChoice::Uring, IoChoice::Plain] {
        assert_eq!(choice.to_string().parse(), Ok(choice));
    }
    assert_eq!(
        "epoll".parse::<IoChoice>(),
        Err("`epoll` is not an I/O engine: use auto, uring or plain".to_string())
    );
}
