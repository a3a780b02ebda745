//! Types of expressions.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_schema::{DataType, Field, SchemaRef};
use datafusion_common::{
    DFSchema, DFSchemaRef, DataFusionError, Result as DataFusionResult, ScalarValue, plan_err,
};
use datafusion_expr::expr::Cast;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, ExprSchemable};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{self, visit_expressions_mut};
use millstream_types::schema::in_column_types;

use super::items::Item;
use super::place::Subject;
use super::{BoundColumn, conversion, lower, types};
use crate::error::Fault;
use crate::functions::Functions;

/// Gives types to the expressions of one transform.
pub(crate) struct Binder<'a> {
    subject: &'a Subject<'a>,
    functions: &'a Functions,
    schema: DFSchemaRef,
}

impl<'a> Binder<'a> {
    pub(crate) fn new(
        subject: &'a Subject<'a>,
        functions: &'a Functions,
        input: &SchemaRef,
    ) -> DataFusionResult<Self> {
        Ok(Self {
            subject,
            functions,
            schema: Arc::new(DFSchema::try_from(Arc::clone(input))?),
        })
    }

    /// A filter.
    ///
    /// # Errors
    /// It has no type, or is not boolean.
    pub(crate) fn filter(&self, ast: &ast::Expr) -> Result<Expr, Fault> {
        let expr = self.typed(ast)?;
        let data_type = expr
            .get_type(&self.schema)
            .map_err(|error| self.fault(ast, &error))?;
        match data_type {
            DataType::Boolean => Ok(expr),
            DataType::Null => Ok(Expr::Literal(ScalarValue::Boolean(None), None)),
            other => Err(self.subject.unbound(
                self.subject.span_of(ast),
                format!(
                    "WHERE needs a condition, but this is a {}",
                    types::type_name(&other)
                ),
            )),
        }
    }

    /// An output column.
    ///
    /// # Errors
    /// It has no type, or one that columns cannot have.
    pub(crate) fn column(&self, item: Item) -> Result<BoundColumn, Fault> {
        let expr = self.typed(&item.ast)?;
        let fault = |error: DataFusionError| self.fault(&item.ast, &error);
        let computed = expr.get_type(&self.schema).map_err(fault)?;
        let Some(output) = types::output_type(&computed) else {
            return Err(self.no_column_type(&item, &computed));
        };
        let expr = if output == computed {
            expr
        } else {
            let field = Arc::new(Field::new("", output.clone(), true));
            Expr::Cast(Cast::new_from_field(Box::new(expr), field))
        };
        let expr = self.simplified(expr).map_err(fault)?;
        let physical = lower::lower(&expr, &self.schema).map_err(fault)?;
        let nullable = physical.nullable(self.schema.as_arrow()).map_err(fault)?;
        Ok(BoundColumn {
            field: Field::new(item.name, output, nullable),
            expr,
        })
    }

    fn no_column_type(&self, item: &Item, computed: &DataType) -> Fault {
        let fault = self.subject.unbound(
            self.subject.span_of(&item.ast),
            format!(
                "`{}` is of type {}, which a column cannot have",
                item.name,
                types::type_name(computed)
            ),
        );
        fault.with_help(if computed.is_null() {
            "give it a type, as in CAST(NULL AS string)"
        } else {
            "convert it with CAST, for example to string or int64"
        })
    }

    /// An expression with types, checked to be executable.
    fn typed(&self, ast: &ast::Expr) -> Result<Expr, Fault> {
        self.try_type(ast).map_err(|error| self.fault(ast, &error))
    }

    fn try_type(&self, ast: &ast::Expr) -> DataFusionResult<Expr> {
        let options = ParserOptions::new()
            .with_enable_ident_normalization(false)
            .with_map_string_types_to_utf8view(false)
            .with_parse_float_as_decimal(true);
        let expr = SqlToRel::new_with_options(self.functions, options).sql_to_expr(
            ast.clone(),
            &self.schema,
            &mut PlannerContext::new(),
        )?;
        let simplifier = self.simplifier();
        let expr = expr.unalias_nested().data;
        let written = expr.clone();
        let expr = simplifier.coerce(expr, &self.schema)?;
        if let Some((from, to)) = conversion::unasked(&written, &expr, &self.schema)? {
            return plan_err!(
                "{} is used as {}: convert it with CAST, or with TRY_CAST if it may not be one",
                types::type_name(&from),
                types::type_name(&to)
            );
        }
        let expr = self.simplified(expr)?;
        lower::lower(&expr, &self.schema)?;
        Ok(expr)
    }

    fn simplified(&self, expr: Expr) -> DataFusionResult<Expr> {
        let expr = lower::fold_constants(expr)?;
        let expr = lower::check_negation(expr, &self.schema)?;
        self.simplifier().simplify(expr)
    }

    fn simplifier(&self) -> ExprSimplifier {
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(&self.schema))
            .build();
        // Operands stay where the user wrote them: `a <> 0 AND b / a > 1` relies on it.
        ExprSimplifier::new(context).with_canonicalize(false)
    }

    /// The fault of an expression, at its innermost part that has no type by itself.
    fn fault(&self, ast: &ast::Expr, error: &DataFusionError) -> Fault {
        let innermost = visit_expressions_mut(&mut ast.clone(), |part| match self.try_type(part) {
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break((self.subject.span_of(part), message(&error))),
        });
        let innermost = innermost.break_value();
        let (span, message) =
            innermost.unwrap_or_else(|| (self.subject.span_of(ast), message(error)));
        self.subject.unbound(span, message)
    }
}

/// What an error says, without the words of its layers.
fn message(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::ArrowError(error, _) => error.to_string(),
        other => other.message().into_owned(),
    };
    let line = text.lines().next().unwrap_or_default();
    let line = line
        .rsplit("Error during planning: ")
        .next()
        .unwrap_or(line);
    let line = in_column_types(line.trim_end_matches(['.', ' ']));
    let mut letters = line.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            let rest: String = std::iter::once(second).chain(letters).collect();
            format!("{}{rest}", first.to_lowercase())
        }
        _ => line,
    }
}
