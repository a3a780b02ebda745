//! Times and tables for people.

use std::time::Duration;

use millstream_types::Timestamp;

/// A length of time: `34 ms`, `12.3 s`, `4 min 05 s`, `2 h 03 min`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// An instant in UTC: `2026-01-31 23:59:59`.
///
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub(crate) fn instant(time: Timestamp) -> String {
    const DAYS_TO_ERA: u64 = 719_468;
    const DAYS_PER_ERA: u64 = 146_097;
    let seconds = time.0 / 1_000;
    let days = seconds / 86_400 + DAYS_TO_ERA;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years that begin in March, so that the leap day is the last.
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Rows in columns that line up, each line indented.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let lines = || std::iter::once(&head).chain(rows);
    let width = |column: usize| {
        let cells = lines().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in lines() {
        let cells = line.iter().zip(&widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str("  ");
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_in_utc() {
        assert_eq!(instant(Timestamp(0)), "1970-01-01 00:00:00");
        assert_eq!(instant(Timestamp(951_782_399_999)), "2000-02-28 23:59:59");
        assert_eq!(instant(Timestamp(951_782_400_000)), "2000-02-29 00:00:00");
        assert_eq!(instant(Timestamp(1_795_563_200_000)), "2026-11-24 23:33:20");
        assert_eq!(instant(Timestamp(4_107_542_400_000)), "2100-03-01 00:00:00");
    }

    #[test]
    fn columns_of_a_table_line_up() {
        let rows = [vec!["1".to_owned(), "long cell".to_owned()]];
        assert_eq!(
            table(&["NUMBER", "TEXT"], &rows),
            "  NUMBER  TEXT\n  1       long cell\n"
        );
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        assert_eq!(duration(Duration::from_millis(34)), "34 ms");
        assert_eq!(duration(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(duration(Duration::from_secs(245)), "4 min 05 s");
        assert_eq!(duration(Duration::from_mins(123)), "2 h 03 min");
    }
}
