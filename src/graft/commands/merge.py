"""`graft merge`: the adapter into its base, handed over only if the result answers as base and adapter did."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graft.adapters.storage import write_provenance
from graft.commands.assembly import Answerer, adapter_folder, base_of, open_answerer, refuse_unread, stop_ids
from graft.config import ModelConfig, flatten_settings
from graft.data import encode_prompt
from graft.errors import ProofError, RunError
from graft.evaluation import Conformance, Statement, compare, interrogate
from graft.model import save_base
from graft.records import Message
from graft.staging import staged

# What the proof asks unless it is given prompts: both languages, sums, code, a long and an odd one.
_PROBES = (
    ("Name three primary colours.", ""),
    ("What is 12 + 30?", ""),
    ("Translate into French.", "Good morning, how are you today?"),
    ("列出三种水果。", ""),
    ("用一句话总结下面的内容。", "春天来了，河边的柳树发芽了，孩子们在草地上放风筝。"),
    ("Write a Python function that reverses a string.", ""),
    ("Tell a short story about a fox and a river, with a beginning, a middle and an end.", ""),
    ("Repeat exactly.", "  {a: [1, 2]}\n\t🦊 ½ Ωμέγα"),
)


@dataclass(frozen=True)
class MergeResult:
    """The merged model's folder, and how it compares with base and adapter."""

    merged: str
    proof: Conformance

    def as_json(self) -> dict[str, Any]:
        return {"merged": self.merged, "proof": {**asdict(self.proof), "holds": self.proof.holds}}


def merge(adapter: str, out: Path, *, settings: Mapping[str, Any] | None = None) -> MergeResult:
    """Merge the adapter in a folder (its own, or its run's) into its base and write the model to `out`.

    Args:
        settings: `model.path` and `model.dtype` where they are to be other than in the adapter's run.

    Raises:
        ProofError: the merged model, read from the disk again, answers otherwise; nothing is left in `out`.
        GraftError: adapter or base cannot be used, or `out` is in use.
    """
    folder = adapter_folder(adapter)
    given = flatten_settings(settings or {})
    refuse_unread(given, verb="merge", reads=("model",))
    if out.exists():
        raise RunError(f"{out} is in use", fix="give another --out")
    answerer = open_answerer(base_of(folder, given), folder)
    messages = [Message("user", content, context=context) for content, context in _PROBES]
    probes = [encode_prompt([message], answerer.template, answerer.base.tokenizer) for message in messages]
    return merge_answerer(answerer, out, probes)


def merge_answerer(answerer: Answerer, out: Path, probes: Sequence[Sequence[int]]) -> MergeResult:
    """Merge what is loaded. The answerer's model is the merged, plain one afterwards, and its bank is empty."""
    assert answerer.slot is not None
    stops = stop_ids(answerer.base, answerer.template)
    expected = interrogate(answerer.bank, answerer.slot, probes, stops)
    base = interrogate(answerer.bank, None, probes, stops, led_along=expected.answers)
    merged = answerer.bank.merge(answerer.slot)
    with staged(out) as folder:
        save_base(merged, answerer.base.tokenizer, folder)
        write_provenance(folder, answerer.provenance)
        found = _read_again(folder, expected, probes, str(merged.dtype).removeprefix("torch."))
        proof = compare(expected, found, base, merged.dtype)
        if not proof.holds:
            what = f"the merged model does not answer as the adapter did: {proof}"
            raise ProofError(what, fix="merge with --set model.dtype=float32, or serve the adapter")
    return MergeResult(str(out), proof)


def _read_again(folder: Path, expected: Statement, probes: Sequence[Sequence[int]], dtype: Any) -> Statement:
    """What the merged model says when it is read from the disk, as whoever gets it will."""
    merged = open_answerer(ModelConfig(path=str(folder), dtype=dtype))
    return interrogate(merged.bank, None, probes, stop_ids(merged.base, merged.template), led_along=expected.answers)
