use clap::CommandFactory as _;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn commands_in_the_documentation_are_taken() {
    let project = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = vec![project.join("docs"), project.join("examples")];
    let mut pages = vec![project.join("README.md")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                pages.push(path);
            }
        }
    }
    let mut seen = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for line in text.lines().map(str::trim) {
            let command = line.split(" #").next().unwrap_or_default();
            // With brackets or dots it says what there is, and is no command.
            if !command.starts_with("millstream ") || command.contains(['[', '…', '`']) {
                continue;
            }
            seen += 1;
            let words = command.split_whitespace();
            if let Err(error) = Arguments::try_parse_from(words) {
                panic!("{}: {line}\n{error}", page.display());
            }
        }
    }
    assert!(seen > 20, "only {seen} commands");
}

#[test]
fn an_address_to_listen_on_needs_both_parts() {
    assert!(address("127.0.0.1:8081").is_ok());
    assert!(address("[::1]:0").is_ok());
    for (wrong, advice) in [
        ("8091", "`127.0.0.1:8091`"),
        (":8091", "`0.0.0.0:8091`"),
        ("localhost:8091", "`127.0.0.1:8091`"),
        ("localhost", "`127.0.0.1:8081`"),
    ] {
        let message = address(wrong).unwrap_err();
        assert!(message.contains(advice), "{wrong}: {message}");
    }
}

#[test]
fn restore_knows_its_two_words_and_addresses() {
    assert_eq!(restore("latest"), Ok(Restore::Latest));
    assert_eq!(restore("fresh"), Ok(Restore::Fresh));
    assert_eq!(
        restore("s3://bucket/savepoints/a"),
        Ok(Restore::Path("s3://bucket/savepoints/a".to_owned()))
    );
    for (wrong, advice) in [
        ("lastest", "write `latest`, `fresh`"),
        ("", "write `latest`, `fresh`"),
        ("./savepoints/a", "`file://./savepoints/a`"),
        ("/var/a", "`file:///var/a`"),
    ] {
        let message = restore(wrong).unwrap_err();
        assert!(message.contains(advice), "{wrong}: {message}");
    }
}
