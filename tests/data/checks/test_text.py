import pytest

from tests.data.checks.subjects import alpaca, found

KEY = "ghp_" + "a1B2" * 9


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("The caf\ufffd is open.", "U+FFFD"),
        ("A bell \x07 rings.", "U+0007"),
        ("The cafÃ© is open.", "UTF-8 read as something else"),
        ("Itâ€™s open.", "UTF-8 read as something else"),
        ("中文".encode().decode("latin-1") + " is broken.", "U+00"),
    ],
)
def test_broken_text_is_named(text: str, why: str) -> None:
    hits = found("broken-text", alpaca("Ask.", "Fine."), alpaca("Ask.", text))
    assert list(hits) == [2]
    assert why in hits[2]


@pytest.mark.parametrize(
    "text", ["Le café est ouvert; ÂME, SÃO.", "“Quotes”, and a tab\there\r\n", "ã å ç 中文 🙂 كتاب"]
)
def test_texts_of_many_scripts_are_not_broken(text: str) -> None:
    assert not found("broken-text", alpaca("Ask.", text))


@pytest.mark.parametrize("answer", ["Yes.", "好的。", "...", "'bird'", "Sí"])
def test_answers_of_one_word_are_named(answer: str) -> None:
    assert list(found("short-answers", alpaca("Ask.", answer))) == [1]


@pytest.mark.parametrize("answer", ["42", "Two words.", "我住在北京。", "x = y", "3.5 kg", "a" * 41])
def test_other_short_answers_say_something(answer: str) -> None:
    assert not found("short-answers", alpaca("Ask.", answer))


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN RSA PRIVATE KEY-----", "AKIAABCDEFGHIJKLMNOP", KEY, "sk-proj-" + "x1" * 12, "hf_" + "aB" * 17,
        "xoxb-123456789012-abc", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghij", "postgres://ann:secret@db/x",
    ],
)  # fmt: skip
def test_what_looks_like_a_key_is_named_and_not_repeated(text: str) -> None:
    hits = found("secrets", alpaca("Ask.", "Fine."), alpaca("Ask.", f"Take {text} for it."))
    assert list(hits) == [2]
    assert text not in hits[2]


@pytest.mark.parametrize(
    "text", ["https://ann@site.org/path", "sk-learn is a task-force", "The sky: http://x.y:80/a@b"]
)
def test_what_is_no_key_is_not(text: str) -> None:
    assert not found("secrets", alpaca("Ask.", text))


def test_addresses_of_people_are_named_but_not_told() -> None:
    rows = [alpaca("Write to ann.lee@mail-host.org now.", "Done."), alpaca("Write to a@example.com.", "Done, sent.")]
    assert found("e-mail", *rows) == {1: "message 1 (user): a...@mail-host.org"}


@pytest.mark.parametrize("run", ["a.", "eyJaaaaaaaa-", "sk-", "a@", "-----BEGIN A ", "xoxa-", "Ã"])
def test_a_long_run_of_what_begins_a_secret_takes_no_time(run: str) -> None:
    text = "://" + run * (500_000 // len(run))
    found("secrets", alpaca("Ask.", text))
    found("e-mail", alpaca("Ask.", text))
    found("broken-text", alpaca("Ask.", text))
