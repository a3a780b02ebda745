//! What the operator, the command line and other tools agree on besides the kinds themselves.

/// Label that selects everything of one job; its value is the job's name.
pub const LABEL_JOB: &str = "millstream.dev/job";
/// Label with the part that a pod plays: `coordinator`, `worker`, `preflight` or `disposal`.
pub const LABEL_ROLE: &str = "millstream.dev/role";
/// Label with the hash of the revision that an object was made from.
pub const LABEL_REVISION: &str = "millstream.dev/revision";
/// Label with the number of the job's deployment that an object or a pod belongs to.
pub const LABEL_DEPLOYMENT: &str = "millstream.dev/deployment";
/// Annotation of a job by which a person approves a revision; its value is the revision's name.
pub const ANNOTATION_APPROVE: &str = "millstream.dev/approve";

/// Port of a coordinator's REST interface, metrics and health.
pub const PORT_COORDINATOR: u16 = 8081;
/// Port of a worker's metrics and health.
pub const PORT_WORKER: u16 = 8082;

/// Key of the covered part of the spec, as JSON, in a revision's config map.
pub const REVISION_SPEC: &str = "spec.json";

/// Keys of a job's spec that a revision does not cover: how many, whether, and how to get from
/// one revision to the next. Changing them makes no new revision.
pub const NOT_IN_REVISION: [&str; 7] = [
    "parallelism",
    "state",
    "upgrade",
    "savepoints",
    "deletion",
    "paused",
    "restore",
];

/// Why a `StreamJob` has no directory for its checkpoints.
pub const IN_A_POD: &str = "must not be a directory: it would be a pod's own and go with it, as pods \
                            of a StreamJob mount no volume for checkpoints. Write `s3://bucket/path` \
                            or `hdfs://namenode:port/path`";
