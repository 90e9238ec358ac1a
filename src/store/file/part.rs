//! Lists a part of a directory replica.
//!
//! The names of a level have no order, so all of them are read. What costs time is to look at each
//! file, and that is done for those of the part only. No more names are held than belong to it.

use std::collections::BinaryHeap;

use super::inner::{Inner, entries};
use crate::base::Level;
use crate::store::Listed;
use crate::store::api::{Part, Result, Scope};

/// Level-0 files of [`Part::Start`], as many as a page of S3 has.
const START_FILES: usize = 1_000;

impl Inner {
    pub(super) fn list_part(&self, part: Part) -> Result<Listed> {
        let mut listed = Listed::default();
        let files = &mut listed.listing.files;
        match part {
            Part::Start => {
                // The first of them by name.
                let mut first = BinaryHeap::new();
                let mut count = 0;
                let folder = self.each_id(Level::RAW, |id| {
                    count += 1;
                    first.push(id);
                    if first.len() > START_FILES {
                        first.pop();
                    }
                })?;
                listed.more = count > START_FILES;
                match folder {
                    Some(folder) if listed.more => entries(&folder, first, files)?,
                    _ => {
                        *files = self.list(Scope::All)?;
                        listed.listing.sides = self.list_sides()?;
                    }
                }
            }
            Part::Above(level) => {
                for above in Level::all().filter(|l| *l > level) {
                    files.extend(self.list(Scope::Level(above))?);
                }
                listed.listing.sides = self.list_sides()?;
            }
            Part::Stretch { level, .. } => {
                let mut ids = Vec::new();
                let folder = self.each_id(level, |id| ids.extend(Some(id).filter(|id| part.has(*id))))?;
                folder.map_or(Ok(()), |folder| entries(&folder, ids, files))?;
            }
        }
        listed.listing.sort();
        Ok(listed)
    }
}
