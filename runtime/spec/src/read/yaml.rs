//! YAML, behind limits. The only module that knows `serde_yaml`.
//!
//! What YAML can do and a job file never needs is refused: anchors and aliases (which can make a
//! small text a huge value), tags, keys that are not text, keys given twice, several documents.
//! Size, depth and number of values are bounded. [`guard`] looks at the text as a whole before
//! [`visit`] builds anything of it.

mod guard;
mod text;
mod visit;

use serde::de::DeserializeSeed;

use self::text::Text;
use self::visit::{Around, Scan};
use super::tree::{Node, Value};
use crate::fault::Place;
use crate::wording::visible;

/// Largest job file, bytes. A `StreamJob` in a cluster cannot be larger either.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Deepest nesting of lists and mappings.
pub const MAX_DEPTH: usize = 64;
/// Most keys, items and values in all.
pub const MAX_VALUES: usize = 100_000;
/// Longest key, characters: room for any key that Kubernetes allows.
pub const MAX_KEY_CHARS: usize = 512;

/// Where a text begins.
const START: Place = Place { line: 1, column: 1 };

/// Why a text is not a job file's YAML, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) place: Place,
    pub(crate) message: String,
}

/// Reads one YAML document.
pub(crate) fn parse(text: &str) -> Result<Node, Refusal> {
    refuse_size(text.len())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let scan = Scan::new(Text::new(text));
    if let Some(place) = scan.text.control_character() {
        let message = "a control character stands here, which YAML does not allow. Remove it, or \
            write it within double quotes as `\\xXX`";
        return Err(Refusal {
            place,
            message: message.to_owned(),
        });
    }
    guard::check(text, &scan.text)?;
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let root = documents
        .next()
        .map(|document| read(&scan, document))
        .transpose()?;
    let Some(root) = root.filter(|root| root.value != Value::Null) else {
        let message = "the file is empty. Write a job, beginning with `apiVersion` and `kind`";
        return Err(Refusal {
            place: START,
            message: message.to_owned(),
        });
    };
    for document in documents {
        let another = read(&scan, document)?;
        if another.value != Value::Null {
            let message = "a second YAML document begins here, and a job file has one. Write each \
                job into its own file";
            return Err(Refusal {
                place: another.place,
                message: message.to_owned(),
            });
        }
    }
    Ok(root)
}

/// Refuses a text of more than [`MAX_BYTES`].
pub(crate) fn refuse_size(bytes: usize) -> Result<(), Refusal> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let message = format!(
        "the file has {bytes} bytes, and at most {MAX_BYTES} (1 MiB) are read. Shorten the job, \
         or split it"
    );
    Err(Refusal {
        place: START,
        message,
    })
}

fn read(scan: &Scan, document: serde_yaml::Deserializer<'_>) -> Result<Node, Refusal> {
    let around = Around {
        place: START,
        is_key: false,
        is_root: true,
    };
    scan.value(around, |seed| seed.deserialize(document).map(Some))
        .map(|node| {
            node.unwrap_or(Node {
                place: START,
                value: Value::Null,
            })
        })
        .map_err(|error| {
            let refused = scan.take_refused();
            refused.unwrap_or_else(|| syntax_error(&scan.text, &error))
        })
}

/// What the parser says, and what is most often the cause.
fn syntax_error(text: &Text, error: &serde_yaml::Error) -> Refusal {
    let place = place_of(error);
    let said = format!(" at line {} column {}", place.line, place.column);
    let problem = error.to_string().replacen(&said, "", 1);
    let advice = match text.at(place) {
        Some('\t') => "Indent with spaces, not with tabs",
        Some('@' | '`' | '%' | '*' | '&' | '!') => {
            "A text that begins with a special character must be in quotes"
        }
        _ => "Check the indentation, the brackets, and that texts with `: ` or ` #` are in quotes",
    };
    Refusal {
        place,
        message: format!("this is not YAML: {}. {advice}", visible(&problem)),
    }
}

fn place_of(error: &serde_yaml::Error) -> Place {
    error.location().map_or(START, |at| Place {
        line: at.line(),
        column: at.column(),
    })
}
