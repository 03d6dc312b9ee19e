"""`Segmenter(method, clip=tower)` for every method that trains nothing, and a small CLIP of every family.

    python -m unittest discover -s tests -p test_training_free.py
"""
import unittest, warnings

import numpy as np

from mrovseg_nb.app.segmenter import Segmenter
from mrovseg_nb.clip.clip import clip_tower
from mrovseg_nb.clip.small_towers import small_towers
from mrovseg_nb.data.terrarium import scene
from mrovseg_nb.methods.registry import METHODS

SMALL = dict(pretrained=None, template='plain', crop=64)
MORE = dict(proxyclip=dict(backbone='vit_tiny_patch16_224', backbone_weights=None))


class EveryMethodOnEveryTower(unittest.TestCase):
    def test_segmenter(self):
        image = scene(8, (70, 96)).image
        for method in METHODS.values():
            if method.trains: continue
            for tower in small_towers():
                with self.subTest(method=method.name, tower=tower), warnings.catch_warnings(action='ignore'):
                    if clip_tower(tower).kind not in method.towers:
                        with self.assertRaisesRegex(ValueError, f'{method.title} needs a CLIP whose image'):
                            Segmenter(method.name, clip=tower, **SMALL)
                        continue
                    found = Segmenter(method.name, clip=tower, **SMALL, **MORE.get(method.name, {}))(
                        image, ['red star', 'water', 'grass'])
                    self.assertEqual(found.scores.shape, (3, 70, 96))
                    total = found.scores.sum(0)
                    if method.name == 'cliper':          # the rest is background
                        self.assertTrue((total <= 1 + 1e-4).all())
                    else: self.assertTrue(np.allclose(total, 1, atol=1e-4))

    def test_small_images(self):
        "One pixel, and strips much narrower than a window"
        for method in METHODS.values():
            if method.trains: continue
            segment = Segmenter(f'{method.name}-terrarium')
            for size in ((1, 1), (3, 2), (1, 200), (300, 2)):
                with self.subTest(method=method.name, size=size):
                    image = np.random.randint(0, 256, (*size, 3), np.uint8)
                    scores = segment(image, ['red star', 'water']).scores
                    self.assertEqual(scores.shape, (2, *size))
                    self.assertTrue(np.isfinite(scores).all())


if __name__ == '__main__': unittest.main()
