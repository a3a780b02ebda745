//! How things go wrong, in words that cross crates and processes.
//!
//! Every crate has its own error enum. Where an error leaves its crate for another process or for
//! a person it becomes a [`Failure`]: a code with a page in `docs/errors/`, a kind that decides
//! what happens next, and a message that names the place and what to do.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to do about an error. All that restart and retry logic may look at.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ErrorKind {
    /// May go away by itself: restart the attempt.
    Retryable,
    /// A newer attempt has taken over: stop at once, touch nothing.
    Fenced,
    /// The job cannot run as it is written: restarting does not help.
    InvalidJob,
    /// Stored data fails its checks: a person must look.
    CorruptData,
    /// Committed output is lost or may be: a person must decide.
    DataLoss,
    /// A bug of ours, or a panic in an operator.
    Internal,
}

impl ErrorKind {
    /// Whether a restart of the attempt may help.
    pub const fn is_restartable(self) -> bool {
        matches!(self, Self::Retryable | Self::Internal)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal),* $(,)?) => {
        /// Names of all errors that a user can meet. Each has a page `docs/errors/<code>.md`.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            JsonSchema,
        )]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// All of them, in order of their code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// `MS` and four digits.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The name, as in `KafkaTransactionLost`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Its page, in Markdown.
            pub const fn page(self) -> &'static str {
                match self {
                    $(Self::$name => include_str!(concat!("../../../docs/errors/", $code, ".md")),)*
                }
            }
        }
    };
}

codes! {
    // 00xx: the job file
    /// The job file is not YAML, too large, too deep, or repeats a key.
    UnreadableJobFile = "MS0001",
    /// The job file breaks rules; every fault is listed with its path.
    InvalidJob = "MS0002",
    // 01xx: the plan
    /// A transform's SQL does not parse.
    SqlDoesNotParse = "MS0101",
    /// A transform's SQL names or combines things that do not exist or do not fit.
    SqlDoesNotBind = "MS0102",
    /// A worker's job graph differs from the coordinator's.
    PlanMismatch = "MS0103",
    /// The checkpoint holds state that the job's graph has no place for.
    IncompatibleState = "MS0104",
    // 02xx: Kafka
    /// No broker answers.
    KafkaUnreachable = "MS0201",
    /// The topic does not exist or may not be seen.
    KafkaTopicMissing = "MS0202",
    /// The offset to read from no longer exists.
    KafkaOffsetOutOfRange = "MS0203",
    /// A prepared transaction was aborted by the broker.
    KafkaTransactionLost = "MS0204",
    /// `transactionTimeout` cannot work with the checkpoint settings or the broker's limit.
    KafkaTransactionTimeout = "MS0205",
    /// The cluster or topic behind the name is another one than the checkpoint's.
    KafkaIdentityChanged = "MS0206",
    /// TLS or SASL refused the connection.
    KafkaAuthentication = "MS0207",
    /// A record could not be delivered.
    KafkaDelivery = "MS0208",
    /// Any other answer of a broker that stops the work.
    KafkaBroker = "MS0209",
    // 03xx: the checkpoint store
    /// The store does not answer or refuses access.
    StoreUnavailable = "MS0301",
    /// The store ignores the condition on a PUT.
    StoreNotConditional = "MS0302",
    /// A stored object fails its checksum or cannot be read.
    CorruptObject = "MS0303",
    /// A newer attempt owns the chain.
    Fenced = "MS0304",
    /// Another job owns the storage path.
    PathTaken = "MS0305",
    /// A checkpoint or savepoint that is asked for does not exist.
    CheckpointMissing = "MS0306",
    /// Another savepoint has the name.
    SavepointExists = "MS0307",
    /// A rule of the chain was broken: a bug of ours.
    ChainRuleBroken = "MS0308",
    /// The chain is empty although the job is known to have had state.
    StateMissing = "MS0309",
    /// The chain whose checkpoint a job is to be started from is still in use.
    ChainInUse = "MS0310",
    /// The job was started from this restore point before, under another identity.
    RestoredBefore = "MS0311",
    /// A restore point that was believed to be the newest state has nothing to do with the chain.
    UnrelatedState = "MS0312",
    // 04xx: records
    /// A record cannot be decoded and the source says `onError: Fail`.
    CorruptRecord = "MS0401",
    /// An expression failed on a record's values.
    ExpressionFailed = "MS0402",
    // 05xx: running
    /// A worker's connection ended or its heartbeats stopped.
    WorkerLost = "MS0501",
    /// More checkpoints in a row failed than `tolerableFailures` allows.
    CheckpointFailuresExceeded = "MS0502",
    /// The restart strategy allows no further restart.
    RestartsExhausted = "MS0503",
    /// A task panicked.
    TaskPanicked = "MS0504",
    /// The registered workers have fewer slots than the job's parallelism.
    NotEnoughSlots = "MS0505",
    /// The coordinator cannot be reached or speaks another protocol version.
    CoordinatorUnavailable = "MS0506",
    /// A checkpoint did not complete within its timeout.
    CheckpointExpired = "MS0507",
    /// A task does not react: a call into a connector blocks it.
    TaskStuck = "MS0508",
    /// The operating system refuses what the process needs: a thread, an address, a file.
    OperatingSystem = "MS0509",
    /// The snapshots of a checkpoint do not fit together; it is not decided.
    InconsistentSnapshot = "MS0510",
    /// The connection between two workers is lost, or cannot be made.
    ExchangeLost = "MS0511",
    /// What came over a connection between two workers is not what was sent.
    ExchangeFrame = "MS0512",
    /// The files for TLS between the processes of a job cannot be used.
    TlsFiles = "MS0513",
    // 06xx: files
    /// A source's or sink's file cannot be read, written or renamed.
    FileAccess = "MS0601",
    /// Committed output that must exist does not.
    FileOutputLost = "MS0602",
    // 07xx: keyed state
    /// The keyed state of a worker needs more memory than it may have.
    StateTooLarge = "MS0701",
    /// State that does not fit into memory cannot be kept on the local disk.
    LocalStateFailed = "MS0702",
    // 08xx: PostgreSQL
    /// No server answers, or the connection is lost.
    PostgresUnreachable = "MS0801",
    /// The server does not let the job in, or not do what it must.
    PostgresAccess = "MS0802",
    /// The table is missing, or its columns do not fit.
    PostgresTable = "MS0803",
    /// The server keeps too few prepared transactions.
    PostgresPreparedTransactions = "MS0804",
    /// The server refuses a row.
    PostgresRow = "MS0805",
    /// Output that a decided checkpoint lists is gone.
    PostgresTransactionLost = "MS0806",
    /// Any other answer of the server that stops the work.
    PostgresServer = "MS0807",
    // 09xx: sinks and operators of one's own
    /// A sink or operator of one's own has failed.
    SinkFailed = "MS0901",
    /// The program has registered no sink of this type.
    NotRegistered = "MS0902",
    // 10xx: drills
    /// Nobody has confirmed that a job is to be run and hurt.
    DrillRefused = "MS1001",
    /// A drill could not be carried out to its end.
    DrillFailed = "MS1002",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An error as it leaves its crate.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    thiserror::Error,
)]
#[error("{} {}: {message}", code.code(), code.name())]
pub struct Failure {
    /// Which error; names its page.
    pub code: ErrorCode,
    /// What to do about it.
    pub kind: ErrorKind,
    /// What happened, where, and what to do.
    pub message: String,
}

impl Failure {
    /// Builds a failure.
    pub fn new(code: ErrorCode, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            code,
            kind,
            message: message.into(),
        }
    }
}

/// Writes an error and all its sources on one line, joined by `: `.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text
}
