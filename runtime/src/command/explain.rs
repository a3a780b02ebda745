//! `millstream explain`.

use super::print;
use crate::cli::ExplainOptions;
use crate::exit::Exit;
use crate::job::LoadedJob;

/// Shows the plan as text or as a graph.
pub(crate) fn main(options: &ExplainOptions) -> Exit {
    match LoadedJob::read(&options.file) {
        Ok(loaded) => {
            print(&if options.dot {
                millstream_plan::explain::dot(&loaded.graph)
            } else {
                millstream_plan::explain::text(&loaded.job, &loaded.graph)
            });
            Exit::Done
        }
        Err(error) => Exit::failed(&error.into()),
    }
}
