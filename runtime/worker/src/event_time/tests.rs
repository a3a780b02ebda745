use super::*;

const A: ChannelIndex = ChannelIndex(0);
const B: ChannelIndex = ChannelIndex(1);

const fn at(time: i64) -> Progress {
    Progress::Watermark(EventTime(time))
}

#[test]
fn the_slowest_channel_sets_the_time() {
    let mut channels = Channels::new(2);
    assert_eq!(channels.watermark(A, EventTime(9)), None);
    assert_eq!(channels.watermark(B, EventTime(3)), Some(at(3)));
    assert_eq!(channels.watermark(B, EventTime(12)), Some(at(9)));
    assert_eq!(channels.watermark(B, EventTime(14)), None);
}

#[test]
fn a_channel_that_is_idle_or_has_ended_holds_nothing_back() {
    let mut channels = Channels::new(3);
    channels.watermark(A, EventTime(9));
    channels.watermark(B, EventTime(5));
    assert_eq!(channels.idle(ChannelIndex(2)), Some(at(5)));
    assert_eq!(channels.ended(B), Some(at(9)));
}

#[test]
fn all_idle_is_told_once_and_anybody_who_wakes_up_ends_it() {
    let mut channels = Channels::new(2);
    channels.watermark(A, EventTime(9));
    channels.watermark(B, EventTime(5));
    assert_eq!(channels.idle(A), None);
    assert_eq!(channels.idle(B), Some(Progress::Idle));
    assert_eq!(channels.idle(B), None);
    assert_eq!(channels.records(B), Some(at(5)));
    assert_eq!(channels.records(B), None);
    assert_eq!(channels.watermark(B, EventTime(7)), Some(at(7)));
}

#[test]
fn time_never_goes_back() {
    let mut channels = Channels::new(2);
    channels.watermark(A, EventTime(9));
    assert_eq!(channels.idle(B), Some(at(9)));
    // It was idle and is behind now: its records are late.
    assert_eq!(channels.watermark(B, EventTime(4)), None);
    assert_eq!(channels.watermark(A, EventTime(20)), None);
    assert_eq!(channels.watermark(B, EventTime(11)), Some(at(11)));
}

#[test]
fn the_end_of_all_is_the_end_of_time_and_no_idleness() {
    let mut channels = Channels::new(2);
    channels.watermark(A, EventTime::MAX);
    assert_eq!(channels.ended(A), None);
    assert_eq!(
        channels.watermark(B, EventTime::MAX),
        Some(at(EventTime::MAX.0))
    );
    assert_eq!(channels.ended(B), None);
    assert!(channels.have_ended());
}
