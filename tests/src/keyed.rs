//! Running aggregates of orders by customer: what a keyed job must write, recomputed from its input with
//! a plain map, and what its changelog shows.
//!
//! The job is [`SQL`] over orders of a quantity above 0. A row is the customer's aggregates over some of
//! its orders; where these are processed in their order, it is always those over the first ones.

use std::collections::BTreeMap;

use millstream_types::change::Change;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::kafka::Broker;
use crate::kafka::topics::{Isolation, WholeRecord};
use crate::workload::{Order, ReadOrder, cents};

/// The aggregates, over a stream `valid` of orders.
pub const SQL: &str = "SELECT customer_id, count(*) AS orders, sum(quantity) AS items, \
    sum(quantity * price) AS total, count(DISTINCT quantity) AS sizes, max(quantity) AS largest, \
    count(*) FILTER (WHERE quantity > 5) AS big FROM valid GROUP BY customer_id";

/// Examples that are kept of what is wrong.
const EXAMPLES: usize = 20;

/// The aggregates of one customer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// `count(*)`.
    pub orders: u64,
    /// `sum(quantity)`.
    pub items: i64,
    /// `sum(quantity * price)`, hundredths.
    pub cents: i64,
    /// Which quantities there were, a bit each.
    quantities: u64,
    /// `count(*) FILTER (WHERE quantity > 5)`.
    pub big: u64,
}

/// A row as the job writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<'a> {
    customer_id: String,
    orders: u64,
    items: i64,
    #[serde(borrow)]
    total: &'a RawValue,
    sizes: u64,
    largest: u64,
    big: u64,
}

impl Totals {
    /// With one more order.
    fn with(mut self, quantity: i64, price_cents: i64) -> Self {
        self.orders += 1;
        self.items += quantity;
        self.cents += quantity * price_cents;
        self.quantities |= 1 << u32::try_from(quantity).expect("a quantity above 0");
        self.big += u64::from(quantity > 5);
        self
    }

    /// Whether a row says the same.
    fn is(&self, row: &Row<'_>) -> bool {
        row.orders == self.orders
            && row.items == self.items
            && cents(row.total.get()) == Some(self.cents)
            && row.sizes == u64::from(self.quantities.count_ones())
            && row.largest == u64::from(self.quantities.checked_ilog2().unwrap_or(0))
            && row.big == self.big
    }
}

/// What must come out.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The totals of each customer after each of its orders.
    customers: BTreeMap<String, Vec<Totals>>,
}

impl Expected {
    /// Reads an input topic to its end. What is no order is left out, as are orders of nothing.
    #[track_caller]
    pub fn read(broker: &Broker, topic: &str) -> Self {
        Self::read_where(broker, topic, |_, _| true)
    }

    /// Reads what lies before these offsets of an input topic, by partition.
    #[track_caller]
    pub fn read_before(broker: &Broker, topic: &str, positions: &BTreeMap<i32, i64>) -> Self {
        Self::read_where(broker, topic, |partition, offset| {
            positions.get(&partition).is_some_and(|end| offset < *end)
        })
    }

    #[track_caller]
    fn read_where(broker: &Broker, topic: &str, wanted: impl Fn(i32, i64) -> bool) -> Self {
        let mut expected = Self::default();
        broker.for_each_to_end(topic, Isolation::Committed, |record| {
            if !wanted(record.partition, record.offset) {
                return;
            }
            if let Ok(ReadOrder { order, .. }) = ReadOrder::from_json(&record.value)
                && order.quantity > 0
            {
                expected.add(&order);
            }
        });
        expected
    }

    /// Takes note of a customer's next order.
    pub fn add(&mut self, order: &Order) {
        self.add_one(&order.customer_id, order.quantity, order.price_cents);
    }

    /// As [`add`](Self::add), with what counts of an order.
    pub fn add_one(&mut self, customer: &str, quantity: i64, price_cents: i64) {
        let after = self.customers.entry(customer.to_owned()).or_default();
        let before = after.last().copied().unwrap_or_default();
        after.push(before.with(quantity, price_cents));
    }

    /// Customers with an order.
    pub fn customers(&self) -> usize {
        self.customers.len()
    }

    /// The totals of every customer at the end.
    pub fn newest(&self) -> impl Iterator<Item = (&str, Totals)> {
        let customers = self.customers.iter();
        customers.filter_map(|(name, after)| Some((name.as_str(), *after.last()?)))
    }
}

/// In which order the orders of one customer are processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processed {
    /// As they were told to [`Expected::add`].
    InOrder,
    /// In any.
    AnyOrder,
}

/// Reads a changelog, and compares it with what is expected.
#[derive(Debug)]
pub struct Judge<'a> {
    expected: &'a Expected,
    processed: Processed,
    /// The newest row of every customer.
    newest: BTreeMap<String, Seen>,
    /// Changes that were read.
    pub changes: u64,
    faults: u64,
    examples: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    orders: u64,
    is_complete: bool,
    /// Which incarnation of the reader has seen it.
    run: u32,
}

/// What is wrong with a changelog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// How many things are.
    pub count: u64,
    /// Some of them.
    pub examples: Vec<String>,
}

impl<'a> Judge<'a> {
    /// Nothing was read yet.
    pub fn new(expected: &'a Expected, processed: Processed) -> Self {
        Self {
            expected,
            processed,
            newest: BTreeMap::new(),
            changes: 0,
            faults: 0,
            examples: Vec::new(),
        }
    }

    /// All records of an output topic, in which a customer is the key.
    #[track_caller]
    pub fn topic(expected: &Expected, broker: &Broker, topic: &str) -> Faults {
        let mut judge = Judge::new(expected, Processed::InOrder);
        for WholeRecord { key, value, .. } in broker.read_whole(topic, Isolation::Committed) {
            let key = String::from_utf8_lossy(&key.unwrap_or_default()).into_owned();
            match value {
                Some(value) => judge.upsert(Some(&key), &String::from_utf8_lossy(&value), 0),
                None => judge.fault(|| format!("{key} was deleted")),
            }
        }
        judge.end()
    }

    /// A change as `print` shows it: `+U {…}`, printed by the `run`-th process. Counts may go back
    /// where another process goes on, and nowhere else. Whether the line is one of these.
    pub fn printed(&mut self, line: &str, run: u32) -> bool {
        let mut changes = (0..4).filter_map(Change::of);
        let change = changes.find_map(|change| Some((change, line.strip_prefix(change.symbol())?)));
        match change {
            None => return false,
            Some((Change::Insert | Change::UpdateAfter, row)) => self.upsert(None, row, run),
            Some((Change::UpdateBefore, row)) => self.taken_back(row, run),
            Some((Change::Delete, row)) => self.fault(|| format!("deleted: {row}")),
        }
        true
    }

    fn upsert(&mut self, key: Option<&str>, text: &str, run: u32) {
        self.changes += 1;
        let Some((row, after)) = self.understood(text) else {
            return;
        };
        if key.is_some_and(|key| key != row.customer_id) {
            return self.fault(|| format!("another customer's key {key:?}: {text}"));
        }
        let is_complete = after.last().is_some_and(|last| last.is(&row));
        let seen = Seen {
            orders: row.orders,
            is_complete,
            run,
        };
        let before = self.newest.insert(row.customer_id.clone(), seen);
        if let Some(before) = before
            && before.run == run
            && before.orders >= row.orders
        {
            self.fault(|| format!("went back from {} orders: {text}", before.orders));
        }
        let number = usize::try_from(row.orders).unwrap_or(usize::MAX);
        let prefix = number.checked_sub(1).and_then(|last| after.get(last));
        if self.processed == Processed::InOrder && !prefix.is_some_and(|totals| totals.is(&row)) {
            self.fault(|| format!("not the totals of so many orders ({prefix:?}): {text}"));
        }
    }

    /// A row before an update is the one that was the newest.
    fn taken_back(&mut self, text: &str, run: u32) {
        self.changes += 1;
        let Some((row, _)) = self.understood(text) else {
            return;
        };
        if let Some(newest) = self.newest.get(&row.customer_id).copied()
            && newest.run == run
            && newest.orders != row.orders
        {
            self.fault(|| format!("not the newest row, which has {}: {text}", newest.orders));
        }
    }

    fn understood<'t>(&mut self, text: &'t str) -> Option<(Row<'t>, &'a [Totals])> {
        let row: Row<'t> = match serde_json::from_str(text) {
            Ok(row) => row,
            Err(error) => {
                self.fault(|| format!("no row ({error}): {text}"));
                return None;
            }
        };
        let Some(after) = self.expected.customers.get(&row.customer_id) else {
            self.fault(|| format!("of nobody: {text}"));
            return None;
        };
        Some((row, after))
    }

    fn fault(&mut self, text: impl FnOnce() -> String) {
        self.faults += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(text());
        }
    }

    /// How many customers' newest rows are those that must be there at the end.
    pub fn complete(&self) -> usize {
        let newest = self.newest.values();
        newest.filter(|seen| seen.is_complete).count()
    }

    /// Compares the newest row of every customer with what it must be at the end.
    pub fn end(mut self) -> Faults {
        let expected = self.expected;
        for (customer, totals) in expected.newest() {
            match self.newest.get(customer) {
                Some(seen) if seen.is_complete => {}
                Some(seen) => {
                    let orders = seen.orders;
                    self.fault(|| {
                        format!("{customer} ends with a row of {orders} orders, not {totals:?}")
                    });
                }
                None => self.fault(|| format!("nothing of {customer}, which has {totals:?}")),
            }
        }
        Faults {
            count: self.faults,
            examples: self.examples,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        let mut expected = Expected::default();
        for (customer, quantity, cents) in [("a", 6, 100), ("b", 1, 5), ("a", 2, 50)] {
            expected.add_one(customer, quantity, cents);
        }
        expected
    }

    fn row(customer: &str, (orders, items, total): (u64, i64, &str), big: u64) -> String {
        let (sizes, largest) = if customer == "b" { (1, 1) } else { (orders, 6) };
        format!(
            r#"{{"customer_id":"{customer}","orders":{orders},"items":{items},"total":{total},"sizes":{sizes},"largest":{largest},"big":{big}}}"#
        )
    }

    fn faults(lines: &[String], processed: Processed) -> u64 {
        let expected = expected();
        let mut judge = Judge::new(&expected, processed);
        for line in lines {
            assert!(judge.printed(line, 0), "{line}");
        }
        judge.end().count
    }

    #[test]
    fn a_changelog_without_faults_has_none() {
        let (first, last) = (row("a", (1, 6, "6.00"), 1), row("a", (2, 8, "7.00"), 1));
        let lines = [
            format!("+I {first}"),
            format!("+I {}", row("b", (1, 1, "0.05"), 0)),
            format!("-U {first}"),
            format!("+U {last}"),
        ];
        assert_eq!(faults(&lines, Processed::InOrder), 0);
        // The same orders the other way round: right in the end only.
        let other = row("a", (1, 2, "1.00"), 0).replace("\"largest\":6", "\"largest\":2");
        let lines = [
            lines[1].clone(),
            format!("+I {other}"),
            format!("+U {last}"),
        ];
        assert_eq!(faults(&lines, Processed::AnyOrder), 0);
        assert_eq!(faults(&lines, Processed::InOrder), 1);
    }

    #[test]
    fn every_fault_is_found() {
        let good = [
            format!("+I {}", row("a", (2, 8, "7.00"), 1)),
            format!("+I {}", row("b", (1, 1, "0.05"), 0)),
        ];
        assert_eq!(faults(&good, Processed::InOrder), 0);
        for more in [
            // It goes back, or comes twice.
            vec![
                format!("+U {}", row("a", (1, 6, "6.00"), 1)),
                good[0].clone(),
            ],
            vec![good[1].clone()],
            vec![format!("-D {}", row("b", (1, 1, "0.05"), 0))],
            // Another row is taken back than the newest.
            vec![format!("-U {}", row("a", (1, 6, "6.00"), 1))],
            vec![format!("+U {}", row("c", (1, 1, "0.05"), 0))],
            vec!["+U {}".to_owned()],
        ] {
            let all: Vec<String> = good.iter().cloned().chain(more.clone()).collect();
            assert!(faults(&all, Processed::InOrder) > 0, "{more:?}");
        }
        // Wrong at the end, or missing.
        for wrong in [
            row("a", (2, 9, "7.00"), 1),
            row("a", (2, 8, "7.01"), 1),
            row("a", (2, 8, "7.00"), 2),
            row("a", (1, 6, "6.00"), 1),
        ] {
            let lines = [format!("+I {wrong}"), good[1].clone()];
            assert!(faults(&lines, Processed::AnyOrder) > 0, "{wrong}");
        }
        assert_eq!(faults(&good[..1], Processed::AnyOrder), 1);
        assert!(!Judge::new(&expected(), Processed::AnyOrder).printed("a log line", 0));
    }
}
