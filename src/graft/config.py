"""The one tree of settings. A YAML file, `--set a.b=c`, the short flags and the Python API all write to it.

A setting exists only if something reads it; `tests/test_config.py` walks the tree and proves it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from graft.errors import ConfigError, nearest
from graft.sections import (
    SECTIONS,
    AdaptionConfig,
    BadNumbersConfig,
    BestConfig,
    DataConfig,
    Ia3Config,
    LoraConfig,
    Methods,
    Number,
    PrefixConfig,
    PromptConfig,
    ReportConfig,
    Section,
    Whole,
)

MAX_NEW_TOKENS = 256
"""Longest answer, in tokens, where nothing else is asked for."""

BENCH_ROWS, BENCH_ROUNDS = 64, 2
"""Of `graft bench`: 8 steps of 8 rows in each of two turns tell a contender that is twice as fast from noise."""

DtypeName = Literal["auto", "float32", "fp32", "bfloat16", "bf16", "float16", "fp16"]
QuantizeName = Literal["none", "int8", "nf4", "fp4"]
CacheName = Literal["auto", "always", "never"]


class ModelConfig(Section):
    path: str = "seedling"
    """A local Hugging Face folder, a hub id, or `seedling`, the model that ships with Graft and needs no download."""
    dtype: DtypeName = "auto"
    """Of the base's weights. auto: float32 on a CPU up to 1e9 parameters (exact, and no slower there), else as stored.
    The adapter is always float32."""
    quantize: QuantizeName = "none"
    """How the base's linear layers are stored, its head apart: int8, a byte a weight; nf4 or fp4, half a byte. none: as
    model.dtype says, which loses nothing. nf4 fits weights better than fp4 does; see docs/precisions.md."""
    double_quant: bool = True
    """Of nf4 and fp4, which alone read it: their blocks' scales are quantised too, for 4.13 bits a weight, not 4.5."""
    cache_dequantized: CacheName = "auto"
    """Of a quantised base: keep the weights as model.dtype has them as well. The same answers, sooner, for the memory
    that quantising saved. auto: where they take at most a quarter of what is free."""


class TrainConfig(Section):
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "adafactor", "lion"] = "adamw"
    """adamw is what rates are known for. Its state of 8 bytes a parameter is 2 in adamw_8bit and 4 in lion, which takes
    a third to a tenth of the rate; adafactor keeps a row and a column for a matrix. The paged ones put what a CUDA
    device cannot hold into the host's memory. All but adamw and adafactor need the extra `quant`."""
    learning_rate: Number = Field(3e-4, gt=0)
    """Peak. 3e-4 suits LoRA on 7B models; smaller models take more."""
    schedule: Literal["cosine", "linear", "constant", "step"] = "cosine"
    """After the warm-up. cosine and linear fall all along, step after each epoch."""
    min_learning_rate_ratio: Number = Field(0.0, ge=0, le=1)
    """Share of the peak at which cosine and linear end. 0, where the loss is lowest; above it for a run that another
    goes on from."""
    step_gamma: Number = Field(0.85, gt=0, le=1)
    """Factor of the rate after each epoch under the schedule step. 0.85, as llama-recipes."""
    warmup_steps: Whole = Field(10, ge=0)
    """Steps over which the rate rises from near 0, while the optimizer's averages fill."""
    weight_decay: Number = Field(0.0, ge=0)
    """On matrices only. 0: an adapter of few parameters hardly overfits by their size."""
    lora_plus_ratio: Number = Field(1.0, gt=0)
    """Factor of the rate for lora_B (LoRA+, arXiv 2402.12354). 1: one rate for all; the paper takes 16, with a lower
    rate."""
    max_grad_norm: Number = Field(1.0, ge=0)
    """Gradients are scaled down to this L2 norm; 0 leaves them. 1 keeps one odd row from throwing the run off."""
    global_batch: Whole = Field(32, gt=0)
    """Samples per optimizer step. 32: small enough for a thousand rows to give a hundred steps."""
    max_tokens: Whole = Field(4096, gt=1)
    """Stream tokens per forest, which bounds memory; the longest sample must fit. The update does not depend on it,
    but for what dropout draws."""
    recompute: Whole = Field(0, ge=0)
    """Every how many layers activations are computed again in the backward pass instead of kept: 1 for every layer,
    2 for every second. 0, none, is fastest; 1 takes the least memory, for about a third more time."""
    offload: bool = False
    """Activations wait for the backward pass in the host's memory: for a CUDA device that cannot hold them."""
    compile: bool = False
    """Compile the model's norms with `torch.compile`: a per cent or two faster, after half a minute of compiling.
    Needs a C++ compiler on a CPU."""
    epochs: Whole = Field(3, gt=0)
    """Passes over the rows. 3, as Alpaca."""
    max_steps: Whole = Field(0, ge=0)
    """Optimizer steps at most; 0 for no bound but the epochs."""
    eval_every: Whole = Field(50, ge=0)
    """Steps between measurements of the held-out loss; 0 measures before the first and after the last step only."""
    seed: Whole = 42
    """Of the adapter's beginning, the order of rows and dropout."""

    @model_validator(mode="after")
    def _schedule_reads_its_settings(self) -> "TrainConfig":
        read = {"cosine": "min_learning_rate_ratio", "linear": "min_learning_rate_ratio", "step": "step_gamma"}
        for name in ("min_learning_rate_ratio", "step_gamma"):
            if name != read.get(self.schedule) and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"the schedule {self.schedule} does not read {name}")
        return self


class CheckpointConfig(Section):
    every: Whole = Field(25, ge=0)
    """Steps between checkpoints; 0 for none but the best. 25: an adapter is small, and so is what a kill costs."""
    keep: Whole = Field(3, gt=0)
    """Newest checkpoints kept."""


class Config(Section):
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    method: Methods = "lora"
    """How the base is adapted: lora, llama_adapter, llama_adapter_v2, prefix, prompt, ia3, bitfit, full; or several at
    once where they change different places: lora+prefix."""
    lora: LoraConfig = LoraConfig()
    adaption: AdaptionConfig = AdaptionConfig()
    prefix: PrefixConfig = PrefixConfig()
    prompt: PromptConfig = PromptConfig()
    ia3: Ia3Config = Ia3Config()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    best: BestConfig = BestConfig()
    bad_numbers: BadNumbersConfig = BadNumbersConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _method_reads_its_settings(self) -> "Config":
        read = {SECTIONS[name] for name in self.method.split("+")}
        for section in sorted({name for name in SECTIONS.values() if name} - read):
            given, default = getattr(self, section), type(self).model_fields[section].default
            for name in type(given).model_fields:
                if getattr(given, name) != getattr(default, name):
                    raise ValueError(f"the method {self.method} does not read {section}.{name}")
        return self


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, whose first value would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            keys = [str(key.value) for key, _ in node.value]
            twice = next((key for key in keys if keys.count(key) > 1), "")
            raise yaml.constructor.ConstructorError(None, None, f"the key `{twice}` stands twice", node.start_mark)
        return mapping


def setting_names() -> list[str]:
    """Every setting, dotted: `lora.r`."""
    names = []
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += [f"{name}.{inner}" for inner in field.annotation.model_fields]
        else:
            names.append(name)
    return names


def build_config(*layers: Mapping[str, Any]) -> Config:
    """One configuration of several layers of settings, later ones over earlier. Keys may be nested, dotted, or both.

    Raises:
        ConfigError: a key is unknown (the nearest is named) or a value does not fit.
    """
    flat: dict[str, Any] = {}
    for layer in layers:
        flat.update(flatten_settings(layer))
    known = setting_names()
    for name in flat:
        if name not in known:
            raise ConfigError(f"unknown setting `{name}`", fix=_suggestion(name, known))
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, leaf = name.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = value
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("; ".join(_complaint(e) for e in error.errors()), fix="see `graft train --help`") from None


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        ConfigError: there is no such file, or it is not a mapping in YAML.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}", fix="check --config") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no settings", fix="write them as `train: {epochs: 3}`")
    return content


def parse_settings(assignments: Sequence[str]) -> dict[str, Any]:
    """Settings from `a.b=c` texts; values are read as YAML."""
    settings = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"`--set {assignment}` is not of the form name=value", fix="e.g. --set lora.r=8")
        try:
            settings[name.strip()] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):  # ValueError: what looks like a date and is none
            settings[name.strip()] = text
    return settings


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)


def flatten_settings(layer: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested or dotted settings by dotted name."""
    sections = {name.split(".")[0] for name in setting_names() if "." in name}
    mappings = {f"lora.{name}" for name, field in LoraConfig.model_fields.items() if field.default == {}}
    flat: dict[str, Any] = {}
    for key, value in layer.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in mappings and (value or name in sections):
            flat.update(flatten_settings(value, f"{name}."))
        elif value is None and name in sections:
            continue  # the file names the section and leaves it empty
        else:
            flat[name] = value
    return flat


def _suggestion(name: str, known: Sequence[str]) -> str:
    by_leaf = {full.rsplit(".", 1)[-1]: full for full in known}
    match = nearest(name, known) or by_leaf.get(nearest(name.rsplit(".", 1)[-1], by_leaf), "")
    return f"did you mean `{match}`?" if match else f"the settings are {', '.join(known)}"


def _complaint(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if part not in ("str", "list[str]", "literal['all-linear']"))
    message = error["msg"].removeprefix("Value error, ")
    given = error["input"]
    shown = f" (given: {given!r})" if where and not isinstance(given, dict) else ""
    return f"{where}: {message}{shown}" if where else message
