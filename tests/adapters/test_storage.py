"""Adapters on disk: PEFT reads ours and we read PEFT's; what is broken or foreign is refused with every difference."""

import json
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from graft.adapters import METHODS, Adapter, Bank, Provenance, load_adapter, read_provenance, save_adapter
from graft.config import LoraConfig
from graft.errors import AdapterError
from graft.forest import forest_hidden_states, plant
from graft.records import TokenSequence
from tests.families import VOCABULARY, build

IDS = tuple(i * 7 % VOCABULARY for i in range(1, 25))
SETTINGS = {
    "all-linear": LoraConfig(r=4, lora_alpha=6),
    "some": LoraConfig(r=3, target_modules=["q_proj", "model.layers.0.mlp.up_proj"], use_rslora=True),
    "bias-all": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], bias="all"),
    "bias-lora-only": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], bias="lora_only"),
}


def adapter_on(model: PreTrainedModel, settings: LoraConfig) -> Adapter:
    adapter = METHODS["lora"].create(model, settings, seed=1)
    for number, (_, parameter) in enumerate(adapter.named_parameters()):
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(number))
    return adapter


def our_logits(bank: Bank, slot: int | None) -> torch.Tensor:
    forest = plant([TokenSequence(IDS, (False,) * len(IDS), adapter_slot=slot)])
    with torch.no_grad(), bank.routed(forest.routes()):
        return bank.model.get_output_embeddings()(forest_hidden_states(bank.model, forest))


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found - expected).abs().max() <= 1e-5 * expected.abs().max())


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[LoraConfig], tuple[Path, Bank, int]]:
    def save(settings: LoraConfig) -> tuple[Path, Bank, int]:
        bank = Bank(build("llama-tied-biased", dtype=torch.float32))
        adapter = adapter_on(bank.model, settings)
        folder = tmp_path / "adapter"
        folder.mkdir()
        save_adapter(folder, adapter, bank.model, Provenance("base", "auto", "print", {"prompt_input": "x"}, {}))
        return folder, bank, bank.add(adapter)

    return save


@pytest.mark.parametrize("name", SETTINGS)
def test_peft_loads_ours(name: str, saved: Callable[[LoraConfig], tuple[Path, Bank, int]]) -> None:
    folder, bank, slot = saved(SETTINGS[name])
    plain = build("llama-tied-biased", attached=False, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, folder).eval()
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0]
    assert close(our_logits(bank, slot), expected)
    assert not close(our_logits(bank, None), expected)


@pytest.mark.parametrize("name", SETTINGS)
def test_we_load_what_peft_writes(name: str, tmp_path: Path) -> None:
    settings = SETTINGS[name]
    theirs = get_peft_model(
        build("llama-tied-biased", attached=False, dtype=torch.float32),
        peft.LoraConfig(task_type="CAUSAL_LM", **settings.model_dump()),
    ).eval()
    for number, (name_, parameter) in enumerate(theirs.named_parameters()):
        if "lora_B" in name_ or parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(number))
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0]
    theirs.save_pretrained(tmp_path)

    bank = Bank(build("llama-tied-biased", dtype=torch.float32))
    slot = bank.add(load_adapter(tmp_path, bank.model))
    assert close(our_logits(bank, slot), expected)
    assert read_provenance(tmp_path) is None


def test_a_graft_json_of_before_bases_were_quantised_is_of_an_unquantised_one(
    saved: Callable[[LoraConfig], tuple[Path, Bank, int]],
) -> None:
    folder, _, _ = saved(LoraConfig(r=2))
    file = folder / "graft.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in said.items() if "quant" not in name}))
    assert len(json.loads(file.read_text())) == len(said) - 2
    provenance = read_provenance(folder)
    assert provenance is not None
    assert provenance.base_quantize == "none"


def refused(folder: Path, bank: Bank, **options: str) -> str:
    before = {name: tensor.clone() for name, tensor in bank.model.state_dict().items()}
    with pytest.raises(AdapterError) as caught:
        load_adapter(folder, bank.model, **options)
    assert all(torch.equal(bank.model.state_dict()[name], tensor) for name, tensor in before.items())
    return str(caught.value)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_without_adapter_is_refused(tmp_path: Path) -> None:
    assert "adapter_config.json" in refused(tmp_path, Bank(build("llama-gqa")))


def test_all_differences_are_named(saved: Callable[[LoraConfig], tuple[Path, Bank, int]]) -> None:
    folder, bank, _ = saved(LoraConfig(r=4, target_modules=["q_proj"]))
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    names = sorted(tensors)
    tensors.pop(names[0])
    tensors["base_model.model.odd"] = torch.zeros(2)
    tensors[names[1]] = torch.zeros(5, 5)
    tensors[names[2]] = torch.full_like(tensors[names[2]], float("nan"))
    save_file(tensors, path)
    message = refused(folder, bank)
    assert f"missing {names[0]}" in message
    assert "unexpected base_model.model.odd" in message
    assert f"{names[1]} has shape (5, 5)" in message
    assert f"{names[2]} holds values that are no finite numbers" in message


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 443])
def test_an_empty_or_broken_file_is_refused(
    content: bytes, saved: Callable[[LoraConfig], tuple[Path, Bank, int]]
) -> None:
    folder, bank, _ = saved(LoraConfig(r=4))
    (folder / "adapter_model.safetensors").write_bytes(content)
    assert "adapter_model.safetensors is broken" in refused(folder, bank)


def test_a_file_without_tensors_is_refused(saved: Callable[[LoraConfig], tuple[Path, Bank, int]]) -> None:
    folder, bank, _ = saved(LoraConfig(r=4))
    save_file({}, folder / "adapter_model.safetensors")
    assert "holds no tensor" in refused(folder, bank)


def test_pickle_is_never_read(saved: Callable[[LoraConfig], tuple[Path, Bank, int]]) -> None:
    folder, bank, _ = saved(LoraConfig(r=4))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "pickle" in refused(folder, bank)


def test_an_adapter_of_another_base_is_refused(saved: Callable[[LoraConfig], tuple[Path, Bank, int]]) -> None:
    folder, bank, _ = saved(LoraConfig(r=4))
    assert "another base" in refused(folder, bank, base_fingerprint="other")


def test_an_adapter_of_another_shape_is_refused(saved: Callable[[LoraConfig], tuple[Path, Bank, int]]) -> None:
    folder, _, _ = saved(LoraConfig(r=4))
    assert "has shape" in refused(folder, Bank(build("llama-mqa")))


@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"rank_pattern": {"q_proj": 2}},
        {"layers_to_transform": [0]},
        {"init_lora_weights": "pissa"},
        {"some_later_invention": 1},
    ],
)
def test_what_we_do_not_compute_is_refused(
    changes: dict[str, object], saved: Callable[[LoraConfig], tuple[Path, Bank, int]]
) -> None:
    folder, bank, _ = saved(LoraConfig(r=4))
    edit(folder, **changes)
    assert next(iter(changes)) in refused(folder, bank)


def test_an_unknown_method_is_refused(saved: Callable[[LoraConfig], tuple[Path, Bank, int]]) -> None:
    folder, bank, _ = saved(LoraConfig(r=4))
    edit(folder, peft_type="LOHA")
    assert "LOHA" in refused(folder, bank)


def test_a_rank_above_the_layers_is_refused() -> None:
    with pytest.raises(AdapterError, match=r"(?s)lora\.r 40 .* at most 16"):
        METHODS["lora"].create(build("llama-gqa"), LoraConfig(r=40, target_modules=["k_proj"]), seed=0)


def test_an_unknown_target_names_those_that_exist() -> None:
    with pytest.raises(AdapterError) as caught:
        METHODS["lora"].create(build("llama-gqa"), LoraConfig(target_modules=["qproj"]), seed=0)
    assert "`q_proj`" in str(caught.value)
    assert "gate_proj" in str(caught.value)
