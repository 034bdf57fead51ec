#!/usr/bin/env python3
"""Write tiny/qwen2moe-Q8_0.gguf, a small random model, and tiny/tiny_qwen2moe.json, what it computes in float64.

  qwen2moe.py OUTDIR        needs: pip install gguf numpy

Nothing here is weft's: weights are quantised and dequantised by the gguf package, and the forward pass is written from the
architecture's definition (softmax over all experts, the weights of the chosen ones as they are; one more expert for every
token, times the sigmoid of a gate). llama.cpp, asked with the file dequantised to F32 (llama-quantize --allow-requantize),
gives the same 48 tokens for each prompt and log-probabilities within 1.1e-5 of these.
"""
import json, os, sys
import numpy as np, gguf

V, D, L, H, K, HD, E, USED, FF, SH, EPS, BASE = 288, 128, 2, 4, 2, 32, 6, 2, 96, 160, 1e-6, 1000000.0
Q8, F32 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.F32

def byte_tokens():
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    names, n = {b: chr(b) for b in plain}, 0
    for b in range(256):
        if b not in names: names[b] = chr(256+n); n += 1
    return [names[b] for b in range(256)]

def write(path):
    r, w, values = np.random.default_rng(2024), gguf.GGUFWriter(path, 'qwen2moe'), {}
    a = 'qwen2moe.'
    for k, v in dict(context_length=2048, embedding_length=D, block_count=L, feed_forward_length=FF*USED, expert_count=E, expert_used_count=USED,
                     expert_feed_forward_length=FF, expert_shared_feed_forward_length=SH).items(): w.add_uint32(a+k, v)
    w.add_uint32(a+'attention.head_count', H); w.add_uint32(a+'attention.head_count_kv', K)
    w.add_float32(a+'attention.layer_norm_rms_epsilon', EPS); w.add_float32(a+'rope.freq_base', BASE)
    w.add_name('tiny-qwen2moe'); w.add_tokenizer_model('gpt2'); w.add_tokenizer_pre('gpt-2')
    w.add_token_list(byte_tokens() + [f'<|{i}|>' for i in range(V-256)]); w.add_token_types([1]*256 + [3]*(V-256)); w.add_token_merges(['! !'])
    w.add_bos_token_id(V-2); w.add_eos_token_id(V-1); w.add_add_bos_token(False)
    def tensor(name, x, kind=Q8):
        x = np.ascontiguousarray(x, dtype=np.float32)
        if kind == F32: w.add_tensor(name, x); values[name] = x.astype(np.float64); return
        q = gguf.quants.quantize(x, kind); w.add_tensor(name, q, raw_dtype=kind)
        values[name] = gguf.quants.dequantize(q, kind).astype(np.float64).reshape(x.shape)
    mat = lambda *dims, gain=1.0: r.standard_normal(dims)*gain/np.sqrt(dims[-1])
    norm = lambda n: 1+0.15*r.standard_normal(n)
    e = r.standard_normal((V, D)); e[250:] *= 0.01; tensor('token_embd.weight', e)
    for l in range(L):
        p = f'blk.{l}.'
        tensor(p+'attn_norm.weight', norm(D), F32)
        for n, rows in (('q', H*HD), ('k', K*HD), ('v', K*HD)):
            tensor(p+f'attn_{n}.weight', mat(rows, D, gain=1.4)); tensor(p+f'attn_{n}.bias', 0.3*r.standard_normal(rows), F32)
        tensor(p+'attn_output.weight', mat(D, H*HD, gain=1.2)); tensor(p+'ffn_norm.weight', norm(D), F32)
        tensor(p+'ffn_gate_inp.weight', mat(E, D, gain=2.0), F32)
        tensor(p+'ffn_gate_exps.weight', mat(E, FF, D, gain=2.0)); tensor(p+'ffn_up_exps.weight', mat(E, FF, D, gain=2.0)); tensor(p+'ffn_down_exps.weight', mat(E, D, FF, gain=3.0))
        tensor(p+'ffn_gate_shexp.weight', mat(SH, D, gain=1.4)); tensor(p+'ffn_up_shexp.weight', mat(SH, D, gain=1.4)); tensor(p+'ffn_down_shexp.weight', mat(D, SH, gain=1.5))
        tensor(p+'ffn_gate_inp_shexp.weight', mat(D, gain=2.0), F32)
    tensor('output_norm.weight', norm(D), F32); o = 0.2*r.standard_normal((V, D)); o[250:] *= 0.01; tensor('output.weight', o)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
    return values

def rms(x, w): return x/np.sqrt((x*x).mean(-1, keepdims=True)+np.float64(np.float32(EPS)))*w
def sigmoid(x): return 1/(1+np.exp(-x))
def ffn(x, gate, up, down): g = x@gate.T; return (g*sigmoid(g)*(x@up.T))@down.T

def rotate(x):
    t, _, d = x.shape; a = np.arange(t)[:, None]*BASE**(-2*np.arange(d//2)/d); c, s = np.cos(a)[:, None], np.sin(a)[:, None]
    p, q = x[..., :d//2], x[..., d//2:]
    return np.concatenate([p*c-q*s, p*s+q*c], -1)

def logprobs(W, ids):
    x, t = W['token_embd.weight'][ids], len(ids)
    for l in range(L):
        w = lambda n: W[f'blk.{l}.{n}']
        h = rms(x, w('attn_norm.weight'))
        q, k, v = ((h@w(f'attn_{n}.weight').T+w(f'attn_{n}.bias')).reshape(t, -1, HD) for n in 'qkv')
        q, k, v = rotate(q), np.repeat(rotate(k), H//K, 1), np.repeat(v, H//K, 1)
        s = np.einsum('thd,shd->hts', q, k)/np.sqrt(HD)
        s = np.where(np.arange(t)[None] <= np.arange(t)[:, None], s, -np.inf); s = np.exp(s-s.max(-1, keepdims=True)); s /= s.sum(-1, keepdims=True)
        x = x+np.einsum('hts,shd->thd', s, v).reshape(t, H*HD)@w('attn_output.weight').T
        h = rms(x, w('ffn_norm.weight'))
        p = h@w('ffn_gate_inp.weight').T; p = np.exp(p-p.max(-1, keepdims=True)); p /= p.sum(-1, keepdims=True)
        o = sigmoid(h@w('ffn_gate_inp_shexp.weight'))[:, None]*ffn(h, *(w(f'ffn_{n}_shexp.weight') for n in ('gate', 'up', 'down')))
        for i in range(t):
            for e in np.argsort(-p[i])[:USED]: o[i] += p[i, e]*ffn(h[i], *(w(f'ffn_{n}_exps.weight')[e] for n in ('gate', 'up', 'down')))
        x = x+o
    z = rms(x[-1], W['output_norm.weight'])@W['output.weight'].T; z = z-z.max()
    return z-np.log(np.exp(z).sum())

def greedy(W, prompt, n=48):
    out, ids = dict(tokens=[], logprob=[], margin=[], top10=[]), list(prompt)
    for i in range(n):
        lp = logprobs(W, ids); top = np.argsort(-lp)[:10]
        out['tokens'].append(int(top[0])); out['logprob'].append(round(float(lp[top[0]]), 5)); out['margin'].append(round(float(lp[top[0]]-lp[top[1]]), 5))
        if i < 16: out['top10'].append([[int(x), round(float(lp[x]), 5)] for x in top])
        ids.append(int(top[0]))
    return out

if __name__ == '__main__':
    d = sys.argv[1]; W = write(os.path.join(d, 'qwen2moe-Q8_0.gguf')); r = np.random.default_rng(5)
    prompts = [r.integers(33, 126, n).tolist() for n in (5, 40, 150)]
    json.dump(dict(arch='qwen2moe', tool='float64, qwen2moe.py', prompts=prompts, n_predict=48, variants=[dict(
        file='tiny/qwen2moe-Q8_0.gguf', type='Q8_0', results_dequant_f32=[greedy(W, p) for p in prompts])]), open(os.path.join(d, 'tiny_qwen2moe.json'), 'w'), separators=(',', ':'))
