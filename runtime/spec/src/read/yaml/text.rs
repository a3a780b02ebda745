//! The text itself, by line and column.

use crate::fault::Place;
use crate::read::tree::OtherReading;

/// The characters of a text, and where its lines begin.
pub(super) struct Text {
    chars: Vec<char>,
    lines: Vec<usize>,
}

impl Text {
    pub(super) fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let ends_line = |(index, c): (usize, &char)| match c {
            '\r' => chars.get(index + 1) != Some(&'\n'),
            '\n' | '\u{85}' | '\u{2028}' | '\u{2029}' => true,
            _ => false,
        };
        let ends = chars.iter().enumerate().filter(|at| ends_line(*at));
        let lines = std::iter::once(0)
            .chain(ends.map(|(index, _)| index + 1))
            .collect();
        Self { chars, lines }
    }

    /// The number of characters before a place.
    pub(super) fn index(&self, place: Place) -> Option<usize> {
        let line = self.lines.get(place.line.checked_sub(1)?)?;
        line.checked_add(place.column.checked_sub(1)?)
    }

    /// The character at a place.
    pub(super) fn at(&self, place: Place) -> Option<char> {
        self.chars.get(self.index(place)?).copied()
    }

    /// Where the first character stands that YAML does not allow.
    pub(super) fn control_character(&self) -> Option<Place> {
        let index = self.chars.iter().position(|c| !is_allowed(*c))?;
        let line = self.lines.partition_point(|start| *start <= index);
        let start = self.lines.get(line.checked_sub(1)?)?;
        Some(Place {
            line,
            column: index - start + 1,
        })
    }
}

/// Source: YAML 1.1, 5.1 Character Set.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fefe}')
        || matches!(c, '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

/// What YAML 1.1 takes an unquoted text for that YAML 1.2 takes for text.
///
/// Source: yaml.org/type/bool.html and int.html.
pub(super) fn other_reading(text: &str) -> Option<OtherReading> {
    const BOOLEANS: [&str; 6] = ["y", "n", "yes", "no", "on", "off"];
    if text.len() <= 3 && BOOLEANS.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Some(OtherReading::Boolean);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '_');
    is_number.then_some(OtherReading::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_break_begins_a_line() {
        let text = Text::new("a\nb\r\nc\rd\u{85}e\u{2028}f");
        for (line, expected) in "abcdef".chars().enumerate() {
            assert_eq!(
                text.at(Place {
                    line: line + 1,
                    column: 1
                }),
                Some(expected)
            );
        }
        assert_eq!(text.at(Place { line: 7, column: 1 }), None);
        assert_eq!(text.at(Place { line: 0, column: 0 }), None);
    }

    #[test]
    fn a_control_character_is_found_where_it_stands() {
        assert_eq!(
            Text::new("ä\n\tü\u{7}").control_character(),
            Some(Place { line: 2, column: 3 })
        );
        assert_eq!(Text::new("ä\tü\r\n").control_character(), None);
    }

    #[test]
    fn what_yaml_1_1_reads_otherwise_is_known() {
        for text in ["y", "No", "OFF", "on"] {
            assert_eq!(other_reading(text), Some(OtherReading::Boolean), "{text}");
        }
        for text in ["012", "1_000", "-0_1"] {
            assert_eq!(other_reading(text), Some(OtherReading::Number), "{text}");
        }
        for text in ["", "yep", "10s", "1.5.3", "_1", "noo", "2026-01-01"] {
            assert_eq!(other_reading(text), None, "{text}");
        }
    }
}
