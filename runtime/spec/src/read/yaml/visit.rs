//! One pass over a YAML document that keeps the place of every value.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::text::{Text, other_reading};
use super::{MAX_KEY_CHARS, Refusal};
use crate::fault::Place;
use crate::read::tree::{Entry, Node, Value};
use crate::wording::shown;

/// The pass over one text.
pub(super) struct Scan {
    pub(super) text: Text,
    refused: RefCell<Option<Refusal>>,
}

/// What a value stands in.
#[derive(Clone, Copy)]
pub(super) struct Around {
    /// Where the value's key stands, or the list.
    pub(super) place: Place,
    /// Whether it is a key's value.
    pub(super) is_key: bool,
    /// Whether it is the whole document.
    pub(super) is_root: bool,
}

impl Around {
    const fn part(place: Place, is_key: bool) -> Self {
        Self {
            place,
            is_key,
            is_root: false,
        }
    }
}

impl Scan {
    pub(super) fn new(text: Text) -> Self {
        Self {
            text,
            refused: RefCell::new(None),
        }
    }

    /// What was refused.
    pub(super) fn take_refused(&self) -> Option<Refusal> {
        self.refused.take()
    }

    /// Reads one value through `read`, which hands the seed to the parser.
    ///
    /// The parser tells places in its errors only. So the visitor of a scalar puts the value aside
    /// and answers with an error, which comes back with the scalar's place; by then the parser
    /// has read past the scalar and can go on.
    pub(super) fn value<E: fmt::Display>(
        &self,
        around: Around,
        read: impl FnOnce(Seed<'_>) -> Result<Option<Node>, E>,
    ) -> Result<Option<Node>, E> {
        let scalar = RefCell::new(None);
        let result = read(Seed {
            scan: self,
            around,
            scalar: &scalar,
        });
        match (result, scalar.take()) {
            (Err(error), Some(value)) => {
                let place = place_in(&error.to_string()).unwrap_or(around.place);
                Ok(Some(Node {
                    place,
                    value: self.second_reading(value, place),
                }))
            }
            (result, _) => result,
        }
    }

    /// Marks a text that kubectl, which reads YAML 1.1, takes for something else.
    fn second_reading(&self, value: Value, place: Place) -> Value {
        let Value::Text(text) = value else {
            return value;
        };
        let is_marked_as_text = matches!(self.text.at(place), Some('\'' | '"' | '|' | '>' | '!'));
        match other_reading(&text) {
            Some(reading) if !is_marked_as_text => Value::Ambiguous(text, reading),
            _ => Value::Text(text),
        }
    }

    fn refuse<E: Error>(&self, place: Place, message: String) -> E {
        self.refused.replace(Some(Refusal { place, message }));
        E::custom("refused")
    }

    /// The text of a key.
    fn key<E: Error>(&self, key: Node) -> Result<(String, Place), E> {
        let (text, place) = match key.value {
            Value::Text(text) | Value::Ambiguous(text, _) => (text, key.place),
            _ => {
                let message = "a key must be text. Put it in quotes";
                return Err(self.refuse(key.place, message.to_owned()));
            }
        };
        if text.chars().count() > MAX_KEY_CHARS {
            let message = format!(
                "the key `{}` has more than {MAX_KEY_CHARS} characters. Check the quotes and the \
                 indentation around it",
                shown(&text)
            );
            return Err(self.refuse(place, message));
        }
        Ok((text, place))
    }

    fn no_repetition<E: Error>(
        &self,
        seen: &mut BTreeMap<String, Place>,
        key: &str,
        place: Place,
    ) -> Result<(), E> {
        match seen.insert(key.to_owned(), place) {
            None => Ok(()),
            Some(first) => {
                let message = format!(
                    "the key `{}` is given twice, first on line {}. Remove one of the two",
                    shown(key),
                    first.line
                );
                Err(self.refuse(place, message))
            }
        }
    }
}

/// The place at the end of an error's text: ` at line L column C`, which is left out for the very
/// first character.
fn place_in(error: &str) -> Option<Place> {
    let Some((_, place)) = error.rsplit_once(" at line ") else {
        return Some(super::START);
    };
    let (line, column) = place.split_once(" column ")?;
    Some(Place {
        line: line.parse().ok()?,
        column: column.parse().ok()?,
    })
}

/// Reads one value. A list or mapping is returned; anything else is put aside in `scalar`.
pub(super) struct Seed<'scan> {
    scan: &'scan Scan,
    around: Around,
    scalar: &'scan RefCell<Option<Value>>,
}

impl Seed<'_> {
    fn put_aside<E: Error>(&self, value: Value) -> Result<Node, E> {
        if self.around.is_root {
            // Nothing follows it; an error here would hide one of the parser's own behind it.
            return Ok(Node {
                place: self.around.place,
                value,
            });
        }
        self.scalar.replace(Some(value));
        Err(E::custom(""))
    }

    /// Where a list or mapping with that first part stands.
    fn place(&self, first: Option<Place>) -> Place {
        if self.around.is_key {
            self.around.place
        } else {
            first.unwrap_or(self.around.place)
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.put_aside(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.put_aside(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.put_aside(Value::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        self.put_aside(Value::Integer(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        self.put_aside(Value::Integer(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Node, E> {
        self.put_aside(Value::Integer(value))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Node, E> {
        self.put_aside(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        self.put_aside(Value::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        self.put_aside(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let inside = Around::part(self.around.place, false);
        let mut items = Vec::new();
        while let Some(item) = self
            .scan
            .value(inside, |seed| access.next_element_seed(seed))?
        {
            items.push(item);
        }
        let place = self.place(items.first().map(|item| item.place));
        Ok(Node {
            place,
            value: Value::List(items),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let at_key = Around::part(self.around.place, false);
        let mut seen = BTreeMap::new();
        let mut entries: Vec<Entry> = Vec::new();

        while let Some(key) = self.scan.value(at_key, |seed| access.next_key_seed(seed))? {
            let (key, place) = self.scan.key(key)?;
            self.scan.no_repetition(&mut seen, &key, place)?;
            let around = Around::part(place, true);
            let read = |seed: Seed<'_>| access.next_value_seed(seed).map(Some);
            if let Some(node) = self.scan.value(around, read)? {
                entries.push(Entry { key, place, node });
            }
        }
        let place = self.place(entries.first().map(|entry| entry.place));
        Ok(Node {
            place,
            value: Value::Mapping(entries),
        })
    }
}
