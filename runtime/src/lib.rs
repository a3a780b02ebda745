//! Millstream: one binary, several roles.
//!
//! `millstream run` holds a coordinator and its workers in one process; `millstream coordinator`
//! and `millstream worker` are the same parts as processes of their own. The other commands only
//! look, or clear up: `validate` and `explain` at a job file, `checkpoints` at a storage,
//! `transactions` at what sinks have open. `drill` runs a job and is bad to it.
//!
//! Reading order: [`cli`] is what can be typed, [`job`] reads a job file and plans it, [`registry`]
//! makes tasks and coordinator options from a plan, `registered` is what a program has of its own,
//! `role` wires each role, `rpc` joins their
//! processes, `display` shows a run to a person, `exit` says how a process ends.

pub mod cli;
mod command;
mod display;
mod exit;
pub mod job;
mod registered;
pub mod registry;
mod role;
mod rpc;
mod signals;
mod telemetry;
mod text;

use std::process::ExitCode;

use clap::Parser;

use cli::{Arguments, Command};
use exit::Exit;
pub use registered::Registry;

/// The traits of sinks.
pub use millstream_sinks as sinks;
/// Batches and failures.
pub use millstream_types as types;

/// Columns.
pub mod arrow {
    pub use arrow_array as array;
    pub use arrow_schema as schema;
}

/// What a program adds to [`registry!`].
pub mod register {
    pub use crate::registered::{Registered, at_least_once, idempotent, two_phase_commit};
}

/// What a program has of its own, for [`main`]: `registry![register::two_phase_commit("orders", Orders::open)]`.
#[macro_export]
macro_rules! registry {
    ($($own:expr),* $(,)?) => {
        $crate::Registry::of(::std::vec::Vec::<$crate::register::Registered>::from([$($own),*]))
    };
}

/// Version of this build, as workers and coordinators tell each other.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

/// Runs the command line of this process: all commands of `millstream`, with what the program has of its
/// own.
pub fn main(registry: Registry) -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(failure) = registered::install(registry) {
        return Exit::failed(&failure).into();
    }
    #[cfg(feature = "failpoints")]
    let _points = fail::FailScenario::setup();
    dispatch(arguments).into()
}

fn dispatch(arguments: Arguments) -> Exit {
    let logging = arguments.logging;
    match arguments.command {
        Command::Run(options) => role::run::main(options, &logging),
        Command::Coordinator(options) => role::coordinator::main(options, &logging),
        Command::Worker(options) => role::worker::main(&options, &logging),
        Command::Validate(options) => command::validate::main(&options, &logging),
        Command::Explain(options) => command::explain::main(&options),
        Command::Checkpoints(command) => command::checkpoints::main(&command, &logging),
        Command::Drill(options) => command::drill::main(&options, &logging),
        Command::Transactions(command) => command::transactions::main(&command, &logging),
    }
}
