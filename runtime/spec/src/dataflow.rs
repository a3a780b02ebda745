//! The `dataflow` section: named sources, transforms and sinks.

use millstream_types::Zone;
use millstream_types::duration::KubeDuration;
use millstream_types::schema::{Column, TimestampFormat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::connector::{
    BlackholeSink, CustomSink, FilesSink, FilesSource, GeneratorSource, KafkaSink, KafkaSource,
    PostgresSink, PrintSink,
};
use crate::metadata::{SinkMetadata, SourceMetadata};

/// Sources, transforms and sinks. A node's name is its operator uid: state is found by it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dataflow {
    /// Where records come from.
    #[schemars(length(min = 1, max = 100))]
    pub sources: Vec<Source>,
    /// What is done with them.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub transforms: Vec<Transform>,
    /// Where they go.
    #[schemars(length(min = 1, max = 100))]
    pub sinks: Vec<Sink>,
}

impl Dataflow {
    /// The highest parallelism of its nodes, at this one of the job: how many slots it needs.
    pub fn slots(&self, parallelism: u32) -> u32 {
        let sources = self.sources.iter().map(|it| it.parallelism);
        let transforms = self.transforms.iter().map(|it| it.parallelism);
        let sinks = self.sinks.iter().map(|it| it.parallelism);
        let own = sources.chain(transforms).chain(sinks);
        let all = own.map(|own| own.unwrap_or(parallelism));
        all.max().unwrap_or(parallelism)
    }
}

/// Where records come from. Exactly one of `kafka`, `files` and `generator` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Name of the node: lower-case letters, digits, `-` and `_`.
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z]([a-z0-9_-]*[a-z0-9])?$"))]
    pub name: String,
    /// Read topics of a Kafka cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSource>,
    /// Read files of a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesSource>,
    /// Make orders from a seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator: Option<GeneratorSource>,
    /// How bytes become columns. Default: `json: {}`. Not for `generator`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The columns of a record. Required with `json`; not for `raw` (one column `value`) and
    /// `generator` (its own columns).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub schema: Vec<Column>,
    /// Columns of what Kafka keeps beside a record's value: its key, headers, timestamp and place.
    /// They follow those of the schema. For `kafka` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub metadata: Vec<SourceMetadata>,
    /// Which column is the event time, and how late records may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Watermark>,
    /// What happens to a record that cannot be decoded. Default: `Fail`.
    #[serde(default)]
    pub on_error: OnError,
    /// How many subtasks run this node, if not as many as the job's `parallelism` says. It stays
    /// when the job is rescaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32_768))]
    pub parallelism: Option<u32>,
}

/// How bytes become columns and columns bytes. Exactly one is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Format {
    /// One JSON object per record.
    Json(JsonFormat),
    /// The bytes of a record as one text column `value`.
    Raw(RawFormat),
}

impl Default for Format {
    fn default() -> Self {
        Self::Json(JsonFormat::default())
    }
}

/// One JSON object per record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JsonFormat {
    /// How columns of type `timestamp` are written. Default: sources read RFC 3339 text and
    /// milliseconds since 1970, sinks write RFC 3339 text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_format: Option<TimestampFormat>,
    /// The time zone of timestamps that are written without one, which are those of
    /// `timestampFormat: sql`: a name such as `Europe/Berlin`, or an offset such as `+02:00`.
    /// Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Zone")]
    pub time_zone: Option<Zone>,
    /// Columns of type `string` that a sink writes as the JSON that their text is, and not as a
    /// string in quotes. For sinks: a source says `json: true` in its `schema`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 128)))]
    pub json_columns: Vec<String>,
}

/// The bytes of a record as one text column `value`. No options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawFormat {}

/// What happens to a record that cannot be decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnError {
    /// The job fails and says which record.
    #[default]
    Fail,
    /// It is counted and left out.
    Skip,
    /// It goes, with its place and the reason, to the side output `<source>.deadLetters`, which
    /// at least one sink must read.
    DeadLetter,
}

/// Event time of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Watermark {
    /// A column of type `timestamp`.
    #[schemars(length(min = 1, max = 128))]
    pub column: String,
    /// How much older than the newest record a record may be without being late. Default: 0s.
    #[serde(default)]
    pub max_out_of_orderness: KubeDuration,
    /// A split without records for this long does not hold back the watermark. Never idle if not
    /// given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<KubeDuration>,
}

/// A step between sources and sinks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transform {
    /// Name of the node: lower-case letters, digits, `-` and `_`.
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z]([a-z0-9_-]*[a-z0-9])?$"))]
    pub name: String,
    /// The node whose records it gets: a source, a transform, or `<source>.deadLetters`. Exactly one
    /// of `input` and `inputs` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub input: Option<String>,
    /// The nodes whose records it gets, if there are several: those that its SQL reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub inputs: Vec<String>,
    /// Columns of the input: all records with the same values in them go through one subtask of
    /// this node, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    pub partition_by: Vec<String>,
    /// How many subtasks run this node, if not as many as the job's `parallelism` says. It stays
    /// when the job is rescaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32_768))]
    pub parallelism: Option<u32>,
    /// How long the state of a key is kept after its last change. For a transform that groups records;
    /// default: what `stateBackend.ttl` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_ttl: Option<KubeDuration>,
    /// `SELECT … FROM <input> [WHERE …] [GROUP BY … [HAVING …]]`, or several without groups with
    /// `UNION ALL` between.
    #[schemars(length(min = 1, max = 65_536))]
    pub sql: String,
}

/// Where records go. Exactly one of `kafka`, `files`, `postgres`, `custom`, `print` and
/// `blackhole` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sink {
    /// Name of the node: lower-case letters, digits, `-` and `_`.
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z]([a-z0-9_-]*[a-z0-9])?$"))]
    pub name: String,
    /// The node whose records it gets: a source, a transform, or `<source>.deadLetters`. Exactly one
    /// of `input` and `inputs` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub input: Option<String>,
    /// The nodes whose records it gets, if there are several, all with the same columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub inputs: Vec<String>,
    /// Columns of the input: all records with the same values in them go through one subtask of
    /// this node, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    pub partition_by: Vec<String>,
    /// How many subtasks run this node, if not as many as the job's `parallelism` says. It stays
    /// when the job is rescaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32_768))]
    pub parallelism: Option<u32>,
    /// Write to a topic of a Kafka cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSink>,
    /// Write files into a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesSink>,
    /// Write to a table of a PostgreSQL database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresSink>,
    /// Write with a sink of a program of your own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomSink>,
    /// Print to standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub print: Option<PrintSink>,
    /// Count and drop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blackhole: Option<BlackholeSink>,
    /// How columns become bytes. Default: `json: {}`. Not for `postgres`, `custom` and
    /// `blackhole`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Columns that become a record's headers and timestamp. They are left out of its value. For
    /// `kafka` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub metadata: Vec<SinkMetadata>,
}
