//! A16: the operator is killed before and after every write that it makes to the API.
//!
//! Its way to the API leads through a proxy that tells writes apart by what they do. Two clean runs
//! of a scenario say which ones it always makes; then it is played again for each of them and each
//! side. A write before which the operator dies is never made; of one after which it dies, it never
//! sees the answer. It is started again at once, and everything must converge: the same objects with
//! the same contents, the same standing. All runs of a job are one life of its records, and they are
//! audited at its end.
//!
//! Not counted: renewals of the lease, and events, which no decision depends on.

mod objects;
mod writes;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use millstream_tests::kubernetes::api::Patch;
use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::manifest::Manifest;
use millstream_tests::kubernetes::operator::{Operator, account};
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds};
use millstream_tests::proxy::{Action, Proxy};
use millstream_tests::server::Server;
use millstream_tests::wait::{pause, poll_until};
use serde_json::{Value, json};

use crate::savepoints::savepoint;
use crate::shared;
use crate::upgrade::unschedulable;
use objects::{difference, objects};
use writes::{Killer, Side, Write, in_both};

/// How often a write is looked for that was made in both clean runs.
const RUNS_PER_KILL: usize = 3;

/// A stage whose operator can be killed at a write.
struct Theatre {
    stage: Stage,
    proxy: Proxy,
    _gate: Server,
    kills: usize,
    runs: usize,
}

/// What one run showed.
struct Run {
    writes: Vec<Write>,
    killed: bool,
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
    /// again.
    fn run(&mut self, at: Option<(Write, Side)>, act: Act<'_>) -> Run {
        self.runs += 1;
        let killer = Arc::new(Killer::default());
        *killer.victim.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(self.stage.operator.pid());
        let judge = Arc::clone(&killer);
        let named = at.as_ref().map(|(write, side)| format!("{side:?} {write}"));
        self.proxy
            .set_rule(move |request| judge.judge(request, at.as_ref()));
        (act.change)(&self.stage);
        let started = Instant::now();
        while !(act.is_done)(&self.stage) {
            self.stage.operator.tend();
            assert!(
                started.elapsed() < DEADLINE,
                "killed {named:?}, it does not converge:\n{}\nwrites:\n{}\n{}",
                self.stage.describe("orders"),
                lines(&killer.writes()),
                self.stage.operator.output()
            );
            pause(Duration::from_millis(100));
        }
        self.proxy.set_rule(|_| Action::Forward);
        // It may have died at a write after the end that was waited for.
        self.stage.operator.tend();
        self.stage.operator.wait_until_ready();
        self.kills += usize::from(killer.has_killed());
        Run {
            writes: killer.writes(),
            killed: killer.has_killed(),
        }
    }

    /// Waits until the objects are as expected.
    #[track_caller]
    fn expect(&self, expected: &Objects, what: &str) {
        let same = poll_until(DEADLINE, || {
            self.stage.operator.tend();
            (objects(&self.stage) == *expected).then_some(())
        });
        assert!(
            same.is_some(),
            "{what}, other objects than without a kill:\n{}\n{}",
            difference(expected, &objects(&self.stage)),
            self.stage.describe("orders")
        );
    }

    /// Two clean runs there and back: what is always written, and what comes of it.
    fn rehearse(&mut self, name: &str, change: Act<'_>, undo: Act<'_>) -> [Plan; 2] {
        let first = [change, undo].map(|act| {
            let run = self.run(None, act);
            // Let what the end was waited for settle.
            let mut seen = objects(&self.stage);
            let settled = poll_until(DEADLINE, || {
                pause(Duration::from_secs(1));
                let now = objects(&self.stage);
                let same = now == seen;
                seen = now;
                same.then_some(())
            });
            assert!(settled.is_some(), "{name}: objects change without an end");
            (run.writes, seen)
        });
        let again = [change, undo].map(|act| self.run(None, act).writes);
        let mut again = again.into_iter();
        first.map(|(writes, objects)| {
            let again = again.next().unwrap_or_default();
            let always = in_both(&writes, &again);
            println!("a16 {name}: always\n{}", lines(&always));
            assert!(!always.is_empty(), "a change makes the operator write");
            Plan { always, objects }
        })
    }
}

type Objects = std::collections::BTreeMap<String, Value>;

/// What is always written on a way, and what is there at its end.
struct Plan {
    always: Vec<Write>,
    objects: Objects,
}

fn lines(writes: &[Write]) -> String {
    let lines: Vec<String> = writes.iter().map(|write| format!("  {write}")).collect();
    lines.join("\n")
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
    job(stage).is_none() && stage.pod_uids("orders").is_empty()
}

/// Plays a change and its undoing without a kill, and then once for every write and side. The way
/// back is played under kills, too.
fn at_every_write(theatre: &mut Theatre, name: &str, kind: Kind, change: Act<'_>, undo: Act<'_>) {
    let [there, back] = theatre.rehearse(name, change, undo);
    // The same kind of change there and back needs each side of a write only once.
    let sides: &[[Side; 2]] = match kind {
        Kind::Alike => &[[Side::Before, Side::After]],
        Kind::Different => &[[Side::Before; 2], [Side::After; 2]],
    };
    let kills = theatre.kills;
    let mut missed = Vec::new();
    for [side, undo_side] in sides {
        // Kills still to come, of either way.
        let mut ways = [
            (change, &there, *side, there.always.clone()),
            (undo, &back, *undo_side, back.always.clone()),
        ];
        let mut tries = [0; 2];
        while ways.iter().any(|(.., left)| !left.is_empty()) {
            for ((act, plan, side, left), tries) in ways.iter_mut().zip(&mut tries) {
                let at = left.first().map(|write| (write.clone(), *side));
                let what = at.as_ref().map_or_else(
                    || format!("{name}, not killed"),
                    |(write, side)| format!("{name}, killed {side:?} {write}"),
                );
                let run = theatre.run(at, *act);
                theatre.expect(&plan.objects, &what);
                *tries += 1;
                if run.killed || *tries >= RUNS_PER_KILL {
                    if !run.killed && !left.is_empty() {
                        missed.push(what);
                    }
                    *tries = 0;
                    left.drain(..left.len().min(1));
                }
            }
        }
    }
    println!(
        "a16 {name}: {} writes there and {} back, {} kills in {} runs",
        there.always.len(),
        back.always.len(),
        theatre.kills - kills,
        theatre.runs
    );
    assert!(missed.is_empty(), "nobody died: {missed:#?}");
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
    // The first one starts from nothing, all others from what it has left.
    theatre.run(None, there);
    theatre.run(None, back);
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
fn a16_a_refused_and_an_approved_change_converge_wherever_the_operator_dies() {
    let _shared = shared();
    let (mut theatre, flow) = with_a_job("a16-checked");
    let sql = |stage: &Stage, column: &str| {
        let sql = format!("SELECT * FROM orders WHERE {column} > 0");
        let mut transforms = theatre_transforms(stage);
        transforms[0]["sql"] = json!(sql);
        spec(stage, &json!({"dataflow": {"transforms": transforms}}));
    };
    let good = quick(&theatre.stage);
    let refuse = |stage: &Stage| sql(stage, "amount");
    let is_refused = |stage: &Stage| {
        job(stage).is_some_and(|job| {
            holds(&job, "Stalled", "True") && !job["status"]["rejected"].is_null()
        })
    };
    let correct = |stage: &Stage| stage.apply(&good);
    let there = Act {
        change: &refuse,
        is_done: &is_refused,
    };
    let back = Act {
        change: &correct,
        is_done: &is_ready,
    };
    at_every_write(&mut theatre, "refusal", Kind::Different, there, back);

    let approve = |number: i64| {
        move |stage: &Stage| {
            let manual = json!({"approval": "Manual"});
            spec(
                stage,
                &json!({"upgrade": manual, "checkpoint": {"retained": number}}),
            );
        }
    };
    let (up, down) = (approve(5), approve(4));
    let there = Act {
        change: &up,
        is_done: &is_approved,
    };
    let back = Act {
        change: &down,
        is_done: &is_approved,
    };
    theatre.run(None, back);
    at_every_write(&mut theatre, "approval", Kind::Alike, there, back);
    theatre.stage.finish(flow, "orders");
}

fn theatre_transforms(stage: &Stage) -> Value {
    stage.job("orders")["spec"]["dataflow"]["transforms"].clone()
}

/// Approves what waits for it; whether everything has been brought in.
fn is_approved(stage: &Stage) -> bool {
    let Some(job) = job(stage) else { return false };
    if job["status"]["upgrade"]["step"] == json!("WaitingForApproval") {
        let wanted = &job["status"]["upgrade"]["approval"];
        let annotation = json!({"metadata": {"annotations": {"millstream.dev/approve": wanted}}});
        // The operator may have written it meanwhile; then it is looked at again.
        drop(
            stage
                .api()
                .patch(&stage.job_path("orders"), Patch::Merge, &annotation),
        );
        return false;
    }
    is_ready(stage)
}

#[test]
fn a16_a_rollback_converges_wherever_the_operator_dies() {
    let _shared = shared();
    let (mut theatre, flow) = with_a_job("a16-rollback");
    let good = quick(&theatre.stage);
    // Time for the check; the pods never get a node.
    let upgrade = json!({"progressDeadline": "20s", "rollback": {"enabled": true}});
    let bad = unschedulable(good.clone()).set("/spec/upgrade", upgrade);
    let fail = |stage: &Stage| stage.apply(&bad);
    let is_rolled_back = |stage: &Stage| {
        job(stage).is_some_and(|job| {
            holds(&job, "RolledBack", "True")
                && holds(&job, "Ready", "True")
                && job["status"]["upgrade"].is_null()
        })
    };
    let correct = |stage: &Stage| stage.apply(&good);
    let there = Act {
        change: &fail,
        is_done: &is_rolled_back,
    };
    let back = Act {
        change: &correct,
        is_done: &is_ready,
    };
    at_every_write(&mut theatre, "rollback", Kind::Different, there, back);
    theatre.stage.finish(flow, "orders");
}

#[test]
fn a16_completion_and_the_deletion_of_checkpoints_converge_wherever_the_operator_dies() {
    let _shared = shared();
    let mut theatre = Theatre::new("a16-complete");
    let bounded = theatre
        .stage
        .generated("orders", Some(500))
        .set("/spec/deletion", json!({"policy": "DeleteCheckpoints"}));
    let apply = |stage: &Stage| stage.apply(&bounded);
    let is_complete = |stage: &Stage| {
        job(stage).is_some_and(|job| holds(&job, "Completed", "True"))
            && stage.pod_uids("orders").is_empty()
    };
    let delete = |stage: &Stage| {
        stage.api().delete(&stage.job_path("orders"));
    };
    let there = Act {
        change: &apply,
        is_done: &is_complete,
    };
    let back = Act {
        change: &delete,
        is_done: &is_gone,
    };
    at_every_write(&mut theatre, "completion", Kind::Different, there, back);
    let left = theatre.stage.stored("orders");
    let of_checkpoints = |key: &&String| key.contains("/data/");
    assert_eq!(left.iter().filter(of_checkpoints).count(), 0, "{left:?}");
}

#[test]
fn a16_a_savepoint_that_comes_and_goes_converges_wherever_the_operator_dies() {
    let _shared = shared();
    let mut theatre = Theatre::new("a16-savepoint");
    let manifest = theatre.stage.generated("orders", None);
    theatre.run(
        None,
        Act {
            change: &|stage| stage.apply(&manifest),
            is_done: &is_ready,
        },
    );
    let object = savepoint("sp", "orders", &json!({"retain": false}));
    let take = |stage: &Stage| {
        stage.kubectl().apply(&object).expect_success();
    };
    let found = |stage: &Stage| stage.api().get(&stage.savepoint_path("sp"));
    let is_taken = |stage: &Stage| {
        found(stage).is_some_and(|found| found["status"]["state"] == json!("Completed"))
    };
    let delete = |stage: &Stage| {
        stage.api().delete(&stage.savepoint_path("sp"));
    };
    let is_disposed = |stage: &Stage| found(stage).is_none();
    let there = Act {
        change: &take,
        is_done: &is_taken,
    };
    let back = Act {
        change: &delete,
        is_done: &is_disposed,
    };
    at_every_write(&mut theatre, "savepoint", Kind::Different, there, back);
    let left = theatre.stage.stored("orders");
    let saved = |key: &&String| key.contains("/savepoints/");
    assert_eq!(left.iter().filter(saved).count(), 0, "{left:?}");
}
