//! Ports for processes that have to be told theirs.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use crate::tools;

/// Below those that the system gives to outgoing connections and to whoever asks for any, and below the
/// node ports of Kubernetes.
const PORTS: Range<u16> = 15_000..30_000;

/// A port that nobody uses, and that no test of this machine is given again before all others have been:
/// it is still free when the process that needs it starts, and when it starts again.
#[track_caller]
pub fn free_port() -> u16 {
    let path = tools::cache().join("last-port");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
    // Until the file is closed.
    file.lock().expect("a file can be locked");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("a small file");
    let mut last = text.trim().parse().unwrap_or(PORTS.end);
    for _ in PORTS {
        last = following(last);
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, last)).is_ok() {
            file.rewind().expect("a file can be written again");
            // All numbers have as many digits.
            write!(file, "{last}").expect("a small file");
            return last;
        }
    }
    panic!("all of the ports {PORTS:?} are in use");
}

fn following(port: u16) -> u16 {
    let next = port.saturating_add(1);
    if PORTS.contains(&next) {
        next
    } else {
        PORTS.start
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nobody_is_given_the_port_of_another() {
        let some = || (0..50).map(|_| free_port()).collect::<Vec<u16>>();
        let given: Vec<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(some)).collect();
            let threads = threads.into_iter();
            threads.flat_map(|thread| thread.join().unwrap()).collect()
        });
        let distinct: BTreeSet<u16> = given.iter().copied().collect();
        assert_eq!(distinct.len(), 200);
        assert!(given.iter().all(|port| PORTS.contains(port)));
    }

    #[test]
    fn a_port_in_use_is_passed_over_and_the_first_follows_the_last() {
        assert_eq!(following(PORTS.end - 1), PORTS.start);
        assert_eq!(following(PORTS.start), PORTS.start + 1);
        assert_eq!(following(1), PORTS.start);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
        let used = listener.local_addr().unwrap().port();
        assert!(TcpListener::bind((Ipv4Addr::UNSPECIFIED, used)).is_err());
    }
}
