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

/// The time that this machine gives to records is not one that the topic takes. Its clock may be set, or
/// the task come to another machine.
pub(crate) fn wrong_clock(topic: &str, text: &str) -> Failure {
    delivery(
        topic,
        &format!(
            "the time of its writing is too far from now for the topic: {text}. The clock of this              worker's machine, or that of the broker, is wrong: have it set; or raise the topic's              `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`"
        ),
    )
}

/// How large what is written is, and what takes it, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The largest record since the producer was made: key, value and headers.
    pub(crate) largest: u64,
    /// `max.message.bytes` of the topic, to which batches are fitted; `None` if the user may not
    /// see it.
    pub(crate) topic: Option<u64>,
    /// `message.max.bytes` of the producer.
    pub(crate) client: u64,
}

/// Most bytes that the protocol adds to a record that is alone in its batch.
const FRAMING: u64 = 128;

/// What was to be written is larger than what takes it, whoever says so: the client, of a record,
/// or the broker, of a batch. A batch of several records is never larger than the topic's limit as
/// it was when the producer was made.
pub(crate) fn too_large(topic: &str, sizes: Sizes) -> Failure {
    let Sizes {
        largest, client, ..
    } = sizes;
    let framed = largest.saturating_add(FRAMING);
    if let Some(limit) = sizes.topic
        && framed <= limit
        && framed <= client
    {
        return delivery(
            topic,
            &format!(
                "the broker takes smaller batches than the topic's `max.message.bytes` allowed when \
                 the transaction began ({limit}), so that has been lowered since. The next attempt \
                 fits its batches to it"
            ),
        );
    }
    let limit = sizes.topic.map_or_else(
        || {
            "which this user may not see, so that batches are not fitted to it: allow it to \
             describe the topic's settings (DESCRIBE_CONFIGS)"
                .to_owned()
        },
        |limit| format!("which is {limit}"),
    );
    undeliverable(
        topic,
        &format!(
            "it is too large: the largest one written has {largest} bytes of key, value and \
             headers. Raise the topic's `max.message.bytes`, {limit}, and `message.max.bytes` in \
             the sink's `properties` if it is set there (the producer takes {client}); or leave \
             such records out in SQL"
        ),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(largest: u64, topic: Option<u64>, client: u64) -> Sizes {
        Sizes {
            largest,
            topic,
            client,
        }
    }

    #[test]
    fn a_record_above_any_limit_is_a_final_fault_with_all_numbers() {
        for sizes in [
            sizes(30_000, Some(20_000), 1_000_000),
            sizes(30_000, Some(1_048_588), 20_000),
            // With what the protocol adds.
            sizes(19_990, Some(20_000), 1_000_000),
        ] {
            let failure = too_large("orders", sizes);
            assert_eq!(failure.kind, ErrorKind::InvalidJob, "{failure}");
            for number in [Some(sizes.largest), sizes.topic, Some(sizes.client)] {
                let number = number.unwrap().to_string();
                assert!(failure.message.contains(&number), "{number}: {failure}");
            }
        }
    }

    #[test]
    fn a_batch_that_fitted_when_it_began_is_made_anew() {
        let failure = too_large("orders", sizes(100, Some(20_000), 1_000_000));
        assert_eq!(failure.kind, ErrorKind::Retryable, "{failure}");
        assert!(failure.message.contains("lowered"), "{failure}");
    }

    #[test]
    fn where_the_limit_may_not_be_seen_the_fault_is_final_and_says_so() {
        let failure = too_large("orders", sizes(100, None, 1_000_000));
        assert_eq!(failure.kind, ErrorKind::InvalidJob, "{failure}");
        assert!(failure.message.contains("DESCRIBE_CONFIGS"), "{failure}");
    }
}
