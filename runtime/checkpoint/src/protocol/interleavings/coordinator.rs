//! One coordinator: what it knows and what it does next.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::{Attempt, CheckpointId, Deployment, JobId, Timestamp};

use super::rules::Rules;
use super::world::{Event, Owner, World};
use crate::manifest::Taken;
use crate::protocol::claim::{
    Admission, Bid, Courtesy, Refusal, Standing, bid, is_in_a_hole, standing,
};
use crate::protocol::garbage::mark;
use crate::protocol::kinship::{Descent, Kinship, kinship};
use crate::protocol::placing::{Intent, Next, Put, after_look, after_put, after_read};
use crate::protocol::view::View;
use crate::protocol::{CheckpointMark, Kind, Mark, Record, Records};
use crate::release::ReleaseReason;
use crate::slot::{ClaimEntry, CommittedEntry, DecidedCheckpoint, Holder, SlotNumber};

/// What a coordinator does once it owns the chain, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Decide the next checkpoint.
    Decide,
    /// Confirm its newest decision.
    Confirm,
    /// Confirm its oldest decision.
    ConfirmOlder,
    /// Delete all but one checkpoint.
    Collect,
    /// End the attempt.
    Release,
}

/// A coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Coordinator {
    name: usize,
    /// The deployment that it was started for.
    deployment: Option<Deployment>,
    /// What it was told to be the newest state, once it was started; nothing if it starts from
    /// whatever the chain holds.
    #[expect(
        clippy::option_option,
        reason = "not started yet, and started without a belief"
    )]
    told: Option<Option<SlotNumber>>,
    bids: u8,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum State {
    /// Wants the chain.
    Outside,
    /// Lists the chain to find its end.
    Looking { began: BTreeSet<SlotNumber> },
    /// Writes its claim.
    Claiming {
        bid: Bid,
        read: Records,
        write: Write,
    },
    /// Has claimed; reads the mark of the attempt below.
    Claimed { bid: Bid },
    /// Has seen no mark above its claim.
    Unmarked { bid: Bid },
    /// Lists the chain below its claim.
    Reading {
        bid: Bid,
        began: BTreeSet<SlotNumber>,
    },
    /// Owns the chain, as far as it knows.
    Working(Work),
    /// Does nothing any more.
    Stopped,
}

/// A slot being written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Write {
    slot: SlotNumber,
    intent: Intent,
    record: Record,
    next: Next,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Work {
    attempt: Attempt,
    deployment: Option<Deployment>,
    known: Records,
    next: SlotNumber,
    next_checkpoint: CheckpointId,
    decided: Vec<DecidedCheckpoint>,
    /// How many actions are done.
    done: usize,
    write: Option<Write>,
    /// The write is left over from an action that was given up.
    given_up: bool,
    /// Has still to say that it will delete.
    marking: bool,
    deleting: Vec<SlotNumber>,
}

type Steps = Vec<(Event, Coordinator, World)>;

impl Coordinator {
    pub(super) const fn new(name: usize, deployment: Option<Deployment>) -> Self {
        Self {
            name,
            deployment,
            told: None,
            bids: 0,
            state: State::Outside,
        }
    }

    /// Whether it has done nothing yet.
    pub(super) const fn is_new(&self) -> bool {
        self.bids == 0 && matches!(self.state, State::Outside)
    }

    /// What it does, in a few words.
    pub(super) fn brief(&self) -> String {
        let write = |write: &Write| format!("slot {} {:?}", write.slot, write.next);
        let state = match &self.state {
            State::Outside => "outside".to_owned(),
            State::Looking { began } => format!("looking {began:?}"),
            State::Claiming { write: claim, .. } => format!("claiming {}", write(claim)),
            State::Claimed { bid } => format!("claimed {}", bid.slot),
            State::Unmarked { bid } => format!("unmarked {}", bid.slot),
            State::Reading { bid, began } => format!("reading below {} {began:?}", bid.slot),
            State::Working(work) => format!(
                "working as {} at {} ({} done, writes {:?}, deletes {:?})",
                work.attempt,
                work.next,
                work.done,
                work.write.as_ref().map(write),
                work.deleting
            ),
            State::Stopped => "stopped".to_owned(),
        };
        format!("{}: {state}", self.name)
    }

    fn to(&self, state: State) -> Self {
        Self {
            state,
            ..self.clone()
        }
    }

    pub(super) fn steps(&self, world: &World, plan: &'static [Action], rules: Rules) -> Steps {
        let began = || world.store.keys().copied().collect();
        match &self.state {
            State::Stopped => Vec::new(),
            State::Outside if self.bids >= world.bids => Vec::new(),
            State::Outside if world.beliefs && self.told.is_none() => {
                // Whoever starts it has seen the chain as it is now.
                let checkpoints = world.store.iter().rev();
                let mut checkpoints =
                    checkpoints.filter(|(_, record)| record.checkpoint().is_some());
                let told = Self {
                    told: Some(checkpoints.next().map(|(slot, _)| *slot)),
                    ..self.clone()
                };
                vec![(Event::Told, told, world.clone())]
            }
            State::Outside => {
                let looking = self.to(State::Looking { began: began() });
                vec![(Event::Step, looking, world.clone())]
            }
            State::Looking { began } => self.look(world, began, rules),
            State::Claiming { bid, read, write } => self.claim(world, *bid, read, write, rules),
            State::Claimed { bid } => {
                let mark = world.marks.get(&Attempt(bid.attempt.0 - 1)).copied();
                let step = if is_in_a_hole(*bid, mark) {
                    (Event::MarkedHole, self.to(State::Outside), world.clone())
                } else {
                    let unmarked = self.to(State::Unmarked { bid: *bid });
                    (Event::Step, unmarked, world.clone())
                };
                vec![step]
            }
            State::Unmarked { bid } => {
                let (bid, began) = (*bid, began());
                let reading = self.to(State::Reading { bid, began });
                vec![(Event::Step, reading, world.clone())]
            }
            State::Reading { bid, began } => {
                let listings = world.listings(began).into_iter();
                listings
                    .map(|records| self.judge(world, *bid, records, rules))
                    .collect()
            }
            State::Working(work) => self.work(work, world, plan, rules),
        }
    }

    fn look(&self, world: &World, began: &BTreeSet<SlotNumber>, rules: Rules) -> Steps {
        let ignored = rules == Rules::DeploymentsAreIgnored;
        let holder = Holder {
            name: String::new(),
            build: String::new(),
            identity: None,
            parallelism: 1,
            deployment: self.deployment.filter(|_| !ignored),
            host: None,
            sinks: BTreeMap::new(),
        };
        let looked = |records: Records| {
            let Ok(view) = View::of(&records, &[]) else {
                return (Event::Step, self.to(State::Outside));
            };
            let bid = match self.bid(&view, &holder, rules) {
                Ok(bid) => bid,
                Err(event) => return (event, self.to(State::Stopped)),
            };
            let nonce = format!("{}.{}", self.name, self.bids);
            let record = Record {
                attempt: bid.attempt,
                newest: view.newest.as_ref().map(|newest| newest.0),
                next_checkpoint: view.next_checkpoint,
                deployment: self.deployment.or(view.deployment),
                lineage: None,
                mark: Mark::Claim(ClaimEntry {
                    nonce: nonce.clone(),
                    holder: holder.clone(),
                    time: Timestamp(0),
                    replaced: Vec::new(),
                    ended: view.ended_before(&holder),
                }),
            };
            let write = Write {
                slot: bid.slot,
                intent: Intent::Claim { nonce },
                record,
                next: Next::PutAgain,
            };
            let claiming = Self {
                bids: self.bids + 1,
                ..self.to(State::Claiming {
                    bid,
                    read: records,
                    write,
                })
            };
            (Event::Step, claiming)
        };
        let listings = world.listings(began).into_iter();
        listings
            .map(|records| {
                let (event, looked) = looked(records);
                let mut world = world.clone();
                if event == Event::FoundOver {
                    world.believe_over(self.deployment);
                }
                (event, looked, world)
            })
            .collect()
    }

    /// The bid for what was seen, or how it was refused.
    fn bid(&self, view: &View, holder: &Holder, rules: Rules) -> Result<Bid, Event> {
        let courtesy = match rules {
            Rules::EndsAreIgnored => Courtesy::Delete,
            _ if self.deployment.is_none() => Courtesy::TakeOver,
            _ => Courtesy::Respect,
        };
        let ended = view.released.is_some() && view.deployment == self.deployment;
        if rules == Rules::EndsOfOthersCount && ended {
            return Err(Event::FoundOver);
        }
        bid(view, holder, courtesy).map_err(|refusal| match refusal {
            Refusal::Over => Event::FoundOver,
            Refusal::Superseded { .. } => Event::Superseded,
            Refusal::Taken(_) | Refusal::Deployed(_) => Event::Fenced,
        })
    }

    fn claim(&self, world: &World, bid: Bid, read: &Records, write: &Write, rules: Rules) -> Steps {
        let mut steps = Vec::new();
        for (event, write, world) in write.steps(world, bid.attempt, rules) {
            let read = read.clone();
            let step = match write.next {
                Next::Placed if rules != Rules::NothingIsReadAfterTheClaim => {
                    (event, self.to(State::Claimed { bid }), world)
                }
                Next::Placed => {
                    let mut read = read;
                    read.insert(bid.slot, write.record.clone());
                    self.judge(&world, bid, read, rules)
                }
                Next::Overtaken => (event, self.to(State::Outside), world),
                _ => (event, self.to(State::Claiming { bid, read, write }), world),
            };
            steps.push(step);
        }
        steps
    }

    /// Judges the claim by what was read.
    fn judge(
        &self,
        world: &World,
        bid: Bid,
        records: Records,
        rules: Rules,
    ) -> (Event, Self, World) {
        let mut world = world.clone();
        match standing(&records, bid) {
            Standing::Deposed => (Event::Fenced, self.to(State::Stopped), world),
            Standing::InAHole => (Event::ClaimedAHole, self.to(State::Outside), world),
            Standing::Holds => {
                let Ok(view) = View::below(&records, &[], bid.slot) else {
                    return (Event::Step, self.to(State::Unmarked { bid }), world);
                };
                let admission = match view.admits(self.deployment) {
                    Admission::Begin
                        if rules == Rules::ClaimsCountAsStarts
                            && view.deployment == self.deployment =>
                    {
                        Admission::Resume
                    }
                    admission => admission,
                };
                let restored = self.restores(&view, &records, admission, rules);
                world.believe_owned(
                    bid.slot,
                    Owner {
                        attempt: bid.attempt,
                        restored,
                        deployment: self.deployment,
                        begins: admission == Admission::Begin,
                    },
                );
                let own = records.get(&bid.slot);
                let work = Work {
                    attempt: bid.attempt,
                    deployment: own.and_then(|claim| claim.deployment),
                    known: records,
                    next: bid.slot.next(),
                    next_checkpoint: view.next_checkpoint,
                    decided: Vec::new(),
                    done: 0,
                    write: None,
                    given_up: false,
                    marking: false,
                    deleting: Vec::new(),
                };
                (Event::Claimed, self.to(State::Working(work)), world)
            }
        }
    }

    /// Where it starts from, if that is in the chain.
    fn restores(
        &self,
        view: &View,
        records: &Records,
        admission: Admission,
        rules: Rules,
    ) -> Option<SlotNumber> {
        let newest = view.newest.as_ref().map(|newest| newest.0);
        let believed = self
            .told
            .flatten()
            .filter(|_| admission == Admission::Begin);
        let (Some(slot), Some(believed)) = (newest, believed) else {
            return newest;
        };
        if rules == Rules::BeliefsAreOrders {
            return Some(believed);
        }
        // What has gone since is known from its manifest all the same.
        let taken = |slot: SlotNumber| Taken {
            job: JobId {
                namespace: String::new(),
                name: String::new(),
            },
            attempt: records
                .get(&slot)
                .map(|record| record.attempt)
                .unwrap_or_default(),
            checkpoint: CheckpointId(slot.0),
            decided_at: Timestamp(slot.0),
        };
        let (newest, point) = (taken(slot), taken(believed));
        let origins: &[&Taken] = &[];
        let newest = Descent {
            taken: &newest,
            origins,
        };
        let point = Descent {
            taken: &point,
            origins,
        };
        match kinship(Some(newest.taken), newest, point, true) {
            Kinship::Same | Kinship::Descendant => Some(believed),
            Kinship::Ancestor | Kinship::None => Some(slot),
        }
    }

    fn work(&self, work: &Work, world: &World, plan: &'static [Action], rules: Rules) -> Steps {
        if let Some((slot, rest)) = work.deleting.split_first() {
            let mut world = world.clone();
            if work.marking {
                let mut work = work.clone();
                work.marking = false;
                if let Some(mark) = mark(&work.deleting) {
                    world.marks.retain(|attempt, _| *attempt >= work.attempt);
                    world.marks.insert(work.attempt, mark);
                }
                return vec![(Event::Step, self.to(State::Working(work)), world)];
            }
            world.store.remove(slot);
            let mut work = work.clone();
            work.known.remove(slot);
            work.deleting = rest.to_vec();
            return vec![(Event::Collected, self.to(State::Working(work)), world)];
        }
        if let Some(write) = &work.write {
            return self.write(work, write, world, rules);
        }
        let Some(action) = plan.get(work.done) else {
            return Vec::new();
        };
        if let Some(write) = work.begin(*action) {
            return self.write(work, &write, world, rules);
        }
        let mut work = work.clone();
        work.done += 1;
        if *action == Action::Collect {
            work.deleting = rules.garbage(&work.known);
            work.marking = rules != Rules::NothingIsMarked;
        }
        // What touches nothing outside needs no step of its own.
        self.to(State::Working(work.clone()))
            .work(&work, world, plan, rules)
    }

    fn write(&self, work: &Work, write: &Write, world: &World, rules: Rules) -> Steps {
        let mut steps = Vec::new();
        for (event, write, mut world) in write.steps(world, work.attempt, rules) {
            let mut work = work.clone();
            let step = match write.next {
                Next::Placed => {
                    let event = work.note(&write, &mut world);
                    (event, self.to(State::Working(work)), world)
                }
                Next::Overtaken => (Event::Fenced, self.to(State::Stopped), world),
                _ => {
                    work.write = Some(write);
                    (event, self.to(State::Working(work)), world)
                }
            };
            steps.push(step);
        }
        // Once its outcome is unknown, a write may be given up, for the time being.
        if world.faults > 0 && !work.given_up && write.next == Next::Read {
            let mut work = work.clone();
            work.done += 1;
            work.given_up = rules != Rules::UnsettledIsReplaced;
            work.write = work.given_up.then(|| Write {
                next: Next::PutAgain,
                ..write.clone()
            });
            steps.push((
                Event::GaveUp,
                self.to(State::Working(work)),
                world.after_fault(),
            ));
        }
        steps
    }
}

impl Work {
    /// The write that an action begins with, if it has one.
    fn begin(&self, action: Action) -> Option<Write> {
        let confirmed = match action {
            Action::Confirm => self.decided.last(),
            Action::ConfirmOlder => self.decided.first(),
            _ => None,
        };
        let (intent, mark) = match action {
            Action::Decide => {
                let id = self.next_checkpoint;
                // Numbers of given-up checkpoints are not taken again by the same attempt.
                let id = CheckpointId(id.0.max(self.done as u64 + 1));
                (Intent::Checkpoint { id }, checkpoint(id, self.attempt))
            }
            Action::Release => {
                let mark = Mark::Released(ReleaseReason::Stopped.into());
                (Intent::Released, mark)
            }
            Action::Collect => return None,
            Action::Confirm | Action::ConfirmOlder => {
                let entry = CommittedEntry {
                    checkpoint: Some(*confirmed?),
                    given_up: None,
                    swept_through: Attempt(self.attempt.0 - 1),
                };
                (Intent::Committed(entry), Mark::Committed(entry))
            }
        };
        let checkpoints = self.known.iter().rev();
        let newest = checkpoints
            .filter(|(_, record)| record.checkpoint().is_some())
            .map(|(slot, _)| *slot)
            .next();
        Some(Write {
            slot: self.next,
            intent,
            record: Record {
                attempt: self.attempt,
                newest,
                next_checkpoint: self.next_checkpoint,
                deployment: self.deployment,
                lineage: None,
                mark,
            },
            next: Next::PutAgain,
        })
    }

    /// Takes note of a write that is there.
    fn note(&mut self, write: &Write, world: &mut World) -> Event {
        self.write = None;
        self.known.insert(write.slot, write.record.clone());
        self.next = write.slot.next();
        let given_up = std::mem::take(&mut self.given_up);
        if !given_up {
            self.done += 1;
        }
        if let Some(mark) = write.record.checkpoint() {
            self.next_checkpoint = mark.id.next();
            self.decided.push(DecidedCheckpoint {
                id: mark.id,
                attempt: self.attempt,
                slot: write.slot,
            });
            world.believe_decided(write.slot, self.attempt, mark.id);
        }
        if given_up {
            Event::Settled
        } else {
            Event::Decided
        }
    }
}

fn checkpoint(id: CheckpointId, attempt: Attempt) -> Mark {
    Mark::Checkpoint(CheckpointMark {
        id,
        kind: Kind::Checkpoint,
        decided_at: Timestamp(0),
        swept_through: Attempt(attempt.0 - 1),
        sha256: String::new(),
        bytes: 0,
        object: None,
    })
}

impl Write {
    /// All ways in which the next request about this write can end.
    fn steps(&self, world: &World, attempt: Attempt, rules: Rules) -> Vec<(Event, Self, World)> {
        let next = |next: Next| Self {
            next,
            ..self.clone()
        };
        match self.next {
            Next::PutAgain => world
                .put(self.slot, &self.record)
                .into_iter()
                .map(|(event, answer, world)| {
                    let believed = rules == Rules::UnknownIsBelieved && answer == Put::Unknown;
                    let after = if believed {
                        Next::Placed
                    } else {
                        after_put(answer)
                    };
                    (event, next(after), world)
                })
                .collect(),
            Next::Read => {
                let after = after_read(attempt, &self.intent, world.store.get(&self.slot));
                vec![(Event::Step, next(after), world.clone())]
            }
            Next::LookBehind => {
                let later = world.store.range(self.slot.next()..).next().is_some();
                vec![(Event::Step, next(after_look(later)), world.clone())]
            }
            Next::Placed | Next::Overtaken => Vec::new(),
        }
    }
}
