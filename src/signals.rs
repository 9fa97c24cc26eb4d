//! TERM and INT: the first stops the relay, the second ends the process at once. HUP: certificates
//! are read again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals are caught from here on.
pub(crate) struct Signals {
    /// What came before the runtime listens.
    early: Arc<AtomicUsize>,
}

/// The signals as a stream of the runtime.
pub(crate) struct SignalStream {
    early: Arc<AtomicUsize>,
    terminate: Signal,
    interrupt: Signal,
}

/// Told to read certificates again.
pub(crate) struct Hangups(Signal);

/// What tells the relay to stop.
#[derive(Clone, Copy)]
pub(crate) enum StopSignal {
    Interrupt = 1,
    Terminate = 2,
}

impl Signals {
    /// Catches the signals.
    ///
    /// The second one ends the process in the signal handler itself, so that it works even where
    /// the runtime hangs, which is when somebody sends it.
    pub(crate) fn watch() -> io::Result<Signals> {
        let stopping = Arc::new(AtomicBool::new(false));
        let early = Arc::new(AtomicUsize::new(NONE));
        let both = [(SIGTERM, StopSignal::Terminate), (SIGINT, StopSignal::Interrupt)];
        for (number, meaning) in both {
            // The order counts: the flag must still be down when the first signal asks for it.
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&stopping))?;
            flag::register(number, Arc::clone(&stopping))?;
            flag::register_usize(number, Arc::clone(&early), meaning as usize)?;
        }
        // One that comes before the certificates were read for the first time asks for nothing, but
        // must not end the process, as it would without being caught.
        flag::register(SIGHUP, Arc::new(AtomicBool::new(false)))?;
        Ok(Signals { early })
    }

    /// To be called inside the runtime.
    pub(crate) fn streams(self) -> io::Result<(SignalStream, Hangups)> {
        let stops = SignalStream {
            early: self.early,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        Ok((stops, Hangups(signal(SignalKind::hangup())?)))
    }
}

impl SignalStream {
    /// Waits for the first signal.
    pub(crate) async fn next(&mut self) -> StopSignal {
        const INTERRUPT: usize = StopSignal::Interrupt as usize;
        const TERMINATE: usize = StopSignal::Terminate as usize;
        match self.early.load(Ordering::SeqCst) {
            INTERRUPT => return StopSignal::Interrupt,
            TERMINATE => return StopSignal::Terminate,
            _ => {}
        }
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }
}

impl Hangups {
    /// Waits for the next one; for ever where no more can come.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

impl StopSignal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            StopSignal::Interrupt => "INT",
            StopSignal::Terminate => "TERM",
        }
    }
}

/// Neither of the two.
const NONE: usize = 0;
