//! The expressions: every operator and function over values at its edges. `$a` stands for an
//! argument in what PostgreSQL is given.

mod numbers;
mod texts;
mod times;

use std::sync::LazyLock;

use crate::pools::Kind;

/// Why a template's results may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Ieee,
    Digits,
    HalfAway,
    Cut,
    Whole,
    Years,
    Locale,
    Width,
    Finite,
}

/// An expression over arguments of some types.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) ours: &'static str,
    theirs: String,
    pub(crate) types: &'static [Kind],
    pub(crate) why: Option<Why>,
}

impl Template {
    pub(crate) fn postgres(&self) -> &str {
        &self.theirs
    }
}

/// The same text for both: an argument is a word of one letter.
fn same(ours: &'static str, types: &'static [Kind]) -> Template {
    let mut theirs = String::new();
    let letters: Vec<char> = ours.chars().collect();
    let mut in_text = false;
    for (index, c) in letters.iter().enumerate() {
        in_text ^= *c == '\'';
        let is_word = |c: Option<&char>| c.is_some_and(|c| c.is_alphanumeric() || *c == '_');
        let before = index.checked_sub(1).and_then(|before| letters.get(before));
        let alone = !is_word(before) && !is_word(letters.get(index + 1));
        if !in_text && alone && ('a'..='c').contains(c) {
            theirs.push('$');
        }
        theirs.push(*c);
    }
    Template {
        ours,
        theirs,
        types,
        why: None,
    }
}

/// Two texts.
fn other(ours: &'static str, theirs: &str, types: &'static [Kind]) -> Template {
    Template {
        ours,
        theirs: theirs.to_owned(),
        types,
        why: None,
    }
}

impl Template {
    const fn but(mut self, why: Why) -> Self {
        self.why = Some(why);
        self
    }
}

/// All of them.
pub(crate) fn all() -> &'static [Template] {
    static ALL: LazyLock<Vec<Template>> = LazyLock::new(|| {
        let parts = [
            numbers::arithmetic(),
            numbers::comparisons(),
            numbers::logic(),
            numbers::functions(),
            texts::functions(),
            texts::casts(),
            times::parts(),
            times::differences(),
            times::arithmetic(),
            times::zones(),
            times::functions(),
        ];
        parts.into_iter().flatten().collect()
    });
    &ALL
}
