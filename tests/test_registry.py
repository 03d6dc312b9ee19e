"""A method that only this file knows is registered, trained, saved, loaded, evaluated and used."""
import ast, json, os, tempfile, unittest, warnings
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import mrovseg_nb
from mrovseg_nb.app.cli import main
from mrovseg_nb.app.segmentation import read_labels
from mrovseg_nb.basics.files import shipped
from mrovseg_nb.clip.dense_features import dense_features
from mrovseg_nb.clip.interface import ModelConfig, OpenVocabularyModel
from mrovseg_nb.clip.text_embeddings import all_vectors, class_logits
from mrovseg_nb.data.terrarium import scene, terrarium
from mrovseg_nb.methods.registry import METHODS, Method, register, save_model
from mrovseg_nb.training.recipes import Recipe
from mrovseg_nb.training.step import parameter_groups


@dataclass(frozen=True)
class ToyConfig(ModelConfig):
    "A 1x1 convolution on the dense features of a frozen CLIP."
    bias: bool = True

class Toy(OpenVocabularyModel):
    "Scores of pixels, compared with the class names."
    def __init__(self, config, clip=None):
        super().__init__(config, clip)
        self.mix_weight = nn.Parameter(torch.eye(self.clip.embed_dim)[..., None, None])
        self.offset = nn.Parameter(torch.zeros(1, 1)) if config.bias else None
    def scores(self, images, text):
        how = dict(affinity='identity', residual=False, feed_forward=False)
        with torch.no_grad(): features = dense_features(self.clip, images, **how)
        features = F.normalize(F.conv2d(features, self.mix_weight), dim=1)               # (B, E, h, w)
        logits = class_logits(torch.einsum('bchw,tc->bhwt', features, all_vectors(text)), text).movedim(-1, 1)
        return 20*logits if self.offset is None else 20*logits + self.offset

SMALL = ToyConfig('terrarium', 'terrarium', 'terrarium', 96)
TOY = Method('toy', 'Toy', Toy, ToyConfig, dict(small=SMALL), no_decay=('mix',), licence='mit')
SHORT = Recipe(model='toy-small', steps=3, batch=2, warmup=1, lanes=2, workers=0)
CLASSES = ('red ring', 'blue star', 'water', 'snow', 'wood')

def mrovseg(*argv):
    "The exit code and the output of a command"
    with redirect_stdout(StringIO()) as out: return main([str(a) for a in argv]), out.getvalue()


class Registry(unittest.TestCase):
    def setUp(self):
        register(TOY)
        self.addCleanup(METHODS.pop, 'toy')
        torch.set_num_threads(1)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_from_training_to_segmentation(self):
        run = self.folder/'run'
        model = mrovseg_nb.train(SMALL, SHORT, run, every=1, progress=False)
        self.assertFalse(torch.equal(model.mix_weight[..., 0, 0], torch.eye(model.clip.embed_dim)))

        again = mrovseg_nb.train(SMALL, replace(SHORT), run, resume=True,
                                 progress=False)          # nothing is left to do
        self.assertTrue(torch.equal(again.mix_weight, model.mix_weight))
        with self.assertRaisesRegex(ValueError, 'model.bias was True and is False'):
            mrovseg_nb.train(replace(SMALL, bias=False), SHORT, run, resume=True, progress=False)

        loaded = mrovseg_nb.load_model(run)
        self.assertEqual((type(loaded), loaded.config, loaded.classes), (Toy, SMALL, model.classes))
        self.assertTrue(torch.equal(loaded.mix_weight, model.mix_weight))

        data = terrarium('val', 4)
        found, same = mrovseg_nb.evaluate(loaded, data), mrovseg_nb.evaluate(model, data)
        self.assertEqual(found['pictures'], 4)
        self.assertTrue((found['confusion'] == same['confusion']).all() and found['confusion'].sum() > 0)

        image = scene(15, 96).image
        result = mrovseg_nb.Segmenter.from_pretrained(run)(image, CLASSES)
        self.assertTrue(np.allclose(result.scores,
                                    model.predict([image],
                                                  mrovseg_nb.Segmenter(model).parse_or_default(CLASSES))[0]))
        self.assertEqual(result.labels.shape, (96, 96))

    def test_interrupted(self):
        whole = mrovseg_nb.train(SMALL, SHORT, self.folder/'whole', every=1, progress=False)
        from mrovseg_nb.training.trainer import TrainingStopped, Trainer
        with mock.patch.object(Trainer, 'advance', autospec=True, side_effect=Trainer.advance) as advance:
            def stop_after_two(trainer, source):
                now = advance.original(trainer, source)
                if now['step'] == 1: trainer.stop()
                return now
            advance.original, advance.side_effect = advance.side_effect, stop_after_two
            with self.assertRaises(TrainingStopped):
                mrovseg_nb.train(SMALL, SHORT, self.folder/'cut', every=1, progress=False)
        cut = mrovseg_nb.train(SMALL, SHORT, self.folder/'cut', resume=True, progress=False)
        self.assertTrue(torch.equal(cut.mix_weight, whole.mix_weight))

    def test_command_line(self):
        code, out = mrovseg('models', 'toy*')
        self.assertEqual(code, 0)
        self.assertEqual(out.splitlines()[0], 'toy-small: Toy on the CLIP terrarium, untrained')
        self.assertIn('models --clips', out.splitlines()[1])
        settings = ['model=toy-small', 'model.bias=false', 'steps=2', 'batch=2', 'lanes=2', 'workers=0',
                    'warmup=1']
        run, image = self.folder/'run', self.folder/'pond.png'
        self.assertEqual(mrovseg('train', '--out', run, '--set', *settings)[0], 0)
        self.assertEqual(json.loads((run/'config.json').read_text())['method'], 'toy')
        self.assertIsNone(mrovseg_nb.load_model(run).offset)
        code, out = mrovseg('evaluate', '--model', run, '--first', 4)
        self.assertEqual(code, 0)
        self.assertIn('4 of 1024', out)
        Image.fromarray(scene(15, 96).image).save(image)
        code, _ = mrovseg('segment', image, '--model', run, '--classes', '; '.join(CLASSES), '--out',
                          self.folder/'labels.png')
        self.assertEqual((code, read_labels(self.folder/'labels.png')[1]), (0, list(CLASSES)))

    def test_names(self):
        self.assertEqual(mrovseg_nb.list_models('toy-*', licence='mit'), ['toy-small'])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            model = mrovseg_nb.create_model('toy', clip='terrarium', bias=False)
        self.assertEqual(model.config, replace(SMALL, bias=False))
        self.assertIn('Toy on terrarium is untrained', str(caught[0].message))
        with self.assertRaisesRegex(ValueError, "nearest is 'toy-small'"): mrovseg_nb.create_model('toy-smal')
        with self.assertRaisesRegex(ValueError, 'towers? is one of vit'):
            mrovseg_nb.create_model('toy', clip='RN50')

    def test_decay_and_hub(self):
        model = Toy(SMALL)
        with_decay, without = parameter_groups(model, 0.05, TOY.no_decay)
        self.assertEqual((len(with_decay['params']), len(without['params'])), (1, 1))
        self.assertIs(without['params'][0], model.mix_weight)
        model.save_pretrained(self.folder/'hub')
        self.assertIn('license: mit', (self.folder/'hub'/'README.md').read_text())
        self.assertTrue(torch.equal(Toy.from_pretrained(self.folder/'hub').mix_weight, model.mix_weight))
        METHODS.pop('toy')
        with self.assertRaisesRegex(ValueError, "method 'toy', which is not registered"):
            mrovseg_nb.load_model(self.folder/'hub')
        METHODS['toy'] = TOY

    def test_files_name_no_places(self):
        "A tokenizer that open_clip loads from a folder or a repository may run its own code."
        run = self.folder/'run'
        mrovseg_nb.train(SMALL, replace(SHORT, steps=1), run, progress=False)
        description = json.loads((run/'config.json').read_text())
        (run/'open_clip_config.json').write_text('{}')
        for changes in (dict(clip=f'local-dir:{run}'), dict(clip='hf-hub:owner/name'), dict(clip=str(run)),
                        dict(pretrained=str(run/'model.safetensors')), dict(pretrained='hf-hub:owner/name')):
            hostile = description | dict(config=description['config'] | changes)
            (run/'config.json').write_text(json.dumps(hostile))
            with mock.patch('open_clip.create_model') as creates, \
                 mock.patch('open_clip.get_tokenizer') as reads:
                for load in (mrovseg_nb.load_model, mrovseg_nb.Segmenter.from_pretrained,
                             Toy.from_pretrained):
                    with self.assertRaisesRegex(ValueError, 'a file may only name'): load(run)
            self.assertEqual((creates.call_count, reads.call_count), (0, 0), changes)


class SavedModels(unittest.TestCase):
    "Every method is saved and loaded, with a CLIP of a name or of a file."
    def setUp(self):
        register(TOY)
        self.addCleanup(METHODS.pop, 'toy')
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name)
        changed = mock.patch.dict(os.environ, HOME=folder.name, MROVSEG_CACHE=f'{folder.name}/cache')
        changed.start()
        self.addCleanup(changed.stop)
        self.clip_file = self.home/'clip.bin'
        self.write_clip_file('terrarium')
        self.image = scene(15, 96).image

    def write_clip_file(self, clip):
        self.clip_file.write_bytes(shipped('models', f'clip-{clip}', 'model.safetensors').read_bytes())

    def model(self, method, clip='terrarium', **changes):
        with warnings.catch_warnings(action='ignore'):
            return mrovseg_nb.create_model(method, clip=clip, **changes).eval()

    def test_every_method(self):
        for method in METHODS.values():
            small_clip = next(iter(method.presets.values())).clip
            self.write_clip_file(small_clip)
            for pretrained in ('terrarium', '~/clip.bin'):
                with self.subTest(method=method.name, pretrained=pretrained):
                    model = self.model(method.name, small_clip, pretrained=pretrained)
                    model.classes = list(CLASSES)
                    folder = self.home/f'{method.name}-{Path(pretrained).stem}'
                    model.save_pretrained(folder)
                    expected = {'README.md', 'config.json', *['model.safetensors']*method.trains}
                    self.assertEqual({p.name for p in folder.iterdir()}, expected)
                    with warnings.catch_warnings(action='ignore'):
                        again = mrovseg_nb.Segmenter.from_pretrained(f'~/{folder.name}')
                    self.assertIs(type(again.model), method.model)
                    self.assertEqual(again.classes, list(CLASSES))
                    same = mrovseg_nb.Segmenter(model)(self.image, CLASSES).scores
                    self.assertTrue(np.array_equal(again(self.image).scores, same))

    def test_where_the_clip_is_found(self):
        model = self.model('maskclip', pretrained='~/clip.bin')
        save_model(model, '~/dense', CLASSES)
        folder, load = self.home/'dense', mrovseg_nb.load_model
        self.assertNotIn(str(self.home), (folder/'config.json').read_text())
        with self.assertWarnsRegex(UserWarning, f'is read from {self.clip_file}, where it was when'):
            self.assertEqual(load(folder).clip.pretrained, self.clip_file)
        self.clip_file.rename(self.home/'moved.bin')
        with self.assertRaisesRegex(ValueError, "'clip.bin', which was not found.* give its path as clip"):
            load(folder)
        again = mrovseg_nb.Segmenter.from_pretrained(folder, clip_weights='~/moved.bin').model
        self.assertEqual(again.clip.origin, f'{self.home/"moved.bin"}, given as clip_weights')
        (folder/'clip.safetensors').write_bytes((self.home/'moved.bin').read_bytes())
        self.assertEqual(load(folder).clip.origin, f'{folder/"clip.safetensors"}, beside the model')

    def test_a_note_is_not_taken_from_a_file(self):
        "A digest in config.json is no path, and a path in it is refused"
        save_model(self.model('maskclip', pretrained='~/clip.bin'), '~/dense')
        folder = self.home/'dense'
        description = json.loads((folder/'config.json').read_text())
        (self.home/'cache'/'note.txt').write_text(str(self.clip_file))
        (folder/'config.json').write_text(json.dumps(description | dict(clip='../note')))
        with self.assertRaisesRegex(ValueError, 'this machine has no note of it'):
            mrovseg_nb.load_model(folder)
        for path in (self.clip_file, '~/clip.bin', '../clip.bin', 'clip.bin', '/dev/stdin'):
            config = description['config'] | dict(pretrained=str(path))
            (folder/'config.json').write_text(json.dumps(description | dict(config=config)))
            with self.assertRaisesRegex(ValueError, 'may only name a tag'): mrovseg_nb.load_model(folder)

    def test_whole_folder(self):
        "A folder with its CLIP is loaded on a machine that knows nothing"
        model = self.model('toy', pretrained='~/clip.bin')
        save_model(model, self.home/'whole', CLASSES, with_clip=True)
        self.clip_file.unlink()
        with mock.patch.dict(os.environ, MROVSEG_CACHE=str(self.home/'empty')):
            again = mrovseg_nb.load_model(self.home/'whole')
        self.assertTrue(np.array_equal(mrovseg_nb.Segmenter(again)(self.image, CLASSES).scores,
                                       mrovseg_nb.Segmenter(model)(self.image, CLASSES).scores))

    def test_command_line(self):
        "A file that is no CLIP ends a command with one sentence"
        wrong = self.home/'page.pt'
        wrong.write_text('<!DOCTYPE html>')
        image = self.home/'pond.png'
        Image.fromarray(self.image).save(image)
        save_model(self.model('maskclip', pretrained='~/clip.bin'), '~/dense', CLASSES)
        self.assertEqual(mrovseg('segment', image, '--model', '~/dense', '--out', self.home/'a.png')[0], 0)
        wrong.rename(self.clip_file)
        with mock.patch('sys.stderr', StringIO()) as said:
            code, _ = mrovseg('segment', image, '--model', '~/dense', '--out', self.home/'b.png')
        self.assertEqual(code, 2)
        self.assertIn(f"mrovseg: '{self.clip_file}' is a web page, not weights", said.getvalue())
        self.assertFalse((self.home/'b.png').exists())


class OneWay(unittest.TestCase):
    def test_no_name_is_defined_twice(self):
        "Of two functions or classes of one name in a module, the first would be lost in silence."
        for path in sorted(Path(mrovseg_nb.__file__).parent.rglob('*.py')):
            defined = [node.name for node in ast.parse(path.read_text(encoding='utf-8')).body
                       if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.decorator_list]
            self.assertEqual(len(defined), len(set(defined)), path)

    def test_no_other_module_imports_a_method(self):
        "Only methods/, the study of a paper, and the method's own room."
        package = Path(mrovseg_nb.__file__).parent
        for path in sorted(package.rglob('*.py')):
            room = path.relative_to(package).parts[0]
            if room in ('mrovseg', 'methods', 'study'): continue
            for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
                if not isinstance(node, ast.ImportFrom): continue
                names = (node.module or '').split('.')
                own = 'mrovseg' in names[-2:] or names[-2:] == ['methods', 'training_free']
                self.assertFalse(own, f'{path}, line {node.lineno} imports a method')

    def test_import_is_light(self):
        "`import mrovseg_nb` and the help of the command line do not import torch."
        import subprocess, sys
        program = ('import sys, mrovseg_nb; from mrovseg_nb.app.cli import parser; parser(); '
                   "print('torch' in sys.modules)")
        out = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                             env=os.environ).stdout
        self.assertTrue(out.startswith('False'), out)
        for name in mrovseg_nb.__all__: self.assertTrue(callable(getattr(mrovseg_nb, name)), name)

if __name__ == '__main__': unittest.main()
