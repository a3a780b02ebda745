//! What is kept for each key.

use arrow_array::ArrayRef;
use arrow_schema::FieldRef;

use crate::{Result, Slot};

/// Values by slot, in columns. The operator that owns them reads and writes them as it likes; a table
/// only moves them between slots and files.
pub trait Values: Send {
    /// Columns of a run beside the key.
    fn fields(&self) -> Vec<FieldRef>;

    /// Makes room for slots below `slots`. New ones hold what a new key begins with.
    fn resize(&mut self, slots: usize);

    /// Puts a slot back to what a new key begins with.
    fn clear(&mut self, slot: Slot);

    /// The values of these slots, one array per field.
    ///
    /// # Errors
    /// They do not make arrays: a bug.
    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>>;

    /// Sets the values of these slots, from arrays as [`gather`](Self::gather) gives them.
    ///
    /// # Errors
    /// The arrays are of other types.
    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<()>;

    /// Bytes that a slot takes, whatever it holds.
    fn slot_bytes(&self) -> usize {
        let width = |field: &FieldRef| field.data_type().primitive_width().unwrap_or(16);
        self.fields().iter().map(width).sum()
    }

    /// Whether what [`gather`](Self::gather) gives is all there is of a slot, so that it can leave memory.
    fn is_movable(&self) -> bool {
        true
    }

    /// Bytes that values hold beside the fixed ones of each slot, such as texts.
    fn variable_bytes(&self) -> usize {
        0
    }
}

/// No values: a table of these is a set of keys.
impl Values for () {
    fn fields(&self) -> Vec<FieldRef> {
        Vec::new()
    }

    fn resize(&mut self, _: usize) {}

    fn clear(&mut self, _: Slot) {}

    fn gather(&self, _: &[Slot]) -> Result<Vec<ArrayRef>> {
        Ok(Vec::new())
    }

    fn scatter(&mut self, _: &[Slot], _: &[ArrayRef]) -> Result<()> {
        Ok(())
    }
}
