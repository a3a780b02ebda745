//! How a barrier passes a task, and how its snapshot becomes durable.

use std::time::Duration;

use millstream_state::Written;
use millstream_types::protocol::Passage;
use millstream_types::{
    Barrier, Bug, CheckpointId, CheckpointKind, ErrorCode, ErrorKind, EventTime, Failure, FileRef,
    OperatorUid, TaskSnapshot,
};

use super::Event;
use super::root::Root;
use super::run::{Phase, Task, miswired};
use crate::alignment::{Announced, ChannelIndex, Cut, Overtaking};
use crate::chain::Stop;
use crate::snapshots::{Part, Snapshot};

/// A snapshot that is not durable.
pub(super) struct Unwritten {
    checkpoint: CheckpointId,
    snapshot: TaskSnapshot,
    passage: Passage,
    /// Whether state is being written for it.
    awaits_state: bool,
    /// Whether records that the barrier has overtaken are still to come or to be written.
    awaits_in_flight: bool,
    /// It will not be acknowledged.
    given_up: bool,
}

/// How a barrier has come through a task that passes it now.
pub(super) fn passage(cut: Cut, now: Duration, unaligned: bool) -> Passage {
    let waited = now.saturating_sub(cut.since).as_millis();
    Passage {
        alignment_ms: u64::try_from(waited).unwrap_or(u64::MAX),
        unaligned,
    }
}

impl Task {
    /// Passes a barrier: everything before it belongs to the checkpoint, or has been overtaken.
    pub(super) fn pass(&mut self, barrier: Barrier, passage: Passage) -> Result<(), Stop> {
        let checkpoint = barrier.checkpoint;
        if self.last_barrier.is_some_and(|last| last >= checkpoint) {
            return Ok(());
        }
        self.last_barrier = Some(checkpoint);
        if let Phase::Stopped { at, .. } = self.phase {
            // Another one follows only if that one has failed; what said so was lost.
            self.aborted(at)?;
        }
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
        self.unwritten.push_back(Unwritten {
            checkpoint,
            snapshot,
            passage,
            awaits_state: !states.is_empty(),
            awaits_in_flight: passage.unaligned,
            given_up: false,
        });
        if states.is_empty() {
            return self.acknowledge_if_durable(checkpoint);
        }
        self.write(checkpoint, Part::States(states))
    }

    fn write(&self, checkpoint: CheckpointId, part: Part) -> Result<(), Stop> {
        let written = self.snapshots.blocking_send(Snapshot { checkpoint, part });
        written.map_err(|_| Stop::Cancelled)
    }

    /// A barrier was put into a channel.
    pub(super) fn announced(
        &mut self,
        channel: ChannelIndex,
        barrier: Barrier,
    ) -> Result<(), Stop> {
        let now = self.clock.monotonic();
        let Root::Gate(gate) = &mut self.root else {
            return Err(Stop::Failed(miswired(self.id)));
        };
        let Announced {
            declined,
            take,
            complete,
        } = gate.announced(channel, barrier, now);
        for declined in declined {
            self.give_up(declined);
            self.decline(declined)?;
        }
        let checkpoint = barrier.checkpoint;
        if take {
            self.persist(channel, checkpoint, now)?;
        }
        if complete {
            self.write_in_flight(checkpoint)?;
        }
        Ok(())
    }

    /// Lets a barrier overtake that has been waited for too long.
    pub(super) fn overtake_if_due(&mut self, now: Duration) -> Result<(), Stop> {
        let Root::Gate(gate) = &mut self.root else {
            return Ok(());
        };
        let Some(overtaking) = gate.overtake(now) else {
            return Ok(());
        };
        let Overtaking {
            cut,
            declined,
            take,
            complete,
        } = overtaking;
        let checkpoint = cut.barrier.checkpoint;
        for channel in take {
            self.persist(channel, checkpoint, now)?;
        }
        if let Some(declined) = declined {
            self.decline(declined)?;
        }
        self.pass(cut.barrier, passage(cut, now, true))?;
        if complete {
            self.write_in_flight(checkpoint)?;
        }
        Ok(())
    }

    /// Takes a barrier out of a channel, and persists what it overtakes there.
    fn persist(
        &mut self,
        channel: ChannelIndex,
        checkpoint: CheckpointId,
        now: Duration,
    ) -> Result<(), Stop> {
        let Root::Gate(gate) = &mut self.root else {
            return Err(Stop::Failed(miswired(self.id)));
        };
        let records = self.inbox.take_barrier(channel, checkpoint);
        let records = records.ok_or_else(|| Stop::Failed(miswired(self.id)))?;
        if !Bug::OvertakenNotPersisted.is_seeded() {
            gate.persist(checkpoint, channel, records);
        }
        self.alignments.came(channel, checkpoint, now);
        Ok(())
    }

    /// All that a barrier has overtaken is known.
    fn write_in_flight(&mut self, checkpoint: CheckpointId) -> Result<(), Stop> {
        let Root::Gate(gate) = &mut self.root else {
            return Err(Stop::Failed(miswired(self.id)));
        };
        let records = gate.take_overtaken(checkpoint);
        let mut unwritten = self.unwritten.iter_mut();
        let Some(unwritten) = unwritten.find(|it| it.checkpoint == checkpoint && !it.given_up)
        else {
            return Ok(());
        };
        if records.is_empty() {
            unwritten.awaits_in_flight = false;
            return self.acknowledge_if_durable(checkpoint);
        }
        let rows = records
            .iter()
            .map(|record| record.batch.rows())
            .sum::<usize>();
        let operators = &mut unwritten.snapshot.operators;
        let head = operators.entry(self.head.clone()).or_default();
        head.counters.in_flight = u64::try_from(rows).unwrap_or(u64::MAX);
        self.write(checkpoint, Part::InFlight(self.head.clone(), records))
    }

    /// Says that a snapshot is taken, once everything that it names is durable.
    fn acknowledge_if_durable(&mut self, checkpoint: CheckpointId) -> Result<(), Stop> {
        let is_it = |it: &Unwritten| it.checkpoint == checkpoint;
        let place = self.unwritten.iter().position(is_it);
        let is_durable = |it: &mut Unwritten| !it.awaits_state && !it.awaits_in_flight;
        let Some(durable) = place.and_then(|place| {
            let durable = self.unwritten.get_mut(place).is_some_and(is_durable);
            durable.then(|| self.unwritten.remove(place)).flatten()
        }) else {
            return Ok(());
        };
        if durable.given_up {
            return Ok(());
        }
        fail::fail_point!("worker::before-ack", |_| std::process::abort());
        let Unwritten {
            snapshot, passage, ..
        } = durable;
        self.say(Event::Acknowledged(checkpoint, snapshot, passage))?;
        fail::fail_point!("worker::after-ack", |_| std::process::abort());
        Ok(())
    }

    /// The state of a snapshot is written, or cannot be.
    pub(super) fn written(
        &mut self,
        checkpoint: CheckpointId,
        states: Vec<(OperatorUid, Result<Written, Failure>)>,
    ) -> Result<(), Stop> {
        let settled = self.chain.settle(states);
        let mut unwritten = self.unwritten.iter_mut();
        let Some(unwritten) = unwritten.find(|it| it.checkpoint == checkpoint) else {
            return Err(Stop::Failed(miswired(self.id)));
        };
        unwritten.awaits_state = false;
        match settled {
            Ok(states) => {
                for (uid, state) in states {
                    let operators = &mut unwritten.snapshot.operators;
                    operators.entry(uid).or_default().state = Some(state);
                }
                self.acknowledge_if_durable(checkpoint)
            }
            Err(failure) => {
                self.give_up(checkpoint);
                self.say(Event::Declined(checkpoint, failure))
            }
        }
    }

    /// The records that a barrier has overtaken are written, or cannot be.
    pub(super) fn in_flight_written(
        &mut self,
        checkpoint: CheckpointId,
        file: Result<FileRef, Failure>,
    ) -> Result<(), Stop> {
        let mut unwritten = self.unwritten.iter_mut();
        let Some(unwritten) = unwritten.find(|it| it.checkpoint == checkpoint && !it.given_up)
        else {
            return Ok(());
        };
        match file {
            Ok(file) => {
                unwritten.awaits_in_flight = false;
                let operators = &mut unwritten.snapshot.operators;
                let operator = operators.entry(self.head.clone()).or_default();
                operator.in_flight.push(file);
                self.acknowledge_if_durable(checkpoint)
            }
            Err(failure) => {
                self.give_up(checkpoint);
                self.say(Event::Declined(checkpoint, failure))
            }
        }
    }

    /// A snapshot will not be acknowledged. State that is being written for it counts nevertheless.
    pub(super) fn give_up(&mut self, checkpoint: CheckpointId) {
        for unwritten in &mut self.unwritten {
            unwritten.given_up |= unwritten.checkpoint == checkpoint;
        }
        self.unwritten
            .retain(|unwritten| !unwritten.given_up || unwritten.awaits_state);
    }

    /// A source that stopped for a savepoint that failed goes on. If it had told everybody that
    /// time is over, only a restart helps.
    pub(super) fn aborted(&mut self, checkpoint: CheckpointId) -> Result<(), Stop> {
        if let Root::Gate(gate) = &mut self.root {
            gate.cancelled(checkpoint);
        }
        self.give_up(checkpoint);
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
}
