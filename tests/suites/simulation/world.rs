//! Everything outside of processes: time, what is under way, the servers, the network, the dice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::broker::Broker;
use crate::coverage::Coverage;
use crate::network::{ConnectAnswer, Network};
use crate::random::Random;
use crate::scenario::{Rates, Scenario};
use crate::source::Topic;
use crate::store::Objects;

/// Milliseconds since the simulation began.
pub(crate) type Millis = u64;

/// One process; never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId(pub(crate) u64);

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// A server that processes ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Store,
    Broker,
}

type Work = Box<dyn FnOnce(&mut State) + Send>;

/// What happens at a time.
pub(crate) enum What {
    /// Something that needs no process to be run, or the delivery of something to one.
    Do(Work),
    /// A process goes on by itself up to now.
    Run,
    /// A task does a step.
    Step(u64),
    /// A worker has asked for a connection.
    Connect(ConnectAnswer),
    /// The fault of this number of the scenario.
    Fault(usize),
    /// A frozen process goes on.
    Thaw,
    /// A process ends at once.
    Crash,
    /// Somebody looks whether processes are missing.
    Supervise,
    /// Faults are over.
    Heal,
}

pub(crate) struct Happening {
    /// Whom it concerns: it waits while that one is frozen, and is nothing when it is gone.
    pub(crate) process: Option<ProcessId>,
    pub(crate) what: What,
}

pub(crate) struct State {
    pub(crate) now: Millis,
    queue: BTreeMap<(Millis, u64), Happening>,
    next: u64,
    pub(crate) random: Random,
    pub(crate) rates: Rates,
    pub(crate) is_healed: bool,
    /// Until when a server answers nobody.
    down: BTreeMap<Service, Millis>,
    /// Until when a server takes its time.
    slow: BTreeMap<Service, Millis>,
    /// Until when a process reaches no server.
    apart: BTreeMap<ProcessId, Millis>,
    /// Crashes in the middle of a request that may still happen.
    pub(crate) crashes_left: u32,
    pub(crate) dead: BTreeSet<ProcessId>,
    pub(crate) store: Objects,
    pub(crate) broker: Broker,
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) network: Network,
    pub(crate) trace: Trace,
    pub(crate) coverage: Coverage,
    /// What has gone wrong, found while it happened.
    pub(crate) violations: Vec<String>,
}

/// The world, as everybody who is in it holds it.
pub(crate) struct World(Mutex<State>);

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// How a request fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused,
    RequestLost,
    AnswerLost,
    /// It is carried out after its sender was told that there is no answer.
    Late,
    /// Its sender crashes when it has been carried out.
    Crash,
}

impl World {
    pub(crate) fn new(scenario: &Scenario, keeps_trace: bool) -> Arc<Self> {
        let mut random = Random::new(scenario.seed ^ 0x5151_5151);
        let topics = scenario.topics(&mut random.fork());
        Arc::new(Self(Mutex::new(State {
            now: 0,
            queue: BTreeMap::new(),
            next: 0,
            random,
            rates: scenario.rates,
            is_healed: false,
            down: BTreeMap::new(),
            slow: BTreeMap::new(),
            apart: BTreeMap::new(),
            crashes_left: scenario.crashes,
            dead: BTreeSet::new(),
            store: Objects::default(),
            broker: Broker::default(),
            topics,
            network: Network::default(),
            trace: Trace::new(keeps_trace),
            coverage: Coverage::default(),
            violations: Vec::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request to a server, which carries it out when it arrives, if it does; the answer
    /// comes back, if it does. An error says nothing about whether it was carried out.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        process: ProcessId,
        service: Service,
        name: String,
        work: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, String>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.lock().send(process, service, name, work, sender);
        async move {
            let answer = receiver.await;
            answer.unwrap_or_else(|_| Err("the connection has ended".to_owned()))
        }
    }
}

impl State {
    pub(crate) fn at(&mut self, at: Millis, process: Option<ProcessId>, what: What) {
        self.next += 1;
        let key = (at.max(self.now), self.next);
        self.queue.insert(key, Happening { process, what });
    }

    pub(crate) fn after(&mut self, delay: Millis, process: Option<ProcessId>, what: What) {
        self.at(self.now + delay, process, what);
    }

    /// Goes on to what happens next.
    pub(crate) fn take_next(&mut self) -> Option<Happening> {
        let ((at, _), happening) = self.queue.pop_first()?;
        self.now = at;
        Some(happening)
    }

    pub(crate) fn note(&mut self, line: fmt::Arguments<'_>) {
        self.trace.note(self.now, line);
    }

    pub(crate) fn take_down(&mut self, service: Service, lasts: Millis) {
        self.down.insert(service, self.now + lasts);
    }

    pub(crate) fn slow_down(&mut self, service: Service, lasts: Millis) {
        self.slow.insert(service, self.now + lasts);
    }

    pub(crate) fn set_apart(&mut self, process: ProcessId, lasts: Millis) {
        self.apart.insert(process, self.now + lasts);
    }

    /// Whether a request of a process reaches a server now.
    pub(crate) fn reaches(&self, process: ProcessId, service: Service) -> bool {
        let until = self.down.get(&service).copied().unwrap_or_default();
        let apart = self.apart.get(&process).copied().unwrap_or_default();
        self.now >= until && self.now >= apart
    }

    /// Everything works from now on.
    pub(crate) fn heal(&mut self) {
        self.is_healed = true;
        self.rates = Rates::default();
        self.crashes_left = 0;
        self.down.clear();
        self.slow.clear();
        self.apart.clear();
    }

    fn fate(&mut self, process: ProcessId, service: Service) -> Fate {
        if !self.reaches(process, service) {
            return Fate::Refused;
        }
        let rates = self.rates;
        let dice = &mut self.random;
        if dice.chance(rates.request_lost) {
            Fate::RequestLost
        } else if dice.chance(rates.answer_lost) {
            Fate::AnswerLost
        } else if dice.chance(rates.late) {
            Fate::Late
        } else if self.crashes_left > 0 && dice.chance(rates.crash) {
            self.crashes_left -= 1;
            Fate::Crash
        } else {
            Fate::Answered
        }
    }

    fn delay(&mut self, service: Service) -> Millis {
        let is_slow = self
            .slow
            .get(&service)
            .is_some_and(|until| self.now < *until);
        if is_slow {
            self.random.between(200, 1_500)
        } else {
            self.random.between(1, 8)
        }
    }

    fn send<T: Send + 'static>(
        &mut self,
        process: ProcessId,
        service: Service,
        name: String,
        work: impl FnOnce(&mut Self) -> T + Send + 'static,
        answer: oneshot::Sender<Result<T, String>>,
    ) {
        let fate = self.fate(process, service);
        let patience = self.random.between(300, 1_500);
        let there = self.delay(service);
        let back = self.delay(service);
        let told = there + back;
        if fate != Fate::Answered {
            self.coverage.met_request(service, fate_name(fate));
            self.note(format_args!("{process} asks: {name} ({})", fate_name(fate)));
        }
        let fail =
            |state: &mut Self, after, answer: oneshot::Sender<Result<T, String>>, why: &str| {
                let why = why.to_owned();
                let tell = move |_: &mut Self| drop(answer.send(Err(why)));
                state.after(after, Some(process), What::Do(Box::new(tell)));
            };
        match fate {
            Fate::Refused => fail(self, there, answer, "connection refused"),
            Fate::RequestLost => fail(self, patience, answer, "timed out"),
            Fate::AnswerLost | Fate::Late => {
                let at = if fate == Fate::Late {
                    patience + self.random.between(1, 4_000)
                } else {
                    there
                };
                let work = move |state: &mut Self| {
                    state.note(format_args!("carried out, unanswered: {name}"));
                    drop(work(state));
                };
                self.after(at, None, What::Do(Box::new(work)));
                fail(self, patience, answer, "timed out");
            }
            Fate::Answered | Fate::Crash => {
                let carry_out = move |state: &mut Self| {
                    let done = work(state);
                    state.note(format_args!("carried out for {process}: {name}"));
                    let tell = move |_: &mut Self| drop(answer.send(Ok(done)));
                    let back = told - there;
                    state.after(back, Some(process), What::Do(Box::new(tell)));
                    if fate == Fate::Crash {
                        state.after(0, Some(process), What::Crash);
                    }
                };
                self.after(there, None, What::Do(Box::new(carry_out)));
            }
        }
    }
}

const fn fate_name(fate: Fate) -> &'static str {
    match fate {
        Fate::Answered => "answered",
        Fate::Refused => "refused",
        Fate::RequestLost => "request lost",
        Fate::AnswerLost => "answer lost",
        Fate::Late => "carried out late",
        Fate::Crash => "sender crashes",
    }
}

/// What has happened, in words, and as one number by which two runs are compared.
pub(crate) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

struct Hasher(u64);

impl Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    const fn new(keeps: bool) -> Self {
        let lines = if keeps { Some(Vec::new()) } else { None };
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            lines,
        }
    }

    fn note(&mut self, now: Millis, line: fmt::Arguments<'_>) {
        let mut hasher = Hasher(self.hash);
        write!(hasher, "{now} {line}").expect("a hash takes everything");
        self.hash = hasher.0;
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>8.3} s  {line}", millis_as_seconds(now)));
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn take(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }
}

fn millis_as_seconds(millis: Millis) -> f64 {
    std::time::Duration::from_millis(millis).as_secs_f64()
}
