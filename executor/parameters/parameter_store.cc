#include "executor/parameters/parameter_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <numeric>
#include <utility>

#include "core/error.h"

namespace msmoe::executor {
namespace {

using kernels::Element;
using kernels::View;

// `rows` rows of `columns`, from this element of a bucket on.
View matrix_in(const View& bucket, std::int64_t offset, std::int64_t rows, std::int64_t columns) {
  std::byte* const data = static_cast<std::byte*>(bucket.data);
  return {data + static_cast<std::size_t>(offset) * size_of(bucket.element), rows, columns, bucket.element};
}

View slice_in(const View& bucket, const LocalParameter& local) {
  return matrix_in(bucket, local.offset, local.slice.rows(), local.slice.columns());
}

}  // namespace

ParameterStore::ParameterStore(const Model& model, const Plan& plan, const MeshPlace& place,
                               std::vector<ModuleId> modules, Backend& backend, const Communicators& communicators)
    : backend_(backend),
      communicators_(communicators),
      modules_(std::move(modules)),
      zero_(static_cast<int>(plan.zero)),
      splits_weights_(plan.attention == AttentionParallelism::kTensor && plan.attention_degree > 1),
      pool_(backend) {
  if (plan.zero >= 2 && plan.schedule == PipelineSchedule::kDualPipe)
    throw UserError("", fmt::format("zero={}", plan.zero),
                    "DualPipe's two copies of a stage do not run its modules in one order", "zero=0 or 1 is allowed");
  const auto scalar = [&] { return View{backend_.allocate(sizeof(float)), 1, 1, Element::kFp32}; };
  squared_norm_ = scalar();
  clip_scale_ = scalar();

  for (std::size_t module_idx = 0; module_idx < modules_.size(); ++module_idx) {
    LocalParameters local = local_parameters(model, plan, place, modules_[module_idx]);
    Module& held = held_.emplace_back();
    const auto hold = [&](std::optional<ParameterBucket>& bucket, LocalBucket&& layout) {
      if (layout.elements > 0) bucket.emplace(std::move(layout), plan, backend_, pool_, communicators_(layout.group));
    };
    hold(held.dense, std::move(local.dense));
    hold(held.expert, std::move(local.expert));
    if (local.router_bias) {
      held.router_bias = std::move(local.router_bias);
      const std::int64_t experts = held.router_bias->slice.columns();
      held.bias = {backend_.allocate(static_cast<std::size_t>(experts) * sizeof(float)), 1, experts, Element::kFp32};
    }
    in_order_.push_back(module_idx);
    if (model.tied_embeddings && modules_[module_idx].kind == ModuleKind::kEmbedding) tied_embedding_ = module_idx;
  }
  std::stable_sort(in_order_.begin(), in_order_.end(),
                   [&](std::size_t a, std::size_t b) { return runs_before(modules_[a], modules_[b]); });
}

// ---- Views

const ParameterStore::Module& ParameterStore::holder_of(std::size_t module_idx, Part* part) const {
  if (*part != Part::kHead || !tied_embedding_) return held_[module_idx];
  *part = Part::kEmbedding;
  return held_[*tied_embedding_];
}

const LocalParameter* ParameterStore::find(const Module& module, Part part) {
  if (!module.dense) return nullptr;
  const std::vector<LocalParameter>& parameters = module.dense->layout().parameters;
  const auto found = std::find_if(parameters.begin(), parameters.end(),
                                  [&](const LocalParameter& local) { return local.whole.part == part; });
  return found == parameters.end() ? nullptr : &*found;
}

bool ParameterStore::has(std::size_t module_idx, Part part) const {
  const Module& holder = holder_of(module_idx, &part);
  return find(holder, part) != nullptr;
}

View ParameterStore::weight(std::size_t module_idx, Part part) const {
  const Module& holder = holder_of(module_idx, &part);
  const LocalParameter* const local = find(holder, part);
  assert(local != nullptr);
  return slice_in(holder.dense->weights(), *local);
}

View ParameterStore::gradient(std::size_t module_idx, Part part) const {
  const Module& holder = holder_of(module_idx, &part);
  const LocalParameter* const local = find(holder, part);
  assert(local != nullptr);
  return slice_in(holder.dense->gradients(), *local);
}

std::int64_t ParameterStore::first_row(std::size_t module_idx, Part part) const {
  const Module& holder = holder_of(module_idx, &part);
  const LocalParameter* const local = find(holder, part);
  assert(local != nullptr);
  return local->slice.row_begin;
}

// The feed-forward's first matrix of this part, and all those that continue it.
ParameterStore::Matrices ParameterStore::matrices(std::size_t module_idx, FeedForwardPart kind, Part part) const {
  const Module& module = held_[module_idx];
  if (kind == FeedForwardPart::kShared) part = part == Part::kGate ? Part::kSharedGate : Part::kSharedDown;
  const ParameterBucket& bucket = kind == FeedForwardPart::kExperts ? *module.expert : *module.dense;
  Matrices matrices{.bucket = &bucket};
  for (const LocalParameter& local : bucket.layout().parameters) {
    if (local.whole.part != part) continue;
    if (matrices.rows == 0) matrices.offset = local.offset;
    const bool has_up = part == Part::kGate || part == Part::kSharedGate;
    matrices.rows += (has_up ? 2 : 1) * local.slice.rows();
    matrices.columns = local.slice.columns();
  }
  assert(matrices.rows > 0);
  return matrices;
}

View ParameterStore::gate_up(std::size_t module_idx, FeedForwardPart part) const {
  return matrices(module_idx, part, Part::kGate).in_weights();
}
View ParameterStore::gate_up_gradient(std::size_t module_idx, FeedForwardPart part) const {
  return matrices(module_idx, part, Part::kGate).in_gradients();
}
View ParameterStore::down(std::size_t module_idx, FeedForwardPart part) const {
  return matrices(module_idx, part, Part::kDown).in_weights();
}
View ParameterStore::down_gradient(std::size_t module_idx, FeedForwardPart part) const {
  return matrices(module_idx, part, Part::kDown).in_gradients();
}
View ParameterStore::Matrices::in_weights() const { return matrix_in(bucket->weights(), offset, rows, columns); }
View ParameterStore::Matrices::in_gradients() const { return matrix_in(bucket->gradients(), offset, rows, columns); }

View ParameterStore::router_bias(std::size_t module_idx) const { return held_[module_idx].bias; }

// ---- Passes and the step

template <class Do>
void ParameterStore::for_each_bucket(Module& module, Do action) {
  if (module.dense) action(*module.dense);
  if (module.expert) action(*module.expert);
}

template <class Do>
void ParameterStore::for_each_bucket(Do action) {
  for (const std::size_t module_idx : in_order_) for_each_bucket(held_[module_idx], action);
}

// A tied head is used with the embedding's module.
template <class Do>
void ParameterStore::for_each_used_bucket(std::size_t module_idx, Do action) {
  for_each_bucket(held_[module_idx], action);
  if (modules_[module_idx].kind == ModuleKind::kHead && tied_embedding_)
    for_each_bucket(held_[*tied_embedding_], action);
}

template <class Do>
void ParameterStore::timed(OperatorTime time, Do action) const {
  if (!time_observer_) return action();
  time.begin_seconds = seconds_now();
  action();
  time.end_seconds = seconds_now();
  time_observer_(time);
}

template <class Do>
void ParameterStore::synchronize(const char* name, const char* pass, std::size_t module_idx, ParameterBucket& bucket,
                                 Do action) const {
  if (!bucket.has_replicas()) return action();
  const bool is_expert = bucket.layout().group == GroupKind::kExpertData;
  timed({.name = is_expert ? std::string("expert_") + name : name,
         .pass = pass,
         .stream = Stream::kData,
         .layer = modules_[module_idx].layer},
        action);
}

void ParameterStore::begin_use(std::size_t module_idx) {
  if (zero_ < 3) return;
  for_each_used_bucket(module_idx, [&](ParameterBucket& bucket) {
    synchronize("param_gather", "gather", module_idx, bucket, [&] { bucket.begin_use(); });
  });
}
void ParameterStore::end_use(std::size_t module_idx) {
  for_each_used_bucket(module_idx, [](ParameterBucket& bucket) { bucket.end_use(); });
}
void ParameterStore::begin_gradients(std::size_t module_idx) {
  for_each_used_bucket(module_idx, [](ParameterBucket& bucket) { bucket.begin_gradients(); });
}
void ParameterStore::end_gradients(std::size_t module_idx) {
  if (zero_ < 2) return;
  for_each_used_bucket(module_idx, [&](ParameterBucket& bucket) {
    synchronize("grad_reduce", "reduce", module_idx, bucket, [&] { bucket.end_gradients(); });
  });
}

void ParameterStore::reduce_gradients() {
  if (zero_ >= 2) return;
  for (const std::size_t module_idx : in_order_) {
    for_each_bucket(held_[module_idx], [&](ParameterBucket& bucket) {
      synchronize("grad_reduce", "reduce", module_idx, bucket, [&] { bucket.reduce_gradients(); });
    });
  }
}

void ParameterStore::sum_shared_gradients() {
  if (!splits_weights_) return;
  timed({.name = "shared_grad_reduce", .pass = "reduce", .stream = Stream::kData}, [&] {
    Communicator& tensor_ranks = communicators_(GroupKind::kAttention);
    for_each_bucket([&](ParameterBucket& bucket) { bucket.sum_over_tensor_ranks(tensor_ranks); });
  });
}

double ParameterStore::squared_norm() {
  timed({.name = "grad_norm", .pass = "optimizer"}, [&] {
    kernels::SquaredNorm norm{.sum = squared_norm_};
    for_each_bucket([&](ParameterBucket& bucket) { bucket.add_norm_terms(norm); });
    backend_.run(norm, Stream::kCompute);
    backend_.finish(Stream::kCompute);
  });
  Communicator& world = communicators_(GroupKind::kWorld);
  if (world.size() > 1)
    timed({.name = "grad_norm_reduce", .pass = "optimizer"},
          [&] { world.all_reduce(squared_norm_.as<float>(), 1, Reduction::kSum); });
  norm_is_known_ = true;
  float sum = 0;
  backend_.to_host(&sum, squared_norm_.data, sizeof(sum));
  return sum;
}

void ParameterStore::update(const UpdateSettings& settings) {
  timed({.name = "adamw", .pass = "optimizer"}, [&] {
    kernels::AdamW adam{.rate = settings.rate,
                        .beta1 = settings.beta1,
                        .beta2 = settings.beta2,
                        .epsilon = settings.epsilon,
                        .step = settings.step};
    if (settings.clip > 0) {
      assert(norm_is_known_);
      backend_.run(kernels::ClipScale{squared_norm_, clip_scale_, settings.clip}, Stream::kCompute);
      adam.gradient_scale = clip_scale_;
    }
    for_each_bucket([&](ParameterBucket& bucket) { bucket.add_updates(adam, settings.decay); });
    backend_.run(adam, Stream::kCompute);
  });
  if (zero_ == 0 || zero_ == 3) return;
  for (const std::size_t module_idx : in_order_) {
    for_each_bucket(held_[module_idx], [&](ParameterBucket& bucket) {
      synchronize("param_gather", "gather", module_idx, bucket, [&] { bucket.gather_weights(); });
    });
  }
}

void ParameterStore::zero_gradients() {
  for_each_bucket([](ParameterBucket& bucket) { bucket.zero_gradients(); });
  norm_is_known_ = false;
}

void ParameterStore::update_router_bias(std::size_t module_idx, std::span<const std::int64_t> counts, double rate) {
  const View& bias = held_[module_idx].bias;
  assert(bias && bias.columns == static_cast<std::int64_t>(counts.size()));
  std::vector<float> values(counts.size());
  backend_.finish(Stream::kCompute);
  backend_.to_host(values.data(), bias.data, bias.bytes());
  const std::int64_t sum = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  for (std::size_t expert = 0; expert < counts.size(); ++expert) {
    // sum / experts against counts[expert], in whole numbers
    const std::int64_t load = counts[expert] * static_cast<std::int64_t>(counts.size());
    const int sign = sum > load ? 1 : sum < load ? -1 : 0;
    values[expert] = static_cast<float>(values[expert] + sign * rate);
  }
  backend_.from_host(bias.data, values.data(), bias.bytes());
}

// ---- States

std::vector<StatePiece> ParameterStore::held_pieces() const {
  return pieces([](const ParameterBucket& bucket) { return bucket.held(); },
                [](const LocalParameter&) { return true; });
}

std::vector<StatePiece> ParameterStore::saved_pieces() const {
  const bool is_first_replica = communicators_(GroupKind::kDenseData).rank() == 0;
  return pieces([](const ParameterBucket& bucket) { return bucket.own(); },
                [&](const LocalParameter& local) {
                  return local.is_first && (is_first_replica || local.whole.part != Part::kRouterBias);
                });
}

template <class RangeOf, class Takes>
std::vector<StatePiece> ParameterStore::pieces(RangeOf range_of, Takes takes) const {
  std::vector<StatePiece> pieces;
  const auto add_bucket = [&](const std::optional<ParameterBucket>& bucket) {
    if (!bucket) return;
    const Range range = range_of(*bucket);
    for (const LocalParameter& local : bucket->layout().parameters) {
      const std::int64_t begin = std::max(range.begin, local.offset);
      const std::int64_t end = std::min(range.end, local.offset + local.slice.size());
      if (begin >= end || !takes(local)) continue;
      const auto data = [&](const View& states) { return states.as<float>() + (begin - bucket->held().begin); };
      pieces.push_back({&local,
                        begin - local.offset,
                        end - local.offset,
                        {data(bucket->masters()), data(bucket->first_moments()), data(bucket->second_moments())}});
    }
  };
  for (const Module& module : held_) {
    add_bucket(module.dense);
    add_bucket(module.expert);
    if (module.router_bias && takes(*module.router_bias))
      pieces.push_back({&*module.router_bias, 0, module.bias.columns, {module.bias.as<float>()}});
  }
  return pieces;
}

void ParameterStore::publish_masters() {
  for_each_bucket([](ParameterBucket& bucket) { bucket.publish_masters(); });
}

}  // namespace msmoe::executor
