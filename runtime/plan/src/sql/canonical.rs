//! One spelling for expressions that are the same.

use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{Expr, ObjectNamePart, VisitMut, VisitorMut};

/// The text of an expression without what makes no difference: white space, the case of functions,
/// quotes that a name does not need, parentheses around a whole or a single part.
pub(crate) fn canonical(expr: &Expr) -> String {
    let mut expr = expr.clone();
    let ControlFlow::Continue(()) = expr.visit(&mut Canonical);
    outermost(&expr).to_string()
}

/// An expression without the parentheses around it.
pub(crate) fn outermost(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

struct Canonical;

impl VisitorMut for Canonical {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        match expr {
            Expr::Identifier(ident) => {
                ident.quote_style = (!is_plain(&ident.value)).then_some('"');
            }
            Expr::Function(function) => {
                for part in &mut function.name.0 {
                    if let ObjectNamePart::Identifier(ident) = part {
                        ident.value = ident.value.to_ascii_lowercase();
                    }
                }
            }
            Expr::Nested(inner) => {
                let is_single = matches!(
                    inner.as_ref(),
                    Expr::Identifier(_) | Expr::Value(_) | Expr::Function(_) | Expr::Nested(_)
                );
                if is_single {
                    *expr = inner.as_ref().clone();
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn is_plain(name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    name.chars().all(is_part) && !name.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use datafusion_sql::sqlparser::parser::Parser;

    use super::super::dialect::TransformDialect;
    use super::*;

    fn of(sql: &str) -> String {
        let mut parser = Parser::new(&TransformDialect).try_with_sql(sql).unwrap();
        canonical(&parser.parse_expr().unwrap())
    }

    #[test]
    fn spellings_of_one_expression_have_one_text() {
        assert_eq!(of("UPPER( name )"), "upper(name)");
        assert_eq!(of("((\"name\"))"), "name");
        assert_eq!(of("\"a name\" + (b)"), "\"a name\" + b");
        assert_eq!(of("(a + b) * c"), "(a + b) * c");
        assert_ne!(of("a + b * c"), of("(a + b) * c"));
        assert_ne!(of("Name"), of("name"));
    }
}
