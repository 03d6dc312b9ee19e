"""The label files of the benchmarks are read as the data sets' own lists of classes say.

The lists are written out here. They were copied from nightrome/cocostuff labels.txt, cocodataset/panopticapi
panoptic_coco_categories.json, cityscapesScripts helpers/labels.py, the Detail API's list for PASCAL Context
(PyTorch-Encoding, mmsegmentation), the VOC devkit, and facebookresearch/Mask2Former (ADE20K: things, and the
847 numbers). Every stored number is read, and the name of the class that it becomes is compared with the name
that the data set gives it.
"""
import json, unittest
from hashlib import sha256

import numpy as np

from mrovseg_nb.benchmarks.descriptions import BENCHMARKS
from mrovseg_nb.benchmarks.decoding import decode_labels
from mrovseg_nb.benchmarks.published_names import label_names, benchmark_vocabulary

def rows(text):
    "'1 person, 2 bicycle' -> {1: 'person', 2: 'bicycle'}"
    return {int(i): ' '.join(name) for i, *name in (row.split() for row in text.split(','))}

# COCO-Stuff: categories 1 to 182, of which 1 to 91 are things. A stored pixel is the category minus 1;
# 255 is unlabeled
COCO = rows('''
    1 person, 2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat, 10 traffic
    light, 11 fire hydrant, 12 street sign, 13 stop sign, 14 parking meter, 15 bench, 16 bird, 17 cat, 18
    dog, 19 horse, 20 sheep, 21 cow, 22 elephant, 23 bear, 24 zebra, 25 giraffe, 26 hat, 27 backpack, 28
    umbrella, 29 shoe, 30 eye glasses, 31 handbag, 32 tie, 33 suitcase, 34 frisbee, 35 skis, 36 snowboard,
    37 sports ball, 38 kite, 39 baseball bat, 40 baseball glove, 41 skateboard, 42 surfboard, 43 tennis
    racket, 44 bottle, 45 plate, 46 wine glass, 47 cup, 48 fork, 49 knife, 50 spoon, 51 bowl, 52 banana,
    53 apple, 54 sandwich, 55 orange, 56 broccoli, 57 carrot, 58 hot dog, 59 pizza, 60 donut, 61 cake, 62
    chair, 63 couch, 64 potted plant, 65 bed, 66 mirror, 67 dining table, 68 window, 69 desk, 70 toilet,
    71 door, 72 tv, 73 laptop, 74 mouse, 75 remote, 76 keyboard, 77 cell phone, 78 microwave, 79 oven, 80
    toaster, 81 sink, 82 refrigerator, 83 blender, 84 book, 85 clock, 86 vase, 87 scissors, 88 teddy bear,
    89 hair drier, 90 toothbrush, 91 hair brush, 92 banner, 93 blanket, 94 branch, 95 bridge, 96
    building-other, 97 bush, 98 cabinet, 99 cage, 100 cardboard, 101 carpet, 102 ceiling-other, 103
    ceiling-tile, 104 cloth, 105 clothes, 106 clouds, 107 counter, 108 cupboard, 109 curtain, 110
    desk-stuff, 111 dirt, 112 door-stuff, 113 fence, 114 floor-marble, 115 floor-other, 116 floor-stone,
    117 floor-tile, 118 floor-wood, 119 flower, 120 fog, 121 food-other, 122 fruit, 123 furniture-other,
    124 grass, 125 gravel, 126 ground-other, 127 hill, 128 house, 129 leaves, 130 light, 131 mat, 132
    metal, 133 mirror-stuff, 134 moss, 135 mountain, 136 mud, 137 napkin, 138 net, 139 paper, 140
    pavement, 141 pillow, 142 plant-other, 143 plastic, 144 platform, 145 playingfield, 146 railing, 147
    railroad, 148 river, 149 road, 150 rock, 151 roof, 152 rug, 153 salad, 154 sand, 155 sea, 156 shelf,
    157 sky-other, 158 skyscraper, 159 snow, 160 solid-other, 161 stairs, 162 stone, 163 straw, 164
    structural-other, 165 table, 166 tent, 167 textile-other, 168 towel, 169 tree, 170 vegetable, 171
    wall-brick, 172 wall-concrete, 173 wall-other, 174 wall-panel, 175 wall-stone, 176 wall-tile, 177
    wall-wood, 178 water-other, 179 waterdrops, 180 window-blind, 181 window-other, 182 wood''')
# categories that COCO never annotated
NEVER = {'street sign', 'hat', 'shoe', 'eye glasses', 'plate', 'mirror', 'window', 'desk', 'door', 'blender',
         'hair brush'}

# COCO panoptic: the things are those of COCO, these are the 53 stuff categories
PANOPTIC_STUFF = rows('''
    92 banner, 93 blanket, 95 bridge, 100 cardboard, 107 counter, 109 curtain, 112 door-stuff, 118
    floor-wood, 119 flower, 122 fruit, 125 gravel, 128 house, 130 light, 133 mirror-stuff, 138 net, 141
    pillow, 144 platform, 145 playingfield, 147 railroad, 148 river, 149 road, 151 roof, 154 sand, 155
    sea, 156 shelf, 159 snow, 161 stairs, 166 tent, 168 towel, 171 wall-brick, 175 wall-stone, 176
    wall-tile, 177 wall-wood, 178 water-other, 180 window-blind, 181 window-other, 184 tree-merged, 185
    fence-merged, 186 ceiling-merged, 187 sky-other-merged, 188 cabinet-merged, 189 table-merged, 190
    floor-other-merged, 191 pavement-merged, 192 mountain-merged, 193 grass-merged, 194 dirt-merged, 195
    paper-merged, 196 food-other-merged, 197 building-other-merged, 198 rock-merged, 199
    wall-other-merged, 200 rug-merged''')

# Cityscapes: id, name, trainId (255: not counted)
CITYSCAPES = '''
    0 unlabeled 255, 1 ego vehicle 255, 2 rectification border 255, 3 out of roi 255, 4 static 255, 5
    dynamic 255, 6 ground 255, 7 road 0, 8 sidewalk 1, 9 parking 255, 10 rail track 255, 11 building 2,
    12 wall 3, 13 fence 4, 14 guard rail 255, 15 bridge 255, 16 tunnel 255, 17 pole 5, 18 polegroup 255,
    19 traffic light 6, 20 traffic sign 7, 21 vegetation 8, 22 terrain 9, 23 sky 10, 24 person 11, 25
    rider 12, 26 car 13, 27 truck 14, 28 bus 15, 29 caravan 255, 30 trailer 255, 31 train 16, 32
    motorcycle 17, 33 bicycle 18'''
CITYSCAPES = [(int(i), ' '.join(name), int(train))
              for i, *name, train in map(str.split, CITYSCAPES.split(','))]

# PASCAL VOC: number, name; the colour of each in the PNGs
VOC = rows('1 aeroplane, 2 bicycle, 3 bird, 4 boat, 5 bottle, 6 bus, 7 car, 8 cat, 9 chair, 10 cow, '
           '11 diningtable, 12 dog, 13 horse, 14 motorbike, 15 person, 16 pottedplant, 17 sheep, '
           '18 sofa, 19 train, 20 tvmonitor')
VOC_COLOURS = {
    0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0),
    4: (0, 0, 128), 5: (128, 0, 128), 6: (0, 128, 128), 7: (128, 128, 128),
    8: (64, 0, 0), 9: (192, 0, 0), 10: (64, 128, 0), 11: (192, 128, 0),
    12: (64, 0, 128), 13: (192, 0, 128), 14: (64, 128, 128), 15: (192, 128, 128),
    16: (0, 64, 0), 17: (128, 64, 0), 18: (0, 192, 0), 19: (128, 192, 0),
    20: (0, 64, 128),
    255: (224, 224, 192)}

# PASCAL Context: of the 459 categories, the 59 that are usually counted
CONTEXT = rows('''
    2 aeroplane, 9 bag, 18 bed, 19 bedclothes, 22 bench, 23 bicycle, 25 bird, 31 boat, 33 book, 34 bottle,
    44 building, 45 bus, 46 cabinet, 59 car, 65 cat, 68 ceiling, 72 chair, 80 cloth, 85 computer, 98 cow,
    104 cup, 105 curtain, 113 dog, 115 door, 144 fence, 158 floor, 159 flower, 162 food, 187 grass, 189
    ground, 207 horse, 220 keyboard, 232 light, 258 motorbike, 259 mountain, 260 mouse, 284 person, 295
    plate, 296 platform, 308 pottedplant, 324 road, 326 rock, 347 sheep, 349 shelves, 354 sidewalk, 355
    sign, 360 sky, 366 snow, 368 sofa, 397 table, 415 track, 416 train, 420 tree, 424 truck, 427
    tvmonitor, 440 wall, 445 water, 454 window, 458 wood''')

# ADE20K: the 150 classes in the order 1 to 150; * is a thing
ADE = '''
    wall, building, sky, floor, tree, ceiling, road, bed*, window*, grass, cabinet*, sidewalk, person*,
    earth, door*, table*, mountain, plant, curtain*, chair*, car*, water, painting*, sofa*, shelf*, house,
    sea, mirror*, rug, field, armchair*, seat*, fence*, desk*, rock, wardrobe*, lamp*, tub*, rail*,
    cushion*, base, box*, column*, signboard*, chest of drawers*, counter*, sand, sink*, skyscraper,
    fireplace*, refrigerator*, grandstand, path, stairs*, runway, case*, pool table*, pillow*, screen
    door*, stairway, river, bridge, bookcase*, blind, coffee table*, toilet*, flower*, book*, hill,
    bench*, countertop*, stove*, palm*, kitchen island*, computer*, swivel chair*, boat*, bar, arcade
    machine*, hovel, bus*, towel*, light*, truck*, tower, chandelier*, awning*, street lamp*, booth*, tv*,
    plane*, dirt track, clothes*, pole*, land, bannister*, escalator, ottoman*, bottle*, buffet, poster,
    stage, van*, ship*, fountain*, conveyer belt, canopy, washer*, plaything*, pool, stool*, barrel*,
    basket*, falls, tent, bag*, minibike*, cradle, oven*, ball*, food*, step*, tank, trade name*,
    microwave*, pot*, animal*, bicycle*, lake, dishwasher*, screen*, blanket, sculpture*, hood*, sconce*,
    vase*, traffic light*, tray*, trash can*, fan*, pier, crt screen, plate*, monitor*, bulletin board*,
    shower, radiator*, glass*, clock*, flag*'''
ADE = [' '.join(name.split()) for name in ADE.split(',')]

# ADE20K in full: the number of each of the 847 classes, and a digest of the lines 'number name'
ADE_FULL = [int(i) for i in '''
    2978 312 2420 2855 2131 976 447 165 2377 838 350 1831 1125 3055 401 1610 1910 2684 471 687 774 2473
    2264 1735 2994 1564 1276 2178 2329 57 907 913 1395 2138 2272 2128 724 155 2053 2380 689 1788 3087 2530
    581 2388 2985 2454 2096 137 294 212 2185 524 2212 943 1869 2251 2793 2423 1121 266 1948 1744 783 571
    627 629 491 1374 223 3016 2598 978 239 608 236 2531 2616 591 327 2679 1451 181 420 2821 1023 855 2733
    2928 1240 77 1969 2880 14 1936 2828 631 103 3144 308 1282 38 1563 29 480 2569 247 187 778 2243 1941
    2833 120 95 2836 1087 868 1401 220 47 843 123 2537 1927 2337 1702 64 249 642 1981 609 2840 2586 1393
    2704 1304 146 1494 2739 389 1551 131 738 161 747 1919 3109 2179 2989 206 1930 1002 2254 1708 2526 160
    2901 2262 44 597 2235 1260 682 2151 3107 432 1098 2932 461 410 2046 533 1481 1858 894 1322 1891 1756
    49 1272 1229 2850 1784 2962 259 319 954 1974 1013 2356 97 318 592 2885 1017 851 1407 1332 303 2714
    1924 1346 1081 1583 2727 2509 2123 602 202 10 490 530 2213 1884 2934 2687 387 2668 982 2547 1474 877
    1391 414 698 2019 2422 3010 1139 753 1747 2175 1301 1033 1789 2939 2730 1652 90 1349 2830 1485 2370
    2155 118 1402 1957 3130 1197 52 2688 96 762 772 1857 2315 1016 643 3105 1849 791 349 6 3114 1587 1233
    559 1223 3049 1943 853 709 1390 2748 2007 1546 1513 2600 2538 1790 194 326 2877 594 2036 1662 2366
    1754 418 2553 1951 1963 918 2086 997 2731 704 1365 569 3108 948 839 63 1305 378 2362 2734 2982 2398
    1119 382 1141 1805 3102 2341 1131 2316 2626 3104 198 1896 2800 190 3131 1463 357 929 209 912 1164 1509
    2539 3116 2615 1644 818 242 2217 2347 2686 2300 572 789 358 2443 101 2969 2692 606 2339 1533 2060 1782
    495 371 2707 889 3156 2683 1499 1135 1619 125 2838 2792 1695 746 1343 1370 2858 145 2565 1892 1103 286
    170 3073 922 1655 1602 2160 1151 2176 2239 132 394 1424 607 700 116 1425 2676 141 2360 2449 897 317
    2228 2351 1543 656 1088 373 2472 2892 1740 3067 1367 188 79 1633 1885 677 1779 1297 2334 3027 2735
    1791 2405 1748 2983 3035 2824 2168 385 2148 2465 175 390 268 2722 2857 3088 2926 2782 1378 1934 2072
    2889 944 1158 1383 867 2145 1915 361 402 482 2761 300 1554 636 260 1186 871 2859 2103 208 2236 2012
    2462 1462 2832 2617 1024 1129 18 376 134 407 434 2017 2717 2005 2993 1545 1445 2831 1161 2411 2949
    1769 552 2327 939 3013 1986 1486 2723 1549 2649 1020 392 422 1419 2099 2464 3058 430 675 2941 2955
    2355 840 32 2338 1232 2834 2991 2879 444 1657 2246 296 245 2661 1202 1714 251 1095 1828 311 2732 947
    2115 2738 2525 2194 634 740 2682 2020 1156 1036 1295 1181 3037 1614 736 893 2047 1274 1361 3036 2606
    2797 2022 2876 2758 472 3028 882 1189 743 3122 2401 468 1061 1523 3059 2843 2853 1529 214 3032 3071
    277 813 426 1039 727 1508 2490 2299 768 1172 537 1847 1664 1110 1014 662 121 227 2410 2165 2696 3005
    1231 635 292 2690 65 2607 2574 1188 456 2913 459 1955 827 1111 2412 2997 528 366 1863 500 1001 1958
    1441 809 210 435 718 1674 388 1572 1584 1944 674 99 2352 1019 1763 185 554 1066 2508 951 2822 415 297
    1914 2619 1338 2505 955 2786 238 3000 2763 299 822 1288 3101 2894 992 489 2157 2309 1576 1810 2964
    2662 2087 1569 503 1505 1468 1613 1138 1256 2715 2846 477 2576 108 2245 1162 2149 2183 858 1324 1055
    1741 149 615 825 2143 304 283 2322 3017 2510 1960 265 2282 2184 1461 3113 2372 2166 232 693 1945 3039
    2494 1908 2827 280 2950 1044 288 2863 1342 2409 1258 2249 2862 920 1607 2802 610 3129 1108 2823 476
    2641 2788 2070 1368 2903 699 2844 942 2663 457 2701 2540 2231 2746 1738 2350 2808 2025 2541 2156 126
    2512 831 2503 2039 2774 886 919 2240 2636 963 1218 1406 1420 526 2639 975 1921 2305 1193 2517 2809
    1647 314 2560 545 1345 775 603 1163 1641 1678 2450 2915 42 2242 2741 1143 862 1654 1826 1689 3124 2710
    152 549 360 1982 1478 2203 2612 2956 2681 437 2171 1933 3110 1824 2803 234 764 177 817 3145 1262 864
    2359 2992 1725 2667 2484 1133 1667 2847 932 1392 2573 2140 1046 264 2927 2752 679 2493 1658 2466 1057
    2444 2093 2248 2432 726 816 1171 2766 2900 2313 488 2265 2043 332 1771 2320 2646 1089 2826
    3148'''.split()]
ADE_FULL_NAMES = '3a63b842515f82bbce30a8d81b5d5a29f5536f767676bf72fb929d623814a5ff'


def read(coding, k, numbers, **more):
    "What a row of stored numbers becomes"
    return decode_labels(coding, k, np.array([numbers]), **more)[0][0].tolist()

class Labels(unittest.TestCase):
    def check(self, benchmark, named, void, names, coding=None, ignore=255):
        "The name of each stored number's label, the numbers that are not counted, and every label once"
        k = BENCHMARKS[benchmark].labels
        found = read(coding or benchmark, k, [*named])
        self.assertEqual({i: names[label] for i, label in zip(named, found)}, named)
        self.assertEqual(sorted(found), list(range(k)))
        self.assertEqual(set(read(coding or benchmark, k, list(void))), {ignore})
        self.assertEqual((len(names), BENCHMARKS[benchmark].ignore), (k, ignore))

    def test_the_facts(self):
        "The lists are whole"
        things = {i: n for i, n in COCO.items() if i <= 91 and n not in NEVER}
        self.assertEqual((list(COCO), len(things), len(NEVER), len(set(COCO.values()))),
                         ([*range(1, 183)], 80, 11, 182))
        self.assertEqual(sum(i > 91 for i in COCO), 91)
        self.assertEqual((len(PANOPTIC_STUFF), max(PANOPTIC_STUFF)), (53, 200))
        self.assertEqual([i for i, *_ in CITYSCAPES], [*range(34)])
        self.assertEqual((len(VOC), len(CONTEXT), len(ADE), sum(n.endswith('*') for n in ADE)),
                         (20, 59, 150, 100))
        self.assertEqual(len(set(ADE_FULL)), 847)

    def test_coco_stuff(self):
        known = {i - 1: n for i, n in COCO.items() if n not in NEVER}
        never = [i - 1 for i, n in COCO.items() if n in NEVER]
        self.check('coco-stuff', known, [255, *never], benchmark_vocabulary('coco-stuff', 'san').names)

    def test_coco_object(self):
        "The 80 things from 1 on; all else is background, 0"
        things = {i - 1: n for i, n in COCO.items() if i <= 91 and n not in NEVER}
        rest = [i - 1 for i in COCO if i - 1 not in things] + [255]
        self.assertEqual({label_names('coco-object')[k] for k in read('coco-object', 81, rest)},
                         {'background'})
        self.assertEqual({i: label_names('coco-object')[k]
                          for i, k in zip(things, read('coco-object', 81, [*things]))}, things)
        self.assertEqual(read('coco-object', 81, [*things]), [*range(1, 81)])
        sclip = benchmark_vocabulary('coco-object', 'sclip')
        self.assertEqual(sclip.names[1:], label_names('coco-object')[1:])

    def test_ade20k_150(self):
        names = [n.split(',')[0].strip() for n in benchmark_vocabulary('ade20k-150', 'san').names]
        self.check('ade20k-150', {i: n.rstrip('*') for i, n in enumerate(ADE, 1)}, [0], names)

    def test_voc(self):
        # SAN's word for the last class
        words = {'tv': 'tvmonitor'}
        san = [words.get(n, n) for n in benchmark_vocabulary('voc-20', 'san').names]
        self.check('voc-20', VOC, [0, 255], san)
        self.check('voc-20b', VOC | {0: 'background'}, [255], label_names('voc-20b'))
        self.check('voc-21', VOC | {0: 'background'}, [255], label_names('voc-21'))
        # masks whose colours were kept
        for name, k in (('voc-20', 20), ('voc-20b', 21), ('voc-21', 21)):
            colours = np.array([[VOC_COLOURS[i] for i in VOC_COLOURS]], np.uint8)
            self.assertEqual(decode_labels(name, k, colours)[0][0].tolist(), read(name, k, [*VOC_COLOURS]))

    def test_cityscapes(self):
        named = {i: n for i, n, train in CITYSCAPES if train != 255}
        names = benchmark_vocabulary('cityscapes', 'official').names
        self.check('cityscapes', named, [i for i, _, train in CITYSCAPES if train == 255] + [255], names)
        self.assertEqual(read('cityscapes', 19, [i for i, *_ in CITYSCAPES]),
                         [train for *_, train in CITYSCAPES])
        self.assertEqual(benchmark_vocabulary('cityscapes', 'sclip').names[-4:],
                         ('bus', 'train', 'motorcycle', 'bicycle'))

    def test_context(self):
        "The 459 of the .mat files; the 59 and 60 from objects of the JSON, and from PNGs that hold 1 to 59"
        all459, words = benchmark_vocabulary('context-459', 'san').names, {'diningtable': 'table',
                                                                'pottedplant': 'pottedplant'}
        self.assertEqual(read('context-459', 459, [*range(1, 460), 0, 460, 65535]),
                         [*range(459), 65535, 65535, 65535])
        same = lambda name: words.get(name.replace(' ', ''), name.replace(' ', ''))
        self.assertEqual({i: same(all459[i - 1]) for i in CONTEXT}, CONTEXT)
        for name, k, extra in (('context-59', 59, 0), ('context-60', 60, 1)):
            names = [same(n) for n in label_names(name)]
            # pixel i of a column of 460
            one = lambda i: dict(counts=[i, 1, 459 - i], size=[460, 1])
            note = json.dumps([460, 1, [[i, one(i)] for i in range(1, 460)]])
            found = decode_labels('detail', k, None, note=note)[0][:, 0].tolist()
            self.assertEqual({i: names[found[i]] for i in CONTEXT}, CONTEXT)
            rest = {found[i] for i in range(460) if i not in CONTEXT}
            self.assertEqual(rest, {255} if k == 59 else {0})
            self.assertEqual([found[i] for i in CONTEXT], [*range(extra, k)])
        self.assertEqual(read('context-59', 59, range(60)), [255, *range(59)])
        san = benchmark_vocabulary('context-59', 'san')
        self.assertEqual([same(n) for n in san.names], list(CONTEXT.values()))

    def test_coco_panoptic(self):
        "The colour of a segment is R + 256 G + 65536 B; things are numbered, crowds are not"
        things = {i: n for i, n in COCO.items() if i <= 91 and n not in NEVER}
        categories, names = things | PANOPTIC_STUFF, benchmark_vocabulary('coco-panoptic', 'official').names
        ids = {c: 70000 + 261*c for c in categories}
        png = np.array([[(i % 256, i//256 % 256, i//65536) for i in [*ids.values(), 0]]], np.uint8)
        note = [dict(id=i, category_id=c, iscrowd=int(c == 1)) for c, i in ids.items()]
        labels, objects = decode_labels('coco-panoptic', 133, png, note=json.dumps(note))
        self.assertEqual({c: names[k] for c, k in zip(categories, labels[0])}, categories)
        self.assertEqual(labels[0].tolist(), [*range(133), 255])
        # a person who is a crowd; 79 things; stuff
        self.assertEqual(objects[0].tolist(), [0, *range(1, 80)] + [0]*54)
        self.assertEqual(BENCHMARKS['coco-panoptic'].things, 80)

    def test_ade20k_panoptic(self):
        "Things first; in two files, and as converted for detectron2"
        things, stuff = [n.strip('*') for n in ADE if '*' in n], [n for n in ADE if '*' not in n]
        names = [n.split(',')[0].strip() for n in benchmark_vocabulary('ade20k-panoptic', 'san').names]
        self.assertEqual(names, things + stuff)
        # in the map of classes
        number = {n.strip('*'): i for i, n in enumerate(ADE, 1)}
        semantic = np.array([[number[n] for n in names] + [0]], np.uint8)
        # red: the thing class; green: the object
        objects = np.array([[(r + 1, r + 1, 7) for r in range(100)] + [(0, 0, 0)]*51], np.uint8)
        labels, numbers = decode_labels('ade20k-panoptic', 150, semantic, objects)
        self.assertEqual(labels[0].tolist(), [*range(150), 255])
        self.assertEqual(numbers[0].tolist(), [*range(1, 101)] + [0]*51)
        # a thing that is no object is unknown
        labels, _ = decode_labels('ade20k-panoptic', 150, semantic, np.zeros_like(objects))
        self.assertEqual(labels[0].tolist(), [255]*100 + [*range(100, 150)] + [255])
        # category_id: the class of the 150, from 0
        png = np.array([[(i, 1, 0) for i in range(150)]], np.uint8)
        note = json.dumps([dict(id=i + 256, category_id=i) for i in range(150)])
        labels, _ = decode_labels('ade20k-panoptic-json', 150, png, note=note)
        self.assertEqual([names[k] for k in labels[0]], [n.strip('*') for n in ADE])
        self.assertEqual(BENCHMARKS['ade20k-panoptic'].things, 100)

    def test_ade20k_847(self):
        "A _seg.png codes the number as red//10*256 + green"
        names = benchmark_vocabulary('ade20k-847', 'san').names
        lines = '\n'.join(f'{i} {n}' for i, n in zip(ADE_FULL, names))
        self.assertEqual(sha256(lines.encode()).hexdigest(), ADE_FULL_NAMES)
        png = np.array([[(i//256*10 + 3, i % 256, 9) for i in [*ADE_FULL, 0, 1]]], np.uint8)
        self.assertEqual(decode_labels('ade20k-847', 847, png)[0][0].tolist(), [*range(847), 65535, 65535])


if __name__ == '__main__': unittest.main()
