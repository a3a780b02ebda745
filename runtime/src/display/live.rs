//! A display that is redrawn in place, by indicatif.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::frame::Frame;
use super::write_to_stderr;

/// Redraws per second at most.
const HERTZ: u8 = 10;

/// Lines at the bottom of the terminal.
#[derive(Debug, Clone)]
pub(super) struct Live {
    screen: MultiProgress,
    head: ProgressBar,
    rows: Vec<ProgressBar>,
    checkpoint: ProgressBar,
}

impl Live {
    /// A display with one line for each of `rows` sources and sinks.
    pub(super) fn new(rows: usize) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(HERTZ);
        let screen = MultiProgress::with_draw_target(target);
        let line = |template: &str| {
            let style = ProgressStyle::with_template(template);
            let bar = ProgressBar::no_length();
            screen.add(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner())))
        };
        Self {
            head: line("{spinner} {wide_msg}"),
            rows: (0..rows).map(|_| line("  {wide_msg}")).collect(),
            checkpoint: line("  {wide_msg}"),
            screen: screen.clone(),
        }
    }

    pub(super) fn draw(&self, frame: &Frame) {
        self.head.set_message(frame.head.clone());
        self.head.tick();
        for (bar, row) in self.rows.iter().zip(&frame.rows) {
            bar.set_message(row.text());
        }
        self.checkpoint.set_message(frame.checkpoint.clone());
    }

    /// Writes whole lines above the display.
    pub(super) fn above(&self, lines: &str) {
        self.screen.suspend(|| write_to_stderr(lines));
    }

    /// Takes the display away.
    pub(super) fn clear(&self) {
        for bar in self.rows.iter().chain([&self.head, &self.checkpoint]) {
            bar.finish_and_clear();
        }
    }
}
