//! What a user of lsfast, or another program, would see.

mod ltx;
mod support;
//! What a user or another program would see. One binary, so that it is linked once.

mod wal;
//! What a user or another program would see. One binary, so that it is linked once.

mod layers;
mod vectors;
