//! The daemon: command line, configuration, log and the wiring of the actors.
//!
//! A library only so that its tests can reach it; the program is `sterna::cli::run`.

pub mod certificates;
pub mod cli;
mod commands;
pub mod config;
mod control;
pub mod credential;
pub mod logging;
pub mod machine;
pub mod secret;
mod signals;
mod sources;
pub mod state;
