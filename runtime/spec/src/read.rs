//! From the text of a job file to a [`ValidJob`].
//!
//! Three steps, each on the result of the one before: [`yaml`] makes a tree of the text, behind
//! limits, and keeps the place of every value; [`walk`] compares it with the JSON Schema; `check`
//! looks at what a schema cannot say. The first step ends with the first error, as nothing can be
//! said about what follows it; the other two collect everything.

pub mod locate;
pub(crate) mod tree;
pub(crate) mod walk;
pub mod yaml;

use crate::check::{check, draft};
use crate::fault::{Faults, JobFileError, Place};
use crate::valid::ValidJob;
use crate::{json_schema, read::walk::Walk};

/// Reads a job file: the very YAML that `kubectl apply` takes.
///
/// `origin` names the text in messages, usually the path of the file. Keys of `spec` that only
/// the operator reads are allowed and not looked at.
///
/// # Errors
/// The text is not one YAML document within the [limits](yaml), or breaks rules; all broken
/// rules are listed.
pub fn read(text: &str, origin: &str) -> Result<ValidJob, JobFileError> {
    let mut root = yaml::parse(text)
        .map_err(|refusal| JobFileError::unreadable(origin, refusal.place, refusal.message))?;
    let mut faults = Faults::default();
    Walk::new().check(&mut root, &json_schema(), "", &mut faults);
    if let Some(job) = check(&root, &mut faults) {
        return Ok(job);
    }
    let draft = draft(&root, &faults);
    Err(faults.into_error(origin).with_draft(draft))
}

/// As [`read`], from bytes that may not be valid text.
///
/// # Errors
/// As [`read`]; also if the bytes are not UTF-8.
pub fn read_bytes(bytes: &[u8], origin: &str) -> Result<ValidJob, JobFileError> {
    let unreadable =
        |refusal: yaml::Refusal| JobFileError::unreadable(origin, refusal.place, refusal.message);
    yaml::refuse_size(bytes.len()).map_err(unreadable)?;
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (good, _) = bytes
            .split_at_checked(error.valid_up_to())
            .unwrap_or_default();
        JobFileError::unreadable(
            origin,
            end_of(&String::from_utf8_lossy(good)),
            "the file is not UTF-8 from here on. Save it as UTF-8".to_owned(),
        )
    })?;
    read(text, origin)
}

/// Where what follows a text stands.
fn end_of(text: &str) -> Place {
    let line = text.matches('\n').count() + 1;
    let last = text.rsplit('\n').next().unwrap_or_default();
    Place {
        line,
        column: last.chars().count() + 1,
    }
}
