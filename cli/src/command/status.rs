//! `status`

use std::io::IsTerminal as _;

use super::gather::gather;
use super::{answer, now};
use crate::arguments::{Output, StatusOptions};
use crate::cluster::Cluster;
use crate::exit::{Exit, note, print};
use crate::problem::Problem;
use crate::screen::Screen;

/// To the upper left corner; and from here to the end of the line, of the screen.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

/// Shows a job.
///
/// # Errors
/// The job cannot be read.
pub async fn run(cluster: &Cluster, options: &StatusOptions) -> Result<Exit, Problem> {
    let output = options.answer.output;
    if !options.watch {
        let (text, _) = look(cluster, options).await?;
        print(&text)?;
        return Ok(Exit::Done);
    }
    let redraws = output == Output::Text && std::io::stdout().is_terminal();
    let mut last = None;
    loop {
        let (text, screen) = match look(cluster, options).await {
            Ok(look) => look,
            // Whoever watches through a restart of the API server goes on watching.
            Err(problem @ Problem::Unreachable { .. }) if last.is_some() => {
                note(&format!("{problem}\n"));
                tokio::time::sleep(options.interval).await;
                continue;
            }
            Err(problem) => return Err(problem),
        };
        if redraws {
            let lines = text.replace('\n', &format!("{CLEAR_LINE}\n"));
            print(&format!("{HOME}{lines}{CLEAR_REST}"))?;
        } else if last.as_ref() != Some(&screen) {
            let space = if last.is_some() && output == Output::Text {
                "\n"
            } else {
                ""
            };
            print(&format!("{space}{text}"))?;
        }
        last = Some(screen);
        tokio::time::sleep(options.interval).await;
    }
}

async fn look(cluster: &Cluster, options: &StatusOptions) -> Result<(String, Screen), Problem> {
    let gathered = gather(cluster, &options.name.job).await?;
    let now = now();
    let screen = Screen::of(&gathered);
    let text = answer(options.answer.output, &screen, |screen| screen.text(now))?;
    Ok((text, screen))
}
