"""The official OpenAI Python client against the gateway: only its base URL is another."""

import unittest

from clients import run_with
from harness import MODEL, Case, words

VERSION = "3.54.0"

SCRIPT = r'''
import json, sys
import openai
base, text = sys.argv[1], sys.argv[2]
client = openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0)
out = {"version": openai.__version__}
messages = [{"role": "system", "content": text}, {"role": "user", "content": "hello"}]
ask = dict(model="demo", messages=messages, max_tokens=40, extra_body={"ignore_eos": True})
whole = client.chat.completions.create(**ask)
out["whole"] = whole.choices[0].message.content
out["finish"] = whole.choices[0].finish_reason
out["usage"] = whole.usage.model_dump()
chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
out["stream"] = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
out["stream_cached"] = chunks[-1].usage.prompt_tokens_details.cached_tokens
out["plain_stream_usage"] = [c.usage is not None for c in client.chat.completions.create(**ask, stream=True)]
completion = client.completions.create(model="demo", prompt="once upon", max_tokens=5, extra_body={"ignore_eos": True})
out["completion_tokens"] = completion.usage.completion_tokens
out["models"] = [m.id for m in client.models.list()]
raw = client.chat.completions.with_raw_response.create(**ask, extra_headers={"x-request-id": "from-client"})
out["request_id"] = raw.headers["x-request-id"]

def error_of(call):
    try:
        call()
    except openai.APIStatusError as error:
        return {"class": type(error).__name__, "status": error.status_code, "message": error.message}
    return None
out["unknown"] = error_of(lambda: client.chat.completions.create(model="nope", messages=messages))
out["malformed"] = error_of(lambda: client.chat.completions.create(model="demo", messages=[{"role": "user", "content": 5}]))
vectors = client.embeddings.create(model="demo", input=["one", "two", "one"], dimensions=12)
out["vectors"] = [d.embedding for d in vectors.data]
out["embedded_tokens"] = vectors.usage.prompt_tokens
out["embedding"] = client.embeddings.create(model="demo", input="two", dimensions=12, encoding_format="float").data[0].embedding
out["no_input"] = error_of(lambda: client.embeddings.create(model="demo", input=[]))
response = client.responses.create(model="demo", input="hello", instructions=text, max_output_tokens=30)
out["response"] = {"text": response.output_text, "status": response.status, "tokens": response.usage.output_tokens}
turn = [{"role": "user", "content": "hello"}, *[item.model_dump(exclude_none=True) for item in response.output],
        {"role": "user", "content": "and more"}]
again = client.responses.create(model="demo", input=turn, instructions=text, max_output_tokens=30)
out["second_turn_cached"] = again.usage.input_tokens_details.cached_tokens
events = list(client.responses.create(model="demo", input=turn, instructions=text, max_output_tokens=30, stream=True))
out["event_types"] = list(dict.fromkeys(e.type for e in events))
out["event_numbers"] = [e.sequence_number for e in events]
out["streamed"] = "".join(e.delta for e in events if e.type == "response.output_text.delta")
out["stream_end"] = {"text": events[-1].response.output_text, "cached": events[-1].response.usage.input_tokens_details.cached_tokens}
out["again"] = again.output_text
tools = [{"type": "function", "name": "look", "description": "looks", "strict": True,
          "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}]
called = [{"role": "user", "content": "hello"}, {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{\"at\": \"sea\"}"},
          {"type": "function_call_output", "call_id": "c1", "output": "blue"}]
out["tools"] = client.responses.create(model="demo", input=called, tools=tools, max_output_tokens=5).status
out["kept"] = error_of(lambda: client.responses.create(model="demo", input="x", previous_response_id=response.id))
out["path"] = error_of(lambda: client.images.generate(model="demo", prompt="x"))

import asyncio
async def many():
    async with openai.AsyncOpenAI(base_url=base + "/v1", api_key="none", max_retries=0) as client:
        async def one(i):
            text = ""
            async for chunk in await client.chat.completions.create(**{**ask, "max_tokens": 8 + i}, stream=True):
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            return bool(text)
        return all(await asyncio.gather(*(one(i) for i in range(16))))
out["many"] = asyncio.run(many())
json.dump(out, sys.stdout)
'''


class OpenAiClient(Case):
    def test_the_official_client(self):
        gateway = self.gateway([self.engine(), self.engine()])
        out = run_with(self, "openai", VERSION, SCRIPT, "http://" + gateway.address, words(1, 200))
        self.assertEqual(out["version"], VERSION)
        self.assertTrue(out["whole"])
        self.assertEqual(out["finish"], "length")
        self.assertEqual(out["usage"]["completion_tokens"], 40)
        self.assertEqual(out["stream"], out["whole"])
        self.assertGreater(out["stream_cached"], 100)
        self.assertFalse(any(out["plain_stream_usage"]))
        self.assertEqual(out["completion_tokens"], 5)
        self.assertEqual(out["models"], [MODEL])
        self.assertEqual(out["request_id"], "from-client")
        self.assertEqual(out["unknown"]["class"], "NotFoundError")
        self.assertIn(MODEL, out["unknown"]["message"])
        self.assertEqual(out["malformed"]["class"], "BadRequestError")
        self.assertIn("content", out["malformed"]["message"])
        self.assertEqual([len(v) for v in out["vectors"]], [12, 12, 12])
        self.assertEqual(out["vectors"][0], out["vectors"][2])
        self.assertNotEqual(out["vectors"][0], out["vectors"][1])
        for told, packed in zip(out["embedding"], out["vectors"][1]):
            self.assertAlmostEqual(told, packed, places=6)
        self.assertGreaterEqual(out["embedded_tokens"], 3)
        self.assertEqual(out["no_input"]["class"], "BadRequestError")
        self.assertTrue(out["response"]["text"])
        self.assertIn(out["response"]["status"], ("completed", "incomplete"))
        self.assertGreater(out["response"]["tokens"], 0)
        self.assertGreater(out["second_turn_cached"], 100)
        self.assertEqual(out["event_types"][:2], ["response.created", "response.in_progress"])
        self.assertIn(out["event_types"][-1], ("response.completed", "response.incomplete"))
        self.assertEqual(out["event_numbers"], list(range(len(out["event_numbers"]))))
        self.assertEqual(out["streamed"], out["again"])
        self.assertEqual(out["stream_end"]["text"], out["again"])
        self.assertGreater(out["stream_end"]["cached"], 100)
        self.assertIn(out["tools"], ("completed", "incomplete"))
        self.assertEqual(out["kept"]["class"], "BadRequestError")
        self.assertIn("whole conversation in `input`", out["kept"]["message"])
        self.assertEqual(out["path"]["class"], "NotFoundError")
        self.assertTrue(out["many"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
