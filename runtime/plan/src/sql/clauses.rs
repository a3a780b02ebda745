//! What SELECT can say and a transform cannot do.

use datafusion_sql::sqlparser::ast::{Expr, GroupByExpr, Query, Select, TableFactor};

/// A clause that is there and not supported.
pub(crate) struct Clause {
    /// As in `GROUP BY`; its first word is in the text.
    pub(crate) name: &'static str,
}

impl Clause {
    /// Says that it is not supported, and why or what else to do where that helps.
    pub(crate) fn message(&self) -> String {
        let advice = match self.name {
            "WITH" => ": make it a transform of its own",
            "ORDER BY" => ": a stream has no end to sort up to",
            "PREWHERE" => ": use WHERE",
            "INTO" => ": sinks write",
            "EXCLUDE" => " here: write it directly behind `*`",
            "GROUP BY ALL" => ": name the expressions",
            "GROUP BY with ROLLUP, CUBE or sets" => ": make a transform for each of its groupings",
            _ => "",
        };
        format!("{} is not supported{advice}", self.name)
    }

    /// The word to look for in the text.
    pub(crate) fn keyword(&self) -> &'static str {
        self.name.split(' ').next().unwrap_or(self.name)
    }
}

fn first(clauses: &[(bool, &'static str)]) -> Option<Clause> {
    let (_, name) = clauses.iter().find(|(there, _)| *there)?;
    Some(Clause { name })
}

/// A clause of a query around its SELECT.
pub(crate) fn of_query(query: &Query) -> Option<Clause> {
    let Query {
        with,
        body: _,
        order_by,
        limit_clause,
        fetch,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    first(&[
        (with.is_some(), "WITH"),
        (order_by.is_some(), "ORDER BY"),
        (limit_clause.is_some(), "LIMIT"),
        (fetch.is_some(), "FETCH"),
        (!locks.is_empty() || for_clause.is_some(), "FOR"),
        (settings.is_some(), "SETTINGS"),
        (format_clause.is_some(), "FORMAT"),
        (!pipe_operators.is_empty(), "|>"),
    ])
}

/// A clause of a SELECT.
pub(crate) fn of_select(select: &Select) -> Option<Clause> {
    let is_set = |expr: &Expr| {
        matches!(
            expr,
            Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_)
        )
    };
    let (by_all, by_sets) = match &select.group_by {
        GroupByExpr::All(_) => (true, false),
        GroupByExpr::Expressions(expressions, modifiers) => (
            false,
            !modifiers.is_empty() || expressions.iter().any(is_set),
        ),
    };
    first(&[
        (select.top.is_some(), "TOP"),
        (select.select_modifiers.is_some(), "SELECT modifiers"),
        (by_all, "GROUP BY ALL"),
        (by_sets, "GROUP BY with ROLLUP, CUBE or sets"),
        (!select.named_window.is_empty(), "WINDOW"),
        (select.qualify.is_some(), "QUALIFY"),
        (select.into.is_some(), "INTO"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW"),
        (select.prewhere.is_some(), "PREWHERE"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (!select.cluster_by.is_empty(), "CLUSTER BY"),
        (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
        (!select.sort_by.is_empty(), "SORT BY"),
        (select.exclude.is_some(), "EXCLUDE"),
        (select.value_table_mode.is_some(), "AS STRUCT"),
    ])
}

/// Whether a table is read plainly: without sampling, hints, versions and the like.
pub(crate) fn is_plain(table: &TableFactor) -> bool {
    let TableFactor::Table {
        name: _,
        alias,
        args,
        with_hints,
        version,
        with_ordinality,
        partitions,
        json_path,
        sample,
        index_hints,
    } = table
    else {
        return false;
    };
    alias.as_ref().is_none_or(|alias| alias.at.is_none())
        && args.is_none()
        && with_hints.is_empty()
        && version.is_none()
        && !with_ordinality
        && partitions.is_empty()
        && json_path.is_none()
        && sample.is_none()
        && index_hints.is_empty()
}
