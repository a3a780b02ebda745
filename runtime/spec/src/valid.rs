//! A job that has passed every check that needs nothing but the job file.

use std::sync::Arc;

use millstream_types::JobId;
use millstream_types::duration::KubeDuration;
use millstream_types::schema::Column;

use crate::connector::{
    BlackholeSink, CustomSink, FilesSink, FilesSource, GeneratorSource, KafkaSink, KafkaSource,
    PostgresSink, PrintSink,
};
use crate::{
    CheckpointSpec, Format, MetricsSpec, OnError, RestartStrategy, SinkMetadata, SourceMetadata,
    StateBackendSpec, Watermark,
};

/// A job file that has passed every check. Only [`read`](crate::read()) makes one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ValidJob {
    /// Which job: `metadata.namespace` (or `default`) and `metadata.name`.
    pub id: JobId,
    /// `metadata.uid`, which tells two jobs of one name apart that follow each other; the API
    /// server gives one.
    pub identity: Option<String>,
    /// How many subtasks run every node that does not say otherwise.
    pub parallelism: u32,
    /// Into how many key groups the records of a node with `partitionBy` or keyed state are divided:
    /// its parallelism is no higher.
    pub max_parallelism: u32,
    /// Whether neighbouring steps share a task.
    pub operator_chaining: bool,
    /// How keyed state is kept.
    pub state_backend: StateBackendSpec,
    /// When and where checkpoints are taken.
    pub checkpoint: CheckpointSpec,
    /// What happens after a failure.
    pub restart: RestartStrategy,
    /// What is told about it while it runs.
    pub metrics: MetricsSpec,
    /// Where records come from. Names are unique over all nodes.
    pub sources: Vec<Arc<ValidSource>>,
    /// What is done with them, each after its inputs.
    pub transforms: Vec<ValidTransform>,
    /// Where they go.
    pub sinks: Vec<Arc<ValidSink>>,
}

impl ValidJob {
    /// The same job with another parallelism.
    ///
    /// # Errors
    /// It is higher than the number of key groups of a node with `partitionBy`.
    pub fn rescaled(mut self, parallelism: u32) -> Result<Self, String> {
        let keyed =
            |partition_by: &[String], own: Option<u32>| !partition_by.is_empty() && own.is_none();
        let transforms = self.transforms.iter();
        let transforms = transforms.filter(|it| keyed(&it.partition_by, it.parallelism));
        let sinks = self.sinks.iter();
        let sinks = sinks.filter(|it| keyed(&it.partition_by, it.parallelism));
        let mut names = transforms
            .map(|it| &it.name)
            .chain(sinks.map(|it| &it.name));
        let most = self.max_parallelism;
        if let Some(name) = names.next().filter(|_| parallelism > most) {
            return Err(format!(
                "a parallelism of {parallelism} is too high: `{name}` has `partitionBy`, and its \
                 keys are divided into {most} groups (`spec.maxParallelism`)"
            ));
        }
        self.parallelism = parallelism;
        Ok(self)
    }

    /// The highest parallelism of its nodes: how many slots it needs.
    pub fn slots(&self) -> u32 {
        let sources = self.sources.iter().map(|it| it.parallelism);
        let transforms = self.transforms.iter().map(|it| it.parallelism);
        let sinks = self.sinks.iter().map(|it| it.parallelism);
        let own = sources.chain(transforms).chain(sinks);
        let all = own.map(|own| own.unwrap_or(self.parallelism));
        all.max().unwrap_or(self.parallelism)
    }
}

/// A checked source.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidSource {
    /// Name of the node.
    pub name: String,
    /// The connector and its options.
    pub connector: SourceConnector,
    /// How bytes become columns; [`Format::Json`] and unused for the generator.
    pub format: Format,
    /// The declared columns, the connector's or format's own where the user declares none; then
    /// those of `metadata`.
    pub schema: Vec<Column>,
    /// Which columns of the schema hold what Kafka keeps beside a record's value.
    pub metadata: Vec<SourceMetadata>,
    /// Event time.
    pub watermark: Option<Watermark>,
    /// What happens to a record that cannot be decoded.
    pub on_error: OnError,
    /// How many subtasks run it, if not as many as the job has.
    pub parallelism: Option<u32>,
}

/// A source's connector.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one per source of a job"
)]
pub enum SourceConnector {
    /// Topics of a Kafka cluster.
    Kafka(KafkaSource),
    /// Files of a directory.
    Files(FilesSource),
    /// Orders made from a seed.
    Generator(GeneratorSource),
}

/// A checked transform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidTransform {
    /// Name of the node.
    pub name: String,
    /// The outputs that its SQL reads, at least one.
    pub inputs: Vec<Input>,
    /// Columns of each input by which its records are spread over the subtasks.
    pub partition_by: Vec<String>,
    /// How many subtasks run it, if not as many as the job has.
    pub parallelism: Option<u32>,
    /// How long it keeps a key after its last change, if not as long as the job says.
    pub state_ttl: Option<KubeDuration>,
    /// Its SQL, not yet bound.
    pub sql: String,
}

/// An output of a node, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    /// Records of a source or transform.
    Main(String),
    /// Records that the source could not decode.
    DeadLetters(String),
}

/// A checked sink.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidSink {
    /// Name of the node.
    pub name: String,
    /// The outputs it reads, at least one.
    pub inputs: Vec<Input>,
    /// Columns of each input by which its records are spread over the subtasks.
    pub partition_by: Vec<String>,
    /// How many subtasks run it, if not as many as the job has.
    pub parallelism: Option<u32>,
    /// The connector and its options.
    pub connector: SinkConnector,
    /// How columns become bytes; unused where the connector writes columns.
    pub format: Format,
    /// Columns that are written beside a record's value.
    pub metadata: Vec<SinkMetadata>,
    /// Columns of the input that are not in a record's value.
    pub left_out: Vec<String>,
    /// The job's checkpoint settings, for checks that need both.
    pub checkpoint: CheckpointSpec,
}

impl ValidSink {
    /// Whether a column of the input is part of a record's value.
    pub fn is_in_value(&self, column: &str) -> bool {
        !self.left_out.iter().any(|one| one == column)
    }

    /// Whether columns become bytes of a record.
    pub const fn writes_bytes(&self) -> bool {
        match self.connector {
            SinkConnector::Kafka(_) | SinkConnector::Files(_) | SinkConnector::Print(_) => true,
            SinkConnector::Postgres(_) | SinkConnector::Custom(_) | SinkConnector::Blackhole(_) => {
                false
            }
        }
    }
}

/// A sink's connector.
#[derive(Debug, Clone, PartialEq)]
pub enum SinkConnector {
    /// A topic of a Kafka cluster.
    Kafka(KafkaSink),
    /// Files in a directory.
    Files(FilesSink),
    /// A table of a PostgreSQL database.
    Postgres(PostgresSink),
    /// What the program has of its own.
    Custom(CustomSink),
    /// Standard output.
    Print(PrintSink),
    /// Nowhere.
    Blackhole(BlackholeSink),
}
