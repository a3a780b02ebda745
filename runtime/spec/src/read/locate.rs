//! Where in the text of a job file something stands that was found after it was read.

use crate::Place;
use crate::read::tree::{Node, Value};
use crate::read::yaml;

/// Where the part of a job file with this path stands, or the nearest part around it.
pub fn part(text: &str, path: &str) -> Option<Place> {
    Some(yaml::parse(text).ok()?.place_of(path))
}

/// The line of a job file on which a line of a transform's SQL stands, both from 1; the line on which
/// the SQL begins if the text is folded, so that lines of the SQL are none of the file.
pub fn sql_line(text: &str, transform: &str, line: usize) -> Option<usize> {
    let root = yaml::parse(text).ok()?;
    let transforms = root.get("spec")?.get("dataflow")?.get("transforms")?;
    let is_it = |node: &&Node| node.get("name").and_then(Node::text) == Some(transform);
    let sql = transforms.items().iter().find(is_it)?.get("sql")?;
    let Value::Text(_) = &sql.value else {
        return None;
    };
    let begin = text.lines().nth(sql.place.line.checked_sub(1)?)?;
    let at: String = begin
        .chars()
        .skip(sql.place.column.saturating_sub(1))
        .collect();
    // The header of a block, which the text begins behind.
    let is_literal = at.starts_with('|');
    Some(sql.place.line + if is_literal { line } else { 0 })
}

/// The line of a job file on which a key of a transform stands, such as `stateTtl`; the transform's own
/// if it does not have the key.
pub fn transform_key(text: &str, transform: &str, key: &str) -> Option<usize> {
    let root = yaml::parse(text).ok()?;
    let transforms = root.get("spec")?.get("dataflow")?.get("transforms")?;
    let is_it = |node: &Node| node.get("name").and_then(Node::text) == Some(transform);
    let index = transforms.items().iter().position(is_it)?;
    let path = format!("spec.dataflow.transforms[{index}].{key}");
    Some(root.place_of(&path).line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "\
spec:
  dataflow:
    transforms:
    - {name: one, sql: SELECT a FROM b}
    - name: block
      sql: |
        SELECT a
        FROM b
    - name: quoted
      sql: \"SELECT a FROM b\"
    - name: folded
      sql: >-
        SELECT a
        FROM b
";

    #[test]
    fn keys_of_transforms_are_found_by_their_names() {
        assert_eq!(transform_key(JOB, "block", "sql"), Some(6));
        assert_eq!(transform_key(JOB, "block", "stateTtl"), Some(5));
        assert_eq!(transform_key(JOB, "none", "sql"), None);
    }

    #[test]
    fn lines_of_sql_are_lines_of_the_job_file() {
        for (name, line, expected) in [
            ("one", 1, Some(4)),
            ("block", 1, Some(7)),
            ("block", 2, Some(8)),
            ("quoted", 1, Some(10)),
            ("folded", 1, Some(12)),
            ("none", 1, None),
        ] {
            assert_eq!(sql_line(JOB, name, line), expected, "{name}");
        }
        let path = "spec.dataflow.transforms[2].sql";
        assert_eq!(part(JOB, path).map(|place| place.line), Some(10));
    }
}
