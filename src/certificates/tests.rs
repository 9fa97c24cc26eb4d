//! Certificates of every kind of use and of none, chosen by name, and renewed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use slog::{Discard, Drain, Level, Logger, Never, OwnedKVList, Record, o};
use tempfile::TempDir;

use super::*;

mod handshakes;

/// A certificate for these names and its key, signed by itself.
fn made(names: &[&str]) -> (String, String) {
    let key = KeyPair::generate().expect("there is randomness");
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let params = CertificateParams::new(names).expect("names");
    (params.self_signed(&key).expect("it signs").pem(), key.serialize_pem())
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("the test may make folders"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).expect("the folder is ours");
        self.path(name)
    }

    fn pair(&self, name: &str, (certificate, key): &(String, String)) -> CertificateFiles {
        CertificateFiles {
            certificate: self.write(&format!("{name}.crt"), certificate),
            key: self.write(&format!("{name}.key"), key),
        }
    }
}

fn sources(pairs: &[CertificateFiles]) -> Sources {
    Sources { pairs: pairs.to_vec(), client_ca: None, serves_dtls: cfg!(feature = "dtls") }
}

fn load(sources: &Sources) -> Result<Loaded, String> {
    sources.load(&sources.read()).map_err(|fault| fault.to_string())
}

fn error(sources: &Sources) -> String {
    load(sources).map(|_| ()).expect_err("it is of no use")
}

#[test]
fn a_pair_is_of_use_in_two_files_or_one() {
    let folder = Folder::new();
    let pair = made(&["turn.example.org", "*.example.net", "192.0.2.1", "2001:db8::1"]);
    let both = folder.write("both.pem", &format!("{}{}", pair.1, pair.0));
    let one = CertificateFiles { certificate: both.clone(), key: both };

    for files in [folder.pair("a", &pair), one] {
        let loaded = load(&sources(&[files])).expect("it is good");

        let facts = &loaded.certificates[0];
        assert_eq!("turn.example.org, *.example.net, 192.0.2.1, 2001:db8::1", facts.names());
        assert_eq!(Some("turn.example.org"), facts.host());
        assert!(!facts.is_expired(sterna_actors::clock::unix_now()));
    }
}

#[test]
fn what_is_of_no_use_is_named_with_its_path_and_why() {
    let folder = Folder::new();
    let (a, b) = (made(&["a.example"]), made(&["b.example"]));
    let good = folder.pair("a", &a);
    let with = |name: &str, text: &str| folder.write(name, text);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
    let bad_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let bad_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let certificates = [
        (folder.path("gone.crt"), "gone.crt: No such file or directory"),
        (with("empty.crt", ""), "empty.crt: holds no certificate in PEM"),
        (with("key.crt", &a.1), "key.crt: holds no certificate in PEM"),
        (with("der.crt", bad_der), "der.crt: the certificate in it does not parse"),
        (with("half.crt", &a.0[..100]), "half.crt: is damaged"),
        (with("b.crt", &b.0), "a.key: is not the key of the first certificate in "),
        (with("order.crt", &format!("{}{}", b.0, a.0)), "the server's own certificate comes first"),
        (with("large.crt", &"x".repeat(1_048_577)), "large.crt: is larger than 1048576 bytes"),
        (folder.0.path().to_owned(), "Is a directory"),
    ];
    let keys = [
        (folder.path("gone.key"), "gone.key: No such file or directory"),
        (with("empty.key", ""), "empty.key: holds no private key in PEM"),
        (with("cert.key", &a.0), "cert.key: holds no private key in PEM"),
        (with("locked.key", encrypted), "locked.key: the key is encrypted"),
        (with("bad.key", bad_key), "bad.key: its key is neither RSA of 2048 bits or more, nor"),
        (with("b.key", &b.1), "b.key: is not the key of the first certificate in "),
    ];
    for (certificate, expected) in certificates {
        let error = error(&sources(&[CertificateFiles { certificate, ..good.clone() }]));
        assert!(error.starts_with("tls.certificates: /") && error.contains(expected), "{error}");
    }
    for (key, expected) in keys {
        let error = error(&sources(&[CertificateFiles { key, ..good.clone() }]));
        assert!(error.starts_with("tls.certificates: /") && error.contains(expected), "{error}");
        assert_eq!(1, error.lines().count(), "{error}");
    }
}

#[cfg(feature = "dtls")]
#[test]
fn a_key_that_dtls_cannot_be_served_with_is_refused_where_it_is_asked_for() {
    let folder = Folder::new();
    let for_dtls = sources(&[folder.pair("a", &handshakes::ed25519("a.example"))]);
    let for_tls = Sources { serves_dtls: false, ..for_dtls.clone() };

    let error = error(&for_dtls);

    assert!(error.contains("a.crt: is of no use for DTLS: "), "{error}");
    assert!(load(&for_tls).is_ok());
}

#[test]
fn authorities_of_clients_are_read() {
    let folder = Folder::new();
    let pair = made(&["a.example"]);
    let with = |path| Sources { client_ca: Some(path), ..sources(&[folder.pair("a", &pair)]) };

    let found =
        [folder.write("empty.pem", ""), folder.path("gone.pem")].map(|path| error(&with(path)));

    assert!(found[0].starts_with("tls.client_ca: /") && found[0].contains("empty.pem: holds no"));
    assert!(found[1].contains("gone.pem: No such file"), "{found:?}");
    assert!(load(&with(folder.write("ca.pem", &pair.0))).is_ok());
}

#[test]
fn ends_are_told_in_days() {
    let day = 86_400;
    let facts = |not_before: i64, not_after: i64| Facts {
        path: "/c.pem".into(),
        names: vec![Name::Dns("a.example".to_owned())],
        not_before: not_before * day,
        not_after: not_after * day,
    };
    let now = Duration::from_secs(20_000 * 86_400);
    let cases = [
        (facts(0, 20_041), "expires in 41 days, on 2024-11-14", None),
        (facts(0, 20_014), "expires in 14 days, on 2024-10-18", None),
        (
            facts(0, 20_001),
            "expires in 1 day, on 2024-10-05",
            Some("/c.pem: expires in 1 day, on 2024-10-05"),
        ),
        (
            facts(0, 19_997),
            "expired 3 days ago, on 2024-10-01",
            Some("/c.pem: expired 3 days ago, on 2024-10-01"),
        ),
        (
            facts(20_001, 20_100),
            "expires in 100 days, on 2025-01-12",
            Some("/c.pem: is good only from 2024-10-05 on"),
        ),
    ];
    for (facts, end, warning) in cases {
        assert_eq!(end, facts.end(now));
        assert_eq!(warning, facts.warning(now).as_deref());
        assert_eq!(end.starts_with("expired"), facts.is_expired(now));
    }
}

#[test]
fn a_certificate_for_nobody_is_warned_about() {
    let folder = Folder::new();
    let loaded = load(&sources(&[folder.pair("a", &made(&[]))])).expect("it is good");

    let warning = loaded.certificates[0].warning(sterna_actors::clock::unix_now());

    assert!(warning.is_some_and(|warning| warning.contains("a.crt: has no subjectAltName")));
}

#[test]
fn a_kept_certificate_whose_key_others_may_read_is_refused() {
    let folder = Folder::new();
    let now = sterna_actors::clock::unix_now();
    let kept = keep(folder.0.path(), "a.example", &[], now).expect("it is ours");
    fs::set_permissions(&kept.path, Permissions::from_mode(0o640)).expect("it is ours");

    let error = keep(folder.0.path(), "a.example", &[], now).map(|_| ()).expect_err("it is public");

    assert!(error.to_string().contains("others may read this key; chmod 600"), "{error}");
}

#[test]
fn the_certificate_of_a_first_run_is_kept_until_near_its_end() {
    let folder = Folder::new();
    let addresses = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().expect(ip));
    let day = |day: u64| Duration::from_secs(day * 86_400);
    let keep =
        |now| keep(folder.0.path(), "turn.example.org", &addresses, now).expect("it is ours");

    let first = keep(day(20_000));
    let text = fs::read_to_string(&first.path).expect("it is kept");
    let later = keep(day(20_700));
    let same = fs::read_to_string(&first.path).expect("it is kept");
    let near_its_end = keep(day(20_711));
    let other = fs::read_to_string(&first.path).expect("it is kept");

    assert_eq!((true, false, true), (first.is_made, later.is_made, near_its_end.is_made));
    assert!(text == same && text != other);
    assert_eq!(first.path, kept_at(folder.0.path()));
    let files = CertificateFiles { certificate: first.path.clone(), key: first.path };
    let loaded = load(&sources(&[files])).expect("it is good");
    assert_eq!("turn.example.org, 192.0.2.1, 2001:db8::1", loaded.certificates[0].names());
}

#[test]
fn a_realm_that_is_no_host_name_is_no_name_of_the_certificate() {
    let folder = Folder::new();
    let ip = "192.0.2.1".parse().expect("an address");
    let now = Duration::from_secs(20_000 * 86_400);

    let kept = keep(folder.0.path(), "Our Realm, 2nd", &[ip], now).expect("it is ours");

    assert_eq!("192.0.2.1", facts_at(&kept.path).expect("it is there").names());
}

#[tokio::test]
async fn renewed_files_are_shown_and_broken_ones_are_not() {
    let folder = Folder::new();
    let (old, other) = (made(&["old.example"]), made(&["other.example"]));
    let files = folder.pair("a", &old);
    let (mut renewal, shown) = start(sources(&[files])).expect("it is good");
    let log = Logger::root(Discard, o!());
    let first = shown.borrow().clone();
    let names = |renewal: &Renewal| renewal.certificates()[0].names();

    // A pair of which one half is replaced.
    folder.write("a.crt", &other.0);
    renewal.look(Look::Regular, &log).await;
    assert_eq!("old.example", names(&renewal));
    assert!(Arc::ptr_eq(&first, &shown.borrow()));

    folder.write("a.key", &other.1);
    renewal.look(Look::Regular, &log).await;
    assert_eq!("other.example", names(&renewal));
    assert!(!Arc::ptr_eq(&first, &shown.borrow()));

    fs::remove_file(folder.path("a.crt")).expect("it is ours");
    renewal.look(Look::Told, &log).await;
    assert_eq!("other.example", names(&renewal));
}

/// A log that keeps the messages of errors.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<String>>>);

impl Drain for Errors {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        if record.level() == Level::Error {
            self.0.lock().expect("nobody panicked").push(record.msg().to_string());
        }
        Ok(())
    }
}

#[tokio::test]
async fn what_stays_broken_is_logged_once_for_each_change() {
    let folder = Folder::new();
    let (old, other) = (made(&["old.example"]), made(&["other.example"]));
    let (mut renewal, _shown) = start(sources(&[folder.pair("a", &old)])).expect("it is good");
    let errors = Errors::default();
    let log = Logger::root(errors.clone(), o!());
    let logged = || errors.0.lock().expect("nobody panicked").len();

    folder.write("a.crt", &other.0);
    renewal.look(Look::Regular, &log).await;
    assert_eq!(0, logged(), "the key may be on its way");
    for _ in 0..3 {
        renewal.look(Look::Regular, &log).await;
        assert_eq!(1, logged());
    }
    renewal.look(Look::Told, &log).await;
    assert_eq!(2, logged(), "whoever asks is answered");
    folder.write("a.crt", "");
    renewal.look(Look::Regular, &log).await;
    assert_eq!(2, logged());
    renewal.look(Look::Regular, &log).await;
    assert_eq!(3, logged(), "another fault");
    folder.write("a.crt", &old.0);
    renewal.look(Look::Regular, &log).await;
    folder.write("a.crt", "");
    renewal.look(Look::Regular, &log).await;
    assert_eq!(3, logged());
    renewal.look(Look::Regular, &log).await;
    assert_eq!(4, logged(), "the same fault after all was well");
}

#[tokio::test]
async fn swapped_symbolic_links_are_seen() {
    let folder = Folder::new();
    for (name, host) in [("1", "one.example"), ("2", "two.example")] {
        fs::create_dir(folder.path(name)).expect("the folder is ours");
        let pair = made(&[host]);
        folder.write(&format!("{name}/tls.crt"), &pair.0);
        folder.write(&format!("{name}/tls.key"), &pair.1);
    }
    // As Kubernetes lays out a volume: the files link into a link that is swapped as a whole.
    let point = |to: &str| {
        symlink(to, folder.path("..tmp")).expect("the folder is ours");
        fs::rename(folder.path("..tmp"), folder.path("..data")).expect("the folder is ours");
    };
    point("1");
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), folder.path(name)).expect("the folder is ours");
    }
    let files =
        CertificateFiles { certificate: folder.path("tls.crt"), key: folder.path("tls.key") };
    let (mut renewal, _shown) = start(sources(&[files])).expect("it is good");
    assert_eq!("one.example", renewal.certificates()[0].names());

    point("2");
    renewal.look(Look::Regular, &Logger::root(Discard, o!())).await;

    assert_eq!("two.example", renewal.certificates()[0].names());
}
