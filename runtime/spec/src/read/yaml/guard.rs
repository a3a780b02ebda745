//! What is refused before anything is built: texts that are no YAML, nest too deep, have too
//! many values, or anchors or tags.
//!
//! On every token the parser spends time in proportion to the open `[` and `{`, so a deep text
//! must not reach it as a whole: half a million brackets would take hours. It is given a growing
//! beginning of the text, each so little longer that it cannot take long even if all of its new
//! brackets are nested, until one is refused.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

use super::text::Text;
use super::{MAX_DEPTH, MAX_VALUES, Refusal, place_of, syntax_error};

/// Brackets times characters from one beginning of a text to the next: less than a second.
const STEP: usize = 400_000_000;
/// An error so near to the end of a beginning, in characters, may come from its being cut: the
/// parser looks ahead so far to find the `:` behind a key.
const LOOKAHEAD: usize = 2_048;

/// Refuses a text that is no YAML, nests too deep, has too many values, or `&anchor`, `*alias` or
/// `!tag`.
///
/// Aliases can make a small text a huge value, so they are found without following them. Whether
/// a `&` begins an anchor or is part of a text only the parser knows, so it is asked: if every `&`
/// is written as `*`, all anchors become aliases of anchors that do not exist, at the same places,
/// and all texts stay texts.
pub(super) fn check(text: &str, chars: &Text) -> Result<(), Refusal> {
    let text = text.replace('&', "*");
    for (bytes, cut) in steps(&text) {
        let beginning = text.get(..bytes).unwrap_or_default();
        let Err((error, refusal)) = check_beginning(beginning, chars) else {
            continue;
        };
        let at = chars.index(place_of(&error)).unwrap_or(cut);
        if at + LOOKAHEAD < cut {
            return Err(refusal);
        }
    }
    check_beginning(&text, chars).map_err(|(_, refusal)| refusal)
}

/// Where to cut a text, in bytes and in characters.
fn steps(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut before = ' ';
    let mut brackets: usize = 0;
    let mut start = 0;
    let numbered = text.char_indices().enumerate();
    numbered.filter_map(move |(chars, (bytes, c))| {
        // Only such a bracket can open a list or mapping.
        let may_open =
            before.is_whitespace() || matches!(before, '[' | '{' | ',' | ':' | '?' | '"' | '\'');
        brackets += usize::from(matches!(c, '[' | '{') && may_open);
        before = c;
        if brackets.saturating_mul(chars - start) <= STEP {
            return None;
        }
        start = chars;
        // Those that the parser has not come to, as it looks ahead, may still be open.
        brackets = brackets.min(LOOKAHEAD);
        Some((bytes, chars))
    })
}

fn check_beginning(text: &str, chars: &Text) -> Result<(), (serde_yaml::Error, Refusal)> {
    let values = Cell::new(0);
    for document in serde_yaml::Deserializer::from_str(text) {
        let refused = Cell::new(None);
        let skim = Skim {
            levels: 0,
            values: &values,
            refused: &refused,
        };
        let Err(error) = skim.deserialize(document) else {
            continue;
        };
        let refusal = match refused.get() {
            Some(message) => Refusal {
                place: place_of(&error),
                message: message(),
            },
            None if error.to_string().starts_with("unknown anchor") => Refusal {
                place: place_of(&error),
                message: anchors(),
            },
            None => syntax_error(chars, &error),
        };
        return Err((error, refusal));
    }
    Ok(())
}

fn anchors() -> String {
    "anchors (`&name`) and aliases (`*name`) are not read. Write the value out; if it is meant as \
     text, put it in quotes"
        .to_owned()
}

fn tags() -> String {
    "tags (`!name`) are not read. Remove it; if it is meant as text, put it in quotes".to_owned()
}

fn too_deep() -> String {
    format!(
        "lists and mappings are nested more than {MAX_DEPTH} deep here, which no job needs. Check \
         the brackets and the indentation"
    )
}

fn too_many() -> String {
    format!(
        "the file has more than {MAX_VALUES} keys, items and values. Shorten the job, or split it"
    )
}

/// Looks at nothing but how deep values are and how many, and for tags.
struct Skim<'a> {
    levels: usize,
    values: &'a Cell<usize>,
    refused: &'a Cell<Option<fn() -> String>>,
}

impl Skim<'_> {
    fn refuse<E: Error>(&self, message: fn() -> String) -> E {
        self.refused.set(Some(message));
        E::custom("refused")
    }

    fn count<E: Error>(&self) -> Result<(), E> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > MAX_VALUES {
            return Err(self.refuse(too_many));
        }
        Ok(())
    }

    fn inside<E: Error>(&self) -> Result<Self, E> {
        self.count()?;
        let levels = self.levels + 1;
        if levels > MAX_DEPTH {
            return Err(self.refuse(too_deep));
        }
        Ok(Self { levels, ..*self })
    }

    const fn again(&self) -> Self {
        Self { ..*self }
    }
}

impl<'de> DeserializeSeed<'de> for Skim<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skim<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.count()
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.count()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.count()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.count()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.count()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        self.count()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        self.count()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.count()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.count()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let inside = self.inside()?;
        while access.next_element_seed(inside.again())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let inside = self.inside()?;
        while access
            .next_entry_seed(inside.again(), inside.again())?
            .is_some()
        {}
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.refuse(tags))
    }
}
