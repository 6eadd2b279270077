"""Regrouping, splitting into groups, concatenation and scaling."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.algebra.geometries import convs, random_input

from repfold.algebra import Axis, Inexact, concatenate, identity, regroup, scale, split_groups


@settings(max_examples=60)
@given(convs(axis=st.just(Axis(2, low=1, high=1))), st.data())
def test_regroup_keeps_the_map_and_split_groups_inverts_it(conv, data):
    groups = conv.geometry.groups
    fewer = data.draw(st.sampled_from([g for g in range(1, groups + 1) if groups % g == 0]))
    x = random_input(conv.geometry)
    x = x if conv.geometry.axes else x.reshape(2, -1)
    merged = regroup(conv, fewer)
    assert merged.geometry.groups == fewer
    torch.testing.assert_close(merged(x), conv(x), rtol=1e-12, atol=1e-12)
    split = split_groups(regroup(conv, 1))
    assert split.geometry.groups >= groups or 1 in (conv.geometry.in_channels, conv.geometry.out_channels)
    torch.testing.assert_close(split(x), conv(x), rtol=1e-12, atol=1e-12)


def test_more_groups_than_there_are_is_refused():
    conv = identity(4, 1)
    with pytest.raises(Inexact, match="groups cannot be written"):
        regroup(dataclasses.replace(regroup(conv, 1)), 2)


@settings(max_examples=60)
@given(st.data())
def test_concatenation(data):
    first = data.draw(convs(axis=st.just(Axis(3, 2, 1, 1))))
    n, inputs = len(first.geometry.axes), first.geometry.in_channels
    second = data.draw(convs(dimensions=n, in_channels=inputs, axis=st.just(Axis(1, 2, 0, 0))))
    x = random_input(first.geometry)
    x = x if n else x.reshape(2, -1)
    expected = torch.cat([first(x), second(x)], dim=1)
    torch.testing.assert_close(concatenate([first, second])(x), expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=30)
@given(convs(dimensions=2, axis=st.just(Axis(2))))
def test_scale(conv):
    factor = torch.arange(1.0, conv.geometry.out_channels + 1, dtype=torch.float64)
    x = random_input(conv.geometry)
    torch.testing.assert_close(scale(factor, conv)(x), factor.reshape(-1, 1, 1) * conv(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(scale(-0.5, conv)(x), -0.5 * conv(x), rtol=1e-12, atol=1e-12)
