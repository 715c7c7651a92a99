"""What both client scripts share: the environment, name resolution, and one printed line per check."""

import os
import socket
import sys
import traceback

HOST = "127.0.0.1"
PORT = int(os.environ["OSS_PORT"])
SKEWED_PORT = int(os.environ["OSS_SKEWED_PORT"])
STS_PORT = int(os.environ["OSS_STS_PORT"])
REGION = os.environ["OSS_REGION"]
BUCKET = os.environ["OSS_BUCKET"]
KEY_ID = os.environ["OSS_ACCESS_KEY_ID"]
KEY_SECRET = os.environ["OSS_ACCESS_KEY_SECRET"]
TOKEN = os.environ["OSS_STS_TOKEN"]
# Temporary keys on the STS server: one pair is good for an hour, one has run out.
GOOD_ID, EXPIRED_ID = "STS.good", "STS.expired"
CUSTOM_DOMAIN = "files.hospital.example"

# Keys that clients get wrong: each has to arrive as the same object that was signed.
KEYS = [
    "plain.txt",
    "dir/sub/plain.txt",
    "with space.txt",
    "plus+plus.txt",
    "percent%20literal.txt",
    "slash%2Fliteral.txt",
    "100%.txt",
    "question?x=1&y#z",
    "tilde~!*'().txt",
    "a//b",
    "trailing/",
    " outer spaces ",
    "中文/文献 筛选.pdf",
    "emoji-\U0001F600.txt",
    "=@:,;$",
]

_resolve = socket.getaddrinfo


def _getaddrinfo(host, *rest, **named):
    if host == CUSTOM_DOMAIN or (host or "").endswith(".localhost"):
        host = HOST
    return _resolve(host, *rest, **named)


# Not every resolver knows names under localhost, and the custom domain exists only here.
socket.getaddrinfo = _getaddrinfo

_passed = 0
_failed = 0


def check(name, work):
    """Runs one check and prints how it went."""
    global _passed, _failed
    try:
        work()
    except Exception:  # a failed check must not hide the next ones
        _failed += 1
        print(f"FAIL {name}", flush=True)
        traceback.print_exc(file=sys.stdout)
    else:
        _passed += 1
        print(f"ok {name}", flush=True)


def finish():
    """The line that the Rust side reads, and the exit status."""
    print(f"checks: {_passed} passed, {_failed} failed", flush=True)
    sys.exit(1 if _failed or not _passed else 0)


def equal(found, wanted):
    if found != wanted:
        raise AssertionError(f"found {found!r}, wanted {wanted!r}")


def refused(kind, status, code, work):
    """`work` must raise `kind` with this status and code; gives the exception."""
    try:
        work()
    except kind as error:
        equal((error.status, error.code), (status, code))
        return error
    raise AssertionError(f"not refused, {status} {code} was expected")
