"""Every metric on a case that is small enough to be worked out on paper."""
import unittest

import numpy as np
import torch

from mrovseg_nb.evaluation.metrics import ConfusionMatrix
from mrovseg_nb.evaluation.panoptic_quality import PanopticQuality, segments_from_labels
from mrovseg_nb.evaluation.regions import BoundaryIoU, SizeIoU, oracle_predictions
from mrovseg_nb.clip.outputs import QueryScores, merge_panoptic


class Pixels(unittest.TestCase):
    #  class   true pixels   found as            hits   predicted
    #    0         5         0 0 1 0 none          3       4
    #    1         4         1 1 0 2               2       3
    #    2         0                               0       1
    TRUTH = np.array([[0, 0, 0, 1, 1], [1, 1, 255, 0, 0]])
    PRED = np.array([[0, 0, 1, 1, 1], [0, 2, 0, 0, -1]])

    def test_all(self):
        c = ConfusionMatrix(3).update(self.PRED, self.TRUTH)
        self.assertEqual(c.counts.tolist(), [[3, 1, 0, 1], [1, 2, 1, 0], [0, 0, 0, 0]])
        np.testing.assert_allclose(c.iou(), [3/(5 + 4 - 3), 2/(4 + 3 - 2), 0/(0 + 1 - 0)])      # 1/2, 2/5, 0
        found = c.results(['a', 'b', 'a'])
        # the classes that are true somewhere
        self.assertAlmostEqual(found['miou_present'], (1/2 + 2/5)/2)
        # true or predicted somewhere
        self.assertAlmostEqual(found['miou_union'], (1/2 + 2/5 + 0)/3)
        self.assertAlmostEqual(found['fwiou'], (5*1/2 + 4*2/5)/9)
        self.assertAlmostEqual(found['macc'], (3/5 + 2/4)/2)
        self.assertAlmostEqual(found['pacc'], 5/9)
        self.assertEqual(list(found['tiers']), ['a', 'b'])
        # class 2 is nowhere true
        self.assertAlmostEqual(found['tiers']['a'], 1/2)
        self.assertAlmostEqual(found['tiers']['b'], 2/5)

    def test_two_images(self):
        "Counts are added over images, and divided once"
        c = ConfusionMatrix(3).update(self.PRED, self.TRUTH).update(np.array([[2, 2]]), np.array([[2, 0]]))
        #  class 0: 6 true, 3 hits, 4 predicted; class 2: 1 true, 1 hit, 3 predicted
        np.testing.assert_allclose(c.iou(), [3/7, 2/5, 1/3])
        self.assertAlmostEqual(c.results()['miou_present'], (3/7 + 2/5 + 1/3)/3)


class Regions(unittest.TestCase):
    def test_boundary(self):
        "6 x 6, rims one pixel wide; the truth changes to 1 after column 2, the prediction after column 1"
        truth, pred = (np.repeat([[0]*n + [1]*(6 - n)], 6, 0) for n in (3, 2))
        b = BoundaryIoU(2).update(pred, truth)
        #  true rim: the frame, columns 2 and 3. Inside: rows 1 to 4 of columns 1 and 4. 18 - 4 = 14 of each
        #  predicted rim: the frame, columns 1 and 2. Inside: rows 1 to 4 of columns 3 and 4. 12 of class 0,
        #  24 - 8 = 16 of class 1
        # in both, class 0: column 0 (6), the ends of column 1 (2); class 1:
        # column 5 (6), the ends of 3 and 4 (4)
        self.assertEqual(b.counts.tolist(), [[8, 14, 12], [10, 14, 16]])
        self.assertAlmostEqual(b.results(['a', 'b'])['miou'], (8/18 + 10/20)/2)
        self.assertAlmostEqual(b.results(['a', 'b'])['tiers']['a'], 8/18)

    def test_sizes(self):
        "100 pixels; small is below 5 of them, large from 20 on; classes 0 and 1 are things, 2 is stuff"
        truth, pred, objects = (np.full((10, 10), v) for v in (2, 2, 0))
        truth[0, :4], objects[0, :4] = 0, 1          # a small 0 of 4 pixels
        # 2 hits, 5 false: these are small, as the object that they belong to
        pred[0, 2:9] = 0
        truth[2], objects[2] = 0, 2                  # a medium 0 of 10
        # 8 hits; 2 false of class 1, an area that has hit nothing: as small as it is itself
        pred[2, :8], pred[2, 8:] = 0, 1
        truth[4:6], objects[4:6] = 1, 3              # a large 1 of 20
        pred[4] = 1                                  # 10 hits
        pred[8, :6] = 1                              # 6 false of class 1, medium
        pred[9, 9] = 0                               # 1 false of class 0, small
        s = SizeIoU(3, 2, limits=(0.05, 0.2)).update(pred, truth, objects)
        #                                  0 (hits, true, predicted)  1           2
        self.assertEqual(s.counts.tolist(), [[[2, 4, 2 + 5 + 1], [0, 0, 2], [0, 0, 0]],
                                             [[8, 10, 8], [0, 0, 6], [0, 0, 0]],
                                             [[0, 0, 0], [10, 20, 10], [0, 0, 0]]])
        for size, iou in dict(small=2/(4 + 8 - 2), medium=8/10, large=10/20).items():
            self.assertAlmostEqual(s.results()[size], iou)

    def test_oracles(self):
        truth, pred = np.array([[0, 0, 1, 1], [0, 0, 1, 1]]), np.array([[0, 2, 1, 1], [0, 2, 2, 1]])
        masks, names = oracle_predictions(pred, truth)
        #  the left half is called 0 0 2 2: of equals the larger; the right one 1 1 1 2
        self.assertEqual(masks.tolist(), [[2, 2, 1, 1], [2, 2, 1, 1]])
        #  the area of 0 lies on 0; that of 2 on 0 0 1; that of 1 on 1
        self.assertEqual(names.tolist(), [[0, 0, 1, 1], [0, 0, 0, 1]])
        #  what nobody knows has no voice
        masks, names = oracle_predictions(pred, np.array([[0, 255, 1, 1], [0, 0, 1, 1]]))
        # 0 0 2; and 2's area on 0 1: the larger
        self.assertEqual((masks[0, 0], names[0, 1]), (0, 1))


def strip(length, *segments):
    "One row of pixels: (id, from, to)"
    ids = np.zeros((1, length), int)
    for i, a, b in segments: ids[0, a:b] = i
    return ids


class Panoptic(unittest.TestCase):
    def test_all(self):
        "40 pixels; classes 0 and 1 are things, 2 is stuff"
        # 34 to 39: nobody knows
        true = strip(40, (1, 0, 10), (2, 10, 20), (3, 20, 26), (4, 26, 34))
        told = [dict(id=1, label=0), dict(id=2, label=0), dict(id=3, label=1, iscrowd=1), dict(id=4, label=2)]
        pred = strip(40, (11, 0, 8), (12, 8, 15), (16, 15, 20), (13, 20, 25), (14, 26, 37), (15, 37, 40))
        said = [dict(id=i, label=k) for i, k in ((11, 0), (12, 0), (13, 1), (14, 2), (15, 1), (16, 1))]
        q = PanopticQuality(3, 2).update(pred, said, true, told)
        #  11: 8 of the 10 pixels of 1, IoU 8/10: found
        #  12: IoU with 2 is 5/(10 + 7 - 5) = 5/12: false, and 2 is missed
        #  13: lies on a crowd of its class: not counted; the crowd is not missed
        #  14: 8 pixels on 4 and 3 that nobody knows, which do not count: IoU 8/(8 + 11 - 8 - 3) = 1: found
        #  15: where nobody knows: not counted          16: on a thing of another class: false
        self.assertEqual(q.counts[:, :3].tolist(), [[1, 1, 1], [0, 1, 0], [1, 0, 0]])
        found = q.results()
        rq, sq = np.array([1/(1 + 1/2 + 1/2), 0, 1]), np.array([8/10, 0, 1])
        for key, values in dict(rq=rq, sq=sq, pq=rq*sq).items():
            np.testing.assert_allclose(found['classes'][key], values, atol=1e-9)
            for group, of in dict(all=[0, 1, 2], things=[0, 1], stuff=[2]).items():
                self.assertAlmostEqual(found[group][key], values[of].mean(), 8)

    def test_halves(self):
        "An IoU of one half is no match; a segment is not counted if more than half of it is unknown"
        q = PanopticQuality(1, 1).update(strip(20, (7, 0, 20)), [dict(id=7, label=0)],
                                         strip(20, (1, 0, 10),
                                               (2, 10, 20)), [dict(id=i, label=0) for i in (1, 2)])
        self.assertEqual(q.counts[0, :3].tolist(), [0, 1, 2])
        for known, false in ((4, 1), (3, 0)):
            pred = strip(20, (7, 0, 8))
            q = PanopticQuality(2, 2).update(pred, [dict(id=7, label=0)], strip(20, (1, 0, known)),
                                             [dict(id=1, label=1)])
            self.assertEqual(q.counts[0, :3].tolist(), [0, false, 0])

    def test_segments_from_labels(self):
        labels, instances = np.array([[0, 0, 0, 1, 2, 2, 255]]), np.array([[1, 2, 0, 3, 0, 9, 0]])
        ids, segments = segments_from_labels(labels, instances, 2)
        #  a thing without a number is a crowd; stuff is one segment, numbered or not; ids by class and number
        self.assertEqual(ids.tolist(), [[2, 3, 1, 4, 5, 5, 0]])
        self.assertEqual([(s['id'], s['label'], s['iscrowd']) for s in segments],
                         [(1, 0, True), (2, 0, False), (3, 0, False), (4, 1, False), (5, 2, False)])

    def test_merge(self):
        "10 pixels, class 0 a thing, 1 and 2 stuff: what becomes of seven queries"
        queries = [((0.9, 0.04, 0.03, 0.03), 0, 4),      # a thing of 4 pixels
                   # another; it loses pixel 3 and keeps 3 of 4, which is enough
                   ((0.8, 0.1, 0.05, 0.05), 3, 7),
                   ((0.1, 0.7, 0.1, 0.1), 7, 8),         # stuff
                   ((0.2, 0.6, 0.1, 0.1), 8, 9),         # the same stuff: one segment with the one before
                   # wins pixel 9 alone, 1 of 5: dropped, and 9 is nobody's
                   ((0.2, 0.2, 0.5, 0.1), 5, 10),
                   ((0.03, 0.03, 0.04, 0.9), 0, 10),     # no object
                   ((0.24, 0.24, 0.28, 0.24), 9, 10)]    # not sure enough
        classes = torch.tensor([p for p, _, _ in queries]).log()
        masks = torch.full((7, 1, 10), -20.)
        for m, (_, a, b) in zip(masks, queries): m[0, a:b] = 20.
        queries = QueryScores(masks, classes, (1, 10))
        ids, segments = merge_panoptic(queries, 1, min_score=0.3, overlap=0.7)
        self.assertEqual(ids.tolist(), [[1, 1, 1, 1, 2, 2, 2, 3, 3, 0]])
        self.assertEqual([(s['id'], s['label'], s['area']) for s in segments],
                         [(1, 0, 4), (2, 0, 3), (3, 1, 2)])
        np.testing.assert_allclose([s['score'] for s in segments], [0.9, 0.8, 0.7], rtol=1e-6)


if __name__ == '__main__': unittest.main()
