//! What functions of texts share.

use datafusion_common::Result;

use super::rows;
use crate::semantics::call::Arguments;
use crate::semantics::cast::{self, Failing};
use crate::semantics::coerce::no_operator;
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Meaning, fail};

/// Longest text, in bytes, that `repeat`, `lpad`, `rpad` and `replace` make: what a length from
/// data asks for must not fill the memory.
pub(crate) const LONGEST: usize = 1_048_576;

/// Checks the length of a text before it is made.
pub(crate) fn bounded(bytes: usize) -> Result<()> {
    if bytes > LONGEST {
        return fail!("the text would have {bytes} bytes: {LONGEST} are allowed");
    }
    Ok(())
}

/// An argument as text, whatever it is.
pub(crate) fn shown(part: Typed) -> Meaning<Typed> {
    match part.data_type {
        Type::String => Ok(part),
        _ => cast::cast(part, Type::String, Failing::Fails),
    }
}

/// `left || right`: NULL if one of them is.
pub(crate) fn joined(left: Typed, right: Typed) -> Meaning<Typed> {
    let (l, r) = (left.data_type, right.data_type);
    let one_is_text = [l, r]
        .into_iter()
        .any(|side| matches!(side, Type::String | Type::Null));
    if !one_is_text {
        return Err(no_operator(l, "||", r));
    }
    let (left, right) = (shown(left)?, shown(right)?);
    let kernel = rows(|arguments: &Arguments, row| {
        let pair = arguments
            .texts(0)?
            .get(row)
            .zip(arguments.texts(1)?.get(row));
        Ok(pair.map(|(left, right)| format!("{left}{right}")))
    });
    Typed::call("||", kernel, Type::String, &[&left, &right])
}
