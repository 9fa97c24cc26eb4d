//! What a server process costs, read from /proc.

use std::fs;
use std::path::PathBuf;

use crate::error::{BenchError, DuringExt};

/// A process looked at from outside.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pid: u32,
}

impl Process {
    /// The process with this id; nothing is checked until something is read.
    pub fn new(pid: u32) -> Process {
        Process { pid }
    }

    /// CPU time of all living threads, in nanoseconds. A thread that ends takes its figure along.
    ///
    /// The kernel brings a running thread's figure up to date at each tick, so an interval of a
    /// second is right within one percent. Soft interrupts raised by a send on loopback run in the
    /// sender's time and are part of it.
    pub fn cpu_nanos(&self) -> Result<u64, BenchError> {
        let tasks = self.path("task");
        let entries = fs::read_dir(&tasks).during(&tasks.display().to_string())?;
        let mut total = 0;
        for entry in entries.flatten() {
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            total += first_number(&text).unwrap_or(0);
        }
        Ok(total)
    }

    /// Its living threads and what CPU time each has used.
    pub fn threads(&self) -> Result<Vec<Thread>, BenchError> {
        let tasks = self.path("task");
        let entries = fs::read_dir(&tasks).during(&tasks.display().to_string())?;
        let thread = |folder: PathBuf| {
            let id = folder.file_name()?.to_string_lossy().parse().ok()?;
            let name = fs::read_to_string(folder.join("comm")).ok()?.trim().to_owned();
            let cpu_nanos = first_number(&fs::read_to_string(folder.join("schedstat")).ok()?)?;
            Some(Thread { id, name, cpu_nanos })
        };
        Ok(entries.flatten().filter_map(|entry| thread(entry.path())).collect())
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<u64, BenchError> {
        let path = self.path("status");
        let status = fs::read_to_string(&path).during(&path.display().to_string())?;
        resident_in(&status).ok_or_else(|| BenchError::Program {
            program: format!("process {}", self.pid),
            problem: "has no resident memory; it ended".to_owned(),
        })
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> Result<usize, BenchError> {
        let path = self.path("fd");
        let entries = fs::read_dir(&path).during(&path.display().to_string())?;
        Ok(entries.flatten().count())
    }

    fn path(&self, entry: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{entry}", self.pid))
    }
}

/// A thread of a process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Thread {
    /// The kernel's number for it.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// CPU time used since it began.
    pub cpu_nanos: u64,
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    first_number(line)?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_kibibytes() {
        let status = "Name:\tx\nVmHWM:\t   9 kB\nVmRSS:\t    12 kB\nThreads:\t1\n";
        assert_eq!(Some(12 * 1024), resident_in(status));
        assert_eq!(None, resident_in("Name:\tx\nState:\tZ (zombie)\n"));
    }

    #[test]
    fn this_process_has_memory_and_descriptors_and_uses_time() {
        let this = Process::new(std::process::id());
        let before = this.cpu_nanos().unwrap();
        // The figure moves at ticks, so this may take a few milliseconds, and not many.
        let mut moved = false;
        for number in 0..1_000_000_u64 {
            std::hint::black_box((0..number % 10_000).sum::<u64>());
            if this.cpu_nanos().unwrap() > before {
                moved = true;
                break;
            }
        }
        assert!(moved);
        assert!(this.resident_bytes().unwrap() > 0);
        assert!(this.descriptors().unwrap() >= 3);
    }
}
