#!/usr/bin/env python3
"""Writes the reference outputs under tests/golden/tokens with the real Python libraries.

Needs the packages `tokenizers` and `transformers` (in a virtual environment of your own) and the folder that
tools/fetch_tokenizers.sh fills:

    python tools/make_token_goldens.py [--chat-captures FILE]

  corpus.jsonl         the texts (read, not written)
  chat_cases.jsonl     the conversations (read, not written)
  text_ids.jsonl       per tokenizer and text: ids, and what special tokens put before and after (tokenizers)
  chat_text.jsonl      per tokenizer and conversation: the rendered text, or "refused" (transformers)
  chat_requests.json, chat_token_ids.jsonl   from a recording of an engine (--chat-captures)
"""

import argparse
import datetime
import json
import os
import pathlib

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "tokens"
TEXT_TOKENIZERS = ["qwen3", "llama3", "deepseek_v3"]
CHAT_TOKENIZERS = ["qwen3", "qwen2_5", "llama3", "llama3_2", "deepseek_v3", "mistral_nemo", "gemma3"]
NOW = datetime.datetime(2026, 11, 23)


def cache_folder():
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "warmpath/tokenizers"
    return pathlib.Path(os.environ.get("WARMPATH_TOKENIZERS", default))


def read_lines(name):
    # Not splitlines(): the texts hold U+2028 and its like.
    return [json.loads(line) for line in (GOLDEN / name).read_text(encoding="utf-8").split("\n") if line]


def write_lines(name, rows):
    with open(GOLDEN / name, "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def make_text_ids():
    import tokenizers

    rows = []
    for name in TEXT_TOKENIZERS:
        tokenizer = tokenizers.Tokenizer.from_file(str(cache_folder() / name / "tokenizer.json"))
        for entry in read_lines("corpus.jsonl"):
            plain = tokenizer.encode(entry["text"], add_special_tokens=False).ids
            special = tokenizer.encode(entry["text"], add_special_tokens=True).ids
            extra = len(special) - len(plain)
            before = next(i for i in range(extra + 1) if special[i : i + len(plain)] == plain)
            rows.append({"tokenizer": name, "text": entry["name"], "ids": plain,
                         "before": special[:before], "after": special[before + len(plain) :]})
    write_lines("text_ids.jsonl", rows)


def make_chat_text():
    import transformers
    from transformers.utils import chat_template_utils

    class FrozenDatetime(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return NOW

    chat_template_utils.datetime = FrozenDatetime
    rows = []
    for name in CHAT_TOKENIZERS:
        tokenizer = transformers.AutoTokenizer.from_pretrained(cache_folder() / name)
        for case in read_lines("chat_cases.jsonl"):
            request = case["request"]
            try:
                text = tokenizer.apply_chat_template(
                    request["messages"],
                    tools=request.get("tools"),
                    documents=request.get("documents"),
                    add_generation_prompt=request.get("add_generation_prompt", True),
                    continue_final_message=request.get("continue_final_message", False),
                    tokenize=False,
                    **request.get("chat_template_kwargs", {}),
                )
                rows.append({"tokenizer": name, "case": case["name"], "text": text})
            except Exception as error:  # a refusal is an outcome too
                rows.append({"tokenizer": name, "case": case["name"], "refused": type(error).__name__})
    write_lines("chat_text.jsonl", rows)


def copy_captures(path):
    recorded = [json.loads(line) for line in open(path, encoding="utf-8")]
    requests = {}
    rows = []
    for row in recorded:
        requests.setdefault(row["name"], row["request"])
        assert requests[row["name"]] == row["request"]
        outcome = {"ids": row["token_ids"]} if row["status"] == 200 else {"error": row["error"]["message"]}
        rows.append({"tokenizer": row["tokenizer"], "request": row["name"], **outcome})
    text = json.dumps(requests, ensure_ascii=False, separators=(",", ":"))
    (GOLDEN / "chat_requests.json").write_text(text + "\n", encoding="utf-8")
    write_lines("chat_token_ids.jsonl", rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chat-captures", help="a recording: one JSON object a line with tokenizer, name, request, …")
    args = parser.parse_args()
    if args.chat_captures:
        copy_captures(args.chat_captures)
    make_text_ids()
    make_chat_text()


if __name__ == "__main__":
    main()
