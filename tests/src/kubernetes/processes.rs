//! Processes of pods, seen from the machine that runs them.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Sends a signal to every process of a pod but its pause container; how many.
pub fn signal(pod: &Value, signal: Signal) -> usize {
    let uid = pod["metadata"]["uid"].as_str().expect("a pod has a uid");
    let pids = processes(uid);
    pids.iter()
        .filter(|pid| kill_process(**pid, signal).is_ok())
        .count()
}

/// Whether a process of a pod lives, besides its pause container.
pub fn live(uid: &str) -> bool {
    !processes(uid).is_empty()
}

/// Control groups of a pod carry its uid in their names.
fn processes(uid: &str) -> Vec<Pid> {
    let mark = format!("pod{uid}");
    let entries = std::fs::read_dir("/proc").expect("/proc is there");
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).ok();
            let is_pause = read("comm")?.trim() == "pause";
            (read("cgroup")?.contains(&mark) && !is_pause).then_some(pid)
        })
        .collect()
}
