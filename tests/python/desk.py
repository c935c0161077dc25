"""A desk with so many places: answers that many calls at a device, and lets those after them ring.

usage: desk.py HOST:PORT CA.pem USER DEVICE PLACES [HEARTBEAT-MS]    (the password is in $CTI_PASSWORD)

SIGUSR1 lets it leave in order, SIGUSR2 lets it crash. A device that somebody else still holds is asked for again.
"""
import itertools, json, os, signal, socket, ssl, sys, threading, time

host, _, port = sys.argv[1].rpartition(":")
ca, user, device, places = sys.argv[2:6]
places = int(places)
interval = int(sys.argv[6]) if len(sys.argv) > 6 else 1000

orders = {signal.SIGUSR1, signal.SIGUSR2}
signal.pthread_sigmask(signal.SIG_BLOCK, orders)
tls = ssl.create_default_context(cafile=ca)
wire = tls.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)
lines = wire.makefile("r", encoding="utf-8", newline="\n")
ids, waiting, turn = itertools.count(1), {}, threading.Lock()


def request(method, **params):
    with turn:
        number = next(ids)
        waiting[number] = method
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        wire.sendall(json.dumps(message).encode() + b"\n")


def beat():
    while True:
        time.sleep(interval / 2000)
        request("provider.heartbeat")


def obey():
    if signal.sigwait(orders) == signal.SIGUSR2:
        os._exit(70)
    request("provider.close")


def open_device():
    media = {"mode": "static", "ip": host, "port": 30000, "codecs": ["PCMU", "PCMA"]}
    request("device.open", device=device, media=media)


def answered(method, message):
    error = message.get("error")
    if method != "provider.heartbeat":
        print(method, error or "ok", flush=True)
    if method == "provider.open" and not error:
        for task in beat, obey:
            threading.Thread(target=task, daemon=True).start()
        open_device()
    if method == "device.open" and error and error["data"]["cti"].startswith("MEDIA_ALREADY"):
        threading.Timer(0.1, open_device).start()


request("provider.open", user=user, password=os.environ["CTI_PASSWORD"], application="desk.py", heartbeat_ms=interval)
for message in map(json.loads, lines):
    if message.get("method") != "event":
        answered(waiting.pop(message["id"]), message)
        continue
    event = message["params"]
    if event["type"] == "session.closed":
        print("session.closed", event["reason"], flush=True)
    if event["type"] == "call.offering":
        request("call.answer" if places > 0 else "call.accept", leg=event["leg"]["leg"])
        places -= 1
