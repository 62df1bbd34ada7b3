"""What a step is said to need, against what PyTorch counts while PEFT trains."""

from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftModel
from torch import Size
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from graft.adapters import METHODS, Bank, Provenance, save_adapter
from graft.bench.flops import needed_flops, weights_of
from graft.config import LoraConfig
from graft.forest import backward_edge_loss, forest_hidden_states, head_of, plant
from graft.records import TokenSequence
from tests.families import build

TOKENS, TRAINED, RANK = 20, 5, 4
SAMPLE = TokenSequence(tuple(range(TOKENS)), (False,) * (TOKENS - TRAINED) + (True,) * TRAINED)


def in_place(_: Size, left: Size, right: Size, *__: object, **___: object) -> int:
    """Of `addmm_`, which PyTorch's counter does not know."""
    return 2 * left[0] * left[1] * right[1]


def counted(run: Callable[[], None]) -> int:
    """Operations of the plain matrix products of `run`; those of attention are batched ones."""
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place})
    with counter:
        run()
    counts = counter.get_flop_counts()["Global"]
    return sum(counts.get(product, 0) for product in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_))


def of_readers(model: PreTrainedModel) -> int:
    """The input's gradient of the first layer's q, k and v, which nobody needs and the formula counts."""
    attention = model.model.layers[0].self_attn
    readers = (attention.q_proj, attention.k_proj, attention.v_proj)
    return sum(2 * TOKENS * (reader.weight.numel() + RANK * reader.in_features) for reader in readers)


def test_the_formula_is_what_pytorch_counts(tmp_path: Path) -> None:
    """PEFT's last MLP runs for every token."""
    model = build("llama-gqa", attached=False, dtype=torch.float32)
    adapter = METHODS["lora"].create(model, LoraConfig(r=RANK), seed=0)
    weights, unneeded = weights_of(model, adapter), of_readers(model)
    forest = plant([SAMPLE])
    save_adapter(tmp_path, adapter, model, Provenance("tiny", "float32", "", {}, {}))
    PeftModel.from_pretrained(model, tmp_path, is_trainable=True)

    def run() -> None:
        hidden = model.model(forest.ids[None]).last_hidden_state[0]
        model.lm_head(hidden[forest.edges.sources]).sum().backward()

    more = (TOKENS - TRAINED) * (4 * weights.last_frozen + 6 * weights.last_adapter)
    assert counted(run) == needed_flops(weights, forest) - unneeded + more


def test_graft_computes_what_the_formula_says() -> None:
    model = build("llama-gqa", dtype=torch.float32)
    bank = Bank(model)
    slot = bank.add(METHODS["lora"].create(model, LoraConfig(r=RANK), seed=0))
    forest = plant([SAMPLE])

    def run() -> None:
        with bank.routed(forest.routes(), needed=forest.edges.sources.unique()):
            backward_edge_loss(head_of(model), forest_hidden_states(model, forest), forest.edges)

    plain = build("llama-gqa", attached=False)
    expected = needed_flops(weights_of(plain, bank.adapters[slot]), forest) - of_readers(plain)
    assert counted(run) == expected


def test_a_shared_prefix_is_needed_once() -> None:
    model = build("llama-gqa", attached=False)
    weights = weights_of(model, METHODS["lora"].create(model, LoraConfig(r=RANK), seed=0))

    def needed(*ends: int) -> int:
        trained = (False,) * TOKENS + (True,)
        samples = [TokenSequence((*range(TOKENS), end), trained) for end in ends]
        return needed_flops(weights, plant(samples))

    at_sources = 4 * weights.last_frozen + 6 * weights.last_adapter
    per_token = 4 * weights.frozen + 6 * weights.adapter - at_sources
    assert needed(30, 31) == needed(30) + per_token, "two targets, and one source"
    assert needed(30, 30) == needed(30)


def test_every_matrix_is_counted_once() -> None:
    for family in ("llama-mha", "llama-tied-biased"):
        model = build(family, attached=False)
        weights = weights_of(model, METHODS["lora"].create(model, LoraConfig(r=RANK), seed=0))
        assert sum(out * into * count for out, into, count, head in weights.shapes if not head) == weights.frozen
        assert [(out * into, count) for out, into, count, head in weights.shapes if head] == [(weights.head, 1)]
        assert weights.frozen == sum(p.numel() for n, p in model.named_parameters() if n.endswith("_proj.weight"))
