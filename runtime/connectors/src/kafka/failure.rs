//! What the Kafka connector says when it cannot go on. One place for all texts, so that they name
//! the same things in the same words, and so that each code has one kind, or two that are told apart
//! here.

use std::time::Duration;

use millstream_types::{ErrorCode, ErrorKind, Failure};

/// An entry of `bootstrapServers` is not `host:port`.
pub(crate) fn not_a_server(node: &str, server: &str) -> Failure {
    Failure::new(
        ErrorCode::InvalidJob,
        ErrorKind::InvalidJob,
        format!(
            "`{node}`: `{server}` in bootstrapServers is not a server: write host:port, several \
             separated by commas"
        ),
    )
}

/// A file with a password, key or certificate cannot be used.
pub(crate) fn secret_file(file: &str, reason: &str) -> Failure {
    Failure::new(
        ErrorCode::KafkaAuthentication,
        ErrorKind::InvalidJob,
        format!("the file `{file}` cannot be used: {reason}"),
    )
}

/// No broker answered before the deadline.
pub(crate) fn unreachable(servers: &str, waited: Duration, last: &str) -> Failure {
    Failure::new(
        ErrorCode::KafkaUnreachable,
        ErrorKind::Retryable,
        format!(
            "no Kafka broker of `{servers}` answered within {} s; the last error was: {last}. \
             Check bootstrapServers, the network and that the brokers run; connectTimeout sets \
             how long to try",
            waited.as_secs_f32()
        ),
    )
}

/// The broker refused the login or the TLS handshake.
pub(crate) fn authentication(broker: &str, reason: &str) -> Failure {
    Failure::new(
        ErrorCode::KafkaAuthentication,
        ErrorKind::InvalidJob,
        format!(
            "Kafka broker {broker} refused the connection: {reason}. Check `tls`, and \
             `sasl.mechanism`, `sasl.username` and the content of `sasl.passwordFile`"
        ),
    )
}

/// The topic does not exist or may not be seen.
pub(crate) fn topic_missing(topic: &str, servers: &str, answer: &str) -> Failure {
    Failure::new(
        ErrorCode::KafkaTopicMissing,
        ErrorKind::InvalidJob,
        format!(
            "topic `{topic}` does not exist on the cluster of `{servers}`, or the user may not \
             describe it (the broker says {answer}): create it, or correct its name"
        ),
    )
}

/// A topic that was there before does not exist or may not be seen. It may be back: a broker that has
/// just started does not know it yet, or a permission is being replaced.
pub(crate) fn topic_gone(topic: &str, servers: &str, answer: &str) -> Failure {
    Failure {
        kind: ErrorKind::Retryable,
        ..topic_missing(topic, servers, answer)
    }
}

/// Any other answer of a broker that stops the work.
pub(crate) fn broker(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::KafkaBroker, ErrorKind::Retryable, message)
}

/// A record could not be delivered; a restart may help.
pub(crate) fn delivery(topic: &str, reason: &str) -> Failure {
    Failure::new(
        ErrorCode::KafkaDelivery,
        ErrorKind::Retryable,
        format!("a record for topic `{topic}` could not be delivered: {reason}"),
    )
}

/// A record can never be delivered.
pub(crate) fn undeliverable(topic: &str, reason: &str) -> Failure {
    Failure::new(
        ErrorCode::KafkaDelivery,
        ErrorKind::InvalidJob,
        format!("a record for topic `{topic}` can never be delivered: {reason}"),
    )
}

/// `transactionTimeout` cannot work.
pub(crate) fn transaction_timeout(message: impl Into<String>) -> Failure {
    Failure::new(
        ErrorCode::KafkaTransactionTimeout,
        ErrorKind::InvalidJob,
        message,
    )
}

/// A prepared transaction is gone.
pub(crate) fn transaction_lost(message: impl Into<String>) -> Failure {
    Failure::new(
        ErrorCode::KafkaTransactionLost,
        ErrorKind::DataLoss,
        message,
    )
}

/// The offset to read from no longer exists.
pub(crate) fn offset_out_of_range(message: impl Into<String>) -> Failure {
    Failure::new(
        ErrorCode::KafkaOffsetOutOfRange,
        ErrorKind::DataLoss,
        message,
    )
}

/// Another cluster or topic lies behind the name.
pub(crate) fn identity_changed(message: impl Into<String>) -> Failure {
    Failure::new(
        ErrorCode::KafkaIdentityChanged,
        ErrorKind::InvalidJob,
        message,
    )
}

/// A position or committable of a checkpoint is not one of ours.
pub(crate) fn unreadable_state(what: &str, text: &str, reason: &str) -> Failure {
    let text: String = text.chars().take(200).collect();
    Failure::new(
        ErrorCode::CorruptObject,
        ErrorKind::CorruptData,
        format!(
            "{what} of a Kafka connector cannot be read from the checkpoint: {reason}: `{text}`"
        ),
    )
}
