"""`graft merge`: the adapter into its base, handed over only if the result answers as base and adapter did."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from graft.adapters import blend, load_adapter, read_provenance
from graft.adapters.storage import write_provenance
from graft.commands.assembly import Answerer, adapter_folder, base_of, open_answerer, refuse_unread, stop_ids
from graft.config import ModelConfig, flatten_settings
from graft.data import encode_prompt
from graft.errors import AdapterError, ConfigError, ProofError, RunError, write_error
from graft.evaluation import Conformance, Statement, compare, interrogate
from graft.model import save_base
from graft.records import Message
from graft.signals import StopSignals
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


def merge(
    adapters: Sequence[str],
    out: Path,
    *,
    weights: Sequence[float] = (),
    settings: Mapping[str, Any] | None = None,
) -> MergeResult:
    """Merge the adapters in folders (their own, or their runs') into their base and write the model to `out`.

    Args:
        adapters: one, or several that were trained on one base; the first one's template goes with the model.
        weights: of what each adapter changes, where there are several.
        settings: `model.path` and `model.dtype` where they are to be other than in the adapter's run.

    Raises:
        ProofError: the merged model, read from the disk again, answers otherwise; nothing is left in `out`.
        GraftError: adapter or base cannot be used, or `out` is in use.
    """
    folders = [adapter_folder(adapter) for adapter in adapters]
    given = flatten_settings(settings or {})
    refuse_unread(given, verb="merge", reads=("model",))
    _check_weights(adapters, weights)
    if "model.quantize" not in given:
        _check_one_base(folders)
    if out.exists():
        raise RunError(f"{out} is in use", fix="give another --out")
    answerer = open_answerer(base_of(folders[0], given), folders[0])
    if weights:
        answerer = _blended(answerer, folders, weights)
    messages = [Message("user", content, context=context) for content, context in _PROBES]
    probes = [encode_prompt([message], answerer.template, answerer.base.tokenizer) for message in messages]
    return merge_answerer(answerer, out, probes)


def _check_weights(adapters: Sequence[str], weights: Sequence[float]) -> None:
    if len(weights) != len(adapters) and (weights or len(adapters) > 1):
        what = f"{len(adapters)} adapters and {len(weights)} weights"
        raise ConfigError(what, fix="give each --adapter a --weight; 1 is all that it does")
    if not all(math.isfinite(weight) for weight in weights):
        raise ConfigError(
            f"a weight of {', '.join(map(str, weights))} is no finite number", fix="give numbers like 0.5"
        )


def _check_one_base(folders: Sequence[Path]) -> None:
    """Raise an AdapterError if the adapters were trained on other weights of one model: quantised, and not."""
    trained_on = {str(folder): said.base_quantize for folder in folders if (said := read_provenance(folder))}
    if len(set(trained_on.values())) > 1:
        what = ", ".join(f"{folder} with model.quantize {kind}" for folder, kind in trained_on.items())
        raise AdapterError(
            f"the adapters were trained on other weights: {what}", fix="choose with --set model.quantize="
        )


def _blended(answerer: Answerer, folders: Sequence[Path], weights: Sequence[float]) -> Answerer:
    """The answerer of the first adapter with all of them in its place."""
    base, bank = answerer.base, answerer.bank
    others = [load_adapter(folder, base.model, base_fingerprint=base.fingerprint) for folder in folders[1:]]
    assert answerer.slot is not None
    adapters = [bank.adapters[answerer.slot], *others]
    return replace(answerer, slot=bank.add(blend(list(zip(adapters, weights, strict=True)))))


def merge_answerer(answerer: Answerer, out: Path, probes: Sequence[Sequence[int]]) -> MergeResult:
    """Merge what is loaded. The answerer's model is the merged, plain one afterwards, and its bank is empty."""
    assert answerer.slot is not None
    stops = stop_ids(answerer.base, answerer.template)
    expected = interrogate(answerer.bank, answerer.slot, probes, stops)
    base = interrogate(answerer.bank, None, probes, stops, led_along=expected.answers)
    merged = answerer.bank.merge(answerer.slot)
    try:
        with StopSignals(), staged(out) as folder:
            save_base(merged, answerer.base.tokenizer, folder)
            write_provenance(folder, answerer.provenance)
            found = _read_again(folder, expected, probes, str(merged.dtype).removeprefix("torch."))
            proof = compare(expected, found, base, merged.dtype)
            if not proof.holds:
                what = f"the merged model does not answer as the adapter did: {proof}"
                raise ProofError(what, fix="merge with --set model.dtype=float32, or serve the adapter")
    except OSError as error:
        raise write_error(str(out), error, fix="free some space, or give another --out") from None
    return MergeResult(str(out), proof)


def _read_again(folder: Path, expected: Statement, probes: Sequence[Sequence[int]], dtype: Any) -> Statement:
    """What the merged model says when it is read from the disk, as whoever gets it will."""
    merged = open_answerer(ModelConfig(path=str(folder), dtype=dtype))
    return interrogate(merged.bank, None, probes, stop_ids(merged.base, merged.template), led_along=expected.answers)
