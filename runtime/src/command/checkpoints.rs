//! `millstream checkpoints`.

use crate::cli::{CheckpointsCommand, Logging};
use crate::exit::Exit;

pub(crate) fn main(_command: CheckpointsCommand, _logging: &Logging) -> Exit {
    Exit::Failed
}
