//! ChannelData, and streams in which it alternates with STUN.

use sterna_proto::channel_data::{
    ChannelData, ChannelDataError, ChannelNumber, FrameError, TooLong, frame_len, stream_padding,
    write_header,
};

use crate::{hex, request_with};

//= https://www.rfc-editor.org/rfc/rfc8656#section-12
//= type=test
//# These values are the allowed channel
#[test]
fn channel_numbers_of_both_rfcs() {
    for (number, rfc8656, rfc5766) in [
        (0x0000, false, false),
        (0x3FFF, false, false),
        (0x4000, true, true),
        (0x4FFF, true, true),
        (0x5000, false, true),
        (0x7FFE, false, true),
        (0x7FFF, false, false),
        (0x8000, false, false),
        (0xFFFF, false, false),
    ] {
        let narrow = ChannelNumber::new(number);
        assert_eq!(rfc8656.then_some(number), narrow.map(ChannelNumber::number));
        let wide = ChannelNumber::wide(number);
        assert_eq!(rfc5766.then_some(number), wide.map(ChannelNumber::number));
        assert_eq!(rfc8656, wide.is_some_and(ChannelNumber::is_rfc8656));
    }
    assert_eq!("0x4001", ChannelNumber::new(0x4001).unwrap().to_string());
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
//= type=test
//# Over UDP, the padding
//# is not required but MAY be included.
#[test]
fn datagrams_with_and_without_padding() {
    let number = ChannelNumber::new(0x4001).unwrap();
    for (datagram, data) in [
        ("4001 0000", ""),
        ("4001 0000 00000000", ""),
        ("4001 0005 68656c6c6f", "hello"),
        ("4001 0005 68656c6c6f 000000", "hello"),
        ("4001 0005 68656c6c6f ffff", "hello"),
    ] {
        let expected = ChannelData { number, data: data.as_bytes() };
        assert_eq!(Ok(expected), ChannelData::parse_datagram(&hex(datagram)), "{datagram}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12.6
//= type=test
//# If the ChannelData message is received in a UDP datagram, and if the
//# UDP datagram is too short to contain the claimed length of the
//# ChannelData message (i.e., the UDP header length field value is less
//# than the ChannelData header length field value + 4 + 8), then the
//# message is silently discarded.
#[test]
fn bad_datagrams() {
    for (datagram, expected) in [
        ("", ChannelDataError::TooShort),
        ("40", ChannelDataError::TooShort),
        ("400100", ChannelDataError::TooShort),
        ("4001 0001", ChannelDataError::Truncated),
        ("4001 0006 68656c6c6f", ChannelDataError::Truncated),
        ("4001 ffff 68656c6c6f", ChannelDataError::Truncated),
        ("3fff 0000", ChannelDataError::ChannelNumber),
        ("7fff 0000", ChannelDataError::ChannelNumber),
        ("8000 0000", ChannelDataError::ChannelNumber),
        ("0001 0000", ChannelDataError::ChannelNumber),
    ] {
        assert_eq!(Err(expected), ChannelData::parse_datagram(&hex(datagram)), "{datagram}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12.4
//= type=test
//# The Length field specifies the length in bytes of the application
//# data field (i.e., it does not include the size of the ChannelData
//# header).
#[test]
fn header_says_the_length_of_the_data() {
    let number = ChannelNumber::new(0x4ABC).unwrap();
    assert_eq!(Ok([0x4A, 0xBC, 0, 0]), write_header(number, 0));
    assert_eq!(Ok([0x4A, 0xBC, 0x01, 0x02]), write_header(number, 0x102));
    assert_eq!(Ok([0x4A, 0xBC, 0xFF, 0xFF]), write_header(number, 0xFFFF));
    assert_eq!(Err(TooLong), write_header(number, 0x1_0000));
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
//= type=test
//# Over TCP and TLS-over-TCP, the ChannelData message MUST be padded to
//# a multiple of four bytes in order to ensure the alignment of
//# subsequent messages.
#[test]
fn stream_frames_of_channel_data_are_padded() {
    for (header, length, padding, frame) in [
        ("4001 0000", 0, 0, 4),
        ("4001 0001", 1, 3, 8),
        ("4001 0002", 2, 2, 8),
        ("4001 0003", 3, 1, 8),
        ("4001 0004", 4, 0, 8),
        ("4001 0005", 5, 3, 12),
        ("7ffe fffc", 0xFFFC, 0, 0x1_0000),
        ("4001 ffff", 0xFFFF, 1, 0x1_0004),
    ] {
        assert_eq!(padding, stream_padding(length));
        assert_eq!(Ok(Some(frame)), frame_len(&hex(header)), "{header}");
    }
}

#[test]
fn stream_frames_of_stun_messages() {
    assert_eq!(Ok(Some(20)), frame_len(&request_with(&[])));
    assert_eq!(Ok(Some(24)), frame_len(&request_with(&[0; 4])));
    assert_eq!(Ok(Some(20 + 0xFFFC)), frame_len(&hex("0001 fffc 2112a442")));
}

#[test]
fn frame_is_not_known_before_its_header() {
    for prefix in
        ["", "40", "4001", "400100", "00", "0001", "000100", "0001 0000", "00010000 2112a4"]
    {
        assert_eq!(Ok(None), frame_len(&hex(prefix)), "{prefix}");
    }
}

/// A length that wrapped, or a guess where the next message starts, would let the data of one peer
/// be read as the commands of a client.
#[test]
fn stream_that_is_neither_is_an_error_at_once() {
    for start in [
        "04",
        "16030100",
        "3f",
        "80",
        "ff",
        "0001 0000 2112a443",
        "0001 0001 2112a442",
        "0001 ffff 2112a442",
    ] {
        assert_eq!(Err(FrameError), frame_len(&hex(start)), "{start}");
    }
}
