//! What a user of lsfast, or another program, would see.

mod ltx;
mod support;
