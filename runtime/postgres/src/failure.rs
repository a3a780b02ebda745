//! What the server's answers mean.

use millstream_types::{ErrorCode, ErrorKind, Failure, error};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::rows::Unwritable;

/// Makes failures of one sink.
#[derive(Debug, Clone)]
pub(crate) struct Fails {
    /// `sink X`, and the server.
    subject: String,
}

impl Fails {
    pub(crate) fn new(sink: &str, servers: &str) -> Self {
        Self {
            subject: format!("sink `{sink}`, PostgreSQL at {servers}"),
        }
    }

    pub(crate) fn with(&self, code: ErrorCode, kind: ErrorKind, message: &str) -> Failure {
        Failure::new(code, kind, format!("{}: {message}", self.subject))
    }

    /// The connection is lost, or cannot be made.
    pub(crate) fn unreachable(&self, message: &str) -> Failure {
        let code = ErrorCode::PostgresUnreachable;
        self.with(code, ErrorKind::Retryable, message)
    }

    /// The server has answered `doing` with an error, or not at all.
    pub(crate) fn of(&self, doing: &str, error: &Error) -> Failure {
        let Some(answer) = error.as_db_error() else {
            return self.unreachable(&format!("{doing}: {}", error::chain(error)));
        };
        let (code, kind) = meaning(answer);
        self.with(code, kind, &format!("{doing}: {}", said(answer)))
    }
}

/// Whether what was named is not there.
pub(crate) fn is_missing(error: &Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_OBJECT)
}

fn meaning(answer: &DbError) -> (ErrorCode, ErrorKind) {
    let code = answer.code();
    let class = code.code().get(..2).unwrap_or_default();
    let no_more_prepared = *code == SqlState::OUT_OF_MEMORY
        && answer
            .hint()
            .is_some_and(|hint| hint.contains("max_prepared"));
    if no_more_prepared
        || answer
            .message()
            .contains("prepared transactions are disabled")
    {
        return (
            ErrorCode::PostgresPreparedTransactions,
            ErrorKind::Retryable,
        );
    }
    match class {
        // Connection exception, transaction rollback, insufficient resources, operator intervention.
        "08" | "40" | "53" | "57" => (ErrorCode::PostgresUnreachable, ErrorKind::Retryable),
        // Lock not available, object in use.
        "55" => (ErrorCode::PostgresServer, ErrorKind::Retryable),
        "28" => (ErrorCode::PostgresAccess, ErrorKind::InvalidJob),
        "22" | "23" => (ErrorCode::PostgresRow, ErrorKind::InvalidJob),
        "3D" | "3F" => (ErrorCode::PostgresTable, ErrorKind::InvalidJob),
        _ if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            (ErrorCode::PostgresAccess, ErrorKind::InvalidJob)
        }
        _ if [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN].contains(code) => {
            (ErrorCode::PostgresTable, ErrorKind::InvalidJob)
        }
        _ => (ErrorCode::PostgresServer, ErrorKind::InvalidJob),
    }
}

/// The answer's own words.
fn said(answer: &DbError) -> String {
    let mut text = format!("{} ({})", answer.message(), answer.code().code());
    // A whole row has no place in a message.
    let detail = answer.detail();
    let detail = detail.filter(|detail| !detail.starts_with("Failing row contains"));
    for part in [detail, answer.hint()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(part);
    }
    text
}

impl Fails {
    /// A value has no place in its column.
    pub(crate) fn unwritable(&self, fault: &Unwritable) -> Failure {
        let message = format!(
            "a value of `{}` cannot be written: {}",
            fault.column, fault.reason
        );
        self.with(ErrorCode::PostgresRow, ErrorKind::InvalidJob, &message)
    }
}
