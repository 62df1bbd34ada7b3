"""The contenders: Graft in the types and orders of its peers, and the peers: what each needs and how it trains.

A peer's libraries are imported when it runs.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from graft.bench.rows import load_encoded
from graft.bench.turn import Ran, Task, Turn
from graft.config import Config
from graft.model import load_tokenizer
from graft.runtime import pick_device

INSTALL = "pip install 'graft-llm[bench]'"
IGNORED = -100  # the label of what is not trained, in transformers


@dataclass(frozen=True)
class Own:
    """Graft itself.

    Args:
        dtype: of the base's weights, as `model.dtype` names it.
        grouped: the rows come grouped by length.
    """

    dtype: str
    grouped: bool = False


@dataclass(frozen=True)
class Peer:
    """Another way to train the same.

    Args:
        beside: the contender of `OURS` whose dtype and order it has, and whose losses must be its losses.
        needs: the modules that it runs on.
        sft: TRL's trainer instead of that of `transformers`.
    """

    beside: str
    needs: tuple[str, ...] = ("peft", "accelerate")
    sft: bool = False


_SFT_NEEDS = ("peft", "accelerate", "trl", "datasets")

OURS = {
    "graft-bf16": Own("bfloat16"),
    "graft-grouped": Own("bfloat16", grouped=True),
    "graft-fp32": Own("float32"),
    "graft-fp32-grouped": Own("float32", grouped=True),
}
PEERS = {
    "trainer-bf16": Peer("graft-bf16"),
    "trainer-bf16-grouped": Peer("graft-grouped"),
    "trainer-fp32": Peer("graft-fp32"),
    "sft-bf16": Peer("graft-bf16", needs=_SFT_NEEDS, sft=True),
    "trainer-fp32-grouped": Peer("graft-fp32-grouped"),
    "sft-fp32": Peer("graft-fp32", needs=_SFT_NEEDS, sft=True),
}
BY_DEFAULT = ("trainer-bf16", "trainer-bf16-grouped", "trainer-fp32", "sft-bf16")
"""What most people would run. In float32 alone, for machines without bfloat16: those called fp32."""


def own_of(name: str) -> Own:
    """Graft as it runs beside the contender `name`."""
    return OURS[name if name in OURS else PEERS[name].beside]


def lacking(peer: Peer) -> list[str]:
    """The modules that the peer needs and that are not installed."""
    return [module for module in peer.needs if find_spec(module) is None]


def run_peer(task: Task, folder: Path) -> Ran:
    """Train as `task` says; `folder` is for what the peer's library writes."""
    peer = PEERS[task.contender]
    model = _model(task.config, task.adapter)
    tokenizer = load_tokenizer(task.config.model.path).hf
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    rows = [
        {
            "input_ids": list(sample.ids),
            "labels": [id if trained else IGNORED for id, trained in zip(sample.ids, sample.trained, strict=True)],
        }
        for sample in load_encoded(Path(task.rows))
    ]
    trainer = (_sft_trainer if peer.sft else _trainer)(model, tokenizer, rows, _arguments(task.config, folder))
    device = pick_device()
    return _timed(trainer, model, device)


def _model(config: Config, adapter: str) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base: Any = AutoModelForCausalLM.from_pretrained(
        config.model.path,
        dtype=getattr(torch, config.model.dtype),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    return PeftModel.from_pretrained(base.to(pick_device()), adapter, is_trainable=True)


def _arguments(config: Config, folder: Path) -> dict[str, Any]:
    """What the peers are told: the same training, nothing saved or reported; all else is as their defaults are."""
    settings = config.train
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": settings.global_batch,
        "num_train_epochs": 1,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": 0,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "seed": settings.seed % 2**32,
        "bf16": config.model.dtype == "bfloat16",
        "train_sampling_strategy": "sequential",  # the rows are in order
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "label_names": ["labels"],
        "use_cpu": pick_device().type == "cpu",
    }


def _trainer(model: Any, tokenizer: Any, rows: list[dict[str, list[int]]], arguments: dict[str, Any]) -> Any:
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    return Trainer(
        model=model,
        args=TrainingArguments(**arguments),
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
        processing_class=tokenizer,
    )


def _sft_trainer(model: Any, tokenizer: Any, rows: list[dict[str, list[int]]], arguments: dict[str, Any]) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer(
        model=model,
        args=SFTConfig(**arguments, max_length=None),  # the rows are cut already
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def _timed(trainer: Any, model: Any, device: torch.device) -> Ran:
    """Run the trainer and read each step off its log."""
    from transformers import TrainerCallback

    tokens = 0

    def count(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal tokens
        tokens += inputs[0].numel()

    class Laps(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            nonlocal tokens
            if "loss" in (logs := given["logs"]):
                turn.step(loss=logs["loss"], grad_norm=logs["grad_norm"], tokens_executed=tokens)
                tokens = 0

    model.get_input_embeddings().register_forward_pre_hook(count)
    trainer.add_callback(Laps())
    turn = Turn(device)
    trainer.train()
    return turn.ran()
