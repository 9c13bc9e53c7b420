"""The official Anthropic Python client against the gateway: only its base URL is another."""

import unittest

from clients import run_with
from harness import MODEL, Case, words

VERSION = "2.12.0"

SCRIPT = r'''
import json, sys
import anthropic
base, text = sys.argv[1], sys.argv[2]
client = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0)
out = {"version": anthropic.__version__}
ask = dict(model="demo", max_tokens=40, system=[{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}])
hello = [{"role": "user", "content": "hello"}]
first = client.messages.create(**ask, messages=hello)
out["first"] = {"text": first.content[0].text, "stop": first.stop_reason, "usage": first.usage.model_dump()}
turn = [*hello, {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]},
        {"role": "user", "content": [{"type": "text", "text": "and"}, {"type": "text", "text": "more"}]}]
second = client.messages.create(**ask, messages=turn)
out["second"] = {"text": second.content[0].text, "usage": second.usage.model_dump()}
with client.messages.stream(**ask, messages=turn) as stream:
    out["streamed"] = "".join(stream.text_stream)
    final = stream.get_final_message()
out["final"] = {"text": final.content[0].text, "stop": final.stop_reason, "usage": final.usage.model_dump()}
out["events"] = list(dict.fromkeys(e.type for e in client.messages.create(**ask, messages=turn, stream=True)))
count = client.messages.count_tokens(model="demo", system=ask["system"], messages=turn)
out["counted"] = count.input_tokens
tools = [{"name": "look", "description": "looks", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}]
called = [*hello, {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "sea"}}]},
          {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "blue"}]}]
out["tools"] = client.messages.create(model="demo", max_tokens=5, messages=called, tools=tools).type

def error_of(call):
    try:
        call()
    except anthropic.APIStatusError as error:
        return {"class": type(error).__name__, "status": error.status_code, "message": error.message, "body": error.body}
    return None
out["unknown"] = error_of(lambda: client.messages.create(model="nope", max_tokens=5, messages=hello))
out["malformed"] = error_of(lambda: client.messages.create(model="demo", max_tokens=5, messages=[{"role": "user", "content": 5}]))
out["too_long"] = error_of(lambda: client.messages.create(model="demo", max_tokens=10**9, messages=hello, timeout=60))
json.dump(out, sys.stdout)
'''


class AnthropicClient(Case):
    def test_the_official_client(self):
        gateway = self.gateway([self.engine(), self.engine()])
        out = run_with(self, "anthropic", VERSION, SCRIPT, "http://" + gateway.address, words(1, 200))
        self.assertEqual(out["version"], VERSION)
        self.assertTrue(out["first"]["text"])
        self.assertIn(out["first"]["stop"], ("end_turn", "max_tokens"))
        self.assertGreater(out["second"]["usage"]["cache_read_input_tokens"], 100)
        self.assertEqual(out["streamed"], out["second"]["text"])
        self.assertEqual(out["final"]["text"], out["second"]["text"])
        self.assertIn(out["final"]["stop"], ("end_turn", "max_tokens"))
        usage = out["final"]["usage"]
        self.assertEqual(usage["input_tokens"] + usage["cache_read_input_tokens"], out["counted"])
        self.assertEqual(out["events"], ["message_start", "content_block_start", "content_block_delta",
                                         "content_block_stop", "message_delta", "message_stop"])
        self.assertEqual(out["tools"], "message")
        self.assertEqual(out["unknown"]["class"], "NotFoundError")
        self.assertIn(MODEL, out["unknown"]["message"])
        self.assertEqual(out["unknown"]["body"]["error"]["type"], "not_found_error")
        self.assertEqual(out["malformed"]["class"], "BadRequestError")
        self.assertIn("content", out["malformed"]["message"])
        self.assertEqual(out["too_long"]["body"]["type"], "error")
        self.assertEqual(out["too_long"]["status"], 400)


if __name__ == "__main__":
    unittest.main(verbosity=2)
