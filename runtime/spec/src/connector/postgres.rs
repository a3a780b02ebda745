//! Options of the PostgreSQL sink.

use millstream_types::duration::KubeDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Write rows to a table of a PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostgresSink {
    /// `host:port` of the server, or of several separated by commas, of which the one that takes
    /// writes is used; port 5432 where none is given.
    #[schemars(length(min = 1, max = 4096))]
    pub servers: String,
    /// Name of the database.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// Schema of the table, and of the tables that the sink keeps. Default: public.
    #[serde(default = "default_schema")]
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,
    /// The table. It must exist, and have a column for each of the input's.
    #[schemars(length(min = 1, max = 63))]
    pub table: String,
    /// How rows become visible.
    pub mode: PostgresMode,
    /// Columns by which rows replace each other: those of a primary key or unique index of the table.
    /// For `mode: Upsert`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    pub key_fields: Vec<String>,
    /// Column by which a row of a key is newer than another: one that is older than the table's is left
    /// out. For `mode: Upsert`. Without it the row that comes last stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub version_field: Option<String>,
    /// How long to try to reach the server before the attempt fails. Default: 30s.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: KubeDuration,
    /// User name.
    #[schemars(length(min = 1, max = 63))]
    pub username: String,
    /// File whose content, without a trailing newline, is the password. None where the server asks for
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub password_file: Option<String>,
    /// TLS to the server; its certificate must be for the name in `servers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<super::Tls>,
}

/// How rows become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PostgresMode {
    /// With their checkpoint, each once: by transactions that the server keeps prepared
    /// (`max_prepared_transactions`).
    TwoPhaseCommit,
    /// With their checkpoint, each once: rows wait in a table beside until then.
    Buffered,
    /// As they come; a row replaces the one with its key.
    Upsert,
}

fn default_schema() -> String {
    "public".to_owned()
}

const fn connect_timeout() -> KubeDuration {
    KubeDuration::from_secs(30)
}
