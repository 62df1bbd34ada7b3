"""Methods that train what the base has: all of its weights (`full`), or the biases of its linear layers (`bitfit`)."""

from collections.abc import Collection, Mapping
from typing import Any

from transformers import PreTrainedModel

from graft.adapters.contract import Adapter, Encode
from graft.adapters.foreign import refuse_foreign
from graft.adapters.own import BiasGraft, own_grafts
from graft.adapters.targets import linear_layers, weighted_modules
from graft.sections import Section


class Full:
    """Full fine-tuning: every module of a copy of its own, so that off is the base again."""

    peft_types = ("FULL",)

    def create(self, model: PreTrainedModel, settings: Section, *, seed: int, encode: Encode | None = None) -> Adapter:
        return Adapter("full", settings, own_grafts(weighted_modules(model)))

    def peft_config(self, adapter: Adapter, model: PreTrainedModel) -> dict[str, Any]:
        return {"peft_type": "FULL", "task_type": "CAUSAL_LM", "inference_mode": True}

    def settings_of(self, peft_config: Mapping[str, Any], tensors: Collection[str]) -> Section:
        refuse_foreign(peft_config, (), "full fine-tuning")
        return Section()


class BitFit:
    """The biases of every linear layer (Ben Zaken et al. 2021, arXiv 2106.10199), of 0 where the base has none."""

    peft_types = ("BITFIT",)

    def create(self, model: PreTrainedModel, settings: Section, *, seed: int, encode: Encode | None = None) -> Adapter:
        return Adapter("bitfit", settings, {name: BiasGraft(layer) for name, layer in linear_layers(model).items()})

    def peft_config(self, adapter: Adapter, model: PreTrainedModel) -> dict[str, Any]:
        return {"peft_type": "BITFIT", "task_type": "CAUSAL_LM", "inference_mode": True}

    def settings_of(self, peft_config: Mapping[str, Any], tensors: Collection[str]) -> Section:
        refuse_foreign(peft_config, (), "BitFit")
        return Section()
