// What clusters/cpu.json and cpu.profile.json say of one core: the CPU's kernels and memory, and TCP between two
// processes of a host, each with a core. Bytes and FLOPs are those that the lowering counts, so a rate over the
// description's peak is the inverse of a fit's coefficient.
//
//   Products, Experts, Attention*   FLOP/s; attention: of the causal half
//   all others                      bytes/s read and written
//   Exchange                        bytes/s per direction, both ends sending at once
#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/kernels.h"

namespace msmoe::kernels {
namespace {

// Matrices that live as long as the case; all elements alike, and small enough that nothing overflows.
class Arena {
 public:
  View matrix(std::int64_t rows, std::int64_t columns) {
    auto& values = floats_.emplace_back(static_cast<std::size_t>(rows * columns), 0.01F);
    return {values.data(), rows, columns, Element::kFp32};
  }
  View integers(std::vector<std::int32_t> values) {
    auto& kept = integers_.emplace_back(std::move(values));
    return {kept.data(), 1, static_cast<std::int64_t>(kept.size()), Element::kInt32};
  }

 private:
  std::deque<std::vector<float>> floats_;
  std::deque<std::vector<std::int32_t>> integers_;
};

void time(benchmark::State& state, const Operation& operation, const char* rate, double amount) {
  const auto kernels = cpu_kernels();
  for (auto _ : state) {
    kernels->run(operation, {});
    benchmark::ClobberMemory();
  }
  state.counters[rate] =
      benchmark::Counter(amount * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}
void time_flops(benchmark::State& state, const Operation& operation, double flops) {
  time(state, operation, "FLOP/s", flops);
}
void time_bytes(benchmark::State& state, const Operation& operation, double elements) {
  time(state, operation, "B/s", sizeof(float) * elements);
}

// ---- Products

void Products(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  Arena arena;
  time_flops(state,
             Gemm{.a = arena.matrix(rows, width),
                  .b = arena.matrix(width, width),
                  .c = arena.matrix(rows, width),
                  .transpose_b = true},
             2.0 * static_cast<double>(rows * width * width));
}
BENCHMARK(Products)->ArgNames({"rows", "width"})->ArgsProduct({{256, 1024}, {256, 512, 1024}});

void Experts(benchmark::State& state) {
  constexpr std::int64_t kExperts = 8, kIn = 256, kOut = 1024;
  const std::int64_t rows = state.range(0);
  Arena arena;
  std::vector<std::int32_t> offsets;
  for (std::int64_t expert = 0; expert <= kExperts; ++expert)
    offsets.push_back(static_cast<std::int32_t>(expert * rows));
  time_flops(state,
             GroupedGemm{.rows = arena.matrix(kExperts * rows, kIn),
                         .weights = arena.matrix(kExperts * kOut, kIn),
                         .out = arena.matrix(kExperts * rows, kOut),
                         .offsets = arena.integers(offsets)},
             2.0 * static_cast<double>(kExperts * rows * kIn * kOut));
}
BENCHMARK(Experts)->ArgName("rows_per_expert")->Arg(32)->Arg(128)->Arg(512);

// ---- Attention: sequences of 256 and 1,024 tokens, 8 heads of 32

constexpr std::int64_t kHeads = 8, kHeadWidth = 32;

double causal_flops(std::int64_t tokens) {  // of Q K^T and P V
  return 2 * static_cast<double>(tokens * tokens * kHeads * kHeadWidth);
}

void AttentionForward(benchmark::State& state) {
  const std::int64_t tokens = state.range(0);
  Arena arena;
  const auto heads = [&] { return arena.matrix(tokens, kHeads * kHeadWidth); };
  time_flops(state,
             Attention{.shape = {kHeads, kHeads, kHeadWidth, kHeadWidth, tokens, 0.2},
                       .query = heads(),
                       .key = heads(),
                       .value = heads(),
                       .out = heads(),
                       .log_sum_exp = arena.matrix(kHeads, tokens)},
             causal_flops(tokens));
}
BENCHMARK(AttentionForward)->ArgName("tokens")->Arg(256)->Arg(1024);

void AttentionGradient(benchmark::State& state) {
  const std::int64_t tokens = state.range(0);
  Arena arena;
  const auto heads = [&] { return arena.matrix(tokens, kHeads * kHeadWidth); };
  time_flops(state,
             AttentionBackward{.shape = {kHeads, kHeads, kHeadWidth, kHeadWidth, tokens, 0.2},
                               .query = heads(),
                               .key = heads(),
                               .value = heads(),
                               .out = heads(),
                               .log_sum_exp = arena.matrix(kHeads, tokens),
                               .out_gradient = heads(),
                               .query_gradient = heads(),
                               .key_gradient = heads(),
                               .value_gradient = heads()},
             2.5 * causal_flops(tokens));
}
BENCHMARK(AttentionGradient)->ArgName("tokens")->Arg(256)->Arg(1024);

// ---- What is bound by memory on a GPU

constexpr std::int64_t kRows = 2048, kWidth = 1024;
constexpr double kElements = static_cast<double>(kRows * kWidth);

void Norm(benchmark::State& state) {
  Arena arena;
  time_bytes(state,
             RmsNorm{.input = arena.matrix(kRows, kWidth),
                     .weight = arena.matrix(1, kWidth),
                     .out = arena.matrix(kRows, kWidth),
                     .inverse_rms = arena.matrix(1, kRows)},
             2 * kElements);
}
BENCHMARK(Norm);

void Activation(benchmark::State& state) {
  Arena arena;
  time_bytes(state, SwiGlu{.gate_up = arena.matrix(kRows, 2 * kWidth), .out = arena.matrix(kRows, kWidth)},
             3 * kElements);
}
BENCHMARK(Activation);

void Sum(benchmark::State& state) {
  Arena arena;
  time_bytes(
      state,
      Add{.a = arena.matrix(kRows, kWidth), .b = arena.matrix(kRows, kWidth), .out = arena.matrix(kRows, kWidth)},
      3 * kElements);
}
BENCHMARK(Sum);

void Permute(benchmark::State& state) {
  Arena arena;
  std::vector<std::int32_t> source(static_cast<std::size_t>(kRows));
  for (std::size_t row = 0; row < source.size(); ++row)
    source[row] = static_cast<std::int32_t>(row * 1009 % source.size());  // 1009 is prime: a permutation
  time_bytes(
      state,
      GatherRows{
          .in = arena.matrix(kRows, kWidth), .source_of = arena.integers(source), .out = arena.matrix(kRows, kWidth)},
      2 * kElements);
}
BENCHMARK(Permute);

void Optimizer(benchmark::State& state) {
  Arena arena;
  const View weights = arena.matrix(kRows, kWidth);
  time_bytes(state,
             AdamW{.tensors = {{.parameter = weights,
                                .gradient = arena.matrix(kRows, kWidth),
                                .master = weights,
                                .first_moment = arena.matrix(kRows, kWidth),
                                .second_moment = arena.matrix(kRows, kWidth)}},
                   .rate = 1e-3},
             7 * kElements);
}
BENCHMARK(Optimizer);

void Copy(benchmark::State& state) {
  constexpr std::size_t kBytes = std::size_t{64} << 20;  // beyond the caches
  const std::vector<char> from(kBytes, 1);
  std::vector<char> to(kBytes);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), kBytes);
    benchmark::ClobberMemory();
  }
  state.counters["B/s"] =
      benchmark::Counter(2.0 * kBytes * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}
BENCHMARK(Copy);

// ---- The host's loopback

void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

// Two ends of a TCP connection over 127.0.0.1.
std::pair<int, int> connected() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0), one = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  require(bind(listener, generic, size) == 0 && listen(listener, 1) == 0 &&
              getsockname(listener, generic, &size) == 0 && connect(one, generic, size) == 0,
          "no loopback");
  const int other = accept(listener, nullptr, nullptr);
  close(listener);
  const int on = 1;
  for (const int end : {one, other}) setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return {one, other};
}

constexpr std::size_t kPiece = std::size_t{64} << 10;

// Sends and receives so many bytes, a piece that socket buffers hold at a time. False where the other end has gone.
bool exchange(int end, std::vector<char>& buffer, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes; done += buffer.size()) {
    const std::size_t piece = std::min(buffer.size(), bytes - done);
    if (send(end, buffer.data(), piece, MSG_NOSIGNAL) != static_cast<ssize_t>(piece) ||
        recv(end, buffer.data(), piece, MSG_WAITALL) != static_cast<ssize_t>(piece))
      return false;
  }
  return true;
}

void Exchange(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const auto [mine, theirs] = connected();
  std::thread peer([end = theirs, bytes] {
    std::vector<char> buffer(std::min(kPiece, bytes));
    while (exchange(end, buffer, bytes)) {
    }
  });
  std::vector<char> buffer(std::min(kPiece, bytes));
  for (auto _ : state) require(exchange(mine, buffer, bytes), "the peer has gone");
  shutdown(mine, SHUT_RDWR);
  peer.join();
  close(mine);
  close(theirs);
  state.counters["B/s"] = benchmark::Counter(static_cast<double>(bytes) * static_cast<double>(state.iterations()),
                                             benchmark::Counter::kIsRate);
}
BENCHMARK(Exchange)->ArgName("bytes")->Arg(8)->Arg(1 << 20)->Arg(64 << 20)->UseRealTime();

}  // namespace
}  // namespace msmoe::kernels
