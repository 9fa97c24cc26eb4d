//! The program from outside: arguments, environment and signals in; exit code, streams and files
//! out.

mod certificates;
mod check;
mod credential;
mod fail2ban;
mod probe;
mod program;
mod refusals;
mod running;
mod serve;
mod signals;
mod tls;
mod users;
