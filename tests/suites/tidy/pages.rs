//! Documents: that they are there, say what they must, and that their links lead somewhere.

use std::collections::BTreeSet;
use std::path::Path;

use millstream_tests::tools::root;
use millstream_types::ErrorCode;

use super::{check, crates, files, files_ending};

const ARCHITECTURE_LINES: usize = 250;
const SECTIONS: [&str; 3] = ["What happened", "Why", "What to do"];
/// What is generated and committed; the crates that generate it check that it is current.
const GENERATED: [&str; 5] = [
    "crds/streamjobs.millstream.dev.yaml",
    "crds/streamsavepoints.millstream.dev.yaml",
    "docs/reference/kubectl-streamjob.1",
    "docs/reference/openapi.json",
    "docs/reference/streamjob.schema.json",
];

#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let mut faults = Vec::new();
    let pages = files_ending(".md");
    let mut known = BTreeSet::new();
    for code in ErrorCode::ALL {
        let path = format!("docs/errors/{}.md", code.code());
        match pages.get(&path) {
            None => faults.push(format!("{path} does not exist ({})", code.name())),
            Some(text) => {
                let title = format!("# {} {}", code.code(), code.name());
                faults.extend(page_faults(&title, text).map(|fault| format!("{path}: {fault}")));
            }
        }
        if !known.insert(path) {
            faults.push(format!("{} is the code of two errors", code.code()));
        }
    }
    for path in pages.keys() {
        if path.starts_with("docs/errors/MS") && !known.contains(path) {
            faults.push(format!("{path} belongs to no error code"));
        }
    }
    check("error pages", &faults);
}

/// What a page of an error lacks: its title, its three sections in order, text in each.
fn page_faults<'a>(title: &str, text: &'a str) -> impl Iterator<Item = String> + use<'a> {
    let mut faults = Vec::new();
    if text.lines().next() != Some(title) {
        faults.push(format!("its first line must be `{title}`"));
    }
    let sections: Vec<(&str, &str)> = text
        .split("\n## ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap_or((section, "")))
        .collect();
    let names: Vec<&str> = sections.iter().map(|(name, _)| name.trim()).collect();
    if names != SECTIONS {
        faults.push(format!(
            "its sections are {names:?}, they must be {SECTIONS:?}"
        ));
    }
    for (name, body) in sections {
        if body.trim().is_empty() {
            faults.push(format!("`{name}` is empty"));
        }
    }
    faults.into_iter()
}

#[test]
fn a_page_without_a_section_is_seen() {
    let good = "# MS1 A\n\n## What happened\n\na\n\n## Why\n\nb\n\n## What to do\n\nc\n";
    assert_eq!(page_faults("# MS1 A", good).count(), 0);
    assert_eq!(page_faults("# MS2 A", good).count(), 1);
    assert_eq!(
        page_faults("# MS1 A", &good.replace("## Why\n\nb\n\n", "")).count(),
        1
    );
    assert_eq!(
        page_faults("# MS1 A", &good.replace("\nb\n", "")).count(),
        1
    );
}

#[test]
fn links_between_documents_resolve() {
    let pages = files_ending(".md");
    let mut faults = Vec::new();
    for (path, text) in &pages {
        for link in links(text) {
            let (target, anchor) = link.split_once('#').unwrap_or((&link, ""));
            if target.contains(':') {
                continue;
            }
            let file = if target.is_empty() {
                root().join(path)
            } else {
                let directory = Path::new(path).parent().unwrap_or(Path::new(""));
                root().join(directory).join(target)
            };
            if !std::fs::exists(&file).unwrap_or(false) {
                faults.push(format!("{path}: `{link}` does not exist"));
            } else if !anchor.is_empty() && !has_heading(&file, anchor) {
                faults.push(format!("{path}: `{link}` has no such heading"));
            }
        }
    }
    check("links", &faults);
}

/// Targets of `[text](target)` outside of code.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let mut rest = line;
        while let Some((_, tail)) = rest.split_once("](") {
            let Some((target, tail)) = tail.split_once(')') else {
                break;
            };
            links.push(target.trim().to_owned());
            rest = tail;
        }
    }
    links
}

/// Whether a document has a heading that this anchor leads to.
fn has_heading(file: &Path, anchor: &str) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter(|line| line.starts_with('#'))
        .any(|line| slug(line.trim_start_matches('#').trim()) == anchor)
}

/// As code hosts make anchors of headings.
fn slug(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn links_and_anchors_are_read_as_code_hosts_do() {
    let text = "See [a](a.md) and [b](../b.md#what-it-is).\n```\n[no](x)\n```\n";
    assert_eq!(links(text), ["a.md", "../b.md#what-it-is"]);
    assert_eq!(slug("What it *is*: `now`"), "what-it-is-now");
}

#[test]
fn architecture_is_short_and_names_every_crate() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > ARCHITECTURE_LINES {
        faults.push(format!(
            "it has {lines} lines, at most {ARCHITECTURE_LINES}"
        ));
    }
    for directory in crates::directories() {
        if !text.contains(&format!("`{directory}`")) {
            faults.push(format!("it does not name `{directory}`"));
        }
    }
    check("ARCHITECTURE.md", &faults);
}

#[test]
fn every_example_is_run_by_a_suite() {
    let files = files();
    let suites: String = files_ending(".rs")
        .into_iter()
        .filter(|(path, _)| path.starts_with("tests/") || path.contains("/tests/"))
        .map(|(_, text)| text)
        .collect();
    let examples: BTreeSet<&str> = files
        .keys()
        .filter_map(|path| path.strip_prefix("examples/"))
        .filter_map(|path| path.split_once('/'))
        .map(|(directory, _)| directory)
        .collect();
    let faults: Vec<String> = examples
        .iter()
        .filter(|example| !suites.contains(&format!("examples/{example}")))
        .map(|example| format!("no suite names examples/{example}"))
        .collect();
    check("examples", &faults);
}

#[test]
fn generated_files_are_committed() {
    let files = files();
    let faults: Vec<String> = GENERATED
        .iter()
        .filter(|path| !files.contains_key(**path))
        .map(|path| format!("{path} is missing"))
        .collect();
    check("generated files", &faults);
}

#[test]
fn continuous_integration_runs_the_test_command_of_the_readme() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("the file exists");
    let readme = read("README.md");
    let first_screen: Vec<&str> = readme.lines().take(40).collect();
    for command in ["make run", "make test"] {
        assert!(
            first_screen.iter().any(|line| line.contains(command)),
            "the first screen of README.md does not say `{command}`"
        );
    }
    assert!(read(".ci/run").trim_end().ends_with("exec make test"));
}
