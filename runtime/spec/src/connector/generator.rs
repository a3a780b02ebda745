//! Options of the generator.

use millstream_types::schema::{Column, ColumnType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Make orders as a pure function of a seed. Columns: `order_id string`, `customer_id string`,
/// `quantity int64`, `price decimal(12,2)`, `ts timestamp`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GeneratorSource {
    /// Same seed, same orders. Default: 1.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub seed: u64,
    /// Orders in all, over all subtasks; endless if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub rows: Option<u64>,
    /// Orders per second, over all subtasks; as fast as possible if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_u64))]
    pub rows_per_second: Option<u64>,
    /// Part of the orders that a validating transform would drop (quantity 0 or less), from 0
    /// to 1. Default: 0.1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub invalid_ratio: f64,
    /// Number of different customers. Default: 10000.
    #[schemars(range(min = 1, max = 1_000_000_000_u64))]
    pub customers: u64,
    /// Number of splits that share the orders: the most parallelism that is of use. Default: 4.
    #[schemars(range(min = 1, max = 1024))]
    pub splits: u32,
}

impl Default for GeneratorSource {
    fn default() -> Self {
        Self {
            seed: 1,
            rows: None,
            rows_per_second: None,
            invalid_ratio: 0.1,
            customers: 10_000,
            splits: 4,
        }
    }
}

impl GeneratorSource {
    /// The columns of the orders it makes.
    pub fn columns() -> Vec<Column> {
        [
            ("order_id", ColumnType::String),
            ("customer_id", ColumnType::String),
            ("quantity", ColumnType::Int64),
            ("price", ColumnType::Decimal(12, 2)),
            ("ts", ColumnType::Timestamp),
        ]
        .into_iter()
        .map(|(name, column_type)| Column::new(name, column_type, false))
        .collect()
    }
}
