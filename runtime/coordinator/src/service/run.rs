//! The loop: waits for the next fact, hands it to the job, and carries out what that wants.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millstream_checkpoint::PendingSavepoints;
use millstream_types::api::SavepointStatus;
use millstream_types::protocol::{ToCoordinator, ToWorker};
use millstream_types::{Clock, ErrorCode, ErrorKind, Failure, WorkerId};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::handle::Request;
use crate::job::{Command, Event, Job, Now, Operation};
use crate::metrics::Metrics;
use crate::random::Random;
use crate::service::discovery::Positions;
use crate::service::fleet::{ConnectionKey, Fleet};
use crate::service::keeper::{Keeper, Work};
use crate::service::prepare::{self, Enumerators};
use crate::service::savepoints::{SavepointFolder, look_up};
use crate::service::{Coordinator, discovery};
use crate::{Outcome, Progress, RequestError, Snapshot, WorkerConnection};

/// Messages of workers that wait for the loop. Readers of connections wait beyond that, and with
/// them the workers.
const HEARD_CAPACITY: usize = 1_024;
/// Notes and discoveries that wait for the loop.
const EVENTS_CAPACITY: usize = 64;
/// How often those who look at sources are told where these stand, at most.
const POSITIONS_INTERVAL: Duration = Duration::from_secs(1);
/// Looks into the store for savepoints that may be under way at once.
const LOOKUPS_MAX: usize = 16;

/// What one connection's reader has to say; `None` is its end.
type Heard = (ConnectionKey, Option<ToCoordinator>);
/// A finished look into the store, with the request that wants it.
type Found = (Request, Result<Option<SavepointStatus>, Failure>);

pub(super) struct Loop {
    job: Job,
    clock: Arc<dyn Clock>,
    random: Random,
    fleet: Fleet,
    connections: mpsc::Receiver<WorkerConnection>,
    readers: JoinSet<()>,
    heard: (mpsc::Sender<Heard>, mpsc::Receiver<Heard>),
    requests: mpsc::Receiver<Request>,
    lookups: JoinSet<Found>,
    folder: SavepointFolder,
    pending_savepoints: PendingSavepoints,
    /// At hand while no operation is under way.
    keeper: Option<Keeper>,
    operation: JoinSet<Box<Done>>,
    backlog: VecDeque<Work>,
    notes: mpsc::Receiver<String>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    enumerators: Enumerators,
    discovery: JoinSet<()>,
    /// Where sources stand, and when that was told last, monotonic.
    positions: (watch::Sender<Positions>, Duration),
    snapshot: watch::Sender<Arc<Snapshot>>,
    progress: broadcast::Sender<Progress>,
    metrics: Arc<Metrics>,
    /// Whether to go on answering after the job's end.
    lingers: bool,
}

/// An operation on the chain that has ended.
struct Done {
    keeper: Keeper,
    event: Option<Event>,
    enumerators: Option<Enumerators>,
}

/// What the loop was woken by.
enum Woken {
    Interrupted,
    Connection(WorkerConnection),
    Heard(ConnectionKey, Option<ToCoordinator>),
    Request(Request),
    Found(Found),
    Done(Result<Box<Done>, JoinError>),
    Event(Event),
    Time,
}

impl Loop {
    pub(super) fn new(coordinator: Coordinator) -> Result<Self, (Box<Coordinator>, Failure)> {
        let (note_sender, notes) = mpsc::channel(EVENTS_CAPACITY);
        let keeper = match Keeper::new(&coordinator.options, note_sender) {
            Ok(keeper) => keeper,
            Err(failure) => return Err((Box::new(coordinator), failure)),
        };
        let Coordinator {
            options,
            job,
            workers,
            requests,
            snapshot,
            progress,
            metrics,
        } = coordinator;
        Ok(Self {
            job,
            random: Random::new(options.seed),
            fleet: Fleet::new(options.heartbeat),
            connections: workers,
            readers: JoinSet::new(),
            heard: mpsc::channel(HEARD_CAPACITY),
            requests,
            lookups: JoinSet::new(),
            folder: SavepointFolder {
                storage_uri: options.job.checkpoint.storage.clone(),
                options: options.storage,
                job: options.job.id.clone(),
            },
            pending_savepoints: keeper.pending_savepoints.clone(),
            keeper: Some(keeper),
            operation: JoinSet::new(),
            backlog: VecDeque::new(),
            notes,
            events: mpsc::channel(EVENTS_CAPACITY),
            enumerators: Enumerators::new(),
            discovery: JoinSet::new(),
            positions: (watch::Sender::default(), Duration::ZERO),
            snapshot,
            progress,
            metrics,
            lingers: options.deployment.is_some(),
            clock: options.clock,
        })
    }

    pub(super) async fn run(mut self, shutdown: CancellationToken) -> Outcome {
        let mut ended = None;
        loop {
            ended = self.carry_out().or(ended);
            if ended.is_none() {
                self.start_operation();
            }
            self.metrics.look_at(&self.job, &*self.clock);
            self.snapshot.send_replace(Arc::new(self.job.snapshot()));
            if let Some(outcome) = ended.take_if(|outcome| !self.lingers_after(outcome)) {
                return outcome;
            }
            match (self.wait(&shutdown).await, ended.take()) {
                (Woken::Interrupted, Some(outcome)) => return outcome,
                (woken, outcome) => {
                    ended = outcome;
                    self.react(woken);
                }
            }
        }
    }

    /// Whether somebody may still want to know how the job has ended.
    const fn lingers_after(&self, outcome: &Outcome) -> bool {
        self.lingers && outcome.is_final()
    }

    fn now(&mut self) -> Now {
        Now {
            monotonic: self.clock.monotonic(),
            wall: self.clock.now(),
            random: self.random.next(),
        }
    }

    async fn wait(&mut self, shutdown: &CancellationToken) -> Woken {
        let wake_at = [self.job.wake_at(), self.fleet.wake_at()];
        let wake_at = wake_at.into_iter().flatten().min();
        let until = wake_at.map(|at| at.saturating_sub(self.clock.monotonic()));
        // In a fixed order, so that a run can be repeated: first what is rare, and what the job
        // waits for.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Woken::Interrupted,
            Some(done) = self.operation.join_next() => Woken::Done(done),
            Some(event) = self.events.1.recv() => Woken::Event(event),
            Some(note) = self.notes.recv() => Woken::Event(Event::Preparing(note)),
            () = pause(until) => Woken::Time,
            Some(connection) = self.connections.recv() => Woken::Connection(connection),
            Some((key, message)) = self.heard.1.recv() => Woken::Heard(key, message),
            Some(_) = self.readers.join_next() => Woken::Time,
            Some(Ok(found)) = self.lookups.join_next() => Woken::Found(found),
            Some(request) = self.requests.recv(), if self.lookups.len() < LOOKUPS_MAX => {
                Woken::Request(request)
            }
        }
    }

    fn react(&mut self, woken: Woken) {
        let now = self.now();
        match woken {
            Woken::Interrupted => self.job.handle(Event::Interrupted, now),
            Woken::Connection(connection) => self.connected(connection, now),
            Woken::Heard(key, Some(message)) => {
                let is_ack = matches!(message, ToCoordinator::CheckpointAcknowledged { .. });
                let is_heartbeat = matches!(message, ToCoordinator::Heartbeat { .. });
                if is_ack {
                    fail::fail_point!("coordinator::before-ack", |_| std::process::abort());
                }
                let events = self.fleet.heard(key, message, now.monotonic);
                self.handle(events, now);
                if is_heartbeat {
                    self.tell_positions(now.monotonic);
                }
                if is_ack {
                    fail::fail_point!("coordinator::after-ack", |_| std::process::abort());
                }
            }
            Woken::Heard(key, None) => {
                let events = self.fleet.closed(key);
                self.handle(events, now);
            }
            Woken::Request(request) => self.requested(request, now),
            Woken::Found((request, found)) => self.found(request, found, now),
            Woken::Done(done) => self.done(done, now),
            Woken::Event(event) => self.job.handle(event, now),
            Woken::Time => {
                let events = self.fleet.expire(now.monotonic);
                self.handle(events, now);
                self.job.handle(Event::Tick, now);
            }
        }
    }

    /// Tells those who look at sources where these stand, now and then.
    fn tell_positions(&mut self, now: Duration) {
        let (positions, told_at) = &mut self.positions;
        if now.saturating_sub(*told_at) >= POSITIONS_INTERVAL {
            *told_at = now;
            positions.send_replace(Arc::new(self.job.positions()));
        }
    }

    fn handle(&mut self, events: Vec<Event>, now: Now) {
        for event in events {
            if matches!(event, Event::WorkerJoined { .. }) {
                // It may have just woken up, with an attempt that it does not know to be over.
                self.backlog.push_back(Work::Revisit { anew: true });
            }
            self.job.handle(event, now);
        }
    }

    fn connected(&mut self, connection: WorkerConnection, now: Now) {
        let key = self.fleet.next_key();
        let heard = self.heard.0.clone();
        let reader = self.readers.spawn(read(key, connection.incoming, heard));
        self.fleet
            .connected(key, connection.outgoing, reader, now.monotonic);
    }

    /// Carries out what the job wants. The outcome, if the run is over.
    fn carry_out(&mut self) -> Option<Outcome> {
        loop {
            let commands = self.job.take_commands();
            if commands.is_empty() {
                return None;
            }
            let mut events = Vec::new();
            for command in commands {
                match command {
                    Command::Finish(outcome) => return Some(outcome),
                    Command::Send { worker, message } => {
                        events.extend(self.send(&worker, message));
                    }
                    Command::Disconnect { worker } => self.fleet.disconnect(&worker),
                    Command::Chain(operation) => self.backlog.push_back(Work::Job(operation)),
                    Command::StartDiscovery { attempt } => {
                        let enumerators = std::mem::take(&mut self.enumerators);
                        let positions = self.positions.0.subscribe();
                        let events = &self.events.0;
                        self.discovery = discovery::start(attempt, enumerators, &positions, events);
                    }
                    Command::StopDiscovery => self.discovery = JoinSet::new(),
                    Command::News(news) => self.tell(news),
                }
            }
            let now = self.now();
            self.handle(events, now);
        }
    }

    /// Takes note of a savepoint before any task hears of it, and of one that is given up. The keeper
    /// knows when one is written.
    fn note_savepoint(&self, message: &ToWorker) {
        match message {
            ToWorker::Trigger { barrier, .. } if !barrier.kind.commits() => {
                self.pending_savepoints.begin(barrier.checkpoint);
            }
            ToWorker::Aborted { checkpoint, .. } => self.pending_savepoints.end(*checkpoint),
            _ => {}
        }
    }

    fn send(&mut self, worker: &WorkerId, message: ToWorker) -> Vec<Event> {
        self.note_savepoint(&message);
        let [before, after] = crash_points(&message);
        before();
        let events = self.fleet.send(worker, message);
        after();
        events
    }

    fn tell(&self, news: Progress) {
        self.metrics.note(&news);
        // Nobody may be listening.
        drop(self.progress.send(news));
    }

    /// Starts the next operation on the chain if none is under way.
    fn start_operation(&mut self) {
        let Some(keeper) = self.keeper.take() else {
            return;
        };
        match self.backlog.pop_front() {
            Some(operation) => drop(self.operation.spawn(operate(keeper, operation))),
            None => self.keeper = Some(keeper),
        }
    }

    fn done(&mut self, done: Result<Box<Done>, JoinError>, now: Now) {
        let done = match done {
            Ok(done) => *done,
            Err(error) => {
                let failure = Failure::new(
                    ErrorCode::TaskPanicked,
                    ErrorKind::Internal,
                    format!("the coordinator's own work on the chain ended: {error}"),
                );
                // The chain cannot be released without its keeper. Whoever restarts the process
                // finds the deployment unfinished and runs it on.
                self.lingers = false;
                self.job.handle(Event::Broken(failure), now);
                return;
            }
        };
        self.keeper = Some(done.keeper);
        if let Some(enumerators) = done.enumerators {
            self.enumerators = enumerators;
        }
        let is_completed = matches!(&done.event, Some(Event::Finalized { result: Ok(_), .. }));
        if let Some(event) = done.event {
            self.job.handle(event, now);
        }
        // Workers hear of the checkpoint before; and nothing that matters more waits for these.
        if is_completed && self.backlog.is_empty() {
            self.backlog.push_back(Work::Revisit { anew: false });
            self.backlog.push_back(Work::CollectGarbage);
        }
    }

    fn requested(&mut self, request: Request, now: Now) {
        let wanted = match &request {
            Request::Savepoint { name, .. } | Request::SavepointStatus { name, .. } => Some(name),
            Request::Stop { request, .. } => request.savepoint.as_ref(),
            Request::Cancel { .. } => None,
        };
        let unknown = wanted.filter(|name| {
            crate::job::check_name(name).is_ok() && self.job.savepoint(name).is_none()
        });
        match unknown.cloned() {
            Some(name) => {
                let folder = self.folder.clone();
                self.lookups
                    .spawn(async move { (request, look_up(folder, name).await) });
            }
            None => self.found(request, Ok(None), now),
        }
    }

    /// Answers a request, knowing what lies in the store.
    fn found(
        &mut self,
        request: Request,
        found: Result<Option<SavepointStatus>, Failure>,
        now: Now,
    ) {
        let found = found.map_err(RequestError::Store);
        // An asker that is gone needs no answer.
        match request {
            Request::Savepoint { name, answer } => {
                drop(answer.send(match found {
                    Ok(Some(status)) => Ok(status),
                    Ok(None) => self.job.request_savepoint(&name, now),
                    Err(error) => Err(error),
                }));
            }
            Request::SavepointStatus { name, answer } => {
                let known = self.job.savepoint(&name).cloned();
                drop(answer.send(match known {
                    Some(status) => Ok(Some(status)),
                    None => crate::job::check_name(&name).and(found),
                }));
            }
            Request::Stop { request, answer } => {
                drop(answer.send(match found {
                    Ok(Some(_)) => self.job.request_stop_again(&request),
                    Ok(None) => self.job.request_stop(request, now),
                    Err(error) => Err(error),
                }));
            }
            Request::Cancel { answer } => drop(answer.send(self.job.request_cancel(now))),
        }
    }
}

async fn pause(until: Option<Duration>) {
    match until {
        Some(until) => tokio::time::sleep(until).await,
        None => std::future::pending().await,
    }
}

async fn read(
    key: ConnectionKey,
    mut incoming: mpsc::Receiver<ToCoordinator>,
    heard: mpsc::Sender<Heard>,
) {
    while let Some(message) = incoming.recv().await {
        if heard.send((key, Some(message))).await.is_err() {
            return;
        }
    }
    // The loop may have ended before.
    drop(heard.send((key, None)).await);
}

async fn operate(mut keeper: Keeper, work: Work) -> Box<Done> {
    let mut enumerators = None;
    let event = match work {
        Work::Job(Operation::Prepare) => {
            let (event, found) = Box::pin(prepare::prepare(&mut keeper)).await;
            enumerators = Some(found);
            Some(event)
        }
        Work::Job(Operation::EnsureHeld) => Some(keeper.look_at_claim().await),
        Work::Job(Operation::Finalize { manifest, deadline }) => {
            Some(keeper.finalize(*manifest, deadline).await)
        }
        Work::Job(Operation::WriteSavepoint {
            attempt,
            checkpoint,
            name,
            manifest,
        }) => {
            let at = (attempt, checkpoint);
            Some(keeper.write_savepoint(at, name, *manifest).await)
        }
        Work::Job(Operation::Release(release)) => Some(keeper.release(*release).await),
        Work::Job(Operation::Discard(release)) => Some(keeper.discard(*release).await),
        Work::Job(Operation::Sweep) => {
            keeper.sweep_own().await;
            None
        }
        Work::Revisit { anew } => {
            keeper.revisit(anew).await;
            None
        }
        Work::CollectGarbage => {
            keeper.collect_garbage().await;
            None
        }
    };
    Box::new(Done {
        keeper,
        event,
        enumerators,
    })
}

/// The crash points before and after a message to a worker is put on its way.
fn crash_points(message: &ToWorker) -> [fn(); 2] {
    match message {
        ToWorker::Deploy(_) => [
            || fail::fail_point!("coordinator::before-deploy", |_| std::process::abort()),
            || fail::fail_point!("coordinator::after-deploy", |_| std::process::abort()),
        ],
        ToWorker::Trigger { .. } => [
            || fail::fail_point!("coordinator::before-trigger", |_| std::process::abort()),
            || fail::fail_point!("coordinator::after-trigger", |_| std::process::abort()),
        ],
        ToWorker::Completed { .. } => [
            || fail::fail_point!("coordinator::before-completed", |_| std::process::abort()),
            || fail::fail_point!("coordinator::after-completed", |_| std::process::abort()),
        ],
        _ => [|| {}, || {}],
    }
}
