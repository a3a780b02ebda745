//! Whether a file is still the one that a checkpoint was taken of.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// Bytes at the beginning of a file that its identity covers.
const HEAD_BYTES: u64 = 4_096;

/// What a file looked like when the job first saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    /// Its length, bytes.
    pub(super) length: u64,
    /// When it was last written to, nanoseconds since 1970.
    modified_nanos: u64,
    /// CRC-32C of its first 4 KiB, or of all of it.
    head_crc32c: u32,
}

impl Identity {
    /// Looks at a file. Leaves it at an unspecified place.
    pub(super) fn of(file: &mut File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let modified = metadata.modified()?;
        let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        file.seek(SeekFrom::Start(0))?;
        let mut head = Vec::new();
        file.take(HEAD_BYTES).read_to_end(&mut head)?;
        Ok(Self {
            length: metadata.len(),
            modified_nanos: u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX),
            head_crc32c: crc32c::crc32c(&head),
        })
    }

    /// Its JSON, written by hand because that cannot fail.
    pub(super) fn to_json(self) -> String {
        let Self {
            length,
            modified_nanos,
            head_crc32c,
        } = self;
        format!(
            "{{\"length\":{length},\"modified_nanos\":{modified_nanos},\"head_crc32c\":{head_crc32c}}}"
        )
    }

    /// What has changed since; `None` if nothing has.
    pub(super) fn change(&self, now: &Self) -> Option<String> {
        if self.length != now.length {
            let (then, now) = (self.length, now.length);
            return Some(format!("it had {then} bytes and now has {now}"));
        }
        if self.head_crc32c != now.head_crc32c {
            return Some("its content is another".to_owned());
        }
        (self.modified_nanos != now.modified_nanos)
            .then(|| "it has been written to (its modification time is another)".to_owned())
    }
}
