//! Options of the Kafka connector.

use std::collections::BTreeMap;

use millstream_types::Timestamp;
use millstream_types::duration::KubeDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Read topics of a Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSource {
    /// `host:port` of some brokers, separated by commas; port 9092 where none is given.
    #[schemars(length(min = 1, max = 4096))]
    pub bootstrap_servers: String,
    /// Topics to read, each by its whole name of letters, digits, `.`, `_` and `-`. There are no
    /// patterns: a new topic is added here.
    #[schemars(
        length(min = 1, max = 100),
        inner(length(min = 1, max = 249), pattern(r"^[A-Za-z0-9._-]+$"))
    )]
    pub topics: Vec<String>,
    /// Consumer group whose offsets are committed after each checkpoint, for monitoring and for
    /// `startingOffsets: {committed: …}`. Nothing is committed if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    pub group_id: Option<String>,
    /// Where to begin when there is no checkpoint. Default: `earliest: {}`.
    #[serde(default)]
    pub starting_offsets: StartingOffsets,
    /// Read up to the offsets that are the end when the job first starts, then end. Default:
    /// false.
    #[serde(default)]
    pub bounded: bool,
    /// How often to look for new partitions; 0 is never. Default: 5m.
    #[serde(default = "discovery")]
    pub partition_discovery_interval: KubeDuration,
    /// How long to try to reach a broker before the attempt fails. Default: 30s.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: KubeDuration,
    /// TLS to the brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Login at the brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
    /// More options of librdkafka's consumer, from an allow-list (docs/job-file.md).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "properties")]
    pub properties: BTreeMap<String, String>,
}

impl KafkaSource {
    /// Whether a split is of one of the topics. It is named `<topic>/<partition>`.
    pub fn reads(&self, split: &str) -> bool {
        let topic = split.rsplit_once('/').map(|(topic, _)| topic);
        topic.is_some_and(|topic| self.topics.iter().any(|one| one == topic))
    }
}

/// Where to begin when there is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum StartingOffsets {
    /// With the oldest record.
    Earliest(Empty),
    /// With records that come after the job first starts.
    Latest(Empty),
    /// With the first record whose timestamp is this or later.
    Timestamp(StartingTimestamp),
    /// Where the consumer group stands.
    Committed(StartingCommitted),
}

impl Default for StartingOffsets {
    fn default() -> Self {
        Self::Earliest(Empty {})
    }
}

/// No options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// With the first record whose timestamp is this or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartingTimestamp {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[schemars(range(min = 0, max = 253_402_300_799_999_u64))]
    pub millis: Timestamp,
}

/// Where the consumer group stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StartingCommitted {
    /// Where to begin with a partition for which the group has no offset. Default: `Fail`.
    pub fallback: OffsetFallback,
}

/// Where to begin where the group has no offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OffsetFallback {
    /// The job fails and says which partition.
    #[default]
    Fail,
    /// With the oldest record.
    Earliest,
    /// With records that come after the job first starts.
    Latest,
}

/// Write to a topic of a Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSink {
    /// `host:port` of some brokers, separated by commas; port 9092 where none is given.
    #[schemars(length(min = 1, max = 4096))]
    pub bootstrap_servers: String,
    /// The topic: letters, digits, `.`, `_` and `-`. It must exist.
    #[schemars(length(min = 1, max = 249), pattern(r"^[A-Za-z0-9._-]+$"))]
    pub topic: String,
    /// What a `read_committed` reader sees after failures. Default: what `checkpoint.mode` says,
    /// which is `ExactlyOnce` if it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeliveryGuarantee")]
    pub delivery_guarantee: Option<DeliveryGuarantee>,
    /// First part of every transactional id: letters, digits, `.`, `_` and `-`; no other job may
    /// use it. Default: the job's namespace and name. Ids are `<prefix>-<sink>-<chain>-<attempt>-<subtask>-<slot>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 150), pattern(r"^[A-Za-z0-9._-]+$"))]
    pub transactional_id_prefix: Option<String>,
    /// How long the broker keeps a transaction open. Must be longer than the longest time from a
    /// transaction's first record to its commit, failed checkpoints and a restart included
    /// (docs/job-file.md), and at most the broker's `transaction.max.timeout.ms`. Default: 15m.
    #[serde(default = "transaction_timeout")]
    pub transaction_timeout: KubeDuration,
    /// Column that is the record's key, as it is: a `string`, `bytes`, or the digits of an `int32`
    /// or `int64`. No key where it is null, or if neither this nor `keyFields` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub key: Option<String>,
    /// Columns that are the record's key together, as a JSON object. Not beside `key`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 128)))]
    pub key_fields: Vec<String>,
    /// Whether the columns of the key are in the record's value too. Default: `All`.
    #[serde(default)]
    pub value_fields_include: ValueFields,
    /// How a record's partition is chosen. Default: `Murmur2`, as the Java client does.
    #[serde(default)]
    pub partitioner: KafkaPartitioner,
    /// How long to try to reach a broker before the attempt fails. Default: 30s.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: KubeDuration,
    /// TLS to the brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Login at the brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
    /// More options of librdkafka's producer, from an allow-list (docs/job-file.md).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "properties")]
    pub properties: BTreeMap<String, String>,
}

impl KafkaSink {
    /// What a reader sees after failures. In a job that was checked, what `checkpoint.mode` says is
    /// filled in where nothing was given.
    pub fn guarantee(&self) -> DeliveryGuarantee {
        self.delivery_guarantee.unwrap_or_default()
    }

    /// Whether records have a key.
    pub fn has_key(&self) -> bool {
        self.key.is_some() || !self.key_fields.is_empty()
    }
}

/// Which columns are in a record's value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ValueFields {
    /// Those of the key too.
    #[default]
    All,
    /// All but those of the key.
    ExceptKey,
}

/// What a `read_committed` reader of the topic sees after failures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeliveryGuarantee {
    /// Every record once, after its checkpoint.
    #[default]
    ExactlyOnce,
    /// Every record at once; some again after a failure.
    AtLeastOnce,
}

/// How a record's partition is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KafkaPartitioner {
    /// By the key's murmur2 hash, as the Java client; sticky for records without a key.
    #[default]
    Murmur2,
    /// By the key's CRC32, as librdkafka's default; sticky for records without a key.
    Crc32,
    /// At random, for every record.
    Random,
}

/// TLS to the brokers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(
    clippy::struct_field_names,
    reason = "they are the keys of the job file"
)]
pub struct Tls {
    /// PEM file of the authorities to trust; the system's if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub ca_file: Option<String>,
    /// PEM file of the client's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub certificate_file: Option<String>,
    /// PEM file of the client's private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub key_file: Option<String>,
}

/// Login at the brokers. Secrets are read from files, never from the job file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sasl {
    /// How to log in.
    pub mechanism: SaslMechanism,
    /// User name.
    #[schemars(length(min = 1, max = 256))]
    pub username: String,
    /// File whose content, without a trailing newline, is the password.
    #[schemars(length(min = 1, max = 1024))]
    pub password_file: String,
}

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// The password itself; use it over TLS only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge and response with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Salted challenge and response with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

fn properties(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 50,
        "additionalProperties": {
            "description": "Value of the option, as librdkafka writes it.",
            "type": "string",
            "maxLength": 256,
        },
    })
}

const fn discovery() -> KubeDuration {
    KubeDuration::from_secs(300)
}

const fn connect_timeout() -> KubeDuration {
    KubeDuration::from_secs(30)
}

const fn transaction_timeout() -> KubeDuration {
    KubeDuration::from_secs(900)
}
