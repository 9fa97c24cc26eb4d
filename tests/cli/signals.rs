//! TERM, INT and HUP, early, in time, twice, and while nobody reads the log.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::program::{Daemon, Exit, Home, STOP_WITHIN};

const ANYWHERE: &str = "listen: ['udp://127.0.0.1:0']\n";

#[test]
fn one_signal_stops_the_relay_with_code_0() {
    for (signal, name) in [(Signal::SIGTERM, "signal: TERM"), (Signal::SIGINT, "signal: INT")] {
        let home = Home::new();
        let mut relay = home.serve(ANYWHERE);

        relay.signal(signal);

        assert_eq!(Some(0), relay.finish().code());
        assert!(relay.log.iter().any(|line| line.contains(name)), "{:#?}", relay.log);
        assert!(relay.log.last().is_some_and(|last| last.contains("stopped")), "{:#?}", relay.log);
    }
}

#[test]
fn hup_stops_nothing_and_says_what_is_read_again() {
    let home = Home::new();
    let mut relay = home.serve(ANYWHERE);

    relay.signal(Signal::SIGHUP);

    relay.wait_for("told to reload: certificates and the configuration are read again");
    relay.wait_for("there are no certificates");
    relay.wait_for("the configuration was read again");
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn a_hup_during_the_start_stops_nothing() {
    let home = Home::new();
    let (mut relay, mut yaml) = hanging(&home);

    relay.signal(Signal::SIGHUP);
    yaml.write_all(ANYWHERE.as_bytes()).expect("the relay reads it");
    drop(yaml);

    relay.wait_for("ready");
    assert_eq!(Some(0), relay.stop());
}

/// A relay that hangs while it starts: its configuration is a pipe that says nothing.
fn hanging(home: &Home) -> (Daemon, impl Write + use<>) {
    let pipe = home.path().join("turn.yaml");
    mkfifo(&pipe, Mode::S_IRWXU).expect("the folder is ours");
    let mut command = home.command(&["-c"]);
    command.arg(&pipe);
    let relay = Daemon::spawn(command);
    // Opens when the relay has opened it for reading, which it does after it caught the signals.
    let writer = OpenOptions::new().write(true).open(&pipe).expect("the relay reads it");
    (relay, writer)
}

#[test]
fn a_signal_during_the_start_stops_the_relay_as_soon_as_it_has_started() {
    let home = Home::new();
    let (mut relay, mut yaml) = hanging(&home);

    relay.signal(Signal::SIGTERM);
    yaml.write_all(ANYWHERE.as_bytes()).expect("the relay reads it");
    drop(yaml);

    assert_eq!(Some(0), relay.finish().code());
    assert!(relay.log.last().is_some_and(|last| last.contains("stopped")), "{:#?}", relay.log);
}

#[test]
fn a_second_signal_ends_a_relay_that_hangs() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let home = Home::new();
        let (relay, _yaml) = hanging(&home);
        let exit = relay.into_exit();

        // Two signals at a time are delivered as one, so that each waits for the last to be seen.
        let mut status = None;
        for _ in 0..600 {
            exit.signal(signal);
            status = exit.within(Duration::from_millis(50));
            if status.is_some() {
                break;
            }
        }

        assert_eq!(Some(code), status.and_then(|status| status.code()));
    }
}

#[test]
fn a_log_that_nobody_reads_delays_no_stop() {
    let home = Home::new();
    let (reader, mut writer) = io::pipe().expect("pipes can be made");
    let room = fcntl(writer.as_fd(), FcntlArg::F_GETPIPE_SZ).expect("it is a pipe");
    writer
        .write_all(&vec![b'x'; usize::try_from(room).expect("a size")])
        .expect("so much fits into it");
    let notify = home.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&notify).expect("the folder is ours");
    manager.set_read_timeout(Some(crate::program::PATIENCE)).expect("it is no zero");
    let yaml = home.write("turn.yaml", ANYWHERE);
    let mut command = home.command(&["-c"]);
    command.arg(yaml).env("NOTIFY_SOCKET", &notify).stderr(writer).stdout(Stdio::null());
    let exit = Exit::of(command.spawn().expect("the binary was built"));
    let mut message = [0; 64];
    manager.recv(&mut message).expect("the relay is ready");

    exit.signal(Signal::SIGTERM);

    assert_eq!(Some(0), exit.wait(STOP_WITHIN).code());
    drop(reader);
}
