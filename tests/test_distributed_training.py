"""Two real processes train to the loss curve of one that takes twice the parts: what a notebook cannot hold.

Started as a script by torchrun, this file is one of the processes.
"""
import json, subprocess, sys, tempfile, unittest
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from mrovseg_nb.model.mrovseg import preset
from mrovseg_nb.training.losses import LossWeights
from mrovseg_nb.training.recipes import Recipe
from mrovseg_nb.training.trainer import Stopped, Trainer, train

CONFIG = replace(preset('terrarium'), blocks=2, queries=8, fusion_layers=(0, 2, 3, 4), p=0)   # p = 0 has weights without a gradient
RECIPE = Recipe(steps=20, batch=8, warmup=4, lanes=4, precision='no', loss=LossWeights(points=256))

def run(folder, accumulate, resume=False):
    torch.set_num_threads(1)
    train(CONFIG, replace(RECIPE, accumulate=accumulate), folder, resume=resume, every=10, progress=False)
    return json.loads((folder/'record.json').read_text())

def process(folder):
    "One of several: trains, then goes on from step 10 alone"
    from accelerate import PartialState
    run(folder, 1)
    PartialState().destroy_process_group()


class TwoProcesses(unittest.TestCase):
    def test_same_curve_as_one(self):
        launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', __file__]
        with tempfile.TemporaryDirectory() as tmp:
            two, one = Path(tmp)/'two', Path(tmp)/'one'
            done = subprocess.run([*launch, str(two)], capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr[-3000:])
            ours, theirs = run(one, 2), json.loads((two/'record.json').read_text())
            self.assertEqual((ours['processes'], theirs['processes'], len(ours['curve'])), (1, 2, 20))
            for a, b in zip(ours['curve'], theirs['curve']): self.assertLess(abs(a['total'] - b['total']), 1e-4*a['total'] + 1e-4, (a, b))
            self.assertLess(ours['curve'][-1]['total'], 0.8*ours['curve'][0]['total'])        # it learned something

            (two/'checkpoints'/'step-00000020').rename(two/'gone')                            # what two began, one ends
            run(two, 2, resume=True)
            a, b = load_file(one/'model.safetensors'), load_file(two/'model.safetensors')
            for name in a: torch.testing.assert_close(a[name], b[name], rtol=1e-2, atol=1e-3)


if __name__ == '__main__': process(Path(sys.argv[1]))
