use proptest::prelude::*;

use super::*;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn record(holder: Option<&str>, version: u64) -> Record {
    Record {
        holder: holder.map(str::to_owned),
        transitions: 4,
        duration: secs(15),
        version: version.to_string(),
    }
}

fn candidate() -> Candidate {
    Candidate::new("me".to_owned(), Terms::default())
}

#[test]
fn a_lease_that_is_not_there_is_created() {
    let mut me = candidate();
    me.observe(None, secs(100));
    assert_eq!(me.step(secs(100)), Step::Create);
    assert!(!me.acts(secs(100)));
}

#[test]
fn a_lease_that_was_released_is_taken_at_once() {
    let mut me = candidate();
    me.observe(Some(record(None, 1)), secs(100));
    assert_eq!(me.step(secs(100)), Step::Take { transitions: 5 });
}

#[test]
fn a_lease_of_somebody_else_is_taken_only_after_it_was_seen_unchanged_for_its_duration() {
    let mut me = candidate();
    me.observe(Some(record(Some("other"), 1)), secs(100));
    assert_eq!(me.step(secs(115)), Step::Wait);
    me.observe(Some(record(Some("other"), 2)), secs(115));
    assert_eq!(
        me.step(secs(116)),
        Step::Wait,
        "a renewal begins the time anew"
    );
    me.observe(Some(record(Some("other"), 2)), secs(131));
    assert_eq!(me.step(secs(131)), Step::Take { transitions: 5 });
}

#[test]
fn a_leader_renews_and_acts_until_its_deadline_from_the_start_of_the_last_renewal() {
    let mut me = candidate();
    me.wrote(record(Some("me"), 3), secs(100));
    assert_eq!(me.step(secs(102)), Step::Renew { transitions: 4 });
    assert!(me.acts(secs(109)));
    assert!(!me.acts(secs(110)));
    assert_eq!(me.patience(secs(107)), secs(3));
    assert_eq!(me.patience(secs(100)), secs(5), "time for another attempt");
}

#[test]
fn a_leader_that_reads_another_name_stops_acting() {
    let mut me = candidate();
    me.wrote(record(Some("me"), 3), secs(100));
    me.observe(Some(record(Some("other"), 4)), secs(101));
    assert!(!me.acts(secs(101)));
}

#[test]
fn an_operator_that_restarts_under_its_old_name_goes_on_at_once() {
    let mut me = candidate();
    me.observe(Some(record(Some("me"), 9)), secs(1));
    assert!(!me.acts(secs(1)), "it has not renewed anything yet");
    assert_eq!(me.step(secs(1)), Step::Renew { transitions: 4 });
}

/// What may happen to one of the candidates.
#[derive(Debug, Clone, Copy)]
enum Happens {
    /// Time passes, milliseconds.
    Passes(u64),
    /// A candidate reads the lease.
    Reads(usize),
    /// A candidate does what it thinks is next, by what it read before; its request is on the way
    /// for that long, milliseconds.
    Writes(usize, u64),
    /// The answer to a write is lost.
    WritesUnheard(usize),
    /// A candidate gives the lease up.
    Releases(usize),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (1_u64..8_000).prop_map(Happens::Passes),
        (0_usize..3).prop_map(Happens::Reads),
        (0_usize..3, 0_u64..3_000).prop_map(|(who, millis)| Happens::Writes(who, millis)),
        (0_usize..3).prop_map(Happens::WritesUnheard),
        (0_usize..3).prop_map(Happens::Releases),
    ]
}

/// A lease as an API server keeps it: a write needs the version that is there.
#[derive(Debug, Default)]
struct Server {
    lease: Option<Record>,
    version: u64,
}

impl Server {
    fn write(&mut self, expected: Option<&Record>, holder: Option<&str>) -> Option<Record> {
        let versions = (
            self.lease.as_ref().map(|one| &one.version),
            expected.map(|one| &one.version),
        );
        if versions.0 != versions.1 {
            return None;
        }
        self.version += 1;
        self.lease = Some(record(holder, self.version));
        self.lease.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn never_do_two_act_at_once(story in prop::collection::vec(happens(), 1..80)) {
        let mut server = Server::default();
        let mut now = secs(1_000);
        let mut three: Vec<Candidate> = ["a", "b", "c"]
            .map(|name| Candidate::new(name.to_owned(), Terms::default()))
            .into();
        for event in story {
            match event {
                Happens::Passes(millis) => now += Duration::from_millis(millis),
                Happens::Reads(who) => three[who].observe(server.lease.clone(), now),
                Happens::Writes(who, millis) => {
                    let one = &mut three[who];
                    if one.step(now) != Step::Wait {
                        let known = one.seen.clone().map(|(record, _)| record);
                        let started = now;
                        now += Duration::from_millis(millis);
                        let identity = one.identity().to_owned();
                        match server.write(known.as_ref(), Some(&identity)) {
                            Some(written) => one.wrote(written, started),
                            None => one.observe(server.lease.clone(), now),
                        }
                    }
                }
                Happens::WritesUnheard(who) => {
                    let one = &three[who];
                    if one.step(now) != Step::Wait {
                        let known = one.seen.clone().map(|(record, _)| record);
                        let identity = one.identity().to_owned();
                        drop(server.write(known.as_ref(), Some(&identity)));
                    }
                }
                Happens::Releases(who) => {
                    // It stops acting first, then says so.
                    let known = three[who].seen.clone().map(|(record, _)| record);
                    let identity = three[who].identity().to_owned();
                    if known.as_ref().is_some_and(|one| one.holder.as_ref() == Some(&identity)) {
                        three[who] = Candidate::new(identity, Terms::default());
                        drop(server.write(known.as_ref(), None));
                    }
                }
            }
            let acting = three.iter().filter(|one| one.acts(now)).count();
            prop_assert!(acting <= 1, "{acting} act at once");
        }
    }
}
