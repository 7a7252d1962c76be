"""Does the openai library understand the stub? Called with its base URL; every failure is an AssertionError."""

import sys
import time

import openai

BASE_URL = sys.argv[1]
USER = [{"role": "user", "content": "one two three"}]

client = openai.OpenAI(base_url=BASE_URL, api_key="none", max_retries=0, timeout=20)


def stream(model, **more):
    return client.chat.completions.create(model=model, messages=USER, stream=True, **more)


def text_of(chunks):
    return "".join(it.choices[0].delta.content or "" for it in chunks if it.choices)


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def streams_text():
    chunks = list(stream("text"))
    assert text_of(chunks) == "Grüße, ä€😀", chunks
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert chunks[-1].choices[0].finish_reason == "stop", chunks[-1]
    assert all(it.usage is None for it in chunks), chunks
    assert text_of(stream("pieces-1000")) == "".join(f"w{i} " for i in range(1000))
    assert text_of(stream("no-such-script")) == "one two three"
    assert text_of(stream("paced")) == "".join(f"w{i} " for i in range(20))
    assert list(stream("length"))[-1].choices[0].finish_reason == "length"


def says_usage():
    chunks = list(stream("usage", stream_options={"include_usage": True}))
    assert chunks[-1].choices == [], chunks[-1]
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 5, 12), usage


def answers_whole():
    answer = client.chat.completions.create(model="text", messages=USER)
    assert answer.choices[0].message.content == "Grüße, ä€😀", answer
    assert answer.choices[0].message.role == "assistant", answer
    assert answer.choices[0].finish_reason == "stop", answer
    assert answer.usage.prompt_tokens == 3 and answer.usage.completion_tokens == 2, answer.usage
    assert answer._request_id.startswith("req-"), answer._request_id


def lists_models():
    models = {it.id for it in client.models.list()}
    assert {"echo", "pieces-1", "text", "cut"} <= models, models


def maps_errors():
    raises(openai.AuthenticationError, lambda: stream("unauthorized"))
    bad = raises(openai.BadRequestError, lambda: stream("bad"))
    assert bad.code == "context_length_exceeded" and bad.status_code == 400, bad
    limited = raises(openai.RateLimitError, lambda: stream("limited"))
    assert limited.response.headers["retry-after"] == "1", limited.response.headers


def honours_retry_after():
    start = time.monotonic()
    chunks = client.with_options(max_retries=1).chat.completions.create(
        model="retried", messages=USER, stream=True
    )
    assert text_of(chunks) == "at last"
    # Without the header it would have tried again after half a second at most.
    assert time.monotonic() - start >= 0.95, time.monotonic() - start


def reaches_reasoning():
    deltas = [it.choices[0].delta for it in stream("reasoning") if it.choices]
    assert [d.reasoning_content for d in deltas if hasattr(d, "reasoning_content")] == ["think"], deltas
    assert [d.reasoning for d in deltas if hasattr(d, "reasoning")] == ["ing"], deltas
    assert "".join(d.content or "" for d in deltas) == "said", deltas
    whole = client.chat.completions.create(model="reasoning", messages=USER)
    assert whole.choices[0].message.reasoning_content == "thinking", whole


def broken_streams_raise():
    seen = []

    def read(model):
        seen.clear()
        for chunk in stream(model):
            seen.append(chunk)

    # The library hands through what its HTTP layer says about a body that ends too early.
    cut = raises(Exception, lambda: read("cut"))
    assert type(cut).__name__ in ("RemoteProtocolError", "APIConnectionError"), repr(cut)
    assert text_of(seen) == "half", seen
    broken = raises(openai.APIError, lambda: read("broken"))
    assert "boom" in str(broken), broken
    assert text_of(seen) == "half", seen


for check in (
    streams_text,
    says_usage,
    answers_whole,
    lists_models,
    maps_errors,
    honours_retry_after,
    reaches_reasoning,
    broken_streams_raise,
):
    check()
