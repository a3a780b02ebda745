//! Times and tables for people.

use std::time::Duration;

use comfy_table::{Table, presets};
use jiff::Timestamp;

/// How long something has lasted, as `kubectl` writes it: `34s`, `5m3s`, `3h2m`, `5d`.
pub fn age(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let with = |large: u64, unit: &str, small: u64, smaller: &str| {
        if small == 0 {
            format!("{large}{unit}")
        } else {
            format!("{large}{unit}{small}{smaller}")
        }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => with(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => with(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => with(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

/// From a point in time until now, 0 if it lies in the future (clocks differ).
pub fn since(time: Timestamp, now: Timestamp) -> String {
    age(Duration::try_from(now.duration_since(time)).unwrap_or_default())
}

/// A point in time from RFC 3339 text.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// A point in time from milliseconds since 1970-01-01T00:00:00Z.
pub fn from_millis(millis: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(millis).ok()?).ok()
}

/// Milliseconds with the unit that fits: `34 ms`, `12.3 s`, `5m3s`.
pub fn millis(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{:.1} s", millis as f64 / 1_000.0),
        _ => age(Duration::from_millis(millis)),
    }
}

/// `1 restart`, `2 restarts`.
pub fn count(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {one}{plural}")
}

/// Rows in columns that line up, each line indented.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(head.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text on one line, cut where it is longer than `columns`.
pub fn one_line(text: &str, columns: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= columns {
        return line;
    }
    let kept: String = line.chars().take(columns.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Text broken at spaces into lines of at most `columns`, each indented.
pub fn wrapped(text: &str, indent: &str, columns: usize) -> String {
    let mut wrapped = String::new();
    let mut line = String::new();
    for word in words(text) {
        let length = indent.len() + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && length > columns {
            wrapped.extend([indent, &line, "\n"]);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    if !line.is_empty() {
        wrapped.extend([indent, &line, "\n"]);
    }
    wrapped
}

/// Words of a text; a command between backticks is one word, so that it can be copied.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_open = false;
    for word in text.split_whitespace() {
        match words.last_mut().filter(|_| is_open) {
            Some(command) => command.extend([" ", word]),
            None => words.push(word.to_owned()),
        }
        is_open ^= word.matches('`').count() % 2 == 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_as_kubectl_writes_them() {
        let text = |seconds: u64| age(Duration::from_secs(seconds));
        assert_eq!(text(0), "0s");
        assert_eq!(text(119), "119s");
        assert_eq!(text(303), "5m3s");
        assert_eq!(text(1_200), "20m");
        assert_eq!(text(10_920), "3h2m");
        assert_eq!(text(90_000), "25h");
        assert_eq!(text(180_000), "2d2h");
        assert_eq!(text(864_000), "10d");
    }

    #[test]
    fn a_time_in_the_future_is_now() {
        let now = from_millis(1_000_000).unwrap();
        assert_eq!(since(from_millis(2_000_000).unwrap(), now), "0s");
        assert_eq!(since(from_millis(940_000).unwrap(), now), "60s");
    }

    #[test]
    fn times_and_counts_have_the_unit_that_fits() {
        assert_eq!(millis(12_340), "12.3 s");
        assert_eq!(millis(303_000), "5m3s");
        assert_eq!(count(1, "restart"), "1 restart");
        assert_eq!(count(0, "restart"), "0 restarts");
    }

    #[test]
    fn columns_of_a_table_line_up() {
        let rows = [vec!["1".to_owned(), "long cell".to_owned()]];
        assert_eq!(
            table(&["NUMBER", "TEXT"], rows),
            "  NUMBER  TEXT\n  1       long cell\n"
        );
    }

    #[test]
    fn long_text_is_cut_or_wrapped_between_words() {
        assert_eq!(one_line("a  b\nc", 80), "a b c");
        assert_eq!(one_line("abcdef", 4), "abc…");
        assert_eq!(wrapped("aa bb cc", "  ", 7), "  aa bb\n  cc\n");
        assert_eq!(
            wrapped("longer than the line", " ", 5),
            " longer\n than\n the\n line\n"
        );
        assert_eq!(wrapped("run `a b c` now", "", 6), "run\n`a b c`\nnow\n");
    }
}
