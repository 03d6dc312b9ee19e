"""Draws MROVSeg as it is implemented: docs/network.svg.

    python docs/network.py            # write the drawing
    python docs/network.py --check    # exit 1 if the committed drawing differs from what this file makes

`SHAPES` holds the shape of every tensor drawn; `tests/test_drawing.py` compares them with a running model.
"""
import re, sys
from html import escape
from math import prod
from pathlib import Path

OUT = Path(__file__).with_name('network.svg')
SHAPES = {                                     # name -> shape; `l` is a layer of CLIP, 0 the stem
    'image': 'B, 3, H·P, W·P', 'slices': 'B·S, 3, h·P, w·P', 'low': 'B, 3, h·P, w·P',
    'P^l': 'B·S, D_l, h, w', 'H^l': 'B, D_l, H, W', 'H̄^l': 'B, D_l, h, w', 'F^l': 'B, D, H, W',
    'Q': 'N, D', 'tokens': 'B, N + H·W, D', 'Q_out': 'B, N, D', 'H': 'B, D, H, W', 'Q_f': 'B, N, C',
    'lateral': 'B, C, H, W', 'cat9': 'B, D + C, H, W', 'up9': 'B, C, 2H, 2W', 'cat6': 'B, 2C, 2H, 2W',
    'up6': 'B, C, 4H, 4W', 'cat3': 'B, 2C, 4H, 4W', 'H_pix': 'B, C, 4H, 4W', 'M_mask': 'B, N, 4H, 4W',
    'A_local': 'B, heads·C, H, W', 'A_global': 'B, heads·C, h, w',
    'M_local': 'B, heads, N, H, W', 'M_global': 'B, heads, N, h, w',
    '[CLS]': 'B, D_l', 'X_prop': 'B, N, D_l', 'X': 'B, N, E', 'T': 'K, E', 'T_image': 'B, K, E', 'void': 'E',
    'logits': 'B, N, K + 1', 'scores': 'B, K, H·P, W·P'}
PRESET = dict(B=1, S=4, P=16, H=40, W=40, h=20, w=20, N=100, C=256, D=768, D_l=768, E=512, heads=12, K=150)
SYMBOLS = [
    'B images, N queries, K classes, S slices', 'H × W tokens of P × P pixels in the image',
    'h × w tokens of the low-resolution view;', 'a slice has as many if the image is square',
    'D_l width of layer l of CLIP, D of the adapter', 'C width of masks, E of text, heads of CLIP']
DESCRIPTION = (
    'An image is cut into S slices and resized; both go through one frozen CLIP image tower. At five layers '
    'the slices are restored, fused with the low-resolution view (eq. 2) and added to an adapter of six ViT '
    'blocks with N queries, which gives Q_f (eq. 3) and H. A hierarchical decoder (eq. 4) makes N masks '
    '(eq. 5). Attention masks (eq. 6, 7) guide N copies of the [CLS] token of CLIP through its last blocks '
    '(eq. 8); their projections are compared with text features that have attended to H. Classes and masks '
    'make the semantic scores (eq. 9).')

def size(
    shape:str,      # of SHAPES
    symbols:dict,   # symbol -> number
) -> tuple[int, ...]:
    "The numbers that a shape stands for."
    factors = lambda term: re.findall(r'\d+|[A-Za-z_]+', term)
    number = lambda term: prod(int(f) if f.isdigit() else symbols[f] for f in factors(term))
    return tuple(sum(map(number, side.split('+'))) for side in shape.split(','))

# ---- elements of the drawing, each as SVG

WIDTH, HEIGHT = 960, 1076
FROZEN, TRAINED, FIXED = ('#dcebfb', '#0b5cad'), ('#ffe3c2', '#b45309'), ('#eef0f3', '#6b7280') # fill, border
INK, FAINT, EQUATION = '#1f2328', '#59636e', '#7a1fa2'
BOLD, SMALL = 'font-weight="bold"', 'font-size="12"'
NUMBERS = f'fill="{FAINT}" font-size="12"'

def indices(line:str) -> str: # `Q_f` with a low f, `H^l` with a high l
    "Text with its indices lowered and raised."
    def moved(found):
        dy, style = (4 if found[1] == '_' else -4), ' font-style="italic"' if found[2] == 'l' else ''
        return f'<tspan dy="{dy}" font-size="12"{style}>{found[2]}</tspan><tspan dy="{-dy}">&#8203;</tspan>'
    return re.sub(r'([_^])(\w+)', moved, escape(line))

def text(x:float, y:float, line:str, style:str='', anchor:str='start') -> str:
    "One line of text."
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" {style}>{indices(line)}</text>'

def label(
    x:float, y:float,        # of the first line
    name:str,                # of SHAPES
    shown:str|None=None,     # what is written before the shape; None: the name
    eq:int|None=None,        # the equation
    below:int|None=None,     # pixels down to a line with the sizes of PRESET
    broken:bool=False,       # the shape stands on a line of its own
    anchor:str='start',
) -> str:
    "What an arrow carries: name, shape, equation, sizes."
    shown, shape = name if shown is None else shown, f'({SHAPES[name]})'
    lines = [shown, shape] if broken else [f'{shown} {shape}'.strip()]
    out = [text(x, y + 16*i, line, SMALL, anchor) for i, line in enumerate(lines)]
    if eq: out[0] = out[0].replace('</text>', f'<tspan fill="{EQUATION}" {BOLD}> eq. {eq}</tspan></text>')
    if below:
        sizes = size(SHAPES[name].removeprefix('B, ').replace('B·', ''), PRESET)             # of one image
        out.append(text(x, y + 16*(len(lines) - 1) + below, ' × '.join(map(str, sizes)), NUMBERS, anchor))
    return '\n'.join(out)

def box(x:float, y:float, w:float, h:float, kind:tuple, *lines:str) -> str: # the first line is bold
    "A part of the network; frozen ones carry a snowflake."
    fill, border = kind
    style = f'rx="6" fill="{fill}" stroke="{border}" stroke-width="1.5"'
    out = [f'<rect x="{x}" y="{y}" width="{w}" height="{h}" {style}/>']
    first = y + h/2 - 7.5*(len(lines) - 1) + 4.5
    out += [text(x + w/2, first + 15*i, line, SMALL if i else BOLD, 'middle') for i, line in enumerate(lines)]
    if kind == FROZEN:
        arm = 'M-5.5,0H5.5M-4,-2L-2,0L-4,2M4,-2L2,0L4,2'
        arms = ''.join(f'<path d="{arm}" transform="rotate({angle})"/>' for angle in (30, 90, 150))
        style = f'fill="#fff" stroke="{border}" stroke-width="1.2"'
        out.append(f'<g transform="translate({x + w},{y})" {style}><circle r="8"/>{arms}</g>')
    return '\n'.join(out)

def arrow(
    *points:tuple,           # (x, y) of its corners
    low:bool=False,          # low resolution: dashed
    over:bool=False,         # it crosses another one: with a white border
) -> str:
    "An arrow along points."
    path = 'd="M' + 'L'.join(f'{x},{y}' for x, y in points) + '" fill="none"'
    border = f'<path {path} stroke="#fff" stroke-width="7"/>' if over else ''
    dashes = ' stroke-dasharray="5 3"' if low else ''
    return f'{border}<path {path} stroke="{INK}" stroke-width="1.5"{dashes} marker-end="url(#head)"/>'

def node(x:float, y:float, sign:str) -> str: # + adds, c concatenates
    "An operation without weights."
    circle = f'<circle cx="{x}" cy="{y}" r="9" fill="#fff" stroke="{INK}" stroke-width="1.5"/>'
    return circle + text(x, y + 5, sign, BOLD, 'middle')

def picture(x:float, y:float, side:float, view:str='0 0 60 60', colours:str='#cfe6f5 #b9cfa4 #f4d9a0') -> str:
    "A small landscape, or a part of it."
    place, (sky, hill, sun) = f'x="{x}" y="{y}" width="{side}" height="{side}"', colours.split()
    return (f'<svg {place} viewBox="{view}"><rect width="60" height="60" fill="{sky}"/>'
            f'<path d="M0,42L22,22L38,38L46,31L60,44V60H0Z" fill="{hill}"/>'
            f'<circle cx="44" cy="15" r="7" fill="{sun}"/></svg><rect {place} fill="none" stroke="{INK}"/>')

# ---- parts of the drawing, each a list of elements

TAPS = {0: 296, 3: 386, 6: 476, 9: 566, 12: 656}     # fused layer of CLIP -> x of its column

def legend() -> list[str]:
    "What colours, signs and letters mean."
    return [
        text(240, 36, 'MROVSeg: one frozen CLIP, two resolutions, N masks', f'{BOLD} font-size="16"'),
        box(240, 52, 80, 24, FROZEN, 'frozen'), box(330, 52, 74, 24, TRAINED, 'trained'),
        box(414, 52, 92, 24, FIXED, 'no weights'),
        arrow((520, 58), (556, 58)), text(562, 62, 'full resolution'),
        arrow((520, 76), (556, 76), low=True), text(562, 80, 'low resolution'),
        text(240, 102, 'Grey: ViT-B/16, one image of 640 × 640 pixels, 150 classes.', NUMBERS),
        text(240, 118, 'c concatenates. A shape below a part of the decoder is that of its output.', NUMBERS),
        *(text((30, 330, 640)[i//2], 1040 + 17*(i % 2), line, SMALL) for i, line in enumerate(SYMBOLS))]

def views() -> list[str]:
    "The image at two resolutions."
    return [
        picture(44, 34, 72), text(122, 48, 'image', BOLD),
        arrow((80, 106), (80, 150)), label(88, 122, 'image', '', below=15),
        *(picture(44 + 38*i, 152 + 38*j, 34, f'{30*i} {30*j} 30 30') for j in (0, 1) for i in (0, 1)),
        text(122, 163, 'S slices', BOLD), arrow((116, 186), (238, 186)),
        label(120, 180, 'slices', '', below=20),
        arrow((44, 70), (26, 70), (26, 246), (62, 246), low=True), picture(64, 230, 32),
        text(122, 226, 'resized by p', BOLD), arrow((96, 248), (238, 248), low=True),
        label(120, 242, 'low', '', below=20)]

def text_tower() -> list[str]:
    "From class names to text features, which go down the right margin."
    return [
        box(770, 26, 130, 38, FIXED, 'K class names', '“grass”, “red car”'), arrow((835, 64), (835, 86)),
        box(770, 88, 130, 38, FIXED, 'prompt templates', '“a photo of a {}.”'),
        arrow((835, 126), (835, 158)), text(829, 147, 'K × 14 texts', SMALL, 'end'),
        box(770, 160, 130, 102, FROZEN, 'CLIP text tower', 'mean over templates'),
        arrow((900, 211), (947, 211), (947, 982), (902, 982)), label(906, 1000, 'T', broken=True)]

def image_tower() -> list[str]:
    "CLIP's layers, and the restored slices of those that are fused."
    note = 'slices and low-resolution view in one batch, the same weights'
    out = [box(240, 150, 454, 112, FROZEN, 'CLIP image tower', note, '(its positional embedding is trained)')]
    for name, x in zip(('stem', '1 to 3', '4 to 6', '7 to 9', '10 to 12'), (268, 341, 431, 521, 611)):
        out.append(text(x, 252, name, SMALL, 'middle'))
    for l, x in TAPS.items():
        if l < 12: out.append(f'<path d="M{x},238V262" stroke="{FROZEN[1]}"/>')
        out += [arrow((x - 16, 262), (x - 16, 304)), box(x - 44, 306, 56, 24, FIXED, 'restore'),
                arrow((x - 16, 330), (x - 16, 390)), arrow((x + 26, 262), (x + 26, 390), low=True)]
    return out + [
        text(20, 284, 'at layers 0 (stem), 3, 6, 9, 12:', BOLD),
        label(20, 302, 'P^l', 'slices P^l', below=15),
        label(20, 344, 'H^l', 'restored H^l', below=15),
        label(20, 378, 'H̄^l', 'low resolution H̄^l', below=15)]

def mask_decoder() -> list[str]:
    "From the adapter's map to N masks, right to left."
    out = [text(20, 640, 'Hierarchical', BOLD), text(20, 656, 'mask decoder', BOLD),
           arrow((686, 532), (686, 670), (577, 670)), label(682, 664, 'H', below=21, anchor='end')]
    for l, lateral, name in ((9, '1×1', 'lateral'), (6, '1×1 ↑2', 'up9'), (3, '1×1 ↑4', 'up6')):
        x = TAPS[l]
        out += [arrow((x, 432), (x, 604)), box(x - 28, 606, 56, 22, TRAINED, lateral),
                arrow((x, 628), (x, 659)), label(x + 5, 649, name, ''), node(x, 670, 'c'),
                arrow((x - 9, 670), (x - 23, 670)), label(x, 704, f'cat{l}', '', anchor='middle')]
        if l > 3:
            out += [box(x - 70, 652, 46, 36, TRAINED, '2×', 'deconv'), arrow((x - 70, 670), (x - 79, 670)),
                    label(x - 45, 724, f'up{l}', '', anchor='middle')]
    return out + [
        box(306, 648, 56, 44, TRAINED, 'MLP', 'of pixels'),
        arrow((306, 670), (250, 670), (250, 788), (328, 788)),
        label(256, 720, 'H_pix', eq=4, below=15, broken=True),
        box(330, 766, 126, 44, FIXED, 'Q_f × H_pix', 'inner product'),
        arrow((393, 810), (393, 882)), label(399, 840, 'M_mask', eq=5, below=15)]

def adapter() -> list[str]:
    "Fusions, queries, ViT blocks."
    out = [
        text(20, 424, 'Multi-Res Fusion', BOLD), text(20, 480, 'Multi-Res Adapter', BOLD),
        box(20, 492, 90, 40, TRAINED, 'N queries', '+ positions'), arrow((110, 512), (221, 512)),
        label(130, 506, 'Q', below=21), arrow((252, 318), (232, 318), (232, 501)), node(232, 512, 'c'),
        arrow((241, 512), (267, 512)), text(244, 550, 'along the adapter:', SMALL),
        label(244, 566, 'tokens', '', below=15)]
    for i, (l, x) in enumerate(TAPS.items()):
        out += [box(x - 34, 392, 76, 40, TRAINED, 'fusion', 'scale attn.'),
                arrow((x, 432), (x, 490), (x - 18, 490), (x - 18, 501)),
                label(x + 5, 450, 'F^l', f'F^{l}', eq=2, below=None if l else 15, broken=True),
                arrow((x - 9, 512), (x + 9, 512), over=True), node(x - 18, 512, '+'),
                box(x + 10, 492, 45, 40, TRAINED, 'block', str(i + 1) if l < 12 else '5, 6')]
        if l < 12: out.append(arrow((x + 55, 512), (x + 62, 512)))
    return out

def mask_classes() -> list[str]:
    "From queries, the adapter's map and CLIP's layers to a class for each mask."
    out = [
        text(714, 424, 'Mask classification', BOLD),
        arrow((711, 512), (850, 512), (850, 564)), label(762, 506, 'H', below=21),
        arrow((850, 512), (913, 512), (913, 944), (835, 944), (835, 958)),
        arrow((735, 512), (735, 562)), label(741, 546, 'Q_out', 'Q'),
        box(694, 564, 66, 40, TRAINED, 'MLP', 'of queries'), arrow((735, 604), (735, 788), (458, 788)),
        arrow((735, 702), (768, 702)), label(729, 738, 'Q_f', eq=3, below=15, anchor='end'),
        box(770, 566, 130, 40, TRAINED, 'attention MLPs', 'of H, of pooled H'), arrow((884, 606), (884, 682)),
        box(770, 684, 130, 36, FIXED, 'Q_f × A', 'inner product'), arrow((884, 720), (884, 796)),
        box(770, 798, 130, 54, FROZEN, 'masked attention', 'N copies of [CLS]', 'in blocks 10 to 12'),
        arrow((694, 240), (706, 240), (706, 290), (930, 290), (930, 825), (902, 825), over=True),
        text(714, 309, 'inputs of blocks 10, 11, 12:', BOLD), label(714, 327, 'H^l'), label(714, 344, 'H̄^l'),
        label(714, 361, '[CLS]', '[CLS] of layer 9'), text(714, 378, 'N copies, + trained positions', SMALL),
        arrow((835, 852), (835, 882)), label(829, 871, 'X_prop', eq=8, anchor='end'),
        box(770, 884, 130, 34, FROZEN, 'CLIP projection'), arrow((770, 901), (692, 901)),
        label(700, 895, 'X', below=21),
        box(770, 960, 130, 44, TRAINED, 'text conditioning', 'attends to H'),
        arrow((770, 982), (660, 982), (660, 928)), label(668, 976, 'T_image', '', below=21),
        box(544, 966, 76, 32, TRAINED, 'no object'), arrow((600, 966), (600, 928)),
        label(594, 950, 'void', '', anchor='end'),
        box(562, 880, 128, 46, FIXED, 'class logits', 'cosine × scale'),
        arrow((562, 901), (458, 901)), label(464, 895, 'logits', '', below=21),
        box(330, 884, 126, 58, FIXED, 'semantic scores', 'softmax × sigmoid', 'of resized masks'),
        arrow((330, 901), (134, 901)), label(152, 895, 'scores', eq=9, below=21),
        picture(60, 866, 72, colours='#56b4e9 #009e73 #e69f00'), text(60, 954, 'at the size of the image', SMALL)]
    for name, y, eq in (('A_local', 622, 6), ('A_global', 657, 6), ('M_local', 736, 7), ('M_global', 771, 7)):
        out.append(label(878, y, name, eq=eq, broken=True, anchor='end'))
    return out

def drawing() -> str:
    "The whole drawing as SVG."
    parts = (legend, views, text_tower, image_tower, mask_decoder, adapter, mask_classes)
    return '\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-labelledby="title desc" font-size="13" '
        'font-family="Arial, Helvetica, Liberation Sans, DejaVu Sans Condensed, sans-serif">',
        f'<title id="title">The network of MROVSeg</title>\n<desc id="desc">{DESCRIPTION}</desc>',
        '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="5" refY="3.5" orient="auto" '
        f'markerUnits="userSpaceOnUse"><path d="M0,0L7,3.5L0,7Z" fill="{INK}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="14" fill="#fff"/>\n<g fill="{INK}">',
        *(element for part in parts for element in part()), '</g>\n</svg>\n'])

if __name__ == '__main__':
    if '--check' in sys.argv[1:]: sys.exit(not OUT.exists() or OUT.read_text(encoding='utf-8') != drawing())
    OUT.write_text(drawing(), encoding='utf-8')
