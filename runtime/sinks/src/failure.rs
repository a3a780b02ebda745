//! What a sink fails with.

use millstream_types::{ErrorCode, ErrorKind, Failure};

/// Something that may go away by itself: the attempt restarts.
pub fn retryable(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::SinkFailed, ErrorKind::Retryable, message)
}

/// Something that stays until a person has changed it: the job ends.
pub fn refused(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::SinkFailed, ErrorKind::InvalidJob, message)
}
