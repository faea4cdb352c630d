// Groups that share nodes: real processes on this host that are told how many of them a node has.
#include "executor/communication/two_level_communicator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "executor/communication/communicators.h"
#include "tests/executor/communication_examples.h"
#include "tests/executor/rank_processes.h"

namespace msmoe::executor {
namespace {

struct Shape {
  int nodes, per_node;
  int size() const { return nodes * per_node; }
};
constexpr std::array kShapes = {Shape{2, 2}, Shape{2, 4}, Shape{4, 2}};

bool has_two_levels(Communicator& communicator) {
  return dynamic_cast<TwoLevelCommunicator*>(&communicator) != nullptr;
}

// All ranks are replicas: kDenseData has two levels, and kWorld, of the same ranks, is flat.
using WithGroups = std::function<void(int rank, Communicator& group, Communicator& flat)>;
void run_on(const Shape& shape, const WithGroups& function) {
  run_ranks(shape.size(), [&](int rank, Rendezvous& rendezvous) {
    Communicators communicators({.gpus = shape.size()}, rank, rendezvous, {.gpus_per_node = shape.per_node});
    Communicator &group = communicators.of(GroupKind::kDenseData), &flat = communicators.of(GroupKind::kWorld);
    ASSERT_TRUE(has_two_levels(group) && !has_two_levels(flat));
    EXPECT_EQ(group.rank(), rank);
    EXPECT_EQ(group.size(), shape.size());
    function(rank, group, flat);
  });
}

// floats_of all ranks: over each node in order of rank, and those in order of node.
std::vector<float> sum_over_nodes(const Shape& shape, std::size_t count) {
  std::vector<float> total;
  for (int node = 0; node < shape.nodes; ++node) {
    std::vector<float> on_node = floats_of(node * shape.per_node, count);
    for (int local = 1; local < shape.per_node; ++local) {
      const std::vector<float> part = floats_of(node * shape.per_node + local, count);
      for (std::size_t idx = 0; idx < count; ++idx) on_node[idx] += part[idx];
    }
    if (node == 0) total.resize(count, 0);
    for (std::size_t idx = 0; idx < count; ++idx) total[idx] = node == 0 ? on_node[idx] : total[idx] + on_node[idx];
  }
  return total;
}

// Each within 1e-6 of its addends' magnitudes: n - 1 roundings of 2^-24 each, either way. first: where they begin.
void expect_near_sums(const Shape& shape, const std::vector<float>& a, const std::vector<float>& b, std::size_t first) {
  ASSERT_EQ(a.size(), b.size());
  std::vector<double> magnitude(first + a.size());
  for (int rank = 0; rank < shape.size(); ++rank) {
    const std::vector<float> values = floats_of(rank, magnitude.size());
    for (std::size_t idx = 0; idx < values.size(); ++idx) magnitude[idx] += std::abs(double{values[idx]});
  }
  for (std::size_t idx = 0; idx < a.size(); ++idx) ASSERT_NEAR(a[idx], b[idx], 1e-6 * magnitude[first + idx]) << idx;
}

TEST(TwoLevelCommunicator, AllGather) {
  for (const Shape& shape : kShapes)
    run_on(shape, [=](int rank, Communicator& group, Communicator&) {
      for (int round = 0; round < 6; ++round) {
        Sizes sizes;
        std::vector<char> expected;
        for (int from = 0; from < shape.size(); ++from) {
          sizes.push_back(uneven(from, round));
          append(expected, bytes_of(from, round, sizes.back()));
        }
        const std::vector<char> mine = bytes_of(rank, round, uneven(rank, round));
        std::vector<char> all(expected.size());
        group.all_gather(mine.data(), all.data(), sizes);
        EXPECT_EQ(all, expected) << "round " << round;
      }
    });
}

TEST(TwoLevelCommunicator, ReduceScatterSumsOverEachNodeFirst) {
  for (const Shape& shape : kShapes)
    run_on(shape, [=](int rank, Communicator& group, Communicator& flat) {
      for (int round = 0; round < 6; ++round) {
        Sizes counts;
        for (int to = 0; to < shape.size(); ++to) counts.push_back(uneven(to, round));
        const std::size_t count = sum_of(counts);
        const std::size_t first = sum_of(Sizes(counts.begin(), counts.begin() + rank));
        const std::vector<float> in = floats_of(rank, count);
        std::vector<float> out(counts[static_cast<std::size_t>(rank)]), of_flat(out.size());
        group.reduce_scatter(in.data(), out.data(), counts);
        flat.reduce_scatter(in.data(), of_flat.data(), counts);
        const std::vector<float> sums = sum_over_nodes(shape, count);
        const auto begin = sums.begin() + static_cast<std::ptrdiff_t>(first);
        EXPECT_TRUE(same_bits(out, {begin, begin + static_cast<std::ptrdiff_t>(out.size())})) << "round " << round;
        expect_near_sums(shape, out, of_flat, first);
      }
    });
}

TEST(TwoLevelCommunicator, AllReduceGivesTheSameBitsEverywhere) {
  for (const Shape& shape : kShapes)
    run_on(shape, [=](int rank, Communicator& group, Communicator& flat) {
      for (const std::size_t count : {0, 1, 2, 3, 5, 8, 1000, 20'003}) {
        std::vector<float> data = floats_of(rank, count), of_flat = data;
        group.all_reduce(data.data(), count, Reduction::kSum);
        flat.all_reduce(of_flat.data(), count, Reduction::kSum);
        EXPECT_TRUE(same_bits(data, sum_over_nodes(shape, count))) << count;
        expect_near_sums(shape, data, of_flat, 0);
      }
    });
}

TEST(TwoLevelCommunicator, MaximumKeepsWhatIsNotANumber) {
  for (const Shape& shape : kShapes)
    run_on(shape, [=](int rank, Communicator& group, Communicator&) {
      const float mine = static_cast<float>(rank), nan = std::numeric_limits<float>::quiet_NaN();
      for (int special = 0; special < shape.size(); ++special) {
        std::array<float, 3> data = {mine, -mine, rank == special ? nan : mine};
        group.all_reduce(data.data(), data.size(), Reduction::kMaximum);
        EXPECT_EQ(data[0], static_cast<float>(shape.size() - 1));
        EXPECT_EQ(data[1], 0);
        EXPECT_TRUE(std::isnan(data[2])) << special;
      }
    });
}

TEST(TwoLevelCommunicator, AllToAll) {
  for (const Shape& shape : kShapes)
    run_on(shape, [=](int rank, Communicator& group, Communicator&) {
      for (int round = 0; round < 6; ++round) {
        Sizes sent, received;
        std::vector<char> in, expected;
        for (int other = 0; other < shape.size(); ++other) {
          sent.push_back(uneven(3 * rank + other, round));
          received.push_back(uneven(3 * other + rank, round));
          append(in, bytes_of(rank, other, sent.back()));
          append(expected, bytes_of(other, rank, received.back()));
        }
        std::vector<char> out(expected.size());
        group.all_to_all(in.data(), sent, out.data(), received);
        EXPECT_EQ(out, expected) << "round " << round;
      }
    });
}

// Round the ring of all ranks, with sums of both levels while messages are on their way.
TEST(TwoLevelCommunicator, MessagesArriveInOrder) {
  for (const Shape& shape : kShapes)
    run_on(shape, [=](int rank, Communicator& group, Communicator&) {
      const int next = (rank + 1) % shape.size(), previous = (rank + shape.size() - 1) % shape.size();
      for (int message = 0; message < 20; ++message) {
        const std::vector<char> bytes = bytes_of(rank + message, next, uneven(3, message));
        group.send(next, bytes.data(), bytes.size());
        float one = 1;
        group.all_reduce(&one, 1, Reduction::kSum);
        EXPECT_EQ(one, static_cast<float>(shape.size()));
      }
      for (int message = 0; message < 20; ++message) {
        std::vector<char> bytes(uneven(3, message));
        group.receive(previous, bytes.data(), bytes.size());
        EXPECT_EQ(bytes, bytes_of(previous + message, rank, bytes.size())) << message;
      }
      group.finish_sends();
    });
}

// ---- Where there are two levels

struct Choice {
  const char* what;
  Plan plan;
  std::int64_t gpus_per_node;
  bool dense, expert;
};

// What the simulator charges for as two levels is what has them.
TEST(TwoLevelCommunicator, ReplicasThatShareNodesEvenlyHaveOne) {
  const Choice choices[] = {
      {"all on one node, unknown", {.gpus = 8}, 0, false, false},
      {"all on one node", {.gpus = 8}, 8, false, false},
      {"one rank a node", {.gpus = 4}, 1, false, false},
      {"two nodes", {.gpus = 8}, 4, true, true},
      {"four nodes", {.gpus = 8}, 2, true, true},
      {"6 ranks as 4 and 2", {.gpus = 6}, 4, false, false},
      {"dense replicas a node apart", {.gpus = 8, .attention_degree = 4}, 4, false, true},
      {"expert replicas two ranks apart", {.gpus = 8, .ep = 2}, 4, true, true},
      {"expert replicas a node apart", {.gpus = 8, .ep = 4}, 4, true, false},
      {"a stage is a node", {.gpus = 8, .pp = 2}, 4, false, false},
      {"a stage is two nodes", {.gpus = 8, .pp = 2}, 2, true, true},
      {"both copies of a stage", {.gpus = 8, .pp = 2, .schedule = PipelineSchedule::kDualPipe}, 4, true, true},
  };
  for (const Choice& choice : choices) {
    SCOPED_TRACE(choice.what);
    run_ranks(static_cast<int>(choice.plan.gpus), [&](int rank, Rendezvous& rendezvous) {
      Communicators communicators(choice.plan, rank, rendezvous, {.gpus_per_node = choice.gpus_per_node});
      for (int idx = 0; idx < kNumGroupKinds; ++idx) {
        const auto kind = static_cast<GroupKind>(idx);
        Communicator& group = communicators.of(kind);
        const bool expected =
            (kind == GroupKind::kDenseData && choice.dense) || (kind == GroupKind::kExpertData && choice.expert);
        EXPECT_EQ(has_two_levels(group), expected) << "kind " << idx;
        if (expected) {
          const Group shape = group_of(kind, choice.plan, choice.gpus_per_node);
          EXPECT_TRUE(shape.ranks_per_node > 1 && shape.nodes() > 1) << "kind " << idx;
        }
        float one = 1;
        group.all_reduce(&one, 1, Reduction::kSum);
        EXPECT_EQ(one, static_cast<float>(group.size())) << "kind " << idx;
      }
    });
  }
}

// ---- What each level carries

// Rank 0 of a group of nobody else: counts the elements or bytes of its collectives.
class CountingCommunicator final : public Communicator {
 public:
  explicit CountingCommunicator(int size) : size_(size) {}
  int rank() const override { return 0; }
  int size() const override { return size_; }
  void all_gather(const void*, void*, std::span<const std::size_t> bytes_of) override { count(bytes_of); }
  void reduce_scatter(const float*, float*, std::span<const std::size_t> count_of) override { count(count_of); }
  void all_reduce(float*, std::size_t count, Reduction) override { counted_ += count; }
  void all_to_all(const void*, std::span<const std::size_t>, void*, std::span<const std::size_t>) override {}
  void send(int, const void*, std::size_t) override {}
  void receive(int, void*, std::size_t) override {}
  void finish_sends() override {}
  std::size_t take() { return std::exchange(counted_, 0); }

 private:
  void count(std::span<const std::size_t> sizes) { counted_ += sum_of({sizes.begin(), sizes.end()}); }
  int size_;
  std::size_t counted_ = 0;
};

// 2 nodes of 4 ranks, 80 elements: between nodes a rank takes part in the sum or gathering of 80 / 4.
TEST(TwoLevelCommunicator, BetweenNodesGoesOneShareOfEachRankOnANode) {
  const auto local = std::make_shared<CountingCommunicator>(4), across = std::make_shared<CountingCommunicator>(2),
             flat = std::make_shared<CountingCommunicator>(8);
  TwoLevelCommunicator group(local, across, flat);
  const Sizes sizes(8, 10);
  std::vector<float> in(80), out(80);
  group.reduce_scatter(in.data(), out.data(), sizes);
  EXPECT_EQ(local->take(), 80u);
  EXPECT_EQ(across->take(), 20u);
  group.all_gather(in.data(), out.data(), sizes);
  EXPECT_EQ(local->take(), 80u);
  EXPECT_EQ(across->take(), 20u);
  group.all_reduce(in.data(), in.size(), Reduction::kSum);
  EXPECT_EQ(local->take(), 80u + 80 * sizeof(float));
  EXPECT_EQ(across->take(), 20u);
  EXPECT_EQ(flat->take(), 0u);
}

}  // namespace
}  // namespace msmoe::executor
