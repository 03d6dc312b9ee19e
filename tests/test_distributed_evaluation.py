"""Two real processes evaluate to the integers of one: what a notebook cannot hold.

Started as a script by torchrun, this file is one of the processes. (`accelerate launch --cpu
--num_processes 2` starts a single one unless MPI is there, as of 1.15;
what accelerate does inside the processes is the same.)
"""
import subprocess, sys, tempfile, unittest
from pathlib import Path

import numpy as np
import torch

from mrovseg_nb.data.terrarium import terrarium
from mrovseg_nb.evaluation.evaluate import count_images, evaluate
from mrovseg_nb.evaluation.worst_images import WorstImages
from mrovseg_nb.methods.registry import create_model
from mrovseg_nb.methods.training_free import TrainingFree


def ask(how, data, **more):
    "MaskCLIP on some images, five at a time"
    torch.set_num_threads(1)
    model = create_model('maskclip-terrarium', stride=0)
    return how(model, data, batch_size=5, also=('boundary', 'sizes', 'oracles', 'bootstrap'),
                **more)

def counts(data, **more):
    return {name: tally.counts for name, tally in ask(count_images, data, **more).items()}

def broken():
    "A list of twelve scenes, two of which cannot be read, one in the share of each process"
    data = terrarium('val', 12).in_memory()
    for i in (3, 8): data.rows[i]['image'] = dict(bytes=b'cut', path=None)
    return data

def noted():
    "What is not a number: the rows that were skipped, and the three worst pictures"
    skipped, worst = [], WorstImages(3)
    found = counts(broken(), skipped=skipped, observers=[worst])
    return dict(found, skipped=skipped, worst=[k.name for k in worst.images],
                pixels_of_worst=np.stack([k.pred for k in worst.images]))

def process(folder):
    "One of several: saves what it counted, and how many of the scenes it was asked about itself"
    from accelerate import PartialState
    state, asked = PartialState(cpu=True), []
    label = TrainingFree.label
    TrainingFree.label = lambda self, images, *how: asked.extend(images) or label(self, images, *how)
    found = counts(terrarium('val', 12))
    np.savez(Path(folder)/f'{state.process_index}.npz', asked=len(asked), world=state.num_processes, **found)
    # the other process has nothing to do
    np.savez(Path(folder)/f'one{state.process_index}.npz', **counts(terrarium('val', 1)))
    asked.clear()
    np.savez(Path(folder)/f'noted{state.process_index}.npz', **noted(), asked=len(asked))
    try: ask(evaluate, terrarium('val', 0))
    except ValueError as e: (Path(folder)/f'{state.process_index}.txt').write_text(str(e))
    try: counts(broken().first(8))  # only the first process meets what is broken
    except ValueError as e: (Path(folder)/f'broken{state.process_index}.txt').write_text(str(e))
    state.destroy_process_group()


class TwoProcesses(unittest.TestCase):
    def test_same_integers_as_one(self):
        launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2',
                  __file__]
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([*launch, folder], capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr[-3000:])
            one, single, alone = counts(terrarium('val', 12)), counts(terrarium('val', 1)), noted()
            # scenes of four shards; batches of the list, but one scene
            for rank, (asked, listed) in enumerate(((4, 6), (8, 4))):
                two = dict(np.load(Path(folder)/f'{rank}.npz'))
                self.assertEqual((two.pop('asked'), two.pop('world')), (asked, 2))
                self.assertEqual(two.keys(), one.keys())
                for name in one: np.testing.assert_array_equal(two[name], one[name], name)
                for name, found in np.load(Path(folder)/f'one{rank}.npz').items():
                    np.testing.assert_array_equal(found, single[name], name)
                beside = dict(np.load(Path(folder)/f'noted{rank}.npz'))
                self.assertEqual(beside.pop('asked'), listed)
                self.assertEqual(beside.keys(), alone.keys())
                for name in alone: np.testing.assert_array_equal(beside[name], alone[name], name)
                self.assertIn('no images', (Path(folder)/f'{rank}.txt').read_text())
                self.assertRegex((Path(folder)/f'broken{rank}.txt').read_text(),
                                 r'^terrarium/val/3: its image cannot be read: it is not an? \w+$')
        self.assertEqual((one['pictures'], alone['pictures'], len(alone['skipped'])), (12, 10, 2))
        self.assertEqual(one['pixels'].sum(), 12*96*96)


if __name__ == '__main__': process(sys.argv[1])
