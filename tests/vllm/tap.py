"""Listens to engines' KV events as any subscriber would and writes each batch as a JSON line with the time it came: the
evidence for what an engine had announced when a request was sent. Runs in the engines' Python (pyzmq, msgspec).

    tap.py OUT ENDPOINT...     says "ready" in OUT when the sockets stand; ends with SIGTERM
"""

import json
import sys
import time

import msgspec
import zmq


def plain(event):
    """An event with what a mirror of the cache needs; vLLM 0.32 sends maps, `type` first."""
    kind = event.get("type")
    if kind == "BlockStored":
        extras = event.get("extra_keys") or [None] * len(event["block_hashes"])
        return {"stored": [str(h) for h in event["block_hashes"]], "parent": name(event["parent_block_hash"]),
                "tokens": event["token_ids"], "extras": [json.dumps(extra) for extra in extras]}
    if kind == "BlockRemoved":
        return {"removed": [str(h) for h in event["block_hashes"]]}
    return {"cleared": True} if kind == "AllBlocksCleared" else {"other": str(kind)}


def name(hash_value):
    return None if hash_value is None else str(hash_value)


def main():
    context, poller, places = zmq.Context(), zmq.Poller(), {}
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        for number, endpoint in enumerate(sys.argv[2:]):
            socket = context.socket(zmq.SUB)
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt(zmq.RECONNECT_IVL, 50)
            socket.setsockopt(zmq.RECONNECT_IVL_MAX, 50)
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            socket.connect(endpoint)
            poller.register(socket, zmq.POLLIN)
            places[socket] = number
        print(json.dumps({"ready": True}), file=out, flush=True)
        while True:
            for socket, _ in poller.poll():
                _, sequence, payload = socket.recv_multipart()
                at = time.monotonic()
                batch = msgspec.msgpack.decode(payload)
                print(json.dumps({"at": at, "engine": places[socket], "seq": int.from_bytes(sequence, "big"),
                                  "ts": batch[0], "events": [plain(event) for event in batch[1]]}), file=out, flush=True)


if __name__ == "__main__":
    main()
