import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from graft.errors import Interrupted, ModelError
from graft.model.weights import Survey, digest, survey, weight_files
from graft.signals import StopSignals


@pytest.fixture
def sharded(llama_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "sharded"
    LlamaForCausalLM.from_pretrained(llama_folder).save_pretrained(folder, max_shard_size="20KB")
    return folder


def test_one_file_or_many_hold_the_same(llama_folder: Path, sharded: Path) -> None:
    assert [file.name for file in weight_files(llama_folder)] == ["model.safetensors"]
    assert len(weight_files(sharded)) > 2
    assert survey(weight_files(sharded)) == survey(weight_files(llama_folder))


def test_survey_counts_parameters_and_says_how_most_are_stored(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"norm": torch.ones(3), "weight": torch.ones(4, 5, dtype=torch.bfloat16)}, file)
    assert survey([file]) == Survey(23, torch.bfloat16)


def test_digest_is_of_every_byte(folder: Path, llama_folder: Path) -> None:
    before = digest(weight_files(folder))
    assert before == digest(weight_files(llama_folder))
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert digest(weight_files(folder)) != before


def refusal(folder: Path) -> ModelError:
    with pytest.raises(ModelError) as error:
        survey(weight_files(folder))
    assert str(folder) in error.value.what
    return error.value


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.999])
def test_refuses_a_file_that_is_cut_off(folder: Path, keep: float) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    error = refusal(folder)
    assert "model.safetensors" in error.what
    assert "cut off or broken" in error.what
    assert error.fix == "fetch the file again"


def test_refuses_an_index_that_names_a_missing_file(sharded: Path) -> None:
    gone = weight_files(sharded)[1]
    gone.unlink()
    error = refusal(sharded)
    assert gone.name in error.what
    assert "fetch the missing files" in error.fix


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}'])
def test_refuses_a_broken_index(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    assert "fetch the file again" in refusal(tmp_path).fix


def test_refuses_a_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "training_args.bin").write_bytes(b"")
    error = refusal(folder)
    assert "neither model.safetensors nor model.safetensors.index.json" in error.what
    assert "fetch the model's safetensors" in error.fix


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt"])
def test_refuses_pickles_and_says_how_to_convert_them(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"")
    error = refusal(folder)
    assert name in error.what
    assert "save_pretrained(NEW_FOLDER)" in error.fix


def test_refuses_quantised_weights(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(4, 4, dtype=torch.int8)}, tmp_path / "model.safetensors")
    error = refusal(tmp_path)
    assert "I8" in error.what
    assert "unquantised" in error.fix


def test_a_model_without_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "a.safetensors"}}))
    save_file({}, tmp_path / "a.safetensors")
    assert "stores its weights as nothing" in refusal(tmp_path).what


def test_a_signal_does_not_wait_until_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    os.mkfifo(file)

    def write() -> None:
        with file.open("wb", buffering=0) as reader:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(4096):
                reader.write(bytes(1 << 16))

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write)
        with pytest.raises(Interrupted), StopSignals():
            digest([file])
        assert isinstance(written.exception(), BrokenPipeError), "it was read to the end"
