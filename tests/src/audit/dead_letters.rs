//! Judges dead letters.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ledger::Verdict;
use crate::kafka::topics::Record;
use crate::oracle::{Expected, Place};

/// Books every dead letter that a reader sees against what is expected.
#[derive(Debug)]
pub struct DeadLetterLedger<'a> {
    expected: &'a Expected,
    seen: BTreeMap<Place, u64>,
    /// By partition of the dead letters, and topic and partition of the input: the last offset that was
    /// seen there.
    last: BTreeMap<(i32, String, i32), i64>,
    verdict: Verdict,
}

/// A dead letter as the job writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeadLetter {
    payload: String,
    topic: String,
    partition: i32,
    offset: i64,
    reason: String,
}

impl<'a> DeadLetterLedger<'a> {
    /// An empty ledger.
    pub fn new(expected: &'a Expected) -> Self {
        Self {
            expected,
            seen: BTreeMap::new(),
            last: BTreeMap::new(),
            verdict: Verdict::default(),
        }
    }

    /// Books one record of the dead letters.
    pub fn observe(&mut self, record: &Record) {
        let text = || String::from_utf8_lossy(&record.value).into_owned();
        let Ok(letter) = serde_json::from_slice::<DeadLetter>(&record.value) else {
            self.verdict.anomalies.corrupt += 1;
            self.verdict
                .example(|| format!("no dead letter: {}", text()));
            return;
        };
        let place = (letter.topic.clone(), letter.partition, letter.offset);
        let Some(payload) = self.expected.dead_letters.get(&place) else {
            self.verdict.anomalies.phantom += 1;
            self.verdict
                .example(|| format!("phantom dead letter: {}", text()));
            return;
        };
        if base64(&letter.payload).as_ref() != Some(payload) || letter.reason.is_empty() {
            self.verdict.anomalies.corrupt += 1;
            self.verdict
                .example(|| format!("corrupt dead letter: {}", text()));
        }
        let seen = self.seen.entry(place).or_default();
        *seen += 1;
        if *seen > 1 {
            self.verdict.anomalies.duplicate += 1;
            self.verdict
                .example(|| format!("dead letter again: {}", text()));
            return;
        }
        // One task at a time reads a partition, and writes what it rejects in that order.
        let last = (record.partition, letter.topic.clone(), letter.partition);
        let last = self.last.entry(last);
        let last = last.or_insert(letter.offset);
        if *last > letter.offset {
            self.verdict.anomalies.reordered += 1;
            self.verdict
                .example(|| format!("dead letter behind that of offset {last}: {}", text()));
        }
        *last = letter.offset.max(*last);
    }

    /// Counts what never came.
    pub fn close(mut self) -> Verdict {
        for place in self.expected.dead_letters.keys() {
            if !self.seen.contains_key(place) {
                self.verdict.anomalies.lost += 1;
                self.verdict
                    .example(|| format!("lost dead letter of {place:?}"));
            }
        }
        self.verdict
    }
}

/// Decodes standard base64 with padding; written here so that the decoder under test is not its
/// own judge.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for symbol in text.trim_end_matches('=').bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xfff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::Anomalies;
    use super::*;

    fn expected() -> Expected {
        let mut expected = Expected::default();
        for offset in 0..3 {
            let record = Record {
                partition: 1,
                offset,
                key: Vec::new(),
                value: b"{hello".to_vec(),
            };
            expected.add("orders", record);
        }
        expected
    }

    /// The verdict on dead letters for the given offsets, after a seeded bug.
    fn judge(offsets: &[i64], bug: impl Fn(String) -> String) -> Anomalies {
        judge_in(
            &offsets
                .iter()
                .map(|offset| (0, *offset))
                .collect::<Vec<_>>(),
            bug,
        )
    }

    /// As [`judge`], with the partition that each is written to.
    fn judge_in(letters: &[(i32, i64)], bug: impl Fn(String) -> String) -> Anomalies {
        let expected = expected();
        let mut ledger = DeadLetterLedger::new(&expected);
        for (partition, offset) in letters {
            let json = format!(
                r#"{{"payload":"e2hlbGxv","topic":"orders","partition":1,"offset":{offset},"reason":"not JSON"}}"#
            );
            ledger.observe(&Record {
                partition: *partition,
                offset: 0,
                key: Vec::new(),
                value: bug(json).into_bytes(),
            });
        }
        ledger.close().anomalies
    }

    #[test]
    fn the_right_dead_letters_are_clean_in_any_order_of_partitions() {
        assert_eq!(judge(&[0, 1, 2], |json| json), Anomalies::default());
        let spread = judge_in(&[(1, 2), (0, 0), (0, 1)], |json| json);
        assert_eq!(spread, Anomalies::default());
    }

    #[test]
    fn a_dead_letter_behind_a_later_one_of_its_partition_is_reordered() {
        assert_eq!(
            judge(&[2, 0, 1], |json| json),
            Anomalies {
                reordered: 2,
                ..Anomalies::default()
            }
        );
    }

    #[test]
    fn lost_duplicate_and_phantom_dead_letters_are_counted() {
        assert_eq!(judge(&[0, 1], |json| json).lost, 1);
        assert_eq!(judge(&[0, 1, 2, 2], |json| json).duplicate, 1);
        assert_eq!(judge(&[0, 1, 2, 3], |json| json).phantom, 1);
    }

    #[test]
    fn dead_letters_of_another_topic_are_phantoms() {
        let anomalies = judge(&[0, 1, 2], |json| json.replace("orders", "others"));
        assert_eq!((anomalies.phantom, anomalies.lost), (3, 3));
    }

    #[test]
    fn another_payload_or_an_empty_reason_is_corrupt() {
        for (from, to) in [("e2hl", "e2hm"), ("not JSON", "")] {
            let anomalies = judge(&[0, 1, 2], |json| json.replace(from, to));
            assert_eq!(
                anomalies,
                Anomalies {
                    corrupt: 3,
                    ..Anomalies::default()
                }
            );
        }
    }

    #[test]
    fn base64_is_decoded() {
        assert_eq!(base64("AP//"), Some(vec![0, 255, 255]));
        assert_eq!(base64("aGk="), Some(b"hi".to_vec()));
        assert_eq!(base64("aA=="), Some(b"h".to_vec()));
        assert_eq!(base64("?"), None);
    }
}
