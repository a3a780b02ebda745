//! Anything at all: whatever the text, it is read or refused.

use millstream_spec::{read, read_bytes};
use proptest::prelude::*;

use super::ORDERS;

/// Pieces that YAML and job files are made of.
const PIECES: [&str; 40] = [
    "a: ",
    "- ",
    "\n",
    "\n  ",
    "\n    ",
    "{",
    "}",
    "[",
    "]",
    ",",
    ": ",
    "'",
    "\"",
    "|",
    ">-",
    "#",
    "&a ",
    "*a",
    "!t ",
    "---\n",
    "...\n",
    "? ",
    "~",
    "yes",
    "1_0",
    ".nan",
    "-1",
    "1e400",
    "\t",
    "\\x",
    "é",
    "\u{2028}",
    "spec:",
    "sources:",
    "name:",
    "input:",
    "kafka:",
    "18446744073709551616",
    "%YAML 1.1\n",
    "<<: ",
];

/// What every answer must be like.
fn is_sound(text: &str) -> Result<(), TestCaseError> {
    match read(text, "job.yaml") {
        Ok(job) => prop_assert!(!job.sources.is_empty() && !job.sinks.is_empty()),
        Err(error) => {
            prop_assert!(!error.faults().is_empty());
            for fault in error.faults() {
                prop_assert!(!fault.message.is_empty());
                prop_assert!(fault.place.line > 0 && fault.place.column > 0, "{}", error);
                prop_assert!(
                    !fault.to_string().contains(|c: char| c.is_control()),
                    "{}",
                    error
                );
            }
        }
    }
    Ok(())
}

/// The example with some of its characters replaced, inserted or removed.
fn mutated() -> impl Strategy<Value = String> {
    let change = (
        0..ORDERS.len(),
        0..8_usize,
        prop::sample::select(PIECES.as_slice()),
    );
    prop::collection::vec(change, 1..4).prop_map(|changes| {
        let mut chars: Vec<char> = ORDERS.chars().collect();
        for (at, removed, piece) in changes {
            let at = at.min(chars.len());
            let end = (at + removed).min(chars.len());
            chars.splice(at..end, piece.chars());
        }
        chars.into_iter().collect()
    })
}

/// The example with one of its values or keys replaced by another part of itself.
fn transplanted() -> impl Strategy<Value = String> {
    let lines = ORDERS.lines().count();
    (0..lines, 0..lines, any::<bool>()).prop_map(|(from, to, replaces)| {
        let mut lines: Vec<&str> = ORDERS.lines().collect();
        let line = lines[from];
        if replaces {
            lines[to] = line;
        } else {
            lines.insert(to, line);
        }
        lines.join("\n")
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = read_bytes(&bytes, "job.yaml") {
            prop_assert!(!error.faults().is_empty());
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        is_sound(&text)?;
    }

    #[test]
    fn any_yaml_is_read_or_refused(
        pieces in prop::collection::vec(prop::sample::select(PIECES.as_slice()), 0..60),
    ) {
        is_sound(&pieces.concat())?;
    }

    #[test]
    fn any_changed_job_is_read_or_refused(text in mutated()) {
        is_sound(&text)?;
    }

    #[test]
    fn any_job_with_moved_lines_is_read_or_refused(text in transplanted()) {
        is_sound(&text)?;
    }

    #[test]
    fn any_beginning_of_a_job_is_refused(end in 0..ORDERS.len() - "  workers: {slots: 2}\n".len() - 40) {
        let text: String = ORDERS.chars().take(end).collect();
        prop_assert!(read(&text, "job.yaml").is_err());
    }
}
