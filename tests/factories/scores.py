"""Scores drawn from a seed, with ties."""

import numpy as np


def tied_scores(seed, n=60):
    """Labels of both classes and scores with many ties."""
    random = np.random.default_rng(seed)
    y = random.permutation(np.arange(n) % 3 == 0)
    return y, np.round(random.normal(size=n) + y, 1)


def patches(seed, patients=24, most=30, spread=1.0):
    """Patches of patients of either class: patient number, label, score; alike within a patient."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), random.integers(1, most, patients))
    level = random.normal(0, spread, patients)[patient]
    y = patient % 2 == 0
    return patient, y, np.round(level + 0.8 * y + random.normal(size=len(patient)), 2)


def class_probabilities(labels, n=60, patients=20, seed=1):
    """Make classes, probabilities that know something of them, and patients."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 3, n)
    p = np.exp(random.normal(0, 1, (n, 3)) + 1.5 * np.eye(3)[y])
    p /= p.sum(1, keepdims=True)
    return np.array(labels)[y], p, random.integers(0, patients, n)
