//! `millstream validate`.

use super::print;
use crate::cli::ValidateOptions;
use crate::exit::Exit;
use crate::job::LoadedJob;
use crate::registry::Connectors;

/// Checks every file; all of them are looked at, whatever the first one says.
pub(crate) fn main(options: &ValidateOptions) -> Exit {
    let mut exit = Exit::Done;
    for file in &options.files {
        let checked =
            LoadedJob::read(file).and_then(|loaded| Connectors::of(&loaded.graph).map(|_| loaded));
        match checked {
            Ok(loaded) => print(&summary(&file.display().to_string(), &loaded)),
            Err(failure) => exit = Exit::failed(&failure),
        }
    }
    exit
}

fn summary(file: &str, loaded: &LoadedJob) -> String {
    let job = &loaded.job;
    let count = |count: usize, noun: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {noun}{plural}")
    };
    format!(
        "{file}: job {} is valid: {}, {}, {}\n",
        job.id,
        count(job.sources.len(), "source"),
        count(job.transforms.len(), "transform"),
        count(job.sinks.len(), "sink")
    )
}
