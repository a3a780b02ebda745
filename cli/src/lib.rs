//! `kubectl streamjob`: what `kubectl` alone does not say about a `StreamJob`, and the actions
//! that need more than one patch.
//!
//! Invariants: reading never changes anything; what changes something names it before it does so
//! and is refused if the resource changed meanwhile; secrets are never read.
//!
//! Reading order: [`arguments`] is what can be typed, [`cluster`] the only door to Kubernetes
//! (and, through it, to a job's coordinator), [`problem`] what can go wrong and what to do.
//! [`job`], [`coordinator`], [`revision`] say what was read; [`screen`] and [`redact`] are pure
//! and make of it what a person sees. [`command`] joins the two.

pub mod arguments;
pub mod cluster;
pub mod command;
pub mod coordinator;
pub mod exit;
pub mod job;
pub mod pod;
pub mod problem;
pub mod redact;
pub mod report;
pub mod revision;
pub mod screen;
pub mod text;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Arguments;
use crate::exit::Exit;

/// Reads the command line, does what it says, and tells how it ended.
pub fn main() -> ExitCode {
    let words = completion_words();
    // Words for completion are not a command line: they may be anything.
    let arguments = words.is_none().then(Arguments::parse);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let exit = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match arguments {
                Some(arguments) => command::run(arguments).await,
                None => command::complete(&words.unwrap_or_default()).await,
            }
        }),
        Err(error) => Exit::failed(&problem::Problem::System {
            what: "input and output do not start".to_owned(),
            reason: error.to_string(),
        }),
    };
    exit.into()
}

/// What has been typed, if `kubectl` asks for completions.
fn completion_words() -> Option<Vec<String>> {
    let mut words = std::env::args();
    let name = words.next()?;
    let is_link = std::path::Path::new(&name).file_name()? == command::complete::LINK;
    is_link.then(|| words.collect())
}
