//! Accepting TCP connections: what accept(2) says, and when to ask it again.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

/// A listening socket, and when it is asked again. What is wrong with a connection keeps nobody
/// else waiting; where the system has nothing to accept with, asking at once would only spin.
pub(super) struct Acceptor {
    listener: TcpListener,
    pause: Option<Pin<Box<Sleep>>>,
    /// Failures since the last connection, or since nobody waited.
    failures: u32,
    /// What accept(2) says instead of what the kernel would.
    #[cfg(test)]
    pub(super) injected: std::collections::VecDeque<i32>,
}

/// No connection came of it.
#[derive(Debug)]
pub(super) struct NotAccepted {
    pub(super) error: io::Error,
    /// Nothing is accepted for a moment.
    pub(super) is_pausing: bool,
}

impl Acceptor {
    pub(super) fn new(listener: TcpListener) -> Acceptor {
        Acceptor {
            listener,
            pause: None,
            failures: 0,
            #[cfg(test)]
            injected: std::collections::VecDeque::new(),
        }
    }

    /// Takes the next connection. After a failure it may be asked again at once: it waits as long
    /// as that is of use.
    pub(super) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(TcpStream, SocketAddr), NotAccepted>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let accepted = match self.poll_kernel(cx) {
            Poll::Pending => {
                self.failures = 0;
                return Poll::Pending;
            }
            Poll::Ready(accepted) => accepted,
        };
        Poll::Ready(match accepted {
            Ok(accepted) => {
                self.failures = 0;
                Ok(accepted)
            }
            Err(error) => {
                self.failures += 1;
                let is_pausing = !is_of_the_connection(&error) || self.failures >= FAILURES_MAX;
                if is_pausing {
                    self.failures = 0;
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
                Err(NotAccepted { error, is_pausing })
            }
        })
    }

    fn poll_kernel(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        #[cfg(test)]
        if let Some(code) = self.injected.pop_front() {
            return Poll::Ready(Err(io::Error::from_raw_os_error(code)));
        }
        self.listener.poll_accept(cx)
    }
}

/// Whether the error says something about one connection and nothing about the listening socket:
/// Linux hands on what was pending on the connection, and what a firewall says of it (accept(2)).
fn is_of_the_connection(error: &io::Error) -> bool {
    let of_the_connection = [
        libc::ECONNABORTED,
        libc::ECONNRESET,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::EINTR,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::ENONET,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::EPERM,
        libc::EPROTO,
        libc::ETIMEDOUT,
    ];
    error.raw_os_error().is_some_and(|code| of_the_connection.contains(&code))
}

/// How long nothing is accepted after a failure that is not one connection's.
const PAUSE: Duration = Duration::from_millis(100);

/// So many connections in a row that all failed are no coincidence.
const FAILURES_MAX: u32 = 32;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::clock;

    /// A listening socket at which somebody waits.
    async fn acceptor(injected: impl IntoIterator<Item = i32>) -> (Acceptor, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let mut acceptor = Acceptor::new(listener);
        acceptor.injected.extend(injected);
        (acceptor, TcpStream::connect(address).await.expect("it listens"))
    }

    /// Accepts until somebody comes; of each failure before, whether it made a pause.
    async fn pauses(acceptor: &mut Acceptor) -> Vec<bool> {
        let mut pauses = Vec::new();
        loop {
            match poll_fn(|cx| acceptor.poll_accept(cx)).await {
                Ok(_) => return pauses,
                Err(failed) => pauses.push(failed.is_pausing),
            }
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_connection_keeps_nobody_waiting() {
        let codes = [libc::ECONNABORTED, libc::EPERM, libc::ENETDOWN, libc::ECONNRESET];
        let (mut acceptor, _client) = acceptor(codes).await;
        assert_eq!(vec![false; 4], pauses(&mut acceptor).await);
    }

    #[tokio::test]
    async fn system_without_room_is_asked_again_after_a_while() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EINVAL] {
            let (mut acceptor, _client) = acceptor([code]).await;
            let began = clock::now();
            assert_eq!(vec![true], pauses(&mut acceptor).await);
            assert!(clock::now() - began >= PAUSE);
        }
    }

    #[tokio::test]
    async fn failures_that_do_not_end_are_no_reason_to_spin() {
        let codes = vec![libc::ECONNABORTED; FAILURES_MAX as usize + 1];
        let (mut acceptor, _client) = acceptor(codes).await;
        let pauses = pauses(&mut acceptor).await;
        let (last, before) = pauses.split_last().expect("there were failures");
        assert!(!last && before.ends_with(&[false, true]), "{pauses:?}");
        assert_eq!(1, before.iter().filter(|pausing| **pausing).count());
    }
}
