//! SIGINT and SIGTERM.

use std::io;
use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that come so soon after each other are one request: `timeout` signals a process and then
/// the group that it belongs to.
const TOGETHER: Duration = Duration::from_millis(300);

/// Both signals that ask a process to end.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Catches the signals from now on.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next of them.
    ///
    /// # Cancel safety
    /// No signal is lost by dropping the future.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// After a signal: the next one that is a request of its own.
    pub(crate) async fn again(&mut self) {
        tokio::time::sleep(TOGETHER).await;
        while self.next().now_or_never().is_some() {}
        self.next().await;
    }
}
