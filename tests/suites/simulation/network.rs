//! The connections between workers and coordinators: in order, each with an end, as TCP's are.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::sync::Arc;

use millstream_types::Attempt;
use millstream_types::protocol::{ToCoordinator, ToWorker};
use tokio::sync::{mpsc, oneshot};

use crate::world::{Millis, ProcessId, State, What, World};

/// A link's two queues as a worker has them; `None` if nobody answers.
pub(crate) type ConnectAnswer = oneshot::Sender<Option<WorkerEnd>>;

pub(crate) struct WorkerEnd {
    pub(crate) link: LinkId,
    pub(crate) incoming: mpsc::Receiver<ToWorker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(u64);

/// How long it takes until the end of a connection is noticed that nobody has closed.
const KEEPALIVE: Millis = 2_500;

struct Link {
    worker: ProcessId,
    coordinator: ProcessId,
    to_worker: Option<mpsc::Sender<ToWorker>>,
    to_coordinator: Option<mpsc::Sender<ToCoordinator>>,
    /// When the newest message to each end arrives.
    last: [Millis; 2],
}

#[derive(Default)]
pub(crate) struct Network {
    links: BTreeMap<LinkId, Link>,
    /// Second copies, each of which comes right before a later message of its kind, and rather before
    /// one of another attempt.
    stale: Vec<((ProcessId, ProcessId), Message)>,
    next: u64,
}

/// An end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Worker,
    Coordinator,
}

impl End {
    const fn other(self) -> Self {
        match self {
            Self::Worker => Self::Coordinator,
            Self::Coordinator => Self::Worker,
        }
    }
}

/// A message with where it goes.
#[derive(Clone)]
enum Message {
    ToWorker(ToWorker),
    ToCoordinator(ToCoordinator),
}

impl State {
    pub(crate) fn link(
        &mut self,
        (worker, coordinator): (ProcessId, ProcessId),
        to_worker: mpsc::Sender<ToWorker>,
        to_coordinator: mpsc::Sender<ToCoordinator>,
    ) -> LinkId {
        let network = &mut self.network;
        network.next += 1;
        let id = LinkId(network.next);
        let link = Link {
            worker,
            coordinator,
            to_worker: Some(to_worker),
            to_coordinator: Some(to_coordinator),
            last: [0, 0],
        };
        network.links.insert(id, link);
        id
    }

    fn send_over(&mut self, id: LinkId, message: Message) {
        let dropped = self.random.chance(self.rates.message_lost);
        let twice = self.random.chance(self.rates.message_twice) && may_come_twice(&message);
        let delay = if self.random.chance(self.rates.message_slow) {
            self.random.between(50, 1_200)
        } else {
            self.random.between(1, 5)
        };
        let to = match &message {
            Message::ToWorker(_) => End::Worker,
            Message::ToCoordinator(_) => End::Coordinator,
        };
        let name = name_of(&message);
        let Some((at, process)) = self.arrival(id, to, delay) else {
            return;
        };
        if dropped {
            self.coverage.fault("message lost");
            self.note(format_args!("lost on the way to {process}: {name}"));
            if is_said_once(&message) {
                let delay = self.random.between(1, 400);
                self.close(id, End::Worker, delay);
                self.close(id, End::Coordinator, delay);
            }
            return;
        }
        let Some(link) = self.network.links.get(&id) else {
            return;
        };
        let ends = (link.worker, link.coordinator);
        let mut kept = None;
        if twice {
            self.coverage.fault("message twice");
            self.note(format_args!("comes twice to {process}: {name}"));
            if self.random.chance(5_000) {
                kept = Some((ends, message.clone()));
            } else {
                let message = message.clone();
                let again = move |state: &mut Self| state.deliver(id, message);
                let at = at + self.random.below(2_000);
                self.at(at, Some(process), What::Do(Box::new(again)));
            }
        }
        let random = &mut self.random;
        let of_its_kind = |(between, stale): &mut ((ProcessId, ProcessId), Message)| {
            let odds = if attempt_of(stale) == attempt_of(&message) {
                500
            } else {
                5_000
            };
            *between == ends && is_of_one_kind(stale, &message) && random.chance(odds)
        };
        let stale: Vec<_> = self.network.stale.extract_if(.., of_its_kind).collect();
        for (_, stale) in stale {
            let again = move |state: &mut Self| state.deliver(id, stale);
            self.at(at, Some(process), What::Do(Box::new(again)));
        }
        self.network.stale.extend(kept);
        let deliver = move |state: &mut Self| state.deliver(id, message);
        self.at(at, Some(process), What::Do(Box::new(deliver)));
    }

    /// When what is sent now arrives, behind what was sent before, and where.
    fn arrival(&mut self, id: LinkId, to: End, delay: Millis) -> Option<(Millis, ProcessId)> {
        let now = self.now;
        let link = self.network.links.get_mut(&id)?;
        let (last, process) = match to {
            End::Worker => (&mut link.last[0], link.worker),
            End::Coordinator => (&mut link.last[1], link.coordinator),
        };
        *last = (now + delay).max(*last);
        Some((*last, process))
    }

    fn deliver(&mut self, id: LinkId, message: Message) {
        let Some(link) = self.network.links.get(&id) else {
            return;
        };
        let (name, worker, coordinator) = (name_of(&message), link.worker, link.coordinator);
        let is_taken = match message {
            Message::ToWorker(message) => {
                let end = link.to_worker.as_ref();
                end.is_none_or(|end| end.try_send(message).is_ok())
            }
            Message::ToCoordinator(message) => {
                let end = link.to_coordinator.as_ref();
                end.is_none_or(|end| end.try_send(message).is_ok())
            }
        };
        self.note(format_args!("{worker} and {coordinator}: {name}"));
        if !is_taken {
            self.close(id, End::Worker, 0);
            self.close(id, End::Coordinator, 0);
        }
    }

    /// An end has closed the link; the other one learns of it after a while.
    pub(crate) fn close(&mut self, id: LinkId, by: End, delay: Millis) {
        let to = by.other();
        let Some((at, process)) = self.arrival(id, to, delay) else {
            return;
        };
        if let Some(link) = self.network.links.get_mut(&id) {
            match by {
                End::Worker => drop(link.to_worker.take()),
                End::Coordinator => drop(link.to_coordinator.take()),
            }
        }
        let tell = move |state: &mut Self| {
            let Some(link) = state.network.links.get_mut(&id) else {
                return;
            };
            match to {
                End::Worker => drop(link.to_worker.take()),
                End::Coordinator => drop(link.to_coordinator.take()),
            }
        };
        self.at(at, Some(process), What::Do(Box::new(tell)));
    }

    /// Cuts links of a process. With `half_open`, one end learns of it late.
    pub(crate) fn cut(&mut self, process: ProcessId, half_open: bool) {
        let delay = if half_open { KEEPALIVE } else { 3 };
        let links: Vec<(LinkId, bool)> = self
            .network
            .links
            .iter()
            .filter(|(_, link)| link.worker == process || link.coordinator == process)
            .map(|(id, link)| (*id, link.worker == process))
            .collect();
        for (id, is_worker) in links {
            let end = if is_worker {
                End::Worker
            } else {
                End::Coordinator
            };
            self.close(id, end, delay);
            self.close(id, end.other(), 1);
        }
    }

    /// A process is gone; its peers notice.
    pub(crate) fn gone(&mut self, process: ProcessId) {
        let is_silent = self.random.chance(3_000) && !self.is_healed;
        let delay = if is_silent { KEEPALIVE } else { 2 };
        let links: Vec<(LinkId, End)> = self
            .network
            .links
            .iter()
            .filter_map(|(id, link)| {
                let worker = (link.worker == process).then_some(End::Worker);
                let coordinator = (link.coordinator == process).then_some(End::Coordinator);
                Some((*id, worker.or(coordinator)?))
            })
            .collect();
        for (id, end) in links {
            self.close(id, end, delay);
        }
        self.dead.insert(process);
    }
}

/// Passes on what a worker says, until it has nothing more to say.
pub(crate) async fn pass_up(
    world: Arc<World>,
    link: LinkId,
    mut from: mpsc::Receiver<ToCoordinator>,
) {
    while let Some(message) = from.recv().await {
        let mut state = world.lock();
        state.send_over(link, Message::ToCoordinator(message));
    }
    world.lock().close(link, End::Worker, 2);
}

/// Passes on what a coordinator says to a worker.
pub(crate) async fn pass_down(world: Arc<World>, link: LinkId, mut from: mpsc::Receiver<ToWorker>) {
    while let Some(message) = from.recv().await {
        let mut state = world.lock();
        state.send_over(link, Message::ToWorker(message));
    }
    world.lock().close(link, End::Coordinator, 2);
}

fn is_of_one_kind(one: &Message, other: &Message) -> bool {
    match (one, other) {
        (Message::ToWorker(one), Message::ToWorker(other)) => {
            discriminant(one) == discriminant(other)
        }
        (Message::ToCoordinator(one), Message::ToCoordinator(other)) => {
            discriminant(one) == discriminant(other)
        }
        (Message::ToWorker(_), Message::ToCoordinator(_))
        | (Message::ToCoordinator(_), Message::ToWorker(_)) => false,
    }
}

/// The attempt that a message is about.
const fn attempt_of(message: &Message) -> Option<Attempt> {
    match message {
        Message::ToWorker(message) => match message {
            ToWorker::Deploy(deploy) => Some(deploy.attempt),
            ToWorker::AddSplits { attempt, .. }
            | ToWorker::Trigger { attempt, .. }
            | ToWorker::Completed { attempt, .. }
            | ToWorker::Aborted { attempt, .. }
            | ToWorker::Cancel { attempt } => Some(*attempt),
            ToWorker::Registered { .. } | ToWorker::Refused { .. } | ToWorker::Shutdown => None,
        },
        Message::ToCoordinator(message) => match message {
            ToCoordinator::TaskRunning { attempt, .. }
            | ToCoordinator::CheckpointAcknowledged { attempt, .. }
            | ToCoordinator::CheckpointDeclined { attempt, .. }
            | ToCoordinator::TaskEnded { attempt, .. }
            | ToCoordinator::TaskFailed { attempt, .. }
            | ToCoordinator::Cancelled { attempt } => Some(*attempt),
            ToCoordinator::Register(_)
            | ToCoordinator::Heartbeat { .. }
            | ToCoordinator::Leaving => None,
        },
    }
}

/// A connection that lives loses nothing. That peers bear it is asked for beyond that, of everything
/// but what is said only once and waited for without a deadline: that is lost with its connection.
const fn is_said_once(message: &Message) -> bool {
    matches!(
        message,
        Message::ToCoordinator(ToCoordinator::TaskEnded { .. })
    )
}

/// A connection brings nothing twice. That peers bear it, long after and behind others, is asked for
/// beyond that, of everything but what can be told apart by nothing.
const fn may_come_twice(message: &Message) -> bool {
    !matches!(
        message,
        Message::ToWorker(ToWorker::AddSplits { .. })
            | Message::ToCoordinator(ToCoordinator::Register(_))
    )
}

fn name_of(message: &Message) -> String {
    match message {
        Message::ToWorker(message) => match message {
            ToWorker::Registered { .. } => "registered".to_owned(),
            ToWorker::Refused { failure } => format!("refused: {failure}"),
            ToWorker::Deploy(deploy) => {
                let tasks = deploy.tasks.iter().map(|task| task.task.to_string());
                let tasks: Vec<String> = tasks.collect();
                format!("deploy {} of attempt {}", tasks.join(" "), deploy.attempt)
            }
            ToWorker::AddSplits { task, splits, .. } => {
                let names: Vec<&str> = splits.iter().map(|split| split.split.as_str()).collect();
                format!("add splits {} to {task}", names.join(" "))
            }
            ToWorker::Trigger { attempt, barrier } => {
                format!(
                    "trigger {} {:?} of attempt {attempt}",
                    barrier.checkpoint, barrier.kind
                )
            }
            ToWorker::Completed {
                attempt,
                checkpoint,
                committed,
            } => format!("completed {checkpoint} of attempt {attempt}, committed: {committed}"),
            ToWorker::Aborted {
                attempt,
                checkpoint,
            } => format!("aborted {checkpoint} of attempt {attempt}"),
            ToWorker::Cancel { attempt } => format!("cancel attempt {attempt}"),
            ToWorker::Shutdown => "shutdown".to_owned(),
        },
        Message::ToCoordinator(message) => match message {
            ToCoordinator::Register(register) => format!("register {}", register.worker),
            ToCoordinator::Heartbeat { .. } => "heartbeat".to_owned(),
            ToCoordinator::TaskRunning { attempt, task } => {
                format!("task {task} of attempt {attempt} runs")
            }
            ToCoordinator::CheckpointAcknowledged {
                attempt,
                checkpoint,
                task,
                ..
            } => format!("task {task} of attempt {attempt} acknowledges {checkpoint}"),
            ToCoordinator::CheckpointDeclined {
                attempt,
                checkpoint,
                task,
                ..
            } => format!("task {task} of attempt {attempt} declines {checkpoint}"),
            ToCoordinator::TaskEnded { attempt, task } => {
                format!("task {task} of attempt {attempt} has ended")
            }
            ToCoordinator::TaskFailed {
                attempt,
                task,
                failure,
            } => format!("task {task} of attempt {attempt} has failed: {failure}"),
            ToCoordinator::Leaving => "leaving".to_owned(),
            ToCoordinator::Cancelled { attempt } => format!("attempt {attempt} is cancelled"),
        },
    }
}
