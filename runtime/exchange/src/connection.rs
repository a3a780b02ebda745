//! Carries frames over one connection, both ways, until it ends.
//!
//! Both sides say at least once per heartbeat interval that they live; who hears nothing for the
//! timeout gives the connection up. So a network that is cut without a word is seen within it.

use std::io;
use std::time::Duration;

use arrow_buffer::{Buffer, MutableBuffer};
use bytes::Buf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::frame::{Frame, FrameError, HEADER_BYTES, Header, Kind};
use crate::outbox::Outbox;

/// Small frames are read and written this many bytes at a time.
const BUFFER: usize = 64 * 1_024;

/// A body is given memory as it comes, this much at first: its length is only a word.
const FIRST_PIECE: usize = 1_024 * 1_024;

/// How long a worker that is done with an attempt tries to say so.
const FAREWELL: Duration = Duration::from_secs(1);

/// When a connection counts as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// Longest time without a frame.
    pub interval: Duration,
    /// Silence after which the other side is given up.
    pub timeout: Duration,
}

/// How a connection ends in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The other side has said that it is done.
    Bye,
    /// This side is.
    Here,
}

/// Why a connection is lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("it has ended the connection without a word")]
    Closed,
    #[error("nothing was heard of it for {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("it does not take what is sent for {} ms", .0.as_millis())]
    Stalled(Duration),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Carries frames until the connection is lost, or `done` here or there. `take` is given every frame
/// that has come whole.
pub(crate) async fn carry<R, W>(
    (reader, writer): (R, W),
    outbox: &Outbox,
    liveness: Liveness,
    done: &CancellationToken,
    mut take: impl FnMut(&Header, &Buffer) -> Result<(), FrameError>,
) -> Result<Ended, Lost>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let mut writer = BufWriter::with_capacity(BUFFER, writer);
    let ended = tokio::select! {
        ended = read(&mut reader, liveness.timeout, &mut take) => ended?,
        lost = write(&mut writer, outbox, liveness) => {
            // Perhaps the other side has said that it is done, and that is not read yet.
            match timeout(FAREWELL, read(&mut reader, FAREWELL, &mut take)).await {
                Ok(Ok(Ended::Bye)) => Ended::Bye,
                _ => return Err(lost),
            }
        }
        () = done.cancelled() => Ended::Here,
    };
    // Whoever waits to send wakes now, and not when the farewell is over.
    outbox.close();
    // Nothing of what still waits would be taken, and the other side may be gone.
    if let Err(error) = timeout(FAREWELL, farewell(&mut writer, outbox)).await {
        tracing::debug!(%error, "a worker does not wait to hear that the attempt is over");
    }
    if ended == Ended::Here {
        // What comes and is not read would reset the connection, and the farewell would be lost.
        drop(
            timeout(
                FAREWELL,
                tokio::io::copy(&mut reader, &mut tokio::io::sink()),
            )
            .await,
        );
    }
    Ok(ended)
}

async fn farewell(writer: &mut (impl AsyncWrite + Unpin), outbox: &Outbox) -> Result<(), Lost> {
    drop(outbox.take());
    outbox.say(Kind::Bye)?;
    for frame in outbox.take().into_iter().flatten() {
        write_frame(writer, &frame).await?;
    }
    writer.flush().await?;
    Ok(writer.shutdown().await?)
}

async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    outbox: &Outbox,
    liveness: Liveness,
) -> Lost {
    loop {
        let filled = timeout(liveness.interval, outbox.filled()).await.is_ok();
        if !filled && let Err(error) = outbox.say(Kind::Heartbeat) {
            return error.into();
        }
        let Some(frames) = outbox.take() else {
            // Closed: what ends the connection comes from elsewhere.
            return std::future::pending().await;
        };
        for frame in frames {
            match timeout(liveness.timeout, write_frame(writer, &frame)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error.into(),
                Err(_) => return Lost::Stalled(liveness.timeout),
            }
        }
        match timeout(liveness.timeout, writer.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.into(),
            Err(_) => return Lost::Stalled(liveness.timeout),
        }
    }
}

async fn write_frame(writer: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let body = Buf::chain(frame.body.head.as_slice(), frame.body.data.as_slice());
    let mut bytes = Buf::chain(frame.header.as_slice(), body);
    writer.write_all_buf(&mut bytes).await
}

async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    patience: Duration,
    take: &mut impl FnMut(&Header, &Buffer) -> Result<(), FrameError>,
) -> Result<Ended, Lost> {
    loop {
        let mut bytes = [0; HEADER_BYTES];
        read_exact(reader, &mut bytes, patience).await?;
        let header = Header::decode(&bytes)?;
        let body = read_body(reader, header.length as usize, patience).await?;
        Header::check(&bytes, &body)?;
        if header.kind == Kind::Bye {
            return Ok(Ended::Bye);
        }
        take(&header, &body)?;
    }
}

async fn read_body(
    reader: &mut (impl AsyncRead + Unpin),
    length: usize,
    patience: Duration,
) -> Result<Buffer, Lost> {
    let mut body = MutableBuffer::new(length.min(FIRST_PIECE));
    read_into(reader, &mut body, length, patience).await?;
    Ok(body.into())
}

/// Reads a body of a length that is allowed, into memory that Arrow's columns can lie in. There is
/// never more of it than twice what has come.
async fn read_into(
    reader: &mut (impl AsyncRead + Unpin),
    body: &mut MutableBuffer,
    length: usize,
    patience: Duration,
) -> Result<(), Lost> {
    while body.len() < length {
        let read = body.len();
        let piece = (length - read).min(FIRST_PIECE.max(read));
        body.resize(read + piece, 0);
        read_exact(reader, &mut body[read..], patience).await?;
    }
    Ok(())
}

/// Fills `bytes`. The time to wait begins anew with every piece that comes.
async fn read_exact(
    reader: &mut (impl AsyncRead + Unpin),
    mut bytes: &mut [u8],
    patience: Duration,
) -> Result<(), Lost> {
    while !bytes.is_empty() {
        let read = timeout(patience, reader.read(bytes)).await;
        match read.map_err(|_| Lost::Silent(patience))?? {
            0 => return Err(Lost::Closed),
            read => bytes = &mut bytes[read..],
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
