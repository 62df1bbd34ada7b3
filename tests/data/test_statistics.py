import pytest

from graft.data.checks import Seen
from graft.data.statistics import Statistics, Tally, language_of
from tests.data.checks.subjects import alpaca, seen, surveyed


def figures_of(rows: list[Seen], *, cutoff: int, **more: int) -> Statistics:
    tally = Tally()
    for row in rows:
        tally.add(row)
    return tally.figures(surveyed(rows, cutoff=cutoff), **more)


def test_the_figures_of_a_few_rows() -> None:
    rows = [
        alpaca("Where does Ann live, by the river or on the hill?", "Ann lives by the river in Elm."),
        alpaca("Where does Ann live, by the river or on the hill?", "Ann lives by the river in Elm."),
        alpaca("", "no question"),
    ]
    rows.insert(2, alpaca("你好，你住在哪里？", "我住在河边。", system="说中文"))
    looked_at = seen(*rows)
    figures = figures_of(looked_at, cutoff=looked_at[0].tokens - 1, logical=100, executed=80)
    assert (figures.rows, figures.faulty, figures.duplicates, figures.near) == (4, 1, 1, 1)
    assert figures.roles == {"user": 3, "assistant": 3, "system": 1}
    assert figures.languages == {"Latin": 2, "Chinese": 1}
    assert len(figures.lengths) == 3
    assert figures.over == sum(length >= looked_at[0].tokens for length in figures.lengths)
    assert figures.trained_share == sum(figures.trained) / sum(figures.lengths)
    assert figures.saved == pytest.approx(0.2)


def test_no_rows_have_figures_too() -> None:
    figures = figures_of([], cutoff=8)
    assert (figures.trained_share, figures.saved, figures.over) == (0, 0, 0)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where does Ann live?", "Latin"),
        ("你住在哪里？", "Chinese"),
        ("どこに住んでいますか。漢字", "Japanese"),
        ("어디에 사세요?", "Korean"),
        ("Где живёт Анна?", "Cyrillic"),
        ("翻译：Where does Ann live these days?", "Latin and Chinese"),
        ("你住在河边的那座房子里吗 OK", "Chinese"),
        ("12 + 7 = 19", "no letters"),
    ],
)
def test_a_language_is_guessed_by_its_script(text: str, language: str) -> None:
    assert language_of(text) == language
