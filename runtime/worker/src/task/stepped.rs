//! A task without a thread: a simulator steps it.

use std::time::Duration;

use millstream_types::ids::TaskId;

use super::{Life, Stage, Start, TaskHandle};

/// Most that a task says in one step.
const EVENTS_OF_A_STEP: usize = 4;

/// A task that does something only when it is stepped.
pub struct SteppedTask {
    life: Life,
    begun: bool,
}

impl SteppedTask {
    pub(crate) fn new(start: Start) -> (Self, TaskHandle) {
        let (life, handle) = Life::new(start);
        let task = Self { life, begun: false };
        (task, handle)
    }

    /// Which task.
    pub const fn id(&self) -> TaskId {
        self.life.id
    }

    /// Does a bounded piece of work without waiting for anything. Whether the task is still there.
    pub fn step(&mut self) -> bool {
        if self.life.events.capacity() < EVENTS_OF_A_STEP && !self.life.events.is_closed() {
            return true;
        }
        let result = if self.begun {
            self.life.caught(|task| task.step(Duration::ZERO))
        } else {
            self.begun = true;
            self.life
                .build()
                .and_then(|()| self.life.caught(|task| task.begin()))
        };
        let is_over = result.is_err();
        if is_over {
            self.life.report(result);
        }
        debug_assert_eq!(is_over, matches!(self.life.stage, Stage::Over));
        !is_over
    }
}
