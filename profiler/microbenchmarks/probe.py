#!/usr/bin/env python3
"""Measures on one Hopper GPU what the simulator's cost model rests on (simulator/cost_constants.h).

    nvcc -O2 -arch=sm_90a -shared -Xcompiler -fPIC -cudart static sm_holder.cu -o libsm_holder.so
    python3 probe.py > h100-microbenchmarks.json

Needs PyTorch with CUDA. Times are medians of 20 runs between CUDA events, on random data.
"""
import ctypes
import datetime
import json
import os
import statistics
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

HOLDER = ctypes.CDLL(os.path.join(os.path.dirname(os.path.abspath(__file__)), "libsm_holder.so"))
SIDE = torch.cuda.Stream()
GPU_CLOCK_HZ = 1.7e9


def event():
    return torch.cuda.Event(enable_timing=True)


def elapsed(begin, end):
    return begin.elapsed_time(end) * 1e-3


def seconds(call, runs=20, warm_up=5):
    for _ in range(warm_up):
        call()
    torch.cuda.synchronize()
    times = []
    for _ in range(runs):
        begin, end = event(), event()
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(elapsed(begin, end))
    return statistics.median(times)


def random(*shape, **options):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16, **options)


def gemm(m, n, k):
    a, b, out = random(m, k), random(n, k).t(), torch.empty(m, n, device="cuda", dtype=torch.bfloat16)
    return lambda: torch.mm(a, b, out=out)


def measure_gemm():
    shapes = [(8192, 8192, 8192), (1024, 6144, 4096), (1024, 4096, 4096), (8192, 768, 4096), (4096, 5120, 2048),
              (4096, 2048, 4096), (4096, 151936, 2048), (8192, 10240, 8192), (8192, 14336, 8192), (8192, 8192, 28672),
              (8192, 8192, 7168), (8192, 1280, 8192), (4096, 2112, 7168), (4096, 7168, 16384), (4096, 24576, 1536),
              (4096, 32768, 512), (2048, 8192, 8192), (16384, 4096, 4096), (16384, 28672, 4096), (16384, 4096, 14336)]
    return [{"m": m, "n": n, "k": k, "seconds": seconds(gemm(m, n, k))} for m, n, k in shapes]


def measure_weight_gradients():
    rows = []
    for m, n, k in [(4096, 14336, 8192), (2048, 768, 4096), (8192, 8192, 8192)]:
        x, dy = random(k, m), random(k, n)
        rows.append({"m": m, "n": n, "k": k, "seconds": seconds(lambda: torch.mm(x.t(), dy))})
    return rows


def measure_grouped():
    rows = []
    for groups, m, n, k in [(4, 768, 28672, 4096), (4, 768, 4096, 14336), (1, 2048, 28672, 4096), (8, 4096, 14336, 4096),
                            (8, 1024, 14336, 4096), (16, 2048, 1536, 2048), (16, 2048, 2048, 768), (8, 4096, 1536, 2048),
                            (4, 1024, 3072, 4096), (4, 1024, 4096, 1536), (32, 512, 2048, 7168), (4, 8192, 4096, 7168),
                            (8, 256, 2816, 2048), (64, 128, 2816, 2048)]:
        x, w = random(groups * m, k), random(groups, n, k).transpose(1, 2)
        ends = torch.arange(1, groups + 1, device="cuda", dtype=torch.int32) * m
        rows.append({"groups": groups, "rows": m, "n": n, "k": k,
                     "seconds": seconds(lambda: torch._grouped_mm(x, w, offs=ends))})
    return rows


def measure_attention():
    rows = []
    for batch, heads, tokens, width in [(1, 4, 8192, 128), (1, 32, 4096, 128), (2, 32, 4096, 128), (1, 64, 8192, 128),
                                        (1, 16, 4096, 192)]:
        q, k, v = (random(batch, heads, tokens, width, requires_grad=True) for _ in range(3))
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            forward = seconds(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            grad = torch.randn_like(out)
            backward = seconds(lambda: torch.autograd.grad(out, (q, k, v), grad, retain_graph=True))
        rows.append({"batch": batch, "heads": heads, "tokens": tokens, "width": width, "forward_seconds": forward,
                     "backward_seconds": backward})
    return rows


def measure_held_sms():
    """A GEMM beside a kernel that holds some SMs, shared memory and all, for longer than the GEMM takes."""
    stop = torch.zeros(1, dtype=torch.int32, device="cuda")
    rows = []
    for m, n, k in [(8192, 8192, 8192), (4096, 4096, 4096), (1024, 6144, 4096), (2048, 28672, 4096)]:
        call = gemm(m, n, k)
        alone = seconds(call)
        for held in (4, 8, 16, 20, 32, 64):
            times = []
            for _ in range(7):
                torch.cuda.synchronize()
                cycles = int(alone * 8 * GPU_CLOCK_HZ) + 2_000_000
                HOLDER.hold_sms(held, ctypes.c_longlong(cycles), ctypes.c_void_p(stop.data_ptr()),
                                ctypes.c_void_p(SIDE.cuda_stream))
                time.sleep(0.0003)
                begin, end = event(), event()
                begin.record()
                call()
                end.record()
                end.synchronize()
                times.append(elapsed(begin, end))
            rows.append({"m": m, "n": n, "k": k, "held_sms": held, "alone_seconds": alone,
                         "seconds": statistics.median(times)})
    return rows


def measure_copy_kernel():
    """A GEMM beside a copy kernel without shared memory, whose CTAs may share SMs with the GEMM's."""
    size = 256 << 20
    source, target = torch.empty(size, dtype=torch.uint8, device="cuda"), torch.empty(size, dtype=torch.uint8, device="cuda")

    def copy(ctas, stream):
        HOLDER.copy(ctas, ctypes.c_void_p(source.data_ptr()), ctypes.c_void_p(target.data_ptr()),
                    ctypes.c_longlong(size), ctypes.c_void_p(stream.cuda_stream))

    rows = []
    for m, n, k in [(8192, 8192, 8192), (2048, 28672, 4096)]:
        call = gemm(m, n, k)
        alone = seconds(call)
        for ctas in (4, 8, 16, 32):
            copy_alone = seconds(lambda: copy(ctas, torch.cuda.current_stream()), 5, 2)
            gemm_times, copy_times = [], []
            for _ in range(7):
                torch.cuda.synchronize()
                begin, end, copy_begin, copy_end = (event() for _ in range(4))
                copy_begin.record(SIDE)
                copy(ctas, SIDE)
                copy_end.record(SIDE)
                begin.record()
                call()
                end.record()
                torch.cuda.synchronize()
                gemm_times.append(elapsed(begin, end))
                copy_times.append(elapsed(copy_begin, copy_end))
            rows.append({"m": m, "n": n, "k": k, "copy_ctas": ctas, "gemm_alone_seconds": alone,
                         "copy_alone_seconds": copy_alone, "gemm_seconds": statistics.median(gemm_times),
                         "copy_seconds": statistics.median(copy_times)})
    return rows


def measure_rows():
    rows = []
    for tokens, hidden, copies in [(8192, 4096, 2), (8192, 4096, 3), (4096, 2048, 8), (4096, 7168, 8), (16384, 4096, 2)]:
        x, y = random(tokens, hidden), torch.empty(tokens * copies, hidden, device="cuda", dtype=torch.bfloat16)
        index = torch.randperm(tokens * copies, device="cuda") % tokens
        total = torch.zeros_like(x)
        rows.append({"tokens": tokens, "hidden": hidden, "copies": copies,
                     "index_select_seconds": seconds(lambda: torch.index_select(x, 0, index, out=y)),
                     "index_add_seconds": seconds(lambda: total.index_add_(0, index, y))})
    return rows


def measure_elementwise():
    rows = []
    for count, width in [(1024, 4096), (4096, 4096), (8192, 8192), (16384, 4096)]:
        x, weight, gates = random(count, width), torch.ones(width, device="cuda", dtype=torch.bfloat16), random(count, 2 * width)
        torch._dynamo.reset()  # or the next shape is compiled for all shapes
        swiglu = lambda: F.silu(gates[:, :width]) * gates[:, width:]  # noqa: E731
        rows.append({"rows": count, "width": width, "rms_norm_seconds": seconds(lambda: F.rms_norm(x, (width,), weight)),
                     "add_seconds": seconds(lambda: x + x), "silu_mul_seconds": seconds(swiglu),
                     "compiled_silu_mul_seconds": seconds(torch.compile(swiglu, dynamic=False))})
    return rows


def measure_launches():
    x = torch.randn(1024, device="cuda")

    def host_microseconds(call, kernels):
        torch.cuda.synchronize()
        begin = time.time()
        call()
        spent = time.time() - begin
        torch.cuda.synchronize()
        return spent / kernels * 1e6

    def adds():
        for _ in range(3000):
            x.add_(1)

    layers = [torch.nn.Linear(256, 256, device="cuda", dtype=torch.bfloat16) for _ in range(50)]
    tokens = random(16, 256, requires_grad=True)

    def forwards():
        for _ in range(20):
            modules()

    def modules():
        y = tokens
        for layer in layers:
            y = F.silu(layer(y))
        return y.sum()

    for _ in range(10):
        modules().backward()
    restarts = []
    for _ in range(20):
        torch.cuda.synchronize()
        begin = time.time()
        x.sum().item()
        for _ in range(40):
            x.add_(1)
        torch.cuda.synchronize()
        restarts.append((time.time() - begin) * 1e6)
    return {"kernel": host_microseconds(adds, 3000), "kernel_of_a_module_with_autograd": host_microseconds(forwards, 2000),
            "read_then_40_kernels": statistics.median(restarts)}


def measure_sustained():
    call, rates, stop = gemm(8192, 8192, 8192), [], time.time() + 20
    while time.time() < stop:
        begin, end = event(), event()
        begin.record()
        for _ in range(200):
            call()
        end.record()
        torch.cuda.synchronize()
        rates.append(2 * 8192**3 * 200 / elapsed(begin, end) / 1e12)
    return {"first": rates[0], "median": statistics.median(rates), "last": rates[-1]}


print(json.dumps({
    "device": torch.cuda.get_device_name() + ", one GPU",
    "date": datetime.date.today().isoformat(),
    "software": {"torch": torch.__version__, "cuda": torch.version.cuda},
    "how": "profiler/microbenchmarks/probe.py: medians of 20 runs timed by events, random data",
    "gemm": measure_gemm(),
    "weight_gradient_gemm": measure_weight_gradients(),
    "grouped_gemm": measure_grouped(),
    "attention": measure_attention(),
    "gemm_beside_held_sms": measure_held_sms(),
    "gemm_beside_copy_kernel": measure_copy_kernel(),
    "rows_by_index": measure_rows(),
    "elementwise": measure_elementwise(),
    "launch_microseconds": measure_launches(),
    "gemm_8192_for_20_seconds_tflops": measure_sustained(),
}, indent=1))
