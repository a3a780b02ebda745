//! The loop of a task.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use millstream_state::Written;
use millstream_types::ids::TaskId;
use millstream_types::load::TaskLoad;
use millstream_types::{
    Barrier, Bug, CheckpointId, CheckpointKind, Clock, Element, ErrorCode, ErrorKind, EventTime,
    Failure, OperatorUid, SplitState, TaskSnapshot,
};
use tokio::sync::mpsc;

use super::root::{Root, Source};
use super::{Event, Shared, Start};
use crate::alignment::ChannelIndex;
use crate::chain::{Chain, Stop};
use crate::gate::{Arrival, Gate};
use crate::inbox::{Command, Inbox, Read, Received};
use crate::load::{self, Alignments, InputChannel, Times};
use crate::plan::{self, TaskPlan};
use crate::snapshots::{Snapshot, Snapshots};

/// How often counters and positions are shown to the outside.
const PUBLISH: Duration = Duration::from_millis(200);

/// Longest that nodes hold back what they have while more records come.
const HOLD_MAX: Duration = Duration::from_millis(100);

/// Splits named in a failure's message; more would hide it.
const PLACES_MAX: usize = 8;

pub(super) struct Task {
    id: TaskId,
    root: Root,
    chain: Chain,
    phase: Phase,
    last_barrier: Option<CheckpointId>,
    snapshots: Snapshots,
    /// Snapshots whose state is being written, oldest first.
    unwritten: VecDeque<(CheckpointId, TaskSnapshot)>,
    /// Since when nodes have held something back.
    held_since: Option<Duration>,
    inbox: Inbox,
    /// Wakes it when a channel that it writes has room again.
    waker: Waker,
    /// How long it has waited for room in the channels that it writes.
    waited: Duration,
    shared: Arc<Shared>,
    events: mpsc::Sender<(TaskId, Event)>,
    clock: Arc<dyn Clock>,
    published_at: Duration,
    times: Times,
    alignments: Alignments,
    /// The channels that lead here.
    inputs: Vec<InputChannel>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Records flow.
    Reading,
    /// A source that has emitted the barrier that the job stops with.
    Stopped { at: CheckpointId, drained: bool },
    /// No records follow; barriers still may.
    Ended,
}

impl Task {
    /// Builds readers and writers and puts the task into the state that it goes on from.
    pub(super) fn build(start: Start, shared: Arc<Shared>) -> Result<Self, Stop> {
        let TaskPlan {
            root,
            nodes,
            outputs,
        } = start.job.task(start.id, &start.clock)?;
        let mut edges: BTreeMap<_, _> = start.outputs.into_iter().collect();
        let mut ends = Vec::with_capacity(outputs.len());
        for output in outputs {
            let channels = edges.remove(&output.edge);
            ends.push((output.input, channels.ok_or_else(|| miswired(start.id))?));
        }
        let root = match root {
            plan::Root::Source(source) if start.inputs.is_empty() => {
                let restore = start.restore.get(&source.uid);
                let is_bounded = start.bounded.contains(&source.uid);
                Root::Source(Source::new(source, restore, is_bounded)?)
            }
            plan::Root::Edges if !start.inputs.is_empty() => {
                let inputs = start.inputs.iter().map(|channel| channel.input);
                Root::Gate(Gate::new(inputs.collect()))
            }
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
        // What it does next may fill every channel that it writes, and must not wait in between.
        let has_room = self.chain.has_room(&self.waker);
        if has_room {
            self.flush_if_due(now)?;
        }
        let is_reading = self.phase == Phase::Reading;
        let (read, timeout) = match &self.root {
            _ if !has_room => (Read::Nothing, patience),
            // What nodes hold back is sent before it waits.
            Root::Gate(gate) if self.chain.holds() => (gate.read(), Duration::ZERO),
            Root::Gate(gate) => (gate.read(), patience),
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
                Root::Source(_) | Root::Gate(_) => self.chain.flush(),
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
        if let Element::Barrier(barrier) = &element {
            let now = self.clock.monotonic();
            self.alignments.came(channel, barrier.checkpoint, now);
        }
        for arrival in gate.element(channel, element) {
            match arrival {
                Arrival::Batch(input, batch) => self.chain.push(input, &batch)?,
                Arrival::Watermark(watermark) => self.chain.watermark(watermark)?,
                Arrival::Idle => self.chain.idle()?,
                Arrival::Barrier(barrier) => self.pass(barrier)?,
                Arrival::Declined(checkpoint) => self.decline(checkpoint)?,
                Arrival::End => self.end()?,
            }
        }
        Ok(())
    }

    /// A barrier of a newer checkpoint has come before all of this one.
    fn decline(&self, checkpoint: CheckpointId) -> Result<(), Stop> {
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
            (Command::Trigger(barrier), Root::Source(_)) => self.pass(barrier),
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
        }
    }

    /// Passes a barrier: everything before it belongs to the checkpoint.
    fn pass(&mut self, barrier: Barrier) -> Result<(), Stop> {
        let checkpoint = barrier.checkpoint;
        if self.last_barrier.is_some_and(|last| last >= checkpoint) {
            return Ok(());
        }
        self.last_barrier = Some(checkpoint);
        fail::fail_point!("worker::before-prepare", |_| std::process::abort());
        let drain = matches!(
            barrier.kind,
            CheckpointKind::StopWithSavepoint { drain: true }
        );
        let at_source = matches!(self.root, Root::Source(_));
        if at_source && drain && self.phase == Phase::Reading {
            self.chain.watermark(EventTime::MAX)?;
            self.chain.end()?;
        }
        let is_overtaken = Bug::BarrierOvertaken.is_seeded();
        if !is_overtaken {
            self.chain.forward(barrier)?;
        }
        self.chain.prepare(checkpoint)?;
        fail::fail_point!("worker::after-prepare", |_| std::process::abort());
        let snapshot = self.snapshot();
        let states = self.chain.freeze(barrier)?;
        if is_overtaken {
            if let Root::Source(source) = &mut self.root {
                source.step(&mut self.chain, self.clock.as_ref(), Duration::ZERO)?;
            }
            self.chain.forward(barrier)?;
        }
        if let Root::Source(source) = &mut self.root {
            source.reader().snapshotted(checkpoint);
        }
        if at_source && barrier.kind.stops_job() && self.phase == Phase::Reading {
            self.phase = Phase::Stopped {
                at: checkpoint,
                drained: drain,
            };
        }
        self.publish();
        if states.is_empty() {
            return self.acknowledge(checkpoint, snapshot);
        }
        self.unwritten.push_back((checkpoint, snapshot));
        let written = self
            .snapshots
            .blocking_send(Snapshot { checkpoint, states });
        written.map_err(|_| Stop::Cancelled)
    }

    /// Everything that the snapshot names is durable.
    fn acknowledge(&self, checkpoint: CheckpointId, snapshot: TaskSnapshot) -> Result<(), Stop> {
        fail::fail_point!("worker::before-ack", |_| std::process::abort());
        self.say(Event::Acknowledged(checkpoint, snapshot))?;
        fail::fail_point!("worker::after-ack", |_| std::process::abort());
        Ok(())
    }

    /// The state of the oldest snapshot that waits for it is written, or cannot be.
    fn written(
        &mut self,
        checkpoint: CheckpointId,
        states: Vec<(OperatorUid, Result<Written, Failure>)>,
    ) -> Result<(), Stop> {
        let settled = self.chain.settle(states);
        let Some((_, mut snapshot)) = self.unwritten.pop_front_if(|(of, _)| *of == checkpoint)
        else {
            return Err(Stop::Failed(miswired(self.id)));
        };
        match settled {
            Ok(states) => {
                for (uid, state) in states {
                    snapshot.operators.entry(uid).or_default().state = Some(state);
                }
                self.acknowledge(checkpoint, snapshot)
            }
            Err(failure) => self.say(Event::Declined(checkpoint, failure)),
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

    /// A source that stopped for a savepoint that failed goes on. If it had told everybody that
    /// time is over, only a restart helps.
    fn aborted(&mut self, checkpoint: CheckpointId) -> Result<(), Stop> {
        if let Root::Gate(gate) = &mut self.root {
            gate.cancelled(checkpoint);
        }
        if Bug::AbortForgetsTransaction.is_seeded() {
            self.chain.committed(checkpoint);
        }
        match self.phase {
            Phase::Stopped { at, drained: true } if at == checkpoint => {
                Err(Stop::Failed(Failure::new(
                    ErrorCode::CheckpointExpired,
                    ErrorKind::Retryable,
                    format!(
                        "the draining savepoint {checkpoint} failed after windows and timers had \
                         fired; going on from the last checkpoint"
                    ),
                )))
            }
            Phase::Stopped { at, .. } if at == checkpoint => {
                self.phase = Phase::Reading;
                Ok(())
            }
            Phase::Stopped { .. } | Phase::Reading | Phase::Ended => Ok(()),
        }
    }

    fn snapshot(&mut self) -> TaskSnapshot {
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

    fn publish(&mut self) {
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

    fn say(&self, event: Event) -> Result<(), Stop> {
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

fn place_of(split: &SplitState) -> String {
    format!("{} at {}", split.split, split.position.0)
}

fn miswired(id: TaskId) -> Failure {
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
