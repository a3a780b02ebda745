//! Every order in which coordinators can meet at one chain.
//!
//! A world is a store, writes that are still on their way, and a few coordinators, each somewhere
//! in its claim or in its work. A step is one request to the store, or the late arrival of a
//! write. From the empty store all worlds that steps can reach are visited, with a budget of
//! faults: lost replies, late writes, late copies of writes, repeated writes, given-up writes, uploads
//! whose outcome is unknown and that arrive late, slots that cannot be read for a while. A
//! coordinator that makes no more steps is a crashed one; one that makes steps again after its
//! successor is a woken one. Listings are not atomic: what changes while one runs may or may not
//! be in it.
//!
//! The coordinators here decide by the very functions of [`protocol`](crate::protocol); only the
//! requests are played. Broken rules, one at a time, show that the checks bite.

mod coordinator;
mod files;
mod rules;
mod work;
mod world;

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use coordinator::Action;
use rules::Rules;
use world::{Event, World};

/// How much an exploration plays with.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// What each coordinator was started for.
    deployments: &'static [Option<u64>],
    /// Claims that each of them tries.
    bids: u8,
    faults: u8,
    /// Whether each of them is told what is believed to be the newest state.
    beliefs: bool,
    /// Checkpoints that stay when others are collected.
    retained: u32,
    /// Whether the first of them starts from the file of another chain.
    imports: bool,
    /// Whether slots of older checkpoints may be damaged, and repaired.
    damages: bool,
}

/// Coordinators that persons have started.
fn size(coordinators: usize, bids: u8, faults: u8) -> Size {
    let deployments = &[None; 3];
    deployed(deployments.get(..coordinators).unwrap(), bids, faults)
}

/// Coordinators that an operator has started, each for one of these deployments.
const fn deployed(deployments: &'static [Option<u64>], bids: u8, faults: u8) -> Size {
    Size {
        deployments,
        bids,
        faults,
        beliefs: false,
        retained: 1,
        imports: false,
        damages: false,
    }
}

/// The same, each told what its operator has seen as the newest checkpoint.
const fn told(deployments: &'static [Option<u64>], bids: u8, faults: u8) -> Size {
    Size {
        beliefs: true,
        ..deployed(deployments, bids, faults)
    }
}

/// What an exploration has seen.
struct Explored {
    worlds: usize,
    events: BTreeMap<Event, usize>,
    violation: Option<String>,
}

fn explore(of: Size, plan: &'static [Action], rules: Rules) -> Explored {
    let mut explored = Explored {
        worlds: 0,
        events: BTreeMap::new(),
        violation: None,
    };
    let mut seen = HashSet::new();
    let empty = World::new(of);
    let steps = empty.steps(plan, rules).into_iter();
    let mut path = vec![(Event::Step, empty, steps)];
    while let Some((_, _, steps)) = path.last_mut() {
        let Some((event, world)) = steps.next() else {
            path.pop();
            continue;
        };
        *explored.events.entry(event).or_default() += 1;
        if let Some(violation) = world.violation.clone() {
            let mut told = violation;
            let steps = path.iter().map(|(event, world, _)| (event, world));
            for (event, world) in steps.chain([(&event, &world)]) {
                told.extend(["\n", &format!("{event:?}: "), &world.brief()]);
            }
            explored.violation = Some(told);
            return explored;
        }
        if seen.insert(fingerprint(&world)) {
            explored.worlds += 1;
            let steps = world.steps(plan, rules).into_iter();
            path.push((event, world, steps));
        }
    }
    explored
}

/// 128 bits, so that two worlds are never taken for one.
fn fingerprint(world: &World) -> (u64, u64) {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        world.hash(&mut hasher);
        hasher.finish()
    };
    (half(1), half(2))
}

/// Explores and expects that no rule is violated and that all these events were met.
fn holds(of: Size, plan: &'static [Action], expected: &[Event]) {
    let explored = explore(of, plan, Rules::Ours);
    if let Some(violation) = explored.violation {
        panic!("{violation}");
    }
    for event in expected {
        assert!(
            explored.events.contains_key(event),
            "{event:?} never happened in {} worlds: {:?}",
            explored.worlds,
            explored.events
        );
    }
}

/// Explores with a broken rule and expects that it is found out.
fn bites(of: Size, plan: &'static [Action], rules: Rules) {
    let explored = explore(of, plan, rules);
    assert!(
        explored.violation.is_some(),
        "{} worlds and no violation",
        explored.worlds
    );
}

use Action::{Collect, Confirm, ConfirmOlder, Decide, Release};

#[test]
fn two_coordinators_with_two_faults_agree_on_every_decision() {
    holds(
        size(2, 2, 2),
        &[Decide, Confirm, Decide, Collect],
        &[
            Event::Decided,
            Event::Fenced,
            Event::LostReply,
            Event::LateWrite,
            Event::LateCopy,
            Event::GaveUp,
            Event::Settled,
            Event::Collected,
        ],
    );
}

#[test]
fn confirmations_of_older_checkpoints_at_the_end_of_the_chain_keep_it_closed() {
    holds(
        size(2, 2, 1),
        &[Decide, Decide, ConfirmOlder, Collect, Decide],
        &[Event::Decided, Event::Fenced, Event::Collected],
    );
}

#[test]
fn three_coordinators_agree_while_garbage_is_collected() {
    holds(
        size(3, 1, 1),
        &[Decide, Decide, Collect],
        &[
            Event::Decided,
            Event::Fenced,
            Event::Collected,
            Event::ClaimedAHole,
            Event::MarkedHole,
        ],
    );
}

#[test]
fn a_released_chain_is_claimed_like_any_other() {
    holds(
        size(2, 2, 2),
        &[Decide, Release],
        &[Event::Decided, Event::Fenced],
    );
}

#[test]
fn collecting_claims_would_let_a_deposed_coordinator_decide() {
    let rules = Rules::ClaimsAreCollected;
    bites(size(3, 2, 0), &[Decide, Decide, Collect], rules);
}

#[test]
fn collecting_the_end_of_the_chain_would_let_a_deposed_coordinator_decide() {
    let rules = Rules::TheEndIsCollected;
    bites(
        size(2, 2, 0),
        &[Decide, Decide, ConfirmOlder, Collect, Decide],
        rules,
    );
}

#[test]
fn replacing_an_unsettled_write_would_let_a_deposed_coordinator_decide() {
    let rules = Rules::UnsettledIsReplaced;
    bites(size(2, 2, 2), &[Decide, Decide, Collect], rules);
}

#[test]
fn taking_an_unknown_outcome_for_done_would_decide_what_nobody_restores() {
    let rules = Rules::UnknownIsBelieved;
    bites(size(2, 2, 1), &[Decide], rules);
}

#[test]
fn restoring_from_what_was_read_before_the_claim_would_forget_decisions() {
    let rules = Rules::NothingIsReadAfterTheClaim;
    bites(size(2, 2, 0), &[Decide, Decide, Collect], rules);
}

#[test]
fn deleting_without_a_mark_would_let_a_claim_fall_into_a_hole_unseen() {
    let rules = Rules::NothingIsMarked;
    bites(size(3, 2, 0), &[Decide, Decide, Collect], rules);
}

#[test]
fn a_restarted_coordinator_goes_on_and_one_of_an_older_deployment_never_takes_over() {
    holds(
        deployed(&[Some(1), Some(2)], 2, 2),
        &[Decide, Collect],
        &[Event::Decided, Event::Fenced, Event::Superseded],
    );
    holds(
        deployed(&[Some(1), Some(1), Some(2)], 1, 1),
        &[Decide],
        &[Event::Decided, Event::Fenced, Event::Superseded],
    );
}

#[test]
fn a_deployment_that_has_ended_is_not_run_on_by_its_other_coordinators() {
    holds(
        deployed(&[Some(1), Some(1)], 2, 2),
        &[Decide, Release],
        &[Event::Decided, Event::Fenced, Event::FoundOver],
    );
}

#[test]
fn ignoring_deployments_would_let_an_older_one_take_over() {
    let rules = Rules::DeploymentsAreIgnored;
    bites(deployed(&[Some(1), Some(2)], 2, 0), &[Decide], rules);
}

#[test]
fn ignoring_the_end_of_a_deployment_would_run_it_on() {
    let rules = Rules::EndsAreIgnored;
    bites(
        deployed(&[Some(1), Some(1)], 2, 0),
        &[Decide, Release],
        rules,
    );
}

#[test]
fn taking_a_claim_for_the_start_of_a_deployment_would_skip_what_it_is_to_start_from() {
    let rules = Rules::ClaimsCountAsStarts;
    bites(deployed(&[Some(1), Some(1)], 2, 0), &[Decide], rules);
}

#[test]
fn a_run_by_hand_ends_no_deployment() {
    let with_a_person = deployed(&[Some(1), Some(1), None], 1, 0);
    holds(
        with_a_person,
        &[Decide, Release],
        &[Event::Decided, Event::Fenced, Event::FoundOver],
    );
    let rules = Rules::EndsOfOthersCount;
    bites(with_a_person, &[Decide, Release], rules);
}

#[test]
fn a_believed_restore_point_that_the_chain_has_gone_on_from_is_not_started_from() {
    holds(
        told(&[Some(1), Some(2)], 2, 1),
        &[Decide, Decide, Collect],
        &[Event::Told, Event::Decided, Event::Fenced],
    );
    holds(
        told(&[Some(1), Some(2), Some(3)], 1, 0),
        &[Decide, Decide],
        &[Event::Told, Event::Decided, Event::Superseded],
    );
}

#[test]
fn taking_a_belief_for_an_order_would_forget_decisions() {
    let rules = Rules::BeliefsAreOrders;
    bites(told(&[Some(1), Some(2)], 1, 0), &[Decide, Decide], rules);
}
