"""Prints what gpu_bench and torch_peers.py measured as one table.

usage: table.py GPU_BENCH.json [TORCH_PEERS.json]

For each line: time, rate, the share of its bound (what a copy reaches where memory is the limit, else the tensor cores'
peak for bf16) and how many times as fast as PyTorch it is.
"""

import json
import sys

PEAK_TFLOPS = 989  # bf16, dense, of an H100 or H200 SXM (NVIDIA's data sheet)


def read(path):
    with open(path) as file:
        return json.load(file)


def share_of_bound(line):
    if "share_of_copy" in line:
        return f"{line['share_of_copy']:.0%} copy"
    return f"{line['rate'] / PEAK_TFLOPS:.0%} peak" if line["unit"] == "TFLOP/s" else "-"


def row(line, peers):
    if "error" in line:
        return [line["name"], line["shape"], line["error"], "", "", ""]
    peer = peers.get((line["name"], line["shape"]))
    return [
        line["name"],
        line["shape"],
        f"{line['seconds'] * 1e6:.1f} us",
        f"{line['rate']:.0f} {line['unit']}",
        share_of_bound(line),
        f"{peer / line['seconds']:.2f}x" if peer else "-",
    ]


def main(paths):
    ours, theirs = read(paths[0]), read(paths[1]) if len(paths) > 1 else {"lines": []}
    peers = {(line["name"], line["shape"]): line.get("seconds") for line in theirs["lines"]}
    print(ours["device"], "beside torch", theirs.get("torch", "-"))
    rows = [["operation", "shape", "time", "rate", "bound", "torch"]] + [row(line, peers) for line in ours["lines"]]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
    for cells in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1:])
