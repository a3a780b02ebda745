use millstream_types::{CheckpointKind, Timestamp};
use proptest::prelude::*;

use super::*;

fn barrier(checkpoint: u64) -> Barrier {
    Barrier {
        checkpoint: CheckpointId(checkpoint),
        kind: CheckpointKind::Checkpoint,
        triggered_at: Timestamp(0),
    }
}

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Barrier(usize, u64),
    Cancelled(u64),
}

/// The rules, or something that has a mistake in them.
trait Rules {
    fn barrier(&mut self, channel: usize, checkpoint: u64) -> Verdict;
    fn cancelled(&mut self, checkpoint: u64);
    fn held(&self) -> Vec<bool>;
}

impl Rules for Alignment {
    fn barrier(&mut self, channel: usize, checkpoint: u64) -> Verdict {
        self.barrier(ChannelIndex(channel), barrier(checkpoint))
    }

    fn cancelled(&mut self, checkpoint: u64) {
        self.cancelled(CheckpointId(checkpoint));
    }

    fn held(&self) -> Vec<bool> {
        self.held().to_vec()
    }
}

/// The rules as one would say them: from all that has happened, with nothing kept in between.
#[derive(Debug, Clone)]
struct Naive {
    /// The newest barrier of each channel.
    newest: Vec<Option<u64>>,
    cancelled: Vec<u64>,
    taken: Vec<u64>,
}

impl Naive {
    fn new(channels: usize) -> Self {
        Self {
            newest: vec![None; channels],
            cancelled: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// The checkpoint that somebody waits for.
    fn awaited(&self) -> Option<u64> {
        let newest = self.newest.iter().flatten().max().copied()?;
        let is_over = self.cancelled.contains(&newest) || self.taken.contains(&newest);
        (!is_over).then_some(newest)
    }
}

impl Rules for Naive {
    fn barrier(&mut self, channel: usize, checkpoint: u64) -> Verdict {
        let before = self.awaited();
        if self.newest[channel] >= Some(checkpoint) {
            return Verdict::default();
        }
        self.newest[channel] = Some(checkpoint);
        let all = self.newest.iter().all(|newest| *newest == Some(checkpoint));
        let snapshot = all && !self.cancelled.contains(&checkpoint);
        let is_passed = before.is_some_and(|before| before < checkpoint);
        if snapshot {
            self.taken.push(checkpoint);
        }
        Verdict {
            declined: before.filter(|_| is_passed).map(CheckpointId),
            snapshot: snapshot.then(|| barrier(checkpoint)),
        }
    }

    fn cancelled(&mut self, checkpoint: u64) {
        self.cancelled.push(checkpoint);
    }

    fn held(&self) -> Vec<bool> {
        let awaited = self.awaited();
        let is_held = |newest: &Option<u64>| awaited.is_some() && *newest == awaited;
        self.newest.iter().map(is_held).collect()
    }
}

/// Lets the same happen to both, and returns where they differ. A held channel brings nothing.
fn difference(rules: &mut dyn Rules, channels: usize, events: &[Event]) -> Option<String> {
    let mut naive = Naive::new(channels);
    for (step, event) in events.iter().enumerate() {
        match *event {
            Event::Barrier(channel, _) if naive.held()[channel] => continue,
            Event::Barrier(channel, checkpoint) => {
                let expected = naive.barrier(channel, checkpoint);
                let found = rules.barrier(channel, checkpoint);
                if found != expected {
                    return Some(format!("step {step}: {found:?}, not {expected:?}"));
                }
            }
            Event::Cancelled(checkpoint) => {
                naive.cancelled(checkpoint);
                rules.cancelled(checkpoint);
            }
        }
        if rules.held() != naive.held() {
            let (found, expected) = (rules.held(), naive.held());
            return Some(format!("step {step}: holds {found:?}, not {expected:?}"));
        }
    }
    None
}

fn events(channels: usize) -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..channels, 1_u64..7).prop_map(|(channel, id)| Event::Barrier(channel, id)),
        1 => (1_u64..7).prop_map(Event::Cancelled),
    ];
    proptest::collection::vec(event, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Barriers in every order, also late and repeated, over up to four channels.
    #[test]
    fn channels_are_held_exactly_while_others_are_behind(
        (channels, events) in (1_usize..=4).prop_flat_map(|n| (Just(n), events(n))),
    ) {
        let found = difference(&mut Alignment::new(channels), channels, &events);
        prop_assert_eq!(found, None);
    }
}

/// Every order of up to `left` more events.
fn explore(
    make: &dyn Fn() -> Box<dyn Rules>,
    channels: usize,
    done: &mut Vec<Event>,
    left: usize,
) -> Option<(Vec<Event>, String)> {
    if left == 0 {
        return difference(make().as_mut(), channels, done).map(|found| (done.clone(), found));
    }
    let barriers =
        (0..channels).flat_map(|channel| (1..=3).map(move |id| Event::Barrier(channel, id)));
    for event in barriers.chain((1..=3).map(Event::Cancelled)) {
        done.push(event);
        let found = explore(make, channels, done, left - 1);
        done.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

#[test]
fn every_order_of_six_events_over_two_channels_follows_the_rules() {
    let make = || Box::new(Alignment::new(2)) as Box<dyn Rules>;
    assert_eq!(explore(&make, 2, &mut Vec::new(), 6), None);
}

/// The rules with one of them broken.
struct Broken {
    rules: Alignment,
    mistake: Mistake,
}

#[derive(Debug, Clone, Copy)]
enum Mistake {
    /// A checkpoint that was cancelled before its barrier came is waited for.
    ForgetsCancelled,
    /// Channels stay held for what was cancelled.
    KeepsHolding,
    /// The snapshot is taken at the first barrier.
    TakesAtOnce,
    /// A channel that is past a checkpoint is waited for.
    WaitsForThePassed,
    /// Nobody is told that a checkpoint was passed.
    DeclinesNothing,
}

impl Rules for Broken {
    fn barrier(&mut self, channel: usize, checkpoint: u64) -> Verdict {
        match self.mistake {
            Mistake::TakesAtOnce => Verdict {
                snapshot: Some(barrier(checkpoint)),
                ..Verdict::default()
            },
            Mistake::WaitsForThePassed
                if self
                    .rules
                    .pending()
                    .is_some_and(|pending| pending.0 < checkpoint) =>
            {
                Verdict::default()
            }
            Mistake::DeclinesNothing => Verdict {
                declined: None,
                ..Rules::barrier(&mut self.rules, channel, checkpoint)
            },
            _ => Rules::barrier(&mut self.rules, channel, checkpoint),
        }
    }

    fn cancelled(&mut self, checkpoint: u64) {
        let is_pending = self.rules.pending() == Some(CheckpointId(checkpoint));
        match self.mistake {
            Mistake::ForgetsCancelled if !is_pending => {}
            Mistake::KeepsHolding if is_pending => {}
            _ => Rules::cancelled(&mut self.rules, checkpoint),
        }
    }

    fn held(&self) -> Vec<bool> {
        Rules::held(&self.rules)
    }
}

#[test]
fn each_broken_rule_is_found() {
    for mistake in [
        Mistake::ForgetsCancelled,
        Mistake::KeepsHolding,
        Mistake::TakesAtOnce,
        Mistake::WaitsForThePassed,
        Mistake::DeclinesNothing,
    ] {
        let make = || {
            let rules = Alignment::new(2);
            Box::new(Broken { rules, mistake }) as Box<dyn Rules>
        };
        let found = (1..=4).find_map(|length| explore(&make, 2, &mut Vec::new(), length));
        assert!(found.is_some(), "{mistake:?}");
    }
}
