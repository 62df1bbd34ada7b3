"""`graft synth` against a teacher that follows a script, over HTTP."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from graft.commands.synth import synth
from graft.errors import GraftError, RunError
from tests.commands.conftest import Graft
from tests.data.synth.server import Answer, Asked, Server, completion, good, serving

Script = Callable[[Asked], Answer]


def make(server: Server, out: Path, resume: bool = False, **settings: Any) -> dict[str, Any]:
    given = {"teacher": server.address, "model": "wise", "count": 30, "retry_seconds": 0.01, "concurrency": 4}
    return dict(synth({**given, **settings}, out, resume=resume, say=lambda text: None).report)


def rows_in(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "data.jsonl").read_text(encoding="utf-8").splitlines()]


def files_in(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("data.jsonl", "report.json", "report.md")}


def broken_at(stage: str, answer: Answer, every: int = 2) -> Script:
    """A good teacher that gives `answer` to every so many requests of a stage."""
    count = 0

    def script(asked: Asked) -> Answer:
        nonlocal count
        if asked.stage != stage:
            return good(asked)
        count += 1
        return answer if count % every == 0 else good(asked)

    return script


def test_rows_are_made_that_train_takes(graft: Graft, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving() as server:
        ran = graft("synth", "--teacher", server.address, "--model", "wise", "--count", "30", "--out", out, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["stopped"] == "all rows are made"
    rows = rows_in(out)
    assert len(rows) == ran.json["rows"] == 30
    assert all(row.keys() == {"instruction", "input", "output"} for row in rows)
    assert {name: count > 0 for name, count in ran.json["languages"].items()} == {"en": True, "zh": True}
    assert 0 < ran.json["classification_tasks"] < ran.json["tasks"]
    assert ran.json["requests"].keys() == {"instructions", "classification", "instances"}
    assert ran.json["prompt_tokens"] == 100 * len(server.asked)
    assert {asked.path for asked in server.asked} == {"/v1/chat/completions"}
    assert {asked.sent["model"] for asked in server.asked} == {"wise"}
    assert len(set(server.prompts)) == len(server.asked), "nothing is asked twice"
    checked = graft("data", "check", "--data", out / "data.jsonl", "--json")
    assert checked.code == 0
    assert checked.json["refused"] is False


def test_the_number_of_requests_at_once_and_their_order_change_nothing(tmp_path: Path) -> None:
    def slow_at_times(asked: Asked) -> Answer:
        time.sleep(len(asked.prompt) % 7 / 500)
        return good(asked)

    with serving() as server:
        make(server, tmp_path / "one", concurrency=1)
    with serving(slow_at_times) as other:
        make(other, tmp_path / "many", concurrency=8)
    with serving(slow_at_times) as most:
        make(most, tmp_path / "most", concurrency=24)
    assert rows_in(tmp_path / "one") == rows_in(tmp_path / "most")
    assert files_in(tmp_path / "one") == files_in(tmp_path / "many")
    assert sorted(server.prompts) == sorted(other.prompts)
    assert server.most_at_once == 1
    assert 1 < other.most_at_once <= 8
    assert other.most_at_once < most.most_at_once <= 24


@pytest.mark.parametrize("language", ["en", "zh"])
def test_one_language_alone(language: str, tmp_path: Path) -> None:
    with serving() as server:
        report = make(server, tmp_path / "out", language=language)
    assert report["languages"][language] == report["tasks"]
    assert all(("任务" in prompt) == (language == "zh") for prompt in server.prompts)


FAULTS = {
    "html": ("instructions", Answer("<html>Welcome</html>"), "not-a-completion"),
    "half a JSON": ("classification", Answer('{"choices": [{"mess'), "not-a-completion"),
    "no choices": ("instances", Answer('{"choices": []}'), "not-a-completion"),
    "not UTF-8": ("instances", Answer(b"\xff\xfe\x00"), "not-a-completion"),
    "no words": ("instances", completion(""), "empty-reply"),
    "no list": ("instructions", completion("As a language model I cannot."), "no-list"),
    "neither": ("classification", completion("Hm."), "neither-yes-nor-no"),
    "no example": ("instances", completion("Sure!"), "no-examples"),
    "cut": ("instances", completion("Input: a\nOutput: b c", finish="length"), "no-output"),
    "cut list": ("instructions", completion("9. Explain cod, eel and pi", finish="length"), "cut-off"),
    "half a pair": ("instances", completion("Input: none\nOutput: \ud83d"), "broken-text"),
    "steering": ("instructions", completion("9. \x1b[2J\x1b]0;Hello to all of you\x07"), "broken-text"),
    "contradiction": ("instances", completion("Input: a\nOutput: b\nInput: a\nOutput: c"), "contradictory"),
    "refused": ("instances", Answer('{"error": {"message": "too long"}}', 400), "refused-by-teacher"),
    "a keyword": ("instructions", completion("9. Draw a map of the old town."), "keyword"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_reply_of_no_use_is_counted_and_the_rest_goes_on(case: str, tmp_path: Path) -> None:
    stage, answer, reason = FAULTS[case]
    out = tmp_path / "out"
    with serving(broken_at(stage, answer)) as server:
        report = make(server, out, concurrency=1)
    assert report["rows"] == 30
    assert report["dropped"][reason]["count"] > 0
    assert report["dropped"][reason]["examples"]
    assert "\x1b" not in (out / "report.md").read_text(encoding="utf-8")
    assert reason in (out / "report.md").read_text(encoding="utf-8")
    with serving(lambda asked: pytest.fail("nothing is asked twice, of no use or not")):
        assert make(server, out, resume=True) == report


def test_a_teacher_of_no_use_is_given_up(graft: Graft, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(lambda asked: completion("I would rather not.")) as server:
        ran = graft("synth", "--teacher", server.address, "--model", "wise", "--out", out, "--json")
    assert ran.code == 2
    assert "no row was made: 3 rounds without a new row: most was left out as no-list" in ran.err
    assert len(server.asked) == 3 * 4
    assert not (out / "data.jsonl").exists()
    assert "Traceback" not in ran.err


def test_a_teacher_that_repeats_itself_is_given_up_and_its_rows_are_kept(tmp_path: Path) -> None:
    def parrot(asked: Asked) -> Answer:
        if asked.stage == "instructions":
            return completion("9. Explain why cod live in cold water.\n10. 请解释鳕鱼为什么生活在冷水里。")
        return good(asked)

    with serving(parrot) as server:
        report = make(server, tmp_path / "out")
    assert report["rows"] == 2
    assert report["stopped"].startswith("3 rounds without a new row: most was left out as alike")
    assert len(rows_in(tmp_path / "out")) == 2


def test_a_busy_teacher_is_asked_again(tmp_path: Path) -> None:
    faults = iter([
        Answer("busy", 429, {"Retry-After": "0.01"}), Answer("", 500), Answer("", 502),
        Answer("", 503, {"Retry-After": "Sat, 01 Jan 2000 00:00:00 GMT"}), Answer("", 504, {"Retry-After": "nonsense"}),
    ])  # fmt: skip
    with serving() as server:
        make(server, tmp_path / "good")
    with serving(lambda asked: next(faults, None) or good(asked)) as busy:
        make(busy, tmp_path / "busy")
    assert files_in(tmp_path / "busy") == files_in(tmp_path / "good")
    assert len(busy.asked) == len(server.asked) + 5


def test_a_teacher_that_fails_for_ever_ends_the_run_and_its_rows_are_kept(graft: Graft, tmp_path: Path) -> None:
    out = tmp_path / "out"
    healthy = True

    def dies(asked: Asked) -> Answer:
        nonlocal healthy
        healthy = healthy and len(server.asked) < 60
        return good(asked) if healthy else Answer('{"error": {"message": "out of memory"}}', 500)

    with serving(dies) as server, pytest.raises(RunError) as error:
        make(server, out, count=100, retries=2)
    assert "fails (HTTP 500: out of memory); asked 3 times" in str(error.value)
    assert "rows so far are in" in str(error.value)
    assert "see to the server; then go on with --resume" in str(error.value)
    assert rows_in(out)
    with serving() as again:
        report = make(again, out, resume=True, count=100)
    assert report["rows"] == 100
    good_before = set(server.prompts[:59])
    assert not good_before & set(again.prompts)


def test_a_teacher_that_is_not_there_leaves_nothing_behind(graft: Graft, tmp_path: Path) -> None:
    with serving() as server:
        pass
    new = tmp_path / "new" / "out"
    ran = graft("synth", "--teacher", server.address, "--model", "wise", "--retries", "0", "--out", new)
    assert ran.code == 2
    assert "fails (" in ran.err
    assert not (tmp_path / "new").exists()
    (tmp_path / "out").mkdir()
    ran = graft("synth", "--teacher", server.address, "--model", "wise", "--retries", "0", "--out", tmp_path / "out")
    assert "asked once" in ran.err
    assert "see to the server; then run it again, without --resume, as nothing was begun" in ran.err
    assert not list((tmp_path / "out").iterdir())
    with serving() as there:
        assert make(there, tmp_path / "out", count=3)["rows"] == 3


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "lets nobody in"),
        (402, "lets nobody in"),
        (403, "lets nobody in"),
        (404, "is not there"),
        (400, "does not take"),
        (301, "does not take"),
    ],
)
def test_what_no_retry_mends_stops_at_once(status: int, said: str, graft: Graft, tmp_path: Path) -> None:
    body = '{"error": {"message": "because \\u001b[2J of you"}}'
    with serving(lambda asked: Answer(body, status, {"Location": "http://127.0.0.1:9/"})) as server:
        ran = graft("synth", "--teacher", server.address, "--model", "wise", "--out", tmp_path / "out", "--json")
    assert ran.code == 2
    assert said in ran.json["error"]
    assert "because \\x1b[2J of you" in ran.json["error"]
    assert len(server.asked) <= 8, "those under way, each once"
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_begins_to_refuse_everything_ends_the_run(tmp_path: Path) -> None:
    def bankrupt(asked: Asked) -> Answer:
        return good(asked) if len(server.asked) <= 50 else Answer('{"message": "no credit left"}', 400)

    with serving(bankrupt) as server, pytest.raises(RunError, match=r"HTTP 400: no credit left; \d+ rows so far"):
        make(server, tmp_path / "out", concurrency=1)
    assert len(server.asked) == 50 + 8 + 1
    with serving() as again:
        assert make(again, tmp_path / "out", resume=True)["rows"] == 30


def test_a_reply_that_never_ends_is_given_up(tmp_path: Path) -> None:
    done = threading.Event()

    def hangs(asked: Asked) -> Answer:
        done.wait(10)
        return good(asked)

    with serving(hangs) as server:
        with pytest.raises(RunError, match=r"no reply within 0\.2 s"):
            make(server, tmp_path / "out", timeout=0.2, retries=1)
        done.set()


def test_newer_servers_call_the_longest_reply_otherwise(tmp_path: Path) -> None:
    def newer(asked: Asked) -> Answer:
        if "max_tokens" in asked.sent:
            return Answer('{"error": {"message": "use max_completion_tokens instead"}}', 400)
        return good(asked)

    with serving(newer) as server:
        assert make(server, tmp_path / "out", answer_tokens=77)["rows"] == 30
    assert server.asked[-1].sent["max_completion_tokens"] == 77


class TestBudgets:
    def test_requests(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with serving() as server:
            report = make(server, out, max_requests=45)
            assert len(server.asked) == 45
            assert report["stopped"] == "the budget of 45 requests is used up"
            assert 0 < report["rows"] == len(rows_in(out)) < 30
            assert make(server, out, resume=True, max_requests=45) == report
            assert len(server.asked) == 45, "the budget is that of the whole run"
            whole = make(server, out, resume=True, max_requests=0)
        assert whole["rows"] == 30
        with serving() as other:
            make(other, tmp_path / "other")
        assert files_in(out) == files_in(tmp_path / "other")
        assert sorted(server.prompts) == sorted(other.prompts), "nothing is asked twice, and nothing more"

    @pytest.mark.parametrize(("counted", "most"), [(True, 6000), (False, 12_000)])
    def test_tokens_are_never_overrun(self, counted: bool, most: int, tmp_path: Path) -> None:
        def script(asked: Asked) -> Answer:
            answer = json.loads(good(asked).body)
            return Answer(json.dumps(answer if counted else {"choices": answer["choices"]}))

        with serving(script) as server:
            report = make(server, tmp_path / "out", max_tokens=most, answer_tokens=100)
            assert report["stopped"].endswith(f"left of {most:,} are too few for another request")
            assert most - 1000 < report["prompt_tokens"] + report["reply_tokens"] <= most
            assert report["requests_with_estimated_tokens"] == (0 if counted else len(server.asked))
            asked = sorted(server.prompts)
        with serving(script) as server:
            make(server, tmp_path / "alone", max_tokens=most, answer_tokens=100, concurrency=1)
        assert asked == sorted(server.prompts), "what is asked depends on no order of arrival"

    def test_one_that_has_no_room_for_a_request_is_said(self, tmp_path: Path) -> None:
        with serving() as server, pytest.raises(GraftError, match="no row was made: the 10 tokens that are left of 10"):
            make(server, tmp_path / "out", max_tokens=10)
        assert not server.asked


def begin(server: Server, out: Path) -> subprocess.Popen[str]:
    main = [sys.executable, "-c", "from graft.cli import main; main()"]
    flags = ["synth", "--teacher", server.address, "--model", "wise", "--count", "30", "--concurrency", "4"]
    return subprocess.Popen([*main, *flags, "--out", str(out)], stderr=subprocess.PIPE, text=True)


def test_from_wherever_the_journal_ends_a_run_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    with serving() as server:
        make(server, tmp_path / "whole", count=20)
    lines = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == len(server.asked)
    for kept in (0, 1, 3, 7, 20, len(lines) - 1, len(lines)):
        out = tmp_path / str(kept)
        out.mkdir()
        (out / "settings.yaml").write_bytes((tmp_path / "whole" / "settings.yaml").read_bytes())
        torn = lines[kept][:-3] if kept < len(lines) else b""
        (out / "journal.jsonl").write_bytes(b"".join(lines[:kept]) + torn)
        with serving() as again:
            make(again, out, resume=True, count=20)
        assert len(again.asked) == len(lines) - kept
        assert files_in(out) == files_in(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_was_killed_goes_on_and_asks_nothing_twice(how: signal.Signals, tmp_path: Path) -> None:
    out = tmp_path / "out"
    enough, release = threading.Event(), threading.Event()

    def stalls(asked: Asked) -> Answer:
        if len(server.asked) > 33:
            enough.set()
            release.wait(30)
        return good(asked)

    with serving(stalls) as server:
        process = begin(server, out)
        assert enough.wait(60)
        while (out / "journal.jsonl").read_text().count("\n") < 30:  # those on their way to the disk
            assert process.poll() is None
        process.send_signal(how)
        _, said = process.communicate(timeout=30)
        release.set()
    assert "Traceback" not in said
    kept = (out / "journal.jsonl").read_text().count("\n")
    assert 30 <= kept <= 34
    assert (out / "data.jsonl").exists() == (how == signal.SIGINT), said
    with serving() as again:
        make(again, out, resume=True)
    with serving() as other:
        make(other, tmp_path / "other")
    assert files_in(out) == files_in(tmp_path / "other")
    assert len(again.asked) == len(other.asked) - kept
    assert sorted({*server.prompts, *again.prompts}) == sorted(other.prompts)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "--resume goes on" in said


def test_a_count_that_is_raised_goes_on_from_what_there_is(tmp_path: Path) -> None:
    with serving() as server:
        make(server, tmp_path / "out", count=10)
        before = rows_in(tmp_path / "out")
    with pytest.raises(RunError, match=r"1\d rows so far"):
        make(server, tmp_path / "out", resume=True, count=60, retries=0)
    assert rows_in(tmp_path / "out")[:10] == before, "a teacher that fails takes nothing back"
    with serving() as again:
        assert make(again, tmp_path / "out", resume=True, count=60)["rows"] == 60
    asked = server.prompts + again.prompts
    assert len(set(asked)) == len(asked)
    with serving() as other:
        make(other, tmp_path / "other", count=60)
    assert sorted(asked) == sorted(other.prompts)
    assert files_in(tmp_path / "out") == files_in(tmp_path / "other")


class TestResuming:
    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        with serving() as server:
            make(server, tmp_path / "out", count=10)
        return tmp_path / "out"

    def test_needs_no_setting_again(self, out: Path, graft: Graft) -> None:
        before = files_in(out)
        ran = graft("synth", "--out", out, "--resume", "--json")
        assert ran.code == 0, ran.err
        assert ran.json["rows"] == 10
        assert files_in(out) == before

    def test_with_other_settings_is_refused_with_the_difference(self, out: Path, graft: Graft) -> None:
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        ran = graft("synth", "--out", out, "--resume", "--model", "foolish", "--seed", "7")
        assert ran.code == 2
        assert "model was 'wise' and is 'foolish'; seed was 42 and is 7" in ran.err
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before

    def test_with_other_seeds_is_refused(self, tmp_path: Path) -> None:
        seeds = tmp_path / "seeds.jsonl"
        task = {"id": "a", "instruction": "Name three big fish.", "is_classification": False}
        seeds.write_text(json.dumps({**task, "instances": [{"input": "", "output": "Cod."}]}))
        with serving() as server:
            make(server, tmp_path / "out", seeds=str(seeds), count=3)
            seeds.write_text(json.dumps({**task, "instances": [{"input": "", "output": "Eel."}]}))
            with pytest.raises(RunError, match="the seeds are not those of the run"):
                make(server, tmp_path / "out", resume=True, seeds=str(seeds))

    def test_what_is_no_run_is_refused(self, graft: Graft, tmp_path: Path) -> None:
        ran = graft("synth", "--out", tmp_path / "nowhere", "--resume")
        assert ran.code == 2
        assert "holds no run to go on with" in ran.err
        assert not (tmp_path / "nowhere").exists()

    def test_a_folder_in_use_is_left_alone(self, out: Path, graft: Graft) -> None:
        ran = graft("synth", "--out", out, "--teacher", "http://127.0.0.1:9", "--model", "wise")
        assert ran.code == 2
        assert "is in use" in ran.err
        assert "--resume" in ran.err


class TestKeys:
    SECRET = "sk-very-secret-0123456789"

    def test_the_key_is_sent_and_never_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graft: Graft
    ) -> None:
        monkeypatch.setenv("TEACHER_KEY", self.SECRET)

        def echoes(asked: Asked) -> Answer:
            assert asked.headers["authorization"] == f"Bearer {self.SECRET}"
            reply = json.loads(good(asked).body)
            return Answer(json.dumps({**reply, "echo": asked.headers}))

        out = tmp_path / "out"
        with serving(echoes) as server:
            ran = graft("synth", "--teacher", server.address, "--model", "m", "--api-key-env", "TEACHER_KEY",
                        "--count", "5", "--out", out)  # fmt: skip
        assert ran.code == 0, ran.err
        for path in out.iterdir():
            assert self.SECRET not in path.read_text(encoding="utf-8"), path
        assert self.SECRET not in ran.out + ran.err
        with serving(lambda asked: Answer(f"wrong key {self.SECRET}", 401)) as server:
            ran = graft("synth", "--teacher", server.address, "--model", "m", "--api-key-env", "TEACHER_KEY",
                        "--out", tmp_path / "other")  # fmt: skip
        assert "check the key in TEACHER_KEY" in ran.err
        assert self.SECRET not in ran.err

    def test_a_key_that_is_not_set_is_said(self, graft: Graft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TEACHER_KEY", raising=False)
        ran = graft("synth", "--teacher", "http://127.0.0.1:9", "--model", "m", "--api-key-env", "TEACHER_KEY",
                    "--out", tmp_path / "out")  # fmt: skip
        assert ran.code == 2
        assert "TEACHER_KEY is not set to a key" in ran.err
        assert not (tmp_path / "out").exists()

    def test_a_key_in_the_place_of_its_name_is_not_shown(self, graft: Graft, tmp_path: Path) -> None:
        ran = graft("synth", "--teacher", "http://127.0.0.1:9", "--model", "m", "--api-key-env", self.SECRET,
                    "--out", tmp_path / "out")  # fmt: skip
        assert ran.code == 2
        assert self.SECRET not in ran.err


BAD = {
    "no teacher": (["--model", "m"], "--teacher"),
    "no model": (["--teacher", "http://127.0.0.1:9"], "--model"),
    "no address": (["--teacher", "127.0.0.1:9", "--model", "m"], "an address such as"),
    "no port": (["--teacher", "http://127.0.0.1:x", "--model", "m"], "no address"),
    "a user in the address": (["--teacher", "http://me:pw@127.0.0.1", "--model", "m"], "--api-key-env"),
    "no rows": (["--teacher", "http://127.0.0.1:9", "--model", "m", "--count", "0"], "--count"),
    "a language": (["--teacher", "http://127.0.0.1:9", "--model", "m", "--language", "fr"], "--language"),
    "no seeds": (["--teacher", "http://127.0.0.1:9", "--model", "m", "--seeds", "nowhere.jsonl"], "nowhere.jsonl"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_said_and_nothing_is_written(case: str, graft: Graft, tmp_path: Path) -> None:
    arguments, expected = BAD[case]
    ran = graft("synth", *arguments, "--out", tmp_path / "out")
    assert ran.code == 2
    assert expected in ran.err
    assert "->" in ran.err
    assert "Traceback" not in ran.err
    assert not list(tmp_path.iterdir())


def test_an_address_may_be_given_whole_and_settings_are_saved(tmp_path: Path) -> None:
    with serving() as server:
        make(server, tmp_path / "out", teacher=f"{server.address}/chat/completions/", count=3)
        saved = yaml.safe_load((tmp_path / "out" / "settings.yaml").read_text(encoding="utf-8"))
    assert saved["teacher"] == server.address
    assert saved["count"] == 3
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
