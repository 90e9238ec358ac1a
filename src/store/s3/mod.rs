//! S3
mod body;
mod encode;
mod sign;
pub mod xml;
