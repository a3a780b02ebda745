//! How much memory this process may have.

/// Limits of the process's control group, of version 2 and version 1.
const LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// Percent of the memory that keyed state may take, the rest is for records on their way.
const STATE_PERCENT: u64 = 60;

/// Bytes that the keyed state of each of so many workers of this process may take.
pub(super) fn for_state(workers: u32) -> u64 {
    let limits = LIMITS.iter().filter_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().parse().ok()
    });
    let machine = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(total);
    share(limits.chain(machine).min(), workers)
}

/// Where nobody knows how much there is, nothing is refused.
fn share(available: Option<u64>, workers: u32) -> u64 {
    available.map_or(u64::MAX, |bytes| {
        bytes / 100 * STATE_PERCENT / u64::from(workers.max(1))
    })
}

/// What `/proc/meminfo` says that the machine has.
fn total(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_may_take_sixty_percent_of_what_there_is() {
        let meminfo = "MemTotal:       24615000 kB\nMemFree:         1 kB\n";
        let bytes = total(meminfo).unwrap();
        assert_eq!(bytes, 24_615_000 * 1_024);
        assert_eq!(share(Some(1_000_000), 1), 600_000);
        assert_eq!(share(Some(1_000_000), 3), 200_000);
        assert_eq!(share(None, 1), u64::MAX);
        assert_eq!(total("MemFree: 1 kB"), None);
    }

    #[test]
    fn this_process_may_have_some() {
        assert!(for_state(1) > 1 << 20);
    }
}
