"""Every benchmark, from its files on disk to its numbers: a miniature in the real layout is read, evaluated
with the published class names, and counted;
the numbers are computed again here, slowly, from the ground truth.
"""
import tempfile, unittest, warnings
from pathlib import Path

import numpy as np

from mrovseg_nb.benchmarks.benchmarks import benchmark, load_benchmark
from mrovseg_nb.benchmarks.layouts import LAYOUTS
from mrovseg_nb.benchmarks.miniatures import write_miniature
from mrovseg_nb.benchmarks.published_names import benchmark_vocabulary
from mrovseg_nb.evaluation.evaluate import ImageObserver, evaluate
from mrovseg_nb.evaluation.panoptic_quality import segments_from_labels
from mrovseg_nb.clip.interface import OpenVocabularyModel


class Noise(OpenVocabularyModel):
    "Knows the truth, and says something else at a fifth of the pixels"
    def __init__(self, truth, vocabulary):
        super().__init__()
        self.truth, self.rng = iter(truth), np.random.default_rng(0)
        self.said, self.k = [], len(vocabulary)
        answers = np.array(vocabulary.answers or range(self.k))
        # a class that answers to the label
        self.ask_for = np.array([np.flatnonzero(answers == label)[0] for label in range(vocabulary.labels)])
    def label(self, images, vocabulary, sizes, protocol=None):
        out = []
        for size in sizes:
            t = next(self.truth)['labels'].astype(int)
            assert t.shape == size, (t.shape, size)
            right = (self.rng.random(size) < 0.8) & (t < len(self.ask_for))
            out.append(np.where(right, self.ask_for[np.where(right, t, 0)],
                                self.rng.integers(0, self.k, size)))
        self.said += out
        return out
    def panoptic(self, images, vocabulary, things, protocol=None):
        return [as_segments(said, things) for said in self.said[-len(images):]]

def as_segments(labels, things):
    "One segment a class: what is wrong with it is the same for both ways of counting"
    ids, segments = segments_from_labels(labels, (labels < things).astype(int), things, -1)
    return ids, [dict(id=s['id'], label=s['label']) for s in segments]

class Seen(ImageObserver):
    def __init__(self): self.rows = []
    def observe(self, name, image, truth, pred): self.rows.append((name, image, truth, pred))


def slow_numbers(truths, preds, k, ignore):
    "Both mIoUs, fwIoU, mACC, pACC from sets of pixels"
    t, p = (np.concatenate([x.ravel().astype(int) for x in xs]) for xs in (truths, preds))
    t, p = t[t != ignore], p[t != ignore]
    iou, acc, share = {}, {}, {}
    for c in range(k):
        true, pred = t == c, p == c
        if true.any() or pred.any(): iou[c] = (true & pred).sum()/(true | pred).sum()
        if true.any(): acc[c], share[c] = (true & pred).sum()/true.sum(), true.mean()
    return dict(miou_present=np.mean([iou[c] for c in acc]), miou_union=np.mean([*iou.values()]),
                fwiou=sum(iou[c]*share[c] for c in acc),
                macc=np.mean([*acc.values()]), pacc=(t == p).mean())


class Miniatures(unittest.TestCase):
    def check(self, name):
        warnings.simplefilter('ignore', UserWarning)                     # "3 of 5000 pictures"
        b, words = benchmark(name), benchmark_vocabulary(name)
        self.assertEqual(words.labels, b.labels)
        for which in range(len(LAYOUTS[name])):
            with self.subTest(name, which=which), tempfile.TemporaryDirectory() as root:
                truth = sorted(write_miniature(name, root, which), key=lambda t: t['image_id'])
                data = load_benchmark(name, root=Path(root), allow_partial=True)
                ids = [sample['image_id'] for sample in data]
                truth = [{t['image_id']: t for t in truth}[i] for i in ids]
                seen = Seen()
                found = evaluate(Noise(truth, words), data, batch_size=2, also=['panoptic']*bool(b.things),
                                 observers=[seen])
                self.assertEqual((data.vocabulary, data.ignore, data.things, found['expected']),
                                 (words, b.ignore, b.things, b.count('val')))
                self.assertEqual((found['pictures'], found['partial']), (len(truth), True))
                for (got, image, labels, pred), t in zip(seen.rows, truth):
                    self.assertEqual((got, image.shape[:2], image.dtype),
                                     (t['image_id'], labels.shape, np.uint8))
                    np.testing.assert_array_equal(labels, t['labels'])
                expected = slow_numbers([t['labels'] for t in truth], [r[3] for r in seen.rows], b.labels,
                                        b.ignore)
                for key, value in expected.items(): self.assertAlmostEqual(found[key], value, 12, key)
                if b.things: self.panoptic(found['panoptic'], seen, truth, b)

    def panoptic(self, found, seen, truth, b):
        "TP, FP and FN from masks, by the rules in words"
        counts = np.zeros((b.labels, 3))
        for (_, _, _, pred), t in zip(seen.rows, truth):
            labels, number = t['labels'].astype(int), t['instances'].astype(int)
            void = labels == b.ignore
            true = [(c, i, (labels == c) & ((number == i) | (c >= b.things)), c < b.things and i == 0)
                    for c, i in {(c, i if c < b.things else 0) for c, i in zip(labels[~void], number[~void])}]
            for c in np.unique(pred):
                mine, hit = pred == c, False
                crowd = np.any([m for k, _, m, is_crowd in true if is_crowd and k == c]
                               or [np.zeros_like(mine)], axis=0)
                for k, _, m, is_crowd in true:
                    iou = (m & mine).sum()/((m | mine) & ~(void & ~m)).sum()
                    if k == c and not is_crowd and iou > 0.5: hit = True; counts[c, 0] += 1
                if not hit and (mine & (void | crowd)).sum() <= mine.sum()/2: counts[c, 1] += 1
            for k, _, m, is_crowd in true:
                mine = pred == k
                if not is_crowd and not (m & mine).sum()/max(1, ((m | mine) & ~(void & ~m)).sum()) > 0.5:
                    counts[k, 2] += 1
        whole = counts[:, 0] + counts[:, 1]/2 + counts[:, 2]/2
        np.testing.assert_allclose(found['classes']['rq'][whole > 0], counts[whole > 0, 0]/whole[whole > 0])
        self.assertTrue(np.isnan(found['classes']['rq'][whole == 0]).all())
        self.assertGreater(counts[:, 0].sum(), 0)


for _name in LAYOUTS:
    setattr(Miniatures, 'test_' + _name.replace('-', '_'), lambda self, name=_name: self.check(name))

if __name__ == '__main__': unittest.main()
