"""What a step is said to need, against what PyTorch counts while PEFT trains."""

from pathlib import Path

import torch
from peft import PeftModel
from torch.utils.flop_counter import FlopCounterMode

from graft.adapters import METHODS, Provenance, save_adapter
from graft.bench.flops import needed_flops, weights_of
from graft.config import LoraConfig
from graft.forest import plant
from graft.records import TokenSequence
from tests.families import build

TOKENS, TRAINED, RANK = 20, 5, 4


def test_the_formula_is_what_pytorch_counts(tmp_path: Path) -> None:
    model = build("llama-gqa", attached=False, dtype=torch.float32)
    adapter = METHODS["lora"].create(model, LoraConfig(r=RANK), seed=0)
    weights = weights_of(model, adapter)
    sample = TokenSequence(tuple(range(TOKENS)), (False,) * (TOKENS - TRAINED) + (True,) * TRAINED)
    forest = plant([sample])
    save_adapter(tmp_path, adapter, model, Provenance("tiny", "float32", "", {}, {}))
    peft = PeftModel.from_pretrained(model, tmp_path, is_trainable=True)
    counter = FlopCounterMode(display=False)
    with counter:
        hidden = model.model(forest.ids[None]).last_hidden_state[0]
        model.lm_head(hidden[forest.edges.sources]).sum().backward()
    assert any(parameter.grad is not None for parameter in peft.parameters())
    counts = counter.get_flop_counts()["Global"]
    counted = counts[torch.ops.aten.mm] + counts.get(torch.ops.aten.addmm, 0)  # attention's products are others
    attention = model.model.layers[0].self_attn
    readers = [attention.q_proj, attention.k_proj, attention.v_proj]
    unneeded = sum(layer.base_layer.weight.numel() + RANK * layer.in_features for layer in readers)
    assert counted == needed_flops(weights, forest) - 2 * TOKENS * unneeded


def test_a_shared_prefix_is_needed_once() -> None:
    model = build("llama-gqa", attached=False)
    weights = weights_of(model, METHODS["lora"].create(model, LoraConfig(r=RANK), seed=0))

    def needed(*ends: int) -> int:
        trained = (False,) * TOKENS + (True,)
        samples = [TokenSequence((*range(TOKENS), end), trained) for end in ends]
        return needed_flops(weights, plant(samples))

    per_token = 4 * weights.frozen + 6 * weights.adapter
    assert needed(30, 31) == needed(30) + per_token + 4 * weights.head
    assert needed(30, 30) == needed(30)


def test_every_matrix_is_counted_once() -> None:
    for family in ("llama-mha", "llama-tied-biased"):
        model = build(family, attached=False)
        weights = weights_of(model, METHODS["lora"].create(model, LoraConfig(r=RANK), seed=0))
        assert sum(out * into * count for out, into, count, head in weights.shapes if not head) == weights.frozen
        assert [(out * into, count) for out, into, count, head in weights.shapes if head] == [(weights.head, 1)]
        assert weights.frozen == sum(p.numel() for n, p in model.named_parameters() if n.endswith("_proj.weight"))
