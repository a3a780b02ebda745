//! One connection's worth of a worker.

use std::collections::VecDeque;

use millstream_types::ids::TaskId;
use millstream_types::protocol::{
    Deploy, Heartbeat, PROTOCOL_VERSION, Register, TaskProgress, ToCoordinator, ToWorker,
};
use millstream_types::{Attempt, ErrorCode, ErrorKind, Failure};
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant, Interval, MissedTickBehavior};
use tokio_util::task::TaskTracker;

use super::attempt::{Planned, Planning, RunningAttempt};
use super::wiring::Connections;
use super::{Activity, Departure, Ended, Options};
use crate::inbox::{Command, Unreachable};
use crate::task::Event;

/// Messages that may wait to be sent before events of tasks are held back.
const OUTBOX: usize = 256;
/// How long a broken connection may take to give what has come over it.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(super) struct Session<'a> {
    options: &'a Options,
    activity: &'a watch::Sender<Activity>,
    outbox: VecDeque<ToCoordinator>,
    heartbeat: Option<Interval>,
    /// The newest attempt heard of; older ones are not listened to.
    newest: Attempt,
    current: Option<Current>,
    /// What to start when the current attempt has stopped.
    next: Option<Deploy>,
    /// What is being planned, beside this loop, so that heartbeats go on.
    planning: Option<Planning>,
    /// Whether the coordinator has been asked for leave.
    leaving: bool,
}

struct Current {
    running: RunningAttempt,
    cancelling: Option<Cancelling>,
}

#[derive(Debug, Clone, Copy)]
struct Cancelling {
    deadline: Instant,
    /// Whether the coordinator waits to hear of it.
    answer: bool,
}

enum Happening {
    Sent,
    Message(Option<ToWorker>),
    Task(TaskId, Event),
    Beat,
    TasksStopped,
    TasksStuck,
    Planned(Planned),
    LeaveAsked,
    ShutdownAsked,
    OutgoingClosed,
}

impl<'a> Session<'a> {
    /// A session that begins with its registration.
    pub(super) fn new(
        options: &'a Options,
        exchange: Option<String>,
        activity: &'a watch::Sender<Activity>,
    ) -> Self {
        let register = Register {
            protocol: PROTOCOL_VERSION,
            worker: options.worker.clone(),
            slots: options.slots,
            build: options.build.clone(),
            exchange,
        };
        Self {
            options,
            activity,
            outbox: VecDeque::from([ToCoordinator::Register(register)]),
            heartbeat: None,
            newest: Attempt(0),
            current: None,
            next: None,
            planning: None,
            leaving: false,
        }
    }

    /// Serves until there is a reason to end.
    pub(super) async fn serve(
        &mut self,
        outgoing: &mpsc::Sender<ToCoordinator>,
        mut incoming: mpsc::Receiver<ToWorker>,
        departure: &Departure,
    ) -> Ended {
        loop {
            let ended = match self.wait(outgoing, &mut incoming, departure).await {
                Happening::Sent => None,
                Happening::LeaveAsked => {
                    self.leaving = true;
                    self.outbox.push_back(ToCoordinator::Leaving);
                    None
                }
                Happening::ShutdownAsked => Some(Ended::Stopped),
                Happening::OutgoingClosed => Some(last_words(&mut incoming).await),
                Happening::Message(None) => Some(Ended::ConnectionLost),
                Happening::Message(Some(message)) => self.receive(message),
                Happening::Task(task, event) => {
                    self.tell(task, event);
                    None
                }
                Happening::Beat => {
                    self.beat();
                    None
                }
                Happening::TasksStopped => {
                    self.tasks_stopped();
                    None
                }
                Happening::Planned(planned) => {
                    self.start(planned);
                    None
                }
                Happening::TasksStuck => self.stuck().map(Ended::Stuck),
            };
            self.show();
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Waits for the next thing that concerns this session. Every branch is cancel safe.
    async fn wait(
        &mut self,
        outgoing: &mpsc::Sender<ToCoordinator>,
        incoming: &mut mpsc::Receiver<ToWorker>,
        departure: &Departure,
    ) -> Happening {
        let roomy = self.outbox.len() < OUTBOX;
        let cancelling = self.current.as_ref().and_then(|current| current.cancelling);
        let (events, lost, stopped) = match &mut self.current {
            Some(current) => {
                let (events, links, stopped) = current.running.watch();
                (Some(events), links, Some(stopped))
            }
            None => (None, None, None),
        };
        tokio::select! {
            biased;
            () = departure.end.cancelled() => Happening::ShutdownAsked,
            () = departure.leave.cancelled(), if !self.leaving => Happening::LeaveAsked,
            permit = outgoing.reserve(), if !self.outbox.is_empty() => {
                let Ok(permit) = permit else { return Happening::OutgoingClosed };
                if let Some(message) = self.outbox.pop_front() {
                    permit.send(message);
                }
                Happening::Sent
            }
            message = incoming.recv() => Happening::Message(message),
            planned = planned(&mut self.planning, self.options) => Happening::Planned(planned),
            Some((task, event)) = receive(events), if roomy && cancelling.is_none() => {
                Happening::Task(task, event)
            }
            (task, failure) = broken(lost), if roomy && cancelling.is_none() => {
                Happening::Task(task, Event::Failed(failure))
            }
            () = finished(stopped), if cancelling.is_some() => Happening::TasksStopped,
            () = until(cancelling), if cancelling.is_some() => Happening::TasksStuck,
            () = beat(&mut self.heartbeat), if roomy => Happening::Beat,
        }
    }

    /// Tells those who watch what is going on now.
    fn show(&self) {
        let running = self.current.as_ref().map(|current| &current.running);
        let activity = Activity {
            registered: self.heartbeat.is_some(),
            leaving: self.leaving,
            attempt: running.map(RunningAttempt::attempt),
            tasks: running.map_or(0, |running| running.tasks().len()),
        };
        self.activity.send_if_modified(|shown| {
            let news = *shown != activity;
            *shown = activity;
            news
        });
    }

    fn receive(&mut self, message: ToWorker) -> Option<Ended> {
        match message {
            ToWorker::Registered { heartbeat } => self.registered(heartbeat),
            ToWorker::Refused { failure } => return Some(Ended::Refused(failure)),
            ToWorker::Shutdown => return Some(Ended::Shutdown),
            ToWorker::Deploy(deploy) => self.deploy(deploy),
            ToWorker::Cancel { attempt } => self.cancel(attempt),
            ToWorker::AddSplits {
                attempt,
                task,
                uid,
                splits,
            } => self.route(attempt, Some(task), &Command::AddSplits { uid, splits }),
            ToWorker::Trigger { attempt, barrier } => {
                self.route(attempt, None, &Command::Trigger(barrier));
            }
            ToWorker::Completed {
                attempt,
                checkpoint,
                committed,
            } => {
                let command = Command::Completed {
                    checkpoint,
                    committed,
                };
                self.route(attempt, None, &command);
            }
            ToWorker::Aborted {
                attempt,
                checkpoint,
            } => self.route(attempt, None, &Command::Aborted(checkpoint)),
        }
        None
    }

    fn registered(&mut self, heartbeat: Heartbeat) {
        let every = Duration::from_millis(heartbeat.interval_ms.max(1));
        let mut interval = tokio::time::interval(every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.heartbeat = Some(interval);
    }

    fn deploy(&mut self, deploy: Deploy) {
        if deploy.attempt <= self.newest {
            tracing::debug!(attempt = %deploy.attempt, newest = %self.newest, "old deployment dropped");
            return;
        }
        self.newest = deploy.attempt;
        if self.current.is_none() {
            self.planning = Some(Planning::begin(self.options, deploy));
        } else {
            // The coordinator has given the older attempt up; it does not wait to hear of its end.
            self.begin_cancel(false);
            self.next = Some(deploy);
        }
    }

    fn start(&mut self, planned: Planned) {
        self.planning = None;
        let Planned { deploy, ready } = planned;
        let attempt = deploy.attempt;
        let first = deploy.tasks.first().map(|deployment| deployment.task);
        match ready.and_then(|ready| RunningAttempt::start(self.options, deploy, ready)) {
            Ok(running) => {
                self.current = Some(Current {
                    running,
                    cancelling: None,
                });
            }
            Err(failure) => {
                if let Some(task) = first {
                    self.outbox.push_back(ToCoordinator::TaskFailed {
                        attempt,
                        task,
                        failure,
                    });
                }
            }
        }
    }

    fn cancel(&mut self, attempt: Attempt) {
        self.newest = self.newest.max(attempt);
        self.next.take_if(|next| next.attempt <= attempt);
        self.planning
            .take_if(|planning| planning.attempt() <= attempt);
        match &self.current {
            Some(current) if current.running.attempt() <= attempt => self.begin_cancel(true),
            Some(_) | None => self.outbox.push_back(ToCoordinator::Cancelled { attempt }),
        }
    }

    fn begin_cancel(&mut self, answer: bool) {
        let deadline = Instant::now() + self.options.cancel_timeout;
        if let Some(current) = &mut self.current {
            current.running.cancel();
            let cancelling = current.cancelling.get_or_insert(Cancelling {
                deadline,
                answer: false,
            });
            cancelling.answer |= answer;
        }
    }

    fn tasks_stopped(&mut self) {
        if let Some(Current {
            running,
            cancelling: Some(Cancelling { answer: true, .. }),
        }) = self.current.take()
        {
            let attempt = running.attempt();
            self.outbox.push_back(ToCoordinator::Cancelled { attempt });
        }
        if let Some(deploy) = self.next.take() {
            self.planning = Some(Planning::begin(self.options, deploy));
        }
    }

    fn route(&mut self, attempt: Attempt, task: Option<TaskId>, command: &Command) {
        let Some(current) = &self.current else { return };
        if current.running.attempt() != attempt || current.cancelling.is_some() {
            return;
        }
        for (id, handle) in current.running.tasks() {
            if task.is_none_or(|task| task == *id)
                && handle.send(command.clone()) == Err(Unreachable::Stuck)
            {
                let message = format!("task {id}: {}", Unreachable::Stuck);
                self.outbox.push_back(ToCoordinator::TaskFailed {
                    attempt,
                    task: *id,
                    failure: Failure::new(ErrorCode::TaskStuck, ErrorKind::Internal, message),
                });
            }
        }
    }

    fn tell(&mut self, task: TaskId, event: Event) {
        let Some(current) = &self.current else { return };
        let attempt = current.running.attempt();
        self.outbox.push_back(match event {
            Event::Running => ToCoordinator::TaskRunning { attempt, task },
            Event::Acknowledged(checkpoint, snapshot, passage) => {
                ToCoordinator::CheckpointAcknowledged {
                    attempt,
                    checkpoint,
                    task,
                    snapshot,
                    passage,
                }
            }
            Event::Declined(checkpoint, failure) => ToCoordinator::CheckpointDeclined {
                attempt,
                checkpoint,
                task,
                failure,
            },
            Event::Ended => ToCoordinator::TaskEnded { attempt, task },
            Event::Failed(failure) => ToCoordinator::TaskFailed {
                attempt,
                task,
                failure,
            },
        });
    }

    fn beat(&mut self) {
        let tasks = self
            .current
            .iter()
            .flat_map(|current| current.running.tasks());
        let progress = tasks
            .map(|(task, handle)| TaskProgress {
                load: handle.load(),
                ..TaskProgress::of(*task, handle.progress())
            })
            .collect();
        self.outbox.push_back(ToCoordinator::Heartbeat { progress });
        if self.leaving {
            // Until it may go: a message may be lost.
            self.outbox.push_back(ToCoordinator::Leaving);
        }
    }

    /// Stops what runs, within the deadline.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        self.next = None;
        self.planning = None;
        self.begin_cancel(false);
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        let (.., tracker) = current.running.watch();
        tokio::select! {
            biased;
            () = tracker.wait() => Ok(()),
            () = until(current.cancelling) => Err(self.give_up(&current.running)),
        }
    }

    fn stuck(&self) -> Option<Failure> {
        let current = self.current.as_ref()?;
        Some(self.give_up(&current.running))
    }

    fn give_up(&self, running: &RunningAttempt) -> Failure {
        let names: Vec<String> = running.tasks().keys().map(ToString::to_string).collect();
        Failure::new(
            ErrorCode::TaskStuck,
            ErrorKind::Internal,
            format!(
                "worker {}: of the tasks {} of attempt {} at least one has not stopped {} s after \
                 it was cancelled; a connector call blocks it",
                self.options.worker,
                names.join(", "),
                running.attempt(),
                self.options.cancel_timeout.as_secs(),
            ),
        )
    }
}

async fn receive(events: Option<&mut mpsc::Receiver<(TaskId, Event)>>) -> Option<(TaskId, Event)> {
    match events {
        Some(events) => events.recv().await,
        None => None,
    }
}

async fn planned(planning: &mut Option<Planning>, options: &Options) -> Planned {
    match planning {
        Some(planning) => planning.end(options).await,
        None => std::future::pending().await,
    }
}

async fn broken(connections: Option<&mut Connections>) -> (TaskId, Failure) {
    match connections {
        Some(connections) => connections.failed().await,
        None => std::future::pending().await,
    }
}

async fn finished(stopped: Option<&TaskTracker>) {
    match stopped {
        Some(tracker) => tracker.wait().await,
        None => std::future::pending().await,
    }
}

async fn until(cancelling: Option<Cancelling>) {
    match cancelling {
        Some(cancelling) => tokio::time::sleep_until(cancelling.deadline).await,
        None => std::future::pending().await,
    }
}

/// What a coordinator to which nothing can be told any more has said before: it may have sent the worker
/// home and ended.
async fn last_words(incoming: &mut mpsc::Receiver<ToWorker>) -> Ended {
    let heard = async {
        while let Some(message) = incoming.recv().await {
            match message {
                ToWorker::Shutdown => return Ended::Shutdown,
                ToWorker::Refused { failure } => return Ended::Refused(failure),
                _ => {}
            }
        }
        Ended::ConnectionLost
    };
    let heard = tokio::time::timeout(LAST_WORDS, heard).await;
    heard.unwrap_or(Ended::ConnectionLost)
}

async fn beat(heartbeat: &mut Option<Interval>) {
    match heartbeat {
        Some(heartbeat) => {
            heartbeat.tick().await;
        }
        None => std::future::pending().await,
    }
}
