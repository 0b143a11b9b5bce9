"""An independent client for both TLS listeners of an edge, on tlslite-ng: well-behaved, and broken in every way that a list of
cases names. Prints one JSON object for each case; ends with 1 if any failed.

usage: probe.py AGENTS_PORT CONNECTORS_PORT TUNNEL SECRET
"""

import json
import random
import socket
import struct
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey
from tlslite.errors import TLSAbruptCloseError, TLSLocalAlert, TLSRemoteAlert
from tlslite.messages import Finished

HOST = "127.0.0.1"
# An edge gives a stranger 10 s. Who hears nothing for longer has been forgotten.
PATIENCE = 30
HANDSHAKE, ALERT, CCS, DATA = 22, 21, 20, 23
LINK, ENROL, HTTP = b"adit/1", b"adit-enrol/1", b"http/1.1"

ALERTS = {
    "bad_record_mac": 20,
    "record_overflow": 22,
    "handshake_failure": 40,
    "illegal_parameter": 47,
    "decode_error": 50,
    "decrypt_error": 51,
    "protocol_version": 70,
    "no_application_protocol": 120,
}


def settings(least=(3, 4), most=(3, 4)):
    made = HandshakeSettings()
    made.minVersion, made.maxVersion = least, most
    # Post-quantum groups are tried by others; here the first flight shall be small, for it is cut at every byte.
    made.eccCurves = ["x25519", "secp256r1"]
    made.keyShares = ["x25519"]
    # It would compress its own certificate because it offered to read compressed ones.
    made.certificate_compression_send, made.certificate_compression_receive = [], []
    return made


def dial(port):
    made = socket.create_connection((HOST, port), timeout=PATIENCE)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def handshake(port, alpn, name=b"localhost", using=None, connection=TLSConnection, chain=None, key=None):
    made = connection(dial(port))
    made.handshakeClientCert(
        chain, key, settings=using or settings(), serverName=name.decode() if name else None, alpn=[alpn] if alpn else None
    )
    return made


class Capture:
    """Takes what a client says first, and answers nothing."""

    def __init__(self):
        self.sent = b""

    def send(self, data):
        self.sent += bytes(data)
        return len(data)

    def sendall(self, data):
        self.sent += bytes(data)

    def recv(self, _):
        raise EOFError

    def close(self):
        pass


def client_hello(alpn, using=None):
    """The record in which a client's first message comes."""
    capture = Capture()
    try:
        TLSConnection(capture).handshakeClientCert(settings=using or settings(), serverName="localhost", alpn=[alpn])
    except Exception:  # It ends somehow: nobody answers.
        pass
    assert capture.sent[0] == HANDSHAKE
    length = struct.unpack("!H", capture.sent[3:5])[0]
    return capture.sent[: 5 + length]


def record(kind, payload, version=(3, 1)):
    return bytes([kind, *version]) + struct.pack("!H", len(payload)) + payload


def exchange(port, *pieces, stop=True):
    """Sends pieces, finishes, and gives the records that came until the end."""
    heard = b""
    with dial(port) as made:
        try:
            for piece in pieces:
                made.sendall(piece)
            if stop:
                made.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # It has had enough already.
        try:
            while piece := made.recv(16384):
                heard += piece
        except ConnectionError:
            pass
    records = []
    while len(heard) >= 5:
        length = struct.unpack("!H", heard[3:5])[0]
        records.append((heard[0], heard[5 : 5 + length]))
        heard = heard[5 + length :]
    return records


def began(records):
    return bool(records) and records[0][0] == HANDSHAKE


def alert_of(records):
    return next((body[1] for kind, body in records if kind == ALERT and len(body) == 2), None)


def must_alert(records, *names):
    got = alert_of(records)
    assert got in [ALERTS[name] for name in names], f"alert {got}, wanted {names}; {records!r}"


def remote_alert(act):
    try:
        act()
    except TLSRemoteAlert as error:
        return error.description
    except TLSAbruptCloseError:
        return "closed without an alert"
    return "no alert"


# Cases for either listener: a port, and the protocol that is spoken there.


def speaks_tls13(port, alpn):
    made = handshake(port, alpn)
    assert made.version == (3, 4) and bytes(made.session.appProto) == alpn


def speaks_it_without_and_with_another_server_name(port, alpn):
    for name in [None, b"elsewhere.example"]:
        assert handshake(port, alpn, name=name).version == (3, 4)


def refuses_what_shares_no_application_protocol(port, _):
    got = remote_alert(lambda: handshake(port, b"h3"))
    assert got == ALERTS["no_application_protocol"], got


def refuses_old_versions(port, alpn):
    for most in [(3, 1), (3, 2)]:
        got = remote_alert(lambda most=most: handshake(port, alpn, using=settings((3, 1), most)))
        # rustls calls the oldest a handshake failure (RFC 8446 section 4.2.1 leaves it that).
        assert got in [ALERTS["protocol_version"], ALERTS["handshake_failure"]], (most, got)


def takes_a_first_message_cut_at_every_byte(port, alpn):
    hello = client_hello(alpn)
    for at in range(1, len(hello)):
        assert began(exchange(port, hello[:at], hello[at:], stop=True)), f"cut at {at}"


def takes_a_first_message_in_two_records_at_every_byte(port, alpn):
    body = client_hello(alpn)[5:]
    for at in range(1, len(body)):
        records = exchange(port, record(HANDSHAKE, body[:at]) + record(HANDSHAKE, body[at:]))
        assert began(records), f"two records at {at}: {records!r}"


def survives_one_byte_records(port, alpn):
    body = client_hello(alpn)[5:]
    records = exchange(port, b"".join(record(HANDSHAKE, bytes([byte])) for byte in body))
    assert began(records) or alert_of(records) is not None, records


def survives_every_byte_changed(port, alpn):
    hello, draw = client_hello(alpn), random.Random(7)
    for at in range(len(hello)):
        changed = bytearray(hello)
        changed[at] ^= draw.randint(1, 255)
        exchange(port, bytes(changed))


def refuses_a_record_that_is_too_long(port, alpn):
    hello = client_hello(alpn)
    records = exchange(port, record(HANDSHAKE, hello[5:] + bytes(0x4801)))
    assert not began(records), records


def refuses_records_that_may_not_come_first(port, _):
    for kind, body in [(ALERT, b"\x02\x28"), (DATA, b"hello"), (24, b"\x01\x00\x00"), (99, b"x")]:
        assert not began(exchange(port, record(kind, body))), kind


def refuses_other_messages_first(port, _):
    for message in [b"\x14\x00\x00\x04abcd", b"\x02\x00\x00\x00", b"\x0b\x00\x00\x03\x00\x00\x00", b"\xfe\x00\x00\x01a"]:
        records = exchange(port, record(HANDSHAKE, message))
        assert not began(records) and alert_of(records) is not None, (message, records)


def is_not_held_up_by_empty_records(port, _):
    assert not began(exchange(port, record(HANDSHAKE, b"") * 500))


def refuses_a_message_that_never_ends(port, _):
    # A length of 16 MiB, and many records that belong to it.
    start = b"\x01\xff\xff\xff" + bytes(16000)
    assert not began(exchange(port, record(HANDSHAKE, start), *[record(HANDSHAKE, bytes(16000))] * 20))


def refuses_sslv2_and_noise(port, _):
    sslv2 = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37)
    for noise in [sslv2, b"SSH-2.0-x\r\n", bytes(300), b"\x16" * 300, b"\x16\x03"]:
        assert not began(exchange(port, noise)), noise


def refuses_a_repeated_extension(port, alpn):
    body = bytearray(client_hello(alpn)[5:])
    # The extensions are the last thing in the message: an unknown one twice, and the three lengths made to fit.
    twice = b"\x7a\x7a\x00\x00" * 2
    at = 4 + 2 + 32
    at += 1 + body[at]
    at += 2 + struct.unpack("!H", body[at : at + 2])[0]
    at += 1 + body[at]
    length = struct.unpack("!H", body[at : at + 2])[0]
    body[at : at + 2] = struct.pack("!H", length + len(twice))
    body[at + 2 : at + 2] = twice
    body[1:4] = struct.pack("!I", len(body) - 4)[1:]
    records = exchange(port, record(HANDSHAKE, bytes(body)))
    must_alert(records, "illegal_parameter", "decode_error")


def refuses_extensions_that_run_past_the_end(port, alpn):
    body = bytearray(client_hello(alpn)[5:])
    body[1:4] = struct.pack("!I", len(body) - 4 - 3)[1:]
    must_alert(exchange(port, record(HANDSHAKE, bytes(body[:-3]))), "decode_error", "illegal_parameter")


class WrongFinished(TLSConnection):
    def _sendMsg(self, msg, *args, **more):
        if isinstance(msg, Finished):
            msg.verify_data = bytearray(msg.verify_data)
            msg.verify_data[0] ^= 1
        yield from super()._sendMsg(msg, *args, **more)


def refuses_a_finished_that_does_not_verify(port, alpn):
    def act():
        made = handshake(port, alpn, connection=WrongFinished)
        made.write(b"x")
        made.read(1, 1)

    got = remote_alert(act)
    assert got == ALERTS["decrypt_error"], got


def refuses_records_that_were_altered(port, alpn):
    for altered in [bytes(40), b""]:
        made = handshake(port, alpn)
        made.sock.sendall(record(DATA, altered, (3, 3)))
        got = remote_alert(lambda made=made: made.read(1, 1))
        assert got != "no alert", (altered, got)


def changes_keys_when_asked(port, alpn):
    made = handshake(port, alpn)
    for _ in range(3):
        for _ in made.send_keyupdate_request(1):
            pass
    made.write(b"")
    made.close()


# Cases for one listener.


def agents_may_speak_tls12(port, _):
    made = handshake(port, HTTP, using=settings((3, 3), (3, 3)))
    assert made.version == (3, 3)
    made.write(b"GET / HTTP/1.1\r\nHost: nowhere.test\r\n\r\n")
    assert bytes(made.read(16, 1)).startswith(b"HTTP/1.1 ")


def connectors_may_not_speak_tls12(port, alpn):
    got = remote_alert(lambda: handshake(port, alpn, using=settings((3, 3), (3, 3))))
    assert got == ALERTS["protocol_version"], got


def connectors_are_given_no_tickets(port, alpn):
    made = handshake(port, alpn)
    made.sock.settimeout(PATIENCE)
    made.write(b"no frame at all, so that the edge ends the connection")
    try:
        while made.read(1, 1):
            pass
    except (TLSRemoteAlert, TLSAbruptCloseError, TLSLocalAlert, OSError):
        pass
    assert not made.tickets and not getattr(made, "tls_1_0_tickets", None)


def refuses_plain_http_on_the_connectors_port(port, _):
    assert not began(exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))


# The enrolment and the link, from docs/PROTOCOL.md alone.


def read_exactly(made, count):
    got = bytes(made.read(count, count))
    assert len(got) == count, (got, count)
    return got


def enrol(port, tunnel, secret):
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    csr = csr.public_bytes(serialization.Encoding.DER)
    payload = bytes([len(tunnel)]) + tunnel + struct.pack("!H", len(secret)) + secret
    payload += bytes([5]) + b"probe" + struct.pack("!H", len(csr)) + csr
    made = handshake(port, ENROL)
    made.write(struct.pack("!HB", len(payload), 1) + payload)
    length, kind = struct.unpack("!HB", read_exactly(made, 3))
    answer = read_exactly(made, length)
    made.close()
    return key, kind, answer


def enrols_and_links(port, tunnel, secret):
    key, kind, answer = enrol(port, tunnel, secret)
    assert kind == 3, (kind, answer)
    clock, lifetime = struct.unpack("!QI", answer[:12])
    assert clock > 1_700_000_000 and 0 < lifetime <= 31_622_400
    at = 13 + answer[12]
    assert answer[13:at] == tunnel
    at += 2 + struct.unpack("!H", answer[at : at + 2])[0]
    count, at, pems = answer[at], at + 1, ""
    for _ in range(count):
        length = struct.unpack("!H", answer[at : at + 2])[0]
        cert = x509.load_der_x509_certificate(answer[at + 2 : at + 2 + length])
        pems += cert.public_bytes(serialization.Encoding.PEM).decode()
        at += 2 + length
    assert at == len(answer) and count == 2
    first = x509.load_pem_x509_certificates(pems.encode())[0]
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["adit://tunnel/" + tunnel.decode()]

    chain = X509CertChain()
    chain.parsePemList(pems)
    kept = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, kept, serialization.NoEncryption()).decode()
    kind, answer = link(port, tunnel, secret, chain, parsePEMKey(pem, private=True))
    assert kind == 2 and len(answer) == 30, (kind, answer)
    # Without it, and for another tunnel.
    kind, answer = link(port, tunnel, secret, None, None)
    assert (kind, answer[:2]) == (3, b"\x00\x08"), (kind, answer)
    kind, answer = link(port, b"tnl_other", secret, chain, parsePEMKey(pem, private=True))
    assert (kind, answer[:2]) == (3, b"\x00\x09"), (kind, answer)


def link(port, tunnel, secret, chain, key):
    made = handshake(port, LINK, chain=chain, key=key)
    hello = b"adit\x00\x01\x00\x01" + bytes([len(tunnel)]) + tunnel + struct.pack("!H", len(secret)) + secret
    hello += struct.pack("!QB", 7, 5) + b"probe" + b"\x00\x00"
    made.write(struct.pack("!HBBI", len(hello), 1, 0, 0) + hello)
    length, kind = struct.unpack("!HB", read_exactly(made, 3))
    return kind, read_exactly(made, 5 + length)[5:]


def is_refused_with_a_wrong_secret(port, tunnel, _):
    _, kind, answer = enrol(port, tunnel, b"a secret that nobody knows")
    assert kind == 4 and answer[12:14] == b"\x00\x01", (kind, answer)


BOTH = [
    speaks_tls13,
    speaks_it_without_and_with_another_server_name,
    refuses_what_shares_no_application_protocol,
    refuses_old_versions,
    takes_a_first_message_cut_at_every_byte,
    takes_a_first_message_in_two_records_at_every_byte,
    survives_one_byte_records,
    survives_every_byte_changed,
    refuses_a_record_that_is_too_long,
    refuses_records_that_may_not_come_first,
    refuses_other_messages_first,
    is_not_held_up_by_empty_records,
    refuses_a_message_that_never_ends,
    refuses_sslv2_and_noise,
    refuses_a_repeated_extension,
    refuses_extensions_that_run_past_the_end,
    refuses_a_finished_that_does_not_verify,
    refuses_records_that_were_altered,
    changes_keys_when_asked,
]
CONNECTORS = [connectors_may_not_speak_tls12, connectors_are_given_no_tickets, refuses_plain_http_on_the_connectors_port]
AS_CONNECTOR = [enrols_and_links, is_refused_with_a_wrong_secret]


def main():
    agents, connectors = int(sys.argv[1]), int(sys.argv[2])
    tunnel, secret = sys.argv[3].encode(), sys.argv[4].encode()
    cases = [(case, "agents", (agents, HTTP)) for case in [*BOTH, agents_may_speak_tls12]]
    for alpn in [LINK, ENROL]:
        cases += [(case, "connectors, " + alpn.decode(), (connectors, alpn)) for case in [*BOTH, *CONNECTORS]]
    cases += [(case, "as a connector", (connectors, tunnel, secret)) for case in AS_CONNECTOR]
    failed = 0
    for case, where, args in cases:
        told = {"case": case.__name__, "where": where}
        try:
            case(*args)
        except Exception as error:  # Each case is told, whatever happened to it.
            failed += 1
            told["failed"] = f"{type(error).__name__}: {error}"[:400]
        print(json.dumps(told), flush=True)
    return 1 if failed else 0


sys.exit(main())
