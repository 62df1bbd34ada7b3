"""Every method, by the name that a configuration gives it."""

from transformers import PreTrainedModel

from graft.adapters.adaption import LlamaAdapter
from graft.adapters.contract import Adapter, Encode, Method, join
from graft.adapters.ia3 import Ia3
from graft.adapters.lora import Lora
from graft.adapters.prefix import Prefix
from graft.adapters.prompt import Prompt
from graft.adapters.targets import embeddings_name
from graft.adapters.whole import BitFit, Full
from graft.config import Config
from graft.sections import SECTIONS, Section

METHODS: dict[str, Method] = {
    "lora": Lora(),
    "llama_adapter": LlamaAdapter(version=1),
    "llama_adapter_v2": LlamaAdapter(version=2),
    "prefix": Prefix(),
    "prompt": Prompt(),
    "ia3": Ia3(),
    "bitfit": BitFit(),
    "full": Full(),
}


def settings_for(method: str, config: Config) -> Section:
    """The section of `config` that `method` reads; an empty one for a method without settings."""
    name = SECTIONS[method]
    section: Section = getattr(config, name) if name else Section()
    return section


def create_adapter(model: PreTrainedModel, config: Config, *, encode: Encode) -> Adapter:
    """A fresh adapter of the method, or methods, that `config` names.

    Raises:
        AdapterError: the settings do not fit the model, or methods collide.
    """
    return join(
        tuple(
            METHODS[name].create(model, settings_for(name, config), seed=config.train.seed, encode=encode)
            for name in config.method.split("+")
        ),
        embeddings=embeddings_name(model),
    )
