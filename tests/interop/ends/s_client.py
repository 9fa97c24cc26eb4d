"""Send a STUN Binding request through `openssl s_client`; print what it and the server said.

Arguments: ADDRESS:PORT, the authority's file, and further flags for s_client. Prints one JSON
document: what s_client says of the handshake, and the address that the server saw, or null.
"""

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time

PATIENCE_S = 8
MAGIC_COOKIE = 0x2112A442
BINDING_REQUEST, BINDING_SUCCESS = 0x0001, 0x0101
XOR_MAPPED_ADDRESS = 0x0020
HEADER_LEN = 20
# What s_client writes when the handshake is over, TLS 1.3 tickets aside.
SHAKEN = b"Verify return code:"


def mapped_address(attributes: bytes) -> str | None:
    """The IPv4 address in XOR-MAPPED-ADDRESS."""
    while len(attributes) >= 4:
        kind, length = struct.unpack_from("!HH", attributes)
        value = attributes[4:4 + length]
        if kind == XOR_MAPPED_ADDRESS and len(value) == 8:
            (address,) = struct.unpack_from("!I", value, 4)
            return socket.inet_ntoa(struct.pack("!I", address ^ MAGIC_COOKIE))
        attributes = attributes[4 + (length + 3) // 4 * 4:]
    return None


def answer_in(said: bytes, transaction: bytes) -> bytes | None:
    """The attributes of the answer, when it is whole."""
    marker = struct.pack("!I", MAGIC_COOKIE) + transaction
    at = said.find(marker) - 4
    if at < 0:
        return None
    kind, length = struct.unpack_from("!HH", said, at)
    body = said[at + HEADER_LEN:at + HEADER_LEN + length]
    return body if kind == BINDING_SUCCESS and len(body) == length else None


def main(server: str, authority: str, flags: list[str]) -> None:
    """One handshake, one request, one answer."""
    client = subprocess.Popen(
        ["openssl", "s_client", "-connect", server, "-CAfile", authority,
         "-verify_return_error", "-ign_eof", *flags],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert client.stdin is not None and client.stdout is not None, "it is started with pipes"
    transaction = os.urandom(12)
    request = struct.pack("!HHI", BINDING_REQUEST, 0, MAGIC_COOKIE) + transaction
    said, asked, answer = b"", False, None
    end = time.monotonic() + PATIENCE_S
    while answer is None and (left := end - time.monotonic()) > 0:
        readable, _, _ = select.select([client.stdout], [], [], left)
        piece = os.read(client.stdout.fileno(), 65536) if readable else b""
        if not piece:
            break
        said += piece
        if not asked and SHAKEN in said:
            os.write(client.stdin.fileno(), request)
            asked = True
        answer = answer_in(said, transaction)
    client.kill()
    client.wait()
    print(json.dumps({"said": said.decode(errors="replace"),
                      "address": mapped_address(answer) if answer is not None else None}))


main(sys.argv[1], sys.argv[2], sys.argv[3:])
