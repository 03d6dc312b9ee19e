"""MROVSeg and its loss written a second time, from the equations of the paper, and compared with the package.

The functions here are plain ones over a dictionary of weights, and call torch alone. The numbers of the
equations are those of arXiv 2408.14776. What the paper leaves open is decided as in the notebooks of the
model: the masks are added to the attention logits (SAN), positions are added before every block (SAN), the
scale attention reads the low-resolution features (HRDA), the text is conditioned as in MAFT+.
"""
import itertools, math, unittest
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from mrovseg_nb.data.vocabulary import Vocabulary
from mrovseg_nb.mrovseg.model import MROVSeg, preset
from mrovseg_nb.clip.model_files import trained_parameters
from mrovseg_nb.clip.outputs import Output, PixelOutput
from mrovseg_nb.training.losses import LossWeights, output_loss, pixel_loss, set_loss

# ------------------------------------------------------------------------------------------------ small parts

def linear(w, name, x):
    "x W^T + b over the last axis"
    return F.linear(x, w[f'{name}.weight'], w.get(f'{name}.bias'))

def conv(w, name, x, **how): return F.conv2d(x, w[f'{name}.weight'], w.get(f'{name}.bias'), **how)

def norm(w, name, x, eps):
    "Layer normalisation over the last axis"
    return F.layer_norm(x, x.shape[-1:], w[f'{name}.weight'], w[f'{name}.bias'], eps)

def norm_map(w, name, x, eps):
    "Layer normalisation over the channels of (B, C, H, W)"
    return norm(w, name, x.permute(0, 2, 3, 1), eps).permute(0, 3, 1, 2)

def mlp3(w, name, x, apply):
    "Three linear layers, ReLU between them"
    for i in (0, 2, 4):
        x = apply(w, f'{name}.{i}', x)
        if i < 4: x = x.clamp(min=0)
    return x

def up(x, size): return F.interpolate(x, tuple(size), mode='bilinear', align_corners=False)

def tokens(x): return x.flatten(2).transpose(1, 2)         # (B, C, H, W) -> (B, HW, C)

def as_map(x, h): return x.transpose(1, 2).unflatten(2, (h, -1))    # (B, HW, C) -> (B, C, H, W)

def unit(x): return x/(x*x).sum(-1, keepdim=True).sqrt()

def attend(q, k, v, heads, bias=0.):
    "softmax(q k^T/sqrt(d) + bias) v, head by head; q (B, N, D), k and v (B, T, D), bias (B, heads, N, T)"
    split = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)          # (B, heads, N, d)
    q, k, v = split(q), split(k), split(v)
    logits = q @ k.transpose(-1, -2)/math.sqrt(q.shape[-1]) + bias
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)

# ----------------------------------------------------------------------------------------------- CLIP, frozen

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)     # of OpenAI's CLIP
VISUAL = 'clip.model.visual.'

def normalised(images): return (images - torch.tensor(MEAN).view(3, 1, 1))/torch.tensor(STD).view(3, 1, 1)

def vit_layers(w, images, heads=4):
    "The tokens (B, 1 + hw, D) of the stem and of every block"
    v = {k.removeprefix(VISUAL): t for k, t in w.items() if k.startswith(VISUAL)}
    patch = v['conv1.weight'].shape[-1]
    x = F.conv2d(normalised(images), v['conv1.weight'], stride=patch)                     # no bias in CLIP
    grid = x.shape[-2:]
    x = torch.cat([v['class_embedding'].expand(len(x), 1, -1), tokens(x)], 1)
    cls, pos = v['positional_embedding'][:1], v['positional_embedding'][1:]
    side = math.isqrt(len(pos))
    if grid != (side, side):
        pos = F.interpolate(as_map(pos[None], side), tuple(grid), mode='bicubic', align_corners=False)
        pos = tokens(pos)[0]
    layers = [norm(v, 'ln_pre', x + torch.cat([cls, pos]), 1e-5)]
    for i in range(len({k.split('.')[2] for k in v if k.startswith('transformer.resblocks')})):
        x, b = layers[-1], f'transformer.resblocks.{i}.'
        q, k, val = F.linear(norm(v, b + 'ln_1', x, 1e-5), v[b + 'attn.in_proj_weight'],
                             v[b + 'attn.in_proj_bias']).chunk(3, -1)
        x = x + linear(v, b + 'attn.out_proj', attend(q, k, val, heads))
        x = x + linear(v, b + 'mlp.c_proj', F.gelu(linear(v, b + 'mlp.c_fc', norm(v, b + 'ln_2', x, 1e-5))))
        layers.append(x)
    return layers, grid

def conv_layers(w, images):
    "The stem and the four stages of a ConvNeXt, each on one grid of 8 pixels"
    v, patch = {k.removeprefix(VISUAL + 'trunk.'): t for k, t in w.items() if k.startswith(VISUAL)}, 8
    grid = tuple(s//patch for s in images.shape[-2:])
    maps = [norm_map(v, 'stem.1', conv(v, 'stem.0', normalised(images), stride=2), 1e-6)]
    for s, depth in enumerate((1, 1, 3, 1)):
        x, n = maps[-1], f'stages.{s}.'
        if s: x = conv(v, n + 'downsample.1', norm_map(v, n + 'downsample.0', x, 1e-6), stride=2)
        for b in (f'{n}blocks.{i}.' for i in range(depth)):
            y = conv(v, b + 'conv_dw', x, padding=3, groups=x.shape[1]).permute(0, 2, 3, 1)
            y = linear(v, b + 'mlp.fc2', F.gelu(linear(v, b + 'mlp.fc1', norm(v, b + 'norm', y, 1e-6))))
            x = x + y.permute(0, 3, 1, 2)
        maps.append(x)
    return [*(F.adaptive_avg_pool2d(m, grid) for m in maps[:-1]), up(maps[-1], grid)], []

def clip_maps(w, images):
    "Every layer's patch tokens as (B, D_l, h, w); every layer's [CLS], (B, D)"
    if VISUAL + 'conv1.weight' not in w: return conv_layers(w, images)
    layers, grid = vit_layers(w, images)
    return [as_map(x[:, 1:], grid[0]) for x in layers], [x[:, 0] for x in layers]

def project(w, X):
    "W_visual: into the space that CLIP shares with text"
    if VISUAL + 'proj' in w: return norm(w, VISUAL + 'ln_post', X, 1e-5) @ w[VISUAL + 'proj']
    return linear(w, VISUAL + 'head.proj', norm(w, VISUAL + 'trunk.head.norm', X, 1e-6))

# -------------------------------------------------------------------------------------------------- paper 3.1

def window_starts(length, size):
    "The fewest windows, the first at 0, the last at the end, evenly between"
    n = -(-length//size)
    return [0] if n == 1 else [round(i*(length - size)/(n - 1)) for i in range(n)]

def two_views(w, images, p, crop, patch=8):
    "Restored slices and the whole image: maps of every layer at both resolutions, and [CLS] of the whole"
    H, W = (s//patch for s in images.shape[-2:])
    shrink = p if 0 < p < 1 else 0.5
    low = tuple(max(1, round(n*shrink))*patch for n in (H, W))
    lr, cls = clip_maps(w, up(images, low))
    if p == 0: return [up(m, (H, W)) for m in lr], lr, cls
    side = max(1, round(p*(crop//patch)))
    h, l = (H, W) if p == 1 else (min(side, H), min(side, W))
    total, count = None, torch.zeros(H, W)
    for top in window_starts(H, h):
        for left in window_starts(W, l):
            maps, _ = clip_maps(w, images[..., top*patch:(top + h)*patch, left*patch:(left + l)*patch])
            placed = [F.pad(m, (left, W - left - l, top, H - top - h)) for m in maps]
            total = placed if total is None else [a + b for a, b in zip(total, placed)]
            count[top:top + h, left:left + l] += 1
    return [t/count for t in total], lr, cls

# -------------------------------------------------------------------------------------------------- paper 3.2

def fuse(w, name, hr, lr, spatial, scale):
    "F^l (eq. 2), or what Table 7 a and b puts in its place"
    size, n_hr = hr.shape[-2:], norm_map(w, f'{name}.norm_hr', hr, 1e-6)
    n_lr = norm_map(w, f'{name}.norm_lr', lr, 1e-6)
    if spatial == 'dwconv':
        depthwise = F.gelu(conv(w, f'{name}.dconv.0', n_hr, padding=1, groups=n_hr.shape[1]))
        H_hr = conv(w, f'{name}.dconv.2', depthwise)
    else: H_hr = conv(w, f'{name}.dconv', n_hr)
    H_lr = conv(w, f'{name}.lr', n_lr) if f'{name}.lr.weight' in w else n_lr
    if scale == 'add': return H_hr + up(H_lr, size)
    if scale == 'concat': return conv(w, f'{name}.mix', torch.cat([H_hr, up(H_lr, size)], 1))
    a = torch.sigmoid(conv(w, f'{name}.f_A.2', conv(w, f'{name}.f_A.0', n_lr, padding=1).clamp(min=0)))
    return up(a, size)*H_hr + up((1 - a)*H_lr, size)

def vit_block(w, b, x, heads):
    "A plain pre-norm block"
    q, k, v = linear(w, b + 'attn.qkv', norm(w, b + 'norm1', x, 1e-6)).chunk(3, -1)
    x = x + linear(w, b + 'attn.proj', attend(q, k, v, heads))
    return x + linear(w, b + 'mlp.fc2', F.gelu(linear(w, b + 'mlp.fc1', norm(w, b + 'norm2', x, 1e-6))))

def adapter(w, c, hr, lr):
    "Q_f (eq. 3) and H after the last block and the one before it; F of every fused layer"
    B, (H, W), N = len(hr[0]), hr[0].shape[-2:], c.queries
    fused = {l: fuse(w, f'adapter.fusions.{i}', hr[l], lr[l], c.spatial, c.scale)
             for i, l in enumerate(c.fusion_layers)}
    stem = conv(w, 'adapter.stem', hr[0]) if 'adapter.stem.weight' in w else hr[0]
    pos = w['adapter.pos']
    if pos.shape[-2:] != (H, W): pos = F.interpolate(pos, (H, W), mode='bicubic', align_corners=False)
    pos = torch.cat([w['adapter.query_pos'][None], tokens(pos)], 1)
    Q, V, after = w['adapter.query'].expand(B, -1, -1), tokens(stem), []
    waiting = list(c.fusion_layers)
    # the stem joins before the first block
    if waiting[0] == 0: V = V + tokens(fused[waiting.pop(0)])
    after.append((Q, V))
    for i in range(c.blocks):
        x = vit_block(w, f'adapter.blocks.{i}.', torch.cat([Q, V], 1) + pos, c.heads)
        Q, V = x[:, :N], x[:, N:]
        # one after each block, all that is left after the last
        joins = waiting if i == c.blocks - 1 else waiting[:1]
        waiting = waiting[len(joins):]
        for l in joins: V = V + tokens(fused[l])
        after.append((Q, V))
    return [(mlp3(w, 'adapter.mlp_Q', Q, linear), as_map(V, H)) for Q, V in after[-2:]], fused

# -------------------------------------------------------------------------------------------------- paper 3.3

def pixel_features(w, c, H, fused):
    "H_pix (eq. 4)"
    if not c.decoder_layers: return mlp3(w, 'decoder.mlp_pix', H, conv)
    shallow, middle, deep = (fused[l] for l in c.decoder_layers)
    x = torch.cat([H, conv(w, 'decoder.lateral.2', deep)], 1)
    for i, (j, f) in enumerate(((1, middle), (0, shallow))):
        x = F.conv_transpose2d(x, w[f'decoder.up.{i}.0.weight'], w[f'decoder.up.{i}.0.bias'], stride=2)
        x = F.group_norm(x, 8, w[f'decoder.up.{i}.1.weight'], w[f'decoder.up.{i}.1.bias'], 1e-5).clamp(min=0)
        x = torch.cat([x, up(conv(w, f'decoder.lateral.{j}', f), x.shape[-2:])], 1)
    return mlp3(w, 'decoder.mlp_pix', x, conv)

# (B, N, C), (B, C, h, w) -> (B, N, h, w)
def products(Q, P): return (Q @ P.flatten(2)).unflatten(-1, P.shape[-2:])

# -------------------------------------------------------------------------------------------------- paper 3.4

def attention_masks(w, c, Q_f, H, low, heads=4):
    "M_global and M_local (eq. 6 and 7), each (B, heads, N, h, w)"
    def decoded(which, x):
        A = mlp3(w, f'attention_masks.mlp_{which}', x, conv).chunk(heads, 1)
        M, scale = torch.stack([products(Q_f, a) for a in A], 1), f'attention_masks.scale_{which}.'
        return M*w[scale + 'weight'][0, 0] + w[scale + 'bias'][0]
    M_local = decoded('L', H)
    if c.attention == 'decoupled': return decoded('G', F.adaptive_max_pool2d(H, low)), M_local
    return torch.stack([F.adaptive_max_pool2d(m, low) for m in M_local.unbind(1)], 1), M_local

def proposals(w, c, cls, lr, hr, M_global, M_local, heads=4):
    "X_prop (eq. 8): copies of [CLS] of layer `cls_layer`, through all blocks after it"
    both = c.attention in ('decoupled', 'shared') and c.p > 0
    bias = torch.cat([M_global.flatten(3)] + [M_local.flatten(3)]*both, -1)
    X = cls[c.cls_layer][:, None] + w['attention.pos']
    # the (l + 1)-th block reads the tokens of layer l
    for l in range(c.cls_layer, len(lr) - 1):
        b = f'{VISUAL}transformer.resblocks.{l}.'
        keys = norm(w, b + 'ln_1', torch.cat([tokens(lr[l])] + [tokens(hr[l])]*both, 1), 1e-5)
        W_q, W_k, W_v = w[b + 'attn.in_proj_weight'].chunk(3)
        b_q, b_k, b_v = w[b + 'attn.in_proj_bias'].chunk(3)
        x = norm(w, b + 'ln_1', X, 1e-5)
        q, k, v = F.linear(x, W_q, b_q), F.linear(keys, W_k, b_k), F.linear(keys, W_v, b_v)
        if not c.self_key: out = attend(q, k, v, heads, bias)
        else:    # query by query, with itself as a further key
            own_k, own_v = F.linear(x, W_k, b_k), F.linear(x, W_v, b_v)
            with_own = lambda of, own, n: torch.cat([of, own[:, n:n + 1]], 1)
            its_bias = lambda n: F.pad(bias[:, :, n:n + 1], (0, 1))    # 0 for itself
            out = torch.cat([attend(q[:, n:n + 1], with_own(k, own_k, n), with_own(v, own_v, n), heads,
                                    its_bias(n))
                             for n in range(c.queries)], 1)
        X = X + linear(w, b + 'attn.out_proj', out)
        X = X + linear(w, b + 'mlp.c_proj', F.gelu(linear(w, b + 'mlp.c_fc', norm(w, b + 'ln_2', X, 1e-5))))
    return X

def pooled(masks, features):
    "The mean of the features under each mask, weighted by its probability (Table 5)"
    m = F.adaptive_avg_pool2d(torch.sigmoid(masks), features.shape[-2:]).flatten(2)
    return m @ tokens(features)/m.sum(-1, keepdim=True)

def sine(dim, h, w_):
    "DETR's positions: y first, then x, each sin and cos in turn, from 1/n to 2 pi"
    out = torch.zeros(h, w_, dim)
    for i in range(dim//4):
        speed = 10000**(2*i/(dim//2))
        for k, f in ((2*i, math.sin), (2*i + 1, math.cos)):
            for y in range(h): out[y, :, k] = f(2*math.pi*(y + 1)/h/speed)
            for x in range(w_): out[:, x, dim//2 + k] = f(2*math.pi*(x + 1)/w_/speed)
    return out.flatten(0, 1)

def conditioned(w, T, H, low):
    "The text looks at MaxPool(H): T + W LN(CrossAttn)/sqrt(E), of unit length"
    n, V = 'text_conditioning.', linear(w, 'text_conditioning.visual', tokens(F.adaptive_max_pool2d(H, low)))
    W_q, W_k, W_v = w[n + 'attention.in_proj_weight'].chunk(3)
    b_q, b_k, b_v = w[n + 'attention.in_proj_bias'].chunk(3)
    T, E = T.expand(len(V), -1, -1), V.shape[-1]
    found = attend(F.linear(T, W_q, b_q), F.linear(V + sine(E, *low), W_k, b_k), F.linear(V, W_v, b_v), 8)
    found = linear(w, n + 'attention.out_proj', found)
    # the bias of W is not divided
    return unit(T + linear(w, n + 'out', norm(w, n + 'norm', found, 1e-5)/math.sqrt(E)))

def class_logits(w, c, Q_f, H, masks, hr, lr, cls, classes, how):
    "C: cosines with the text and with the learned background; `classes` is one (n, E) for each class"
    low = tuple(lr[0].shape[-2:])
    if c.attention == 'pool': X = pooled(masks, hr[-1])
    else: X = proposals(w, c, cls, lr, hr, *attention_masks(w, c, Q_f, H, low))
    X, T = unit(project(w, X)), torch.cat(classes)
    T = conditioned(w, T, H, low) if c.text_conditioning else T.expand(len(X), -1, -1)
    scale = w['clip.model.logit_scale'].exp()
    similar = scale*X @ T.transpose(1, 2)                                      # (B, N, all vectors)
    parts = similar.split([len(t) for t in classes], -1)
    C = torch.stack([p.max(-1).values if how == 'max' else p.mean(-1) for p in parts], -1)
    return torch.cat([C, (scale*X @ unit(w['background']))[..., None]], -1)

def restated(w, c, images, classes, how='mean'):
    "(masks, classes) after the last block, and after the one before it"
    hr, lr, cls = two_views(w, images, c.p, c.crop)
    answers, fused = adapter(w, c, hr, lr)
    out = []
    for Q_f, H in reversed(answers):
        masks = products(Q_f, pixel_features(w, c, H, fused))                  # eq. 5
        out.append((masks, class_logits(w, c, Q_f, H, masks, hr, lr, cls, classes, how)))
    return out

# -------------------------------------------------------------------------------------------------- the tests

BASE = replace(preset('terrarium'), queries=9)
CLASSES = [torch.randn(1, 128, generator=torch.Generator().manual_seed(k)) for k in range(11)]
CLASSES = [unit(t) for t in CLASSES]

def build(config, seed=0):
    "A model none of whose trained weights is 0 or 1, so that every term counts"
    torch.manual_seed(seed)
    model = MROVSeg(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not name.startswith('clip.'): p += 0.05*torch.randn_like(p)
            elif p.requires_grad: p += 0.01*torch.randn_like(p)
    return model

def pictures(size=(96, 96), n=2, seed=1):
    "Smooth noise, different everywhere"
    g = torch.Generator().manual_seed(seed)
    smooth = F.interpolate(torch.rand(n, 3, 7, 9, generator=g), size, mode='bicubic', align_corners=False)
    return (smooth + 0.1*torch.rand(n, 3, *size, generator=g)).clamp(0, 1)

VARIANTS = {
    'as in the preset': {},
    **{f'p {p}': dict(p=p) for p in (0, 0.25, 0.625, 0.75, 1.)},
    **{f'spatial {s}, scale {m}': dict(spatial=s, scale=m) for s in ('dwconv', 'concat')
       for m in ('attention', 'add', 'concat')},
    **{f'blocks {n}': dict(blocks=n) for n in (1, 2, 3, 6)},
    **{f'width {n}': dict(width=n) for n in (64, 192)},
    **{f'heads {n}': dict(heads=n) for n in (1, 8)},
    **{f'queries {n}': dict(queries=n) for n in (1, 24)},
    **{f'pixel_dim {n}': dict(pixel_dim=n) for n in (8, 32)},
    **{f'decoder {l}': dict(decoder_layers=l) for l in ((), (0, 2, 6), (2, 4, 6))},
    **{f'fusion {l}': dict(fusion_layers=l)
       for l in ((2, 3, 4), (2, 3, 4, 6), (0, 2, 3, 4), (0, 1, 2, 3, 4, 5, 6))},
    **{f'attention {a}, p {p}': dict(attention=a, p=p) for a in ('decoupled', 'shared', 'single', 'pool')
       for p in (0, 0.5)},
    **{f'cls_layer {n}': dict(cls_layer=n) for n in (1, 3, 4, 5)},
    **{f'self_key, attention {a}': dict(self_key=True, attention=a)
       for a in ('decoupled', 'shared', 'single')},
    'no text conditioning': dict(text_conditioning=False),
    'trained positions': dict(train_positions=True),
    'crop 64': dict(crop=64),
}
CONVNEXT = dict(clip='terrarium-convnext', attention='pool', fusion_layers=(0, 1, 2, 3, 4),
                decoder_layers=(1, 2, 3))


class WholeModel(unittest.TestCase):
    def agree(self, ours, theirs, what, most=1e-5):
        "The largest difference, beside the largest value (at least 1)"
        self.assertEqual(ours.shape, theirs.shape, what)
        # a constant would agree with anything
        self.assertTrue(theirs.isfinite().all() and theirs.std() > 1e-6, what)
        self.assertLess(((ours - theirs).abs().max()/theirs.abs().max().clamp(min=1)).item(), most, what)

    def check(self, config, size=None, classes=CLASSES, text=None, how='mean'):
        model = build(config)
        images, w = pictures(size or (config.crop,)*2), model.state_dict()
        text = torch.cat(classes) if text is None else text
        with torch.no_grad():
            (masks, C), (masks_before, C_before) = restated(w, config, images, classes, how)
            out = model.eval()(images, text)
            self.assertEqual(out.aux, [])
            self.agree(masks, out.masks, 'masks'); self.agree(C, out.classes, 'classes')
            answers = model.image_scores(images, text)
            for size in (tuple(images.shape[-2:]), (75, 131)):                  # eq. 9, in the order of SAN
                logits = F.interpolate(masks, images.shape[-2:], mode='bilinear', align_corners=False)
                logits = F.interpolate(logits, size, mode='bilinear', align_corners=False)
                S = torch.einsum('bnk,bnhw->bkhw', C.softmax(-1)[..., :-1], logits.sigmoid())
                for s, scores in zip(S, answers, strict=True):
                    self.agree(s, torch.cat([strip for _, strip in scores.strips(size, 2**14)], 1), 'scores')
            out = model.train()(images, text)
            self.assertEqual(len(out.aux), 1)
            self.agree(masks, out.masks, 'masks, training'); self.agree(C, out.classes, 'classes, training')
            self.agree(masks_before, out.aux[0][0], 'masks of the block before')
            self.agree(C_before, out.aux[0][1], 'classes of the block before')
        return model

    def test_every_field(self):
        for name, changes in VARIANTS.items():
            with self.subTest(name): self.check(replace(BASE, **changes))

    def test_every_field_matters(self):
        "With the same weights, these settings change the answer: agreement says something"
        images, text = pictures(), torch.cat(CLASSES)
        for changes in (dict(p=0.25), dict(p=0.625), dict(p=0.75), dict(p=1.), dict(p=0), dict(cls_layer=1),
                        dict(cls_layer=3),
                        dict(heads=8), dict(self_key=True), dict(fusion_layers=(0, 2, 3, 4)),
                        dict(decoder_layers=(2, 4, 6))):
            w = build(BASE).state_dict()
            with torch.no_grad():
                one, other = (restated(w, c, images, CLASSES)[0] for c in (BASE, replace(BASE, **changes)))
            self.assertGreater(max((a - b).abs().max().item() for a, b in zip(one, other)), 1e-2, changes)

    def test_images_that_are_not_square(self):
        for p in (0, 0.25, 0.5, 0.625, 1.):
            for attention in ('decoupled', 'shared', 'pool'):
                with self.subTest(p=p, attention=attention):
                    self.check(replace(BASE, p=p, attention=attention), (96, 136))
        with self.subTest('upright'): self.check(BASE, (120, 80))
        with self.subTest('narrower than a slice'): self.check(replace(BASE, p=0.75), (96, 56))

    def test_convnext(self):
        for p in (0, 0.25, 0.5, 0.75, 1.):
            with self.subTest(p=p): self.check(replace(BASE, **CONVNEXT, p=p), (96, 128))
        with self.subTest('conditioning off'): self.check(replace(BASE, **CONVNEXT, text_conditioning=False))

    def test_synonyms(self):
        "Words and templates become one logit a class in three ways; the text tower is open_clip's"
        words = (('red star', 'crimson star'), ('grass',), ('blue ring', 'a blue circle', 'azure ring'),
                 ('rock', 'stone'))
        templates = ('a photo of a {}.', 'there is {} in the scene', '{}')
        for how in ('mean', 'max', 'per-template'):
            with self.subTest(how):
                model = build(BASE)
                clip = model.clip
                with torch.no_grad():
                    read = lambda w: clip.model.encode_text(clip.tokenizer([t.format(w) for t in templates]))
                    E = [torch.stack([unit(read(w).float()) for w in ws]) for ws in words]
                # e: (words, templates, E)
                if how == 'mean': classes = [unit(unit(e.mean(1)).mean(0, keepdim=True)) for e in E]
                elif how == 'max': classes = [unit(e.mean(1)) for e in E]
                else: classes = [unit(e.mean(0)) for e in E]
                text = clip.class_embeddings(Vocabulary(words, reduce=how), templates)
                self.check(BASE, classes=classes, text=text, how='max' if how == 'max' else 'mean')

    def test_gradients(self):
        "Every trained weight has the gradient of the restatement"
        for changes in ({}, dict(train_positions=True),
                        dict(attention='shared', train_positions=True, scale='concat'),
                        dict(p=0, train_positions=True, attention='pool')):
            with self.subTest(changes):
                config = replace(BASE, **changes)
                model, images, text = build(config).train(), pictures(), torch.cat(CLASSES)
                positions = 'clip.model.visual.positional_embedding'
                self.assertEqual(positions in trained_parameters(model), config.train_positions)
                of_clip = [n for n in trained_parameters(model) if n.startswith('clip.')]
                self.assertEqual([n for n in of_clip if n != positions], [])
                def total(masks, C):
                    g = torch.Generator().manual_seed(3)
                    return sum((x*torch.randn(x.shape, generator=g)).mean() for x in (masks, C))
                out = model(images, text)
                (total(out.masks, out.classes) + total(*out.aux[0])).backward()
                leaves = {k: v.detach().clone().requires_grad_(k in trained_parameters(model))
                          for k, v in model.state_dict().items()}
                a, b = restated(leaves, config, images, CLASSES)
                (total(*a) + total(*b)).backward()
                for name, p in trained_parameters(model).items():
                    mine, its = (torch.zeros_like(p) if g is None else g for g in (leaves[name].grad, p.grad))
                    self.assertLess((mine - its).abs().max().item(), 1e-3*max(its.abs().max().item(), 1e-3),
                                    name)


# --------------------------------------------------------------------------------------------------- the loss

def read(m, points):
    "The map (h, w) at points (P, 2), x and y in [0, 1], bilinear between the centres of pixels, 0 outside"
    h, w = m.shape
    x, y = points[:, 0]*w - 0.5, points[:, 1]*h - 0.5
    x0, y0, out = np.floor(x).astype(int), np.floor(y).astype(int), np.zeros(len(points))
    for dy, dx in itertools.product((0, 1), (0, 1)):
        i, j = y0 + dy, x0 + dx
        inside = (0 <= i) & (i < h) & (0 <= j) & (j < w)
        weight = (1 - np.abs(y - i))*(1 - np.abs(x - j))
        out += np.where(inside, m[i.clip(0, h - 1), j.clip(0, w - 1)]*weight, 0)
    return out

def sigmoid(x): return 1/(1 + np.exp(-x))

def cross_entropy(logits, truth):
    p = sigmoid(logits)
    return -(truth*np.log(p) + (1 - truth)*np.log(1 - p)).mean()

def dice_loss(logits, truth):
    p = sigmoid(logits)
    return 1 - (2*(p*truth).sum() + 1)/(p.sum() + truth.sum() + 1)

def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e/e.sum(-1, keepdims=True)

def cheapest(cost):
    "All ways to give each target a query of its own (or each query a target), tried one by one"
    N, n = cost.shape
    if n <= N:
        best = min(itertools.permutations(range(N), n),
                   key=lambda q: sum(cost[i, j] for j, i in enumerate(q)))
        return list(zip(best, range(n)))
    best = min(itertools.permutations(range(n), N), key=lambda t: sum(cost[i, j] for i, j in enumerate(t)))
    return list(zip(range(N), best))

def costs(masks, classes, target_classes, target_masks, points, w):
    "(N, n): -2 probability + 5 cross-entropy + 5 dice"
    likely = softmax(classes)
    P, T = [read(m, points) for m in masks], [read(t, points) for t in target_masks]
    return np.array([[-w.classes*likely[i, c] + w.masks*cross_entropy(p, t) + w.dice*dice_loss(p, t)
                      for c, t in zip(target_classes, T)] for i, p in enumerate(P)])

def slow_set_loss(masks, classes, truth, w):
    "The loss of one set of answers, at the random points that torch gives in this order; the matches"
    K = classes.shape[-1] - 1
    wanted, pairs, matches = np.full(classes.shape[:2], K), [], []
    for b, (c, t) in enumerate(truth):
        points = torch.rand(w.points, 2).double().numpy()
        m = cheapest(costs(masks[b], classes[b], c, t, points, w)) if c else []
        matches.append(sorted(m))
        for i, j in sorted(m):
            wanted[b, i] = c[j]
            pairs.append((masks[b, i], t[j]))
    chosen, bce, dice = int(0.75*w.points), 0., 0.
    candidates = torch.rand(len(pairs), 3*w.points, 2).double().numpy()
    rest = torch.rand(len(pairs), w.points - chosen, 2).double().numpy()
    for (m, t), some, more in zip(pairs, candidates, rest):
        unsure = np.argsort(np.abs(read(m, some)), kind='stable')[:chosen]
        points = np.concatenate([some[unsure], more])
        m, t = read(m, points), read(t, points)
        bce, dice = bce + cross_entropy(m, t), dice + dice_loss(m, t)
    weight = np.ones(K + 1); weight[K] = w.no_object
    likely = np.take_along_axis(softmax(classes), wanted[..., None], -1)[..., 0]
    n = max(1, len(pairs))
    return dict(classes=w.classes*(-np.log(likely)*weight[wanted]).sum()/weight[wanted].sum(),
                masks=w.masks*bce/n, dice=w.dice*dice/n), matches

def case(seed, B=2, N=4, K=5, size=(9, 7), label_size=(18, 14)):
    "Answers and label maps: random blocks of classes, some of them unknown (255)"
    rng = np.random.default_rng(seed)
    masks, classes = 2*rng.standard_normal((B, N, *size)), 1.5*rng.standard_normal((B, N, K + 1))
    blocks = rng.choice([0, 1, 3, 4, 255], (B, 3, 2))
    labels = np.kron(blocks, np.ones((1, label_size[0]//3, label_size[1]//2), int))
    truth = [([k for k in np.unique(l) if k != 255],
              [(l == k).astype(float) for k in np.unique(l) if k != 255]) for l in labels]
    return masks, classes, labels, truth

def t32(x): return torch.tensor(x, dtype=torch.float32)


class Loss(unittest.TestCase):
    W = LossWeights(points=40)

    def slow(self, seed, *of):
        "The restatement at the points of a seed"
        torch.manual_seed(seed)
        return slow_set_loss(*of)

    def test_set_loss(self):
        "Matching and the three losses; each term of the cost decides in some of the cases who is matched"
        decided = dict(classes=0, masks=0, dice=0)
        for seed in range(24):
            masks, classes, labels, truth = case(seed)
            expected, matches = self.slow(seed, masks, classes, truth, self.W)
            given = [(torch.tensor(c, dtype=torch.long), t32(np.array(t)).reshape(-1, 18, 14))
                     for c, t in truth]
            torch.manual_seed(seed)
            found = set_loss(t32(masks), t32(classes), given, self.W)
            for k in expected: self.assertAlmostEqual(found[k].item(), expected[k],
                                                      delta=2e-5*max(1, expected[k]), msg=(seed, k))
            for term in decided: decided[term] += self.slow(seed, masks, classes, truth,
                                                            replace(self.W, **{term: 0.}))[1] != matches
        for term, n in decided.items(): self.assertGreater(n, 2, term)

    def test_no_object(self):
        "By hand: two queries, of which the first is matched to class 0; the weight is that of the other"
        masks = t32([[[[9.]*4]*4, [[-9.]*4]*4]])
        classes, truth = t32([[[0., 1., 2.], [0.5, 0., -1.]]]), [(torch.tensor([0]), torch.ones(1, 4, 4))]
        lse = lambda *x: math.log(sum(math.exp(v) for v in x))
        # -log p: of class 0, of "no object"
        first, second = lse(0, 1, 2) - 0, lse(0.5, 0, -1) + 1
        for no_object in (0.1, 1., 0.):
            found = set_loss(masks, classes, truth, replace(self.W, no_object=no_object))
            self.assertAlmostEqual(found['classes'].item(), 2*(first + no_object*second)/(1 + no_object), 5)

    def test_deep_supervision(self):
        "The parts are those of the last answer; the total adds the earlier ones"
        (masks, classes, labels, truth), (earlier, earlier_classes, _, _) = case(30), case(31)
        torch.manual_seed(5)
        found = output_loss(Output(t32(masks), t32(classes), [(t32(earlier), t32(earlier_classes))]),
                            torch.tensor(labels), self.W)
        torch.manual_seed(5)
        last, before = (slow_set_loss(m, c, truth, self.W)[0]
                        for m, c in ((masks, classes), (earlier, earlier_classes)))
        self.assertEqual(set(found), {'classes', 'masks', 'dice', 'total'})
        for k, v in last.items(): self.assertAlmostEqual(found[k].item(), v, delta=1e-4)
        self.assertAlmostEqual(found['total'].item(), sum(last.values()) + sum(before.values()), delta=2e-4)

    def test_pixel_loss(self):
        "Each map at each pixel; without a label a pixel has no loss, or, as in SED, none of the classes"
        rng = np.random.default_rng(0)
        scores, earlier = rng.standard_normal((2, 2, 3, 6, 4))
        labels = rng.choice([0, 1, 2, 255], (2, 6, 4))
        for as_none, counted in ((False, labels != 255), (True, labels == labels)):
            last, total = (sum(np.mean([cross_entropy(maps[b, k, y, x], float(labels[b, y, x] == k))
                                        for b, y, x in np.argwhere(counted) for k in range(3)])
                               for maps in which) for which in ((scores,), (scores, earlier)))
            found = pixel_loss(PixelOutput(t32(scores), [t32(earlier)]), torch.tensor(labels),
                               LossWeights(ignored_as_none=as_none))
            self.assertAlmostEqual(found['pixels'].item(), float(last), 5)
            self.assertAlmostEqual(found['total'].item(), float(total), 5)


if __name__ == '__main__': unittest.main()
