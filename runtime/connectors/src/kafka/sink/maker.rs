//! Makes producers in the background, so that a transaction never waits for handshakes, and ends
//! those whose transaction is prepared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millstream_connect::Result;
use millstream_spec::connector::KafkaSink;
use millstream_types::{ErrorKind, Failure};
use tokio::sync::Notify;

use super::options::{BATCH_LIMIT_SETTING, Limits, producer_options};
use crate::kafka::access::Access;
use crate::kafka::client::{Backoff, Client, Phase, Topic};
use crate::kafka::failure;
use crate::kafka::ffi::{ErrorCode, Events, NativeError, Producer};

/// Requests that may wait. The writer has at most one producer on order and ends one per
/// checkpoint.
const REQUESTS: usize = 64;
/// How long one wait inside librdkafka is, so that a writer that ends is not kept waiting.
const SLICE: Duration = Duration::from_millis(200);
/// How many times the patience for connecting a broker gets that answers and is still loading what
/// it knows of transactions: a cluster that is new makes the topic for it first.
const LOADING_PATIENCE: u32 = 6;

/// A name for the transaction of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotName {
    /// Its number in [`Slots`](super::slots::Slots).
    pub(super) slot: u32,
    /// `transactional.id`.
    pub(super) id: String,
}

/// A producer that is ready to write.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) producer: Producer,
    /// Who it is to the broker; `None` if it writes without transactions.
    pub(super) identity: Option<Identity>,
    /// Partitions of the topic that have a leader.
    pub(super) partitions: Vec<i32>,
    /// How large what it writes may be.
    pub(super) limits: Limits,
}

/// A transactional id with what the broker gave for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: SlotName,
    pub(super) producer_id: i64,
    pub(super) epoch: i16,
    /// Id of the broker's cluster.
    pub(super) cluster: String,
    /// Unique id of the topic, where brokers have them.
    pub(super) topic_id: Option<String>,
}

/// The topic as it is when a producer is made.
#[derive(Debug)]
struct Destination {
    cluster: String,
    topic_id: Option<String>,
    /// Partitions to write to.
    partitions: Vec<i32>,
}

enum Request {
    Make(Option<SlotName>),
    End(Producer),
    FindPartitions,
}

enum Answer {
    Made(Box<Made>),
    Partitions(Vec<i32>),
}

/// Handle of the background thread. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Maker {
    requests: Option<SyncSender<Request>>,
    answers: Receiver<Result<Answer>>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    is_set: AtomicBool,
    news: Notify,
}

impl Maker {
    /// Starts the thread.
    ///
    /// # Errors
    /// A file of the TLS options cannot be used, or there is no thread to be had.
    pub(super) fn start(owner: String, access: Access, options: KafkaSink) -> Result<Self> {
        let (requests, inbox) = sync_channel(REQUESTS);
        let (outbox, answers) = sync_channel(REQUESTS);
        let stop = Arc::new(Stop::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| no_thread(&error))?;
        let workshop = Workshop {
            owner,
            client: Client::new(access)?,
            options,
            runtime,
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new()
            .name("kafka-producers".to_owned())
            .spawn(move || workshop.run(&inbox, &outbox))
            .map_err(|error| no_thread(&error))?;
        Ok(Self {
            requests: Some(requests),
            answers,
            stop,
            thread: Some(thread),
        })
    }

    /// Orders a producer; with a name, one whose transactions have it.
    pub(super) fn order(&self, name: Option<SlotName>) {
        self.send(Request::Make(name));
    }

    /// Takes the producer that was ordered, waiting for it.
    ///
    /// # Errors
    /// It could not be made.
    pub(super) fn take(&self) -> Result<Made> {
        loop {
            match self.answers.recv() {
                Ok(Ok(Answer::Made(made))) => return Ok(*made),
                Ok(Ok(Answer::Partitions(_))) => {}
                Ok(Err(failure)) => return Err(failure),
                Err(_) => return Err(failure::broker("the thread that makes producers has ended")),
            }
        }
    }

    /// Ends a producer whose transaction is prepared. The transaction stays as it is.
    pub(super) fn end(&self, producer: Producer) {
        self.send(Request::End(producer));
    }

    /// Asks for the topic's partitions; [`partitions`](Self::partitions) has the answer later.
    pub(super) fn find_partitions(&self) {
        self.send(Request::FindPartitions);
    }

    /// The topic's partitions, if they were asked for and the answer is there.
    pub(super) fn partitions(&self) -> Option<Vec<i32>> {
        match self.answers.try_recv() {
            Ok(Ok(Answer::Partitions(found))) => Some(found),
            _ => None,
        }
    }

    fn send(&self, request: Request) {
        let Some(requests) = &self.requests else {
            return;
        };
        if let Err(TrySendError::Full(request) | TrySendError::Disconnected(request)) =
            requests.try_send(request)
        {
            // Nothing is lost: a producer is ended here, an order fails when it is taken.
            drop(request);
        }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.stop.is_set.store(true, Ordering::Release);
        self.stop.news.notify_one();
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that makes Kafka producers panicked");
        }
    }
}

/// What the thread owns.
struct Workshop {
    owner: String,
    client: Client,
    options: KafkaSink,
    runtime: tokio::runtime::Runtime,
    stop: Arc<Stop>,
}

impl Workshop {
    fn run(self, inbox: &Receiver<Request>, outbox: &SyncSender<Result<Answer>>) {
        while let Ok(request) = inbox.recv() {
            let answer = match request {
                Request::End(producer) => {
                    drop(producer);
                    continue;
                }
                Request::Make(name) => self.make(name).map(|made| Answer::Made(Box::new(made))),
                // Of no use if it fails: the partitions known before stay.
                Request::FindPartitions => match self.topic() {
                    Ok(found) => Ok(Answer::Partitions(found.partitions)),
                    Err(_) => continue,
                },
            };
            if self.is_stopped() || outbox.send(answer).is_err() {
                return;
            }
        }
    }

    fn make(&self, name: Option<SlotName>) -> Result<Made> {
        let destination = self.topic()?;
        let id = name.as_ref().map(|name| name.id.as_str());
        // librdkafka begins with any server of its list, and a frozen one keeps it for long.
        let servers = self.wait_for(async { Ok(self.client.answering_servers().await) })?;
        let access = Access {
            servers,
            ..self.client.access().clone()
        };
        let limits = Limits::new(&self.options, self.batch_limit()?);
        let options = producer_options(&access, &self.options, limits, id)?;
        let events = Events::new(self.owner.clone());
        let producer = Producer::new(&options, &self.options.topic, events)
            .map_err(|reason| self.refused_options(&reason))?;
        let identity = match name {
            None => None,
            Some(name) => {
                self.initialise(&producer)?;
                Some(self.identify(name, &destination)?)
            }
        };
        Ok(Made {
            producer,
            identity,
            partitions: destination.partitions,
            limits,
        })
    }

    /// The largest batch that the topic takes, bytes; `None` if the user may not see it.
    fn batch_limit(&self) -> Result<Option<u64>> {
        let topic = &self.options.topic;
        self.wait_for(async {
            let setting = self.client.topic_setting(topic, BATCH_LIMIT_SETTING).await;
            let setting = setting.map_err(|error| self.client.failure(error))?;
            Ok(setting.and_then(|text| text.parse().ok()))
        })
    }

    fn topic(&self) -> Result<Destination> {
        let topic = self.options.topic.clone();
        let cluster = self.wait_for(async {
            self.client
                .existing_topics(std::slice::from_ref(&topic), |_| true)
                .await
        })?;
        let found = cluster.topics.get(&topic);
        let found = found.and_then(|topic| topic.as_ref().ok());
        let all = found.into_iter().flat_map(|topic| &topic.leaders);
        let led: Vec<i32> = all
            .clone()
            .filter(|(_, leader)| **leader >= 0)
            .map(|(partition, _)| *partition)
            .collect();
        let partitions = if led.is_empty() {
            all.map(|(partition, _)| *partition).collect()
        } else {
            led
        };
        Ok(Destination {
            cluster: cluster.id.clone(),
            topic_id: found.and_then(Topic::unique_id),
            partitions,
        })
    }

    fn initialise(&self, producer: &Producer) -> Result<()> {
        let started = Instant::now();
        let connecting = self.client.access().connect_timeout;
        let loading = connecting.saturating_mul(LOADING_PATIENCE);
        loop {
            let error = match producer.init_transactions(SLICE) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            producer.poll(Duration::ZERO);
            if self.is_stopped() {
                return Err(stopped());
            }
            // librdkafka goes on trying by itself; what it returns meanwhile is the last answer.
            let is_loading = is_loading(error.code);
            let patience = if is_loading { loading } else { connecting };
            if !(error.is_retriable || is_loading) || started.elapsed() >= patience {
                return Err(self.not_initialised(&error, producer.events()));
            }
        }
    }

    fn not_initialised(&self, error: &NativeError, events: &Events) -> Failure {
        let access = self.client.access();
        let servers = access.bootstrap();
        let id = &self.owner;
        match error.code {
            ErrorCode::InvalidTransactionTimeout => failure::transaction_timeout(format!(
                "{id}: the broker refuses transactionTimeout {}: it is above its \
                 transaction.max.timeout.ms. Lower transactionTimeout or raise the broker's limit",
                self.options.transaction_timeout
            )),
            ErrorCode::TransactionalIdAuthorizationFailed => Failure {
                kind: ErrorKind::InvalidJob,
                ..failure::broker(format!(
                    "{id}: the user may not use transactional ids with this prefix: grant WRITE \
                     on the prefix `{}`",
                    self.options
                        .transactional_id_prefix
                        .as_deref()
                        .unwrap_or("<namespace>.<job>")
                ))
            },
            ErrorCode::OperationTimedOut | ErrorCode::RequestTimedOut => {
                events.unreachable(&servers, access.connect_timeout)
            }
            _ => failure::broker(format!("{id}: transactions cannot be used: {error}")),
        }
    }

    /// Producer id and epoch of an id that was just initialised. librdkafka knows them and does
    /// not tell.
    fn identify(&self, name: SlotName, destination: &Destination) -> Result<Identity> {
        let deadline = Instant::now() + self.client.access().connect_timeout;
        self.wait_for(async {
            let mut backoff = Backoff::default();
            loop {
                let described = self.client.describe_transaction(&name.id).await;
                let wait = backoff.next();
                match described {
                    Ok(Some(described)) if described.phase == Phase::Empty => {
                        return Ok(Identity {
                            name,
                            producer_id: described.producer_id,
                            epoch: described.epoch,
                            cluster: destination.cluster.clone(),
                            topic_id: destination.topic_id.clone(),
                        });
                    }
                    Ok(other) => return Err(self.not_ours(&name.id, &format!("{other:?}"))),
                    Err(error) if error.is_transient() && Instant::now() + wait < deadline => {
                        tokio::time::sleep(wait).await;
                    }
                    Err(error) => return Err(self.client.failure(error)),
                }
            }
        })
    }

    fn not_ours(&self, id: &str, found: &str) -> Failure {
        failure::broker(format!(
            "{}: transactional id `{id}` was just initialised, but the broker says {found}: \
             somebody else uses it",
            self.owner
        ))
    }

    fn refused_options(&self, reason: &str) -> Failure {
        Failure {
            kind: ErrorKind::InvalidJob,
            ..failure::broker(format!(
                "{}: librdkafka refuses its options: {reason}. Check `properties`",
                self.owner
            ))
        }
    }

    fn wait_for<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                result = work => result,
                () = self.stop.news.notified() => Err(stopped()),
            }
        })
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_set.load(Ordering::Acquire)
    }
}

/// Whether a broker answers, and says that the coordinator of the id is not ready yet.
const fn is_loading(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::ConcurrentTransactions
    )
}

fn stopped() -> Failure {
    failure::broker("the sink is being stopped")
}

fn no_thread(error: &std::io::Error) -> Failure {
    failure::broker(format!("no thread for Kafka producers: {error}"))
}
