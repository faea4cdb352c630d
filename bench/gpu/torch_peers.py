"""What PyTorch reaches on this GPU for the shapes of gpu_bench, as JSON of the same form.

CUDA events around replays of a CUDA graph, operands rotated past L2, the median of many. Where a sequence of eager
operations cannot be captured, it is timed without a graph and its line says so.
"""

import datetime
import json
import math
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

PAST_L2 = 192 << 20
MOST_COPIES, FEWEST_CALLS, REPLAYS, WARM_REPLAYS = 24, 8, 30, 3
lines = []


def bf16(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def bytes_of(operands):
    return sum(x.numel() * x.element_size() for x in operands if torch.is_tensor(x))


def time_replays(replay, calls):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    seconds = []
    for i in range(WARM_REPLAYS + REPLAYS):
        begin.record()
        replay()
        end.record()
        end.synchronize()
        if i >= WARM_REPLAYS:
            seconds.append(begin.elapsed_time(end) * 1e-3 / calls)
    return sorted(seconds)[len(seconds) // 2]


def measure(name, shape, work, unit, make, call):
    """make() builds the operands of one copy, call(*operands) is what is timed."""
    print(name, shape, file=sys.stderr, flush=True)
    line = {"name": name, "shape": shape}
    try:
        stream = torch.cuda.Stream()
        # Gradients run on the stream that their forward pass ran on, so operands are made on it, too.
        with torch.cuda.stream(stream):
            copies = [make()]
            while len(copies) < min(MOST_COPIES, max(2, PAST_L2 // max(bytes_of(copies[0]), 1) + 1)):
                copies.append(make())
            calls = math.ceil(FEWEST_CALLS / len(copies)) * len(copies)

            def run_all():
                for i in range(calls):
                    call(*copies[i % len(copies)])

            for _ in range(3):
                run_all()
            stream.synchronize()
            try:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=stream):
                    run_all()
                replay = graph.replay
            except RuntimeError as error:
                torch.cuda.synchronize()
                line["without_graph"] = str(error).splitlines()[0]
                replay = run_all
            seconds = time_replays(replay, calls)
        line.update(seconds=seconds, rate=work / seconds, unit=unit)
    except (RuntimeError, torch.OutOfMemoryError) as error:
        line["error"] = str(error).splitlines()[0]
    lines.append(line)
    torch.cuda.empty_cache()
    return line


def compute(name, shape, flops, make, call):
    measure(name, shape, flops / 1e12, "TFLOP/s", make, call)


def memory(name, shape, bytes_moved, make, call):
    line = measure(name, shape, bytes_moved / 1e9, "GB/s", make, call)
    if "rate" in line:
        line["bytes"] = bytes_moved
        line["share_of_copy"] = line["rate"] / lines[0]["rate"]


def grouped_products():
    for experts, each, out, width in [(8, 4096, 14336, 4096), (8, 1024, 14336, 4096), (32, 512, 2048, 7168),
                                      (32, 4096, 2048, 7168)]:
        rows = experts * each
        offsets = torch.arange(1, experts + 1, device="cuda", dtype=torch.int32) * each
        shape = f"E={experts} rows={each} out={out} in={width}"
        flops = 2 * rows * out * width
        compute("grouped_gemm forward", shape, flops, lambda: (bf16(rows, width), bf16(experts, out, width)),
                lambda x, w: torch._grouped_mm(x, w.transpose(-2, -1), offs=offsets))
        compute("grouped_gemm input gradient", shape, flops, lambda: (bf16(rows, out), bf16(experts, out, width)),
                lambda dy, w: torch._grouped_mm(dy, w, offs=offsets))
        # PyTorch's result is bf16 and is not added to anything, which is less work than ours.
        compute("grouped_gemm weight gradient", shape, flops, lambda: (bf16(rows, out), bf16(rows, width)),
                lambda dy, x: torch._grouped_mm(dy.t(), x, offs=offsets))


def attention():
    for heads, width, value_width, length in [(32, 128, 128, 8192), (32, 64, 64, 8192), (16, 192, 128, 4096)]:
        shape = f"heads={heads} width={width}/{value_width} s={length}"
        pairs = heads * length * length / 2

        def operands():
            # As projections leave them: tokens first.
            return [bf16(1, length, heads, w).transpose(1, 2) for w in (width, width, value_width)]

        def forward(q, k, v):
            with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                return F.scaled_dot_product_attention(q, k, v, is_causal=True)

        def with_gradient():
            q, k, v = (x.detach().requires_grad_() for x in operands())
            out = forward(q, k, v)
            return q, k, v, out, torch.randn_like(out)

        def backward(q, k, v, out, gradient):
            torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)

        compute("attention forward", shape, 2 * pairs * (width + value_width), operands, forward)
        compute("attention backward", shape, 2 * pairs * (3 * width + 2 * value_width), with_gradient, backward)


def rows(tokens=16384, width=4096):
    shape = f"tokens={tokens} width={width}"
    matrix = 2 * tokens * width

    def add_and_norm(x, residual, weight):
        total = x + residual
        return F.rms_norm(total, (width,), weight, 1e-6)

    memory("rms_norm", shape, 4 * matrix, lambda: (bf16(tokens, width), bf16(tokens, width), bf16(width)), add_and_norm)

    def swiglu(gate_up, weights):
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up * weights

    memory("swi_glu", shape, 3 * matrix, lambda: (bf16(tokens, 2 * width), bf16(tokens, 1)), swiglu)

    def fp32_and_optimizer():
        parameter = torch.nn.Parameter(torch.randn(tokens, width, device="cuda"))
        parameter.grad = torch.randn_like(parameter)
        return parameter, bf16(tokens, width), torch.optim.AdamW([parameter], lr=1e-4, fused=True, capturable=True)

    def step(parameter, copy, optimizer):
        optimizer.step()
        copy.copy_(parameter.detach())

    memory("adam_w", shape, 30 * tokens * width, fp32_and_optimizer, step)


def tokens_alone(tokens=16384, width=4096, heads=32, entries=32768):
    shape = f"tokens={tokens} width={width}"
    elements = tokens * width

    def matrix():
        return bf16(tokens, width)

    memory("add", shape, 6 * elements, lambda: (matrix(), matrix(), matrix()), lambda a, b, c: torch.add(a, b, out=c))
    memory("cast to bf16", shape, 6 * elements, lambda: (matrix().float(),), lambda x: x.bfloat16())
    memory("cast to fp32", shape, 6 * elements, lambda: (matrix(),), lambda x: x.float())

    def angles():
        half = width // heads // 2
        rates = 10000.0 ** (-torch.arange(half, device="cuda") / half)
        angle = torch.arange(tokens, device="cuda")[:, None] * rates
        return angle.cos().repeat(1, 2)[:, None].bfloat16(), angle.sin().repeat(1, 2)[:, None].bfloat16()

    # As Hugging Face's models do it.
    def rotate(x, cosine, sine):
        first, second = x.chunk(2, dim=-1)
        return x * cosine + torch.cat((-second, first), dim=-1) * sine

    memory("rope", f"{shape} heads={heads}", 4 * elements, lambda: (matrix().view(tokens, heads, -1), *angles()), rotate)

    def ids():
        return torch.randint(entries, (tokens,), device="cuda")

    memory("embedding", shape, 4 * elements, lambda: (bf16(entries, width), ids()), lambda w, i: F.embedding(i, w))
    # PyTorch adds rows of the table's type: its gradients are fp32 where ours are bf16.
    memory("embedding_backward", shape, 10 * elements,
           lambda: (torch.zeros(entries, width, device="cuda"), ids(), matrix().float()),
           lambda w, i, g: w.index_add_(0, i, g))
    memory("cross_entropy", f"tokens={tokens} vocabulary={entries}", 2 * tokens * entries,
           lambda: (bf16(tokens, entries), ids()), lambda x, i: F.cross_entropy(x, i, reduction="none"))


def routing(tokens=16384, width=4096):
    for experts, k in [(8, 2), (256, 8)]:
        shape = f"tokens={tokens} width={width} E={experts} k={k}"
        assignments = tokens * k

        def router(logits):
            scores = logits.softmax(dim=-1)
            gates, chosen = scores.topk(k, dim=-1)
            gates = gates / gates.sum(dim=-1, keepdim=True)
            counts = torch.zeros(experts, device="cuda", dtype=torch.int32)
            counts.scatter_add_(0, chosen.flatten(), torch.ones(assignments, device="cuda", dtype=torch.int32))
            auxiliary = experts / (k * tokens) * (counts * scores.mean(dim=0)).sum()
            z_loss = logits.logsumexp(dim=-1).square().mean()
            return gates, chosen, counts, auxiliary, z_loss

        def choice():
            return (torch.rand(tokens, experts, device="cuda").topk(k, dim=-1).indices,)

        def sort(chosen):
            order = chosen.flatten().argsort(stable=True)
            row_of = torch.empty_like(order)
            row_of[order] = torch.arange(assignments, device="cuda")
            return order, row_of

        def permuted():
            return bf16(assignments, width), sort(*choice())[1].view(tokens, k), bf16(tokens, k, 1)

        moved = 2 * width * (tokens + assignments)
        memory("router", shape, 4 * tokens * (2 * experts + 2 * k),
               lambda: (torch.randn(tokens, experts, device="cuda"),), router)
        memory("sort_by_expert", shape, 12 * assignments, choice, sort)
        memory("gather_rows", shape, moved, lambda: (bf16(tokens, width), sort(*choice())[0]),
               lambda x, order: x.index_select(0, order // k))
        memory("combine_rows", shape, moved, permuted, lambda x, row_of, w: (x[row_of] * w).sum(dim=1))


def main():
    def block():
        return torch.empty(1 << 30, device="cuda", dtype=torch.uint8)

    measure("copy", "1 GiB", 2 * (1 << 30) / 1e9, "GB/s", lambda: (block(), block()), lambda a, b: b.copy_(a))
    rows()
    tokens_alone()
    routing()
    compute("gemm", "8192^3", 2 * 8192**3, lambda: (bf16(8192, 8192), bf16(8192, 8192)), lambda a, b: a @ b.t())
    attention()
    grouped_products()
    print(json.dumps({
        "device": torch.cuda.get_device_name(),
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "lines": lines,
    }, indent=2))


if __name__ == "__main__":
    main()
