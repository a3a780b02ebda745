//! Whether a sink keeps its promise, for those who write one: run against the real other side.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use millstream_sinks::conformance::{Subject, transactional};
//! # use millstream_sinks::SinkConnector;
//! struct Orders { url: String }
//!
//! impl Subject for Orders {
//!     fn connector(&self) -> Arc<dyn SinkConnector> {
//! #       unimplemented!()
//!         // two_phase_commit(…)
//!     }
//!     fn visible(&self) -> Result<Vec<i64>, String> {
//! #       unimplemented!()
//!         // every `id` that a reader sees now, as often as it sees it
//!     }
//! }
//!
//! // #[test]
//! fn orders_arrive_exactly_once() {
//!     let report = transactional(
//!         || "postgresql://…".to_owned(),               // starts the other side, if it must be started
//!         |place| Box::new(Orders { url: place.to_owned() }),
//!     );
//!     assert!(report.is_clean(), "{report}");
//! }
//! ```
//!
//! What is to be killed runs in processes of its own: the kit starts the very test again, which then does
//! its step instead and ends. So a transaction is really prepared by a process that is gone.

mod batch;
mod child;
mod plain;
mod rig;
mod transactional;

use std::fmt;
use std::sync::Arc;

use millstream_connect::SinkConnector;
use millstream_types::Batch;

use child::serve;
use rig::{Rig, fresh};

pub use plain::idempotent;
pub use transactional::transactional;

/// A sink under test, and a reader of what it has written.
pub trait Subject {
    /// The sink, as a process makes it that has just started.
    fn connector(&self) -> Arc<dyn SinkConnector>;

    /// Rows with these ids. By default two columns: `id`, an `int64`, and `text`, a `string`.
    fn batch(&self, ids: &[i64]) -> Batch {
        batch::of(ids)
    }

    /// The ids of all rows that a reader sees, as often as it sees them.
    ///
    /// # Errors
    /// They cannot be read.
    fn visible(&self) -> Result<Vec<i64>, String>;
}

/// What a sink does otherwise than it must.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What was looked at, in order, and what was found; nothing if all was well.
    pub checks: Vec<(&'static str, Option<String>)>,
}

impl Report {
    /// Whether the sink does all that it must.
    pub fn is_clean(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|(_, found)| found.is_none())
    }

    /// Whether something was found by this check.
    pub fn found(&self, check: &str) -> bool {
        let mut checks = self.checks.iter();
        checks.any(|(name, found)| *name == check && found.is_some())
    }

    fn add(&mut self, check: &'static str, outcome: Result<(), String>) {
        self.checks.push((check, outcome.err()));
    }
}

/// What is looked at, and how: on which rig, at which place.
type Check = fn(&Rig, &str) -> Result<(), String>;

/// Makes all checks of a sink that can work at all.
fn checked(
    place: impl FnOnce() -> String,
    subject: impl Fn(&str) -> Box<dyn Subject>,
    checks: &[(&'static str, Check)],
) -> Report {
    serve(&subject);
    let place = place();
    let rig = Rig::new(subject(&place), &fresh());
    let mut report = Report::default();
    let preflight = rig.preflight();
    let can_work = preflight.is_ok();
    report.add("the sink can work", preflight);
    for (name, check) in checks.iter().filter(|_| can_work) {
        report.add(name, check(&rig, &place));
    }
    report
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (check, found) in &self.checks {
            match found {
                None => writeln!(f, "  ok  {check}")?,
                Some(found) => writeln!(f, "FAIL  {check}: {found}")?,
            }
        }
        Ok(())
    }
}
