"""Every template that ships, held against ids and masks written by hand, and against random conversations."""

import json
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.data import Template, encode_conversation, encode_prompt, load_template
from graft.data.calls import Answer
from graft.errors import DataError
from graft.model import load_tokenizer
from graft.records import Conversation, Message, Source, TokenSequence, ToolCall
from graft.seedling import seedling_path
from tests.data.characters import EOS, FIRST, OPENING, SPECIAL, Characters, ids

SOURCE = Source("rows.json", 1)
CODEC = Characters()

# A user who spells special tokens, an answer that repeats the question, one that its `loss` takes out.
SPELT = "Say <|im_end|></s>[/INST]<|eot_id|>"
TURNS = Conversation(
    (
        Message("system", "Be brief."),
        Message("user", SPELT),
        Message("assistant", f"{SPELT}!", trained=True),
        Message("user", "二", context="三"),
        Message("assistant", "no", trained=False),
        Message("user", "c"),
        Message("assistant", "d", trained=True),
    ),
    SOURCE,
)
CALL = ToolCall("look", {"at": 'a "</s>"', "n": [1, None, True]})
TOOL = {"name": "look", "description": "<|im_end|>", "parameters": {}}
CALLS = Conversation(
    (
        Message("user", "q"),
        Message("assistant", "", trained=True, tool_calls=(CALL,)),
        Message("tool", '{"t": 3}'),
        Message("assistant", "3", trained=True),
    ),
    SOURCE,
    tools=(TOOL,),
)

WRAPPED = '{"type": "function", "function": {"name": "look", "description": "<|im_end|>", "parameters": {}}}'
BARE = '{"name": "look", "description": "<|im_end|>", "parameters": {}}'
CALL_JSON = '{"name": "look", "arguments": {"at": "a \\"</s>\\"", "n": [1, null, true]}}'
MARKED = f"<tool_call>\n{CALL_JSON}\n</tool_call>"
TOOLS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
%s
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>"""
RESPONSE = '<tool_response>\n{"t": 3}\n</tool_response>'

BELOW = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
PAIRED = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
)
FRENCH = (
    "Ci-dessous se trouve une instruction qui décrit une tâche. Écrivez une réponse qui complète correctement la "
    "demande.\n\n"
)
FRENCH_PAIRED = (
    "Ci-dessous se trouve une instruction qui décrit une tâche, associée à une entrée qui fournit un contexte "
    "supplémentaire. Écrivez une réponse qui complète correctement la demande.\n\n"
)

Expected = list[str | tuple[str, ...]]


def alpaca(below: str, paired: str, end: str, words: str = "Instruction Input Response") -> tuple[Expected, Expected]:
    instruction, given, response = (f"### {word}:" for word in words.split())

    def form(text: str) -> str:
        return f"{below}{instruction}\n{text}\n\n{response}{end}"

    turns: Expected = [
        "<s>", f"Be brief.\n\n{form(SPELT)}", ("+", f"{SPELT}!"), ("+", "</s>"),
        f"{paired}{instruction}\n二\n\n{given}\n三\n\n{response}{end}", "no", "</s>",
        form("c"), ("+", "d"), ("+", "</s>"),
    ]  # fmt: skip
    calls: Expected = [
        "<s>", f"{TOOLS % BARE}\n\n{form('q')}", ("+", MARKED), ("+", "</s>"),
        form(RESPONSE), ("+", "3"), ("+", "</s>"),
    ]  # fmt: skip
    return turns, calls


def chatml(system: str, own: str) -> tuple[Expected, Expected]:
    s, e = "<|im_start|>", "<|im_end|>"
    turns: Expected = [
        "<s>", s, f"system\n{system}", e, "\n",
        s, f"user\n{SPELT}", e, "\n", s, "assistant\n", ("+", f"{SPELT}!"), ("+", e), "\n",
        s, "user\n二\n\n三", e, "\n", s, "assistant\n", "no", e, "\n",
        s, "user\nc", e, "\n", s, "assistant\n", ("+", "d"), ("+", e),
    ]  # fmt: skip
    calls: Expected = [
        "<s>", s, f"system\n{own}{TOOLS % WRAPPED}", e, "\n",
        s, "user\nq", e, "\n", s, "assistant\n", ("+", MARKED), ("+", e), "\n",
        s, f"user\n{RESPONSE}", e, "\n", s, "assistant\n", ("+", "3"), ("+", e),
    ]  # fmt: skip
    return turns, calls


def llama_3() -> tuple[Expected, Expected]:
    s, h, e = "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
    turns: Expected = [
        "<s>", s, "system", h, "\n\nBe brief.", e,
        s, "user", h, f"\n\n{SPELT}", e, s, "assistant", h, "\n\n", ("+", f"{SPELT}!"), ("+", e),
        s, "user", h, "\n\n二\n\n三", e, s, "assistant", h, "\n\n", "no", e,
        s, "user", h, "\n\nc", e, s, "assistant", h, "\n\n", ("+", "d"), ("+", e),
    ]  # fmt: skip
    tools = (
        "You have access to the following functions. To call a function, please respond with JSON for a function call. "
        'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}. '
        'Do not use variables.\n\n{\n    "type": "function",\n    "function": {\n        "name": "look",\n        '
        '"description": "<|im_end|>",\n        "parameters": {}\n    }\n}'
    )
    calls: Expected = [
        "<s>", s, "system", h, f"\n\n{tools}", e, s, "user", h, "\n\nq", e,
        s, "assistant", h, "\n\n", ("+", CALL_JSON.replace('"arguments"', '"parameters"')), ("+", e),
        s, "ipython", h, '\n\n{"t": 3}', e, s, "assistant", h, "\n\n", ("+", "3"), ("+", e),
    ]  # fmt: skip
    return turns, calls


def gemma() -> tuple[Expected, Expected]:
    s, e = "<start_of_turn>", "<end_of_turn>"
    turns: Expected = [
        "<s>", s, f"user\nBe brief.\n\n{SPELT}", e, "\n", s, "model\n", ("+", f"{SPELT}!"), ("+", e), "\n",
        s, "user\n二\n\n三", e, "\n", s, "model\n", "no", e, "\n",
        s, "user\nc", e, "\n", s, "model\n", ("+", "d"), ("+", e),
    ]  # fmt: skip
    calls: Expected = [
        "<s>", s, f"user\n{TOOLS % WRAPPED}\n\nq", e, "\n", s, "model\n", ("+", MARKED), ("+", e), "\n",
        s, f"user\n{RESPONSE}", e, "\n", s, "model\n", ("+", "3"), ("+", e),
    ]  # fmt: skip
    return turns, calls


def llama_2() -> tuple[Expected, Expected]:
    i, o = "[INST]", "[/INST]"
    turns: Expected = [
        "<s>", i, f" <<SYS>>\nBe brief.\n<</SYS>>\n\n{SPELT} ", o, ("+", f" {SPELT}! "), ("+", "</s>"),
        "<s>", i, " 二\n\n三 ", o, " no ", "</s>", "<s>", i, " c ", o, ("+", " d "), ("+", "</s>"),
    ]  # fmt: skip
    calls: Expected = [
        "<s>", i, f" <<SYS>>\n{TOOLS % WRAPPED}\n<</SYS>>\n\nq ", o, ("+", f" {MARKED} "), ("+", "</s>"),
        "<s>", i, f"\n{RESPONSE} ", o, ("+", " 3 "), ("+", "</s>"),
    ]  # fmt: skip
    return turns, calls


def mistral() -> tuple[Expected, Expected]:
    i, o = "[INST]", "[/INST]"
    turns: Expected = [
        "<s>", i, f" Be brief.\n\n{SPELT}", o, ("+", f" {SPELT}!"), ("+", "</s>"),
        i, " 二\n\n三", o, " no", "</s>", i, " c", o, ("+", " d"), ("+", "</s>"),
    ]  # fmt: skip
    calls: Expected = [
        "<s>", "[AVAILABLE_TOOLS]", f" [{WRAPPED}]", "[/AVAILABLE_TOOLS]", i, " q", o,
        ("+", "[TOOL_CALLS]"), ("+", f' [{CALL_JSON[:-1]}, "id": "call00001"}}]'), ("+", "</s>"),
        "[TOOL_RESULTS]", ' {"content": "{\\"t\\": 3}", "call_id": "call00001"}', "[/TOOL_RESULTS]",
        ("+", " 3"), ("+", "</s>"),
    ]  # fmt: skip
    return turns, calls


def chatglm3() -> tuple[Expected, Expected]:
    u, a = "<|user|>", "<|assistant|>"
    turns: Expected = [
        "[gMASK]", "sop", "<|system|>", "\n Be brief.", u, f"\n {SPELT}", a, ("+", f"\n {SPELT}!"),
        ("+", u), "\n 二\n\n三", a, "\n no", u, "\n c", a, ("+", "\n d"), ("+", "</s>"),
    ]  # fmt: skip
    tools = (
        '[\n    {\n        "name": "look",\n        "description": "<|im_end|>",\n        "parameters": {}\n    }\n]'
    )
    asked = "Answer the following questions as best as you can. You have access to the following tools:"
    calls: Expected = [
        "[gMASK]", "sop", "<|system|>", f"\n {asked}\n{tools}", u, "\n q", a,
        ("+", 'look\n ```python\ntool_call(at="a \\"</s>\\"", n=[1, None, True])\n```'), ("+", "<|observation|>"),
        '\n {"t": 3}', a, ("+", "\n 3"), ("+", "</s>"),
    ]  # fmt: skip
    return turns, calls


QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
ORACLES = {
    "alpaca": alpaca(BELOW, PAIRED, "\n"),
    "alpaca_short": alpaca("", "", "\n"),
    "alpaca_legacy": alpaca(BELOW, PAIRED, ""),
    "vigogne": alpaca(FRENCH, FRENCH_PAIRED, "\n", "Instruction Entrée Réponse"),
    "chatml": chatml("Be brief.", ""),
    "qwen": chatml("Be brief.", f"{QWEN}\n\n"),
    "llama-2": llama_2(),
    "llama-3": llama_3(),
    "mistral": mistral(),
    "gemma": gemma(),
    "chatglm3": chatglm3(),
}


def written(expected: Expected) -> list[tuple[int, bool]]:
    """Ids and mask; a text that begins the sequence, or follows BOS, has the token OPENING before it."""
    found: list[tuple[int, bool]] = []
    for part in expected:
        text, trained = (part, False) if isinstance(part, str) else (part[1], True)
        if text in SPECIAL:
            found.append((CODEC.special_tokens[text], trained))
        else:
            opening = [OPENING] if not found or found[-1][0] == CODEC.bos_id else []
            found += [(id, trained) for id in [*opening, *ids(text)]]
    return found


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("kind", ["turns", "calls"])
def test_ids_and_mask_are_those_written_by_hand(name: str, kind: str) -> None:
    conversation, expected = (TURNS, ORACLES[name][0]) if kind == "turns" else (CALLS, ORACLES[name][1])
    found = encode_conversation(conversation, load_template(name), CODEC)
    pairs = list(zip(found.ids, found.trained, strict=True))
    assert CODEC.decode(found.ids) == CODEC.decode([id for id, _ in written(expected)])
    assert pairs == written(expected)


def test_qwen_introduces_itself_where_nobody_does() -> None:
    found = CODEC.decode(encode_prompt([Message("user", "q")], load_template("qwen"), CODEC))
    opening, _, rest = found.partition(QWEN)
    assert opening == "<s><|im_start|>system\n"
    assert rest == "<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"


FRAMES = {"llama-2": (" ", " "), "mistral": (" ", ""), "chatglm3": ("\n ", "")}
SCRIPTS = st.one_of(
    st.text(min_size=1, max_size=20),
    st.text(st.sampled_from("abc .,\n\t"), min_size=1, max_size=20),
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1, max_size=8),
    st.text(st.characters(min_codepoint=0x0600, max_codepoint=0x06FF), min_size=1, max_size=8),
    st.text(st.sampled_from("🦊👩‍🚀🏽éß½\ufffd\u200b\x00\x1b\r"), min_size=1, max_size=6),
    st.text(st.characters(min_codepoint=0x20000, max_codepoint=0x2A6DF), min_size=1, max_size=4),
    st.text(st.sampled_from("कखगघिीुू्ंः" + "กขคิีุู้่์" + "e\u0301\u0315\u0308"), min_size=1, max_size=12),
    st.lists(st.sampled_from([*SPECIAL, "{{ x }}", "</think>", "{", "}}", "z"]), min_size=1, max_size=4).map("".join),
).filter(lambda text: text.strip() and not any("\ud800" <= c <= "\udfff" for c in text))


@st.composite
def conversations(draw: st.DrawFn, given: tuple[bool | None, ...] = (None, None, False, True)) -> Conversation:
    """Turns in several scripts, with marks of their own, of those `given` what is no answer; an answer may say what
    stands before it, and a tool may be called in between."""
    marks = st.sampled_from(given)
    messages = [Message("system", draw(SCRIPTS), draw(marks))] if draw(st.booleans()) else []
    tools = draw(st.sampled_from([(), (), (TOOL,)]))
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message("user", draw(SCRIPTS), draw(marks), draw(st.just("") | SCRIPTS)))
        if tools and draw(st.booleans()):
            call = ToolCall("look", {"at": draw(SCRIPTS)})
            messages.append(Message("assistant", "", draw(st.sampled_from([False, None])), tool_calls=(call,)))
            messages.append(Message("tool", draw(SCRIPTS), draw(marks)))
        said = draw(SCRIPTS | st.sampled_from([*(m.content for m in messages if m.content), messages[-1].content * 2]))
        messages.append(Message("assistant", said, draw(st.sampled_from([True, True, False, None]))))
    return Conversation(tuple(messages), SOURCE, tools)


def trained_runs(sample: TokenSequence, template: Template) -> list[list[int]]:
    """What is trained, turn by turn, each with the token that ends it."""
    runs: list[list[int]] = [[]]
    for id, trained in zip(sample.ids, sample.trained, strict=True):
        if trained:
            runs[-1].append(id)
            if id in template.stops(CODEC):
                runs.append([])
    assert runs.pop() == [], "every turn ends"
    return runs


ENDS = {
    "chatml": dict.fromkeys(("system", "user", "tool", "assistant"), "<|im_end|>"),
    "qwen": dict.fromkeys(("system", "user", "tool", "assistant"), "<|im_end|>"),
    "llama-3": dict.fromkeys(("system", "user", "tool", "assistant"), "<|eot_id|>"),
    "gemma": dict.fromkeys(("user", "tool", "assistant"), "<end_of_turn>"),
    "llama-2": {"user": "[/INST]", "tool": "[/INST]", "assistant": "</s>"},
    "mistral": {"user": "[/INST]", "tool": "[/TOOL_RESULTS]", "assistant": "</s>"},
    "chatglm3": {"system": "<|user|>", "user": "<|assistant|>", "tool": "<|assistant|>", "assistant": "<|user|>"},
}
"""The token that ends what each role says, where it has a turn of its own; Alpaca's forms end answers only."""


def learned(name: str, conversation: Conversation) -> list[int]:
    """What is learned of a conversation: its marked words and the tokens that end them, and nothing around them."""
    ends = ENDS.get(name, {"assistant": "</s>"})
    before, after = FRAMES.get(name, ("", ""))
    found: list[int] = []
    for number, message in enumerate(conversation.messages, start=1):
        if message.trained:
            between = "\n\n" if name in ENDS and message.context else ""
            words = f"{message.content}{between}{message.context}"
            end = ends.get(message.role)
            if message.role == "assistant":
                words = f"{before}{words}{after}"
            elif name == "mistral" and message.role == "tool":
                words = json.dumps(words, ensure_ascii=False)[1:-1]
            if name == "chatglm3" and number == len(conversation.messages):
                end = "</s>"
            found += [*ids(words), *([CODEC.special_tokens[end]] if end else [])]
    return found


def check_what_is_trained(name: str, conversation: Conversation) -> None:
    sample = encode_conversation(conversation, load_template(name), CODEC)
    trained = [id for id, trained in zip(sample.ids, sample.trained, strict=True) if trained and id != OPENING]
    assert trained == learned(name, conversation)


@pytest.mark.parametrize("name", ORACLES)
@given(conversations())
def test_what_is_trained_is_what_is_marked_and_its_ends(name: str, conversation: Conversation) -> None:
    check_what_is_trained(name, conversation)


@pytest.mark.slow
@pytest.mark.parametrize("name", ORACLES)
@settings(max_examples=1000)
@given(conversations())
def test_what_is_trained_in_ten_thousand_conversations(name: str, conversation: Conversation) -> None:
    check_what_is_trained(name, conversation)


SEEDLING = load_tokenizer(str(seedling_path()))


def check_with_a_real_tokenizer(name: str, conversation: Conversation) -> None:
    template = load_template(name)
    before, after = FRAMES.get(name, ("", ""))
    said = [f"{before}{m.content}{after}" for m in conversation.messages if m.trained]
    said = [text.replace("\u2581", " ") for text in said]  # how SentencePiece writes a space: no vocabulary has both
    sample = encode_conversation(conversation, template, SEEDLING)
    runs = [
        list(run)
        for trained, run in groupby(zip(sample.ids, sample.trained, strict=True), key=lambda p: p[1])
        if trained
    ]
    assert all(run[-1][0] == SEEDLING.eos_id for run in runs)
    assert [SEEDLING.decode([id for id, _ in run[:-1]]) for run in runs] == said


@pytest.mark.parametrize("name", ["alpaca", "llama-2", "mistral"])
@given(conversations(given=(None, False)))
def test_a_real_tokenizer_gives_back_what_is_trained(name: str, conversation: Conversation) -> None:
    check_with_a_real_tokenizer(name, conversation)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alpaca", "alpaca_legacy", "vigogne", "llama-2", "mistral"])
@settings(max_examples=2000)
@given(conversations(given=(None, False)))
def test_a_real_tokenizer_gives_back_ten_thousand_conversations(name: str, conversation: Conversation) -> None:
    check_with_a_real_tokenizer(name, conversation)


@pytest.mark.parametrize("name", ORACLES)
@given(conversations())
def test_the_last_answer_follows_the_very_prompt_that_it_will_be_asked_with(
    name: str, conversation: Conversation
) -> None:
    template = load_template(name)
    sample = encode_conversation(conversation, template, CODEC)
    prompt = encode_prompt(conversation.messages[:-1], template, CODEC, tools=conversation.tools)
    assert list(sample.ids[: len(prompt)]) == prompt


@pytest.mark.parametrize("name", ORACLES)
def test_a_call_is_read_back_from_what_is_trained(name: str) -> None:
    template = load_template(name)
    called, told = trained_runs(encode_conversation(CALLS, template, CODEC), template)
    generated = CODEC.decode([id for id in called if id >= FIRST])  # a tokenizer's decoding leaves special tokens out
    answer = template.read_answer(generated, CODEC)
    assert [(call.name, call.arguments) for call in answer.calls] == [(CALL.name, CALL.arguments)]
    assert not answer.content.strip()
    assert template.read_answer(CODEC.decode(told[:-1]), CODEC).content.strip() == "3"


@pytest.mark.parametrize("name", ["chatml", "qwen", "llama-3", "gemma", "chatglm3"])
def test_a_tokenizer_without_a_templates_tokens_is_refused_by_their_names(name: str) -> None:
    codec = Characters(special_tokens={"<s>": 1, "</s>": EOS})
    with pytest.raises(DataError) as caught:
        encode_conversation(TURNS, load_template(name), codec)
    assert f"the template {name} needs the special tokens" in caught.value.what
    assert "data.template" in caught.value.fix


def test_words_alone_are_an_answer() -> None:
    for name in ORACLES:
        assert load_template(name).read_answer("Hello.", CODEC) == Answer("Hello.")
