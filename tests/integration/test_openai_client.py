"""The official OpenAI Python client against the gateway: only its base URL is another.

The client is installed from the package registry into a cache, once. Where that is not possible the test is skipped, in CI
it fails.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from harness import MODEL, Case, seconds, words

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
out["path"] = error_of(lambda: client.embeddings.create(model="demo", input="x"))

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


def client_python():
    """The interpreter of a venv that has the client; installs it once."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "warmpath"
    folder = cache / f"openai-{VERSION}"
    python = folder / "bin" / "python"
    if python.exists():
        return python
    cache.mkdir(parents=True, exist_ok=True)
    # Made aside and moved into place: a broken install never looks like a whole one. Scripts in it would name the old
    # place; only its interpreter is used.
    made = tempfile.mkdtemp(dir=cache, prefix=f"openai-{VERSION}.")
    try:
        subprocess.run([sys.executable, "-m", "venv", made], check=True, capture_output=True, timeout=300)
        subprocess.run([made + "/bin/python", "-m", "pip", "install", "-q", f"openai=={VERSION}"], check=True,
                       capture_output=True, text=True, timeout=600)
        if not python.exists():
            os.rename(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return python


class OpenAiClient(Case):
    def test_the_official_client(self):
        try:
            python = client_python()
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            if os.environ.get("CI"):
                self.fail(f"openai {VERSION} could not be installed: {said}")
            self.skipTest(f"openai {VERSION} could not be installed: {str(said)[-300:]}")
        gateway = self.gateway([self.engine(), self.engine()])
        ran = subprocess.run([python, "-c", SCRIPT, "http://" + gateway.address, words(1, 200)], capture_output=True,
                             text=True, timeout=seconds(120), check=False)
        self.assertEqual(ran.returncode, 0, ran.stderr[-4000:])
        out = json.loads(ran.stdout)
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
        self.assertEqual(out["path"]["class"], "NotFoundError")
        self.assertTrue(out["many"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
