//! ChannelData, and streams.

use sterna_proto::channel_data::{
    CHANNEL_DATA_HEADER_LEN, ChannelData, FrameError, frame_len, stream_padding, write_header,
};
use sterna_proto::stun::{Kind, Message, peek_kind};

/// Reads `bytes` as a datagram, and as a stream that arrives whole and that arrives in pieces.
pub fn channel_data(bytes: &[u8]) {
    datagram(bytes);
    let (whole, end) = frames(bytes, bytes.len());
    // The last byte is as good a choice of a cut as any, and the fuzzer's own.
    let piece = usize::from(*bytes.last().unwrap_or(&0)) % 13 + 1;
    assert_eq!((whole.clone(), end), frames(bytes, piece));
    for frame in whole {
        datagram(frame);
    }
}

fn datagram(bytes: &[u8]) {
    match ChannelData::parse_datagram(bytes) {
        Ok(ChannelData { number, data }) => {
            assert_eq!(Kind::ChannelData, peek_kind(bytes));
            let header = write_header(number, data.len()).expect("it came with a header");
            let message = [&header[..], data].concat();
            assert!(bytes.starts_with(&message));
            let frame = message.len() + stream_padding(data.len());
            assert_eq!(Ok(Some(frame)), frame_len(bytes));
        }
        Err(_) => assert!(
            bytes.len() < CHANNEL_DATA_HEADER_LEN || {
                let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
                !(0x40..0x80).contains(&bytes[0])
                    || bytes[..2] == [0x7F, 0xFF]
                    || bytes.len() < CHANNEL_DATA_HEADER_LEN + length
            }
        ),
    }
    // A message of a method beyond 0x0FF parses, but its first byte is another protocol's.
    if let (Kind::Stun, Ok(message)) = (peek_kind(bytes), Message::parse(bytes)) {
        assert_eq!(Ok(Some(message.as_bytes().len())), frame_len(bytes));
    }
}

/// The whole frames of a stream of which `piece` bytes more arrive at a time, and how it ends.
fn frames(stream: &[u8], piece: usize) -> (Vec<&[u8]>, Result<Option<usize>, FrameError>) {
    let (mut frames, mut start, mut arrived) = (Vec::new(), 0, 0);
    loop {
        let last = frame_len(&stream[start..arrived]);
        match last {
            Ok(Some(length)) if length <= arrived - start => {
                assert!(length >= CHANNEL_DATA_HEADER_LEN);
                frames.push(&stream[start..start + length]);
                start += length;
            }
            Err(_) => return (frames, last),
            Ok(_) if arrived == stream.len() => return (frames, last),
            Ok(_) => arrived = stream.len().min(arrived + piece.max(1)),
        }
    }
}
