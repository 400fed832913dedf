"""Passes through some of the blocks give what the whole pass gives from the same states."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import capture, forward, logits_at_last, run_blocks, states_after
from tests.activations.networks import ARCHITECTURES, network, tokens


def states(model: PreTrainedModel, site: str) -> Tensor:
    everywhere = torch.ones_like(tokens(), dtype=torch.bool)
    [batch] = capture(model, tokens(), [site], everywhere)
    return batch.activations[site].unflatten(0, everywhere.shape)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_resumed_pass_equals_the_whole(architecture: str) -> None:
    model = network(architecture)
    other = tokens().flip(1)  # of these, nothing may count
    with torch.no_grad():
        logits = forward(model, tokens()).logits
        for cut, site in enumerate(
            ("blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre", "blocks.1.hook_resid_post")
        ):
            with run_blocks(model, cut, states=states(model, site)):
                torch.testing.assert_close(forward(model, other).logits, logits)
        first = states_after(model, tokens(), 0, None)
        torch.testing.assert_close(first, states(model, "blocks.1.hook_resid_pre"))
        second = states_after(model, other, 1, first)
        torch.testing.assert_close(second, states(model, "blocks.1.hook_resid_post"))
        torch.testing.assert_close(forward(model, tokens()).logits, logits)  # the model is as it was
        assert (forward(model, other).logits - logits).abs().max() > 0.1


def test_skipped_blocks_change_nothing() -> None:
    model = network("gpt2")
    with torch.no_grad(), run_blocks(model, 0, 0):
        skipped = states(model, "blocks.1.hook_resid_post")
    torch.testing.assert_close(skipped, states(model, "blocks.0.hook_resid_pre"))


def test_blocks_that_do_not_exist() -> None:
    with (
        pytest.raises(ValueError, match="blocks 1 … 3: expected 0 <= start <= stop <= 2"),
        run_blocks(network("gpt2"), 1, 3),
    ):
        pass


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_narrow_logits_equal_those_of_the_whole_pass(architecture: str) -> None:
    model, last = network(architecture), torch.tensor([11, 4, 7, 11, 0])
    embeddings = model.get_input_embeddings()(tokens()).detach()  # type: ignore[misc, operator]
    results = []
    for narrow in (False, True):
        inputs = embeddings.clone().requires_grad_()
        with logits_at_last(model, last, narrow=narrow):
            logits = model(inputs_embeds=inputs, use_cache=False).logits
        results.append((logits, *torch.autograd.grad(logits.log_softmax(-1)[..., 3].sum(), inputs)))
    for wide, narrow_result in zip(*results, strict=True):
        torch.testing.assert_close(narrow_result, wide)
    assert results[0][0].shape == (5, 1, logits.shape[-1])
