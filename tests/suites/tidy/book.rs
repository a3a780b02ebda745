//! `docs/SUMMARY.md`: the pages of the book, in the order in which they are read.

use std::collections::BTreeSet;

use super::{check, files, files_ending};

const SUMMARY: &str = "docs/SUMMARY.md";

/// Targets of the links of a page, from its own folder.
fn targets(page: &str) -> Vec<&str> {
    let links = page.split("](").skip(1);
    let targets = links.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.filter(|target| !target.is_empty()).collect()
}

#[test]
fn every_page_is_in_the_book_once_under_its_own_title() {
    let pages = files_ending(".md");
    let summary = &pages[SUMMARY];
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for target in targets(summary) {
        let path = format!("docs/{target}");
        if !pages.contains_key(&path) {
            faults.push(format!("{SUMMARY} has {target}, which is not there"));
        }
        if !seen.insert(path) {
            faults.push(format!("{SUMMARY} has {target} twice"));
        }
    }
    for (path, text) in &pages {
        if path.starts_with("docs/") && path != SUMMARY && !seen.contains(path) {
            faults.push(format!("{SUMMARY} lacks {path}: add a line for it"));
        }
        let is_error = path.starts_with("docs/errors/");
        let title = text.lines().next().and_then(|line| line.strip_prefix("# "));
        if let Some(title) = title.filter(|_| is_error)
            && !summary.contains(&format!("[{title}]("))
        {
            faults.push(format!("{SUMMARY} names {path} otherwise than `{title}`"));
        }
    }
    check("the book", &faults);
}

#[test]
fn pictures_of_the_documentation_are_all_shown_and_small() {
    let pages = files_ending(".md");
    let shown: BTreeSet<String> = pages
        .iter()
        .filter(|(path, _)| path.starts_with("docs/"))
        .flat_map(|(_, text)| targets(text))
        .map(|target| format!("docs/{}", target.trim_start_matches("../")))
        .collect();
    let root = millstream_tests::tools::root();
    let entries = std::fs::read_dir(root.join("docs/images")).expect("there are pictures");
    let mut faults = Vec::new();
    for entry in entries {
        let entry = entry.expect("a directory can be read");
        let path = format!("docs/images/{}", entry.file_name().to_string_lossy());
        if !shown.contains(&path) {
            faults.push(format!("no page shows {path}"));
        }
        let bytes = entry.metadata().expect("a file has a size").len();
        if bytes > 250_000 {
            faults.push(format!("{path} has {bytes} bytes"));
        }
    }
    check("pictures", &faults);
}

#[test]
fn the_book_is_made_of_the_documentation() {
    let files = files();
    let book = &files["book.toml"];
    assert!(book.contains("src = \"docs\""), "{book}");
    assert_eq!(
        targets("[a](b.md) and [c]() and [d](e/f.md)"),
        ["b.md", "e/f.md"]
    );
}
