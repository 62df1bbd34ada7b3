"""What does not join the data, and what does."""

import pytest

from graft.data.synth.filters import good_instances, instruction_fault
from graft.data.synth.replies import Example
from graft.data.synth.seeds import Instance

GOOD = [
    "Name three fish of the North Sea.",
    "Explain the difference between weather and climate.",
    "Choose a profile for a dating advert and say why.",  # no `file` by itself
    "Say what a cartographer does all day.",
    "写一首诗",
    "请解释天气和气候的区别。",
    "3 friends share 12 apples. How many does each get?",
    "word " * 150,
    "字" * 150,
    "Writing a programme for a concert takes what steps?",
]

BAD = {
    "too-short": ["Name three fish", "", "写首诗", "... !!! ???"],
    "too-long": ["word " * 151, "字" * 151],
    "begins-with-punctuation": [
        "- Name three fish of the sea", "'Name' three big fish", "《红楼梦》的作者是谁？", "（写一首诗）",
    ],
    "keyword": [
        "Describe the image in detail please",
        "Draw a house with four windows",
        "Explain how to GO TO the station",
        "Summarise the attached file in two sentences",
        "Recommend music for a rainy evening",
        "Describe the plot of a novel",
        "请描述这张图片的内容",
        "画一只可爱的小猫",
        "把附件里的文件总结一下",
        "推荐一首适合雨天的音乐",
        "为这个过程制作流程图",
    ],
    "asks-for-a-program": [
        "Write a program that sorts numbers",
        "write a Python program to add numbers",
        "编写一个程序来排序数字",
        "请写一段Python代码计算平均数",
    ],
    "broken-text": ["Name three � of the sea", "Name three \ud83d fish of the sea", "cafÃ© menu for six people"],
}  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_good_instructions_join(text: str) -> None:
    assert instruction_fault(text, None) is None


@pytest.mark.parametrize(("reason", "text"), [(reason, text) for reason, texts in BAD.items() for text in texts])
def test_bad_instructions_do_not(reason: str, text: str) -> None:
    drop = instruction_fault(text, None)
    assert drop is not None
    assert drop.reason == reason


def test_another_language_is_left_out_where_one_is_asked_for() -> None:
    assert instruction_fault("Name three fish of the sea", "en") is None
    assert instruction_fault("写一首关于海的诗", "zh") is None
    for text, wanted in (("Name three fish of the sea", "zh"), ("写一首关于海的诗", "en")):
        drop = instruction_fault(text, wanted)  # type: ignore[arg-type]
        assert drop is not None
        assert drop.reason == "other-language"


def judged(*pairs: tuple[str, str | None]) -> tuple[list[Instance], list[str]]:
    kept, drops = good_instances("Say it in French.", [Example(*pair) for pair in pairs])
    return kept, [drop.reason for drop in drops]


def test_good_examples_are_kept() -> None:
    assert judged(("cat", "chat"), ("dog", "chien")) == ([Instance("cat", "chat"), Instance("dog", "chien")], [])
    assert judged(("", "Bonjour.")) == ([Instance("", "Bonjour.")], [])


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (("cat", None), "no-output"),
        (("cat", " \n"), "empty-output"),
        (("cat", "Cat "), "output-is-input"),
        (("猫咪", "猫咪"), "output-is-input"),
        (("cat", "Say it in French."), "output-is-input"),
        (("cat", "The answer is:"), "output-breaks-off"),
        (("cat", "chat \ud800"), "broken-text"),
        (("c\ufffdt", "chat"), "broken-text"),
    ],
)
def test_bad_examples_are_not(pair: tuple[str, str | None], reason: str) -> None:
    assert judged(pair, ("dog", "chien")) == ([Instance("dog", "chien")], [reason])


def test_of_a_task_that_contradicts_itself_nothing_is_kept() -> None:
    assert judged(("dog", "chien"), ("cat", "chat"), ("CAT", "minou")) == ([], ["contradictory"])


def test_an_instruction_without_input_keeps_its_first_answer() -> None:
    assert judged(("", "Bonjour."), ("", "Salut.")) == ([Instance("", "Bonjour.")], ["same-example"])


def test_an_example_that_stands_twice_is_kept_once() -> None:
    assert judged(("cat", "chat"), ("cat ", "Chat")) == ([Instance("cat", "chat")], ["same-example"])
