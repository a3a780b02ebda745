//! What is refused before anything is built: texts that are no YAML, nest too deep, or have
//! anchors or tags.
//!
//! On every token the parser spends time in proportion to the open `[` and `{`, so a deep text
//! must not reach it as a whole: half a million brackets would take hours. It is given a growing
//! beginning of the text, each so little longer that it cannot be much deeper than the last one,
//! until one is too deep.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

use super::text::Text;
use super::{MAX_DEPTH, Refusal, place_of, syntax_error};

/// Brackets from one beginning of a text to the next.
const STEP: usize = 1_000;
/// An error so near to the end of a beginning, in characters, may come from its being cut: the
/// parser looks ahead so far to find the `:` behind a key.
const LOOKAHEAD: usize = 2_048;

/// Refuses a text that is no YAML, nests too deep, or has `&anchor`, `*alias` or `!tag`.
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
    let brackets = text
        .char_indices()
        .enumerate()
        .filter_map(move |(chars, (bytes, c))| {
            let may_begin_value =
                before.is_whitespace() || matches!(before, '[' | '{' | ',' | ':' | '?');
            before = c;
            (matches!(c, '[' | '{') && may_begin_value).then_some((bytes, chars))
        });
    brackets.step_by(STEP).skip(1)
}

fn check_beginning(text: &str, chars: &Text) -> Result<(), (serde_yaml::Error, Refusal)> {
    for document in serde_yaml::Deserializer::from_str(text) {
        let refused = Cell::new(None);
        let Err(error) = (Skim {
            levels: 0,
            refused: &refused,
        })
        .deserialize(document) else {
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

/// Looks at nothing but how deep a value is, and for tags.
struct Skim<'a> {
    levels: usize,
    refused: &'a Cell<Option<fn() -> String>>,
}

impl Skim<'_> {
    fn refuse<E: Error>(&self, message: fn() -> String) -> E {
        self.refused.set(Some(message));
        E::custom("refused")
    }

    fn inside<E: Error>(&self) -> Result<Self, E> {
        let levels = self.levels + 1;
        if levels > MAX_DEPTH {
            return Err(self.refuse(too_deep));
        }
        Ok(Self {
            levels,
            refused: self.refused,
        })
    }

    const fn again(&self) -> Self {
        Self {
            levels: self.levels,
            refused: self.refused,
        }
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
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        Ok(())
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
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
