//! Pinning of task threads to cores.

/// Whether task threads are bound to cores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pinning {
    /// If the worker has exactly one slot for each core that it may use, and more than one: then
    /// it plainly has the cores for itself. Otherwise the operating system places the threads
    /// better, since several workers on one machine would all choose the same cores.
    #[default]
    Auto,
    /// Never.
    Off,
}

impl Pinning {
    /// The core for the `index`th task thread of a worker with `slots` slots.
    pub(crate) fn core(self, slots: u32, index: usize) -> Option<usize> {
        match self {
            Self::Off => None,
            Self::Auto => choose(&allowed_cores(), slots, index),
        }
    }
}

fn choose(cores: &[usize], slots: u32, index: usize) -> Option<usize> {
    let one_each = cores.len() > 1 && u32::try_from(cores.len()) == Ok(slots);
    one_each.then(|| cores[index % cores.len()])
}

#[cfg(target_os = "linux")]
fn allowed_cores() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    sched_getaffinity(None).map_or_else(
        |_| Vec::new(),
        |set| {
            (0..CpuSet::MAX_CPU)
                .filter(|core| set.is_set(*core))
                .collect()
        },
    )
}

/// Binds the calling thread to a core. Threads that it starts later inherit this, so connectors
/// start theirs before.
#[cfg(target_os = "linux")]
pub(crate) fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "cannot bind a task thread to its core; going on without");
    }
}

#[cfg(not(target_os = "linux"))]
const fn allowed_cores() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
pub(crate) const fn pin(_core: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_with_a_slot_per_core_binds_each_thread_to_its_own() {
        assert_eq!(choose(&[2, 5], 2, 0), Some(2));
        assert_eq!(choose(&[2, 5], 2, 1), Some(5));
        assert_eq!(choose(&[2, 5], 2, 2), Some(2));
    }

    #[test]
    fn a_worker_that_shares_its_cores_binds_nothing() {
        assert_eq!(choose(&[0, 1], 1, 0), None);
        assert_eq!(choose(&[0], 1, 0), None);
        assert_eq!(choose(&[], 1, 0), None);
    }
}
