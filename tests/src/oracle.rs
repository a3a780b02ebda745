//! What the order job must write, recomputed from its input topic as it was read back.
//!
//! The truth is what the broker holds, not what the workload meant to send.

use std::collections::BTreeMap;

use crate::kafka::Broker;
use crate::kafka::topics::{Isolation, Record};
use crate::workload::{Order, ReadOrder};

/// Where a record lies in the input: topic, partition and offset.
pub type Place = (String, i32, i64);

/// What must be in the output topics once the whole input is processed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// Processed orders, by uid.
    pub orders: BTreeMap<u64, ExpectedOrder>,
    /// Dead letters: payloads by the place of their record.
    pub dead_letters: BTreeMap<Place, Vec<u8>>,
    /// Valid JSON that the job drops.
    pub dropped: u64,
}

/// One processed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedOrder {
    /// What came in.
    pub order: Order,
    /// Quantity × price, hundredths.
    pub total_cents: i64,
}

impl Expected {
    /// Adds what an input topic holds.
    #[track_caller]
    pub fn read(&mut self, broker: &Broker, topic: &str) {
        broker.for_each_to_end(topic, Isolation::Committed, |record| {
            self.add(topic, record);
        });
    }

    /// Reads what lies before these offsets of an input topic, by partition.
    #[track_caller]
    pub fn read_before(broker: &Broker, topic: &str, positions: &BTreeMap<i32, i64>) -> Self {
        Self::read_where(broker, topic, |record| {
            positions
                .get(&record.partition)
                .is_some_and(|end| record.offset < *end)
        })
    }

    /// Reads what lies behind these offsets of an input topic, by partition.
    #[track_caller]
    pub fn read_from(broker: &Broker, topic: &str, positions: &BTreeMap<i32, i64>) -> Self {
        Self::read_where(broker, topic, |record| {
            positions
                .get(&record.partition)
                .is_none_or(|begin| record.offset >= *begin)
        })
    }

    #[track_caller]
    fn read_where(broker: &Broker, topic: &str, counts: impl Fn(&Record) -> bool) -> Self {
        let mut expected = Self::default();
        broker.for_each_to_end(topic, Isolation::Committed, |record| {
            if counts(&record) {
                expected.add(topic, record);
            }
        });
        expected
    }

    /// Adds one record of an input topic.
    pub fn add(&mut self, topic: &str, record: Record) {
        match ReadOrder::from_json(&record.value) {
            Ok(ReadOrder { order, .. }) if order.quantity > 0 && order.price_cents > 0 => {
                let total_cents = order.quantity * order.price_cents;
                self.orders
                    .insert(order.uid, ExpectedOrder { order, total_cents });
            }
            Ok(_) => self.dropped += 1,
            Err(_) => {
                self.dead_letters.insert(
                    (topic.to_owned(), record.partition, record.offset),
                    record.value,
                );
            }
        }
    }

    /// Records of the input.
    pub fn input(&self) -> u64 {
        let kept = self.orders.len() + self.dead_letters.len();
        u64::try_from(kept).unwrap_or(u64::MAX) + self.dropped
    }
}
