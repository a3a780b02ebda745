//! Several SELECTs of one transform.

use millstream_types::Batch;

use super::SqlOperator;
use crate::{Context, InputIndex, Operator, Result};

/// `SELECT … FROM a UNION ALL SELECT … FROM b`: each SELECT sees the records of its input.
#[derive(Debug)]
pub struct SqlUnion {
    selects: Vec<(InputIndex, SqlOperator)>,
}

impl SqlUnion {
    /// Emits the records of all these, each of which reads one input. They have the same schema.
    pub const fn new(selects: Vec<(InputIndex, SqlOperator)>) -> Self {
        Self { selects }
    }
}

impl Operator for SqlUnion {
    fn on_batch(&mut self, input: InputIndex, batch: &Batch, cx: &mut Context) -> Result<()> {
        for (from, select) in &mut self.selects {
            if *from == input {
                select.on_batch(input, batch, cx)?;
            }
        }
        Ok(())
    }
}
