//! Orders as a pure function of a seed.
//!
//! Every order has a unique id, a customer, a gapless sequence number within its customer and a
//! checksum over all of it, so that a reader can tell what happened to it. Some are invalid (the
//! order job drops them), some records are not JSON at all (it sends them to the dead letters).

use serde::Deserialize;
use serde_json::value::RawValue;

/// What is to be made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Workload {
    /// Same seed, same records.
    pub seed: u64,
    /// Records in all.
    pub records: u64,
    /// Customers; each has every `customers`-th record.
    pub customers: u64,
    /// Of a thousand records, how many are orders of nothing.
    pub invalid_per_mille: u64,
    /// Of a thousand records, how many are not JSON.
    pub broken_per_mille: u64,
}

impl Workload {
    /// 10 % invalid, 1 % not JSON, 10,000 customers.
    pub const fn new(seed: u64, records: u64) -> Self {
        Self {
            seed,
            records,
            customers: 10_000,
            invalid_per_mille: 100,
            broken_per_mille: 10,
        }
    }

    /// Keys and values of all records, in order.
    pub fn records(self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        (0..self.records).map(move |number| self.record(number))
    }

    /// Key and value of one record.
    pub fn record(&self, number: u64) -> (Vec<u8>, Vec<u8>) {
        let order = self.order(number);
        let key = order.customer_id.clone().into_bytes();
        let mut value = order.to_json();
        if self.dice(number, Die::Broken) % 1_000 < self.broken_per_mille {
            // Cut inside the object: it begins well and is no JSON.
            value.truncate(value.len() / 2);
        }
        (key, value.into_bytes())
    }

    /// How many of the records the order job writes: as processed orders or as dead letters.
    pub fn kept(&self) -> u64 {
        let is_kept = |number: &u64| {
            let (_, value) = self.record(*number);
            !value.ends_with(b"}") || self.order(*number).quantity > 0
        };
        let kept = (0..self.records).filter(is_kept).count();
        u64::try_from(kept).expect("a count of records")
    }

    /// One order, whether or not its record is broken.
    pub fn order(&self, number: u64) -> Order {
        let invalid = self.dice(number, Die::Invalid) % 1_000 < self.invalid_per_mille;
        let quantity = if invalid {
            0
        } else {
            1 + small(self.dice(number, Die::Quantity), 9)
        };
        // Never a whole number of milliseconds short of one: the text stays as it is.
        let (seconds, millis) = (number / 1_000, 1 + number % 999);
        Order {
            uid: number,
            order_id: order_id(number),
            customer_id: format!("c-{:06}", self.customer(number)),
            quantity,
            price_cents: 1 + small(self.dice(number, Die::Price), 99_999),
            timestamp: format!(
                "2026-01-{:02}T{:02}:{:02}:{:02}.{millis:03}Z",
                1 + seconds / 86_400 % 28,
                seconds / 3_600 % 24,
                seconds / 60 % 60,
                seconds % 60
            ),
            sequence: number / self.customers,
        }
    }

    /// Number of the customer that a record belongs to.
    ///
    /// In every block of `customers` records each customer has one, in another order each time.
    pub fn customer(&self, number: u64) -> u64 {
        let block = number / self.customers;
        let shift = mix(self.seed ^ block.wrapping_mul(0x9e37)) % self.customers;
        (number % self.customers + shift) % self.customers
    }

    fn dice(&self, number: u64, die: Die) -> u64 {
        mix(mix(self.seed ^ (die as u64) << 56).wrapping_add(number))
    }
}

#[derive(Debug, Clone, Copy)]
enum Die {
    Broken = 1,
    Invalid = 2,
    Quantity = 3,
    Price = 4,
}

/// The finalizer of splitmix64. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", 2014.
pub fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn small(random: u64, below: u64) -> i64 {
    i64::try_from(random % below).expect("a small bound")
}

fn order_id(uid: u64) -> String {
    format!("o-{uid:012}")
}

/// One order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_field_names,
    reason = "the fields are named as the job's columns"
)]
pub struct Order {
    /// Unique over the workload.
    pub uid: u64,
    /// The uid as the job sees it.
    pub order_id: String,
    /// The record's key.
    pub customer_id: String,
    /// 0 in an invalid order.
    pub quantity: i64,
    /// Hundredths.
    pub price_cents: i64,
    /// RFC 3339 in milliseconds.
    pub timestamp: String,
    /// Position among the customer's records, from 0.
    pub sequence: u64,
}

impl Order {
    /// Over every field.
    pub fn checksum(&self) -> u32 {
        let text = format!(
            "{}|{}|{}|{}|{}|{}",
            self.order_id,
            self.customer_id,
            self.quantity,
            self.price_cents,
            self.timestamp,
            self.sequence
        );
        crc32c::crc32c(text.as_bytes())
    }

    /// The value of its record.
    pub fn to_json(&self) -> String {
        format!(
            r#"{{"order_id":"{}","customer_id":"{}","quantity":{},"price":{}.{:02},"ts":"{}","sequence":{},"checksum":{}}}"#,
            self.order_id,
            self.customer_id,
            self.quantity,
            self.price_cents / 100,
            self.price_cents % 100,
            self.timestamp,
            self.sequence,
            self.checksum()
        )
    }

    /// The columns as a job's source declares them, in YAML's flow style.
    pub const SCHEMA: &'static str = "[{name: order_id, type: string}, \
         {name: customer_id, type: string}, {name: quantity, type: int64}, \
         {name: price, type: \"decimal(12,2)\"}, {name: ts, type: timestamp}, \
         {name: sequence, type: int64}, {name: checksum, type: int64}]";
}

/// An order as it is read from a topic, with what the job added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOrder {
    /// The order.
    pub order: Order,
    /// What the job computed from it, hundredths; only in its output.
    pub total_cents: Option<i64>,
}

/// Why bytes are not an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAnOrder {
    /// They are not the JSON of one.
    Unreadable,
    /// Its checksum is another one's.
    Checksum,
}

impl ReadOrder {
    /// Reads the value of a record.
    ///
    /// # Errors
    /// It is not JSON of an order, or its fields do not go with its checksum.
    pub fn from_json(value: &[u8]) -> Result<Self, NotAnOrder> {
        let raw: RawOrder<'_> =
            serde_json::from_slice(value).map_err(|_| NotAnOrder::Unreadable)?;
        let read = raw.read().ok_or(NotAnOrder::Unreadable)?;
        if u64::from(read.order.checksum()) == raw.checksum {
            Ok(read)
        } else {
            Err(NotAnOrder::Checksum)
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOrder<'a> {
    order_id: &'a str,
    customer_id: &'a str,
    quantity: i64,
    // As it is written: a float would forgive a wrong digit.
    #[serde(borrow)]
    price: &'a RawValue,
    ts: &'a str,
    sequence: u64,
    checksum: u64,
    #[serde(borrow)]
    total: Option<&'a RawValue>,
}

impl RawOrder<'_> {
    fn read(&self) -> Option<ReadOrder> {
        let order = Order {
            uid: self.order_id.strip_prefix("o-")?.parse().ok()?,
            order_id: self.order_id.to_owned(),
            customer_id: self.customer_id.to_owned(),
            quantity: self.quantity,
            price_cents: cents(self.price.get())?,
            timestamp: self.ts.to_owned(),
            sequence: self.sequence,
        };
        let total_cents = match self.total {
            Some(total) => Some(cents(total.get())?),
            None => None,
        };
        Some(ReadOrder { order, total_cents })
    }
}

/// Hundredths of a decimal with two digits after its point.
pub fn cents(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.')?;
    let digits = fraction.len() == 2 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let whole: i64 = digits.then(|| whole.parse().ok())??;
    whole.checked_mul(100)?.checked_add(fraction.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const WORKLOAD: Workload = Workload::new(7, 50_000);

    #[test]
    fn the_same_seed_makes_the_same_records_and_another_seed_others() {
        let first: Vec<_> = WORKLOAD.records().take(1_000).collect();
        let again: Vec<_> = WORKLOAD.records().take(1_000).collect();
        let other: Vec<_> = Workload::new(8, 50_000).records().take(1_000).collect();
        assert_eq!(first, again);
        assert_ne!(first, other);
    }

    #[test]
    fn sequences_within_a_customer_have_no_gaps() {
        let mut next: BTreeMap<String, u64> = BTreeMap::new();
        for number in 0..WORKLOAD.records {
            let order = WORKLOAD.order(number);
            let expected = next.entry(order.customer_id).or_default();
            assert_eq!(order.sequence, *expected);
            *expected += 1;
        }
        assert_eq!(next.len(), 10_000);
    }

    #[test]
    fn a_tenth_is_invalid_and_a_hundredth_is_not_json() {
        let (mut broken, mut invalid) = (0, 0);
        for (_, value) in WORKLOAD.records() {
            match ReadOrder::from_json(&value) {
                Ok(read) => invalid += u64::from(read.order.quantity == 0),
                Err(fault) => {
                    assert_eq!(fault, NotAnOrder::Unreadable);
                    broken += 1;
                }
            }
        }
        assert!((4_500..5_500).contains(&invalid), "{invalid}");
        assert!((400..600).contains(&broken), "{broken}");
    }

    #[test]
    fn what_is_written_is_read_back_and_a_changed_digit_is_seen() {
        let order = WORKLOAD.order(123);
        let json = order.to_json();
        let read = ReadOrder::from_json(json.as_bytes()).unwrap();
        assert_eq!(read.order, order);
        let changed = json.replace("\"sequence\":0", "\"sequence\":1");
        assert_eq!(
            ReadOrder::from_json(changed.as_bytes()),
            Err(NotAnOrder::Checksum)
        );
    }
}
