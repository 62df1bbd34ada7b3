"""What a section of the settings is, and the sections of the methods."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from graft.terminal import is_unicode

SECTIONS = {
    "lora": "lora",
    "llama_adapter": "adaption",
    "llama_adapter_v2": "adaption",
    "prefix": "prefix",
    "prompt": "prompt",
    "ia3": "ia3",
    "bitfit": None,
    "full": None,
}
"""Every method, with the section of the settings that it reads."""

MOST_ALPHA = 1e6
"""Far above any that learns, and far below what overflows float32."""

MOST_VIRTUAL = 8192
"""Far above any prompt that was ever of use; a broken file is not to ask for all memory."""

METHOD_NAMES = tuple(SECTIONS)


def _no_switch(value: object) -> object:
    """`yes` in YAML is a truth value, and would be read as 1."""
    if isinstance(value, bool):
        raise ValueError("a number is due, not yes or no")
    return value


def _names(value: object) -> object:
    """`a,b` on a command line is the list [a, b]; "all-linear" and "auto" stay words."""
    if isinstance(value, str) and value not in ("all-linear", "auto"):
        return [name.strip() for name in value.split(",") if name.strip()]
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(f"(.*)({value})$")  # as a part of another, as which it is read
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from None
    return value


def _known_methods(names: str) -> str:
    parts = names.split("+")
    for name in parts:
        if name not in METHOD_NAMES:
            raise ValueError(f"no method is called {name!r}; there are {', '.join(METHOD_NAMES)}")
    if len(set(parts)) < len(parts):
        raise ValueError("a method stands twice")
    return names


Whole = Annotated[int, BeforeValidator(_no_switch)]
Number = Annotated[float, BeforeValidator(_no_switch)]
Names = Annotated[list[str], BeforeValidator(_names)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Methods = Annotated[str, AfterValidator(_known_methods)]
Trackers = Annotated[list[Literal["tensorboard", "wandb", "mlflow", "trackio"]], BeforeValidator(_names)]
Roles = Annotated[list[Literal["system", "user", "assistant", "tool"]], BeforeValidator(_names)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*")
    @classmethod
    def _can_be_written_down(cls, value: Any) -> Any:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not is_unicode(text):
                raise ValueError("is not valid UTF-8; rename what it names")
        return value


class LoraConfig(Section):
    """LoRA (Hu et al. 2021, arXiv 2106.09685)."""

    r: Whole = Field(16, gt=0)
    """Rank. 16 on all linear layers learns a data set of thousands of rows without loss against full fine-tuning."""
    lora_alpha: Number = Field(32, gt=0, le=MOST_ALPHA)
    """Scale: the update is lora_alpha / r * B A. Twice the rank, the field's custom, keeps learning rates portable."""
    lora_dropout: Number = Field(0.0, ge=0, lt=1)
    """Probability. 0: a deterministic forward lets samples share their prefixes, and short runs do not need it."""
    target_modules: Annotated[Literal["all-linear"] | list[str], BeforeValidator(_names)] = "all-linear"
    """Linear layers by name or end of name; all-linear: every one but the output head. All matters more than rank."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which biases of the base train as well. none: there are none in Llama."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r) (arXiv 2312.03732): for ranks above 64."""
    use_dora: bool = False
    """DoRA (arXiv 2402.09353): a trained magnitude for each row of a weight, and LoRA for its direction."""
    init: Literal["zero", "pissa", "orthogonal"] = "zero"
    """How A and B begin. zero: B is 0; pissa: the base's largest singular vectors (arXiv 2404.02948); orthogonal: both
    filled, with a product of 0. Each begins as the base."""
    quantization_aware: bool = False
    """Train against the grid of a quantised base: merging and quantising again then changes nothing. Slower."""
    rank_pattern: dict[Pattern, Annotated[Whole, Field(gt=0)]] = {}
    """Ranks of single layers, by an end of the name (a regular expression, as in PEFT): {"v_proj": 32}."""
    alpha_pattern: dict[Pattern, Annotated[Number, Field(gt=0, le=MOST_ALPHA)]] = {}
    """lora_alpha of single layers, likewise."""
    modules_to_save: Names = []
    """Modules that train whole, beside LoRA: embed_tokens, lm_head, norms or linear layers, by end of name."""


class AdaptionConfig(Section):
    """LLaMA-Adapter, v1 and v2 (Zhang et al. 2023, arXiv 2303.16199; Gao et al. 2023, arXiv 2304.15010)."""

    adapter_len: Whole = Field(10, gt=0, le=MOST_VIRTUAL)
    """Learned prompt positions in each layer. 10, as its authors."""
    adapter_layers: Whole = Field(0, ge=0)
    """Layers that have them, counted from the top; 0: all but the two lowest, as its authors."""
    gate: Literal["head", "layer"] = "head"
    """One gate for each head, as its authors, or for each layer, as PEFT, which can load no other."""


class PrefixConfig(Section):
    """Prefix tuning (Li and Liang 2021, arXiv 2101.00190), P-Tuning v2 (Liu et al. 2021, arXiv 2110.07602)."""

    num_virtual_tokens: Whole = Field(16, gt=0, le=MOST_VIRTUAL)
    """Keys and values that every sample sees before its own, in each layer."""
    prefix_projection: bool = False
    """Train an embedding and a two-layer MLP that makes keys and values of it, as the first paper does."""
    encoder_hidden_size: Whole = Field(0, ge=0)
    """Width of that MLP, which prefix_projection makes; 0: the model's hidden size."""

    @model_validator(mode="after")
    def _projected(self) -> "PrefixConfig":
        if self.encoder_hidden_size and not self.prefix_projection:
            raise ValueError("encoder_hidden_size is the width of the projection, and prefix_projection is off")
        return self


class PromptConfig(Section):
    """Prompt tuning (Lester et al. 2021, arXiv 2104.08691)."""

    num_virtual_tokens: Whole = Field(16, gt=0, le=MOST_VIRTUAL)
    """Trained embeddings that stand before every sample."""
    init_text: str = ""
    """They begin as the embeddings of this text, repeated or cut to fit; none: as those of random tokens."""


class Ia3Config(Section):
    """IA3 (Liu et al. 2022, arXiv 2205.05638): vectors that scale what layers give, or what they read."""

    target_modules: Annotated[Literal["auto"] | list[str], BeforeValidator(_names)] = "auto"
    """Linear layers by name or end of name. auto: keys, values and the MLP's last layer, as the paper."""
    feedforward_modules: Annotated[Literal["auto"] | list[str], BeforeValidator(_names)] = "auto"
    """Those of them that are scaled where they read. auto: the MLP's last layer."""

    @model_validator(mode="after")
    def _feedforward_is_targeted(self) -> "Ia3Config":
        if "auto" not in (self.target_modules, self.feedforward_modules):
            lost = sorted(set(self.feedforward_modules) - set(self.target_modules))
            if lost:
                raise ValueError(f"feedforward_modules {', '.join(lost)} are not among target_modules")
        return self


class BestConfig(Section):
    """Which step's adapter is handed over, by what is measured every train.eval_every steps, and when to stop early."""

    by: Literal["loss", "exact_match", "rouge_l", "last"] = "loss"
    """The figure of the held-out rows that chooses; where none is held out, the last step is taken. loss costs nothing
    more; exact_match and rouge_l have every held-out row answered. last: the last step, whatever was measured."""
    patience: Whole = Field(0, ge=0)
    """Measurements in a row without a gain, after which the run stops. 0: it never does; the best is taken anyhow."""
    min_gain: Number = Field(0.0, ge=0)
    """What the figure must get better by for patience to begin anew, in the figure's unit (nats for loss)."""

    @model_validator(mode="after")
    def _figures_agree(self) -> "BestConfig":
        if self.by == "last" and (self.patience or self.min_gain):
            raise ValueError("patience and min_gain need a figure to go by, and by is last")
        if self.min_gain and not self.patience:
            raise ValueError("min_gain is read with a patience above 0")
        return self


class BadNumbersConfig(Section):
    """What becomes of a step whose loss or gradient is not finite. The rows at fault are named in any case."""

    action: Literal["stop", "skip", "roll_back"] = "stop"
    """stop: before the weights change. skip: the step's update is not made. roll_back: nor are those since the newest
    checkpoint of checkpoint.every, and their batches are passed over. stop: such a row is a fault to be mended."""
    budget: Whole = Field(0, ge=0)
    """Of skip and roll_back: steps that may be left out; one more stops the run."""

    @model_validator(mode="after")
    def _budget_is_read(self) -> "BadNumbersConfig":
        if (self.action == "stop") != (self.budget == 0):
            raise ValueError(f"action {self.action} {'reads no budget' if self.budget else 'needs a budget above 0'}")
        return self


class ReportConfig(Section):
    to: Trackers = Field([])
    """Who else is told of the run: tensorboard, in the run's folder; wandb, mlflow, trackio, as their own environment
    variables say. Each is an extra to install. None: nothing leaves the run's folder."""


class DataConfig(Section):
    path: str | list[str] = ""
    """Rows: a file (JSON, JSONL, CSV, Parquet, text; packed or not), a folder, a glob, or a hub id; or a list of
    these."""
    mix: list[Annotated[Number, Field(gt=0)]] = Field([])
    """How often the training rows of each path are taken in an epoch: 2 is twice, 0.5 a half, drawn by the seed.
    Empty: once each. An epoch has 100 million samples at most."""
    format: str = "auto"
    """How a row becomes a conversation: a format's name, or `file.py:function`. auto: recognised by its keys."""
    template: str = "auto"
    """`model`, one that ships with Graft, or the path of a template file. auto: the model's own where it has one, as it
    knows those words; else alpaca. Stored with the adapter, and used wherever that is."""
    train_on: Roles = Field(["assistant"])
    """Whose words the model learns; a message's own `loss` wins. assistant: what it will be asked to say, calls too."""
    train_on_inputs: bool = False
    """Learn prompts as much as answers: Alpaca-LoRA's name for data.prompt_loss_weight 1."""
    prompt_loss_weight: Number = Field(0.0, ge=0, le=1)
    """Share in the loss of a token that the model is given, beside 1 for one that it learns to say. 0: it never has to
    say it. 0.01 to 0.1 steadies runs on short answers."""
    cutoff: Whole = Field(1024, gt=1)
    """Tokens in one sample, its prompt included. 1024 holds nearly all of Alpaca, and one sample fits any GPU."""
    too_long: Literal["drop", "cut", "error"] = "drop"
    """What becomes of samples longer than the cutoff. drop: left out and reported, as half an answer teaches to stop
    in the middle."""
    held_out: Number = Field(0.05, ge=0)
    """Rows kept from training to measure on: a share below 1, or a count. 0.05: enough to see the loss move, cheap.
    They are drawn by what they say, so that no copy of one is trained on."""
    seed: Whole = 42
    """Of the split. Apart from train.seed, so that runs with other seeds are measured on the same rows."""
    cache: bool = True
    """Keep the encoded rows on disk, for the next run on them, and map them from there: memory does not grow with the
    data. GRAFT_CACHE names the folder; what was not asked for in 30 days is removed."""

    @model_validator(mode="after")
    def _parts_agree(self) -> "DataConfig":
        if self.held_out >= 1 and not self.held_out.is_integer():
            raise ValueError(f"held_out {self.held_out} is neither a share below 1 nor a whole count")
        paths = 1 if isinstance(self.path, str) else len(self.path)
        if not paths:
            raise ValueError("path is an empty list: name the data")
        if self.mix and len(self.mix) != paths:
            raise ValueError(f"mix has {len(self.mix)} numbers, and path has {paths} entries")
        if self.train_on_inputs and self.prompt_loss_weight not in (0, 1):
            raise ValueError(f"train_on_inputs is prompt_loss_weight 1, which is {self.prompt_loss_weight:g}")
        return self
