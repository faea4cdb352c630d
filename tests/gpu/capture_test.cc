// Every operation can be captured in a CUDA graph: nothing is allocated, nobody waits, and a replay works on what the
// memory holds then, sizes included. Capturing in global mode makes CUDA itself refuse whatever is not allowed.
#include <functional>
#include <set>

#include "tests/gpu/gpu_test.h"

namespace msmoe::kernels {
namespace {

constexpr Element kBf16 = Element::kBf16, kFp32 = Element::kFp32, kInt32 = Element::kInt32;
constexpr std::int64_t kTokens = 64, kWidth = 128, kExperts = 8, kChoices = 2, kRows = kTokens * kChoices;

// The matrices of one operation, which can be filled with one data set or another. Numbers are positive, as second
// moments and sums of exponentials are.
class Operands {
 public:
  using Integer = std::function<std::int32_t(int set, int index)>;

  View numbers(std::int64_t rows, std::int64_t columns, Element element = kBf16) {
    return add(rows, columns, element, {});
  }
  View integers(std::int64_t rows, std::int64_t columns, Integer value) {
    return add(rows, columns, kInt32, std::move(value));
  }
  View codes(std::int64_t rows, std::int64_t columns) {
    const View words = integers(rows, columns / 4, [](int set, int index) { return 0x31233405 + set + index % 8; });
    return {words.data, rows, columns, Element::kE4m3};
  }

  void fill(int set) {
    std::mt19937 random(static_cast<unsigned>(set));
    for (const auto& [matrix, integer] : matrices_) {
      if (integer) {
        std::vector<std::int32_t> values(matrix->host().size());
        for (std::size_t index = 0; index < values.size(); ++index)
          values[index] = integer(set, static_cast<int>(index));
        matrix->assign(values);
      } else {
        matrix->randomize(random);
        for (float& value : matrix->host()) value = std::abs(value);
        matrix->upload();
      }
    }
  }
  std::vector<std::vector<float>> download() const {
    std::vector<std::vector<float>> values;
    for (const auto& [matrix, integer] : matrices_) values.push_back(matrix->download());
    return values;
  }

 private:
  View add(std::int64_t rows, std::int64_t columns, Element element, Integer integer) {
    matrices_.emplace_back(std::make_unique<TwoSided>(rows, columns, element), std::move(integer));
    return matrices_.back().first->on_device();
  }
  std::vector<std::pair<std::unique_ptr<TwoSided>, Integer>> matrices_;
};

// Values of the data sets. All are 0 and 1.
std::int32_t even_or_lopsided(int set, int e) {
  return static_cast<std::int32_t>(std::min(kTokens, e * (set + 1) * 8L));
}
std::int32_t two_sequences(int set, int s) { return s == 0 ? 0 : s == 2 ? static_cast<int>(kTokens) : 40 - 24 * set; }
std::int32_t different_experts(int set, int index) {
  return static_cast<int>((index % kChoices * 3 + index / kChoices * (set + 1) + set) % kExperts);
}
std::int32_t permuted(int set, int index) { return static_cast<int>((index * 37 + set * 11) % kRows); }
std::int32_t counted(int set, int index) { return (index * 5 + set) % 16; }

using Make = std::function<Operation(Operands&)>;

Make grouped(GroupedPass pass, bool accumulate = false) {
  return [=](Operands& of) {
    const bool forward = pass == GroupedPass::kForward, gradient = pass == GroupedPass::kWeightGradient;
    constexpr std::int64_t kOut = 64;
    return GroupedGemm{
        .pass = pass,
        .rows = of.numbers(kTokens, forward ? kWidth : kOut),
        .weights = of.numbers(gradient ? kTokens : kExperts * kOut, kWidth),
        .out = gradient ? of.numbers(kExperts * kOut, kWidth, kFp32) : of.numbers(kTokens, forward ? kOut : kWidth),
        .offsets = of.integers(1, kExperts + 1, even_or_lopsided),
        .accumulate = accumulate};
  };
}

constexpr AttentionShape kAttention{
    .heads = 2, .kv_heads = 2, .width = 64, .value_width = 64, .sequence_length = kTokens, .scale = 0.125};
Make attention(bool with_starts) {
  return [=](Operands& of) {
    Attention op{.shape = kAttention,
                 .query = of.numbers(kTokens, kWidth),
                 .key = of.numbers(kTokens, kWidth),
                 .value = of.numbers(kTokens, kWidth),
                 .out = of.numbers(kTokens, kWidth),
                 .log_sum_exp = of.numbers(kAttention.heads, kTokens, kFp32)};
    if (with_starts) op.starts = of.integers(1, 3, two_sequences);
    return op;
  };
}

View tokens(Operands& of) { return of.numbers(kTokens, kWidth); }
View each_token(Operands& of) { return of.numbers(1, kTokens, kFp32); }
View targets(Operands& of) { return of.integers(1, kTokens, permuted); }
View gates(Operands& of) { return of.numbers(kTokens, kChoices, kFp32); }
View rows_of(Operands& of) { return of.integers(kTokens, kChoices, permuted); }
View scores(Operands& of) { return of.numbers(kTokens, kExperts, kFp32); }
View scalar(Operands& of) { return of.numbers(1, 1, kFp32); }

const Make kOperations[] = {
    [](Operands& of) {
      return Gemm{.a = tokens(of), .b = of.numbers(32, kWidth), .c = of.numbers(kTokens, 32), .transpose_b = true};
    },
    grouped(GroupedPass::kForward),
    grouped(GroupedPass::kInputGradient),
    grouped(GroupedPass::kWeightGradient),
    grouped(GroupedPass::kWeightGradient, true),
    attention(false),
    attention(true),
    [](Operands& of) {
      return AttentionBackward{.shape = kAttention,
                               .query = tokens(of),
                               .key = tokens(of),
                               .value = tokens(of),
                               .out = tokens(of),
                               .log_sum_exp = of.numbers(kAttention.heads, kTokens, kFp32),
                               .out_gradient = tokens(of),
                               .query_gradient = tokens(of),
                               .key_gradient = tokens(of),
                               .value_gradient = tokens(of)};
    },
    [](Operands& of) {
      return RmsNorm{tokens(of), tokens(of), of.numbers(1, kWidth), tokens(of), tokens(of), each_token(of)};
    },
    [](Operands& of) {
      return RmsNormBackward{tokens(of), of.numbers(1, kWidth),       each_token(of), tokens(of), tokens(of),
                             tokens(of), of.numbers(1, kWidth, kFp32)};
    },
    [](Operands& of) {
      return Rope{tokens(of), targets(of), {}, 64, 64};
    },
    [](Operands& of) {
      return Rope{tokens(of), targets(of), tokens(of), 64, 32};
    },
    [](Operands& of) {
      return LatentHeads{tokens(of),
                         of.numbers(kTokens, 192),
                         of.numbers(kTokens, 32),
                         targets(of),
                         tokens(of),
                         tokens(of),
                         tokens(of),
                         2};
    },
    [](Operands& of) {
      return LatentHeadsBackward{tokens(of),
                                 tokens(of),
                                 tokens(of),
                                 targets(of),
                                 tokens(of),
                                 of.numbers(kTokens, 192),
                                 of.numbers(kTokens, 32),
                                 2};
    },
    [](Operands& of) {
      return SwiGlu{tokens(of), each_token(of), of.numbers(kTokens, kWidth / 2)};
    },
    [](Operands& of) {
      return SwiGluBackward{tokens(of), each_token(of), of.numbers(kTokens, kWidth / 2),
                            tokens(of), each_token(of), of.numbers(kTokens, kWidth / 2)};
    },
    [](Operands& of) {
      return Add{tokens(of), tokens(of), tokens(of)};
    },
    [](Operands& of) {
      return Embedding{of.numbers(kRows, kWidth), targets(of), tokens(of)};
    },
    [](Operands& of) {
      return EmbeddingBackward{tokens(of), targets(of), of.numbers(kRows, kWidth, kFp32)};
    },
    [](Operands& of) {
      return CrossEntropy{tokens(of), targets(of), each_token(of), each_token(of), each_token(of)};
    },
    [](Operands& of) {
      return CrossEntropyBackward{targets(of), each_token(of), each_token(of), tokens(of)};
    },
    [](Operands& of) {
      return Router{.shape = {.top_k = kChoices},
                    .logits = scores(of),
                    .scores = scores(of),
                    .experts = of.integers(kTokens, kChoices, different_experts),
                    .gates = gates(of),
                    .counts = of.integers(1, kExperts, counted),
                    .losses = of.numbers(1, 2, kFp32)};
    },
    [](Operands& of) {
      return RouterBackward{.shape = {.top_k = kChoices},
                            .logits = scores(of),
                            .scores = scores(of),
                            .experts = of.integers(kTokens, kChoices, different_experts),
                            .counts = of.integers(1, kExperts, counted),
                            .gate_gradient = gates(of),
                            .logit_gradient = scores(of),
                            .aux_scale = 1,
                            .z_scale = 1};
    },
    [](Operands& of) {
      return SortByExpert{of.integers(kTokens, kChoices, different_experts), of.integers(1, kExperts + 1, counted),
                          rows_of(of), of.integers(1, kRows, permuted)};
    },
    [](Operands& of) {
      return SortArrivals{of.integers(2, 4, counted), of.integers(1, 5, counted), of.integers(1, kRows, permuted),
                          of.integers(1, kRows, permuted)};
    },
    [](Operands& of) {
      return GatherRows{tokens(of), of.integers(1, kRows, permuted), gates(of), of.numbers(kRows, kWidth), kChoices};
    },
    [](Operands& of) {
      return CombineRows{of.numbers(kRows, kWidth), rows_of(of), gates(of), tokens(of)};
    },
    [](Operands& of) {
      return CombineWeightGradient{of.numbers(kRows, kWidth), rows_of(of), tokens(of), gates(of)};
    },
    [](Operands& of) {
      return GatherScalars{of.numbers(1, kRows, kFp32), rows_of(of), gates(of)};
    },
    [](Operands& of) {
      const auto fp32 = [&] { return of.numbers(1, 1000, kFp32); };
      return AdamW{.tensors = {{of.numbers(1, 1000), fp32(), fp32(), fp32(), fp32(), 0.1}},
                   .gradient_scale = scalar(of),
                   .rate = 1e-2};
    },
    [](Operands& of) {
      return SquaredNorm{{of.numbers(7, 1000, kFp32)}, scalar(of)};
    },
    [](Operands& of) {
      return ClipScale{scalar(of), scalar(of), 0.5};
    },
    [](Operands& of) {
      return Cast{of.numbers(kTokens, kWidth, kFp32), tokens(of)};
    },
    [](Operands& of) {
      return Quantize{tokens(of), of.codes(kTokens, kWidth), of.numbers(kTokens, 1, kFp32)};
    },
    [](Operands& of) {
      return Dequantize{of.codes(kTokens, kWidth), of.numbers(kTokens, 1, kFp32), tokens(of)};
    },
    [](Operands& of) {
      return SumChunks{tokens(of), of.numbers(kTokens / 2, kWidth, kFp32), true};
    },
    [](Operands& of) { return Zero{tokens(of)}; },
};

class Capture : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (gpu_) MSMOE_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  void TearDown() override {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  cudaGraphExec_t captured(const std::function<void()>& run) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    MSMOE_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal));
    run();
    MSMOE_CHECK(cudaStreamEndCapture(stream_, &graph));
    MSMOE_CHECK(cudaGraphInstantiate(&executable, graph, 0));
    MSMOE_CHECK(cudaGraphDestroy(graph));
    return executable;
  }
  // What all matrices hold after `run` on one data set.
  std::vector<std::vector<float>> result(Operands& operands, int set, const std::function<void()>& run) {
    operands.fill(set);
    MSMOE_CHECK(cudaDeviceSynchronize());
    run();
    MSMOE_CHECK(cudaStreamSynchronize(stream_));
    return operands.download();
  }
  void compare_replay(const Operation& operation, Operands& operands) {
    const std::size_t bytes = gpu_->workspace_bytes(operation);
    void* workspace = nullptr;
    MSMOE_CHECK(cudaMalloc(&workspace, std::max<std::size_t>(bytes, 1)));
    MSMOE_CHECK(cudaMemset(workspace, 0xFF, bytes));
    const auto run = [&] {
      gpu_->run(operation, {.stream = stream_, .workspace = workspace, .workspace_bytes = bytes});
    };
    const auto before = result(operands, 0, run);
    cudaGraphExec_t graph = captured(run);
    const auto plain = result(operands, 1, run);
    const auto replayed = result(operands, 1, [&] { MSMOE_CHECK(cudaGraphLaunch(graph, stream_)); });
    MSMOE_CHECK(cudaGraphExecDestroy(graph));
    MSMOE_CHECK(cudaFree(workspace));
    for (std::size_t matrix = 0; matrix < plain.size(); ++matrix) expect_equal(replayed[matrix], plain[matrix]);
    EXPECT_TRUE(plain != before || std::holds_alternative<Zero>(operation)) << "the data sets do not differ";
  }
  // But for the order of sums of cuDNN's gradients, to the bit.
  void expect_equal(const std::vector<float>& a, const std::vector<float>& b) {
    if (std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0) return;
    EXPECT_LE(rms_difference(a, b), 1e-3 * rms_difference(b, std::vector<float>(b.size(), 0.0F)));
  }

  cudaStream_t stream_ = nullptr;
};

TEST_F(Capture, ReplaysDoOnOtherInputsWhatARunDoes) {
  std::set<std::size_t> covered;
  for (const Make& make : kOperations) {
    Operands operands;
    const Operation operation = make(operands);
    SCOPED_TRACE(name_of(operation));
    covered.insert(operation.index());
    compare_replay(operation, operands);
  }
  EXPECT_EQ(covered.size(), std::variant_size_v<Operation>);
}

}  // namespace
}  // namespace msmoe::kernels
