//! An expression with its type.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::Schema;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{Column, Literal};

use super::call::{Call, Kernel};
use super::types::Type;
use super::{Meaning, Refusal, reason};

/// An expression, its type, and its value if it has one without a record.
#[derive(Debug, Clone)]
pub(crate) struct Typed {
    /// How it is computed.
    pub(crate) expr: Arc<dyn PhysicalExpr>,
    pub(crate) data_type: Type,
    /// Whether it may be NULL.
    pub(crate) nullable: bool,
    /// Whether it is a constant as it is written, which takes the type of what it meets.
    pub(crate) is_literal: bool,
    constant: Option<ScalarValue>,
    /// Why a constant has no value, such as `1 / 0`.
    broken: Option<String>,
    /// How many parts are evaluated; one that stands in two places counts twice.
    size: usize,
}

/// Most parts of an expression. Some forms need an operand more than once, as `coalesce` does: one
/// within another, a few dozen of them would be evaluated for ever.
const MOST_PARTS: usize = 200_000;

impl Typed {
    /// A column of the input.
    pub(crate) fn column(name: &str, index: usize, data_type: Type, nullable: bool) -> Self {
        Self {
            expr: Arc::new(Column::new(name, index)),
            data_type,
            nullable,
            is_literal: false,
            constant: None,
            broken: None,
            size: 1,
        }
    }

    /// A value.
    ///
    /// # Errors
    /// It is of no type that there is.
    pub(crate) fn constant(value: ScalarValue) -> Meaning<Self> {
        Ok(Self {
            data_type: Type::of(&value.data_type())?,
            nullable: value.is_null(),
            is_literal: false,
            expr: Arc::new(Literal::new(value.clone())),
            constant: Some(value),
            broken: None,
            size: 1,
        })
    }

    /// A value as it is written.
    pub(crate) fn literal(value: ScalarValue) -> Meaning<Self> {
        let literal = Self::constant(value)?;
        Ok(Self {
            is_literal: true,
            ..literal
        })
    }

    /// NULL of a type.
    pub(crate) fn null(data_type: Type) -> Meaning<Self> {
        let null = ScalarValue::try_from(&data_type.arrow())?;
        Self::constant(null)
    }

    /// An expression over `parts`, computed now if they are constants.
    pub(crate) fn over(
        expr: Arc<dyn PhysicalExpr>,
        data_type: Type,
        nullable: bool,
        parts: &[&Self],
    ) -> Meaning<Self> {
        let size = parts
            .iter()
            .fold(1_usize, |sum, part| sum.saturating_add(part.size));
        if size > MOST_PARTS {
            let message = format!("this expression has more than {MOST_PARTS} parts to compute");
            return Err(Refusal::new(message).with_help("use several transforms"));
        }
        let mut typed = Self {
            expr,
            data_type,
            nullable,
            is_literal: false,
            constant: None,
            broken: None,
            size,
        };
        if parts.iter().all(|part| part.constant.is_some()) {
            match value(typed.expr.as_ref()) {
                Ok(value) => return Self::constant(value),
                Err(error) => typed.broken = Some(reason(&error)),
            }
        }
        Ok(typed)
    }

    /// A function of ours over `parts`, which is NULL only if one of them is.
    pub(crate) fn call(
        name: impl Into<String>,
        kernel: Kernel,
        data_type: Type,
        parts: &[&Self],
    ) -> Meaning<Self> {
        let nullable = parts.iter().any(|part| part.nullable);
        Self::call_nullable(name, kernel, (data_type, nullable), parts)
    }

    /// A function of ours over `parts`, with its type and whether it may be NULL.
    pub(crate) fn call_nullable(
        name: impl Into<String>,
        kernel: Kernel,
        (data_type, nullable): (Type, bool),
        parts: &[&Self],
    ) -> Meaning<Self> {
        let arguments = parts.iter().map(|part| Arc::clone(&part.expr)).collect();
        let output = (data_type.arrow(), nullable);
        let call = Call::new(name.into(), arguments, output, kernel);
        Self::over(Arc::new(call), data_type, nullable, parts)
    }

    /// The value of a constant.
    pub(crate) const fn value(&self) -> Option<&ScalarValue> {
        self.constant.as_ref()
    }

    /// The text of a constant that is one, and not NULL.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.constant {
            Some(ScalarValue::Utf8(Some(text))) => Some(text),
            _ => None,
        }
    }

    /// Whether it is a constant without a value.
    pub(crate) fn is_null(&self) -> bool {
        self.constant.as_ref().is_some_and(ScalarValue::is_null)
    }

    /// Takes out why a constant has no value.
    pub(crate) fn take_broken(&mut self) -> Option<String> {
        self.broken.take()
    }

    /// The same, as a computed one: it keeps its type wherever it stands.
    pub(crate) fn computed(self) -> Self {
        Self {
            is_literal: false,
            ..self
        }
    }
}

/// The value of an expression without columns.
fn value(expr: &dyn PhysicalExpr) -> Result<ScalarValue> {
    let one_row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        Vec::new(),
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )?;
    match expr.evaluate(&one_row)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0),
    }
}
