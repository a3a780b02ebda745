//! Job files in the documentation: each is taken and planned, as a reader who copies it would have it.

use std::path::{Path, PathBuf};

/// All pages of the documentation, and those of the examples.
fn pages() -> Vec<PathBuf> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![project.join("README.md")];
    let mut folders = vec![project.join("docs"), project.join("examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// The YAML documents of a page that are whole jobs.
fn jobs(page: &str) -> Vec<String> {
    let mut jobs = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if line.trim() != "```yaml" {
            continue;
        }
        let block: String = lines
            .by_ref()
            .take_while(|line| line.trim() != "```")
            .map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n")
            .collect();
        let documents = block
            .split("---\n")
            .filter(|it| it.contains("kind: StreamJob\n"));
        jobs.extend(
            documents
                .filter(|it| it.contains("dataflow:"))
                .map(str::to_owned),
        );
    }
    jobs
}

#[test]
fn every_job_in_the_documentation_is_taken_and_planned() {
    let mut seen = 0;
    for path in pages() {
        let name = path.to_string_lossy();
        for text in jobs(&std::fs::read_to_string(&path).unwrap()) {
            seen += 1;
            let job = millstream_spec::read(&text, &name);
            let job = job.unwrap_or_else(|error| panic!("{error}\n{text}"));
            if let Err(error) = millstream_plan::plan(&job) {
                panic!("{name}: {error}\n{text}");
            }
        }
    }
    assert!(seen >= 4, "only {seen} jobs");
}

#[test]
fn a_job_in_a_list_and_one_behind_another_document_are_found() {
    let job = "kind: StreamJob\nspec: {dataflow: {}}\n";
    let page = format!(
        "- first\n  ```yaml\n  {}  ```\n",
        job.replace("\nspec", "\n  spec")
    );
    assert_eq!(jobs(&page), [job]);
    let page = format!(
        "```yaml\nkind: Secret\n---\n{job}```\n```yaml\nkind: StreamJob\nspec: {{}}\n```\n"
    );
    assert_eq!(jobs(&page), ["kind: StreamJob\nspec: {dataflow: {}}\n"]);
}
