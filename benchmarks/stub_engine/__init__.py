"""Stub engine: answers like vLLM 0.32's OpenAI server where a gateway cares, without a model. For load, crash and money
tests, whose promises are each shown once on vLLM as well. Run: `python -m benchmarks.stub_engine --port 0`.

`request.py` is what is asked, `answer.py` what is said, `server.py` when it is said, `counters.py` what was produced.
Known differences from vLLM: one token is one word, an answer ends by its length or as `script.py` says, nothing ever
waits, a prompt counts once whatever `n` is, and a failure is a cut connection."""
