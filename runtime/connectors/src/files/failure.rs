//! What goes wrong with a file, for people.

use std::io;
use std::path::Path;

use millstream_types::{ErrorCode, ErrorKind, Failure};

/// An operation on a file did not work.
pub(super) fn access(node: &str, doing: &str, path: &Path, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::InvalidFilename => ErrorKind::InvalidJob,
        _ => ErrorKind::Retryable,
    };
    let message = format!("`{node}` cannot {doing} {}: {error}", path.display());
    Failure::new(ErrorCode::FileAccess, kind, message)
}

/// A file is not what it must be, and trying again does not help.
pub(super) fn unusable(node: &str, path: &Path, reason: &str) -> Failure {
    let message = format!("`{node}`: {}: {reason}", path.display());
    Failure::new(ErrorCode::FileAccess, ErrorKind::InvalidJob, message)
}

/// The directory of a sink that has written before is not there.
pub(super) fn not_there(node: &str, hidden: &Path) -> Failure {
    let message = format!(
        "`{node}`: {} is not there, although the job has written there before: is the file system \
         mounted? If the output is to go to a new directory, create this one, and the job goes on",
        hidden.display()
    );
    Failure::new(ErrorCode::FileAccess, ErrorKind::Retryable, message)
}

/// What a checkpoint holds for the node is nothing of this connector's.
pub(super) fn not_understood(node: &str, text: &str) -> Failure {
    let message = format!(
        "`{node}`: the checkpoint has {text} for it, which is nothing of a files connector's; was \
         the node of that name another connector before?"
    );
    Failure::new(ErrorCode::IncompatibleState, ErrorKind::InvalidJob, message)
}

/// Whether a text is the name of a file in a directory and leads nowhere else.
pub(super) fn is_plain_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}
