import pytest
import torch

from graft.errors import ConfigError
from graft.forest import forest_hidden_states, plant
from graft.training import compile_norms
from tests.families import build, samples


@pytest.mark.slow  # compiling takes half a minute
@pytest.mark.parametrize("family", ["llama-gqa", "gemma2", "qwen3"])
def test_compiled_norms_answer_as_before_whatever_the_length(family: str) -> None:
    model = build(family)
    forests = [plant(samples(count, seed=count)) for count in (3, 9, 20)]
    expected = [forest_hidden_states(model, forest) for forest in forests]
    compile_norms(model)
    for forest, hidden in zip(forests, expected, strict=True):
        # norms compute in float32
        torch.testing.assert_close(forest_hidden_states(model, forest), hidden, rtol=1e-5, atol=1e-5)


def test_without_a_compiler_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", (None, "/nonexistent/g++"))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    torch.compiler.reset()
    with pytest.raises(ConfigError, match=r"train\.compile: .*No working C\+\+ compiler"):
        compile_norms(build("llama-gqa"))
