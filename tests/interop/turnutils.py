"""coturn's command line tools: how they are called, and what their output means.

Debian 12 has coturn 4.6.1, whose uclient differs from RFC 8656 and from later versions:
- it picks channel numbers from 0x4000 to 0x7FFF, as RFC 5766 allowed, while RFC 8656 ends at
  0x4FFF: its channel cases need `stun.rfc5766_channel_numbers`;
- among these it may draw 0x7FFF, which RFC 5766 excludes, or one number twice: about once in a
  thousand runs a right server answers a ChannelBind with 400, and the run is made again;
- its -Z asks for both address families by an attribute number of a draft (0x8032), which servers
  of RFC 8656 do not know: no case uses it;
- beside each client or pair it makes one allocation more, and leaves it behind without a word;
- a message lost during the set-up may make it wait forever: each run has a time limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from checks import Failure, check, check_equal
from hosts import Family, Host
from server import PASSWORD, PORT, USER

WIDE_CHANNELS = {"stun": {"rfc5766_channel_numbers": True}}
PEER_PORT = 3480
BAD_DRAW = "channel bind: error 400"

SUMMARY = re.compile(
    r"start_mclient: tot_send_msgs=(\d+), tot_recv_msgs=(\d+)\n"
    r".*start_mclient: tot_send_bytes ~ (\d+), tot_recv_bytes ~ (\d+)\n"
    r"(?:.*\n)*?"
    r".*Total lost packets (\d+) .*total send dropped (\d+) ")


@dataclass(frozen=True)
class Load:
    """What one run of uclient sends: `sessions` is -m, a multiple of four, which uclient keeps."""

    sessions: int = 12
    messages: int = 40
    length: int = 170

    def flags(self) -> list[str]:
        """The load as uclient's flags."""
        return ["-m", str(self.sessions), "-n", str(self.messages), "-l", str(self.length)]


def uclient_command(flags: list[str], server: str) -> list[str]:
    """The command line of a uclient run; flags with credentials of their own win."""
    credentials = [] if "-W" in flags else ["-w", PASSWORD]
    return ["turnutils_uclient", "-u", USER, *credentials, "-p", str(PORT), *flags, server]


def in_parallel(command: list[str], copies: int) -> list[str]:
    """A command line that runs another so many times at once."""
    return ["bash", "-c", f'for _ in $(seq {copies}); do "$@" & done; wait', "copies", *command]


def check_lossless(output: str, load: Load) -> None:
    """Every message sent came back, whole, and once."""
    summary = SUMMARY.search(output)
    if summary is None:
        raise Failure("uclient did not get to its summary")
    sent, received, sent_bytes, received_bytes, lost, dropped = map(int, summary.groups())
    expected = load.sessions * load.messages
    check_equal(expected, sent, "messages sent")
    check_equal(expected, received, "messages received")
    check_equal(expected * load.length, sent_bytes, "bytes sent")
    check_equal(expected * load.length, received_bytes, "bytes received")
    check_equal(0, lost, "packets lost")
    check_equal(0, dropped, "packets not sent")
    check("ERROR" not in output, "uclient met an error")


def reflexive_address(output: str) -> str:
    """The address that stunclient was told, without the port."""
    told = re.search(r"UDP reflexive addr: (\S+):\d+\s", output)
    if told is None:
        raise Failure("stunclient printed no reflexive address")
    return told.group(1).strip("[]")


def peer_command(peer: Host) -> list[str]:
    """The echo peer on both families, on PEER_PORT and the port above."""
    listen = [flag for family in Family for flag in ("-L", peer.address(family))]
    return ["turnutils_peer", "-p", str(PEER_PORT), *listen]
