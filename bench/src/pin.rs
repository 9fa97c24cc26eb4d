//! Which core a program runs on.
//!
//! Server and load generator each have a core of their own, so that one never waits for the other
//! and the server's share of its core says whether it was saturated.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use crate::error::{BenchError, DuringExt};

/// Keeps this thread, and every thread and process it starts from here on, on one core.
pub fn pin_to(core: usize) -> Result<(), BenchError> {
    pin_to_any(&[core])
}

/// The same on several cores.
pub fn pin_to_any(cores: &[usize]) -> Result<(), BenchError> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core).during(&format!("core {core}"))?;
    }
    // Pid 0 is the calling thread.
    sched_setaffinity(Pid::from_raw(0), &set).during(&format!("pinning to cores {cores:?}"))
}

/// Raises the limit on open descriptors to `wanted` (where the system permits) and returns what the
/// limit is in the end.
pub fn raise_descriptor_limit(wanted: u64) -> Result<u64, BenchError> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).during("reading the descriptor limit")?;
    if soft >= wanted {
        return Ok(soft);
    }
    if wanted > hard && setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        return Ok(wanted);
    }
    let granted = wanted.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, granted, hard).during("raising the descriptor limit")?;
    Ok(granted)
}
