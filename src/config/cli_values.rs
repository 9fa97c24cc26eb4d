//! Values of the command line that are read as those of turn.yaml are.

use std::time::Duration;

use ipnet::IpNet;
use sterna_proto::credentials::opaque_string;

use super::access;
use super::checked::realm_name;
use super::values;

/// A limit as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit<T> {
    /// So much.
    Of(T),
    /// As much as one likes.
    Any,
    /// What the realm gives.
    OfRealm,
}

/// When a user ends, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// At this moment, since 1970.
    At(Duration),
    /// Never.
    Never,
}

pub(crate) fn realm(text: &str) -> Result<String, String> {
    realm_name(text)
}

pub(crate) fn user_name(text: &str) -> Result<String, String> {
    access::user_name(text)
}

/// The name of a user that is there already, prepared as it was when it was added. What another
/// program has put into the store may be a name that would not be taken here.
pub(crate) fn known_user(text: &str) -> Result<String, String> {
    Ok(opaque_string(text).map_or_else(|_| text.to_owned(), |name| name.into_owned()))
}

pub(crate) fn origin(text: &str) -> Result<String, String> {
    values::origin(text)
}

pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    values::network(text)
}

pub(crate) fn allocations(text: &str) -> Result<Limit<u32>, String> {
    Ok(values::allocations(text)?.map_or(Limit::Any, Limit::Of))
}

pub(crate) fn rate(text: &str) -> Result<Limit<u64>, String> {
    Ok(values::rate(text)?.map_or(Limit::Any, Limit::Of))
}

pub(crate) fn user_allocations(text: &str) -> Result<Limit<u32>, String> {
    of_user(text, allocations)
}

pub(crate) fn user_rate(text: &str) -> Result<Limit<u64>, String> {
    of_user(text, rate)
}

pub(crate) fn moment(text: &str) -> Result<u64, String> {
    values::moment(text)
}

pub(crate) fn expiry(text: &str) -> Result<Expiry, String> {
    match text {
        "never" => Ok(Expiry::Never),
        _ => Ok(Expiry::At(Duration::from_secs(values::moment(text)?))),
    }
}

fn of_user<T>(
    text: &str,
    read: impl Fn(&str) -> Result<Limit<T>, String>,
) -> Result<Limit<T>, String> {
    match text {
        "any" => Ok(Limit::Any),
        "realm" => Ok(Limit::OfRealm),
        _ => read(text),
    }
}
