use millstream_types::{CheckpointKind, Timestamp};
use proptest::prelude::*;

use super::*;

const TIMEOUT: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(1);

/// Every third may not overtake, as those of savepoints may not.
fn barrier(checkpoint: u64) -> Barrier {
    let timeout = u64::try_from(TIMEOUT.as_millis()).unwrap();
    Barrier {
        checkpoint: CheckpointId(checkpoint),
        kind: CheckpointKind::Checkpoint,
        triggered_at: Timestamp(0),
        aligned_timeout_ms: may_overtake(checkpoint).then_some(timeout),
    }
}

const fn may_overtake(checkpoint: u64) -> bool {
    !checkpoint.is_multiple_of(3)
}

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// A barrier is put into a channel.
    Put(usize, u64),
    /// The next barrier in a channel comes to its front.
    Front(usize),
    /// The aligned timeout of everything that has come is over.
    Timeout,
    Cancelled(u64),
}

/// What the rules say to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Said {
    declined: Vec<u64>,
    snapshot: Option<u64>,
    /// Barriers to be taken out of channels, with the records before them.
    taken: Vec<(usize, u64)>,
    /// Of which checkpoint all is known that its barrier has overtaken.
    complete: Option<u64>,
}

/// The rules, or something that has a mistake in them.
trait Rules {
    fn put(&mut self, channel: usize, checkpoint: u64) -> Said;
    fn front(&mut self, channel: usize, checkpoint: u64) -> Said;
    fn timeout(&mut self) -> Said;
    fn cancelled(&mut self, checkpoint: u64);
    fn held(&self) -> Vec<bool>;
    /// Of each channel, for which checkpoints its records are persisted.
    fn persisting(&self) -> Vec<Vec<u64>>;
}

impl Rules for Alignment {
    fn put(&mut self, channel: usize, checkpoint: u64) -> Said {
        let said = self.announced(ChannelIndex(channel), barrier(checkpoint), Duration::ZERO);
        Said {
            declined: said.declined.iter().map(|declined| declined.0).collect(),
            snapshot: None,
            taken: said
                .take
                .then_some((channel, checkpoint))
                .into_iter()
                .collect(),
            complete: said.complete.then_some(checkpoint),
        }
    }

    fn front(&mut self, channel: usize, checkpoint: u64) -> Said {
        let said = self.barrier(ChannelIndex(channel), barrier(checkpoint), Duration::ZERO);
        Said {
            declined: said.declined.iter().map(|declined| declined.0).collect(),
            snapshot: said.snapshot.map(|cut| cut.barrier.checkpoint.0),
            ..Said::default()
        }
    }

    fn timeout(&mut self) -> Said {
        let Some(said) = self.overtake(LATE) else {
            return Said::default();
        };
        let checkpoint = said.cut.barrier.checkpoint.0;
        Said {
            declined: said.declined.iter().map(|declined| declined.0).collect(),
            snapshot: Some(checkpoint),
            taken: said
                .take
                .iter()
                .map(|channel| (channel.0, checkpoint))
                .collect(),
            complete: said.complete.then_some(checkpoint),
        }
    }

    fn cancelled(&mut self, checkpoint: u64) {
        self.cancelled(CheckpointId(checkpoint));
    }

    fn held(&self) -> Vec<bool> {
        self.held().to_vec()
    }

    fn persisting(&self) -> Vec<Vec<u64>> {
        let channels = 0..self.held.len();
        let of = |channel| {
            self.persisting(ChannelIndex(channel))
                .map(|it| it.0)
                .collect()
        };
        channels.map(of).collect()
    }
}

/// The rules as one would say them: from all that has happened, with nothing kept in between.
#[derive(Debug, Clone)]
struct Naive {
    overtakable: Vec<bool>,
    /// The barriers that were put into each channel.
    put: Vec<Vec<u64>>,
    /// Of each channel the newest that has come to its front.
    front: Vec<Option<u64>>,
    cancelled: Vec<u64>,
    /// Snapshots that were taken, with the channels of which records are still persisted.
    taken: Vec<(u64, Vec<usize>)>,
}

impl Naive {
    fn new(overtakable: &[bool]) -> Self {
        Self {
            overtakable: overtakable.to_vec(),
            put: vec![Vec::new(); overtakable.len()],
            front: vec![None; overtakable.len()],
            cancelled: Vec::new(),
            taken: Vec::new(),
        }
    }

    fn is_over(&self, checkpoint: u64) -> bool {
        let mut taken = self.taken.iter();
        self.cancelled.contains(&checkpoint) || taken.any(|(taken, _)| *taken >= checkpoint)
    }

    /// The checkpoint that somebody waits for.
    fn awaited(&self) -> Option<u64> {
        let newest = self.front.iter().flatten().max().copied()?;
        (!self.is_over(newest)).then_some(newest)
    }

    /// The oldest checkpoint that can still be taken: every channel has brought it or may bring it.
    fn oldest(&self) -> Option<u64> {
        let may_bring = |put: &Vec<u64>, checkpoint: u64| {
            put.contains(&checkpoint) || put.last().is_none_or(|newest| *newest < checkpoint)
        };
        let all = self.put.iter().flatten().copied();
        let alive =
            all.filter(|it| !self.is_over(*it) && self.put.iter().all(|put| may_bring(put, *it)));
        alive.min()
    }
}

impl Rules for Naive {
    fn put(&mut self, channel: usize, checkpoint: u64) -> Said {
        self.put[channel].push(checkpoint);
        let mut said = Said::default();
        for (taken, waiting) in &mut self.taken {
            if !waiting.contains(&channel) {
                continue;
            }
            if *taken < checkpoint {
                said.declined.push(*taken);
                waiting.clear();
            } else if *taken == checkpoint {
                said.taken.push((channel, checkpoint));
                waiting.retain(|waiting| *waiting != channel);
                said.complete = waiting.is_empty().then_some(checkpoint);
            }
        }
        said
    }

    fn front(&mut self, channel: usize, checkpoint: u64) -> Said {
        let before = self.awaited();
        self.front[channel] = Some(checkpoint);
        let all = self.front.iter().all(|front| *front == Some(checkpoint));
        let snapshot = all && !self.is_over(checkpoint);
        let is_passed = before.is_some_and(|before| before < checkpoint);
        let mut taken = self.taken.iter();
        let is_old = taken.any(|(taken, _)| *taken >= checkpoint);
        if snapshot {
            self.taken.push((checkpoint, Vec::new()));
        }
        Said {
            declined: before
                .filter(|_| is_passed && !is_old)
                .into_iter()
                .collect(),
            snapshot: snapshot.then_some(checkpoint),
            ..Said::default()
        }
    }

    fn timeout(&mut self) -> Said {
        let Some(oldest) = self.oldest().filter(|oldest| may_overtake(*oldest)) else {
            return Said::default();
        };
        let channels = || 0..self.put.len();
        let is_in_front = |channel: usize| self.front[channel] == Some(oldest);
        if !channels().all(|channel| self.overtakable[channel] || is_in_front(channel)) {
            return Said::default();
        }
        let has_brought = |channel: &usize| self.put[*channel].contains(&oldest);
        let taken = channels().filter(|it| has_brought(it) && !is_in_front(*it));
        let taken = taken.map(|channel| (channel, oldest)).collect();
        let waiting: Vec<usize> = channels().filter(|it| !has_brought(it)).collect();
        let said = Said {
            declined: self
                .awaited()
                .filter(|it| *it != oldest)
                .into_iter()
                .collect(),
            snapshot: Some(oldest),
            taken,
            complete: waiting.is_empty().then_some(oldest),
        };
        self.taken.push((oldest, waiting));
        said
    }

    fn cancelled(&mut self, checkpoint: u64) {
        self.cancelled.push(checkpoint);
        for (taken, waiting) in &mut self.taken {
            if *taken == checkpoint {
                waiting.clear();
            }
        }
    }

    fn held(&self) -> Vec<bool> {
        let awaited = self.awaited();
        let is_held = |front: &Option<u64>| awaited.is_some() && *front == awaited;
        self.front.iter().map(is_held).collect()
    }

    fn persisting(&self) -> Vec<Vec<u64>> {
        let of = |channel| {
            let taken = self.taken.iter();
            let taken = taken.filter(|(_, waiting)| waiting.contains(&channel));
            taken.map(|(taken, _)| *taken).collect()
        };
        (0..self.put.len()).map(of).collect()
    }
}

/// Lets the same happen to both, and returns where they differ. A channel brings newer barriers than
/// before; a held one nothing; and what was taken out of it does not come to its front.
fn difference(rules: &mut dyn Rules, overtakable: &[bool], events: &[Event]) -> Option<String> {
    let mut naive = Naive::new(overtakable);
    let mut channels: Vec<Vec<u64>> = vec![Vec::new(); overtakable.len()];
    for (step, event) in events.iter().enumerate() {
        let (expected, found) = match *event {
            Event::Put(channel, checkpoint) => {
                if naive.put[channel].last() >= Some(&checkpoint) {
                    continue;
                }
                channels[channel].push(checkpoint);
                (
                    naive.put(channel, checkpoint),
                    rules.put(channel, checkpoint),
                )
            }
            Event::Front(channel) => {
                if naive.held()[channel] || channels[channel].is_empty() {
                    continue;
                }
                let checkpoint = channels[channel].remove(0);
                (
                    naive.front(channel, checkpoint),
                    rules.front(channel, checkpoint),
                )
            }
            Event::Timeout => (naive.timeout(), rules.timeout()),
            Event::Cancelled(checkpoint) => {
                naive.cancelled(checkpoint);
                rules.cancelled(checkpoint);
                (Said::default(), Said::default())
            }
        };
        for (channel, checkpoint) in &expected.taken {
            channels[*channel].retain(|it| it != checkpoint);
        }
        if found != expected {
            return Some(format!("step {step}: {found:?}, not {expected:?}"));
        }
        if rules.held() != naive.held() {
            let (found, expected) = (rules.held(), naive.held());
            return Some(format!("step {step}: holds {found:?}, not {expected:?}"));
        }
        if rules.persisting() != naive.persisting() {
            let (found, expected) = (rules.persisting(), naive.persisting());
            return Some(format!("step {step}: persists {found:?}, not {expected:?}"));
        }
    }
    None
}

fn events(channels: usize) -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..channels, 1_u64..8).prop_map(|(channel, id)| Event::Put(channel, id)),
        4 => (0..channels).prop_map(Event::Front),
        1 => Just(Event::Timeout),
        1 => (1_u64..8).prop_map(Event::Cancelled),
    ];
    proptest::collection::vec(event, 0..60)
}

fn overtakable() -> impl Strategy<Value = Vec<bool>> {
    proptest::collection::vec(proptest::bool::weighted(0.8), 1..=4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Barriers in every order over up to four channels, which overtake at any time.
    #[test]
    fn channels_are_held_exactly_while_others_are_behind(
        (overtakable, events) in overtakable().prop_flat_map(|it| (Just(it.clone()), events(it.len()))),
    ) {
        let mut rules = Alignment::new(overtakable.clone());
        let found = difference(&mut rules, &overtakable, &events);
        prop_assert_eq!(found, None);
    }
}

/// Every order of up to `left` more events.
fn explore(
    make: &dyn Fn() -> Box<dyn Rules>,
    overtakable: &[bool],
    checkpoints: std::ops::RangeInclusive<u64>,
    done: &mut Vec<Event>,
    left: usize,
) -> Option<(Vec<Event>, String)> {
    if left == 0 {
        return difference(make().as_mut(), overtakable, done).map(|found| (done.clone(), found));
    }
    let channels = 0..overtakable.len();
    let put = channels.clone().flat_map(|channel| {
        let checkpoints = checkpoints.clone();
        checkpoints.map(move |id| Event::Put(channel, id))
    });
    let front = channels.map(Event::Front);
    let cancelled = checkpoints.clone().map(Event::Cancelled);
    for event in put.chain(front).chain(cancelled).chain([Event::Timeout]) {
        done.push(event);
        let found = explore(make, overtakable, checkpoints.clone(), done, left - 1);
        done.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

#[test]
fn every_order_of_six_events_over_two_channels_follows_the_rules() {
    for overtakable in [[true, true], [true, false]] {
        let make = || Box::new(Alignment::new(overtakable.to_vec())) as Box<dyn Rules>;
        assert_eq!(
            explore(&make, &overtakable, 1..=2, &mut Vec::new(), 6),
            None
        );
    }
}

#[test]
fn a_barrier_overtakes_when_its_timeout_is_over_and_passes_on_what_is_left() {
    let mut alignment = Alignment::new(vec![true, true]);
    let at = Duration::from_millis;
    let (a, b) = (ChannelIndex(0), ChannelIndex(1));
    alignment.announced(a, barrier(1), at(100));
    assert_eq!(alignment.deadline(), Some(at(150)));
    // Another has waited for less long where it comes from.
    let sooner = Barrier {
        aligned_timeout_ms: Some(10),
        ..barrier(1)
    };
    alignment.announced(b, sooner, at(120));
    assert_eq!(alignment.deadline(), Some(at(130)));
    assert_eq!(alignment.overtake(at(129)), None);
    let overtaking = alignment.overtake(at(131)).unwrap();
    assert_eq!(overtaking.cut.barrier.aligned_timeout_ms, Some(0));
    assert_eq!(overtaking.cut.since, at(100));
    assert_eq!((overtaking.take, overtaking.complete), (vec![a, b], true));
    assert_eq!(alignment.deadline(), None);

    alignment.announced(a, barrier(2), at(200));
    alignment.announced(b, barrier(2), at(200));
    alignment.barrier(a, barrier(2), at(210));
    let cut = alignment.barrier(b, barrier(2), at(220)).snapshot.unwrap();
    assert_eq!(cut.barrier.aligned_timeout_ms, Some(30));

    alignment.announced(a, barrier(3), at(300));
    assert_eq!(alignment.deadline(), None, "that of a savepoint never does");
    alignment.announced(a, barrier(4), at(300));
    assert_eq!(alignment.overtake(at(900)), None, "nor one behind it");
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
    /// What lies in a channel before a barrier that overtakes is not persisted.
    PersistsNothing,
    /// What comes before a barrier that has overtaken is not persisted.
    PersistsNothingLate,
    /// What comes behind a barrier that had overtaken is persisted.
    PersistsBehind,
    /// A checkpoint is complete before all barriers have come.
    CompletesAtOnce,
    /// Records overtake that cannot be dealt out.
    OvertakesAnything,
    /// The newest barrier overtakes, also older ones.
    OvertakesBarriers,
}

impl Broken {
    fn new(mistake: Mistake, overtakable: &[bool]) -> Self {
        let overtakable = match mistake {
            Mistake::OvertakesAnything => vec![true; overtakable.len()],
            _ => overtakable.to_vec(),
        };
        Self {
            rules: Alignment::new(overtakable),
            mistake,
        }
    }
}

impl Rules for Broken {
    fn put(&mut self, channel: usize, checkpoint: u64) -> Said {
        if let Mistake::OvertakesBarriers = self.mistake {
            self.rules.come.retain(|older, _| older.0 >= checkpoint);
        }
        let mut said = Rules::put(&mut self.rules, channel, checkpoint);
        match self.mistake {
            Mistake::PersistsBehind => said.taken.clear(),
            Mistake::DeclinesNothing => said.declined.clear(),
            _ => {}
        }
        said
    }

    fn front(&mut self, channel: usize, checkpoint: u64) -> Said {
        let pending = self.rules.pending().map(|pending| pending.0);
        match self.mistake {
            Mistake::TakesAtOnce => Said {
                snapshot: Some(checkpoint),
                ..Said::default()
            },
            Mistake::WaitsForThePassed if pending.is_some_and(|it| it < checkpoint) => {
                Said::default()
            }
            Mistake::DeclinesNothing => Said {
                declined: Vec::new(),
                ..Rules::front(&mut self.rules, channel, checkpoint)
            },
            _ => Rules::front(&mut self.rules, channel, checkpoint),
        }
    }

    fn timeout(&mut self) -> Said {
        let mut said = Rules::timeout(&mut self.rules);
        match self.mistake {
            Mistake::PersistsNothing => said.taken.clear(),
            Mistake::PersistsNothingLate => self.rules.overtaken.clear(),
            Mistake::CompletesAtOnce => said.complete = said.snapshot,
            _ => {}
        }
        said
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

    fn persisting(&self) -> Vec<Vec<u64>> {
        Rules::persisting(&self.rules)
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
        Mistake::PersistsNothing,
        Mistake::PersistsNothingLate,
        Mistake::PersistsBehind,
        Mistake::CompletesAtOnce,
        Mistake::OvertakesAnything,
        Mistake::OvertakesBarriers,
    ] {
        let found = [[true, true], [true, false]]
            .iter()
            .find_map(|overtakable| {
                let make = || Box::new(Broken::new(mistake, overtakable)) as Box<dyn Rules>;
                let mut lengths = 1..=5;
                lengths
                    .find_map(|length| explore(&make, overtakable, 1..=2, &mut Vec::new(), length))
            });
        assert!(found.is_some(), "{mistake:?}");
    }
}
