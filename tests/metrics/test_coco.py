"""COCO's AP against an evaluator written slowly from the definition, and the reference where it is installed."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import seeds
from tinyseg import rle
from tinyseg.metrics import coco_ap, coco_table

SIZE = (40, 50)


def scene(seed, images=3, categories=2):
    """A truth with crowds, tiny and large objects, and detections that are near, far, doubled or of another class."""
    rng = np.random.default_rng(seed)
    truth = {"images": [{"id": 7 * i + 3, "height": SIZE[0], "width": SIZE[1]} for i in range(images)][::-1]}
    truth |= {"categories": [{"id": 5 * k + 1, "name": str(k)} for k in range(categories)], "annotations": []}
    results = []

    def thing(x, y, w, h):
        mask = np.zeros(SIZE, np.uint8)
        mask[int(max(y, 0)) : int(max(y + h, 1)), int(max(x, 0)) : int(max(x + w, 1))] = 1
        mask[:: rng.integers(2, 9)] = 0
        return {"bbox": [float(v) for v in (x, y, w, h)],
                "segmentation": {"size": list(SIZE), "counts": rle.to_text(rle.encode(mask))}}, mask  # fmt: skip

    for image in truth["images"]:
        for _ in range(rng.integers(0, 5)):
            x, y, w, h = rng.integers(0, 30, 4) + [0, 0, 4, 4]
            entry, mask = thing(x, y, w, h)
            category = int(rng.choice([c["id"] for c in truth["categories"]]))
            scale = rng.choice([1, 50])  # so that all three ranges of areas occur
            truth["annotations"].append(entry | {
                "id": len(truth["annotations"]) + 1, "image_id": image["id"], "category_id": category,
                "iscrowd": int(rng.random() < 0.2), "area": float(mask.sum() * scale)})  # fmt: skip
            for _ in range(rng.integers(0, 4)):
                dx, dy, dw, dh = rng.integers(-4, 5, 4)
                found, _ = thing(x + dx, y + dy, max(w + dw, 1), max(h + dh, 1))
                if rng.random() < 0.2:
                    category = int(rng.choice([c["id"] for c in truth["categories"]]))
                results.append(found | {"image_id": image["id"], "category_id": category,
                                        "score": rng.integers(1, 9) / 8})  # fmt: skip
    return truth, results


def pixels(entry):
    return rle.decode(rle.from_text(entry["segmentation"]["counts"]), SIZE).astype(bool)


def overlap(d, t, iou_type):
    if iou_type == "segm":
        a, b = pixels(d), pixels(t)
        inter, own, other = (a & b).sum(), a.sum(), b.sum()
    else:
        (x, y, w, h), (u, v, s, r) = d["bbox"], t["bbox"]
        inter = max(0, min(x + w, u + s) - max(x, u)) * max(0, min(y + h, v + r) - max(y, v))
        own, other = w * h, s * r
    union = own if t["iscrowd"] else own + other - inter
    return inter / union if union else 0.0


def slow_ap(truth, results, iou_type, threshold, least=0.0, largest=1e10, most=100):
    """(mean AP, mean AR) over categories at one IoU threshold."""
    precisions, recalls = [], []
    for category in truth["categories"]:
        scored, objects = [], 0
        for image in sorted(truth["images"], key=lambda i: i["id"]):
            here = (image["id"], category["id"])
            own = [t for t in truth["annotations"] if (t["image_id"], t["category_id"]) == here]
            dets = [d for d in results if (d["image_id"], d["category_id"]) == here]
            dets = sorted(dets, key=lambda d: -d["score"])[:most]
            ignored = [bool(t["iscrowd"]) or not least <= t["area"] <= largest for t in own]
            objects += ignored.count(False)
            taken = set()
            for d in dets:
                best = None
                for group in (False, True):  # objects that count first
                    fits = [(overlap(d, t, iou_type), i) for i, t in enumerate(own) if ignored[i] == group
                            and (i not in taken or t["iscrowd"])]  # fmt: skip
                    fits = [f for f in fits if f[0] >= min(threshold, 1 - 1e-10)]
                    if fits:
                        best = max(fits)[1]  # of equal ones the last, as in the reference
                        break
                if best is None:
                    area = pixels(d).sum() if iou_type == "segm" else d["bbox"][2] * d["bbox"][3]
                    if least <= area <= largest:
                        scored.append((d["score"], 0))
                    continue
                taken.add(best)
                if not ignored[best]:
                    scored.append((d["score"], 1))
        if not objects:
            continue
        scored = sorted(scored, key=lambda s: -s[0])
        right = [r for _, r in scored]
        curve = [(sum(right[: k + 1]) / objects, sum(right[: k + 1]) / (k + 1)) for k in range(len(right))]
        precisions.append(np.mean([max([p for r, p in curve if r >= level], default=0)
                                   for level in np.linspace(0, 1, 101)]))  # fmt: skip
        recalls.append(sum(right) / objects)
    return (np.mean(precisions), np.mean(recalls)) if precisions else (np.nan, np.nan)


@settings(max_examples=8)
@given(seeds, st.sampled_from(["segm", "bbox"]))
def test_against_the_definition(seed, iou_type):
    truth, results = scene(seed)
    found = coco_ap(truth, results, iou_type)
    for name, threshold in (("AP50", 0.5), ("AP75", 0.75)):
        np.testing.assert_allclose(found[name], slow_ap(truth, results, iou_type, threshold)[0], atol=1e-9)
    thresholds = np.linspace(0.5, 0.95, 10)
    for suffix, least, largest in (("s", 0, 32**2), ("m", 32**2, 96**2)):
        slow = [slow_ap(truth, results, iou_type, t, least, largest) for t in thresholds]
        np.testing.assert_allclose([found[f"AP{suffix}"], found[f"AR{suffix}"]], np.mean(slow, axis=0), atol=1e-9)
    ar1 = np.mean([slow_ap(truth, results, iou_type, t, most=1)[1] for t in thresholds])
    np.testing.assert_allclose(found["AR1"], ar1, atol=1e-9)


@given(seeds, st.sampled_from(["segm", "bbox"]))
def test_equal_to_the_reference_evaluator(seed, iou_type):
    coco, evaluator = (pytest.importorskip(f"pycocotools.{n}") for n in ("coco", "cocoeval"))
    truth, results = scene(seed, images=5, categories=3)
    if not results or not truth["annotations"]:
        return
    drop = "bbox" if iou_type == "segm" else "segmentation"  # or it would take the areas of the boxes
    with contextlib.redirect_stdout(io.StringIO()):
        reference = coco.COCO()
        reference.dataset = {**truth, "annotations": [dict(a) for a in truth["annotations"]]}
        reference.createIndex()
        theirs = reference.loadRes([{k: v for k, v in r.items() if k != drop} for r in results])
        judge = evaluator.COCOeval(reference, theirs, iou_type)
        judge.evaluate(), judge.accumulate(), judge.summarize()
    ours = np.array(list(coco_ap(truth, results, iou_type).values()))
    np.testing.assert_allclose(np.where(np.isnan(ours), -1, ours), judge.stats, atol=1e-12)


def test_perfect_and_empty():
    truth, _ = scene(3, images=6)
    truth["annotations"] = [a | {"iscrowd": 0} for a in truth["annotations"]]
    perfect = [a | {"score": 1.0} for a in truth["annotations"]]
    for iou_type in ("segm", "bbox"):
        assert coco_ap(truth, perfect, iou_type)["AP"] > 1 - 1e-9
        assert coco_ap(truth, [], iou_type)["AP"] == 0
    assert all(row["AP"] > 1 - 1e-9 for row in coco_table(truth, perfect).values())
    assert np.isnan(coco_ap({"images": truth["images"], "annotations": []}, [])["AP"])


def test_every_form_of_a_mask_is_the_same(tmp_path):
    import json

    mask = np.zeros(SIZE, np.uint8)
    mask[5:15, 10:30] = 1
    image = {"id": 1, "height": SIZE[0], "width": SIZE[1]}
    counts = rle.encode(mask)
    forms = [mask, {"size": SIZE, "counts": counts.tolist()}, {"size": SIZE, "counts": rle.to_text(counts)},
             {"size": SIZE, "counts": rle.to_text(counts).encode()}, [[10, 5, 30, 5, 30, 15, 10, 15]]]  # fmt: skip
    for form in forms:
        truth = {"images": [image], "annotations": [{"image_id": 1, "category_id": 1, "segmentation": forms[0]}]}
        assert coco_ap(truth, [{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": form}])["AP"] > 1 - 1e-9
    truth["annotations"][0]["segmentation"] = forms[4]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    detections = [{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": forms[2]}]
    assert coco_ap(tmp_path / "truth.json", detections)["AP"] > 1 - 1e-9
    alone = [truth["annotations"][0] | {"segmentation": forms[1]}]
    assert coco_ap(alone, detections)["AP"] > 1 - 1e-9


def test_errors(tmp_path):
    truth, results = scene(1)
    good = next(r for r in results)
    for arguments, message in [
        ((truth, results, "mask"), "iou_type is 'mask'"),
        ((truth, [good | {"image_id": 99}]), "detection 0 is of image 99"),
        ((truth, [good | {"score": np.nan}]), "score nan"),
        ((truth, [{k: v for k, v in good.items() if k != "score"}]), "detection 0 has no 'score'"),
        ((truth, [good | {"bbox": [0, 0, -1, 2]}], "bbox"), "expected x y width height"),
        ((truth, [good | {"segmentation": np.zeros((3, 3))}]), r"a mask of \(3, 3\)"),
        ((truth, [good | {"segmentation": {"size": SIZE, "counts": [1]}}]), "cover 1 pixels"),
        (({"images": []}, []), "no annotations"),
        ((tmp_path / "none.json", []), "cannot be read"),
        (([{"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 1, 0, 1, 1]]}], []), "unknown size"),
    ]:
        with pytest.raises(ValueError, match=message):
            coco_ap(*arguments)
