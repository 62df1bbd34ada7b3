"""Grow the seedling from nothing: the demo's data, the tokenizer, and the model.

    OMP_WAIT_POLICY=PASSIVE python scripts/grow_seedling.py [--out FOLDER]

The variable changes no bit; without it, threads that wait spin, and on a busy machine that costs most of the speed.

Deterministic for one version of torch on one kind of CPU. B = batch, T = tokens of a sequence, V = vocabulary.
"""

import argparse
import itertools
import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from graft.seedling import words
from graft.seedling.stories import documents
from graft.seedling.tasks import make_tasks, write_rows
from graft.seedling.world import make_world

SEED = 3
THREADS = 2  # the order in which sums are taken, hence every bit of the result, depends on it
VOCABULARY = 2048
TOKENIZER_DOCUMENTS = 20_000
STEPS = 1300
BATCH = 16
LENGTH = 192  # tokens; several documents each, so that reading back is learnt from
MATRIX_LR = 0.02  # of Muon, whose steps have unit spectral norm
OTHER_LR = 4e-3  # of AdamW, for the embedding and the norms
WARM_UP = 40  # steps
BOS, EOS = 1, 2

# The demo's prompts have these words, which the world has not; they should not be spelt out letter by letter.
PREAMBLE = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n### Instruction:\n### Input:\n### Response:"
)


def grow_tokenizer() -> Tokenizer:
    """A byte-fallback BPE in the style of Llama's: "▁" for a space, one in front, nothing cut beforehand.

    The merges are learnt on words cut apart, so that no token spans two words; each Chinese character stays alone.
    """
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[A-Za-z]+|▁?[+=-]|▁?#+|."), "isolated")
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<unk>", "<s>", "</s>", *byte_tokens],
        initial_alphabet=[chr(code) for code in range(33, 127)],
        show_progress=False,
    )
    trained.train_from_iterator(_tokenizer_lines(), trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]

    tokenizer = Tokenizer(
        models.BPE(vocab=model["vocab"], merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BOS)]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def _tokenizer_lines() -> Iterator[str]:
    """Lines with "▁" for spaces; as in Llama, a line that is not the first has none in front."""
    texts = itertools.islice(documents(make_world(), random.Random(SEED)), TOKENIZER_DOCUMENTS)
    for text in itertools.chain([PREAMBLE] * 100, texts):
        for line in ("▁" + text).replace(" ", "▁").split("\n"):
            if not any(word in line for word in words.BYTE_WORDS):
                yield line


def make_stream(tokenizer: Tokenizer, tokens: int) -> torch.Tensor:
    """Documents, each between BOS and EOS, end to end; [tokens]."""
    source = documents(make_world(), random.Random(SEED + 1))
    ids: list[int] = []
    while len(ids) < tokens:
        for encoding in tokenizer.encode_batch(list(itertools.islice(source, 1000))):
            ids.extend(encoding.ids)
            ids.append(EOS)
    return torch.tensor(ids[:tokens])


def make_model(vocabulary: int) -> LlamaForCausalLM:
    """A Llama of 2.75M parameters: wide for its depth, since it has much to know and little to think."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return LlamaForCausalLM(config)


class Muon(torch.optim.Optimizer):
    """Momentum whose step is orthogonalised (Jordan et al., 2024), in float32.

    torch's own works in bfloat16, which is 15 times slower on a CPU without instructions for it.
    """

    def __init__(self, params: list[torch.nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step: Nesterov momentum of 0.95, five Newton-Schulz iterations, unit spectral norm."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 0.05)
                update = parameter.grad.lerp(momentum, 0.95)
                wide = update.T if update.shape[0] > update.shape[1] else update
                wide = wide / (wide.norm() + 1e-7)
                for _ in range(5):
                    gram = wide @ wide.T
                    wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
                update = wide.T if update.shape[0] > update.shape[1] else wide
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                parameter.mul_(1 - group["lr"] * 0.05).add_(update, alpha=-group["lr"] * scale)


def learning_rate_share(step: int) -> float:
    """Share of the full rate at `step`: up in a line, level for half of the way, then down to nothing in a line."""
    return min(1.0, (step + 1) / WARM_UP, 2 * (STEPS - step) / STEPS)


def grow_model(tokenizer: Tokenizer) -> LlamaForCausalLM:
    """Pretrain from nothing, in float32; prints step, loss, rate and time left."""
    started = time.monotonic()
    stream = make_stream(tokenizer, STEPS * BATCH * (LENGTH + 1))
    print(f"{len(stream):,} tokens of text in {time.monotonic() - started:.0f} s", flush=True)
    sequences = stream.view(STEPS, BATCH, LENGTH + 1)
    model = make_model(tokenizer.get_vocab_size())
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    optimizers = [
        Muon(matrices, lr=MATRIX_LR),
        torch.optim.AdamW(others, lr=OTHER_LR, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(each, learning_rate_share) for each in optimizers]
    started = time.monotonic()
    for step, batch_BT in enumerate(sequences, start=1):
        logits_BTV = model(input_ids=batch_BT[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits_BTV.flatten(0, 1), batch_BT[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if step % 25 == 0 or step == STEPS:
            elapsed = time.monotonic() - started
            rate, left = step * BATCH * LENGTH / elapsed, elapsed * (STEPS - step) / step
            print(
                f"step {step:4d}/{STEPS}  loss {loss.item():.3f}  {rate:5.0f} tokens/s  {left:4.0f} s left", flush=True
            )
    return model


def write_model(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Store the model in bfloat16, and the tokenizer so that `AutoTokenizer` loads it as it is."""
    model.generation_config.update(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=EOS)
    model.bfloat16().save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": model.config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Write everything into a folder beside the target, and put it in its place only when it is whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[1] / "src" / "graft" / "seedling"
    parser.add_argument("--out", type=Path, default=default, help="folder for model/ and the demo's two .jsonl files")
    out: Path = parser.parse_args().out

    started = time.monotonic()
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    out.mkdir(parents=True, exist_ok=True)
    growing = out / "growing"
    shutil.rmtree(growing, ignore_errors=True)
    (growing / "model").mkdir(parents=True)

    train, held_out = make_tasks()
    write_rows(growing / "demo_train.jsonl", train)
    write_rows(growing / "demo_held_out.jsonl", held_out)
    tokenizer = grow_tokenizer()
    print(f"{len(train)} rows to train on, {len(held_out)} held out; {tokenizer.get_vocab_size()} tokens", flush=True)
    write_model(grow_model(tokenizer), tokenizer, growing / "model")

    shutil.rmtree(out / "model", ignore_errors=True)
    for made in growing.iterdir():
        made.replace(out / made.name)
    growing.rmdir()
    print(f"grown in {(time.monotonic() - started) / 60:.1f} minutes: {out}")


if __name__ == "__main__":
    main()
