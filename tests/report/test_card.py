import pytest
import yaml

from graft.config import build_config
from graft.report import model_card


@pytest.mark.parametrize("base", ["seedling", "owner/name", "models/llama: 7b", "models/a #1", "[x]", "模型", "'a'"])
def test_the_hub_reads_the_base_from_the_card(base: str) -> None:
    card = model_card(build_config({"model.path": base, "data.path": "rows.json"}), 1234567, None, None)
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front) == {"base_model": base, "library_name": "peft", "tags": ["lora"]}
    assert base in text


@pytest.mark.parametrize(
    ("method", "merged", "by_peft"),
    [
        ({"method": "lora"}, True, True),
        ({"method": "lora", "lora.quantization_aware": True}, True, False),
        ({"method": "full"}, True, False),
        ({"method": "prefix"}, False, True),
        ({"method": "llama_adapter"}, False, False),
        ({"method": "llama_adapter", "adaption.gate": "layer"}, False, True),
        ({"method": "lora+prefix"}, False, False),
    ],
)
def test_the_card_promises_what_the_method_keeps(method: dict[str, object], merged: bool, by_peft: bool) -> None:
    card = model_card(build_config(method), 1, None, None)
    assert ("graft merge" in card) == merged
    assert ("PeftModel" in card) == by_peft
    assert yaml.safe_load(card.split("---\n")[1])["tags"] == str(method["method"]).split("+")


def test_the_card_tells_what_was_trained_on_what_and_to_what_effect() -> None:
    config = build_config({"data.path": ["rows.json", "more.json"], "data.template": "alpaca"})
    card = model_card(config, 1234567, 2.34567, 1.5)
    for fact in ("1,234,567", "rows.json, more.json", "template alpaca", "2.3457 before", "1.5000 after"):
        assert fact in card
    assert "Held-out" not in model_card(config, 1, None, None)
    assert "quantised" not in card
    assert "quantised to nf4" in model_card(build_config({"model.quantize": "nf4"}), 1, None, None)
    assert model_card(config, 1234567, 2.34567, 1.5) == card
