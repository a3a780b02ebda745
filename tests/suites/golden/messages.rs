//! The most likely mistakes in a job file, and what is said about each. The texts lie in
//! `messages/`, to be read by people: does each name the place, say what is wrong, and what to do?
//! `UPDATE_EXPECT=1` writes them anew.

use std::path::Path;
use std::time::Duration;

use millstream_tests::cluster::{Cluster, binary};
use millstream_tests::ports::free_port;
use millstream_tests::server::Launch;
use millstream_tests::tools;

const DEADLINE: Duration = Duration::from_mins(1);

/// A job without a mistake.
const JOB: &str = r#"apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: orders}
spec:
  parallelism: 1
  checkpoint:
    storage: file://$HERE/checkpoints
    interval: 1s
  restart: {none: {}}
  dataflow:
    sources:
      - name: orders
        files: {path: $HERE/orders}
        format: {json: {}}
        schema:
          - {name: order_id, type: string}
          - {name: quantity, type: int64}
          - {name: price, type: "decimal(12,2)"}
          - {name: ts, type: timestamp}
        watermark: {column: ts, maxOutOfOrderness: 5s}
    transforms:
      - name: valid
        input: orders
        sql: SELECT * FROM orders WHERE quantity > 0
    sinks:
      - name: processed
        input: valid
        files: {path: $HERE/processed}
        format: {json: {}}
"#;

const KAFKA: &str = "kafka: {bootstrapServers: \"127.0.0.1:9092\", topics: [orders]}";
const FILES: &str = "files: {path: $HERE/orders}";
const FORMAT: &str = "format: {json: {}}\n        schema:";
const SQL: &str = "SELECT * FROM orders WHERE quantity > 0";
const COUNTED: &str = "SELECT order_id, count(*) AS orders FROM orders GROUP BY order_id";
const DISTINCT: &str = "SELECT DISTINCT order_id FROM orders";
const OUT: &str = "kafka: {bootstrapServers: \"127.0.0.1:9092\", topic: processed}";
const STORAGE: &str = "file://$HERE/checkpoints";

const ORDER: &str = r#"{"order_id":"a","quantity":1,"price":"2.50","ts":"2026-01-01T00:00:00Z"}"#;

struct Mistake {
    /// Also the name of the file with the text.
    name: &'static str,
    /// In JOB: this for that.
    edits: Vec<(&'static str, &'static str)>,
    /// Of the input.
    input: &'static [u8],
    /// After `millstream`.
    arguments: Vec<&'static str>,
}

impl Mistake {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            edits: Vec::new(),
            input: ORDER.as_bytes(),
            arguments: vec!["validate", "$FILE"],
        }
    }

    fn edit(mut self, from: &'static str, to: &'static str) -> Self {
        self.edits.push((from, to));
        self
    }

    fn input(mut self, input: &'static [u8]) -> Self {
        self.input = input;
        self
    }

    fn run(self) -> Self {
        self.arguments(&["run", "--progress", "none", "$FILE"])
    }

    fn arguments(mut self, arguments: &[&'static str]) -> Self {
        self.arguments = arguments.to_vec();
        self
    }
}

/// Mistakes in what is written.
fn written() -> Vec<Mistake> {
    let mistake = Mistake::new;
    vec![
        mistake("a-key-is-misspelt").edit("parallelism:", "paralelism:"),
        mistake("a-metric-option-is-misspelt").edit(
            "  restart: {none: {}}",
            "  restart: {none: {}}\n  metrics: {flinkName: true}",
        ),
        mistake("a-line-is-indented-wrongly").edit("    interval: 1s", "   interval: 1s"),
        mistake("a-tab-is-for-indentation").edit("  parallelism: 1", "\tparallelism: 1"),
        mistake("a-type-is-that-of-a-database").edit("type: string", "type: varchar"),
        mistake("a-time-zone-is-misspelt").edit(
            FORMAT,
            "format: {json: {timestampFormat: sql, timeZone: Europe/Belrin}}\n        schema:",
        ),
        mistake("a-time-zone-without-its-format").edit(
            FORMAT,
            "format: {json: {timeZone: Europe/Berlin}}\n        schema:",
        ),
        mistake("a-column-of-numbers-is-json").edit("type: int64", "type: int64, json: true"),
        mistake("a-type-is-text").edit("type: string", "type: text"),
        mistake("a-format-is-csv").edit(FORMAT, "format: csv\n        schema:"),
        mistake("a-number-is-in-quotes").edit("parallelism: 1", "parallelism: \"2\""),
        mistake("a-password-stands-in-an-address").edit(
            FILES,
            "kafka: {bootstrapServers: \"admin:hunter2@kafka:9092\", topics: [orders]}",
        ),
        mistake("storage-is-a-presigned-url").edit(STORAGE, "s3://bucket?X-Amz-Signature=hunter2"),
        mistake("several-mistakes-at-once")
            .edit("parallelism:", "paralelism:")
            .edit("watermark:", "onError: DeadLetter\n        watermark:")
            .edit(SQL, "SELECT order_id, qantity FROM orders"),
        mistake("a-duration-has-no-unit").edit("interval: 1s", "interval: 60"),
        mistake("an-input-is-misspelt").edit("input: valid", "input: vaild"),
        mistake("nobody-reads-a-transform").edit("input: valid", "input: orders"),
        mistake("event-time-is-not-a-timestamp").edit("column: ts", "column: price"),
        mistake("storage-without-a-scheme").edit(STORAGE, "./checkpoints"),
        mistake("storage-with-keys").edit(STORAGE, "s3://AKIAKEY:wJalrXUt@bucket/orders"),
        mistake("storage-of-another-client").edit(STORAGE, "s3a://bucket/orders"),
        mistake("a-path-is-a-pattern").edit(FILES, "files: {path: \"$HERE/orders/*.json\"}"),
        mistake("a-topic-is-a-pattern").edit(
            FILES,
            "kafka: {bootstrapServers: \"kafka:9092\", topics: [\"orders.*\"]}",
        ),
        mistake("a-topic-is-read-and-written")
            .edit(FILES, KAFKA)
            .edit(
                "files: {path: $HERE/processed}",
                "kafka: {bootstrapServers: \"127.0.0.1:9092\", topic: orders}",
            ),
    ]
}

/// Mistakes around groups: where their updates go, and what they keep.
fn grouped() -> Vec<Mistake> {
    let mistake = Mistake::new;
    vec![
        mistake("updates-go-into-files").edit(
            SQL,
            "SELECT order_id, count(*) AS orders FROM orders GROUP BY 1",
        ),
        mistake("updates-go-into-a-topic-without-a-key")
            .edit(SQL, COUNTED)
            .edit("files: {path: $HERE/processed}", OUT),
        mistake("updates-go-into-a-topic-with-another-key")
            .edit(SQL, COUNTED)
            .edit(
                "files: {path: $HERE/processed}",
                "kafka: {bootstrapServers: \"127.0.0.1:9092\", topic: processed, key: orders}",
            ),
        mistake("updates-are-partitioned-by-what-they-update")
            .edit(SQL, COUNTED)
            .edit(
                "files: {path: $HERE/processed}",
                "partitionBy: [orders]\n        print: {}",
            ),
        mistake("state-of-a-transform-that-keeps-none").edit(
            "input: orders\n        sql",
            "input: orders\n        stateTtl: 1h\n        sql",
        ),
        mistake("more-subtasks-than-key-groups")
            .edit("parallelism: 1", "parallelism: 9\n  maxParallelism: 8")
            .edit(SQL, DISTINCT),
        mistake("state-is-forgotten-too-soon").edit(
            "parallelism: 1",
            "parallelism: 1\n  stateBackend: {ttl: 500ms}",
        ),
    ]
}

/// Mistakes in SQL.
fn queried() -> Vec<Mistake> {
    let sql = |name, sql| Mistake::new(name).edit(SQL, sql);
    vec![
        sql(
            "sql-column-is-misspelt",
            "SELECT order_id, qantity FROM orders",
        ),
        sql("sql-input-is-misspelt", "SELECT * FROM order_s"),
        sql(
            "sql-text-in-double-quotes",
            "'SELECT * FROM orders WHERE order_id = \"a\"'",
        ),
        sql(
            "sql-function-is-unknown",
            "SELECT lowercase(order_id) AS id FROM orders",
        ),
        sql(
            "sql-column-is-not-grouped",
            "SELECT order_id, quantity, count(*) AS n FROM orders GROUP BY order_id",
        ),
        sql("sql-sum-of-a-text", "SELECT sum(order_id) AS n FROM orders"),
        sql(
            "sql-aggregate-in-where",
            "SELECT order_id FROM orders WHERE count(*) > 1 GROUP BY order_id",
        ),
        sql(
            "sql-types-do-not-go-together",
            "SELECT order_id + quantity AS x FROM orders",
        ),
        sql(
            "sql-column-without-a-name",
            "SELECT quantity * price FROM orders",
        ),
        sql(
            "sql-does-not-parse",
            "SELECT order_id quantity, FROM orders",
        ),
    ]
}

/// Mistakes that are met before the job runs.
fn met() -> Vec<Mistake> {
    let mistake = Mistake::new;
    vec![
        mistake("the-file-is-not-there").arguments(&["validate", "$HERE/streamjobs.yaml"]),
        mistake("restore-is-misspelt").arguments(&["run", "$FILE", "--restore", "lastest"]),
        mistake("restore-is-a-plain-path").arguments(&[
            "run",
            "$FILE",
            "--restore",
            "./savepoints/a",
        ]),
        mistake("restore-is-an-absolute-path").arguments(&[
            "run",
            "$FILE",
            "--restore",
            "/var/lib/savepoints/a",
        ]),
        mistake("restore-is-a-presigned-url").arguments(&[
            "run",
            "--progress",
            "none",
            "$FILE",
            "--restore",
            "s3://bucket/a?X-Amz-Signature=hunter2",
        ]),
        mistake("listen-is-a-port").arguments(&["run", "$FILE", "--listen", "8091"]),
        mistake("a-password-stands-in-the-coordinator-s-address").arguments(&[
            "worker",
            "--coordinator",
            "admin:hunter2@coordinator:6123",
        ]),
        mistake("the-job-to-delete-cannot-be").arguments(&[
            "checkpoints",
            "delete",
            "--job",
            "file://$HERE/checkpoints",
            "default",
            "..",
        ]),
        mistake("transactions-of-a-job-that-never-ran").arguments(&[
            "transactions",
            "list",
            "$FILE",
        ]),
        mistake("restore-is-not-there").arguments(&[
            "run",
            "--progress",
            "none",
            "$FILE",
            "--restore",
            "file://$HERE/nothing",
        ]),
    ]
}

/// Mistakes that are met while the job runs.
fn met_later() -> Vec<Mistake> {
    let mistake = Mistake::new;
    vec![
        mistake("the-input-is-not-there")
            .run()
            .edit(FILES, "files: {path: $HERE/order}"),
        mistake("live-nothing-is-there")
            .arguments(&["validate", "--live", "$FILE"])
            .edit(FILES, "files: {path: $HERE/order}")
            .edit(STORAGE, "file://$HERE/orders/1.json/checkpoints"),
        mistake("the-input-is-not-json")
            .run()
            .input(b"order_id,quantity\na,1\n"),
        mistake("the-input-lacks-a-column").run().edit(
            "price, type: \"decimal(12,2)\"",
            "cost, type: int64, nullable: false",
        ),
        mistake("the-input-has-times-without-a-zone")
            .run()
            .input(br#"{"order_id":"a","quantity":1,"price":"2.50","ts":"2026-01-01 00:00:00"}"#),
        mistake("the-input-has-nested-json")
            .run()
            .input(br#"{"order_id":{"a":1},"quantity":1}"#),
        mistake("the-output-is-not-json").run().edit(
            "files: {path: $HERE/processed}\n        format: {json: {}}",
            "files: {path: $HERE/processed}\n        format: {json: {jsonColumns: [order_id]}}",
        ),
        mistake("the-input-is-compressed")
            .run()
            .input(b"\x1f\x8b\x08\x00"),
        mistake("a-division-by-zero")
            .run()
            .edit(SQL, "SELECT order_id, 1 / (quantity - 1) AS x FROM orders"),
        mistake("storage-is-a-file")
            .run()
            .edit(STORAGE, "file://$HERE/orders/1.json/checkpoints"),
        mistake("the-broker-does-not-answer").run().edit(
            FILES,
            "kafka: {bootstrapServers: \"127.0.0.1:$PORT\", topics: [orders], connectTimeout: 2s}",
        ),
    ]
}

/// What is said, without what differs from run to run.
fn said(mistake: &Mistake) -> String {
    let cluster = Cluster::new("messages", "");
    let here = cluster.directory().display().to_string();
    let port = free_port().to_string();
    std::fs::create_dir(cluster.directory().join("orders")).expect("a directory");
    std::fs::write(cluster.directory().join("orders/1.json"), mistake.input).expect("a file");
    let mut job = JOB.to_owned();
    for (from, to) in &mistake.edits {
        assert!(job.contains(from), "{}: there is no `{from}`", mistake.name);
        job = job.replace(from, to);
    }
    cluster.rewrite_job(&job.replace("$HERE", &here).replace("$PORT", &port));
    let arguments = mistake.arguments.iter().map(|argument| {
        let file = format!("{here}/streamjob.yaml");
        argument.replace("$FILE", &file).replace("$HERE", &here)
    });
    let run = Launch::new(binary())
        .args(arguments)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .directory(cluster.directory());
    let mut process = run.start(&cluster.directory().join("said.log"));
    let status = process.wait(DEADLINE);
    let text = process.output().replace(&here, "$HERE");
    let text = text.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:$PORT");
    let command = mistake.arguments.join(" ");
    let code = status.code().expect("it ends by itself");
    format!(
        "{}\n$ millstream {command}\n{}\nexit code {code}\n",
        edits(mistake),
        plain(&text)
    )
}

/// The lines of the job file that the mistake has changed.
fn edits(mistake: &Mistake) -> String {
    let lines = mistake
        .edits
        .iter()
        .map(|(from, to)| format!("-{from}\n+{to}\n"));
    lines.collect()
}

/// Without what differs from run to run: times, names of workers and probes, and the summary.
fn plain(text: &str) -> String {
    let is_summary = |line: &str| {
        ["default/", "audit", "  orders"]
            .iter()
            .any(|it| line.starts_with(it))
    };
    let lines = text.lines().filter(|line| !is_summary(line)).map(|line| {
        let line = line.split_once("  WARN ").map_or(line, |(_, line)| line);
        let words = line.trim_end().split(' ').map(|word| match word {
            _ if word.starts_with("local-0-") => "local-0-…:",
            _ if word.contains("/probes/") => "$HERE/…/probes/….json:",
            _ => word,
        });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

#[track_caller]
fn compare(mistakes: Vec<Mistake>) {
    let folder = tools::root().join("tests/suites/golden/messages");
    let mut wrong = Vec::new();
    for mistake in mistakes {
        let found = said(&mistake);
        if differs(&folder.join(format!("{}.txt", mistake.name)), &found) {
            wrong.push(format!("{}:\n{found}", mistake.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "other texts than in tests/suites/golden/messages; run with UPDATE_EXPECT=1 and read them:\n\n{}",
        wrong.join("\n")
    );
}

fn differs(file: &Path, found: &str) -> bool {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(file, found).expect("the folder is there");
        return false;
    }
    std::fs::read_to_string(file).ok().as_deref() != Some(found)
}

#[test]
fn mistakes_in_what_is_written_are_told_with_place_and_advice() {
    compare(written());
}

#[test]
fn mistakes_around_groups_are_told_with_place_and_advice() {
    compare(grouped());
}

#[test]
fn mistakes_in_sql_are_told_with_place_and_advice() {
    compare(queried());
}

#[test]
fn mistakes_that_are_met_at_the_start_are_told_with_place_and_advice() {
    compare(met());
}

#[test]
fn mistakes_that_are_met_while_the_job_runs_are_told_with_place_and_advice() {
    compare(met_later());
}
