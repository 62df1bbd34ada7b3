"""The head of each family is its own."""

import pytest
import torch

from graft.forest import head_of
from tests.families import FAMILIES, VOCABULARY, build


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_model_itself(family: str) -> None:
    model = build(family, attached=False)
    ids = torch.arange(VOCABULARY)[None]
    with torch.no_grad():
        hidden = model.base_model(ids).last_hidden_state
        torch.testing.assert_close(head_of(model)(hidden), model(ids).logits, rtol=1e-12, atol=1e-12)
