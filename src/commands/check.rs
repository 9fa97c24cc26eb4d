//! `sterna check`: reads and checks the configuration, and prints what it comes to on this machine.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::{load, print, state_folder};
use crate::cli::ConfigArg;
use crate::config::{LoadError, resolve, show};
use crate::machine::Machine;

pub(crate) fn run(args: &ConfigArg) -> anyhow::Result<ExitCode> {
    let loaded = load(args.path.as_deref())?;
    let origin = loaded.origin.to_string();
    let machine = Machine::inspect().context("network interfaces")?;
    let resolved = resolve(loaded.config, &machine)
        .map_err(|fault| LoadError::Fault { origin: origin.clone(), fault })?;

    let mut warnings = loaded.warnings;
    warnings.extend(resolved.warnings.iter().cloned());
    // A configuration may be checked before it is brought to the machine that will serve with it.
    warnings.extend(resolved.check_relay_addresses().err().map(|fault| fault.to_string()));
    let folder = state_folder(&resolved.config.state_folder).unwrap_or_else(|error| {
        warnings.push(error.to_string());
        PathBuf::new()
    });
    for warning in &warnings {
        eprintln!("sterna: warning: {warning}");
    }

    let mut text = format!("# {origin}\n");
    for variable in &loaded.variables {
        text.push_str(&format!("# {variable}\n"));
    }
    text.push_str(&show(&resolved, &folder).context("configuration as YAML")?);
    print(&text).context("standard output")?;
    Ok(ExitCode::SUCCESS)
}
