import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.models.mask_rcnn.sampling import BETWEEN, NEGATIVE, balanced, match

from ...ops.test_boxes import boxes_of, iou
from ...strategies import seeds


def match_oracle(boxes, truth, high, low, best_of_each):
    table = np.array([[iou(a, b) for b in truth] for a in boxes]).reshape(len(boxes), len(truth))
    result = []
    for row in table:
        best = int(row.argmax())
        result.append(best if row[best] >= high else NEGATIVE if row[best] < low else BETWEEN)
    for j in range(len(truth)) if best_of_each else ():
        top = table[:, j].max(initial=0)
        for i in range(len(boxes)):
            if top > 0 and table[i, j] >= top - 1e-7:
                result[i] = int(table[i].argmax())  # it stays with what it overlaps most
    return result


@given(st.integers(0, 25), st.integers(1, 5), st.booleans(), seeds)
def test_match(device, count, objects, best_of_each, seed):
    boxes, truth = boxes_of(seed, count), boxes_of(seed + 1, objects)
    truth[:, 2:] += 0.5  # none is empty
    # thresholds between the values that boxes of half pixels can have
    found = match(boxes, truth, 0.7001, 0.3001, best_of_each, device)
    assert found.tolist() == match_oracle(boxes, truth, 0.7001, 0.3001, best_of_each)


def test_no_objects(device):
    assert match(boxes_of(0, 4), np.zeros((0, 4), np.float32), 0.7, 0.3, True, device).tolist() == [NEGATIVE] * 4


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 20), seeds)
def test_balanced(positives, negatives, between, seed):
    matched = np.array([3] * positives + [NEGATIVE] * negatives + [BETWEEN] * between)
    rng = np.random.default_rng(seed)
    rng.shuffle(matched)
    chosen = balanced(matched, 16, 0.25, np.random.default_rng(seed))
    kinds = matched[chosen]
    assert (kinds >= 0).sum() == min(4, positives) and not (kinds == BETWEEN).any()
    assert (kinds == NEGATIVE).sum() == min(16 - min(4, positives), negatives)
    assert len(np.unique(chosen)) == len(chosen)
    assert chosen.tolist() == balanced(matched, 16, 0.25, np.random.default_rng(seed)).tolist()
