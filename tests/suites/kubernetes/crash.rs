//! A16: the operator is killed before and after every write that it makes to the API.
//!
//! Its way to the API leads through a proxy that counts writes. A clean run says how many a
//! scenario makes; then the scenario is run again for each of them and each side. A write before
//! which the operator dies is never made; of one after which it dies, it never sees the answer.
//! It is started again at once, and everything must converge: the same objects, the same end. All
//! runs of a job are one life of its records, and they are audited at its end.
//!
//! Not counted: renewals of the lease, and events, which no decision depends on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::manifest::Manifest;
use millstream_tests::kubernetes::operator::{Operator, account};
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds, text};
use millstream_tests::proxy::{Action, Hook, Proxy, Request};
use millstream_tests::server::Server;
use millstream_tests::wait::pause;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::shared;

/// On which side of a write the operator dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// What the proxy does: counts, and kills at one write.
#[derive(Debug, Default)]
struct Killer {
    writes: AtomicUsize,
    log: Mutex<Vec<String>>,
    victim: Mutex<Option<i32>>,
    died: AtomicBool,
}

impl Killer {
    /// What to do with a request, given the write to kill at.
    fn judge(self: &Arc<Self>, request: &Request, at: Option<(usize, Side)>) -> Action {
        if !is_write(request) {
            return Action::Forward;
        }
        let number = self.writes.fetch_add(1, Ordering::SeqCst);
        let line = format!("{} {}", request.method, request.place());
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
        let killer = Arc::clone(self);
        let hook: Hook = Box::new(move || killer.kill());
        match at {
            Some((at, Side::Before)) if at == number => Action::CutBefore(hook),
            Some((at, Side::After)) if at == number => Action::CutAfter(hook),
            _ => Action::Forward,
        }
    }

    fn kill(&self) {
        let victim = *self.victim.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = victim.and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _gone = kill_process(pid, Signal::KILL);
        }
        self.died.store(true, Ordering::SeqCst);
    }

    fn writes(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn is_write(request: &Request) -> bool {
    let place = request.place();
    request.method != "GET" && !place.contains("/leases") && !place.contains("/events")
}

/// A stage whose operator can be killed at a write.
struct Theatre {
    stage: Stage,
    proxy: Proxy,
    _gate: Server,
    kills: usize,
    runs: usize,
}

impl Theatre {
    fn new(name: &str) -> Self {
        let mut parts = None;
        let stage = Stage::with_operator(name, |cluster, namespace, scratch| {
            let (gate, address) = cluster.gate(Some(&account(cluster, namespace)));
            let proxy = Proxy::start("127.0.0.1", &address);
            let address = proxy.address();
            parts = Some((gate, proxy));
            Operator::prepare(&address, &[namespace], scratch.path(), "operator")
        });
        let (gate, proxy) = parts.expect("the operator was prepared");
        let theatre = Self {
            stage,
            proxy,
            _gate: gate,
            kills: 0,
            runs: 0,
        };
        theatre.stage.operator.run();
        theatre.stage.operator.wait_until_ready();
        theatre
    }

    /// Makes a change and waits for its end, while the operator is killed at one write and started
    /// again; the writes that were made.
    fn run(&mut self, at: Option<(usize, Side)>, act: Act<'_>) -> Vec<String> {
        self.runs += 1;
        let killer = Arc::new(Killer::default());
        *killer.victim.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(self.stage.operator.pid());
        let judge = Arc::clone(&killer);
        self.proxy.set_rule(move |request| judge.judge(request, at));
        (act.change)(&self.stage);
        let started = Instant::now();
        while !(act.is_done)(&self.stage) {
            self.kills += usize::from(killer.died.swap(false, Ordering::SeqCst));
            self.stage.operator.tend();
            assert!(
                started.elapsed() < DEADLINE,
                "killed {at:?}, it does not converge:\n{}\nwrites:\n{}\n{}",
                self.stage.describe("orders"),
                killer.writes().join("\n"),
                self.stage.operator.output()
            );
            pause(Duration::from_millis(100));
        }
        self.proxy.set_rule(|_| Action::Forward);
        // It may have died at a write after the end that was waited for.
        self.kills += usize::from(killer.died.load(Ordering::SeqCst));
        self.stage.operator.tend();
        self.stage.operator.wait_until_ready();
        killer.writes()
    }
}

/// Whether undoing a change is a change of the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Alike,
    Different,
}

/// A change, and when it has come to its end.
#[derive(Clone, Copy)]
struct Act<'a> {
    change: &'a dyn Fn(&Stage),
    is_done: &'a dyn Fn(&Stage) -> bool,
}

/// What must be alike after every run: names of objects without what is random in them, and what
/// they ask for.
fn objects(stage: &Stage) -> BTreeSet<String> {
    let kinds = [
        ("apis/apps/v1", "deployments"),
        ("api/v1", "services"),
        ("apis/policy/v1", "poddisruptionbudgets"),
        ("apis/networking.k8s.io/v1", "networkpolicies"),
    ];
    let mut found = BTreeSet::new();
    for (group, kind) in kinds {
        for object in stage.api().list(&stage.path(group, kind)) {
            let name = numberless(&text(&object["metadata"]["name"]));
            let replicas = &object["spec"]["replicas"];
            found.insert(format!("{kind}/{name} {replicas}"));
        }
    }
    found
}

/// A name without the number of the job's deployment at its end, which is another one in every run.
fn numberless(name: &str) -> String {
    match name.rsplit_once('-') {
        Some((rest, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{rest}-N")
        }
        _ => name.to_owned(),
    }
}

fn job(stage: &Stage) -> Option<Value> {
    stage.api().get(&stage.job_path("orders"))
}

fn is_ready(stage: &Stage) -> bool {
    job(stage).is_some_and(|job| {
        holds(&job, "Ready", "True")
            && !holds(&job, "Reconciling", "True")
            && job["status"]["upgrade"].is_null()
    })
}

fn is_suspended(stage: &Stage) -> bool {
    job(stage).is_some_and(|job| holds(&job, "Suspended", "True"))
        && stage.pod_uids("orders").is_empty()
}

fn is_gone(stage: &Stage) -> bool {
    job(stage).is_none() && objects(stage).is_empty() && stage.pod_uids("orders").is_empty()
}

/// Plays a change once without a kill, and then once for every write and side. `undo` is played
/// after each, also under kills, so that the change can be made again.
fn at_every_write(theatre: &mut Theatre, name: &str, kind: Kind, change: Act<'_>, undo: Act<'_>) {
    let there = theatre.run(None, change);
    let expected = objects(&theatre.stage);
    let back = theatre.run(None, undo);
    let undone = objects(&theatre.stage);
    println!(
        "a16 {name}: {} writes there, {} back",
        there.len(),
        back.len()
    );
    for line in there.iter().chain(&back) {
        println!("a16 {name}:   {line}");
    }
    assert!(!there.is_empty(), "a change makes the operator write");
    // The same kind of change there and back needs each side of a write only once.
    let sides: &[[Side; 2]] = match kind {
        Kind::Alike => &[[Side::Before, Side::After]],
        Kind::Different => &[[Side::Before; 2], [Side::After; 2]],
    };
    let mut number = 0;
    loop {
        let kills = theatre.kills;
        for [side, undo_side] in sides {
            theatre.run(Some((number, *side)), change);
            assert_eq!(
                objects(&theatre.stage),
                expected,
                "{name} {number} {side:?}"
            );
            theatre.run(Some((number, *undo_side)), undo);
            let found = objects(&theatre.stage);
            assert_eq!(found, undone, "{name} {number} {undo_side:?}, undone");
        }
        if theatre.kills == kills {
            // There is no write of this number, neither there nor back.
            break;
        }
        number += 1;
    }
    println!(
        "a16 {name}: {number} writes, {} kills in {} runs",
        theatre.kills, theatre.runs
    );
    // Some writes only tell of a moment that the next run may not see.
    let due = there.len().max(back.len()) / 2;
    assert!(number >= due, "the operator was killed at every write");
}

/// The order job with checkpoints in quick succession, so that a run takes seconds.
fn quick(stage: &Stage) -> Manifest {
    stage
        .orders()
        .set("/spec/checkpoint/interval", json!("300ms"))
}

fn spec(stage: &Stage, spec: &Value) {
    stage.change("orders", spec);
}

/// Changes the dataflow without changing what comes out.
fn upgrade(stage: &Stage, number: i64) {
    spec(stage, &json!({"checkpoint": {"retained": number}}));
}

#[test]
fn a16_apply_and_delete_converge_wherever_the_operator_dies() {
    let _shared = shared();
    let mut theatre = Theatre::new("a16-apply");
    let flow = Flow::start(&theatre.stage);
    let manifest = quick(&theatre.stage).set("/spec/deletion", json!({"policy": "Savepoint"}));
    let apply = |stage: &Stage| stage.apply(&manifest);
    let delete = |stage: &Stage| {
        stage.api().delete(&stage.job_path("orders"));
    };
    let there = Act {
        change: &apply,
        is_done: &is_ready,
    };
    let back = Act {
        change: &delete,
        is_done: &is_gone,
    };
    at_every_write(
        &mut theatre,
        "apply and delete",
        Kind::Different,
        there,
        back,
    );
    theatre.run(None, there);
    theatre.stage.finish(flow, "orders");
}

/// A stage on which a job is ready.
fn with_a_job(name: &str) -> (Theatre, Flow) {
    let mut theatre = Theatre::new(name);
    let flow = Flow::start(&theatre.stage);
    let manifest = quick(&theatre.stage);
    theatre.run(
        None,
        Act {
            change: &|stage| stage.apply(&manifest),
            is_done: &is_ready,
        },
    );
    (theatre, flow)
}

#[test]
fn a16_an_upgrade_by_savepoint_converges_wherever_the_operator_dies() {
    let _shared = shared();
    let (mut theatre, flow) = with_a_job("a16-upgrade");
    let there = Act {
        change: &|stage| upgrade(stage, 5),
        is_done: &is_ready,
    };
    let back = Act {
        change: &|stage| upgrade(stage, 4),
        is_done: &is_ready,
    };
    theatre.run(None, back);
    at_every_write(&mut theatre, "upgrade", Kind::Alike, there, back);
    theatre.stage.finish(flow, "orders");
}

#[test]
fn a16_a_rescale_converges_wherever_the_operator_dies() {
    let _shared = shared();
    let (mut theatre, flow) = with_a_job("a16-rescale");
    let scale =
        |parallelism: i64| move |stage: &Stage| spec(stage, &json!({"parallelism": parallelism}));
    let runs_with = |parallelism: i64| {
        move |stage: &Stage| {
            is_ready(stage)
                && job(stage).is_some_and(|job| job["status"]["parallelism"] == json!(parallelism))
        }
    };
    let (up, down) = (scale(3), scale(2));
    let (is_up, is_down) = (runs_with(3), runs_with(2));
    let there = Act {
        change: &up,
        is_done: &is_up,
    };
    let back = Act {
        change: &down,
        is_done: &is_down,
    };
    at_every_write(&mut theatre, "rescale", Kind::Alike, there, back);
    theatre.stage.finish(flow, "orders");
}

#[test]
fn a16_suspension_and_resumption_converge_wherever_the_operator_dies() {
    let _shared = shared();
    let (mut theatre, flow) = with_a_job("a16-suspend");
    let suspend = |stage: &Stage| spec(stage, &json!({"state": "Suspended"}));
    let resume = |stage: &Stage| spec(stage, &json!({"state": "Running"}));
    let there = Act {
        change: &suspend,
        is_done: &is_suspended,
    };
    let back = Act {
        change: &resume,
        is_done: &is_ready,
    };
    at_every_write(&mut theatre, "suspend", Kind::Different, there, back);
    theatre.stage.finish(flow, "orders");
}

#[test]
fn what_is_not_about_a_job_is_no_write_to_die_at() {
    let request = |method: &str, path: &str| Request {
        method: method.to_owned(),
        path: path.to_owned(),
        body: Vec::new(),
    };
    assert!(is_write(&request(
        "PATCH",
        "/apis/apps/v1/namespaces/n/deployments/d?force=true"
    )));
    assert!(is_write(&request(
        "DELETE",
        "/api/v1/namespaces/n/configmaps/c"
    )));
    assert!(!is_write(&request(
        "GET",
        "/api/v1/namespaces/n/pods?watch=true"
    )));
    assert!(!is_write(&request(
        "PUT",
        "/apis/coordination.k8s.io/v1/namespaces/n/leases/l"
    )));
    assert!(!is_write(&request(
        "POST",
        "/apis/events.k8s.io/v1/namespaces/n/events"
    )));
}
