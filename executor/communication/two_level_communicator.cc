#include "executor/communication/two_level_communicator.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <utility>

namespace msmoe::executor {
namespace {

std::size_t sum_of(std::span<const std::size_t> sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
}

// Room that is written before it is read.
template <class Element>
std::unique_ptr<Element[]> room_for(std::size_t count) {
  return std::make_unique_for_overwrite<Element[]>(count);
}

}  // namespace

TwoLevelCommunicator::TwoLevelCommunicator(std::shared_ptr<Communicator> local, std::shared_ptr<Communicator> across,
                                           std::shared_ptr<Communicator> flat)
    : local_(std::move(local)),
      across_(std::move(across)),
      flat_(std::move(flat)),
      num_locals_(static_cast<std::size_t>(local_->size())),
      num_nodes_(static_cast<std::size_t>(across_->size())) {
  assert(flat_->size() == local_->size() * across_->size());
  assert(flat_->rank() == across_->rank() * local_->size() + local_->rank());
}

void TwoLevelCommunicator::all_gather(const void* mine, void* all, std::span<const std::size_t> bytes_of) {
  const std::vector<std::size_t> by_local = sizes_by_local(bytes_of), by_node = sizes_by_node(bytes_of);
  const auto of_local = room_for<std::byte>(sum_of(by_node)), ordered = room_for<std::byte>(sum_of(by_local));
  across_->all_gather(mine, of_local.get(), by_node);
  local_->all_gather(of_local.get(), ordered.get(), by_local);
  for_each_part(bytes_of, [&](std::size_t by_rank_at, std::size_t by_local_at, std::size_t bytes) {
    std::copy_n(ordered.get() + by_local_at, bytes, static_cast<std::byte*>(all) + by_rank_at);
  });
}

void TwoLevelCommunicator::reduce_scatter(const float* in, float* out, std::span<const std::size_t> count_of) {
  const std::vector<std::size_t> by_local = sizes_by_local(count_of), by_node = sizes_by_node(count_of);
  const auto ordered = room_for<float>(sum_of(by_local)), of_local = room_for<float>(sum_of(by_node));
  for_each_part(count_of, [&](std::size_t by_rank_at, std::size_t by_local_at, std::size_t count) {
    std::copy_n(in + by_rank_at, count, ordered.get() + by_local_at);
  });
  local_->reduce_scatter(ordered.get(), of_local.get(), by_local);
  across_->reduce_scatter(of_local.get(), out, by_node);
}

// Each local index sums its part of the data, as even as can be, over all nodes.
void TwoLevelCommunicator::all_reduce(float* data, std::size_t count, Reduction reduction) {
  if (reduction != Reduction::kSum) return flat_->all_reduce(data, count, reduction);
  std::vector<std::size_t> count_of, bytes_of;
  for (std::size_t local = 0; local < num_locals_; ++local) {
    count_of.push_back(count / num_locals_ + (local < count % num_locals_ ? 1 : 0));
    bytes_of.push_back(count_of.back() * sizeof(float));
  }
  const std::size_t own_count = count_of[static_cast<std::size_t>(local_->rank())];
  const auto own = room_for<float>(own_count);
  local_->reduce_scatter(data, own.get(), count_of);
  across_->all_reduce(own.get(), own_count, reduction);
  local_->all_gather(own.get(), data, bytes_of);
}

std::vector<std::size_t> TwoLevelCommunicator::sizes_by_local(std::span<const std::size_t> size_of) const {
  assert(size_of.size() == num_locals_ * num_nodes_);
  std::vector<std::size_t> sizes(num_locals_);
  for (std::size_t rank = 0; rank < size_of.size(); ++rank) sizes[rank % num_locals_] += size_of[rank];
  return sizes;
}

std::vector<std::size_t> TwoLevelCommunicator::sizes_by_node(std::span<const std::size_t> size_of) const {
  std::vector<std::size_t> sizes;
  for (std::size_t rank = static_cast<std::size_t>(local_->rank()); rank < size_of.size(); rank += num_locals_)
    sizes.push_back(size_of[rank]);
  return sizes;
}

template <class Visit>
void TwoLevelCommunicator::for_each_part(std::span<const std::size_t> size_of, Visit visit) const {
  std::vector<std::size_t> by_rank_at(size_of.size());
  std::exclusive_scan(size_of.begin(), size_of.end(), by_rank_at.begin(), std::size_t{0});
  std::size_t by_local_at = 0;
  for (std::size_t local = 0; local < num_locals_; ++local)
    for (std::size_t rank = local; rank < size_of.size(); rank += num_locals_) {
      visit(by_rank_at[rank], by_local_at, size_of[rank]);
      by_local_at += size_of[rank];
    }
}

}  // namespace msmoe::executor
