#include "executor/communication/gloo_communicator.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <utility>

namespace msmoe::executor {
namespace {

// Of two. A NaN stays one, whichever of them it is.
float larger(float a, float b) { return a < b || std::isnan(b) ? b : a; }

void reduce_into(float* total, const float* part, std::size_t count, Reduction reduction) {
  if (reduction == Reduction::kSum) {
    for (std::size_t idx = 0; idx < count; ++idx) total[idx] += part[idx];
  } else {
    for (std::size_t idx = 0; idx < count; ++idx) total[idx] = larger(total[idx], part[idx]);
  }
}

}  // namespace

GlooCommunicator::GlooCommunicator(std::shared_ptr<GlooTransport> transport, std::vector<int> members,
                                   std::uint32_t channel)
    : transport_(std::move(transport)),
      members_(std::move(members)),
      rank_(
          static_cast<int>(std::lower_bound(members_.begin(), members_.end(), transport_->rank()) - members_.begin())),
      collective_channel_(2 * channel),
      message_channel_(2 * channel + 1) {
  assert(members_.size() > 1 && world_rank(rank_) == transport_->rank());
}

void GlooCommunicator::all_gather(const void* mine, void* all, std::span<const std::size_t> bytes_of) {
  gather(mine, all, bytes_of, "all_gather");
}

void GlooCommunicator::reduce_scatter(const float* in, float* out, std::span<const std::size_t> count_of) {
  reduce(in, out, count_of, Reduction::kSum, "reduce_scatter");
}

// Each rank reduces its part, as even as can be, and all gather the parts.
void GlooCommunicator::all_reduce(float* data, std::size_t count, Reduction reduction) {
  const std::size_t num_ranks = members_.size();
  std::vector<std::size_t> count_of, bytes_of;
  for (std::size_t rank = 0; rank < num_ranks; ++rank) {
    count_of.push_back(count / num_ranks + (rank < count % num_ranks ? 1 : 0));
    bytes_of.push_back(count_of.back() * sizeof(float));
  }
  std::vector<float> mine(count_of[static_cast<std::size_t>(rank_)]);
  reduce(data, mine.data(), count_of, reduction, "all_reduce");
  gather(mine.data(), data, bytes_of, "all_reduce");
}

void GlooCommunicator::all_to_all(const void* in, std::span<const std::size_t> sent, void* out,
                                  std::span<const std::size_t> received) {
  exchange(parts_of(in, sent), parts_of(out, received), "all_to_all");
}

void GlooCommunicator::send(int to, const void* data, std::size_t bytes) {
  if (bytes == 0) return;
  std::unique_ptr<std::byte[]> copy(new std::byte[bytes]);
  std::memcpy(copy.get(), data, bytes);
  auto transfer = transport_->send(message_channel_, world_rank(to), copy.get(), bytes, "send");
  outgoing_.add(std::move(copy), std::move(transfer));
}

void GlooCommunicator::receive(int from, void* data, std::size_t bytes) {
  if (bytes == 0) return;
  const Deadline deadline = transport_->deadline();
  const auto transfer = transport_->receive(message_channel_, world_rank(from), data, bytes, "receive");
  transport_->finish(*transfer, deadline, "receive");
}

void GlooCommunicator::finish_sends() {
  const Deadline deadline = transport_->deadline();
  if (const auto peer = outgoing_.finish(deadline)) transport_->fail(*peer, deadline, "send");
}

// ---- What they are made of

// Receives come first, so that what arrives has a place; each rank starts with the one after it, so that not all send
// to the same one at once.
void GlooCommunicator::exchange(const std::vector<Part>& sent, const std::vector<Part>& received,
                                const char* operation) {
  assert(sent.size() == members_.size() && received.size() == members_.size());
  const Deadline deadline = transport_->deadline();
  const std::size_t num_ranks = members_.size(), mine = static_cast<std::size_t>(rank_);
  std::vector<std::unique_ptr<GlooTransport::Transfer>> transfers;
  for (std::size_t distance = 1; distance < num_ranks; ++distance) {
    const std::size_t from = (mine + num_ranks - distance) % num_ranks;
    if (received[from].bytes > 0)
      transfers.push_back(transport_->receive(collective_channel_, members_[from], received[from].data,
                                              received[from].bytes, operation));
  }
  for (std::size_t distance = 1; distance < num_ranks; ++distance) {
    const std::size_t to = (mine + distance) % num_ranks;
    if (sent[to].bytes > 0)
      transfers.push_back(
          transport_->send(collective_channel_, members_[to], sent[to].data, sent[to].bytes, operation));
  }
  assert(sent[mine].bytes == received[mine].bytes);
  if (sent[mine].bytes > 0) std::memmove(received[mine].data, sent[mine].data, sent[mine].bytes);
  for (const auto& transfer : transfers) transport_->finish(*transfer, deadline, operation);
}

// out: count_of[rank()] elements, which start as rank 0's part.
void GlooCommunicator::reduce(const float* in, float* out, std::span<const std::size_t> count_of, Reduction reduction,
                              const char* operation) {
  std::vector<std::size_t> sent;
  for (const std::size_t count : count_of) sent.push_back(count * sizeof(float));
  const std::size_t count = count_of[static_cast<std::size_t>(rank_)];
  const std::vector<std::size_t> received(members_.size(), count * sizeof(float));
  std::vector<float> parts(count * members_.size());
  exchange(parts_of(in, sent), parts_of(parts.data(), received), operation);
  std::copy_n(parts.data(), count, out);
  for (std::size_t rank = 1; rank < members_.size(); ++rank)
    reduce_into(out, parts.data() + rank * count, count, reduction);
}

void GlooCommunicator::gather(const void* mine, void* all, std::span<const std::size_t> bytes_of,
                              const char* operation) {
  const std::size_t bytes = bytes_of[static_cast<std::size_t>(rank_)];
  const Part part{static_cast<std::byte*>(const_cast<void*>(mine)), bytes};
  exchange(std::vector<Part>(members_.size(), part), parts_of(all, bytes_of), operation);
}

std::vector<GlooCommunicator::Part> GlooCommunicator::parts_of(const void* data,
                                                               std::span<const std::size_t> bytes_of) {
  std::vector<Part> parts;
  std::byte* next = static_cast<std::byte*>(const_cast<void*>(data));  // of sent parts, that are only read
  for (const std::size_t bytes : bytes_of) {
    parts.push_back({next, bytes});
    if (bytes > 0) next += bytes;
  }
  return parts;
}

}  // namespace msmoe::executor
