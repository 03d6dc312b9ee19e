"""Weights as the authors published them: the names and shapes, written out here, of the official code.

SAN: san/model of github.com/MendelXu/SAN. SED: sed/modeling of github.com/xb534/SED. The digests are those of
the state dicts of the official models, built with the official code; the numbers of SAN's trained weights are
those of its training logs. The tensors are random.
"""
import hashlib, io, math, tempfile, unittest, warnings
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np, torch

import mrovseg_nb
from mrovseg_nb.app.cli import main
from mrovseg_nb.clip.weights import clip_shapes
from mrovseg_nb.data.vocabulary import parse_classes
from mrovseg_nb.methods import san, sed
from mrovseg_nb.methods.published_files import PUBLISHED
from mrovseg_nb.methods.published_weights import load_published, recognise
from mrovseg_nb.methods.registry import save_model


def layer(name, *shape):
    "A weight and a bias"
    return {f'{name}.weight': shape, f'{name}.bias': shape[:1]}

def norm(name, width): return layer(name, width)

def inside(prefix, shapes): return {f'{prefix}.{k}': s for k, s in shapes.items()}

def side_adapter(clip_width, heads):
    "SAN's own weights: a ViT of 8 blocks and 240 channels on 40 x 40 patches, 100 queries"
    D, E = 240, 256
    out = dict(query_embed=(1, 100, D), query_pos_embed=(1, 100, D))
    out |= inside('vit_model', dict(pos_embed=(1, 1600, D)) | layer('patch_embed.proj', D, 3, 16, 16))
    for i in range(8):
        block = norm('norm1', D) | layer('attn.qkv', 3*D, D) | layer('attn.proj', D, D) | norm('norm2', D)
        out |= inside(f'vit_model.blocks.{i}', block | layer('mlp.fc1', 4*D, D) | layer('mlp.fc2', D, 4*D))
    for i in range(4):
        fusion = norm('0', clip_width) | layer('1', D, clip_width, 1, 1)
        out |= inside(f'fusion_layers.layer_{i}.input_proj', fusion)
    for mlp, last, conv in (('query_mlp', E, ()), ('pix_mlp', E, (1, 1)), ('attn_mlp', E*heads, (1, 1))):
        for i, (c_in, c_out) in enumerate(((D, E), (E, E), (E, last))):
            out |= layer(f'mask_decoder.{mlp}.layers.{i}', c_out, c_in, *conv)
    return out | layer('mask_decoder.bias_scaling', 1, 1)

def of_san(clip, width, heads, first_half):
    "All names and shapes of a file of SAN"
    out, text = inside('side_adapter_network', side_adapter(width, heads)), {}
    for name, shape in clip_shapes(clip).items():
        parts = name.split('.')
        if parts[0] != 'visual': text[f'ov_classifier.{name}'] = shape
        elif parts[1] == 'transformer':
            i, rest = int(parts[3]), '.'.join(parts[4:])
            half, i = ('clip_visual_extractor', i) if i < first_half else ('clip_rec_head', i - first_half)
            out[f'{half}.resblocks.{i}.{rest}'] = shape
        elif parts[1] in ('ln_post', 'proj'): out['clip_rec_head.' + '.'.join(parts[1:])] = shape
        else: out['clip_visual_extractor.' + '.'.join(parts[1:])] = shape
    text['ov_classifier.bg_embed'] = (1, text['ov_classifier.text_projection'][1])
    return out | text | {'ov_classifier.attn_mask': (77, 77), 'criterion.empty_weight': (172,)}

def of_sed(clip, res4):
    "All names and shapes of a file of SED"
    out = layer('conv1', 128, 80, 7, 7)
    for i, (before, now) in enumerate(((80, 32), (32, 16), (16, 8))):
        out |= layer(f'decoder_guidance_projection.{i}.0', now, res4//2**i, 3, 3)
        out[f'decoder_corr_guidance_projection.{i}.0.weight'] = (before, now, 2, 2)      # transposed
        out[f'decoder_corr_guidance_projection.{i}.0.bias'] = (now,)
    for i, (c, c_out, skip) in enumerate(((128, 64, 32), (64, 32, 16), (32, 16, 8)), 1):
        up = {'up.weight': (c, c - skip, 2, 2), 'up.bias': (c - skip,)}
        conv = {'conv.double_conv.0.weight': (c_out, c + skip, 3, 3)}
        conv['conv.double_conv.3.weight'] = (c_out, c_out, 3, 3)
        conv |= norm('conv.double_conv.1', c_out) | norm('conv.double_conv.4', c_out)
        places = dict(gamma=(c,)) | layer('dwconv', c, 1, 9, 9) | norm('norm', c)
        places |= layer('pwconv1', 4*c, c) | layer('pwconv2', c, 4*c)
        classes = layer('attention.q', c, c) | layer('attention.k', c, c) | layer('attention.v', c, c)
        classes |= layer('MLP.0', 4*c, c) | layer('MLP.2', c, 4*c) | norm('norm1', c) | norm('norm2', c)
        out |= inside(f'decoder{i}', up | conv | inside('cnext', places) | inside('attention', classes))
    for name, c in dict(head0=128, head1=64, head2=32, head=16).items(): out |= layer(name, 1, c, 3, 3)
    parts = inside('transformer', out) | inside('clip_model', clip_shapes(clip))
    return inside('sem_seg_head.predictor', parts)

SHAPES = {
    'san-vit-b-16': lambda: of_san('ViT-B-16', 768, 12, 9),
    'san-vit-l-14': lambda: of_san('ViT-L-14-336', 1024, 16, 18),
    'sed-convnext-b': lambda: of_sed('convnext_base_w_320', 512),
    'sed-convnext-l': lambda: of_sed('convnext_large_d_320', 768)}

DIGESTS = {    # of the names and shapes of the official state dicts, computed with the official code
    'san-vit-b-16': '47c83003a13e4e4c', 'san-vit-l-14': '56579ee273baabfb',
    'sed-convnext-b': 'c8ce16066a3e8c7e', 'sed-convnext-l': 'c4cf7249fecc40fd'}

TRAINED = 'side_adapter_network.', 'ov_classifier.bg_embed', 'clip_visual_extractor.positional_embedding'

def digest(shapes):
    lines = '\n'.join(f'{k} {tuple(s)}' for k, s in sorted(shapes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]

def drawn(shapes, seed=0):
    "Random tensors; each has numbers of its own"
    g = torch.Generator().manual_seed(seed)
    return {k: 0.02*torch.randn(s, generator=g) for k, s in shapes.items()}

def checkpoint(tensors):
    "What detectron2 writes, with numbers and arrays of numpy"
    optimizer = dict(state={0: dict(step=torch.tensor(3.), exp_avg=torch.zeros(2))},
                     param_groups=[dict(lr=np.float64(1e-4), params=[0])])
    return dict(model=tensors, optimizer=optimizer, iteration=np.int64(59999),
                scheduler=dict(base_lrs=[np.float64(1e-4)], last_epoch=60000), seen=np.arange(3))


class Names(unittest.TestCase):
    def test_shapes_are_those_of_the_official_models(self):
        for name, shapes in SHAPES.items():
            with self.subTest(name):
                shapes, file = shapes(), PUBLISHED[name]
                self.assertEqual(digest(shapes), DIGESTS[name])
                numbers = sum(map(math.prod, shapes.values()))
                self.assertEqual((len(shapes), numbers), (file.tensors, file.parameters))
                tensors = {k: torch.empty(s, device='meta') for k, s in shapes.items()}
                found, names = recognise(tensors, '')
                self.assertEqual((found, list(names)), (file, list(shapes)))

    def test_trained_weights_of_san_are_those_of_its_logs(self):
        for name, total in (('san-vit-b-16', 8_370_866), ('san-vit-l-14', 9_321_650)):
            trained = {k: s for k, s in SHAPES[name]().items() if k.startswith(TRAINED)}
            self.assertEqual((len(trained), sum(map(math.prod, trained.values()))), (139, total))

    def test_every_name_is_known(self):
        "The table of names of each method has exactly the published names, with as many numbers."
        for name in ('san-vit-b-16', 'sed-convnext-b'):
            with self.subTest(name):
                model, code = untrained(name), dict(san=san, sed=sed)[name[:3]]
                official, shapes = code.official_names(model), SHAPES[name]()
                sizes = {official[k]: p.numel() for k, p in model.named_parameters()}
                none = {'criterion.empty_weight', 'ov_classifier.attn_mask'}
                wanted = {k: math.prod(s) for k, s in shapes.items() if k not in none}
                self.assertEqual(sizes, wanted)


def untrained(name):
    "A model of published size with random weights"
    with warnings.catch_warnings(action='ignore'):
        return mrovseg_nb.create_model(name, pretrained=None).eval()

def image(height=48, width=64):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Files(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(1)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)

    def check(self, name, unused):
        "Write a file, load it in all ways, and compare every tensor"
        tensors, path = drawn(SHAPES[name]()), self.folder/'downloaded.pth'
        torch.save(checkpoint(tensors), path)
        model, report = load_published(path)
        self.assertEqual((report.file.model, set(report.unused), report.missing), (name, unused, {}))
        self.assertEqual(set(report.used), set(tensors) - unused)
        self.assertEqual(len(set(report.used.values())), len(list(model.parameters())))
        self.assertEqual(report.others, ('optimizer', 'iteration', 'scheduler', 'seen'))
        weights = dict(model.named_parameters())
        for theirs, ours in report.used.items():
            self.assertTrue(torch.equal(weights[ours].flatten(), tensors[theirs].flatten()), theirs)

        path.unlink()
        save_model(model, self.folder/'saved')
        again = mrovseg_nb.load_model(self.folder/'saved')
        for (k, a), b in zip(model.named_parameters(), again.parameters(), strict=True):
            self.assertTrue(torch.equal(a, b), k)
        model.crop = 96                             # a small image, and random text: the network itself runs
        text = torch.nn.functional.normalize(torch.randn(model.text_shape(3)), dim=-1)
        with torch.inference_mode(): scores, = model.image_scores(torch.rand(1, 3, 96, 64), text)
        rows = scores.rows((48, 32), range(48))
        self.assertEqual((rows.shape, bool(rows.isfinite().all())), ((3, 48, 32), True))

    def test_san(self): self.check('san-vit-b-16', {'criterion.empty_weight', 'ov_classifier.attn_mask'})

    def test_sed(self): self.check('sed-convnext-b', set())

    def test_segmenter(self):
        "A photograph and words, by the file's name alone."
        tensors = drawn(SHAPES['san-vit-b-16']())
        torch.save(checkpoint(tensors), self.folder/'san_vit_b_16.pth')
        segmenter = mrovseg_nb.Segmenter.from_pretrained(self.folder/'san_vit_b_16.pth', device='cpu')
        segmenter.model.crop = 96
        result = segmenter(image(), 'cat; sofa, couch; window')
        self.assertEqual((result.labels.shape, result.scores.shape), ((48, 64), (3, 48, 64)))

        with redirect_stdout(io.StringIO()) as said:
            self.assertEqual(main(['models', str(self.folder/'san_vit_b_16.pth')]), 0)
        self.assertIn('used: 440 of 442 tensors\n', said.getvalue())

    def test_without_clip(self):
        "The weights of CLIP are left out, and given as a file."
        for name, own, replaced in (('san-vit-b-16', TRAINED, 'visual.positional_embedding'),
                                    ('sed-convnext-b', ('sem_seg_head.predictor.transformer.',), '')):
            with self.subTest(name):
                clip = PUBLISHED[name].clip
                tensors, clip_file = drawn(SHAPES[name]()), self.folder/'clip.pt'
                tensors = {f'module.{k}': t for k, t in tensors.items() if k.startswith(own)}
                torch.save(tensors, self.folder/'own.pth')
                of_clip = drawn(clip_shapes(clip), seed=1)
                torch.save(of_clip, clip_file)
                with warnings.catch_warnings(action='ignore'):
                    model, report = load_published(self.folder/'own.pth', clip_file)
                self.assertEqual((set(report.used), report.unused), (set(tensors), {}))
                for k, p in model.clip.model.state_dict().items():
                    if k != replaced: self.assertTrue(torch.equal(p, of_clip[k]), k)


class Refused(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        def of(name, beginning):
            return drawn({k: s for k, s in SHAPES[name]().items() if k.startswith(beginning)})
        cls.san = of('san-vit-b-16', TRAINED)
        cls.sed = of('sed-convnext-b', 'sem_seg_head.predictor.transformer.')

    def refused(self, content, *sentences, **options):
        torch.save(content, self.folder/'some.pth')
        with self.assertRaises(ValueError) as caught, warnings.catch_warnings(action='ignore'):
            mrovseg_nb.load_model(self.folder/'some.pth', **options)
        for s in ('some.pth', *sentences): self.assertIn(s, str(caught.exception))
        self.assertNotIn('\n', str(caught.exception))

    def test_programs(self):
        "What a file asks for is not called, wherever in the file it is."
        ran = self.folder/'ran'
        class Program:
            def __reduce__(self): return ran.touch, ()
        class Evaluated:
            def __reduce__(self): return eval, (f'open({str(ran)!r}, "w")',)
        class State:
            def __reduce__(self): return np.ndarray, ((1,),), Program()
        objects = np.array([Program()], dtype=object)
        for program in (Program(), Evaluated(), State(), objects, torch.nn.Linear(2, 2)):
            inside = self.san | dict(x=program)
            for content in (program, dict(model=self.san, trainer=program), dict(model=inside)):
                self.refused(content, 'could run any program')
        self.assertFalse(ran.exists())

    def test_sizes_and_methods(self):
        mark = 'side_adapter_network.mask_decoder.attn_mlp.layers.2.weight'
        self.refused(self.san | {mark: torch.zeros(2048, 256, 1, 1)}, 'is a SAN of another size',
                     '(2048, 256, 1, 1)', 'san_vit_large_14.pth')
        wide = 'side_adapter_network.fusion_layers.layer_0.input_proj.1.weight'
        self.refused(self.san | {wide: torch.zeros(240, 1024, 1, 1)}, 'is a SAN as in san_vit_b_16.pth, but',
                     '1024')
        self.refused(drawn(dict(a=(2, 3))), 'holds no published weights', 'the first is a')
        clip = {k: torch.zeros(()).expand(s) for k, s in clip_shapes('ViT-B-16').items()}
        self.refused(clip, 'it is a CLIP, ViT-B-16')
        self.refused(dict(model=dict(step=3)), 'holds no weights')
        torch.save(self.san, self.folder/'some.pth')
        with warnings.catch_warnings(action='ignore'):
            with self.assertRaisesRegex(ValueError, 'is a SAN, not a SED'):
                sed.SED.from_pretrained(self.folder/'some.pth')

    def test_missing_names_are_listed(self):
        for tensors, gone in ((self.san, ('side_adapter_network.query_embed', 'ov_classifier.bg_embed')),
                              (self.sed, ('sem_seg_head.predictor.transformer.head.bias',
                                          'sem_seg_head.predictor.transformer.decoder2.cnext.gamma'))):
            self.refused({k: t for k, t in tensors.items() if k not in gone}, *gone)

    def test_files_that_are_not_there(self):
        for name in ('san_vit_b_16.pth', 'sed-convnext-l', 'Mendel192/san'):
            with self.assertRaisesRegex(ValueError, 'published weights, .*download https'):
                mrovseg_nb.load_model(name)
        with self.assertRaisesRegex(ValueError, 'There are no weights'):
            torch.save(self.san, self.folder/'some.pth')
            mrovseg_nb.load_model(self.folder/'some.pth', clip_weights=self.folder/'none.pt')


if __name__ == '__main__': unittest.main()
