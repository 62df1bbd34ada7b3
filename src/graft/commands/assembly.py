"""What several verbs build alike: the base, the data, the adapter on the base."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graft.adapters import Bank, Provenance, is_adapter, is_proven, load_adapter, read_provenance
from graft.config import Config, ModelConfig, build_config
from graft.data import Template, encode_conversation, encode_prompt, lengths_of, load_template, template_of
from graft.errors import AdapterError, ConfigError, DataError
from graft.evaluation import Question
from graft.forest import attach
from graft.model import Base, Tokenizer, load_base, load_tokenizer, positions_of
from graft.records import Conversation, TokenSequence
from graft.runtime import pick_device, say_on_stderr
from graft.sections import DataConfig
from graft.seedling import seedling_path

SEEDLING = "seedling"


def model_folder(path: str) -> str:
    """Where the model named `path` is: `seedling` is the one that ships with Graft."""
    return str(seedling_path() if path == SEEDLING else Path(path).expanduser())


def open_base(settings: ModelConfig) -> Base:
    """The base, attending over forests."""
    base = load_base(
        model_folder(settings.path),
        dtype=settings.dtype,
        quantize=settings.quantize,
        double_quant=settings.double_quant,
        cache_dequantized=settings.cache_dequantized,
        device=pick_device(),
    )
    attach(base.model)
    return base


def open_tokenizer(settings: ModelConfig) -> Tokenizer:
    return load_tokenizer(model_folder(settings.path))


def stop_ids(base: Base, template: Template) -> list[int]:
    """Tokens that end an answer: those that training teaches, and those that the model's own files name."""
    named: Any = getattr(base.model.generation_config, "eos_token_id", None)
    listed = named if isinstance(named, list) else [] if named is None else [named]
    return sorted({base.tokenizer.eos_id, *listed, *template.stops(base.tokenizer)})


def check_positions(base: Base, samples: Sequence[TokenSequence], *, virtual_tokens: int = 0) -> None:
    """Raise a DataError if a sample, behind the virtual tokens of its adapter, has more tokens than the base has
    positions."""
    check_room(base.path, positions_of(base.model.config), samples, virtual_tokens=virtual_tokens)


def check_room(path: str, room: int, samples: Sequence[TokenSequence], *, virtual_tokens: int = 0) -> None:
    """`check_positions` for the base at `path`, which has so many positions."""
    lengths = lengths_of(samples)
    if lengths.max() + virtual_tokens > room:
        longest = samples[int(lengths.argmax())]
        more = f" behind {virtual_tokens} virtual ones" if virtual_tokens else ""
        what = f"{longest.source}: a sample of {len(longest)} tokens{more}, and {path} has {room} positions"
        raise DataError(what, fix=f"set data.cutoff to {room - virtual_tokens} or less")


def provenance_of(model: ModelConfig, base: Base, template: Template, data: dict[str, Any]) -> Provenance:
    """What an adapter on `base`, loaded with `model`, needs to be used as it was trained."""
    return Provenance(
        base_path=model.path,
        base_dtype=model.dtype,
        base_quantize=model.quantize,
        base_double_quant=model.double_quant,
        base_fingerprint=base.fingerprint,
        template=template.content(),
        data=data,
    )


def refuse_unread(settings: Mapping[str, Any], *, verb: str, reads: Sequence[str]) -> None:
    """Raise a ConfigError for a setting that `verb` would not look at."""
    for name in settings:
        if not any(name == read or name.startswith(f"{read}.") for read in reads):
            raise ConfigError(f"`graft {verb}` does not read {name}", fix=f"it reads {', '.join(reads)}")


def questions_of(
    conversations: Sequence[Conversation], settings: DataConfig, template: Template, tokenizer: Tokenizer
) -> list[Question]:
    """The rows to measure on: every one whose prompt and answer fit the cutoff.

    Raises:
        DataError: none does, or one asks nothing.
    """
    questions = []
    for conversation in conversations:
        messages = conversation.messages
        last = max((number for number, message in enumerate(messages) if message.role == "assistant"), default=0)
        if last == 0:
            what = f"{conversation.source}: the row asks for no answer"
            raise DataError(what, fix="measure on rows with a question and an answer")
        answered = replace(messages[last], trained=True)
        ended = replace(conversation, messages=(*messages[:last], answered))
        sample = encode_conversation(template.samples(ended, tokenizer)[-1], template, tokenizer)
        if len(sample) <= settings.cutoff:
            prompt = encode_prompt(messages[:last], template, tokenizer, tools=conversation.tools)
            asked = f"{messages[last - 1].content}\n{messages[last - 1].context}".strip()
            answer = messages[last].content or tokenizer.decode(sample.ids[len(prompt) :])
            questions.append(Question(asked, answer, prompt, sample))
    if not questions:
        raise DataError(f"no row to measure on fits data.cutoff {settings.cutoff}", fix="raise data.cutoff")
    return questions


@dataclass(frozen=True)
class Answerer:
    """A base, with an adapter or without, and the template that it answers to.

    Args:
        slot: of the adapter in the bank; None where there is none. The base itself always answers at None.
    """

    base: Base
    bank: Bank
    slot: int | None
    template: Template
    provenance: Provenance


def open_answerer(model: ModelConfig, adapter: Path | None = None, *, template: str | None = None) -> Answerer:
    """Load a base, and an adapter onto it.

    Args:
        template: to use instead of the one stored with the adapter or the merged model.
    """
    base = open_base(model)
    bank = Bank(base.model)
    slot = None
    provenance = read_provenance(adapter or Path(model_folder(model.path)))
    if adapter:
        if not is_proven(adapter):
            say_on_stderr(f"{adapter} has no manifest, so whether it is the adapter that was written is not proven")
        slot = bank.add(load_adapter(adapter, base.model, base_fingerprint=base.fingerprint))
    if template is not None or provenance is None:
        words = load_template(template or Config().data.template, base.tokenizer.chat_template)
        data = provenance.data if provenance else {}
        provenance = provenance_of(model, base, words, data)
    return Answerer(base, bank, slot, template_of(provenance.template, "stored with the adapter"), provenance)


def adapter_folder(path: str) -> Path:
    """The adapter's folder, given itself or the run that made it."""
    folder = Path(path).expanduser()
    inner = folder / "adapter"
    if not is_adapter(folder) and is_adapter(inner):
        return inner
    if not folder.is_dir():
        raise AdapterError(f"there is no folder {path}", fix="give a run's folder, or the adapter/ in it")
    return folder


def base_of(adapter: Path, settings: Mapping[str, Any]) -> ModelConfig:
    """The base to use with `adapter`: the one in `settings`, or the one that the adapter names.

    Raises:
        AdapterError: neither names one.
    """
    provenance = read_provenance(adapter)
    if provenance is None and "model.path" not in settings:
        raise AdapterError(f"{adapter} does not say on which base it was trained", fix="give the base with --model")
    named: dict[str, Any] = {}
    if provenance:
        named = {
            "model.path": provenance.base_path,
            "model.dtype": provenance.base_dtype,
            "model.quantize": provenance.base_quantize,
            "model.double_quant": provenance.base_double_quant,
        }
    return build_config(named, settings).model
