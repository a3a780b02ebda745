//! What Kafka keeps beside a record's value, as columns.

use millstream_types::schema::{Column, ColumnType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A column of what Kafka keeps beside a record's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceMetadata {
    /// Name of the column, as SQL spells it.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// What it holds.
    pub from: Metadata,
    /// Its type, where there is a choice: a `key` is a `string` (UTF-8) or `bytes`. Default: `string`
    /// for `key` and `headers`, `timestamp` for `timestamp`, `int32` for `partition`, `int64` for
    /// `offset`, `string` for `topic`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ColumnType")]
    pub column_type: Option<ColumnType>,
}

/// What Kafka keeps beside a record's value.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Metadata {
    /// The key; null for a record without one.
    Key,
    /// The headers, as the text of a JSON object; `{}` where there are none.
    Headers,
    /// When the record was made or, if the topic says so, appended; null where nobody has said it.
    Timestamp,
    /// The number of the partition.
    Partition,
    /// The offset in the partition.
    Offset,
    /// The name of the topic.
    Topic,
}

impl Metadata {
    /// The types that its column may have, the default first.
    pub const fn types(self) -> &'static [ColumnType] {
        match self {
            Self::Key => &[ColumnType::String, ColumnType::Bytes],
            Self::Headers | Self::Topic => &[ColumnType::String],
            Self::Timestamp => &[ColumnType::Timestamp],
            Self::Partition => &[ColumnType::Int32],
            Self::Offset => &[ColumnType::Int64],
        }
    }

    /// Whether a record may be without it.
    const fn is_nullable(self) -> bool {
        matches!(self, Self::Key | Self::Timestamp)
    }
}

impl SourceMetadata {
    /// The column of it.
    pub fn column(&self) -> Column {
        let default = self.from.types().first().copied();
        let column_type = self.column_type.or(default);
        Column::new(
            &self.name,
            column_type.unwrap_or(ColumnType::String),
            self.from.is_nullable(),
        )
    }
}

/// A column that becomes what Kafka keeps beside a record's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkMetadata {
    /// Name of the column of the sink's input.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// What it becomes.
    pub to: WritableMetadata,
}

/// What can be written beside a record's key and value.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum WritableMetadata {
    /// The headers: a column of type `string` with the text of a JSON object. None where it is null.
    Headers,
    /// The timestamp: a column of type `timestamp`. The time of writing where it is null.
    Timestamp,
}
