from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import TargetAddressError
from rsp.transports.address import (
    Address,
    IpVersion,
    PipeAddress,
    ReplayAddress,
    Rfc2217Address,
    SerialAddress,
    TcpAddress,
    TelnetAddress,
    UdpAddress,
    UnixAddress,
    parse_address,
)

FORMS: list[tuple[str, Address]] = [
    (":1234", TcpAddress(host="localhost", port=1234)),
    ("host:1234", TcpAddress(host="host", port=1234)),
    ("10.0.0.1:65535", TcpAddress(host="10.0.0.1", port=65535)),
    ("tcp:host:1234", TcpAddress(host="host", port=1234)),
    ("tcp::1234", TcpAddress(host="localhost", port=1234)),
    ("tcp://host:1234", TcpAddress(host="host", port=1234)),
    ("tcp://host:1234/", TcpAddress(host="host", port=1234)),
    ("tcp://:1234", TcpAddress(host="localhost", port=1234)),
    ("tcp4:host:1234", TcpAddress(host="host", port=1234, version=IpVersion.V4)),
    ("tcp6::1234", TcpAddress(host="localhost", port=1234, version=IpVersion.V6)),
    ("[::1]:1234", TcpAddress(host="::1", port=1234)),
    ("tcp:[fe80::1%eth0]:1", TcpAddress(host="fe80::1%eth0", port=1)),
    ("tcp6:[::1]:1234", TcpAddress(host="::1", port=1234, version=IpVersion.V6)),
    ("udp:host:6443", UdpAddress(host="host", port=6443)),
    ("udp://:6443", UdpAddress(host="localhost", port=6443)),
    ("udp:[::1]:6443", UdpAddress(host="::1", port=6443)),
    ("unix:/run/gdb.sock", UnixAddress(path="/run/gdb.sock")),
    ("unix:gdb:1", UnixAddress(path="gdb:1")),
    ("/dev/ttyS0", SerialAddress(device="/dev/ttyS0")),
    ("/dev/ttyS0,9600", SerialAddress(device="/dev/ttyS0", baud=9600)),
    ("serial:///dev/ttyS0?baud=921600", SerialAddress(device="/dev/ttyS0", baud=921600)),
    ("serial:///dev/tty%20S0", SerialAddress(device="/dev/tty S0")),
    ("/dev/serial/by-id/usb-a:b-if00", SerialAddress(device="/dev/serial/by-id/usb-a:b-if00")),
    ("telnet://host:4444", TelnetAddress(host="host", port=4444)),
    ("telnet://[::1]:4444/", TelnetAddress(host="::1", port=4444)),
    ("rfc2217://host:4444", Rfc2217Address(host="host", port=4444)),
    ("rfc2217://host:4444?baud=9600", Rfc2217Address(host="host", port=4444, baud=9600)),
    ("| gdbserver - './my prog' :1", PipeAddress(command="gdbserver - './my prog' :1")),
    ("|cat", PipeAddress(command="cat")),
    ("replay:boot.rsplog", ReplayAddress(path="boot.rsplog")),
    ("  :1234\u00a0", TcpAddress(host="localhost", port=1234)),
]

SLIPS = [
    ("1234", "a colon before it: :1234"),
    ("localhost", "a host needs a port: localhost:1234"),
    ("", "there is no port"),
    (":", "the port is a number"),
    ("host:http", "the port is a number, not 'http'"),
    (":\u0661\u0662", "the port is a number"),
    (":0", "not between 1 and 65535"),
    (":65536", "not between 1 and 65535"),
    ("tcp:1234", "a colon before it: :1234"),
    ("::1:1234", r"in brackets: \[::1\]:1234"),
    ("[host]:1234", "no IPv6 address in the brackets"),
    ("a b:1234", "'a b' cannot be the name of a host"),
    ("user@host:22", "cannot be the name of a host"),
    ("tcp::1234,server=on,wait=off", "not part of it: :1234"),
    ("unix:/run/gdb,server=on", "not part of it: /run/gdb"),
    ("unix:", "no path after unix:"),
    ("http://host:80", "http:// is not spoken here"),
    ("telent://host:80", "is not spoken here .nearest: telnet"),
    ("udp:host", "a host needs a port: host:1234"),
    ("/dev/ttyS0,fast", "'fast' is no baud rate"),
    ("/dev/ttyS0,0", "'0' is no baud rate"),
    ("serial:///dev/ttyS0?speed=9600", "the only option is"),
    ("serial://COM1", "three slashes"),
    ("serial:/dev/ttyS0", "write it as serial:///dev/ttyS0"),
    ("telnet:host:23", "write it as telnet://host:port"),
    ("telnet://host:23?baud=9600", "takes no options"),
    ("rfc2217://host", "a host needs a port"),
    ("|", "no command after the bar"),
    ("| ''' ", "cannot be split into words"),
    ("replay:", "no file name after replay:"),
    ("host\n:1234", "control character"),
    ("serial:///dev/tty%0A", "control character"),
    ("unix:/\ud800", "no file name can have"),
]


@pytest.mark.parametrize(("text", "address"), FORMS)
def test_forms(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(("text", "slip"), SLIPS)
def test_slips_are_told(text: str, slip: str) -> None:
    with pytest.raises(TargetAddressError, match=slip) as caught:
        parse_address(text)
    assert caught.value.address == text
    assert "replay:boot.rsplog" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_long_text_is_shortened_in_the_message() -> None:
    with pytest.raises(TargetAddressError) as caught:
        parse_address("x" * 100_000)
    assert len(str(caught.value)) < 100_600


schemes = st.sampled_from(["tcp", "tcp4", "unix", "serial", "telnet", "rfc2217", "replay", "udp"])
marks = st.sampled_from([":", "://", "/", "|", "[", "]", ",", "?", "=", "%", "'", " "])
values = st.sampled_from(["::1", "baud", "9600", "1234", "host", "/dev/ttyS0", "\u00e9", "\udc80"])
escapes = st.sampled_from(["%2C", "%3F", "%0A", "%00", "%FF", "%20"])
tokens = schemes | marks | values | escapes
texts = st.lists(tokens | st.text(max_size=3), max_size=8).map("".join) | st.sampled_from(
    [text for text, _ in FORMS]
).flatmap(lambda text: st.text(max_size=3).map(lambda end: text + end))


@given(texts)
def test_any_text_is_an_address_or_the_typed_error(text: str) -> None:
    with contextlib.suppress(TargetAddressError):
        address = parse_address(text)
        again = parse_address(str(address))
        if again != address:
            raise AssertionError(f"{address!r} is spelled {address}, which is {again!r}")
