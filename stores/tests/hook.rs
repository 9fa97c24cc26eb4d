//! The HTTP service: what it is sent, which answers are good, and what its failures cost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use sterna_actors::credential_store::{CredentialStore, StoreError, StoredUser, UserLookup};
use sterna_actors::policy::UserSecret;
use sterna_proto::credentials::{PasswordAlgorithm, user_hash};
use sterna_proto::guard::ClaimedUser;
use sterna_stores::{HookTerms, OpenError, hook};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What the service does with a request.
enum Act {
    Answer(&'static str, String),
    HangUp,
    /// Take the request and stay silent.
    Sleep,
}

fn json(value: Value) -> Act {
    Act::Answer("200 OK", value.to_string())
}

fn status(line: &'static str) -> Act {
    Act::Answer(line, String::new())
}

/// One request as it came: its head and its body.
type Seen = (String, Value);

struct Service {
    url: String,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Service {
    /// Does these things one after the other, and then 404.
    async fn start(acts: Vec<Act>) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ask?key=s3cret", listener.local_addr().unwrap());
        let (tell, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut acts = VecDeque::from(acts);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let act = acts.pop_front().unwrap_or_else(|| status("404 Not Found"));
                tokio::spawn(serve(stream, act, tell.clone()));
            }
        });
        Service { url, seen }
    }

    fn terms(&self) -> HookTerms {
        HookTerms::new(&self.url)
    }

    fn count(&mut self) -> usize {
        std::iter::from_fn(|| self.seen.try_recv().ok()).count()
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    act: Act,
    tell: mpsc::UnboundedSender<Seen>,
) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    // Not everybody listens.
    let _ = tell.send((head, serde_json::from_slice(&body).unwrap()));
    match act {
        Act::Answer(status, body) => {
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Act::HangUp => {}
        Act::Sleep => std::future::pending().await,
    }
}

/// An authority, and a TLS server on this host whose certificate it has signed.
async fn start_tls() -> (String, Vec<u8>) {
    let signer = KeyPair::generate().unwrap();
    let mut of_authority = CertificateParams::new(Vec::new()).unwrap();
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = of_authority.self_signed(&signer).unwrap();
    let issuer = Issuer::new(of_authority, &signer);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, (tell, _seen)) = (acceptor.clone(), mpsc::unbounded_channel());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, json(json!({"password": "secret"})), tell).await;
                }
            });
        }
    });
    (format!("https://localhost:{port}/"), authority.pem().into_bytes())
}

fn lookup(user: ClaimedUser) -> UserLookup {
    UserLookup {
        realm: REALM.into(),
        user,
        password_algorithm: PasswordAlgorithm::Sha256,
        client: [192, 0, 2, 1].into(),
    }
}

async fn find(store: &Arc<dyn CredentialStore>) -> Result<Option<StoredUser>, StoreError> {
    store.user(lookup(ClaimedUser::Named("ann".into()))).await
}

async fn answer_to(act: Act) -> Result<Option<StoredUser>, StoreError> {
    let service = Service::start(vec![act]).await;
    find(&hook(service.terms()).unwrap()).await
}

#[tokio::test]
async fn the_question_says_who_asks_and_the_answer_all_that_a_user_has() {
    let answer = json!({
        "md5_key": "7da2270ccfa49786e0115366d3a3d14d",
        "sha256_key": "00".repeat(32),
        "limits": {"allocations": 3, "bandwidth": 1000, "bandwidth_per_allocation": 500},
        "peers": {"allow": ["10.0.0.1"], "deny": ["192.0.2.0/24", "::1-::2"]},
        "expires": 2_000_000_000_u64,
        "keep": 30,
    });
    let mut service = Service::start(vec![json(answer)]).await;
    let store = hook(HookTerms { token: Some("t0ken\n".into()), ..service.terms() }).unwrap();

    let ann = find(&store).await.unwrap().expect("ann");

    let (head, body) = service.seen.recv().await.unwrap();
    let asked = json!({
        "realm": REALM, "username": "ann", "client": "192.0.2.1", "algorithm": "SHA-256",
    });
    assert_eq!(asked, body);
    assert!(head.starts_with("POST /ask?key=s3cret HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer t0ken\r\n"), "{head}");
    assert_eq!(Some(3), ann.limits.allocations);
    assert_eq!(
        (Some(1000), Some(500)),
        (ann.limits.bandwidth, ann.limits.bandwidth_per_allocation)
    );
    let peers = ann.peers.expect("peers");
    assert_eq!((1, 3), (peers.allow.len(), peers.deny.len()));
    assert_eq!(Some(Duration::from_secs(2_000_000_000)), ann.expires);
    assert_eq!(Some(Duration::from_secs(30)), ann.keep);
    assert!(matches!(ann.secret, UserSecret::Keys { md5: Some(_), sha256: Some(_) }));
    assert!(!store.can_revalidate() && !store.label().contains("s3cret"), "{}", store.label());
}

#[tokio::test]
async fn a_password_will_do() {
    let ann = answer_to(json(json!({"password": "secret", "username": "ann"}))).await;
    assert!(ann.unwrap().expect("ann").secret == UserSecret::Password("secret".into()));
}

/// A service that ignores case, or takes an alias, says whom it means: one user under one name.
#[tokio::test]
async fn the_answer_may_name_the_user_by_another_name() {
    let ann = answer_to(json(json!({"password": "secret", "username": "Ann@example"}))).await;
    assert_eq!("Ann@example", &*ann.unwrap().expect("ann").name);
    let ann = answer_to(json(json!({"password": "secret"}))).await;
    assert_eq!("ann", &*ann.unwrap().expect("ann").name);
}

#[tokio::test]
async fn who_is_refused_or_not_found_is_nobody() {
    assert_eq!(Ok(None), answer_to(status("404 Not Found")).await);
    assert_eq!(Ok(None), answer_to(json(json!({"refuse": true, "password": "a"}))).await);
}

#[tokio::test]
async fn an_answer_that_is_none_lets_nobody_in() {
    for answer in [
        json!({}),
        json!(null),
        json!([]),
        json!({"password": ""}),
        json!({"password": "a", "md5_key": "00".repeat(16)}),
        json!({"md5_key": "00"}),
        json!({"sha256_key": "x".repeat(64)}),
        json!({"password": "a", "username": ""}),
        json!({"password": "a", "username": "b".repeat(509)}),
        json!({"password": "a", "username": "b\u{7}"}),
        json!({"password": "a", "limits": {"allocation": 1}}),
        json!({"password": "a", "limits": {"allocations": -1}}),
        json!({"password": "a", "limits": {"allocations": 1e12}}),
        json!({"password": "a", "peers": {"deny": ["everything"]}}),
        json!({"password": "a", "expires": "tomorrow"}),
        json!({"password": "a", "keep": -1}),
        json!({"pasword": "s3cret"}),
    ] {
        let text = answer.to_string();
        let error = answer_to(json(answer)).await.expect_err(&text).to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
    for line in ["200 OK", "204 No Content", "302 Found", "401 Unauthorized", "503 Busy"] {
        assert!(answer_to(status(line)).await.is_err(), "{line}");
    }
    let long = json!({"password": "a".repeat(17 * 1024)});
    assert!(answer_to(json(long)).await.unwrap_err().to_string().contains("longer than"));
    assert!(answer_to(Act::HangUp).await.is_err());
}

#[tokio::test]
async fn a_hidden_name_is_told_and_checked() {
    let hash = user_hash("ann", REALM).unwrap();
    let acts = [json!({"username": "ann"}), json!({"username": "bob"}), json!({})];
    let acts = acts.map(|mut answer| {
        answer["password"] = "secret".into();
        json(answer)
    });
    let mut service = Service::start(acts.into()).await;
    let store = hook(HookTerms { finds_hashed: true, ..service.terms() }).unwrap();
    let ann = store.user(lookup(ClaimedUser::Hashed(hash))).await.unwrap().expect("ann");
    assert_eq!("ann", &*ann.name);
    let (_, body) = service.seen.recv().await.unwrap();
    assert_eq!(Some(hex::encode(hash).as_str()), body["userhash"].as_str());
    assert!(store.user(lookup(ClaimedUser::Hashed(hash))).await.is_err(), "another user");
    assert!(store.user(lookup(ClaimedUser::Hashed(hash))).await.is_err(), "no name");
    assert!(store.finds_hashed());
}

#[tokio::test]
async fn silence_ends_after_the_time_out() {
    let service = Service::start(vec![Act::Sleep]).await;
    let timeout = Duration::from_millis(50);
    let store = hook(HookTerms { timeout, ..service.terms() }).unwrap();
    let error = find(&store).await.unwrap_err().to_string();
    assert_eq!("no answer within 50ms", error);
}

#[tokio::test]
async fn a_service_that_fails_is_asked_a_tenth_more_and_not_twice() {
    let acts = (0..100).map(|_| status("503 Busy")).collect();
    let mut service = Service::start(acts).await;
    let store = hook(HookTerms { failures: 1000, ..service.terms() }).unwrap();
    for _ in 0..50 {
        assert!(find(&store).await.is_err());
    }
    assert_eq!(55, service.count());
}

#[tokio::test]
async fn after_failures_in_a_row_it_is_left_alone_for_a_while() {
    let acts = vec![status("500 Fault"), status("500 Fault"), status("500 Fault")];
    let mut service = Service::start(acts).await;
    let pause = Duration::from_secs(3600);
    let store = hook(HookTerms { failures: 2, pause, ..service.terms() }).unwrap();
    for _ in 0..20 {
        assert!(find(&store).await.is_err());
    }
    assert_eq!(2, service.count());
    let_pass(pause).await;
    assert!(find(&store).await.is_err(), "one tries, and fails");
    assert!(find(&store).await.unwrap_err().to_string().contains("not asked"));
    assert_eq!(1, service.count());
    let_pass(pause).await;
    assert_eq!(Ok(None), find(&store).await, "it is back");
    assert_eq!(Ok(None), find(&store).await);
}

/// What it answers to one question is no reason to leave the others unasked.
#[tokio::test]
async fn an_answer_that_is_of_no_use_opens_no_circuit() {
    let odd = || {
        vec![
            status("400 Bad Request"),
            status("422 Unprocessable"),
            status("302 Found"),
            status("204 No Content"),
            Act::Answer("200 OK", "<html>".to_owned()),
            json(json!({"pasword": "a"})),
            json(json!({"sha256_key": "x"})),
            json(json!({"password": "a".repeat(17 * 1024)})),
        ]
    };
    let count = odd().len();
    let mut service = Service::start(odd()).await;
    let store = hook(HookTerms { failures: 1, ..service.terms() }).unwrap();
    for _ in 0..count {
        let error = find(&store).await.unwrap_err();
        assert!(matches!(error, StoreError::Answered(_)), "{error}");
    }
    assert_eq!(Ok(None), find(&store).await);
    assert_eq!(count + 1, service.count());
}

/// Nobody fares better where the token is wrong, or where it has had enough of us.
#[tokio::test]
async fn a_service_that_refuses_us_is_left_alone() {
    for line in ["401 Unauthorized", "403 Forbidden", "429 Too Many Requests", "502 Bad Gateway"] {
        let mut service = Service::start(vec![status(line), status(line)]).await;
        let store = hook(HookTerms { failures: 2, ..service.terms() }).unwrap();
        for _ in 0..4 {
            let error = find(&store).await.unwrap_err();
            assert!(matches!(error, StoreError::Lost(_)), "{line}: {error}");
        }
        assert_eq!(2, service.count(), "{line}");
    }
}

#[tokio::test]
async fn over_tls_it_is_trusted_if_its_authority_is() {
    let (url, authority) = start_tls().await;
    let (_, stranger) = start_tls().await;
    let with = |ca| hook(HookTerms { ca, ..HookTerms::new(&url) }).unwrap();
    assert!(find(&with(Some(authority))).await.unwrap().is_some());
    for untrusted in [with(Some(stranger)), with(None)] {
        let error = find(&untrusted).await.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn terms_that_will_not_do_are_refused() {
    let refused = |terms: HookTerms| match hook(terms) {
        Err(OpenError::Unfit(why)) => why,
        Err(OpenError::Unreachable(why)) => panic!("{why}"),
        Ok(_) => panic!("these terms are good"),
    };
    assert!(refused(HookTerms::new("ask me")).contains("not a URL"));
    assert!(refused(HookTerms::new("ftp://127.0.0.1/")).contains("not https:"));
    assert!(refused(HookTerms::new("http://auth.example/")).contains("in plain"));
    let good = HookTerms::new("https://auth.example/");
    let ca = Some(b"no certificate".to_vec());
    assert!(refused(HookTerms { ca, ..good.clone() }).contains("no certificate"));
    let token = Some("a\nb".into());
    assert!(refused(HookTerms { token, ..good.clone() }).contains("line break"));
    assert!(hook(good).is_ok() && hook(HookTerms::new("http://[::1]:8/")).is_ok());
}

/// Lets time pass that nobody waits for.
async fn let_pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

const REALM: &str = "example.org";
