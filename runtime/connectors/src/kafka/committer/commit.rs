//! Commits what a decided checkpoint lists.

use std::time::Duration;

use arrow_array::temporal_conversions::timestamp_ms_to_datetime;
use futures::future::join_all;
use millstream_connect::CommitOutcome;
use millstream_types::{Clock, Committable, ErrorKind, Failure, Timestamp};
use tokio::time::Instant;

use super::KafkaCommitter;
use super::resolve::{AfterEnd, Belief, DOUBT, Fate, Gone, Suspicion, after_end, fate};
use super::topics::Topics;
use crate::kafka::client::{Answer, Backoff, ClientError, Transaction, describe_code};
use crate::kafka::failure;
use crate::kafka::transaction::Prepared;

/// How long to look for all coordinators at once before each commit looks for its own.
const LOOK_UP: Duration = Duration::from_secs(4);
/// How long it takes at most to prove a loss: two answers, and the time to ask.
const PROOF: Duration = DOUBT.saturating_add(Duration::from_secs(10));

/// What one try of a commit comes to.
enum Tried {
    Fate(Fate),
    /// The broker does not carry it out now, or not for us.
    Refused(ClientError),
}

impl KafkaCommitter {
    pub(super) async fn commit_all(&self, committables: &[Committable]) -> Vec<CommitOutcome> {
        self.find_coordinators_of(committables).await;
        let topics = match self.topics_of(committables).await {
            Ok(topics) => topics,
            Err(failure) => return vec![CommitOutcome::Retry(failure); committables.len()],
        };
        let commits = committables.iter().map(|one| self.commit_one(one, &topics));
        join_all(commits).await
    }

    /// Asks anew who coordinates them: the one that did so for the last checkpoint may since have
    /// been replaced and not know it. One request instead of one per transaction. Whatever goes
    /// wrong is met again, and handled, where the transaction is committed.
    pub(super) async fn find_coordinators_of(&self, committables: &[Committable]) {
        let ids: Vec<String> = committables
            .iter()
            .filter_map(|one| Prepared::read(one).ok())
            .map(|prepared| prepared.transactional_id)
            .collect();
        if !ids.is_empty() {
            let server = self.client.answering_server();
            let asked = self.client.refresh_coordinators(&ids, server);
            let outcome = tokio::time::timeout(LOOK_UP, asked).await;
            tracing::trace!(sink = %self.spec.name, ?outcome, "looked for coordinators");
        }
    }

    async fn commit_one(&self, committable: &Committable, topics: &Topics) -> CommitOutcome {
        let prepared = match Prepared::read(committable) {
            Ok(prepared) => prepared,
            Err(failure) => return CommitOutcome::Retry(failure),
        };
        match self.check_cluster(&prepared).await {
            Ok(()) => match topics.gone(&prepared) {
                None => self.commit_until(committable, &prepared).await,
                Some(gone) => match self.was_committed(&prepared).await {
                    Ok(true) => CommitOutcome::Committed,
                    Ok(false) => {
                        CommitOutcome::Aborted(lost(&self.spec.name, committable, &prepared, &gone))
                    }
                    Err(error) => CommitOutcome::Retry(self.client.failure(error)),
                },
            },
            Err(failure) if failure.kind == ErrorKind::InvalidJob => {
                CommitOutcome::Refused(failure)
            }
            Err(failure) => CommitOutcome::Retry(failure),
        }
    }

    /// Tries until it is committed, proved to be lost, or the time is over.
    async fn commit_until(&self, committable: &Committable, prepared: &Prepared) -> CommitOutcome {
        let transaction = prepared.transaction();
        let mut deadline = Instant::now() + self.patience();
        let mut backoff = Backoff::default();
        let mut suspicion = Suspicion::default();
        let began = Instant::now();
        for round in 1.. {
            let asked = Instant::now();
            let last = match self.commit_once(prepared, &transaction).await {
                Ok(Tried::Fate(Fate::Committed)) => return CommitOutcome::Committed,
                Ok(Tried::Fate(Fate::Gone(gone))) => {
                    let belief = suspicion.hear(&gone, (asked, Instant::now()));
                    if belief == Belief::Proved {
                        let failure = lost(&self.spec.name, committable, prepared, &gone);
                        return if gone.is_aborted {
                            CommitOutcome::Aborted(failure)
                        } else {
                            CommitOutcome::Lost(failure)
                        };
                    }
                    deadline = deadline.max(began + PROOF);
                    if belief == Belief::New {
                        tracing::warn!(
                            ?transaction,
                            ?gone,
                            "asks again elsewhere before it is believed"
                        );
                    }
                    self.undecided(&gone.reason)
                }
                Ok(Tried::Fate(Fate::Stale(reason))) => {
                    suspicion.clear();
                    self.undecided(&reason)
                }
                Ok(Tried::Fate(Fate::Open)) => {
                    suspicion.clear();
                    self.undecided("it is still open")
                }
                Ok(Tried::Refused(error)) | Err(error) => error,
            };
            let wait = backoff.next();
            let is_over = Instant::now() + wait >= deadline;
            if is_over || matches!(last, ClientError::Authentication { .. }) {
                return CommitOutcome::Retry(self.not_committed(&transaction, last));
            }
            tokio::time::sleep(wait).await;
            self.ask_elsewhere(&transaction.id, round).await;
        }
        unreachable!("rounds are counted without an end")
    }

    /// Looks for the coordinator again, each time through another server.
    async fn ask_elsewhere(&self, id: &str, round: usize) {
        let server = self.client.answering_server().wrapping_add(round);
        let ids = [id.to_owned()];
        let outcome = self.client.refresh_coordinators(&ids, server).await;
        tracing::trace!(sink = %self.spec.name, id, ?outcome, "looked for the coordinator again");
    }

    async fn commit_once(&self, prepared: &Prepared, transaction: &Transaction) -> Answer<Tried> {
        let error_code = self.client.end_transaction(transaction, true).await?;
        Ok(match after_end(error_code) {
            AfterEnd::Committed => Tried::Fate(Fate::Committed),
            AfterEnd::Describe => {
                let described = self.client.describe_transaction(&transaction.id).await?;
                tracing::debug!(
                    ?transaction,
                    answer = describe_code(error_code),
                    ?described,
                    "a commit was answered ambiguously"
                );
                Tried::Fate(fate(
                    transaction,
                    described.as_ref(),
                    self.is_young(prepared),
                ))
            }
            AfterEnd::Again | AfterEnd::Forbidden => Tried::Refused(ClientError::Refused {
                broker: self.client.access().bootstrap(),
                request: "EndTxn",
                code: error_code,
            }),
        })
    }

    /// Whether its timeout cannot have passed.
    pub(super) fn is_young(&self, prepared: &Prepared) -> bool {
        let timeout = Duration::from_millis(prepared.timeout_ms);
        let age = prepared.age_at(self.clock.now());
        age.is_none_or(|age| age < timeout)
    }

    fn undecided(&self, reason: &str) -> ClientError {
        ClientError::Undecided {
            broker: self.client.access().bootstrap(),
            reason: reason.to_owned(),
        }
    }

    fn not_committed(&self, transaction: &Transaction, last: ClientError) -> Failure {
        let mut failure = self.client.failure(last);
        failure.message = format!(
            "transaction `{}` of sink `{}` is prepared but could not be committed yet: {}",
            transaction.id, self.spec.name, failure.message
        );
        failure
    }
}

fn utc(time: Timestamp) -> String {
    let millis = i64::try_from(time.0).ok();
    let instant = millis.and_then(timestamp_ms_to_datetime);
    instant.map_or_else(|| format!("{} ms", time.0), |time| format!("{time} UTC"))
}

pub(super) fn lost(
    sink: &str,
    committable: &Committable,
    prepared: &Prepared,
    gone: &Gone,
) -> Failure {
    failure::transaction_lost(format!(
        "sink `{sink}`: the transaction of checkpoint {} with {} records for topic `{}` is lost: \
         {}. Transactional id `{}`, producer id {}, epoch {}, first record at {}, \
         transactionTimeout {} ms. The checkpoint is complete, so these records will not be \
         written again by themselves",
        committable.checkpoint,
        committable.records,
        prepared.topic,
        gone.reason,
        prepared.transactional_id,
        prepared.producer_id,
        prepared.epoch,
        utc(prepared.started_at),
        prepared.timeout_ms,
    ))
}
