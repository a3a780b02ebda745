//! Values in messages.

use arrow_array::{Array as _, ArrayRef};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;

/// Most characters of one value that a message shows.
const SHOWN_CHARS: usize = 64;

/// A value as a message may show it: escaped, and cut where it is long.
pub(crate) fn shown(array: &ArrayRef, row: usize) -> String {
    let options = FormatOptions::new().with_null("NULL");
    let text = ArrayFormatter::try_new(array.as_ref(), &options)
        .and_then(|formatter| formatter.value(row).try_to_string())
        .unwrap_or_else(|_| "?".to_owned());
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARS)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    match array.data_type() {
        DataType::Utf8 if array.is_valid(row) => format!("'{shown}'"),
        _ => shown,
    }
}
