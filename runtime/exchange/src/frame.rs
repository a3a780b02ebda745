//! What travels over a connection between two workers: frames.
//!
//! A frame is a header of 40 bytes and a body. All numbers have their lowest byte first.
//!
//! | bytes | what |
//! |---|---|
//! | 0–3, 4–7, 8–11 | channel: edge, subtask that sends, subtask that receives |
//! | 12–19 | attempt |
//! | 20–27 | sequence: counts the frames of its channel and direction from 0 |
//! | 28 | kind |
//! | 29–31 | 0 |
//! | 32–35 | length of the body |
//! | 36–39 | CRC-32C of the body and then of the 36 bytes before |
//!
//! Nothing is allocated for a length before it is known to be one that the kind may have, and no
//! body is looked at before its checksum holds.

pub(crate) mod body;

use std::fmt;

/// Length of a header.
pub const HEADER_BYTES: usize = 40;

/// Most bytes of a body: room for one record of the largest size that Kafka is run with.
pub const BODY_BYTES_MAX: usize = 256 * 1_024 * 1_024;

/// Most bytes of the names and types of a channel's columns.
const SCHEMA_BYTES_MAX: usize = 1_024 * 1_024;

/// Connects a subtask of one vertex with a subtask of another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    /// Which edge of the job graph.
    pub edge: u32,
    /// The subtask that sends.
    pub from: u32,
    /// The subtask that receives.
    pub to: u32,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { edge, from, to } = self;
        write!(f, "edge {edge} from subtask {from} to subtask {to}")
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, up to $longest:expr;)*) => {
        /// What a frame says.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name = $number,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            const fn of(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Most bytes of its body.
            pub const fn longest(self) -> usize {
                match self {
                    $(Self::$name => $longest,)*
                }
            }
        }
    };
}

kinds! {
    /// Names and types of the columns of the batches that follow.
    Schema = 1, up to SCHEMA_BYTES_MAX;
    /// Records.
    Batch = 2, up to BODY_BYTES_MAX;
    /// A watermark.
    Watermark = 3, up to 8;
    /// No records for now.
    Idle = 4, up to 0;
    /// A barrier.
    Barrier = 5, up to body::BARRIER_BYTES;
    /// The end of the channel's records.
    End = 6, up to 0;
    /// Nobody will send any more.
    Closed = 7, up to 0;
    /// Back to the sender: bytes that it may send again.
    Credit = 8, up to 8;
    /// Back to the sender: nobody will read any more.
    Gone = 9, up to 0;
    /// The worker lives. Of no channel.
    Heartbeat = 10, up to 0;
    /// The attempt is over here. Of no channel; nothing follows.
    Bye = 11, up to 0;
}

/// What stands before a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which channel; zeros for a frame of none.
    pub channel: ChannelId,
    /// Which attempt.
    pub attempt: u64,
    /// Number of the frame in its channel and direction; 0 for a frame of none.
    pub sequence: u64,
    /// What it says.
    pub kind: Kind,
    /// Length of the body.
    pub length: u32,
}

/// Why what came over a connection is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It does not begin as a frame does.
    #[error("a frame of an unknown kind ({0})")]
    UnknownKind(u8),
    /// Its length is not one of its kind.
    #[error("a frame of kind {kind:?} with a body of {length} bytes")]
    Length {
        /// The kind.
        kind: Kind,
        /// What the header says.
        length: u64,
    },
    /// Something has changed on its way.
    #[error("a frame whose checksum is {actual:08x} instead of {expected:08x}")]
    Checksum {
        /// As the header says.
        expected: u32,
        /// Of what has come.
        actual: u32,
    },
    /// It belongs to another attempt.
    #[error("a frame of attempt {actual} in a connection of attempt {expected}")]
    Attempt {
        /// The connection's.
        expected: u64,
        /// The frame's.
        actual: u64,
    },
    /// A frame is missing, has come twice or too early.
    #[error("frame {actual} of {channel} where frame {expected} follows")]
    Sequence {
        /// Whose.
        channel: ChannelId,
        /// The one that follows.
        expected: u64,
        /// The one that has come.
        actual: u64,
    },
    /// Nobody waits for it.
    #[error("a frame of kind {kind:?} for {channel}, which this side does not expect")]
    Unexpected {
        /// For what.
        channel: ChannelId,
        /// What it says.
        kind: Kind,
    },
    /// More records than the receiver has allowed.
    #[error("{length} bytes over {channel}, which may be sent {credit}")]
    Credit {
        /// Whose.
        channel: ChannelId,
        /// What has come.
        length: u64,
        /// What may come.
        credit: u64,
    },
    /// Its body is not what its kind has.
    #[error("a frame of kind {kind:?} that cannot be read: {reason}")]
    Body {
        /// The kind.
        kind: Kind,
        /// What is wrong.
        reason: String,
    },
}

/// A frame, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub(crate) header: [u8; HEADER_BYTES],
    pub(crate) body: Body,
}

/// A body, in the pieces in which it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    pub(crate) head: Vec<u8>,
    pub(crate) data: Vec<u8>,
    checksum: u32,
}

impl Body {
    pub(crate) fn new(head: Vec<u8>, data: Vec<u8>) -> Self {
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&head), &data);
        Self {
            head,
            data,
            checksum,
        }
    }

    /// Length in bytes.
    pub const fn len(&self) -> usize {
        self.head.len() + self.data.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Frame {
    /// Puts a header before a body, which is not longer than its kind may have it.
    pub fn new(
        channel: ChannelId,
        attempt: u64,
        sequence: u64,
        kind: Kind,
        body: Body,
    ) -> Result<Self, FrameError> {
        let too_long = || FrameError::Length {
            kind,
            length: body.len() as u64,
        };
        let length = u32::try_from(body.len()).map_err(|_| too_long())?;
        if body.len() > kind.longest() {
            return Err(too_long());
        }
        let header = Header {
            channel,
            attempt,
            sequence,
            kind,
            length,
        };
        let header = header.encode(body.checksum);
        Ok(Self { header, body })
    }

    /// Length in bytes.
    pub const fn len(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// Never: a frame has a header.
    #[expect(clippy::unused_self, reason = "what has a length has this too")]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// All its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.header.as_slice(), &self.body.head, &self.body.data].concat()
    }
}

impl Header {
    fn encode(&self, checksum_of_body: u32) -> [u8; HEADER_BYTES] {
        let Self {
            channel: ChannelId { edge, from, to },
            attempt,
            sequence,
            kind,
            length,
        } = *self;
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&edge.to_le_bytes());
        put(&from.to_le_bytes());
        put(&to.to_le_bytes());
        put(&attempt.to_le_bytes());
        put(&sequence.to_le_bytes());
        put(&[kind as u8, 0, 0, 0]);
        put(&length.to_le_bytes());
        let checksum = crc32c::crc32c_append(checksum_of_body, &bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a header. Whether it is true is told by [`check`](Self::check) when the body is there.
    ///
    /// # Errors
    /// There is no such kind, or its body cannot be so long.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let number = |at: usize| {
            let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
            field.copied().map_or(0, u32::from_le_bytes)
        };
        let long = |at: usize| u64::from(number(at)) | u64::from(number(at + 4)) << 32;
        let kind = Kind::of(bytes[28]).ok_or(FrameError::UnknownKind(bytes[28]))?;
        let length = number(32);
        if length as usize > kind.longest() {
            let length = length.into();
            return Err(FrameError::Length { kind, length });
        }
        Ok(Self {
            channel: ChannelId {
                edge: number(0),
                from: number(4),
                to: number(8),
            },
            attempt: long(12),
            sequence: long(20),
            kind,
            length,
        })
    }

    /// Whether header and body are those that were sent.
    ///
    /// # Errors
    /// They are not.
    pub fn check(bytes: &[u8; HEADER_BYTES], body: &[u8]) -> Result<(), FrameError> {
        let (covered, expected) = bytes.split_at(HEADER_BYTES - 4);
        let expected = expected
            .first_chunk()
            .copied()
            .map_or(0, u32::from_le_bytes);
        let actual = crc32c::crc32c_append(crc32c::crc32c(body), covered);
        if actual == expected {
            Ok(())
        } else {
            Err(FrameError::Checksum { expected, actual })
        }
    }
}

#[cfg(test)]
mod tests;
