"""What passes on the loopback device, and what libsrtp makes of it.

libsrtp.py capture HOST FILE      writes the UDP datagrams to and from HOST until it is ended: "IP:PORT HEX" a line, IP:PORT of
                                  who receives it
libsrtp.py decrypt FILE IP:PORT SUITE KEY SALT OUT   decrypts the RTP to that address; writes the payloads, prints "DECRYPTED ALL"
"""

import base64
import ctypes
import socket
import struct
import sys

ETH_P_IP = 0x0800
PACKET_OUTGOING = 4


def capture(host, path):
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
    wire.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
    wire.bind(("lo", ETH_P_IP))
    with open(path, "w", buffering=1) as out:
        print("capturing", flush=True)
        while True:
            packet, (_, _, kind, _, _) = wire.recvfrom(65535)
            # Each is seen twice on this device.
            if kind == PACKET_OUTGOING or packet[9] != socket.IPPROTO_UDP:
                continue
            here = socket.inet_ntoa(packet[16:20])
            udp = packet[(packet[0] & 15) * 4 :]
            if host in (here, socket.inet_ntoa(packet[12:16])):
                out.write(f"{here}:{struct.unpack('!H', udp[2:4])[0]} {udp[8:].hex()}\n")


class Crypto(ctypes.Structure):
    _fields_ = [
        ("cipher_type", ctypes.c_uint32),
        ("cipher_key_len", ctypes.c_int),
        ("auth_type", ctypes.c_uint32),
        ("auth_key_len", ctypes.c_int),
        ("auth_tag_len", ctypes.c_int),
        ("sec_serv", ctypes.c_int),
    ]


class Policy(ctypes.Structure):
    _fields_ = [
        ("ssrc_type", ctypes.c_int),
        ("ssrc_value", ctypes.c_uint),
        ("rtp", Crypto),
        ("rtcp", Crypto),
        ("key", ctypes.c_char_p),
        ("keys", ctypes.c_void_p),
        ("num_master_keys", ctypes.c_ulong),
        ("deprecated_ekt", ctypes.c_void_p),
        ("window_size", ctypes.c_ulong),
        ("allow_repeat_tx", ctypes.c_int),
        ("enc_xtn_hdr", ctypes.c_void_p),
        ("enc_xtn_hdr_count", ctypes.c_int),
        ("next", ctypes.c_void_p),
    ]


SUITES = {
    "AES_CM_128_HMAC_SHA1_80": "srtp_crypto_policy_set_rtp_default",
    "AES_CM_128_HMAC_SHA1_32": "srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32",
    "AEAD_AES_128_GCM": "srtp_crypto_policy_set_aes_gcm_128_16_auth",
    "AEAD_AES_256_GCM": "srtp_crypto_policy_set_aes_gcm_256_16_auth",
}
ANY_INBOUND = 2


def session_of(srtp, suite, key, salt):
    policy = Policy()
    for of in (policy.rtp, policy.rtcp):
        getattr(srtp, SUITES[suite])(ctypes.byref(of))
    policy.ssrc_type = ANY_INBOUND
    policy.key = base64.b64decode(key, validate=True) + base64.b64decode(salt, validate=True)
    policy.window_size = 1024
    session = ctypes.c_void_p()
    assert srtp.srtp_create(ctypes.byref(session), ctypes.byref(policy)) == 0
    return session, policy


def decrypt(path, address, suite, key, salt, out):
    srtp = ctypes.CDLL("libsrtp2.so.1")
    assert srtp.srtp_init() == 0
    session, _policy = session_of(srtp, suite, key, salt)
    decrypted, total = 0, 0
    with open(path) as lines, open(out, "wb") as payloads:
        for line in lines:
            to, _, data = line.strip().partition(" ")
            packet = bytes.fromhex(data)
            # Version 2, and no RTCP (RFC 5761).
            if to != address or len(packet) < 12 or packet[0] >> 6 != 2 or 64 <= packet[1] & 127 < 96:
                continue
            total += 1
            buffer = ctypes.create_string_buffer(packet, len(packet) + 64)
            length = ctypes.c_int(len(packet))
            if srtp.srtp_unprotect(session, buffer, ctypes.byref(length)) == 0:
                decrypted += 1
                payloads.write(buffer.raw[12 + 4 * (packet[0] & 15) : length.value])
    print(decrypted, total)


if sys.argv[1] == "capture":
    capture(*sys.argv[2:])
else:
    decrypt(*sys.argv[2:])
