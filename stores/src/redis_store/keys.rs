//! The names of keys in Redis.
//!
//! A user's key is made of realm and name with `/user/` between them. Neither is escaped, since
//! coturn escapes neither; a pair that could be read as another pair has no key.

use redis::{Cmd, cmd};

use crate::sql::coturn::OPTIONS_KNOWN;

/// The keys of one user.
pub(super) struct UserKeys {
    /// coturn's: the MD5 key in hexadecimal.
    pub(super) md5: String,
    /// Sterna's: a hash of the SHA-256 key, limits and the end.
    pub(super) more: String,
    /// Sterna's: a set of networks.
    pub(super) allow: String,
    pub(super) deny: String,
}

/// The keys of a user, unless they could be those of another one.
pub(super) fn user(realm: &str, name: &str) -> Option<UserKeys> {
    let path = format!("{realm}{USER}{name}");
    let boundaries =
        (0..path.len()).filter(|&at| path.get(at..).is_some_and(|rest| rest.starts_with(USER)));
    if realm.is_empty() || name.is_empty() || boundaries.count() != 1 {
        return None;
    }
    Some(UserKeys {
        md5: format!("{REALM}{path}{KEY}"),
        more: format!("{MORE}{path}"),
        allow: format!("sterna/allow/{path}"),
        deny: format!("sterna/deny/{path}"),
    })
}

/// Whether a realm can have users here.
pub(super) fn is_realm(realm: &str) -> bool {
    user(realm, "a").is_some()
}

/// Realm and name of a user's key, of coturn's or of Sterna's.
pub(super) fn read_user(key: &str) -> Option<(String, String)> {
    let coturns = key.strip_prefix(REALM).and_then(|path| path.strip_suffix(KEY));
    let path = coturns.or_else(|| key.strip_prefix(MORE))?;
    let (realm, name) = path.split_once(USER)?;
    user(realm, name).map(|_| (realm.to_owned(), name.to_owned()))
}

/// Patterns that find the users of a realm, or all.
pub(super) fn user_patterns(realm: Option<&str>) -> [String; 2] {
    let realm = realm.map_or_else(|| "*".to_owned(), escaped);
    [format!("{REALM}{realm}{USER}*{KEY}"), format!("{MORE}{realm}{USER}*")]
}

/// Patterns that find the secrets of all realms.
pub(super) const SECRETS_PATTERN: &str = "turn/realm/*/secret";
/// A pattern that finds the token keys.
pub(super) const TOKEN_KEYS_PATTERN: &str = "turn/oauth/kid/*";

/// Patterns that find the keys about realms, and as few of the users' as Redis can tell apart:
/// those end with `y`.
pub(super) const REALM_PATTERNS: [&str; 3] =
    ["turn/realm/*[^y]", "turn/origin/*", "sterna/limits/*"];

/// coturn's set of secrets.
pub(super) fn secrets(realm: &str) -> String {
    format!("{REALM}{realm}{SECRET}")
}

/// The realm of a set of secrets.
pub(super) fn read_secrets(key: &str) -> Option<&str> {
    key.strip_prefix(REALM)?.strip_suffix(SECRET)
}

/// Sterna's hash of the dates of secrets, by their fingerprints.
pub(super) fn secret_dates(realm: &str) -> String {
    format!("sterna/secrets/{realm}")
}

/// coturn's hash of a token key.
pub(super) fn token_key(kid: &str) -> String {
    format!("{TOKEN_KEY}{kid}")
}

pub(super) fn read_token_key(key: &str) -> Option<&str> {
    key.strip_prefix(TOKEN_KEY)
}

/// A key that says something of a realm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RealmKey {
    Origin(String),
    Option(String, &'static str),
    Allowed(String),
    Denied(String),
    /// Sterna's hash of the limits that coturn has no key for.
    Limits(String),
}

impl RealmKey {
    pub(super) fn read(key: String) -> Option<RealmKey> {
        if let Some(origin) = key.strip_prefix(ORIGIN) {
            return Some(RealmKey::Origin(origin.to_owned()));
        }
        if let Some(realm) = key.strip_prefix(LIMITS) {
            return Some(RealmKey::Limits(realm.to_owned()));
        }
        let (realm, last) = key.strip_prefix(REALM)?.rsplit_once('/')?;
        let realm = realm.to_owned();
        match last {
            "allowed-peer-ip" => Some(RealmKey::Allowed(realm)),
            "denied-peer-ip" => Some(RealmKey::Denied(realm)),
            _ => {
                let option = OPTIONS_KNOWN.into_iter().find(|option| *option == last)?;
                Some(RealmKey::Option(realm, option))
            }
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            RealmKey::Origin(origin) => format!("{ORIGIN}{origin}"),
            RealmKey::Option(realm, option) => format!("{REALM}{realm}/{option}"),
            RealmKey::Allowed(realm) => format!("{REALM}{realm}/allowed-peer-ip"),
            RealmKey::Denied(realm) => format!("{REALM}{realm}/denied-peer-ip"),
            RealmKey::Limits(realm) => format!("{LIMITS}{realm}"),
        }
    }

    /// What reads it.
    pub(super) fn command(&self) -> Cmd {
        let command = match self {
            RealmKey::Origin(_) | RealmKey::Option(..) => "GET",
            RealmKey::Allowed(_) | RealmKey::Denied(_) => "SMEMBERS",
            RealmKey::Limits(_) => "HGETALL",
        };
        cmd(command).arg(self.name()).clone()
    }
}

/// A text as a pattern that finds nothing else.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

const REALM: &str = "turn/realm/";
const USER: &str = "/user/";
const KEY: &str = "/key";
const SECRET: &str = "/secret";
const ORIGIN: &str = "turn/origin/";
const TOKEN_KEY: &str = "turn/oauth/kid/";
const MORE: &str = "sterna/realm/";
const LIMITS: &str = "sterna/limits/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_coturns_key() {
        let keys = user("north.gov", "gorst").unwrap();
        assert_eq!("turn/realm/north.gov/user/gorst/key", keys.md5);
        let slashes = user("north.gov", "a/b*[c]/key").unwrap();
        assert_eq!("turn/realm/north.gov/user/a/b*[c]/key/key", slashes.md5);
        assert_eq!(Some(("north.gov".into(), "a/b*[c]/key".into())), read_user(&slashes.md5));
        assert_eq!(Some(("north.gov".into(), "gorst".into())), read_user(&keys.more));
    }

    #[test]
    fn no_two_users_share_a_key() {
        // Each of these pairs spells the key of the pair beside it.
        for [one, other] in
            [[("a", "b/user/c"), ("a/user/b", "c")], [("a/user", "x"), ("a", "user/x")]]
        {
            let spelled = |(realm, name)| format!("{realm}/user/{name}");
            assert_eq!(spelled(one), spelled(other));
            assert!(user(one.0, one.1).is_none() && user(other.0, other.1).is_none());
        }
        assert!(user("", "a").is_none() && user("a", "").is_none());
        assert!(!is_realm("a/user/b") && is_realm("a/b"));
    }

    #[test]
    fn keys_about_realms_are_told_from_the_others() {
        for (key, wanted) in [
            ("turn/origin/https://a:443", Some(RealmKey::Origin("https://a:443".into()))),
            ("turn/realm/a/b/max-bps", Some(RealmKey::Option("a/b".into(), "max-bps"))),
            ("turn/realm/a/allowed-peer-ip", Some(RealmKey::Allowed("a".into()))),
            ("turn/realm//denied-peer-ip", Some(RealmKey::Denied(String::new()))),
            ("turn/realm//user-quota", Some(RealmKey::Option(String::new(), "user-quota"))),
            ("turn/realm/a/denied-peer-ip", Some(RealmKey::Denied("a".into()))),
            ("sterna/limits/a", Some(RealmKey::Limits("a".into()))),
            ("turn/realm/a/secret", None),
            ("turn/realm/a/user/x/max-bps/key", None),
            ("turn/admin_user/a", None),
        ] {
            let read = RealmKey::read(key.into());
            assert_eq!(wanted, read, "{key}");
            assert_eq!(wanted.map(|_| key.to_owned()), read.map(|key| key.name()));
        }
    }

    #[test]
    fn a_realm_in_a_pattern_is_that_realm() {
        let [coturns, _] = user_patterns(Some("a*[b]"));
        assert_eq!("turn/realm/a\\*\\[b\\]/user/*/key", coturns);
    }
}
