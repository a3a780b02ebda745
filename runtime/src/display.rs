//! Shows a run to a person: live on a terminal, as lines elsewhere, and a summary at the end.
//!
//! Progress goes to standard error like the logs, the summary to standard output.

mod balance;
mod frame;
mod live;
mod rate;
mod summary;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use millstream_coordinator::{Handle, Outcome, Progress, Snapshot};
use millstream_plan::{JobGraph, NodeKind};
use millstream_spec::valid::SinkConnector;
use millstream_types::Clock;
use tokio::sync::broadcast;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::ProgressMode;
use crate::job::LoadedJob;
use crate::text;
use balance::Flow;
use frame::Frame;
use live::Live;
use rate::Rates;

/// Between two looks at the job.
const LIVE_EVERY: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Redrawn in place.
    Live,
    /// A line now and then.
    Lines,
    /// Not at all.
    Nothing,
}

impl Style {
    /// What was asked for, or what suits standard error. A job that prints records to the same
    /// terminal would tear a live display apart.
    pub(crate) fn choose(mode: ProgressMode, graph: &JobGraph) -> Self {
        match mode {
            ProgressMode::Live => Self::Live,
            ProgressMode::None => Self::Nothing,
            ProgressMode::Auto if io::stderr().is_terminal() && !prints(graph) => Self::Live,
            ProgressMode::Lines | ProgressMode::Auto => Self::Lines,
        }
    }
}

fn prints(graph: &JobGraph) -> bool {
    graph.nodes.iter().any(|node| match &node.kind {
        NodeKind::Sink(sink) => matches!(sink.connector, SinkConnector::Print(_)),
        NodeKind::Source(_) | NodeKind::Sql(_) | NodeKind::Aggregate(_) => false,
    })
}

/// The display of one run.
#[derive(Debug, Clone)]
pub(crate) struct Display {
    style: Style,
    live: Option<Live>,
    flow: Arc<Flow>,
}

impl Display {
    /// A display of a job that has not started.
    pub(crate) fn new(style: Style, loaded: &LoadedJob) -> Self {
        let flow = Arc::new(Flow::of(&loaded.graph));
        let rows = flow.sources().count() + flow.sinks().count();
        Self {
            style,
            live: (style == Style::Live).then(|| Live::new(rows)),
            flow,
        }
    }

    /// Where logs go: above a live display, so that they do not tear it.
    pub(crate) fn log_writer(&self) -> LogWriter {
        LogWriter {
            live: self.live.clone(),
        }
    }

    /// Says something once.
    pub(crate) fn say(&self, text: &str) {
        match &self.live {
            Some(live) => live.above(&format!("{text}\n")),
            None => write_to_stderr(&format!("{text}\n")),
        }
    }

    /// Shows the job until `ended`.
    pub(crate) async fn show(
        self,
        handle: Handle,
        clock: Arc<dyn Clock>,
        ended: CancellationToken,
    ) {
        let every = match self.style {
            Style::Live => LIVE_EVERY,
            Style::Lines | Style::Nothing => LINE_EVERY,
        };
        let mut news = handle.progress();
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let mut rates = Rates::default();
        loop {
            tokio::select! {
                () = ended.cancelled() => break,
                event = news.recv() => match event {
                    Ok(event) => self.tell(&event),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => break,
                },
                _ = ticks.tick() => self.draw(&handle.snapshot(), &mut rates, clock.monotonic()),
            }
        }
        if let Some(live) = &self.live {
            live.clear();
        }
    }

    fn draw(&self, snapshot: &Snapshot, rates: &mut Rates, now: Duration) {
        rates.observe(&snapshot.job.operators, now);
        let frame = Frame::of(snapshot, &self.flow, rates, now);
        match (&self.live, self.style) {
            (Some(live), _) => live.draw(&frame),
            (None, Style::Lines) => self.say(&frame.line()),
            (None, Style::Live | Style::Nothing) => {}
        }
    }

    fn tell(&self, event: &Progress) {
        match event {
            Progress::Restarting { failure, delay } => self.say(&format!(
                "attempt failed: {failure}\n  restarting in {}",
                text::duration(*delay)
            )),
            Progress::Failed(checkpoint) => {
                let why = checkpoint.failure.as_ref().map(ToString::to_string);
                let why = why.unwrap_or_else(|| "no reason given".to_owned());
                self.say(&format!("checkpoint {} failed: {why}", checkpoint.id));
            }
            Progress::GaveUp(given_up) => self.say(&format!(
                "all output of checkpoint {} was aborted before it could be committed: the job goes \
                 back to checkpoint {}, and nothing is lost",
                given_up.checkpoint, given_up.went_back_to
            )),
            Progress::WorkerLeft { worker, failure } => {
                self.say(&format!("worker {worker} is gone: {failure}"));
            }
            Progress::State { .. } | Progress::Completed(_) | Progress::WorkerJoined { .. } => {}
        }
    }

    /// Prints the summary. Whether every record is accounted for.
    pub(crate) fn summary(&self, snapshot: &Snapshot, outcome: &Outcome, now: Duration) -> bool {
        let (text, balanced) = summary::text(snapshot, &self.flow, outcome, now);
        let mut out = io::stdout().lock();
        // A reader that has gone away is no reason to fail a job that is done.
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
        balanced
    }
}

fn write_to_stderr(text: &str) {
    // Standard error may be closed; there is nowhere left to say so.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// Writes log lines to standard error.
#[derive(Debug, Clone)]
pub(crate) struct LogWriter {
    live: Option<Live>,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.live {
            Some(live) => live.above(&String::from_utf8_lossy(bytes)),
            None => io::stderr().lock().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
