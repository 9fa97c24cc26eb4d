"""The table of cases, one line each, and the steps that its lines are made of.

A step is a function of the setting; the functions here that return one take what varies between
the lines of the table. The server runs before a step begins, and `suite.py` stops it after.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from browser import Browser
from certificates import NAME, Certificates
from checks import Failure, check, check_equal
from databases import (Database, MariaDb, Postgres, Redis, RedisCluster, RedisSentinel, Sqlite,
                       coturns, empty)
from firefox import Firefox
from hosts import Family, Host, Network
from server import PASSWORD, PORT, READY_TRIES, REST_SECRET, USER, answers
from stored import added_meanwhile, killed_and_restarted, own_users, taken_over
from turnutils import (BAD_DRAW, PEER_PORT, SUMMARY, WIDE_CHANNELS, Load, check_lossless,
                       in_parallel, peer_command, reflexive_address, uclient_command)

V4, V6 = Family.V4, Family.V6
BrowserKind = type[Browser] | type[Firefox]

# The server's URL, with places for what `url` knows.
UDP = "turn:{ip}:{port}?transport=udp"
TCP = "turn:{ip}:{port}?transport=tcp"
TLS = "turns:{ip}:{port}?transport=tcp"
TLS_BY_NAME = "turns:{name}:{port}?transport=tcp"
ENDS = Path(__file__).parent / "ends"

# A uclient run that comes to its end takes a sixth of this on a quiet machine.
UCLIENT_SECONDS = 60
# Passive clients never come to their end; this is twice what their messages take.
PASSIVE_SECONDS = 16
# Of so many runs one draws a version that the server speaks, in all but one of a thousand cases.
DTLS_DRAWS = 10
# An abused server has this long; what uclient still does then, or waits for, is cut off.
ABUSE_SECONDS = 15


@dataclass(frozen=True)
class Setting:
    """Where a case runs: the hosts, and a folder of its own for logs and profiles."""

    network: Network
    folder: Path
    made: Certificates
    binary: Path
    database: Database | None = None


Step = Callable[[Setting], None]


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    step: Step
    # What its turn.yaml has beyond `server.default_config`, by top-level key.
    config: dict[str, Any] = field(default_factory=dict)
    limit_s: int = 100
    # Where its users are kept, if not in turn.yaml, and for how long sterna remembers them.
    database: Callable[[Host, Path], Database] | None = None
    remembers: str = "60s"


def stun_address(family: Family) -> Step:
    """stunclient is told the address that it has."""
    def step(setting: Setting) -> None:
        network = setting.network
        command = ["turnutils_stunclient", "-p", str(PORT), network.relay.address(family)]
        done = network.alice.run(command, timeout=10)
        note(setting, command, done.stdout)
        check_equal(network.alice.address(family), reflexive_address(done.stdout),
                    "the reflexive address")
    return step


def relayed(flags: str, client: Family = V4, peer: Family | None = V4,
            load: Load = Load()) -> Step:
    """uclient loses nothing: to the echo peer of a family, or with None to another client."""
    def step(setting: Setting) -> None:
        output = uclient(setting, flags, client, peer, load, UCLIENT_SECONDS)
        if BAD_DRAW in output:
            print(f"     uclient says {BAD_DRAW!r}, as it may once: again")
            output = uclient(setting, flags, client, peer, load, UCLIENT_SECONDS)
        check_lossless(output, load)
    return step


def survived(flags: str, peer: Family | None, load: Load, tells: str, swarm: int = 1) -> Step:
    """After the abuse that uclient is good at, by several at once, a client is served as ever.

    The pattern `tells` is what the abusers say when the abuse took place. The client comes by the
    transport that was abused.
    """
    transport = [flag for flag in flags.split() if flag in ("-t", "-S")]
    def step(setting: Setting) -> None:
        output = uclient(setting, flags, V4, peer, load, ABUSE_SECONDS, swarm)
        check(re.search(tells, output) is not None, f"uclient did not say {tells!r}")
        relayed(" ".join(["-g", *transport]))(setting)
    return step


def uclient(setting: Setting, flags: str, client: Family, peer: Family | None, load: Load,
            seconds: float, swarm: int = 1) -> str:
    """Run uclient on alice's host, `swarm` times at once, and return what it said."""
    network = setting.network
    towards = ["-y"]
    if peer is not None:
        start_peer(setting)
        towards = ["-e", network.peer.address(peer), "-r", str(PEER_PORT)]
    command = uclient_command([*flags.split(), *load.flags(), *towards],
                              network.relay.address(client))
    done = network.alice.run(in_parallel(command, swarm), timeout=seconds)
    note(setting, command, done.stdout)
    return done.stdout


def dtls_version_drawn(flags: str, load: Load) -> Step:
    """uclient over DTLS, whose version it draws: 1.0 by chance, which no server has to speak."""
    def step(setting: Setting) -> None:
        for _ in range(DTLS_DRAWS):
            output = uclient(setting, flags, V4, V4, load, UCLIENT_SECONDS)
            if SUMMARY.search(output) is not None:
                break
            print("     uclient did not get through, as with DTLS 1.0: again")
        check_lossless(output, load)
    return step


def passive_tcp(load: Load) -> Step:
    """uclient's passive mode: one of each pair is connected to, and only its messages come back.

    That is all that comes with coturn's server, too, and uclient waits for the rest.
    """
    def step(setting: Setting) -> None:
        output = uclient(setting, f"-P -L {setting.network.alice.v4}", V4, None, load,
                         PASSIVE_SECONDS)
        counts = [int(count) for count in re.findall(r"tot_recv_msgs=(\d+)", output)]
        expected = load.sessions * load.messages // 2
        check_equal(expected, max(counts, default=0), "messages received")
    return step


def openssl_binding(flags: str, says: list[str], port: int = PORT) -> Step:
    """s_client trusts the server's certificate, and a Binding request is answered inside."""
    def step(setting: Setting) -> None:
        network = setting.network
        command = [sys.executable, "-ES", "-B", str(ENDS / "s_client.py"),
                   f"{network.relay.v4}:{port}", str(setting.made.authority), *flags.split()]
        done = network.alice.run(command, timeout=20)
        note(setting, command, done.stdout)
        check_equal(0, done.returncode, "the exit code of the end")
        result = json.loads(done.stdout)
        for words in says:
            check(words in result["said"], f"s_client did not say {words!r}")
        check_equal(network.alice.v4, result["address"], "the reflexive address")
    return step


def nice_agents(messages: int, transport: str) -> Step:
    """Two libnice agents exchange paced messages."""
    def step(setting: Setting) -> None:
        options = credentials() | {"server": [setting.network.relay.v4, PORT],
                                   "transport": transport, "messages": messages}
        for result in converse(setting, "nice.py", options):
            check_exchange(result, messages)
    return step


def start_peer(setting: Setting) -> None:
    """Have the echo peer run on its host."""
    relay, peer = setting.network.relay, setting.network.peer
    if answers(relay, peer.v4, PEER_PORT):
        return
    with (setting.folder / "peer.log").open("w") as log:
        peer.spawn(peer_command(peer), stdin=subprocess.DEVNULL, stdout=log,
                   stderr=subprocess.STDOUT)
    for _ in range(READY_TRIES):
        if answers(relay, peer.v4, PEER_PORT) and answers(relay, peer.v6, PEER_PORT):
            return
    raise Failure("the echo peer does not answer")


def ice_pair(messages: int, interval_s: float, channel_refresh_s: int, least_binds: int,
             transport: str = "udp", tls: bool = False) -> Step:
    """Two aioice connections exchange paced messages, each channel bound so often at least."""
    def step(setting: Setting) -> None:
        options = credentials() | {
            "server": [setting.network.relay.v4, PORT], "transport": transport, "tls": tls,
            "messages": messages, "interval_s": interval_s,
            "channel_refresh_s": channel_refresh_s,
        }
        for result in converse(setting, "ice.py", options):
            check_exchange(result, messages)
            check(result["binds"] >= least_binds,
                  f"channel bindings: expected {least_binds} at least, got {result['binds']}")
    return step


def peer_connections(messages: int, scheme: str = UDP) -> Step:
    """Two aiortc peer connections exchange messages over a data channel."""
    def step(setting: Setting) -> None:
        options = credentials() | {"urls": url(setting, scheme), "messages": messages}
        for result in converse(setting, "webrtc.py", options):
            check_exchange(result, messages)
    return step


def converse(setting: Setting, program: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a program of ends/ on both client hosts, carry their signals, return their results."""
    offerer, answerer = (
        start_end(setting, host, program, role, options)
        for host, role in [(setting.network.alice, "offer"), (setting.network.bob, "answer")])
    tell(answerer, heard_from(offerer, "the offerer"))
    tell(offerer, heard_from(answerer, "the answerer"))
    results = [heard_from(offerer, "the offerer"), heard_from(answerer, "the answerer")]
    for end in [offerer, answerer]:
        tell(end, "close")
    for end in [offerer, answerer]:
        check_equal(0, end.wait(), "the exit code of an end")
    return results


def start_end(setting: Setting, host: Host, program: str, role: str,
              options: dict[str, Any]) -> subprocess.Popen[str]:
    """Start one end; what it says on standard error goes to its log."""
    with (setting.folder / f"{role}.log").open("w") as log:
        # The variable is OpenSSL's, which Python's TLS asks whom to trust.
        return host.spawn([sys.executable, "-B", str(ENDS / program), role, json.dumps(options)],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                          env=os.environ | {"SSL_CERT_FILE": str(setting.made.authority)})


def tell(end: subprocess.Popen[str], document: Any) -> None:
    """Write one document to an end."""
    assert end.stdin is not None, "ends are started with pipes"
    end.stdin.write(json.dumps(document) + "\n")
    end.stdin.flush()


def heard_from(end: subprocess.Popen[str], name: str) -> Any:
    """Read one document from an end."""
    assert end.stdout is not None, "ends are started with pipes"
    line = end.stdout.readline()
    check(line != "", f"{name} ended by itself")
    return json.loads(line)


def browser_channel(messages: int, scheme: str = UDP, kind: BrowserKind = Browser) -> Step:
    """Two browsers exchange messages over a data channel, each in order."""
    def step(setting: Setting) -> None:
        both = browsers(setting, "offerChannel", scheme, kind)
        for browser in both:
            browser.call("send", messages)
        for browser in both:
            check_equal(expected_messages(messages), browser.call("receive", messages),
                        "the messages received")
        close(both)
    return step


def browser_video(frames: int, scheme: str = UDP, kind: BrowserKind = Browser) -> Step:
    """One browser sends its fake camera's video, the other decodes frame after frame."""
    def step(setting: Setting) -> None:
        sender, receiver = browsers(setting, "offerVideo", scheme, kind)
        first = receiver.call("framesBeyond", 0)
        later = receiver.call("framesBeyond", first + frames)
        check(later > first + frames, f"decoded frames: {first}, later {later}")
        close([sender, receiver])
    return step


def browsers(setting: Setting, offer: str, scheme: str,
             kind: BrowserKind) -> list[Browser | Firefox]:
    """Two connected browsers that may only use relayed candidates, the offerer first."""
    network, folder = setting.network, setting.folder
    servers = [{"urls": url(setting, scheme), "username": USER, "credential": PASSWORD}]
    offerer = kind(network.alice, folder, "offerer", setting.made)
    answerer = kind(network.bob, folder, "answerer", setting.made)
    answer = answerer.call("answer", servers, offerer.call(offer, servers))
    offerer.call("accept", answer)
    for browser in [offerer, answerer]:
        check_equal(["relay", "relay"], browser.call("selectedTypes"), "the candidates in use")
    return [offerer, answerer]


def close(both: list[Browser | Firefox]) -> None:
    """End the browsers."""
    for browser in both:
        browser.close()


def check_exchange(result: dict[str, Any], messages: int) -> None:
    """An end had relayed candidates only, and got every message in order."""
    for side in ["local", "remote"]:
        check(set(result[side]) == {"relay"}, f"{side} candidates: {result[side]}")
    check_equal(expected_messages(messages), result["received"], "the messages received")


def expected_messages(messages: int) -> list[str]:
    """What an end receives when nothing is lost and nothing overtakes."""
    return [f"message {number}" for number in range(messages)]


def credentials() -> dict[str, str]:
    """The user of `server.default_config`, as the ends take it."""
    return {"username": USER, "password": PASSWORD}


def url(setting: Setting, scheme: str) -> str:
    """The server's TURN URL: UDP, TCP, TLS or TLS_BY_NAME."""
    return scheme.format(ip=setting.network.relay.v4, name=NAME, port=PORT)


def note(setting: Setting, command: list[str], output: str) -> None:
    """Keep what a tool printed, for the report on a failure."""
    with (setting.folder / "tool.log").open("a") as log:
        log.write(f"$ {' '.join(command)}\n{output}\n")


def wide(name: str, step: Step) -> Case:
    """A case with channels of uclient's, whose numbers are those of RFC 5766."""
    return Case(f"uclient: {name}", step, WIDE_CHANNELS)


# What abusers say that have come as far as sending data.
RELAYED = r"tot_send_msgs=[1-9]"
# What they say that ask for more than they wait for.
HASTY = "wrong response tid"
VERIFIED = "Verify return code: 0 (ok)"
TLS_1_3 = ["New, TLSv1.3", "ALPN protocol: stun.turn", VERIFIED]
TLS_1_2 = ["New, TLSv1.2", "ALPN protocol: stun.nat-discovery", VERIFIED]
DTLS_1_2 = ["DTLSv1.2", VERIFIED]

# Without -c uclient works in pairs: EVEN-PORT with the R bit, then the RESERVATION-TOKEN.
CASES = [
    Case("stunclient: IPv4", stun_address(V4)),
    Case("stunclient: IPv6", stun_address(V6)),
    wide("channels in port pairs", relayed("-X")),
    wide("channels", relayed("-X -c")),
    Case("uclient: Send in port pairs", relayed("-X -s")),
    Case("uclient: Send", relayed("-X -s -c")),
    wide("channels, IPv6 relay", relayed("-x", V6, V6)),
    Case("uclient: Send, IPv6 relay for an IPv4 client", relayed("-x -s", V4, V6)),
    wide("channels, IPv4 relay for an IPv6 client", relayed("-X -c", V6, V4)),
    wide("client to client, channels in port pairs", relayed("", peer=None)),
    Case("uclient: client to client, Send", relayed("-s -c", peer=None)),
    Case("uclient: client to client, Send, IPv6 relay", relayed("-x -s", V6, None)),
    wide("many small messages", relayed("-c -z 1", load=Load(messages=400, length=16))),
    wide("messages above the MTU", relayed("-c -X -z 1", load=Load(messages=100, length=1900))),
    wide("padded ChannelData", relayed("-D -X", load=Load(length=171))),
    wide("don't fragment, channels", relayed("-g -X", load=Load(length=1200))),
    Case("uclient: don't fragment, Send", relayed("-g -s -X", load=Load(length=1200))),
    wide("time-limited credentials", relayed(f"-W {REST_SECRET} -X")),
    wide("extra requests", relayed("-G -X", load=Load(sessions=4))),
    wide("after negative tests", survived("-N", V4, Load(4, 1), BAD_DRAW)),
    wide("after corrupt messages", survived("-R -c -z 5", V4, Load(1, 200), RELAYED, swarm=8)),
    wide("after a flood, padded", survived("-O -D -G -X -g", V4, Load(12, 1), HASTY, swarm=4)),
    wide("after a flood, client to client",
         survived("-O -G -s", None, Load(12, 1), HASTY, swarm=4)),
    wide("after clients that left", survived("-B -X -z 0", V4, Load(12, 40), "tot_send_msgs=40,")),
    Case("aioice: relay to relay", ice_pair(30, 0.05, channel_refresh_s=500, least_binds=1)),
    Case("aioice: channels refreshed, short lifetimes",
         ice_pair(100, 0.06, channel_refresh_s=1, least_binds=4),
         {"lifetimes": {"allocation": "3s", "allocation_max": "3s", "permission": "2s",
                        "channel": "2s"}}),
    Case("aiortc: data channel", peer_connections(300)),
    Case("Chromium: data channel", browser_channel(1000)),
    Case("Chromium: video", browser_video(60), limit_s=90),
    wide("channels over TCP", relayed("-t -X -c")),
    wide("channels over TCP, IPv6", relayed("-t -x -c", V6, V6)),
    Case("uclient: Send over TCP", relayed("-t -X -s -c")),
    wide("padded lengths over TCP", relayed("-t -X -c", load=Load(length=171))),
    wide("client to client over TCP", relayed("-t -c", peer=None)),
    wide("many small messages over TCP", relayed("-t -c -X -z 1", load=Load(4, 400, 16))),
    wide("channels over TLS", relayed("-t -S -X -c")),
    wide("channels over TLS, IPv6", relayed("-t -S -x -c", V6, V6)),
    Case("uclient: Send over TLS", relayed("-t -S -X -s -c")),
    wide("many small messages over TLS", relayed("-t -S -c -X -z 1", load=Load(4, 400, 16))),
    wide("after corrupt messages over TCP",
         survived("-t -R -c -z 5", V4, Load(1, 200), RELAYED, swarm=8)),
    Case("uclient: channels over DTLS", dtls_version_drawn("-S -X -c", Load()), WIDE_CHANNELS,
         limit_s=DTLS_DRAWS * UCLIENT_SECONDS),
    Case("uclient: TCP relay", relayed("-T -c", peer=None)),
    Case("uclient: TCP relay over TLS", relayed("-T -S -c", peer=None)),
    Case("uclient: TCP relay, passive", passive_tcp(Load(4, 20))),
    Case("openssl: TLS 1.3", openssl_binding("-tls1_3 -alpn stun.turn", TLS_1_3)),
    Case("openssl: TLS 1.2", openssl_binding("-tls1_2 -alpn stun.nat-discovery", TLS_1_2)),
    Case("openssl: DTLS 1.2", openssl_binding("-dtls1_2", DTLS_1_2)),
    Case("aioice: relay to relay over TCP",
         ice_pair(30, 0.05, channel_refresh_s=500, least_binds=1, transport="tcp")),
    Case("aioice: relay to relay over TLS",
         ice_pair(30, 0.05, channel_refresh_s=500, least_binds=1, transport="tcp", tls=True)),
    Case("aiortc: data channel over TLS", peer_connections(300, TLS)),
    Case("libnice: relay to relay", nice_agents(50, "udp")),
    Case("libnice: relay to relay over TCP", nice_agents(50, "tcp")),
    Case("Chromium: data channel over TCP", browser_channel(1000, TCP)),
    Case("Chromium: video over TCP", browser_video(60, TCP), limit_s=90),
    Case("Chromium: data channel over TLS", browser_channel(1000, TLS)),
    Case("Chromium: video over TLS", browser_video(60, TLS), limit_s=90),
    Case("Firefox: data channel", browser_channel(1000, UDP, Firefox), limit_s=90),
    Case("Firefox: data channel over TCP", browser_channel(1000, TCP, Firefox), limit_s=90),
    Case("Firefox: data channel over TLS", browser_channel(1000, TLS_BY_NAME, Firefox), limit_s=90),
    Case("Firefox: video over TLS", browser_video(60, TLS_BY_NAME, Firefox), limit_s=90),
    Case("stores: coturn's SQLite", added_meanwhile, database=coturns(Sqlite), remembers="1s"),
    Case("stores: coturn's Redis", added_meanwhile, database=coturns(Redis), remembers="1s"),
    Case("stores: PostgreSQL, killed", killed_and_restarted, database=coturns(Postgres)),
    Case("stores: MariaDB, killed", killed_and_restarted, database=coturns(MariaDb)),
    Case("stores: Redis, killed", killed_and_restarted, database=coturns(Redis)),
    Case("stores: Redis with Sentinel", taken_over, database=coturns(RedisSentinel)),
    Case("stores: own users in SQLite", own_users, database=empty(Sqlite), remembers="1s"),
    Case("stores: own users in PostgreSQL", own_users, database=empty(Postgres), remembers="1s"),
    Case("stores: own users in MariaDB", own_users, database=empty(MariaDb), remembers="1s"),
    Case("stores: own users in Redis Cluster", own_users, database=empty(RedisCluster),
         remembers="1s"),
]
