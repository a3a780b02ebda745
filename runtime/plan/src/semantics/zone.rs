//! Time zones, within the years that SQL has.

use datafusion_common::Result;
pub(crate) use millstream_types::Zone;

use super::{calendar, fail};

/// What the clocks of a zone show at an instant.
///
/// # Errors
/// It is outside of the years 0000 to 9999.
pub(crate) fn clock_at(zone: Zone, instant: i64) -> Result<i64> {
    match zone.clock_at(calendar::checked(instant)?) {
        Some(clock) => calendar::checked(clock),
        None => fail!("{zone} has no such time"),
    }
}

/// When the clocks of a zone show a time. Of two instants the later one, at which the clocks have
/// been put back; a time that was skipped counts on from before.
///
/// # Errors
/// It is outside of the years 0000 to 9999.
pub(crate) fn instant_of(zone: Zone, clock: i64) -> Result<i64> {
    match zone.instant_of(calendar::checked(clock)?) {
        Some(instant) => calendar::checked(instant),
        None => fail!("{zone} has no such time"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn time(text: &str) -> i64 {
        parse::timestamp(text).unwrap()
    }

    #[test]
    fn clocks_are_put_forward_and_back() {
        let berlin = Zone::read("Europe/Berlin").unwrap();
        for (instant, clock) in [
            ("2024-06-01T12:34:56Z", "2024-06-01T14:34:56Z"),
            ("2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"),
            ("2024-10-27T01:30:00Z", "2024-10-27T02:30:00Z"),
            // Summers and winters go on.
            ("2262-07-01T00:00:00Z", "2262-07-01T02:00:00Z"),
            ("9999-12-01T00:00:00Z", "9999-12-01T01:00:00Z"),
        ] {
            assert_eq!(
                clock_at(berlin, time(instant)).unwrap(),
                time(clock),
                "{instant}"
            );
            assert_eq!(
                instant_of(berlin, time(clock)).unwrap(),
                time(instant),
                "{clock}"
            );
        }
        // 02:30 did not happen that night.
        let skipped = instant_of(berlin, time("2024-03-31T02:30:00Z")).unwrap();
        assert_eq!(skipped, time("2024-03-31T01:30:00Z"));
    }
}
