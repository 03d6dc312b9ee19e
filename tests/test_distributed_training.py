"""Two real processes train to the loss curve of one that takes twice the parts: what a notebook cannot hold.

Started as a script by torchrun, this file is one of the processes.
"""
import json, subprocess, sys, tempfile, unittest
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from mrovseg_nb import evaluate, load_model, train
from mrovseg_nb.data.terrarium import terrarium
from mrovseg_nb.methods.registry import METHODS, model_config
from mrovseg_nb.mrovseg.model import preset
from mrovseg_nb.training.losses import LossWeights
from mrovseg_nb.training.recipes import Recipe
from mrovseg_nb.training.trainer import TrainingStopped, Trainer, train_model

# p = 0 has weights without a gradient
CONFIG = replace(preset('terrarium'), blocks=2, queries=8, fusion_layers=(0, 2, 3, 4), p=0)
RECIPE = Recipe(steps=20, batch=8, warmup=4, lanes=4, precision='no', loss=LossWeights(points=256))

SHORT = replace(RECIPE, steps=4, batch=4, warmup=1, clip_lr=0.5,
                loss=LossWeights(points=256, ignored_as_none=True))
NOISE = dict(sed=dict(drop_path=0.3, dropout=0.3))      # of the image tower, which SED trains

def run(folder, accumulate, every=5):
    torch.set_num_threads(1)
    train_model(CONFIG, replace(RECIPE, accumulate=accumulate), folder, resume=True, every=every,
                progress=False)
    return json.loads((folder/'record.json').read_text())

def short_run(folder, accumulate, method):
    "Four steps of another method"
    torch.set_num_threads(1)
    config = replace(model_config(f'{method}-terrarium'), **NOISE.get(method, {}))
    train_model(config, replace(SHORT, accumulate=accumulate), folder, progress=False)
    return json.loads((folder/'record.json').read_text())

def process(folder, every, method):
    "One of two: trains, or goes on; or, if `every` is 0, trains with validation and writes what it saw"
    from accelerate import PartialState
    if method != 'mrovseg': short_run(folder, 1, method)
    elif every: run(folder, 1, every)
    else:
        torch.set_num_threads(1)
        model = train(CONFIG, replace(RECIPE, steps=4), folder, validation=scenes(), validate_every=2)
        found = evaluate(model, scenes())['miou_present']
        (folder/f'{PartialState().process_index}.json').write_text(json.dumps(found))
    PartialState().destroy_process_group()

def scenes(): return terrarium('val', 3, 96)

def weights(folder): return load_file(folder/'model.safetensors')


class TwoProcesses(unittest.TestCase):
    def two(self, folder, every=5, method='mrovseg'):
        "Two processes on a run"
        done = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone',
                               '--nproc_per_node', '2', __file__, str(folder), str(every), method],
                              capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        return json.loads((folder/'record.json').read_text())

    def test_same_curve_as_one_and_exact_resume(self):
        with tempfile.TemporaryDirectory() as tmp:
            two, one = Path(tmp)/'two', Path(tmp)/'one'
            theirs, ours = self.two(two), run(one, 2)
            self.assertEqual((ours['processes'], theirs['processes'], len(ours['curve'])), (1, 2, 20))
            for a, b in zip(ours['curve'], theirs['curve']):
                self.assertLess(abs(a['total'] - b['total']), 1e-4*a['total'] + 1e-4, (a, b))
            self.assertLess(ours['curve'][-1]['total'], 0.8*ours['curve'][0]['total'])  # it learned something

            whole = weights(two)
            (two/'checkpoints'/'step-00000020').rename(two/'gone')  # as if killed after step 15,
            self.two(two, every=2)
            # and again after step 18, which a resumed run wrote
            (two/'checkpoints'/'step-00000020').rename(two/'gone too')
            self.two(two)
            for name, w in weights(two).items(): self.assertTrue(torch.equal(w, whole[name]), name)

            (two/'checkpoints'/'step-00000020').rename(two/'gone again')  # what two began, one can end
            run(two, 2)
            for name, w in weights(two).items():
                torch.testing.assert_close(w, whole[name], rtol=1e-2, atol=1e-3)

    def same_curve(self, ours, theirs):
        "The losses, norms and rates of two runs, a step a line"
        for a, b in zip(ours['curve'], theirs['curve'], strict=True):
            for k in a: self.assertLess(abs(a[k] - b[k]), 1e-3*abs(a[k]) + 1e-4, (k, a, b))

    def test_other_methods(self):
        "Losses of pixels and of a model itself, and a CLIP that learns with noise"
        for method in [name for name, m in METHODS.items() if m.trains and name != 'mrovseg']:
            with self.subTest(method), tempfile.TemporaryDirectory() as tmp:
                two, one = Path(tmp)/'two', Path(tmp)/'one'
                theirs, ours = self.two(two, method=method), short_run(one, 2, method)
                self.assertEqual((ours['processes'], theirs['processes'], len(ours['curve'])), (1, 2, 4))
                self.same_curve(ours, theirs)
                mine = weights(one)
                for name, w in weights(two).items():
                    torch.testing.assert_close(w, mine[name], rtol=1e-2, atol=1e-3)

    def test_both_processes_validate(self):
        "Three scenes on two processes: each counts, and both processes end with the best model"
        with tempfile.TemporaryDirectory() as tmp:
            folder = Path(tmp)/'two'
            validation = self.two(folder, every=0)['validation']
            self.assertEqual(([v['step'] for v in validation['curve']], validation['images']), ([2, 4], 3))
            best = evaluate(load_model(folder), scenes())['miou_present']
            self.assertAlmostEqual(validation['best']['miou'], best, 6)
            self.assertEqual([json.loads((folder/f'{rank}.json').read_text()) for rank in range(2)], 2*[best])


if __name__ == '__main__': process(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
