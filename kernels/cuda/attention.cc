// Causal attention with cuDNN: one graph per shape and direction, built when the shape is first seen.
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <compare>
#include <limits>
#include <map>
#include <unordered_map>

#include "kernels/cuda/attention_tables.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/libraries.h"
#include "kernels/cuda/requirements.h"

// The frontend looks up cuDNN's functions in this library.
namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;
}

namespace msmoe::kernels {

namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

constexpr char kName[] = "attention";

enum Uid : std::int64_t {
  kQuery = 1,
  kKey,
  kValue,
  kOut,
  kStatistics,
  kOutGradient,
  kQueryGradient,
  kKeyGradient,
  kValueGradient,
  kLengths,
  kLengthsAgain,  // cuDNN wants the lengths of queries and keys as two tensors
  kOffsets,       // of query, key, value, out, statistics
};

struct Problem {
  std::int64_t tokens = 0, sequences = 0, longest = 0;
  std::int64_t heads = 0, kv_heads = 0, width = 0, value_width = 0;
  double scale = 1;
  bool ragged = false, backward = false;

  auto operator<=>(const Problem&) const = default;

  std::array<std::int64_t, SequenceTables::kTensors> token_size() const {
    return {heads * width, kv_heads * width, kv_heads * value_width, heads * value_width, heads};
  }
  bool wide_offsets() const {
    return tokens * std::ranges::max(token_size()) > std::numeric_limits<std::int32_t>::max();
  }
  // cuDNN's statistics are [tokens / length, heads, length].
  std::int64_t statistics_length() const { return ragged ? 1 : longest; }
  bool transposes() const { return ragged || sequences > 1; }
};

struct Plan {
  std::shared_ptr<fe::graph::Graph> graph;
  std::size_t workspace_bytes = 0;
};

void require_good(fe::error_t status) {
  if (!status.is_good()) throw Unsupported(fmt::format("{}: cuDNN: {}", kName, status.get_message()));
}

class GraphBuilder {
 public:
  GraphBuilder(const Problem& problem, cudnnHandle_t handle)
      : problem_(problem), handle_(handle), graph_(std::make_shared<fe::graph::Graph>()) {
    graph_->set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
  }

  Plan build() {
    if (problem_.ragged) add_tables();
    problem_.backward ? add_backward() : add_forward();
    require_good(graph_->validate());
    require_good(graph_->build_operation_graph(handle_));
    require_good(graph_->create_execution_plans({fe::HeurMode_t::A}));
    require_good(graph_->check_support(handle_));
    require_good(graph_->build_plans(handle_));
    std::int64_t bytes = 0;
    require_good(graph_->get_workspace_size(bytes));
    return {.graph = graph_, .workspace_bytes = static_cast<std::size_t>(bytes)};
  }

 private:
  void add_tables() {
    const auto type = problem_.wide_offsets() ? fe::DataType_t::INT64 : fe::DataType_t::INT32;
    for (int t = 0; t < SequenceTables::kTensors; ++t) {
      offsets_[t] = graph_->tensor(fe::graph::Tensor_attributes()
                                       .set_uid(kOffsets + t)
                                       .set_dim({problem_.sequences + 1, 1, 1, 1})
                                       .set_stride({1, 1, 1, 1})
                                       .set_data_type(type));
    }
    for (int i = 0; i < 2; ++i) {
      lengths_[i] = graph_->tensor(fe::graph::Tensor_attributes()
                                       .set_uid(i == 0 ? kLengths : kLengthsAgain)
                                       .set_dim({problem_.sequences, 1, 1, 1})
                                       .set_stride({1, 1, 1, 1})
                                       .set_data_type(fe::DataType_t::INT32));
    }
  }

  // table: which of the offsets are its own.
  void shape(fe::graph::Tensor_attributes& tensor, Uid uid, std::int64_t heads, std::int64_t width, int table) const {
    const std::int64_t s = problem_.longest;
    tensor.set_uid(uid)
        .set_dim({problem_.sequences, heads, s, width})
        .set_stride({s * heads * width, width, heads * width, 1})
        .set_data_type(fe::DataType_t::BFLOAT16);
    if (problem_.ragged) tensor.set_ragged_offset(offsets_[table]);
  }
  void shape_statistics(fe::graph::Tensor_attributes& tensor) const {
    const std::int64_t s = problem_.longest, heads = problem_.heads;
    tensor.set_uid(kStatistics).set_dim({problem_.sequences, heads, s, 1}).set_data_type(fe::DataType_t::FLOAT);
    if (problem_.ragged) {
      tensor.set_stride({s * heads, 1, heads, 1}).set_ragged_offset(offsets_[4]);
    } else {
      tensor.set_stride({s * heads, s, 1, 1});
    }
  }
  void shape_query(fe::graph::Tensor_attributes& tensor, Uid uid) const {
    shape(tensor, uid, problem_.heads, problem_.width, 0);
  }
  void shape_key(fe::graph::Tensor_attributes& tensor, Uid uid) const {
    shape(tensor, uid, problem_.kv_heads, problem_.width, 1);
  }
  void shape_value(fe::graph::Tensor_attributes& tensor, Uid uid) const {
    shape(tensor, uid, problem_.kv_heads, problem_.value_width, 2);
  }
  void shape_out(fe::graph::Tensor_attributes& tensor, Uid uid) const {
    shape(tensor, uid, problem_.heads, problem_.value_width, 3);
  }

  template <class Shaper>
  Tensor input(Shaper shaper) const {
    fe::graph::Tensor_attributes tensor;
    shaper(tensor);
    return graph_->tensor(tensor);
  }

  template <class Attributes>
  Attributes attributes() const {
    Attributes attributes;
    attributes.set_attn_scale(static_cast<float>(problem_.scale))
        .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0);
    if (problem_.ragged) {
      attributes.set_padding_mask(true).set_seq_len_q(lengths_[0]).set_seq_len_kv(lengths_[1]);
    }
    return attributes;
  }

  void add_forward() {
    auto options = attributes<fe::graph::SDPA_attributes>();
    options.set_generate_stats(true);
    const auto [out, statistics] =
        graph_->sdpa(input([&](auto& t) { shape_query(t, kQuery); }), input([&](auto& t) { shape_key(t, kKey); }),
                     input([&](auto& t) { shape_value(t, kValue); }), options);
    shape_out(out->set_output(true), kOut);
    shape_statistics(statistics->set_output(true));
  }

  void add_backward() {
    auto options = attributes<fe::graph::SDPA_backward_attributes>();
    // Else its workspace is as if every sequence were the longest.
    if (problem_.ragged) options.set_max_total_seq_len_q(problem_.tokens).set_max_total_seq_len_kv(problem_.tokens);
    const auto [query, key, value] = graph_->sdpa_backward(
        input([&](auto& t) { shape_query(t, kQuery); }), input([&](auto& t) { shape_key(t, kKey); }),
        input([&](auto& t) { shape_value(t, kValue); }), input([&](auto& t) { shape_out(t, kOut); }),
        input([&](auto& t) { shape_out(t, kOutGradient); }), input([&](auto& t) { shape_statistics(t); }), options);
    shape_query(query->set_output(true), kQueryGradient);
    shape_key(key->set_output(true), kKeyGradient);
    shape_value(value->set_output(true), kValueGradient);
  }

  const Problem& problem_;
  cudnnHandle_t handle_;
  std::shared_ptr<fe::graph::Graph> graph_;
  std::array<Tensor, SequenceTables::kTensors> offsets_;
  std::array<Tensor, 2> lengths_;
};

// Of both directions: they name these operands alike.
template <class Operation>
Problem check_operands(const Operation& operation) {
  const AttentionShape& shape = operation.shape;
  Problem problem{.tokens = operation.query.rows,
                  .longest = shape.sequence_length,
                  .heads = shape.heads,
                  .kv_heads = shape.kv_heads,
                  .width = shape.width,
                  .value_width = shape.value_width,
                  .scale = shape.scale,
                  .ragged = static_cast<bool>(operation.starts),
                  .backward = std::is_same_v<Operation, AttentionBackward>};
  require(!operation.key_ranges, kName, "ranges of keys are for CPUs only");
  require(shape.heads > 0 && shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0, kName,
          "query heads are not a multiple of key heads");
  require(shape.sequence_length > 0, kName, "the longest sequence has no tokens");
  if (problem.ragged) {
    require(operation.starts.element == Element::kInt32 && operation.starts.columns > 1, kName,
            "starts are not those of any sequence");
    problem.sequences = operation.starts.columns - 1;
  } else {
    require(problem.tokens % problem.longest == 0, kName, "tokens are not a whole number of sequences");
    problem.sequences = problem.tokens / problem.longest;
  }
  const auto [query, key, value, out, unused] = problem.token_size();
  require_matrix(operation.query, problem.tokens, query, Element::kBf16, kName, "query");
  require_matrix(operation.key, problem.tokens, key, Element::kBf16, kName, "key");
  require_matrix(operation.value, problem.tokens, value, Element::kBf16, kName, "value");
  require_matrix(operation.out, problem.tokens, out, Element::kBf16, kName, "out");
  require(operation.log_sum_exp.element == Element::kFp32 && operation.log_sum_exp.rows == problem.heads &&
              operation.log_sum_exp.columns == problem.tokens,
          kName, "log_sum_exp is not fp32 [heads, tokens]");
  if constexpr (std::is_same_v<Operation, AttentionBackward>) {
    require_matrix(operation.out_gradient, problem.tokens, out, Element::kBf16, kName, "out_gradient");
    require_matrix(operation.query_gradient, problem.tokens, query, Element::kBf16, kName, "query_gradient");
    require_matrix(operation.key_gradient, problem.tokens, key, Element::kBf16, kName, "key_gradient");
    require_matrix(operation.value_gradient, problem.tokens, value, Element::kBf16, kName, "value_gradient");
  }
  return problem;
}

// What lies in the workspace before cuDNN's own part of it.
struct Workspace {
  float* statistics = nullptr;
  SequenceTables tables;
  std::byte* cudnn = nullptr;
  std::size_t bytes = 0;

  Workspace(const Problem& problem, const Plan& plan, void* base) {
    WorkspaceParts parts(base);
    if (problem.transposes()) statistics = parts.take<float>(problem.heads * problem.tokens);
    if (problem.ragged) {
      tables.token_size = problem.token_size();
      const std::size_t offset_bytes = problem.wide_offsets() ? 8 : 4;
      for (void*& offsets : tables.offsets) {
        offsets = parts.take<std::byte>((problem.sequences + 1) * offset_bytes);
      }
      tables.lengths = parts.take<std::int32_t>(problem.sequences);
    }
    cudnn = parts.take<std::byte>(plan.workspace_bytes);
    bytes = parts.used();
  }
};

void load_cudnn() {
  // Once, whichever thread comes first; after a failure the next call tries again.
  static void* const library = [] {
    void* const opened = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (opened == nullptr) throw Unsupported(fmt::format("{}: no cuDNN: {}", kName, dlerror()));
    // The frontend asks the loader for this by name only; where the path does not lead to it, the toolkit may.
    if (dlopen("libcudart.so.13", RTLD_NOW | RTLD_LOCAL) == nullptr) {
      dlopen("/usr/local/cuda/lib64/libcudart.so.13", RTLD_NOW | RTLD_LOCAL);
    }
    return fe::cudnn_dlhandle = opened;
  }();
  (void)library;
}

void check_cudnn(cudnnStatus_t status, const char* call) {
  if (status != CUDNN_STATUS_SUCCESS) fail(call, fe::detail::get_error_string(status), __FILE__, __LINE__);
}

}  // namespace

struct FusedAttention::State {
  cudnnHandle_t handle = nullptr;
  std::map<Problem, Plan> plans;

  ~State() {
    plans.clear();
    if (handle != nullptr) fe::detail::destroy_handle(handle);
  }

  const Plan& plan_of(const Problem& problem) {
    if (const auto found = plans.find(problem); found != plans.end()) return found->second;
    if (handle == nullptr) {
      load_cudnn();
      check_cudnn(fe::detail::create_handle(&handle), "cudnnCreate");
    }
    return plans.emplace(problem, GraphBuilder(problem, handle).build()).first->second;
  }

  template <class Operation>
  std::size_t workspace_bytes(const Operation& operation) {
    const Problem problem = check_operands(operation);
    return problem.tokens == 0 ? 0 : Workspace(problem, plan_of(problem), nullptr).bytes;
  }

  void execute(const Problem& problem, std::unordered_map<std::int64_t, void*> operands, const Workspace& workspace,
               const View& starts, cudaStream_t stream) {
    if (problem.ragged) {
      fill_sequence_tables(starts.as<std::int32_t>(), static_cast<int>(problem.sequences), problem.wide_offsets(),
                           workspace.tables, stream);
      for (int t = 0; t < SequenceTables::kTensors; ++t) operands[kOffsets + t] = workspace.tables.offsets[t];
      operands[kLengths] = operands[kLengthsAgain] = workspace.tables.lengths;
    }
    check_cudnn(fe::detail::set_stream(handle, stream), "cudnnSetStream");
    auto status = plan_of(problem).graph->execute(handle, operands, workspace.cudnn);
    if (!status.is_good()) fail("cudnn_frontend execute", status.get_message().c_str(), __FILE__, __LINE__);
  }
};

FusedAttention::FusedAttention() : state_(std::make_unique<State>()) {}
FusedAttention::~FusedAttention() = default;

std::size_t FusedAttention::workspace_bytes(const Attention& operation) { return state_->workspace_bytes(operation); }
std::size_t FusedAttention::workspace_bytes(const AttentionBackward& operation) {
  return state_->workspace_bytes(operation);
}

void FusedAttention::run(const Attention& operation, const DeviceLaunch& launch) {
  const Problem problem = check_operands(operation);
  if (problem.tokens == 0) return;
  const Workspace workspace(problem, state_->plan_of(problem), launch.workspace);
  float* ours = operation.log_sum_exp.as<float>();
  float* theirs = problem.transposes() ? workspace.statistics : ours;
  state_->execute(problem,
                  {{kQuery, operation.query.data},
                   {kKey, operation.key.data},
                   {kValue, operation.value.data},
                   {kOut, operation.out.data},
                   {kStatistics, theirs}},
                  workspace, operation.starts, launch.stream);
  if (problem.transposes()) {
    log_sum_exp_from_cudnn(theirs, ours, problem.heads, problem.tokens, problem.statistics_length(), launch.stream);
  }
}

void FusedAttention::run(const AttentionBackward& operation, const DeviceLaunch& launch) {
  const Problem problem = check_operands(operation);
  if (problem.tokens == 0) return;
  const Workspace workspace(problem, state_->plan_of(problem), launch.workspace);
  float* ours = operation.log_sum_exp.as<float>();
  float* theirs = problem.transposes() ? workspace.statistics : ours;
  if (problem.transposes()) {
    log_sum_exp_to_cudnn(ours, theirs, problem.heads, problem.tokens, problem.statistics_length(), launch.stream);
  }
  state_->execute(problem,
                  {{kQuery, operation.query.data},
                   {kKey, operation.key.data},
                   {kValue, operation.value.data},
                   {kOut, operation.out.data},
                   {kStatistics, theirs},
                   {kOutGradient, operation.out_gradient.data},
                   {kQueryGradient, operation.query_gradient.data},
                   {kKeyGradient, operation.key_gradient.data},
                   {kValueGradient, operation.value_gradient.data}},
                  workspace, operation.starts, launch.stream);
}

}  // namespace msmoe::kernels
