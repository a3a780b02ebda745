//! How the values of columns are written, where their types alone do not say it.

use std::collections::BTreeMap;

use arrow_schema::{DataType, Field};

use crate::timestamp::Timestamps;

/// What a user says of how JSON is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JsonOptions {
    /// Of timestamps. Where nothing is said, RFC 3339 is written, and it or epoch milliseconds are
    /// read.
    pub timestamps: Option<Timestamps>,
    /// Of single columns, by name.
    pub columns: BTreeMap<String, Written>,
}

/// How the values of one column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// A text is JSON itself.
    Json,
    /// A timestamp is written like this.
    Timestamp(Timestamps),
    /// What clocks show somewhere, without a zone.
    Clock,
}

impl JsonOptions {
    /// How the values of a column are written; `None` if its type says it.
    pub(crate) fn of(&self, field: &Field) -> Option<Written> {
        let own = self.columns.get(field.name()).copied();
        match field.data_type() {
            // SQL has no other timestamps without a zone than those of `AT TIME ZONE`.
            DataType::Timestamp(_, None) => Some(Written::Clock),
            DataType::Timestamp(_, Some(_)) => own
                .filter(|written| matches!(written, Written::Timestamp(_)))
                .or_else(|| self.timestamps.map(Written::Timestamp)),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                own.filter(|written| *written == Written::Json)
            }
            _ => None,
        }
    }
}
