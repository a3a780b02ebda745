//! Texts, and conversions from and to them.

use super::{Template, Why, other, same};
use crate::pools::Kind::{self, Bool, Count, Day, Float, Int32, Int64, Price, Text, Time, Wide};

const OF_A_TEXT: &[&str] = &[
    "length(a)",
    "octet_length(a)",
    "bit_length(a)",
    "reverse(a)",
    "btrim(a)",
    "ltrim(a)",
    "rtrim(a)",
    "trim(a)",
    "md5(a)",
    "a || 'x'",
    "a || NULL",
    "concat(a, 'x', NULL, 1)",
    "ascii(a)",
    "a LIKE 'a%'",
    "a LIKE '_b_'",
    "a ILIKE 'A%'",
    "a NOT LIKE '%a%'",
    "a LIKE 'a\\%c'",
    "a LIKE 'a!%c' ESCAPE '!'",
    "a SIMILAR TO 'a%'",
    "a SIMILAR TO '_b_'",
    "a SIMILAR TO '...'",
    "a SIMILAR TO '(a|A)%'",
    "a SIMILAR TO '[a-c]+'",
    "a SIMILAR TO '(an|b)*a'",
    "a SIMILAR TO 'b'",
    "a NOT SIMILAR TO 'a%'",
    "a ~ '^a'",
    "a ~* '^a'",
    "a !~ 'b'",
    "a !~* 'B'",
    "encode(sha256(a), 'hex')",
    "trim(both 'a' from a)",
    "trim(leading 'a' from a)",
    "trim(trailing 'a' from a)",
    "regexp_replace(a, 'a', 'o')",
    "regexp_replace(a, 'a', 'o', 'g')",
    "regexp_replace(a, '(a)(n)', '\\2\\1', 'g')",
    "regexp_count(a, 'a')",
    "regexp_like(a, 'A', 'i')",
    "regexp_instr(a, 'a')",
    "regexp_substr(a, 'a.')",
    "regexp_count(a, 'an', 3)",
    "a < 'b'",
    "a = 'abc'",
    "a BETWEEN 'a' AND 'b'",
    "concat_ws('-', a, NULL, 'x')",
    "translate(a, 'abc', 'x')",
    "replace(a, 'a', 'xx')",
    "replace(a, '', 'x')",
    "initcap('hello WORLD-wide 2nd')",
    "char_length(a)",
];

const OF_A_TEXT_AND_A_COUNT: &[&str] = &[
    "left(a, b)",
    "right(a, b)",
    "repeat(a, b)",
    "lpad(a, b)",
    "rpad(a, b)",
    "lpad(a, b, '*-')",
    "rpad(a, b, '')",
    "substr(a, b)",
    "split_part(a, '-', b)",
    "substr(a, 2, b)",
    "substr(a, b, 3)",
    "overlay(a placing 'XY' from b)",
    "overlay(a placing 'XY' from b for 1)",
    "split_part(a, '', b)",
    "substring(a from b for 2)",
];

const OF_TWO_TEXTS: &[&str] = &[
    "strpos(a, b)",
    "starts_with(a, b)",
    "a || b",
    "concat(a, b)",
    "replace(a, b, 'z')",
    "btrim(a, b)",
    "a = b OR a < b",
    "position(b in a)",
    "split_part(a, b, 1)",
    "translate(a, b, 'xy')",
];

const CONSTANTS: &[(&str, &str)] = &[
    ("CAST('1e3' AS decimal(8,2))", "CAST('1e3' AS numeric(8,2))"),
    (
        "CAST('1.005' AS decimal(8,2))",
        "CAST('1.005' AS numeric(8,2))",
    ),
    ("CAST(' 12 ' AS int64)", "CAST(' 12 ' AS bigint)"),
    (
        "CAST('1e400' AS float64)",
        "CAST('1e400' AS double precision)",
    ),
    ("CAST('NaN' AS float64)", "CAST('NaN' AS double precision)"),
    ("CAST('t' AS boolean)", "CAST('t' AS boolean)"),
    ("CAST('2024-02-30' AS date)", "CAST('2024-02-30' AS date)"),
    (
        "CAST('2024-02-29 12:00' AS timestamp)",
        "CAST('2024-02-29 12:00' AS timestamptz)",
    ),
    (
        "CAST('2024-02-29T12:00:00+01:00' AS timestamp)",
        "CAST('2024-02-29T12:00:00+01:00' AS timestamptz)",
    ),
    ("2 / 3.0", "round(2 / 3.0, 6)"),
    ("1.5e0 > 1.4", "1.5e0::float8 > 1.4"),
    ("0.1e0 + 0.2e0 = 0.3", "0.1::float8 + 0.2::float8 = 0.3"),
    ("9223372036854775808", "9223372036854775808"),
    ("-9223372036854775808", "(-9223372036854775808)"),
];

pub(super) fn functions() -> Vec<Template> {
    let mut all = Vec::new();
    for ours in OF_A_TEXT.iter().copied() {
        all.push(match ours {
            "encode(sha256(a), 'hex')" => other(
                ours,
                "encode(sha256(convert_to($a, 'UTF8')), 'hex')",
                &[Text],
            ),
            _ => same(ours, &[Text]),
        });
    }
    for ours in ["upper(a)", "lower(a)", "initcap(a)"] {
        all.push(same(ours, &[Text]).but(Why::Locale));
    }
    for ours in OF_A_TEXT_AND_A_COUNT.iter().copied() {
        all.push(same(ours, &[Text, Count]));
    }
    for ours in OF_TWO_TEXTS.iter().copied() {
        all.push(same(ours, &[Text, Text]));
    }
    all.push(other(
        "ends_with(a, b)",
        "right($a, length($b)) = $b",
        &[Text, Text],
    ));
    all.push(other("contains(a, b)", "strpos($a, $b) > 0", &[Text, Text]));
    all.push(other("instr(a, b)", "strpos($a, $b)", &[Text, Text]));
    all.push(other(
        "substr_index(a, '-', 1)",
        "split_part($a, '-', 1)",
        &[Text],
    ));
    all.push(other("chr(a)", "chr($a)", &[Count]));
    all.push(other(
        "encode(decode(a, 'hex'), 'base64')",
        "encode(decode($a, 'hex'), 'base64')",
        &[Text],
    ));
    all
}

pub(super) fn casts() -> Vec<Template> {
    let mut all = Vec::new();
    let to = |ours, theirs: &str, types| other(ours, theirs, types);
    for types in [&[Int32] as &[Kind], &[Int64], &[Bool], &[Text]] {
        all.push(to("CAST(a AS int32)", "CAST($a AS integer)", types));
    }
    for types in [&[Float] as &[Kind], &[Price], &[Wide]] {
        all.push(to("CAST(a AS int64)", "CAST($a AS bigint)", types).but(Why::Cut));
        all.push(to("CAST(a AS int64)", "CAST(trunc($a) AS bigint)", types));
    }
    for types in [&[Int32] as &[Kind], &[Int64], &[Price], &[Wide], &[Text]] {
        all.push(to(
            "CAST(a AS float64)",
            "CAST($a AS double precision)",
            types,
        ));
        all.push(to(
            "CAST(a AS decimal(10,2))",
            "CAST($a AS numeric(10,2))",
            types,
        ));
        all.push(to(
            "CAST(a AS decimal(38,4))",
            "CAST($a AS numeric(38,4))",
            types,
        ));
    }
    for types in [
        &[Int32] as &[Kind],
        &[Int64],
        &[Price],
        &[Wide],
        &[Bool],
        &[Day],
    ] {
        all.push(to("CAST(a AS string)", "CAST($a AS text)", types));
    }
    all.push(to(
        "CAST(a AS decimal(20,2))",
        "CAST($a AS numeric(20,2))",
        &[Float],
    ));
    all.push(to("CAST(a AS boolean)", "CAST($a AS boolean)", &[Text]));
    all.push(to("CAST(a AS boolean)", "CAST($a AS boolean)", &[Int32]));
    all.push(to("CAST(a AS date)", "CAST($a AS date)", &[Time]));
    all.push(to(
        "CAST(a AS timestamp)",
        "CAST($a AS timestamptz)",
        &[Day],
    ));
    all.push(to("CAST(a AS date)", "CAST($a AS date)", &[Text]));
    for (ours, theirs) in CONSTANTS.iter().copied() {
        all.push(to(ours, theirs, &[]));
    }
    all
}
