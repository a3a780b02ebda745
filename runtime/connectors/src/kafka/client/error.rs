//! What can go wrong between the raw client and a broker.

use std::time::Duration;

use kafka_protocol::ResponseError;
use millstream_types::Failure;

use crate::kafka::failure;

/// Why a call to a broker did not give an answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClientError {
    /// The connection cannot be made or broke. The request may have been carried out.
    #[error("broker {broker}: {reason}")]
    Transport {
        /// Who.
        broker: String,
        /// What the operating system or TLS says.
        reason: String,
    },
    /// No answer in time. The request may have been carried out.
    #[error("broker {broker} did not answer {request} within {} s", after.as_secs_f32())]
    Timeout {
        /// Who.
        broker: String,
        /// What was asked.
        request: &'static str,
        /// How long it was given.
        after: Duration,
    },
    /// The login or the certificate was refused.
    #[error("broker {broker} refused the connection: {reason}")]
    Authentication {
        /// Who.
        broker: String,
        /// What it says.
        reason: String,
    },
    /// The bytes that came are not an answer to the request.
    #[error("broker {broker} answered {request} with bytes that cannot be read: {reason}")]
    Malformed {
        /// Who.
        broker: String,
        /// What was asked.
        request: &'static str,
        /// What is wrong with them.
        reason: String,
    },
    /// The broker does not know the request in a version that we need.
    #[error(
        "broker {broker} does not support {request} in a version that millstream needs; Kafka 3.0 or newer is required"
    )]
    Unsupported {
        /// Who.
        broker: String,
        /// What was to be asked.
        request: &'static str,
    },
    /// The broker answered with an error.
    #[error("broker {broker} answered {request} with {}", describe_code(*code))]
    Refused {
        /// Who.
        broker: String,
        /// What was asked.
        request: &'static str,
        /// Kafka's error code.
        code: i16,
    },
    /// What the brokers say of a transaction decides nothing yet.
    #[error("brokers {broker}: what they say of the transaction decides nothing yet: {reason}")]
    Undecided {
        /// Who.
        broker: String,
        /// What they say.
        reason: String,
    },
}

/// Answers that say: later, or at another broker.
pub(crate) mod code {
    pub(crate) const UNKNOWN_SERVER_ERROR: i16 = -1;
    pub(crate) const NONE: i16 = 0;
    pub(crate) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub(crate) const LEADER_NOT_AVAILABLE: i16 = 5;
    pub(crate) const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    pub(crate) const REQUEST_TIMED_OUT: i16 = 7;
    pub(crate) const NETWORK_EXCEPTION: i16 = 13;
    pub(crate) const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    pub(crate) const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub(crate) const NOT_COORDINATOR: i16 = 16;
    pub(crate) const INVALID_TOPIC_EXCEPTION: i16 = 17;
    pub(crate) const NOT_ENOUGH_REPLICAS: i16 = 19;
    pub(crate) const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    pub(crate) const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub(crate) const INVALID_TXN_STATE: i16 = 48;
    pub(crate) const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
    pub(crate) const CONCURRENT_TRANSACTIONS: i16 = 51;
    pub(crate) const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
    pub(crate) const UNKNOWN_LEADER_EPOCH: i16 = 75;
    pub(crate) const OFFSET_NOT_AVAILABLE: i16 = 78;
    pub(crate) const UNSTABLE_OFFSET_COMMIT: i16 = 88;
    pub(crate) const PRODUCER_FENCED: i16 = 90;
    pub(crate) const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
}

/// Whether the same request may succeed later, perhaps at another broker.
pub(crate) const fn is_transient(code: i16) -> bool {
    matches!(
        code,
        code::UNKNOWN_SERVER_ERROR
            | code::LEADER_NOT_AVAILABLE
            | code::NOT_LEADER_OR_FOLLOWER
            | code::REQUEST_TIMED_OUT
            | code::NETWORK_EXCEPTION
            | code::COORDINATOR_LOAD_IN_PROGRESS
            | code::COORDINATOR_NOT_AVAILABLE
            | code::NOT_COORDINATOR
            | code::NOT_ENOUGH_REPLICAS
            | code::CONCURRENT_TRANSACTIONS
            | code::UNKNOWN_LEADER_EPOCH
            | code::OFFSET_NOT_AVAILABLE
            | code::UNSTABLE_OFFSET_COMMIT
    )
}

/// The number and Kafka's name for it.
pub(crate) fn describe_code(code: i16) -> String {
    match ResponseError::try_from_code(code) {
        Some(error) => format!("error {code} ({error:?})"),
        None => "no error".to_owned(),
    }
}

impl ClientError {
    /// Whether trying again may help.
    pub(crate) const fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. }
            | Self::Timeout { .. }
            | Self::Malformed { .. }
            | Self::Undecided { .. } => true,
            Self::Authentication { .. } | Self::Unsupported { .. } => false,
            Self::Refused { code, .. } => is_transient(*code),
        }
    }

    /// As it leaves the connector, after `waited` of trying at `servers`.
    pub(crate) fn into_failure(self, servers: &str, waited: Duration) -> Failure {
        match self {
            Self::Transport { .. } | Self::Timeout { .. } => {
                failure::unreachable(servers, waited, &self.to_string())
            }
            Self::Authentication { broker, reason } => failure::authentication(&broker, &reason),
            Self::Malformed { .. }
            | Self::Unsupported { .. }
            | Self::Refused { .. }
            | Self::Undecided { .. } => failure::broker(self.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_number_and_name() {
        let error = ClientError::Refused {
            broker: "kafka:9092".into(),
            request: "EndTxn",
            code: code::PRODUCER_FENCED,
        };
        assert_eq!(
            error.to_string(),
            "broker kafka:9092 answered EndTxn with error 90 (ProducerFenced)"
        );
    }

    #[test]
    fn a_refused_login_is_never_tried_again() {
        let error = ClientError::Authentication {
            broker: "kafka:9092".into(),
            reason: "wrong password".into(),
        };
        assert!(!error.is_transient());
    }
}
