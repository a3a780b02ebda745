//! The watermark of a task with several channels: the least of theirs. Pure.
//!
//! A channel that is idle, or has ended, holds nothing back. Records of a channel that was idle make
//! it count again, with the watermark that it last had.

use millstream_types::EventTime;

use crate::alignment::ChannelIndex;
use crate::watermark::Progress;

#[derive(Debug, Clone, Copy)]
struct Channel {
    watermark: EventTime,
    is_idle: bool,
    has_ended: bool,
}

/// Event time over all channels of a task.
#[derive(Debug, Clone)]
pub struct Channels {
    all: Vec<Channel>,
    /// What was told last. It never goes back.
    told: EventTime,
    told_idle: bool,
}

impl Channels {
    /// Nothing is known of any of so many channels.
    pub fn new(channels: usize) -> Self {
        let channel = Channel {
            watermark: EventTime::MIN,
            is_idle: false,
            has_ended: false,
        };
        Self {
            all: vec![channel; channels],
            told: EventTime::MIN,
            told_idle: false,
        }
    }

    /// Records have come over a channel.
    pub fn records(&mut self, channel: ChannelIndex) -> Option<Progress> {
        let channel = self.all.get_mut(channel.0)?;
        if !std::mem::take(&mut channel.is_idle) {
            return None;
        }
        self.progress()
    }

    /// A watermark has come over a channel.
    pub fn watermark(&mut self, channel: ChannelIndex, watermark: EventTime) -> Option<Progress> {
        let channel = self.all.get_mut(channel.0)?;
        channel.is_idle = false;
        channel.watermark = channel.watermark.max(watermark);
        self.progress()
    }

    /// A channel has no records for now.
    pub fn idle(&mut self, channel: ChannelIndex) -> Option<Progress> {
        self.all.get_mut(channel.0)?.is_idle = true;
        self.progress()
    }

    /// No records follow over a channel.
    pub fn ended(&mut self, channel: ChannelIndex) -> Option<Progress> {
        self.all.get_mut(channel.0)?.has_ended = true;
        self.progress()
    }

    /// The watermark of a channel; `None` before the first, and while it is idle.
    pub fn watermark_of(&self, channel: usize) -> Option<EventTime> {
        let channel = self.all.get(channel).filter(|it| !it.is_idle)?;
        (channel.watermark > EventTime::MIN).then_some(channel.watermark)
    }

    /// What was told last; `None` before the first.
    pub fn told(&self) -> Option<EventTime> {
        (self.told > EventTime::MIN).then_some(self.told)
    }

    /// Whether no records follow over any channel.
    pub fn have_ended(&self) -> bool {
        self.all.iter().all(|channel| channel.has_ended)
    }

    fn progress(&mut self) -> Option<Progress> {
        let counts = |channel: &&Channel| !channel.is_idle && !channel.has_ended;
        let counted = self.all.iter().filter(counts);
        let Some(least) = counted.map(|channel| channel.watermark).min() else {
            // What was told holds on: those that are left are idle.
            let is_news = !self.told_idle && !self.have_ended();
            self.told_idle = true;
            return is_news.then_some(Progress::Idle);
        };
        let is_news = self.told_idle || least > self.told;
        self.told_idle = false;
        self.told = self.told.max(least);
        is_news.then_some(Progress::Watermark(self.told))
    }
}

#[cfg(test)]
mod tests;
