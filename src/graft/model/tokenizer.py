"""A tokenizer whose ids do not depend on what stands around a text, and never come from a special token's spelling."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import compress
from operator import not_
from pathlib import Path
from typing import Any

import tokenizers
from transformers import PreTrainedTokenizerFast

from graft.errors import ModelError
from graft.model import spm
from graft.model.quiet import quiet
from graft.model.word_memo import Merged, WordMemo, words_stand_alone

JSON, SPM, CONFIG = "tokenizer.json", "tokenizer.model", "tokenizer_config.json"
CLASS = "PreTrainedTokenizerFast"  # the class that takes tokenizer.json as it is, in every version of transformers


class Tokenizer:
    """The tokenizer of a base model.

    Args:
        hf: the tokenizer as transformers has it; `save` writes it.
        spm_file: the SentencePiece model that it came from, kept for the tools that read nothing else.

    Attributes:
        fingerprint: SHA-256 of all that its ids depend on.

    Raises:
        ModelError: it has no end token, or takes a special token from its spelling.
    """

    def __init__(self, hf: PreTrainedTokenizerFast, *, spm_file: Path | None = None) -> None:
        self.hf = hf
        self._spm_file = spm_file
        if hf.eos_token_id is None:
            raise ModelError(
                f"the tokenizer of {hf.name_or_path} has no end token, so no answer would ever end",
                fix=f'set "eos_token" in its {CONFIG}',
            )
        self.eos_id: int = hf.eos_token_id
        opening = hf.backend_tokenizer.encode("a").ids[:1]
        self.bos_id: int | None = opening[0] if opening == [hf.bos_token_id] else None
        text = hf.backend_tokenizer.to_str()
        named = json.dumps([text, self.bos_id, self.eos_id, {k: str(v) for k, v in hf.special_tokens_map.items()}])
        self.fingerprint: str = hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()
        spec = json.loads(text)
        self._opening = _private(spec)
        continued = spec | {part: _continued(spec[part]) for part in _PREFIXING}
        self._continuing = _private(continued) if continued != spec else self._opening
        self._memo = WordMemo(spec) if words_stand_alone(spec) else None
        added = self._opening.get_added_tokens_decoder()
        self.special_ids = frozenset(id for id, token in added.items() if token.special) | set(hf.all_special_ids)
        self.special_tokens: dict[str, int] = {self._opening.id_to_token(id) or "": id for id in self.special_ids}
        self.greedy_tokens: dict[str, tuple[bool, bool]] = {
            token.content: (token.lstrip, token.rstrip)
            for id, token in added.items()
            if id in self.special_ids and (token.lstrip or token.rstrip)
        }
        self.token_names: dict[str, str] = {name: str(token) for name, token in hf.special_tokens_map.items()}
        self.vocab_size: int = max(self._opening.get_vocab(with_added_tokens=True).values()) + 1
        self._refuse_spelt_specials()

    @classmethod
    def from_folder(cls, folder: Path) -> "Tokenizer":
        """Read the tokenizer of a model folder.

        `tokenizer.json` is taken as it is. (`AutoTokenizer` rebuilds it for some classes; Llama 2 texts that begin with
        a space then get other ids than training gave them.) Without it, `tokenizer.model` is converted. Where a
        SentencePiece model is there, the ids are held against its own.

        Raises:
            ModelError: neither file is there, one is broken, or their ids differ.
        """
        spm_file = folder / SPM
        model = spm.read(spm_file) if spm_file.is_file() and not spm.is_tiktoken(spm_file) else None
        if (folder / JSON).is_file():
            _check_json(folder / JSON)
            hf = _from_pretrained(folder, named=folder)
        elif model is not None:
            hf = _from_spm(folder, model)
        else:
            raise ModelError(
                f"{folder} has no tokenizer: neither {JSON} nor a SentencePiece {SPM}",
                fix="fetch the tokenizer files of the model into the folder",
            )
        tokenizer = cls(hf, spm_file=spm_file if model else None)
        if model is not None:
            # Metaspace adds no space before a text that begins with one; SentencePiece does. Models exist for both.
            metaspace = "Metaspace" in json.dumps(json.loads(hf.backend_tokenizer.to_str())["pre_tokenizer"])
            spm.prove(model, lambda texts: tokenizer.encode_many(texts, first=True), leading_space=not metaspace)
        return tokenizer

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that came with the model, if one did; of several the one for chat."""
        own: Any = self.hf.chat_template
        return own.get("default") if isinstance(own, dict) else own

    def encode(self, text: str, *, first: bool) -> list[int]:
        """Ids of `text` without BOS and EOS.

        Args:
            first: `text` begins the sequence, and gets the space before it that some models expect there. A
                continuation gets none.
        """
        return self._backend(first).encode(text, add_special_tokens=False).ids

    def encode_many(self, texts: Sequence[str], *, first: bool) -> list[list[int]]:
        """`encode` of each text."""
        with ThreadPoolExecutor(1) as library:
            return [list(ids) for ids in self.encode_soon([(text, first) for text in texts], library)()]

    def encode_soon(
        self, texts: Sequence[tuple[str, bool]], library: Executor
    ) -> Callable[[], Sequence[Sequence[int]]]:
        """As `Codec.encode_soon`: by words that were seen before, or by the library, in parallel."""
        memo = self._memo
        by_words = [memo is not None and memo.takes(text, first=first) for text, first in texts]
        others = list(compress(texts, map(not_, by_words)))
        new, ids_by_words = memo.look_up(list(compress(texts, by_words))) if memo else ([], lambda merged: [])

        def encode() -> tuple[Merged, dict[bool, list[tokenizers.Encoding]]]:
            whole = {
                begins: self._backend(begins).encode_batch_fast(
                    [text for text, first in others if first == begins], add_special_tokens=False
                )
                for begins in (True, False)
            }
            return memo.merge(new) if memo else [], whole

        asked = library.submit(encode)  # one task: every change of threads costs

        def ids() -> Sequence[Sequence[int]]:
            merged, whole = asked.result()
            of_words, of_library = iter(ids_by_words(merged)), {first: iter(some) for first, some in whole.items()}
            return [
                next(of_words) if known else next(of_library[first]).ids
                for known, (_, first) in zip(by_words, texts, strict=True)
            ]

        return ids

    def spans(self, text: str, *, first: bool) -> list[tuple[int, int]]:
        """As `Codec.spans`."""
        return self._backend(first).encode(text, add_special_tokens=False).offsets

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` as a continuation: a space at its beginning stays, special tokens say nothing.

        Bytes that are no UTF-8 become U+FFFD. `decode(encode(text, first=False)) == text` for every text of a
        tokenizer with a fallback to bytes, but for U+2581 where that character means a space (SentencePiece).
        """
        return self._continuing.decode(list(ids), skip_special_tokens=True)

    def save(self, folder: Path) -> None:
        """Write the tokenizer so that `from_folder` and `AutoTokenizer` give the same ids again."""
        with quiet():
            self.hf.save_pretrained(folder)
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        config["tokenizer_class"] = CLASS
        (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if self._spm_file is not None and not (folder / SPM).exists():
            shutil.copyfile(self._spm_file, folder / SPM)

    def _backend(self, first: bool) -> tokenizers.Tokenizer:
        return self._opening if first else self._continuing

    def _refuse_spelt_specials(self) -> None:
        ids = sorted(self.special_ids - {self.hf.unk_token_id})  # the unknown token stands for any text
        texts = [self._opening.id_to_token(id) or "" for id in ids]
        for id, text, first, later in zip(
            ids, texts, self.encode_many(texts, first=True), self.encode_many(texts, first=False), strict=True
        ):
            if id in first + later:
                raise ModelError(
                    f"the tokenizer of {self.hf.name_or_path} reads the text {text!r} as the special token {id}, "
                    "so whoever writes a text could end or begin a turn with it",
                    fix=f"take the merges that spell {text!r} out of its {JSON}",
                )


_PREFIXING = ("normalizer", "pre_tokenizer", "decoder")


def _continued(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """This part of a tokenizer's JSON, but adding or taking away no space at the beginning of a text."""
    if part is None:
        return None
    match part:
        case {"type": "Prepend"}:
            return None
        case {"type": "Sequence"}:
            (key,) = part.keys() - {"type"}
            return part | {key: [item for item in map(_continued, part[key]) if item is not None]}
        case {"type": "Metaspace"}:
            return part | {"prepend_scheme": "never"}
        case {"type": "ByteLevel"}:
            return part | {"add_prefix_space": False}
        case {"type": "Strip", "start": _}:
            return part | {"start": 0}
    return part


def _private(spec: dict[str, Any]) -> tokenizers.Tokenizer:
    """A tokenizer of our own from its JSON, which reads special tokens as plain text and cuts and pads nothing."""
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec | {"truncation": None, "padding": None}))
    tokenizer.encode_special_tokens = True
    return tokenizer


def _check_json(file: Path) -> None:
    try:
        whole = isinstance(json.loads(file.read_bytes())["model"], dict)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ModelError(f"{file} is cut off or not the JSON of a tokenizer", fix="fetch the file again")


def _from_pretrained(folder: Path, *, named: Path) -> PreTrainedTokenizerFast:
    try:
        with quiet():
            hf = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the tokenizer in {named} cannot be read: {error}",
            fix=f"fetch its {JSON} and {CONFIG} again",
        ) from error
    assert isinstance(hf, PreTrainedTokenizerFast)
    return hf


def _from_spm(folder: Path, model: spm.SpmModel) -> PreTrainedTokenizerFast:
    """As if the folder had a tokenizer.json: what its other files say about the tokenizer stays in force."""
    names = {"bos_token": model.processor.bos_id(), "eos_token": model.processor.eos_id()}
    config: dict[str, Any] = {"unk_token": model.pieces[model.processor.unk_id()].text}
    config |= {name: model.pieces[id].text for name, id in names.items() if id >= 0}
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name)
        for file in ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja"):
            if (folder / file).is_file():
                shutil.copyfile(folder / file, whole / file)
        if (folder / CONFIG).is_file():
            try:
                config |= json.loads((folder / CONFIG).read_bytes())
            except (ValueError, TypeError) as error:
                raise ModelError(f"{folder / CONFIG} is not a JSON object", fix="fetch the file again") from error
        (whole / CONFIG).write_text(json.dumps(config | {"tokenizer_class": CLASS}), encoding="utf-8")
        spm.convert(model, bos=config.get("add_bos_token") is not False).save(str(whole / JSON))
        hf = _from_pretrained(whole, named=folder)
    hf.name_or_path = str(folder)
    return hf
