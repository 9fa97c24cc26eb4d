"""Send one Binding request to ADDRESS PORT; exit 0 when an answer with its transaction comes.

A STUN server answers it, and a UDP echo returns it: both are thereby known to be ready. The
socket is not connected, so that a closed port looks like a lost packet and is waited for.
"""

import os
import socket
import struct
import sys

TIMEOUT_S = 0.2
MAGIC_COOKIE = 0x2112A442
BINDING_REQUEST = 0x0001

address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
transaction = os.urandom(12)
request = struct.pack("!HHI", BINDING_REQUEST, 0, MAGIC_COOKIE) + transaction
with socket.socket(family, socket.SOCK_DGRAM) as probe:
    probe.settimeout(TIMEOUT_S)
    probe.sendto(request, (address, port))
    try:
        answer, _ = probe.recvfrom(2048)
    except TimeoutError:
        sys.exit(1)
sys.exit(0 if answer[8:20] == transaction else 1)
