//! Where the job's checkpoints lie.

use millstream_tests::{Hdfs, Minio};

/// Which kind of store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    S3,
    Hdfs,
}

/// A running store.
pub(crate) enum Store {
    S3(Minio),
    Hdfs(Hdfs),
}

impl Store {
    #[track_caller]
    pub(crate) fn start(kind: Kind) -> Self {
        match kind {
            Kind::S3 => Self::S3(Minio::start()),
            Kind::Hdfs => Self::Hdfs(Hdfs::start()),
        }
    }

    /// What the job file says.
    pub(crate) fn storage(&self) -> String {
        match self {
            Self::S3(_) => format!("s3://{}/process", Minio::BUCKET),
            Self::Hdfs(hdfs) => hdfs.uri("/process"),
        }
    }

    /// Address of the order job's chain.
    pub(crate) fn chain(&self) -> String {
        format!("{}/default/order-processor", self.storage())
    }

    /// `host:port` of a store that is reached by HTTP.
    #[track_caller]
    pub(crate) fn http(&self) -> String {
        match self {
            Self::S3(minio) => minio.address(),
            Self::Hdfs(_) => panic!("HDFS is not reached by HTTP"),
        }
    }

    /// Variables by which processes reach it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::S3(minio) => minio.environment(),
            Self::Hdfs(hdfs) => hdfs.environment(),
        }
    }

    /// How many objects lie in it, with all that is temporary.
    pub(crate) fn objects(&self) -> usize {
        match self {
            Self::S3(minio) => minio.keys("process/").len(),
            Self::Hdfs(hdfs) => hdfs.files("/process").len(),
        }
    }

    /// HDFS itself, for its own faults.
    #[track_caller]
    pub(crate) fn hdfs(&mut self) -> &mut Hdfs {
        match self {
            Self::S3(_) => panic!("the store is S3"),
            Self::Hdfs(hdfs) => hdfs,
        }
    }
}
