"""Adapters on disk: PEFT reads ours and we read PEFT's; what is broken or foreign is refused with every difference."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from graft.adapters import (
    METHODS,
    Adapter,
    Bank,
    Provenance,
    create_adapter,
    load_adapter,
    read_provenance,
    save_adapter,
)
from graft.config import LoraConfig, build_config
from graft.errors import AdapterError
from graft.forest import forest_hidden_states, head_of, plant
from graft.records import TokenSequence
from tests.families import VOCABULARY, build

IDS = tuple(i * 7 % VOCABULARY for i in range(1, 25))
FAMILY = "llama-tied-biased"
UNBIASED = "llama-gqa"  # PEFT adds the bias of o_proj twice in adaption prompts
OPTIONS: dict[str, dict[str, object]] = {
    "all-linear": {"lora.r": 4, "lora.lora_alpha": 6},
    "some": {"lora.r": 3, "lora.target_modules": ["q_proj", "model.layers.0.mlp.up_proj"], "lora.use_rslora": True},
    "bias-all": {"lora.r": 4, "lora.target_modules": ["q_proj", "v_proj"], "lora.bias": "all"},
    "bias-lora-only": {"lora.r": 4, "lora.target_modules": ["q_proj", "v_proj"], "lora.bias": "lora_only"},
    "patterns": {"lora.rank_pattern": {"v_proj": 6, r"layers\.1\..*": 2}, "lora.alpha_pattern": {"o_proj": 3}},
    "pissa": {"lora.r": 4, "lora.init": "pissa", "lora.rank_pattern": {"v_proj": 6}},
    "pissa-rslora": {"lora.r": 4, "lora.lora_alpha": 4, "lora.init": "pissa", "lora.use_rslora": True},
    "whole-modules": {"lora.r": 4, "lora.target_modules": ["q_proj"], "lora.modules_to_save": ["norm", "o_proj"]},
    "dora": {"lora.r": 4, "lora.use_dora": True},
    "ia3": {"method": "ia3"},
    "prefix": {"method": "prefix", "prefix.num_virtual_tokens": 5},
    "prefix-projection": {"method": "prefix", "prefix.num_virtual_tokens": 5, "prefix.prefix_projection": True},
    "prompt": {"method": "prompt", "prompt.num_virtual_tokens": 5},
    "adaption-prompt": {"method": "llama_adapter", "adaption.gate": "layer", "adaption.adapter_layers": 2},
}
THEIRS: dict[str, peft.PeftConfig] = {
    "all-linear": peft.LoraConfig(r=4, lora_alpha=6, target_modules="all-linear"),
    "some": peft.LoraConfig(r=3, target_modules=["q_proj", "model.layers.0.mlp.up_proj"], use_rslora=True),
    "bias-all": peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], bias="all"),
    "bias-lora-only": peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], bias="lora_only"),
    "patterns": peft.LoraConfig(target_modules=["q_proj", "v_proj"], rank_pattern={"v_proj": 6}),
    "whole-modules": peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["norm", "o_proj"]),
    "dora": peft.LoraConfig(r=4, target_modules=["q_proj", "up_proj"], use_dora=True),
    "ia3": peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "prefix": peft.PrefixTuningConfig(num_virtual_tokens=5),
    "prefix-projection": peft.PrefixTuningConfig(num_virtual_tokens=5, prefix_projection=True, encoder_hidden_size=12),
    "prompt": peft.PromptTuningConfig(num_virtual_tokens=5),
    "adaption-prompt": peft.AdaptionPromptConfig(adapter_len=4, adapter_layers=2),
}


def family_of(method: object) -> str:
    return UNBIASED if method == "llama_adapter" else FAMILY


def adapter_on(model: PreTrainedModel, settings: dict[str, object]) -> Adapter:
    adapter = create_adapter(model, build_config(settings), encode=list)
    for number, (_, parameter) in enumerate(adapter.named_parameters()):
        noise = torch.empty_like(parameter)
        torch.nn.init.normal_(noise, std=0.2, generator=torch.Generator().manual_seed(number))
        parameter.data += noise
    return adapter


def our_logits(bank: Bank, slot: int | None) -> torch.Tensor:
    forest = plant([bank.prompted(TokenSequence(IDS, (False,) * len(IDS), adapter_slot=slot))])
    with torch.no_grad(), bank.routed(forest.routes()):
        hidden = forest_hidden_states(bank.model, forest)
    return head_of(bank.model, slot)(hidden[-len(IDS) :])


def their_logits(model: PeftModel) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits[0, -len(IDS) :]  # those of virtual tokens are among them


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found - expected).abs().max() <= 1e-5 * expected.abs().max())


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., tuple[Path, Bank, int]]:
    def save(**settings: object) -> tuple[Path, Bank, int]:
        settings = {name.replace("__", "."): value for name, value in settings.items()}
        bank = Bank(build(family_of(settings.get("method")), dtype=torch.float32))
        adapter = adapter_on(bank.model, settings)
        folder = tmp_path / "adapter"
        folder.mkdir()
        save_adapter(folder, adapter, bank.model, Provenance("base", "auto", "print", {"prompt_input": "x"}, {}))
        return folder, bank, bank.add(adapter)

    return save


@pytest.mark.parametrize("name", OPTIONS)
def test_peft_loads_ours(name: str, saved: Callable[..., tuple[Path, Bank, int]]) -> None:
    folder, bank, slot = saved(**OPTIONS[name])
    plain = build(family_of(OPTIONS[name].get("method")), attached=False, dtype=torch.float32)
    expected = their_logits(PeftModel.from_pretrained(plain, folder).eval())
    assert close(our_logits(bank, slot), expected)
    assert not close(our_logits(bank, None), expected)


def test_each_part_of_a_joint_adapter_is_one_that_peft_loads(saved: Callable[..., tuple[Path, Bank, int]]) -> None:
    folder, bank, _ = saved(method="lora+prefix", lora__r=2)
    for part in bank.adapters[0].parts:
        single = Bank(build(FAMILY, dtype=torch.float32))
        plain = build(FAMILY, attached=False, dtype=torch.float32)
        theirs = PeftModel.from_pretrained(plain, folder / part.method).eval()
        assert close(our_logits(single, single.add(part)), their_logits(theirs))


@pytest.mark.parametrize("lost", ["prefix", "prefix/adapter_config.json", "graft.json"])
def test_a_joint_adapter_without_one_of_its_parts_is_refused(
    lost: str, saved: Callable[..., tuple[Path, Bank, int]]
) -> None:
    folder, bank, _ = saved(method="lora+prefix", lora__r=2)
    gone = folder / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    message = refused(folder, bank)
    assert "holds a part of an adapter" in message
    assert ("prefix is missing" in message) == (lost != "graft.json")


@pytest.mark.parametrize("name", THEIRS)
def test_we_load_what_peft_writes(name: str, tmp_path: Path) -> None:
    config, family = THEIRS[name], UNBIASED if name == "adaption-prompt" else FAMILY
    config.task_type = "CAUSAL_LM"
    theirs = get_peft_model(build(family, attached=False, dtype=torch.float32), config).eval()
    for number, (name_, parameter) in enumerate(theirs.named_parameters()):
        if "lora_B" in name_ or parameter.requires_grad:
            noise = torch.empty_like(parameter)
            torch.nn.init.normal_(noise, std=0.2, generator=torch.Generator().manual_seed(number))
            parameter.data += noise
    expected = their_logits(theirs)
    theirs.save_pretrained(tmp_path)

    bank = Bank(build(family, dtype=torch.float32))
    slot = bank.add(load_adapter(tmp_path, bank.model))
    assert close(our_logits(bank, slot), expected)
    assert not close(our_logits(bank, None), expected)
    assert read_provenance(tmp_path) is None


def test_a_graft_json_of_before_bases_were_quantised_is_of_an_unquantised_one(
    saved: Callable[..., tuple[Path, Bank, int]],
) -> None:
    folder, _, _ = saved(lora__r=2)
    file = folder / "graft.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in said.items() if "quant" not in name}))
    assert len(json.loads(file.read_text())) == len(said) - 2
    provenance = read_provenance(folder)
    assert provenance is not None
    assert provenance.base_quantize == "none"


@pytest.mark.parametrize("changes", [{"data": "x"}, {"base_path": 5}, {"template": None}, {"odd": 1}])
def test_a_graft_json_of_other_values_is_refused(
    changes: dict[str, object], saved: Callable[..., tuple[Path, Bank, int]]
) -> None:
    folder, _, _ = saved(lora__r=2)
    file = folder / "graft.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(AdapterError, match="not what Graft writes"):
        read_provenance(folder)


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


def starred(name: str) -> str:
    """As an error names what is alike in several layers."""
    number = re.search(r"\.(\d+)\.", name)
    return f"{name.replace(f'.{number.group(1)}.', '.*.', 1)} ({number.group(1)})"


def test_all_differences_are_named(saved: Callable[..., tuple[Path, Bank, int]]) -> None:
    folder, bank, _ = saved(lora__r=4, lora__target_modules=["q_proj"])
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    names = sorted(tensors)
    tensors.pop(names[0])
    tensors["base_model.model.odd"] = torch.zeros(2)
    tensors[names[1]] = torch.zeros(5, 5)
    tensors[names[2]] = torch.full_like(tensors[names[2]], float("nan"))
    save_file(tensors, path)
    message = refused(folder, bank)
    assert f"{starred(names[0])} is missing" in message
    assert "base_model.model.odd has no place in the base" in message
    assert f"{starred(names[1])} has shape (5, 5)" in message
    assert f"{starred(names[2])} holds values that are no finite numbers" in message


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 443])
def test_an_empty_or_broken_file_is_refused(content: bytes, saved: Callable[..., tuple[Path, Bank, int]]) -> None:
    folder, bank, _ = saved(lora__r=4)
    (folder / "adapter_model.safetensors").write_bytes(content)
    assert "adapter_model.safetensors is broken" in refused(folder, bank)


def test_a_file_without_tensors_is_refused(saved: Callable[..., tuple[Path, Bank, int]]) -> None:
    folder, bank, _ = saved(lora__r=4)
    save_file({}, folder / "adapter_model.safetensors")
    assert "holds no tensor" in refused(folder, bank)


def test_pickle_is_never_read(saved: Callable[..., tuple[Path, Bank, int]]) -> None:
    folder, bank, _ = saved(lora__r=4)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "pickle" in refused(folder, bank)


def test_an_adapter_of_another_base_is_refused(saved: Callable[..., tuple[Path, Bank, int]]) -> None:
    folder, bank, _ = saved(lora__r=4)
    assert "another base" in refused(folder, bank, base_fingerprint="other")


def test_an_adapter_of_another_shape_is_refused(saved: Callable[..., tuple[Path, Bank, int]]) -> None:
    folder, _, _ = saved(lora__r=4)
    assert "has shape" in refused(folder, Bank(build("llama-mqa")))


@pytest.mark.parametrize(
    "changes",
    [
        {"layers_to_transform": [0]},
        {"init_lora_weights": "pissa"},
        {"some_later_invention": 1},
    ],
)
def test_what_we_do_not_compute_is_refused(
    changes: dict[str, object], saved: Callable[..., tuple[Path, Bank, int]]
) -> None:
    folder, bank, _ = saved(lora__r=4)
    edit(folder, **changes)
    assert next(iter(changes)) in refused(folder, bank)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"use_dora": True}, "lora_magnitude_vector"),
        ({"modules_to_save": ["lm_head"]}, "base_model.model.lm_head.weight is missing"),
        ({"rank_pattern": {"q_proj": 2}}, "has shape"),
    ],
)
def test_a_file_that_is_not_what_its_configuration_says_is_refused(
    changes: dict[str, object], what: str, saved: Callable[..., tuple[Path, Bank, int]]
) -> None:
    folder, bank, _ = saved(lora__r=4)
    edit(folder, **changes)
    assert what in refused(folder, bank)


@pytest.mark.parametrize(
    ("method", "key"),
    [("lora", "r"), ("lora", "lora_alpha"), ("lora", "target_modules"), ("prefix", "num_virtual_tokens"),
     ("prompt", "num_virtual_tokens"), ("llama_adapter", "adapter_layers")],
)  # fmt: skip
def test_what_a_configuration_leaves_out_is_not_guessed(
    method: str, key: str, saved: Callable[..., tuple[Path, Bank, int]]
) -> None:
    """PEFT takes a missing lora_alpha for 8; our default is another."""
    folder, bank, _ = saved(method=method)
    edit(folder, **{key: None})
    assert f"does not say {key}" in refused(folder, bank)


def test_an_unknown_method_is_refused(saved: Callable[..., tuple[Path, Bank, int]]) -> None:
    folder, bank, _ = saved(lora__r=4)
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
