//! What SQL means, where engines are known to get it wrong.

use crate::table::{constant, fault, table};

/// Times `after` a first one.
fn spans(rows: &[&[&str]]) -> crate::table::Table {
    table("b timestamp, a timestamp", rows)
}

#[test]
fn parts_of_a_difference_of_times_are_exact_for_any_length() {
    let zero = "1970-01-01T00:00:00Z";
    let given = spans(&[
        &["1970-01-01T00:00:05.25Z", zero],
        &["1970-01-01T00:00:02.1Z", zero],
        &["1969-12-31T23:59:57.5Z", zero],
        &["1970-01-01T00:35:48Z", zero],
        &["1970-03-02T00:00:00Z", zero],
        &["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"],
    ]);
    let part = |part: &str| given.shown(&format!("extract({part} FROM b - a)"));
    assert_eq!(
        part("epoch"),
        "5.25 2.1 -2.5 2148.0 5184000.0 315537897600.0"
    );
    assert_eq!(
        part("millisecond"),
        "5250 2100 -2500 2148000 5184000000 315537897599999"
    );
    assert_eq!(
        part("microsecond"),
        "5250000 2100000 -2500000 2148000000 5184000000000 315537897599999999"
    );
    assert_eq!(part("second"), "5 2 -2 2148 5184000 315537897599");
    assert_eq!(part("day"), "0 0 0 0 60 3652058");
    assert!(part("nanosecond").contains("the nanoseconds do not fit int64"));
    let short = spans(&[&["1970-01-01T00:00:02.1Z", zero]]);
    assert_eq!(short.shown("extract(nanosecond FROM b - a)"), "2100000000");
    assert_eq!(
        constant("extract(millisecond FROM INTERVAL '5.25 seconds')"),
        "5250"
    );
    assert!(fault("b timestamp", "extract(month FROM b - b)").contains("has no part 'MONTH'"));
}

#[test]
fn a_float_beside_a_decimal_stays_a_float() {
    let given = table(
        "f float64, d decimal(38,15)",
        &[
            &["1e-16", "1"],
            &["0.1", "0.1"],
            &["1234567.891", "1"],
            &["999999999999999", "1"],
            &["1e15", "12345678901234567890123"],
            &["-1e300", "1"],
            &["NaN", "1"],
            &["inf", "1"],
        ],
    );
    assert_eq!(
        given.shown("f > 0.0"),
        "true true true true true false true true"
    );
    assert_eq!(given.shown("f = 0.0"), "false ".repeat(8).trim_end());
    assert_eq!(
        given.shown("f IN (0.0, 1.5)"),
        "false ".repeat(8).trim_end()
    );
    assert_eq!(
        given.shown("f BETWEEN 0.05 AND 0.15"),
        "false true ".to_owned() + "false false false false false false"
    );
    let same = "1e-16 0.1 1234567.891 999999999999999.0 1000000000000000.0 -1e300 NaN inf";
    for expression in [
        "coalesce(f, 0.0)",
        "CASE WHEN f > 0 OR f <= 0 THEN f ELSE 0.0 END",
        "nullif(f, 7.5)",
        "nvl2(f, f, 0.0)",
        "coalesce(f, d)",
        "greatest(f, f, -1.5e308)",
        "if(TRUE, f, d)",
    ] {
        assert_eq!(given.shown(expression), same, "{expression}");
    }
    assert_eq!(
        given.shown("f > d"),
        "false false true true false false true true"
    );
    assert_eq!(
        given.shown("f = d"),
        "false true false false false false false false"
    );
    // As in every language of IEEE 754.
    assert_eq!(constant("0.1e0 + 0.2e0 = 0.3"), "false");
}

#[test]
fn what_is_unknown_stays_unknown() {
    let given = table("k int64", &[&["NULL"], &["1"], &["2"], &["3"]]);
    assert_eq!(
        given.shown("k NOT IN (1) OR k NOT IN (2)"),
        "NULL true true true"
    );
    assert_eq!(
        given.shown("k IN (1) AND k IN (2)"),
        "NULL false false false"
    );
    assert_eq!(given.shown("k ^ k"), "NULL 0 0 0");
    assert_eq!(given.shown("k IN (1, NULL)"), "NULL true NULL NULL");
    assert_eq!(given.shown("k NOT IN (1, NULL)"), "NULL false NULL NULL");
    assert_eq!(given.shown("k = k"), "NULL true true true");
    assert_eq!(given.shown("k - k"), "NULL 0 0 0");
    assert_eq!(given.shown("k * 0"), "NULL 0 0 0");
    assert_eq!(given.shown("k % 1"), "NULL 0 0 0");
    assert_eq!(given.shown("k <> k OR k = k"), "NULL true true true");
    assert_eq!(given.shown("k > 1 OR NOT k > 1"), "NULL true true true");
    assert_eq!(given.shown("k > 1 AND NOT k > 1"), "NULL false false false");
    for condition in [
        "k NOT IN (1) OR k NOT IN (2)",
        "NOT (k IN (1) AND k IN (2))",
    ] {
        let kept = given.all(&format!("SELECT k FROM input WHERE {condition}"));
        assert_eq!(kept.unwrap(), ["1", "2", "3"], "{condition}");
    }
}

#[test]
fn similar_to_is_the_pattern_of_the_standard() {
    let given = table("s string", &[&["abc"], &["b"], &["axx"], &["NULL"]]);
    assert_eq!(given.shown("s SIMILAR TO 'a%'"), "true false true NULL");
    assert_eq!(given.shown("s SIMILAR TO 'b'"), "false true false NULL");
    assert_eq!(given.shown("s SIMILAR TO '_b_'"), "true false false NULL");
    assert_eq!(given.shown("s SIMILAR TO '...'"), "false false false NULL");
    assert_eq!(given.shown("s SIMILAR TO '(a|x)%'"), "true false true NULL");
    assert_eq!(
        given.shown("s NOT SIMILAR TO 'a#%' ESCAPE '#'"),
        "true true true NULL"
    );
    assert!(fault("s string", "s SIMILAR TO '('").contains("'(' is not a pattern of SIMILAR TO"));
}

#[test]
fn bins_of_time_hold_every_time_or_fail() {
    let given = table(
        "ts timestamp",
        &[
            &["1700-01-01T12:00:00Z"],
            &["1677-09-22T00:00:00Z"],
            &["9999-12-31T23:59:59.999999Z"],
        ],
    );
    assert_eq!(
        given.shown("date_bin(INTERVAL '1 day', ts, TIMESTAMP '2024-01-01')"),
        "1700-01-01T00:00:00Z 1677-09-22T00:00:00Z 9999-12-31T00:00:00Z"
    );
    assert_eq!(
        given.shown("date_bin(INTERVAL '1 month', ts)"),
        "1700-01-01T00:00:00Z 1677-09-01T00:00:00Z 9999-12-01T00:00:00Z"
    );
    assert_eq!(
        given.shown("date_bin(INTERVAL '1000 year', ts, TIMESTAMP '0000-01-01')"),
        "1000-01-01T00:00:00Z 1000-01-01T00:00:00Z 9000-01-01T00:00:00Z"
    );
    let message = given.shown("date_bin(INTERVAL '9000 year', ts)");
    assert!(
        message.contains("outside of the years 0000 to 9999"),
        "{message}"
    );
}

#[test]
fn rounding_never_turns_a_number_into_null() {
    let given = table(
        "f float64",
        &[&["0.1"], &["1e300"], &["-2.5"], &["NaN"], &["inf"]],
    );
    assert_eq!(given.shown("round(f, 400)"), "0.1 1e300 -2.5 NaN inf");
    assert_eq!(given.shown("round(f, -400)"), "0.0 0.0 0.0 NaN inf");
    assert_eq!(given.shown("round(f, 10)"), "0.1 1e300 -2.5 NaN inf");
    assert_eq!(given.shown("trunc(f, 10)"), "0.1 1e300 -2.5 NaN inf");
    assert_eq!(given.shown("round(f, 308)"), "0.1 1e300 -2.5 NaN inf");
    assert_eq!(given.shown("round(f)"), "0.0 1e300 -3.0 NaN inf");
    assert!(constant("round(1.7e308, -308)").contains("does not fit float64"));
}

#[test]
fn at_time_zone_has_an_effect_and_knows_its_zones() {
    let given = table(
        "ts timestamp",
        &[&["2024-06-01T12:34:56Z"], &["2024-01-01T00:00:00Z"]],
    );
    let berlin = "ts AT TIME ZONE 'Europe/Berlin'";
    assert_eq!(
        given.shown(berlin),
        "2024-06-01T14:34:56Z 2024-01-01T01:00:00Z"
    );
    assert_eq!(given.shown(&format!("extract(hour FROM {berlin})")), "14 1");
    assert_eq!(
        given.shown(&format!("CAST({berlin} AS string)")),
        "2024-06-01T14:34:56 2024-01-01T01:00:00"
    );
    assert_eq!(
        given.shown(&format!("({berlin}) AT TIME ZONE 'Europe/Berlin' = ts")),
        "true true"
    );
    assert_eq!(
        given.shown("date_trunc('day', ts, 'Europe/Berlin')"),
        "2024-05-31T22:00:00Z 2023-12-31T23:00:00Z"
    );
    for expression in [
        "ts AT TIME ZONE 'Nowhere/Zone'",
        "date_trunc('day', ts, 'Nowhere/Zone')",
        "CAST(ts AT TIME ZONE 'Nowhere/Zone' AS string)",
        "extract(hour FROM ts AT TIME ZONE '+25:00')",
    ] {
        let message = fault("ts timestamp", expression);
        assert!(message.contains("there is no time zone '"), "{message}");
    }
}

#[test]
fn a_decimal_that_outgrows_38_digits_fails_wherever_it_stands() {
    let most = "9".repeat(38);
    let given = table("z decimal(38,0)", &[&[most.as_str()]]);
    for expression in [
        "z + 1",
        "CAST(z + 1 AS string)",
        "z * 10",
        "abs(z + z) > 0",
        "-z - 1",
    ] {
        let message = given.shown(expression);
        assert!(
            message.contains("the result has more than 38 digits"),
            "{expression}: {message}"
        );
    }
    assert_eq!(given.shown("CAST(z AS string)"), most);
}

#[test]
fn a_number_is_not_a_name() {
    let message = fault("a int64", "1st");
    assert!(message.contains("`1st` begins as a number"), "{message}");
    assert!(
        message.contains("needs double quotes: \"1st\""),
        "{message}"
    );
    assert!(fault("a int64", "1_000").contains("write 1000"));
}

#[test]
fn nan_has_one_place_in_the_order() {
    let given = table(
        "y float64, zero float64",
        &[&["NaN", "0"], &["inf", "0"], &["1", "0"]],
    );
    // 0/0 and the NaN of a text differ in a bit that nobody sees.
    let nan = "(zero / zero)";
    assert_eq!(given.shown(&format!("{nan} > 1e0")), "true true true");
    assert_eq!(
        given.shown(&format!("{nan} = CAST('NaN' AS float64)")),
        "true true true"
    );
    assert_eq!(given.shown(&format!("y = {nan}")), "true false false");
    assert_eq!(given.shown(&format!("y < {nan}")), "false true true");
    assert_eq!(
        given.shown(&format!("y IN ({nan}, 1e0)")),
        "true false true"
    );
    assert_eq!(given.shown(&format!("greatest({nan}, 1e0)")), "NaN NaN NaN");
    assert_eq!(given.shown(&format!("least({nan}, y)")), "NaN inf 1.0");
    assert_eq!(
        given.shown(&format!("y IS DISTINCT FROM {nan}")),
        "false true true"
    );
    assert_eq!(
        given.shown(&format!("nullif({nan}, CAST('NaN' AS float64))")),
        "NULL NULL NULL"
    );
    assert_eq!(given.shown("-zero = zero"), "true true true");
}

#[test]
fn a_number_that_does_not_fit_is_refused() {
    assert!(fault("a int64", "CAST('1e400' AS float64)").contains("'1e400' is not a float64"));
    assert!(fault("a int64", "1e400").contains("1e400 does not fit float64"));
    assert_eq!(constant("TRY_CAST('1e400' AS float64)"), "NULL");
}

#[test]
fn division_of_decimals_rounds_to_its_scale() {
    assert_eq!(constant("2 / 3.0"), "0.666667");
    assert_eq!(constant("10.10 / 3"), "3.366667");
    assert_eq!(constant("-2 / 3.0"), "-0.666667");
    let given = table(
        "d decimal(12,2), i int64",
        &[&["10.10", "3"], &["-0.01", "2"]],
    );
    assert_eq!(given.shown("d / 3"), "3.366667 -0.003333");
    assert_eq!(
        given.shown("d / i"),
        "3.36666666666666666666667 -0.00500000000000000000000"
    );
}

#[test]
fn times_of_the_years_0000_to_9999_work_in_every_function() {
    let given = table(
        "ts timestamp, d date",
        &[
            &["0000-01-01T00:00:00Z", "0000-01-01"],
            &["1677-09-20T12:00:00Z", "1677-09-20"],
            &["2262-04-12T12:00:00Z", "2262-04-12"],
            &["9999-12-31T23:59:59.999999Z", "9999-12-31"],
        ],
    );
    for unit in ["second", "hour", "day", "month", "quarter", "year"] {
        for column in ["ts", "d"] {
            let values = given
                .values(&format!("date_trunc('{unit}', {column})"))
                .unwrap();
            assert_eq!(values.len(), 4, "{unit}");
        }
    }
    assert_eq!(
        given.shown("date_trunc('year', ts)"),
        "0000-01-01T00:00:00Z 1677-01-01T00:00:00Z 2262-01-01T00:00:00Z 9999-01-01T00:00:00Z"
    );
    assert_eq!(
        given.shown("to_char(ts, '%Y-%m-%d')"),
        "0000-01-01 1677-09-20 2262-04-12 9999-12-31"
    );
    assert_eq!(
        given.shown("to_timestamp(CAST(ts AS string)) = ts"),
        "true true true true"
    );
    assert_eq!(
        given.shown("to_timestamp_seconds(to_unixtime(ts)) <= ts"),
        "true true true true"
    );
    assert_eq!(
        given.shown("to_timestamp(to_unixtime(CAST(ts AS string))) <= ts"),
        "true true true true"
    );
    assert_eq!(given.shown("d <= ts"), "true true true true");
    assert_eq!(
        given.shown("(ts AT TIME ZONE 'UTC') = ts"),
        "true true true true"
    );
    assert_eq!(
        constant("to_timestamp(253402300799)"),
        "9999-12-31T23:59:59Z"
    );
    assert!(constant("to_timestamp(253402300800)").contains("outside of the years 0000 to 9999"));
    let message = given.shown("ts + INTERVAL '300000 years'");
    assert!(
        message.contains("outside of the years 0000 to 9999"),
        "{message}"
    );
}

#[test]
fn decimals_of_38_digits_are_computed_with() {
    let given = table(
        "a decimal(38,18), b decimal(38,37), z decimal(38,0)",
        &[&["123456.789", "1.5", "7"]],
    );
    assert_eq!(given.shown("a / 2.5"), "49382.71560000000000000");
    assert_eq!(given.shown("a * 2.5"), "308641.9725000000000000");
    assert_eq!(given.shown("CAST(b / 1 AS decimal(10,2))"), "1.50");
    assert_eq!(given.shown("CAST(b * 1.0 AS decimal(10,2))"), "1.50");
    assert_eq!(given.shown("z > 1.5"), "true");
    assert_eq!(given.shown("z IN (1, 2.5)"), "false");
    assert_eq!(given.shown("z IN (7, 2.5)"), "true");
    assert_eq!(given.shown("z = CAST(7 AS decimal(12,2))"), "true");
    assert_eq!(given.shown("z BETWEEN 6.5 AND 7.5"), "true");
    assert_eq!(given.shown("coalesce(z, 1.5)"), "7");
    assert_eq!(given.shown("b < z"), "true");
    assert_eq!(given.shown("CASE z WHEN 7.0 THEN 'x' END"), "x");
}

#[test]
fn ceil_and_floor_of_full_decimals_have_room() {
    let given = table("d decimal(4,1)", &[&["999.9"], &["-999.9"]]);
    assert_eq!(given.shown("ceil(d)"), "1000 -999");
    assert_eq!(given.shown("floor(d)"), "999 -1000");
    assert_eq!(given.shown("round(d)"), "1000 -1000");
    assert_eq!(given.shown("trunc(d)"), "999 -999");
    assert_eq!(
        constant("ceil(9.9999999999999999999999999999999999999)"),
        "10"
    );
}

#[test]
fn constants_that_are_wrong_are_refused_before_a_record_comes() {
    let columns = "ts timestamp, s string, d date";
    for (expression, message) in [
        (
            "date_trunc('fortnight', ts)",
            "there is no unit 'fortnight'",
        ),
        (
            "extract(fortnight FROM ts)",
            "times have no part 'fortnight'",
        ),
        ("date_part('timezone', ts)", "times have no part 'timezone'"),
        ("to_char(ts, '%Q')", "'%Q' is not a format of times"),
        ("to_timestamp(s, '%Q')", "'%Q' is not a format of times"),
        ("s SIMILAR TO '('", "unclosed group"),
        (
            "regexp_replace(s, '[', 'x')",
            "'[' is not a regular expression: unclosed character class",
        ),
        ("regexp_like(s, 'a', 'q')", "there is no flag `q`"),
        ("digest(s, 'md6')", "`digest` has no method 'md6'"),
        (
            "date_bin(INTERVAL '0 seconds', ts)",
            "a bin is longer than nothing",
        ),
        ("substr(s, 1, -1)", "the length of `substr` is negative"),
        ("split_part(s, '-', 0)", "there is no part 0"),
        ("encode(s, 'base63')", "`encode` has no format 'base63'"),
        ("ts AT TIME ZONE 'Mars'", "there is no time zone 'Mars'"),
        ("s LIKE 'a\\'", "ends with its escape"),
        ("s ~ '*'", "is not a regular expression"),
        ("ts > 'yesterday'", "'yesterday' is not a timestamp"),
        ("d = '2024-02-30'", "'2024-02-30' is not a date"),
        (
            "overlay(s PLACING 'x' FROM 0)",
            "before the first character",
        ),
        (
            "CASE WHEN s = 'x' THEN date_trunc('fortnight', ts) END",
            "there is no unit",
        ),
        (
            "ts + INTERVAL '1 fortnight'",
            "`fortnight` is not a unit of time",
        ),
    ] {
        let found = fault(columns, expression);
        assert!(found.contains(message), "{expression}: {found}");
    }
    assert_eq!(constant("extract(century FROM DATE '2001-01-01')"), "21");
    assert_eq!(constant("extract(decade FROM DATE '1999-01-01')"), "199");
}

#[test]
fn bytes_are_counted() {
    assert_eq!(constant("length(decode('ff00', 'hex'))"), "2");
    assert_eq!(constant("octet_length(decode('ff00ff', 'hex'))"), "3");
    assert_eq!(constant("length('é')"), "1");
    assert_eq!(constant("octet_length('é')"), "2");
}

#[test]
fn a_text_with_an_exponent_is_a_decimal() {
    assert_eq!(constant("CAST('1e3' AS decimal(8,2))"), "1000.00");
    assert_eq!(constant("CAST('1.005' AS decimal(8,2))"), "1.01");
    let message = fault("a int64", "CAST('1e9' AS decimal(8,2))");
    assert!(
        message.contains("the result has more than 8 digits"),
        "{message}"
    );
}

#[test]
fn everyday_functions_are_there() {
    assert_eq!(constant("mod(-7, 3)"), "-1");
    assert_eq!(constant("sign(-2.5)"), "-1");
    assert_eq!(constant("if(1 > 2, 'a', 'b')"), "b");
    assert_eq!(constant("coalesce(1, 2 / 0)"), "1");
    let given = table("i int64, n int64", &[&["1", "NULL"]]);
    assert_eq!(given.shown("coalesce(i, 2 / 0)"), "1");
    assert!(
        given
            .shown("coalesce(n, 2 / 0)")
            .contains("division by zero")
    );
    let given = table("ts timestamp, n int64", &[&["2024-02-29T00:00:00Z", "90"]]);
    assert_eq!(
        given.shown("ts + n * INTERVAL '1 second'"),
        "2024-02-29T00:01:30Z"
    );
    assert_eq!(
        given.shown("ts - INTERVAL '1 day' * n"),
        "2023-12-01T00:00:00Z"
    );
    assert_eq!(
        given.shown("ts + n * 0.5 * INTERVAL '1 second'"),
        "2024-02-29T00:00:45Z"
    );
    for literal in [
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
    ] {
        assert_eq!(constant(literal), literal);
    }
    assert_eq!(constant("-9223372036854775808"), "-9223372036854775808");
}

#[test]
fn a_length_from_data_has_a_bound() {
    let given = table("s string, n int64", &[&["x", "2000000000"]]);
    for expression in [
        "lpad(s, n)",
        "rpad(s, n, 'ab')",
        "repeat(s, n)",
        "repeat(repeat('x', 1000000), 2)",
    ] {
        let message = given.shown(expression);
        assert!(message.contains("1048576 are allowed"), "{message}");
    }
    assert_eq!(given.shown("length(repeat(s, 1000000))"), "1000000");
}

#[test]
fn failures_show_what_the_user_wrote() {
    let given = table("i int64, s string", &[&["9223372036854775807", "x"]]);
    let message = given.shown("-(-i-1)");
    assert!(
        message.contains("column `x`: `-(-i-1)` failed: "),
        "{message}"
    );
    let given = table("i int64, ts timestamp", &[&["0", "2024-01-01T00:00:00Z"]]);
    let message = given.shown("coalesce(1 / i,\n  2)");
    assert!(
        message.contains("`coalesce(1 / i, 2)` failed: division by zero;"),
        "{message}"
    );
    let sql =
        "SELECT i FROM input WHERE i >= 0 AND date_trunc('day', ts) > '2023-01-01' AND 5 / i > 1";
    let message = given.all(sql).unwrap_err();
    assert!(
        message.contains("node `t`, WHERE: `5 / i > 1` failed: division by zero"),
        "{message}"
    );
}

#[test]
fn spellings_of_other_dialects_are_explained() {
    let columns = "value string, i int64";
    for (expression, advice) in [
        ("value = \"v\"", "a text takes single quotes: 'v'"),
        ("value = E'v'", "write it between single quotes"),
        ("value = N'v'", "write it between single quotes"),
        ("value = 'a' 'b'", "join them with `||`"),
        ("i = 1_000", "write 1000"),
        ("i = X'ff'", "decode('…', 'hex')"),
    ] {
        let message = fault(columns, expression);
        assert!(message.contains(advice), "{expression}: {message}");
    }
    let message = table(columns, &[])
        .plan("SELECT i FROM input WHERE i")
        .unwrap_err();
    assert!(
        message.contains("WHERE needs a condition, but this is an int64"),
        "{message}"
    );
}
