"""The drawing of the network: the SVG is what its source makes, its shapes are those of a running model.

    python -m unittest tests.test_drawing
"""
import re, sys, unittest
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

DOCS = Path(__file__).resolve().parents[1]/'docs'
sys.path.insert(0, str(DOCS))
import network

SVG = '{http://www.w3.org/2000/svg}'

class Drawing(unittest.TestCase):
    def setUp(self): self.svg = (DOCS/'network.svg').read_text(encoding='utf-8')

    def test_committed_file_is_what_the_source_makes(self):
        self.assertTrue(self.svg == network.drawing(), 'run: python docs/network.py')

    def test_it_is_xml_with_a_title_and_a_description(self):
        root = ElementTree.fromstring(self.svg)
        self.assertEqual(root.tag, SVG + 'svg')
        for tag in ('title', 'desc'): self.assertTrue(root.find(SVG + tag).text)

    def test_every_equation_is_at_an_arrow(self):
        lines = [''.join(t.itertext()) for t in ElementTree.fromstring(self.svg).iter(SVG + 'text')]
        named = {int(n) for line in lines for n in re.findall(r'eq\. (\d)', line)}
        self.assertEqual(named, set(range(2, 10)))

    def test_no_text_is_smaller_than_12_pixels(self):
        sizes = [e.get('font-size') for e in ElementTree.fromstring(self.svg).iter()]
        self.assertGreaterEqual(min(float(size) for size in sizes if size), 12)

def shapes_of_a_small_model():
    "name -> shape of every tensor in `network.SHAPES`, and the value of every symbol."
    import torch
    from mrovseg_nb.clip.layers import up
    from mrovseg_nb.mrovseg.model import MROVSeg, preset
    from mrovseg_nb.clip.outputs import image_queries
    from mrovseg_nb.clip.windows import slice_image
    from mrovseg_nb.mrovseg.views import encode_views
    from mrovseg_nb.mrovseg.slicing import low_resolution_scale, plan_slices
    model = MROVSeg(replace(preset('terrarium'), pretrained=None, width=96, pixel_dim=40, queries=7)).eval()
    clip, config, adapter = model.clip, model.config, model.adapter
    decoder, masks = model.decoder, model.attention_masks
    made = {}
    hooked = {                                          # module -> names of its first input and of its output
        model: ('image', None), adapter.fusions[1]: ('H^l', 'F^l'), adapter.blocks[0]: (None, 'tokens'),
        adapter.mlp_Q: ('Q_out', 'Q_f'), decoder: ('H', 'H_pix'), decoder.lateral[0]: (None, 'lateral'),
        decoder.up[0]: ('cat9', 'up9'), decoder.up[1]: ('cat6', 'up6'), decoder.mlp_pix: ('cat3', None),
        masks.mlp_L: (None, 'A_local'), masks.mlp_G: (None, 'A_global'), model.attention: (None, 'X_prop'),
        model.text_conditioning: ('T', 'T_image')}
    def keep(module, inputs, output):
        for name, tensor in zip(hooked[module], (inputs[0], output)):
            if name: made[name] = tensor
    for module in hooked: module.register_forward_hook(keep)
    masks.register_forward_hook(lambda _, inputs, output: made.update(zip(('M_global', 'M_local'), output)))
    images = torch.rand(2, 3, config.crop, config.crop)
    with torch.no_grad():
        output = model(images, torch.randn(5, clip.embed_dim))
        grid, views = clip.grid_of(images), encode_views(clip, images, config.p, model.tokens)
        windows = plan_slices(grid, config.p, model.tokens)
        slices = slice_image(images, windows, clip.patch).flatten(0, 1)
        low = up(images, tuple(round(side*low_resolution_scale(config.p)) for side in images.shape[-2:]))
        made |= {'slices': slices, 'low': low, 'P^l': clip.features(slices).maps[1], 'H̄^l': views.lr[1],
                 '[CLS]': views.cls[config.cls_layer], 'Q': adapter.query, 'X': clip.project(made['X_prop']),
                 'void': model.background, 'M_mask': output.masks, 'logits': output.classes,
                 'scores': torch.stack([q.rows(q.input_size, range(q.input_size[0]))
                                        for q in image_queries(output, images)])}
    (H, W), (h, w) = grid, views.lr[0].shape[-2:]
    symbols = dict(B=2, S=len(windows.corners), P=clip.patch, H=H, W=W, h=h, w=w, N=config.queries,
                   C=config.pixel_dim, D=config.width, D_l=clip.widths[1], E=clip.embed_dim,
                   heads=clip.heads, K=5)
    return {name: tuple(tensor.shape) for name, tensor in made.items()}, symbols

class Shapes(unittest.TestCase):
    def test_every_shape_is_that_of_a_running_model(self):
        shapes, symbols = shapes_of_a_small_model()
        drawn = {name: network.size(shape, symbols) for name, shape in network.SHAPES.items()}
        self.assertEqual(shapes, drawn)

    def test_sizes_are_those_of_the_preset(self):
        from mrovseg_nb.clip.frozen import clip_config
        from mrovseg_nb.mrovseg.model import MROVSeg, preset
        from mrovseg_nb.clip.windows import plan_windows
        config = preset('vit-b-16')
        clip = clip_config(config.clip)
        tower = clip['vision_cfg']
        side, P = config.crop//tower['patch_size'], tower['patch_size']
        windows = plan_windows((side, side), round(config.p*side))
        h, w = windows.size
        expected = dict(B=1, S=len(windows.corners), P=P, H=side, W=side, h=h, w=w, N=config.queries,
                        C=config.pixel_dim, D=config.width, D_l=tower['width'], E=clip['embed_dim'],
                        heads=tower['width']//64, K=150)
        self.assertEqual(network.PRESET, expected)
        self.assertEqual(tuple(network.TAPS), config.fusion_layers)
        self.assertEqual((config.blocks, config.decoder_layers, config.cls_layer), (6, (3, 6, 9), 9))
        self.assertTrue(config.train_positions)

if __name__ == '__main__': unittest.main()
