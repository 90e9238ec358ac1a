//! The S3 client against servers in this process.

mod answers;
mod bare;
mod basic;
mod faults;
mod hedge;
mod messages;
mod policies;
mod real;
mod tls;

use bytes::Bytes;
use lsfast::base::clock::Millis;
use lsfast::base::{Level, LtxId, Txid};
use lsfast::store::PutOptions;

/// A level-0 name.
pub fn raw(n: u64) -> LtxId {
    LtxId::raw(Txid(n))
}

fn at(level: u32, min: u64, max: u64) -> LtxId {
    LtxId::new(Level::new(level).unwrap(), Txid(min), Txid(max)).unwrap()
}

/// 2026-11-21T21:14:10.801Z, create-only.
fn new() -> PutOptions {
    PutOptions { created: Millis(1_795_295_650_801), create_only: true }
}

pub fn replacing() -> PutOptions {
    PutOptions { create_only: false, ..new() }
}

/// Bytes that repeat only after a long while.
pub fn content(len: usize, seed: u64) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect::<Vec<_>>().into()
}
