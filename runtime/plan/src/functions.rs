//! The functions that SQL may call: all of them, each with its types.
//!
//! Only functions whose result depends on their arguments alone: a record that is processed again
//! after a failure must give the same output, or output that is already visible would be
//! contradicted. What is not in this table is refused by name.

mod bytes;
mod choice;
pub(crate) mod json;
mod math;
mod regular;
mod rounding;
pub(crate) mod text;
mod texts;
mod times;
mod timestamps;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion_common::{Result, ScalarValue};

use crate::semantics::call::{Arguments, Kernel, Value};
use crate::semantics::coerce::convert;
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Meaning, Refusal, refuse};

/// Functions that give another result each time.
const VARYING: [&str; 17] = [
    "clock_timestamp",
    "current_date",
    "current_time",
    "current_timestamp",
    "gen_random_uuid",
    "getdate",
    "localtime",
    "localtimestamp",
    "now",
    "rand",
    "random",
    "statement_timestamp",
    "sysdate",
    "today",
    "transaction_timestamp",
    "unix_timestamp",
    "uuid",
];

/// Functions of others, and what takes their place.
const ADVICE: [(&str, &str); 7] = [
    ("arrow_cast", "use CAST"),
    ("make_time", "there are no times of day: use a timestamp"),
    (
        "regexp_match",
        "regexp_substr(text, pattern) gives the first match",
    ),
    (
        "regexp_matches",
        "regexp_substr(text, pattern, 1, n) gives the n-th match",
    ),
    ("to_number", "use CAST(… AS decimal(p,s))"),
    ("to_time", "there are no times of day: use a timestamp"),
    ("version", "`millstream --version` shows it"),
];

/// One function.
#[derive(Debug)]
pub(crate) struct Function {
    /// Its names; the first is the one to use.
    pub(crate) names: &'static [&'static str],
    /// What it takes and gives, for people.
    pub(crate) signature: &'static str,
    /// Fewest and most arguments.
    arity: (usize, usize),
    /// Whether only the arguments that it needs are computed.
    pub(crate) is_lazy: bool,
    bind: fn(&str, Vec<Typed>) -> Meaning<Typed>,
    /// Calls at the edges, which docs/sql.md shows with their results.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for the page, which a test writes")
    )]
    pub(crate) edges: &'static [&'static str],
}

impl Function {
    /// A function of one name.
    const fn new(
        names: &'static [&'static str],
        signature: &'static str,
        arity: (usize, usize),
        bind: fn(&str, Vec<Typed>) -> Meaning<Typed>,
        edges: &'static [&'static str],
    ) -> Self {
        Self {
            names,
            signature,
            arity,
            is_lazy: false,
            bind,
            edges,
        }
    }

    const fn lazy(self) -> Self {
        Self {
            is_lazy: true,
            ..self
        }
    }

    /// The function over its arguments.
    ///
    /// # Errors
    /// They are too few, too many, or not what it takes.
    pub(crate) fn call(&self, name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
        let (least, most) = self.arity;
        let count = arguments.len();
        if (least..=most).contains(&count) {
            return (self.bind)(name, arguments);
        }
        let takes = match (least, most) {
            (0, 0) => "no argument".to_owned(),
            (1, 1) => "1 argument".to_owned(),
            _ if least == most => format!("{least} arguments"),
            _ if most == usize::MAX && least == 1 => "1 argument or more".to_owned(),
            _ if most == usize::MAX => format!("{least} arguments or more"),
            _ => format!("{least} to {most} arguments"),
        };
        Err(
            Refusal::new(format!("`{name}` takes {takes}, but has {count}"))
                .with_help(self.signature),
        )
    }
}

/// All functions by their lower-case names.
#[derive(Debug)]
pub(crate) struct Functions {
    by_name: BTreeMap<&'static str, &'static Function>,
}

impl Functions {
    /// The built-in ones.
    pub(crate) fn new() -> Self {
        let functions = groups().into_iter().flat_map(|(_, functions)| functions);
        let named =
            |function: &'static Function| function.names.iter().map(move |name| (*name, function));
        Self {
            by_name: functions.flat_map(named).collect(),
        }
    }

    /// The function of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&'static Function> {
        self.by_name.get(name).copied()
    }

    /// Whether the function exists elsewhere but gives another result on every call.
    #[expect(clippy::unused_self, reason = "a question about functions")]
    pub(crate) fn varies(&self, name: &str) -> bool {
        VARYING.contains(&name)
    }

    /// What takes the place of a function that is not there.
    #[expect(clippy::unused_self, reason = "a question about functions")]
    pub(crate) fn advice(&self, name: &str) -> Option<&'static str> {
        ADVICE
            .iter()
            .find(|(theirs, _)| *theirs == name)
            .map(|(_, advice)| *advice)
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().copied()
    }
}

/// All functions by what they are about.
fn groups() -> [(&'static str, &'static [Function]); 8] {
    [
        ("Numbers", math::FUNCTIONS),
        ("Rounding", rounding::FUNCTIONS),
        ("Choice", choice::FUNCTIONS),
        ("Texts", texts::FUNCTIONS),
        ("Regular expressions", regular::FUNCTIONS),
        ("Bytes", bytes::FUNCTIONS),
        ("Times", timestamps::FUNCTIONS),
        ("JSON", json::FUNCTIONS),
    ]
}

/// The arguments of a call, taken one after the other.
pub(crate) struct Taken<'n> {
    name: &'n str,
    arguments: std::vec::IntoIter<Typed>,
}

impl<'n> Taken<'n> {
    pub(crate) fn new(name: &'n str, arguments: Vec<Typed>) -> Self {
        Self {
            name,
            arguments: arguments.into_iter(),
        }
    }

    /// The next argument as it is.
    pub(crate) fn any(&mut self) -> Meaning<Typed> {
        match self.arguments.next() {
            Some(argument) => Ok(argument),
            None => refuse!("`{}` needs another argument", self.name),
        }
    }

    /// Whether there is another one.
    pub(crate) fn has_more(&self) -> bool {
        self.arguments.len() > 0
    }

    /// All that are left.
    pub(crate) fn rest(&mut self) -> Vec<Typed> {
        self.arguments.by_ref().collect()
    }

    pub(crate) fn text(&mut self) -> Meaning<Typed> {
        let argument = self.any()?;
        match argument.data_type {
            Type::String => Ok(argument),
            Type::Null => convert(argument, Type::String),
            other => Err(self
                .takes("a text", other)
                .with_help("convert it with CAST(… AS string)")),
        }
    }

    pub(crate) fn int64(&mut self) -> Meaning<Typed> {
        let argument = self.any()?;
        match argument.data_type {
            Type::Null | Type::Int32 | Type::Int64 => convert(argument, Type::Int64),
            Type::String if argument.is_literal => convert(argument, Type::Int64),
            other => Err(self.takes("a whole number", other)),
        }
    }

    pub(crate) fn float(&mut self) -> Meaning<Typed> {
        let argument = self.any()?;
        match argument.data_type {
            Type::Null => convert(argument, Type::Float64),
            Type::String if argument.is_literal => convert(argument, Type::Float64),
            other if other.is_number() => convert(argument, Type::Float64),
            other => Err(self.takes("a number", other)),
        }
    }

    /// A number of any type; NULL is a `float64`.
    pub(crate) fn number(&mut self) -> Meaning<Typed> {
        let argument = self.any()?;
        match argument.data_type {
            Type::Null => convert(argument, Type::Float64),
            Type::String if argument.is_literal => convert(argument, Type::Float64),
            other if other.is_number() => Ok(argument),
            other => Err(self.takes("a number", other)),
        }
    }

    /// What a message says of an argument of a wrong type.
    pub(crate) fn takes(&self, wanted: &str, given: Type) -> Refusal {
        Refusal::new(format!(
            "`{}` takes {wanted}, but this is {}",
            self.name,
            given.with_article()
        ))
    }
}

/// A kernel that computes row by row.
pub(crate) fn rows<V: Value>(
    row: impl Fn(&Arguments, usize) -> Result<Option<V>> + Send + Sync + 'static,
) -> Kernel {
    Arc::new(move |arguments: &Arguments| arguments.each(|index| row(arguments, index)))
}

/// The integer of a constant that is one, and not NULL.
pub(crate) fn constant_int(argument: &Typed) -> Option<i64> {
    match argument.value() {
        Some(ScalarValue::Int64(value)) => *value,
        Some(ScalarValue::Int32(value)) => value.map(i64::from),
        _ => None,
    }
}

/// A constant integer.
pub(crate) fn int(value: i64) -> Meaning<Typed> {
    Typed::constant(ScalarValue::Int64(Some(value)))
}

#[cfg(test)]
mod tests;
