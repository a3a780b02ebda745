//! The job file of the example, made fit for a test.

use crate::tools;

/// A job file that is changed piece by piece.
#[derive(Debug, Clone)]
pub struct OrderJobFile(String);

impl OrderJobFile {
    /// The example, pointed at this broker and store, which restarts at once and has the columns
    /// by which the audit recognises an order.
    #[track_caller]
    pub fn new(bootstrap: &str, storage: &str) -> Self {
        let path = tools::root().join("examples/orders/streamjob.yaml");
        let last = "          - {name: ts, type: timestamp, nullable: false}\n";
        let more = "          - {name: sequence, type: int64, nullable: false}\n          \
             - {name: checksum, type: int64, nullable: false}\n";
        Self(std::fs::read_to_string(path).expect("the example is there"))
            .replace("kafka:9092", bootstrap)
            .replace("s3://millstream/checkpoints", storage)
            .replace("minPause: 500ms", "minPause: 100ms")
            .replace(
                "  dataflow:\n",
                "  restart: {fixedDelay: {delay: 200ms, attempts: 1000}}\n  dataflow:\n",
            )
            .replace(last, &format!("{last}{more}"))
    }

    /// A file that was changed already.
    pub const fn of(text: String) -> Self {
        Self(text)
    }

    /// Puts `to` in every place of `from`, of which there must be one.
    #[track_caller]
    pub fn replace(self, from: &str, to: &str) -> Self {
        assert!(self.0.contains(from), "the example has no `{from}`");
        Self(self.0.replace(from, to))
    }

    /// The text from where it has `from` to where it has `to` behind that.
    ///
    /// # Panics
    /// It has no such part.
    #[track_caller]
    pub fn part(&self, from: &str, to: &str) -> String {
        let begin = self.0.find(from).expect("the part begins");
        let end = self.0[begin..].find(to).expect("the part ends");
        self.0[begin..begin + end].to_owned()
    }

    /// The file's text.
    pub fn into_text(self) -> String {
        self.0
    }
}
