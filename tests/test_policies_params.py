"""ParamLayout: flat vector <-> named views."""

import pytest
import torch

from metarl.policies import ParamLayout

LAYOUT = ParamLayout((("weight", (2, 3)), ("bias", (3,)), ("scale", ())))


def test_layout_has_the_sizes_of_its_entries():
    assert LAYOUT.size == 10
    assert LAYOUT.slices == {"weight": slice(0, 6), "bias": slice(6, 9), "scale": slice(9, 10)}


def test_unflatten_is_row_major_in_the_order_of_the_entries():
    named = LAYOUT.unflatten(torch.arange(10.0))
    torch.testing.assert_close(named["weight"], torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]), rtol=0, atol=0)
    torch.testing.assert_close(named["bias"], torch.tensor([6.0, 7.0, 8.0]), rtol=0, atol=0)
    assert named["scale"].shape == ()
    assert named["scale"] == 9.0


def test_flatten_inverts_unflatten():
    flat = torch.randn(10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(LAYOUT.flatten(LAYOUT.unflatten(flat)), flat)


def test_flatten_ignores_the_order_of_the_mapping_and_other_names():
    flat = torch.arange(10.0)
    named = LAYOUT.unflatten(flat)
    reordered = {"other": torch.zeros(4), **{name: named[name] for name in ("scale", "weight", "bias")}}
    assert torch.equal(LAYOUT.flatten(reordered), flat)


def test_a_task_axis_stays_in_front():
    flat = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    batched = LAYOUT.unflatten(flat)
    for i in range(4):
        for name, value in LAYOUT.unflatten(flat[i]).items():
            assert torch.equal(batched[name][i], value)


def test_views_share_memory_with_the_flat_vector():
    flat = torch.zeros(10)
    LAYOUT.unflatten(flat)["bias"].fill_(5.0)
    assert torch.equal(flat[6:9], torch.full((3,), 5.0))
    assert flat.sum() == 15.0


def test_views_carry_gradients():
    flat = torch.arange(10.0, requires_grad=True)
    (LAYOUT.unflatten(flat)["weight"] ** 2).sum().backward()
    assert flat.grad is not None
    assert torch.equal(flat.grad, torch.cat([2 * torch.arange(6.0), torch.zeros(4)]))


def test_a_vector_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="has 9 entries, this policy has 10"):
        LAYOUT.unflatten(torch.zeros(9))


def test_a_missing_parameter_is_named():
    with pytest.raises(ValueError, match=r"'bias' is missing; there are \['scale', 'weight'\]"):
        LAYOUT.flatten({"weight": torch.zeros(2, 3), "scale": torch.zeros(())})


def test_a_misshapen_parameter_is_named():
    with pytest.raises(ValueError, match=r"'weight' has shape \(3, 2\), expected \(2, 3\)"):
        LAYOUT.flatten({"weight": torch.zeros(3, 2), "bias": torch.zeros(3), "scale": torch.zeros(())})
