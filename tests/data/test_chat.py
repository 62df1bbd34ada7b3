"""Chat templates as models bring them: what they do with words, where they speak, and those that cannot be trusted."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend
from transformers.utils.chat_template_utils import render_jinja_template

from graft.data import encode_all, encode_conversation, encode_prompt, load_template
from graft.data.chat import ChatTemplate
from graft.errors import DataError
from graft.model import Tokenizer, load_tokenizer
from graft.records import Conversation, Message, Source, ToolCall
from tests.data.characters import Characters

CODEC = Characters()
CHATML = """{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content | trim }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
THINKING = """{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.role == "assistant" and loop.last %}<think>

</think>

{% endif %}{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
CLOSED = """{% for message in messages %}<|{{ message.role }}|>
{{ message.content }}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% else %}{{ eos_token }}{% endif %}"""


def conversation(*texts: str, tools: tuple[dict[str, Any], ...] = ()) -> Conversation:
    """Questions and answers by turns."""
    said = [
        Message("assistant", text, trained=True) if number % 2 else Message("user", text)
        for number, text in enumerate(texts)
    ]
    return Conversation(tuple(said), Source("rows.json", 7), tools)


def shown(conversation: Conversation, template: str) -> list[tuple[str, bool]]:
    """Runs of text that are trained alike, in the last sample of a conversation."""
    sample = ChatTemplate(template).samples(conversation, CODEC)[-1]
    found = encode_conversation(sample, ChatTemplate(template), CODEC)
    runs: list[tuple[list[int], bool]] = []
    for id, trained in zip(found.ids, found.trained, strict=True):
        if not runs or runs[-1][1] != trained:
            runs.append(([], trained))
        runs[-1][0].append(id)
    return [(CODEC.decode(ids), trained) for ids, trained in runs]


def learned(conversation: Conversation, template: str) -> list[list[str]]:
    """What is trained, sample by sample."""
    samples = ChatTemplate(template).samples(conversation, CODEC)
    return [[text for text, trained in shown(sample, template) if trained] for sample in samples]


def refusal(conversation: Conversation, template: str) -> str:
    with pytest.raises(DataError) as caught:
        encode_conversation(conversation, ChatTemplate(template, "mine"), CODEC)
    assert caught.value.what.startswith("rows.json:7: the template mine ")
    assert caught.value.fix
    return caught.value.what


def test_the_text_is_the_one_that_transformers_renders() -> None:
    asked = conversation("  a ", "b\n", " c", " d ")
    messages = [{"role": m.role, "content": m.content} for m in asked.messages]
    for template in (CHATML, THINKING, CLOSED):
        (whole,), _ = render_jinja_template([messages], chat_template=template, eos_token="</s>")
        found = "".join(text for text, _ in shown(asked, template))
        assert whole.startswith(found)
        assert whole.removeprefix(found).strip() in ("", "</s>"), "nothing but what stands behind the last answer"
        (prompt,), _ = render_jinja_template([messages[:3]], chat_template=template, add_generation_prompt=True)
        assert CODEC.decode(encode_prompt(asked.messages[:3], ChatTemplate(template), CODEC)) == prompt


def test_words_that_the_template_trims_are_trained_trimmed() -> None:
    assert [text for text, trained in shown(conversation(" a ", " b "), CHATML) if trained] == ["b<|im_end|>"]
    assert [text for text, trained in shown(conversation(" a ", " b "), CLOSED) if trained] == [" b <|end|>"]


def test_an_answer_begins_where_its_prompt_ends() -> None:
    """Qwen 3 puts an empty thought before the last answer: the model is asked without it, and so learns to write it."""
    assert learned(conversation("a", "b"), THINKING) == [["<think>\n\n</think>\n\nb<|im_end|>"]]


def test_an_answer_that_is_rewritten_as_the_talk_goes_on_is_learned_as_it_is_first_said() -> None:
    """One sample for each answer, with those before as the template writes them by then; a forest shares the rest."""
    asked = conversation("a", "b", "c", "d")
    assert learned(asked, THINKING) == [
        ["<think>\n\n</think>\n\nb<|im_end|>"],
        ["<think>\n\n</think>\n\nd<|im_end|>"],
    ]
    found = encode_all([asked], ChatTemplate(THINKING), CODEC, cutoff=999, too_long="error")
    assert found.rows == 1
    for sample, upto in zip(found.samples, (1, 3), strict=True):
        prompt = encode_prompt(asked.messages[:upto], ChatTemplate(THINKING), CODEC)
        assert list(sample.ids[: len(prompt)]) == prompt
        assert not any(sample.trained[: len(prompt)])
    assert "assistant\nb<|im_end|>" in CODEC.decode(found.samples[1].ids)


def test_what_the_data_take_out_stays_out_of_every_sample() -> None:
    first, *rest = conversation("a", "b", "c", "d", "e", "f").messages
    said = (first, replace(rest[0], trained=False), *rest[1:])
    assert learned(Conversation(said, Source("rows.json", 7)), THINKING) == [
        ["<think>\n\n</think>\n\nd<|im_end|>"],
        ["<think>\n\n</think>\n\nf<|im_end|>"],
    ]


def test_what_is_marked_behind_the_last_answer_is_a_sample_of_its_own() -> None:
    answered = conversation("a", "b", "c", "d").messages
    asked = Message("user", "e", trained=True)
    assert learned(Conversation((*answered, asked), Source("rows.json", 7)), THINKING) == [
        ["<think>\n\n</think>\n\nb<|im_end|>"],
        ["<think>\n\n</think>\n\nd<|im_end|>"],
        ["e<|im_end|>"],
    ]
    unmarked = Conversation((*answered, replace(asked, trained=None)), Source("rows.json", 7))
    template = ChatTemplate(THINKING)
    assert len(encode_all([unmarked], template, CODEC, cutoff=999, too_long="error").samples) == 2
    weighed = encode_all([unmarked], template, CODEC, cutoff=999, too_long="error", prompt_weight=0.5)
    *_, last = weighed.samples
    assert len(weighed.samples) == 3
    assert last.shares is not None
    learnt = [id for id, share in zip(last.ids, last.shares, strict=True) if share]
    assert CODEC.decode(learnt).endswith("user\ne<|im_end|>\n")


REASONING = """{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% set content = message.content %}
{% if message.role == "assistant" and "</think>" in content %}
{% set thought = content.split("</think>")[0].split("<think>")[-1].strip() %}
{% set content = content.split("</think>")[-1].lstrip() %}
{% if loop.last %}<think>
{{ thought }}
</think>

{% endif %}{% endif %}{{ content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def test_a_thought_is_learned_with_its_answer_and_forgotten_afterwards() -> None:
    thinking = conversation("a", "<think>hm <|im_end|></think>b", "c", "<think>\nho\n</think>\n\nd")
    assert learned(thinking, REASONING) == [
        ["<think>\nhm <|im_end|>\n</think>\n\nb<|im_end|>"],
        ["<think>\nho\n</think>\n\nd<|im_end|>"],
    ]
    assert "hm" not in "".join(text for text, _ in shown(thinking, REASONING))
    assert learned(conversation("a", "<think>hm</think>b"), CHATML) == [["<think>hm</think>b<|im_end|>"]]


@pytest.fixture(scope="module")
def phi(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A byte-level tokenizer whose role tokens take the spaces behind them, as Phi 3's do."""
    folder = tmp_path_factory.mktemp("phi")
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        ["What a fish! A fish, what?"],
        trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet, show_progress=False),
    )
    backend.add_special_tokens(["</s>", *(AddedToken(f"<|{name}|>", rstrip=True) for name in ROLES)])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    return load_tokenizer(str(folder))


ROLES = ("system", "user", "assistant", "end")


@pytest.mark.parametrize("template", [CLOSED, CLOSED.replace("}}<|end|>", "}}\n <|end|>")])
def test_the_ids_are_those_of_transformers(phi: Tokenizer, template: str) -> None:
    """Where no merge spans the border of an answer, as here: special tokens stand there."""
    said = [
        ("system", "Be brief."),
        ("user", "What a fish?"),
        ("assistant", "A fish."),
        ("user", "鱼"),
        ("assistant", "Ω"),
    ]
    messages = [Message(role, text, True if role == "assistant" else None) for role, text in said]  # type: ignore[arg-type]
    expected = phi.hf.apply_chat_template(
        [{"role": role, "content": text} for role, text in said], chat_template=template, return_dict=False
    )
    found = encode_conversation(Conversation(tuple(messages), Source("x", 1)), ChatTemplate(template), phi)
    assert list(found.ids) == expected[: len(found.ids)]
    assert phi.hf.decode(expected[len(found.ids) :]).strip() in ("", "</s>")
    prompt = phi.hf.apply_chat_template(
        [{"role": role, "content": text} for role, text in said[:2]],
        chat_template=template, add_generation_prompt=True, return_dict=False,
    )  # fmt: skip
    assert encode_prompt(messages[:2], ChatTemplate(template), phi) == prompt


TRL = importlib.util.find_spec("trl")
MODELS = sorted(Path(TRL.submodule_search_locations[0]).glob("chat_templates/*.jinja")) if TRL else []  # type: ignore[index]


@pytest.mark.skipif(not MODELS, reason="needs trl, which has the templates of many models")
@pytest.mark.parametrize("file", MODELS, ids=lambda file: file.stem)
@pytest.mark.parametrize("kind", ["one", "several", "thought", "call"])
def test_with_the_templates_of_real_models_an_answer_follows_its_prompt_or_is_refused(file: Path, kind: str) -> None:
    source = file.read_text(encoding="utf-8")
    spelt = re.findall(r"<\|[^|<>\s]*\|>|<\|\w+>|<\w+\|>|<｜[^｜]*｜>|<(?:start|end)_of_\w+>|\[/?[A-Z_]{4,}\]", source)
    names = ["<s>", "</s>", *sorted(set(spelt))]
    codec = Characters(special_tokens={name: number for number, name in enumerate(names, 10)}, bos_id=10, eos_id=11)
    call = Message("assistant", "", trained=True, tool_calls=(ToolCall("look", {"at": names[-1]}),))
    tool = {"name": "look", "description": names[-1], "parameters": {"type": "object", "properties": {}}}
    asked = {
        "one": conversation(f"q {names[-1]}", "an answer"),
        "several": conversation("q", "an answer", "r", "another"),
        "thought": conversation("q", "<think>\nhm\n</think>\n\nan answer", "r", "<think>\nho\n</think>\n\nanother"),
        "call": Conversation((Message("user", "q"), call), Source("rows.json", 7), (tool,)),
    }[kind]
    template = ChatTemplate(source, file.stem)
    try:
        samples = template.samples(asked, codec)
        encoded = [encode_conversation(sample, template, codec) for sample in samples]
    except DataError:
        return
    learned = []
    for sample, found in zip(samples, encoded, strict=True):
        prompt = encode_prompt(sample.messages[:-1], template, codec, tools=sample.tools)
        assert list(found.ids[: len(prompt)]) == prompt
        ends = template.stops(codec)
        assert found.trained[-1]
        assert found.ids[-1] in ends
        learned += [id for id, trained in zip(found.ids, found.trained, strict=True) if trained]
    said = codec.decode(learned)
    wanted = (
        ["look"] if kind == "call" else [m.content.split("\n")[-1] for m in asked.messages if m.role == "assistant"]
    )
    assert all(words in said for words in wanted)


def test_what_closes_the_conversation_is_no_end_of_a_turn() -> None:
    trained = [text for text, trained in shown(conversation("a", "b", "c", "d"), CLOSED) if trained]
    assert trained == ["b<|end|>", "d<|end|>"]


def test_every_token_that_ends_a_turn_stops_the_model() -> None:
    assert {CODEC.decode([id]) for id in ChatTemplate(CLOSED).stops(CODEC)} == {"<|end|>"}
    chatglm3 = load_template("chatglm3").stops(CODEC)
    assert {CODEC.decode([id]) for id in chatglm3} == {"</s>", "<|user|>", "<|observation|>"}


def test_an_answer_that_the_template_does_not_end_is_ended_by_the_models_end_token() -> None:
    plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}" + (
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    assert learned(conversation("a", "b", "c", "d"), plain) == [["b\n</s>"], ["d\n</s>"]]
    assert ChatTemplate(plain).stops(CODEC) == {CODEC.eos_id}


def test_bos_stands_once_if_the_template_writes_it_and_never_if_not() -> None:
    assert shown(conversation("a", "b"), "{{ bos_token }}" + CHATML)[0][0].startswith("<s><|im_start|>")
    assert shown(conversation("a", "b"), CHATML)[0][0].startswith("<|im_start|>")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (CHATML.replace("message.content | trim", "message.content | upper"), "leaves out what message 1"),
        (CHATML.replace("message.content | trim", "message.content.split('x')[0]"), "steers the template"),
        (CHATML.replace("{% endfor %}{% if", "{{ message.content }}{% endfor %}{% if"), "says a message twice"),
        (CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"), "writes something else before"),
        (CHATML.replace("| trim", "+ 1"), "cannot render this conversation: can only concatenate str"),
        ("{{ messages[5].content.x }}", "cannot render this conversation"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for", "cannot render this conversation"),
        ("{{ ''.__class__.__mro__ }}", "cannot render this conversation"),
        ("{% if 'x' in messages[0].content %}!{% endif %}" + CHATML, "something else around these words"),
    ],
)
def test_a_template_that_cannot_be_trusted_with_a_conversation_is_refused(template: str, said: str) -> None:
    assert said in refusal(conversation("x y", "b", "cx", "dx"), template)


def test_what_a_template_has_no_place_for_is_refused_not_lost() -> None:
    assert "has no place for tools" in refusal(conversation("a", "b", tools=({"name": "look"},)), CHATML)
    system = Conversation((Message("system", "s"), *conversation("a", "b").messages), Source("rows.json", 7))
    assert "leaves out what message 1 (system) says" in refusal(
        system,
        CHATML.replace("{% for message in messages %}", "{% for message in messages if message.role != 'system' %}"),
    )
    call = Message("assistant", "", trained=True, tool_calls=(ToolCall("look", {}),))
    calling = Conversation((Message("user", "a"), call), Source("rows.json", 7))
    assert "has no place for calls" in refusal(calling, CHATML)


CALLING = """{%- if tools %}<|im_start|>system
{{ tools | tojson }}<|im_end|>
{% endif -%}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{"name": "{{ call.function.name }}", "arguments": ARGUMENTS}</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@pytest.mark.parametrize("written", ["call.function.arguments | tojson", "call.function.arguments"])
def test_arguments_are_given_as_the_template_takes_them(written: str) -> None:
    call = Message("assistant", "", trained=True, tool_calls=(ToolCall("look", {"at": "<|im_end|>", "n": None}),))
    messages = (Message("user", "a"), call, Message("tool", "r"), Message("assistant", "b", trained=True))
    calling = Conversation(messages, Source("rows.json", 7), ({"name": "look", "description": "</s>"},))
    template = CALLING.replace("ARGUMENTS", "{{ " + written + " }}")
    trained = [text for text, trained in shown(calling, template) if trained]
    text = '<tool_call>{"name": "look", "arguments": {"at": "<|im_end|>", "n": null}}</tool_call>'
    assert trained == [f"{text}<|im_end|>", "b<|im_end|>"]
    answer = ChatTemplate(template).read_answer(text, CODEC)
    assert answer.calls == (ToolCall("look", {"at": "<|im_end|>", "n": None}),)


def test_special_tokens_that_tools_and_calls_spell_stay_text() -> None:
    call = Message("assistant", "", trained=True, tool_calls=(ToolCall("look", {"<|im_start|>": "<|im_end|>"}),))
    tool = {"name": "look", "description": "<|im_end|><|im_start|>system", "parameters": {"</s>": ["<s>"]}}
    calling = Conversation((Message("user", "a"), call), Source("rows.json", 7), (tool,))
    template = CALLING.replace("ARGUMENTS", "{{ call.function.arguments | tojson }}")
    found = encode_conversation(calling, ChatTemplate(template), CODEC)
    special = [CODEC.decode([id]) for id in found.ids if id < 1000]
    assert special == ["<|im_start|>", "<|im_end|>"] * 3


def test_a_result_that_a_template_quotes_is_found() -> None:
    """Llama 3.1 writes what a tool answered as JSON."""
    template = CHATML.replace("{{ message.content | trim }}", "{{ message.content | tojson }}")
    assert [text for text, trained in shown(conversation('a "b"', 'c\n"d"'), template) if trained] == [
        '"c\\n\\"d\\""<|im_end|>'
    ]


def test_a_sample_is_the_same_on_another_day() -> None:
    template = "{{ strftime_now('%d %b %Y') }}{{ date_string }}" + CHATML
    assert shown(conversation("a", "b"), template)[0][0].startswith("26 Jul 202426 Jul 2024")


def test_the_models_own_template_is_taken_unless_another_is_asked_for() -> None:
    assert load_template("auto", CHATML) == ChatTemplate(CHATML)
    assert load_template("model", CHATML) == ChatTemplate(CHATML)
    assert load_template("auto") == load_template("alpaca") == load_template("alpaca", CHATML)
    with pytest.raises(DataError, match="brings no chat template"):
        load_template("model")


@pytest.mark.parametrize("name", ["a", "tool", "look"])
def test_a_template_that_drops_tools_is_refused_whatever_their_names(name: str) -> None:
    calling = CHATML.replace(
        "{{ message.content | trim }}", "{{ message.content }}{{ message.tool_calls | default([]) | tojson }}"
    )
    messages = (
        Message("user", "q"),
        Message("assistant", "", trained=True, tool_calls=(ToolCall(name, {}),)),
    )
    said = Conversation(messages, Source("rows.json", 7), ({"name": name, "parameters": {}},))
    with pytest.raises(DataError, match="has no place for tools"):
        encode_conversation(said, ChatTemplate(calling), CODEC)


def test_a_tool_whose_name_json_escapes_has_its_place() -> None:
    tools = ({"name": 'a "b"', "parameters": {}},)
    assert encode_conversation(conversation("q", "a", tools=tools), load_template("chatml"), CODEC)


def test_a_thought_without_end_and_comments_without_end_take_no_time() -> None:
    template = CHATML + "{{ '</think>' if false }}" + "{#" * 10**5 + " tokens: " * 10**4 + "#}"
    assert encode_conversation(conversation("q", "<think>" + " " * 10**6 + "a"), ChatTemplate(template), CODEC)
