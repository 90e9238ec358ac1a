//! Lists a part of a replica, by `start-after`.
//!
//! Keys of a replica are in the order of level and TXID, so a part is a range of keys. Stores that
//! ignore `start-after`, or list in another order, are found out by the keys that they name. Then
//! no part can be listed, and the caller lists everything.

use std::sync::atomic::Ordering;

use super::inner::Inner;
use super::list::{clean, level_prefix, take};
use super::pages::Pages;
use crate::base::limits;
use crate::store::Listed;
use crate::store::api::{Part, Result};

impl Inner {
    /// Lists a part; `None` if the store can only list everything.
    pub(super) async fn list_part(&self, part: Part) -> Result<Option<Listed>> {
        let root = self.root();
        // Stores that drop empty parts of keys list them elsewhere.
        if self.lists_whole.load(Ordering::Relaxed) || clean(&root) != root {
            return Ok(None);
        }
        let listed = self.part(&root, part).await;
        match &listed {
            // A store that refuses `start-after` may still list everything.
            Err(e) if part != Part::Start && !e.is_transient() => Ok(None),
            Ok(None) => {
                self.lists_whole.store(true, Ordering::Relaxed);
                tracing::debug!(replica = %self.url, "the store does not list a range of keys; listing everything");
                listed
            }
            _ => listed,
        }
    }

    async fn part(&self, root: &str, part: Part) -> Result<Option<Listed>> {
        let (prefix, after, end) = match part {
            Part::Start => (root.to_owned(), None, None),
            // The character after the slash that ends the name of a level.
            Part::Above(level) => (root.to_owned(), Some(format!("{root}{:04x}0", level.get())), None),
            Part::Stretch { level, from, to, .. } => {
                let prefix = level_prefix(root, level);
                let at = |txid: u64| format!("{prefix}{txid:016x}");
                (prefix.clone(), Some(at(from.0)), to.0.checked_add(1).map(at))
            }
        };
        let once = matches!(part, Part::Start | Part::Stretch { once: true, .. });
        let mut listed = Listed::default();
        let mut pages = Pages::new(&prefix);
        if let Some(after) = after {
            pages = pages.after(after);
        }
        loop {
            let page = self.list_page(&prefix, pages.begin()).await?;
            let in_order = pages.is_in_order(&page);
            let broken = |why: &str| self.unlistable(&prefix, why);
            take(&page, root, &mut listed.listing).map_err(|why| broken(&why))?;
            let more = pages
                .next(&page, || false)
                .map_err(|why| broken(&format!("the listing is not whole: {why}")))?;
            // A page that shows everything needs no order.
            if !in_order && (more || part != Part::Start) {
                return Ok(None);
            }
            if listed.listing.len() > limits::LIST_OBJECTS {
                return Err(broken(&format!("it names more than {} objects", limits::LIST_OBJECTS)));
            }
            let is_past = end.as_deref().zip(pages.last()).is_some_and(|(end, last)| last >= end);
            if !more || is_past || once {
                listed.more = more && !is_past;
                break;
            }
        }
        listed.listing.files.retain(|e| part.has(e.id));
        listed.listing.sort();
        self.note_listed(&listed.listing);
        Ok(Some(listed))
    }
}

#[cfg(test)]
mod tests {
    use crate::base::Level;

    #[test]
    fn what_lies_above_a_level_begins_after_its_last_key() {
        let after = |level: Level| format!("p/{:04x}0", level.get());
        let above = after(Level::RAW);
        assert!("p/0000/ffffffffffffffff-ffffffffffffffff.ltx" < above.as_str());
        assert!("p/0000/~" < above.as_str());
        assert!("p/0001/0000000000000001-0000000000000002.ltx" > above.as_str());
        assert!("p/times/x" > above.as_str() && "p/generations/x" > above.as_str());
    }
}
