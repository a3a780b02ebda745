//! The ways in which systems write timestamps.

use millstream_types::Zone;
use millstream_types::schema::TimestampFormat;

use crate::calendar::{
    MAX_MICROS, MICROS_PER_SECOND, MIN_MICROS, is_in_calendar, parse_clock, parse_timestamp,
    write_clock, write_timestamp,
};
use crate::error::DecodeReason;
use crate::number::{parse_integer, parse_micros};

pub(crate) const OUT_OF_RANGE: DecodeReason =
    DecodeReason::OutOfRange("timestamp (years 0000 to 9999)");

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamps {
    /// Text as RFC 3339 has it.
    Rfc3339,
    /// Text as databases have it, of the clocks of a time zone.
    Sql(Zone),
    /// Whole milliseconds since 1970.
    EpochMillis,
    /// Seconds since 1970.
    EpochSeconds,
}

impl Timestamps {
    /// The way that a user has named.
    pub const fn new(format: TimestampFormat, zone: Zone) -> Self {
        match format {
            TimestampFormat::Rfc3339 => Self::Rfc3339,
            TimestampFormat::Sql => Self::Sql(zone),
            TimestampFormat::EpochMillis => Self::EpochMillis,
            TimestampFormat::EpochSeconds => Self::EpochSeconds,
        }
    }

    /// What a record must have, for messages.
    pub(crate) const fn wanted(self) -> &'static str {
        match self {
            Self::Rfc3339 => "an RFC 3339 string",
            Self::Sql(_) => "a string `YYYY-MM-DD hh:mm:ss`",
            Self::EpochMillis => "a number of milliseconds since 1970",
            Self::EpochSeconds => "a number of seconds since 1970",
        }
    }

    /// Microseconds since 1970 of a JSON number.
    pub(crate) fn of_number(self, number: &[u8]) -> Result<i64, DecodeReason> {
        match self {
            Self::EpochMillis => epoch_millis(number),
            Self::EpochSeconds => parse_micros(number)
                .filter(|micros| is_in_calendar(*micros))
                .ok_or(OUT_OF_RANGE),
            Self::Rfc3339 | Self::Sql(_) => Err(self.not("a number")),
        }
    }

    /// Microseconds since 1970 of a text.
    pub(crate) fn of_text(self, text: &[u8]) -> Result<i64, DecodeReason> {
        match self {
            Self::Rfc3339 => parse_timestamp(text).ok_or(DecodeReason::NotATimestamp),
            Self::Sql(zone) => {
                let (clock, offset) = parse_clock(text).ok_or(DecodeReason::NotASqlTimestamp)?;
                let instant = match offset {
                    Some(minutes) => clock.checked_sub(minutes * 60 * MICROS_PER_SECOND),
                    None => zone.instant_of(clock),
                };
                instant
                    .filter(|micros| is_in_calendar(*micros))
                    .ok_or(OUT_OF_RANGE)
            }
            Self::EpochMillis | Self::EpochSeconds => Err(self.not("a string")),
        }
    }

    const fn not(self, found: &'static str) -> DecodeReason {
        DecodeReason::WrongType {
            found,
            wanted: self.wanted(),
        }
    }

    /// Appends a timestamp as a JSON value. False if it, or what the zone's clocks show then, is not
    /// in the years 0000 to 9999; then `out` may hold a part of it.
    pub(crate) fn write(self, micros: i64, out: &mut Vec<u8>) -> bool {
        if !is_in_calendar(micros) {
            return false;
        }
        match self {
            Self::EpochMillis => write_whole(micros.div_euclid(1_000), out),
            Self::EpochSeconds => write_whole(micros.div_euclid(MICROS_PER_SECOND), out),
            Self::Rfc3339 => {
                out.push(b'"');
                let written = write_timestamp(micros, out);
                out.push(b'"');
                written
            }
            Self::Sql(zone) => {
                let Some(clock) = zone.clock_at(micros) else {
                    return false;
                };
                out.push(b'"');
                let written = write_clock(clock, b' ', out);
                out.push(b'"');
                written
            }
        }
    }
}

fn write_whole(number: i64, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    true
}

/// Microseconds of epoch milliseconds.
pub(crate) fn epoch_millis(number: &[u8]) -> Result<i64, DecodeReason> {
    let millis = match parse_integer(number) {
        Err(DecodeReason::OutOfRange(_)) => return Err(OUT_OF_RANGE),
        other => other?,
    };
    micros_of_millis(millis).ok_or(OUT_OF_RANGE)
}

pub(crate) fn micros_of_millis(millis: i64) -> Option<i64> {
    let micros = millis.checked_mul(1_000)?;
    (MIN_MICROS..=MAX_MICROS)
        .contains(&micros)
        .then_some(micros)
}
