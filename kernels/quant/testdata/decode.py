#!/usr/bin/env python3
"""Writes decode_<TYPE>.bin: 1024 elements of random blocks as GGUF bytes, then
their float32 values as the gguf package (an implementation by the authors of
the format) dequantises them.   decode.py OUTDIR     needs: pip install gguf numpy
"""
import sys, os, numpy as np, gguf
from gguf.quants import dequantize

HALVES = {'F16': [0], 'Q4_0': [0], 'Q4_1': [0, 2], 'Q5_0': [0], 'Q5_1': [0, 2], 'Q8_0': [0], 'Q2_K': [80, 82],
          'Q3_K': [108], 'Q4_K': [0, 2], 'Q5_K': [0, 2], 'Q6_K': [208], 'IQ4_NL': [0], 'IQ4_XS': [0]}
for name in 'F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4'.split():
    t = gguf.GGMLQuantizationType[name]
    elems, size = gguf.GGML_QUANT_SIZES[t]
    r = np.random.default_rng(int(t) + 7)
    b = r.integers(0, 256, (1024 // elems, size), dtype=np.uint8)
    for at in HALVES.get(name, []):
        b[:, at + 1] &= 0xbf          # no infinity, no NaN
    if name == 'MXFP4': b[:, 0] = r.integers(0, 255, len(b))
    if name == 'BF16': b[:, 1] &= 0xbf
    if name == 'F32': b[:, 3] &= 0xbf
    y = dequantize(b.reshape(1, -1) if elems > 1 else b.reshape(1, -1), t).astype(np.float32).reshape(-1)
    assert len(y) == 1024 and np.isfinite(y).all(), name
    with open(os.path.join(sys.argv[1], f'decode_{name}.bin'), 'wb') as f:
        f.write(b.tobytes()); f.write(y.astype('<f4').tobytes())
