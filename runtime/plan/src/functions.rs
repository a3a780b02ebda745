//! The functions that SQL may call.
//!
//! Only functions whose result depends on their arguments alone: a record that is processed again
//! after a failure must give the same output, or output that is already visible would be
//! contradicted.

mod json;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion_expr::{
    AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF,
};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;

use crate::sql::types::ColumnTypes;

/// Functions about the engine, its files and its nested types rather than about records.
const HIDDEN: [&str; 16] = [
    "arrow_cast",
    "arrow_field",
    "arrow_metadata",
    "arrow_try_cast",
    "arrow_typeof",
    "cast_to_type",
    "file_row_index",
    "get_field",
    "input_file_name",
    "named_struct",
    "struct",
    "try_cast_to_type",
    "union_extract",
    "union_tag",
    "version",
    "with_metadata",
];

/// All functions by their lower-case names.
#[derive(Debug)]
pub(crate) struct Functions {
    scalar: BTreeMap<String, Arc<ScalarUDF>>,
    varying: BTreeSet<String>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: ConfigOptions,
}

impl Functions {
    /// The built-in ones.
    pub(crate) fn new() -> Self {
        let mut functions = Self {
            scalar: BTreeMap::new(),
            varying: BTreeSet::new(),
            planners: vec![
                Arc::new(CoreFunctionPlanner::default()),
                Arc::new(DatetimeFunctionPlanner),
                Arc::new(UnicodeFunctionPlanner),
                Arc::new(json::JsonOperators::new()),
            ],
            options: ConfigOptions::default(),
        };
        let engine = datafusion_functions::all_default_functions();
        for function in engine.iter().chain(&json::functions()) {
            functions.add(function);
        }
        functions
    }

    /// Adds a function under all its names, if it has anything to do in a transform.
    fn add(&mut self, function: &Arc<ScalarUDF>) {
        if HIDDEN.contains(&function.name()) {
            return;
        }
        let names =
            std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str));
        for name in names {
            if function.signature().volatility == Volatility::Immutable {
                self.scalar.insert(name.to_owned(), Arc::clone(function));
            } else {
                self.varying.insert(name.to_owned());
            }
        }
    }

    /// Whether there is a function of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.scalar.contains_key(name)
    }

    /// Whether the function exists elsewhere but gives another result on every call.
    pub(crate) fn varies(&self, name: &str) -> bool {
        self.varying.contains(name)
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.scalar.keys().map(String::as_str)
    }
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("there is no table `{name}` here")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(ColumnTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalar.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.scalar.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BEGIN: &str = "<!-- functions: begin -->\n";
    const END: &str = "<!-- functions: end -->";

    /// The names in lines of the page's width.
    fn listed() -> String {
        let functions = Functions::new();
        let names: Vec<String> = functions.names().map(|name| format!("`{name}`")).collect();
        format!("{}\n", names.join(", "))
    }

    #[test]
    fn the_page_lists_every_function() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
        let text = std::fs::read_to_string(&page).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (list, after) = rest.split_once(END).unwrap();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&page, format!("{before}{BEGIN}{}{END}{after}", listed())).unwrap();
        } else {
            assert_eq!(
                list,
                listed(),
                "UPDATE_EXPECT=1 writes the list in docs/sql.md"
            );
        }
    }

    #[test]
    fn no_function_varies_from_call_to_call() {
        let functions = Functions::new();
        for name in ["now", "random", "uuid", "current_date", "current_time"] {
            assert!(
                functions.varies(name) && !functions.contains(name),
                "{name}"
            );
        }
        let mut all = functions.scalar.values();
        assert!(all.all(|function| function.signature().volatility == Volatility::Immutable));
    }
}
