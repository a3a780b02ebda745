//! Functions that read JSON texts: `json_get_str(payload, 'customer', 'id')`, `payload ->> 'id'`.
//!
//! Text that is not JSON has no value anywhere, and neither has a path that leads nowhere or to a
//! value of another kind: all of these are NULL.

mod seek;

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef, StringArray};
use arrow_schema::{DataType, Field, FieldRef};
use datafusion_common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion_sql::sqlparser::ast::BinaryOperator;

use seek::{Step, seek};

/// What a function makes of the value that it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// A string's content.
    Str,
    /// A number without fraction or exponent that fits 64 bits.
    Int,
    /// A number.
    Float,
    /// A truth value.
    Bool,
    /// Any value as JSON text.
    Json,
    /// A string's content, any other value but null as JSON text.
    Text,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Str,
        Self::Int,
        Self::Float,
        Self::Bool,
        Self::Json,
        Self::Text,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Str => "json_get_str",
            Self::Int => "json_get_int",
            Self::Float => "json_get_float",
            Self::Bool => "json_get_bool",
            Self::Json => "json_get_json",
            Self::Text => "json_as_text",
        }
    }

    const fn data_type(self) -> DataType {
        match self {
            Self::Str | Self::Json | Self::Text => DataType::Utf8,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Bool => DataType::Boolean,
        }
    }
}

/// All functions that read JSON.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = |kind| Arc::new(ScalarUDF::from(JsonFunction::new(kind)));
    Kind::ALL.into_iter().map(function).collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonFunction {
    kind: Kind,
    signature: Signature,
}

impl JsonFunction {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        let Some((text, path)) = arguments.split_first() else {
            return plan_err!("`{name}` needs a column with JSON text, and a path into it");
        };
        if !text.is_string() && !text.is_null() {
            return plan_err!("`{name}` reads JSON text, but this is {text}");
        }
        let path = path.iter().map(|step| match step {
            step if step.is_string() => Ok(DataType::Utf8),
            step if step.is_integer() => Ok(DataType::Int64),
            other => plan_err!("a path has keys (strings) and positions (integers), not {other}"),
        });
        std::iter::once(Ok(DataType::Utf8)).chain(path).collect()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.kind.data_type())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        for step in args.scalar_arguments.iter().skip(1) {
            match step {
                Some(step) => drop(Step::of(step)?),
                None => return plan_err!("the path into a JSON text must be written out"),
            }
        }
        Ok(Arc::new(Field::new(
            self.name(),
            self.kind.data_type(),
            true,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let mut arguments = args.args.into_iter();
        let Some(text) = arguments.next() else {
            return plan_err!("`{}` has no text", self.name());
        };
        let path = arguments
            .map(|step| match step {
                ColumnarValue::Scalar(step) => Step::of(&step),
                ColumnarValue::Array(_) => {
                    plan_err!("the path into a JSON text must be written out")
                }
            })
            .collect::<Result<Vec<Step>>>()?;
        let is_scalar = matches!(text, ColumnarValue::Scalar(_));
        let texts = text.into_array(if is_scalar { 1 } else { rows })?;
        let Some(texts) = texts.as_string_opt::<i32>() else {
            return plan_err!(
                "`{}` reads JSON text, but this is {}",
                self.name(),
                texts.data_type()
            );
        };
        let found = self.kind.of_all(texts, &path);
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

impl Kind {
    fn of_all(self, texts: &StringArray, path: &[Step]) -> ArrayRef {
        let rows = texts.len();
        let found = texts.iter().map(|text| seek(text?, path));
        match self {
            Self::Str => {
                let mut column = StringBuilder::with_capacity(rows, 16 * rows);
                found.for_each(|value| column.append_option(value.and_then(seek::Value::string)));
                Arc::new(column.finish())
            }
            Self::Int => {
                let mut column = Int64Builder::with_capacity(rows);
                found.for_each(|value| column.append_option(value.and_then(seek::Value::integer)));
                Arc::new(column.finish())
            }
            Self::Float => {
                let mut column = Float64Builder::with_capacity(rows);
                found.for_each(|value| column.append_option(value.and_then(seek::Value::number)));
                Arc::new(column.finish())
            }
            Self::Bool => {
                let mut column = BooleanBuilder::with_capacity(rows);
                found.for_each(|value| column.append_option(value.and_then(seek::Value::boolean)));
                Arc::new(column.finish())
            }
            Self::Json => {
                let mut column = StringBuilder::with_capacity(rows, 16 * rows);
                found.for_each(|value| column.append_option(value.map(seek::Value::json)));
                Arc::new(column.finish())
            }
            Self::Text => {
                let mut column = StringBuilder::with_capacity(rows, 16 * rows);
                found.for_each(|value| column.append_option(value.and_then(seek::Value::text)));
                Arc::new(column.finish())
            }
        }
    }
}

/// Plans `text -> step` as `json_get_json(text, step)` and `text ->> step` as
/// `json_as_text(text, step)`; a chain of them as one call with the whole path.
#[derive(Debug)]
pub(super) struct JsonOperators {
    json: Arc<ScalarUDF>,
    text: Arc<ScalarUDF>,
}

impl JsonOperators {
    pub(super) fn new() -> Self {
        let function = |kind| Arc::new(ScalarUDF::from(JsonFunction::new(kind)));
        Self {
            json: function(Kind::Json),
            text: function(Kind::Text),
        }
    }
}

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        _: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let function = match expr.op {
            BinaryOperator::Arrow => &self.json,
            BinaryOperator::LongArrow => &self.text,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let mut arguments = match expr.left {
            Expr::ScalarFunction(inner) if inner.func == self.json => inner.args,
            left => vec![left],
        };
        arguments.push(expr.right);
        let call = ScalarFunction::new_udf(Arc::clone(function), arguments);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}
