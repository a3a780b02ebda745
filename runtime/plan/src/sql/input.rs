//! The name of a transform's input, as FROM may write it.

use datafusion_sql::sqlparser::ast::ObjectName;
use millstream_spec::valid::Input;

use super::derived::{PLACEHOLDER, is_derived};

/// The parts of a name, without quotes.
pub(crate) fn parts(name: &ObjectName) -> Vec<String> {
    let part = |part: &datafusion_sql::sqlparser::ast::ObjectNamePart| {
        part.as_ident()
            .map_or_else(|| part.to_string(), |ident| ident.value.clone())
    };
    name.0.iter().map(part).collect()
}

/// Whether a name in FROM is the input's.
pub(crate) fn is_named(input: &Input, parts: &[String]) -> bool {
    match (input, parts) {
        (Input::Main(name), [part]) if is_derived(name) => part == PLACEHOLDER,
        (Input::Main(name), [part]) => part == name,
        (Input::DeadLetters(_), [part]) => *part == plain(input),
        (Input::DeadLetters(source), [first, second]) => first == source && second == DEAD_LETTERS,
        _ => false,
    }
}

const DEAD_LETTERS: &str = "deadLetters";

/// An input's name as the job file writes it.
pub(crate) fn plain(input: &Input) -> String {
    match input {
        Input::Main(name) => name.clone(),
        Input::DeadLetters(source) => format!("{source}.{DEAD_LETTERS}"),
    }
}

/// An input's name as SQL writes it.
pub(crate) fn written(input: &Input) -> String {
    let quoted = |name: &str| {
        if name.contains('-') {
            format!("\"{name}\"")
        } else {
            name.to_owned()
        }
    };
    match input {
        Input::Main(name) => quoted(name),
        Input::DeadLetters(source) => format!("{}.{DEAD_LETTERS}", quoted(source)),
    }
}
