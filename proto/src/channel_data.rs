//! ChannelData (RFC 8656 §12.4 to §12.6) and the framing of streams that mix it with STUN.

use std::fmt;

use crate::stun::{HEADER_LEN, Kind, MAGIC_COOKIE, padding, peek_kind};

/// The number of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelNumber(u16);

impl ChannelNumber {
    /// A channel number of RFC 8656: 0x4000 to 0x4FFF.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12
    //# These values are the allowed channel
    pub const fn new(number: u16) -> Option<ChannelNumber> {
        if matches!(number, FIRST..=LAST) { Some(ChannelNumber(number)) } else { None }
    }

    /// A channel number of RFC 5766: 0x4000 to 0x7FFE.
    pub const fn wide(number: u16) -> Option<ChannelNumber> {
        if matches!(number, FIRST..=LAST_WIDE) { Some(ChannelNumber(number)) } else { None }
    }

    /// The number as it is on the wire.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Whether RFC 8656 still allows the number.
    pub const fn is_rfc8656(self) -> bool {
        self.0 <= LAST
    }
}

impl fmt::Display for ChannelNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

impl fmt::Debug for ChannelNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelNumber({self})")
    }
}

/// A ChannelData message, borrowed from the datagram or stream buffer it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelData<'a> {
    /// The channel that the data travels on.
    pub number: ChannelNumber,
    /// The application data, without padding.
    pub data: &'a [u8],
}

impl<'a> ChannelData<'a> {
    /// Reads a datagram, or a frame of a stream; what follows the data is padding.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
    //# Over UDP, the padding
    //# is not required but MAY be included.
    #[inline]
    pub fn parse_datagram(datagram: &'a [u8]) -> Result<ChannelData<'a>, ChannelDataError> {
        let (&[n0, n1, l0, l1], rest) =
            datagram.split_first_chunk().ok_or(ChannelDataError::TooShort)?;
        //= https://www.rfc-editor.org/rfc/rfc8656#section-12.6
        //# If the message uses a value in the reserved range (0x5000
        //# through 0xFFFF), then the message is silently discarded.
        let number = ChannelNumber::wide(u16::from_be_bytes([n0, n1]))
            .ok_or(ChannelDataError::ChannelNumber)?;
        //= https://www.rfc-editor.org/rfc/rfc8656#section-12.6
        //# If the ChannelData message is received in a UDP datagram, and if the
        //# UDP datagram is too short to contain the claimed length of the
        //# ChannelData message (i.e., the UDP header length field value is less
        //# than the ChannelData header length field value + 4 + 8), then the
        //# message is silently discarded.
        let data = rest
            .get(..usize::from(u16::from_be_bytes([l0, l1])))
            .ok_or(ChannelDataError::Truncated)?;
        Ok(ChannelData { number, data })
    }
}

/// Why a datagram is not a ChannelData message. All of these are silently discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelDataError {
    /// Fewer bytes than the header has.
    TooShort,
    /// A number that can never be that of a channel.
    ChannelNumber,
    /// Less data than the header says.
    Truncated,
}

impl fmt::Display for ChannelDataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChannelDataError::TooShort => "shorter than a ChannelData header",
            ChannelDataError::ChannelNumber => "not a channel number",
            ChannelDataError::Truncated => "shorter than its length field says",
        })
    }
}

impl std::error::Error for ChannelDataError {}

/// The header before `length` bytes of data on a channel.
//= https://www.rfc-editor.org/rfc/rfc8656#section-12.4
//# The Length field specifies the length in bytes of the application
//# data field (i.e., it does not include the size of the ChannelData
//# header).
#[inline]
pub fn write_header(number: ChannelNumber, length: usize) -> Result<[u8; 4], TooLong> {
    let [n0, n1] = number.0.to_be_bytes();
    let [l0, l1] = u16::try_from(length).map_err(|_| TooLong)?.to_be_bytes();
    Ok([n0, n1, l0, l1])
}

/// The number of zero bytes to send behind `length` bytes of data over a stream.
//= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
//# Over TCP and TLS-over-TCP, the ChannelData message MUST be padded to
//# a multiple of four bytes in order to ensure the alignment of
//# subsequent messages.
pub const fn stream_padding(length: usize) -> usize {
    padding(length)
}

/// The data is longer than the length field of a ChannelData message can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too long for a ChannelData message")
    }
}

impl std::error::Error for TooLong {}

/// The size of the frame at the start of `buffered`, what a stream has delivered and nobody has
/// taken: a STUN message, or a ChannelData message with its padding. `None` until enough has come
/// to tell.
///
/// The answer depends on the stream alone and not on how it was cut into reads. An error is final:
/// where the next frame starts cannot be known.
pub fn frame_len(buffered: &[u8]) -> Result<Option<usize>, FrameError> {
    match peek_kind(buffered) {
        Kind::ChannelData => Ok(channel_data_frame_len(buffered)),
        Kind::Stun => stun_frame_len(buffered),
        Kind::Other if buffered.is_empty() => Ok(None),
        Kind::Other => Err(FrameError),
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
//# The padding is not reflected in the length
//# field of the ChannelData message, so the actual size of a ChannelData
//# message (including padding) is (4 + Length) rounded up to the nearest
//# multiple of 4 (see Section 14 of [RFC8489]).
fn channel_data_frame_len(buffered: &[u8]) -> Option<usize> {
    let &[_, _, l0, l1] = buffered.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    Some(CHANNEL_DATA_HEADER_LEN + length + padding(length))
}

fn stun_frame_len(buffered: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(&[_, _, l0, l1, c0, c1, c2, c3]) = buffered.first_chunk() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE || padding(length) != 0 {
        return Err(FrameError);
    }
    Ok(Some(HEADER_LEN + length))
}

/// A stream does not continue with a STUN or ChannelData message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameError;

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither STUN nor ChannelData")
    }
}

impl std::error::Error for FrameError {}

/// The size of the ChannelData header in bytes.
pub const CHANNEL_DATA_HEADER_LEN: usize = 4;

const FIRST: u16 = 0x4000;
const LAST: u16 = 0x4FFF;
const LAST_WIDE: u16 = 0x7FFE;
