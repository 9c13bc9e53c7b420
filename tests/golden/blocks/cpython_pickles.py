"""Writes cpython_pickles.tsv: SHA-256 of what CPython's pickle (protocol 5) writes for vLLM's block tuples.

Cases that the engine's own vectors lack: frames above 64 KiB, integers beyond 32 bits, shared tags, long texts.
Columns: name, number of tokens, token mask, adapter name length, adapter path length, salt length,
items as identifier_length@offset;..., digest. Token i is (i * 2654435761 + 12345) & mask; a text of length n is
"abcdefghij" repeated, cut at n. Parent: 32 bytes 00 01 02 .. 1f.
"""
import hashlib
import pathlib
import pickle

CASES = [
    ("one", 1, 0xFF, 0, 0, 0, []),
    ("wide", 64, 0xFFFFFFFF, 0, 0, 0, []),
    ("frames", 20000, 0xFFFFFFFF, 0, 0, 0, []),
    ("frames narrow", 70000, 0xFF, 5, 8, 0, []),
    ("two items", 16, 0xFFFF, 0, 0, 0, [(7, 1), (8, 9)]),
    ("five items", 16, 0xFFFF, 7, 20, 300, [(7, 1), (8, 3), (9, 5), (10, 7), (11, 9)]),
    ("long texts", 16, 0xFFFF, 255, 256, 1024, [(64, 0)]),
    ("text beyond a frame", 16, 0xFFFF, 7, 65536, 3, []),
    ("text nearly a frame", 16, 0xFFFF, 7, 65535, 3, []),
    ("far negative offset", 16, 0xFFFF, 0, 0, 0, [(7, -3_000_000_000)]),
    ("negative offset", 16, 0xFFFF, 0, 0, 0, [(7, -40_000), (8, -200), (9, 3)]),
]


def text(length):
    return "".join("abcdefghij"[i % 10] for i in range(length))


def digest(tokens, mask, lora, path, salt, items):
    extra = []
    if lora:
        extra.append(("lora", text(lora), text(path)))
    extra += [("mm", text(length), offset) for length, offset in items]
    if salt:
        extra.append(("cache_salt", text(salt)))
    ids = tuple((i * 2654435761 + 12345) & mask for i in range(tokens))
    value = (bytes(range(32)), ids, tuple(extra) or None)
    return hashlib.sha256(pickle.dumps(value, protocol=5)).hexdigest()


rows = []
for name, tokens, mask, lora, path, salt, items in CASES:
    shown = ";".join(f"{length}@{offset}" for length, offset in items)
    rows.append([name, tokens, mask, lora, path, salt, shown, digest(tokens, mask, lora, path, salt, items)])
here = pathlib.Path(__file__).parent
here.joinpath("cpython_pickles.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
