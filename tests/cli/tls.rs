//! Certificates: read, told about, renewed, made, and refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::sys::signal::Signal;
use serde_json::Value;

#[cfg(feature = "dtls")]
use crate::certificates::is_shown_by_dtls;
use crate::certificates::{Pair, file_is_shown};
use crate::program::Home;

const NAME: &str = "turn.example.org";

fn yaml(files: &str) -> String {
    format!(
        "realm: turn.example.com\nlisten: ['tls://127.0.0.1:0']\nworkers: 1\n\
             auth: {{rest_secrets: [a-secret-to-mint-with]}}\n\
             tls: {{certificates: ['{files}']}}"
    )
}

#[test]
fn certificates_of_no_use_end_with_one_line_and_code_2() {
    let home = Home::new();
    let (a, b) = (Pair::new(&[NAME]), Pair::new(&[NAME]));
    a.write(&home, "a");
    b.write(&home, "b");
    home.write("empty", "");
    let cases = [
        ("gone.crt", "a.key", "gone.crt: No such file or directory"),
        ("empty", "a.key", "empty: holds no certificate in PEM"),
        ("a.crt", "gone.key", "gone.key: No such file or directory"),
        ("a.crt", "a.crt", "a.crt: holds no private key in PEM"),
        ("a.crt", "b.key", "b.key: is not the key of the first certificate in "),
    ];
    for (certificate, key, expected) in cases {
        let path = |name: &str| home.path().join(name).display().to_string();
        home.write("turn.yaml", &yaml(&format!("{}={}", path(certificate), path(key))));
        for command in ["serve", "check"] {
            let finished = home.run(&[command, "-c", "turn.yaml"]);

            assert_eq!(Some(2), finished.code, "{finished:?}");
            let line = finished.error_line();
            assert!(line.starts_with("sterna: turn.yaml: tls.certificates: /"), "{finished:?}");
            assert!(line.contains(expected), "{finished:?}");
            assert_eq!("", finished.out);
        }
    }
}

#[test]
fn check_says_for_whom_certificates_are_and_until_when() {
    let home = Home::new();
    let files = Pair::ending_in(&[NAME, "192.0.2.1"], 41).write(&home, "a");
    let text = yaml(&files).replace("'tls:", "'udp://127.0.0.1:0', 'tls:");
    home.write("turn.yaml", &text);

    let finished = home.run(&["check", "-c", "turn.yaml"]);

    assert_eq!(Some(0), finished.code, "{finished:?}");
    let path = home.path().join("a.crt").display().to_string();
    for expected in [
        "#   127.0.0.1:0 TCP: tcp, tls\n",
        &format!("  - certificate: {path}\n"),
        &format!("#   {path}: {NAME}, 192.0.2.1: expires in 41 days, on 20"),
    ] {
        assert!(finished.out.contains(expected), "{expected:?} in {}", finished.out);
    }
}

#[test]
fn check_names_no_way_in_without_a_certificate_where_clients_must_have_one() {
    let home = Home::new();
    let files = Pair::new(&[NAME]).write(&home, "a");
    let authority = home.path().join("a.crt").display().to_string();
    let text = yaml(&files)
        .replace("'tls:", "'udp://127.0.0.1:1', 'tcp://127.0.0.1:2', 'tls://127.0.0.1:2', 'tls:")
        .replace("tls: {", &format!("tls: {{client_ca: {authority}, "));
    home.write("turn.yaml", &text);

    let finished = home.run(&["check", "-c", "turn.yaml"]);

    assert_eq!(Some(0), finished.code, "{finished:?}");
    for expected in ["0.1:1 UDP: udp\n", "0.1:2 TCP: tcp, tls\n", "0.1:0 TCP: tls\n"] {
        assert!(finished.out.contains(expected), "{expected:?} in {}", finished.out);
    }
}

#[test]
fn check_warns_of_an_end_that_is_near_and_fails_behind_it() {
    for (days, code, end) in [(3, 0, "expires in 3 days, on "), (-3, 2, "expired 2 days ago, on ")]
    {
        let home = Home::new();
        home.write("turn.yaml", &yaml(&Pair::ending_in(&[NAME], days).write(&home, "a")));

        let finished = home.run(&["check", "-c", "turn.yaml"]);

        assert_eq!(Some(code), finished.code, "{finished:?}");
        let warning = format!("a.crt: {end}");
        assert!(finished.err.contains("sterna: warning: tls.certificates: /"), "{finished:?}");
        assert!(finished.err.contains(&warning) && finished.out.contains(end), "{finished:?}");
    }
}

#[test]
fn an_expired_certificate_is_served_with_a_warning() {
    let home = Home::new();
    let mut relay = home.serve(&yaml(&Pair::ending_in(&[NAME], -3).write(&home, "a")));

    assert_eq!(Some(0), relay.stop());
    let is_warning = |line: &&String| line.contains("WARN") && line.contains("expired 2 days ago");
    assert_eq!(1, relay.log.iter().filter(is_warning).count(), "{:#?}", relay.log);
}

#[test]
fn hup_shows_the_renewed_certificate_and_a_broken_one_keeps_the_old() {
    let home = Home::new();
    let (first, second, third) = (Pair::new(&[NAME]), Pair::new(&[NAME]), Pair::new(&[NAME]));
    let mut relay = home.serve(&yaml(&first.write(&home, "a")));
    let server = relay.address_of("tls");
    assert!(first.is_shown(server, NAME) && !second.is_shown(server, NAME));

    second.write(&home, "a");
    relay.signal(Signal::SIGHUP);
    let renewed = relay.wait_for("certificate renewed");
    assert!(renewed.contains(NAME) && renewed.contains("expires in 1000 days"), "{renewed}");
    assert!(second.is_shown(server, NAME) && !first.is_shown(server, NAME));

    home.write("a.key", &third.key);
    relay.signal(Signal::SIGHUP);
    let refused = relay.wait_for("ERRO");
    assert!(refused.contains("the ones before stay in use"), "{refused}");
    assert!(refused.contains("a.key: is not the key of the first certificate"), "{refused}");
    assert!(second.is_shown(server, NAME) && !third.is_shown(server, NAME));

    home.write("a.crt", &third.certificate);
    relay.signal(Signal::SIGHUP);
    relay.wait_for("certificate renewed");
    assert!(third.is_shown(server, NAME));
    assert_eq!(Some(0), relay.stop());
}

#[cfg(feature = "dtls")]
#[test]
fn dtls_clients_are_shown_the_renewed_certificate() {
    let home = Home::new();
    let (first, second) = (Pair::new(&[NAME]), Pair::new(&[NAME]));
    let yaml = yaml(&first.write(&home, "a")).replace("tls://", "dtls://");
    let mut relay = home.serve(&yaml);
    let server = relay.address_of("dtls");
    assert!(is_shown_by_dtls(&first, server));

    second.write(&home, "a");
    relay.signal(Signal::SIGHUP);
    relay.wait_for("certificate renewed");

    assert!(is_shown_by_dtls(&second, server));
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn files_are_followed_without_a_signal_through_swapped_links() {
    let home = Home::new();
    let (first, second) = (Pair::new(&[NAME]), Pair::new(&[NAME]));
    for (folder, pair) in [("1", &first), ("2", &second)] {
        fs::create_dir(home.path().join(folder)).expect("the folder is ours");
        pair.write(&home, &format!("{folder}/tls"));
    }
    let at = |name: &str| home.path().join(name);
    symlink("1", at("..data")).expect("the folder is ours");
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), at(name)).expect("the folder is ours");
    }
    let files = format!("{}={}", at("tls.crt").display(), at("tls.key").display());
    let mut relay = home.serve(&yaml(&files));
    let server = relay.address_of("tls");
    assert!(first.is_shown(server, NAME));

    symlink("2", at("..tmp")).expect("the folder is ours");
    fs::rename(at("..tmp"), at("..data")).expect("the folder is ours");

    relay.wait_for("certificate renewed");
    assert!(second.is_shown(server, NAME));
    fs::remove_file(at("2/tls.crt")).expect("the folder is ours");
    relay.wait_for("tls.crt: No such file or directory");
    assert!(second.is_shown(server, NAME));
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn a_certificate_is_chosen_by_the_name_that_is_asked_for() {
    let home = Home::new();
    let (first, second) = (Pair::new(&[NAME]), Pair::new(&["*.example.net"]));
    let files = format!("{}', '{}", first.write(&home, "a"), second.write(&home, "b"));
    let mut relay = home.serve(&yaml(&files));
    let server = relay.address_of("tls");

    assert!(first.is_shown(server, NAME));
    assert!(second.is_shown(server, "turn.example.net"));
    assert!(!second.is_shown(server, NAME));
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn a_first_run_makes_a_certificate_and_keeps_it() {
    let home = Home::new();
    let kept = home.path().join(".local/state/sterna/self_signed.pem");
    let text = "realm: turn.example.com\nlisten: ['udp://127.0.0.1:0', 'tls://127.0.0.1:0']\n\
                tls: {self_signed: true}\nworkers: 1";
    home.write("turn.yaml", text);
    let checked = home.run(&["check", "-c", "turn.yaml"]);
    assert!(checked.out.contains("# certificates: one is made at the first start"), "{checked:?}");
    assert!(!kept.exists(), "a check makes nothing");

    let mut certificates = Vec::new();
    for made in ["made: true", "made: false"] {
        let mut relay = home.serve(text);
        let server = relay.address_of("tls");
        for name in ["turn.example.com", "127.0.0.1"] {
            assert!(file_is_shown(&kept, server, name), "{name}");
        }
        let mut json = String::new();
        let ice: Value = loop {
            json.push_str(&relay.out_line().expect("a whole document"));
            if let Ok(ice) = serde_json::from_str(&json) {
                break ice;
            }
        };
        let url = format!("turns:{server}?transport=tcp");
        assert_eq!(Some(url.as_str()), ice["iceServers"][0]["urls"][1].as_str());
        assert_eq!(Some(0), relay.stop());
        let told = relay.log.iter().find(|line| line.contains("signed by itself"));
        let told = told.unwrap_or_else(|| panic!("{:#?}", relay.log));
        assert!(told.contains("WARN") && told.contains(made), "{told}");
        let mode = fs::metadata(&kept).expect("it is kept").permissions().mode();
        assert_eq!(0o600, mode & 0o777);
        certificates.push(fs::read_to_string(&kept).expect("it is ours"));
    }
    assert_eq!(certificates[0], certificates[1]);
}
