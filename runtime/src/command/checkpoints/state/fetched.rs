//! The files of a subtask's state: in memory if they are small, else in a directory for temporary files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::ops::Range;

use futures::{StreamExt, TryStreamExt, stream};
use millstream_checkpoint::inspect::Point;
use millstream_state::reader::{StateReader, read_state};
use millstream_state::{Content, LocalDirectory};
use millstream_types::{ErrorCode, ErrorKind, Failure, FileRef, Run};

/// Files that are read at the same time.
const CONCURRENT_FILES: usize = 4;
/// Files that have no more bytes together stay in memory.
const IN_MEMORY: u64 = 64 << 20;

/// Reads what runs hold of some key groups. `None` without any run.
pub(super) async fn reader(
    point: &Point,
    groups: &Range<u32>,
    runs: Vec<Run>,
) -> Result<Option<StateReader>, Failure> {
    let contents = contents(point, &runs, IN_MEMORY).await?;
    let runs = runs.into_iter().filter_map(|run| {
        let content = contents.get(&run.file)?.clone();
        Some((run, content))
    });
    read_state(groups, runs.collect())
}

/// The files of runs, on a disk if they have more bytes than this.
pub(super) async fn contents(
    point: &Point,
    runs: &[Run],
    in_memory: u64,
) -> Result<BTreeMap<FileRef, Content>, Failure> {
    let files: BTreeMap<FileRef, ()> = runs.iter().map(|run| (run.file.clone(), ())).collect();
    let bytes = files.keys().map(|file| file.bytes).sum::<u64>();
    let directory = (bytes > in_memory).then(directory).transpose()?;
    let directory = directory.as_ref();
    let reads: Vec<_> = files
        .into_keys()
        .map(|file| async move {
            let content = match directory {
                Some(directory) => fetch(point, &file, directory).await?,
                None => point.read(&file).await?.into(),
            };
            Ok::<_, Failure>((file, content))
        })
        .collect();
    let reads = stream::iter(reads).buffer_unordered(CONCURRENT_FILES);
    reads.try_collect().await
}

fn directory() -> Result<LocalDirectory, Failure> {
    LocalDirectory::claim(&std::env::temp_dir()).map_err(|failure| unusable(&failure.message))
}

async fn fetch(
    point: &Point,
    file: &FileRef,
    directory: &LocalDirectory,
) -> Result<Content, Failure> {
    let (local, mut out): (_, File) = directory.create().map_err(|error| unusable(&error))?;
    let mut chunks = point.open(file).await?;
    while let Some(chunk) = chunks.try_next().await? {
        out.write_all(&chunk).map_err(|error| unusable(&error))?;
    }
    Ok(Content::Local(local))
}

fn unusable(error: &dyn std::fmt::Display) -> Failure {
    let directory = std::env::temp_dir();
    Failure::new(
        ErrorCode::OperatingSystem,
        ErrorKind::Internal,
        format!(
            "files of state cannot be kept in {}: {error}; set TMPDIR to a directory that has room for \
             the state of a subtask",
            directory.display()
        ),
    )
}
