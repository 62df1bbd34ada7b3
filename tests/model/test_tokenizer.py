import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from graft.errors import ModelError
from graft.model.spm import PROBE, convert, read
from graft.model.tokenizer import Tokenizer

# U+2581 means a space in SentencePiece, and so does not come back.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"))


def write(folder: Path, backend: Backend, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"} | config), encoding="utf-8")
    return folder


def byte_level(*, add_prefix_space: bool) -> Backend:
    """As Llama 3 and Qwen have it."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(PROBE, trainer)
    return backend


def metaspace(spm_file: Path, scheme: str) -> Backend:
    """As newer transformers writes Llama tokenizers."""
    backend = convert(read(spm_file))
    backend.normalizer = None
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Metaspace(prepend_scheme=scheme, split=False), decoders.ByteFallback(), decoders.Fuse()]
    )
    return backend


@pytest.fixture(scope="session")
def llama(llama_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(llama_folder)


@pytest.fixture(scope="session", params=["spm", "metaspace-first", "metaspace-always", "bytes", "bytes-prefix"])
def tokenizer(request: pytest.FixtureRequest, spm_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    kind, _, scheme = request.param.partition("-")
    if kind == "spm":
        return Tokenizer.from_folder(spm_file.parent)
    backend = byte_level(add_prefix_space=bool(scheme)) if kind == "bytes" else metaspace(spm_file, scheme)
    return Tokenizer.from_folder(write(tmp_path_factory.mktemp("tokenizer"), backend))


@given(text=texts)
@settings(max_examples=100, deadline=None)
def test_a_continuation_comes_back_exactly(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, first=False)) == text


@given(text=texts)
@settings(max_examples=100, deadline=None)
def test_a_token_stands_for_the_characters_of_its_span(tokenizer: Tokenizer, text: str) -> None:
    ids, spans = tokenizer.encode(text, first=False), tokenizer.spans(text, first=False)
    starts = [start for start, _ in spans[1:]] + [len(text)]
    done = 0
    for number, ((start, stop), following) in enumerate(zip(spans, starts, strict=bool(spans)), 1):
        assert start <= done <= stop
        done = stop
        if stop <= following:  # else the next token shares a character
            assert tokenizer.decode(ids[:number]) == text[:stop]
    assert done == len(text)


@given(text=texts)
@settings(max_examples=100, deadline=None)
def test_spans_are_those_of_the_ids(tokenizer: Tokenizer, text: str) -> None:
    for first in (True, False):
        spans = tokenizer.spans(text, first=first)
        assert len(spans) == len(tokenizer.encode(text, first=first))
        assert spans == sorted(spans)


@given(text=texts)
@settings(max_examples=100, deadline=None)
def test_a_first_text_is_a_continuation_after_a_space(llama: Tokenizer, text: str) -> None:
    if text:
        assert llama.encode(text, first=True) == llama.encode(" " + text, first=False)


@pytest.mark.parametrize("first", [True, False])
def test_no_text_spells_a_special_token(tokenizer: Tokenizer, first: bool) -> None:
    for text in ("</s>", "<s>", "a</s>b", "<unk></s>\n</s>"):
        assert not tokenizer.special_ids & set(tokenizer.encode(text, first=first))


def test_many_are_encoded_as_one_by_one(tokenizer: Tokenizer) -> None:
    for first in (True, False):
        assert tokenizer.encode_many(PROBE, first=first) == [tokenizer.encode(text, first=first) for text in PROBE]


def test_bos_is_there_only_if_the_tokenizer_puts_it(llama: Tokenizer, llama_folder: Path, tmp_path: Path) -> None:
    assert (llama.bos_id, llama.eos_id, llama.vocab_size, llama.special_ids) == (1, 2, 700, {0, 1, 2})
    assert llama.hf("the harbour")["input_ids"] == [1, *llama.encode("the harbour", first=True)]
    folder = Path(shutil.copytree(llama_folder, tmp_path / "no-bos"))
    (folder / "tokenizer_config.json").write_text('{"add_bos_token": false}')
    assert Tokenizer.from_folder(folder).bos_id is None
    assert Tokenizer.from_folder(write(tmp_path / "bytes", byte_level(add_prefix_space=False))).bos_id is None


def test_decode_keeps_half_a_character_and_drops_special_tokens(llama: Tokenizer) -> None:
    ids = llama.encode(" ☃", first=False)
    assert llama.decode(ids) == " ☃"
    assert llama.decode(ids[:-1]).startswith(" \ufffd")
    assert llama.decode([1, *ids, 2]) == " ☃"
    assert llama.decode([]) == ""


def test_saved_and_read_again_it_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert (again.bos_id, again.eos_id) == (tokenizer.bos_id, tokenizer.eos_id)
    plain = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*PROBE, " leading"]:
        assert again.encode(text, first=True) == tokenizer.encode(text, first=True)
        # The probe spells special tokens, which plain transformers would read as such.
        assert plain.encode(text, add_special_tokens=False, split_special_tokens=True) == again.encode(text, first=True)


def test_save_keeps_the_sentencepiece_model_and_the_chat_template(llama_folder: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(llama_folder, tmp_path / "source"))
    (source / "tokenizer_config.json").write_text(
        '{"chat_template": "{{ messages }}", "tokenizer_class": "LlamaTokenizer"}'
    )
    tokenizer = Tokenizer.from_folder(source)
    tokenizer.save(tmp_path / "out")
    assert (tmp_path / "out/tokenizer.model").read_bytes() == (source / "tokenizer.model").read_bytes()
    assert Tokenizer.from_folder(tmp_path / "out").hf.chat_template == "{{ messages }}"
    tokenizer.save(source)  # onto itself


def test_added_tokens_of_the_configuration_stay(llama_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama_folder, tmp_path / "source"))
    pad = {
        "content": "<pad>",
        "special": True,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "single_word": False,
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": {"700": pad}, "pad_token": "<pad>"})
    )
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.vocab_size == 701
    assert 700 in tokenizer.special_ids


def test_takes_tokenizer_json_as_it_is(spm_file: Path, tmp_path: Path) -> None:
    """AutoTokenizer builds a LlamaTokenizer anew, and " a" then lacks a space that the model was trained with."""
    folder = write(tmp_path, convert(read(spm_file)), tokenizer_class="LlamaTokenizer", legacy=False)
    expected = read(spm_file).processor.encode(" a")
    assert Tokenizer.from_folder(folder).encode(" a", first=True) == expected


def test_cutting_and_padding_in_the_file_are_not_applied(spm_file: Path, tmp_path: Path) -> None:
    backend = convert(read(spm_file))
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    tokenizer = Tokenizer.from_folder(write(tmp_path, backend))
    assert tokenizer.encode("the harbour " * 9, first=True) == read(spm_file).processor.encode("the harbour " * 9)


def refusal(folder: Path) -> ModelError:
    with pytest.raises(ModelError) as error:
        Tokenizer.from_folder(folder)
    assert str(folder) in error.value.what
    return error.value


def test_refuses_a_folder_without_tokenizer(tmp_path: Path) -> None:
    assert "fetch the tokenizer files" in refusal(tmp_path).fix
    (tmp_path / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")  # Llama 3's tiktoken file alone
    assert "neither tokenizer.json nor a SentencePiece" in refusal(tmp_path).what


@pytest.mark.parametrize("content", ["", '{"version": "1.0", "mod', "[]", '{"model": null}'])
def test_refuses_a_broken_tokenizer_json(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    assert "fetch the file again" in refusal(tmp_path).fix


@pytest.mark.parametrize("with_json", [True, False])
def test_refuses_a_broken_tokenizer_config(llama_folder: Path, spm_file: Path, tmp_path: Path, with_json: bool) -> None:
    folder = Path(shutil.copytree(llama_folder, tmp_path / "source"))
    if with_json:
        write(folder, convert(read(spm_file)))
    (folder / "tokenizer_config.json").write_text('{"eos_token"')
    assert "again" in refusal(folder).fix


def test_refuses_a_tokenizer_without_end(spm_file: Path, tmp_path: Path) -> None:
    error = refusal(write(tmp_path, convert(read(spm_file)), eos_token=None))
    assert "no end token" in error.what
    assert '"eos_token"' in error.fix


def test_refuses_a_special_token_that_text_can_spell(tmp_path: Path) -> None:
    letters = {letter: id for id, letter in enumerate("</s>ab")}
    model = models.BPE(vocab=letters | {"</": 6, "s>": 7, "</s>": 8}, merges=[("<", "/"), ("s", ">"), ("</", "s>")])
    backend = Backend(model)
    backend.add_special_tokens(["</s>"])
    error = refusal(write(tmp_path, backend))
    assert "reads the text '</s>' as the special token 8" in error.what
    assert "merges" in error.fix


def test_refuses_files_of_two_models(train_spm: Any, spm_file: Path, tmp_path: Path) -> None:
    other = train_spm(vocab_size=600)
    folder = write(tmp_path, convert(read(other)))
    shutil.copy(spm_file, folder)
    error = refusal(folder)
    assert "has the ids" in error.what
    assert "take tokenizer.model out of the folder" in error.fix


def test_tiktoken_beside_tokenizer_json_is_not_compared(tmp_path: Path) -> None:
    folder = write(tmp_path, byte_level(add_prefix_space=False))
    (folder / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    assert Tokenizer.from_folder(folder).encode("a", first=True)
