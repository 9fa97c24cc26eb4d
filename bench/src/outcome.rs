//! How a program of one measurement ends: a line of JSON, or what stood in the way.

use std::process::ExitCode;

use serde::Serialize;

use crate::error::BenchError;

/// Prints the report on standard output as one line of JSON, or the error on standard error with
/// the name of `program`.
pub fn print(program: &str, outcome: Result<impl Serialize, BenchError>) -> ExitCode {
    let line = outcome
        .map_err(|error| error.to_string())
        .and_then(|report| serde_json::to_string(&report).map_err(|error| error.to_string()));
    match line {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{program}: {problem}");
            ExitCode::FAILURE
        }
    }
}
