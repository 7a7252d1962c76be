"""Do the vendors' own libraries understand the stub? Called with its origin; every failure is an AssertionError."""

import sys

import anthropic
import ollama
import openai
from google import genai
from google.genai import errors, types

ORIGIN = sys.argv[1]
USER = [{"role": "user", "content": "one two three"}]
TEXT, THOUGHT = "Grüße, ä€😀", "thinking"

claude = anthropic.Anthropic(base_url=ORIGIN, api_key="none", max_retries=0, timeout=20)
gpt = openai.OpenAI(base_url=ORIGIN + "/v1", api_key="none", max_retries=0, timeout=20)
gemini = genai.Client(
    api_key="none", http_options=types.HttpOptions(base_url=ORIGIN, retry_options=types.HttpRetryOptions(attempts=1))
)
llama = ollama.Client(host=ORIGIN, timeout=20)


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


class Anthropic:
    """What the library makes of a streamed answer: text, reasoning, usage, stop reason."""

    status_error = anthropic.APIStatusError
    stops = {"stop": "end_turn", "length": "max_tokens"}

    def stream(self, model):
        with claude.messages.stream(model=model, max_tokens=9, messages=USER) as stream:
            message = stream.get_final_message()
        return self.read(message)

    def whole(self, model):
        return self.read(claude.messages.create(model=model, max_tokens=9, messages=USER))

    def read(self, message):
        text = "".join(it.text for it in message.content if it.type == "text")
        thought = "".join(it.thinking for it in message.content if it.type == "thinking")
        usage = message.usage
        cached, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
        tokens = (usage.input_tokens + cached + written, usage.output_tokens, cached)
        return text, thought, tokens, message.stop_reason

    def status(self, error):
        return error.status_code

    def models(self):
        return {it.id for it in claude.models.list()}


class Responses:
    status_error = openai.APIStatusError
    stops = {"stop": "completed", "length": "max_output_tokens"}

    def stream(self, model):
        deltas, final = "", None
        with gpt.responses.stream(model=model, input=USER) as stream:
            for event in stream:
                if event.type == "response.output_text.delta":
                    deltas += event.delta
                if event.type == "error":
                    raise RuntimeError(event.message)
                if event.type in ("response.completed", "response.incomplete"):
                    final = event.response
        assert final is not None, "the stream has no end"
        assert final.output_text == deltas, (final.output_text, deltas)
        return self.read(final)

    def whole(self, model):
        return self.read(gpt.responses.create(model=model, input="one two three"))

    def read(self, response):
        thoughts = [it for it in response.output if it.type == "reasoning"]
        thought = "".join(part.text for it in thoughts for part in it.summary)
        usage = response.usage
        tokens = (usage.input_tokens, usage.output_tokens, usage.input_tokens_details.cached_tokens)
        why = response.incomplete_details.reason if response.incomplete_details else response.status
        return response.output_text, thought, tokens, why

    def status(self, error):
        return error.status_code

    def models(self):
        return {it.id for it in gpt.models.list()}


class Gemini:
    status_error = errors.APIError
    stops = {"stop": "STOP", "length": "MAX_TOKENS"}

    def stream(self, model):
        text = thought = ""
        last = None
        for chunk in gemini.models.generate_content_stream(model=model, contents="one two three"):
            part_text, part_thought, _, _ = self.read(chunk)
            text, thought, last = text + part_text, thought + part_thought, chunk
        assert last is not None and last.candidates[0].finish_reason, "the stream has no end"
        _, _, tokens, why = self.read(last)
        return text, thought, tokens, why

    def whole(self, model):
        return self.read(gemini.models.generate_content(model=model, contents="one two three"))

    def read(self, chunk):
        candidate = chunk.candidates[0]
        parts = candidate.content.parts or []
        text = "".join(it.text or "" for it in parts if not it.thought)
        thought = "".join(it.text or "" for it in parts if it.thought)
        usage = chunk.usage_metadata
        tokens = usage and (
            usage.prompt_token_count,
            usage.candidates_token_count + usage.thoughts_token_count,
            usage.cached_content_token_count,
        )
        return text, thought, tokens, candidate.finish_reason and candidate.finish_reason.value

    def status(self, error):
        return error.code

    def models(self):
        return {it.name.removeprefix("models/") for it in gemini.models.list()}


class Ollama:
    status_error = ollama.ResponseError
    stops = {"stop": "stop", "length": "length"}

    def stream(self, model):
        text = thought = ""
        last = None
        for line in llama.chat(model=model, messages=USER, stream=True):
            text += line.message.content or ""
            thought += line.message.thinking or ""
            last = line
        assert last is not None and last.done, "the stream has no end"
        return text, thought, self.tokens(last), last.done_reason

    def whole(self, model):
        line = llama.chat(model=model, messages=USER)
        return line.message.content, line.message.thinking or "", self.tokens(line), line.done_reason

    def tokens(self, line):
        return line.prompt_eval_count, line.eval_count, 0

    def status(self, error):
        return error.status_code

    def models(self):
        return {it.model for it in llama.list().models}


def check(vendor):
    name = type(vendor).__name__
    for ask in (vendor.stream, vendor.whole):
        text, thought, tokens, why = ask("full")
        assert (text, thought) == (TEXT, THOUGHT), (name, text, thought)
        cached = 0 if name == "Ollama" else 4
        assert tokens == (9, 7, cached), (name, tokens)
        assert why == vendor.stops["stop"], (name, why)
        assert ask("length")[3] == vendor.stops["length"], name
        assert ask("no-such-script")[0] == "one two three", name
        for status in (400, 401, 429, 500):
            error = raises(vendor.status_error, lambda: ask(f"status-{status}"))
            assert vendor.status(error) == status, (name, error)
    assert vendor.stream("pieces-300")[0] == "".join(f"w{i} " for i in range(300)), name
    broken = raises(Exception, lambda: vendor.stream("broken"))
    assert "boom" in str(broken), (name, repr(broken))
    raises(Exception, lambda: vendor.stream("cut"))
    assert {"full", "broken"} <= vendor.models(), (name, vendor.models())


for vendor in (Anthropic(), Responses(), Gemini(), Ollama()):
    check(vendor)
