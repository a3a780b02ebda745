//! Workers that leave in good order: first a checkpoint, then the job goes on without them.

use millstream_types::protocol::ToWorker;
use millstream_types::{CheckpointId, ErrorCode, ErrorKind, Failure, WorkerId};

use crate::job::Job;
use crate::job::command::Command;
use crate::job::event::Now;
use crate::job::state::{Execution, Next, Phase};

impl Job {
    /// A worker wants to go. One that runs tasks stays until a checkpoint has been taken that
    /// begins now; then the job restarts from it, without the worker.
    pub(super) fn worker_leaves(&mut self, worker: &WorkerId, now: Now) {
        if !self.workers.contains_key(worker) || !self.leaving.insert(worker.clone()) {
            return;
        }
        tracing::info!(%worker, "worker wants to leave");
        let Phase::Executing(execution) = &mut self.phase else {
            return;
        };
        if !execution.hosts.contains_key(worker) {
            return;
        }
        if execution.all_running() {
            execution.leave_after = Some(execution.next_checkpoint);
            execution.trigger.hurry();
        } else {
            self.move_on(now);
        }
    }

    /// A checkpoint is committed: if workers wait for it in order to leave, the job goes on
    /// without them.
    pub(super) fn leave_after(&mut self, committed: CheckpointId, now: Now) {
        let waits_for = self
            .execution()
            .and_then(|execution| execution.leave_after)
            .filter(|_| matches!(self.phase, Phase::Executing(_)));
        if waits_for.is_some_and(|first| committed >= first) {
            self.move_on(now);
        }
    }

    /// Restarts without the workers that leave. It is no failure: it waits for no delay and
    /// counts towards no limit.
    fn move_on(&mut self, now: Now) {
        let names: Vec<String> = self.leaving.iter().map(ToString::to_string).collect();
        let reason = Failure::new(
            ErrorCode::WorkerLost,
            ErrorKind::Retryable,
            format!("worker {} leaves", names.join(", ")),
        );
        self.stop_attempt(&reason, Next::Restart(now.monotonic), now);
    }

    /// Lets those workers go that want to and are not needed any more.
    pub(super) fn let_go(&mut self) {
        let runs = |execution: &Execution, worker: &WorkerId| execution.hosts.contains_key(worker);
        let may_go = |worker: &WorkerId| match &self.phase {
            Phase::Executing(execution) => !runs(execution, worker),
            Phase::Cancelling(cancelling) => !cancelling.waiting.contains(worker),
            // They are sent home with all the others in a moment.
            Phase::Closing(_) | Phase::Ended(_) => false,
            Phase::Preparing { .. } | Phase::Waiting(_) | Phase::Delaying { .. } => true,
        };
        let going: Vec<WorkerId> = self
            .leaving
            .iter()
            .filter(|worker| may_go(worker))
            .cloned()
            .collect();
        for worker in going {
            self.leaving.remove(&worker);
            self.workers.remove(&worker);
            self.commands.push(Command::Send {
                worker,
                message: ToWorker::Shutdown,
            });
        }
    }
}
