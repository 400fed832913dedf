"""Statistics of weight updates on planted shares, sines, angles and read gains, and on random updates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from makebreak.geometry import (
    Subspace,
    column_space,
    energy_at_base_share,
    energy_curve,
    energy_share,
    left_null_space,
    principal_angles,
    random_subspace,
    read_gain,
    row_sines,
    sines,
    spectrum,
)

D_OUT, D_IN = 40, 12


def matrix(seed: int, *shape: int) -> Tensor:
    return torch.randn(
        *(shape or (D_OUT, D_IN)), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def test_energy_share_of_a_planted_update() -> None:
    """An update mixed from the column space and the left null space has the planted shares; chance else."""
    base, random = matrix(0), matrix(1)
    column, null = column_space(base), left_null_space(base)
    inside, outside = (s.basis @ (s.basis.T @ random) for s in (column, null))
    for share in (0.0, 0.25, 1.0):
        update = math.sqrt(share) * outside / outside.norm() + math.sqrt(1 - share) * inside / inside.norm()
        assert energy_share(update, null) == pytest.approx(share, abs=1e-9)
        assert energy_share(update, column) == pytest.approx(1 - share, abs=1e-9)
    shares = [energy_share(matrix(seed), null) for seed in range(20, 60)]
    assert np.mean([share for share in shares if share is not None]) == pytest.approx(null.chance, abs=0.02)
    assert energy_share(torch.zeros(D_OUT, D_IN), null) is None
    assert energy_share(random, Subspace(torch.zeros(D_OUT, 0))) is None


def test_sines_of_a_planted_angle() -> None:
    """An update of one direction at a planted angle to the base's column space has the sine of that angle."""
    u = torch.linalg.qr(matrix(2, D_OUT, D_OUT)).Q
    base = u[:, :3] @ matrix(3, 3, 3) @ matrix(4, 3, D_IN)
    for angle in (0.0, 0.3, math.pi / 2):
        direction = math.cos(angle) * u[:, 0] + math.sin(angle) * u[:, 7]
        # all three directions of the base count, so the angle to its space is the planted one
        full = column_space(base, "energy90")
        expected = math.sqrt(1 - float((full.basis.T @ direction).square().sum()))
        sine = sines(torch.outer(direction, matrix(5, D_IN)), base)
        assert sine is not None
        assert sine.tolist() == pytest.approx([expected], abs=1e-6)
    assert sines(torch.zeros(D_OUT, D_IN), base) is None


def test_squared_sine_is_the_energy_outside() -> None:
    """For one direction sin² = 1 - energy share in the column space, and the sine itself is larger."""
    base = matrix(6)
    column = column_space(base, "energy90")
    left, right = matrix(7, D_OUT), matrix(8, D_IN)
    update = torch.outer(left, right)
    sine, energy = sines(update, base), energy_share(update, column)
    assert sine is not None
    assert energy is not None
    assert float(sine[0] ** 2) == pytest.approx(1 - energy, abs=1e-9)
    assert float(sine[0]) > 1 - energy + 0.01


def test_random_updates_have_sines_near_one() -> None:
    """The mean sine of random updates is √(1 - chance), above .85 here: such a value is no evidence."""
    base = matrix(9, 256, 64)
    column = column_space(base, "energy90")
    means = [
        float(s.mean()) for seed in range(5) if (s := sines(matrix(30 + seed, 256, 64), base)) is not None
    ]
    assert np.mean(means) == pytest.approx(math.sqrt(1 - column.chance), abs=0.01)
    assert np.mean(means) > 0.85


def decaying_matrix(*, flat: bool = False) -> Tensor:
    """The matrix that the released script was run on once, and its random change is the generator of 100."""
    values = np.random.default_rng(0).standard_normal((256, 64))
    return torch.from_numpy(values if flat else values * 0.93 ** np.arange(64))


@pytest.mark.parametrize(
    ("size", "decaying", "flat"),
    [(0.0, 0.0, 0.0), (1e-3, 0.095187, 0.005012), (0.1, 0.721793, 0.705474), (1.0, 0.940754, 0.807823)],
)
def test_row_sines_are_those_of_the_released_script(size: float, decaying: float, flat: float) -> None:
    """Golden values: the lines of the released file of Jain et al. 2024, run on these matrices elsewhere."""
    change = torch.from_numpy(np.random.default_rng(100).standard_normal((256, 64)))
    for is_flat, expected in ((False, decaying), (True, flat)):
        base = decaying_matrix(flat=is_flat)
        tuned = base + size * base.norm() * change / change.norm()
        assert float(row_sines(tuned, base).mean()) == pytest.approx(expected, abs=2e-3)


def test_row_sines_do_not_tell_where_the_update_writes() -> None:
    """Updates of one size in the column space and in the left null space have like values, not so `sines`."""
    base, change = decaying_matrix(), torch.from_numpy(np.random.default_rng(100).standard_normal((256, 64)))
    values = []
    for space in (column_space(base, "energy90"), left_null_space(base)):
        part = space.basis @ (space.basis.T @ change)
        update = 0.1 * base.norm() * part / part.norm()
        sine = sines(update, base)
        assert sine is not None
        values.append((float(row_sines(base + update, base).mean()), float(sine.mean())))
    (row_inside, inside), (row_outside, beyond) = values
    assert (inside, beyond) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))
    assert abs(row_outside - row_inside) < 0.3


@pytest.mark.parametrize("angles", [[0.0, 1e-5, 0.3, 1.2], [math.pi / 2, 0.7, 1.5707, 2e-4], [0.5] * 4])
def test_principal_angles_of_a_known_rotation(angles: list[float]) -> None:
    q = torch.linalg.qr(matrix(15, 20, 20)).Q
    a = q[:, :4]
    b = (
        a * torch.tensor(angles, dtype=torch.float64).cos()
        + q[:, 4:8] * torch.tensor(angles, dtype=torch.float64).sin()
    )
    mix = torch.linalg.qr(matrix(16, 4, 4)).Q
    equal_dimensions = principal_angles(Subspace(a), Subspace(b @ mix))
    assert equal_dimensions.tolist() == pytest.approx(sorted(angles), abs=1e-6)
    wide = principal_angles(Subspace(torch.cat([a, q[:, 10:13]], dim=1)), Subspace(b @ mix))
    assert wide.tolist() == pytest.approx(sorted(angles), abs=1e-6)
    x, y = random_subspace(20, 4, 0), random_subspace(20, 6, 1)
    assert principal_angles(x, y).tolist() == pytest.approx(
        sorted(scipy.linalg.subspace_angles(x.basis.numpy(), y.basis.numpy())), abs=1e-6
    )


def test_read_gain_of_a_planted_direction() -> None:
    """A rank-one update responds to inputs along its direction; a random update has the gain of chance."""
    v = torch.linalg.qr(matrix(17, D_IN, D_IN)).Q
    delta = 3.0 * torch.outer(matrix(18, D_OUT) / matrix(18, D_OUT).norm(), v[:, 0])
    base = matrix(19)
    gains = read_gain(delta, base, torch.stack([5 * v[:, 0], v[:, 1], v[:, 0] + v[:, 1]]))
    assert gains.score.tolist() == pytest.approx([3.0, 0.0, 3 / math.sqrt(2)], abs=1e-9)
    assert gains.gain.tolist() == pytest.approx([3.0, 0.0, 3 / math.sqrt(2)], abs=1e-9)
    assert gains.leading_gain[:, 0].tolist() == pytest.approx([3.0, 0.0, 3 / math.sqrt(2)], abs=1e-9)
    assert gains.chance == pytest.approx(3 / math.sqrt(D_IN))
    assert float(gains.relative[0]) == pytest.approx(3 / float((base @ v[:, 0]).norm()))
    random = read_gain(matrix(40), base, matrix(41, 400, D_IN))
    assert float(random.gain.square().mean().sqrt()) == pytest.approx(random.chance, rel=0.1)
    with pytest.raises(ValueError, match="1 of 2 inputs are zero"):
        read_gain(delta, base, torch.stack([v[:, 0], torch.zeros(D_IN, dtype=torch.float64)]))


def test_spectra_of_rank_one_and_orthogonal_matrices() -> None:
    flat = spectrum(torch.linalg.qr(matrix(20)).Q)
    assert flat is not None
    assert (flat.top_share, flat.stable_rank, flat.rank90) == (
        pytest.approx(1 / D_IN),
        pytest.approx(D_IN),
        11,
    )
    rank_one = spectrum(torch.outer(matrix(21, D_OUT), matrix(22, D_IN)))
    assert rank_one is not None
    assert (rank_one.top_share, rank_one.stable_rank, rank_one.rank90) == (
        pytest.approx(1.0),
        pytest.approx(1.0),
        1,
    )
    assert spectrum(torch.zeros(3, 2)) is None


def test_energy_curve_inside_and_outside_the_base() -> None:
    """It rises early for an update along the base's outputs, late for one in the left null space."""
    inputs = matrix(23, 500, D_IN) * torch.linspace(3, 0.1, D_IN, dtype=torch.float64)
    c = inputs.T @ inputs / len(inputs)
    base = matrix(24)
    null = left_null_space(base).basis
    along = energy_curve(base * 0.1, base, c, c)
    outside = energy_curve(null @ matrix(25, null.shape[1], D_IN), base, c, c)
    assert along is not None
    assert outside is not None
    energies = torch.linalg.eigvalsh(base @ c @ base.T).flip(0)
    assert torch.allclose(along, energies.cumsum(0) / energies.sum(), atol=1e-9)
    assert float(outside[D_IN - 1]) == pytest.approx(0.0, abs=1e-9)
    assert float(outside[-1]) == pytest.approx(1.0, abs=1e-9)
    chance = np.mean([energy_curve(matrix(50 + s), base, c, c)[9].item() for s in range(40)])  # type: ignore[index]
    assert chance == pytest.approx(10 / D_OUT, abs=0.04)
    directions = torch.linalg.qr(matrix(26, D_IN, D_IN)).Q
    update = matrix(27)[:, :1] @ directions[:, :1].T
    orthogonal = torch.outer(directions[:, 1], directions[:, 1])
    assert energy_curve(update, base, c, torch.zeros(D_IN, D_IN, dtype=torch.float64)) is None
    assert energy_curve(update, base, c, orthogonal + 1e-3 * c) is not None


def test_energy_where_the_base_writes_depends_on_the_inputs() -> None:
    """At the rank of W every input covariance gives one energy (errata W7); at 50 and 90 % of the base's own
    output energy an update along what the base writes on the first inputs only has much and little."""
    base, c = matrix(60), torch.eye(D_IN, dtype=torch.float64)
    delta = torch.outer(base[:, 0], matrix(61, D_IN))
    spread = torch.logspace(2, -2, D_IN, dtype=torch.float64)
    moments = [torch.diag(spread), torch.diag(spread.flip(0))]
    curves = [energy_curve(delta, base, moment, c) for moment in moments]
    assert curves[0] is not None
    assert curves[1] is not None
    assert float(curves[0][D_IN - 1]) == pytest.approx(float(curves[1][D_IN - 1]), abs=1e-9)
    for share in (0.5, 0.9):
        results = [energy_at_base_share(delta, base, moment, c, share) for moment in moments]
        assert all(result.k < D_IN for result in results)
        assert results[0].energy is not None
        assert results[1].energy is not None
        assert results[0].energy > 0.9
        assert results[1].energy < 0.4
        k, energy = energy_at_base_share(base, base, moments[0], moments[0], share)
        assert energy is not None
        assert share <= energy
        shorter = energy_curve(base, base, moments[0], moments[0])
        assert shorter is not None
        assert k == 1 or float(shorter[k - 2]) < share
    assert energy_at_base_share(torch.zeros_like(base), base, c, c, 0.5).energy is None
    with pytest.raises(ValueError, match="no output on the reference inputs"):
        energy_at_base_share(delta, torch.zeros_like(base), c, c, 0.5)


def test_leading_gains_add_up_to_the_whole_gain() -> None:
    """The gain of the first k directions grows with k, to the gain of all; the planted first one is σ₁."""
    delta, inputs = matrix(62), matrix(63, 30, D_IN)
    gains = read_gain(delta, matrix(64), inputs)
    assert gains.leading_gain.shape == (30, D_IN)
    assert (gains.leading_gain.diff(dim=1) >= 0).all()
    assert torch.allclose(gains.leading_gain[:, -1], gains.gain)
    first = torch.linalg.svd(delta, full_matrices=False).Vh[:1]
    assert float(read_gain(delta, matrix(64), first).leading_gain[0, 0]) == pytest.approx(
        float(torch.linalg.svdvals(delta)[0])
    )
