//! Cuts a file into lines.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

/// Longest line, bytes.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1_024 * 1_024;

/// Bytes read at once.
const CHUNK_BYTES: usize = 256 * 1_024;

/// The lines of a file from some offset up to some length.
///
/// A line ends with `\n`, or at the end of the file; a `\r` before the end does not belong to it.
#[derive(Debug)]
pub(super) struct Lines {
    file: File,
    /// Offset of `buffer`'s first byte.
    buffer_offset: u64,
    buffer: Vec<u8>,
    /// Where in `buffer` the next line begins.
    start: usize,
    /// Bytes of `buffer`, from `start` on, in which no line ends.
    searched: usize,
    /// Where reading ends.
    length: u64,
}

/// What stands next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line, and the offset of its first byte.
    Text(&'a [u8], u64),
    /// There is no further line.
    End,
    /// The file ends before its length.
    Truncated,
    /// The line that begins at this offset is longer than [`MAX_LINE_BYTES`].
    TooLong(u64),
}

impl Lines {
    /// # Errors
    /// The file cannot be positioned.
    pub(super) fn new(mut file: File, offset: u64, length: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self {
            file,
            buffer_offset: offset,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            length,
        })
    }

    /// Offset of the next line's first byte.
    pub(super) fn offset(&self) -> u64 {
        self.buffer_offset + as_u64(self.start)
    }

    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// Goes on to the next line.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Line<'_>> {
        loop {
            let offset = self.offset();
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            let unsearched = rest.get(self.searched..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', unsearched) {
                let length = self.searched + at;
                if length > MAX_LINE_BYTES {
                    return Ok(Line::TooLong(offset));
                }
                return Ok(self.take(length, 1, offset));
            }
            self.searched = rest.len();
            if self.searched > MAX_LINE_BYTES {
                return Ok(Line::TooLong(offset));
            }
            if offset + as_u64(self.searched) >= self.length {
                return Ok(match self.searched {
                    0 => Line::End,
                    length => self.take(length, 0, offset),
                });
            }
            if self.fill()? == 0 {
                return Ok(Line::Truncated);
            }
        }
    }

    fn take(&mut self, length: usize, newline: usize, offset: u64) -> Line<'_> {
        let start = self.start;
        self.start += length + newline;
        self.searched = 0;
        let line = self.buffer.get(start..start + length).unwrap_or_default();
        Line::Text(line.strip_suffix(b"\r").unwrap_or(line), offset)
    }

    /// Reads more, over what has been taken; 0 at the end of the file.
    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.buffer_offset += as_u64(self.start);
        self.start = 0;
        let end = self.buffer_offset + as_u64(self.buffer.len());
        let left = self.length.saturating_sub(end);
        let chunk = as_u64(CHUNK_BYTES).min(left);
        (&self.file).take(chunk).read_to_end(&mut self.buffer)
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
