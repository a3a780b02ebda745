//! One run: what happens, one thing after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_coordinator::{OUTGOING_CAPACITY, Outcome, Progress, WorkerConnection};
use millstream_types::api::{CheckpointSummary, StopRequest};
use millstream_types::{Bug, ErrorCode};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::mpsc;

use crate::audit::Audit;
use crate::coverage::Coverage;
use crate::network::{ConnectAnswer, WorkerEnd, pass_down};
use crate::process::{CoordinatorRole, Exit, Process, Role, Start};
use crate::random::Random;
use crate::scenario::{Fault, Kind, PATIENCE, Scenario};
use crate::world::{Happening, Millis, ProcessId, Service, State, What, World};

/// How often a process is given time of its own.
const TICK: Millis = 25;
/// How often somebody looks whether processes are missing.
const SUPERVISE: Millis = 250;

/// What came of a run.
pub(crate) struct Report {
    /// What has gone wrong; nothing, if all is well.
    pub(crate) violations: Vec<String>,
    pub(crate) hash: u64,
    pub(crate) trace: Vec<String>,
    pub(crate) coverage: Coverage,
    pub(crate) took: Millis,
}

struct Simulation {
    world: Arc<World>,
    scenario: Scenario,
    random: Random,
    processes: BTreeMap<ProcessId, Process>,
    next_process: u64,
    next_task: u64,
    parallelism: u32,
    /// Where workers find a coordinator.
    address: Option<ProcessId>,
    /// When there must be a new one.
    coordinator_due: Millis,
    savepoints: u32,
    audit: Audit,
    /// Output is lost, and the job has said so.
    has_lost: bool,
    is_done: bool,
}

/// Runs a scenario on this thread, with a bug if one is wanted.
pub(crate) fn run(scenario: Scenario, bug: Option<Bug>, keeps_trace: bool) -> Report {
    let world = World::new(&scenario, keeps_trace);
    Bug::seed(bug);
    let mut simulation = Simulation {
        random: Random::new(scenario.seed ^ 0x7171_7171),
        parallelism: scenario.parallelism[0],
        world,
        scenario,
        processes: BTreeMap::new(),
        next_process: 0,
        next_task: 0,
        address: None,
        coordinator_due: 0,
        savepoints: 0,
        audit: Audit::default(),
        has_lost: false,
        is_done: false,
    };
    simulation.run();
    let report = simulation.report();
    drop(simulation);
    Bug::seed(None);
    report
}

impl Simulation {
    fn run(&mut self) {
        let mut state = self.world.lock();
        for (number, fault) in self.scenario.faults.iter().enumerate() {
            state.at(fault.at, None, What::Fault(number));
        }
        state.at(self.scenario.healed_at, None, What::Heal);
        state.at(0, None, What::Supervise);
        drop(state);
        loop {
            let mut state = self.world.lock();
            if self.is_done || !state.violations.is_empty() {
                return;
            }
            let Some(happening) = state.take_next() else {
                return;
            };
            drop(state);
            self.happen(happening);
        }
    }

    fn happen(&mut self, Happening { process, what }: Happening) {
        if let Some(id) = process {
            let Some(process) = self.processes.get_mut(&id) else {
                return;
            };
            if let Some(held) = &mut process.held
                && !matches!(what, What::Thaw | What::Crash)
            {
                let process = Some(id);
                held.push(Happening { process, what });
                return;
            }
        }
        match (what, process) {
            (What::Do(work), _) => work(&mut self.world.lock()),
            (What::Run, Some(id)) => self.world.lock().after(TICK, Some(id), What::Run),
            (What::Step(task), Some(id)) => self.step(id, task),
            (What::Connect(answer), Some(id)) => self.connect(id, answer),
            (What::Thaw, Some(id)) => self.thaw(id),
            (What::Crash, Some(id)) => self.crash(id),
            (What::Fault(number), _) => {
                if let Some(fault) = self.scenario.faults.get(number).copied() {
                    self.apply(fault);
                }
            }
            (What::Supervise, _) => self.supervise(),
            (What::Heal, _) => self.heal(),
            (What::Run | What::Step(_) | What::Connect(_) | What::Thaw | What::Crash, None) => {}
        }
        if let Some(id) = process {
            self.go_on(id);
        }
    }

    /// Lets a process do what it can, and takes note of what has become of it.
    fn go_on(&mut self, id: ProcessId) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        process.run(&self.world);
        let tasks = process.new_tasks(&mut self.next_task);
        let mut state = self.world.lock();
        for task in tasks {
            let delay = self.random.between(1, 30);
            state.after(delay, Some(id), What::Step(task));
        }
        if let Role::Coordinator(role) = &mut process.role {
            take_news(role, &mut state);
        }
        let exit = process.exit();
        drop(state);
        match exit {
            Some(Exit::Coordinator(outcome)) => self.ended(id, outcome),
            Some(Exit::Worker(ended)) => {
                let mut state = self.world.lock();
                state.note(format_args!("{id} ends: {ended:?}"));
                drop(state);
                self.remove(id);
            }
            None => {}
        }
    }

    fn step(&mut self, id: ProcessId, task: u64) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        if process.step(task) {
            let is_slow = self.random.chance(self.scenario.slow_steps);
            let delay = self.random.between(2, if is_slow { 600 } else { 30 });
            self.world.lock().after(delay, Some(id), What::Step(task));
        }
    }

    fn ended(&mut self, id: ProcessId, outcome: Outcome) {
        let mut state = self.world.lock();
        state.note(format_args!("coordinator {id} ends: {outcome:?}"));
        match outcome {
            Outcome::Completed => {
                state.coverage.reached("outcome: completed");
                self.is_done = true;
            }
            Outcome::Stopped { savepoint } => {
                state.coverage.reached(if savepoint.is_some() {
                    "outcome: stopped with a savepoint"
                } else {
                    "outcome: stopped"
                });
                self.audit.look(&self.scenario, &mut state);
                // Stopped before the end, somebody starts it again.
                self.is_done =
                    !self.scenario.is_bounded && self.audit.is_complete(&self.scenario, &state);
            }
            Outcome::Fenced(_) => state.coverage.reached("outcome: fenced"),
            Outcome::Failed(failure)
                if failure.code == ErrorCode::KafkaTransactionLost
                    && state.broker.timed_out > 0 =>
            {
                state
                    .coverage
                    .reached("outcome: failed, output is lost and said to be");
                self.has_lost = true;
                self.is_done = true;
            }
            Outcome::Failed(failure) => {
                state
                    .violations
                    .push(format!("the job has failed: {failure}"));
            }
            Outcome::Interrupted => state.violations.push("nobody interrupts".to_owned()),
        }
        drop(state);
        self.remove(id);
    }

    fn remove(&mut self, id: ProcessId) {
        let Some(process) = self.processes.remove(&id) else {
            return;
        };
        drop(process);
        let mut state = self.world.lock();
        state.gone(id);
        if self.address == Some(id) {
            self.address = None;
            let is_healed = state.is_healed;
            let delay = self.random.between(20, if is_healed { 300 } else { 1_500 });
            self.coordinator_due = state.now + delay;
        }
    }

    fn crash(&mut self, id: ProcessId) {
        if let Some(process) = self.processes.get(&id) {
            let mut state = self.world.lock();
            state.note(format_args!("{id} crashes"));
            state.coverage.fault(if process.is_coordinator() {
                "coordinator crashes"
            } else {
                "worker crashes"
            });
        }
        self.remove(id);
    }

    fn start(&mut self) -> Start<'_> {
        self.next_process += 1;
        let id = ProcessId(self.next_process);
        let skew = self.random.below(self.scenario.skew + 1);
        self.world.lock().at(0, Some(id), What::Run);
        Start {
            world: &self.world,
            scenario: &self.scenario,
            id,
            skew,
        }
    }

    fn start_coordinator(&mut self) {
        let parallelism = self.parallelism;
        let process = self.start().coordinator(parallelism);
        let id = process.id;
        let mut state = self.world.lock();
        state.note(format_args!(
            "coordinator {id} starts, parallelism {parallelism}"
        ));
        drop(state);
        self.address = Some(id);
        self.processes.insert(id, process);
    }

    fn start_worker(&mut self) {
        let process = self.start().worker();
        let id = process.id;
        self.world.lock().note(format_args!("worker {id} starts"));
        self.processes.insert(id, process);
    }

    fn connect(&mut self, worker: ProcessId, answer: ConnectAnswer) {
        let coordinator = self.address.and_then(|id| self.processes.get(&id));
        let Some((process, Role::Coordinator(role))) = coordinator.map(|it| (it, &it.role)) else {
            drop(answer.send(None));
            return;
        };
        let (outgoing, said) = mpsc::channel(OUTGOING_CAPACITY);
        let (to_coordinator, incoming) = mpsc::channel(256);
        let (to_worker, received) = mpsc::channel(256);
        let connection = WorkerConnection { outgoing, incoming };
        if role.workers.try_send(connection).is_err() {
            drop(answer.send(None));
            return;
        }
        let mut state = self.world.lock();
        let link = state.link((worker, process.id), to_worker, to_coordinator);
        drop(state);
        process.spawn(pass_down(Arc::clone(&self.world), link, said));
        let incoming = received;
        drop(answer.send(Some(WorkerEnd { link, incoming })));
        let coordinator = process.id;
        self.world.lock().after(0, Some(coordinator), What::Run);
    }

    fn workers(&self) -> Vec<ProcessId> {
        let workers = self.processes.values();
        let workers = workers.filter(|process| !process.is_coordinator() && !process.is_frozen());
        workers.map(|process| process.id).collect()
    }

    fn coordinator(&self) -> Option<(&Process, &CoordinatorRole)> {
        let process = self.processes.get(&self.address?)?;
        match &process.role {
            Role::Coordinator(role) => Some((process, role)),
            Role::Worker(_) => None,
        }
    }

    fn freeze(&mut self, id: ProcessId, lasts: Millis) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let mut state = self.world.lock();
        state.note(format_args!("{id} freezes for {lasts} ms"));
        state.coverage.fault(if process.is_coordinator() {
            "coordinator freezes"
        } else {
            "worker freezes"
        });
        if process.held.is_none() {
            process.held = Some(Vec::new());
            state.after(lasts, Some(id), What::Thaw);
        }
    }

    fn thaw(&mut self, id: ProcessId) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let Some(held) = process.held.take() else {
            return;
        };
        process.wake_up(&self.world);
        let mut state = self.world.lock();
        state.note(format_args!("{id} goes on"));
        for Happening { process, what } in held {
            state.after(0, process, what);
        }
    }

    fn apply(&mut self, fault: Fault) {
        let worker = {
            let workers = self.workers();
            let mut pick = Random::new(fault.pick);
            pick.pick(&workers)
        };
        let coordinator = self.address;
        match fault.kind {
            Kind::CrashCoordinator => self.crash_if(coordinator),
            Kind::CrashWorker => self.crash_if(worker),
            Kind::FreezeCoordinator => {
                if let Some(id) = coordinator {
                    self.freeze(id, fault.lasts);
                    if !fault.pick.is_multiple_of(3) {
                        // Somebody takes it for dead.
                        self.world.lock().cut(id, true);
                        self.address = None;
                        self.coordinator_due = self.world.lock().now + fault.pick % 700;
                    }
                }
            }
            Kind::FreezeWorker => {
                if let Some(id) = worker {
                    self.freeze(id, fault.lasts);
                }
            }
            Kind::Rescale => {
                self.world.lock().coverage.fault("rescale");
                self.parallelism = self.scenario.parallelism[1];
                self.crash_if(coordinator);
            }
            Kind::SecondCoordinator => {
                self.world.lock().coverage.fault("second coordinator");
                self.start_coordinator();
            }
            Kind::Leave => {
                if let Some(process) = worker.and_then(|id| self.processes.get(&id))
                    && let Role::Worker(role) = &process.role
                {
                    self.world.lock().coverage.fault("worker leaves");
                    role.departure.leave.cancel();
                }
            }
            Kind::Savepoint => self.savepoint(),
            Kind::StopWithSavepoint => self.stop(true),
            _ => self.apply_outside(fault, worker),
        }
    }

    fn apply_outside(&self, fault: Fault, worker: Option<ProcessId>) {
        let mut state = self.world.lock();
        state.note(format_args!("{:?} for {} ms", fault.kind, fault.lasts));
        state.coverage.fault(&format!("{:?}", fault.kind));
        let lasts = fault.lasts;
        match (fault.kind, worker) {
            (Kind::CutWorker, Some(id)) => state.cut(id, false),
            (Kind::HalfCutWorker, Some(id)) => state.cut(id, true),
            (Kind::WorkerApart, Some(id)) => state.set_apart(id, lasts),
            (Kind::CoordinatorApart, _) => {
                if let Some(id) = self.address {
                    state.set_apart(id, lasts);
                }
            }
            (Kind::StoreDown, _) => state.take_down(Service::Store, lasts),
            (Kind::StoreSlow, _) => state.slow_down(Service::Store, lasts),
            (Kind::BrokerDown | Kind::BrokerAway, _) => state.take_down(Service::Broker, lasts),
            (Kind::BrokerSlow, _) => state.slow_down(Service::Broker, lasts),
            _ => {}
        }
    }

    fn crash_if(&mut self, id: Option<ProcessId>) {
        if let Some(id) = id {
            self.crash(id);
        }
    }

    fn savepoint(&mut self) {
        self.savepoints += 1;
        let name = format!("savepoint-{}", self.savepoints);
        let Some((process, role)) = self.coordinator() else {
            return;
        };
        self.world.lock().coverage.fault("savepoint asked for");
        let handle = role.handle.clone();
        // Whatever the answer: it is asked for, and no more.
        process.spawn(async move { drop(handle.savepoint(&name).await) });
    }

    fn stop(&mut self, with_savepoint: bool) {
        self.savepoints += 1;
        let name = format!("savepoint-{}", self.savepoints);
        let Some((process, role)) = self.coordinator() else {
            return;
        };
        self.world.lock().coverage.fault("stop asked for");
        let handle = role.handle.clone();
        let request = StopRequest {
            savepoint: with_savepoint.then_some(name),
            drain: false,
        };
        process.spawn(async move { drop(handle.stop(request).await) });
    }

    fn heal(&mut self) {
        let mut state = self.world.lock();
        state.note(format_args!("faults are over"));
        state.heal();
        drop(state);
        let frozen: Vec<ProcessId> = self
            .processes
            .values()
            .filter(|process| process.is_frozen())
            .map(|process| process.id)
            .collect();
        for id in frozen {
            self.thaw(id);
        }
    }

    fn supervise(&mut self) {
        let mut state = self.world.lock();
        let now = state.now;
        state.after(SUPERVISE, None, What::Supervise);
        state.broker.expire(now);
        self.audit.look(&self.scenario, &mut state);
        if now > self.scenario.healed_at + PATIENCE {
            let fault = format!(
                "the job is not done {PATIENCE} ms after faults were over; {} records are seen",
                self.audit.total(&self.scenario)
            );
            state.violations.push(fault);
        }
        if state.broker.timed_out > 0 && !self.scenario.may_time_out() {
            let fault = "readers waited for a transaction that nobody had ended until its timeout";
            state.violations.push(fault.to_owned());
        }
        let is_complete = self.audit.is_complete(&self.scenario, &state);
        let is_to_stop = state.is_healed && !self.scenario.is_bounded && is_complete;
        drop(state);
        if self.address.is_none() && now >= self.coordinator_due {
            self.start_coordinator();
        }
        let workers = usize::try_from(self.scenario.workers).unwrap_or(usize::MAX);
        let count = if self.scenario.is_in_one_worker() {
            // Its tasks must all be in one worker, so that a frozen one is not replaced.
            self.processes
                .values()
                .filter(|it| !it.is_coordinator())
                .count()
        } else {
            self.workers().len()
        };
        if count < workers {
            self.start_worker();
        }
        if is_to_stop && now.is_multiple_of(1_000) {
            self.stop(false);
        }
    }

    fn report(&mut self) -> Report {
        let mut state = self.world.lock();
        self.audit.look(&self.scenario, &mut state);
        let mut violations = std::mem::take(&mut state.violations);
        drop(state);
        if violations.is_empty() && !self.has_lost {
            violations = self.audit.close(&self.scenario, &self.world);
        }
        let mut state = self.world.lock();
        if state.broker.timed_out > 0 {
            state
                .coverage
                .reached("broker: a transaction is open for too long");
        }
        Report {
            violations,
            hash: state.trace.hash(),
            trace: state.trace.take(),
            coverage: state.coverage.clone(),
            took: state.now,
        }
    }
}

fn kind_of(summary: &CheckpointSummary) -> String {
    let kind = summary.kind.known();
    kind.map_or_else(String::new, |kind| format!("{kind:?}"))
}

fn take_news(role: &mut CoordinatorRole, state: &mut State) {
    loop {
        let news = match role.news.try_recv() {
            Ok(news) => news,
            Err(TryRecvError::Lagged(_)) => continue,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        };
        match news {
            Progress::State {
                state: now,
                attempt,
            } => {
                state.note(format_args!("the job is {now:?} in attempt {attempt}"));
                state.coverage.reached(&format!("state: {now:?}"));
            }
            Progress::Completed(summary) => {
                let kind = kind_of(&summary);
                state.note(format_args!("{kind} {} is complete", summary.id));
                state.coverage.reached(&format!("complete: {kind}"));
                if summary.in_flight_size.is_some() {
                    state.coverage.reached("complete with records in flight");
                }
            }
            Progress::Failed(summary) => {
                let kind = kind_of(&summary);
                state.note(format_args!("{kind} {} has failed", summary.id));
                state.coverage.reached(&format!("failed: {kind}"));
            }
            Progress::Restarting { failure, .. } => {
                state.note(format_args!("restarts: {failure}"));
                state
                    .coverage
                    .reached(&format!("restart: {:?}", failure.code));
            }
            Progress::GaveUp(given_up) => {
                state.note(format_args!("goes back from {}", given_up.checkpoint));
                state.coverage.reached("goes back a checkpoint");
            }
            Progress::WorkerJoined { .. } | Progress::WorkerLeft { .. } => {}
        }
    }
}
