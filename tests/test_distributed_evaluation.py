"""Two real processes evaluate to the integers of one: what a notebook cannot hold.

Started as a script by torchrun, this file is one of the processes. (`accelerate launch --cpu --num_processes 2` starts a single one
unless MPI is there, as of 1.15; what accelerate does inside the processes is the same.)
"""
import subprocess, sys, tempfile, unittest
from pathlib import Path

import numpy as np
import torch

from mrovseg_nb.data.terrarium import CLASSES, THINGS, TIERS, terrarium
from mrovseg_nb.data.vocabulary import parse_classes
from mrovseg_nb.evaluation.evaluate import count, evaluate
from mrovseg_nb.methods.dense_clip import DenseCLIP
from mrovseg_nb.model.clip import load_clip


def ask(how, n=12):
    "Dense CLIP on `n` scenes, five at a time: three batches, so that the shares are unequal"
    torch.set_num_threads(1)
    model = DenseCLIP(load_clip('terrarium', 'terrarium'), 96, 0.5, 'terrarium')
    return how(model, terrarium('val', n), parse_classes(CLASSES), batch=5, also=('boundary', 'sizes', 'oracles'), things=len(THINGS))

def counts(n=12): return {name: tally.counts for name, tally in ask(count, n).items()}

def process(folder):
    "One of several: saves what it counted, and how many of the scenes it was asked about itself"
    from accelerate import PartialState
    state, asked = PartialState(cpu=True), []
    predict = DenseCLIP.predict
    DenseCLIP.predict = lambda self, images, vocabulary: asked.extend(images) or predict(self, images, vocabulary)
    found = counts()
    np.savez(Path(folder)/f'{state.process_index}.npz', asked=len(asked), world=state.num_processes, **found)
    np.savez(Path(folder)/f'few{state.process_index}.npz', **counts(3))             # one batch: the second process has nothing to do
    try: ask(evaluate, 0)
    except ValueError as e: (Path(folder)/f'{state.process_index}.txt').write_text(str(e))
    state.destroy_process_group()


class TwoProcesses(unittest.TestCase):
    def test_same_integers_as_one(self):
        launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', __file__]
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([*launch, folder], capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr[-3000:])
            one, few = counts(), counts(3)
            for rank, asked in enumerate((7, 5)):
                two = dict(np.load(Path(folder)/f'{rank}.npz'))
                self.assertEqual((two.pop('asked'), two.pop('world')), (asked, 2))
                self.assertEqual(two.keys(), one.keys())
                for name in one: np.testing.assert_array_equal(two[name], one[name], name)
                for name, found in np.load(Path(folder)/f'few{rank}.npz').items(): np.testing.assert_array_equal(found, few[name], name)
                self.assertIn('no pictures', (Path(folder)/f'{rank}.txt').read_text())
        self.assertEqual(one['pictures'], 12)
        self.assertEqual(one['pixels'].sum(), 12*96*96)


if __name__ == '__main__': process(sys.argv[1])
