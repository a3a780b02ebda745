//! Judges processed orders, in the order in which a reader sees them.

use std::collections::BTreeMap;

use super::Anomalies;
use crate::kafka::topics::Record;
use crate::oracle::Expected;
use crate::workload::{Order, ReadOrder};

/// Examples that a verdict keeps.
const EXAMPLES: usize = 10;

/// What a ledger found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Counts.
    pub anomalies: Anomalies,
    /// The first of them, in words.
    pub examples: Vec<String>,
}

impl Verdict {
    pub(super) fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text());
        }
    }
}

/// Books every processed order that a reader sees against what is expected.
#[derive(Debug)]
pub struct OrderLedger<'a> {
    expected: &'a Expected,
    /// How often each expected order was seen.
    seen: BTreeMap<u64, u64>,
    /// Expected sequences of each customer, ascending.
    due: BTreeMap<&'a str, Vec<u64>>,
    customers: BTreeMap<&'a str, Customer>,
    verdict: Verdict,
}

/// Where the output of one customer stands.
#[derive(Debug, Default)]
struct Customer {
    partition: i32,
    last_sequence: Option<u64>,
    /// How many of the due orders were seen or skipped.
    position: usize,
}

impl<'a> OrderLedger<'a> {
    /// An empty ledger.
    pub fn new(expected: &'a Expected) -> Self {
        let mut due: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for expected in expected.orders.values() {
            due.entry(&expected.order.customer_id)
                .or_default()
                .push(expected.order.sequence);
        }
        for sequences in due.values_mut() {
            sequences.sort_unstable();
        }
        Self {
            expected,
            seen: BTreeMap::new(),
            due,
            customers: BTreeMap::new(),
            verdict: Verdict::default(),
        }
    }

    /// Books one record of the output.
    pub fn observe(&mut self, record: &Record) {
        let place = (record.partition, record.offset);
        let Ok(ReadOrder { order, total_cents }) = ReadOrder::from_json(&record.value) else {
            self.verdict.anomalies.corrupt += 1;
            self.verdict
                .example(|| format!("corrupt at {place:?}: {}", text(&record.value)));
            return;
        };
        let Some(expected) = self.expected.orders.get(&order.uid) else {
            self.verdict.anomalies.phantom += 1;
            self.verdict
                .example(|| format!("phantom at {place:?}: {}", text(&record.value)));
            return;
        };
        let same = expected.order == order && total_cents == Some(expected.total_cents);
        if !same || record.key != order.customer_id.as_bytes() {
            self.verdict.anomalies.corrupt += 1;
            self.verdict.example(|| {
                format!(
                    "at {place:?} {} instead of {expected:?}",
                    text(&record.value)
                )
            });
        }
        let seen = self.seen.entry(order.uid).or_default();
        *seen += 1;
        if *seen > 1 {
            self.verdict.anomalies.duplicate += 1;
            self.verdict
                .example(|| format!("again at {place:?}: {}", order.order_id));
        } else {
            self.observe_order(record.partition, &expected.order);
        }
    }

    /// Checks the place of a record among those of its customer. Copies are not looked at: they
    /// are counted as such.
    fn observe_order(&mut self, partition: i32, order: &'a Order) {
        let due = self.due.get(order.customer_id.as_str());
        let due = due.expect("every expected order is due");
        let customer = self.customers.entry(&order.customer_id).or_default();
        let moved = customer.last_sequence.is_some() && customer.partition != partition;
        if moved || customer.last_sequence >= Some(order.sequence) {
            self.verdict.anomalies.reordered += 1;
            self.verdict.example(|| {
                format!(
                    "{} (sequence {}) comes after sequence {:?} of its customer",
                    order.order_id, order.sequence, customer.last_sequence
                )
            });
        } else if due.get(customer.position) != Some(&order.sequence) {
            self.verdict.anomalies.torn += 1;
            self.verdict.example(|| {
                format!(
                    "{} (sequence {}) is there before sequence {:?} of its customer",
                    order.order_id,
                    order.sequence,
                    due.get(customer.position)
                )
            });
        }
        customer.partition = partition;
        customer.last_sequence = customer.last_sequence.max(Some(order.sequence));
        customer.position =
            due.partition_point(|sequence| Some(*sequence) <= customer.last_sequence);
    }

    /// Counts what never came.
    pub fn close(mut self) -> Verdict {
        for (uid, expected) in &self.expected.orders {
            if !self.seen.contains_key(uid) {
                self.verdict.anomalies.lost += 1;
                self.verdict
                    .example(|| format!("lost: {}", expected.order.order_id));
            }
        }
        self.verdict
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;

    const WORKLOAD: Workload = Workload {
        seed: 1,
        records: 300,
        customers: 10,
        invalid_per_mille: 100,
        broken_per_mille: 10,
    };

    fn record(offset: usize, key: Vec<u8>, value: Vec<u8>) -> Record {
        Record {
            partition: 0,
            offset: i64::try_from(offset).unwrap(),
            key,
            value,
        }
    }

    /// What the job makes of the workload when nothing goes wrong.
    fn right() -> (Expected, Vec<Record>) {
        let mut expected = Expected::default();
        for (offset, (key, value)) in WORKLOAD.records().enumerate() {
            expected.add("orders", record(offset, key, value));
        }
        let output = expected
            .orders
            .values()
            .enumerate()
            .map(|(offset, expected)| {
                let json = expected.order.to_json();
                let total = expected.total_cents;
                let json = json.replace(
                    '}',
                    &format!(",\"total\":{}.{:02}}}", total / 100, total % 100),
                );
                let key = expected.order.customer_id.clone().into_bytes();
                record(offset, key, json.into_bytes())
            })
            .collect();
        (expected, output)
    }

    /// The verdict on an output that a seeded bug has changed.
    fn judge(bug: impl FnOnce(&mut Vec<Record>)) -> Anomalies {
        let (expected, mut output) = right();
        assert!(output.len() > 200);
        bug(&mut output);
        let mut ledger = OrderLedger::new(&expected);
        for record in &output {
            ledger.observe(record);
        }
        let verdict = ledger.close();
        assert_eq!(verdict.anomalies.is_clean(), verdict.examples.is_empty());
        verdict.anomalies
    }

    /// Index of the second record of the customer that the first one belongs to.
    fn second_of_first(output: &[Record]) -> usize {
        1 + output[1..]
            .iter()
            .position(|record| record.key == output[0].key)
            .unwrap()
    }

    #[test]
    fn the_right_output_is_clean() {
        assert_eq!(judge(|_| {}), Anomalies::default());
    }

    #[test]
    fn a_record_that_is_missing_at_the_end_is_lost() {
        let anomalies = judge(|output| drop(output.pop()));
        assert_eq!(
            anomalies,
            Anomalies {
                lost: 1,
                ..Anomalies::default()
            }
        );
    }

    #[test]
    fn a_record_that_is_missing_before_others_of_its_key_is_lost_and_they_are_torn() {
        let anomalies = judge(|output| drop(output.remove(0)));
        assert_eq!(
            anomalies,
            Anomalies {
                lost: 1,
                torn: 1,
                ..Anomalies::default()
            }
        );
    }

    #[test]
    fn a_record_that_is_there_twice_is_a_duplicate() {
        let anomalies = judge(|output| output.push(output[5].clone()));
        assert_eq!(
            anomalies,
            Anomalies {
                duplicate: 1,
                ..Anomalies::default()
            }
        );
    }

    #[test]
    fn an_order_that_the_job_had_to_drop_is_a_phantom() {
        let invalid = (0..WORKLOAD.records)
            .map(|number| WORKLOAD.order(number))
            .find(|order| order.quantity == 0)
            .unwrap();
        let json = invalid.to_json().replace('}', ",\"total\":0.00}");
        let key = invalid.customer_id.into_bytes();
        let anomalies = judge(|output| output.push(record(900, key, json.into_bytes())));
        assert_eq!(
            anomalies,
            Anomalies {
                phantom: 1,
                ..Anomalies::default()
            }
        );
    }

    #[test]
    fn an_order_that_was_never_sent_is_a_phantom() {
        let order = WORKLOAD.order(WORKLOAD.records + 1);
        let json = order.to_json().replace('}', ",\"total\":1.00}");
        let key = order.customer_id.into_bytes();
        let anomalies = judge(|output| output.push(record(900, key, json.into_bytes())));
        assert_eq!(anomalies.phantom, 1);
    }

    #[test]
    fn a_changed_digit_is_corrupt() {
        let change = |from: &'static str, to: &'static str| {
            judge(move |output| {
                let text = text(&output[3].value);
                assert!(text.contains(from));
                output[3].value = text.replacen(from, to, 1).into_bytes();
            })
        };
        // Breaks the checksum: whose it is cannot be told, so that one is lost too.
        let anomalies = change("\"price\":", "\"price\":9");
        assert_eq!((anomalies.corrupt, anomalies.lost), (1, 1));
        // The total is not in the checksum.
        let anomalies = change("\"total\":", "\"total\":9");
        assert_eq!(
            anomalies,
            Anomalies {
                corrupt: 1,
                ..Anomalies::default()
            }
        );
    }

    #[test]
    fn another_key_is_corrupt() {
        let anomalies = judge(|output| output[3].key = b"c-other".to_vec());
        assert_eq!(
            anomalies,
            Anomalies {
                corrupt: 1,
                ..Anomalies::default()
            }
        );
    }

    #[test]
    fn two_records_of_a_key_in_the_wrong_order_are_reordered() {
        let anomalies = judge(|output| {
            let second = second_of_first(output);
            output.swap(0, second);
        });
        assert_eq!(
            anomalies,
            Anomalies {
                reordered: 1,
                torn: 1,
                ..Anomalies::default()
            }
        );
    }

    #[test]
    fn a_key_that_changes_its_partition_is_reordered() {
        let anomalies = judge(|output| {
            let second = second_of_first(output);
            output[second].partition = 1;
        });
        assert!(anomalies.reordered >= 1, "{anomalies}");
    }
}
