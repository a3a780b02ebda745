//! Files of a directory: a source of lines, and an exactly-once sink of lines.
//!
//! The source's splits are files and its positions are byte offsets; a file must stay as it was
//! when the job first saw it. The sink writes hidden files, which are made durable at each barrier
//! and get their visible name when the checkpoint is committed.
//!
//! Invariants:
//! - Names that come from a checkpoint are checked to be plain file names before they are joined
//!   to a path.
//! - A visible file of the sink is complete and committed; nothing visible is ever changed.
//!
//! Reading order: [`listing`] finds files, [`identity`] tells whether one has changed, `lines` cuts
//! them, `reader` is the source; `writer`, `kept`, `commit` and `committer` are the sink.

mod commit;
mod committer;
mod failure;
mod identity;
mod kept;
mod layout;
mod lines;
mod listing;
mod reader;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use millstream_connect::{
    ReaderContext, Result, SinkCommitter, SinkConnector, SinkWriter, SourceConnector, SourceReader,
    SplitEnumerator, WriterContext,
};
use millstream_spec::connector::{FilesSink, FilesSource};
use millstream_spec::{Format, ValidSink, ValidSource};
use millstream_types::{JobId, OperatorUid};

use committer::Committer;
use layout::Layout;
use listing::Enumerator;
use reader::Reader;
use writer::Writer;

/// The `files` source.
pub fn source(spec: &Arc<ValidSource>, options: &FilesSource) -> Arc<dyn SourceConnector> {
    Arc::new(Source {
        spec: Arc::clone(spec),
        path: PathBuf::from(&options.path),
    })
}

/// The `files` sink.
pub fn sink(spec: &Arc<ValidSink>, options: &FilesSink) -> Arc<dyn SinkConnector> {
    Arc::new(Sink {
        spec: Arc::clone(spec),
        directory: PathBuf::from(&options.path),
    })
}

#[derive(Debug)]
struct Source {
    spec: Arc<ValidSource>,
    path: PathBuf,
}

impl SourceConnector for Source {
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        let enumerator = Enumerator::new(&self.spec.name, &self.path);
        Ok(Box::new(enumerator))
    }

    fn reader(&self, cx: ReaderContext) -> Result<Box<dyn SourceReader>> {
        let reader = Reader::new(&self.spec, &self.path, &cx.schema)?;
        Ok(Box::new(reader))
    }
}

#[derive(Debug)]
struct Sink {
    spec: Arc<ValidSink>,
    directory: PathBuf,
}

impl Sink {
    fn layout(&self, uid: &OperatorUid) -> Layout {
        let extension = match self.spec.format {
            Format::Json(_) => "jsonl",
            Format::Raw(_) => "txt",
        };
        Layout::new(&self.directory, uid, extension)
    }
}

impl SinkConnector for Sink {
    fn writer(&self, cx: WriterContext) -> Result<Box<dyn SinkWriter>> {
        cx.only_appends(&self.spec.name)?;
        let layout = self.layout(&cx.uid);
        let encoder = crate::encoding::encoder(&self.spec, &cx.schema)?;
        let writer = Writer::new(&self.spec.name, layout, encoder, (cx.attempt, cx.subtask));
        Ok(Box::new(writer))
    }

    fn committer(&self, job: &JobId, uid: &OperatorUid) -> Result<Option<Arc<dyn SinkCommitter>>> {
        let layout = self.layout(uid);
        Ok(Some(Arc::new(Committer::new(&self.spec.name, layout, job))))
    }
}

#[cfg(test)]
mod sink_tests;
#[cfg(test)]
mod source_tests;
