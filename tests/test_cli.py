"""Every command of `mrovseg` and its wrong forms: a mistake is one sentence, exit code 2, under a second and
without torch; and the first day of a user with twelve images in a folder, by the examples of --help.

    python -m unittest tests.test_cli
"""
import io, json, os, re, shlex, shutil, signal, subprocess, sys, tempfile, time, unittest
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from resource import RLIMIT_FSIZE, RUSAGE_CHILDREN, getrusage, setrlimit
from unittest import mock

from PIL import Image

from mrovseg_nb.app.arguments import parse_arguments
from mrovseg_nb.app.cli import VERBS, main, parser

# One wrong command a line, and after `=>` words of its sentence. `write_files` makes the files.
WRONG = '''
demmo => no verb 'demmo', the nearest is 'demo'
--versoin => no option '--versoin', the nearest is '--version'
demo --scenes many => --scenes takes a whole number
demo --scenes 0 => --scenes takes a whole number, at least 1
demo --seed -1 => --seed takes a whole number, at least 0
demo --sceens 3 => no option '--sceens', the nearest is '--scenes'
demo extra => 'extra' is one argument too many
demo --out classes.txt => a file is in the way
demo --out /proc/demo => Nothing can be written to /proc/demo
demo --out => --out expects one argument
segment photo.png --model downloads/san_vit_b_16.pth => san_vit_b_16.pth (about 631 MB): download https
segment => The following arguments are required: IMAGE
segment nothing.png => There is no file nothing.png
segment images nothing.png => There is no file nothing.png
segment 'nothing/*.png' => No file matches nothing/*.png
segment empty => There are no images in empty
segment images/0.png --out images/0.png => would replace the image images/0.png
segment images/0.png --out labels.jpg => Labels are saved as PNG
segment images --out labels.png => give a folder
segment images/0.png --out classes.txt => a file is in the way
segment images/0.png --out /proc/labels => Nothing can be written to /proc/labels
segment images/0.png twins/0.jpg --out labels => would both be written to labels/0_labels.png
segment images/0.png --classes '' => There are no classes
segment images/0.png --classes 'a; a' => a
segment images/0.png --background-words '' => --background-words takes different words
segment images/0.png --classes a --background-words ';' => --background-words takes different words
segment images/0.png --classes 'a; b' --background-words 'B' => Every background word is also a class
segment images/0.png --classes a --method maskklip => without training 'maskklip', the nearest is 'maskclip'
segment images/0.png --classes a --method mrovseg => a trained model is named with --model
segment images/0.png --classes a --pretrained nothing.pt => There are no weights 'nothing.pt'
segment images/0.png => Say what to look for: --classes
segment images/0.png --classes 'cat; sofa' => There are no weights of a CLIP on this machine
segment images/0.png --classes 'cat; sofa' => fetch 'openai' of ViT-B-16-quickgelu (about 598 MB
segment images/0.png --classes 'cat; sofa' => add --clip ViT-B-16-quickgelu --pretrained FILE
segment images/0.png --classes 'cat; sofa' => --model mrovseg-terrarium, which knows only Terrarium's world
segment images/0.png --classes 'cat; sofa' --clip ViT-L-14 => There are no weights of ViT-L-14 on
segment images/0.png --classes 'cat; sofa' --clip ViT-S-32-alt => There are no published weights
segment images/0.png --classes 'cat; sofa' --clip ViT-B16 => There is no CLIP 'ViT-B16'
segment images/0.png --classes 'cat; sofa' --pretrained opnai => There are no weights 'opnai'
segment images/0.png --classes 'cat; sofa' --pretrained openai => give the path of the file
segment images/0.png --classes 'cat; sofa' --clip ViT-B-16 --pretrained openai => ask for 'ViT-B-16-quickgelu'
segment images/0.png --classes a --clip terrarium --model mrovseg-terrarium => leave out --clip
segment images/0.png --classes a --clip-weights classes.txt => without --model give --pretrained
segment images/0.png --classes nothing.txt => no file of classes nothing.txt
segment images/0.png --model mrovseg-terarium => the nearest of those
segment images/0.png --model images => the folder has no config.json
segment images/0.png --model cut => the training in this folder has not ended
segment images/0.png --device gpu => --device takes cpu
segment images/0.png --clip-weights nothing.pt => There is no file nothing.pt
segment images/0.png --classes a --format voc => There is no format 'voc': choose from png, rle, labelme, coco
segment images/0.png --classes a --format coco --out objects.json => objects.json is there and no result of
segment images/0.png --classes a --format rle --out a.png => Labels are saved as JSON
segment images --classes a --format labelme --out a.json => give a folder
segment images/0.png --classes a --template photo => No template set is called 'photo'
segment images/0.png --classes a --template 'a photo' => has no place for the class
segment images/0.png --classes a --threshold 2 => --threshold takes a probability from 0 to 1
segment images/0.png --classes a --temperature 0 => --temperature takes a number above 0
segment images/0.png --on-error raise => --on-error takes skip or stop
segment images/0.png --clases a => the nearest is '--classes'
segment https://example.org/a.png => loaded only with --allow-url
train --epochs 3 => no option '--epochs'
train --recipe terarium => no recipe 'terarium', the nearest is 'terrarium'
train --recipe own-data => give --images, --masks and --classes
train --set stepps=3 => has no field 'stepps', the nearest is 'steps'
train --set steps => sets nothing: write field=value
train --set lr=fast => lr must be a number, not 'fast'
train --set steps=0 => steps must be at least 1
train --steps 0 => --steps takes a whole number, at least 1
train --every 0 => --every takes a whole number, at least 1
train --every often => --every takes a whole number
train --from mrovseg-terarium => no trained model 'mrovseg-terarium'
train --from sed-convnext-b => sed_model_base.pth (about 723 MB): download https
train --clip-weights classes.txt => is for the model of --from
train --from mrovseg-terrarium --clip-weights images => There is no file images
train --device gpu => --device takes cpu
train --images images => also give --masks and --classes
train --images images --masks masks => also give --classes
train --masks masks --classes classes.txt => also give --images
train --images nowhere --masks masks --classes classes.txt => There is no folder nowhere
train --images images --masks nowhere --classes classes.txt => There is no folder nowhere
train --images images --masks masks --classes nowhere.txt => nowhere.txt
train --images images --masks masks --classes 'a; a' => a
train --images images --masks empty --classes classes.txt => empty
train --images fewer --masks masks --classes classes.txt --validation 0.2 => 1 images cannot be split
train --images images --masks masks --classes classes.txt --validation 1 => --validation takes a share
train --images images --masks masks --classes classes.txt --out classes.txt => a file is in the way
train --images images --masks masks --classes classes.txt --out /dev/full => a file is in the way
train --images images --masks masks --classes classes.txt --out cut => holds a run already
train --images images --masks masks --classes classes.txt --on-error stop => takes raise or skip
train --coco objects.json --masks masks => leave out --masks
train --coco classes.txt => classes.txt
train --background ground => also give --coco
train --images images --masks masks --classes classes.txt --background ground => leave out --background
train --coco nowhere.json => There is no file nowhere.json
train --coco objects.json --images empty => 12 images are missing
train --shards shards --classes classes.txt => leave out --classes
train --shards images => has no folder train
train --shards nowhere => There is no folder nowhere
train --validation 0.1 => leave out --validation
evaluate --model mine => mine was trained on your own images
evaluate --model runs/nothing => There is no trained model 'runs/nothing'
evaluate --benchmark ade20k => no benchmark 'ade20k', the nearest is 'ade20k-
evaluate --benchmark voc-21 => voc-21 is not on this machine
evaluate --benchmark voc-21 --root images => voc-21 is not on this machine
evaluate --benchmark voc-21 --vocabulary clip => no vocabulary 'clip'
evaluate --benchmark terrarium --vocabulary san => no vocabulary 'san'
evaluate --split tests => no split 'tests'
evaluate --split all => no split 'all'
evaluate --source web => --source takes disk or shards or hub
evaluate --protocol 640 => no protocol '640'
evaluate --also speed => no measure 'speed'
evaluate --thresholds sam => no set of thresholds 'sam'
evaluate --template vild-14 => No template set is called 'vild-14'
evaluate --template 'a {} and {}' => a place that is not
evaluate --threshold -0.1 => --threshold takes a probability from 0 to 1
evaluate --temperature hot => --temperature takes a number above 0
evaluate --background-words '' => --background-words takes different words
evaluate --perturb synonym => no perturbation 'synonym', the nearest is 'synonyms'
evaluate --draws 3 => Without --perturb leave out --draws
evaluate --perturb synonyms --draws 0 => --draws takes a whole number, at least 1
evaluate --perturb synonyms --distractors 3 => Without --perturb distractors leave out --distractors
evaluate --perturb template --also boundary => With --perturb leave out --also
evaluate --perturb template --seed -1 => --seed takes a whole number, at least 0
evaluate --first 0 => --first takes a whole number, at least 1
evaluate --batch 0 => --batch takes a whole number, at least 1
evaluate --out classes.txt => a file is in the way
evaluate --out /proc/results => Nothing can be written to /proc/results
evaluate --images images --masks masks => also give --classes
evaluate --images images --masks masks --classes classes.txt --benchmark voc-21 => leave out --benchmark
evaluate --images images --masks masks --classes classes.txt --split test => A part is train
evaluate --coco objects.json --root images => leave out --root
evaluate --clip-weights nothing.pt => There is no file nothing.pt
evaluate --device gpu => --device takes cpu
benchmarks --split test => --split takes train or val
benchmarks --rot images => the nearest is '--root'
convert --out new => Say what
convert voc-22 --out new => no benchmark 'voc-22'
convert voc-21 => The following arguments are required: --out
convert voc-21 --out new => voc-21 is not on this machine
convert voc-21 --out classes.txt => a file is in the way
convert voc-21 --source shards --out new => No shards
convert voc-21 --coco objects.json --out new => not both
convert --shards images --out new => give --images or --coco
convert --coco objects.json --split val --out new => leave out --split
recipes cocostuff => no recipe 'cocostuff'
ablate => --list, --table 5, or --all
ablate --table 9 => no table '9'
ablate --table 5 --recipe ablatoin => no recipe 'ablatoin', the nearest is 'ablation'
ablate --all --jobs 0 => --jobs takes a whole number, at least 1
models downloads/sed_model_base.pth => sed_model_base.pth (about 723 MB): download https
models downloads/other.pth => There is no file downloads/other.pth
models --clips 'sam-*' => No CLIP of open_clip has a name like 'sam-*'
train-clip => The following arguments are required: --out
train-clip --out classes.txt => a file is in the way
train-clip --out new --clip vit => no small CLIP 'vit'
'''

# Walks a list of commands in one fresh process; of each: exit code, stderr, seconds of the processor, and
# whether it imported torch.
WALK = '''
import contextlib, io, json, sys, time
from mrovseg_nb.app.cli import main
for argv in json.load(sys.stdin):
    err, start, before = io.StringIO(), time.process_time(), 'torch' in sys.modules
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try: code = main(argv)
        except SystemExit as e: code = e.code
        except BaseException as e: code = repr(e)
    torch = 'torch' in sys.modules and not before
    print(json.dumps([code, err.getvalue(), time.process_time() - start, torch]), flush=True)
'''

# Small settings for the right forms: what is tested is the way, not the model.
SMALL = ['--set', 'batch=2', 'workers=0', 'loss.points=64', 'model.blocks=2', 'model.queries=8',
         'model.fusion_layers=0,2,3,4', 'model.decoder_layers=2,3,4']


def write_files(here):
    "Twelve images of different sizes with PNG masks, the same as COCO; and what wrong commands need."
    import numpy as np
    from mrovseg_nb.data.object_masks import encode_mask
    from mrovseg_nb.data.terrarium import scene
    for name in ('images', 'masks', 'empty', 'twins', 'fewer', 'mine', 'cut/checkpoints/step-00000001'):
        (here/name).mkdir(parents=True)
    images, objects = [], []
    for i in range(12):
        drawn = scene(i, (48 + 5*i, 90 - 3*i))
        labels = (drawn.labels % 3).astype(np.uint8)
        Image.fromarray(drawn.image).save(here/'images'/f'{i}.png')
        Image.fromarray(labels).save(here/'masks'/f'{i}.png')
        images.append(dict(id=i, file_name=f'{i}.png', height=labels.shape[0], width=labels.shape[1]))
        for k in np.unique(labels).tolist():
            objects.append(dict(id=len(objects), image_id=i, category_id=k, iscrowd=0,
                                segmentation=encode_mask(labels == k)))
    names = ('grass', 'water', 'sand')
    (here/'classes.txt').write_text('\n'.join(names))
    categories = [dict(id=k, name=name) for k, name in enumerate(names)]
    content = dict(images=images, annotations=objects, categories=categories)
    (here/'objects.json').write_text(json.dumps(content))
    Image.fromarray(scene(15, 96).image).save(here/'photo.png')
    Image.fromarray(scene(15, 96).image).save(here/'twins'/'0.jpg')
    Image.fromarray(drawn.image).save(here/'fewer'/'11.png')
    for name in ('config.json', 'images.txt'): (here/'mine'/name).write_text('{}')

def environment():
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get('PYTHONPATH', '')])
    return os.environ | dict(HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1', MROVSEG_DATA='', DETECTRON2_DATASETS='',
                             PYTHONPATH=path)

def without_weights(here):
    "The environment of a machine that has never downloaded a CLIP"
    return environment() | dict(HF_HUB_CACHE=str(here/'no'/'hub'), HOME=str(here/'no'))

def mrovseg(here, *argv):
    "The exit code, stdout and stderr of a command in a process of its own"
    done = subprocess.run([sys.executable, '-m', 'mrovseg_nb', *map(str, argv)], cwd=here, env=environment(),
                          capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr

def examples(verb):
    "The commands at the end of a verb's help"
    return [shlex.split(line)[1:] for line in VERBS[verb].examples.strip().splitlines()]

def run_main(here, *argv):
    "The exit code, stdout and stderr of a command in this process"
    out, err = io.StringIO(), io.StringIO()
    with chdir(here), redirect_stdout(out), redirect_stderr(err): code = main(list(map(str, argv)))
    return code, out.getvalue(), err.getvalue()


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.here = Path(cls.folder.name)
        write_files(cls.here)

    def test_wrong_forms(self):
        lines = [re.split(r' +=> ', line) for line in WRONG.strip().splitlines()]
        commands = [shlex.split(command) for command, _ in lines]
        before = sorted(p.relative_to(self.here) for p in self.here.rglob('*'))
        walk = subprocess.run([sys.executable, '-c', WALK], input=json.dumps(commands), text=True,
                              cwd=self.here, env=without_weights(self.here), capture_output=True)
        results = [json.loads(line) for line in walk.stdout.splitlines()]
        self.assertEqual(len(results), len(lines), walk.stderr)
        for (command, words), (code, said, seconds, torch) in zip(lines, results):
            with self.subTest(command):
                self.assertEqual(code, 2, said)
                said = [line for line in said.splitlines() if not line.startswith('note: ')]
                self.assertEqual(len(said), 1, said)
                self.assertTrue(said[0].startswith('mrovseg: ') and words in said[0], said[0])
                self.assertFalse(torch, 'torch was imported')
                self.assertLess(seconds, 1)
        after = sorted(p.relative_to(self.here) for p in self.here.rglob('*'))
        self.assertEqual(after, before)                      # nothing is left behind
        self.assertEqual({command[0] for command in commands if command[0] in VERBS}, set(VERBS))

    def test_whole_process(self):
        "A wrong option, a bare command and --version in processes of their own."
        before = getrusage(RUSAGE_CHILDREN)
        code, out, err = mrovseg(self.here, 'train', '--epochs', '3')
        after = getrusage(RUSAGE_CHILDREN)                   # of the processor: other processes do not count
        self.assertLess(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
        self.assertEqual((code, out, len(err.splitlines())), (2, '', 1))
        code, out, err = mrovseg(self.here)
        self.assertEqual((code, err), (1, ''))
        self.assertIn('evaluate', out)
        self.assertEqual(mrovseg(self.here, '--version')[0], 0)

    def test_examples_are_accepted(self):
        top, verbs = parser()
        for name in VERBS:
            for example in examples(name):
                with self.subTest(example), mock.patch('mrovseg_nb.methods.model_folders.local_model_folder'):
                    self.assertEqual(parse_arguments(top, verbs, example).run, VERBS[name].run)

    def test_photographs(self):
        "Three photographs by a method without training, with the random weights of a real CLIP in a file."
        import open_clip, torch
        from safetensors.torch import save_file
        from mrovseg_nb.app.default_model import DEFAULT_METHOD
        from mrovseg_nb.app.segmentation import read_labels
        from mrovseg_nb.basics.files import shipped
        from mrovseg_nb.methods.registry import METHODS
        torch.manual_seed(0)
        weights = open_clip.create_model('ViT-S-32-alt').half().state_dict()
        save_file({k: w.contiguous() for k, w in weights.items()}, self.here/'clip.safetensors')
        photos = [shipped('samples', f'{name}.jpg') for name in ('cat', 'coffee', 'rocket')]
        words = 'cat, kitten; cup; spoon; wood; rocket; sky'
        asked = ['--classes', words, '--clip', 'ViT-S-32-alt', '--pretrained', 'clip.safetensors',
                 '--device', 'cpu', '--picture', '--out', 'maps']
        code, out, err = run_main(self.here, 'segment', *photos, *asked)
        self.assertEqual((code, out.splitlines()[-1]), (0, '3 done, 0 finished before, 0 failed'), err)
        self.assertIn(f'note: The model is {METHODS[DEFAULT_METHOD].title} ({DEFAULT_METHOD}) on the CLIP '
                      'ViT-S-32-alt with the weights clip.safetensors', err)
        self.assertNotIn('random weights', err)              # the file is not None: it may be anything
        for photo in photos:
            labels, classes = read_labels(self.here/'maps'/f'{photo.stem}_labels.png')
            self.assertEqual(classes, ['cat', 'cup', 'spoon', 'wood', 'rocket', 'sky'])
            with Image.open(photo) as image: width, height = image.size
            self.assertEqual(labels.shape, (height, width))
            self.assertTrue(0 <= labels.min() <= labels.max() < 6)
            with Image.open(self.here/'maps'/f'{photo.stem}_picture.png') as picture:
                self.assertGreater(picture.width, width)     # image and labels side by side
        code, out, err = run_main(self.here, 'segment', *photos, *asked)
        self.assertEqual((code, out.splitlines()[-1]), (0, '0 done, 3 finished before, 0 failed'))
        (self.here/'photos').mkdir()
        shutil.copy(photos[0], self.here/'photos')
        (self.here/'photos'/'cut.jpg').write_bytes(photos[1].read_bytes()[:9000])
        code, out, err = run_main(self.here, 'segment', 'photos', *asked[:-1], 'maps2', '--method',
                                  DEFAULT_METHOD)
        self.assertEqual((code, out.splitlines()[-1]), (1, '1 done, 0 finished before, 1 failed'))
        code, out, err = run_main(self.here, 'segment', photos[0], *asked, '--method', 'mrovseg')
        self.assertEqual((code, out), (2, ''))
        self.assertIn('a trained model is named with --model', err)

    def test_terrarium_says_what_it_has_not_read(self):
        from mrovseg_nb.basics.files import shipped
        asked = ['segment', shipped('samples', 'cat.jpg'), '--model', 'mrovseg-terrarium', '--overwrite',
                 '--classes']
        code, _, err = run_main(self.here, *asked, 'cat; wood; cloth')
        self.assertEqual(code, 0)
        self.assertIn("knows only the words of Terrarium's drawings, and not 'cat', 'cloth': what", err)
        self.assertNotIn('note', run_main(self.here, *asked, 'red star; wood')[2])

    def test_stopped_and_full_disk(self):
        "One COCO file for 40 images: after Ctrl-C those that were done, on a full disk the old ones."
        from mrovseg_nb.app.result_formats import read_coco
        many, out = self.here/'many', self.here/'found'
        many.mkdir()
        for i in range(40): shutil.copy(self.here/'images'/f'{i % 12}.png', many/f'{i:02}.png')
        asked = ['segment', 'many', '--model', 'mrovseg-terrarium', '--classes', 'red star; grass; water',
                 '--format', 'coco', '--out', 'found']
        command = [sys.executable, '-m', 'mrovseg_nb', *asked]
        # --picture, because a picture shows when an image is done
        stopped = subprocess.Popen([*command, '--picture'], cwd=self.here, env=environment(), text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        deadline = time.time() + 100    # (a process in the background may have been told to ignore Ctrl-C)
        while len([*out.glob('*_picture.png')]) < 2 and stopped.poll() is None:
            self.assertLess(time.time(), deadline)
            time.sleep(0.01)
        stopped.send_signal(signal.SIGINT)
        err = stopped.communicate()[1]
        self.assertEqual((stopped.returncode, err.splitlines()[-1]), (130, 'mrovseg: stopped'), err)
        self.assertEqual([*out.glob('.*')], [])                              # nothing half written
        finished = read_coco(out/'coco.json')
        self.assertTrue(1 <= len(finished) < 40, len(finished))

        before = (out/'coco.json').read_bytes()
        size = len(before)//2                                                # of the largest file
        full = subprocess.run(command, cwd=self.here, env=environment(), text=True, capture_output=True,
                              preexec_fn=lambda: setrlimit(RLIMIT_FSIZE, (size, size)))
        self.assertEqual((full.returncode, full.stderr.splitlines()[-1]), (2, 'mrovseg: File too large'))
        self.assertEqual((out/'coco.json').read_bytes(), before)
        self.assertEqual([*out.glob('.*')], [])

        code, said, err = run_main(self.here, *asked)
        n = len(finished)
        last = f'{40 - n} done, {n} finished before, 0 failed'
        self.assertEqual((code, said.splitlines()[-1]), (0, last), err)
        found = read_coco(out/'coco.json')
        self.assertEqual(len(found), 40)
        for name, (labels, _) in finished.items(): self.assertTrue((labels == found[name][0]).all())

    def test_first_day(self):
        "Train, evaluate, segment by the examples of --help: files, COCO, shards; killed, extended, tuned."
        here = self.here
        def run(argv, *more):
            code, out, err = run_main(here, *argv, *more)
            self.assertEqual(code, 0, f'{argv}\n{out}\n{err}')
            return out
        train, evaluate, segment, convert = map(examples, ('train', 'evaluate', 'segment', 'convert'))

        command = [sys.executable, '-m', 'mrovseg_nb', *train[0], '--steps', '6', '--every', '1', *SMALL]
        silent = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        killed = subprocess.Popen(command, cwd=here, env=environment(), start_new_session=True, **silent)
        deadline = time.time() + 100
        while killed.poll() is None and not (here/'runs/mine/checkpoints/step-00000002').exists():
            self.assertLess(time.time(), deadline)
            time.sleep(0.05)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        self.assertFalse((here/'runs'/'mine'/'config.json').exists())
        out = run(train[1], '--steps', '6', '--every', '1', *SMALL)          # --resume
        record = json.loads((here/'runs'/'mine'/'record.json').read_text())
        self.assertEqual((record['steps'], record['validation']['images']), (6, 2))
        following = [shlex.split(line) for line in out.splitlines() if line.startswith('  mrovseg ')]
        self.assertEqual([words[1] for words in following], ['evaluate', 'segment'])

        out = run(evaluate[0])
        self.assertIn('val: 2 of 12 images, not trained on', out)
        self.assertTrue((here/'results'/'index.html').exists())
        run(segment[2])
        self.assertTrue((here/'photo_labels.png').exists() and (here/'photo_picture.png').exists())
        run(segment[3])
        self.assertTrue((here/'labels.png').exists())
        self.assertIn('12 done', run(segment[4]))
        self.assertIn('12 finished before', run(segment[4]))
        self.assertIn('12 done', run(segment[5]))                            # COCO
        self.assertIn('12 finished before', run(segment[5]))
        self.assertEqual(len(json.loads((here/'objects'/'coco.json').read_text())['images']), 12)
        self.assertIn('one template of a set', run(evaluate[0], '--perturb', 'template', '--draws', '1'))

        run(train[2], '--steps', '2', '--no-evaluate', *SMALL)               # COCO
        self.assertIn('water', run(evaluate[1]))
        self.assertEqual([line.split()[0] for line in run(convert[0]).splitlines()], ['10', '2'])
        run(train[3], '--steps', '2', *SMALL)                                # shards
        self.assertIn('val: 2 images', run(evaluate[2]))
        out = run(train[4], '--steps', '2', '--set', 'batch=2', 'workers=0') # fine-tuned
        self.assertIn('novel', out)
        out = run(train[1], '--steps', '8', '--every', '1', *SMALL)          # a finished run is extended
        self.assertEqual(json.loads((here/'runs'/'mine'/'record.json').read_text())['steps'], 8)


if __name__ == '__main__': unittest.main()
