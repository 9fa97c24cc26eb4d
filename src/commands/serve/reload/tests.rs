//! What is named as waiting for a restart.

use super::*;
use crate::config::load;

fn config(yaml: &str) -> Config {
    let folder = tempfile::tempdir().expect("the test may make folders");
    let path = folder.path().join("turn.yaml");
    std::fs::write(&path, yaml).expect("the folder is ours");
    load(Some(&path), []).expect(yaml).config
}

#[test]
fn a_limit_that_waits_for_a_restart_is_named_itself() {
    let started = config("limits: {allocations: 1}");
    let cases: [(&str, &[&str]); 3] = [
        ("limits: {allocations: 2, bandwidth: 1Mbit/s}", &[]),
        ("limits: {failed_logins_per_minute: 7}", &["limits.failed_logins_per_minute"]),
        (
            "{workers: 1, limits: {channels_per_allocation: 7, stream_buffer: 128KiB}}",
            &["workers", "limits.channels_per_allocation", "limits.stream_buffer"],
        ),
    ];
    for (yaml, expected) in cases {
        assert_eq!(expected, needs_restart(&started, &config(yaml)), "{yaml}");
    }
}
