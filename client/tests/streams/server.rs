//! A server that answers each message of one connection by the next step of a script.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sterna_client::{Client, ClientError, ClientOptions, Protocol, TlsOptions, Transport, Trust};
use sterna_proto::channel_data::frame_len;
use tempfile::TempDir;

/// The name in the certificate of [`Authority::server`].
pub(crate) const HOST: &str = "relay.example.org";

pub(crate) type DynClient = Client<Box<dyn Transport>>;

/// Looks at a message and says which pieces to write back, each in a write of its own.
type Step = Box<dyn FnOnce(&[u8]) -> Vec<Vec<u8>> + Send>;

/// What the server does with the connection before any message, and what it speaks then.
type Accept = Box<dyn FnOnce(TcpStream) -> Option<Box<dyn Stream>> + Send>;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

pub(crate) struct Script {
    listener: TcpListener,
    steps: Vec<Step>,
    thread: Option<JoinHandle<()>>,
}

impl Script {
    pub(crate) fn new() -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Script { listener, steps: Vec::new(), thread: None }
    }

    /// What is done with the next message.
    pub(crate) fn then(
        mut self,
        step: impl FnOnce(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Script {
        self.steps.push(Box::new(step));
        self
    }

    /// A client of this server over TCP. The script is complete, and after its last step the
    /// server reads to the end of the connection.
    pub(crate) fn tcp_client(&mut self, options: ClientOptions) -> DynClient {
        let address = self.play(Box::new(|tcp| Some(Box::new(tcp))));
        Client::dial(address, &Protocol::Tcp, options).unwrap()
    }

    /// The same over TLS, where the handshake may fail.
    pub(crate) fn tls_client(
        &mut self,
        config: Arc<ServerConfig>,
        host: &str,
        trust: &Trust,
        options: ClientOptions,
    ) -> Result<DynClient, ClientError> {
        let address = self.play(Box::new(|mut tcp| {
            let mut connection = ServerConnection::new(config).unwrap();
            while connection.is_handshaking() {
                connection.complete_io(&mut tcp).ok()?;
            }
            assert_eq!(Some(&b"stun.turn"[..]), connection.alpn_protocol());
            Some(Box::new(StreamOwned::new(connection, tcp)))
        }));
        Client::dial(address, &Protocol::Tls(TlsOptions::new(host, trust)?), options)
    }

    /// Every step was taken, and what each expected was true. The client is gone by then.
    pub(crate) fn finish(self) {
        self.thread.expect("a script has a client").join().unwrap();
    }

    fn play(&mut self, accept: Accept) -> SocketAddr {
        let listener = self.listener.try_clone().unwrap();
        let steps = std::mem::take(&mut self.steps);
        self.thread = Some(thread::spawn(move || {
            let (tcp, _) = listener.accept().unwrap();
            // A client that sends nothing fails its test and does not hang it.
            tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            tcp.set_nodelay(true).unwrap();
            let Some(mut stream) = accept(tcp) else {
                return;
            };
            let mut unread = Vec::new();
            for step in steps {
                let message = next_message(&mut unread, stream.as_mut());
                for piece in step(&message) {
                    stream.write_all(&piece).unwrap();
                    stream.flush().unwrap();
                }
            }
        }));
        self.listener.local_addr().unwrap()
    }
}

fn next_message(unread: &mut Vec<u8>, stream: &mut dyn Stream) -> Vec<u8> {
    let mut piece = [0; 512];
    loop {
        if let Some(len) = frame_len(unread).expect("the client sends messages")
            && len <= unread.len()
        {
            return unread.drain(..len).collect();
        }
        let len = stream.read(&mut piece).expect("the client sends for each step");
        assert_ne!(0, len, "the client closed the connection before the script was over");
        unread.extend(&piece[..len]);
    }
}

/// An authority of its own for each test, whose certificate is in a file.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = authority.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Authority { folder, issuer: rcgen::Issuer::new(authority, key) }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A server with a certificate for [`HOST`].
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"stun.turn".to_vec()];
        Arc::new(config)
    }
}
