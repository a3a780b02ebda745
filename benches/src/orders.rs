//! The input, orders as JSON, a pure function of their number; and the job that filters them and
//! adds their totals.

use crate::Result;
use crate::contender::{Contender, Job, Run};

/// Every tenth order has quantity 0 and is dropped by all contenders.
pub const INVALID_EVERY: u64 = 10;
/// Customers where a benchmark does not say how many.
pub const CUSTOMERS: u64 = 10_000;

/// One order.
pub struct Order {
    /// Number of the order.
    index: u64,
    /// Number of the customer.
    pub customer: u64,
    /// Price in cents.
    pub cents: u64,
    quantity: u64,
}

impl Order {
    /// Order `index` of those of so many customers.
    pub fn new(index: u64, customers: u64) -> Self {
        Self::of(index, mix(index) % customers)
    }

    /// Order `index`, if it is one of this customer.
    pub fn of(index: u64, customer: u64) -> Self {
        let mixed = mix(index);
        let quantity = if index.is_multiple_of(INVALID_EVERY) {
            0
        } else {
            1 + mixed % 9
        };
        Self {
            index,
            customer,
            cents: (1 + mixed % 500) * 100 + mixed % 100,
            quantity,
        }
    }

    /// Writes it as JSON, about 95 bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        let (index, customer, quantity) = (self.index, self.customer, self.quantity);
        let (units, cents) = (self.cents / 100, self.cents % 100);
        let millis = 1_767_225_600_000 + index;
        out.clear();
        write!(
            out,
            r#"{{"order_id":"o-{index:010}","customer_id":"c-{customer:05}","quantity":{quantity},"price":{units}.{cents:02},"ts":{millis}}}"#
        )
        .expect("writing to memory does not fail");
    }
}

fn mix(index: u64) -> u64 {
    index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20
}

/// How many of the first `rows` orders are valid.
pub fn valid_rows(rows: u64) -> u64 {
    rows - rows.div_ceil(INVALID_EVERY)
}

/// Drops invalid orders, adds the total of the others. The same job as `flink/OrdersJob.java`.
pub struct Enrich;

impl Job for Enrich {
    fn file(&self, run: &Run<'_>) -> String {
        let checkpoints = run.field.directory.join("checkpoints");
        let (read, made, written) = if run.settings.metadata {
            (
                "metadata: [{name: time, from: timestamp}]",
                r#", concat('{\"trace\":\"', order_id, '\"}') AS h"#,
                "metadata: [{name: h, to: headers}, {name: time, to: timestamp}]",
            )
        } else {
            ("", "", "")
        };
        let key = if run.settings.metadata {
            ", key: customer_id"
        } else {
            ""
        };
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
      schema: [{{name: order_id, type: string}}, {{name: customer_id, type: string}}, {{name: quantity, type: int64}}, {{name: price, type: "decimal(12,2)"}}, {{name: ts, type: int64}}]
      {read}
    transforms:
    - {{name: enriched, input: orders, sql: "SELECT *, quantity * price AS total{made} FROM orders WHERE quantity > 0 AND price > 0"}}
    sinks:
    - name: processed-orders
      input: enriched
      kafka: {{bootstrapServers: "{bootstrap}", topic: {output}, deliveryGuarantee: {guarantee}, transactionalIdPrefix: {name}, transactionTimeout: 10m{key}}}
      format: {{json: {{}}}}
      {written}
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
        "OrdersJob"
    }

    fn check(&self, run: &Run<'_>, contender: &Contender) -> Result<u64> {
        let wanted = match contender {
            Contender::Loop { .. } => run.field.rows,
            Contender::Millstream { .. } | Contender::Flink { .. } => valid_rows(run.field.rows),
        };
        let found = run.field.topics.count_committed(run.output)?;
        if found == wanted || (!run.settings.exactly_once && found >= wanted) {
            return Ok(found);
        }
        let name = contender.name();
        Err(format!(
            "{name}: {} has {found} records, {wanted} expected",
            run.output
        )
        .into())
    }
}
