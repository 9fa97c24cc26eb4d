//! Expiries and tokens, good and bad.

use super::*;

#[test]
fn expiry_is_read_strictly() {
    let cases = [
        ("1700000000", Some(1_700_000_000)),
        ("1700000000:alice", Some(1_700_000_000)),
        ("1700000000:alice:phone", Some(1_700_000_000)),
        ("18446744073709551615:alice", Some(u64::MAX)),
        ("00", Some(0)),
        ("", None),
        (":alice", None),
        ("-1:alice", None),
        ("+1700000000:alice", None),
        (" 1700000000:alice", None),
        ("1700000000 :alice", None),
        ("0x10:alice", None),
        ("1e9:alice", None),
        ("1700000000.5:alice", None),
        ("\u{0661}:alice", None),
        ("18446744073709551616:alice", None),
        ("alice:1700000000", None),
    ];
    for (name, seconds) in cases {
        assert_eq!(seconds.map(Duration::from_secs), expiry_of(name), "{name:?}");
    }
}

#[test]
fn the_name_behind_the_expiry_counts() {
    let cases = [
        ("1700000000:alice", "alice"),
        ("1700000000:alice:phone", "alice:phone"),
        ("1700000000", "1700000000"),
        ("1700000000:", "1700000000:"),
    ];
    for (name, behind) in cases {
        assert_eq!(behind, name_behind_expiry(name));
    }
}

#[test]
fn password_is_the_hmac_of_the_name() {
    // Computed with `printf 1700000000:alice | openssl dgst -sha1 -hmac secret -binary | base64`,
    // and the same with -sha256.
    let password = time_limited_password(b"secret", "1700000000:alice");
    assert_eq!(Some("d8soP47RbdIKLDUOpnJPVQyq5Ts="), password.as_deref());

    let password = time_limited_password_sha256(b"secret", "1700000000:alice");
    assert_eq!(Some(BY_SHA256), password.as_deref());
}

#[test]
fn signature_is_that_of_the_standard_example() {
    // RFC 7515 §A.1: its key, its header and payload, its signature.
    let secret = URL_SAFE_NO_PAD.decode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    );
    let name = concat!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.",
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0",
        "cnVlfQ"
    );
    let password = token_password(&secret.expect("base64url"), name);
    assert_eq!(Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), password.as_deref());
    // It names no subject, so it is good for nobody here.
    assert_eq!(SignedToken::Unusable, SignedToken::read(name));
}

fn token(header: &str, payload: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

#[test]
fn good_tokens_name_their_subject_and_their_end() {
    let cases = [
        (r#"{"sub":"alice","exp":1700000000}"#, 1_700_000_000_000, None),
        (r#"{"exp":1700000000.5,"sub":"alice","iat":1}"#, 1_700_000_000_500, None),
        (r#"{"sub":"alice","exp":1700000000,"nbf":1600000000}"#, 1_700_000_000_000, Some(1.6e12)),
    ];
    for (payload, expires, not_before) in cases {
        let of = SignedToken::Of {
            subject: "alice".to_owned(),
            expires: Duration::from_millis(expires),
            not_before: not_before.map(|millis| Duration::from_secs_f64(millis / 1000.0)),
        };
        assert_eq!(of, SignedToken::read(&token(HS256, payload)), "{payload}");
    }
}

#[test]
fn malformed_tokens_are_good_for_nobody() {
    let good = r#"{"sub":"alice","exp":1700000000}"#;
    let tokens = [
        token(r#"{"alg":"none"}"#, good),
        token(r#"{"alg":"hs256"}"#, good),
        token(r#"{"alg":"HS384"}"#, good),
        token(r#"{"alg":"RS256"}"#, good),
        token(r#"{"alg":["HS256"]}"#, good),
        token(r#"{"typ":"JWT"}"#, good),
        token(r#"{"alg":"none","alg":"HS256"}"#, good),
        token(r#"{"alg":"HS256","crit":["exp"]}"#, good),
        token(r#"{"alg":"HS256""#, good),
        token(HS256, r#"{"sub":"alice"}"#),
        token(HS256, r#"{"exp":1700000000}"#),
        token(HS256, r#"{"sub":"","exp":1700000000}"#),
        token(HS256, r#"{"sub":7,"exp":1700000000}"#),
        token(HS256, r#"{"sub":"a\nb","exp":1700000000}"#),
        token(HS256, r#"{"sub":"alice","exp":"1700000000"}"#),
        token(HS256, r#"{"sub":"alice","exp":-1}"#),
        token(HS256, r#"{"sub":"alice","exp":1e300}"#),
        token(HS256, r#"{"sub":"alice","exp":null}"#),
        token(HS256, r#"{"sub":"alice","exp":1700000000,"exp":4102444800}"#),
        token(HS256, r#"{"sub":"alice","exp":1700000000,"nbf":"soon"}"#),
        token(HS256, r#"["alice"]"#),
        token(HS256, &"[".repeat(300)),
        token(HS256, &format!(r#"{{"sub":"{}","exp":1700000000}}"#, "a".repeat(400))),
        format!("{}.{}", URL_SAFE_NO_PAD.encode(HS256), "not/base64url"),
        format!("{}.", URL_SAFE_NO_PAD.encode(HS256)),
        format!("{}.{}==", URL_SAFE_NO_PAD.encode(HS256), URL_SAFE_NO_PAD.encode(good)),
        // With its signature behind it, it is no user name.
        format!("{}.c2lnbmF0dXJl", token(HS256, good)),
        "eyJ!.eyJ".to_owned(),
        "eyJ.".to_owned(),
    ];
    for token in tokens {
        assert_eq!(SignedToken::Unusable, SignedToken::read(&token), "{token}");
    }
}

#[test]
fn other_names_are_no_tokens() {
    for name in ["alice", "jane.doe", "", ".", "e.yJ", "1700000000:alice", "a.b.c"] {
        assert_eq!(SignedToken::No, SignedToken::read(name), "{name}");
    }
}

const BY_SHA256: &str = "vtJEGMjRwTvyD+vxsT7OBKnX6z/PPkD7wCuK8Cm7rdA=";
