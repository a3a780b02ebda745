//! Runs one operator outside of a task, for tests of operators.

use millstream_types::{Batch, Element};

use crate::{Context, InputIndex, Operator, Result};

/// Gives an operator the elements of its only input, as a task would, and returns what goes out.
///
/// # Errors
/// The operator fails; what it emitted before is lost, as it would be in a task.
pub fn drive(
    operator: &mut dyn Operator,
    elements: impl IntoIterator<Item = Element>,
) -> Result<Vec<Element>> {
    let mut cx = Context::default();
    let mut out = Vec::new();
    for element in elements {
        match &element {
            Element::Batch(batch) => operator.on_batch(InputIndex(0), batch, &mut cx)?,
            Element::Watermark(watermark) => operator.on_watermark(*watermark, &mut cx)?,
            Element::End => operator.on_end(&mut cx)?,
            Element::Idle | Element::Barrier(_) => {}
        }
        out.extend(cx.take().into_iter().map(Element::Batch));
        if !matches!(element, Element::Batch(_)) {
            out.push(element);
        }
    }
    Ok(out)
}

/// The batches that an operator emits for these batches.
///
/// # Errors
/// As [`drive`].
pub fn batches(
    operator: &mut dyn Operator,
    input: impl IntoIterator<Item = Batch>,
) -> Result<Vec<Batch>> {
    let out = drive(operator, input.into_iter().map(Element::Batch))?;
    let batch = |element| match element {
        Element::Batch(batch) => Some(batch),
        _ => None,
    };
    Ok(out.into_iter().filter_map(batch).collect())
}
