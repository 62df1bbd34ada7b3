"""What a quantised layer stores, what it answers with, and what cannot be quantised."""

import sys
from pathlib import Path

import pytest
import torch
from bitsandbytes import functional as bnb
from torch import nn
from transformers import PreTrainedModel

from graft.adapters.low_rank import frozen_linear
from graft.config import CacheName, QuantizeName
from graft.errors import ConfigError, ModelError
from graft.model.load import load_base
from graft.model.quantise import FourBitLinear, Int8Linear, QuantizedLinear, check_quantize, quantise
from tests.families import FAMILIES, build

CPU = torch.device("cpu")
KINDS: dict[str, tuple[QuantizeName, bool]] = {
    "int8": ("int8", False),
    "nf4": ("nf4", False),
    "nf4-double": ("nf4", True),
    "fp4": ("fp4", False),
    "fp4-double": ("fp4", True),
}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
IDS = torch.tensor([[1, 5, 9, 2, 7]])


def linear(out: int = 48, size: int = 96, *, bias: bool = False, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(size, out, bias=bias, dtype=dtype).requires_grad_(False)


def quantised(kind: str, layer: nn.Linear) -> QuantizedLinear:
    name, double = KINDS[kind]
    return Int8Linear(layer) if name == "int8" else FourBitLinear(layer, name, double=double)


def shrink(model: PreTrainedModel, kind: str, cache: CacheName = "never") -> PreTrainedModel:
    name, double = KINDS[kind]
    quantise(model, name, double=double, cache=cache, device=CPU)
    return model


def stored_bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "int8"])
@pytest.mark.parametrize("shape", [(48, 96), (5, 70), (24, 16)], ids=str)
def test_weights_of_4_bits_are_those_of_bitsandbytes(kind: str, dtype: torch.dtype, shape: tuple[int, int]) -> None:
    """Rows of whole blocks, and rows that blocks do not end with."""
    layer = linear(*shape, dtype=dtype)
    name, double = KINDS[kind]
    expected = bnb.dequantize_4bit(
        *bnb.quantize_4bit(layer.weight, blocksize=64, compress_statistics=double, quant_type=name)
    )
    found = quantised(kind, layer).weight
    assert found.dtype == dtype
    assert torch.equal(found, expected)


def test_weights_of_8_bits_are_those_of_bitsandbytes() -> None:
    layer = linear()
    codes, largest, _ = bnb.int8_vectorwise_quant(layer.weight)
    found = Int8Linear(layer)
    assert torch.equal(found.codes, codes)
    torch.testing.assert_close(found.weight, bnb.int8_vectorwise_dequant(codes, largest), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_weight_of_8_bits_is_within_half_a_step_of_its_row(dtype: torch.dtype) -> None:
    layer = linear(dtype=dtype)
    layer.weight[3] *= 1000  # a row of large weights costs the others nothing
    step = layer.weight.float().abs().amax(dim=1, keepdim=True) / 127
    error = (Int8Linear(layer).weight.float() - layer.weight.float()).abs()
    rounding = layer.weight.float().abs() * torch.finfo(dtype).eps
    assert bool((error <= step / 2 * (1 + 1e-5) + rounding).all())


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zeros(kind: str) -> None:
    layer = linear()
    layer.weight[:4] = 0
    weight = quantised(kind, layer).weight
    assert bool((weight[:4] == 0).all())
    assert bool(torch.isfinite(weight).all())


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8), ("nf4", 4.5), ("nf4-double", 4.127), ("fp4-double", 4.127)])
def test_bits_a_weight(kind: str, bits: float) -> None:
    layer = linear(512, 1024)
    table = 4 * 256 + 4 if "double" in kind else 0  # of the scales, and their mean
    scales = 4 * 512 if kind == "int8" else 0
    assert stored_bytes(quantised(kind, layer)) - table - scales == pytest.approx(bits / 8 * 512 * 1024, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
def test_forward_and_backward_are_those_of_a_plain_layer_of_the_dequantised_weight(kind: str, bias: bool) -> None:
    layer = linear(bias=bias)
    found = quantised(kind, layer)
    plain = linear(bias=bias)
    plain.weight.copy_(found.weight)
    states = torch.randn(1, 7, 96, requires_grad=True)
    toward = torch.randn(1, 7, 48)
    answers = []
    for base in (found, plain):
        (output,) = frozen_linear([states], [base])
        answers.append((output, *torch.autograd.grad(output, states, toward)))
    for one, other in zip(*answers, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kept_weights_have_the_same_bits(kind: str, dtype: torch.dtype) -> None:
    layer = quantised(kind, linear(dtype=dtype))
    before, names = layer.weight, list(layer.state_dict())
    layer.keep_dequantized()
    assert torch.equal(layer.weight, before)
    assert layer.weight is layer.weight
    assert list(layer.state_dict()) == names


@pytest.mark.parametrize("family", ["llama-tied-biased", "phi3", "gemma2", "starcoder2", "glm4", "cohere2"])
def test_every_linear_layer_but_the_head_is_quantised_and_nothing_else(family: str) -> None:
    model, plain = shrink(build(family, attached=False), "nf4"), build(family, attached=False)
    for name, module in plain.named_modules():
        other = model.get_submodule(name)
        if isinstance(module, nn.Linear) and module is not plain.get_output_embeddings():
            assert isinstance(other, FourBitLinear), name
            module.weight.copy_(other.weight)
        else:
            assert type(other) is type(module), name
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.dtype == plain.dtype
    assert torch.equal(model(IDS).logits, plain(IDS).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_nearly_as_it_did(family: str) -> None:
    """In 8 bits: the loss of some precision shows, a layer left out or scaled wrongly would be far off."""
    plain = build(family, attached=False)(IDS).logits
    found = shrink(build(family, attached=False), "int8")(IDS).logits
    assert 0 < (found - plain).norm() < 0.1 * plain.norm()


@pytest.mark.parametrize(("free", "kept"), [(10**9, True), (10**5, False)])
def test_auto_keeps_the_weights_where_there_is_room(free: int, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.model.quantise.free_memory", lambda _: free)
    for cache, expected in (("auto", kept), ("always", True), ("never", False)):
        model = shrink(build("llama-gqa", dtype=torch.float32), "int8", cache)
        layers = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
        assert [layer.kept is not None for layer in layers] == [expected] * len(layers)


def test_a_base_is_loaded_quantised(llama_folder: Path) -> None:
    plain = load_base(str(llama_folder), dtype="bf16")
    base = load_base(str(llama_folder), dtype="bf16", quantize="nf4", double_quant=False, cache_dequantized="never")
    assert base.fingerprint == plain.fingerprint, "of the files, whatever is made of them"
    assert base.model.dtype == torch.bfloat16
    layer, before = (b.model.get_submodule("model.layers.0.mlp.up_proj") for b in (base, plain))
    assert isinstance(layer, FourBitLinear)
    assert layer.weight.dtype == torch.bfloat16
    assert 0 < (layer.weight - before.weight).abs().max() < 0.2 * before.weight.abs().max()
    assert stored_bytes(layer) < 0.4 * stored_bytes(before)


def test_weights_that_are_no_numbers_are_refused_by_the_layers_name() -> None:
    model = build("llama-gqa", dtype=torch.float16)
    model.get_submodule("model.layers.1.mlp.up_proj").weight[2, 3] = float("inf")
    with pytest.raises(ModelError, match=r"model\.layers\.1\.mlp\.up_proj .* float16") as caught:
        shrink(model, "nf4")
    assert "model.dtype" in caught.value.fix


def test_an_odd_number_of_inputs_is_refused_in_4_bits_by_the_layers_name() -> None:
    model = build("llama-gqa", dtype=torch.float32)
    model.model.layers[2].mlp.down_proj = linear(32, 47)
    with pytest.raises(ModelError, match=r"model\.layers\.2\.mlp\.down_proj .* 47 inputs") as caught:
        shrink(model, "fp4")
    assert "int8" in caught.value.fix
    shrink(model, "int8")


def test_without_bitsandbytes_4_bits_are_refused_before_anything_is_read(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "bitsandbytes"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="bitsandbytes") as caught:
        load_base(str(llama_folder), quantize="nf4")
    assert "pip install 'graft-llm[quant]'" in caught.value.fix
    check_quantize("int8")
    assert "kernels" not in sys.modules or sys.modules["kernels"] is not None
