#include "executor/parameters/parameter_bucket.h"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <utility>

namespace msmoe::executor {
namespace {

using kernels::Element;
using kernels::View;

View row_of(std::byte* data, std::int64_t columns, Element element) { return {data, 1, columns, element}; }

View part_of(const View& row, const Range& range) {
  assert(row && range.begin >= 0 && range.end <= row.columns);
  std::byte* const data = static_cast<std::byte*>(row.data);
  return row_of(data + static_cast<std::size_t>(range.begin) * size_of(row.element), range.size(), row.element);
}

// What `of` has in `within`; empty ones lie in there as well.
Range overlap(const Range& of, const Range& within) {
  return {std::clamp(of.begin, within.begin, within.end), std::clamp(of.end, within.begin, within.end)};
}

}  // namespace

ParameterBucket::ParameterBucket(LocalBucket layout, const Plan& plan, Backend& backend, BufferPool& pool,
                                 Communicator& group)
    : layout_(std::move(layout)),
      zero_(plan.zero),
      wire_(group.size() > 1 ? plan.grad_wire : WireFormat::kFp32),
      backend_(backend),
      pool_(pool),
      group_(group) {
  assert(layout_.elements % group.size() == 0);
  const auto allocate = [&](std::int64_t elements, Element element) {
    return row_of(backend_.allocate(static_cast<std::size_t>(elements) * size_of(element)), elements, element);
  };
  weights_ = allocate(zero_ < 3 ? layout_.elements : own().size(), backend_.element());
  gradient_sums_ = allocate(zero_ < 2 ? layout_.elements : own().size(), Element::kFp32);
  masters_ = backend_.element() == Element::kFp32 ? held_weights() : allocate(held().size(), Element::kFp32);
  first_moments_ = allocate(held().size(), Element::kFp32);
  second_moments_ = allocate(held().size(), Element::kFp32);
}

Range ParameterBucket::own() const {
  const std::int64_t size = layout_.elements / group_.size();
  return {group_.rank() * size, (group_.rank() + 1) * size};
}

View ParameterBucket::weights() const {
  if (zero_ < 3) return weights_;
  assert(gathered_weights_ != nullptr);
  return row_of(gathered_weights_.get(), layout_.elements, backend_.element());
}

View ParameterBucket::gradients() const {
  if (zero_ < 2) return gradient_sums_;
  assert(open_gradients_ != nullptr);
  return row_of(open_gradients_.get(), layout_.elements, Element::kFp32);
}

View ParameterBucket::held_weights() const { return zero_ < 3 ? part_of(weights_, held()) : weights_; }
View ParameterBucket::held_gradients() const { return zero_ < 2 ? part_of(gradient_sums_, held()) : gradient_sums_; }

void ParameterBucket::begin_use() {
  if (zero_ < 3 || uses_++ > 0) return;
  gathered_weights_ = pool_.acquire(static_cast<std::size_t>(layout_.elements) * size_of(backend_.element()));
  gather(weights_, weights());
}

void ParameterBucket::end_use() {
  if (zero_ < 3 || --uses_ > 0) return;
  assert(uses_ == 0);
  gathered_weights_.reset();
}

// The shard starts from what was reduced before, so that the sum over ranks is the new total.
void ParameterBucket::begin_gradients() {
  if (zero_ < 2 || gradient_uses_++ > 0) return;
  open_gradients_ = pool_.acquire(static_cast<std::size_t>(layout_.elements) * sizeof(float));
  backend_.run(kernels::Zero{gradients()}, Stream::kCompute);
  if (wire_ == WireFormat::kFp32)
    backend_.copy(part_of(gradients(), own()).data, gradient_sums_.data, gradient_sums_.bytes(), Stream::kCompute);
}

void ParameterBucket::end_gradients() {
  if (zero_ < 2 || --gradient_uses_ > 0) return;
  assert(gradient_uses_ == 0);
  scatter_sums(gradients(), gradient_sums_, true);
  open_gradients_.reset();
}

void ParameterBucket::reduce_gradients() {
  assert(gradient_uses_ == 0);
  if (zero_ >= 2 || group_.size() == 1) return;
  const View all = gradient_sums_, shard = part_of(all, own());
  if (zero_ == 0 && wire_ == WireFormat::kFp32) {
    backend_.finish(Stream::kCompute);
    group_.all_reduce(all.as<float>(), static_cast<std::size_t>(all.size()), Reduction::kSum);
    return;
  }
  const BufferPool::Buffer buffer = pool_.acquire(shard.bytes());
  const View sums = row_of(buffer.get(), shard.size(), Element::kFp32);
  scatter_sums(all, sums, false);
  if (zero_ == 0)
    gather(sums, all);
  else
    backend_.copy(shard.data, sums.data, sums.bytes(), Stream::kCompute);
}

// sums: this rank's shard of the sum over ranks. With bf16 on the wire each rank sends every other its part of the
// addends and adds up, in fp32, what it receives.
void ParameterBucket::scatter_sums(const View& addends, const View& sums, bool accumulate) {
  const auto ranks = static_cast<std::size_t>(group_.size());
  if (wire_ == WireFormat::kFp32) {
    const std::vector<std::size_t> counts(ranks, static_cast<std::size_t>(sums.size()));
    backend_.finish(Stream::kCompute);
    group_.reduce_scatter(addends.as<float>(), sums.as<float>(), counts);
    return;
  }
  const std::size_t bytes = static_cast<std::size_t>(addends.size()) * size_of(Element::kBf16);
  const std::vector<std::size_t> parts(ranks, bytes / ranks);
  const BufferPool::Buffer sent = pool_.acquire(bytes), received = pool_.acquire(bytes);
  backend_.run(kernels::Cast{addends, row_of(sent.get(), addends.size(), Element::kBf16)}, Stream::kCompute);
  backend_.finish(Stream::kCompute);
  group_.all_to_all(sent.get(), parts, received.get(), parts);
  backend_.run(kernels::SumChunks{{received.get(), group_.size(), sums.size(), Element::kBf16}, sums, accumulate},
               Stream::kCompute);
}

void ParameterBucket::gather(const View& shard, const View& all) {
  const std::vector<std::size_t> bytes(static_cast<std::size_t>(group_.size()), shard.bytes());
  backend_.finish(Stream::kCompute);
  group_.all_gather(shard.data, all.data, bytes);
}

void ParameterBucket::sum_over_tensor_ranks(Communicator& tensor_ranks) {
  const auto held_part = [&](const Range& range) {
    const Range here = overlap(range, held());
    return part_of(held_gradients(), {here.begin - held().begin, here.end - held().begin});
  };
  const View replicated = held_part({0, layout_.replicated_end});
  if (replicated.size() > 0) {
    backend_.finish(Stream::kCompute);
    tensor_ranks.all_reduce(replicated.as<float>(), static_cast<std::size_t>(replicated.size()), Reduction::kSum);
  }
  const View shared = held_part({layout_.replicated_end, layout_.shared_end});
  if (shared.size() > 0) sum_over_sharers(shared, tensor_ranks);
}

// Every key/value head has a place of its own in what all tensor ranks add up.
void ParameterBucket::sum_over_sharers(const View& gradients, Communicator& tensor_ranks) {
  int sharers = 1;
  for (const LocalParameter& local : layout_.parameters)
    if (local.offset >= layout_.replicated_end && local.offset < layout_.shared_end) sharers = local.sharers;
  const std::int64_t heads = tensor_ranks.size() / sharers, head_idx = tensor_ranks.rank() / sharers;
  const BufferPool::Buffer buffer = pool_.acquire(static_cast<std::size_t>(heads) * gradients.bytes());
  const View all = row_of(buffer.get(), heads * gradients.size(), Element::kFp32);
  const View here = part_of(all, {head_idx * gradients.size(), (head_idx + 1) * gradients.size()});
  backend_.run(kernels::Zero{all}, Stream::kCompute);
  backend_.copy(here.data, gradients.data, gradients.bytes(), Stream::kCompute);
  backend_.finish(Stream::kCompute);
  tensor_ranks.all_reduce(all.as<float>(), static_cast<std::size_t>(all.size()), Reduction::kSum);
  backend_.copy(gradients.data, here.data, here.bytes(), Stream::kCompute);
}

void ParameterBucket::zero_gradients() { backend_.run(kernels::Zero{gradient_sums_}, Stream::kCompute); }

// Neighbours that are treated alike are one run. What lies between parameters is zero in all states and stays so.
std::vector<ParameterBucket::Run> ParameterBucket::runs(const Range& range) const {
  std::vector<Run> runs;
  for (std::size_t idx = 0; idx < layout_.parameters.size(); ++idx) {
    const LocalParameter& local = layout_.parameters[idx];
    const bool is_last = idx + 1 == layout_.parameters.size();
    const std::int64_t end = is_last ? layout_.elements : layout_.parameters[idx + 1].offset;
    const Run run{overlap({local.offset, end}, range), local.decays(), local.is_first};
    if (run.range.size() == 0) continue;
    if (!runs.empty() && runs.back().decays == run.decays && runs.back().is_first == run.is_first)
      runs.back().range.end = run.range.end;
    else
      runs.push_back(run);
  }
  return runs;
}

void ParameterBucket::add_norm_terms(kernels::SquaredNorm& norm) const {
  const std::int64_t first = held().begin;
  for (const Run& run : runs(own()))
    if (run.is_first)
      norm.tensors.push_back(part_of(held_gradients(), {run.range.begin - first, run.range.end - first}));
}

void ParameterBucket::add_updates(kernels::AdamW& adam, double decay) const {
  const std::int64_t first = held().begin;
  for (const Run& run : runs(held())) {
    const Range range{run.range.begin - first, run.range.end - first};
    adam.tensors.push_back({.parameter = part_of(held_weights(), range),
                            .gradient = part_of(held_gradients(), range),
                            .master = part_of(masters_, range),
                            .first_moment = part_of(first_moments_, range),
                            .second_moment = part_of(second_moments_, range),
                            .decay = run.decays ? decay : 0});
  }
}

void ParameterBucket::gather_weights() {
  if (zero_ == 0 || zero_ == 3 || group_.size() == 1) return;
  const View shard = part_of(weights_, own());
  const BufferPool::Buffer buffer = pool_.acquire(shard.bytes());
  backend_.copy(buffer.get(), shard.data, shard.bytes(), Stream::kCompute);
  gather(row_of(buffer.get(), shard.size(), shard.element), weights_);
}

void ParameterBucket::publish_masters() {
  if (masters_.data != held_weights().data) backend_.run(kernels::Cast{masters_, held_weights()}, Stream::kCompute);
  gather_weights();
}

}  // namespace msmoe::executor
