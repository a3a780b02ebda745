//! Times.

use super::{Template, Why, other, same};
use crate::pools::Kind::{self, Count, Day, Int32, Time};

pub(super) fn parts() -> Vec<Template> {
    let mut all = Vec::new();
    for types in [&[Time] as &[Kind], &[Day]] {
        for part in [
            "year",
            "month",
            "day",
            "quarter",
            "week",
            "dow",
            "isodow",
            "doy",
            "isoyear",
            "decade",
            "century",
            "millennium",
            "epoch",
            "hour",
            "minute",
        ] {
            let theirs = match (types, part) {
                // PostgreSQL's dates have no hours.
                ([Day], "hour" | "minute") => format!("extract({part} FROM $a::timestamptz)"),
                _ => format!("extract({part} FROM $a)"),
            };
            let ours = Box::leak(format!("extract({part} FROM a)").into_boxed_str());
            all.push(other(ours, &theirs, types));
        }
        for unit in [
            "microseconds",
            "milliseconds",
            "second",
            "minute",
            "hour",
            "day",
            "week",
            "month",
            "quarter",
            "year",
            "decade",
            "century",
            "millennium",
        ] {
            let ours = Box::leak(format!("date_trunc('{unit}', a)").into_boxed_str());
            all.push(other(ours, &format!("date_trunc('{unit}', $a)"), types));
        }
    }
    for part in ["second", "milliseconds", "microseconds"] {
        let ours = Box::leak(format!("extract({part} FROM a)").into_boxed_str());
        all.push(other(
            ours,
            &format!("trunc(extract({part} FROM $a))"),
            &[Time],
        ));
        all.push(other(ours, &format!("extract({part} FROM $a)"), &[Time]).but(Why::Whole));
    }
    all
}

pub(super) fn differences() -> Vec<Template> {
    let mut all = Vec::new();
    for part in ["second", "minute", "hour", "day"] {
        let ours = Box::leak(format!("extract({part} FROM a - b)").into_boxed_str());
        all.push(
            other(
                ours,
                &format!("extract({part} FROM $a - $b)"),
                &[Time, Time],
            )
            .but(Why::Whole),
        );
    }
    for (ours, seconds) in [
        (
            "extract(second FROM a - b)",
            "trunc(extract(epoch FROM $a - $b))",
        ),
        (
            "extract(millisecond FROM a - b)",
            "trunc(extract(epoch FROM $a - $b) * 1000)",
        ),
        (
            "extract(microsecond FROM a - b)",
            "extract(epoch FROM $a - $b) * 1000000",
        ),
        (
            "extract(minute FROM a - b)",
            "trunc(extract(epoch FROM $a - $b) / 60)",
        ),
        (
            "extract(hour FROM a - b)",
            "trunc(extract(epoch FROM $a - $b) / 3600)",
        ),
        (
            "extract(day FROM a - b)",
            "trunc(extract(epoch FROM $a - $b) / 86400)",
        ),
        ("extract(epoch FROM a - b)", "extract(epoch FROM $a - $b)"),
        (
            "CAST(a - b AS int64)",
            "extract(epoch FROM $a - $b) * 1000000",
        ),
    ] {
        all.push(other(ours, seconds, &[Time, Time]));
    }
    all
}

pub(super) fn arithmetic() -> Vec<Template> {
    let mut all = Vec::new();
    for interval in [
        "1 day",
        "1 month",
        "-1 month",
        "1 year",
        "90 minutes",
        "1.5 seconds",
        "1 month 1 day 1 hour",
        "-36 hours",
        "1 century",
        "1 week",
    ] {
        for op in ["+", "-"] {
            let ours = Box::leak(format!("a {op} INTERVAL '{interval}'").into_boxed_str());
            all.push(other(
                ours,
                &format!("$a {op} INTERVAL '{interval}'"),
                &[Time],
            ));
            all.push(other(
                ours,
                &format!("$a {op} INTERVAL '{interval}'"),
                &[Day],
            ));
        }
    }
    for stride in ["15 minutes", "1 day", "7 days", "1.5 seconds"] {
        let ours = Box::leak(
            format!("date_bin(INTERVAL '{stride}', a, TIMESTAMP '2001-01-01T00:00:00Z')")
                .into_boxed_str(),
        );
        let theirs =
            format!("date_bin(INTERVAL '{stride}', $a, TIMESTAMPTZ '2001-01-01T00:00:00Z')");
        all.push(other(ours, &theirs, &[Time]));
    }
    all
}

pub(super) fn zones() -> Vec<Template> {
    let mut all = Vec::new();
    for zone in [
        "Europe/Berlin",
        "America/New_York",
        "UTC",
        "Asia/Kolkata",
        "+05:30",
    ] {
        let posix = if zone == "+05:30" { "-05:30" } else { zone };
        let ours = Box::leak(format!("a AT TIME ZONE '{zone}'").into_boxed_str());
        all.push(other(ours, &format!("$a AT TIME ZONE '{posix}'"), &[Time]));
        let ours =
            Box::leak(format!("(a AT TIME ZONE '{zone}') AT TIME ZONE '{zone}'").into_boxed_str());
        let theirs = format!("($a AT TIME ZONE '{posix}') AT TIME ZONE '{posix}'");
        all.push(other(ours, &theirs, &[Time]));
        let ours =
            Box::leak(format!("extract(hour FROM a AT TIME ZONE '{zone}')").into_boxed_str());
        all.push(other(
            ours,
            &format!("extract(hour FROM $a AT TIME ZONE '{posix}')"),
            &[Time],
        ));
        if zone != "+05:30" {
            let ours = Box::leak(format!("date_trunc('day', a, '{zone}')").into_boxed_str());
            all.push(other(
                ours,
                &format!("date_trunc('day', $a, '{zone}')"),
                &[Time],
            ));
        }
    }
    all
}

pub(super) fn functions() -> Vec<Template> {
    let mut all = vec![same("a - b", &[Day, Day])];
    all.push(same("a + b", &[Day, Count]));
    all.push(same("a - b", &[Day, Count]));
    all.push(same("a + b * INTERVAL '1 second'", &[Time, Int32]));
    all.push(same("a + INTERVAL '1 day' * b", &[Time, Count]));
    all.push(same("a + b * INTERVAL '1 month'", &[Time, Count]));
    all.push(other("to_timestamp(a)", "to_timestamp($a)", &[Int32]));
    all.push(other(
        "to_unixtime(a)",
        "floor(extract(epoch FROM $a))",
        &[Time],
    ));
    all.push(other(
        "make_date(2024, a, b)",
        "make_date(2024, $a, $b)",
        &[Count, Count],
    ));
    all.push(other(
        "to_char(a, '%Y-%m-%d %H:%M:%S')",
        "to_char($a, 'YYYY-MM-DD HH24:MI:SS')",
        &[Time],
    ));
    all.push(other(
        "to_char(a, '%d.%m.%Y')",
        "to_char($a, 'DD.MM.YYYY')",
        &[Day],
    ));
    all.push(other(
        "extract(millisecond FROM INTERVAL '5.25 seconds')",
        "extract(millisecond FROM INTERVAL '5.25 seconds')",
        &[],
    ));
    all.push(other(
        "extract(epoch FROM INTERVAL '1 year 2 months 3 days 4.5 seconds')",
        "extract(epoch FROM INTERVAL '1 year 2 months 3 days 4.5 seconds')",
        &[],
    ));
    all
}
