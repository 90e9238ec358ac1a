//! What a user of lsfast, or another program, would see. One binary, so that it is linked once.
#![allow(clippy::disallowed_methods, reason = "tests open whatever they like")]

mod cli;
mod config;
mod credentials;
mod damage;
mod doctor;
mod errors;
mod exec;
mod fleet;
mod follow;
mod guides;
mod history;
mod hostile;
mod interop;
mod layers;
mod lineage;
mod links;
mod ltx;
mod maps;
mod peers;
mod repair;
mod replicate;
mod restore;
mod s3;
mod secrets;
mod signals;
mod status;
mod stress;
mod support;
mod tail;
mod vectors;
mod waits;
mod wal;
mod walindex;
mod words;
mod writers;
