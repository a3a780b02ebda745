//! What stands between SELECT and FROM, as a list of named columns.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    ExceptSelectItem, ExcludeSelectItem, Expr, Ident, ObjectName, SelectItem,
    SelectItemQualifiedWildcardKind, Spanned, WildcardAdditionalOptions, visit_expressions,
};
use millstream_types::change::CHANGE_COLUMN;

use super::MAX_FAULTS;
use super::names::{Scope, Standing};
use super::written::written;
use crate::error::Fault;

/// One output column before it has a type.
#[derive(Debug)]
pub(crate) struct Item {
    /// Name of the column.
    pub(crate) name: String,
    /// How it is computed; all names in it exist.
    pub(crate) ast: Expr,
    /// How it is written, where it stands for itself.
    pub(crate) text: Option<String>,
}

impl Scope<'_> {
    /// The output columns, `*` written out. Stops at [`MAX_FAULTS`].
    pub(crate) fn expand(&self, items: Vec<SelectItem>, faults: &mut Vec<Fault>) -> Vec<Item> {
        let mut names = BTreeSet::new();
        let mut expanded: Vec<Item> = Vec::new();
        let written = written(self.subject.sql, self.subject.tokens_of(self.select)).items;
        let mut written = (written.len() == items.len()).then(|| written.into_iter());
        for item in items {
            let text = written.as_mut().and_then(Iterator::next);
            let is_single = matches!(
                item,
                SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }
            );
            for mut item in self.item(item, faults) {
                item.text = text.clone().filter(|_| is_single);
                if self.select == 0 && !names.insert(item.name.clone()) {
                    faults.push(self.twice(&item));
                }
                if item.name == CHANGE_COLUMN {
                    faults.push(self.reserved(&item));
                }
                expanded.push(item);
            }
            if faults.len() >= MAX_FAULTS {
                break;
            }
        }
        expanded
    }

    /// Names that the SELECT gives to its columns, where a clause takes them for columns of the input:
    /// it is computed before they are.
    pub(super) fn given_names_in(&self, clause: &str, ast: &Expr, items: &[Item]) -> Vec<Fault> {
        let mut faults = Vec::new();
        let all = visit_expressions(ast, |part| {
            if let Expr::Identifier(ident) = part
                && self.input.field_with_name(&ident.value).is_err()
                && let Some(item) = items.iter().find(|item| item.name == ident.value)
            {
                let message = format!(
                    "{clause} does not know `{}`, a name that the SELECT gives",
                    item.name
                );
                let help = format!("write what it stands for: {}", item.ast);
                faults.push(self.subject.unbound(ident.span, message).with_help(help));
            }
            ControlFlow::<()>::Continue(())
        });
        debug_assert!(all.is_continue(), "nothing ends the walk");
        faults
    }

    fn twice(&self, item: &Item) -> Fault {
        let span = self.subject.span_of(&item.ast);
        let message = format!("the column `{}` is there twice", item.name);
        self.subject.unbound(span, message).with_help(
            "give one of them another name with AS, or leave it out with `* EXCLUDE (…)`",
        )
    }

    fn reserved(&self, item: &Item) -> Fault {
        let span = self.subject.span_of(&item.ast);
        let message = format!("a column cannot have the name `{CHANGE_COLUMN}`");
        let help = "streams that update say in it what a row does: choose another name";
        self.subject.unbound(span, message).with_help(help)
    }

    fn item(&self, item: SelectItem, faults: &mut Vec<Fault>) -> Vec<Item> {
        match item {
            SelectItem::UnnamedExpr(ast) => self.unnamed(ast, faults).into_iter().collect(),
            SelectItem::ExprWithAlias { expr, alias } => {
                let name = alias.value;
                let item = self
                    .resolve(expr, Standing::Result, faults)
                    .map(|ast| Item {
                        name,
                        ast,
                        text: None,
                    });
                item.into_iter().collect()
            }
            SelectItem::Wildcard(options) => self.wildcard(&options, faults),
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) => {
                if self.is_qualifier(&idents(&name)) {
                    return self.wildcard(&options, faults);
                }
                faults.push(
                    self.subject
                        .unbound(name.span(), format!("there is no table `{name}` here")),
                );
                Vec::new()
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(ast), _) => {
                faults.push(self.subject.unbound(
                    self.subject.span_of(&ast),
                    "`*` may stand behind the input's name only",
                ));
                Vec::new()
            }
            SelectItem::ExprWithAliases { expr, .. } => {
                faults.push(
                    self.subject
                        .unbound(self.subject.span_of(&expr), "an expression has one name"),
                );
                Vec::new()
            }
        }
    }

    fn unnamed(&self, ast: Expr, faults: &mut Vec<Fault>) -> Option<Item> {
        let name = match &ast {
            Expr::Identifier(ident) => Some(ident.value.clone()),
            Expr::CompoundIdentifier(path) => path.last().map(|ident| ident.value.clone()),
            other => self.keyword_column(other).map(|ident| ident.value),
        };
        let ast = self.resolve(ast, Standing::Result, faults)?;
        // The columns of a union have the names of its first SELECT's.
        let name = name.or_else(|| (self.select > 0).then(|| ast.to_string()));
        if name.is_none() {
            let span = self.subject.span_of(&ast);
            let fault = self.subject.unbound(span, "this expression has no name");
            faults.push(
                fault.with_help("name the column with AS, as in `quantity * price AS total`"),
            );
        }
        Some(Item {
            name: name?,
            ast,
            text: None,
        })
    }

    /// All columns, less those left out and with those replaced.
    fn wildcard(&self, options: &WildcardAdditionalOptions, faults: &mut Vec<Fault>) -> Vec<Item> {
        let span = options.wildcard_token.0.span;
        if options.opt_ilike.is_some()
            || options.opt_rename.is_some()
            || options.opt_alias.is_some()
        {
            faults.push(self.subject.unbound(
                span,
                "behind `*` only EXCLUDE, EXCEPT and REPLACE are supported",
            ));
        }
        let left_out = left_out(options);
        for ident in &left_out {
            self.column(ident, faults);
        }
        let mut replaced: Vec<Item> = Vec::new();
        for element in options
            .opt_replace
            .iter()
            .flat_map(|replace| &replace.items)
        {
            self.column(&element.column_name, faults);
            let ast = self.resolve(element.expr.clone(), Standing::Result, faults);
            replaced.extend(ast.map(|ast| Item {
                name: element.column_name.value.clone(),
                ast,
                text: None,
            }));
        }
        self.input
            .fields()
            .iter()
            .filter(|field| left_out.iter().all(|ident| ident.value != *field.name()))
            .map(|field| {
                let replacement = replaced.iter().position(|item| item.name == *field.name());
                replacement.map_or_else(
                    || Item {
                        name: field.name().clone(),
                        ast: Expr::Identifier(Ident::with_quote_and_span('"', span, field.name())),
                        text: None,
                    },
                    |index| replaced.swap_remove(index),
                )
            })
            .collect()
    }
}

/// Columns that `* EXCLUDE (…)` or `* EXCEPT (…)` leaves out.
fn left_out(options: &WildcardAdditionalOptions) -> Vec<Ident> {
    let except = options.opt_except.iter().flat_map(
        |ExceptSelectItem {
             first_element,
             additional_elements,
         }| { std::iter::once(first_element).chain(additional_elements) },
    );
    let names: &[ObjectName] = match &options.opt_exclude {
        None => &[],
        Some(ExcludeSelectItem::Single(name)) => std::slice::from_ref(name),
        Some(ExcludeSelectItem::Multiple(names)) => names,
    };
    let exclude = names.iter().filter_map(|name| name.0.last()?.as_ident());
    except.chain(exclude).cloned().collect()
}

fn idents(name: &ObjectName) -> Vec<&str> {
    name.0
        .iter()
        .filter_map(|part| part.as_ident())
        .map(|ident| ident.value.as_str())
        .collect()
}
