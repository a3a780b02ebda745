//! The example's program as processes: all roles, killed and started again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_tests::server::{Launch, Server};
use millstream_tests::wait::wait_until;
use millstream_tests::{Scratch, tools};

const PATIENCE: Duration = Duration::from_mins(1);
const ROWS: usize = 4_000;

/// The program that `examples/custom-sink/src/main.rs` is, as cargo builds it beside the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(2).unwrap();
    let program = target.join("examples/custom-sink");
    assert!(
        program.try_exists().unwrap(),
        "{} is not there: cargo build -p millstream --example custom-sink",
        program.display()
    );
    program
}

/// The example's job, with an end, in a directory of its own.
fn job(scratch: &Scratch) -> PathBuf {
    let path = tools::root().join("examples/custom-sink/streamjob.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let here = scratch.path().display().to_string();
    let text = text
        .replace("/var/lib/millstream", &here)
        .replace("interval: 10s", "interval: 200ms")
        .replace(
            "{rowsPerSecond: 1000}",
            &format!("{{rowsPerSecond: 1000, rows: {ROWS}}}"),
        );
    let file = scratch.join("streamjob.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

fn start(scratch: &Scratch, log: &str, arguments: &[&str]) -> Server {
    let launch = Launch::new(program())
        .args(arguments)
        .directory(scratch.path());
    launch.start(&scratch.join(log))
}

/// The lines that were handed over.
fn lines(spool: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(spool.join("ready")) else {
        return Vec::new();
    };
    let texts = entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let text: String = texts.collect();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_example_hands_every_order_over_once_though_its_processes_are_killed() {
    let scratch = Scratch::new("custom-sink");
    let file = job(&scratch).display().to_string();
    let spool = scratch.join("spool");
    let mut kills = 0;
    while kills < 3 {
        let mut run = start(&scratch, &format!("run-{kills}.log"), &["run", &file]);
        let before = lines(&spool).len();
        wait_until("something is handed over", PATIENCE, || {
            assert!(
                run.is_running() || lines(&spool).len() > before,
                "{}",
                run.output()
            );
            lines(&spool).len() > before
        });
        run.kill();
        kills += 1;
    }
    let mut run = start(&scratch, "run.log", &["run", &file]);
    assert!(run.wait(PATIENCE).success(), "{}", run.output());
    let lines = lines(&spool);
    let distinct: BTreeSet<&String> = lines.iter().collect();
    assert_eq!(distinct.len(), lines.len(), "an order is there twice");
    // As many as a run without trouble hands over.
    let other = Scratch::new("custom-sink-calm");
    let file = job(&other).display().to_string();
    let mut run = start(&other, "run.log", &["run", &file]);
    assert!(run.wait(PATIENCE).success(), "{}", run.output());
    let calm = self::lines(&other.join("spool"));
    assert!(calm.len() > ROWS / 2, "{} lines", calm.len());
    let calm: BTreeSet<&String> = calm.iter().collect();
    assert!(distinct == calm, "the same orders");
    let left = std::fs::read_dir(spool.join("pending")).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind");
}

#[test]
fn the_example_has_all_commands_and_names_its_sinks() {
    let scratch = Scratch::new("custom-sink-commands");
    let file = job(&scratch);
    let run = |arguments: &[&str]| {
        let mut process = start(&scratch, "command.log", arguments);
        (process.wait(PATIENCE).success(), process.output())
    };
    let path = file.display().to_string();
    assert!(run(&["validate", &path]).0);
    let (done, shown) = run(&["explain", &path]);
    assert!(done && shown.contains("spool"), "{shown}");
    for command in ["coordinator", "worker", "checkpoints", "transactions"] {
        assert!(run(&[command, "--help"]).0, "{command}");
    }
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("type: spool", "type: spol")).unwrap();
    let (done, said) = run(&["validate", &path]);
    assert!(!done && said.contains("MS0902"), "{said}");
    assert!(said.contains("it has `spool`"), "{said}");
}
