"""The study on a pretrained language model: whether what predicts fragility in `mini` carries over."""
