//! Runs one operator outside of a task, for tests of operators.

use millstream_types::{Batch, Element};

use crate::{Context, InputIndex, Operator, Result};

/// Gives an operator the elements of its only input, as a task would, and returns what goes out: it is
/// flushed before each element that is not a batch, and behind the last one.
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
        if !matches!(element, Element::Batch(_)) {
            flush(operator, &mut cx, &mut out)?;
        }
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
    flush(operator, &mut cx, &mut out)?;
    Ok(out)
}

fn flush(operator: &mut dyn Operator, cx: &mut Context, out: &mut Vec<Element>) -> Result<()> {
    if operator.holds() {
        operator.flush(cx)?;
    }
    out.extend(cx.take().into_iter().map(Element::Batch));
    Ok(())
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
