# SPDX-License-Identifier: GPL-2.0-only
"""What each rule rests on: a place that promises it, or the code alone."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from pytest_iommufd.kernel.resolver import resolve
from pytest_iommufd.rules.catalogue import Catalogue, shipped
from pytest_iommufd.rules.model import DOCUMENTS, TREE

CATALOGUES = list(shipped())
RULES = [(catalogue, rule) for catalogue in CATALOGUES for rule in catalogue.rules.values()]
README = (Path(__file__).parents[2] / "README.md").read_text()
# Words of sentences that are no English of the field, or leave out who does what.
WORST = re.compile(r"\b(told|tells|lacks|although|there is none|refused)\b|^(So|Nor|Neither)\b")


def test_each_rule_is_promised_or_mere_behaviour() -> None:
    assert [rule.slug for _, rule in RULES if bool(rule.promise) == bool(rule.behaviour)] == []


def test_what_promises_a_rule_can_be_opened() -> None:
    tree = resolve("7.3").tree
    assert tree
    texts = {
        name: (tree / link.removeprefix(TREE)).read_text()
        for name, link in DOCUMENTS.items()
        if link.startswith(TREE)
    }
    nowhere = []
    for catalogue, rule in RULES:
        for promise in rule.promise:
            name, _, place = promise.partition(":")
            if not catalogue.link(promise) or place not in texts.get(name, place):
                nowhere.append((rule.slug, promise))
    assert nowhere == []


def test_the_counts_are_in_the_readme() -> None:
    counts = Counter(bool(rule.promise) for _, rule in RULES)
    text = " ".join(README.split())
    assert f"{counts[True]} rules are promised to users" in text
    assert f"{counts[False]} are mere behaviour" in text


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda catalogue: catalogue.path.parent.name)
def test_sentences_are_of_a_specification(catalogue: Catalogue) -> None:
    assert [rule.says for rule in catalogue.rules.values() if WORST.search(rule.says)] == []
