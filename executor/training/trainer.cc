#include "executor/training/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/plan_names.h"
#include "executor/communication/mesh.h"

namespace msmoe::executor {
namespace {

using kernels::Element;
using kernels::View;

std::vector<ModuleId> modules_of(const Model& model, const Plan& plan, int stage) {
  std::vector<ModuleId> modules;
  for (const std::vector<ModuleId>& chunk : stage_modules(model, plan, stage))
    modules.insert(modules.end(), chunk.begin(), chunk.end());
  return modules;
}

// Copies of a token that one rank's experts can get.
std::int64_t most_copies(const Model& model, const Plan& plan) {
  std::int64_t most = 0;
  for (const LayerKind& kind : model.kinds)
    if (kind.feed_forward.is_moe())
      most = std::max(most, std::min(kind.feed_forward.top_k, kind.feed_forward.experts / plan.ep));
  return most;
}

// Of one rank's tokens, for one expert rank: all that can be, or what a limited capacity leaves of it. A limit for each
// source keeps its choice to itself, and adds up to what the plan says.
std::int64_t copies_sent(const Model& model, const Plan& plan, std::int64_t tokens) {
  std::int64_t most = tokens * most_copies(model, plan);
  if (plan.capacity <= 0) return most;
  for (const LayerKind& kind : model.kinds) {
    const double balanced = static_cast<double>(tokens * kind.feed_forward.top_k) / static_cast<double>(plan.ep);
    if (kind.feed_forward.is_moe())
      most = std::min(most, static_cast<std::int64_t>(std::floor(plan.capacity * balanced)));
  }
  return most;
}

// Over balance, where all tokens of an expert group choose one rank.
double worst_imbalance(const Model& model, const Plan& plan) {
  double worst = 1;
  for (const LayerKind& kind : model.kinds)
    if (kind.feed_forward.is_moe())
      worst = std::max(worst, static_cast<double>(plan.ep * most_copies(model, plan)) /
                                  static_cast<double>(kind.feed_forward.top_k));
  return worst;
}

void check_precision(const Plan& plan, Element element) {
  const bool fp32 = element == Element::kFp32;
  if (fp32 == (plan.precision == Precision::kFp32)) return;
  throw UserError("the plan", "precision", choice_name(kPrecisionChoices, plan.precision),
                  fp32 ? "CPUs compute in fp32" : "GPUs compute in bf16 or fp8");
}

// What a plan can say of the optimizer's numbers, and nobody does yet.
void check_optimizer(const Plan& plan) {
  const auto refuse = [](const char* key, const std::string& value, const char* allowed) {
    throw UserError("the plan", key, value + " is not trained with", allowed);
  };
  if (plan.optimizer_offload) refuse("optimizer.offload", "true", "false is allowed");
  if (plan.grad_bytes != 4) refuse("optimizer.grad_bytes", fmt::format("{}", plan.grad_bytes), "4 is allowed");
  if (plan.moment_bytes != 4) refuse("optimizer.moment_bytes", fmt::format("{}", plan.moment_bytes), "4 is allowed");
  const double master_bytes = plan.precision == Precision::kFp32 ? 0 : 4;
  if (plan.master_bytes != master_bytes)
    refuse("optimizer.master_bytes", fmt::format("{}", plan.master_bytes),
           master_bytes > 0 ? "4 is allowed" : "0 is allowed: an fp32 weight is its own master");
}

void check_model(const Model& model) {
  if (model.predict_layers > 0)
    throw UserError(model.name, "num_nextn_predict_layers", "prediction layers are not trained", "0 is allowed");
}

}  // namespace

void check_trainable(const Model& model, const Plan& plan, Element element) {
  check_precision(plan, element);
  check_optimizer(plan);
  check_model(model);
}

Program executable_program(const Model& model, const Cluster& cluster, const Plan& plan) {
  return lower(model, cluster, plan, {.imbalance = worst_imbalance(model, plan)});
}

Trainer::Trainer(const Model& model, const ModelNumerics& numerics, const Cluster& cluster, const Plan& plan, int rank,
                 Backend& backend, Communicators communicators, const LossCoefficients& coefficients,
                 Position& position)
    : model_(model),
      plan_((check_trainable(model, plan, backend.element()), plan)),
      place_(place_of(plan, rank)),
      backend_(backend),
      communicators_(std::move(communicators)),
      geometry_(model, plan, place_),
      program_(executable_program(model, cluster, plan)),
      store_(model, plan, place_, modules_of(model, plan, place_.stage), backend, communicators_),
      pool_(backend),
      wire_(plan.act_wire, backend, pool_),
      rank_{.model = model,
            .plan = plan,
            .numerics = numerics,
            .geometry = geometry_,
            .backend = backend,
            .store = store_,
            .communicators = communicators_,
            .wire = wire_,
            .pool = pool_,
            .positions = {},
            .losses = {.tokens = static_cast<double>(plan.global_batch * plan.seq_len),
                       .sequences = static_cast<double>(plan.global_batch),
                       .auxiliary = coefficients.auxiliary,
                       .z = coefficients.z},
            .row_capacity = copies_sent(model, plan, geometry_.shard_tokens) * plan.expert_ranks(),
            .most_copies = copies_sent(model, plan, geometry_.shard_tokens),
            .sums = {}},
      runner_(rank_, program_, place_.stage, position) {
  const auto rows = static_cast<std::size_t>(geometry_.dense_rows);
  const auto numbers = [&] {
    return View{backend.allocate(rows * sizeof(std::int32_t)), 1, geometry_.dense_rows, Element::kInt32};
  };
  std::vector<std::int32_t> positions;
  for (const std::int32_t id : geometry_.dense_ids())
    positions.push_back(static_cast<std::int32_t>(id % geometry_.seq_len));
  rank_.positions = numbers();
  backend.from_host(rank_.positions.data, positions.data(), rank_.positions.bytes());
  for (std::int64_t i = 0; i < plan.micro_batches(); ++i) batches_.push_back({numbers(), numbers()});
}

std::vector<MicroBatch> Trainer::upload(std::span<const std::int32_t> tokens, std::span<const std::int32_t> targets) {
  const auto each = static_cast<std::size_t>(geometry_.sequences * geometry_.seq_len);
  assert(tokens.size() == each * batches_.size() && targets.size() == tokens.size());
  const auto copy = [&](std::span<const std::int32_t> from, const View& to) {
    std::vector<std::int32_t> mine;
    for (const std::int32_t id : geometry_.dense_ids()) mine.push_back(from[static_cast<std::size_t>(id)]);
    backend_.from_host(to.data, mine.data(), to.bytes());
  };
  for (std::size_t i = 0; i < batches_.size(); ++i) {
    copy(tokens.subspan(i * each, each), batches_[i].ids);
    copy(targets.subspan(i * each, each), batches_[i].targets);
  }
  return batches_;
}

StepResult Trainer::accumulate(std::span<const std::int32_t> tokens, std::span<const std::int32_t> targets) {
  rank_.sums = {};
  rank_.sums.expert_counts.resize(store_.modules().size());
  runner_.run(upload(tokens, targets));
  store_.reduce_gradients();
  store_.sum_shared_gradients();

  StepResult result;
  result.gradient_norm = std::sqrt(store_.squared_norm());
  result.expert_load = sum_expert_counts();
  std::array<float, 4> sums = {static_cast<float>(rank_.sums.loss), static_cast<float>(rank_.sums.auxiliary),
                               static_cast<float>(rank_.sums.z), static_cast<float>(rank_.sums.dropped)};
  Communicator& world = communicators_(GroupKind::kWorld);
  world.all_reduce(sums.data(), sums.size(), Reduction::kSum);
  float load = static_cast<float>(result.expert_load);
  world.all_reduce(&load, 1, Reduction::kMaximum);
  result.loss = sums[0] / rank_.losses.tokens;
  result.auxiliary = sums[1];
  result.z = sums[2];
  result.dropped = std::llround(sums[3]);
  result.expert_load = load;
  return result;
}

double Trainer::evaluate(std::span<const std::int32_t> tokens, std::span<const std::int32_t> targets) {
  const StepSums kept = std::exchange(rank_.sums, {});
  rank_.sums.expert_counts.resize(store_.modules().size());
  runner_.evaluate(upload(tokens, targets));
  auto loss = static_cast<float>(rank_.sums.loss);
  communicators_(GroupKind::kWorld).all_reduce(&loss, 1, Reduction::kSum);
  rank_.sums = kept;
  return loss / rank_.losses.tokens;
}

// Counts become those of all tokens of the batch. Returns the load of this stage's busiest expert.
double Trainer::sum_expert_counts() {
  std::vector<std::size_t> order(store_.modules().size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // The ranks of a data group may hold their chunks the other way round.
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return runs_before(store_.modules()[a], store_.modules()[b]); });
  std::vector<float> all;
  for (const std::size_t idx : order)
    all.insert(all.end(), rank_.sums.expert_counts[idx].begin(), rank_.sums.expert_counts[idx].end());
  if (all.empty()) return 0;
  communicators_(GroupKind::kDenseData).all_reduce(all.data(), all.size(), Reduction::kSum);
  if (geometry_.tensor_ranks > 1)
    communicators_(GroupKind::kAttention).all_reduce(all.data(), all.size(), Reduction::kSum);
  double worst = 0;
  auto next = all.begin();
  for (const std::size_t idx : order) {
    std::vector<std::int64_t>& counts = rank_.sums.expert_counts[idx];
    if (counts.empty()) continue;
    for (std::int64_t& count : counts) count = std::llround(*next++);
    const double mean = static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})) /
                        static_cast<double>(counts.size());
    worst = std::max(worst, static_cast<double>(*std::max_element(counts.begin(), counts.end())) / mean);
  }
  return worst;
}

void Trainer::update(const UpdateSettings& settings, double bias_rate) {
  store_.update(settings);
  store_.zero_gradients();
  if (bias_rate <= 0) return;
  for (std::size_t idx = 0; idx < store_.modules().size(); ++idx)
    if (!rank_.sums.expert_counts[idx].empty() && store_.router_bias(idx))
      store_.update_router_bias(idx, rank_.sums.expert_counts[idx], bias_rate);
}

void Trainer::observe_times(const TimeObserver& observer) {
  runner_.observe_times(observer);
  store_.observe_times(observer);
}

}  // namespace msmoe::executor
