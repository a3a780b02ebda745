//! The first words of a connection.
//!
//! The worker that connects says `MSTX`, the version (two bytes), the length of what follows (two
//! bytes), and a [`Hello`] as JSON. The other one answers in the same way with an [`Answer`]; after a
//! refusal the connection ends.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Version of the exchange between workers. Both sides refuse another one.
pub(crate) const VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"MSTX";

/// Most bytes of a hello or an answer: some names.
const BYTES_MAX: u16 = 4_096;

/// Who connects, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Which job: workers of one job know the same text.
    pub(crate) job: String,
    pub(crate) attempt: u64,
    /// The worker that connects, and sends.
    pub(crate) from: String,
    /// The worker that it believes to reach.
    pub(crate) to: String,
}

/// Whether the connection is welcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Why not.
    pub(crate) refused: Option<String>,
}

/// Why two workers do not come to talk to each other.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("what is there does not speak as a worker does")]
    Stranger,
    #[error("it speaks version {0} of the exchange, this worker version {VERSION}")]
    Version(u16),
    #[error("a first message of {0} bytes, more than {BYTES_MAX}")]
    TooLong(u16),
    #[error("a first message that cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

pub(crate) async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), HelloError> {
    let text = serde_json::to_vec(message)?;
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    if length > BYTES_MAX {
        return Err(HelloError::TooLong(length));
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&text);
    stream.write_all(&bytes).await?;
    Ok(stream.flush().await?)
}

pub(crate) async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<T, HelloError> {
    let mut magic = [0; 4];
    stream.read_exact(&mut magic).await?;
    if magic != MAGIC {
        return Err(HelloError::Stranger);
    }
    let version = stream.read_u16_le().await?;
    if version != VERSION {
        return Err(HelloError::Version(version));
    }
    let length = stream.read_u16_le().await?;
    if length > BYTES_MAX {
        return Err(HelloError::TooLong(length));
    }
    let mut text = vec![0; usize::from(length)];
    stream.read_exact(&mut text).await?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests;
