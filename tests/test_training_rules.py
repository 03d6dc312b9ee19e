"""The trainer's running mean of the weights, the random points of each part of the data, and training in a script."""
import subprocess, sys, tempfile, unittest
from dataclasses import replace
from pathlib import Path

import numpy as np, torch
from PIL import Image

from mrovseg_nb.data.terrarium import terrarium
from mrovseg_nb.mrovseg.model import MROVSeg, preset
from mrovseg_nb.clip.model_files import trained_parameters
from mrovseg_nb.training.losses import LossWeights
from mrovseg_nb.training.recipes import Recipe
from mrovseg_nb.training.batches import training_data
from mrovseg_nb.training.trainer import Trainer

CONFIG = replace(preset('terrarium'), blocks=1, queries=6, fusion_layers=(0, 2, 3, 4))
RECIPE = Recipe(steps=4, batch=2, warmup=0, lanes=1, workers=0, precision='no', loss=LossWeights(points=32))

def trainer(recipe, data=None):
    "A run in memory whose first weights are always the same"
    torch.manual_seed(0)
    return Trainer(MROVSeg(CONFIG), training_data('terrarium', 96) if data is None else data, recipe)

def one_image():
    "Training data in which every row is the same scene"
    return replace(training_data('terrarium', 96), rows=[next(iter(terrarium('train', 1)))]*8, decode=dict)

def totals(**changes):
    "The loss of each step at a rate of 0 on one image again and again: only the points differ"
    t = trainer(replace(RECIPE, lr=0., **changes), one_image())
    return [now['total'] for now in t.steps(progress=False)]


class Rules(unittest.TestCase):
    def test_running_mean(self):
        "mean <- ema mean + (1 - ema) weights, after every step; the model that is handed back holds the mean"
        t = trainer(replace(RECIPE, ema=0.75))
        expected = {n: p.detach().clone().double() for n, p in trained_parameters(t.model).items()}
        moved = 0.
        for _ in t.steps(progress=False):
            for n, p in trained_parameters(t.model).items():
                moved = max(moved, (p.detach() - expected[n]).abs().max().item())
                expected[n] = 0.75*expected[n] + 0.25*p.detach().double()
        self.assertGreater(moved, 1e-3)
        for n, w in trained_parameters(t.finish(None)).items():
            torch.testing.assert_close(w.double(), expected[n], rtol=1e-5, atol=1e-6)

    def test_without_a_running_mean(self):
        t = trainer(RECIPE)
        for _ in t.steps(progress=False):
            last = {n: p.detach().clone() for n, p in trained_parameters(t.model).items()}
        for n, w in trained_parameters(t.finish(None)).items(): self.assertTrue(torch.equal(w, last[n]), n)

    def test_points_of_every_step(self):
        "Each step has points of its own, which depend only on the seed and on the number of the step"
        first = totals()
        self.assertEqual(len(set(first)), 4, 'the same points in two steps')
        self.assertGreater(max(first) - min(first), 1e-3)
        torch.rand(7)
        self.assertEqual(totals(), first)
        self.assertFalse(set(totals(seed=1)) & set(first))

    def test_points_of_every_part(self):
        "Step s in two parts has the points of steps 2s and 2s + 1 in one part"
        one = totals(batch=1, accumulate=1)
        two = totals(batch=2, accumulate=2, steps=2)
        for s in range(2): self.assertAlmostEqual(two[s], (one[2*s] + one[2*s + 1])/2, 5)


SCRIPT = """
from mrovseg_nb import from_folder, train
mine = from_folder('images', 'masks', ['ground', 'square'])
model = train('own-data', data=mine, out='run', validation=False, settings=[
    'steps=2', 'batch=2', 'warmup=1', 'workers=2', 'loss.points=32', 'model.blocks=1', 'model.queries=6',
    'model.fusion_layers=0,2,3,4'])
print('trained on', model.classes)
"""
OWN_DECODE = SCRIPT.replace("'square'])", """'square'])
from dataclasses import replace
stored = mine.decode
def decode(row): return stored(row)
mine = replace(mine, decode=decode)""")

class Scripts(unittest.TestCase):
    "A script that trains on two images of different sizes, with two workers"
    def script(self, code):
        with tempfile.TemporaryDirectory() as tmp:
            for i, size in enumerate([(70, 50), (40, 120)]):
                labels = np.zeros(size, np.uint8)
                labels[10:30, 10:30] = 1
                for kind, a in dict(images=np.stack([90*labels]*3, -1), masks=labels).items():
                    (Path(tmp)/kind).mkdir(exist_ok=True)
                    Image.fromarray(a).save(Path(tmp)/kind/f'{i}.png')
            (Path(tmp)/'script.py').write_text(code)
            return subprocess.run([sys.executable, 'script.py'], cwd=tmp, capture_output=True, text=True,
                                  timeout=300)

    def test_without_a_main_guard(self):
        done = self.script(SCRIPT)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        self.assertEqual(done.stdout.count("trained on ['ground', 'square']"), 1, done.stdout)

    def test_with_a_function_of_the_script(self):
        "Rows that are decoded by the script itself: workers import it, so it needs the guard"
        top, guarded = OWN_DECODE.split('model = ')
        guarded = 'if __name__ == "__main__":\n    model = ' + guarded.replace('\n', '\n    ')
        done = self.script(top + guarded)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        self.assertEqual(done.stdout.count("trained on ['ground', 'square']"), 1, done.stdout)


if __name__ == '__main__': unittest.main()
