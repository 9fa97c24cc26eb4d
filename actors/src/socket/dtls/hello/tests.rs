//! Hellos of OpenSSL, read, cut, altered and answered.

use std::io::{self, Read, Write};

use openssl::ssl::{Ssl, SslContext, SslMethod, SslStream};

use super::*;
use crate::clock;

/// What a client has written, and what it is to read.
#[derive(Default)]
struct Wire {
    written: Vec<Vec<u8>>,
    answer: Option<Vec<u8>>,
}

impl Read for Wire {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let answer = self.answer.take().ok_or(io::ErrorKind::WouldBlock)?;
        answer.as_slice().read(room)
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.written.push(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client that has said hello.
fn client() -> SslStream<Wire> {
    let context = SslContext::builder(SslMethod::dtls_client()).expect("a context").build();
    let mut ssl = Ssl::new(&context).expect("a client");
    ssl.set_connect_state();
    let mut stream = SslStream::new(ssl, Wire::default()).expect("a client");
    assert!(stream.do_handshake().is_err(), "it waits for an answer");
    stream
}

fn first_hello() -> Vec<u8> {
    client().get_ref().written[0].clone()
}

/// Both hellos of a client that gets `cookie` in between.
pub(in super::super) fn both_hellos(
    cookie: impl FnOnce(&Hello<'_>) -> [u8; COOKIE],
) -> (Vec<u8>, Vec<u8>) {
    let mut client = client();
    let first = client.get_ref().written[0].clone();
    let cookie = cookie(&Hello::parse(&first).expect("a hello"));
    client.get_mut().answer = Some(hello_verify_request(&cookie));
    assert!(client.do_handshake().is_err(), "it waits for an answer");
    (first, client.get_ref().written[1].clone())
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn hello_of_a_client_is_read() {
    let datagram = first_hello();
    let hello = Hello::parse(&datagram).expect("a hello");
    assert_eq!(0, hello.message_seq());
    assert!(hello.offers_dtls12());
    assert_eq!(datagram[27..59], hello.random());
    assert_eq!(b"", hello.cookie());
}

#[test]
fn hello_that_is_cut_off_at_any_place_is_none() {
    let datagram = first_hello();
    for length in 0..datagram.len() {
        assert_eq!(None, Hello::parse(&datagram[..length]), "{length} bytes");
    }
}

#[test]
fn hello_with_a_length_that_lies_is_none() {
    let datagram = first_hello();
    // Of the record, of the message, of its fragment, of session and cookie and suites, each high
    // and low.
    for place in [11, 12, 14, 15, 16, 19, 20, 21, 22, 23, 24, 59, 60, 61, 62] {
        for change in [1, 0x80] {
            let mut altered = datagram.clone();
            altered[place] ^= change;
            assert_eq!(None, Hello::parse(&altered), "byte {place} ^ {change}");
        }
    }
}

#[test]
fn what_is_no_hello_of_the_first_epoch_is_none() {
    let datagram = first_hello();
    for (place, value) in [(0, 23), (1, 3), (4, 1), (13, 2)] {
        let mut altered = datagram.clone();
        altered[place] = value;
        assert_eq!(None, Hello::parse(&altered), "byte {place} = {value}");
    }
}

#[test]
fn any_bytes_at_all_are_read_without_harm() {
    let datagram = first_hello();
    for place in 0..datagram.len() {
        for value in 0..=255 {
            let mut altered = datagram.clone();
            altered[place] = value;
            if let Some(hello) = Hello::parse(&altered) {
                assert!(hello.as_first().len() <= altered.len());
            }
        }
    }
}

#[test]
fn cookie_is_good_for_its_client_alone() {
    let now = clock::now();
    let mut cookies = Cookies::new(now);
    let client = address("192.0.2.1:5000");
    let (first, second) = both_hellos(|hello| cookies.mint(hello, client, now));
    let hello = Hello::parse(&second).expect("a hello");
    assert_eq!(1, hello.message_seq());

    assert!(cookies.verify(&hello, client, now));
    assert!(!cookies.verify(&hello, address("192.0.2.2:5000"), now), "another host");
    assert!(!cookies.verify(&hello, address("192.0.2.1:5001"), now), "another port");
    assert!(!cookies.verify(&Hello::parse(&first).expect("a hello"), client, now), "no cookie");
    assert!(!Cookies::new(now).verify(&hello, client, now), "another server");
}

#[test]
fn cookie_is_good_for_its_hello_alone() {
    let now = clock::now();
    let mut cookies = Cookies::new(now);
    let client = address("[2001:db8::1]:5000");
    let (_, second) = both_hellos(|hello| cookies.mint(hello, client, now));
    let cookie = Hello::parse(&second).expect("a hello").cookie;
    let body = second.len() - Hello::parse(&second).expect("a hello").body.len();
    // The random, the cookie, the first cipher suite.
    for place in [2, 33, cookie.start, cookie.end - 1, cookie.end + 3] {
        let mut altered = second.clone();
        altered[body + place] ^= 1;
        let hello = Hello::parse(&altered).expect("a hello still");
        assert!(!cookies.verify(&hello, client, now), "byte {place}");
    }
}

#[test]
fn cookie_outlives_one_change_of_the_secret_and_no_second() {
    let start = clock::now();
    let mut cookies = Cookies::new(start);
    let client = address("192.0.2.1:5000");
    let minted = start + SECRET_LIFETIME - Duration::from_secs(1);
    let (_, second) = both_hellos(|hello| cookies.mint(hello, client, minted));
    let hello = Hello::parse(&second).expect("a hello");

    assert!(cookies.verify(&hello, client, start + SECRET_LIFETIME));
    let later = start + 2 * SECRET_LIFETIME;
    assert!(cookies.verify(&hello, client, later - Duration::from_secs(1)));
    assert!(!cookies.verify(&hello, client, later));
}

#[test]
fn cookie_is_void_after_a_long_silence() {
    let start = clock::now();
    let mut cookies = Cookies::new(start);
    let client = address("192.0.2.1:5000");
    let (_, second) = both_hellos(|hello| cookies.mint(hello, client, start));
    let hello = Hello::parse(&second).expect("a hello");
    assert!(!cookies.verify(&hello, client, start + 2 * SECRET_LIFETIME));
}

#[test]
fn no_answer_is_larger_than_the_smallest_hello() {
    // Without extensions, with one cipher suite.
    let body = [&[0xFE, 0xFD][..], &[7; RANDOM], &[0, 0, 0, 2, 0xC0, 0x2B, 1, 0]].concat();
    let smallest = handshake_record(CLIENT_HELLO, &body);
    let hello = Hello::parse(&smallest).expect("a hello");

    assert!(hello_verify_request(&[0; COOKIE]).len() <= smallest.len());
    assert!(hello.refusal().len() <= smallest.len());
}

#[test]
fn first_hello_is_made_again_of_the_second() {
    let (first, second) = both_hellos(|_| [9; COOKIE]);
    let hello = Hello::parse(&second).expect("a hello");
    assert_eq!([9; COOKIE], hello.cookie());
    let (mut expected, mut again) = (first, hello.as_first());
    // The version of a record is anything before there is an agreement.
    expected.drain(1..3);
    again.drain(1..3);
    assert_eq!(expected, again);
}

#[test]
fn client_of_dtls_1_0_is_told_so_in_the_place_of_its_record() {
    let mut datagram = first_hello();
    datagram[5..11].copy_from_slice(&[1, 2, 3, 4, 5, 6]);
    datagram[26] = 0xFF;
    let hello = Hello::parse(&datagram).expect("a hello");
    assert!(!hello.offers_dtls12());
    assert_eq!([21, 0xFE, 0xFF, 0, 0, 1, 2, 3, 4, 5, 6, 0, 2, 2, 70], *hello.refusal());
}

#[test]
fn records_end_where_one_is_not_whole() {
    let one = [23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 9, 0, 2, 7, 7];
    let mut datagram = one.repeat(2);
    assert_eq!(2, records(&datagram).count());
    datagram.pop();
    let seen: Vec<Record<'_>> = records(&datagram).collect();
    assert_eq!(vec![Record { content: 23, epoch: 1, bytes: &one }], seen);
}
