//! A store in front of another one.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::api::{BoxFuture, CreateOnly, ListedPage, Part, PutOptions, Result, Scope, Store, Upload};
use super::listing::{Entry, Listed, Listing};
use super::side::SideId;
use crate::base::clock::Millis;
use crate::base::{LtxId, Txid};
use crate::ltx::TimesId;

/// Declares [`Forward`], and [`Store`] for all that implement it.
macro_rules! forward {
    ($($(#[$doc:meta])* fn $name:ident($self:ident $(, $arg:ident: $type:ty)*) $(-> $result:ty)?;)*) => {
        /// A store that passes each call on to [`Forward::inner`], except for the methods that it
        /// has itself. No call is forgotten, those with a default in [`Store`] included.
        #[allow(clippy::needless_lifetimes)] // Some of the methods need the name.
        pub trait Forward: Send + Sync + fmt::Debug {
            /// The store that answers.
            fn inner(&self) -> &dyn Store;

            $(
                /// As [`Store`] says.
                fn $name<'a>(&'a $self $(, $arg: $type)*) $(-> $result)? {
                    $self.inner().$name($($arg),*)
                }
            )*
        }

        #[allow(clippy::needless_lifetimes)] // As above.
        impl<T: Forward> Store for T {
            $(
                fn $name<'a>(&'a $self $(, $arg: $type)*) $(-> $result)? {
                    Forward::$name($self $(, $arg)*)
                }
            )*
        }
    };
}

forward! {
    fn url(self) -> &'a str;
    fn identity(self) -> String;
    fn place(self) -> String;
    fn is_failing(self) -> bool;
    fn is_local(self) -> bool;
    fn list(self, scope: Scope) -> BoxFuture<'a, Result<Vec<Entry>>>;
    fn list_page_after(self, after: Txid) -> BoxFuture<'a, Result<Option<ListedPage>>>;
    fn put(self, id: LtxId, body: Vec<Bytes>, options: PutOptions) -> BoxFuture<'a, Result<()>>;
    fn upload(self, id: LtxId, size_max: u64, options: PutOptions) -> BoxFuture<'a, Result<Box<dyn Upload>>>;
    fn get(self, id: LtxId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>>;
    fn head(self, id: LtxId) -> BoxFuture<'a, Result<Option<Entry>>>;
    fn delete(self, ids: &'a [LtxId]) -> BoxFuture<'a, Result<()>>;
    fn copy(self, from: LtxId, to: LtxId, options: PutOptions) -> BoxFuture<'a, Result<()>>;
    fn prove_create_only(
        self, id: LtxId, body: Bytes, options: PutOptions
    ) -> BoxFuture<'a, Result<Option<CreateOnly>>>;
    fn know_create_only(self, proof: CreateOnly);
    fn forget_written(self);
    fn prewarm(self) -> BoxFuture<'a, ()>;
    fn now(self) -> Millis;
    fn list_all(self) -> BoxFuture<'a, Result<Listing>>;
    fn list_part(self, part: Part) -> BoxFuture<'a, Result<Option<Listed>>>;
    fn get_side(self, id: SideId, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>>;
    fn put_times(self, id: TimesId, body: Bytes) -> BoxFuture<'a, Result<()>>;
    fn delete_times(self, ids: &'a [TimesId]) -> BoxFuture<'a, Result<()>>;
}

#[cfg(test)]
mod tests {
    /// The names after `fn ` at the beginning of a line, from `begin` to the end of its block.
    fn methods<'a>(source: &'a str, begin: &str) -> Vec<&'a str> {
        let (_, block) = source.split_once(begin).expect("the block is there");
        let block = block.split("\n}\n").next().unwrap_or(block);
        let lines = block.lines().filter_map(|line| line.strip_prefix("    fn "));
        lines.filter_map(|line| line.split(['(', '<']).next()).collect()
    }

    #[test]
    fn each_method_of_a_store_is_passed_on() {
        let of_store = methods(include_str!("api.rs"), "\npub trait Store:");
        assert!(of_store.len() > 10, "{of_store:?}");
        assert_eq!(methods(include_str!("forward.rs"), "\nforward! {"), of_store);
    }
}
