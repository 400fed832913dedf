"""Check that two models are checkpoints of one architecture and size."""

from __future__ import annotations

from transformers import PreTrainedModel

from makebreak.errors import InvalidInput
from makebreak.models.language import LanguageModel
from makebreak.models.weights import n_embeddings


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


def crop_vocabulary(base: LanguageModel, tuned: LanguageModel) -> int:
    """Gives two models the embeddings of their common tokens, if fine-tuning added tokens.

    Args:
        base: The model before fine-tuning; its embeddings may be cut.
        tuned: The model after it; its embeddings may be cut.

    Returns:
        The number of embeddings of one model that the other has not; 0 where nothing was cut.

    Raises:
        InvalidInput: If a token of both has another id in one than in the other.
    """
    n_rows = [n_embeddings(lm.model) for lm in (base, tuned)]
    if n_rows[0] == n_rows[1]:
        return 0
    ids, ids_of_tuned = base.tokenizer.get_vocab(), tuned.tokenizer.get_vocab()
    for token, i in ids.items():
        if ids_of_tuned.get(token, i) != i:
            raise InvalidInput(
                f"{base.name} and {tuned.name} have {n_rows[0]} and {n_rows[1]} embeddings, and token "
                f"{token[:40]!r} is number {i} in one and {ids_of_tuned[token]} in the other: expected a "
                "vocabulary to which tokens were added"
            )
    for lm in (base, tuned):
        if n_embeddings(lm.model) > min(n_rows):
            lm.model.resize_token_embeddings(min(n_rows))
    return abs(n_rows[0] - n_rows[1])
