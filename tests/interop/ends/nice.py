"""One end of a libnice agent that may only use its relayed candidate.

Arguments: offer|answer, and a JSON document with server, username, password, transport (udp or
tcp) and messages. Sends the numbered messages at a pace while it receives the other end's, and
reports what came. libnice is called as it is, by its C functions.
"""

import ctypes
import json
import re
import sys
import threading
import time
from typing import Any

NICE = ctypes.CDLL("libnice.so.10")
GLIB = ctypes.CDLL("libglib-2.0.so.0")
GOBJECT = ctypes.CDLL("libgobject-2.0.so.0")

RFC5245 = 0
RELAY_TYPES = {"udp": 0, "tcp": 1}
COMPONENT = 1
READY = 4
INTERVAL_S = 0.02
PATIENCE_S = 20

RECEIVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint,
                           ctypes.c_void_p, ctypes.c_void_p)
DONE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p)

GLIB.g_main_context_new.restype = ctypes.c_void_p
GLIB.g_main_loop_new.restype = ctypes.c_void_p
GLIB.g_main_loop_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
GLIB.g_main_loop_run.argtypes = [ctypes.c_void_p]
GOBJECT.g_object_set.argtypes = [ctypes.c_void_p]
GOBJECT.g_signal_connect_data.argtypes = [
    ctypes.c_void_p, ctypes.c_char_p, DONE, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
NICE.nice_agent_new.restype = ctypes.c_void_p
NICE.nice_agent_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
NICE.nice_agent_add_stream.argtypes = [ctypes.c_void_p, ctypes.c_uint]
NICE.nice_agent_set_stream_name.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_char_p]
NICE.nice_agent_set_relay_info.argtypes = [
    ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_char_p, ctypes.c_uint,
    ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]
NICE.nice_agent_attach_recv.argtypes = [
    ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, RECEIVE, ctypes.c_void_p]
NICE.nice_agent_gather_candidates.argtypes = [ctypes.c_void_p, ctypes.c_uint]
NICE.nice_agent_generate_local_sdp.argtypes = [ctypes.c_void_p]
NICE.nice_agent_generate_local_sdp.restype = ctypes.c_char_p
NICE.nice_agent_parse_remote_sdp.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
NICE.nice_agent_get_component_state.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
NICE.nice_agent_send.argtypes = [
    ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint, ctypes.c_char_p]


class Agent:
    """A libnice agent with one stream of one component."""

    def __init__(self, controlling: bool, options: dict[str, Any]) -> None:
        self.received: list[str] = []
        self._gathered = threading.Event()
        # The library calls these as long as the agent lives.
        self._take = RECEIVE(self._received)
        self._done = DONE(lambda *_: self._gathered.set())
        context = GLIB.g_main_context_new()
        self._agent = NICE.nice_agent_new(context, RFC5245)
        for name, value in [(b"controlling-mode", controlling), (b"force-relay", True),
                            (b"upnp", False)]:
            GOBJECT.g_object_set(self._agent, name, ctypes.c_int(value), None)
        GOBJECT.g_signal_connect_data(
            self._agent, b"candidate-gathering-done", self._done, None, None, 0)
        self._stream = NICE.nice_agent_add_stream(self._agent, 1)
        NICE.nice_agent_set_stream_name(self._agent, self._stream, b"application")
        address, port = options["server"]
        NICE.nice_agent_set_relay_info(
            self._agent, self._stream, COMPONENT, address.encode(), port,
            options["username"].encode(), options["password"].encode(),
            RELAY_TYPES[options["transport"]])
        NICE.nice_agent_attach_recv(
            self._agent, self._stream, COMPONENT, context, self._take, None)
        loop = GLIB.g_main_loop_new(context, 0)
        threading.Thread(target=GLIB.g_main_loop_run, args=[loop], daemon=True).start()

    def _received(self, _agent: int, _stream: int, _component: int, length: int, data: int,
                  _user: int) -> None:
        self.received.append(ctypes.string_at(data, length).decode())

    def description(self) -> str:
        """Gather candidates; the local description."""
        assert NICE.nice_agent_gather_candidates(self._agent, self._stream), "no gathering"
        assert self._gathered.wait(PATIENCE_S), "the gathering does not end"
        sdp: bytes = NICE.nice_agent_generate_local_sdp(self._agent)
        return sdp.decode()

    def learn(self, remote: str) -> None:
        """Take in the other end's description."""
        added = NICE.nice_agent_parse_remote_sdp(self._agent, remote.encode())
        assert added > 0, f"the other end has no candidate: {remote}"

    def is_ready(self) -> bool:
        """Whether a pair of candidates was selected."""
        state = NICE.nice_agent_get_component_state(self._agent, self._stream, COMPONENT)
        return bool(state == READY)

    def send(self, text: str) -> None:
        """Send one message."""
        data = text.encode()
        sent = NICE.nice_agent_send(self._agent, self._stream, COMPONENT, len(data), data)
        assert sent == len(data), f"{sent} bytes of {len(data)} sent"


def until(holds: Any, otherwise: str) -> None:
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, otherwise
        time.sleep(0.02)


def candidate_types(sdp: str) -> list[str]:
    """The types of the candidates in a description."""
    return re.findall(r"^a=candidate:.* typ (\S+)", sdp, re.MULTILINE)


def say(document: Any) -> None:
    """Hand one document to the suite."""
    print(json.dumps(document), flush=True)


def hear() -> Any:
    """The other end's document, when the suite brings it."""
    line = sys.stdin.readline()
    assert line, "the suite went away"
    return json.loads(line)


def main(role: str, options: dict[str, Any]) -> None:
    """Connect, exchange the messages, report."""
    agent = Agent(role == "offer", options)
    if role == "offer":
        local = agent.description()
        say(local)
        remote = hear()
    else:
        remote = hear()
        local = agent.description()
        say(local)
    agent.learn(remote)
    until(agent.is_ready, "no pair of candidates works")
    messages = options["messages"]
    for number in range(messages):
        agent.send(f"message {number}")
        time.sleep(INTERVAL_S)
    until(lambda: len(agent.received) >= messages, "not every message came")
    say({"local": candidate_types(local), "remote": candidate_types(remote),
         "received": agent.received})
    # The other end may still want what is on its way: both end when both have reported.
    hear()


main(sys.argv[1], json.loads(sys.argv[2]))
