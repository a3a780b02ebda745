//! Functions that choose between their arguments.

use std::cmp::Ordering;

use super::{Function, Taken};
use crate::semantics::logic;

const MANY: usize = usize::MAX;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        &["coalesce"],
        "coalesce(a, b, …): the first that is not NULL; those behind it are not computed",
        (1, MANY),
        |_, arguments| logic::coalesce(arguments),
        &[
            "coalesce(NULL, 2)",
            "coalesce(1, 2 / 0)",
            "coalesce(1e0, 2.5)",
        ],
    )
    .lazy(),
    Function::new(
        &["nvl", "ifnull"],
        "nvl(a, b): as coalesce",
        (2, 2),
        |_, arguments| logic::coalesce(arguments),
        &["nvl(NULL, 'x')"],
    )
    .lazy(),
    Function::new(
        &["nvl2"],
        "nvl2(a, b, c): b if a is not NULL, otherwise c",
        (3, 3),
        |name, arguments| {
            let mut taken = Taken::new(name, arguments);
            let there = logic::is_null(&taken.any()?, true)?;
            logic::case(vec![(there, taken.any()?)], Some(taken.any()?))
        },
        &["nvl2(NULL, 1, 2)"],
    )
    .lazy(),
    Function::new(
        &["if", "iff"],
        "if(condition, a, b): a if the condition is true, otherwise b",
        (3, 3),
        |name, arguments| {
            let mut taken = Taken::new(name, arguments);
            let condition = taken.any()?;
            logic::case(vec![(condition, taken.any()?)], Some(taken.any()?))
        },
        &["if(1 > 2, 'a', 'b')", "if(NULL, 'a', 'b')"],
    )
    .lazy(),
    Function::new(
        &["nullif"],
        "nullif(a, b): NULL if both are equal, otherwise a",
        (2, 2),
        |name, arguments| {
            let mut taken = Taken::new(name, arguments);
            logic::nullif(taken.any()?, taken.any()?)
        },
        &["nullif(1, 1.0)", "nullif(1, NULL)"],
    ),
    Function::new(
        &["greatest"],
        "greatest(a, b, …): the greatest that is not NULL; NaN is the greatest number",
        (1, MANY),
        |_, arguments| logic::extreme(arguments, Ordering::Greater),
        &[
            "greatest(1, NULL, 3)",
            "greatest(1e0, CAST('NaN' AS float64))",
        ],
    ),
    Function::new(
        &["least"],
        "least(a, b, …): the least that is not NULL",
        (1, MANY),
        |_, arguments| logic::extreme(arguments, Ordering::Less),
        &["least(1, NULL, 3)", "least(1e0, CAST('NaN' AS float64))"],
    ),
];
