//! Which tables of two schemas are the same table.

use crate::view::btree::{Entry, Schema, Table};

/// A table in the older state, in the newer one, or in both. Each is an index of
/// [`Schema::tables`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// In the older state.
    pub old: Option<usize>,
    /// In the newer state.
    pub new: Option<usize>,
}

impl Pair {
    /// The table in the older and in the newer state.
    #[must_use]
    pub fn tables<'a>(&self, old: &'a Schema, new: &'a Schema) -> (Option<&'a Table>, Option<&'a Table>) {
        (self.old.and_then(|i| old.tables.get(i)), self.new.and_then(|i| new.tables.get(i)))
    }
}

/// Pairs tables by their names; the rest by root page and columns, which finds a renamed table.
#[must_use]
pub fn pair_tables(old: &Schema, new: &Schema) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut used = vec![false; old.tables.len()];
    for (i, table) in new.tables.iter().enumerate() {
        let same = |t: &Table| t.name.eq_ignore_ascii_case(&table.name);
        let found = old.tables.iter().position(same).filter(|found| !used[*found]);
        if let Some(found) = found {
            used[found] = true;
        }
        pairs.push(Pair { old: found, new: Some(i) });
    }
    for pair in pairs.iter_mut().filter(|p| p.old.is_none()) {
        let Some(table) = pair.new.map(|i| &new.tables[i]) else { continue };
        let renamed =
            |i: &usize| !used[*i] && old.tables[*i].root == table.root && old.tables[*i].same_columns(table);
        if let Some(found) = (0..old.tables.len()).find(renamed) {
            used[found] = true;
            pair.old = Some(found);
        }
    }
    pairs.extend((0..old.tables.len()).filter(|i| !used[*i]).map(|i| Pair { old: Some(i), new: None }));
    pairs
}

/// One difference of two schemas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    /// `created`, `dropped` or `altered`.
    pub what: &'static str,
    /// `table`, `index`, `view` or `trigger`.
    pub kind: String,
    /// Its name in the newer state, or in the older one if it was dropped.
    pub name: String,
}

/// How the newer schema differs, by kind and name. Root pages do not count.
#[must_use]
pub fn schema_changes(old: &Schema, new: &Schema) -> Vec<SchemaChange> {
    use std::collections::HashMap;
    let by_name = |schema: &'_ Schema| -> HashMap<(String, String), Option<String>> {
        let key = |e: &Entry| (e.kind.clone(), e.name.to_ascii_lowercase());
        schema.entries.iter().map(|e| (key(e), e.sql.clone())).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    let key = |e: &Entry| (e.kind.clone(), e.name.to_ascii_lowercase());
    let change = |what, e: &Entry| SchemaChange { what, kind: e.kind.clone(), name: e.name.clone() };
    let mut changes = Vec::new();
    for entry in old.entries.iter().filter(|e| !after.contains_key(&key(e))) {
        changes.push(change("dropped", entry));
    }
    for entry in &new.entries {
        match before.get(&key(entry)) {
            None => changes.push(change("created", entry)),
            Some(sql) if *sql != entry.sql => changes.push(change("altered", entry)),
            Some(_) => {}
        }
    }
    changes
}
