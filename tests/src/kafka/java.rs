//! Reading a topic with Kafka's own consumer, which shares no code with librdkafka.

use std::process::Command;

use super::Broker;
use super::topics::{Isolation, Record};
use crate::tools;

/// Without a record for so long, the consumer takes it for the end.
const QUIET_MS: u32 = 15_000;

impl Broker {
    /// Reads a topic from its beginning until nothing comes any more. Records must have text
    /// without tabs and line feeds for keys and values.
    #[track_caller]
    pub fn read_with_java(&self, topic: &str, isolation: Isolation) -> Vec<Record> {
        tools::install("kafka.sh", &["tools"]);
        let output = Command::new("java")
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(tools::cache().join("kafka/tools/lib/*"))
            .arg("org.apache.kafka.tools.consumer.ConsoleConsumer")
            .args(["--bootstrap-server", &self.bootstrap(), "--topic", topic])
            .args(["--from-beginning", "--isolation-level", isolation.text()])
            .args(["--timeout-ms", &QUIET_MS.to_string()])
            .args(["--formatter-property", "print.partition=true"])
            .args(["--formatter-property", "print.offset=true"])
            .args(["--formatter-property", "print.key=true"])
            .output()
            .expect("java starts");
        let text = String::from_utf8(output.stdout).expect("the records are text");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        // It ends with its timeout, and counts what it has read.
        let processed = errors
            .lines()
            .find_map(|line| {
                line.strip_prefix("Processed a total of ")?
                    .split(' ')
                    .next()
            })
            .and_then(|count| count.parse::<usize>().ok());
        let records: Vec<Record> = text.lines().map(record).collect();
        assert_eq!(
            processed,
            Some(records.len()),
            "the console consumer says:\n{errors}"
        );
        records
    }
}

/// `Partition:0<tab>Offset:1<tab>key<tab>value`
#[track_caller]
fn record(line: &str) -> Record {
    let mut parts = line.splitn(4, '\t');
    let mut part = |name: &str| {
        let part = parts.next().and_then(|part| part.strip_prefix(name));
        part.unwrap_or_else(|| panic!("no `{name}` in a line of the console consumer: {line}"))
    };
    let number = |text: &str| text.parse().expect("a number");
    Record {
        partition: i32::try_from(number(part("Partition:"))).expect("few partitions"),
        offset: number(part("Offset:")),
        key: match part("") {
            "null" => Vec::new(),
            key => key.as_bytes().to_vec(),
        },
        value: part("").as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_console_consumer_is_understood() {
        let read = record("Partition:3\tOffset:41\tc-1\t{\"a\":\t1}");
        assert_eq!((read.partition, read.offset), (3, 41));
        assert_eq!(
            (read.key, read.value),
            (b"c-1".to_vec(), b"{\"a\":\t1}".to_vec())
        );
        assert_eq!(
            record("Partition:0\tOffset:0\tnull\tx").key,
            Vec::<u8>::new()
        );
    }
}
