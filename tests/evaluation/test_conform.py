"""The proof holds where two models are one, and fails where they are not."""

import pytest
import torch

from graft.adapters import METHODS, Bank
from graft.config import LoraConfig
from graft.errors import ProofError
from graft.evaluation import Statement, compare, interrogate
from graft.evaluation.conform import TOLERANCES
from tests.families import build

PROBES = [[1, 2, 3, 4], [1, 2, 9], [7] * 12]


def grafted(std: float) -> tuple[Bank, int]:
    bank = Bank(build("llama-gqa", dtype=torch.float32))
    adapter = METHODS["lora"].create(bank.model, LoraConfig(r=4), seed=1)
    for number, (_, parameter) in enumerate(adapter.named_parameters()):
        torch.nn.init.normal_(parameter, std=std, generator=torch.Generator().manual_seed(number))
    return bank, bank.add(adapter)


def test_a_merged_model_conforms() -> None:
    bank, slot = grafted(0.2)
    expected = interrogate(bank, slot, PROBES, [0])
    base = interrogate(bank, None, PROBES, [0], led_along=expected.answers)
    bank.merge(slot)
    proof = compare(expected, interrogate(bank, None, PROBES, [0], led_along=expected.answers), base, torch.float32)
    assert proof.holds
    assert proof.answers == 3
    assert proof.positions == sum(len(answer) + 1 for answer in expected.answers)
    assert proof.difference > 0, "it was another model that was asked"


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("std", [0.2, 0.02])
def test_the_base_does_not_conform(std: float, dtype: torch.dtype) -> None:
    """A merge that did nothing never passes, however coarse the type."""
    bank, slot = grafted(std)
    expected = interrogate(bank, slot, PROBES, [0])
    base = interrogate(bank, None, PROBES, [0], led_along=expected.answers)
    assert not compare(expected, base, base, dtype).holds


@pytest.mark.parametrize("whose", range(3))
def test_logits_that_are_no_numbers_prove_nothing(whose: int) -> None:
    good = [torch.tensor([[0.0, 5.0], [1.0, 0.0]])] * 2
    bad = [good[0], torch.full((2, 2), float("nan"))]
    said = [Statement([[1], [1]], bad if i == whose else good, [0]) for i in range(3)]
    with pytest.raises(ProofError, match="finite"):
        compare(*said, torch.float16)


def far(logits: torch.Tensor) -> Statement:
    """A base that says something else."""
    return Statement([[]], [logits + 1.0], [0])


def test_answers_that_part_at_a_tie_are_no_fault_and_are_said() -> None:
    logits = torch.tensor([[0.0, 5.0, 4.9999], [1.0, 0.0, 0.0]])
    expected = Statement([[1]], [logits], [0])
    proof = compare(expected, Statement([[2]], [logits.clone()], [0]), far(logits), torch.float32)
    assert (proof.tied, proof.parted) == (1, 0)
    assert proof.holds
    assert "1 part at a tie" in str(proof)


def test_ending_is_an_answer_too() -> None:
    """Token 0 ends the answer and is as likely as token 1; then one goes on where the other ends."""
    logits = torch.tensor([[5.0, 5.0, 0.0], [5.0, 5.0, 0.0]])
    went_on, ended = Statement([[1]], [logits], [0]), Statement([[]], [logits[:1]], [0])
    for expected, answers in ((went_on, [[]]), (ended, [[1]])):
        found = Statement(answers, [expected.logits[0].clone()], [0])
        proof = compare(expected, found, far(expected.logits[0]), torch.float32)
        assert (proof.tied, proof.parted) == (1, 0)


@pytest.mark.parametrize("found", [[0], []])
def test_answers_that_part_elsewhere_fail_the_proof(found: list[int]) -> None:
    logits = torch.tensor([[0.0, 5.0, 4.9999], [1.0, 0.0, 0.0]])
    expected, other = Statement([[1]], [logits], [0]), Statement([found], [logits.clone()], [0])
    proof = compare(expected, other, far(logits), torch.float32)
    assert proof.parted == 1
    assert not proof.holds


def test_logits_beyond_the_tolerance_fail_the_proof_though_the_answers_agree() -> None:
    logits = torch.tensor([[0.0, 5.0], [1.0, 0.0]])
    expected, found = Statement([[1]], [logits], [0]), Statement([[1]], [logits + 0.001], [0])
    proof = compare(expected, found, far(logits), torch.float32)
    assert not proof.parted
    assert not proof.holds
