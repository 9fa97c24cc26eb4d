//! The attributes, one type each, in files by what they are about.

mod addresses;
mod credentials;
mod errors;
mod extensions;
mod nat_discovery;
mod oauth;
mod relay;
mod text;

pub use addresses::{
    AlternateServer, MappedAddress, OtherAddress, ResponseOrigin, XorMappedAddress, XorPeerAddress,
    XorRelayedAddress,
};
pub use credentials::{
    Nonce, PASSWORD_ALGORITHMS_MAX, PasswordAlgorithmAttribute, PasswordAlgorithms, Realm,
    UserHash, Username,
};
pub use errors::{AddressErrorCode, ErrorCodeAttribute, UnknownAttributes};
pub use extensions::{AlternateDomain, ConnectionId, MobilityTicket, Origin, Software};
pub use nat_discovery::{ChangeRequest, Padding, ResponsePort};
pub use oauth::{AccessToken, ThirdPartyAuthorization};
pub use relay::{
    AdditionalAddressFamily, Data, DontFragment, EvenPort, Icmp, Lifetime, RequestedAddressFamily,
    RequestedTransport, ReservationToken,
};
pub use text::TEXT_LEN_MAX;
