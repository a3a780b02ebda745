//! Functions of texts. Positions and lengths count characters, from 1.

mod compute;

use super::Function;
use super::text::bounded;
use crate::semantics::types::Type;
use compute::{
    ascii, chr, concat, concat_ws, initcap, left, overlay, padded, pair, repeat, replace, right,
    split_part, strpos, substr, substr_index, text_int, text1, text3, translate, trimmed,
};

pub(super) use compute::count;

const MANY: usize = usize::MAX;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        &["upper"],
        "upper(text)",
        (1, 1),
        |name, arguments| text1(name, arguments, |text| Ok(text.to_uppercase())),
        &["upper('straße')"],
    ),
    Function::new(
        &["lower"],
        "lower(text)",
        (1, 1),
        |name, arguments| text1(name, arguments, |text| Ok(text.to_lowercase())),
        &["lower('ÄB')"],
    ),
    Function::new(
        &["initcap"],
        "initcap(text): each word with a capital",
        (1, 1),
        |name, arguments| text1(name, arguments, |text| Ok(initcap(text))),
        &["initcap('hello WORLD-wide 2nd')"],
    ),
    Function::new(
        &["reverse"],
        "reverse(text)",
        (1, 1),
        |name, arguments| text1(name, arguments, |text| Ok(text.chars().rev().collect())),
        &["reverse('añb')"],
    ),
    Function::new(
        &["concat"],
        "concat(a, b, …): of any types; NULL counts as empty",
        (1, MANY),
        concat,
        &["concat('a', NULL, 1, 1.50, TRUE)"],
    ),
    Function::new(
        &["concat_ws"],
        "concat_ws(separator, a, b, …): NULL is left out",
        (2, MANY),
        concat_ws,
        &["concat_ws('-', 'a', NULL, 1)", "concat_ws(NULL, 'a')"],
    ),
    Function::new(
        &["substr", "substring"],
        "substr(text, start), substr(text, start, length): a start before 1 counts into the length",
        (2, 3),
        substr,
        &[
            "substr('hello', 2, 3)",
            "substr('hello', -1, 3)",
            "substr('hello', 9)",
            "substr('hello', 1, -1)",
        ],
    ),
    Function::new(
        &["left"],
        "left(text, n): the first n; of a negative n, all but the last -n",
        (2, 2),
        |name, arguments| text_int(name, arguments, |text, n| Ok(left(text, n))),
        &["left('hello', 2)", "left('hello', -2)", "left('hello', 9)"],
    ),
    Function::new(
        &["right"],
        "right(text, n): the last n; of a negative n, all but the first -n",
        (2, 2),
        |name, arguments| text_int(name, arguments, |text, n| Ok(right(text, n))),
        &["right('hello', 2)", "right('hello', -2)"],
    ),
    Function::new(
        &["lpad"],
        "lpad(text, length[, fill]): filled, or cut, to a length; a result has at most 1,048,576 bytes",
        (2, 3),
        |name, arguments| padded(name, arguments, true),
        &[
            "lpad('7', 3, '0')",
            "lpad('hello', 2)",
            "lpad('x', -1)",
            "lpad('x', 2000000)",
        ],
    ),
    Function::new(
        &["rpad"],
        "rpad(text, length[, fill]): as lpad, on the right",
        (2, 3),
        |name, arguments| padded(name, arguments, false),
        &["rpad('7', 3, 'ab')", "rpad('hello', 2)"],
    ),
    Function::new(
        &["repeat"],
        "repeat(text, n): a result has at most 1,048,576 bytes",
        (2, 2),
        |name, arguments| text_int(name, arguments, repeat),
        &[
            "repeat('ab', 2)",
            "repeat('ab', -1)",
            "repeat('ab', 1000000)",
        ],
    ),
    Function::new(
        &["btrim", "trim"],
        "btrim(text[, characters]): without the spaces, or characters, at both ends",
        (1, 2),
        |name, arguments| trimmed(name, arguments, (true, true)),
        &["btrim(' x ')", "btrim('xyaxy', 'yx')"],
    ),
    Function::new(
        &["ltrim"],
        "ltrim(text[, characters])",
        (1, 2),
        |name, arguments| trimmed(name, arguments, (true, false)),
        &["ltrim(' x ')"],
    ),
    Function::new(
        &["rtrim"],
        "rtrim(text[, characters])",
        (1, 2),
        |name, arguments| trimmed(name, arguments, (false, true)),
        &["rtrim('x  ')"],
    ),
    Function::new(
        &["replace"],
        "replace(text, what, with): every occurrence; a result has at most 1,048,576 bytes",
        (3, 3),
        replace,
        &["replace('aab', 'a', 'x')", "replace('aab', '', 'x')"],
    ),
    Function::new(
        &["translate"],
        "translate(text, from, to): character by character",
        (3, 3),
        |name, arguments| {
            text3(name, arguments, |text, from, to| {
                Ok(translate(text, from, to))
            })
        },
        &["translate('12345', '143', 'ax')"],
    ),
    Function::new(
        &["overlay"],
        "overlay(text, with, start[, length]), OVERLAY(text PLACING with FROM start FOR length)",
        (3, 4),
        overlay,
        &[
            "overlay('hello', 'XX', 2)",
            "overlay('hello', 'XX', 2, 3)",
            "overlay('hello', 'X', 0)",
        ],
    ),
    Function::new(
        &["split_part"],
        "split_part(text, delimiter, n): the n-th part, or from the end if n is negative; otherwise empty",
        (3, 3),
        split_part,
        &[
            "split_part('a-b-c', '-', 2)",
            "split_part('a-b-c', '-', -1)",
            "split_part('a-b', '-', 5)",
            "split_part('a-b', '-', 0)",
        ],
    ),
    Function::new(
        &["substr_index", "substring_index"],
        "substr_index(text, delimiter, n): what is before the n-th delimiter, or behind it from the end",
        (3, 3),
        substr_index,
        &[
            "substr_index('a.b.c', '.', 2)",
            "substr_index('a.b.c', '.', -1)",
        ],
    ),
    Function::new(
        &["strpos", "instr", "position"],
        "strpos(text, part): where it is, or 0; POSITION(part IN text)",
        (2, 2),
        |name, arguments| {
            pair(name, arguments, Type::Int32, |text, part| {
                count(strpos(text, part))
            })
        },
        &[
            "strpos('hello', 'l')",
            "strpos('hello', 'z')",
            "strpos('hello', '')",
        ],
    ),
    Function::new(
        &["find_in_set"],
        "find_in_set(text, list): its place in a list with commas, or 0",
        (2, 2),
        |name, arguments| {
            pair(name, arguments, Type::Int32, |text, list| {
                count(
                    list.split(',')
                        .position(|one| one == text)
                        .map_or(0, |place| place + 1),
                )
            })
        },
        &["find_in_set('b', 'a,b')", "find_in_set('z', 'a,b')"],
    ),
    Function::new(
        &["contains"],
        "contains(text, part)",
        (2, 2),
        |name, arguments| {
            pair(name, arguments, Type::Boolean, |text, part| {
                Ok(text.contains(part))
            })
        },
        &["contains('abc', '')"],
    ),
    Function::new(
        &["starts_with"],
        "starts_with(text, part)",
        (2, 2),
        |name, arguments| {
            pair(name, arguments, Type::Boolean, |text, part| {
                Ok(text.starts_with(part))
            })
        },
        &["starts_with('abc', 'ab')"],
    ),
    Function::new(
        &["ends_with"],
        "ends_with(text, part)",
        (2, 2),
        |name, arguments| {
            pair(name, arguments, Type::Boolean, |text, part| {
                Ok(text.ends_with(part))
            })
        },
        &["ends_with('abc', 'bc')"],
    ),
    Function::new(
        &["levenshtein"],
        "levenshtein(a, b): how many characters differ",
        (2, 2),
        |name, arguments| {
            pair(name, arguments, Type::Int32, |a, b| {
                bounded(a.len().saturating_mul(b.len()))?;
                count(strsim::levenshtein(a, b))
            })
        },
        &["levenshtein('kitten', 'sitting')"],
    ),
    Function::new(
        &["ascii"],
        "ascii(text): the code of the first character, or 0",
        (1, 1),
        ascii,
        &["ascii('A')", "ascii('')", "ascii('é')"],
    ),
    Function::new(
        &["chr"],
        "chr(code): the character of a Unicode code",
        (1, 1),
        chr,
        &["chr(233)", "chr(0)", "chr(1114112)"],
    ),
];
