//! Pages of a replica on demand.

mod pages;
