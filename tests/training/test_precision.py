"""Training in bfloat16 over forests against the field's plain way: padded batches in float32."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM

import graft.runtime
from graft.adapters import METHODS, Bank, Provenance, save_adapter
from graft.commands.assembly import open_base, open_tokenizer
from graft.commands.samples import read_samples
from graft.config import LoraConfig, ModelConfig, build_config
from graft.data import load_template
from graft.records import TokenSequence
from graft.seedling import seedling_path
from graft.training import Batches, Event, Stepped, Training, build_optimizer

STEPS, WINDOW = 200, 20
ROWS = Path(graft.__file__).parent / "seedling" / "demo_train.jsonl"
CONFIG = build_config(
    {"data.path": str(ROWS), "data.held_out": 0, "train.learning_rate": 1e-3, "train.global_batch": 8}
)


def batches() -> Batches:
    samples = read_samples(CONFIG.data, load_template("alpaca"), open_tokenizer(CONFIG.model))
    return Batches(samples.train, global_batch=8, epochs=9, max_steps=STEPS, seed=0)


def forests_in_bfloat16() -> Tensor:
    base = open_base(ModelConfig(dtype="bfloat16"))
    bank = Bank(base.model)
    slot = bank.add(METHODS["lora"].create(base.model, LoraConfig(), seed=0))
    losses: list[float] = []

    def hear(event: Event) -> None:
        if isinstance(event, Stepped):
            losses.append(event.loss)

    Training(
        bank=bank,
        slot=slot,
        batches=batches(),
        optimizer=build_optimizer(list(bank.adapters[slot].named_parameters()), CONFIG.train),
        rate=lambda _: CONFIG.train.learning_rate,
        max_tokens=4096,
        max_grad_norm=1.0,
        seed=0,
        recompute=0,
        offload=False,
        evaluate=None,
        eval_every=0,
        subscribers=[hear],
    ).run()
    return torch.tensor(losses)


def padded_in_float32(folder: Path, *, seed: int) -> Tensor:
    from peft import PeftModel

    base = open_base(ModelConfig(dtype="float32"))
    (folder / str(seed)).mkdir()
    adapter = METHODS["lora"].create(base.model, LoraConfig(), seed=seed)
    save_adapter(folder / str(seed), adapter, base.model, Provenance("seedling", "float32", "", {}, {}))
    plain = AutoModelForCausalLM.from_pretrained(seedling_path(), dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, folder / str(seed), is_trainable=True)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=CONFIG.train.learning_rate, weight_decay=0.0)
    source = batches()
    losses = []
    for step in range(1, STEPS + 1):
        loss = padded_loss(model, source.of_step(step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return torch.tensor(losses)


def padded_loss(model: torch.nn.Module, batch: list[TokenSequence]) -> Tensor:
    longest = max(map(len, batch))
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    labels = torch.full((len(batch), longest), -100)
    seen = torch.zeros(len(batch), longest, dtype=torch.long)
    for row, sample in enumerate(batch):
        ids[row, : len(sample)] = torch.tensor(sample.ids)
        trained = torch.tensor(sample.trained)
        labels[row, : len(sample)][trained] = torch.tensor(sample.ids)[trained]
        seen[row, : len(sample)] = 1
    logits = model(input_ids=ids, attention_mask=seen).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())


def smooth(losses: Tensor) -> Tensor:
    return losses.unfold(0, WINDOW, 1).mean(dim=1)


@pytest.mark.slow
def test_the_loss_curve_of_bfloat16_stays_within_the_noise_of_the_padded_float32_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise is what another beginning of the adapter does to the curve."""
    monkeypatch.setattr(graft.runtime, "_has_instructions_for", lambda _: True)  # bfloat16 throughout, emulated or not
    plain, other = padded_in_float32(tmp_path, seed=0), padded_in_float32(tmp_path, seed=1)
    ours = forests_in_bfloat16()
    noise = (smooth(other) - smooth(plain)).abs().max()
    difference = (smooth(ours) - smooth(plain)).abs().max()
    print(f"largest difference of the means of {WINDOW} steps: {difference:.4f}; of another beginning: {noise:.4f}")
    assert smooth(plain)[-1] < 0.7 * smooth(plain)[0], "it learned something"
    assert difference < noise
