//! From a job graph to what runs: connectors, tasks, coordinator options.

pub mod state;
mod tasks;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use millstream_connect::{SinkConnector, SourceConnector};
use millstream_plan::{JobGraph, Node, NodeKind};
use millstream_spec::ValidSink;
use millstream_spec::valid::SinkConnector as SinkOptions;
use millstream_state::HAS_COLD_TIER;
use millstream_types::protocol::Deploy;
use millstream_types::{ErrorCode, ErrorKind, Failure, OperatorUid};
use millstream_worker::{JobTasks, TaskFactory};

use crate::job::LoadedJob;
use state::StateStorage;
use tasks::Tasks;

/// The connectors of a job, by node.
#[derive(Clone, Default)]
pub struct Connectors {
    /// Of every source.
    pub sources: BTreeMap<OperatorUid, Arc<dyn SourceConnector>>,
    /// Of every sink.
    pub sinks: BTreeMap<OperatorUid, Arc<dyn SinkConnector>>,
}

impl Connectors {
    /// Makes the connectors of a job, with this parallelism.
    ///
    /// # Errors
    /// A connector's options cannot work, or this build lacks what the job asks for.
    pub fn of(loaded: &LoadedJob, parallelism: u32) -> Result<Self, Failure> {
        if let Some(directory) = &loaded.job.state_backend.directory
            && !HAS_COLD_TIER
        {
            return Err(not_built(directory));
        }
        let mut connectors = Self::default();
        for node in &loaded.graph.nodes {
            match &node.kind {
                NodeKind::Source(spec) => {
                    let source = millstream_connectors::source(spec)?;
                    connectors.sources.insert(node.uid.clone(), source);
                }
                NodeKind::Sink(spec) => {
                    let parallelism = node.parallelism.unwrap_or(parallelism);
                    let sink = sink(node, spec, parallelism)?;
                    connectors.sinks.insert(node.uid.clone(), sink);
                }
                NodeKind::Sql(_) | NodeKind::Aggregate(_) => {}
            }
        }
        Ok(connectors)
    }
}

/// The connector of a sink.
fn sink(
    node: &Node,
    spec: &Arc<ValidSink>,
    parallelism: u32,
) -> Result<Arc<dyn SinkConnector>, Failure> {
    #[cfg(feature = "postgres")]
    if let SinkOptions::Postgres(options) = &spec.connector {
        let input = millstream_postgres::Input {
            schema: Arc::clone(&node.schema),
            parallelism,
        };
        return Ok(millstream_postgres::sink(spec, options, &input));
    }
    if let SinkOptions::Custom(options) = &spec.connector {
        return crate::registered::sink(&spec.name, options);
    }
    millstream_connectors::sink(spec)
}

/// Makes the tasks of every job that a worker is given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Factory;

impl TaskFactory for Factory {
    fn job(&self, deploy: &Deploy) -> Result<Box<dyn JobTasks>, Failure> {
        let loaded = LoadedJob::parse(deploy.job.clone(), "the coordinator's job file")?;
        check(&loaded.graph, deploy)?;
        let connectors = Connectors::of(&loaded, deploy.parallelism)?;
        let storage = Arc::new(StateStorage::of(&loaded.job));
        Ok(Box::new(Tasks::new(loaded, connectors, storage, deploy)))
    }
}

/// Makes the tasks of one job, with connectors that are not those of its file.
#[derive(Clone)]
pub struct Substituted {
    /// The job.
    pub job: LoadedJob,
    /// A connector for every source and sink of it.
    pub connectors: Connectors,
    /// Where its tasks keep their state.
    pub storage: Arc<StateStorage>,
}

impl TaskFactory for Substituted {
    fn job(&self, deploy: &Deploy) -> Result<Box<dyn JobTasks>, Failure> {
        check(&self.job.graph, deploy)?;
        let (job, connectors) = (self.job.clone(), self.connectors.clone());
        let storage = Arc::clone(&self.storage);
        Ok(Box::new(Tasks::new(job, connectors, storage, deploy)))
    }
}

fn not_built(directory: &Path) -> Failure {
    let message = format!(
        "spec.stateBackend.directory is {}, and this build of millstream keeps state only in memory: \
         build it with `--features cold`, or leave the key out",
        directory.display()
    );
    Failure::new(ErrorCode::InvalidJob, ErrorKind::InvalidJob, message)
}

fn check(graph: &JobGraph, deploy: &Deploy) -> Result<(), Failure> {
    if graph.fingerprint == deploy.fingerprint {
        Ok(())
    } else {
        Err(mismatch(&deploy.fingerprint, &graph.fingerprint))
    }
}

fn mismatch(theirs: &str, mine: &str) -> Failure {
    Failure::new(
        ErrorCode::PlanMismatch,
        ErrorKind::InvalidJob,
        format!(
            "this worker (millstream {}) plans the job differently from its coordinator: \
             fingerprint {mine}, not {theirs}. Run coordinator and workers from one build",
            crate::BUILD
        ),
    )
}
