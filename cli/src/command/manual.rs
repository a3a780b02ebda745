//! `man` and `completion`: what is made of the command line's own description.

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::arguments::{Arguments, CompletionOptions};
use crate::exit::{Exit, print};
use crate::problem::Problem;

/// Prints the manual page.
///
/// # Errors
/// It cannot be written.
pub fn man() -> Result<Exit, Problem> {
    print(&page()?)?;
    Ok(Exit::Done)
}

/// Prints a completion script.
///
/// # Errors
/// It cannot be written.
pub fn completion(options: &CompletionOptions) -> Result<Exit, Problem> {
    let mut script = Vec::new();
    let mut command = Arguments::command().bin_name("kubectl-streamjob");
    clap_complete::generate(
        options.shell,
        &mut command,
        "kubectl-streamjob",
        &mut script,
    );
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// The manual page: the command, then each of its subcommands.
///
/// # Errors
/// It cannot be made, which would be a fault of the description.
pub fn page() -> Result<String, Problem> {
    let mut command = Arguments::command();
    command.build();
    let mut page = Vec::new();
    let made = render(&command, &mut page);
    made.map_err(|error| Problem::System {
        what: "the manual page cannot be made".to_owned(),
        reason: error.to_string(),
    })?;
    // Each part begins with the same definition of an apostrophe; once is enough.
    let page = String::from_utf8_lossy(&page).into_owned();
    let (first, rest) = page.split_at(page.find(".TH").unwrap_or(0));
    let rest = if first.is_empty() {
        rest.to_owned()
    } else {
        rest.replace(first, "")
    };
    Ok(format!("{first}{rest}"))
}

fn render(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    let man = Man::new(command.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    for subcommand in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        section(subcommand, &[subcommand.get_name()], page)?;
    }
    man.render_extra_section(page)?;
    man.render_version_section(page)
}

/// A subcommand, its options without those that all commands have.
fn section(command: &clap::Command, path: &[&str], page: &mut Vec<u8>) -> std::io::Result<()> {
    let nested: Vec<&clap::Command> = command
        .get_subcommands()
        .filter(|one| one.get_name() != "help")
        .collect();
    if !nested.is_empty() {
        for subcommand in nested {
            let path: Vec<&str> = path
                .iter()
                .copied()
                .chain([subcommand.get_name()])
                .collect();
            section(subcommand, &path, page)?;
        }
        return Ok(());
    }
    let shown = command
        .clone()
        .bin_name(format!("kubectl streamjob {}", path.join(" ")))
        .mut_args(|argument| {
            let is_general = argument.is_global_set() || argument.get_id() == "help";
            argument.hide(is_general)
        });
    let man = Man::new(shown);
    let title = path.join(" ").to_uppercase();
    page.extend_from_slice(format!(".SH \"{title}\"\n").as_bytes());
    let mut body = Vec::new();
    man.render_synopsis_section(&mut body)?;
    man.render_description_section(&mut body)?;
    man.render_options_section(&mut body)?;
    let body = String::from_utf8_lossy(&body).replace(".SH", ".SS");
    page.extend_from_slice(body.as_bytes());
    Ok(())
}
