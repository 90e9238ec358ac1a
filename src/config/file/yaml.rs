//! Parses text into sections of known keys, each value with its line and column.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::error::{FileError, Mark, Problem};
use super::keys::{Key, Kind, Scope};

/// A scalar as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) at: Mark,
}

#[derive(Debug)]
pub(super) enum Value {
    Text(Text),
    /// A list of texts. Its content is not kept, because no supported key has such a value.
    Texts,
    Section(Section),
    List(Vec<Section>),
}

/// Keys and their values. Keys without a value are left out.
#[derive(Debug)]
pub(super) struct Section {
    /// Position of the first key.
    pub(super) at: Mark,
    pub(super) entries: Vec<(&'static Key, Mark, Value)>,
}

impl Section {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.entries.iter().find(|(k, ..)| k.name == name).map(|(.., v)| v)
    }

    pub(super) fn text(&self, name: &str) -> Option<&Text> {
        match self.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        match self.get(name) {
            Some(Value::Section(section)) => Some(section),
            _ => None,
        }
    }

    pub(super) fn list(&self, name: &str) -> &[Section] {
        match self.get(name) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }
}

/// Parses the whole file.
pub(super) fn parse(text: &str, path: &Arc<str>) -> Result<Section, FileError> {
    let trouble = RefCell::new(None);
    let seed = Keys { scope: Scope::Top, trouble: &trouble };
    let options = serde_saphyr::options! { with_snippet: false };
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |d| seed.optional(d));
    match (trouble.into_inner(), read) {
        (trouble, Err(e)) => {
            let at =
                e.location().map(Mark::from).filter(|at| at.line > 0).unwrap_or(Mark { line: 1, column: 1 });
            Err(match trouble {
                Some((at, problem @ Problem::UnknownKey { .. })) => FileError::new(path, at, problem),
                Some((_, problem)) if is_shape(&e) => FileError::new(path, at, problem),
                _ => FileError::new(path, at, Problem::Yaml(words(&e))),
            })
        }
        (_, Ok(section)) => Ok(section.unwrap_or(Section { at: Mark::default(), entries: Vec::new() })),
    }
}

/// Whether the text is valid YAML and only has another kind of value than the key needs.
fn is_shape(error: &serde_saphyr::Error) -> bool {
    let text = error.without_snippet().to_string();
    text.starts_with("expected ") || text.starts_with("invalid type")
}

/// The parser's message, without its position, and without names or values from the file (I7).
fn words(error: &serde_saphyr::Error) -> String {
    if matches!(error, serde_saphyr::Error::DuplicateMappingKey { .. }) {
        return "this key appears here a second time".to_owned();
    }
    let text = error.without_snippet().to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    if text.contains("multiple YAML documents") {
        return "a config file is one YAML document: remove the line ---".to_owned();
    }
    format!("this is not the YAML that belongs here ({text})")
}

type Trouble = RefCell<Option<(Mark, Problem)>>;

/// A section with keys of `scope`.
#[derive(Clone, Copy)]
struct Keys<'t> {
    scope: Scope,
    trouble: &'t Trouble,
}

impl<'t> Keys<'t> {
    /// Parses a section that may be empty.
    fn optional<'de, D: Deserializer<'de>>(self, d: D) -> Result<Option<Section>, D::Error> {
        d.deserialize_option(Optional(self))
    }
}

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = Section;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Section, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = Section;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys with values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Section, A::Error> {
        let mut section = Section { at: Mark::default(), entries: Vec::new() };
        while let Some(name) = map.next_key::<Spanned<String>>()? {
            let at = Mark::from(name.referenced);
            if section.entries.is_empty() {
                section.at = at;
            }
            let Some(key) = self.scope.key(&name.value) else {
                // Keys that begin with `x-` are allowed for anchors, as in Compose files.
                if self.scope == Scope::Top && name.value.starts_with("x-") {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                let hint = self.scope.hint(&name.value);
                *self.trouble.borrow_mut() = Some((at, Problem::UnknownKey { name: name.value, hint }));
                return Err(A::Error::custom("unknown key"));
            };
            let value = self.value(key, &mut map).inspect_err(|_| {
                let mut trouble = self.trouble.borrow_mut();
                // If the kind of value is wrong, the error names the deepest key.
                trouble.get_or_insert((at, Problem::Shape { key: key.name, expected: shape(key.kind) }));
            })?;
            if let Some(value) = value {
                section.entries.push((key, at, value));
            }
        }
        Ok(section)
    }
}

impl Keys<'_> {
    fn value<'de, A: MapAccess<'de>>(&self, key: &Key, map: &mut A) -> Result<Option<Value>, A::Error> {
        let text = |s: Spanned<String>| Text { at: s.referenced.into(), text: s.value };
        Ok(match key.kind {
            Kind::Text | Kind::Secret => {
                map.next_value::<Option<Spanned<String>>>()?.map(|s| Value::Text(text(s)))
            }
            Kind::Texts => map.next_value::<Option<Vec<IgnoredAny>>>()?.map(|_| Value::Texts),
            Kind::Section(scope) => {
                map.next_value_seed(Optional(Keys { scope, ..*self }))?.map(Value::Section)
            }
            Kind::List(scope) => {
                map.next_value_seed(Optional(List(Keys { scope, ..*self })))?.map(Value::List)
            }
        })
    }
}

fn shape(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Secret => {
            "one value (in quotes, if it holds : { [ # or begins with one of * & ! % @)"
        }
        Kind::Texts => "a list of values",
        Kind::Section(_) => "further keys below it, indented",
        Kind::List(_) => "a list below it, each entry beginning with a hyphen",
    }
}

#[derive(Clone, Copy)]
struct List<'t>(Keys<'t>);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Vec<Section>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Vec<Section>, D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Vec<Section>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Section>, A::Error> {
        let mut found = Vec::new();
        while let Some(section) = list.next_element_seed(self.0)? {
            found.push(section);
        }
        Ok(found)
    }
}

/// A value that may be left empty.
struct Optional<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Optional<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Optional<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(d).map(Some)
    }
}
