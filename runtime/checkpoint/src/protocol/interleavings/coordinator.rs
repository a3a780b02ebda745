//! One coordinator: what it knows and what it does next.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::{Attempt, CheckpointId, Deployment, JobId, Timestamp};

use super::rules::Rules;
use super::work::{Work, Write};
use super::world::{Event, Owner, World};
use crate::manifest::Taken;
use crate::protocol::claim::{
    Admission, Bid, Courtesy, Refusal, Standing, bid, is_in_a_hole, standing,
};
use crate::protocol::kinship::{Descent, Kinship, kinship};
use crate::protocol::placing::{Intent, Next};
use crate::protocol::view::View;
use crate::protocol::{Mark, Record, Records};
use crate::slot::{ClaimEntry, Holder, SlotNumber};

/// What a coordinator does once it owns the chain, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Decide the next checkpoint.
    Decide,
    /// Confirm its newest decision.
    Confirm,
    /// Confirm its oldest decision.
    ConfirmOlder,
    /// Delete all checkpoints but those that are retained, and files.
    Collect,
    /// Tasks upload a file for the next checkpoint.
    Upload,
    /// Copy the files of what the job is started from, if that is another chain.
    Import,
    /// Trigger a savepoint; all tasks acknowledge.
    Savepoint,
    /// Write the savepoint.
    WriteSavepoint,
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
            State::Working(work) => work.brief(),
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
                    .map(|listing| self.judge(world, *bid, listing, rules))
                    .collect()
            }
            State::Working(work) => {
                let steps = work.steps(world, plan, rules).into_iter();
                let state = |work: Option<Work>| work.map_or(State::Stopped, State::Working);
                steps
                    .map(|(event, work, world)| (event, self.to(state(work)), world))
                    .collect()
            }
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
        let looked = |(records, unreadable): (Records, Vec<SlotNumber>)| {
            let Ok(view) = View::of(&records, &unreadable) else {
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
                    earlier: Vec::new(),
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
            .map(|listing| {
                let (event, looked) = looked(listing);
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
                    self.judge(&world, bid, (read, Vec::new()), rules)
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
        (records, unreadable): (Records, Vec<SlotNumber>),
        rules: Rules,
    ) -> (Event, Self, World) {
        let mut world = world.clone();
        match standing(&records, bid) {
            Standing::Deposed => (Event::Fenced, self.to(State::Stopped), world),
            Standing::InAHole => (Event::ClaimedAHole, self.to(State::Outside), world),
            Standing::Holds => {
                let Ok(view) = View::below(&records, &unreadable, bid.slot) else {
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
                let event = if unreadable.is_empty() {
                    Event::Claimed
                } else {
                    Event::ClaimedUnreadable
                };
                let imports = view.newest.is_none() && !world.foreign.is_empty();
                let mut files = world.files.clone();
                files.extend(world.foreign.iter().filter(|_| imports).cloned());
                let work = Work::new(
                    bid.attempt,
                    (bid.slot, view.next_checkpoint),
                    (records, unreadable),
                    (files, imports),
                );
                (event, self.to(State::Working(work)), world)
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
}
