//! The sink that guides show for databases, which commits when it should prepare: the kit catches it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use millstream::sinks::conformance::{Report, Subject, transactional};
use millstream::sinks::{
    CommitOutcome, Result, SinkConnector, TransactionId, TwoPhaseCommit, two_phase_commit,
};
use millstream::types::Batch;
use millstream_tests::Scratch;

/// What it does otherwise than it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// `prepare` makes rows visible.
    CommitsInPrepare,
    /// `commit` writes the rows again if it is asked again.
    CommitsAgain,
    /// `orphans` finds nothing.
    FindsNoOrphans,
}

/// Rows as files of a directory: `<name>.prepared`, and one file for each visible row.
struct Flawed {
    flaw: Flaw,
    directory: PathBuf,
    open: Option<(String, Vec<i64>)>,
}

impl Flawed {
    fn prepared(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.prepared"))
    }

    fn show(&self, name: &str, ids: &str) {
        for (number, id) in ids.lines().enumerate() {
            let mut file = self.directory.join(format!("{name}.{number}.row"));
            while self.flaw == Flaw::CommitsAgain && file.try_exists().unwrap() {
                file.as_mut_os_string().push(".row");
            }
            fs::write(file, id).unwrap();
        }
    }
}

impl TwoPhaseCommit for Flawed {
    type Transaction = String;

    fn name(transaction: &String) -> &str {
        transaction
    }

    fn begin(&mut self, id: &TransactionId) -> Result<()> {
        self.open = Some((id.to_string(), Vec::new()));
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<u64> {
        let ids = batch.records().column(0).as_primitive::<Int64Type>();
        let (_, open) = self.open.as_mut().unwrap();
        open.extend(ids.values());
        Ok(8)
    }

    fn prepare(&mut self) -> Result<Option<String>> {
        let (name, ids) = self.open.take().unwrap();
        let ids: String = ids.iter().map(|id| format!("{id}\n")).collect();
        match self.flaw {
            Flaw::CommitsInPrepare => self.show(&name, &ids),
            Flaw::CommitsAgain | Flaw::FindsNoOrphans => {
                fs::write(self.prepared(&name), ids).unwrap();
            }
        }
        Ok(Some(name))
    }

    fn commit(&mut self, transaction: &String) -> CommitOutcome {
        if let Ok(ids) = fs::read_to_string(self.prepared(transaction)) {
            self.show(transaction, &ids);
        }
        CommitOutcome::Committed
    }

    fn abort(&mut self, transaction: &String) -> Result<()> {
        fs::remove_file(self.prepared(transaction)).unwrap();
        Ok(())
    }

    fn orphans(&mut self, prefix: &str) -> Result<Vec<String>> {
        if self.flaw == Flaw::FindsNoOrphans {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&self.directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let prepared = names.filter_map(|name| name.strip_suffix(".prepared").map(str::to_owned));
        Ok(prepared.filter(|name| name.starts_with(prefix)).collect())
    }
}

struct Reader(Flaw, PathBuf);

impl Subject for Reader {
    fn connector(&self) -> Arc<dyn SinkConnector> {
        let (flaw, directory) = (self.0, self.1.clone());
        two_phase_commit(move |_| {
            Ok(Flawed {
                flaw,
                directory: directory.clone(),
                open: None,
            })
        })
    }

    fn visible(&self) -> std::result::Result<Vec<i64>, String> {
        let entries = fs::read_dir(&self.1)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let rows = entries.filter(|path| path.extension().is_some_and(|end| end == "row"));
        Ok(rows
            .map(|path| fs::read_to_string(path).unwrap().parse().unwrap())
            .collect())
    }
}

fn report(flaw: Flaw) -> Report {
    let mut scratch = None;
    let report = transactional(
        || {
            let directory = Scratch::new("flawed");
            let path = directory.path().display().to_string();
            scratch = Some(directory);
            path
        },
        |place| Box::new(Reader(flaw, place.into())),
    );
    println!("{flaw:?}\n{report}");
    assert!(!report.is_clean(), "{report}");
    report
}

#[test]
fn a_sink_that_commits_in_prepare_is_caught() {
    let report = report(Flaw::CommitsInPrepare);
    assert!(report.found("a prepared transaction is not visible before its commit"));
}

#[test]
fn a_sink_that_commits_twice_is_caught() {
    let report = report(Flaw::CommitsAgain);
    assert!(report.found("committing again makes no difference"));
    assert!(!report.found("a prepared transaction is not visible before its commit"));
}

#[test]
fn a_sink_that_finds_no_orphans_is_caught() {
    let report = report(Flaw::FindsNoOrphans);
    assert!(report.found("orphans are found and aborted, and nothing that is listed"));
}
