//! What a task does with its time, and how its channels stand. For people: nothing is decided by it.

use std::time::Duration;

use millstream_operators::InputIndex;
use millstream_types::ids::TaskId;
use millstream_types::load::{ChannelLoad, StateLoad, TaskLoad};
use millstream_types::{CheckpointId, EventTime};

use crate::alignment::ChannelIndex;

/// Over how long times are averaged.
const WINDOW: Duration = Duration::from_secs(1);

/// One channel that leads to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputChannel {
    /// The task that writes it.
    pub from: TaskId,
    /// The input of the task's first node that its records are for.
    pub input: InputIndex,
}

/// Sums up the times of a task. Time comes in.
#[derive(Debug, Default)]
pub(crate) struct Times {
    began: Duration,
    idle: Duration,
    /// Waiting for room, in all, when the window began.
    backpressured_before: Duration,
    shown: Option<[u32; 3]>,
}

impl Times {
    /// The task has waited for input.
    pub(crate) fn idle(&mut self, time: Duration) {
        self.idle += time;
    }

    /// Busy, backpressured and idle milliseconds of a second in the last full window; `None` before
    /// the first one is over. `backpressured` is the time in all that the task has waited for room.
    pub(crate) fn shown(&mut self, now: Duration, backpressured: Duration) -> Option<[u32; 3]> {
        let window = now.saturating_sub(self.began);
        if window < WINDOW {
            return self.shown;
        }
        let part = |time: Duration| {
            let part = time.as_micros().saturating_mul(1_000) / window.as_micros().max(1);
            u32::try_from(part).unwrap_or(u32::MAX)
        };
        let waited = backpressured.saturating_sub(self.backpressured_before);
        let waiting = part(waited).min(1_000);
        let idle = part(self.idle).min(1_000 - waiting);
        self.shown = Some([1_000 - waiting - idle, waiting, idle]);
        self.began = now;
        self.idle = Duration::ZERO;
        self.backpressured_before = backpressured;
        self.shown
    }
}

/// When the barriers of the newest checkpoint have come over each channel.
#[derive(Debug)]
pub(crate) struct Alignments {
    checkpoint: Option<(CheckpointId, Duration)>,
    times: Vec<Option<Duration>>,
    /// Of the newest one that has come over all channels.
    shown: Vec<Option<u64>>,
    aligned: Option<CheckpointId>,
}

impl Alignments {
    pub(crate) fn new(channels: usize) -> Self {
        Self {
            checkpoint: None,
            times: vec![None; channels],
            shown: vec![None; channels],
            aligned: None,
        }
    }

    /// A barrier has come over a channel.
    pub(crate) fn came(&mut self, channel: ChannelIndex, checkpoint: CheckpointId, now: Duration) {
        let began = match self.checkpoint {
            Some((newest, _)) if newest > checkpoint => return,
            Some((newest, began)) if newest == checkpoint => began,
            _ => {
                self.checkpoint = Some((checkpoint, now));
                self.times.fill(None);
                now
            }
        };
        if let Some(time) = self.times.get_mut(channel.0) {
            *time = Some(now.saturating_sub(began));
        }
        if self.times.iter().all(Option::is_some) {
            let millis = |time: &Option<Duration>| {
                time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
            };
            self.shown = self.times.iter().map(millis).collect();
            self.aligned = Some(checkpoint);
        }
    }

    /// Per channel: from the first barrier at any of them to its own, milliseconds.
    pub(crate) fn shown(&self) -> &[Option<u64>] {
        &self.shown
    }

    /// The checkpoint of these.
    pub(crate) const fn aligned(&self) -> Option<CheckpointId> {
        self.aligned
    }
}

/// The load of a task.
pub(crate) fn load(
    times: [u32; 3],
    watermark: Option<EventTime>,
    state: Option<StateLoad>,
) -> TaskLoad {
    let [busy, backpressured, idle] = times;
    TaskLoad {
        busy,
        backpressured,
        idle,
        watermark,
        channels: Vec::new(),
        aligned: None,
        state,
    }
}

/// How one channel stands that holds records of up to `bound` bytes.
pub(crate) fn channel(
    channel: InputChannel,
    queued: usize,
    bound: usize,
    watermark: Option<EventTime>,
    alignment_ms: Option<u64>,
) -> ChannelLoad {
    let fill = queued.saturating_mul(1_000) / bound.max(1);
    ChannelLoad {
        from: channel.from,
        input: u32::try_from(channel.input.0).unwrap_or(u32::MAX),
        queued_bytes: u64::try_from(queued).unwrap_or(u64::MAX),
        // A batch that is larger than the bound passes alone.
        queue_fill: u32::try_from(fill.min(1_000)).unwrap_or(1_000),
        watermark,
        alignment_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn times_of_a_window_are_a_second_together() {
        let mut times = Times::default();
        times.idle(ms(100));
        assert_eq!(times.shown(ms(900), ms(50)), None, "the window is not over");
        times.idle(ms(400));
        assert_eq!(times.shown(ms(2_000), ms(500)), Some([500, 250, 250]));
        assert_eq!(times.shown(ms(2_100), ms(550)), Some([500, 250, 250]));
        assert_eq!(times.shown(ms(3_000), ms(1_500)), Some([0, 1_000, 0]));
        times.idle(ms(5_000));
        assert_eq!(times.shown(ms(4_000), ms(1_500)), Some([0, 0, 1_000]));
    }

    #[test]
    fn the_slowest_channel_has_the_longest_alignment() {
        let mut alignments = Alignments::new(3);
        let (a, b, c) = (ChannelIndex(0), ChannelIndex(1), ChannelIndex(2));
        alignments.came(b, CheckpointId(1), ms(100));
        alignments.came(a, CheckpointId(1), ms(130));
        assert_eq!(alignments.shown(), [None, None, None]);
        alignments.came(c, CheckpointId(1), ms(900));
        assert_eq!(alignments.shown(), [Some(30), Some(0), Some(800)]);
        alignments.came(a, CheckpointId(2), ms(1_000));
        alignments.came(b, CheckpointId(1), ms(1_001));
        assert_eq!(alignments.shown(), [Some(30), Some(0), Some(800)]);
        assert_eq!(alignments.aligned(), Some(CheckpointId(1)));
        alignments.came(a, CheckpointId(3), ms(1_100));
        alignments.came(b, CheckpointId(3), ms(1_100));
        alignments.came(c, CheckpointId(3), ms(1_107));
        assert_eq!(alignments.shown(), [Some(0), Some(0), Some(7)]);
    }
}
