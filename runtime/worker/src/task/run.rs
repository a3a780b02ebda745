//! The loop of a task.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use millstream_exchange::ChannelId;
use millstream_types::ids::TaskId;
use millstream_types::load::TaskLoad;
use millstream_types::protocol::Passage;
use millstream_types::{
    CheckpointId, Clock, Element, ErrorCode, ErrorKind, EventTime, Failure, OperatorUid,
    SplitState, TaskSnapshot,
};
use tokio::sync::mpsc;

use super::barriers::{Unwritten, passage};
use super::root::{Root, Source};
use super::{Event, Shared, Start};
use crate::alignment::ChannelIndex;
use crate::chain::{Chain, Stop};
use crate::gate::{Arrival, Gate, Input};
use crate::in_flight;
use crate::inbox::{Command, Inbox, Read, Received};
use crate::load::{self, Alignments, InputChannel, Times};
use crate::plan::{self, Partitioning, TaskPlan};
use crate::snapshots::Snapshots;

/// How often counters and positions are shown to the outside.
const PUBLISH: Duration = Duration::from_millis(200);

/// Longest that nodes hold back what they have while more records come.
const HOLD_MAX: Duration = Duration::from_millis(100);

/// Splits named in a failure's message; more would hide it.
const PLACES_MAX: usize = 8;

pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) root: Root,
    /// The first node, which records in flight are for.
    pub(super) head: OperatorUid,
    pub(super) chain: Chain,
    pub(super) phase: Phase,
    pub(super) last_barrier: Option<CheckpointId>,
    pub(super) snapshots: Snapshots,
    /// Snapshots that are not durable, oldest first.
    pub(super) unwritten: VecDeque<Unwritten>,
    /// Since when nodes have held something back.
    held_since: Option<Duration>,
    pub(super) inbox: Inbox,
    /// Wakes it when a channel that it writes has room again.
    waker: Waker,
    /// How long it has waited for room in the channels that it writes.
    waited: Duration,
    pub(super) shared: Arc<Shared>,
    events: mpsc::Sender<(TaskId, Event)>,
    pub(super) clock: Arc<dyn Clock>,
    published_at: Duration,
    times: Times,
    pub(super) alignments: Alignments,
    /// The channels that lead here.
    inputs: Vec<InputChannel>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Records flow.
    Reading,
    /// A source that has emitted the barrier that the job stops with.
    Stopped { at: CheckpointId, drained: bool },
    /// No records follow; barriers still may.
    Ended,
}

impl Task {
    /// Builds readers and writers and puts the task into the state that it goes on from.
    pub(super) fn build(mut start: Start, shared: Arc<Shared>) -> Result<Self, Stop> {
        let TaskPlan {
            root,
            nodes,
            outputs,
        } = start.job.task(start.id, &start.clock)?;
        let mut edges: BTreeMap<_, _> = std::mem::take(&mut start.outputs).into_iter().collect();
        let mut ends = Vec::with_capacity(outputs.len());
        for output in outputs {
            let channels = edges.remove(&output.edge);
            ends.push((output.input, channels.ok_or_else(|| miswired(start.id))?));
        }
        let head = nodes.first();
        let head = head.map_or_else(|| OperatorUid::from(""), |node| node.uid.clone());
        let root = match root {
            plan::Root::Source(source) if start.inputs.is_empty() => {
                let restore = start.restore.get(&source.uid);
                let is_bounded = start.bounded.contains(&source.uid);
                Root::Source(Source::new(source, restore, is_bounded)?)
            }
            plan::Root::Edges if !start.inputs.is_empty() => Root::Gate(gate(&start, &head)?),
            plan::Root::Source(_) | plan::Root::Edges => {
                return Err(Stop::Failed(miswired(start.id)));
            }
        };
        let mut chain = Chain::new(nodes, ends);
        chain.set_memory(&start.memory);
        chain.restore(&start.restore, &start.contents)?;
        Ok(Self {
            id: start.id,
            root,
            head,
            chain,
            phase: Phase::Reading,
            last_barrier: None,
            snapshots: start.snapshots,
            unwritten: VecDeque::new(),
            held_since: None,
            inbox: start.inbox,
            waker: start.handle.waker(),
            waited: Duration::ZERO,
            shared,
            events: start.events,
            clock: start.clock,
            published_at: Duration::ZERO,
            times: Times::default(),
            alignments: Alignments::new(start.inputs.len()),
            inputs: start.inputs,
        })
    }

    /// Runs until cancelled or failed.
    pub(super) fn run(&mut self) -> Result<(), Stop> {
        self.begin()?;
        loop {
            self.step(PUBLISH)?;
        }
    }

    /// Says that it runs.
    pub(super) fn begin(&self) -> Result<(), Stop> {
        self.say(Event::Running)
    }

    /// A bounded piece of work; waits for it so long, at most.
    pub(super) fn step(&mut self, patience: Duration) -> Result<(), Stop> {
        self.turn(patience).map_err(|stop| match stop {
            Stop::Failed(failure) => Stop::Failed(self.with_place(failure)),
            Stop::Cancelled => Stop::Cancelled,
        })
    }

    fn turn(&mut self, patience: Duration) -> Result<(), Stop> {
        let now = self.publish_if_due();
        self.overtake_if_due(now)?;
        // What it does next may fill every channel that it writes, and must not wait in between.
        let has_room = self.chain.has_room(&self.waker);
        if has_room {
            self.flush_if_due(now)?;
        }
        let is_reading = self.phase == Phase::Reading;
        let (read, timeout) = match &self.root {
            Root::Gate(gate) if !has_room => (Read::Nothing, until(gate, patience, now)),
            _ if !has_room => (Read::Nothing, patience),
            // What nodes hold back is sent before it waits.
            Root::Gate(gate) if gate.has_restored() || self.chain.holds() => {
                (gate.read(), Duration::ZERO)
            }
            Root::Gate(gate) => (gate.read(), until(gate, patience, now)),
            // Its reader is where it waits.
            Root::Source(_) if is_reading => (Read::Nothing, Duration::ZERO),
            Root::Source(_) => (Read::Nothing, patience),
        };
        let received = self.inbox.next(read, timeout)?;
        if !timeout.is_zero() {
            let waited = self.clock.monotonic().saturating_sub(now);
            if has_room {
                self.times.idle(waited);
            } else {
                self.waited += waited;
            }
        }
        match received {
            Some(Received::Command(command)) => self.command(command),
            Some(Received::Announced(channel, barrier)) => self.announced(channel, barrier),
            Some(Received::Element(channel, element)) => self.element(channel, element),
            None if !has_room => Ok(()),
            None => match &mut self.root {
                Root::Source(source) if is_reading => {
                    let step = source.step(&mut self.chain, self.clock.as_ref(), patience)?;
                    self.times.idle(step.waited);
                    if step.has_ended {
                        self.chain.watermark(EventTime::MAX)?;
                        self.end()?;
                    }
                    Ok(())
                }
                Root::Gate(gate) => match gate.next_restored() {
                    Some((input, batch)) => self.chain.push(input, &batch),
                    None => self.chain.flush(),
                },
                Root::Source(_) => self.chain.flush(),
            },
        }
    }

    /// However busy it is, nothing is held back for long.
    fn flush_if_due(&mut self, now: Duration) -> Result<(), Stop> {
        if !self.chain.holds() {
            self.held_since = None;
            return Ok(());
        }
        let since = *self.held_since.get_or_insert(now);
        if now.saturating_sub(since) >= HOLD_MAX {
            self.held_since = None;
            self.chain.flush()?;
        }
        Ok(())
    }

    fn element(&mut self, channel: ChannelIndex, element: Element) -> Result<(), Stop> {
        let Root::Gate(gate) = &mut self.root else {
            return Err(Stop::Failed(miswired(self.id)));
        };
        let mut now = Duration::ZERO;
        if let Element::Barrier(barrier) = &element {
            now = self.clock.monotonic();
            self.alignments.came(channel, barrier.checkpoint, now);
        }
        for arrival in gate.element(channel, element, now) {
            match arrival {
                Arrival::Batch(input, batch) => self.chain.push(input, &batch)?,
                Arrival::Watermark(watermark) => self.chain.watermark(watermark)?,
                Arrival::Idle => self.chain.idle()?,
                Arrival::Barrier(cut) => self.pass(cut.barrier, passage(cut, now, false))?,
                Arrival::Declined(checkpoint) => self.decline(checkpoint)?,
                Arrival::End => self.end()?,
            }
        }
        Ok(())
    }

    /// A barrier of a newer checkpoint has come before all of this one.
    pub(super) fn decline(&self, checkpoint: CheckpointId) -> Result<(), Stop> {
        let failure = Failure::new(
            ErrorCode::CheckpointExpired,
            ErrorKind::Retryable,
            format!(
                "task {}: an input has gone on to a newer checkpoint before every input had come to \
                 checkpoint {checkpoint}",
                self.id
            ),
        );
        self.say(Event::Declined(checkpoint, failure))
    }

    fn end(&mut self) -> Result<(), Stop> {
        self.chain.end()?;
        self.phase = Phase::Ended;
        self.publish();
        self.say(Event::Ended)
    }

    fn command(&mut self, command: Command) -> Result<(), Stop> {
        match (command, &mut self.root) {
            (Command::Trigger(barrier), Root::Source(_)) => self.pass(barrier, Passage::default()),
            // The barrier comes over the channels.
            (Command::Trigger(_), Root::Gate(_)) => Ok(()),
            (Command::AddSplits { uid, splits }, Root::Source(source)) if *source.uid() == uid => {
                if self.phase == Phase::Ended && !splits.is_empty() {
                    return Err(Stop::Failed(too_late(&uid)));
                }
                Ok(source.add_splits(splits)?)
            }
            (Command::AddSplits { .. }, _) => Err(Stop::Failed(miswired(self.id))),
            (
                Command::Completed {
                    checkpoint,
                    committed,
                },
                _,
            ) => {
                self.completed(checkpoint, committed);
                Ok(())
            }
            (Command::Aborted(checkpoint), _) => self.aborted(checkpoint),
            (Command::Written { checkpoint, states }, _) => self.written(checkpoint, states),
            (Command::InFlightWritten { checkpoint, file }, _) => {
                self.in_flight_written(checkpoint, file)
            }
        }
    }

    fn completed(&mut self, checkpoint: CheckpointId, committed: bool) {
        fail::fail_point!("worker::after-completed", |_| std::process::abort());
        if let Root::Source(source) = &mut self.root {
            source.reader().completed(checkpoint);
        }
        if committed {
            self.chain.committed(checkpoint);
        }
    }

    pub(super) fn snapshot(&mut self) -> TaskSnapshot {
        let mut operators = self.chain.snapshot();
        if let Root::Source(source) = &mut self.root {
            operators.insert(source.uid().clone(), source.snapshot());
        }
        TaskSnapshot { operators }
    }

    /// Returns the time.
    fn publish_if_due(&mut self) -> Duration {
        let now = self.clock.monotonic();
        if now.saturating_sub(self.published_at) >= PUBLISH {
            self.published_at = now;
            self.publish();
        }
        now
    }

    pub(super) fn publish(&mut self) {
        let mut snapshot = self.snapshot();
        for operator in snapshot.operators.values_mut() {
            operator.committables.clear();
        }
        let load = self.load();
        self.shared.publish(snapshot, load);
    }

    /// How busy it is; `None` in its first second.
    fn load(&mut self) -> Option<TaskLoad> {
        let now = self.clock.monotonic();
        let waited = self.waited + self.chain.waited();
        let times = self.times.shown(now, waited)?;
        let state = self.chain.state_load();
        let gate = match &self.root {
            Root::Source(source) => return Some(load::load(times, source.watermark(), state)),
            Root::Gate(gate) => gate.event_time(),
        };
        let mut shown = load::load(times, gate.told(), state);
        let (queued, bound) = (self.inbox.queued(), self.inbox.bound());
        let alignments = self.alignments.shown();
        let channels = self.inputs.iter().zip(queued).zip(alignments).enumerate();
        shown.channels = channels
            .map(|(number, ((input, queued), alignment))| {
                let watermark = gate.watermark_of(number);
                load::channel(*input, queued, bound, watermark, *alignment)
            })
            .collect();
        shown.aligned = self.alignments.aligned();
        Some(shown)
    }

    pub(super) fn say(&self, event: Event) -> Result<(), Stop> {
        self.events
            .blocking_send((self.id, event))
            .map_err(|_| Stop::Cancelled)
    }

    fn with_place(&mut self, failure: Failure) -> Failure {
        if failure.code == ErrorCode::ExpressionFailed {
            return Failure {
                message: format!("{} ({})", failure.message, self.place()),
                ..failure
            };
        }
        failure
    }

    /// Which records were at hand, for a person: the last batch ends where the splits stand.
    pub(super) fn place(&mut self) -> String {
        let splits = match &mut self.root {
            Root::Gate(_) => return String::from("in records of the vertex before it"),
            Root::Source(source) => source.snapshot().splits,
        };
        if splits.iter().all(|split| split.finished) {
            return String::from("in the last records of the source");
        }
        let unfinished = || splits.iter().filter(|split| !split.finished);
        let places: Vec<String> = unfinished().take(PLACES_MAX).map(place_of).collect();
        let more = unfinished().count().saturating_sub(PLACES_MAX);
        let more = if more > 0 {
            format!(" and {more} more splits")
        } else {
            String::new()
        };
        format!("in the last batch before {}{more}", places.join(", "))
    }
}

/// The channels that lead to a task, and what it goes on from of them.
fn gate(start: &Start, head: &OperatorUid) -> Result<Gate, Failure> {
    let edges = start.job.edges();
    let inputs = start.inputs.iter().map(|channel| {
        let mut edges = edges.iter();
        let edge = edges.find(|it| it.to == start.id.vertex && it.input == channel.input);
        Input {
            input: channel.input,
            channel: ChannelId {
                edge: u32::try_from(channel.input.0).unwrap_or(u32::MAX),
                from: channel.from.subtask.0,
                to: start.id.subtask.0,
            },
            // Where they go at another parallelism is not theirs to say.
            overtakable: edge.is_some_and(|edge| edge.partitioning != Partitioning::Forward),
        }
    });
    let gate = Gate::new(inputs.collect(), start.inbox.bound());
    let restored = start.restore.get(head);
    let files = restored.map_or(&[][..], |snapshot| &snapshot.in_flight);
    let job = start.job.as_ref();
    let records = in_flight::own(job, start.id, head, files, &start.contents)?;
    Ok(gate.restored(records))
}

/// How long to wait at most, so that a barrier overtakes in time.
fn until(gate: &Gate, patience: Duration, now: Duration) -> Duration {
    let deadline = gate.deadline();
    deadline.map_or(patience, |deadline| {
        patience.min(deadline.saturating_sub(now))
    })
}

fn place_of(split: &SplitState) -> String {
    format!("{} at {}", split.split, split.position.0)
}

pub(super) fn miswired(id: TaskId) -> Failure {
    Failure::new(
        ErrorCode::PlanMismatch,
        ErrorKind::Internal,
        format!("task {id} does not fit the vertices and sources that it was deployed with"),
    )
}

fn too_late(uid: &OperatorUid) -> Failure {
    Failure::new(
        ErrorCode::PlanMismatch,
        ErrorKind::Internal,
        format!("source `{uid}` was given splits after it had said that it had ended"),
    )
}
