//! The keyed job: number and sum of the orders of every customer, written as upserts.

use std::collections::BTreeMap;

use rdkafka::Message as _;
use serde::Deserialize;

use crate::Result;
use crate::contender::{Contender, Job, Run};
use crate::orders::Order;

/// Counts and sums by customer. The same job as `flink/KeyedJob.java`.
pub struct Sums {
    /// Count and sum in cents of every customer, by number: the oracle.
    expected: Vec<(u64, u64)>,
}

/// A record's value. Decimals are numbers in JSON; these are exact in a `f64`, as there are few
/// digits.
#[derive(Deserialize)]
struct Row {
    customer_id: String,
    n: u64,
    total: f64,
}

/// The newest record of a key.
struct Newest {
    partition: i32,
    value: Vec<u8>,
}

impl Sums {
    /// For the first `rows` orders of so many customers.
    pub fn new(rows: u64, customers: u64) -> Result<Self> {
        let mut expected = vec![(0, 0); usize::try_from(customers)?];
        for order in (0..rows).map(|index| Order::new(index, customers)) {
            let (n, cents) = &mut expected[usize::try_from(order.customer)?];
            *n += 1;
            *cents += order.cents;
        }
        Ok(Self { expected })
    }

    /// What is wrong with the newest records of all keys, if anything is.
    fn fault(&self, newest: &BTreeMap<Vec<u8>, Newest>) -> Result<Option<String>> {
        let mut missing: BTreeMap<String, (u64, u64)> = self
            .expected
            .iter()
            .enumerate()
            .filter(|(_, (n, _))| *n > 0)
            .map(|(customer, &sums)| (format!("c-{customer:05}"), sums))
            .collect();
        for Newest { value, .. } in newest.values() {
            let row: Row = serde_json::from_slice(value)
                .map_err(|error| format!("{}: {error}", String::from_utf8_lossy(value)))?;
            let customer = &row.customer_id;
            let Some((n, cents)) = missing.remove(customer) else {
                return Ok(Some(format!("{customer} has no orders, or two keys")));
            };
            let total = cents as f64 / 100.0;
            // Equal decimals have the same nearest double.
            if row.n != n || (row.total - total).abs() > f64::EPSILON * total {
                return Ok(Some(format!(
                    "{customer} has {} orders of {} in all, {n} of {total} expected",
                    row.n, row.total
                )));
            }
        }
        let example = missing.keys().next();
        Ok(example.map(|example| format!("{} of {} have no record", example, missing.len())))
    }
}

impl Job for Sums {
    fn file(&self, run: &Run<'_>) -> String {
        let checkpoints = run.field.directory.join("checkpoints");
        format!(
            r#"apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {{name: {name}}}
spec:
  parallelism: 2
  checkpoint: {{storage: "file://{checkpoints}", interval: {interval}ms, mode: {guarantee}, timeout: 60s}}
  dataflow:
    sources:
    - name: orders
      kafka: {{bootstrapServers: "{bootstrap}", topics: [{input}], groupId: {name}}}
      format: {{json: {{}}}}
      schema: [{{name: customer_id, type: string}}, {{name: price, type: "decimal(12,2)"}}]
    transforms:
    - {{name: per-customer, input: orders, sql: "SELECT customer_id, count(*) AS n, sum(price) AS total FROM orders GROUP BY customer_id"}}
    sinks:
    - name: sums
      input: per-customer
      kafka: {{bootstrapServers: "{bootstrap}", topic: {output}, keyFields: [customer_id], deliveryGuarantee: {guarantee}, transactionalIdPrefix: {name}, transactionTimeout: 10m}}
      format: {{json: {{}}}}
"#,
            name = run.name,
            checkpoints = checkpoints.display(),
            interval = run.settings.interval_ms,
            guarantee = run.settings.guarantee(),
            bootstrap = run.field.bootstrap,
            input = run.field.input,
            output = run.output,
        )
    }

    fn class(&self) -> &'static str {
        "KeyedJob"
    }

    fn check(&self, run: &Run<'_>, contender: &Contender) -> Result<u64> {
        let mut newest: BTreeMap<Vec<u8>, Newest> = BTreeMap::new();
        let (mut rows, mut fault) = (0, None);
        run.field.topics.read_committed(run.output, |message| {
            rows += 1;
            let (Some(key), Some(value)) = (message.key(), message.payload()) else {
                fault = Some("there is a record without key or value".to_owned());
                return;
            };
            let partition = message.partition();
            let Some(known) = newest.get_mut(key) else {
                let value = value.to_vec();
                newest.insert(key.to_vec(), Newest { partition, value });
                return;
            };
            if known.partition != partition {
                let key = String::from_utf8_lossy(key);
                fault = Some(format!("{key} is in two partitions"));
            }
            known.value.clear();
            known.value.extend_from_slice(value);
        })?;
        if fault.is_none() {
            fault = self.fault(&newest)?;
        }
        let name = contender.name();
        fault.map_or(Ok(rows), |fault| {
            Err(format!("{name}: {}: {fault}", run.output).into())
        })
    }
}
