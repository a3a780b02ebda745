//! What each form of an expression means.

use datafusion_common::ScalarValue;
use datafusion_expr::Operator;
use datafusion_sql::sqlparser::ast::{
    self, BinaryOperator, CastKind, CeilFloorKind, DateTimeField, Expr, FunctionArg,
    FunctionArgExpr, FunctionArguments, TrimWhereField, UnaryOperator,
};

use super::bind::{Binder, Trouble};
use super::constant;
use crate::functions::{Function, json, text};
use crate::semantics::cast::{self, Failing};
use crate::semantics::patterns::{self, Language};
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Meaning, Refusal, arithmetic, compare, logic};

type Bound = Result<Typed, Trouble>;

fn refused(message: impl Into<String>) -> Bound {
    Err(Trouble::Here(Refusal::new(message)))
}

impl Binder<'_> {
    /// An expression with its type.
    pub(super) fn expression(&self, ast: &Expr) -> Bound {
        Ok(match ast {
            Expr::Identifier(ident) => self.named(&ident.value)?,
            Expr::Nested(inner) => self.typed(inner)?,
            Expr::Value(value) => constant::value(&value.value, false)?,
            Expr::TypedString(typed) => constant::typed(typed)?,
            Expr::Interval(interval) => constant::interval(interval)?,
            Expr::UnaryOp { op, expr } => return self.unary(*op, expr),
            Expr::BinaryOp { left, op, right } => return self.binary(left, op, right),
            Expr::IsDistinctFrom(left, right) => compare::compare(
                Operator::IsDistinctFrom,
                self.typed(left)?,
                self.typed(right)?,
            )?,
            Expr::IsNotDistinctFrom(left, right) => {
                let op = Operator::IsNotDistinctFrom;
                compare::compare(op, self.typed(left)?, self.typed(right)?)?
            }
            Expr::InList {
                expr,
                list,
                negated,
            } => {
                let list = list.iter().map(|part| self.typed(part));
                let list = list.collect::<Result<Vec<_>, _>>()?;
                let found = compare::is_in(&self.typed(expr)?, list, self.input)?;
                patterns::negated(found, *negated)?
            }
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } => {
                let (low, high) = (self.typed(low)?, self.typed(high)?);
                patterns::negated(compare::between(self.typed(expr)?, low, high)?, *negated)?
            }
            Expr::Like { .. } | Expr::ILike { .. } | Expr::SimilarTo { .. } => {
                return self.pattern(ast);
            }
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => {
                return self.case(operand.as_deref(), conditions, else_result.as_deref());
            }
            Expr::Cast {
                kind,
                expr,
                data_type,
                array: false,
                format: None,
            } => {
                let to = Type::written(data_type)?;
                let failing = match kind {
                    CastKind::Cast | CastKind::DoubleColon => Failing::Fails,
                    CastKind::TryCast | CastKind::SafeCast => Failing::Null,
                };
                cast::cast(self.typed(expr)?, to, failing)?
            }
            _ => return self.question(ast),
        })
    }

    /// `IS NULL`, `IS NOT TRUE` and the like.
    fn question(&self, ast: &Expr) -> Bound {
        Ok(match ast {
            Expr::IsNull(inner) => logic::is_null(&self.typed(inner)?, false)?,
            Expr::IsNotNull(inner) => logic::is_null(&self.typed(inner)?, true)?,
            Expr::IsTrue(inner) => logic::is(self.typed(inner)?, Some(true), false)?,
            Expr::IsNotTrue(inner) => logic::is(self.typed(inner)?, Some(true), true)?,
            Expr::IsFalse(inner) => logic::is(self.typed(inner)?, Some(false), false)?,
            Expr::IsNotFalse(inner) => logic::is(self.typed(inner)?, Some(false), true)?,
            Expr::IsUnknown(inner) => logic::is(self.typed(inner)?, None, false)?,
            Expr::IsNotUnknown(inner) => logic::is(self.typed(inner)?, None, true)?,
            _ => return self.special(ast),
        })
    }

    /// A column of the input.
    fn named(&self, name: &str) -> Meaning<Typed> {
        if let Some(reference) = self.references.iter().find(|it| it.name == name) {
            return Ok(reference.typed.clone());
        }
        let Some((index, field)) = self.input.column_with_name(name) else {
            return Err(Refusal::new(format!("there is no column `{name}`")));
        };
        let data_type = Type::of(field.data_type())?;
        Ok(Typed::column(name, index, data_type, field.is_nullable()))
    }

    fn unary(&self, op: UnaryOperator, expr: &Expr) -> Bound {
        Ok(match op {
            UnaryOperator::Not => logic::not(self.typed(expr)?)?,
            UnaryOperator::Minus => {
                if let Expr::Value(value) = expr
                    && matches!(value.value, ast::Value::Number(..))
                {
                    // The least integer has no positive counterpart.
                    return Ok(constant::value(&value.value, true)?);
                }
                arithmetic::negated(self.typed(expr)?)?
            }
            UnaryOperator::Plus => {
                let number = self.typed(expr)?;
                let fits = number.data_type.is_number() || number.data_type.is_span();
                if !fits && number.data_type != Type::Null {
                    return refused(format!("there is no +{}", number.data_type));
                }
                number
            }
            other => return refused(format!("`{other}` is not supported")),
        })
    }

    fn binary(&self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Bound {
        use BinaryOperator as Op;
        let sides = || Ok::<_, Trouble>((self.typed(left)?, self.typed(right)?));
        let arithmetic_op = match op {
            Op::Plus => Some(Operator::Plus),
            Op::Minus => Some(Operator::Minus),
            Op::Multiply => Some(Operator::Multiply),
            Op::Divide => Some(Operator::Divide),
            Op::Modulo => Some(Operator::Modulo),
            _ => None,
        };
        if let Some(op) = arithmetic_op {
            let (left, right) = sides()?;
            return Ok(arithmetic::arithmetic(op, left, right)?);
        }
        let comparison = match op {
            Op::Eq => Some(Operator::Eq),
            Op::NotEq => Some(Operator::NotEq),
            Op::Lt => Some(Operator::Lt),
            Op::LtEq => Some(Operator::LtEq),
            Op::Gt => Some(Operator::Gt),
            Op::GtEq => Some(Operator::GtEq),
            _ => None,
        };
        if let Some(op) = comparison {
            let (left, right) = sides()?;
            return Ok(compare::compare(op, left, right)?);
        }
        Ok(match op {
            Op::And => logic::either(Operator::And, self.typed(left)?, self.chosen(right)?)?,
            Op::Or => logic::either(Operator::Or, self.typed(left)?, self.chosen(right)?)?,
            Op::BitwiseAnd => self.bits(Operator::BitwiseAnd, left, right)?,
            Op::BitwiseOr => self.bits(Operator::BitwiseOr, left, right)?,
            Op::BitwiseXor => self.bits(Operator::BitwiseXor, left, right)?,
            Op::StringConcat => text::joined(self.typed(left)?, self.typed(right)?)?,
            Op::PGRegexMatch => self.regular(left, right, "", false)?,
            Op::PGRegexIMatch => self.regular(left, right, "i", false)?,
            Op::PGRegexNotMatch => self.regular(left, right, "", true)?,
            Op::PGRegexNotIMatch => self.regular(left, right, "i", true)?,
            Op::Arrow | Op::LongArrow => return self.json(left, op, right),
            other => {
                return Err(Trouble::Here(
                    Refusal::new(format!("the operator `{other}` is not supported"))
                        .with_help("docs/sql.md lists the operators"),
                ));
            }
        })
    }

    fn bits(&self, op: Operator, left: &Expr, right: &Expr) -> Bound {
        Ok(arithmetic::bits(op, self.typed(left)?, self.typed(right)?)?)
    }

    fn regular(&self, left: &Expr, right: &Expr, flags: &str, negated: bool) -> Bound {
        let (text, pattern) = (self.typed(left)?, self.typed(right)?);
        let found = patterns::matches(text, pattern, Language::Regular, flags)?;
        Ok(patterns::negated(found, negated)?)
    }

    /// `text -> step`, `text ->> step`; a chain of them is one call with the whole path.
    fn json(&self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Bound {
        let mut steps = vec![self.typed(right)?];
        let mut base = left;
        while let Expr::BinaryOp {
            left,
            op: BinaryOperator::Arrow,
            right,
        } = base
        {
            steps.push(self.typed(right)?);
            base = left;
        }
        steps.push(self.typed(base)?);
        steps.reverse();
        let kind = if *op == BinaryOperator::Arrow {
            json::Kind::Json
        } else {
            json::Kind::Text
        };
        Ok(json::call(kind, steps)?)
    }

    fn pattern(&self, ast: &Expr) -> Bound {
        let (any, negated) = match ast {
            Expr::Like { any, negated, .. } | Expr::ILike { any, negated, .. } => (*any, *negated),
            Expr::SimilarTo { negated, .. } => (false, *negated),
            _ => (false, false),
        };
        if any {
            return refused("ANY is not supported: connect several conditions with OR");
        }
        let found = match ast {
            Expr::Like {
                expr,
                pattern,
                escape_char,
                ..
            } => {
                let escape = constant::escape(escape_char.as_ref())?;
                patterns::like(self.typed(expr)?, self.typed(pattern)?, escape, false)?
            }
            Expr::ILike {
                expr,
                pattern,
                escape_char,
                ..
            } => {
                let escape = constant::escape(escape_char.as_ref())?;
                patterns::like(self.typed(expr)?, self.typed(pattern)?, escape, true)?
            }
            Expr::SimilarTo {
                expr,
                pattern,
                escape_char,
                ..
            } => {
                let language = Language::Similar(constant::escape(escape_char.as_ref())?);
                patterns::matches(self.typed(expr)?, self.typed(pattern)?, language, "")?
            }
            other => return self.special(other),
        };
        Ok(patterns::negated(found, negated)?)
    }

    fn case(
        &self,
        operand: Option<&Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&Expr>,
    ) -> Bound {
        let operand = operand.map(|operand| self.typed(operand)).transpose()?;
        let mut branches = Vec::with_capacity(conditions.len());
        for (index, branch) in conditions.iter().enumerate() {
            let when = &branch.condition;
            let bound = if index == 0 {
                self.typed(when)?
            } else {
                self.chosen(when)?
            };
            let condition = match &operand {
                Some(operand) => compare::compare(Operator::Eq, operand.clone(), bound),
                None => logic::condition(bound),
            };
            let condition = condition.map_err(|refusal| self.subject.refused(when, refusal))?;
            branches.push((condition, self.chosen(&branch.result)?));
        }
        let otherwise = otherwise
            .map(|otherwise| self.chosen(otherwise))
            .transpose()?;
        Ok(logic::case(branches, otherwise)?)
    }

    /// Forms of the standard that are functions.
    fn special(&self, ast: &Expr) -> Bound {
        let call = |name: &str, arguments: Vec<Typed>| self.call(name, arguments);
        match ast {
            Expr::Extract { field, expr, .. } => {
                let field = Typed::literal(ScalarValue::from(field.to_string()))?;
                call("date_part", vec![field, self.typed(expr)?])
            }
            Expr::Ceil {
                expr,
                field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime),
            } => call("ceil", vec![self.typed(expr)?]),
            Expr::Floor {
                expr,
                field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime),
            } => call("floor", vec![self.typed(expr)?]),
            Expr::Ceil { .. } | Expr::Floor { .. } => {
                refused("ceil and floor take one number: date_trunc cuts a time")
            }
            Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => call(
                "timezone",
                vec![self.typed(time_zone)?, self.typed(timestamp)?],
            ),
            Expr::Function(function) => self.function(function),
            _ => self.special_text(ast),
        }
    }

    /// Forms of the standard that are functions of texts.
    fn special_text(&self, ast: &Expr) -> Bound {
        let call = |name: &str, arguments: Vec<Typed>| self.call(name, arguments);
        match ast {
            Expr::Position { expr, r#in } => {
                call("strpos", vec![self.typed(r#in)?, self.typed(expr)?])
            }
            Expr::Substring {
                expr,
                substring_from,
                substring_for,
                ..
            } => {
                let mut arguments = vec![self.typed(expr)?];
                match substring_from {
                    Some(from) => arguments.push(self.typed(from)?),
                    None => arguments.push(Typed::constant(ScalarValue::Int64(Some(1)))?),
                }
                if let Some(length) = substring_for {
                    arguments.push(self.typed(length)?);
                }
                call("substr", arguments)
            }
            Expr::Trim {
                trim_where,
                trim_what,
                expr,
                trim_characters,
            } => {
                let mut arguments = vec![self.typed(expr)?];
                let characters = trim_characters.iter().flatten().chain(trim_what.as_deref());
                for characters in characters {
                    arguments.push(self.typed(characters)?);
                }
                call(
                    match trim_where {
                        None | Some(TrimWhereField::Both) => "btrim",
                        Some(TrimWhereField::Leading) => "ltrim",
                        Some(TrimWhereField::Trailing) => "rtrim",
                    },
                    arguments,
                )
            }
            Expr::Overlay {
                expr,
                overlay_what,
                overlay_from,
                overlay_for,
            } => {
                let parts = [expr, overlay_what, overlay_from]
                    .into_iter()
                    .chain(overlay_for);
                let arguments = parts.map(|part| self.typed(part));
                call("overlay", arguments.collect::<Result<_, _>>()?)
            }
            _ => refused("this form of an expression is not supported"),
        }
    }

    fn function(&self, function: &ast::Function) -> Bound {
        let name = function.name.to_string().to_ascii_lowercase();
        let plain = function.filter.is_none()
            && function.null_treatment.is_none()
            && function.within_group.is_empty()
            && matches!(function.parameters, FunctionArguments::None);
        let list = match &function.args {
            FunctionArguments::List(list)
                if list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
            {
                list.args.as_slice()
            }
            FunctionArguments::None => &[],
            _ => return refused(format!("`{name}` takes expressions")),
        };
        if !plain {
            return refused(format!("`{name}` takes expressions, and nothing else"));
        }
        let is_lazy = self
            .functions
            .get(&name)
            .is_some_and(|function| function.is_lazy);
        let mut arguments = Vec::with_capacity(list.len());
        for (index, argument) in list.iter().enumerate() {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(ast)) = argument else {
                return refused(format!("`{name}` takes expressions, without names and `*`"));
            };
            let chosen = is_lazy && index > 0;
            arguments.push(if chosen {
                self.chosen(ast)?
            } else {
                self.typed(ast)?
            });
        }
        self.call(&name, arguments)
    }

    /// Calls a function of the table.
    fn call(&self, name: &str, arguments: Vec<Typed>) -> Bound {
        match self.functions.get(name) {
            Some(function) => Ok(Function::call(function, name, arguments)?),
            None => refused(format!("there is no function `{name}`")),
        }
    }
}
