//! `sterna session`: the sessions of the running server.

use std::io::ErrorKind;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use super::store::Failed;
use super::table::table;
use super::{load, print, state_folder};
use crate::cli::ConfigArg;
use crate::cli::stores::{SessionCommand, SessionEndArgs, SessionListArgs};
use crate::control::{self, Line, Question, SessionLine};

pub(crate) fn run(command: &SessionCommand) -> anyhow::Result<ExitCode> {
    match command {
        SessionCommand::List(args) => list(args),
        SessionCommand::End(args) => end(args),
    }
}

fn list(args: &SessionListArgs) -> anyhow::Result<ExitCode> {
    let (lines, _) = ask(&args.config, &Question::ListSessions)?;
    let sessions = lines.into_iter().filter_map(|line| match line {
        Line::Session(session) => Some(session),
        Line::Done { .. } | Line::Error { .. } => None,
    });
    let mut sessions: Vec<SessionLine> = sessions.collect();
    sessions.sort_by(|one, other| one.session.cmp(&other.session));
    let text = match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&sessions)?),
        false => {
            let head = ["SESSION", "REALM", "USER", "CLIENT", "FOR"];
            table(head, sessions.into_iter().map(row).collect())
        }
    };
    print(&text).context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn end(args: &SessionEndArgs) -> anyhow::Result<ExitCode> {
    let (_, was_there) = ask(&args.config, &Question::EndSession { session: args.id.clone() })?;
    if !was_there {
        return Err(Failed(format!("there is no session {} with an allocation", args.id)).into());
    }
    print(&format!("ended {}\n", args.id)).context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn row(line: SessionLine) -> [String; 5] {
    let age = humantime::format_duration(Duration::from_secs(line.age)).to_string();
    [line.session, line.realm, line.username, line.client, age]
}

/// The server's answer, and whether it did what it was asked.
fn ask(config: &ConfigArg, question: &Question) -> anyhow::Result<(Vec<Line>, bool)> {
    let loaded = load(config.path.as_deref())?;
    let folder = state_folder(&loaded.config.state_folder)?;
    let path = control::path_in(&folder).display().to_string();
    let lines = control::ask(&folder, question).map_err(|cause| {
        let hint = match cause.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                "; no server runs with this state_folder"
            }
            _ => "",
        };
        Failed(format!("{path}: {cause}{hint}"))
    })?;
    match lines.last() {
        Some(Line::Done { done }) => {
            let done = *done;
            Ok((lines, done))
        }
        Some(Line::Error { error }) => Err(Failed(error.clone()).into()),
        Some(Line::Session(_)) | None => {
            Err(Failed(format!("{path}: the answer broke off")).into())
        }
    }
}
