"""Check that two models are checkpoints of one architecture and size."""

from __future__ import annotations

from transformers import PreTrainedModel


def check_same_shapes(*, base: PreTrainedModel, tuned: PreTrainedModel) -> None:
    """Checks that one model can have been fine-tuned from the other, before their weights are compared.

    Args:
        base: The model before fine-tuning.
        tuned: The model after it.

    Raises:
        ValueError: If the models differ in architecture, in the number of heads, or in the name or the shape
            of a weight.
    """
    differences = [
        (type(base).__name__, type(tuned).__name__, "classes"),
        (base.config.num_attention_heads, tuned.config.num_attention_heads, "numbers of heads"),
    ]
    of_base, of_tuned = (
        {name: tuple(weight.shape) for name, weight in model.state_dict().items()} for model in (base, tuned)
    )
    differences += [
        (of_base.get(name, "absent"), of_tuned.get(name, "absent"), name)
        for name in sorted(of_base.keys() | of_tuned.keys())
    ]
    for one, other, what in differences:
        if one != other:
            raise ValueError(
                f"base and tuned are not checkpoints of one model: {what} {one} and {other}; expected a "
                "model and one that was fine-tuned from it"
            )
