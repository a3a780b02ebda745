//! From anything that users, faults and crashes can do, the machine comes to rest where the spec
//! wants it, and never breaks what must always hold.

use millstream_crds::stream_job::{DesiredState, RestorePolicy, UpgradeStrategy};
use proptest::prelude::*;

use super::world::World;
use crate::controller::validate::Faults;
use crate::runtime_client::RuntimeState;

#[derive(Debug, Clone)]
enum Act {
    /// Reconcile, dying after that many writes.
    Reconcile(usize),
    Tick(usize),
    Image(&'static str),
    Strategy(UpgradeStrategy),
    State(DesiredState),
    Scale(u32),
    Rollback(bool),
    Faulty,
    Silent(bool),
    Unhealthy(bool),
    SavepointsFail(bool),
    KillCoordinator,
    DeletePods,
    /// What is done comes so many ticks after the look.
    Lag(usize),
    Refuses(bool),
    Storage(&'static str),
    StopByHand,
    RunByHand,
    GoesOn(bool),
    ClockBehind(bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0_usize..5).prop_map(Act::Reconcile),
        8 => (1_usize..6).prop_map(Act::Tick),
        4 => prop::sample::select(vec![
            "good-1", "good-2", "good-3", "no-check", "no-image", "fails", "hangs",
        ])
        .prop_map(Act::Image),
        2 => prop::sample::select(vec![
            UpgradeStrategy::Savepoint,
            UpgradeStrategy::LastState,
            UpgradeStrategy::Stateless,
        ])
        .prop_map(Act::Strategy),
        2 => prop::sample::select(vec![DesiredState::Running, DesiredState::Suspended])
            .prop_map(Act::State),
        1 => (1_u32..5).prop_map(Act::Scale),
        1 => any::<bool>().prop_map(Act::Rollback),
        1 => Just(Act::Faulty),
        1 => any::<bool>().prop_map(Act::Silent),
        1 => any::<bool>().prop_map(Act::Unhealthy),
        1 => any::<bool>().prop_map(Act::SavepointsFail),
        1 => Just(Act::KillCoordinator),
        1 => Just(Act::DeletePods),
        1 => (0_usize..4).prop_map(Act::Lag),
        1 => any::<bool>().prop_map(Act::Refuses),
        1 => prop::sample::select(vec!["s3://bucket/jobs", "s3://other"]).prop_map(Act::Storage),
        1 => Just(Act::StopByHand),
        1 => Just(Act::RunByHand),
        1 => any::<bool>().prop_map(Act::GoesOn),
        1 => any::<bool>().prop_map(Act::ClockBehind),
    ]
}

fn perform(world: &mut World, act: &Act) {
    match act {
        Act::Reconcile(crash) => world.reconcile(*crash),
        Act::Tick(ticks) => world.run_for(*ticks),
        Act::Image(image) => world.edit(|spec| (*image).clone_into(&mut spec.image)),
        Act::Strategy(strategy) => world.edit(|spec| spec.upgrade.strategy = *strategy),
        Act::State(state) => world.edit(|spec| spec.state = *state),
        Act::Scale(parallelism) => world.edit(|spec| spec.parallelism = *parallelism),
        Act::Rollback(enabled) => world.edit(|spec| spec.upgrade.rollback.enabled = *enabled),
        Act::Faulty => {
            world.faulty = Some(Faults {
                lines: vec!["spec.x: bad".to_owned()],
            });
        }
        Act::Silent(silent) => world.silent = *silent,
        Act::Unhealthy(unhealthy) => world.unhealthy = *unhealthy,
        Act::SavepointsFail(fail) => world.savepoints_fail = *fail,
        Act::KillCoordinator => world.kill(),
        Act::Lag(ticks) => world.lag = *ticks,
        Act::Refuses(refuses) => world.refuses = *refuses,
        Act::Storage(storage) => {
            world.edit(|spec| (*storage).clone_into(&mut spec.checkpoint.storage));
        }
        Act::StopByHand => world.stop_by_hand(),
        Act::RunByHand => world.run_by_hand(),
        Act::GoesOn(goes_on) => world.goes_on = *goes_on,
        Act::ClockBehind(behind) => {
            world.clock_behind = jiff::SignedDuration::from_hours(i64::from(*behind));
        }
        Act::DeletePods => {
            world.applied = None;
            world.kill();
        }
    }
}

/// What must hold after every act.
fn check_always(world: &World, deployment_before: Option<i64>) {
    assert!(
        world.status.deployment >= deployment_before,
        "a deployment number went back"
    );
    assert!(
        world.is_exact(),
        "doubled {} lost {}",
        world.output.doubled,
        world.output.lost
    );
    assert!(
        world
            .starts
            .windows(2)
            .all(|pair| pair[0].deployment < pair[1].deployment),
        "a deployment claimed twice"
    );
    // What failed its check never takes the place of what runs.
    if let (Some(applied), Some(rejected)) = (&world.applied, &world.status.rejected) {
        let by_check = rejected.reason == "PreflightFailed";
        assert!(
            !by_check || applied.revision != rejected.revision,
            "a rejected revision runs"
        );
    }
    let size = serde_json::to_string(&world.status).unwrap().len();
    assert!(size < 32 * 1024, "the status has {size} bytes");
}

/// Faults that outlast a deadline.
fn hold_up(act: &Act) -> bool {
    matches!(
        act,
        Act::Refuses(true) | Act::Silent(true) | Act::Unhealthy(true) | Act::SavepointsFail(true)
    )
}

/// A person reads why what is asked for was given up though nothing is wrong with it, and does what
/// is said there.
fn act_on_rejection(world: &mut World, acts: &[Act]) {
    let is_good = world.spec.image.starts_with("good");
    let Some(rejected) = world.status.rejected.clone() else {
        return;
    };
    if rejected.reason == "StorageMoved" {
        let runs = world.status.revision.as_ref().expect("something runs on");
        let storage = world.revisions[runs].storage().to_owned();
        world.edit(|spec| spec.checkpoint.storage = storage);
    } else if is_good {
        assert_eq!(rejected.revision, world.wanted(), "nobody asks for it");
        assert!(acts.iter().any(hold_up), "{rejected:?}");
        let ended = rejected.message.contains("no end within");
        assert!(
            ended || rejected.reason != "PreflightFailed",
            "{rejected:?}"
        );
    } else {
        return;
    }
    world.edit(|spec| spec.restart_at = Some("2026-11-24T12:30:00Z".to_owned()));
    for _ in 0..3 {
        world.settle();
    }
    if is_good && world.status.rejected.is_some() {
        // Where nobody can know what has become of the state, a person says what it starts from.
        assert!(acts.iter().any(|act| matches!(act, Act::Storage(_))));
        world.edit(|spec| spec.restore.policy = RestorePolicy::Fresh);
        for _ in 0..3 {
            world.settle();
        }
    }
}

/// Where everything must be once nothing goes wrong any more.
fn check_rest(world: &World) {
    let status = &world.status;
    if world.spec.state == DesiredState::Suspended {
        assert!(
            world.applied.is_none() && status.upgrade.is_none(),
            "{status:#?}"
        );
        return;
    }
    let applied = world.applied.as_ref().expect("it should run");
    let wanted = world.wanted();
    if world.spec.image.starts_with("good") {
        assert_eq!(applied.revision, wanted, "{status:#?}");
        assert_eq!(world.state(), Some(RuntimeState::Running), "{status:#?}");
        assert_eq!(status.upgrade, None, "{status:#?}");
        assert_eq!(status.rejected, None, "{status:#?}");
        assert_eq!(
            applied.parallelism,
            i64::from(world.spec.parallelism),
            "{status:#?}"
        );
    } else {
        // It is left alone, or was never let in.
        let rejected = status.rejected.as_ref().map(|rejected| &rejected.revision);
        assert!(
            rejected == Some(&wanted) || applied.revision == wanted,
            "{status:#?}"
        );
    }
}

/// Performs all of it, lets everything get well, and looks where it comes to rest.
fn play(acts: &[Act]) {
    let mut world = World::new();
    for act in acts {
        let before = world.status.deployment;
        perform(&mut world, act);
        check_always(&world, before);
    }
    world.silent = false;
    world.unhealthy = false;
    world.savepoints_fail = false;
    world.faulty = None;
    world.refuses = false;
    world.lag = 0;
    for _ in 0..3 {
        world.settle();
    }
    act_on_rejection(&mut world, acts);
    check_always(&world, world.status.deployment);
    check_rest(&world);
    let rest = world.applied.clone();
    world.settle();
    assert_eq!(world.applied, rest, "it does not stay at rest");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_the_job_comes_to_rest_where_the_spec_wants_it(
        acts in prop::collection::vec(act(), 1..40)
    ) {
        play(&acts);
    }
}

/// What these runs have found before, to be read.
#[test]
fn sequences_that_went_wrong_once_go_right() {
    use Act::{
        DeletePods, Image, Lag, Reconcile, Refuses, RunByHand, Silent, Storage, Strategy, Tick,
    };
    // Two stateless changes, of which the first had not come to life.
    play(&[
        Lag(2),
        Tick(1),
        Strategy(UpgradeStrategy::Stateless),
        Image("hangs"),
        Tick(2),
        Image("good-1"),
        Tick(2),
        Reconcile(0),
        Reconcile(0),
    ]);
    // The check of a revision cannot be made until its deadline is over.
    play(&[
        Image("good-2"),
        Lag(2),
        Reconcile(3),
        Reconcile(0),
        Image("good-1"),
        Refuses(true),
        Reconcile(0),
        Tick(4),
        Reconcile(0),
        Tick(4),
    ]);
    // Run by hand while the job moves to another storage.
    play(&[
        Tick(1),
        Storage("s3://other"),
        Lag(1),
        Tick(1),
        Tick(4),
        Silent(true),
        Reconcile(0),
        DeletePods,
        RunByHand,
    ]);
}

/// The writes of each lifecycle are few: the operator may die after every one of them.
#[test]
fn an_operator_that_dies_after_any_write_of_any_lifecycle_converges() {
    let lifecycles: [fn(&mut World); 5] = [
        |world| world.edit(|spec| "good-2".clone_into(&mut spec.image)),
        |world| world.edit(|spec| "no-check".clone_into(&mut spec.image)),
        |world| world.edit(|spec| spec.parallelism = 3),
        |world| world.edit(|spec| spec.state = DesiredState::Suspended),
        |world| {
            world.edit(|spec| {
                spec.upgrade.rollback.enabled = true;
                "fails".clone_into(&mut spec.image);
            });
        },
    ];
    for (number, change) in lifecycles.iter().enumerate() {
        for dies_at in 0..30 {
            for writes in 0..4 {
                let mut world = World::running();
                change(&mut world);
                for round in 0..30 {
                    world.reconcile(if round == dies_at { writes } else { usize::MAX });
                    world.tick();
                }
                world.settle();
                check_always(&world, None);
                check_rest(&world);
                assert!(
                    world.starts.len() <= 2,
                    "lifecycle {number} died at {dies_at}/{writes}"
                );
            }
        }
    }
}
