//! Where asynchronous clients run: beside the tasks, on two threads of this process.

use std::future::Future;
use std::sync::OnceLock;

use millstream_connect::Result;
use millstream_types::{ErrorCode, ErrorKind, Failure};
use tokio::runtime::{Builder, Runtime};

const THREADS: usize = 2;

fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::result::Result<Runtime, String>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        let builder = builder.worker_threads(THREADS).enable_all();
        let runtime = builder.thread_name("sink-clients").build();
        runtime.map_err(|error| error.to_string())
    });
    made.as_ref().map_err(|error| {
        let message = format!("no threads for the clients of sinks: {error}");
        Failure::new(ErrorCode::OperatingSystem, ErrorKind::Retryable, message)
    })
}

/// Waits for an asynchronous client. What the future spawns goes on afterwards.
///
/// For methods of a sink, which no runtime's thread runs.
///
/// # Errors
/// As the future; or the operating system gives no threads.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    runtime()?.block_on(future)
}

/// Runs what may block, for somebody who must not.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match runtime()?.spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Failure::new(
            ErrorCode::SinkFailed,
            ErrorKind::Internal,
            format!("the sink has panicked: {error}"),
        )),
    }
}
