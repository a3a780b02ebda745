//! Faults of a plan, each with its place in the job.

use std::fmt;

use millstream_types::{ErrorCode, ErrorKind, Failure};

/// Most characters of a line of SQL that a message shows.
const SHOWN_CHARS: usize = 100;

/// Why a job cannot be planned: every fault that was found, in order of the job file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PlanError {
    /// At least one.
    faults: Vec<Fault>,
    /// Lines of the job file on which they stand; empty until they are known.
    lines: Vec<Option<usize>>,
}

impl PlanError {
    /// An error of these faults; nothing if there are none.
    pub(crate) fn of(faults: Vec<Fault>) -> Result<(), Self> {
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Self {
                faults,
                lines: Vec::new(),
            })
        }
    }

    /// The faults, at least one.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The faults, each with its line of the job file, if that is known.
    pub fn with_lines(&self) -> impl Iterator<Item = (&Fault, Option<usize>)> {
        let line = |index: usize| self.lines.get(index).copied().flatten();
        let faults = self.faults.iter().enumerate();
        faults.map(move |(index, fault)| (fault, line(index)))
    }

    /// The same, with the line of the job file on which each stands, as far as it is known.
    #[must_use]
    pub fn located(self, line: impl Fn(&Fault) -> Option<usize>) -> Self {
        Self {
            lines: self.faults.iter().map(line).collect(),
            ..self
        }
    }
}

impl From<Fault> for PlanError {
    fn from(fault: Fault) -> Self {
        Self {
            faults: vec![fault],
            lines: Vec::new(),
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (fault, line)) in self.with_lines().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            fault.write(line, f)?;
        }
        Ok(())
    }
}

impl From<PlanError> for Failure {
    /// The code is the first fault's; the message lists all.
    fn from(error: PlanError) -> Self {
        let code = error
            .faults
            .first()
            .map_or(ErrorCode::SqlDoesNotBind, |fault| fault.code);
        Self::new(code, ErrorKind::InvalidJob, error.to_string())
    }
}

/// One thing that is wrong with the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which error; names its page.
    pub code: ErrorCode,
    /// What is at fault, such as ``transform `enriched` `` or a path into the job file.
    pub subject: String,
    /// Where in the transform's SQL.
    pub place: Option<Box<Place>>,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that is known.
    pub help: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(None, f)
    }
}

impl Fault {
    /// The transform whose SQL is at fault.
    pub fn transform(&self) -> Option<&str> {
        let name = self.subject.strip_prefix("transform `")?;
        name.strip_suffix('`')
    }

    /// The transform of which a key beside the SQL is at fault, and that key.
    pub fn transform_key(&self) -> Option<(&str, &str)> {
        let rest = self.subject.strip_prefix("transform `")?;
        rest.split_once("`, ")
    }

    /// Writes it, with the line of the job file if that is known.
    fn write(&self, line: Option<usize>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)?;
        if let Some(place) = &self.place {
            write!(
                f,
                ", line {}, column {} of its sql",
                place.line, place.column
            )?;
        }
        if let Some(line) = line {
            write!(f, " (line {line} of the job file)")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(place) = &self.place {
            write!(f, "\n{place}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  = {help}")?;
        }
        Ok(())
    }
}

/// A place in a text, shown as its line with carets below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters are meant, at least 1; they end with the line.
    pub width: usize,
    /// The line.
    pub text: String,
}

impl Place {
    /// The place of `width` characters from (`line`, `column`) on; the nearest that exists.
    pub(crate) fn new(text: &str, line: usize, column: usize, width: usize) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let line = line.clamp(1, lines.len().max(1));
        let shown = lines.get(line - 1).copied().unwrap_or_default();
        let length = shown.chars().count();
        let column = column.clamp(1, length + 1);
        Self {
            line,
            column,
            width: width.clamp(1, (length + 1 - column).max(1)),
            text: shown.to_owned(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.column - 1;
        let skipped = before.saturating_sub(SHOWN_CHARS / 2);
        let cut = self.text.chars().count() > skipped + SHOWN_CHARS;
        let window: String = self
            .text
            .chars()
            .skip(skipped)
            .take(SHOWN_CHARS)
            .map(|c| if is_invisible(c) { ' ' } else { c })
            .collect();
        let (start, end) = (
            if skipped > 0 { "…" } else { "" },
            if cut { "…" } else { "" },
        );
        let indent = before - skipped + start.chars().count();
        let width = self.width.min(SHOWN_CHARS - (before - skipped)).max(1);
        write!(
            f,
            "  | {start}{window}{end}\n  | {}{}",
            " ".repeat(indent),
            "^".repeat(width)
        )
    }
}

/// What could change how a terminal shows the rest of a line: control characters, and those that
/// turn the direction of writing or take no room.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The candidate that `name` most likely means.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, _)| *distance <= (name.chars().count() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_far_right_shows_the_text_around_it() {
        let text = format!("SELECT {} FROM t", "x".repeat(300));
        let shown = Place::new(&text, 1, 306, 6).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines.iter().all(|line| line.chars().count() < 110),
            "{shown}"
        );
        let caret = lines[1].find('^').unwrap();
        let at_caret: String = lines[0].chars().skip(caret).take(1).collect();
        assert_eq!(at_caret, "x", "{shown}");
    }

    #[test]
    fn a_place_behind_the_text_is_its_end() {
        let place = Place::new("SELECT", 7, 70, 3);
        assert_eq!((place.line, place.column, place.width), (1, 7, 1));
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour_and_a_strange_one_none() {
        let columns = ["price", "quantity", "order_id"];
        assert_eq!(nearest("prise", columns), Some("price"));
        assert_eq!(nearest("ORDER_ID", columns), Some("order_id"));
        assert_eq!(nearest("zebra", columns), None);
    }
}
