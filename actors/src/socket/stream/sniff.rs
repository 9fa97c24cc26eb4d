//! What a client speaks, told from the first bytes of its connection.

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// STUN and ChannelData messages.
    Messages,
    /// TLS: the record of a ClientHello.
    Tls,
    /// HTTP.
    Http,
    /// Nothing that is served here.
    Other,
}

/// What a connection that begins with `first` speaks; `None` until enough has come to tell.
///
/// A method of HTTP reads as the header of ChannelData. The first message of a connection is no
/// ChannelData that could be of use, so the method wins.
pub(super) fn sniff(first: &[u8]) -> Option<Spoken> {
    if METHODS.iter().any(|method| first.starts_with(method)) {
        return Some(Spoken::Http);
    }
    if METHODS.iter().any(|method| method.starts_with(first)) {
        return None;
    }
    match first.first()? {
        0x00..=0x03 | 0x40..=0x7f => Some(Spoken::Messages),
        0x16 => Some(Spoken::Tls),
        _ => Some(Spoken::Other),
    }
}

/// The methods of RFC 9110, PATCH, and the preface of HTTP/2.
const METHODS: [&[u8]; 10] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"PRI * ",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_byte_tells_stun_from_tls() {
        assert_eq!(None, sniff(b""));
        assert_eq!(Some(Spoken::Messages), sniff(&[0x00]));
        assert_eq!(Some(Spoken::Messages), sniff(&[0x01, 0x01]));
        assert_eq!(Some(Spoken::Tls), sniff(&[0x16]));
        for other in [0x04, 0x15, 0x17, 0x3f, 0x80, 0xff] {
            assert_eq!(Some(Spoken::Other), sniff(&[other]), "{other:#x}");
        }
    }

    #[test]
    fn http_is_told_by_its_method_at_every_split() {
        for method in METHODS {
            for split in 1..method.len() {
                assert_eq!(None, sniff(&method[..split]));
            }
            assert_eq!(Some(Spoken::Http), sniff(method));
            assert_eq!(Some(Spoken::Http), sniff(&[method, b"/ HTTP/1.1"].concat()));
        }
    }

    #[test]
    fn channel_data_that_begins_like_a_method_is_channel_data() {
        assert_eq!(Some(Spoken::Messages), sniff(b"GEM "));
        assert_eq!(Some(Spoken::Messages), sniff(&[0x40, 0x00]));
        assert_eq!(Some(Spoken::Messages), sniff(&[0x47, 0x00]));
    }
}
